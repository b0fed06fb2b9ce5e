//! [`StoredManifest`], [`Element`] and what it made.

use std::collections::BTreeMap;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::time::Timestamp;
use dbaas_manifest::collection::Key;
use uuid::Uuid;

use super::{ElementStatus, Export, ImportOf, Revision};
use crate::elements::record::{ElementRecord, ManifestRecord, MemberRecord};
use crate::repository::Versioned;

/// A manifest that is kept, without its text, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: ProjectId,
    /// The element's name, as the text or the request says.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its version.
    pub version: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl StoredManifest {
    pub(crate) fn of(found: Versioned<ManifestRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        StoredManifest {
            id: record.id,
            project: record.project,
            name: record.name,
            description: record.description,
            version: record.version,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// An element: a manifest that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Its name; unique within the project.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The version of its manifest.
    pub version: String,
    /// The stored manifest that it comes from.
    pub manifest: Option<Uuid>,
    /// How far it is.
    pub status: ElementStatus,
    /// Why; for people, never empty.
    pub reason: String,
    /// By name.
    pub imports: BTreeMap<String, ImportOf>,
    /// By name.
    pub exports: BTreeMap<String, Export>,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// When it was last applied.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Element {
    pub(crate) fn of(found: Versioned<ElementRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        Element {
            id: record.id,
            project: record.project,
            name: record.name,
            description: record.description,
            version: record.version,
            manifest: record.manifest,
            status: record.status,
            reason: record.reason,
            imports: record.imports,
            exports: record.exports,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// A resource that an element made, or is about to make.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ElementResource {
    /// Its place in the manifest.
    pub key: Key,
    /// The resource's id.
    pub resource: Uuid,
    /// The instance that it is in.
    pub instance: Option<InstanceId>,
    /// When it was first declared.
    pub created_at: Timestamp,
}

impl ElementResource {
    pub(crate) fn of(record: MemberRecord) -> Self {
        ElementResource {
            key: record.key,
            resource: record.resource,
            instance: record.instance,
            created_at: record.created_at,
        }
    }
}
