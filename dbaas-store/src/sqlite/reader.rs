//! The threads that read, so that a read does not wait for the fsync of a write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;

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
