//! The planner: `(record, observation, now) -> Plan`, a pure function and the only place where a decision is
//! made.
//!
//! A plan is (a) at most one new record, written by compare-and-swap *before* anything is done, (b) actions
//! that may all run at the same time, each guarded by its own precondition on the node, (c) why. After a plan
//! was carried out the world is observed again: what has to come after something else comes in a later plan.
//! When a plan is empty the instance is as asked for, or waits for something that `why` names.
//!
//! The parts, in the order in which they are asked: `lifetime` creation, stop, deletion · `failover` loss of
//! the primary · `electorate` voters and k · `nodes` every node's disk, start and source · `rolling`
//! restarts, switchovers, scaling · `objects` roles and databases · `configuration` what running nodes are
//! configured with · `status` what the user is told.

use crate::boot_plan::BootPlan;
use crate::cluster::{ClusterPhase, Epoch};
use crate::config::{Configuration, HbaRules};
use crate::database::DatabaseRecord;
use crate::id::{DatabaseId, NodeId};
use crate::infrastructure::{Capabilities, DataDisposal, NodeSpec, PowerOff};
use crate::instance::{InstanceRecord, Requests};
use crate::kinds::{ActionKind, EventKind};
use crate::lifecycle::{Lifecycle, ObjectLifecycle};
use crate::name::{DatabaseName, UserName};
use crate::observation::Observation;
use crate::patience as time_limits;
use crate::user::UserRecord;

mod conditions;
mod configuration;
mod draft;
mod electorate;
mod failover;
mod first_start;
mod hashes;
mod hot_standby;
mod lifetime;
mod nodes;
mod objects;
mod patience;
mod rolling;
mod settings;
mod status;

pub use crate::object_change::{
    AccessChange, DatabaseSource, ExtensionChange, GoneObject, Heir, Inheritance, Lockout, Registered,
    RoleRef, Transfer,
};
pub use patience::Outcome;
pub use settings::desired_configuration;

/// How to judge: by default with the limits of [`crate::patience`], which says why each is what it is. Times
/// are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// See [`time_limits::FROZEN_MS`].
    pub frozen_ms: u64,
    /// See [`time_limits::SILENT_MS`].
    pub silent_ms: u64,
    /// See [`time_limits::RECEIVER_FRESH_MS`].
    pub receiver_fresh_ms: u64,
    /// See [`time_limits::VOTER_GONE_MS`].
    pub voter_gone_ms: u64,
    /// See [`time_limits::STUCK_STANDBY_MS`].
    pub stuck_standby_ms: u64,
    /// See [`time_limits::UNFIT_MS`].
    pub unfit_ms: u64,
    /// See [`time_limits::UNFIT_TRIALS`].
    pub unfit_trials: u32,
    /// See [`time_limits::UNFIT_AGAIN_MS`].
    pub unfit_again_ms: u64,
    /// How far behind, in bytes, a standby may be to be chosen for a switchover or counted as caught up.
    pub caught_up_bytes: u64,
    /// Between two looks at an instance that needs nothing.
    pub heartbeat_ms: u64,
    /// Between two looks while something is expected to happen soon.
    pub progress_ms: u64,
    /// Who may connect.
    pub hba: HbaRules,
    /// What the backend can do.
    pub capabilities: Capabilities,
    /// What users should know of every instance on this infrastructure.
    pub infrastructure_warnings: Vec<String>,
    /// A data disk with less than this share free, in percent, is reported.
    pub low_disk_percent: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            frozen_ms: time_limits::FROZEN_MS,
            silent_ms: time_limits::SILENT_MS,
            receiver_fresh_ms: time_limits::RECEIVER_FRESH_MS,
            voter_gone_ms: time_limits::VOTER_GONE_MS,
            stuck_standby_ms: time_limits::STUCK_STANDBY_MS,
            unfit_ms: time_limits::UNFIT_MS,
            unfit_trials: time_limits::UNFIT_TRIALS,
            unfit_again_ms: time_limits::UNFIT_AGAIN_MS,
            caught_up_bytes: 1 << 20,
            heartbeat_ms: time_limits::HEARTBEAT_MS,
            progress_ms: time_limits::PROGRESS_MS,
            hba: HbaRules::loopback(),
            capabilities: Capabilities::NONE,
            infrastructure_warnings: Vec::new(),
            low_disk_percent: 10,
        }
    }
}

