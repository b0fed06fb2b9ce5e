//! The failure detector: holds what is seen against what was seen before, and says for how long things have
//! been as they are. Pure: what is remembered, what was seen and the time come in, the [`Observation`] that
//! the planner judges comes out. The controller, the simulation and the model checker run this same code.
//!
//! What is remembered is needed by nobody after a crash: it makes judgements better (for how long has the
//! primary been silent?) and repeated failures rarer. It starts from nothing, and then every time counts from
//! the first look.

mod backoff;
mod fitness;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::standby_name;
use crate::id::NodeId;
use crate::infrastructure::{ObservedNode, ObservedNodes, PowerState};
use crate::instance::InstanceRecord;
use crate::observation::{CatalogueFacts, NodeFacts, NodeObservation, Observation, Seen, Silence};
use crate::steady::Steady;
use crate::time::Timestamp;

pub use backoff::Backoff;
use fitness::Trials;
pub use fitness::{Outcome, Trial, is_damage, outcome_of};
pub use node::NodeMemory;

/// What was seen, before it is held against what is remembered.
#[derive(Debug, Clone)]
pub struct Look {
    /// The time of day, for the record.
    pub at: Timestamp,
    /// The infrastructure's word, or why there is none.
    pub infrastructure: Result<ObservedNodes, String>,
    /// What PostgreSQL on each node that was asked said.
    pub sql: BTreeMap<NodeId, Result<NodeFacts, Silence>>,
    /// Roles and databases, if they were looked at.
    pub catalogue: Option<CatalogueFacts>,
}

/// What is remembered of an instance.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Boxed: a map has room for eleven.
    nodes: BTreeMap<NodeId, Box<NodeMemory>>,
    trials: Trials,
}

impl Memory {
    /// What is remembered of a node; nothing yet where it was not seen before.
    pub fn node(&mut self, id: NodeId) -> &mut NodeMemory {
        self.nodes.entry(id).or_default()
    }

    /// A node that was seen before.
    pub fn known(&mut self, id: NodeId) -> Option<&mut NodeMemory> {
        self.nodes.get_mut(&id).map(Box::as_mut)
    }

    /// Nodes that did not answer in the last look.
    pub fn silent(&self) -> Vec<NodeId> {
        let silent = self.nodes.iter().filter(|(_, node)| node.is_silent());
        silent.map(|(id, _)| *id).collect()
    }

    /// A start of a node was ordered.
    pub fn started(&mut self, id: NodeId, now: Steady, jitter_ms: u64) {
        self.node(id).started(now, jitter_ms);
        self.trials.forget(id);
    }

    /// Whether what a client gets is to be tried at this node now; if so a trial is begun.
    pub fn begin_trial(&mut self, id: NodeId, now: Steady) -> bool {
        self.trials.begin(id, now)
    }

    /// A trial has ended. `every_ms`: until the next one if it went well. Whether it did.
    pub fn end_trial(&mut self, trial: Trial, now: Steady, every_ms: u64) -> bool {
        self.trials.end(trial, now, every_ms)
    }
}

/// Holds a look against what is remembered.
pub fn update(memory: &mut Memory, record: &InstanceRecord, look: Look, now: Steady) -> Observation {
    let mut observation = Observation::empty(look.at);
    observation.catalogue = look.catalogue;
    let mut found: BTreeMap<NodeId, ObservedNode> = BTreeMap::new();
    let mut out_of_sight = BTreeSet::new();
    match look.infrastructure {
        Ok(nodes) => {
            found.extend(nodes.found.into_iter().map(|n| (n.node.node, n)));
            out_of_sight.extend(nodes.unknown);
        }
        Err(error) => observation.infrastructure_error = Some(error),
    }
    let blind = observation.infrastructure_error.is_some();
    let mut sql = look.sql;
    let epoch = record.cluster.as_ref().map(|c| c.epoch).unwrap_or_default();
    let primary = record.cluster.as_ref().map(|c| c.primary);
    let primary_facts = primary
        .and_then(|id| sql.get(&id))
        .and_then(|answer| answer.as_ref().ok())
        .cloned();
    let primary_serves = primary_facts.as_ref().is_some_and(|f| !f.in_recovery);
    let ids: Vec<NodeId> = record
        .nodes
        .iter()
        .map(|n| n.id)
        .chain(found.keys().copied())
        .chain(out_of_sight.iter().copied())
        .collect();
    for id in ids {
        if observation.nodes.contains_key(&id) {
            continue;
        }
        let infra = match found.remove(&id) {
            Some(node) => Seen::Present(node),
            None if blind || out_of_sight.contains(&id) => Seen::Unknown,
            None => Seen::Absent,
        };
        let mut answer = sql.remove(&id).unwrap_or(Err(Silence::NotAsked));
        let runs = infra.present().is_some_and(|n| n.power == PowerState::Running);
        let is_primary = primary == Some(id) && answer.as_ref().is_ok_and(|f| !f.in_recovery);
        // A row of a node whose data is of another history tells nothing.
        let ours = answer.as_ref().ok().is_none_or(|f| f.history == epoch);
        let name = record.node(id).map(|n| standby_name(&n.name, epoch));
        let streams = ours
            && name
                .zip(primary_facts.as_ref())
                .is_some_and(|(name, primary)| primary.streaming(&name).is_some());
        let node = memory.nodes.entry(id).or_default();
        if let Ok(facts) = &mut answer {
            facts.replay_waits = node.replay_waits(facts);
        }
        let silent_ms = node.silent_ms(now, answer.is_ok());
        // Without a primary nobody streams: that is not this node's fault. Nor does the primary itself.
        let excused = is_primary || (primary_facts.is_none() && runs);
        let not_streaming_ms = node.not_streaming_ms(now, streams, excused);
        let could_stream = answer.is_ok() && !is_primary && primary_serves;
        let waiting_ms = node.waiting_ms(now, epoch, could_stream && !streams);
        let behind = answer.as_ref().ok().filter(|f| f.is_behind());
        let stalled_ms = node.stalled_ms(now, behind.map(|f| (f.lsn, f.replay_waits)));
        node.note_well(now, streams || is_primary);
        let fitness = memory.trials.fitness(id, now);
        observation.nodes.insert(
            id,
            NodeObservation {
                infra,
                sql: answer,
                silent_ms,
                not_streaming_ms,
                waiting_ms,
                stalled_ms,
                hold_off_ms: node.hold_off_ms(now),
                last_failure: node.last_failure().cloned(),
                fitness,
            },
        );
    }
    memory.nodes.retain(|id, _| observation.nodes.contains_key(id));
    observation
}
