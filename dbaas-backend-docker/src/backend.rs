//! [`DockerBackend`]: what all calls share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    Endpoint, InfraError, InfraErrorKind, InfraEvent, Infrastructure, NodeRef, ObservedNode, PowerOff,
    PowerState,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::DockerOptions;
use crate::container::Found;
use crate::death::Death;
use crate::disk::Disks;
use crate::engine::Engine;
use crate::events;
use crate::image::Pull;
use crate::registry;
use dbaas_node_start::archive::Account;
use dbaas_node_start::control::Control;

/// Slower readers of hints are told that they missed some.
const EVENTS_KEPT: usize = 1024;

/// PostgreSQL nodes as containers. See the crate's documentation.
///
/// Dropping it stops what it does in the background; containers run on.
pub struct DockerBackend {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for DockerBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerBackend")
            .field("host", &self.inner.engine.host())
            .field("owner", &self.inner.options.owner)
            .finish_non_exhaustive()
    }
}

impl Drop for DockerBackend {
    fn drop(&mut self) {
        self.inner.tasks.lock().abort_all();
    }
}

impl DockerBackend {
    /// Connects to an engine, now or when it is there: an engine that is away makes calls fail with
    /// `Unavailable`, not this one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unsupported` if the options make no sense, ask for disks of a fixed size where there can be none, or
    /// name a file of logins that cannot be used.
    pub fn connect(options: DockerOptions) -> Result<DockerBackend, InfraError> {
        let unsupported = |message: &str| Err(InfraError::new(InfraErrorKind::Unsupported, message));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if options.owner.is_empty() || options.owner.len() > 128 || !options.owner.chars().all(is_plain) {
            return unsupported("the owner must be up to 128 letters, digits and - _ .");
        }
        if options.port_range.is_empty() || *options.port_range.start() == 0 {
            return unsupported("the range of ports is empty, or begins with 0");
        }
        let engine = Engine::new(options.host.as_deref(), options.request_timeout)?;
        if let Some(file) = &options.registry_login_file {
            registry::check(file)?;
        }
        let disks = match &options.disk_limits {
            Some(directory) => Some(Disks::new(directory, &options.owner, engine.host())?),
            None => None,
        };
        let inner = Arc::new(Inner {
            engine,
            disks,
            options,
            pulls: Mutex::default(),
            accounts: Mutex::default(),
            kept: Mutex::default(),
            cpus: Mutex::default(),
            platform: Mutex::default(),
            network: tokio::sync::Mutex::default(),
            ports: tokio::sync::Mutex::default(),
            nodes: Mutex::default(),
            changes: AtomicU64::new(0),
            listed: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            tasks: Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        inner.spawn(events::watch(weak.clone()));
        if inner.disks.is_some() {
            inner.spawn(events::clean(weak));
        }
        Ok(DockerBackend { inner })
    }

    /// Switches every node off, all at the same time: as [`PowerOff::Graceful`] with this deadline.
    ///
    /// # Errors
    /// The first node's that could not be switched off; the others are off nevertheless.
    pub async fn stop_all(&self, deadline: Duration) -> Result<(), InfraError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let nodes = self.list().await?;
        let all = nodes
            .iter()
            .map(|&node| self.power_off(node, PowerOff::Graceful { deadline_ms }));
        join_all(all).await.into_iter().collect()
    }
}

/// For so long a node that is being prepared need not be looked at again, unless something is told of it:
/// each look takes the engine's time from the preparation.
const PREPARING_FRESH: Duration = Duration::from_secs(1);

/// What was read from a node's volume, and of which life of the container.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    pub(crate) life: Life,
    pub(crate) control: Control,
    /// When this life was first known.
    pub(crate) since: Instant,
    /// The volume was made a moment ago, and nothing was put there but what is to be known of the node.
    pub(crate) is_empty: bool,
}

impl Cached {
    /// Whether it is true of this life of the container. Where the server had been started, its end changes
    /// nothing of it.
    pub(crate) fn is_of(&self, life: &Life) -> bool {
        self.life == *life
            || (self.control.up
                && self.life.container == life.container
                && self.life.started_at == life.started_at)
    }
}

/// Changes whenever the container starts, ends or is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) container: String,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
}

