//! [`Parts`]: the documents of a record as they were read, so that a write knows what it changes.

use std::fmt;
use std::sync::Arc;

use dbaas_core::store::{DocumentVersion, StoredDocument};
use serde_json::Value as Json;

/// A document that only the engine writes.
#[derive(Clone, PartialEq)]
pub(crate) struct Part {
    pub(super) version: DocumentVersion,
    pub(super) body: Arc<Json>,
}

/// A record's documents: what was asked for, and what the engine wrote beside it. A part that is not there
/// was not written yet.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Parts {
    first: Arc<Json>,
    others: Vec<Option<Part>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is in them: a user's verifier is no text for a log.
        let versions = self
            .others
            .iter()
            .map(|part| part.as_ref().map(|part| part.version));
        f.debug_list().entries(versions).finish()
    }
}

impl Parts {
    /// Of a record whose first document is this, and that the engine has not seen.
    pub(super) fn new(first: Json, others: usize) -> Self {
        Parts {
            first: Arc::new(first),
            others: vec![None; others],
        }
    }

    pub(super) fn read(first: Json, others: Vec<Option<StoredDocument>>) -> Self {
        let part = |stored: StoredDocument| Part {
            version: stored.version,
            body: Arc::new(stored.document.body),
        };
        Parts {
            first: Arc::new(first),
            others: others.into_iter().map(|stored| stored.map(part)).collect(),
        }
    }

    pub(super) fn first(&self) -> &Json {
        &self.first
    }

    pub(super) fn others(&self) -> &[Option<Part>] {
        &self.others
    }

    pub(super) fn bodies(&self) -> Vec<Option<&Json>> {
        self.others
            .iter()
            .map(|part| part.as_ref().map(|part| part.body.as_ref()))
            .collect()
    }

    /// After another change by a caller.
    pub(super) fn with_first(&self, first: Json) -> Self {
        Parts {
            first: Arc::new(first),
            others: self.others.clone(),
        }
    }

    /// After a write by the engine.
    pub(super) fn with_others(&self, others: Vec<Option<Part>>) -> Self {
        Parts {
            first: Arc::clone(&self.first),
            others,
        }
    }

    /// The engine's writes up to here: greater after each of them. `None`: it writes nothing beside the first
    /// document.
    pub(crate) fn observed(&self) -> Option<u64> {
        if self.others.is_empty() {
            return None;
        }
        let versions = self.others.iter().flatten().map(|part| part.version.0);
        Some(versions.fold(0, u64::saturating_add))
    }

    /// Whether the engine has written down that it took over all that was asked for.
    pub(crate) fn is_taken(&self) -> bool {
        let Some(decisions) = self.others.first() else {
            return true;
        };
        let taken = decisions.as_ref().map(|part| &part.body["taken"]);
        taken == Some(&self.first["generation"])
    }
}
