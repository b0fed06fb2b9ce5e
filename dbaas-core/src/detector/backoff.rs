//! [`Backoff`]: what failed waits before it is tried again, twice as long each time.

use crate::steady::Steady;

/// Attempts that came to nothing, and when the next one may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
    not_before: Option<Steady>,
}

impl Backoff {
    /// Another one failed. The first waits `first_ms`, none longer than `most_ms`; `jitter_ms` is added, so
    /// that many do not go on at once.
    pub fn failed(&mut self, now: Steady, first_ms: u64, most_ms: u64, jitter_ms: u64) {
        let doubled = first_ms.saturating_mul(1u64 << self.failures.min(32));
        self.failed_for(now, doubled.min(most_ms).saturating_add(jitter_ms));
    }

    /// Another one failed, and the next waits for so long.
    pub fn failed_for(&mut self, now: Steady, wait_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now.plus_ms(wait_ms));
    }

    /// How many failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It went well; the next one may be made after so long, when its effect can be seen.
    pub fn succeeded(&mut self, now: Steady, settle_ms: u64) {
        self.failures = 0;
        self.not_before = Some(now.plus_ms(settle_ms));
    }

    /// Nothing is held against it any more.
    pub fn forgive(&mut self) {
        *self = Backoff::default();
    }

    /// How long the next attempt has to wait.
    pub fn left_ms(&self, now: Steady) -> u64 {
        self.not_before.map_or(0, |until| until.since_ms(now))
    }

    /// For how long the next attempt could have been made; `None` where there was none before.
    pub fn over_for_ms(&self, now: Steady) -> Option<u64> {
        self.not_before.map(|until| now.since_ms(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_twice_as_long_each_time_up_to_its_bound() {
        let now = Steady::from_ms(1_000);
        let mut backoff = Backoff::default();
        assert_eq!((backoff.left_ms(now), backoff.over_for_ms(now)), (0, None));
        let mut waits = Vec::new();
        for _ in 0..5 {
            backoff.failed(now, 100, 1_000, 0);
            waits.push(backoff.left_ms(now));
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_000]);
        for _ in 0..100 {
            backoff.failed(now, 100, 1_000, 7);
        }
        assert_eq!(backoff.left_ms(now), 1_007);
        assert_eq!(backoff.over_for_ms(now.plus_ms(1_010)), Some(3));
        backoff.succeeded(now, 50);
        assert_eq!(backoff.left_ms(now), 50);
        backoff.failed(now, 100, 1_000, 0);
        assert_eq!(backoff.left_ms(now), 100, "what went well starts it over");
        backoff.forgive();
        assert_eq!(backoff.left_ms(now), 0);
    }
}
