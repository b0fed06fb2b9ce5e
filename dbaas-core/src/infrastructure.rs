//! [`Infrastructure`]: nodes and their disks. What an embedder writes to run PostgreSQL on something of their own.
//!
//! # Contract
//! * **Idempotent.** Every call may be repeated, also after a crash of the caller between any two calls, and converges.
//! * **Returns, never waits for PostgreSQL.** `start` returns once the start is under way; how it went is seen by `observe`.
//! * **No state that cannot be observed again.** After a crash of the control plane, `observe` and `list` on a new value
//!   of the backend tell everything: what was made carries the instance's and the node's id.
//! * **Never touch what is not ours**, also not under a name that collides.
//! * **Nothing restarts by itself.** A node that exits stays off until `start`.
//! * **`power_off` is the fence**: `Ok` only when it is positively known that no process of the node runs any more.
//! * **Outcome unknown** (a timeout after the request was sent) is a kind of its own, never taken for failure or success.
//! * Calls for different nodes may run at the same time. Calls for the same node may too; the backend serialises them.
//!   `observe` waits for none of them, and still takes no `start` or `power_off` that is under way for the death of a node.
//! * **The server can run programs**: `sh`, `chmod`, `mv` and `sync` are on its `PATH` or in `/usr/bin` or `/bin`. A running node gets its new
//!   configuration from the control plane by SQL ([`reconfigure`](crate::command::reconfigure)); a backend has nothing to do for it.
//! * **A caller may stop waiting** (its future is dropped) at any moment; the call then goes on to its end or leaves nothing half done.
//!
//! # Where to begin
//! `examples/custom_backend` is a whole backend in one file, to be read from top to bottom. What PostgreSQL's programs print is read by
//! [`boot_output`](crate::boot_output), the same way for all backends; [`AutoConf::parse_epoch`](crate::config::AutoConf::parse_epoch)
//! finds the epoch of a data directory. `dbaas_testkit::infrastructure_conformance` tells whether the contract is kept.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::boot::BootRecipe;
use crate::cluster::Epoch;
use crate::id::{InstanceId, NodeId};
use crate::secret::Secret;
use crate::size::{CpuCores, DiskGb, RamMb};
use crate::version::{ImageRef, PostgresVersion};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// A TCP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootMark {
    /// [`BootRecipe::epoch`] of that start.
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

/// How to switch a node off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerOff {
    /// Ask PostgreSQL for a fast shutdown (SIGINT: sessions are ended, a shutdown checkpoint is written and sent to standbys); after
    /// `deadline_ms` as [`PowerOff::Immediate`].
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
pub struct Capabilities {
    /// Processor limit.
    pub cpu: Enforcement,
    /// Memory limit.
    pub ram: Enforcement,
    /// Size of the data disk.
    pub disk: Enforcement,
    /// `resize` works on a running node without a restart of the node (PostgreSQL's own settings may still need one).
    pub live_resize: bool,
    /// `events` reports the death of a node by itself.
    pub node_events: bool,
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

/// What went wrong, for deciding what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InfraErrorKind {
    /// There is no such node.
    NotFound,
    /// The call does not fit the node's state (start of a running node with another recipe, remove of a running one).
    InvalidState,
    /// The node's persisted epoch is greater than the recipe's.
    StaleEpoch,
    /// Something of that name or address exists and is not ours.
    Collision,
    /// The image (PostgreSQL version) is not to be had.
    ImageUnavailable,
    /// Not enough disk, ports, memory or other resources.
    Exhausted,
    /// This backend cannot do that.
    Unsupported,
    /// The infrastructure cannot be reached or is overloaded; nothing was done.
    Unavailable,
    /// The request was sent, no answer came: it may have been carried out.
    OutcomeUnknown,
    /// Anything else.
    Other,
}

/// Failure of an infrastructure call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct InfraError {
    kind: InfraErrorKind,
    message: String,
}

impl InfraError {
    /// An error of a kind; the message is for people, says what to do next where that is known, and holds no secrets.
    pub fn new(kind: InfraErrorKind, message: impl Into<String>) -> Self {
        InfraError {
            kind,
            message: message.into(),
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> InfraErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            InfraErrorKind::Unavailable
            | InfraErrorKind::OutcomeUnknown
            | InfraErrorKind::Exhausted
            | InfraErrorKind::ImageUnavailable
            | InfraErrorKind::Other => true,
            InfraErrorKind::NotFound
            | InfraErrorKind::InvalidState
            | InfraErrorKind::StaleEpoch
            | InfraErrorKind::Collision
            | InfraErrorKind::Unsupported => false,
        }
    }
}

/// Nodes and their disks. See the module's contract.
#[async_trait]
pub trait Infrastructure: Send + Sync + 'static {
    /// A short name: `local`, `docker`, `libvirt`.
    fn name(&self) -> &str;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// The PostgreSQL versions that it can run now.
    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError>;

    /// Every node of the instance that exists in any form. A node that is not in the answer does not exist.
    async fn observe(&self, instance: InstanceId) -> Result<Vec<ObservedNode>, InfraError>;

    /// Every node that this control plane ever made and that still exists in any form; finds orphans.
    async fn list(&self) -> Result<Vec<NodeRef>, InfraError>;

    /// Makes the node, or converges it, without starting it: disk, network identity (the endpoint is known afterwards), limits.
    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError>;

    /// Starts a node that is off. Repeating it with a recipe of the same epoch on a node that runs already is `Ok` and does nothing.
    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError>;

    /// Switches the node off, and ends a preparation. `Ok` only when no process of it runs any more, also for a frozen one. Off
    /// already, or gone: `Ok`.
    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError>;

    /// Changes the limits of a node that exists.
    async fn resize(&self, node: NodeRef, resources: Resources) -> Result<(), InfraError>;

    /// Removes a node. A running one is refused with `InvalidState`: switch it off first. Gone already: `Ok`.
    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError>;

    /// The last lines of what the node's server wrote, oldest first; at most `lines`.
    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError>;

    /// Hints from now on. A slow reader gets [`InfraEvent::Missed`] instead of an ever longer queue.
    fn events(&self) -> InfraEvents;
}

/// Address families that an endpoint's host may be resolved to by a caller that wants `ipsv4`.
pub fn ipv4_of(endpoint: &Endpoint) -> Option<std::net::Ipv4Addr> {
    match endpoint.host.parse() {
        Ok(IpAddr::V4(ip)) => Some(ip),
        _ if endpoint.host == "localhost" => Some(std::net::Ipv4Addr::LOCALHOST),
        _ => None,
    }
}
