//! The thread that writes: groups of requests, one transaction and one fsync for each group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;

use super::failure::{self, Failed};
use super::request::WriteRequest;

/// So many requests share a transaction at most; bounds what one failure of the disk can take down.
const GROUP_MAX: usize = 64;

/// While the outcome of a commit is in doubt, the barrier is tried so often.
const BARRIER_INTERVAL: Duration = Duration::from_millis(250);

/// Serves the queue until all senders are gone. `_ending` is dropped last, to tell that the file is closed.
///
/// `doubt`: a commit ended in an I/O error. Its transaction is not visible, but parts of it may be on disk,
/// and a crash might bring all of it to light. So nothing is read until a *barrier*, a small commit that
/// takes the failed one's place in the log, is safely on disk.
pub(super) fn run(
    connection: Connection,
    queue: &Receiver<Box<dyn WriteRequest>>,
    doubt: &AtomicBool,
    _ending: SyncSender<()>,
) {
    loop {
        let first = if doubt.load(Ordering::Acquire) {
            match queue.recv_timeout(BARRIER_INTERVAL) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        } else {
            match queue.recv() {
                Ok(first) => Some(first),
                Err(_) => break,
            }
        };
        let group: Vec<_> = first
            .into_iter()
            .chain(queue.try_iter().take(GROUP_MAX - 1))
            .collect();
        commit_group(&connection, group, doubt);
    }
    // Closing copies the log into the file; if that fails the next opening does it.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the store's file was not closed cleanly; nothing is lost");
    }
}

fn commit_group(connection: &Connection, mut group: Vec<Box<dyn WriteRequest>>, doubt: &AtomicBool) {
    let committed = pass_barrier(connection, doubt).and_then(|()| transact(connection, &mut group));
    if let Err(error) = &committed {
        if error.kind() == StoreErrorKind::OutcomeUnknown {
            doubt.store(true, Ordering::Release);
        }
        tracing::warn!(requests = group.len(), kind = ?error.kind(), "the store did not commit: {error}");
    }
    for request in group {
        request.answer(&committed);
    }
}

/// Performs what is still wanted of the group and commits it. Requests that are refused leave nothing.
fn transact(connection: &Connection, group: &mut Vec<Box<dyn WriteRequest>>) -> Result<(), StoreError> {
    if group.is_empty() {
        return Ok(());
    }
    begin(connection)?;
    // Claimed only now: whoever gives up while another process holds the write lock knows that nothing was
    // written.
    group.retain_mut(|request| request.begin());
    let performed = group
        .iter_mut()
        .try_for_each(|request| perform(connection, request.as_mut()));
    match performed {
        Ok(()) => connection.execute_batch("COMMIT").map_err(|error| {
            roll_back(connection);
            failure::commit(&error)
        }),
        Err(Failed(error)) => {
            roll_back(connection);
            Err(error)
        }
    }
}

/// `Err`: the whole transaction is lost.
fn perform(connection: &Connection, request: &mut dyn WriteRequest) -> Result<(), Failed> {
    connection.prepare_cached("SAVEPOINT request")?.execute([])?;
    if let Err(error) = request.perform(connection) {
        // SQLite rolls back by itself after some failures of the disk, such as a full one.
        if connection.is_autocommit() {
            return Err(error.into());
        }
        connection.prepare_cached("ROLLBACK TO request")?.execute([])?;
    }
    connection.prepare_cached("RELEASE request")?.execute([])?;
    Ok(())
}

fn begin(connection: &Connection) -> Result<(), StoreError> {
    // Left open only if an earlier rollback failed.
    roll_back(connection);
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(|error| failure::sql(&error))
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "the store could not roll back; it tries again before the next write");
    }
}

fn pass_barrier(connection: &Connection, doubt: &AtomicBool) -> Result<(), StoreError> {
    if !doubt.load(Ordering::Acquire) {
        return Ok(());
    }
    let passed = begin(connection).and_then(|()| {
        connection
            .execute_batch("UPDATE barrier SET passed = passed + 1; COMMIT")
            .map_err(|error| failure::sql(&error))
    });
    if passed.is_ok() {
        doubt.store(false, Ordering::Release);
        tracing::info!("the store commits again");
    } else {
        roll_back(connection);
    }
    passed
}
