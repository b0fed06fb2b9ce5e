//! Runs the checker and says what it did.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Bounds, Protocol};
use crate::mutation::Mutation;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// The longest run.
    pub depth: usize,
    /// Every state within the bounds was looked at.
    pub exhausted: bool,
    /// How long it took.
    pub took: Duration,
    /// What is violated, and the steps that lead there.
    pub counterexample: Option<(String, String)>,
}

/// Explores, breadth first, until everything was seen, something is violated, or the time is over.
pub fn check(bounds: Bounds, mutation: Option<Mutation>, limit: Duration, threads: usize) -> Report {
    let started = Instant::now();
    let checker = Protocol::new(bounds, mutation)
        .checker()
        .threads(threads)
        .timeout(limit)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let took = started.elapsed();
    let counterexample = checker.discoveries().into_iter().next().map(|(name, path)| {
        let mut text = String::new();
        let model = checker.model();
        let mut state = model.initial().clone();
        let _ = writeln!(text, "{state:?}");
        for step in path.into_actions() {
            state = model.after(&state, step);
            let _ = writeln!(text, "--> {step:?}\n{state:?}");
        }
        (name.to_owned(), text)
    });
    Report {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        exhausted: counterexample.is_none() && checker.is_done() && took < limit,
        took,
        counterexample,
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.exhausted {
            "exhausted"
        } else {
            "bounded by time"
        };
        let seconds = self.took.as_secs_f64();
        match &self.counterexample {
            Some((what, _)) => write!(f, "VIOLATED: {what}; {} states, {seconds:.1} s", self.states),
            None => write!(
                f,
                "{} states, depth {}, {how}, {seconds:.1} s",
                self.states, self.depth
            ),
        }
    }
}
