//! The documents of users and databases.

use dbaas_core::access::{Access, AccessEntry};
use dbaas_core::condition::{Conditions, Why};
use dbaas_core::database::DatabaseRecord;
use dbaas_core::extension::{ExtensionName, ExtensionStatus, Extensions};
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::lifecycle::{LifecycleEvent, ObjectLifecycle};
use dbaas_core::name::{DatabaseName, Description, UserName};
use dbaas_core::reason::Reason;
use dbaas_core::repair::Repair;
use dbaas_core::scram::ScramVerifier;
use dbaas_core::size::PasswordVersion;
use dbaas_core::store::Kind;
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{Record, child_name};
use super::split::{Asked, Split, record_in_three_documents, said};

/// What all intents of users and databases have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Changes {
    /// The number of the last change.
    generation: u64,
    /// What the caller was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    /// The change that asked for taking over what has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopt: Option<Asked<()>>,
    /// The change that asked for a repair of its access, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repair: Option<Asked<Timestamp>>,
}

/// What of a record both kinds have beside their specification.
struct Common<'a> {
    reason: &'a str,
    adopting: bool,
    repair: &'a Repair,
}

impl Changes {
    fn first(reason: &str) -> Self {
        Changes {
            generation: 1,
            said: Some(reason.to_owned()),
            adopt: None,
            repair: None,
        }
    }

    fn next(self, read: Common<'_>, new: Common<'_>, is_taken: bool) -> Self {
        let generation = self.generation.saturating_add(1);
        let asked = |common: &Common<'_>| common.adopting.then_some(());
        let adopting = (&asked(&read), &asked(&new));
        let repair = (&read.repair.requested_at, &new.repair.requested_at);
        Changes {
            generation,
            said: said(self.said, read.reason, new.reason, is_taken),
            adopt: Asked::after(self.adopt, adopting, generation),
            repair: Asked::after(self.repair, repair, generation),
        }
    }

    /// Adds what was asked for since this generation was taken over, last `at` this time.
    fn heed(
        self,
        (taken, at): (u64, Timestamp),
        adopting: &mut bool,
        repair: &mut Repair,
        status: &mut ObjectStatus,
    ) {
        if Asked::since(self.adopt, taken).is_some() {
            *adopting = true;
        }
        if let Some(at) = Asked::since(self.repair, taken) {
            repair.request(at);
        }
        if let Some(said) = self.said.filter(|_| self.generation > taken) {
            status.lifecycle = status.lifecycle.transition(LifecycleEvent::WorkBegan);
            let why = Why::new(Reason::Accepted, said.clone());
            status
                .conditions
                .set_reconciled(LifecycleEvent::WorkBegan, why, at);
            status.reason = said;
        }
    }
}

/// What is true of a user or a database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObjectStatus {
    lifecycle: ObjectLifecycle,
    reason: String,
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    conditions: Conditions,
    /// Of databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost_at: Option<Timestamp>,
    /// Of databases: what was seen of their extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<ExtensionStatus>,
}

impl ObjectStatus {
    fn unseen(asked_at: Timestamp) -> Self {
        ObjectStatus {
            lifecycle: ObjectLifecycle::New,
            reason: "accepted".to_owned(),
            conditions: Conditions::accepted("accepted", asked_at),
            lost_at: None,
            extensions: Vec::new(),
        }
    }
}

/// What was asked for of a user.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UserIntent {
    id: UserId,
    instance: InstanceId,
    name: UserName,
    description: Description,
    verifier: ScramVerifier,
    password_version: PasswordVersion,
    deleting: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(flatten)]
    changes: Changes,
}

/// What was decided about a user.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UserDecisions {
    /// The generation that was taken over.
    taken: u64,
    adopting: bool,
    repair: Repair,
}

impl UserIntent {
    fn of(record: &UserRecord, changes: Changes) -> Self {
        // Named one by one, so that whoever adds a field decides whose it is.
        let UserRecord {
            id,
            instance,
            name,
            description,
            verifier,
            password_version,
            deleting,
            created_at,
            updated_at,
            repair: _,
            adopting: _,
            lifecycle: _,
            reason: _,
            conditions: _,
        } = record;
        UserIntent {
            id: *id,
            instance: *instance,
            name: name.clone(),
            description: description.clone(),
            verifier: verifier.clone(),
            password_version: *password_version,
            deleting: *deleting,
            created_at: *created_at,
            updated_at: *updated_at,
            changes,
        }
    }
}

