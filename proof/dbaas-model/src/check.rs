//! Runs the checker and says what it did.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Bounds, Protocol, Step};
use crate::mutation::Mutation;
use crate::world::Violation;

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
        let (_, text) = trace(checker.model(), path.into_actions());
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

/// Walks at random, for configurations too large to exhaust: runs of at most `most` steps from consecutive
/// seeds, until the time is over. `states` is then the number of steps, `depth` that of the longest run.
pub fn walk(
    bounds: Bounds,
    mutation: Option<Mutation>,
    limit: Duration,
    threads: usize,
    seed: u64,
    most: usize,
) -> Report {
    let started = Instant::now();
    let model = Protocol::new(bounds, mutation);
    let (next, steps, depth) = (AtomicU64::new(seed), AtomicUsize::new(0), AtomicUsize::new(0));
    let found: Mutex<Option<(u64, Vec<Step>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.elapsed() < limit && found.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (last, way) = model.walk(seed, most);
                    steps.fetch_add(way.len(), Ordering::Relaxed);
                    depth.fetch_max(way.len(), Ordering::Relaxed);
                    if last.violation.is_some() {
                        found.lock().get_or_insert((seed, way));
                    }
                }
            });
        }
    });
    let counterexample = found.into_inner().map(|(seed, mut way)| {
        shorten(&model, &mut way);
        let (what, text) = trace(&model, way);
        (what, format!("seed {seed}\n{text}"))
    });
    Report {
        states: steps.into_inner(),
        depth: depth.into_inner(),
        exhausted: false,
        took: started.elapsed(),
        counterexample,
    }
}

/// Whether this run is possible, and ends in a violation.
fn is_violating(model: &Protocol, way: &[Step]) -> bool {
    let mut state = model.initial().clone();
    for step in way {
        let mut possible = Vec::new();
        model.actions(&state, &mut possible);
        if !possible.contains(step) {
            return false;
        }
        state = model.after(&state, *step);
    }
    state.violation.is_some()
}

/// Takes out steps that the violation does not need.
fn shorten(model: &Protocol, way: &mut Vec<Step>) {
    let mut shorter = true;
    while shorter {
        shorter = false;
        for length in [4, 2, 1] {
            let mut at = 0;
            while at + length <= way.len() {
                let mut tried = way.clone();
                tried.drain(at..at + length);
                if is_violating(model, &tried) {
                    *way = tried;
                    shorter = true;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// What is violated at the end of this run, and the run, for people.
fn trace(model: &Protocol, way: Vec<Step>) -> (String, String) {
    let mut state = model.initial().clone();
    let mut text = format!("{state:?}\n");
    for step in way {
        state = model.after(&state, step);
        let _ = writeln!(text, "--> {step:?}\n{state:?}");
    }
    if state.violation == Some(Violation::Stuck) {
        let mut before = state.clone();
        before.violation = None;
        let (_, last) = model.converge(&before);
        let _ = writeln!(text, "the fair run ends in\n{last:?}");
    }
    let broken = model
        .properties()
        .into_iter()
        .find(|p| !(p.condition)(model, &state));
    (broken.map_or(String::new(), |p| p.name.to_owned()), text)
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
