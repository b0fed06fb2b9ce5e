//! Whether a primary serves: what a client gets, tried. An old session's `SELECT` says nothing of it: it
//! needs no file to be opened, no process to be started and no WAL to be written.

use crate::id::NodeId;
use crate::observation::{Fitness, Unfit, UnfitKind};
use crate::patience::{
    TRIAL_AGAIN_MOST_MS, TRIAL_AGAIN_MS, TRIAL_COMMIT_MS, TRIAL_LOGIN_MS, UNFIT_TRIALS, WELL_AGAIN_MS,
};
use crate::sql_executor::{Rows, SqlError, SqlErrorKind};
use crate::steady::Steady;

use super::backoff::Backoff;

/// What a trial came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A login and a commit.
    Served,
    /// Neither, or no commit.
    Failed(Unfit),
    /// It tells nothing of what a client would have got: the server is starting, or is no primary.
    Unclear,
}

/// A login and a commit at a primary that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Where.
    pub node: NodeId,
    /// When it was begun.
    pub began: Steady,
    /// What it came to.
    pub outcome: Outcome,
}

/// Whether an SQLSTATE says that files are gone or broken: I/O errors and files that are missing; what
/// PostgreSQL calls corrupted; a database whose directory is gone.
pub fn is_damage(sqlstate: &str) -> bool {
    matches!(sqlstate.get(..2), Some("58" | "XX" | "F0" | "3D"))
}

/// What the answer to [`crate::command::try_service`] means.
pub fn outcome_of(answer: &Result<Vec<Rows>, SqlError>) -> Outcome {
    let Err(error) = answer else {
        return Outcome::Served;
    };
    let state = error.sqlstate().unwrap_or_default();
    let unfit = |kind, message: String| Outcome::Failed(Unfit { kind, message });
    let said = || match state {
        "" => error.to_string(),
        state => format!("{error}; SQLSTATE {state}"),
    };
    match (state.get(..2).unwrap_or_default(), error.kind()) {
        // Not ill health: those who are connected are served.
        ("53", _) if state == "53300" => Outcome::Unclear,
        // Out of memory, locks, disk: another node would soon be, too.
        ("53", _) => unfit(UnfitKind::Exhausted, said()),
        _ if is_damage(state) => unfit(UnfitKind::Damaged, said()),
        (_, SqlErrorKind::ConnectTimeout) => unfit(UnfitKind::NoLogin, "no login in time".to_owned()),
        // Without a state, or cancelled by its own time-out: no answer. Other states are of sessions that
        // somebody ended.
        ("", SqlErrorKind::OutcomeUnknown) => unfit(UnfitKind::NoCommit, "no commit in time".to_owned()),
        (_, SqlErrorKind::OutcomeUnknown) if state == "57014" => {
            unfit(UnfitKind::NoCommit, "no commit in time".to_owned())
        }
        (_, SqlErrorKind::Statement) => unfit(UnfitKind::Refuses, said()),
        _ => Outcome::Unclear,
    }
}

/// The trials of an instance's primary.
#[derive(Debug, Clone, Default)]
pub(super) struct Trials {
    /// Of whom the rest is told.
    of: Option<NodeId>,
    running: Option<Steady>,
    next: Backoff,
    served_at: Option<Steady>,
    /// Since when every trial went well.
    well_since: Option<Steady>,
    failing: Option<Failing>,
    /// A server before this one gave no login or no commit, and none has been well for [`WELL_AGAIN_MS`]
    /// since.
    again: bool,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Steady,
    times: u32,
    last: Unfit,
}

impl Trials {
    /// What was tried before says nothing of a server that is started anew.
    pub(super) fn forget(&mut self, node: NodeId) {
        if self.of == Some(node) {
            self.start_over(None);
        }
    }

    /// What is told of another server from now on. Only that nobody was served before is kept: it may have
    /// been for what both share.
    fn start_over(&mut self, of: Option<NodeId>) {
        let shared = |failing: &Failing| {
            let slow = matches!(failing.last.kind, UnfitKind::NoLogin | UnfitKind::NoCommit);
            slow && failing.times >= UNFIT_TRIALS
        };
        *self = Trials {
            of,
            again: self.again || self.failing.as_ref().is_some_and(shared),
            ..Trials::default()
        };
    }

