//! [`LibvirtBackend`]: what all calls share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind, InfraEvent, Infrastructure, NodeRef, PowerOff};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::LibvirtOptions;
use crate::ahead::{self, Ahead};
use crate::events;
use crate::pool::Image;
use crate::virsh::{Hypervisor, Virsh};
use crate::xml::{Accelerator, Subnet, probe};

/// Slower readers of hints are told that they missed some.
const EVENTS_KEPT: usize = 1024;

/// How long a machine runs that shows whether KVM works.
const PROBE: Duration = Duration::from_millis(300);

/// PostgreSQL nodes as virtual machines. See the crate's documentation.
///
/// Dropping it stops what it does in the background; machines run on.
pub struct LibvirtBackend {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for LibvirtBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibvirtBackend")
            .field("uri", &self.inner.options.uri)
            .field("owner", &self.inner.options.owner)
            .finish_non_exhaustive()
    }
}

impl Drop for LibvirtBackend {
    fn drop(&mut self) {
        self.inner.tasks.lock().abort_all();
    }
}

impl LibvirtBackend {
    /// Connects to a libvirt, now or when it is there: one that is away makes calls fail with `Unavailable`,
    /// not this one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unsupported` if the options make no sense.
    pub fn connect(options: LibvirtOptions) -> Result<LibvirtBackend, InfraError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        for (what, text) in [
            ("owner", &options.owner),
            ("network", &options.network),
            ("pool", &options.pool),
        ] {
            if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.chars().all(is_plain) {
                let message = format!("the {what} must be up to 64 letters, digits and - _ ., not {text:?}");
                return Err(InfraError::new(InfraErrorKind::Unsupported, message));
            }
        }
        let libvirt = Virsh {
            uri: options.uri.clone(),
            deadline: options.request_timeout,
        };
        let inner = Arc::new(Inner {
            libvirt: Box::new(libvirt),
            options,
            accelerator: Mutex::default(),
            pool_path: Mutex::default(),
            subnet: Mutex::default(),
            images: Mutex::default(),
            addresses: tokio::sync::Mutex::default(),
            ahead: Arc::default(),
            nodes: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            tasks: Mutex::default(),
        });
        inner.spawn(events::watch(Arc::downgrade(&inner)));
        inner.spawn(ahead::keep_filled(Arc::downgrade(&inner)));
        Ok(LibvirtBackend { inner })
    }

    /// How many sets of the warm pool are ready.
    ///
    /// # Errors
    /// libvirt's.
    pub async fn warm_sets(&self) -> Result<usize, InfraError> {
        ahead::ready(&self.inner).await
    }

    /// Removes the warm pool. Another one is made only by a backend that is connected later.
    ///
    /// # Errors
    /// libvirt's.
    pub async fn remove_warm_pool(&self) -> Result<(), InfraError> {
        self.inner.tasks.lock().abort_all();
        ahead::discard_all(&self.inner).await
    }

    /// Switches every node off, all at the same time: as [`PowerOff::Graceful`] with this deadline.
    ///
    /// # Errors
    /// The first node's that could not be switched off; the others are off nevertheless.
    pub async fn stop_all(&self, deadline: Duration) -> Result<(), InfraError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        // What is done in the background begins nothing any more.
        self.inner.tasks.lock().abort_all();
        ahead::discard_unfinished(&self.inner).await?;
        let nodes = self.list().await?;
        let all = nodes
            .iter()
            .map(|&node| self.power_off(node, PowerOff::Graceful { deadline_ms }));
        join_all(all).await.into_iter().collect()
    }
}

/// A node, known or asked about.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    /// Held by the one call that works on the node.
    pub(crate) op: Arc<tokio::sync::Mutex<()>>,
    /// Grows with every change of ours.
    changes: AtomicU64,
    starting: AtomicU64,
    stopping: AtomicU64,
    /// Its disk is being copied.
    copying: AtomicU64,
    /// Starts that somebody follows, or waits with.
    followed: Mutex<BTreeSet<String>>,
    /// Told of each event.
    pub(crate) told: tokio::sync::Notify,
}

