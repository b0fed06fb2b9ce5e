//! Nodes as a backend finds them.

use super::{Endpoint, NodeRef, NodeSpec};
use crate::cluster::Epoch;
use crate::id::NodeId;
use crate::secret::Secret;

/// Whether a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// Made, never started, or switched off by us.
    Off,
    /// A preparation (initdb, base backup, rewind) is running; the server has not been started.
    Preparing,
    /// The server's process (container, machine) runs. Says nothing of whether PostgreSQL answers.
    Running,
    /// Runs but cannot make progress: stopped by SIGSTOP, paused container, suspended machine.
    Frozen,
    /// Ended by itself, was killed, or its preparation failed.
    Exited(Exit),
}

/// How a node came to be off.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exit {
    /// Why, for deciding.
    pub reason: ExitReason,
    /// For people: exit code or signal, and the last line of the log. No secrets.
    pub message: String,
}

/// Why a node is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitReason {
    /// The server ended: crash, kill, out of memory, power cut of the machine.
    Died,
    /// A preparation failed; trying again may help.
    PreparationFailed,
    /// [`Prepare::SeedOf`](crate::boot::Prepare): there is no copy of the source.
    SeedGone,
    /// `pg_rewind` said that it cannot; a base backup is needed.
    CannotRewind,
    /// The disk is full.
    DiskFull,
    /// The server said that files of its data are gone or broken; only a base backup helps.
    Damaged,
}

/// What the data disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataState {
    /// Nothing.
    Empty,
    /// A complete PostgreSQL data directory.
    Initialised,
    /// A preparation was begun and did not end: never to be started, may be replaced.
    Incomplete,
}

/// The last start of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootMark {
    /// [`BootRecipe::epoch`](crate::boot::BootRecipe::epoch) of that start.
    pub epoch: Epoch,
    /// Differs from start to start.
    pub boot_id: String,
}

/// A node as found.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNode {
    /// Which node.
    pub node: NodeRef,
    /// Runs or not.
    pub power: PowerState,
    /// What the disk holds.
    pub data: DataState,
    /// What `apply` last made of it.
    pub applied: Option<NodeSpec>,
    /// Where clients, and the control plane itself, reach PostgreSQL. Stable over restarts.
    pub endpoint: Option<Endpoint>,
    /// Where the other nodes of the instance reach it; often the same.
    pub peer_endpoint: Option<Endpoint>,
    /// The last start, as long as the data exists.
    pub boot: Option<BootMark>,
    /// The superuser's password that the data directory was initialised with, if the backend chose it (see
    /// [`Prepare::Init`](crate::boot::Prepare)).
    pub bootstrap_password: Option<Secret>,
    /// Bytes free for the data directory, where that is known cheaply.
    pub disk_free_bytes: Option<u64>,
    /// What an operator looks for: a process id, a container id, a domain name.
    pub backend_ref: Option<String>,
}

/// The nodes of an instance as found.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ObservedNodes {
    /// Those that exist.
    pub found: Vec<ObservedNode>,
    /// Those that cannot be looked at now, where others can: their host does not answer. Whether they exist
    /// is not known.
    pub unknown: Vec<NodeId>,
}

impl ObservedNodes {
    /// Those found, while these could not be looked at.
    pub fn with_unknown(found: Vec<ObservedNode>, unknown: Vec<NodeId>) -> Self {
        ObservedNodes { found, unknown }
    }

    /// The node, if it was found.
    pub fn node(&self, node: NodeId) -> Option<&ObservedNode> {
        self.found.iter().find(|seen| seen.node.node == node)
    }
}

impl From<Vec<ObservedNode>> for ObservedNodes {
    /// Everything could be looked at.
    fn from(found: Vec<ObservedNode>) -> Self {
        ObservedNodes::with_unknown(found, Vec::new())
    }
}