    pub(super) fn begin(&mut self, node: NodeId, now: Steady) -> bool {
        if self.of != Some(node) {
            self.start_over(Some(node));
        }
        // One that nothing was heard of for so long was lost with whoever made it.
        let lost_ms = 2 * u64::from(TRIAL_LOGIN_MS + TRIAL_COMMIT_MS);
        let runs = self.running.is_some_and(|began| now.since_ms(began) < lost_ms);
        if runs || self.next.left_ms(now) > 0 {
            return false;
        }
        self.running = Some(now);
        true
    }

    pub(super) fn end(&mut self, trial: Trial, now: Steady, every_ms: u64) -> bool {
        // One that began before the node was started anew, or another one became primary, is of somebody
        // else.
        if self.of != Some(trial.node) || self.running != Some(trial.began) {
            return true;
        }
        self.running = None;
        let well = match trial.outcome {
            Outcome::Served => {
                self.failing = None;
                self.served_at = Some(now);
                let since = *self.well_since.get_or_insert(now);
                self.again &= now.since_ms(since) < WELL_AGAIN_MS;
                true
            }
            Outcome::Unclear => {
                self.failing = None;
                true
            }
            Outcome::Failed(last) => {
                let before = self.failing.take();
                self.well_since = None;
                self.failing = Some(Failing {
                    since: before.as_ref().map_or(trial.began, |failing| failing.since),
                    times: before.map_or(0, |failing| failing.times).saturating_add(1),
                    last,
                });
                false
            }
        };
        if well {
            self.next.succeeded(now, every_ms);
        } else {
            self.next.failed(now, TRIAL_AGAIN_MS, TRIAL_AGAIN_MOST_MS, 0);
        }
        well
    }

