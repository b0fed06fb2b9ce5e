//! [`Ports`]: what façade and engine share.

use std::sync::Arc;

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::Infrastructure;
use dbaas_core::secret::SecretSealer;
use dbaas_core::sql_executor::SqlExecutor;
use dbaas_core::steady::Steady;
use dbaas_core::store::StoreError;
use dbaas_core::time::Timestamp;
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::error::ControlError;
use crate::randomness::Randomness;
use crate::repository::Repository;
use crate::settings::ControllerSettings;

/// Everything outside that the façade and the engine reach through traits, and what they share.
pub(crate) struct Ports {
    pub(crate) infrastructure: Arc<dyn Infrastructure>,
    pub(crate) sql: Arc<dyn SqlExecutor>,
    pub(crate) sealer: Arc<dyn SecretSealer>,
    pub(crate) repository: Repository,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: tokio::time::Instant,
    pub(crate) settings: ControllerSettings,
    pub(crate) randomness: Randomness,
    /// Says which instance changed, after the change is in the store. Hints only: a reader that lags looks at
    /// everything.
    pub(crate) hints: broadcast::Sender<InstanceId>,
}

impl Ports {
    /// Tells those who wait that something of this instance was written. Nobody may be listening.
    pub(crate) fn hint(&self, instance: InstanceId) {
        let _ = self.hints.send(instance);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A time that only goes forward, whatever somebody sets the clock to: for waiting and for judging how
    /// long something takes. It has nothing to do with what other machines, or records, call the time.
    pub(crate) fn steady(&self) -> Steady {
        let elapsed = self.started.elapsed();
        Steady::from_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The error of a store call whose preconditions cannot have failed.
    pub(crate) fn store_error(&self, error: StoreError) -> ControlError {
        ControlError::from_store(error, self.now())
    }
}