/// What the planner is given.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The instance.
    pub instance: &'a InstanceRecord,
    /// Its users.
    pub users: &'a [UserRecord],
    /// Its databases.
    pub databases: &'a [DatabaseRecord],
    /// What was seen.
    pub observation: &'a Observation,
    /// How to judge.
    pub policy: &'a Policy,
    /// Ids for new nodes; as many as an instance may have nodes.
    pub fresh_ids: &'a [NodeId],
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The instance's new record, if it changes.
    pub record: Option<InstanceRecord>,
    /// Users whose record changes.
    pub users: Vec<UserRecord>,
    /// Databases whose record changes.
    pub databases: Vec<DatabaseRecord>,
    /// Users and databases that are gone: their records are removed.
    pub gone: Vec<GoneObject>,
    /// The instance is gone with everything in it: its record is removed.
    pub instance_gone: bool,
    /// For the event log, written together with the records.
    pub events: Vec<PlannedEvent>,
    /// To be done after the records are written, in any order but for a database that is made
    /// [after](Action::CreateDatabase) its owner's role.
    pub actions: Vec<Action>,
    /// Why there is something, or nothing, to do; for people.
    pub why: Vec<String>,
    /// Look again after so long, in milliseconds, unless something happens before.
    pub wake_after_ms: u64,
    /// Look at roles and databases next time.
    pub wants_catalogue: bool,
    /// Try what a client gets at this node, when it is due.
    pub try_service: Option<NodeId>,
    /// Look into these databases next time.
    pub wants_inside: std::collections::BTreeSet<DatabaseId>,
}

impl Plan {
    /// Nothing to write and nothing to do.
    pub fn is_idle(&self) -> bool {
        self.record.is_none()
            && self.users.is_empty()
            && self.databases.is_empty()
            && self.gone.is_empty()
            && !self.instance_gone
            && self.actions.is_empty()
    }

    /// The instance is as asked for, and nothing is expected: for as long as its record and what is seen of
    /// it stay [as they are](Observation::stillness), so does this plan, however much time passes.
    pub fn is_at_rest(&self, situation: &Situation<'_>) -> bool {
        let Situation {
            instance,
            users,
            databases,
            policy,
            ..
        } = situation;
        let settled = ObjectLifecycle::Active;
        self.is_idle()
            && self.events.is_empty()
            && !self.wants_catalogue
            && self.wants_inside.is_empty()
            && self.wake_after_ms >= policy.heartbeat_ms
            && instance.status.lifecycle == Lifecycle::Active
            && instance.requests == Requests::default()
            && (users.iter())
                .all(|user| user.lifecycle == settled && !user.deleting && user.repair.requested_at.is_none())
            && (databases.iter()).all(|database| {
                let repair = database.repair.requested_at.is_some();
                database.lifecycle == settled && !database.deleting && !repair
            })
    }
}

/// Whose access is to be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairTarget {
    /// A database's owner's.
    Database {
        /// Its id.
        id: DatabaseId,
        /// Its name.
        name: DatabaseName,
        /// Its owner's name.
        owner: UserName,
    },
    /// A user's.
    User {
        /// Its id.
        id: crate::id::UserId,
        /// Its name.
        name: UserName,
    },
}

/// An entry for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEvent {
    /// What it is about.
    pub kind: EventKind,
    /// For people.
    pub message: String,
    /// The node it is about.
    pub node: Option<NodeId>,
}

