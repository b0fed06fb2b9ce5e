//! [`Timeline`]: when writes were acknowledged, and the pauses in between.

use std::time::{Duration, Instant};

/// What ended a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapEnd {
    /// A write was acknowledged.
    Acknowledgement,
    /// The window or the workload ended: writes had not come back.
    EndOfWindow,
}

/// A time in which nothing was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The acknowledgement before it (or the start of the window).
    pub start: Instant,
    /// The acknowledgement after it, or the end of the window.
    pub end: Instant,
    /// Which of the two.
    pub ended_by: GapEnd,
}

impl Gap {
    /// Its length.
    pub fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.start)
    }
}

/// All acknowledgements of a workload, in order of time.
#[derive(Debug, Clone)]
pub struct Timeline {
    started: Instant,
    stopped: Instant,
    acknowledged: Vec<Instant>,
}

impl Timeline {
    /// From acknowledgements in any order.
    pub fn new(started: Instant, stopped: Instant, mut acknowledged: Vec<Instant>) -> Self {
        acknowledged.sort_unstable();
        Timeline {
            started,
            stopped,
            acknowledged,
        }
    }

    /// When the workload started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it was told to stop.
    pub fn stopped(&self) -> Instant {
        self.stopped
    }

    /// Every acknowledgement.
    pub fn acknowledged(&self) -> &[Instant] {
        &self.acknowledged
    }

    /// The longest time without an acknowledgement: the write pause.
    pub fn longest_gap(&self) -> Gap {
        self.longest_gap_between(self.started, self.stopped)
    }

    /// The longest gap among those that overlap the window, each in its full length up to the window's end:
    /// the write pause of a fault that was injected within the window.
    pub fn longest_gap_between(&self, from: Instant, to: Instant) -> Gap {
        // From the last acknowledgement before the window, so that a gap which the fault cut into is seen
        // whole.
        let first = self.acknowledged.partition_point(|at| *at <= from);
        let mut start = first
            .checked_sub(1)
            .map_or(self.started.min(from), |before| self.acknowledged[before]);
        let mut longest = Gap {
            start,
            end: start,
            ended_by: GapEnd::Acknowledgement,
        };
        for &at in &self.acknowledged[first..] {
            let gap = Gap {
                start,
                end: at,
                ended_by: GapEnd::Acknowledgement,
            };
            if gap.duration() > longest.duration() {
                longest = gap;
            }
            start = at;
            if at >= to {
                return longest;
            }
        }
        let open = Gap {
            start,
            end: to.min(self.stopped),
            ended_by: GapEnd::EndOfWindow,
        };
        if open.duration() > longest.duration() {
            open
        } else {
            longest
        }
    }

    /// The first acknowledgement after a moment.
    pub fn first_after(&self, moment: Instant) -> Option<Instant> {
        let index = self.acknowledged.partition_point(|at| *at <= moment);
        self.acknowledged.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, zero: Instant) -> Instant {
        zero + Duration::from_millis(ms)
    }

    fn timeline(acks_ms: &[u64], zero: Instant) -> Timeline {
        Timeline::new(
            zero,
            at(1_000, zero),
            acks_ms.iter().map(|ms| at(*ms, zero)).collect(),
        )
    }

    #[test]
    fn longest_of_all() {
        let zero = Instant::now();
        let gap = timeline(&[900, 10, 20, 500, 510, 990], zero).longest_gap();
        assert_eq!((gap.start, gap.end), (at(20, zero), at(500, zero)));
        assert_eq!(gap.ended_by, GapEnd::Acknowledgement);
    }

    #[test]
    fn writes_that_never_came_back_are_a_gap() {
        let zero = Instant::now();
        let gap = timeline(&[10, 20, 300], zero).longest_gap();
        assert_eq!((gap.start, gap.end), (at(300, zero), at(1_000, zero)));
        assert_eq!(gap.ended_by, GapEnd::EndOfWindow);
        assert_eq!(
            timeline(&[], zero).longest_gap().duration(),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn window_sees_the_gap_it_cuts_whole() {
        let zero = Instant::now();
        let timeline = timeline(&[10, 400, 410, 420, 700, 710, 999], zero);
        let gap = timeline.longest_gap_between(at(405, zero), at(500, zero));
        assert_eq!((gap.start, gap.end), (at(420, zero), at(700, zero)));
        let gap = timeline.longest_gap_between(at(200, zero), at(405, zero));
        assert_eq!((gap.start, gap.end), (at(10, zero), at(400, zero)));
        assert_eq!(timeline.first_after(at(420, zero)), Some(at(700, zero)));
        assert_eq!(timeline.first_after(at(999, zero)), None);
    }
}
