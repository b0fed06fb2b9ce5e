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

/// Of the time that others wait behind us, what we waited for ourselves must be less than this share, in percent.
const SHARE_OF_WAITING_PERCENT: u64 = 2;
/// Between two attempts that are held up.
const HELD_UP_MS: u64 = LOCK_WAIT_MS as u64 * 100 / SHARE_OF_WAITING_PERCENT;
/// A holder that ends is noticed after so long at the latest.
const HELD_UP_LONGEST_MS: u64 = 4 * HELD_UP_MS;

impl Action {
    /// For how long it is held off after the attempt, in milliseconds. `failures`: how often in a row it had failed before.
    pub fn held_off_ms(&self, outcome: Outcome, failures: u32) -> u64 {
        match outcome {
            Outcome::Done => self.settles_ms(),
            Outcome::Part => 0,
            Outcome::Failed => (50u64 << failures.min(12)).min(self.longest_backoff_ms()),
            Outcome::HeldUp => (HELD_UP_MS << failures.min(2)).min(HELD_UP_LONGEST_MS),
        }
    }

    /// How soon it may be repeated after it succeeded and the world has not shown it yet.
    fn settles_ms(&self) -> u64 {
        match self {
            Action::Promote { .. } => 1_000,
            Action::Start { .. } => 200,
            _ => 50,
        }
    }

    /// The longest time that failures hold it off. What a failover needs is never held off for long.
    fn longest_backoff_ms(&self) -> u64 {
        match self {
            Action::Seal { .. }
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
        for failures in 0..40 {
            let off_ms = action.held_off_ms(Outcome::HeldUp, failures);
            let wait_ms = u64::from(LOCK_WAIT_MS);
            assert!(wait_ms * 100 <= 2 * (off_ms + wait_ms), "{failures}: {off_ms}");
            assert!(off_ms <= 20_000, "{failures}: {off_ms}");
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