/// One thing to do. Each is idempotent and checks its own precondition where it is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make or converge a node's disk, address and limits.
    Apply(NodeSpec),
    /// Start a node.
    Start {
        /// Which.
        node: NodeId,
        /// How.
        boot: Box<BootPlan>,
    },
    /// Switch a node off.
    PowerOff {
        /// Which.
        node: NodeId,
        /// How.
        mode: PowerOff,
    },
    /// Remove a node.
    Remove {
        /// Which.
        node: NodeId,
        /// And its disk?
        data: DataDisposal,
    },
    /// The control plane's own roles, on the first primary, as soon as it takes a login. Waits a short while
    /// for that; when it came to nothing the next look says so.
    Bootstrap {
        /// Where.
        node: NodeId,
        /// Slots to be there when a standby can log in for the first time.
        slots: Vec<String>,
    },
    /// Seal a standby.
    Seal {
        /// Which.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// What its `synchronous_standby_names` has to become, if it is not that already.
        closed_names: Option<String>,
    },
    /// End what keeps a sealed standby from replaying all that it has.
    EndConflicts {
        /// Which.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
    },
    /// Promote a sealed standby.
    Promote {
        /// Which.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// What its `synchronous_standby_names` must be.
        closed_names: String,
    },
    /// Write the history mark.
    MarkHistory {
        /// On this primary.
        node: NodeId,
        /// Of this epoch.
        epoch: Epoch,
    },
    /// Set whom the primary waits for.
    SetSyncNames {
        /// The primary.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// The number of the setting: one that has seen a greater number refuses.
        setting: u64,
        /// The setting.
        names: String,
    },
    /// Make a standby follow a primary.
    Follow {
        /// The standby.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// Its new `primary_conninfo`.
        conninfo: String,
        /// Its slot on the primary.
        slot: String,
        /// What its `synchronous_standby_names` has to become, if it is not that already.
        closed_names: Option<String>,
    },
    /// Give a running server a new configuration: written, checked and loaded, or refused and put back.
    Reconfigure {
        /// Which.
        node: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// With this configuration.
        configuration: Box<Configuration>,
    },
    /// Write a checkpoint.
    Checkpoint {
        /// Where.
        node: NodeId,
    },
    /// Create physical slots.
    CreateSlots {
        /// Where.
        node: NodeId,
        /// These.
        names: Vec<String>,
    },
    /// Drop physical slots.
    DropSlots {
        /// Where.
        node: NodeId,
        /// These.
        names: Vec<String>,
    },
    /// Create a role, or set it to what it is to be.
    PutRole {
        /// The primary.
        node: NodeId,
        /// The user whose verifier is to be set.
        user: crate::id::UserId,
        /// It is there already.
        exists: bool,
    },
    /// Make the register of roles and databases in an instance that was made before there was one.
    MakeRegister {
        /// The primary.
        node: NodeId,
        /// What the records know.
        known: Vec<Registered>,
    },
    /// Take over a role or database that the control plane did not make, as somebody asked for.
    Adopt {
        /// The primary.
        node: NodeId,
        /// As whose.
        object: GoneObject,
        /// Its name.
        name: String,
    },
    /// Take what is not there any more out of the register.
    Forget {
        /// The primary.
        node: NodeId,
        /// Which.
        object: GoneObject,
    },
    /// Drop a role.
    DropRole {
        /// The primary.
        node: NodeId,
        /// Its id.
        user: crate::id::UserId,
        /// What it is called now.
        role: RoleRef,
        /// Databases that it has to do with, each with who gets what it owns there.
        databases: Vec<Inheritance>,
    },
    /// Create a database.
    CreateDatabase {
        /// The primary.
        node: NodeId,
        /// Its id.
        database: crate::id::DatabaseId,
        /// Its name.
        name: DatabaseName,
        /// Its owner's name.
        owner: UserName,
        /// What it is made from.
        source: DatabaseSource,
        /// The owner's role is made in the same plan: this comes after it.
        after: Option<crate::id::UserId>,
    },
    /// Set a database's owner and privileges.
    AlterDatabase {
        /// The primary.
        node: NodeId,
        /// Its id.
        database: crate::id::DatabaseId,
        /// Its name.
        name: DatabaseName,
        /// Its owner's name.
        owner: UserName,
        /// Its owner's id.
        owner_id: crate::id::UserId,
        /// Who opened it to PUBLIC and is not its owner.
        grantors: Vec<String>,
    },
    /// Give a former owner's objects in a database to its owner.
    TransferObjects {
        /// The primary.
        node: NodeId,
        /// The database's id.
        database: crate::id::DatabaseId,
        /// What, from whom and to whom.
        transfer: Transfer,
    },
    /// Give and take access to a database.
    ChangeAccess {
        /// The primary.
        node: NodeId,
        /// Its id.
        database: DatabaseId,
        /// Its OID.
        oid: u32,
        /// Its name.
        name: DatabaseName,
        /// What changes.
        change: Box<AccessChange>,
    },
    /// Make, update and drop extensions of a database, one after the other: none keeps the next one waiting.
    ChangeExtensions {
        /// The primary.
        node: NodeId,
        /// Its id.
        database: DatabaseId,
        /// Its OID.
        oid: u32,
        /// Its name.
        name: DatabaseName,
        /// What changes.
        changes: Vec<ExtensionChange>,
    },
    /// Put back what locks people out.
    RepairAccess {
        /// The primary.
        node: NodeId,
        /// Whose access.
        target: RepairTarget,
        /// What is put back.
        lockouts: Vec<Lockout>,
    },
    /// Drop the roles of the levels of access of a database that is gone.
    DropAccessRoles {
        /// The primary.
        node: NodeId,
        /// The database's id.
        database: DatabaseId,
    },
    /// Drop a database.
    DropDatabase {
        /// The primary.
        node: NodeId,
        /// Its id.
        database: crate::id::DatabaseId,
        /// Its name in PostgreSQL now.
        name: String,
        /// It is registered (it is not while it has its staging name).
        registered: bool,
    },
}

