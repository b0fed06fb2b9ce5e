//! [`SqliteStore`]: the embedded store.
//!
//! One thread writes, a few read, each with a connection of its own; callers talk to them through bounded
//! queues, and read a few documents themselves. The writer commits what has queued up in one transaction,
//! each request in a savepoint of its own, so that a burst of writes costs one fsync.

mod batch;
mod event;
mod failure;
mod file;
mod lease;
mod query;
mod reader;
mod request;
mod schema;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::store::{
    Batch, DocumentKey, DocumentVersion, Kind, Lease, LeaseToken, ListQuery, Store, StoreError,
    StoreErrorKind, StoredDocument, StoredEvent,
};
use dbaas_core::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;
use uuid::Uuid;

use failure::Failed;
use request::{Claim, Request, WriteRequest};

/// How a [`SqliteStore`] works. The defaults suit a control plane of a few thousand instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// After this time a call fails: with `Unavailable` if it was not begun, with `OutcomeUnknown` if it was.
    pub deadline: Duration,
    /// How long the writer waits for another process that is writing. Shorter than `deadline`.
    pub busy_timeout: Duration,
    /// At most so many writes wait, and so many reads; the next one fails with `Unavailable`.
    pub queue_length: usize,
    /// So many threads read. At least 1.
    pub readers: usize,
    /// On opening, a file of at most this size is checked for damage (some 0.3 s for each 100 MB).
    pub check_up_to_bytes: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            deadline: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(2),
            queue_length: 4096,
            readers: 2,
            check_up_to_bytes: 256 << 20,
        }
    }
}

/// A listing of so many documents at most is a small read: a page of the usual length, and one more to see
/// whether there is another.
const SMALL_LIST: usize = 128;

/// How long dropping a store waits for a transaction that is under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A [`Store`] in one SQLite file. Its methods must be called within a tokio runtime that has a timer.
///
/// A commit returns once it is on disk (write-ahead log, `synchronous=FULL`). The file and its companions
/// (`-wal`, `-shm`) have mode 0600 and belong on a local file system. Several processes may open it, but a
/// control plane takes a [`DataDirLock`](crate::DataDirLock) first.
///
/// ```
/// use dbaas_core::store::{Batch, Store};
/// use dbaas_store::{SqliteOptions, SqliteStore};
///
/// # let directory = tempfile::tempdir()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let store = SqliteStore::open(&directory.path().join("control-plane.db"), SqliteOptions::default())?;
/// assert_eq!(store.commit(Batch::default()).await?, []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteStore {
    path: PathBuf,
    deadline: Duration,
    /// `None` only while it is dropped.
    queues: Option<Queues>,
    /// `None` only while it is dropped.
    on_the_spot: Option<reader::OnTheSpot>,
    /// Disconnected when all threads have ended.
    ended: Mutex<Receiver<()>>,
    /// See [`writer::run`].
    #[cfg(test)]
    doubt: Arc<AtomicBool>,
}

struct Queues {
    writes: SyncSender<Box<dyn WriteRequest>>,
    reads: SyncSender<reader::ReadRequest>,
}

impl SqliteStore {
    /// Opens the store, or makes it if there is no such file. Blocks: checks the file and recovers the log
    /// after a crash.
    ///
    /// # Errors
    /// * `Unusable`: the file is of a newer version of this program, of another program, or damaged. It is
    ///   not touched.
    /// * `Unavailable`: it cannot be read or written here and now; the message says why.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<SqliteStore, StoreError> {
        let path = std::path::absolute(path).map_err(|error| failure::io(path, &error))?;
        let connection = file::open(&path, &options)?;
        let readers = (0..options.readers.max(1))
            .map(|_| file::open_reader(&path, &options))
            .collect::<Result<Vec<Connection>, StoreError>>()?;

        let doubt = Arc::new(AtomicBool::new(false));
        let never_waits = SqliteOptions {
            busy_timeout: Duration::ZERO,
            ..options.clone()
        };
        let on_the_spot = reader::OnTheSpot::new(file::open_reader(&path, &never_waits)?, Arc::clone(&doubt));

