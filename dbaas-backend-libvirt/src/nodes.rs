//! The nodes that are known or were asked about, and who is told that one changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraEvent, NodeRef};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::ahead;
use crate::handle::Handle;

/// Slower readers of hints are told that they missed some.
const EVENTS_KEPT: usize = 1024;

pub(crate) struct Nodes {
    handles: Mutex<BTreeMap<NodeRef, Arc<Handle>>>,
    events: broadcast::Sender<InfraEvent>,
}

impl Nodes {
    pub(crate) fn new() -> Nodes {
        Nodes {
            handles: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
        }
    }

    /// The handle of a node, whether it exists or not.
    pub(crate) fn handle(&self, node: NodeRef) -> Arc<Handle> {
        Arc::clone(self.handles.lock().entry(node).or_default())
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn forget(&self, node: NodeRef, handle: &Arc<Handle>) {
        let mut nodes = self.handles.lock();
        // The map's and the caller's.
        if Arc::strong_count(handle) <= 2 {
            nodes.remove(&node);
        }
    }

    /// Tells everybody who listens that a node changed.
    pub(crate) fn changed(&self, node: NodeRef) {
        if let Some(handle) = self.handles.lock().get(&node) {
            handle.change();
            handle.told.notify_waiters();
        }
        if !ahead::is_set(node) {
            // Nobody may be listening.
            let _ = self.events.send(InfraEvent::NodeChanged(node));
        }
    }

    /// Whether some node is on its way up.
    pub(crate) fn are_preparing(&self) -> bool {
        self.handles
            .lock()
            .values()
            .any(|handle| handle.is_starting() || handle.is_followed())
    }

    /// Tells them that they may have missed something.
    pub(crate) fn missed(&self) {
        let _ = self.events.send(InfraEvent::Missed);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }

    /// How often the nodes of an instance were changed by us, or told of.
    pub(crate) fn changes_of(&self, instance: InstanceId) -> Vec<(NodeRef, u64)> {
        self.handles
            .lock()
            .iter()
            .filter(|(node, _)| node.instance == instance)
            .map(|(node, handle)| (*node, handle.changes()))
            .collect()
    }
}
