//! Instances: what was asked for ([`InstanceSpec`]), what the control plane decided ([`InstanceRecord`]) and
//! what is true ([`InstanceStatus`]).

mod labels;
mod update;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cluster::{ClusterState, Epoch, Lsn};
use crate::condition::{Conditions, Why};
use crate::id::{InstanceId, NodeId, ProjectId, VersionId};
use crate::infrastructure::{Endpoint, Resources};
use crate::lifecycle::{Lifecycle, LifecycleEvent};
use crate::name::{Description, InstanceName};
use crate::node::NodeRecord;
use crate::parameters::Parameters;
use crate::reason::Reason;
use crate::size::{NodeCount, SyncReplicas};
use crate::time::Timestamp;
use crate::version::ImageRef;

pub use labels::{InvalidLabel, LABEL_CHARS_MAX, LABELS_MAX, Labels};
pub use update::{NewVersion, UpdateInstance, apply_update, protection, spec_errors};

/// What a user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceSpec {
    /// The name; unique within the project.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Size of each node.
    pub resources: Resources,
    /// How many nodes.
    pub nodes: NodeCount,
    /// How many standbys a commit waits for, as asked; see [`InstanceSpec::effective_sync_replicas`].
    pub sync_replicas: SyncReplicas,
    /// The version of the catalogue.
    pub version: VersionId,
    /// Its image when the instance was created, so that the instance outlives its catalogue entry.
    pub image: ImageRef,
    /// Settings of PostgreSQL, over what the control plane derives.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// What callers call it, to find it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Deleting it is refused until this is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
}

impl InstanceSpec {
    /// One node, in the default project.
    pub fn new(name: InstanceName, resources: Resources, version: VersionId, image: ImageRef) -> Self {
        InstanceSpec {
            name,
            description: Description::default(),
            project: ProjectId::DEFAULT,
            resources,
            nodes: NodeCount::MIN,
            sync_replicas: SyncReplicas::MIN,
            version,
            image,
            parameters: Parameters::default(),
            labels: Labels::default(),
            deletion_protection: false,
        }
    }

    /// How many standbys a commit really waits for: at most as many as there are. Writes survive the loss of
    /// one node only with `nodes >= effective + 2`.
    pub fn effective_sync_replicas(&self) -> u8 {
        self.sync_replicas.effective(self.nodes).get()
    }

    /// Whether clients can go on writing after any one node is lost.
    pub fn writes_survive_one_loss(&self) -> bool {
        self.nodes.get() >= self.effective_sync_replicas() + 2
    }
}

/// What the instance as a whole is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// Serving.
    Running,
    /// All nodes off, data kept.
    Stopped,
    /// Gone, with its data.
    Deleted,
}

/// A one-time request: done once, then cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Requests {
    /// Restart every node, one at a time; asked for at this moment (see
    /// [`RestartMark`](crate::node::RestartMark)).
    pub restart: Option<Timestamp>,
    /// Change the primary in a planned way.
    pub switchover: Option<SwitchoverRequest>,
    /// Change the primary although the old one cannot be reached.
    pub failover: Option<FailoverRequest>,
}

/// A planned change of primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverRequest {
    /// To this node; `None`: to the best one.
    pub to: Option<NodeId>,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who decided it: a user, or the controller for a rolling change.
    pub by_controller: bool,
    /// The checkpoint that makes the shutdown short has been asked for.
    #[serde(default)]
    pub prepared: bool,
    /// Where the primary was when that checkpoint was asked for: one that begins there or later is it.
    #[serde(default)]
    pub checkpoint_after: Option<Lsn>,
}

/// A failover that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// Go on also where commits may be lost: the old primary can never come back.
    pub allow_data_loss: bool,
    /// The primary that is to be given up: when another one serves, it was.
    #[serde(default)]
    pub from: Option<NodeId>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// What an instance is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstancePhase {
    /// Being made.
    Creating,
    /// Serving as asked.
    Running,
    /// Serving, while nodes or settings change.
    Updating,
    /// The primary is lost; another is being elected, or waited for.
    FailingOver,
    /// A planned change of primary.
    SwitchingOver,
    /// Nodes restart one at a time.
    Restarting,
    /// Being switched off.
    Stopping,
    /// Off, data kept.
    Stopped,
    /// Being switched on.
    Starting,
    /// Being removed.
    Deleting,
}

/// What is true of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// NEW, IN_PROGRESS, ACTIVE, ERROR.
    pub lifecycle: Lifecycle,
    /// What it is busy with.
    pub phase: InstancePhase,
    /// Why it is in that state, and what happens next: for people, never empty.
    pub reason: String,
    /// The same for programs, and more.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// What a user should know although all is as asked: limits that nobody enforces, drift, little disk
    /// space.
    pub warnings: Vec<String>,
    /// The generation that this status is about: equal to the record's when the newest request has been seen.
    pub observed_generation: u64,
    /// Where the primary is.
    pub primary_endpoint: Option<Endpoint>,
    /// Settings that wait for a restart on some node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters_pending_restart: Vec<String>,
}