        let (writes, write_queue) = sync_channel(options.queue_length.max(1));
        let (reads, read_queue) = sync_channel(options.queue_length.max(1));
        let (ending, ended) = sync_channel::<()>(1);
        let read_queue = Arc::new(Mutex::new(read_queue));
        for connection in readers {
            let (queue, doubt, ending) = (Arc::clone(&read_queue), Arc::clone(&doubt), ending.clone());
            spawn("store-reader", &path, move || {
                reader::run(connection, &queue, &doubt, ending)
            })?;
        }
        #[cfg(test)]
        let doubt_for_tests = Arc::clone(&doubt);
        spawn("store-writer", &path, move || {
            writer::run(connection, &write_queue, &doubt, ending)
        })?;
        Ok(SqliteStore {
            path,
            deadline: options.deadline,
            queues: Some(Queues { writes, reads }),
            on_the_spot: Some(on_the_spot),
            ended: Mutex::new(ended),
            #[cfg(test)]
            doubt: doubt_for_tests,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn write<T: Send + 'static>(
        &self,
        perform: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        let claim = Arc::new(Claim::default());
        let (answer, answered) = oneshot::channel();
        let request = Request::new(Arc::clone(&claim), answer, perform);
        if let Some(queues) = &self.queues {
            queues.writes.try_send(Box::new(request)).map_err(not_queued)?;
        }
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if claim.cancel() => Err(stopped()),
            Err(_) if claim.cancel() => Err(not_begun(self.deadline)),
            Ok(Err(_)) | Err(_) => Err(StoreError::new(
                StoreErrorKind::OutcomeUnknown,
                "the store did not say in time whether it has written: read again before going on",
            )),
        }
    }

    /// A read of a few documents.
    async fn read_few<T: Send + 'static>(
        &self,
        perform: impl Fn(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.on_the_spot.as_ref().and_then(|here| here.read(&perform)) {
            Some(found) => Ok(found),
            None => self.read(perform).await,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        perform: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let request: reader::ReadRequest = Box::new(move |readable| {
            // Nobody waits for the answer to a question that came too late.
            if !answer.is_closed() {
                let result =
                    readable.and_then(|connection| perform(connection).map_err(|Failed(error)| error));
                let _caller_gave_up = answer.send(result);
            }
        });
        if let Some(queues) = &self.queues {
            queues.reads.try_send(request).map_err(not_queued)?;
        }
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(not_begun(self.deadline)),
        }
    }
}

fn spawn(name: &str, path: &Path, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| failure::io(path, &error))
}

fn not_queued<T>(error: TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::new(
            StoreErrorKind::Unavailable,
            "the store is overloaded: try again later",
        ),
        TrySendError::Disconnected(_) => stopped(),
    }
}

fn stopped() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the store has stopped: restart the control plane",
    )
}

fn not_begun(deadline: Duration) -> StoreError {
    let message = format!("the store did not get to the request within {deadline:?}: try again later");
    StoreError::new(StoreErrorKind::Unavailable, message)
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for SqliteStore {
    /// Waits for a transaction that is under way (in the worst case two seconds), so that the file can be
    /// opened or copied afterwards.
    fn drop(&mut self) {
        self.queues = None;
        self.on_the_spot = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(CLOSE_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(path = %self.path.display(), "the store is still writing while it is closed");
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError> {
        self.read_few(move |connection| query::get(connection, key)).await
    }

    async fn find(&self, kind: Kind, unique: &str) -> Result<Option<StoredDocument>, StoreError> {
        let unique = unique.to_owned();
        self.read_few(move |connection| query::find(connection, kind, &unique))
            .await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError> {
        if query.limit > SMALL_LIST {
            return self.read(move |connection| query::list(connection, &query)).await;
        }
        self.read_few(move |connection| query::list(connection, &query))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<DocumentVersion>, StoreError> {
        self.write(move |connection| batch::apply(connection, &batch))
            .await
    }

    async fn events(
        &self,
        subject: Option<Uuid>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(move |connection| event::read(connection, subject, after, limit))
            .await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
    ) -> Result<Result<Lease, Lease>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |connection| lease::acquire(connection, &name, &holder, now, now.plus_ms(ttl_ms)))
            .await
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), StoreError> {
        let token = token.clone();
        self.write(move |connection| lease::release(connection, &token))
            .await
    }

    async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError> {
        // In portions, each a write of its own: others come in between.
        let mut removed = 0;
        loop {
            let portion = self
                .write(move |connection| batch::expire(connection, now))
                .await?;
            removed += portion;
            if portion < batch::EXPIRE_PORTION {
                break;
            }
        }
        while (self.write(move |connection| event::expire(connection, keep_events))).await? {}
        Ok(removed)
    }
}

#[cfg(test)]
mod tests;
