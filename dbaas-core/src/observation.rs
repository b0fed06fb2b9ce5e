//! What one pass saw: facts, each of them present, absent or unknown, never a guess.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::{Epoch, Lsn};
use crate::id::{DatabaseId, NodeId};
use crate::infrastructure::{Endpoint, ObservedNode, PowerState};
use crate::kinds::ActionKind;
use crate::time::Timestamp;

mod inside;
mod lockout;
mod still;

pub use inside::{
    AccessFacts, AccessMember, AccessObject, ExtensionFacts, ExtensionPlace, ForeignGrant, InsideFacts,
    InstalledExtension, ObjectKind, ObjectName,
};

pub use lockout::{LockoutFacts, SettingFacts};

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<T> {
    /// It could not be looked at.
    Unknown,
    /// It is not there: positively known.
    Absent,
    /// It is there.
    Present(T),
}

impl<T> Seen<T> {
    /// The value, if present.
    pub fn present(&self) -> Option<&T> {
        match self {
            Seen::Present(value) => Some(value),
            Seen::Unknown | Seen::Absent => None,
        }
    }
}

/// Why PostgreSQL on a node gave no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It was not asked: the node is known to be off, or has no address.
    NotAsked,
    /// Nothing listens, or the host refuses.
    Refused,
    /// It answers, and says that it is starting, stopping, or full.
    NotReady,
    /// The control plane's login is refused.
    Login,
    /// It answers that it has run out of something: connections, memory, locks or disk (SQLSTATE class 53).
    /// Those who are connected may go on.
    Exhausted(String),
    /// No answer in time.
    Timeout,
    /// It says that its files are gone or broken.
    Damaged(String),
    /// It answered with another error.
    Failed(String),
}

/// Everything a pass saw of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When.
    pub at: Timestamp,
    /// Why the infrastructure could not be asked; the nodes are then `Unknown`.
    pub infrastructure_error: Option<String>,
    /// Every node of the record, and every other one that was found.
    pub nodes: BTreeMap<NodeId, NodeObservation>,
    /// Roles and databases on the primary, if they were looked at in this pass.
    pub catalogue: Option<CatalogueFacts>,
    /// What was seen inside of databases that were looked into in this pass.
    pub inside: BTreeMap<DatabaseId, Inside>,
    /// What may lock people out of the databases, and users out, whose repair was asked for.
    pub lockouts: BTreeMap<uuid::Uuid, LockoutFacts>,
    /// What last failed when acting on a user or database, by its id; for the reason that people read.
    pub object_failures: BTreeMap<uuid::Uuid, String>,
    /// How far the deletion of a user or database is that takes many steps, by its id.
    pub object_progress: BTreeMap<uuid::Uuid, Progress>,
}

/// How far something is that takes many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Still to be done.
    pub left: u64,
    /// In all.
    pub total: u64,
}

impl Progress {
    /// The progress now, when so much is left.
    #[must_use]
    pub fn at(before: Option<Progress>, left: u64) -> Self {
        let total = before.map_or(left, |before| before.total.max(left));
        Progress { left, total }
    }
}

impl Observation {
    /// An empty one: nothing was found.
    pub fn empty(at: Timestamp) -> Self {
        Observation {
            at,
            infrastructure_error: None,
            nodes: BTreeMap::new(),
            catalogue: None,
            inside: BTreeMap::new(),
            lockouts: BTreeMap::new(),
            object_failures: BTreeMap::new(),
            object_progress: BTreeMap::new(),
        }
    }

    /// The node, if it is part of the observation.
    pub fn node(&self, id: NodeId) -> Option<&NodeObservation> {
        self.nodes.get(&id)
    }

    /// PostgreSQL's facts of a node.
    pub fn facts(&self, id: NodeId) -> Option<&NodeFacts> {
        self.node(id).and_then(|n| n.sql.as_ref().ok())
    }

    /// What the infrastructure says of a node.
    pub fn infra(&self, id: NodeId) -> Option<&ObservedNode> {
        self.node(id).and_then(|n| n.infra.present())
    }
}

/// What came of looking into a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// What was seen.
    Seen(Box<InsideFacts>),
    /// It could not be looked into.
    Failed {
        /// Why, for people.
        message: String,
        /// How often in a row.
        times: u32,
    },
}

