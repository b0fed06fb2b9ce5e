//! The engine: brings instances to what was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use dbaas_core::id::{InstanceId, NodeId};

/// What the engine saw last of an instance; kept in memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveView {
    /// By node.
    pub(crate) nodes: BTreeMap<NodeId, LiveNode>,
}

/// What the engine saw last of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveNode {
    /// Bytes of WAL that it is behind the primary.
    pub(crate) lag_bytes: Option<u64>,
    /// Bytes free on its data disk.
    pub(crate) disk_free_bytes: Option<u64>,
}

/// The façade's view of the engine. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineHandle {}

impl EngineHandle {
    /// Something was asked of this instance: look at it now.
    pub(crate) fn wake(&self, _instance: InstanceId) {}

    /// What was seen last of it.
    pub(crate) fn live(&self, _instance: InstanceId) -> Option<LiveView> {
        None
    }

    /// Whether this control plane is the one that acts.
    pub(crate) fn is_leader(&self) -> bool {
        false
    }

    /// Ends passes between two actions. Touches no PostgreSQL.
    pub(crate) async fn shutdown(&self, _deadline: Duration) {}
}
