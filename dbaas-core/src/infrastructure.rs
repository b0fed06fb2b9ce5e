//! [`Infrastructure`]: nodes and their disks. What an embedder writes to run PostgreSQL on something of their
//! own.
//!
//! # Contract
//! * **Idempotent.** Every call may be repeated, also after a crash of the caller between any two calls, and
//!   converges.
//! * **Returns, never waits for PostgreSQL.** `start` returns once the start is under way; how it went is
//!   seen by `observe`.
//! * **No state that cannot be observed again.** After a crash of the control plane, `observe` and `list` on
//!   a new value of the backend tell everything: what was made carries the instance's and the node's id.
//! * **Never touch what is not ours**, also not under a name that collides.
//! * **Nothing restarts by itself.** A node that exits stays off until `start`.
//! * **`power_off` is the fence**: `Ok` only when it is positively known that no process of the node runs any
//!   more.
//! * **Outcome unknown** (a timeout after the request was sent) is a kind of its own, never taken for failure
//!   or success.
//! * Calls for different nodes may run at the same time. Calls for the same node may too; the backend
//!   serialises them. `observe` waits for none of them, and still takes no `start` or `power_off` that is
//!   under way for the death of a node.
//! * **The server can run programs**: `sh`, `chmod`, `mv` and `sync` are on its `PATH` or in `/usr/bin` or
//!   `/bin`. A running node gets its new configuration from the control plane by SQL
//!   ([`reconfigure`](crate::command::reconfigure)); a backend has nothing to do for it.
//! * **A caller may stop waiting** (its future is dropped) at any moment; the call then goes on to its end or
//!   leaves nothing half done.
//!
//! # Where to begin
//! `examples/custom_backend` is a whole backend in one file, to be read from top to bottom. What PostgreSQL's
//! programs print is read by [`boot_output`](crate::boot_output), the same way for all backends;
//! [`AutoConf::parse_epoch`](crate::config::AutoConf::parse_epoch) finds the epoch of a data directory.
//! `dbaas_testkit::infrastructure_conformance` tells whether the contract is kept.

use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::boot::BootRecipe;
use crate::config::HbaRules;
use crate::id::{InstanceId, NodeId};
use crate::size::{CpuCores, DiskGb, RamMb};
use crate::version::{ImageRef, PostgresVersion};

mod observed;

pub use crate::endpoint::{Endpoint, ipv4_of};
pub use crate::infrastructure_error::{InfraError, InfraErrorKind};
pub use observed::{BootMark, DataState, Exit, ExitReason, ObservedNode, ObservedNodes, PowerState};

/// A node of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRef {
    /// The instance.
    pub instance: InstanceId,
    /// The node.
    pub node: NodeId,
}

/// What a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processor cores.
    pub cpu: CpuCores,
    /// Memory in MB.
    pub ram: RamMb,
    /// Data disk in GB; never shrinks.
    pub disk: DiskGb,
}

/// What a node is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeSpec {
    /// Which node.
    pub node: NodeRef,
    /// Its short name within the instance: `n1`, `n2`, …
    pub name: String,
    /// The image of the instance's version.
    pub image: ImageRef,
    /// Its resources.
    pub resources: Resources,
}

impl NodeSpec {
    /// A node of this name and image, with these resources.
    pub fn new(node: NodeRef, name: impl Into<String>, image: ImageRef, resources: Resources) -> Self {
        NodeSpec {
            node,
            name: name.into(),
            image,
            resources,
        }
    }
}

/// How to switch a node off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerOff {
    /// Ask PostgreSQL for a fast shutdown (SIGINT: sessions are ended, a shutdown checkpoint is written and
    /// sent to standbys); after `deadline_ms` as [`PowerOff::Immediate`].
    Graceful {
        /// How long to wait, in milliseconds.
        deadline_ms: u32,
    },
    /// Kill every process of the node now.
    Immediate,
}

/// What to do with a removed node's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataDisposal {
    /// Keep it; a later `apply` of the same node finds it again.
    Keep,
    /// Delete it.
    Delete,
}

/// Who keeps a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The backend holds it.
    Enforced,
    /// Only PostgreSQL's settings follow it.
    NotEnforced,
}

/// What a backend can do. What it cannot enforce is shown to the user, not pretended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Processor limit.
    pub cpu: Enforcement,
    /// Memory limit.
    pub ram: Enforcement,
    /// Size of the data disk.
    pub disk: Enforcement,
    /// `events` reports the death of a node by itself.
    pub node_events: bool,
}

impl Capabilities {
    /// None of the limits is held, and nobody tells of deaths.
    pub const NONE: Capabilities = Capabilities {
        cpu: Enforcement::NotEnforced,
        ram: Enforcement::NotEnforced,
        disk: Enforcement::NotEnforced,
        node_events: false,
    };

    /// Who holds which limit; nobody tells of deaths.
    pub fn new(cpu: Enforcement, ram: Enforcement, disk: Enforcement) -> Self {
        Capabilities {
            cpu,
            ram,
            disk,
            ..Capabilities::NONE
        }
    }

    /// `events` reports the death of a node by itself.
    #[must_use]
    pub fn with_node_events(mut self) -> Self {
        self.node_events = true;
        self
    }
}

/// A PostgreSQL that the backend can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableVersion {
    /// Its version.
    pub version: PostgresVersion,
    /// The image name that `NodeSpec::image` is to have.
    pub image: ImageRef,
    /// Where it is, for people.
    pub source: String,
}

/// A hint that something happened to a node. Polling remains the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfraEvent {
    /// The node changed (died, started, froze): look at it now.
    NodeChanged(NodeRef),
    /// Events may have been missed: look at everything.
    Missed,
}

/// Stream of hints.
pub type InfraEvents = Pin<Box<dyn Stream<Item = InfraEvent> + Send>>;

/// Nodes and their disks. See the module's contract.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Infrastructure: Send + Sync + 'static {
    /// A short name: `local`, `docker`, `libvirt`.
    fn name(&self) -> &str;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// From where the control plane, the other nodes and clients reach PostgreSQL on these nodes: what its
    /// `pg_hba.conf` lets in, with a password. A rule too many opens nodes to strangers; one too few closes
    /// them to the control plane.
    fn hba_rules(&self) -> HbaRules;

    /// What users should know of every instance here, as a warning in its status: that machines are emulated,
    /// for example. As far as it is known by now.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The PostgreSQL versions that it can run now.
    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError>;

    /// Every node of the instance that exists in any form. A node that is neither found nor unknown in the
    /// answer does not exist; an error says that all of them are unknown.
    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError>;

    /// Every node that this control plane ever made and that still exists in any form; finds orphans.
    async fn list(&self) -> Result<Vec<NodeRef>, InfraError>;

    /// Makes the node, or converges it, without starting it: disk, network identity (the endpoint is known
    /// afterwards), limits.
    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError>;

    /// Starts a node that is off. Repeating it with a recipe of the same epoch on a node that runs already is
    /// `Ok` and does nothing.
    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError>;

    /// Switches the node off, and ends a preparation. `Ok` only when no process of it runs any more, also for
    /// a frozen one. Off already, or gone: `Ok`.
    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError>;

    /// Removes a node. A running one is refused with `InvalidState`: switch it off first. Gone already: `Ok`.
    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError>;

    /// The last lines of what the node's server wrote, oldest first; at most `lines`.
    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError>;

    /// Hints from now on. A slow reader gets [`InfraEvent::Missed`] instead of an ever longer queue.
    fn events(&self) -> InfraEvents;
}