impl Action {
    /// The node that it is done on.
    pub fn node(&self) -> NodeId {
        match self {
            Action::Apply(spec) => spec.node.node,
            Action::Start { node, .. }
            | Action::PowerOff { node, .. }
            | Action::Remove { node, .. }
            | Action::Bootstrap { node, .. }
            | Action::Seal { node, .. }
            | Action::EndConflicts { node, .. }
            | Action::Promote { node, .. }
            | Action::MarkHistory { node, .. }
            | Action::SetSyncNames { node, .. }
            | Action::Follow { node, .. }
            | Action::Reconfigure { node, .. }
            | Action::Checkpoint { node }
            | Action::CreateSlots { node, .. }
            | Action::DropSlots { node, .. }
            | Action::PutRole { node, .. }
            | Action::MakeRegister { node, .. }
            | Action::Adopt { node, .. }
            | Action::Forget { node, .. }
            | Action::DropRole { node, .. }
            | Action::CreateDatabase { node, .. }
            | Action::AlterDatabase { node, .. }
            | Action::TransferObjects { node, .. }
            | Action::ChangeAccess { node, .. }
            | Action::ChangeExtensions { node, .. }
            | Action::DropAccessRoles { node, .. }
            | Action::RepairAccess { node, .. }
            | Action::DropDatabase { node, .. } => *node,
        }
    }

    /// What is done, in a word.
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::Apply(_) => ActionKind::Apply,
            Action::Start { .. } => ActionKind::Start,
            Action::PowerOff { .. } => ActionKind::PowerOff,
            Action::Remove { .. } => ActionKind::Remove,
            Action::Bootstrap { .. } => ActionKind::Bootstrap,
            Action::Seal { .. } => ActionKind::Seal,
            Action::EndConflicts { .. } => ActionKind::EndConflicts,
            Action::Promote { .. } => ActionKind::Promote,
            Action::MarkHistory { .. } => ActionKind::MarkHistory,
            Action::SetSyncNames { .. } => ActionKind::SetSyncNames,
            Action::Follow { .. } => ActionKind::Follow,
            Action::Reconfigure { .. } => ActionKind::Reconfigure,
            Action::Checkpoint { .. } => ActionKind::Checkpoint,
            Action::CreateSlots { .. } => ActionKind::CreateSlots,
            Action::DropSlots { .. } => ActionKind::DropSlots,
            Action::PutRole { .. } => ActionKind::PutRole,
            Action::MakeRegister { .. } => ActionKind::MakeRegister,
            Action::Adopt { .. } => ActionKind::Adopt,
            Action::Forget { .. } => ActionKind::Forget,
            Action::DropRole { .. } => ActionKind::DropRole,
            Action::CreateDatabase { .. } => ActionKind::CreateDatabase,
            Action::AlterDatabase { .. } => ActionKind::AlterDatabase,
            Action::TransferObjects { .. } => ActionKind::TransferObjects,
            Action::ChangeAccess { .. } => ActionKind::ChangeAccess,
            Action::ChangeExtensions { .. } => ActionKind::ChangeExtensions,
            Action::DropAccessRoles { .. } => ActionKind::DropAccessRoles,
            Action::RepairAccess { .. } => ActionKind::RepairAccess,
            Action::DropDatabase { .. } => ActionKind::DropDatabase,
        }
    }
}

/// Decides what is to be done.
pub fn plan(situation: Situation<'_>) -> Plan {
    let mut draft = draft::Draft::new(situation);
    if !lifetime::plan(&mut draft) {
        return draft.finish();
    }
    configuration::judge(&mut draft);
    hot_standby::keep_floor(&mut draft);
    let serving = failover::plan(&mut draft);
    if let Some(primary) = serving {
        electorate::plan(&mut draft, primary);
        objects::plan(&mut draft, primary);
        rolling::plan(&mut draft, primary);
    }
    // A switchover that was just begun: from here on nobody is to follow the old primary in the new epoch.
    let sealing = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Sealing);
    let serving = serving.filter(|_| !sealing);
    nodes::plan(&mut draft, serving);
    if serving.is_some() {
        configuration::plan(&mut draft);
    }
    configuration::note_trials(&mut draft);
    status::plan(&mut draft, serving);
    draft.finish()
}
