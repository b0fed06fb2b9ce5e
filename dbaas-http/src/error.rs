//! The control plane's errors as problems: one match, without a wildcard, so that a new error cannot be
//! forgotten here.

use dbaas_controller::error::ControlError;

use crate::conditional::precondition_failed;
use crate::problem::{Problem, ProblemKind, Wrong};

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let detail = error.to_string();
        match error {
            ControlError::NotFound { what, resource: _ } => not_found(what),
            ControlError::Invalid { errors } => {
                let errors = errors
                    .into_iter()
                    .map(|wrong| Wrong::field(wrong.pointer, wrong.detail))
                    .collect();
                Problem::wrong(ProblemKind::InvalidFields, errors)
            }
            ControlError::Manifest { refused } => {
                let errors = refused
                    .errors
                    .into_iter()
                    .map(|found| {
                        let detail = format!("{}: {}", found.position, found.message);
                        Wrong::field(format!("/{}", found.path), detail)
                    })
                    .collect();
                Problem::wrong(ProblemKind::InvalidManifest, errors)
            }
            ControlError::NameTaken { .. } => Problem::new(ProblemKind::NameTaken, detail),
            ControlError::IdTaken { .. } => Problem::new(ProblemKind::IdTaken, detail),
            ControlError::InUse { .. } => Problem::new(ProblemKind::InUse, detail),
            ControlError::Protected { .. } => Problem::new(ProblemKind::DeletionProtected, detail),
            ControlError::WrongState { .. } => Problem::new(ProblemKind::WrongState, detail),
            ControlError::VersionMismatch => precondition_failed(),
            ControlError::IdempotencyMismatch => Problem::new(ProblemKind::IdempotencyMismatch, detail),
            ControlError::LimitReached { .. } => Problem::new(ProblemKind::LimitReached, detail),
            // Waiting calls answer it themselves; whoever else waits in vain may try again.
            ControlError::Deadline { .. } => Problem::new(ProblemKind::Unavailable, detail),
            ControlError::Unavailable {
                message,
                outcome_unknown,
            } => {
                // What the store said may name files and hosts: that is for the log.
                tracing::warn!(message, outcome_unknown, "the store is not available");
                if outcome_unknown {
                    let detail = "no answer came from the store: the request may have been carried out; read before repeating it";
                    Problem::new(ProblemKind::OutcomeUnknown, detail)
                } else {
                    Problem::new(
                        ProblemKind::Unavailable,
                        "the store cannot be reached now; nothing was done",
                    )
                }
            }
            ControlError::Backend { .. } => Problem::new(ProblemKind::Unavailable, detail),
            ControlError::Full => Problem::new(ProblemKind::StorageFull, detail),
            ControlError::Internal { id, at: _ } => Problem::internal_with_id(id),
        }
    }
}

/// A resource that is not there, or not there for the caller: the two must look the same.
pub(crate) fn not_found(what: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no such {what}"))
}