impl Handle {
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on a node that is off is about to run; until the guard is dropped.
    pub(crate) fn starting(self: &Arc<Self>) -> Doing {
        Doing::begin(self, |handle| &handle.starting)
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::SeqCst) > 0
    }

    /// From now on the node's end is our will; until the guard is dropped.
    pub(crate) fn stopping(self: &Arc<Self>) -> Doing {
        Doing::begin(self, |handle| &handle.stopping)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn copying(self: &Arc<Self>) -> Doing {
        Doing::begin(self, |handle| &handle.copying)
    }

    pub(crate) fn is_copying(&self) -> bool {
        self.copying.load(Ordering::SeqCst) > 0
    }

    /// Whether nobody has followed this start so far; from now on somebody does.
    pub(crate) fn follow(&self, start: &str) -> bool {
        self.followed.lock().insert(start.to_owned())
    }

    pub(crate) fn follow_no_more(&self, start: &str) {
        self.followed.lock().remove(start);
    }
}

/// Something that is being done to a node, until this is dropped.
pub(crate) struct Doing {
    handle: Arc<Handle>,
    what: fn(&Handle) -> &AtomicU64,
}

impl Doing {
    fn begin(handle: &Arc<Handle>, what: fn(&Handle) -> &AtomicU64) -> Doing {
        what(handle).fetch_add(1, Ordering::SeqCst);
        handle.change();
        Doing {
            handle: Arc::clone(handle),
            what,
        }
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        (self.what)(&self.handle).fetch_sub(1, Ordering::SeqCst);
        self.handle.change();
    }
}

pub(crate) struct Inner {
    pub(crate) libvirt: Box<dyn Hypervisor>,
    pub(crate) options: LibvirtOptions,
    accelerator: Mutex<Option<Accelerator>>,
    pub(crate) pool_path: Mutex<Option<String>>,
    pub(crate) subnet: Mutex<Option<Subnet>>,
    /// By name.
    pub(crate) images: Mutex<HashMap<String, Image>>,
    /// Held while an address is chosen and written down.
    pub(crate) addresses: tokio::sync::Mutex<()>,
    pub(crate) ahead: Arc<Ahead>,
    nodes: Mutex<BTreeMap<NodeRef, Arc<Handle>>>,
    events: broadcast::Sender<InfraEvent>,
    tasks: Mutex<JoinSet<()>>,
}

impl Inner {
    pub(crate) fn handle(&self, node: NodeRef) -> Arc<Handle> {
        Arc::clone(self.nodes.lock().entry(node).or_default())
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn drop_handle(&self, node: NodeRef, handle: &Arc<Handle>) {
        let mut nodes = self.nodes.lock();
        // The map's and the caller's.
        if Arc::strong_count(handle) <= 2 {
            nodes.remove(&node);
        }
    }

    /// Runs something in the background, until the backend is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    pub(crate) fn changed(&self, node: NodeRef) {
        if let Some(handle) = self.nodes.lock().get(&node) {
            handle.change();
            handle.told.notify_waiters();
        }
        if !ahead::is_set(node) {
            // Nobody may be listening.
            let _ = self.events.send(InfraEvent::NodeChanged(node));
        }
    }

    /// Whether some node is on its way up.
    pub(crate) fn is_preparing(&self) -> bool {
        let nodes = self.nodes.lock();
        nodes
            .values()
            .any(|handle| handle.is_starting() || !handle.followed.lock().is_empty())
    }

    pub(crate) fn missed(&self) {
        let _ = self.events.send(InfraEvent::Missed);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }

