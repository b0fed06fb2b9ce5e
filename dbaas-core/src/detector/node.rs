//! [`NodeMemory`]: for how long a node has been as it is.

use crate::cluster::{Epoch, Lsn};
use crate::kinds::ActionKind;
use crate::observation::{ActionFailure, NodeFacts};
use crate::patience::{START_AGAIN_FIRST_MS, START_AGAIN_MOST_MS, WELL_AGAIN_MS};
use crate::steady::Steady;
use crate::time::Timestamp;

use super::backoff::Backoff;

/// What is remembered of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeMemory {
    /// When it last answered, or was first asked.
    answered_at: Option<Steady>,
    silent: bool,
    /// When it last streamed, or was first looked at.
    streamed_at: Option<Steady>,
    /// In which epoch it could have streamed and has not, and since when.
    waits: Option<(Epoch, Steady)>,
    /// Where its replay was seen to wait without anything that could bring more.
    ended: Option<ReplayEnd>,
    /// At which position its replay is stalled, and since when.
    stalled: Option<(Lsn, Steady)>,
    /// Since when it has been well (primary or streaming).
    well_since: Option<Steady>,
    /// Starts since it was last well.
    starts: Backoff,
    last_failure: Option<ActionFailure>,
}

/// The end of what a standby has, which follows nobody. As long as all of this is as it was, nothing came
/// after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReplayEnd {
    started_at: Timestamp,
    epoch: Epoch,
    lsn: Lsn,
    receive_lsn: Option<Lsn>,
}

impl NodeMemory {
    /// A start was ordered: the next one waits, twice as long each time.
    pub(super) fn started(&mut self, now: Steady, jitter_ms: u64) {
        self.starts
            .failed(now, START_AGAIN_FIRST_MS, START_AGAIN_MOST_MS, jitter_ms);
        self.well_since = None;
        // What did not answer before cannot be held against what was just started.
        self.answered_at = Some(now);
    }

    /// An action on it came to nothing.
    pub fn failed(&mut self, action: ActionKind, message: String) {
        let before = self
            .last_failure
            .take()
            .filter(|failure| failure.action == action);
        let times = before.map_or(0, |failure| failure.times).saturating_add(1);
        self.last_failure = Some(ActionFailure {
            action,
            message,
            times,
        });
    }

    /// An action on it was done: an earlier failure of the same is history.
    pub fn done(&mut self, action: ActionKind) {
        self.last_failure.take_if(|failure| failure.action == action);
    }

