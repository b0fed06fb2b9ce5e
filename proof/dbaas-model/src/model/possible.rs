//! Which steps are possible in a state.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::node;
use crate::sight::Sight;
use crate::world::{Controller, Data, MOST_NODES, Power, Sickness, State};

use super::{Bounds, Protocol, Step};

impl Protocol {
    pub(super) fn controller_steps(&self, state: &State, sights: &[Sight], steps: &mut Vec<Step>) {
        for (c, controller) in state.controllers.iter().enumerate() {
            if c > 0 && state.controllers[c - 1] == *controller {
                continue; // They are alike.
            }
            let c = c as u8;
            match controller {
                Controller::Idle => {
                    let mut seen: Vec<u64> = Vec::new();
                    let mut looks: Vec<Sight> = Vec::with_capacity(self.sights.len());
                    for sight in sights {
                        let sight = &self.sharpen(state, *sight);
                        if sight.is_clouded() && state.budget.clouded == 0 {
                            continue;
                        }
                        if looks.contains(sight) {
                            continue;
                        }
                        looks.push(*sight);
                        let decision = self.decide(state, *sight);
                        if decision.is_explained && decision.record.is_none() && decision.acts.is_empty() {
                            continue;
                        }
                        let mut hasher = DefaultHasher::new();
                        // Giving up a primary that is heard is another thing than giving up one that is not.
                        (&decision, sight.heard).hash(&mut hasher);
                        let key = hasher.finish();
                        if seen.contains(&key) {
                            continue;
                        }
                        seen.push(key);
                        steps.push(Step::Look(c, *sight, false));
                        if state.budget.delays > 0 && decision.record.is_some() {
                            steps.push(Step::Look(c, *sight, true));
                        }
                    }
                }
                Controller::Decided { .. } => {
                    steps.push(Step::Write(c));
                    steps.push(Step::Restart(c));
                }
                Controller::Acting(acts) => {
                    steps.push(Step::Do(c));
                    if acts.len() > 1 && state.budget.losses > 0 {
                        steps.push(Step::Lose(c));
                    }
                    if state.budget.delays > 0 {
                        steps.push(Step::DoTwice(c));
                        steps.push(Step::Defer(c));
                    }
                    if state.budget.losses > 0 {
                        steps.push(Step::Restart(c));
                    }
                }
            }
        }
        for i in 0..state.strays.len() as u8 {
            steps.push(Step::Arrive(i));
        }
        for r in (0..self.bounds.requests.len()).filter(|r| state.budget.requests & (1 << r) != 0) {
            steps.push(Step::Ask(r as u8));
        }
    }

    /// The same look without what makes no difference.
    pub(super) fn sharpen(&self, state: &State, mut sight: Sight) -> Sight {
        let answering = (0..MOST_NODES)
            .filter(|i| state.nodes[*i].runs())
            .fold(0, |bits, i| bits | 1 << i);
        sight.unheard &= answering;
        let all = state.nodes.iter().enumerate().all(|(i, n)| {
            let heard = n.runs() && sight.unheard & (1 << i) == 0;
            !n.exists || (heard && n.sick == Sickness::Well)
        });
        if all {
            sight.silent_long = false;
        }
        sight.heard &= sight.silent_long;
        sight
    }

    pub(super) fn node_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let budget = &state.budget;
        for i in (0..MOST_NODES).filter(|i| state.nodes[*i].exists) {
            let n = &state.nodes[i];
            let at = i as u8;
            if n.is_writable() && budget.commits > 0 {
                steps.push(Step::Commit(at));
            }
            if n.receiver
                .is_some_and(|t| node::can_receive(state, i, t.node.into()))
            {
                steps.push(Step::Receive(at));
            }
            if budget.parts > 0 && node::can_receive_part(state, i) {
                steps.push(Step::ReceivePart(at));
            }
            if self.bounds.lazy {
                self.lazy_steps(state, i, steps);
            } else if node::is_disconnect_due(state, i) && n.receiver == n.target {
                steps.push(Step::Disconnect(at));
            }
            for s in (0..MOST_NODES).filter(|s| node::is_walsender_due(state, i, *s)) {
                steps.push(Step::WalsenderEnds(at, s as u8));
            }
            if node::can_finish(state, i) {
                steps.push(Step::Prepared(at));
            }
            let up = matches!(n.power, Power::Running | Power::Frozen | Power::Preparing(_));
            if up && budget.crashes > 0 {
                steps.push(Step::Crash(at));
            }
            if n.power == Power::Running && budget.freezes > 0 {
                steps.push(Step::Freeze(at));
            }
            if n.is_writable() && n.sick == Sickness::Well && budget.sicknesses > 0 {
                steps.extend([Step::Sicken(at, false), Step::Sicken(at, true)]);
            }
            if n.power == Power::Frozen {
                steps.push(Step::Thaw(at));
            }
            let off = matches!(n.power, Power::Off | Power::Died);
            if off && n.started && n.data == Data::Full && budget.self_starts > 0 {
                steps.push(Step::SelfStart(at));
            }
            // Two copies at once are outside the promise of one replica: every other node's is whole at that
            // moment.
            let others_are_whole = (0..MOST_NODES).filter(|j| *j != i).all(|j| {
                let other = &state.nodes[j];
                !other.exists || (other.data == Data::Full && !matches!(other.power, Power::Preparing(_)))
            });
            if budget.disk_losses > 0 && n.data != Data::Empty && others_are_whole {
                steps.push(Step::LoseDisk(at));
            }
            for j in (i + 1..MOST_NODES).filter(|j| state.nodes[*j].exists) {
                if !state.linked(i, j) {
                    steps.push(Step::Heal(at, j as u8));
                } else if budget.cuts > 0 {
                    steps.push(Step::Cut(at, j as u8));
                }
            }
        }
    }

    pub(super) fn lazy_steps(&self, state: &State, i: usize, steps: &mut Vec<Step>) {
        let (n, at) = (&state.nodes[i], i as u8);
        if n.runs() && !n.primary && n.replayed < n.wal.len() {
            steps.push(Step::Replay(at));
        }
        if node::can_connect(state, i) {
            steps.push(Step::Connect(at));
        }
        if node::is_disconnect_due(state, i) {
            steps.push(Step::Disconnect(at));
        }
    }
}

pub(super) fn sights(bounds: &Bounds) -> Vec<Sight> {
    let mut sights = Vec::new();
    for (silent_long, gone_long) in [(true, false), (false, false), (true, true)] {
        for unheard in 0u8..1 << MOST_NODES {
            if unheard.count_ones() > bounds.unheard {
                continue;
            }
            let sight = Sight {
                unheard,
                blind: false,
                silent_long,
                heard: false,
                gone_long,
            };
            sights.push(sight);
            if bounds.blind {
                sights.push(Sight { blind: true, ..sight });
            }
            if bounds.heard && silent_long {
                sights.push(Sight { heard: true, ..sight });
            }
        }
    }
    sights
}
