//! What each record's document looks like.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{Document, DocumentKey, Kind, StoreError, StoreErrorKind, StoredDocument};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use dbaas_core::version::VersionRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::request::Versioned;

/// A record that has a document of its own.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The kind of its document.
    const KIND: Kind;

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
}

impl Record for InstanceRecord {
    const KIND: Kind = "instance";

    fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    fn unique(&self) -> Option<String> {
        Some(instance_name(self.spec.project, self.spec.name.as_str()))
    }

    fn references(&self) -> Vec<Uuid> {
        vec![self.spec.version.uuid()]
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

impl Record for DatabaseRecord {
    const KIND: Kind = "database";

    fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.instance.uuid())
    }

    fn unique(&self) -> Option<String> {
        Some(child_name(self.instance, self.name.as_str()))
    }

    fn references(&self) -> Vec<Uuid> {
        let users = self.access.entries.iter().map(|entry| entry.user.uuid());
        [self.owner.uuid(), self.instance.uuid()]
            .into_iter()
            .chain(users)
            .collect()
    }
}

impl Record for UserRecord {
    const KIND: Kind = "user";

    fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.instance.uuid())
    }

    fn unique(&self) -> Option<String> {
        Some(child_name(self.instance, self.name.as_str()))
    }

    fn references(&self) -> Vec<Uuid> {
        vec![self.instance.uuid()]
    }
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
    /// The id of the record of a key. Keys of different scopes (a project's instances, an instance's users) are different keys.
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

/// A record's document.
pub(super) fn encode<R: Record>(record: &R) -> Result<Document, StoreError> {
    let body = serde_json::to_value(record).map_err(|_| {
        let message = format!("the {} {} cannot be written down", R::KIND, record.uuid());
        StoreError::new(StoreErrorKind::Unusable, message)
    })?;
    Ok(Document {
        key: R::key(record.uuid()),
        parent: record.parent(),
        unique: record.unique(),
        references: record.references(),
        expires_at: record.expires_at(),
        body,
    })
}

/// A document's record. The decoder's own message is not passed on: it may quote what it could not read.
pub(super) fn decode<R: Record>(stored: StoredDocument) -> Result<Versioned<R>, StoreError> {
    let StoredDocument { document, version } = stored;
    let key = document.key;
    let record: R = serde_json::from_value(document.body).map_err(|error| {
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
    Ok(Versioned { record, version })
}
