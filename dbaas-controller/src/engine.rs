//! The engine: brings instances to what was asked for. Event-driven; a heartbeat is what is left when nothing
//! happens.
//!
//! [`queue`] says which instance is next · [`pass`] is one instance's pass · [`observe`] looks ·
//! `dbaas_core::plan` decides · [`act`] performs · [`memory`] is what is remembered between passes ·
//! [`orphans`] tells of nodes that nobody knows · [`refresh`] finds what was asked of other control planes.

mod act;
mod inside;
mod memory;
mod observe;
mod orphans;
mod pass;
mod queue;
mod refresh;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::InfraEvent;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::patience::{SILENT_MS, TRIAL_APART_MS, TRIAL_EVERY_MS};
use dbaas_core::plan::Policy;
use dbaas_core::steady::Steady;
use dbaas_core::store::{Lease, LeaseToken};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::ports::Ports;
use memory::InstanceMemory;
use pass::Next;
use queue::Queue;

/// The lease that the engine acts under.
const LEASE: &str = "controller";
/// How often the store is searched for what another control plane on it was asked for.
const SWEEP: Duration = Duration::from_secs(10);
/// After how many such searches the store is tidied.
const SWEEPS_PER_TIDYING: u32 = 3;
/// After how many tidyings the infrastructure's nodes are compared with the instances.
const TIDYINGS_PER_COMPARISON: u32 = 10;
/// Between the first looks at two instances, when this control plane begins to act: each needs a session of
/// its own ...
const FIRST_LOOKS_APART: Duration = Duration::from_millis(2);
/// ... and the last one is looked at after so long at the latest.
const FIRST_LOOKS_WITHIN: Duration = Duration::from_secs(20);
/// Between two times that all instances are looked at at once, because hints of deaths were missed. Without
/// them each is looked at once per heartbeat.
const ALL_AT_ONCE_APART: Duration = Duration::from_secs(2);

/// What the engine saw last of an instance; kept in memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveView {
    /// By node.
    pub(crate) nodes: BTreeMap<NodeId, LiveNode>,
    /// When the primary was last seen to serve: the last look was answered, and the last trial went well.
    pub(crate) serves_at: Option<Steady>,
}

/// What the engine saw last of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveNode {
    /// Bytes of WAL that it is behind the primary.
    pub(crate) lag_bytes: Option<u64>,
    /// Bytes free on its data disk.
    pub(crate) disk_free_bytes: Option<u64>,
}

pub(crate) struct Engine {
    ports: Arc<Ports>,
    policy: Policy,
    queue: Queue,
    memory: Mutex<HashMap<InstanceId, InstanceMemory>>,
    lease: Mutex<Option<LeaseToken>>,
    /// Every instance of the store is in `memory`, whether or not its records were read yet.
    knows_all: Mutex<bool>,
    holder: String,
    stop: watch::Sender<bool>,
}

/// The façade's view of the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    engine: Arc<Engine>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl EngineHandle {
    /// Something was asked of this instance: look at it now.
    pub(crate) fn wake(&self, instance: InstanceId) {
        self.engine.with_memory(instance, InstanceMemory::doubt);
        self.engine.queue.interrupt(instance);
    }

    /// Those of all instances that match, as far as is remembered, and those of which nothing is: in the
    /// order of their ids, after this one. `None` where not all of them are known: others write to the store,
    /// or this control plane does not act (yet).
    pub(crate) fn candidates(
        &self,
        after: Option<InstanceId>,
        matches: impl Fn(&InstanceRecord) -> bool,
    ) -> Option<Vec<InstanceId>> {
        let memory = self.engine.memory.lock();
        if !self.engine.ports.settings.alone || !*self.engine.knows_all.lock() {
            return None;
        }
        let may_match = |remembered: &InstanceMemory| {
            let known = remembered.known.as_ref();
            known.is_none_or(|known| matches(&known.loaded.instance.record))
        };
        let found = memory
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| **id > after));
        let mut found: Vec<InstanceId> = found
            .filter(|(_, remembered)| may_match(remembered))
            .map(|(id, _)| *id)
            .collect();
        found.sort_unstable();
        Some(found)
    }

    /// What was seen last of it.
    pub(crate) fn live(&self, instance: InstanceId) -> Option<LiveView> {
        self.engine.memory.lock().get(&instance).map(|m| m.live.clone())
    }

    /// How many instances were looked at.
    #[cfg(feature = "proof")]
    pub(crate) fn looked_at(&self) -> usize {
        let memory = self.engine.memory.lock();
        memory.values().filter(|m| !m.live.nodes.is_empty()).count()
    }

    /// Whether the primary serves, as far as was seen a moment ago.
    pub(crate) fn serves(&self, instance: InstanceId) -> bool {
        let now = self.engine.ports.steady();
        let seen = self.live(instance).and_then(|view| view.serves_at);
        seen.is_some_and(|at| now.since_ms(at) <= SILENT_MS)
    }

    /// Whether this control plane is the one that acts.
    pub(crate) fn is_leader(&self) -> bool {
        self.engine.lease().is_some()
    }

    /// Who this control plane is among those on its store.
    pub(crate) fn holder(&self) -> &str {
        &self.engine.holder
    }

    /// Has a task end with the engine's own.
    pub(crate) fn with_task(&self, task: JoinHandle<()>) {
        self.tasks.lock().push(task);
    }

    /// Says when the control plane is to stop.
    pub(crate) fn stopping(&self) -> tokio::sync::watch::Receiver<bool> {
        self.engine.stop.subscribe()
    }

    /// Ends passes between two actions. Touches no PostgreSQL.
    pub(crate) async fn shutdown(&self, deadline: Duration) {
        self.engine.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let until = tokio::time::Instant::now() + deadline;
        for mut task in tasks {
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                task.abort();
            }
        }
        let lease = self.engine.lease.lock().take();
        if let Some(lease) = lease {
            // If it cannot be given back it runs out by itself.
            let _ = self.engine.ports.repository.store().release_lease(&lease).await;
        }
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        // The last handle of a control plane that was dropped without `shutdown`: nothing goes on behind its
        // back.
        if Arc::strong_count(&self.tasks) == 1 {
            self.engine.stop.send_replace(true);
            for task in self.tasks.lock().drain(..) {
                task.abort();
            }
        }
    }
}