/// What a pass saw of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeObservation {
    /// The infrastructure's word.
    pub infra: Seen<ObservedNode>,
    /// PostgreSQL's word.
    pub sql: Result<NodeFacts, Silence>,
    /// For how long PostgreSQL there has given no facts, in milliseconds; 0 if it just did.
    pub silent_ms: u64,
    /// For how long it has not been streaming from the primary, in milliseconds, as far as this controller
    /// has watched; 0 if it is.
    pub not_streaming_ms: u64,
    /// For how long it and a primary have both answered in this epoch without a break, and it has not been
    /// streaming, in milliseconds; 0 if it is. Unlike [`NodeObservation::not_streaming_ms`] the time does not
    /// count in which it could not: off, or the primary itself.
    pub waiting_ms: u64,
    /// For how long it has been behind ([`NodeFacts::is_behind`]) at one position, since it was seen to wait
    /// for WAL there, in milliseconds; 0 if it is not.
    pub stalled_ms: u64,
    /// Starting it again has to wait so long (backoff after failed starts), in milliseconds.
    pub hold_off_ms: u64,
    /// What last failed when acting on it, for the reason that people read.
    pub last_failure: Option<ActionFailure>,
    /// Whether a client that came to it would be served, where that was tried.
    pub fitness: Fitness,
}

/// What trials of a login and a commit came to. They are made at the primary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fitness {
    /// Not tried since its server was started.
    #[default]
    Unknown,
    /// The last one went well.
    Serves {
        /// So many milliseconds ago.
        ms_ago: u64,
    },
    /// The last ones failed.
    Unfit {
        /// Why the last one did.
        why: Unfit,
        /// How long ago the first of them was begun, in milliseconds.
        for_ms: u64,
        /// How many in a row.
        times: u32,
        /// The server before this one gave no login or no commit either, and none has been well since: what
        /// they share may be at fault.
        again: bool,
    },
}

/// Why a client would not be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// For decisions.
    pub kind: UnfitKind,
    /// For people.
    pub message: String,
}

/// Kinds of [`Unfit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnfitKind {
    /// No login in time.
    NoLogin,
    /// A login, and no commit in time, although it waits for no standby.
    NoCommit,
    /// It says that its files are gone or broken.
    Damaged,
    /// It has run out of something (SQLSTATE class 53), the disk included. Another node would, too.
    Exhausted,
    /// It refuses for another reason that it gives.
    Refuses,
}

/// An action on a node that came to nothing; it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionFailure {
    /// What was tried.
    pub action: ActionKind,
    /// Why, for people.
    pub message: String,
    /// How often in a row.
    pub times: u32,
}

impl fmt::Display for ActionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.message)
    }
}

impl NodeObservation {
    /// Positively known that no process of it runs.
    pub fn is_off(&self) -> bool {
        match &self.infra {
            Seen::Absent => true,
            Seen::Present(node) => matches!(node.power, PowerState::Off | PowerState::Exited(_)),
            Seen::Unknown => false,
        }
    }

    /// Its process runs but can make no progress.
    pub fn is_frozen(&self) -> bool {
        self.infra
            .present()
            .is_some_and(|n| n.power == PowerState::Frozen)
    }
}

/// What PostgreSQL on a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// It is a standby.
    pub in_recovery: bool,
    /// The epoch persisted on the node (`dbaas.epoch`).
    pub epoch: Epoch,
    /// The newest epoch whose primary's WAL this node has replayed: written by each new primary as its first
    /// record (see [`crate::command`]), so that nodes are compared by (history, position) and never by
    /// position alone.
    pub history: Epoch,
    /// Standby: replayed up to here. Primary: flushed up to here.
    pub lsn: Lsn,
    /// Standby: received and flushed up to here since it started; `None` if it never streamed.
    pub receive_lsn: Option<Lsn>,
    /// Standby: replay has come to the end of what is there and waits. Of one that follows nobody the
    /// [detector](crate::detector) remembers it.
    pub replay_waits: bool,
    /// Its walreceiver, if there is one.
    pub receiver: Option<ReceiverFacts>,
    /// `primary_conninfo`; holds no password.
    pub primary_conninfo: String,
    /// `primary_slot_name`.
    pub primary_slot: String,
    /// `synchronous_standby_names`.
    pub sync_names: String,
    /// The newest [`setting`](crate::cluster::ClusterState::setting) that a primary of this history was
    /// given.
    #[serde(default)]
    pub setting: u64,
    /// Primary: its last checkpoint was written on its present timeline. Until then `pg_rewind` takes it for
    /// a server of the old one and sees nothing to rewind.
    pub checkpointed: bool,
    /// Primary: where its last checkpoint begins (its redo position); everything before is on the disk.
    #[serde(default)]
    pub checkpoint_redo: Option<Lsn>,
    /// Who streams from it.
    pub standbys: Vec<StandbyFacts>,
    /// Its physical replication slots.
    pub slots: Vec<SlotFacts>,
    /// Which base backup it was started from (`dbaas.rebuild`); 0 if it was started in another way.
    #[serde(default)]
    pub rebuild: u32,
    /// [`Configuration::hash`](crate::config::Configuration::hash) of the configuration that it has read
    /// (`dbaas.config_hash`).
    pub config_hash: String,
    /// The settings of that configuration that wait for a restart (`pg_settings.pending_restart`).
    #[serde(default)]
    pub pending_restart: Vec<String>,
    /// What it runs with of [what a standby may not have less of than its
    /// primary](crate::config::HOT_STANDBY_FLOOR_SETTINGS).
    #[serde(default)]
    pub hot_standby: BTreeMap<String, u64>,
    /// When it started.
    pub started_at: Timestamp,
    /// The replication role exists.
    pub has_replication_role: bool,
    /// The [register](crate::command) of the control plane's roles and databases is there. It is not in an
    /// instance that was made before there was one.
    pub has_register: bool,
}

