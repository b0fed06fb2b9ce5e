//! One controller's way to the shared store: with delays, outages, lost and late calls, and a count of what
//! is written.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::store::{
    Batch, DocumentKey, DocumentVersion, Kind, Lease, LeaseToken, ListQuery, Op, Store, StoreError,
    StoreErrorKind, StoredDocument, StoredEvent,
};
use dbaas_core::time::Timestamp;
use dbaas_testkit::memory_store::MemoryStore;
use dbaas_testkit::simulated::SimController;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// How often calls go wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreChaos {
    pub(crate) fails: u32,
    pub(crate) unknown: u32,
    pub(crate) late: u32,
    pub(crate) down: bool,
}

/// What all controllers share.
pub(crate) struct SimStore {
    pub(crate) memory: Arc<MemoryStore>,
    chaos: Mutex<StoreChaos>,
    rng: Mutex<StdRng>,
    commits: AtomicU64,
    delays: bool,
}

impl SimStore {
    pub(crate) fn new(seed: u64, delays: bool) -> Arc<Self> {
        Arc::new(SimStore {
            memory: Arc::new(MemoryStore::new()),
            chaos: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed ^ 0x73746f7265)),
            commits: AtomicU64::new(0),
            delays,
        })
    }

    pub(crate) fn set_chaos(&self, chaos: StoreChaos) {
        *self.chaos.lock() = chaos;
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.chaos.lock().down = down;
    }

    /// How many batches were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

/// One controller's connection.
pub(crate) struct StoreLink {
    pub(crate) shared: Arc<SimStore>,
    pub(crate) controller: SimController,
}

enum Fate {
    Fine,
    Fails,
    RequestLost,
    AnswerLost,
    Late(u64),
}

impl StoreLink {
    async fn before(&self, is_write: bool) -> Fate {
        self.controller.gate().await;
        let (fate, delay_ms) = {
            let chaos = *self.shared.chaos.lock();
            let mut rng = self.shared.rng.lock();
            let mut chance = |per_mille: u32| per_mille > 0 && rng.random_range(0..1_000) < per_mille;
            let fate = if chaos.down || chance(chaos.fails) {
                Fate::Fails
            } else if is_write && chance(chaos.unknown) {
                if rng.random() {
                    Fate::RequestLost
                } else {
                    Fate::AnswerLost
                }
            } else if is_write && chance(chaos.late) {
                Fate::Late(rng.random_range(10..20_000))
            } else {
                Fate::Fine
            };
            let delay_ms = if self.shared.delays {
                rng.random_range(0..4)
            } else {
                0
            };
            (fate, delay_ms)
        };
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        fate
    }

    async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.before(false).await {
            Fate::Fine => {
                let result = read.await;
                self.after().await;
                result
            }
            _ => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "simulated: the store is not available",
            )),
        }
    }

    /// What is sent arrives, also when whoever sent it is gone.
    async fn write<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let unknown = || StoreError::new(StoreErrorKind::OutcomeUnknown, "simulated: no answer came");
        match self.before(true).await {
            Fate::Fine => {
                let result = write.await;
                self.after().await;
                result
            }
            Fate::Fails => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "simulated: the store is not available",
            )),
            Fate::RequestLost => Err(unknown()),
            Fate::AnswerLost => {
                // A refusal is an answer, too.
                let _ = write.await;
                Err(unknown())
            }
            Fate::Late(ms) => {
                let late = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    write.await
                });
                late.await.unwrap_or_else(|_| Err(unknown()))
            }
        }
    }

    async fn after(&self) {
        if self.controller.is_dead() {
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl Store for StoreLink {
    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError> {
        self.read(self.shared.memory.get(key)).await
    }

    async fn find(&self, kind: Kind, unique: &str) -> Result<Option<StoredDocument>, StoreError> {
        self.read(self.shared.memory.find(kind, unique)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError> {
        self.read(self.shared.memory.list(query)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<DocumentVersion>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let controller = self.controller.clone();
        self.write(async move {
            let told: Vec<String> = batch
                .ops
                .iter()
                .filter_map(|op| match op {
                    Op::Append(event) => {
                        Some(format!("c{} {}: {}", controller.id(), event.kind, event.message))
                    }
                    _ => None,
                })
                .collect();
            let result = shared.memory.commit(batch).await;
            if result.is_ok() {
                shared.commits.fetch_add(1, Ordering::SeqCst);
                for line in told {
                    controller.world().note(line);
                }
            }
            result
        })
        .await
    }

    async fn events(
        &self,
        subject: Option<Uuid>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(self.shared.memory.events(subject, after, limit)).await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
    ) -> Result<Result<Lease, Lease>, StoreError> {
        let (memory, name, holder) = (
            Arc::clone(&self.shared.memory),
            name.to_owned(),
            holder.to_owned(),
        );
        self.write(async move { memory.acquire_lease(&name, &holder, now, ttl_ms).await })
            .await
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), StoreError> {
        let (memory, token) = (Arc::clone(&self.shared.memory), token.clone());
        self.write(async move { memory.release_lease(&token).await })
            .await
    }

    async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError> {
        let memory = Arc::clone(&self.shared.memory);
        self.write(async move { memory.expire(now, keep_events).await })
            .await
    }
}
