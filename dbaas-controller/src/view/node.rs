//! [`Node`].

use dbaas_core::condition::Conditions;
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::node::{NodeRecord, NodeRole};
use dbaas_core::time::Timestamp;

use crate::engine::LiveNode;

/// A node of an instance, and what was seen of it last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its short name, `n1`, `n2`, …; never used again within the instance.
    pub name: String,
    /// Primary or standby, as last decided.
    pub role: NodeRole,
    /// A commit waits for it.
    pub sync: bool,
    /// It is to be removed.
    pub leaving: bool,
    /// NEW, IN_PROGRESS, ACTIVE, ERROR.
    pub lifecycle: Lifecycle,
    /// Why it is in that state: for people, never empty.
    pub reason: String,
    /// The same, and what else is true of it, for machines.
    pub conditions: Conditions,
    /// Where it listens.
    pub endpoint: Option<Endpoint>,
    /// Bytes of WAL that it is behind the primary; `None` where that is not known.
    pub lag_bytes: Option<u64>,
    /// Bytes free on its data disk; `None` where that is not known.
    pub disk_free_bytes: Option<u64>,
    /// What an operator looks for: a process id, a container id.
    pub backend_ref: Option<String>,
    /// When it was decided on.
    pub created_at: Timestamp,
}

impl Node {
    pub(crate) fn of(record: NodeRecord, seen: Option<&LiveNode>) -> Self {
        Node {
            id: record.id,
            name: record.name,
            role: record.role,
            sync: record.sync,
            leaving: record.leaving,
            lifecycle: record.lifecycle,
            reason: record.reason,
            conditions: record.conditions,
            endpoint: record.endpoint,
            lag_bytes: seen.and_then(|seen| seen.lag_bytes),
            disk_free_bytes: seen.and_then(|seen| seen.disk_free_bytes),
            backend_ref: record.backend_ref,
            created_at: record.created_at,
        }
    }
}