impl InstanceStatus {
    /// A caller asked for something: what is told of it until the engine has taken that up.
    pub fn accept(&mut self, said: impl Into<String>, now: Timestamp) {
        self.lifecycle = self.lifecycle.transition(LifecycleEvent::WorkBegan);
        self.reason = said.into();
        let why = Why::new(Reason::Accepted, self.reason.clone());
        self.conditions
            .set_reconciled(LifecycleEvent::WorkBegan, why, now);
    }
}

/// What was decided about an instance's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ParameterState {
    /// Those that a server has run with last: what is gone back to.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub proven: Parameters,
    /// Those that a server refused. They are not tried again before others are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedParameters>,
    /// Starts with parameters that no server has run with yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<NodeId, Trial>,
    /// The greatest values that a node may run with of what a standby may not have less of than its primary.
    /// Empty: what its size gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floor: BTreeMap<String, u64>,
    /// Since when the primary runs with less of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowered: Option<Lowered>,
    /// The start of the primary that is to be followed by another one where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarting: Option<String>,
}

/// Parameters that a server refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedParameters {
    /// Those that were asked for.
    pub parameters: Parameters,
    /// Which server, and what it said; for people.
    pub reason: String,
}

/// A start with parameters that no server has run with yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Those.
    pub parameters: Parameters,
    /// The node's start before this one.
    pub boot_id: Option<String>,
}

/// A primary that runs with smaller values than its standbys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowered {
    /// In this epoch.
    pub epoch: Epoch,
    /// With these values.
    pub values: BTreeMap<String, u64>,
    /// Here it was seen so first: what it wrote of its values lies before.
    pub at: Lsn,
}

/// What is said of a new instance.
const ACCEPTED: &str = "accepted; its nodes are about to be created";

/// An instance as kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id.
    pub id: InstanceId,
    /// What was asked for.
    pub spec: InstanceSpec,
    /// Grows with each change of `spec`, `desired` or `requests` by a user.
    pub generation: u64,
    /// Running, stopped or deleted.
    pub desired: DesiredState,
    /// One-time requests.
    pub requests: Requests,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed by a user.
    pub updated_at: Timestamp,
    /// The failover protocol's state; `None` until the first node is decided on.
    pub cluster: Option<ClusterState>,
    /// The nodes, in order of creation.
    pub nodes: Vec<NodeRecord>,
    /// The largest cpu and ram that the instance ever had: a few settings may not be smaller on a standby
    /// than they ever were on a primary whose WAL it may read (see [`crate::config::hot_standby_floor`]).
    pub largest: Resources,
    /// The number of the next node's name.
    pub next_node_number: u32,
    /// The credentials of the control plane's own roles, sealed (see `SecretSealer`); empty until made.
    pub sealed_credentials: String,
    /// Users and databases that were dropped last: what a late order makes of them once more is dropped
    /// again.
    #[serde(default)]
    pub dropped: Dropped,
    /// What was decided about its parameters.
    #[serde(default)]
    pub parameters: ParameterState,
    /// What is true.
    pub status: InstanceStatus,
}

/// The ids of users and databases that were dropped, oldest first. As many as matter are kept: an order to
/// make one is late by seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Dropped(Vec<Uuid>);

impl Dropped {
    /// How many are kept.
    pub const MOST: usize = 64;

    /// Notes one; the oldest gives way.
    pub fn note(&mut self, id: Uuid) {
        self.0.retain(|known| *known != id);
        self.0.push(id);
        let surplus = self.0.len().saturating_sub(Self::MOST);
        self.0.drain(..surplus);
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = Uuid> {
        self.0.iter().copied()
    }
}

impl InstanceRecord {
    /// A new instance's record: nothing done yet.
    pub fn new(id: InstanceId, spec: InstanceSpec, sealed_credentials: String, now: Timestamp) -> Self {
        InstanceRecord {
            id,
            largest: spec.resources,
            spec,
            generation: 1,
            desired: DesiredState::Running,
            requests: Requests::default(),
            created_at: now,
            updated_at: now,
            cluster: None,
            nodes: Vec::new(),
            next_node_number: 1,
            sealed_credentials,
            dropped: Dropped::default(),
            parameters: ParameterState::default(),
            status: InstanceStatus {
                lifecycle: Lifecycle::New,
                phase: InstancePhase::Creating,
                reason: ACCEPTED.to_owned(),
                conditions: Conditions::accepted(ACCEPTED, now),
                warnings: Vec::new(),
                observed_generation: 0,
                primary_endpoint: None,
                parameters_pending_restart: Vec::new(),
            },
        }
    }

    /// The parameters that nodes are to have: those asked for, or those of before if a server refused them.
    pub fn effective_parameters(&self) -> &Parameters {
        let asked = &self.spec.parameters;
        match &self.parameters.refused {
            Some(refused) if refused.parameters == *asked => &self.parameters.proven,
            _ => asked,
        }
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.nodes.iter().find(|n| n.id == id)
    }
}
