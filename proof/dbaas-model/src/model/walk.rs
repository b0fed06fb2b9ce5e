//! Runs through the model that the checker does not make: at random, and fair ones without faults.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use dbaas_core::cluster::ClusterPhase;
use stateright::Model as _;

use crate::node;
use crate::sight::Sight;
use crate::wal::Entry;
use crate::world::{Budget, Controller, MOST_NODES, Sickness, State, Violation};

use super::{Protocol, Step};

/// Rounds in which a fault-free run has to have become writable.
const ROUNDS: usize = 60;

impl Protocol {
    /// Steps at random, from a seed, until nothing is possible any more or something is violated.
    pub fn walk(&self, seed: u64, most: usize) -> (State, Vec<Step>) {
        let (mut state, mut way, mut steps) = (self.initial.clone(), Vec::new(), Vec::new());
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut left = 4 * most;
        while left > 0 && way.len() < most && state.violation.is_none() && self.within_boundary(&state) {
            steps.clear();
            left -= 1;
            // One look in two turns out clear, so that things get on.
            let sight = match draw(&mut random, 2 * self.sights.len()) {
                n if n < self.sights.len() => self.sights[n],
                _ => self.sights[0],
            };
            self.controller_steps(&state, &[sight], &mut steps);
            self.node_steps(&state, &mut steps);
            if steps.is_empty() {
                continue;
            }
            let choice = draw(&mut random, steps.len());
            state = self.after(&state, steps[choice]);
            way.push(steps[choice]);
        }
        (state, way)
    }

    /// The state after a step.
    pub fn after(&self, state: &State, step: Step) -> State {
        let mut next = state.clone();
        self.apply(&mut next, step);
        self.settle(&mut next);
        if self.bounds.liveness && next.violation.is_none() {
            let (converges, last) = self.converge(&next);
            if !converges {
                next.violate(last.violation.unwrap_or(Violation::Stuck));
            }
        }
        next
    }

    /// A fair run without further faults, in which what is frozen, or serves nobody, stays so: whether it
    /// becomes writable with everything as asked for, and where it ends.
    pub fn converge(&self, from: &State) -> (bool, State) {
        let mut state = from.clone();
        state.cut = 0;
        state.budget = Budget::default();
        for act in std::mem::take(&mut state.strays) {
            node::perform(&mut state, act, self.mutation);
        }
        state.controllers.fill(Controller::Idle);
        let mut way = Vec::new();
        for _ in 0..ROUNDS {
            while self.passes_time(&mut state) {}
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let here = hasher.finish();
            way.push(here);
            if state.record.epoch() > Entry::NEWEST_EPOCH {
                // It goes on where no log of the model can follow: nothing can be said of it.
                return (true, state);
            }
            let decision = self.decide(&state, Sight::CLEAR);
            let idle = decision.record.is_none() && decision.acts.is_empty();
            if self.good.lock().contains(&here) || (idle && is_writable(&state)) {
                self.good.lock().extend(way);
                return (true, state);
            }
            if idle || state.violation.is_some() {
                return (false, state);
            }
            self.look(&mut state, 0, Sight::CLEAR, false);
            if let Controller::Acting(acts) = std::mem::replace(&mut state.controllers[0], Controller::Idle) {
                for act in acts {
                    node::perform(&mut state, act, self.mutation);
                }
            }
        }
        (false, state)
    }

    /// Everything that happens by itself. Whether something did.
    fn passes_time(&self, state: &mut State) -> bool {
        let before = state.nodes;
        for i in 0..MOST_NODES {
            if node::can_finish(state, i) {
                node::finish(state, i);
            }
            if node::is_disconnect_due(state, i) {
                node::disconnect(state, i);
            }
            for s in 0..MOST_NODES {
                if node::is_walsender_due(state, i, s) {
                    state.nodes[i].reports[s] = None;
                }
            }
            if state.nodes[i].runs() {
                state.nodes[i].replayed = state.nodes[i].wal.len();
            }
            if node::can_connect(state, i) {
                node::connect(state, i);
            }
            if let Some(t) = state.nodes[i].receiver {
                while node::receive(state, i, t.node.into()) {}
            }
        }
        self.settle(state);
        state.nodes != before
    }
}

/// Its primary takes a commit and has it acknowledged.
fn is_writable(state: &State) -> bool {
    let Some(cluster) = &state.record.get().cluster else {
        return false;
    };
    let n = &state.nodes[crate::record::index(cluster.primary)];
    let voters = (0..MOST_NODES).filter(|s| n.names.voters & (1 << s) != 0);
    let held = voters
        .filter(|s| n.reports[*s].is_some_and(|r| r.epoch == n.names.epoch && r.flushed == n.wal.len()));
    cluster.phase == ClusterPhase::Steady
        && !cluster.is_joint()
        && n.is_writable()
        && n.sick == Sickness::Well
        && held.count() >= usize::from(n.names.k)
}

/// A number below `bound` (xorshift64*).
fn draw(random: &mut u64, bound: usize) -> usize {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
}
