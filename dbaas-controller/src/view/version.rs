//! [`Version`].

use dbaas_core::extension::ExtensionName;
use dbaas_core::id::VersionId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::time::Timestamp;
use dbaas_core::version::{ImageRef, PostgresMajor, VersionRecord};

use super::Revision;
use crate::repository::Versioned;

/// A version of PostgreSQL that instances can have: an entry of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// For people: `PostgreSQL 15.18`.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// What the backend runs: `postgres:15.18`.
    pub image: ImageRef,
    /// What manifests call it: `pg15`.
    pub symbolic_name: String,
    /// It takes no new instances.
    pub deprecated: bool,
    /// The extensions that databases may be asked to have; `None`: every one that the server says to be
    /// trusted.
    pub extensions: Option<Vec<ExtensionName>>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Version {
    pub(crate) fn of(found: Versioned<VersionRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        Version {
            id: record.id,
            name: record.name,
            description: record.description,
            image: record.image,
            symbolic_name: record.symbolic_name,
            deprecated: record.deprecated,
            extensions: record.extensions,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }

    /// The major version that its image says.
    pub fn major(&self) -> Option<PostgresMajor> {
        self.image.major()
    }
}
