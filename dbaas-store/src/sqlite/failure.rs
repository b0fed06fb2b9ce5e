//! What SQLite's failures mean to the caller of a store.

use std::io;
use std::path::Path;

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::ErrorCode;

/// A [`StoreError`] that `?` makes out of what SQLite reports while nothing is committed yet.
#[derive(Debug)]
pub(super) struct Failed(pub(super) StoreError);

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Failed(error)
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Failed(sql(&error))
    }
}

/// A refusal of one operation of a batch.
pub(super) fn refusal(kind: StoreErrorKind, message: String, op: usize) -> StoreError {
    let mut error = StoreError::new(kind, message);
    error.op = Some(op);
    error
}

/// The store's content is not what this program writes.
pub(super) fn damaged(what: &str) -> StoreError {
    let advice = "stop the control plane and restore the file from a backup, or recover it with `sqlite3 FILE .recover`";
    StoreError::new(
        StoreErrorKind::Unusable,
        format!("the store is damaged ({what}): {advice}"),
    )
}

/// A failure of a statement that has not been committed.
pub(super) fn sql(error: &rusqlite::Error) -> StoreError {
    let unavailable = |what: &str| StoreError::new(StoreErrorKind::Unavailable, format!("{what} ({error})"));
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(&error.to_string()),
        Some(ErrorCode::DiskFull) => StoreError::new(
            StoreErrorKind::Full,
            format!("the store's disk is full: free some space on its file system and try again ({error})"),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unavailable("another process is writing to the store: try again later")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            unavailable("the store cannot be written: check the permissions and the mount of its directory")
        }
        Some(ErrorCode::SystemIoFailure) => {
            unavailable("the store's file system failed: check its disk and its free space")
        }
        _ => unavailable("the store failed"),
    }
}

/// A failure of COMMIT itself. Where the log may hold the whole transaction although it was not synced, a
/// crash may bring it to light: the outcome is unknown.
pub(super) fn commit(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => sql(error),
        _ => StoreError::new(
            StoreErrorKind::OutcomeUnknown,
            format!(
                "the store's file system failed while it was committing ({error}): read again before going on"
            ),
        ),
    }
}

/// A failure of a file.
pub(super) fn io(path: &Path, error: &io::Error) -> StoreError {
    let message = format!("the store {} cannot be opened or made: {error}", path.display());
    StoreError::new(StoreErrorKind::Unavailable, message)
}
