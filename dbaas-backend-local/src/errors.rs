//! Errors, as this crate's callers see them.

use std::io;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef};

/// An error of the file system.
pub(crate) fn io_error(what: &str, e: &io::Error) -> InfraError {
    let kind = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => InfraErrorKind::Exhausted,
        io::ErrorKind::TimedOut => InfraErrorKind::OutcomeUnknown,
        _ => InfraErrorKind::Other,
    };
    InfraError::new(kind, format!("{what}: {e}"))
}

pub(crate) fn not_found(node: NodeRef) -> InfraError {
    InfraError::new(
        InfraErrorKind::NotFound,
        format!("there is no node {}", node.node),
    )
}

pub(crate) fn invalid(message: impl Into<String>) -> InfraError {
    InfraError::new(InfraErrorKind::InvalidState, message)
}
