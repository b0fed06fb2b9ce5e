//! The model: which steps are possible, and what they lead to.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use dbaas_core::cluster::ClusterPhase;
use dbaas_core::instance::SwitchoverRequest;
use dbaas_core::size::{NodeCount, SyncReplicas};
use dbaas_core::time::Timestamp;
use parking_lot::Mutex;
use stateright::{Model, Property};

use crate::mutation::{Guard, Mutation};
use crate::node;
use crate::planner::{Decision, Planner};
use crate::record::Rec;
use crate::sight::{Sight, look};
use crate::wal::Entry;
use crate::world::{Budget, Controller, Data, MOST_NODES, Node, Power, State, Violation, link};

/// A user's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Change the primary.
    Switchover,
    /// So many nodes.
    Nodes(u8),
    /// So many synchronous replicas.
    Replicas(u8),
}

/// What is explored.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Nodes at first.
    pub nodes: u8,
    /// Synchronous replicas at first.
    pub k: u8,
    /// Controllers.
    pub controllers: u8,
    /// Epochs beyond this are not explored.
    pub epochs: u8,
    /// Faults and commits.
    pub budget: Budget,
    /// Each at most once, at any time.
    pub requests: Vec<Request>,
    /// At most so many nodes do not answer in a look.
    pub unheard: u32,
    /// Looks at the infrastructure may fail.
    pub blind: bool,
    /// Standbys may hear from a primary that a controller has not heard from for long.
    pub heard: bool,
    /// Replay and connections take time of their own.
    pub lazy: bool,
    /// Begin before the instance is made.
    pub from_empty: bool,
    /// Steps taken before the exploration begins, for what lies too deep otherwise.
    pub prologue: Vec<Step>,
    /// From each state a run without further faults becomes writable.
    pub liveness: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            nodes: 3,
            k: 1,
            controllers: 1,
            epochs: 3,
            budget: Budget {
                commits: 2,
                crashes: 1,
                ..Budget::default()
            },
            requests: Vec::new(),
            unheard: 1,
            blind: false,
            heard: false,
            lazy: false,
            from_empty: false,
            prologue: Vec::new(),
            liveness: false,
        }
    }
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A controller looks and decides; if it is not paused then, it writes in the same step.
    Look(u8, Sight, bool),
    /// It writes what it decided before its pause.
    Write(u8),
    /// It crashes, and forgets what it was about to do.
    Restart(u8),
    /// It does its next action.
    Do(u8),
    /// Its next action never arrives.
    Lose(u8),
    /// Its next action is done, and will be done once more at any later time.
    DoTwice(u8),
    /// Its next action is delayed: it is done at any later time, or never.
    Defer(u8),
    /// A delayed action is done.
    Arrive(u8),
    /// A client commits.
    Commit(u8),
    /// A standby receives the next entry.
    Receive(u8),
    /// A standby replays what it has.
    Replay(u8),
    /// A standby connects.
    Connect(u8),
    /// A walreceiver ends.
    Disconnect(u8),
    /// A walsender ends.
    WalsenderEnds(u8, u8),
    /// A preparation ends.
    Prepared(u8),
    /// A node crashes.
    Crash(u8),
    /// A node freezes.
    Freeze(u8),
    /// A node goes on.
    Thaw(u8),
    /// A link is cut.
    Cut(u8, u8),
    /// A link heals.
    Heal(u8, u8),
    /// A node starts by itself.
    SelfStart(u8),
    /// A node and its disk are gone.
    LoseDisk(u8),
    /// A user asks.
    Ask(u8),
}

/// Rounds in which a fault-free run has to have become writable.
const ROUNDS: usize = 60;

/// The model.
#[derive(Debug)]
pub struct Protocol {
    bounds: Bounds,
    mutation: Option<Mutation>,
    planner: Planner,
    sights: Vec<Sight>,
    initial: State,
    /// Fingerprints of states from which a fair run becomes writable.
    good: Mutex<HashSet<u64>>,
}

impl Protocol {
    /// A model of what ships, or of a mutation.
    pub fn new(bounds: Bounds, mutation: Option<Mutation>) -> Self {
        let sights = sights(&bounds);
        let mut initial = State {
            record: Rec::created(bounds.nodes, bounds.k),
            nodes: [Node::default(); MOST_NODES],
            controllers: vec![Controller::Idle; usize::from(bounds.controllers)],
            strays: Vec::new(),
            cut: 0,
            budget: Budget::default(),
            acknowledged: 0,
            acknowledger: [0; 8],
            promoted: [0; 8],
            violation: None,
        };
        let mut model = Protocol {
            planner: Planner::new(mutation),
            sights,
            mutation,
            initial: initial.clone(),
            good: Mutex::default(),
            bounds,
        };
        if !model.bounds.from_empty {
            initial = model.converge(&initial).1;
        }
        initial.budget = model.bounds.budget;
        initial.budget.requests = ((1u16 << model.bounds.requests.len()) - 1) as u8;
        for step in model.bounds.prologue.clone() {
            initial = model.after(&initial, step);
        }
        model.initial = initial;
        model
    }

