//! [`Versioned`]: a record as it was read.

use dbaas_core::store::DocumentVersion;

use super::parts::Parts;

/// A record, the version of its first document, and its documents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Versioned<T> {
    /// The record.
    pub(crate) record: T,
    /// The version of what was asked for. What the engine writes does not change it.
    pub(crate) version: DocumentVersion,
    pub(crate) parts: Parts,
}

#[cfg(test)]
impl<T> Versioned<T> {
    /// See [`Parts::observed`].
    pub(crate) fn observed(&self) -> Option<u64> {
        self.parts.observed()
    }
}
