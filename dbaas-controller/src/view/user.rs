//! [`User`].

use dbaas_core::condition::Conditions;
use dbaas_core::id::{InstanceId, UserId};
use dbaas_core::lifecycle::{ObjectLifecycle, ObjectPhase};
use dbaas_core::name::{Description, UserName};
use dbaas_core::repair::Repair;
use dbaas_core::size::PasswordVersion;
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;

use super::Revision;
use crate::repository::Versioned;

/// A user of an instance: a role of PostgreSQL that can log in. There is no password in it, and no verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The instance that it is in.
    pub instance: InstanceId,
    /// Its name in PostgreSQL; never changes.
    pub name: UserName,
    /// Free text.
    pub description: Description,
    /// Grows with each new password, unless the caller says what it is.
    pub password_version: PasswordVersion,
    /// Repairs of its access.
    pub repair: Repair,
    /// It is to be dropped.
    pub deleting: bool,
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

impl User {
    pub(crate) fn of(found: Versioned<UserRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        User {
            phase: record.phase(),
            id: record.id,
            instance: record.instance,
            name: record.name,
            description: record.description,
            password_version: record.password_version,
            repair: record.repair,
            deleting: record.deleting,
            lifecycle: record.lifecycle,
            reason: record.reason,
            conditions: record.conditions,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}