    /// The state in which it begins.
    pub fn initial(&self) -> &State {
        &self.initial
    }

    /// What a controller decides.
    pub fn decide(&self, state: &State, sight: Sight) -> std::sync::Arc<Decision> {
        self.planner.decide(&state.record, &look(state, sight), sight)
    }

    fn lacks(&self, guard: Guard) -> bool {
        self.mutation.is_some_and(|m| m.removes(guard))
    }

    /// Every commit counts, also one acknowledged without waiting, where a replica was promised all the time.
    fn promises(&self) -> bool {
        self.bounds.k > 0 && !self.bounds.requests.contains(&Request::Replicas(0))
    }

    fn controller_steps(&self, state: &State, sights: &[Sight], steps: &mut Vec<Step>) {
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
    fn sharpen(&self, state: &State, mut sight: Sight) -> Sight {
        let answering = (0..MOST_NODES)
            .filter(|i| state.nodes[*i].runs())
            .fold(0, |bits, i| bits | 1 << i);
        sight.unheard &= answering;
        let all = state
            .nodes
            .iter()
            .enumerate()
            .all(|(i, n)| !n.exists || (n.runs() && sight.unheard & (1 << i) == 0));
        if all {
            sight.silent_long = false;
        }
        sight.heard &= sight.silent_long;
        sight
    }

    fn node_steps(&self, state: &State, steps: &mut Vec<Step>) {
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
            if n.power == Power::Frozen {
                steps.push(Step::Thaw(at));
            }
            let off = matches!(n.power, Power::Off | Power::Died);
            if off && n.started && n.data == Data::Full && budget.self_starts > 0 {
                steps.push(Step::SelfStart(at));
            }
            if budget.disk_losses > 0 && n.data != Data::Empty {
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

    fn lazy_steps(&self, state: &State, i: usize, steps: &mut Vec<Step>) {
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

    fn apply(&self, state: &mut State, step: Step) {
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

    fn look(&self, state: &mut State, c: usize, sight: Sight, pause: bool) {
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

    fn write(&self, state: &mut State, c: usize, record: Option<Rec>, acts: Vec<crate::world::Act>) {
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

    fn store(&self, state: &mut State, record: Rec) {
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
    fn settle(&self, state: &mut State) {
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

    /// A fair run without further faults, in which what is frozen stays so: whether it becomes writable with everything as asked for, and where it ends.
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

/// Something that was to be done is not.
fn lose(budget: &mut Budget) {
    if budget.losses < u8::MAX {
        budget.losses -= 1;
    }
}

/// Its primary runs, and a standby that answers in this look receives from it.
fn is_heard_of(state: &State, sight: Sight) -> bool {
    let Some(primary) = state.record.primary().filter(|p| state.nodes[*p].is_writable()) else {
        return false;
    };
    state.nodes.iter().enumerate().any(|(s, n)| {
        let receives = n.receiver.is_some_and(|t| usize::from(t.node) == primary);
        n.runs() && receives && state.linked(s, primary) && sight.unheard & (1 << s) == 0
    })
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
        && held.count() >= usize::from(n.names.k)
}

/// A number below `bound` (xorshift64*).
fn draw(random: &mut u64, bound: usize) -> usize {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
}

fn sights(bounds: &Bounds) -> Vec<Sight> {
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

macro_rules! never {
    ($name:literal, $violation:pat) => {
        Property::always($name, |_: &Protocol, state: &State| {
            !matches!(state.violation, Some($violation))
        })
    };
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial.clone()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.violation.is_some() {
            return;
        }
        self.controller_steps(state, &self.sights, steps);
        self.node_steps(state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = self.after(state, step);
        (next != *state).then_some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.record.epoch() <= self.bounds.epochs
            && state.nodes.iter().all(|n| n.wal.len() < crate::wal::Wal::MOST)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            never!("no acknowledged commit is lost", Violation::CommitLost),
            never!(
                "one node acknowledges per epoch, none in an older one",
                Violation::TwoAcknowledge
            ),
            never!("an epoch is never reused", Violation::EpochReused),
            never!(
                "a node that has not caught up does not count",
                Violation::FalseAcknowledgement
            ),
            never!(
                "what passes for the primary's history is nothing else",
                Violation::Diverged
            ),
            never!(
                "every acknowledgement is covered by an electorate of the record",
                Violation::Uncovered
            ),
            never!(
                "the last good copy is never destroyed",
                Violation::LastCopyDestroyed
            ),
            never!(
                "a primary that its standbys hear is left alone",
                Violation::NeedlessFailover
            ),
            never!("what does not serve says why", Violation::NoReason),
            never!("without further faults it becomes writable", Violation::Stuck),
        ]
    }
}