    pub(super) fn fitness(&self, node: NodeId, now: Steady) -> Fitness {
        if self.of != Some(node) {
            return Fitness::Unknown;
        }
        match (&self.failing, self.served_at) {
            (Some(failing), _) => Fitness::Unfit {
                why: failing.last.clone(),
                for_ms: now.since_ms(failing.since),
                times: failing.times,
                again: self.again,
            },
            (None, Some(at)) => Fitness::Serves {
                ms_ago: now.since_ms(at),
            },
            (None, None) => Fitness::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn node(n: u128) -> NodeId {
        NodeId::from_uuid(Uuid::from_u128(n))
    }

    fn at(ms: u64) -> Steady {
        Steady::from_ms(ms)
    }

    fn failed(kind: SqlErrorKind, state: &str) -> Outcome {
        let error = SqlError::new(kind, "m");
        outcome_of(&Err(match state {
            "" => error,
            state => error.with_sqlstate(state),
        }))
    }

    #[test]
    fn what_a_failure_means() {
        use SqlErrorKind as K;
        let kind = |kind, state| match failed(kind, state) {
            Outcome::Failed(unfit) => Some(unfit.kind),
            Outcome::Served | Outcome::Unclear => None,
        };
        assert_eq!(outcome_of(&Ok(Vec::new())), Outcome::Served);
        // Nobody's commits are at stake where slots are used up, or the disk is full.
        for state in ["53200", "53100"] {
            assert_eq!(kind(K::NotReady, state), Some(UnfitKind::Exhausted));
            assert_eq!(kind(K::Statement, state), Some(UnfitKind::Exhausted));
        }
        for state in ["58P01", "58030", "XX001", "XX000", "3D000"] {
            assert_eq!(kind(K::Statement, state), Some(UnfitKind::Damaged));
        }
        assert_eq!(kind(K::ConnectTimeout, ""), Some(UnfitKind::NoLogin));
        assert_eq!(kind(K::OutcomeUnknown, ""), Some(UnfitKind::NoCommit));
        assert_eq!(kind(K::OutcomeUnknown, "57014"), Some(UnfitKind::NoCommit));
        assert_eq!(kind(K::Statement, "54000"), Some(UnfitKind::Refuses));
        for (of, state) in [
            (K::NotReady, "57P03"),
            (K::NotReady, "53300"),
            (K::Refused, ""),
            (K::Login, "28P01"),
            (K::GuardFailed, ""),
            (K::OutcomeUnknown, "57P01"),
        ] {
            assert_eq!(failed(of, state), Outcome::Unclear, "{of:?} {state}");
        }
    }

    #[test]
    fn failures_count_from_the_first_in_a_row_and_for_one_server() {
        let mut trials = Trials::default();
        let try_at = |trials: &mut Trials, n, from, to, outcome: Outcome| {
            assert!(trials.begin(node(n), at(from)), "{from}");
            assert!(!trials.begin(node(n), at(from)), "one at a time");
            let trial = Trial {
                node: node(n),
                began: at(from),
                outcome,
            };
            trials.end(trial, at(to), 2_000)
        };
        let unfit = || failed(SqlErrorKind::OutcomeUnknown, "");
        assert_eq!(trials.fitness(node(1), at(0)), Fitness::Unknown);
        assert!(try_at(&mut trials, 1, 0, 10, Outcome::Served));
        assert!(!trials.begin(node(1), at(2_009)));
        assert_eq!(trials.fitness(node(1), at(110)), Fitness::Serves { ms_ago: 100 });
        assert!(!try_at(&mut trials, 1, 3_000, 5_500, unfit()));
        assert!(!try_at(&mut trials, 1, 6_000, 8_500, unfit()));
        let seen = |trials: &Trials, now| match trials.fitness(node(1), at(now)) {
            Fitness::Unfit { for_ms, times, .. } => Some((for_ms, times)),
            Fitness::Serves { .. } | Fitness::Unknown => None,
        };
        assert_eq!(seen(&trials, 8_500), Some((5_500, 2)));
        // A late answer about the server before, or about another node, is nothing.
        assert!(trials.begin(node(1), at(9_000)));
        trials.forget(node(1));
        let late = Trial {
            node: node(1),
            began: at(9_000),
            outcome: unfit(),
        };
        assert!(trials.end(late, at(9_100), 2_000));
        assert_eq!(seen(&trials, 9_100), None);
        assert!(!try_at(&mut trials, 1, 9_200, 9_300, unfit()));
        assert!(try_at(&mut trials, 1, 9_900, 9_950, Outcome::Served));
        assert_eq!(seen(&trials, 9_950), None, "one that went well ends the row");
    }

    /// Tries a node at a moment; whether it fails as the one before did, if it fails.
    fn again(trials: &mut Trials, n: u128, now: u64, outcome: Outcome) -> Option<bool> {
        assert!(trials.begin(node(n), at(now)), "{now}");
        let trial = Trial {
            node: node(n),
            began: at(now),
            outcome,
        };
        trials.end(trial, at(now), 0);
        match trials.fitness(node(n), at(now)) {
            Fitness::Unfit { again, .. } => Some(again),
            Fitness::Serves { .. } | Fitness::Unknown => None,
        }
    }

    #[test]
    fn what_takes_over_and_fails_as_the_one_before_is_told_until_one_was_well() {
        let stuck = || failed(SqlErrorKind::OutcomeUnknown, "");
        let mut trials = Trials::default();
        for now in [0, 40_000, 80_000] {
            assert_eq!(again(&mut trials, 1, now, stuck()), Some(false));
        }
        // The old one is started anew before the next one is tried, or after: that is the same.
        let mut other = trials.clone();
        other.forget(node(1));
        assert_eq!(again(&mut other, 2, 100_000, stuck()), Some(true));
        assert_eq!(again(&mut trials, 2, 100_000, stuck()), Some(true));
        // Well for a moment is not well.
        assert_eq!(again(&mut trials, 2, 140_000, Outcome::Served), None);
        assert_eq!(again(&mut trials, 2, 149_999, Outcome::Served), None);
        assert_eq!(again(&mut trials, 2, 150_000, stuck()), Some(true));
        assert_eq!(again(&mut trials, 2, 190_000, Outcome::Served), None);
        assert_eq!(
            again(&mut trials, 2, 190_000 + WELL_AGAIN_MS, Outcome::Served),
            None
        );
        assert_eq!(again(&mut trials, 2, 230_000, stuck()), Some(false));
    }

    #[test]
    fn what_is_of_one_node_alone_is_not_held_against_the_next() {
        let stuck = || failed(SqlErrorKind::OutcomeUnknown, "");
        for (outcome, times) in [(stuck(), 1), (failed(SqlErrorKind::Statement, "58P01"), 3)] {
            let mut trials = Trials::default();
            for n in 0..times {
                again(&mut trials, 1, n * 40_000, outcome.clone());
            }
            assert_eq!(
                again(&mut trials, 2, 200_000, stuck()),
                Some(false),
                "{outcome:?}"
            );
        }
    }
}