/// A node, known or asked about.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    /// Held by the one call that works on the node.
    pub(crate) op: Arc<tokio::sync::Mutex<()>>,
    pub(crate) cached: Mutex<Option<Cached>>,
    /// Grows with every change of the volume that is ours.
    generation: AtomicU64,
    /// The container as it was last seen.
    found: Mutex<Option<Found>>,
    /// The node as it was last seen.
    seen: Mutex<Option<ObservedNode>>,
    death: Mutex<Option<Death>>,
    told: AtomicU64,
    /// Told of each death.
    pub(crate) died: tokio::sync::Notify,
    starting: AtomicBool,
    /// The start that is under way initialises the node.
    initialising: AtomicBool,
    stopping: AtomicBool,
    /// A node that is being prepared, as it was seen and when.
    preparing: Mutex<Option<(Instant, ObservedNode)>>,
}

impl Handle {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// What is known now, after a change of ours.
    pub(crate) fn remember(&self, life: Life, control: Control) {
        self.keep(Some(Cached {
            life,
            control,
            since: Instant::now(),
            is_empty: false,
        }));
    }

    /// The same of a node whose volume is new.
    pub(crate) fn remember_empty(&self, life: Life, control: Control) {
        self.keep(Some(Cached {
            life,
            control,
            since: Instant::now(),
            is_empty: true,
        }));
    }

    fn keep(&self, known: Option<Cached>) {
        let mut cached = self.cached.lock();
        self.generation.fetch_add(1, Ordering::SeqCst);
        *cached = known;
        self.look_again();
    }

    /// Whether the node's volume is known to hold no data.
    pub(crate) fn is_empty(&self, found: &Found) -> bool {
        let cached = self.cached.lock();
        cached
            .as_ref()
            .is_some_and(|c| c.is_empty && !found.running && c.is_of(&found.life))
    }

    /// Something is told of the node: it is to be looked at.
    pub(crate) fn look_again(&self) {
        let mut preparing = self.preparing.lock();
        self.told.fetch_add(1, Ordering::SeqCst);
        *preparing = None;
    }

    /// Changes with everything that is told of the node.
    pub(crate) fn told_so_far(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    /// The container was looked at.
    pub(crate) fn found(&self, found: Option<&Found>) {
        *self.found.lock() = found.cloned();
    }

    /// The node was looked at, from when so much had been told of it.
    pub(crate) fn seen(&self, seen: &ObservedNode, told: u64) {
        *self.seen.lock() = Some(seen.clone());
        let mut preparing = self.preparing.lock();
        if seen.power == PowerState::Preparing && self.told_so_far() == told {
            *preparing = Some((Instant::now(), seen.clone()));
        }
    }

    /// The engine told of a death; `None`: what it told is not to be believed any more.
    pub(crate) fn told(&self, death: Option<Death>) {
        let is_death = death.is_some();
        self.look_again();
        *self.death.lock() = death;
        if is_death {
            self.died.notify_waiters();
        }
    }

    /// The container, if it was seen running and the engine told a moment ago that it died.
    pub(crate) fn dead(&self) -> Option<Found> {
        let found = self.found.lock().clone()?;
        self.death.lock().as_ref()?.end_of(&found)
    }

    /// From now on the engine, which is busy with it, need not be asked about this node; until the guard is
    /// dropped.
    pub(crate) fn starting(self: &Arc<Self>) -> Starting {
        self.starting.store(true, Ordering::SeqCst);
        Starting(Arc::clone(self))
    }

    /// The start that is under way initialises the node.
    pub(crate) fn initialises(&self) {
        self.initialising.store(true, Ordering::SeqCst);
    }

    /// Whether the node is being initialised, as far as that is known without asking the engine.
    pub(crate) fn is_initialising(&self) -> bool {
        let starting = self.starting.load(Ordering::SeqCst);
        self.initialising.load(Ordering::SeqCst) || (!starting && self.remembered().is_some())
    }

    /// From now on the end of the server is our will; until the guard is dropped.
    pub(crate) fn stopping(&self) -> Stopping<'_> {
        self.stopping.store(true, Ordering::SeqCst);
        Stopping(self)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// What can be said of a node without asking the engine, which has more to do just now.
    pub(crate) fn remembered(&self) -> Option<ObservedNode> {
        if let Some(seen) = self.while_starting() {
            return Some(seen);
        }
        let preparing = self.preparing.lock();
        let (at, seen) = preparing.as_ref()?;
        (at.elapsed() < PREPARING_FRESH).then(|| seen.clone())
    }

    /// What is to be said of a node while it is being started: neither that it is off nor that it serves.
    fn while_starting(&self) -> Option<ObservedNode> {
        if !self.starting.load(Ordering::SeqCst) {
            return None;
        }
        let mut seen = self.seen.lock().clone()?;
        seen.power = PowerState::Preparing;
        Some(seen)
    }

    /// What was read is not true any more.
    pub(crate) fn forget(&self) {
        self.keep(None);
    }
}

/// See [`Handle::stopping`].
pub(crate) struct Stopping<'a>(&'a Handle);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stopping.store(false, Ordering::SeqCst);
    }
}

