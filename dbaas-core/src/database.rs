//! Databases, as kept in the store.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::condition::{Conditions, Why};
use crate::extension::Extensions;
use crate::id::{DatabaseId, InstanceId, UserId};
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle, ObjectPhase};
use crate::name::{DatabaseName, Description};
use crate::reason::Reason;
use crate::repair::Repair;
use crate::time::Timestamp;

/// A database of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRecord {
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
    #[serde(default)]
    pub access: Access,
    /// Which extensions it is to have.
    #[serde(default)]
    pub extensions: Extensions,
    /// Repairs of its owner's access.
    #[serde(default)]
    pub repair: Repair,
    /// Dropping it is refused until this is taken back.
    #[serde(default)]
    pub deletion_protection: bool,
    /// It is to be dropped.
    pub deleting: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed by a user.
    pub updated_at: Timestamp,
    /// Who owned it before and may still own objects in it, which its owner gets.
    #[serde(default)]
    pub former_owners: Vec<UserId>,
    /// Somebody asked for taking over a database of its name that the control plane did not make.
    #[serde(default)]
    pub adopting: bool,
    /// When it was first seen to have been dropped by SQL.
    #[serde(default)]
    pub lost_at: Option<Timestamp>,
    /// NEW, ACTIVE, ERROR.
    pub lifecycle: ObjectLifecycle,
    /// Why; for people, never empty.
    pub reason: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
}

impl DatabaseRecord {
    /// What is happening to it.
    pub fn phase(&self) -> ObjectPhase {
        ObjectPhase::of(self.lifecycle, self.deleting, self.updated_at > self.created_at)
    }

    /// A caller asked for something: what is told of it until the engine has taken that up.
    pub fn accept(&mut self, said: impl Into<String>, now: Timestamp) {
        self.lifecycle = self.lifecycle.transition(LifecycleEvent::WorkBegan);
        self.reason = said.into();
        let why = Why::new(Reason::Accepted, self.reason.clone());
        self.conditions
            .set_reconciled(LifecycleEvent::WorkBegan, why, now);
    }
}
