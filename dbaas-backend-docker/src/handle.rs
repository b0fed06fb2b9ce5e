//! A node, as it is known without asking the engine: what works on it, what was read of it, what was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::{ObservedNode, PowerState};
use dbaas_node_start::control::Control;
use parking_lot::Mutex;

use crate::container::Found;
use crate::death::Death;

/// For so long a node that is being prepared need not be looked at again, unless something is told of it:
/// each look takes the engine's time from the preparation.
pub(crate) const PREPARING_FRESH: Duration = Duration::from_secs(1);

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