    pub(super) fn last_failure(&self) -> Option<&ActionFailure> {
        self.last_failure.as_ref()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// It did, or did not, answer just now: for how long has it not?
    pub(super) fn silent_ms(&mut self, now: Steady, answers: bool) -> u64 {
        self.silent = !answers;
        let last = *self.answered_at.get_or_insert(now);
        if answers {
            self.answered_at = Some(now);
            return 0;
        }
        now.since_ms(last)
    }

    /// For how long it has not been streaming. Time in which it is `excused` ends with this look, and does
    /// not count after it.
    pub(super) fn not_streaming_ms(&mut self, now: Steady, streams: bool, excused: bool) -> u64 {
        let last = *self.streamed_at.get_or_insert(now);
        if streams || excused {
            self.streamed_at = Some(now);
        }
        if streams { 0 } else { now.since_ms(last) }
    }

    /// For how long it could have been streaming in this epoch and was not, without a break.
    pub(super) fn waiting_ms(&mut self, now: Steady, epoch: Epoch, waits: bool) -> u64 {
        if !waits {
            self.waits = None;
            return 0;
        }
        let since = match self.waits {
            Some((of, since)) if of == epoch => since,
            _ => now,
        };
        self.waits = Some((epoch, since));
        now.since_ms(since)
    }

    /// For how long its replay has been stalled at one position. `behind`: where it is, without a receiver
    /// and before the end of what it received, and whether it waits for more. It does not all the time: it
    /// looks for the rest of the record again and again, which takes long if that is large.
    pub(super) fn stalled_ms(&mut self, now: Steady, behind: Option<(Lsn, bool)>) -> u64 {
        self.stalled = match (self.stalled, behind) {
            (Some((before, since)), Some((at, _))) if before == at => Some((at, since)),
            (_, Some((at, true))) => Some((at, now)),
            _ => None,
        };
        self.stalled.map_or(0, |(_, since)| now.since_ms(since))
    }

    /// Whether its replay has come to the end of what is there: it waits, or did when it was where it is now.
    /// What waits for the rest of a large record reads its beginning again and again, and is seldom seen to
    /// wait, least of all by chance at the same time as another node.
    pub(super) fn replay_waits(&mut self, facts: &NodeFacts) -> bool {
        let follows_nobody = facts.receiver.is_none() && facts.primary_conninfo.is_empty();
        let here = (facts.in_recovery && follows_nobody).then_some(ReplayEnd {
            started_at: facts.started_at,
            epoch: facts.epoch,
            lsn: facts.lsn,
            receive_lsn: facts.receive_lsn,
        });
        let ended = here.filter(|here| facts.replay_waits || self.ended == Some(*here));
        self.ended = ended;
        facts.replay_waits || ended.is_some()
    }

    /// It is, or is not, what it is to be.
    pub(super) fn note_well(&mut self, now: Steady, well: bool) {
        if !well {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        // That its configuration was refused says nothing against how well it serves: that is told until it
        // takes one.
        self.last_failure
            .take_if(|failure| failure.action != ActionKind::Reconfigure);
        if now.since_ms(since) >= WELL_AGAIN_MS {
            self.starts.forgive();
        }
    }

    /// How long its next start has to wait.
    pub(super) fn hold_off_ms(&self, now: Steady) -> u64 {
        self.starts.left_ms(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Steady {
        Steady::from_ms(ms)
    }

    #[test]
    fn starts_back_off_and_are_forgiven() {
        let t = at(1_000_000);
        let mut node = NodeMemory::default();
        assert_eq!(node.hold_off_ms(t), 0);
        node.started(t, 0);
        assert_eq!(node.hold_off_ms(t), 100);
        node.started(t, 0);
        assert_eq!(node.hold_off_ms(t), 200);
        for _ in 0..20 {
            node.started(t, 0);
        }
        assert_eq!(node.hold_off_ms(t), 60_000);
        node.note_well(t, true);
        node.note_well(t.plus_ms(WELL_AGAIN_MS - 1), true);
        assert_ne!(node.hold_off_ms(t), 0);
        node.note_well(t.plus_ms(WELL_AGAIN_MS), true);
        assert_eq!(node.hold_off_ms(t), 0);
    }

    #[test]
    fn silence_counts_from_the_last_answer_or_start() {
        let mut node = NodeMemory::default();
        assert_eq!(node.silent_ms(at(100), false), 0, "from the first look");
        assert_eq!(node.silent_ms(at(400), false), 300);
        assert!(node.is_silent());
        assert_eq!(node.silent_ms(at(500), true), 0);
        assert!(!node.is_silent());
        assert_eq!(node.silent_ms(at(900), false), 400);
        node.started(at(1_000), 0);
        assert_eq!(node.silent_ms(at(1_100), false), 100);
    }

    #[test]
    fn not_streaming_counts_from_the_last_row_and_not_while_excused() {
        let mut node = NodeMemory::default();
        assert_eq!(node.not_streaming_ms(at(0), false, false), 0);
        assert_eq!(node.not_streaming_ms(at(300), false, false), 300);
        assert_eq!(node.not_streaming_ms(at(400), true, false), 0);
        assert_eq!(node.not_streaming_ms(at(700), false, false), 300);
        node.not_streaming_ms(at(800), false, true);
        assert_eq!(node.not_streaming_ms(at(900), false, false), 100);
    }

    #[test]
    fn the_end_of_replay_is_remembered_while_nothing_can_come_after_it() {
        let mut node = NodeMemory::default();
        let sealed = NodeFacts {
            in_recovery: true,
            epoch: Epoch(3),
            lsn: Lsn(7),
            ..NodeFacts::default()
        };
        let waits = NodeFacts {
            replay_waits: true,
            ..sealed.clone()
        };
        assert!(!node.replay_waits(&sealed));
        assert!(node.replay_waits(&waits));
        assert!(node.replay_waits(&sealed), "it reads the same again");
        for other in [
            NodeFacts {
                lsn: Lsn(8),
                ..sealed.clone()
            },
            NodeFacts {
                epoch: Epoch(4),
                ..sealed.clone()
            },
            NodeFacts {
                receive_lsn: Some(Lsn(9)),
                ..sealed.clone()
            },
            NodeFacts {
                started_at: Timestamp::from_unix_ms(1),
                ..sealed.clone()
            },
            NodeFacts {
                primary_conninfo: "host=n2".to_owned(),
                ..sealed.clone()
            },
            NodeFacts {
                in_recovery: false,
                ..sealed.clone()
            },
        ] {
            assert!(node.replay_waits(&waits));
            assert!(!node.replay_waits(&other), "{other:?}");
            assert!(
                !node.replay_waits(&sealed),
                "what has been something else begins anew"
            );
        }
        // What follows somebody gets more: it waits only when it is seen to.
        let follows = NodeFacts {
            primary_conninfo: "host=n2".to_owned(),
            ..waits.clone()
        };
        assert!(node.replay_waits(&follows));
        assert!(!node.replay_waits(&NodeFacts {
            replay_waits: false,
            ..follows
        }));
    }

    #[test]
    fn replay_is_stalled_for_as_long_as_it_stays_where_it_is() {
        let mut node = NodeMemory::default();
        // It may still be about to replay what it has.
        assert_eq!(node.stalled_ms(at(0), Some((Lsn(5), false))), 0);
        assert_eq!(node.stalled_ms(at(300), Some((Lsn(5), true))), 0);
        assert_eq!(node.stalled_ms(at(700), Some((Lsn(5), false))), 400);
        assert_eq!(node.stalled_ms(at(800), Some((Lsn(6), true))), 0);
        assert_eq!(node.stalled_ms(at(900), Some((Lsn(6), true))), 100);
        assert_eq!(node.stalled_ms(at(1_000), None), 0);
        assert_eq!(node.stalled_ms(at(1_100), Some((Lsn(6), true))), 0);
    }

    #[test]
    fn only_the_time_counts_in_which_it_could_have_streamed() {
        let mut node = NodeMemory::default();
        // It was the primary for an hour, then it is started to follow in the next epoch.
        assert_eq!(node.waiting_ms(at(0), Epoch(1), false), 0);
        let t = at(3_600_000);
        assert_eq!(node.waiting_ms(t, Epoch(1), false), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(200), Epoch(2), true), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(700), Epoch(2), true), 500);
        assert_eq!(node.waiting_ms(t.plus_ms(800), Epoch(3), true), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(900), Epoch(3), true), 100);
        assert_eq!(node.waiting_ms(t.plus_ms(901), Epoch(3), false), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(999), Epoch(3), true), 0);
    }
}
