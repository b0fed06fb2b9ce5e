//! A node, as it is known without asking libvirt: what works on it, and what is being done to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

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

    /// Whether somebody follows a start.
    pub(crate) fn is_followed(&self) -> bool {
        !self.followed.lock().is_empty()
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