fn of_user(record: &UserRecord) -> Common<'_> {
    Common {
        reason: &record.reason,
        adopting: record.adopting,
        repair: &record.repair,
    }
}

impl Record for UserRecord {
    const KIND: Kind = "user";
    const PARTS: &'static [Kind] = &["user_decisions", "user_status"];

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

    record_in_three_documents!();
}

impl Split for UserRecord {
    type Intent = UserIntent;
    type Decisions = UserDecisions;
    type Status = ObjectStatus;

    fn new_intent(&self) -> UserIntent {
        UserIntent::of(self, Changes::first(&self.reason))
    }

    fn changed_intent(&self, read: &Self, before: UserIntent, is_taken: bool) -> UserIntent {
        let changes = before.changes.next(of_user(read), of_user(self), is_taken);
        UserIntent::of(self, changes)
    }

    fn decisions(&self, intent: &UserIntent) -> UserDecisions {
        UserDecisions {
            taken: intent.changes.generation,
            adopting: self.adopting,
            repair: self.repair.clone(),
        }
    }

    fn status(&self) -> ObjectStatus {
        ObjectStatus {
            lifecycle: self.lifecycle,
            reason: self.reason.clone(),
            conditions: self.conditions.clone(),
            lost_at: None,
            extensions: Vec::new(),
        }
    }

    fn join(intent: UserIntent, decisions: Option<UserDecisions>, status: Option<ObjectStatus>) -> Self {
        let mut status = status.unwrap_or_else(|| ObjectStatus::unseen(intent.created_at));
        let UserDecisions {
            taken,
            mut adopting,
            mut repair,
        } = decisions.unwrap_or(UserDecisions {
            taken: 0,
            adopting: false,
            repair: Repair::default(),
        });
        intent.changes.heed(
            (taken, intent.updated_at),
            &mut adopting,
            &mut repair,
            &mut status,
        );
        UserRecord {
            id: intent.id,
            instance: intent.instance,
            name: intent.name,
            description: intent.description,
            verifier: intent.verifier,
            password_version: intent.password_version,
            repair,
            deleting: intent.deleting,
            created_at: intent.created_at,
            updated_at: intent.updated_at,
            adopting,
            lifecycle: status.lifecycle,
            reason: status.reason,
            conditions: status.conditions,
        }
    }
}

/// What was asked for of a database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DatabaseIntent {
    id: DatabaseId,
    instance: InstanceId,
    name: DatabaseName,
    description: Description,
    owner: UserId,
    access: Vec<AccessEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<ExtensionName>,
    /// The change that asked for updates of its extensions, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update_extensions: Option<Asked<Timestamp>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deletion_protection: bool,
    deleting: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(flatten)]
    changes: Changes,
}

/// What was decided about a database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DatabaseDecisions {
    /// The generation that was taken over.
    taken: u64,
    adopting: bool,
    repair: Repair,
    /// The owner that was taken over: when another one is asked for, this one becomes a former owner.
    owner: UserId,
    former_owners: Vec<UserId>,
    /// The access that was taken over: who has less when other access is asked for loses something.
    access: Access,
    /// The extensions that were taken over: what is not asked for any more is to go. Not what was seen of
    /// them.
    #[serde(default)]
    extensions: Extensions,
}

impl DatabaseIntent {
    fn of(record: &DatabaseRecord, update_extensions: Option<Asked<Timestamp>>, changes: Changes) -> Self {
        let DatabaseRecord {
            id,
            instance,
            name,
            description,
            owner,
            access,
            extensions,
            deletion_protection,
            deleting,
            created_at,
            updated_at,
            repair: _,
            former_owners: _,
            adopting: _,
            lost_at: _,
            lifecycle: _,
            reason: _,
            conditions: _,
        } = record;
        DatabaseIntent {
            id: *id,
            instance: *instance,
            name: name.clone(),
            description: description.clone(),
            owner: *owner,
            access: access.entries.clone(),
            extensions: extensions.names.clone(),
            update_extensions,
            deletion_protection: *deletion_protection,
            deleting: *deleting,
            created_at: *created_at,
            updated_at: *updated_at,
            changes,
        }
    }
}

