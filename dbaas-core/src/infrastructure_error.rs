//! [`InfraError`]: why an infrastructure did not do what it was asked for.

/// What went wrong, for deciding what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InfraErrorKind {
    /// There is no such node.
    NotFound,
    /// The call does not fit the node's state (start of a running node with another recipe, remove of a
    /// running one).
    InvalidState,
    /// The node's persisted epoch is greater than the recipe's.
    StaleEpoch,
    /// Something of that name or address exists and is not ours.
    Collision,
    /// The image (PostgreSQL version) is not to be had.
    ImageUnavailable,
    /// Not enough disk, ports, memory or other resources.
    Exhausted,
    /// This backend cannot do that.
    Unsupported,
    /// The infrastructure cannot be reached or is overloaded; nothing was done.
    Unavailable,
    /// The request was sent, no answer came: it may have been carried out.
    OutcomeUnknown,
    /// Anything else.
    Other,
}

/// Failure of an infrastructure call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct InfraError {
    kind: InfraErrorKind,
    message: String,
}

impl InfraError {
    /// An error of a kind; the message is for people, says what to do next where that is known, and holds no
    /// secrets.
    pub fn new(kind: InfraErrorKind, message: impl Into<String>) -> Self {
        InfraError {
            kind,
            message: message.into(),
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> InfraErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            InfraErrorKind::Unavailable
            | InfraErrorKind::OutcomeUnknown
            | InfraErrorKind::Exhausted
            | InfraErrorKind::ImageUnavailable
            | InfraErrorKind::Other => true,
            InfraErrorKind::NotFound
            | InfraErrorKind::InvalidState
            | InfraErrorKind::StaleEpoch
            | InfraErrorKind::Collision
            | InfraErrorKind::Unsupported => false,
        }
    }
}
