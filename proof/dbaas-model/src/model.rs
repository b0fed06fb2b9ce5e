//! The model: its bounds, its steps and what has to hold. Which steps are possible in a state: `possible`;
//! what they lead to: `applied`; runs that the checker does not make by itself: `walk`.

use std::collections::HashSet;

use parking_lot::Mutex;
use stateright::{Model, Property};

use crate::mutation::{Guard, Mutation};
use crate::planner::{Decision, Planner};
use crate::record::Rec;
use crate::sight::{Sight, look};
use crate::world::{Budget, Controller, MOST_NODES, Node, State, Violation};

mod applied;
mod possible;
mod walk;

use possible::sights;

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
    /// It receives a part of an entry.
    ReceivePart(u8),
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
    /// A primary serves nobody any more; for good, until it gets other data?
    Sicken(u8, bool),
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
