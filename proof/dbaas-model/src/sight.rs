//! What a controller sees of the world: the planner's own observation, made from the abstract nodes.

use dbaas_core::boot_plan::conninfo;
use dbaas_core::cluster::{Epoch, Lsn, slot_name, standby_name};
use dbaas_core::config::HbaRules;
use dbaas_core::config::sync_names;
use dbaas_core::detector::{self, Look, Outcome, Trial};
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{
    DataState, Endpoint, Exit, ExitReason, NodeRef, NodeSpec, ObservedNode, PowerState,
};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::{
    FollowTarget, NodeFacts, Observation, ReceiverFacts, Silence, SlotFacts, StandbyFacts, Unfit, UnfitKind,
};
use dbaas_core::patience::{TRIAL_AGAIN_MOST_MS, UNFIT_TRIALS};
use dbaas_core::plan::desired_configuration;
use dbaas_core::steady::Steady;
use dbaas_core::time::Timestamp;

use crate::record::{id, index, small};
use crate::world::{Data, MOST_NODES, Names, Node, Power, Report, Sickness, State, Target};

/// Longer than every patience of the policy.
const LONG_MS: u64 = 3_600_000;

/// How a look turns out: whatever the world is like, it may turn out in any of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sight {
    /// PostgreSQL on these nodes (bits) does not answer this controller.
    pub unheard: u8,
    /// The infrastructure does not answer.
    pub blind: bool,
    /// What is silent has been so for long, as has a primary that serves nobody, and standbys have not heard
    /// from their primary for long.
    pub silent_long: bool,
    /// But for standbys that receive: they have just heard from their primary.
    pub heard: bool,
    /// What does not stream has not done so for long, and what waits for the rest of an entry does so for
    /// long.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
    pub sick: Sickness,
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
        sick: if n.primary { n.sick } else { Sickness::Well },
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

/// The observation that the planner is given: what the shipped failure detector makes of looks that lead to
/// this sight. Long ago everything was as it is now; what has not been so for long was well a moment ago. So
/// the history that the detector remembers is the worst that a sight allows, and a state needs no memory.
pub fn observation(record: &InstanceRecord, views: &[View; MOST_NODES], sight: Sight) -> Observation {
    let mut memory = detector::Memory::default();
    let (long_ago, now) = (Steady::from_ms(0), Steady::from_ms(LONG_MS));
    let look = look_of(record, views, sight);
    detector::update(&mut memory, record, look.clone(), long_ago);
    if !sight.silent_long || !sight.gone_long {
        let before = well_before(record, look.clone(), sight);
        detector::update(&mut memory, record, before, now);
    }
    if let Some(cluster) = &record.cluster {
        let (primary, view) = (cluster.primary, &views[index(cluster.primary)]);
        let first = if sight.silent_long { long_ago } else { now };
        try_service(&mut memory, primary, view, first);
    }
    detector::update(&mut memory, record, look, now)
}

/// What is seen in one look.
fn look_of(record: &InstanceRecord, views: &[View; MOST_NODES], sight: Sight) -> Look {
    let known = |i: usize| record.node(id(i)).is_some();
    let hash = desired_configuration(record, &HbaRules::loopback(), id(0)).hash();
    let there = || views.iter().enumerate().filter(|(i, v)| v.exists || known(*i));
    let infrastructure = if sight.blind {
        Err("no answer".to_owned())
    } else {
        let exist = there().filter(|(_, view)| view.exists);
        let found: Vec<ObservedNode> = exist.map(|(i, view)| infra(record, i, view)).collect();
        Ok(found.into())
    };
    let sql = there().map(|(i, view)| {
        let answer = match &view.facts {
            Some(f) => Ok(node_facts(record, i, f, &hash)),
            None if view.power == Seeming::Running || view.power == Seeming::Frozen => Err(Silence::Timeout),
            None => Err(Silence::NotAsked),
        };
        (id(i), answer)
    });
    Look {
        at: Timestamp::default(),
        infrastructure,
        sql: sql.collect(),
        catalogue: None,
    }
}

/// The look a moment earlier, in which what has not been as it is for long was well: it answered, it
/// streamed, its replay was elsewhere.
fn well_before(record: &InstanceRecord, mut look: Look, sight: Sight) -> Look {
    let hash = desired_configuration(record, &HbaRules::loopback(), id(0)).hash();
    let epoch = record.cluster.as_ref().map_or(0, |c| small(c.epoch.0));
    let primary = record.cluster.as_ref().map(|c| c.primary);
    for (node, answer) in &mut look.sql {
        let keeps = if answer.is_err() {
            sight.silent_long
        } else {
            sight.gone_long
        };
        if keeps {
            continue;
        }
        let serves = Some(*node) == primary && !sight.gone_long;
        let report = serves.then_some(Report { epoch, flushed: 1 });
        let facts = Facts {
            in_recovery: !serves,
            epoch,
            history: epoch,
            reports: [report; MOST_NODES],
            ..Facts::default()
        };
        *answer = Ok(node_facts(record, index(*node), &facts, &hash));
    }
    look
}

/// What a client got from this primary: tried often enough, from this moment on, if it would get nothing.
fn try_service(memory: &mut detector::Memory, node: NodeId, view: &View, first: Steady) {
    let kind = match view.facts.map(|f| f.sick) {
        Some(Sickness::Stuck) => UnfitKind::NoCommit,
        Some(Sickness::Damaged) => UnfitKind::Damaged,
        Some(Sickness::Well) | None => return,
    };
    let mut began = first;
    for _ in 0..UNFIT_TRIALS {
        if !memory.begin_trial(node, began) {
            return;
        }
        let message = "no luck".to_owned();
        let outcome = Outcome::Failed(Unfit { kind, message });
        let trial = Trial { node, began, outcome };
        memory.end_trial(trial, began, 0);
        began = began.plus_ms(TRIAL_AGAIN_MOST_MS);
    }
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
        applied: Some(NodeSpec::new(
            node,
            name(index),
            record.spec.image.clone(),
            record.spec.resources,
        )),
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
