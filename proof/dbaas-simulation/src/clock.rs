//! The time of day in the simulation: tokio's clock, plus jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dbaas_controller::clock::Clock;
use dbaas_core::time::Timestamp;
use dbaas_testkit::simulated::SimWorld;

/// When the world begins.
const BEGIN_MS: i64 = 1_750_000_000_000;

/// One machine's clock.
#[derive(Clone)]
pub(crate) struct SimClock {
    world: SimWorld,
    offset_ms: Arc<AtomicI64>,
}

impl SimClock {
    pub(crate) fn new(world: &SimWorld) -> Self {
        SimClock {
            world: world.clone(),
            offset_ms: Arc::default(),
        }
    }

    /// Somebody set the clock.
    pub(crate) fn jump(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.world.now_ms()).unwrap_or(i64::MAX);
        let offset = self.offset_ms.load(Ordering::SeqCst);
        Timestamp::from_unix_ms(BEGIN_MS.saturating_add(elapsed).saturating_add(offset))
    }
}
