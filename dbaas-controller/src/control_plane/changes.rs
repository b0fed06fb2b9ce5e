//! What all changes have in common: tries, and what a caller's expected version means while the engine writes status.

use std::time::Duration;

use dbaas_core::database::DatabaseRecord;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::DocumentVersion;
use dbaas_core::user::UserRecord;
use dbaas_core::version::VersionRecord;

use super::Ports;
use crate::error::ControlError;
use crate::request::Versioned;

/// What of a record a caller asked for, apart from what the engine found.
pub(super) trait Intent: Clone {
    /// Whether the callers of both want the same.
    fn same_intent(&self, other: &Self) -> bool;
}

impl Intent for InstanceRecord {
    fn same_intent(&self, other: &Self) -> bool {
        self.generation == other.generation
    }
}

impl Intent for DatabaseRecord {
    fn same_intent(&self, other: &Self) -> bool {
        let of = |record: &DatabaseRecord| (record.owner, record.deleting, record.updated_at);
        of(self) == of(other)
            && self.description == other.description
            && self.access.entries == other.access.entries
            && self.extensions.names == other.extensions.names
    }
}

impl Intent for UserRecord {
    fn same_intent(&self, other: &Self) -> bool {
        (&self.description, &self.verifier, self.deleting, self.updated_at)
            == (
                &other.description,
                &other.verifier,
                other.deleting,
                other.updated_at,
            )
    }
}

impl Intent for VersionRecord {
    fn same_intent(&self, other: &Self) -> bool {
        self == other
    }
}

/// Holds a caller to the version that it expects, over several tries.
pub(super) struct Expectation<R> {
    expected: Option<DocumentVersion>,
    first: Option<R>,
}

impl<R: Intent> Expectation<R> {
    pub(super) fn new(expected: Option<DocumentVersion>) -> Self {
        Expectation {
            expected,
            first: None,
        }
    }

    /// To be called with what each try reads.
    pub(super) fn check(&mut self, read: &Versioned<R>) -> Result<(), ControlError> {
        let Some(expected) = self.expected else {
            return Ok(());
        };
        let holds = match &self.first {
            None => {
                self.first = Some(read.record.clone());
                read.version == expected
            }
            Some(first) => first.same_intent(&read.record),
        };
        if holds {
            Ok(())
        } else {
            Err(ControlError::VersionMismatch)
        }
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
