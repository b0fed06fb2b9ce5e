//! [`Randomness`]: jitter and new ids; drawn from a seed in simulations, so that a run can be repeated.
//!
//! Secrets and salts never come from here.

use dbaas_core::time::Timestamp;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::task::JoinError;
use uuid::{Builder, Uuid};

/// Jitter and new ids.
pub(crate) struct Randomness {
    seeded: Option<Mutex<Seeded>>,
}

struct Seeded {
    rng: StdRng,
    /// Milliseconds and counter of the last id: ids grow.
    last: (u64, u16),
}

impl Randomness {
    /// From this machine's own source, or from a seed.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seeded = |seed| {
            Mutex::new(Seeded {
                rng: StdRng::seed_from_u64(seed),
                last: (0, 0),
            })
        };
        Randomness {
            seeded: seed.map(seeded),
        }
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let bound = bound.max(1);
        match &self.seeded {
            Some(seeded) => seeded.lock().rng.random_range(0..bound),
            None => rand::rng().random_range(0..bound),
        }
    }

    /// A new UUIDv7: greater than those before.
    pub(crate) fn new_id(&self, now: Timestamp) -> Uuid {
        let Some(seeded) = &self.seeded else {
            return Uuid::now_v7();
        };
        let mut seeded = seeded.lock();
        let now_ms = u64::try_from(now.unix_ms()).unwrap_or(0);
        let (last_ms, counter) = seeded.last;
        seeded.last = if now_ms > last_ms {
            (now_ms, 0)
        } else if counter < 0x0fff {
            (last_ms, counter + 1)
        } else {
            (last_ms + 1, 0)
        };
        let (ms, counter) = seeded.last;
        let mut bytes = [0; 10];
        seeded.rng.fill_bytes(&mut bytes);
        bytes[..2].copy_from_slice(&counter.to_be_bytes());
        Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid()
    }

    /// Does work that takes milliseconds: off the runtime's threads, or, with a seed, at once, so that the
    /// order is always the same.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        if self.seeded.is_some() {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_ids_grow() {
        let at = Timestamp::from_unix_ms(1_750_000_000_000);
        let (a, b, other) = (
            Randomness::new(Some(7)),
            Randomness::new(Some(7)),
            Randomness::new(Some(8)),
        );
        let mut before = Uuid::nil();
        for step in 0..10_000 {
            // Also when the clock goes back.
            let now = Timestamp::from_unix_ms(at.unix_ms() + step % 3 - step / 100);
            let id = a.new_id(now);
            assert_eq!(id, b.new_id(now));
            assert!(id > before);
            assert_eq!(id.get_version_num(), 7);
            before = id;
        }
        assert_eq!(a.below(1_000), b.below(1_000));
        assert_ne!(a.new_id(at), other.new_id(at));
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn without_a_seed_ids_differ() {
        let randomness = Randomness::new(None);
        let at = Timestamp::from_unix_ms(0);
        assert_ne!(randomness.new_id(at), randomness.new_id(at));
        assert!(randomness.below(3) < 3);
    }
}
