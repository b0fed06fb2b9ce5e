//! Reading, so that a read does not wait for the fsync of a write: small reads where they are asked for, all
//! others by threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::failure::Failed;

/// Reads from the connection, or passes on why that is not possible, and answers.
pub(super) type ReadRequest = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// Serves the shared queue until all senders are gone. For `doubt` see [`super::writer::run`].
pub(super) fn run(
    connection: Connection,
    queue: &Mutex<Receiver<ReadRequest>>,
    doubt: &AtomicBool,
    _ending: SyncSender<()>,
) {
    loop {
        // The lock is held while waiting: the other readers wait for it instead.
        let request = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = request else { break };
        if doubt.load(Ordering::Acquire) {
            let message =
                "the outcome of an earlier write is not known yet: check the disk and its free space";
            request(Err(StoreError::new(StoreErrorKind::Unavailable, message)));
        } else {
            request(Ok(&connection));
        }
    }
    drop(connection);
}

/// A connection for reads of a few documents, used by the task that asks. They take some tens of
/// microseconds, out of the operating system's cache; handing one to a thread and back costs two wake-ups,
/// which on a busy machine are milliseconds.
pub(super) struct OnTheSpot {
    connection: Mutex<Connection>,
    doubt: Arc<AtomicBool>,
}

impl OnTheSpot {
    pub(super) fn new(connection: Connection, doubt: Arc<AtomicBool>) -> Self {
        OnTheSpot {
            connection: Mutex::new(connection),
            doubt,
        }
    }

    /// `None` if a thread has to do it: another task is reading here, the runtime has no other worker to go
    /// on with should the disk hang, or there is something to report.
    pub(super) fn read<T>(&self, perform: impl FnOnce(&Connection) -> Result<T, Failed>) -> Option<T> {
        let others_go_on = Handle::try_current().is_ok_and(|runtime| {
            runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
        });
        if !others_go_on || self.doubt.load(Ordering::Acquire) {
            return None;
        }
        let connection = self.connection.try_lock().ok()?;
        perform(&connection).ok()
    }
}
