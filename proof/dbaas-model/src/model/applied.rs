//! What a step leads to.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use dbaas_core::cluster::ClusterPhase;
use dbaas_core::instance::SwitchoverRequest;
use dbaas_core::size::{NodeCount, SyncReplicas};
use dbaas_core::time::Timestamp;

use crate::mutation::Guard;
use crate::node;
use crate::record::Rec;
use crate::sight::Sight;
use crate::wal::Entry;
use crate::world::{Budget, Controller, Data, MOST_NODES, Node, Power, Sickness, State, Violation, link};

use super::{Protocol, Request, Step};

impl Protocol {
    pub(super) fn apply(&self, state: &mut State, step: Step) {
        match step {
            Step::Look(c, sight, pause) => self.look(state, usize::from(c), sight, pause),
            Step::Write(c) => {
                let c = usize::from(c);
                let Controller::Decided { record, acts, stale } =
                    std::mem::replace(&mut state.controllers[c], Controller::Idle)
                else {
                    return;
                };
                if !stale || self.lacks(Guard::Cas) {
                    self.write(state, c, record, acts);
                }
            }
            Step::Restart(c) => {
                let before = std::mem::replace(&mut state.controllers[usize::from(c)], Controller::Idle);
                if matches!(before, Controller::Acting(_)) {
                    lose(&mut state.budget);
                }
            }
            Step::Do(c) | Step::Lose(c) | Step::DoTwice(c) | Step::Defer(c) => {
                let Controller::Acting(acts) = &mut state.controllers[usize::from(c)] else {
                    return;
                };
                let act = acts.remove(0);
                if acts.is_empty() {
                    state.controllers[usize::from(c)] = Controller::Idle;
                }
                if matches!(step, Step::Lose(_)) {
                    lose(&mut state.budget);
                }
                if matches!(step, Step::DoTwice(_) | Step::Defer(_)) {
                    state.budget.delays -= 1;
                    state.strays.push(act);
                    state.strays.sort();
                    state.strays.dedup();
                }
                if matches!(step, Step::Do(_) | Step::DoTwice(_)) {
                    node::perform(state, act, self.mutation);
                }
            }
            Step::Arrive(i) => {
                let act = state.strays.remove(usize::from(i));
                node::perform(state, act, self.mutation);
            }
            Step::Commit(p) => {
                let id = self.bounds.budget.commits - state.budget.commits;
                state.budget.commits -= 1;
                let n = &mut state.nodes[usize::from(p)];
                n.wal.push(Entry::Commit(id));
                n.replayed = n.wal.len();
            }
            Step::Receive(s) => {
                let s = usize::from(s);
                if let Some(t) = state.nodes[s].receiver {
                    node::receive(state, s, t.node.into());
                }
            }
            Step::ReceivePart(s) => {
                state.budget.parts -= 1;
                state.nodes[usize::from(s)].part = true;
            }
            Step::Replay(s) => {
                let n = &mut state.nodes[usize::from(s)];
                n.replayed = n.wal.len();
            }
            Step::Connect(s) => node::connect(state, s.into()),
            Step::Disconnect(s) => node::disconnect(state, s.into()),
            Step::WalsenderEnds(p, s) => state.nodes[usize::from(p)].reports[usize::from(s)] = None,
            Step::Prepared(i) => node::finish(state, i.into()),
            Step::Crash(i) => {
                state.budget.crashes -= 1;
                node::stop(state, i.into(), Power::Died);
            }
            Step::Freeze(i) => {
                state.budget.freezes -= 1;
                state.nodes[usize::from(i)].power = Power::Frozen;
            }
            Step::Sicken(i, damaged) => {
                state.budget.sicknesses -= 1;
                state.nodes[usize::from(i)].sick = if damaged {
                    Sickness::Damaged
                } else {
                    Sickness::Stuck
                };
            }
            Step::Thaw(i) => state.nodes[usize::from(i)].power = Power::Running,
            Step::Cut(a, b) => {
                state.budget.cuts -= 1;
                state.cut |= link(a.into(), b.into());
            }
            Step::Heal(a, b) => state.cut &= !link(a.into(), b.into()),
            Step::SelfStart(i) => {
                state.budget.self_starts -= 1;
                node::self_start(state, i.into(), self.mutation);
            }
            Step::LoseDisk(i) => {
                state.budget.disk_losses -= 1;
                node::stop(state, i.into(), Power::Died);
                state.nodes[usize::from(i)] = Node::default();
            }
            Step::Ask(r) => {
                state.budget.requests &= !(1 << r);
                let request = self.bounds.requests[usize::from(r)];
                let record = state.record.with(|record| match request {
                    Request::Switchover => {
                        record.requests.switchover = Some(SwitchoverRequest {
                            to: None,
                            at: Timestamp::default(),
                            by_controller: false,
                            prepared: false,
                            checkpoint_after: None,
                        });
                    }
                    Request::Nodes(n) => {
                        record.spec.nodes = NodeCount::new(u64::from(n)).unwrap_or(record.spec.nodes);
                    }
                    Request::Replicas(k) => {
                        record.spec.sync_replicas =
                            SyncReplicas::new(u64::from(k)).unwrap_or(record.spec.sync_replicas);
                    }
                });
                self.store(state, record);
            }
        }
    }

