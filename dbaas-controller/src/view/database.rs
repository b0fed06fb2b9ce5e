//! [`Database`].

use dbaas_core::access::AccessEntry;
use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::extension::{ExtensionName, ExtensionStatus};
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::lifecycle::{ObjectLifecycle, ObjectPhase};
use dbaas_core::name::{DatabaseName, Description};
use dbaas_core::repair::Repair;
use dbaas_core::time::Timestamp;

use super::Revision;
use crate::repository::Versioned;

/// A database of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Database {
    /// Its id.
    pub id: DatabaseId,
    /// The instance that it is in.
    pub instance: InstanceId,
    /// Its name in PostgreSQL; never changes.
    pub name: DatabaseName,
    /// Free text.
    pub description: Description,
    /// A user of the same instance.
    pub owner: UserId,
    /// Who may use it besides its owner.
    pub access: Vec<AccessEntry>,
    /// The extensions that it is to have.
    pub extensions: Vec<ExtensionName>,
    /// What was last seen of its extensions.
    pub extension_status: Vec<ExtensionStatus>,
    /// Repairs of its owner's access.
    pub repair: Repair,
    /// Dropping it is refused.
    pub deletion_protection: bool,
    /// It is to be dropped.
    pub deleting: bool,
    /// When it was first seen to have been dropped by SQL.
    pub lost_at: Option<Timestamp>,
    /// NEW, ACTIVE, ERROR.
    pub lifecycle: ObjectLifecycle,
    /// What is happening to it.
    pub phase: ObjectPhase,
    /// Why; for people, never empty.
    pub reason: String,
    /// The same, for machines.
    pub conditions: Conditions,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed by a caller.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Database {
    pub(crate) fn of(found: Versioned<DatabaseRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        Database {
            phase: record.phase(),
            id: record.id,
            instance: record.instance,
            name: record.name,
            description: record.description,
            owner: record.owner,
            access: record.access.entries,
            extensions: record.extensions.names,
            extension_status: record.extensions.seen,
            repair: record.repair,
            deletion_protection: record.deletion_protection,
            deleting: record.deleting,
            lost_at: record.lost_at,
            lifecycle: record.lifecycle,
            reason: record.reason,
            conditions: record.conditions,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}