impl Engine {
    /// Starts the engine's tasks on the current runtime.
    pub(crate) fn spawn(ports: Arc<Ports>) -> EngineHandle {
        let mut policy = ports.settings.policy.clone();
        policy.capabilities = ports.infrastructure.capabilities();
        policy.hba = (ports.settings.hba.clone()).unwrap_or_else(|| ports.infrastructure.hba_rules());
        let holder = ports
            .settings
            .lease_holder
            .clone()
            .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let engine = Arc::new(Engine {
            policy,
            queue: Queue::default(),
            memory: Mutex::default(),
            lease: Mutex::default(),
            knows_all: Mutex::default(),
            holder,
            stop: watch::Sender::new(false),
            ports,
        });
        let tasks = vec![
            tokio::spawn(Arc::clone(&engine).keep_lease()),
            tokio::spawn(Arc::clone(&engine).sweep()),
            tokio::spawn(Arc::clone(&engine).listen()),
            tokio::spawn(Arc::clone(&engine).work()),
        ];
        EngineHandle {
            engine,
            tasks: Arc::new(Mutex::new(tasks)),
        }
    }

    fn with_memory<T>(&self, id: InstanceId, f: impl FnOnce(&mut InstanceMemory) -> T) -> T {
        f(self.memory.lock().entry(id).or_default())
    }

    /// Between two trials of one instance's primary: where there are very many, each is tried more rarely.
    fn trial_every_ms(&self) -> u64 {
        let instances = u64::try_from(self.memory.lock().len()).unwrap_or(u64::MAX);
        TRIAL_EVERY_MS.max(instances.saturating_mul(TRIAL_APART_MS))
    }

