//! What a controller sees of the world: the planner's own observation, made from the abstract nodes.

use dbaas_core::boot_plan::conninfo;
use dbaas_core::cluster::{Epoch, Lsn, slot_name, standby_name};
use dbaas_core::config::HbaRules;
use dbaas_core::config::sync_names;
use dbaas_core::infrastructure::{
    DataState, Endpoint, Exit, ExitReason, NodeRef, NodeSpec, ObservedNode, PowerState,
};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::{
    FollowTarget, NodeFacts, NodeObservation, Observation, ReceiverFacts, Seen, Silence, SlotFacts,
    StandbyFacts,
};
use dbaas_core::plan::desired_configuration;
use dbaas_core::time::Timestamp;

use crate::record::id;
use crate::world::{Data, MOST_NODES, Names, Node, Power, Report, State, Target};

/// Longer than every patience of the policy.
const LONG_MS: u64 = 3_600_000;

/// How a look turns out: whatever the world is like, it may turn out in any of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sight {
    /// PostgreSQL on these nodes (bits) does not answer this controller.
    pub unheard: u8,
    /// The infrastructure does not answer.
    pub blind: bool,
    /// What is silent has been so for long, and standbys have not heard from their primary for long.
    pub silent_long: bool,
    /// But for standbys that receive: they have just heard from their primary.
    pub heard: bool,
    /// What does not stream has not done so for long, and what waits for the rest of an entry does so for long.
    pub gone_long: bool,
}

impl Sight {
    /// Everything answers, and there was time.
    pub const CLEAR: Sight = Sight {
        unheard: 0,
        blind: false,
        silent_long: true,
        heard: false,
        gone_long: true,
    };

    /// Something that could answer does not.
    pub fn is_clouded(self) -> bool {
        self.unheard != 0 || self.blind
    }
}

/// What is seen of a node: all that the planner can learn of it, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// The infrastructure knows it.
    pub exists: bool,
    /// Its disk.
    pub data: Data,
    /// Its process.
    pub power: Seeming,
    /// What PostgreSQL says.
    pub facts: Option<Facts>,
}

/// A power state without what a controller cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "as the infrastructure's own states")]
pub enum Seeming {
    Off,
    Died,
    Failed,
    SeedGone,
    Preparing,
    Running,
    Frozen,
}

/// What PostgreSQL says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "as the planner's own facts")]
pub struct Facts {
    pub in_recovery: bool,
    pub rebuild: u8,
    pub epoch: u8,
    pub history: u8,
    pub lsn: u8,
    pub received: Option<u8>,
    pub replay_waits: bool,
    pub receiver: bool,
    pub hears: bool,
    pub target: Option<Target>,
    pub names: Names,
    pub setting: u8,
    pub checkpointed: bool,
    pub reports: [Option<Report>; MOST_NODES],
}

/// Looks at every node.
pub fn look(state: &State, sight: Sight) -> [View; MOST_NODES] {
    std::array::from_fn(|i| {
        let n = &state.nodes[i];
        View {
            exists: n.exists,
            data: n.data,
            power: match n.power {
                Power::Off => Seeming::Off,
                Power::Died => Seeming::Died,
                Power::Failed => Seeming::Failed,
                Power::SeedGone => Seeming::SeedGone,
                Power::Preparing(_) => Seeming::Preparing,
                Power::Running => Seeming::Running,
                Power::Frozen => Seeming::Frozen,
            },
            facts: (n.runs() && sight.unheard & (1 << i) == 0).then(|| facts(n, sight)),
        }
    })
}

fn facts(n: &Node, sight: Sight) -> Facts {
    let lsn = if n.primary { n.wal.len() } else { n.replayed };
    Facts {
        in_recovery: !n.primary,
        rebuild: n.rebuild,
        epoch: n.epoch,
        history: n.wal.history(lsn),
        lsn,
        received: (!n.primary && n.streamed).then(|| n.wal.len() + u8::from(n.part)),
        replay_waits: !n.primary && n.replayed == n.wal.len(),
        receiver: n.receiver.is_some(),
        hears: n.receiver.is_some() && (!sight.silent_long || sight.heard),
        target: n.target,
        names: n.names,
        setting: n.setting,
        checkpointed: n.primary && n.checkpointed,
        reports: if n.primary { n.reports } else { Default::default() },
    }
}

/// Where a node is.
pub fn endpoint(index: usize) -> Endpoint {
    Endpoint {
        host: format!("10.0.0.{}", index + 1),
        port: 5432,
    }
}

/// The name of the node at an index; ids are given in the order of numbers.
pub fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// The text of a `synchronous_standby_names`.
pub fn names_text(names: Names) -> String {
    let voters = (0..MOST_NODES).filter(|i| names.voters & (1 << i) != 0);
    sync_names(
        names.k,
        voters.map(|i| standby_name(&name(i), Epoch(names.epoch.into()))),
    )
}

/// Where a standby's `primary_conninfo` points.
pub fn follow_target(standby: usize, target: Target) -> FollowTarget {
    FollowTarget {
        endpoint: endpoint(target.node.into()),
        application_name: standby_name(&name(standby), Epoch(target.epoch.into())),
        slot: slot_name(&name(standby)),
    }
}

