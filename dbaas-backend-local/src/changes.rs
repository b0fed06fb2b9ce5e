//! Who is told that a node changed: listeners of events, and calls that wait for another node.

use std::time::Duration;

use dbaas_core::infrastructure::{InfraEvent, NodeRef};
use parking_lot::{Condvar, Mutex};
use tokio::sync::broadcast;

/// Slower readers of hints are told that they missed some.
const EVENTS_KEPT: usize = 1024;

pub(crate) struct Changes {
    events: broadcast::Sender<InfraEvent>,
    count: Mutex<u64>,
    counted: Condvar,
}

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes {
            events: broadcast::channel(EVENTS_KEPT).0,
            count: Mutex::new(0),
            counted: Condvar::new(),
        }
    }

    /// To those who listen; who waits is woken by [`Changes::wake`].
    pub(crate) fn tell(&self, node: NodeRef) {
        // Nobody listening is fine.
        let _ = self.events.send(InfraEvent::NodeChanged(node));
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }

    /// To be taken before looking at what [`Changes::wait_after`] is to wait for.
    pub(crate) fn ticket(&self) -> u64 {
        *self.count.lock()
    }

    /// Blocks until something changed after the ticket was taken, at most so long.
    pub(crate) fn wait_after(&self, ticket: u64, at_most: Duration) {
        let mut changes = self.count.lock();
        if *changes == ticket {
            self.counted.wait_for(&mut changes, at_most);
        }
    }

    /// Something changed that nobody but who waits has to know.
    pub(crate) fn wake(&self) {
        *self.count.lock() += 1;
        self.counted.notify_all();
    }
}