    fn lease(&self) -> Option<LeaseToken> {
        self.lease.lock().clone()
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    fn interrupt_of(&self, id: InstanceId) -> Arc<Notify> {
        self.queue.interrupt_of(id)
    }

    /// Sleeps, or ends early because the engine stops.
    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stopped()).await;
    }

    async fn stopped(&self) {
        // An error means that the sender is gone, which is `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Takes the lease and keeps it. Without it nothing is done.
    async fn keep_lease(self: Arc<Self>) {
        let ttl = self.ports.settings.lease_ttl;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut told = false;
        let mut renewed: Option<tokio::time::Instant> = None;
        let mut others: Option<(Lease, tokio::time::Instant)> = None;
        while !self.is_stopping() {
            let asked = tokio::time::Instant::now();
            // A lease that nobody has renewed for as long as it is taken for has run out, whatever the clocks
            // of this machine and of its holder say. That its holder may think otherwise is what the fencing
            // number is for.
            let now = match &others {
                Some((lease, since)) if since.elapsed() > ttl => self.ports.now().max(lease.expires_at),
                _ => self.ports.now(),
            };
            let call = self
                .ports
                .repository
                .store()
                .acquire_lease(LEASE, &self.holder, now, ttl_ms);
            let (mine, next) = match tokio::time::timeout(ttl / 3, call).await {
                Ok(Ok(Ok(lease))) => {
                    renewed = Some(asked);
                    others = None;
                    (Some(lease.token), ttl / 3)
                }
                Ok(Ok(Err(other))) => {
                    if !told {
                        tracing::warn!(holder = other.holder, until = %other.expires_at, "another controller acts; waiting for its lease");
                        told = true;
                    }
                    if others.as_ref().is_none_or(|(lease, _)| *lease != other) {
                        others = Some((other, asked));
                    }
                    (None, Duration::from_millis(500))
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                    (
                        self.lease()
                            .filter(|_| renewed.is_some_and(|at| at.elapsed() < ttl)),
                        Duration::from_millis(500),
                    )
                }
                Err(_) => (None, Duration::from_millis(500)),
            };
            // Another number: somebody else acted meanwhile, and may have decided something.
            let gained = mine.is_some() && *self.lease.lock() != mine;
            if gained {
                self.memory.lock().values_mut().for_each(InstanceMemory::doubt);
            }
            if mine.is_none() {
                *self.knows_all.lock() = false;
            }
            *self.lease.lock() = mine;
            if gained {
                told = false;
                tracing::info!(holder = self.holder, "this controller acts");
                self.look_at_all().await;
            }
            self.pause(next).await;
        }
    }

    /// Has every instance looked at, one after the other; first those that are not as asked for. Where the
    /// store does not answer, the next sweep finds them.
    async fn look_at_all(&self) {
        let repository = &self.ports.repository;
        let read = async {
            Ok((
                repository.list_instance_ids().await?,
                repository.list_settled().await?,
            ))
        };
        let (mut ids, settled) = match read.await {
            Ok(read) => read,
            Err(error) => {
                let error: dbaas_core::store::StoreError = error;
                tracing::warn!(%error, "the list of instances could not be read");
                return;
            }
        };
        ids.sort_by_key(|id| settled.contains(id));
        for id in &ids {
            self.with_memory(*id, |_| ());
        }
        *self.knows_all.lock() = true;
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let apart = FIRST_LOOKS_APART.min(FIRST_LOOKS_WITHIN / count);
        let now = tokio::time::Instant::now();
        for (place, id) in (0u32..).zip(ids) {
            self.queue.wake_at(id, now + apart * place);
        }
    }

    async fn sweep(self: Arc<Self>) {
        let mut orphans = orphans::Orphans::default();
        let mut sweeps = 0u32;
        while !self.is_stopping() {
            self.pause(SWEEP).await;
            if self.is_stopping() || self.lease().is_none() {
                continue;
            }
            if let Err(error) = self.find_changes().await {
                tracing::warn!(%error, "the store could not be searched for changes");
            }
            sweeps = sweeps.wrapping_add(1);
            if !sweeps.is_multiple_of(SWEEPS_PER_TIDYING) {
                continue;
            }
            // Twice in a row, because what is found has to be found again.
            if (sweeps / SWEEPS_PER_TIDYING - 1) % TIDYINGS_PER_COMPARISON < 2 {
                self.look_for_orphans(&mut orphans).await;
            }
            let keep = self.ports.settings.keep_events;
            if let Err(error) = self.ports.repository.store().expire(self.ports.now(), keep).await {
                tracing::warn!(%error, "the store could not be tidied");
            }
            let (instances, running) = self.queue.size();
            ::metrics::gauge!(crate::metrics::INSTANCES).set(instances as f64);
            ::metrics::gauge!(crate::metrics::PASSES_RUNNING).set(running as f64);
        }
    }

    /// The infrastructure's hints: a node that died is looked at within milliseconds.
    async fn listen(self: Arc<Self>) {
        let mut all_at: Option<tokio::time::Instant> = None;
        while !self.is_stopping() {
            let mut events = self.ports.infrastructure.events();
            loop {
                let event = tokio::select! {
                    biased;
                    () = self.stopped() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { break };
                match event {
                    InfraEvent::NodeChanged(node) => self.queue.interrupt(node.instance),
                    // One who is behind misses more and more: looking at everything each time would keep
                    // it behind.
                    InfraEvent::Missed if all_at.is_none_or(|at| at.elapsed() >= ALL_AT_ONCE_APART) => {
                        all_at = Some(tokio::time::Instant::now());
                        self.queue.wake_all();
                    }
                    InfraEvent::Missed => {}
                }
            }
            // The stream has ended: what it did not tell is found by looking.
            self.pause(Duration::from_secs(1)).await;
            self.queue.wake_all();
        }
    }

    async fn work(self: Arc<Self>) {
        let slots = Arc::new(Semaphore::new(self.ports.settings.concurrency.max(1)));
        let mut passes = JoinSet::new();
        while !self.is_stopping() {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let id = tokio::select! {
                biased;
                () = self.stopped() => break,
                id = self.queue.next() => id,
            };
            while passes.try_join_next().is_some() {}
            let engine = Arc::clone(&self);
            passes.spawn(async move {
                let next = engine.pass(id).await;
                match next {
                    Next::After(wait) => engine.queue.done(id, Some(wait)),
                    Next::Forget => {
                        engine.memory.lock().remove(&id);
                        engine.queue.done(id, None);
                    }
                }
                drop(slot);
            });
        }
        while passes.join_next().await.is_some() {}
    }
}