/// The observation that the planner is given.
pub fn observation(record: &InstanceRecord, views: &[View; MOST_NODES], sight: Sight) -> Observation {
    let mut observation = Observation::empty(Timestamp::default());
    if sight.blind {
        observation.infrastructure_error = Some("no answer".to_owned());
    }
    let known = |i: usize| record.node(id(i)).is_some();
    let hash = desired_configuration(record, &HbaRules::loopback(), id(0)).hash();
    for (i, view) in views.iter().enumerate().filter(|(i, v)| v.exists || known(*i)) {
        let infra = match (sight.blind, view.exists) {
            (true, _) => Seen::Unknown,
            (false, false) => Seen::Absent,
            (false, true) => Seen::Present(infra(record, i, view)),
        };
        let sql = match &view.facts {
            Some(f) => Ok(node_facts(record, i, f, &hash)),
            None if view.power == Seeming::Running || view.power == Seeming::Frozen => Err(Silence::Timeout),
            None => Err(Silence::NotAsked),
        };
        let silent_ms = if sql.is_err() && sight.silent_long {
            LONG_MS
        } else {
            0
        };
        let waits = view.facts.is_some_and(|f| f.replay_waits);
        let stalled = waits && sql.as_ref().is_ok_and(NodeFacts::is_behind);
        observation.nodes.insert(
            id(i),
            NodeObservation {
                infra,
                sql,
                silent_ms,
                not_streaming_ms: if sight.gone_long { LONG_MS } else { 0 },
                waiting_ms: if sight.gone_long { LONG_MS } else { 0 },
                stalled_ms: if sight.gone_long && stalled { LONG_MS } else { 0 },
                hold_off_ms: 0,
                last_failure: None,
            },
        );
    }
    // A node that streams has not been gone for any time.
    let primary = record.cluster.as_ref().map(|c| c.primary);
    let epoch = record.cluster.as_ref().map(|c| c.epoch).unwrap_or_default();
    let rows = primary
        .and_then(|p| observation.facts(p))
        .map(|f| f.standbys.clone())
        .unwrap_or_default();
    for (i, view) in views.iter().enumerate() {
        let ours = view.facts.is_none_or(|f| u64::from(f.history) == epoch.0);
        let row = rows
            .iter()
            .any(|r| r.application_name == standby_name(&name(i), epoch));
        if let Some(node) = observation.nodes.get_mut(&id(i)).filter(|_| row && ours) {
            node.not_streaming_ms = 0;
            node.waiting_ms = 0;
        }
    }
    observation
}

fn infra(record: &InstanceRecord, index: usize, view: &View) -> ObservedNode {
    let node = NodeRef {
        instance: record.id,
        node: id(index),
    };
    let exited = |reason| {
        PowerState::Exited(Exit {
            reason,
            message: "it ended".to_owned(),
        })
    };
    ObservedNode {
        node,
        power: match view.power {
            Seeming::Off => PowerState::Off,
            Seeming::Died => exited(ExitReason::Died),
            Seeming::Failed => exited(ExitReason::PreparationFailed),
            Seeming::SeedGone => exited(ExitReason::SeedGone),
            Seeming::Preparing => PowerState::Preparing,
            Seeming::Running => PowerState::Running,
            Seeming::Frozen => PowerState::Frozen,
        },
        data: match view.data {
            Data::Empty => DataState::Empty,
            Data::Full => DataState::Initialised,
            Data::Incomplete => DataState::Incomplete,
        },
        applied: Some(NodeSpec {
            node,
            name: name(index),
            image: record.spec.image.clone(),
            resources: record.spec.resources,
        }),
        endpoint: Some(endpoint(index)),
        peer_endpoint: Some(endpoint(index)),
        boot: None,
        bootstrap_password: None,
        disk_free_bytes: None,
        backend_ref: None,
    }
}

fn node_facts(record: &InstanceRecord, index: usize, f: &Facts, hash: &str) -> NodeFacts {
    let lsn = |n: u8| Lsn(n.into());
    let standbys = f.reports.iter().enumerate().filter_map(|(s, r)| {
        let r = (*r)?;
        Some(StandbyFacts {
            application_name: standby_name(&name(s), Epoch(r.epoch.into())),
            state: "streaming".to_owned(),
            flush_lsn: Some(lsn(r.flushed)),
            replay_lsn: Some(lsn(r.flushed)),
        })
    });
    // Slots are made and dropped without danger to anything that is modelled here: they are always as wanted.
    let slots = record
        .nodes
        .iter()
        .filter(|n| !f.in_recovery && n.id != id(index))
        .map(|n| SlotFacts {
            name: slot_name(&n.name),
            active: true,
            lost: false,
        });
    NodeFacts {
        in_recovery: f.in_recovery,
        epoch: Epoch(f.epoch.into()),
        history: Epoch(f.history.into()),
        lsn: lsn(f.lsn),
        receive_lsn: f.received.map(lsn),
        replay_waits: f.replay_waits,
        receiver: f.receiver.then(|| ReceiverFacts {
            status: "streaming".to_owned(),
            last_message_ms: if f.hears { 0 } else { LONG_MS },
        }),
        primary_conninfo: f
            .target
            .map(|t| conninfo(&follow_target(index, t)))
            .unwrap_or_default(),
        primary_slot: slot_name(&name(index)),
        sync_names: names_text(f.names),
        setting: f.setting.into(),
        checkpointed: f.checkpointed,
        // A checkpoint that is asked for has ended by the next look.
        checkpoint_redo: (!f.in_recovery).then_some(lsn(f.lsn)),
        standbys: standbys.collect(),
        slots: slots.collect(),
        rebuild: f.rebuild.into(),
        config_hash: hash.to_owned(),
        pending_restart: Vec::new(),
        hot_standby: Default::default(),
        started_at: Timestamp::default(),
        // Made in one transaction with the first mark.
        has_replication_role: f.history > 0,
        has_register: f.history > 0,
    }
}
