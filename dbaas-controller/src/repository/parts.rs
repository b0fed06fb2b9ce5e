//! [`Parts`]: the documents of a record as they were read, so that a write knows what it changes.

use std::fmt;
use std::sync::Arc;

use dbaas_core::store::{DocumentVersion, StoredDocument};
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error as JsonError, Value as Json};
use sha2::{Digest as _, Sha256};

/// A document's body. The engine keeps those of every instance, as little of them as it needs.
#[derive(Clone, Default)]
pub(crate) struct Body {
    content: Content,
    /// A first document's `generation`, or which one of it decisions took over.
    generation: Option<u64>,
}

#[derive(Clone)]
enum Content {
    /// As it was read.
    Tree(Arc<Json>),
    /// A fraction of the tree's size.
    Text(Arc<str>),
    /// What is there to be compared with alone: of the text.
    Hash([u8; 32]),
}

impl Default for Content {
    fn default() -> Self {
        Content::Tree(Arc::default())
    }
}

impl Body {
    pub(super) fn new(body: Json) -> Self {
        let generation = body.get("taken").or_else(|| body.get("generation"));
        Body {
            generation: generation.and_then(Json::as_u64),
            content: Content::Tree(Arc::new(body)),
        }
    }

    fn as_text(&self) -> Self {
        let content = match &self.content {
            Content::Tree(tree) => Content::Text(tree.to_string().into()),
            other => other.clone(),
        };
        Body {
            content,
            generation: self.generation,
        }
    }

    fn as_hash(&self) -> Self {
        Body {
            content: Content::Hash(self.hash()),
            generation: self.generation,
        }
    }

    fn hash(&self) -> [u8; 32] {
        match &self.content {
            Content::Tree(tree) => Sha256::digest(tree.to_string()).into(),
            Content::Text(text) => Sha256::digest(text.as_bytes()).into(),
            Content::Hash(hash) => *hash,
        }
    }

    /// What it says. An error where only its hash is left.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        match &self.content {
            Content::Tree(tree) => T::deserialize(tree.as_ref()),
            Content::Text(text) => serde_json::from_str(text),
            Content::Hash(_) => Err(JsonError::custom("the document was not kept")),
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

/// A document that only the engine writes.
#[derive(Clone, PartialEq)]
pub(crate) struct Part {
    pub(super) version: DocumentVersion,
    pub(super) body: Body,
}

/// A record's documents: what was asked for, and what the engine wrote beside it. A part that is not there
/// was not written yet.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Parts {
    first: Body,
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
            first: Body::new(first),
            others: vec![None; others],
        }
    }

    pub(super) fn read(first: Json, others: Vec<Option<StoredDocument>>) -> Self {
        let part = |stored: StoredDocument| Part {
            version: stored.version,
            body: Body::new(stored.document.body),
        };
        Parts {
            first: Body::new(first),
            others: others.into_iter().map(|stored| stored.map(part)).collect(),
        }
    }

    pub(super) fn first(&self) -> &Body {
        &self.first
    }

    pub(super) fn others(&self) -> &[Option<Part>] {
        &self.others
    }

    pub(super) fn bodies(&self) -> Vec<Option<&Body>> {
        self.others
            .iter()
            .map(|part| part.as_ref().map(|part| &part.body))
            .collect()
    }

    /// As text, and with hashes of the documents that the engine writes: enough to write the next ones.
    pub(crate) fn condensed(&self) -> Self {
        let part = |part: &Part| Part {
            version: part.version,
            body: part.body.as_hash(),
        };
        Parts {
            first: self.first.as_text(),
            others: (self.others.iter().map(|found| found.as_ref().map(part))).collect(),
        }
    }

    /// After another change by a caller.
    pub(super) fn with_first(&self, first: Json) -> Self {
        Parts {
            first: Body::new(first),
            others: self.others.clone(),
        }
    }

    /// After a write by the engine.
    pub(super) fn with_others(&self, others: Vec<Option<Part>>) -> Self {
        Parts {
            first: self.first.clone(),
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
        decisions
            .as_ref()
            .is_some_and(|part| part.body.generation == self.first.generation)
    }
}
