//! How long an action is held off after an attempt: the one place where that is decided.

use super::Action;
use crate::command::LOCK_WAIT_MS;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A part of it was done; there is more.
    Part,
    /// It failed.
    Failed,
    /// It failed because somebody holds what it waited for, for as long as it may.
    HeldUp,
}

/// Of the time that others wait behind us, what we wait for ourselves is to be less than 2 %. Half of that,
/// in percent, for one action: two may be about the same table (a deletion and a change of owner), and a busy
/// machine ends a wait late.
const SHARE_OF_WAITING_PERCENT: u64 = 1;
/// Between two attempts that are held up.
const HELD_UP_MS: u64 = LOCK_WAIT_MS as u64 * 100 / SHARE_OF_WAITING_PERCENT;
/// A holder that ends is noticed after so long at the latest.
const HELD_UP_LONGEST_MS: u64 = 2 * HELD_UP_MS;

impl Action {
    /// For how long it is held off after the attempt, in milliseconds. `failures`: how often in a row it had
    /// failed before.
    pub fn held_off_ms(&self, outcome: Outcome, failures: u32) -> u64 {
        match outcome {
            Outcome::Done => self.settles_ms(),
            Outcome::Part => 0,
            Outcome::Failed => (50u64 << failures.min(12)).min(self.longest_backoff_ms()),
            Outcome::HeldUp => (HELD_UP_MS << failures.min(1)).min(HELD_UP_LONGEST_MS),
        }
    }

    /// How soon it may be repeated after it succeeded and the world has not shown it yet.
    fn settles_ms(&self) -> u64 {
        match self {
            Action::Promote { .. } => 1_000,
            Action::Start { .. } | Action::EndConflicts { .. } => 200,
            _ => 50,
        }
    }

    /// The longest time that failures hold it off. What a failover needs is never held off for long.
    fn longest_backoff_ms(&self) -> u64 {
        match self {
            Action::Seal { .. }
            | Action::EndConflicts { .. }
            | Action::Promote { .. }
            | Action::Follow { .. }
            | Action::SetSyncNames { .. }
            | Action::MarkHistory { .. }
            | Action::PowerOff { .. } => 1_000,
            _ => 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn who_waits_behind_us_waits_for_us_a_small_part_of_the_time() {
        let node = NodeId::from_uuid(uuid::Uuid::nil());
        let action = Action::Checkpoint { node };
        let wait_ms = u64::from(LOCK_WAIT_MS);
        let off_ms = |failures| action.held_off_ms(Outcome::HeldUp, failures);
        for failures in 0..40 {
            assert!(
                off_ms(failures) <= 20_000,
                "a holder that ends is noticed: {failures}"
            );
            assert!(off_ms(failures) <= off_ms(failures + 1), "{failures}");
        }
        // From any attempt on, for as many intervals as one likes, whatever was before: two actions at once
        // wait for less than 2 % of it.
        for (before, intervals) in (0..20).flat_map(|before| (1..40).map(move |n| (before, n))) {
            let waited_ms = 2 * wait_ms * u64::from(intervals);
            let all_ms: u64 = (before..before + intervals).map(|n| off_ms(n) + wait_ms).sum();
            assert!(
                waited_ms * 100 < 2 * all_ms,
                "{before}, {intervals}: {waited_ms} of {all_ms}"
            );
        }
    }

    #[test]
    fn failures_hold_off_longer_each_time() {
        let node = NodeId::from_uuid(uuid::Uuid::nil());
        let checkpoint = Action::Checkpoint { node };
        let of = |failures| checkpoint.held_off_ms(Outcome::Failed, failures);
        assert_eq!([of(0), of(1), of(5), of(40)], [50, 100, 1_600, 60_000]);
        let urgent = Action::MarkHistory {
            node,
            epoch: crate::cluster::Epoch(1),
        };
        assert_eq!(urgent.held_off_ms(Outcome::Failed, 40), 1_000);
        assert_eq!(checkpoint.held_off_ms(Outcome::Part, 3), 0);
    }
}
