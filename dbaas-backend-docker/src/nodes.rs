//! The nodes that are known or were asked about, and who is told that one changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraEvent, NodeRef, ObservedNode};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::handle::{Handle, PREPARING_FRESH};

/// Slower readers of hints are told that they missed some.
const EVENTS_KEPT: usize = 1024;

pub(crate) struct Nodes {
    handles: Mutex<BTreeMap<NodeRef, Arc<Handle>>>,
    changes: AtomicU64,
    /// The nodes of instances, and when the engine named them.
    listed: Mutex<HashMap<InstanceId, (Instant, Vec<NodeRef>)>>,
    events: broadcast::Sender<InfraEvent>,
}

impl Nodes {
    pub(crate) fn new() -> Nodes {
        Nodes {
            handles: Mutex::default(),
            changes: AtomicU64::new(0),
            listed: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
        }
    }

    /// The handle of a node, whether it exists or not.
    pub(crate) fn handle(&self, node: NodeRef) -> Arc<Handle> {
        Arc::clone(self.handles.lock().entry(node).or_default())
    }

    /// The handle of a node that was asked about before.
    pub(crate) fn known(&self, node: NodeRef) -> Option<Arc<Handle>> {
        self.handles.lock().get(&node).cloned()
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn forget(&self, node: NodeRef, handle: &Arc<Handle>) {
        let mut nodes = self.handles.lock();
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
        let remembered = |node: &NodeRef| self.known(*node)?.remembered();
        nodes.iter().map(remembered).collect()
    }

    /// What was told by events is not believed any more: some may have been missed.
    pub(crate) fn doubt_events(&self) {
        for handle in self.handles.lock().values() {
            handle.told(None);
        }
    }

    /// Tells everybody who listens that a node changed.
    pub(crate) fn changed(&self, node: NodeRef) {
        let mut listed = self.listed.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        listed.remove(&node.instance);
        drop(listed);
        if let Some(handle) = self.known(node) {
            handle.look_again();
        }
        // Nobody may be listening.
        let _ = self.events.send(InfraEvent::NodeChanged(node));
    }

    /// Tells them that they may have missed something.
    pub(crate) fn missed(&self) {
        let _ = self.events.send(InfraEvent::Missed);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }
}