/// See [`Handle::starting`].
pub(crate) struct Starting(Arc<Handle>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.starting.store(false, Ordering::SeqCst);
        self.0.initialising.store(false, Ordering::SeqCst);
    }
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) options: DockerOptions,
    /// Where nodes have disks of a fixed size.
    pub(crate) disks: Option<Disks>,
    pub(crate) pulls: Mutex<HashMap<String, Pull>>,
    /// By image.
    pub(crate) accounts: Mutex<HashMap<String, Account>>,
    /// Volumes without a node, by the time that the engine made them.
    pub(crate) kept: Mutex<HashSet<(NodeRef, String)>>,
    pub(crate) cpus: Mutex<Option<u64>>,
    pub(crate) platform: Mutex<Option<String>>,
    /// The engine allows two networks of one name: they are made one after the other.
    pub(crate) network: tokio::sync::Mutex<()>,
    /// Held while a port is chosen and written down.
    pub(crate) ports: tokio::sync::Mutex<()>,
    nodes: Mutex<BTreeMap<NodeRef, Arc<Handle>>>,
    changes: AtomicU64,
    /// The nodes of instances, and when the engine named them.
    listed: Mutex<HashMap<InstanceId, (Instant, Vec<NodeRef>)>>,
    events: broadcast::Sender<InfraEvent>,
    tasks: Mutex<JoinSet<()>>,
}

impl Inner {
    pub(crate) fn handle(&self, node: NodeRef) -> Arc<Handle> {
        Arc::clone(self.nodes.lock().entry(node).or_default())
    }

    /// The handle of a node that was asked about before.
    pub(crate) fn known_handle(&self, node: NodeRef) -> Option<Arc<Handle>> {
        self.nodes.lock().get(&node).cloned()
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn drop_handle(&self, node: NodeRef, handle: &Arc<Handle>) {
        let mut nodes = self.nodes.lock();
        // The map's and the caller's.
        if Arc::strong_count(handle) <= 2 {
            nodes.remove(&node);
        }
    }

    /// Grows with everything that changes, by us or by what the engine tells.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// The engine named the nodes of an instance; it was asked after so many changes.
    pub(crate) fn listed(&self, instance: InstanceId, nodes: Vec<NodeRef>, changes: u64) {
        let mut listed = self.listed.lock();
        if self.changes() != changes {
            return;
        }
        listed.retain(|_, (at, _)| at.elapsed() < PREPARING_FRESH);
        listed.insert(instance, (Instant::now(), nodes));
    }

    /// All nodes of an instance, if nothing has to be asked for that: see [`Handle::remembered`].
    pub(crate) fn all_remembered(&self, instance: InstanceId) -> Option<Vec<ObservedNode>> {
        let listed = self.listed.lock();
        let (at, nodes) = listed.get(&instance)?;
        if at.elapsed() >= PREPARING_FRESH || nodes.is_empty() {
            return None;
        }
        let remembered = |node: &NodeRef| self.known_handle(*node)?.remembered();
        nodes.iter().map(remembered).collect()
    }

    /// What was told by events is not believed any more: some may have been missed.
    pub(crate) fn doubt_events(&self) {
        for handle in self.nodes.lock().values() {
            handle.told(None);
        }
    }

    /// Runs something in the background, until the backend is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    pub(crate) fn changed(&self, node: NodeRef) {
        let mut listed = self.listed.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        listed.remove(&node.instance);
        drop(listed);
        if let Some(handle) = self.known_handle(node) {
            handle.look_again();
        }
        // Nobody may be listening.
        let _ = self.events.send(InfraEvent::NodeChanged(node));
    }

    pub(crate) fn missed(&self) {
        let _ = self.events.send(InfraEvent::Missed);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }

    /// Where clients reach a node.
    pub(crate) fn endpoint(&self, port: u16) -> Endpoint {
        let host = match (&self.options.advertise_host, self.options.publish_address) {
            (Some(host), _) => host.clone(),
            (None, IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            (None, IpAddr::V6(ip)) if ip.is_unspecified() => "::1".to_owned(),
            (None, ip) => ip.to_string(),
        };
        Endpoint { host, port }
    }
}
