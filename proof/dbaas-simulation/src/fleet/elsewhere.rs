//! The simulated world on a thread of its own, and a store that counts.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use dbaas_core::boot::BootRecipe;
use dbaas_core::config::HbaRules;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, Endpoint, InfraError, InfraEvents, Infrastructure, NodeRef,
    NodeSpec, ObservedNodes, PowerOff,
};
use dbaas_core::sql_executor::{Rows, Script, SqlError, SqlExecutor, SqlTarget};
use dbaas_core::store::{
    Batch, DocumentKey, DocumentVersion, Kind, Lease, LeaseToken, ListQuery, Store, StoreError,
    StoredDocument, StoredEvent,
};
use dbaas_core::time::Timestamp;
use dbaas_store::SqliteStore;
use dbaas_testkit::simulated::SimWorld;
use tokio::runtime::Handle;
use uuid::Uuid;

/// A world that runs on its own thread.
pub(super) struct World {
    pub(super) sim: SimWorld,
    runtime: Handle,
    /// The thread's directory below `/proc`.
    pub(super) thread: String,
    looks: Arc<AtomicU64>,
}

impl World {
    pub(super) fn start(sim: SimWorld) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (handle, world) = (runtime.handle().clone(), sim.clone());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let link = std::fs::read_link("/proc/thread-self");
            let thread = link.map_or_else(|_| String::new(), |link| link.display().to_string());
            // Whoever started it has given up if nobody listens.
            let _ = tell.send(thread);
            runtime.block_on(world.run());
        });
        Ok(World {
            sim,
            runtime: handle,
            thread: told.recv()?,
            looks: Arc::default(),
        })
    }

    /// How often an instance was looked at.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

/// Calls are carried out on the world's thread, as an engine or a server would.
pub(super) struct Elsewhere<T> {
    inner: Arc<T>,
    runtime: Handle,
    looks: Arc<AtomicU64>,
}

impl<T: Send + Sync + 'static> Elsewhere<T> {
    pub(super) fn new(world: &World, inner: T) -> Self {
        Elsewhere {
            inner: Arc::new(inner),
            runtime: world.runtime.clone(),
            looks: Arc::clone(&world.looks),
        }
    }

    async fn call<A, F>(&self, call: impl FnOnce(Arc<T>) -> F) -> A
    where
        A: Send + 'static,
        F: Future<Output = A> + Send + 'static,
    {
        match self.runtime.spawn(call(Arc::clone(&self.inner))).await {
            Ok(answer) => answer,
            // The world has ended.
            Err(_) => pending().await,
        }
    }
}

#[async_trait]
impl<T: Infrastructure> Infrastructure for Elsewhere<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn hba_rules(&self) -> HbaRules {
        self.inner.hba_rules()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        self.call(|inner| async move { inner.versions().await }).await
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.call(|inner| async move { inner.observe(instance).await })
            .await
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        self.call(|inner| async move { inner.list().await }).await
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        self.call(|inner| async move { inner.apply(&spec).await }).await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let recipe = recipe.clone();
        self.call(|inner| async move { inner.start(node, &recipe).await })
            .await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        self.call(|inner| async move { inner.power_off(node, mode).await })
            .await
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.call(|inner| async move { inner.remove(node, data).await })
            .await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        self.call(|inner| async move { inner.logs(node, lines).await })
            .await
    }

    fn events(&self) -> InfraEvents {
        self.inner.events()
    }
}

#[async_trait]
impl<T: SqlExecutor> SqlExecutor for Elsewhere<T> {
    async fn run(&self, target: &SqlTarget, script: &Script) -> Result<Vec<Rows>, SqlError> {
        let (target, script) = (target.clone(), script.clone());
        self.call(|inner| async move { inner.run(&target, &script).await })
            .await
    }

    fn forget(&self, endpoint: &Endpoint) {
        self.inner.forget(endpoint);
    }
}

/// A store whose batches are counted.
pub(super) struct CountedStore {
    inner: SqliteStore,
    commits: AtomicU64,
}

impl CountedStore {
    pub(super) fn new(inner: SqliteStore) -> Self {
        CountedStore {
            inner,
            commits: AtomicU64::new(0),
        }
    }

    /// How many batches were committed.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for CountedStore {
    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError> {
        self.inner.get(key).await
    }

    async fn find(&self, kind: Kind, unique: &str) -> Result<Option<StoredDocument>, StoreError> {
        self.inner.find(kind, unique).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError> {
        self.inner.list(query).await
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<DocumentVersion>, StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(batch).await
    }

    async fn events(
        &self,
        subject: Option<Uuid>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.events(subject, after, limit).await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
    ) -> Result<Result<Lease, Lease>, StoreError> {
        self.inner.acquire_lease(name, holder, now, ttl_ms).await
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), StoreError> {
        self.inner.release_lease(token).await
    }

    async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError> {
        self.inner.expire(now, keep_events).await
    }
}
