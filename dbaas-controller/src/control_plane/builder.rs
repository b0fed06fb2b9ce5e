//! How a control plane is started.

use std::sync::Arc;

use dbaas_core::infrastructure::Infrastructure;
use dbaas_core::secret::SecretSealer;
use dbaas_core::sql_executor::SqlExecutor;
use dbaas_core::store::Store;
use tokio::sync::broadcast;

use super::elements::keep_resuming;
use super::{ControlPlane, Inner};
use crate::clock::{Clock, SystemClock};
use crate::elements::locks::ElementLocks;
use crate::engine::Engine;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::randomness::Randomness;
use crate::repository::Repository;
use crate::settings::ControllerSettings;

/// Collects what a [`ControlPlane`] needs: infrastructure, SQL, a store and a sealer.
#[derive(Default)]
pub struct ControlPlaneBuilder {
    infrastructure: Option<Arc<dyn Infrastructure>>,
    sql: Option<Arc<dyn SqlExecutor>>,
    store: Option<Arc<dyn Store>>,
    sealer: Option<Arc<dyn SecretSealer>>,
    clock: Option<Arc<dyn Clock>>,
    settings: ControllerSettings,
    seed: Option<u64>,
}

/// Why a control plane did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A part was not given.
    #[error("a control plane needs {0}; give it to the builder")]
    Missing(&'static str),
    /// The store cannot be read or written.
    #[error("the store cannot be used")]
    Store(#[source] ControlError),
}

impl ControlPlaneBuilder {
    /// Where nodes run.
    #[must_use]
    pub fn infrastructure(mut self, infrastructure: Arc<dyn Infrastructure>) -> Self {
        self.infrastructure = Some(infrastructure);
        self
    }

    /// What runs SQL on them.
    #[must_use]
    pub fn sql(mut self, sql: Arc<dyn SqlExecutor>) -> Self {
        self.sql = Some(sql);
        self
    }

    /// Where records are kept.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// What encrypts the secrets among them.
    #[must_use]
    pub fn sealer(mut self, sealer: Arc<dyn SecretSealer>) -> Self {
        self.sealer = Some(sealer);
        self
    }

    /// Where the time of day comes from; this machine's clock unless given.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Other settings than the default ones.
    #[must_use]
    pub fn settings(mut self, settings: ControllerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// For simulations: jitter and ids (never secrets) come from this seed, and all work is done on the
    /// runtime's own threads, so that a run on a single thread with a paused clock can be repeated.
    #[cfg(feature = "proof")]
    #[must_use]
    pub fn simulation_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds to the catalogue what the backend can run, and starts the engine. Must be called within a tokio
    /// runtime.
    pub async fn start(self) -> Result<ControlPlane, StartError> {
        let store = self.store.ok_or(StartError::Missing("a store"))?;
        let ports = Arc::new(Ports {
            infrastructure: self
                .infrastructure
                .ok_or(StartError::Missing("an infrastructure"))?,
            sql: self.sql.ok_or(StartError::Missing("an SQL executor"))?,
            sealer: self.sealer.ok_or(StartError::Missing("a secret sealer"))?,
            repository: Repository::new(store, self.settings.store_timeout),
            started: tokio::time::Instant::now(),
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            // Zero would be a channel that cannot exist; the upper bound is far above what anybody needs.
            hints: broadcast::Sender::new(self.settings.change_hints.clamp(1, 1 << 20)),
            randomness: Randomness::new(self.seed),
            settings: self.settings,
        });
        let migrated = ports.repository.migrate().await;
        migrated.map_err(|error| StartError::Store(ports.store_error(error)))?;
        super::versions::sync_catalogue(&ports)
            .await
            .map_err(StartError::Store)?;
        super::kept::ensure_platform(&ports)
            .await
            .map_err(StartError::Store)?;
        let engine = Engine::spawn(Arc::clone(&ports));
        let inner = Arc::new(Inner {
            ports,
            engine,
            elements: ElementLocks::default(),
        });
        let resuming = tokio::spawn(keep_resuming(Arc::downgrade(&inner)));
        inner.engine.with_task(resuming);
        Ok(ControlPlane { inner })
    }
}