impl DatabaseDecisions {
    fn unseen(intent: &DatabaseIntent) -> Self {
        DatabaseDecisions {
            taken: 0,
            adopting: false,
            repair: Repair::default(),
            owner: intent.owner,
            former_owners: Vec::new(),
            access: Access {
                entries: intent.access.clone(),
                taken_back: Vec::new(),
            },
            extensions: Extensions::of(&intent.extensions),
        }
    }

    /// Notes who owned it, and who had access, before what is asked for now.
    fn note_those_before(&mut self, owner: UserId, entries: &[AccessEntry]) {
        let (old, is_other) = (self.owner, self.access.entries != entries);
        if owner != old {
            self.owner = owner;
            self.former_owners.push(old);
            self.former_owners.retain(|former| *former != owner);
            self.former_owners.dedup();
        }
        if owner != old || is_other {
            self.access.set(entries);
            // Somebody who owns it has nothing to lose by a level.
            self.access.taken_back.retain(|user| *user != owner);
        }
    }
}

fn of_database(record: &DatabaseRecord) -> Common<'_> {
    Common {
        reason: &record.reason,
        adopting: record.adopting,
        repair: &record.repair,
    }
}

impl Record for DatabaseRecord {
    const KIND: Kind = "database";
    const PARTS: &'static [Kind] = &["database_decisions", "database_status"];

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

    record_in_three_documents!();
}

impl Split for DatabaseRecord {
    type Intent = DatabaseIntent;
    type Decisions = DatabaseDecisions;
    type Status = ObjectStatus;

    fn new_intent(&self) -> DatabaseIntent {
        DatabaseIntent::of(self, None, Changes::first(&self.reason))
    }

    fn changed_intent(&self, read: &Self, before: DatabaseIntent, is_taken: bool) -> DatabaseIntent {
        let changes = before
            .changes
            .next(of_database(read), of_database(self), is_taken);
        let of = |record: &DatabaseRecord| record.extensions.update_requested_at;
        let update = Asked::after(
            before.update_extensions,
            (&of(read), &of(self)),
            changes.generation,
        );
        DatabaseIntent::of(self, update, changes)
    }

    fn decisions(&self, intent: &DatabaseIntent) -> DatabaseDecisions {
        DatabaseDecisions {
            taken: intent.changes.generation,
            adopting: self.adopting,
            repair: self.repair.clone(),
            owner: self.owner,
            former_owners: self.former_owners.clone(),
            access: self.access.clone(),
            extensions: Extensions {
                seen: Vec::new(),
                ..self.extensions.clone()
            },
        }
    }

    fn status(&self) -> ObjectStatus {
        ObjectStatus {
            lifecycle: self.lifecycle,
            reason: self.reason.clone(),
            conditions: self.conditions.clone(),
            lost_at: self.lost_at,
            extensions: self.extensions.seen.clone(),
        }
    }

    fn join(
        intent: DatabaseIntent,
        decisions: Option<DatabaseDecisions>,
        status: Option<ObjectStatus>,
    ) -> Self {
        let mut status = status.unwrap_or_else(|| ObjectStatus::unseen(intent.created_at));
        let mut decisions = decisions.unwrap_or_else(|| DatabaseDecisions::unseen(&intent));
        decisions.note_those_before(intent.owner, &intent.access);
        let taken = decisions.taken;
        let mut extensions = decisions.extensions;
        extensions.seen = std::mem::take(&mut status.extensions);
        extensions.set(&intent.extensions);
        if let Some(at) = Asked::since(intent.update_extensions, taken) {
            extensions.request_update(at);
        }
        intent.changes.heed(
            (taken, intent.updated_at),
            &mut decisions.adopting,
            &mut decisions.repair,
            &mut status,
        );
        DatabaseRecord {
            id: intent.id,
            instance: intent.instance,
            name: intent.name,
            description: intent.description,
            owner: intent.owner,
            access: decisions.access,
            extensions,
            repair: decisions.repair,
            deletion_protection: intent.deletion_protection,
            deleting: intent.deleting,
            created_at: intent.created_at,
            updated_at: intent.updated_at,
            former_owners: decisions.former_owners,
            adopting: decisions.adopting,
            lost_at: status.lost_at,
            lifecycle: status.lifecycle,
            reason: status.reason,
            conditions: status.conditions,
        }
    }
}
