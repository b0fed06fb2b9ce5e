//! Users (PostgreSQL roles that can log in), as kept in the store.

use serde::{Deserialize, Serialize};

use crate::condition::{Conditions, Why};
use crate::id::{InstanceId, UserId};
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle, ObjectPhase};
use crate::name::{Description, UserName};
use crate::reason::Reason;
use crate::repair::Repair;
use crate::scram::ScramVerifier;
use crate::size::PasswordVersion;
use crate::time::Timestamp;

/// A user of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Its id.
    pub id: UserId,
    /// The instance that it is in.
    pub instance: InstanceId,
    /// Its name in PostgreSQL; never changes.
    pub name: UserName,
    /// Free text.
    pub description: Description,
    /// What PostgreSQL checks its password against. The password itself is not kept.
    pub verifier: ScramVerifier,
    /// Grows with each new password, unless the caller says what it is.
    #[serde(default)]
    pub password_version: PasswordVersion,
    /// Repairs of its access.
    #[serde(default)]
    pub repair: Repair,
    /// It is to be dropped.
    pub deleting: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed by a user of the API.
    pub updated_at: Timestamp,
    /// Somebody asked for taking over a role of its name that the control plane did not make.
    #[serde(default)]
    pub adopting: bool,
    /// NEW, ACTIVE, ERROR.
    pub lifecycle: ObjectLifecycle,
    /// Why; for people, never empty.
    pub reason: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
}

impl UserRecord {
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
