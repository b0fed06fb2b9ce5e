//! What all changes have in common: tries, and the version that a caller expects.

use std::time::Duration;

use dbaas_core::store::DocumentVersion;

use super::Ports;
use crate::error::ControlError;
use crate::request::Versioned;

/// Holds a caller to the version that it expects, if any. The engine's writes are no other version: they are documents of their own.
pub(super) fn check<R>(expected: Option<DocumentVersion>, read: &Versioned<R>) -> Result<(), ControlError> {
    match expected {
        Some(expected) if expected != read.version => Err(ControlError::VersionMismatch),
        _ => Ok(()),
    }
}

/// Waits before a try: not at all before the first one, then a random time that grows, so that many who lost do not all come
/// back at once.
pub(super) async fn before_try(ports: &Ports, attempt: u32) {
    if attempt == 0 {
        return;
    }
    let longest_ms = 1u64 << attempt.min(6);
    let ms = ports.randomness.below(longest_ms + 1);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Every try lost against somebody else's write.
pub(super) fn too_much_contention() -> ControlError {
    ControlError::Unavailable {
        message: "it is being changed by many at once; try again".to_owned(),
        outcome_unknown: false,
    }
}