    /// How machines are run here: by KVM where libvirt offers it, the processor has it and a machine really
    /// runs by it, which is tried; a device file alone says nothing.
    pub(crate) async fn accelerator(&self) -> Result<Accelerator, InfraError> {
        if let Some(known) = *self.accelerator.lock() {
            return Ok(known);
        }
        let found = match self.options.emulate {
            Some(true) => Accelerator::Emulated,
            Some(false) => Accelerator::Kvm,
            None => match self.try_kvm().await? {
                Ok(()) => Accelerator::Kvm,
                Err(why) => {
                    tracing::warn!(uri = %self.options.uri, %why, "no hardware virtualisation: machines are emulated, and many times slower");
                    Accelerator::Emulated
                }
            },
        };
        *self.accelerator.lock() = Some(found);
        Ok(found)
    }
}

impl Inner {
    /// Runs a machine without disks by KVM, for a moment. The inner error: why that does not work here.
    async fn try_kvm(&self) -> Result<Result<(), String>, InfraError> {
        let questions = ["capabilities", "domcapabilities --virttype kvm"].map(str::to_owned);
        let answers = self.libvirt.ask(&questions).await?;
        let [host, kvm] = answers.as_slice() else {
            return Err(InfraError::new(
                InfraErrorKind::Other,
                "libvirt tells no capabilities",
            ));
        };
        if kvm.is_empty() {
            return Ok(Err("libvirt does not offer it".to_owned()));
        }
        // What offers KVM without them emulates a part of it, and small machines run there that larger ones
        // do not follow.
        let host = String::from_utf8_lossy(host);
        let features = ["<feature name='vmx'/>", "<feature name='svm'/>"];
        if !features.iter().any(|feature| host.contains(feature)) {
            return Ok(Err("the host's processor has neither vmx nor svm".to_owned()));
        }
        let name = format!("dbaas-probe-{}", uuid::Uuid::new_v4());
        let xml = probe(&name, &self.options.owner);
        match self
            .libvirt
            .run(&["create", "/dev/stdin"], Some(xml.into_bytes()))
            .await
        {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    InfraErrorKind::Unavailable | InfraErrorKind::OutcomeUnknown
                ) =>
            {
                return Err(error);
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
        // A processor that cannot run guests ends the machine, or has it paused, with its first instruction.
        tokio::time::sleep(PROBE).await;
        let state = self.libvirt.ask(&[format!("domstate --reason {name}")]).await?;
        let state = state
            .first()
            .map(|said| String::from_utf8_lossy(said).trim().to_owned());
        // It vanishes with its end.
        let _ = self.libvirt.run(&["destroy", &name], None).await;
        Ok(match state {
            Some(state) if state.starts_with("running") => Ok(()),
            other => Err(format!(
                "a machine that was tried did not run ({})",
                other.unwrap_or_default()
            )),
        })
    }

    /// A machine that KVM ran stands still before it has said anything: KVM does not work here after all.
    /// Whether that is new.
    pub(crate) fn give_kvm_up(&self) -> bool {
        let mut accelerator = self.accelerator.lock();
        if self.options.emulate.is_some() || *accelerator != Some(Accelerator::Kvm) {
            return false;
        }
        tracing::warn!(uri = %self.options.uri, "a machine stands still in its boot by KVM: from now on machines are emulated, and many times slower");
        *accelerator = Some(Accelerator::Emulated);
        true
    }

    /// What users should know of every instance here.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match *self.accelerator.lock() {
            Some(Accelerator::Emulated) => vec![
                "machines are emulated, as there is no hardware virtualisation here: they are many times slower".to_owned(),
            ],
            _ => Vec::new(),
        }
    }

    /// How often the nodes of an instance were changed by us, or told of.
    pub(crate) fn changes_of(&self, instance: dbaas_core::id::InstanceId) -> Vec<(NodeRef, u64)> {
        self.nodes
            .lock()
            .iter()
            .filter(|(node, _)| node.instance == instance)
            .map(|(node, handle)| (*node, handle.changes()))
            .collect()
    }
}
