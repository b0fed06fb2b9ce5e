//! What each record's document looks like.

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::store::{
    Document, DocumentKey, DocumentVersion, Kind, StoreError, StoreErrorKind, StoredDocument,
};
use dbaas_core::time::Timestamp;
use dbaas_core::version::VersionRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Error as JsonError, Value as Json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::parts::{Body, Parts};
use crate::repository::Versioned;

/// A record that has a document of its own, or several: the first is what callers asked for, and the others
/// are the engine's.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The kind of its first document.
    const KIND: Kind;

    /// The kinds of the documents that only the engine writes. They have the record's id, and are made by the
    /// engine.
    const PARTS: &'static [Kind] = &[];

    /// Its id.
    fn uuid(&self) -> Uuid;

    /// What it belongs to, for listings.
    fn parent(&self) -> Option<Uuid> {
        None
    }

    /// The name that no other of its kind may have.
    fn unique(&self) -> Option<String> {
        None
    }

    /// What must not be removed while it exists.
    fn references(&self) -> Vec<Uuid> {
        Vec::new()
    }

    /// When the store may forget it.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }

    /// The address of the document with this id.
    fn key(id: Uuid) -> DocumentKey {
        DocumentKey { kind: Self::KIND, id }
    }

    /// The first document of a new record.
    fn body(&self) -> Result<Json, JsonError> {
        serde_json::to_value(self)
    }

    /// The first document after a caller's change of what was read.
    fn asked(&self, _read: &Versioned<Self>) -> Result<Json, JsonError> {
        self.body()
    }

    /// The engine's documents, once it has taken over what this first document asks for.
    fn part_bodies(&self, _first: &Body) -> Result<Vec<Json>, JsonError> {
        Ok(Vec::new())
    }

    /// The record from its documents. The engine's are not there until it has seen the record for the first
    /// time.
    fn compose(first: &Body, _parts: &[Option<&Body>]) -> Result<Self, JsonError> {
        first.read()
    }
}

/// The unique name of an instance.
pub(crate) fn instance_name(project: ProjectId, name: &str) -> String {
    format!("{project}/{name}")
}

/// The unique name of a database or a user.
pub(crate) fn child_name(instance: InstanceId, name: &str) -> String {
    format!("{instance}/{name}")
}

impl Record for VersionRecord {
    const KIND: Kind = "version";

    fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    fn unique(&self) -> Option<String> {
        Some(self.image.as_str().to_owned())
    }
}

/// Remembers a version that an administrator removed, so that it is not added again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovedVersion {
    /// Its image.
    pub(crate) image: String,
    /// When it was removed.
    pub(crate) removed_at: Timestamp,
}

impl RemovedVersion {
    /// The id of the memory of this image.
    pub(crate) fn id_of(image: &str) -> Uuid {
        id_from(&["version_removed", image])
    }
}

impl Record for RemovedVersion {
    const KIND: Kind = "version_removed";

    fn uuid(&self) -> Uuid {
        RemovedVersion::id_of(&self.image)
    }
}

/// What a create call with an idempotency key made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdempotencyRecord {
    /// From the scope and the caller's key; see [`IdempotencyRecord::id_of`].
    pub(crate) id: Uuid,
    /// A hash of the request, in hexadecimal.
    pub(crate) fingerprint: String,
    /// What was made.
    pub(crate) resource: Uuid,
    /// When it is forgotten.
    pub(crate) expires_at: Timestamp,
}

impl IdempotencyRecord {
    /// The id of the record of a key. Keys of different scopes (a project's instances, an instance's users)
    /// are different keys.
    pub(crate) fn id_of(scope: &str, key: &str) -> Uuid {
        id_from(&["idempotency", scope, key])
    }
}

impl Record for IdempotencyRecord {
    const KIND: Kind = "idempotency";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

/// A UUID (version 8, RFC 9562) that follows from the parts.
pub(crate) fn id_from(parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        // The length first, so that no two lists of parts read the same.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The first document of a record, with this content.
pub(super) fn document<R: Record>(record: &R, body: Result<Json, JsonError>) -> Result<Document, StoreError> {
    Ok(Document {
        key: R::key(record.uuid()),
        parent: record.parent(),
        unique: record.unique(),
        references: record.references(),
        expires_at: record.expires_at(),
        body: body.map_err(|_| not_written_down::<R>(record.uuid()))?,
    })
}

/// One of the documents that only the engine writes.
pub(super) fn part_document<R: Record>(record: &R, kind: Kind, body: Json) -> Document {
    Document {
        key: DocumentKey {
            kind,
            id: record.uuid(),
        },
        parent: record.parent(),
        unique: None,
        references: Vec::new(),
        expires_at: None,
        body,
    }
}

pub(super) fn not_written_down<R: Record>(id: Uuid) -> StoreError {
    let message = format!("the {} {id} cannot be written down", R::KIND);
    StoreError::new(StoreErrorKind::Unusable, message)
}

/// A record that was just written for the first time, or that is one document.
pub(crate) fn written<R: Record>(record: R, version: DocumentVersion) -> Versioned<R> {
    // What cannot be written down was not written.
    let first = record.body().unwrap_or_default();
    Versioned {
        record,
        version,
        parts: Parts::new(first, R::PARTS.len()),
    }
}

/// The record of documents that were read: the first, and the others in the order of [`Record::PARTS`].
pub(super) fn decode<R: Record>(
    stored: StoredDocument,
    parts: Vec<Option<StoredDocument>>,
) -> Result<Versioned<R>, StoreError> {
    let StoredDocument { document, version } = stored;
    compose(document.key, version, Parts::read(document.body, parts))
}

/// The record that these documents are. The decoder's own message is not passed on: it may quote what it
/// could not read.
pub(super) fn compose<R: Record>(
    key: DocumentKey,
    version: DocumentVersion,
    parts: Parts,
) -> Result<Versioned<R>, StoreError> {
    let record = R::compose(parts.first(), &parts.bodies()).map_err(|error| {
        tracing::error!(kind = key.kind, id = %key.id, class = ?error.classify(), "a stored record cannot be read");
        let message = format!("the stored {} {} cannot be read: it is damaged, or of a newer release", key.kind, key.id);
        StoreError::new(StoreErrorKind::Unusable, message)
    })?;
    if record.uuid() != key.id {
        let message = format!(
            "the stored {} {} is damaged: it has another id inside",
            key.kind, key.id
        );
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    Ok(Versioned {
        record,
        version,
        parts,
    })
}