impl NodeFacts {
    /// A sealed standby: it persisted the epoch, follows nobody, and has replayed everything that it
    /// received.
    pub fn is_sealed(&self, epoch: Epoch) -> bool {
        let caught_up = match self.receive_lsn {
            Some(received) => self.lsn >= received,
            None => self.replay_waits,
        };
        self.in_recovery
            && self.epoch == epoch
            && self.primary_conninfo.is_empty()
            && self.receiver.is_none()
            && caught_up
    }

    /// A standby without a receiver that has not replayed all that it received. Either it is about to, or
    /// what it received ends in the middle of a record: its primary was lost before it had sent the rest.
    pub fn is_behind(&self) -> bool {
        let behind = self.receive_lsn.is_some_and(|received| self.lsn < received);
        self.in_recovery && self.receiver.is_none() && behind
    }

    /// The standby that streams under this name.
    pub fn streaming(&self, application_name: &str) -> Option<&StandbyFacts> {
        self.standbys
            .iter()
            .find(|s| s.application_name == application_name && s.state == "streaming")
    }
}

/// A row of `pg_stat_wal_receiver`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReceiverFacts {
    /// `streaming`, `waiting`, ….
    pub status: String,
    /// Milliseconds since the last message from the sender.
    pub last_message_ms: u64,
}

/// A row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StandbyFacts {
    /// The standby's name, with its epoch.
    pub application_name: String,
    /// `streaming`, `catchup`, ….
    pub state: String,
    /// Flushed up to here.
    pub flush_lsn: Option<Lsn>,
    /// Replayed up to here.
    pub replay_lsn: Option<Lsn>,
}

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// A standby uses it now.
    pub active: bool,
    /// The WAL that it needs is gone: its standby has to be built anew.
    pub lost: bool,
}

/// Roles and databases on the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CatalogueFacts {
    /// The primary's WAL position when this was read: everything in here lies before it.
    pub lsn: Lsn,
    /// Roles other than PostgreSQL's and the control plane's own.
    pub roles: Vec<RoleFacts>,
    /// Databases other than templates.
    pub databases: Vec<DatabaseFacts>,
    /// What is in the register and not in PostgreSQL any more: somebody dropped it by SQL.
    #[serde(default)]
    pub lost: Vec<uuid::Uuid>,
}

impl CatalogueFacts {
    /// The role that is registered under this id, whatever it is called now.
    pub fn role(&self, id: uuid::Uuid) -> Option<&RoleFacts> {
        self.roles.iter().find(|role| role.id == Some(id))
    }

    /// The database that is registered under this id, whatever it is called now.
    pub fn database(&self, id: uuid::Uuid) -> Option<&DatabaseFacts> {
        self.databases.iter().find(|database| database.id == Some(id))
    }
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Its OID: the same for as long as it exists, and nobody else's afterwards.
    pub oid: u32,
    /// SHA-256 of its verifier, in hexadecimal; `None` without a password.
    pub verifier_sha256: Option<String>,
    /// It can log in and has none of the dangerous attributes.
    pub attributes_ok: bool,
    /// Which one it is, by the register that only the control plane can write; `None`: not one of ours.
    pub id: Option<uuid::Uuid>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its OID.
    pub oid: u32,
    /// Its owner's name.
    pub owner: String,
    /// Somebody may connect to it.
    pub allows_connections: bool,
    /// PUBLIC may connect.
    pub public_connects: bool,
    /// Who let PUBLIC connect, where that was not its owner: names of roles.
    #[serde(default)]
    pub public_grantors: Vec<String>,
    /// OIDs of the roles that own something in it.
    #[serde(default)]
    pub owners: Vec<u32>,
    /// OIDs of the roles that own something in it or have been granted something in it.
    #[serde(default)]
    pub involved: Vec<u32>,
    /// Which one it is, by the register that only the control plane can write; `None`: not one of ours.
    pub id: Option<uuid::Uuid>,
}

/// Where a standby's `primary_conninfo` is to point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowTarget {
    /// The primary, as its nodes reach it.
    pub endpoint: Endpoint,
    /// The standby's name, with the epoch.
    pub application_name: String,
    /// Its slot on the primary.
    pub slot: String,
}
