//! Why a call of the [`ControlPlane`](crate::ControlPlane) was refused.

use dbaas_core::store::{StoreError, StoreErrorKind};
use dbaas_core::time::Timestamp;

pub use dbaas_core::field_error::FieldError;

use crate::request::ResourceRef;

/// Why a call was refused. `Display` is for people and holds no secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ControlError {
    /// It does not exist, or belongs to another project or instance.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, in words.
        what: &'static str,
        /// Which one.
        resource: ResourceRef,
    },
    /// Fields that are wrong in the light of other records.
    #[error("the request is not valid")]
    Invalid {
        /// All of them.
        errors: Vec<FieldError>,
    },
    /// A manifest that is wrong: all of it, with the places.
    #[error("{refused}")]
    Manifest {
        /// What is wrong.
        refused: dbaas_manifest::error::Refused,
    },
    /// A name is taken.
    #[error("the name \"{name}\" is taken by another {what}")]
    NameTaken {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The id that the caller chose is taken.
    #[error("the id {id} is taken by another {what}, or by one that has changed since it was made like this")]
    IdTaken {
        /// Of what.
        what: &'static str,
        /// The id.
        id: uuid::Uuid,
    },
    /// Others depend on it.
    #[error("{detail}")]
    InUse {
        /// Says by whom, by name.
        detail: String,
    },
    /// It is not to be deleted by mistake.
    #[error("the {what} \"{name}\" is protected from deletion; set its deletion_protection to false first")]
    Protected {
        /// Of what kind it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It does not fit the present state (switchover of a stopped instance, any change of one that is being
    /// deleted).
    #[error("{detail}")]
    WrongState {
        /// Says which state, and what to do.
        detail: String,
    },
    /// The caller's expected version (`If-Match`) is not the present one.
    #[error("the resource has changed since it was read; read it again")]
    VersionMismatch,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used before for a different request")]
    IdempotencyMismatch,
    /// Too many of something.
    #[error("{detail}")]
    LimitReached {
        /// Which limit.
        detail: String,
    },
    /// A wait ended before the state was reached.
    #[error("the deadline passed; the state is still {state}: {reason}")]
    Deadline {
        /// The state when the deadline passed.
        state: String,
        /// Why it is in that state.
        reason: String,
    },
    /// The store cannot be reached; nothing was done, or (`outcome_unknown`) it may have been.
    #[error("the control plane's store is not available: {message}")]
    Unavailable {
        /// For people.
        message: String,
        /// The request may have been carried out: read before repeating.
        outcome_unknown: bool,
    },
    /// The backend does not answer, or cannot now; nothing was done.
    #[error("{detail}")]
    Backend {
        /// For people, without names of files and hosts.
        detail: String,
    },
    /// The disk of the control plane's store is full; nothing was done. Reading works.
    #[error("the disk of the control plane's store is full; nothing was done")]
    Full,
    /// A defect or damage; the log has the same id.
    #[error("internal error {id} at {at}")]
    Internal {
        /// To find it in the log.
        id: uuid::Uuid,
        /// When.
        at: Timestamp,
    },
}

impl ControlError {
    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            ControlError::Unavailable { .. }
                | ControlError::Backend { .. }
                | ControlError::Full
                | ControlError::Deadline { .. }
        )
    }

    /// The error of a store call whose preconditions cannot have failed.
    pub(crate) fn from_store(error: StoreError, now: Timestamp) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::Unusable | StoreErrorKind::LeaseLost => {
                ControlError::Unavailable {
                    message: error.message,
                    outcome_unknown: false,
                }
            }
            StoreErrorKind::Full => ControlError::Full,
            StoreErrorKind::OutcomeUnknown => ControlError::Unavailable {
                message: error.message,
                outcome_unknown: true,
            },
            StoreErrorKind::Conflict => ControlError::VersionMismatch,
            _ => ControlError::internal(&error.message, now),
        }
    }

    /// A defect: logged with an id, shown without detail.
    pub(crate) fn internal(message: &str, now: Timestamp) -> Self {
        let id = uuid::Uuid::now_v7();
        tracing::error!(%id, message, "internal error");
        ControlError::Internal { id, at: now }
    }
}