    pub(super) fn look(&self, state: &mut State, c: usize, sight: Sight, pause: bool) {
        if sight.is_clouded() {
            state.budget.clouded = state.budget.clouded.saturating_sub(1);
        }
        let decision = self.decide(state, sight);
        if !decision.is_explained {
            state.violate(Violation::NoReason);
        }
        let gives_up = decision
            .record
            .as_ref()
            .is_some_and(|r| r.epoch() > state.record.epoch());
        if gives_up && sight.heard && is_heard_of(state, sight) {
            state.violate(Violation::NeedlessFailover);
        }
        let (record, acts) = (decision.record.clone(), decision.acts.clone());
        if pause {
            state.budget.delays -= 1;
            state.controllers[c] = Controller::Decided {
                record,
                acts,
                stale: false,
            };
        } else {
            self.write(state, c, record, acts);
        }
    }

    pub(super) fn write(
        &self,
        state: &mut State,
        c: usize,
        record: Option<Rec>,
        acts: Vec<crate::world::Act>,
    ) {
        if let Some(record) = record {
            self.store(state, record);
        }
        // Making a node is idempotent and has no bearing on anything else: done at once.
        let (at_once, later): (Vec<_>, Vec<_>) = acts
            .into_iter()
            .partition(|a| matches!(a.what, crate::world::What::Apply | crate::world::What::Checkpoint));
        for act in at_once {
            node::perform(state, act, self.mutation);
        }
        state.controllers[c] = if later.is_empty() {
            Controller::Idle
        } else {
            Controller::Acting(later)
        };
    }

    pub(super) fn store(&self, state: &mut State, record: Rec) {
        if record.epoch() < state.record.epoch() || record.epoch() > state.record.epoch() + 1 {
            state.violate(Violation::EpochReused);
        }
        state.record = record;
        for c in &mut state.controllers {
            if let Controller::Decided { stale, .. } = c {
                *stale = true;
            }
        }
    }

    /// What happens at once after every step, and what is then checked.
    pub(super) fn settle(&self, state: &mut State) {
        if !self.bounds.lazy {
            for s in 0..MOST_NODES {
                if node::is_disconnect_due(state, s) && state.nodes[s].receiver != state.nodes[s].target {
                    node::disconnect(state, s);
                }
                let n = &mut state.nodes[s];
                if n.runs() && !n.primary {
                    n.replayed = n.wal.len();
                }
            }
            for s in 0..MOST_NODES {
                if node::can_connect(state, s) {
                    node::connect(state, s);
                }
            }
        }
        node::acknowledge(state, self.promises(), self.mutation);
        let Some(cluster) = state.record.get().cluster.as_ref() else {
            return;
        };
        let primary = crate::record::index(cluster.primary);
        let n = &state.nodes[primary];
        let holds = |c: u8| state.acknowledged & (1 << c) == 0 || n.wal.holds(c);
        let leads = cluster.phase != ClusterPhase::Sealing
            && n.primary
            && n.data == Data::Full
            && n.epoch == state.record.epoch();
        if leads && !(0..8).all(holds) {
            state.violate(Violation::CommitLost);
        }
        if leads && node::is_diverged(state, primary) {
            state.violate(Violation::Diverged);
        }
        if state.controllers.len() > 1 {
            state.controllers.sort_by_cached_key(|c| {
                let mut hasher = DefaultHasher::new();
                c.hash(&mut hasher);
                hasher.finish()
            });
        }
    }
}

/// Something that was to be done is not.
fn lose(budget: &mut Budget) {
    if budget.losses < u8::MAX {
        budget.losses -= 1;
    }
}

/// Its primary serves, and a standby that answers in this look receives from it.
fn is_heard_of(state: &State, sight: Sight) -> bool {
    let serves = |p: &usize| state.nodes[*p].is_writable() && state.nodes[*p].sick == Sickness::Well;
    let Some(primary) = state.record.primary().filter(serves) else {
        return false;
    };
    state.nodes.iter().enumerate().any(|(s, n)| {
        let receives = n.receiver.is_some_and(|t| usize::from(t.node) == primary);
        n.runs() && receives && state.linked(s, primary) && sight.unheard & (1 << s) == 0
    })
}
