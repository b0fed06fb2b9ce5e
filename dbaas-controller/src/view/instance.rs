//! [`Instance`].

use dbaas_core::id::InstanceId;
use dbaas_core::instance::{DesiredState, InstanceRecord, InstanceSpec, InstanceStatus};
use dbaas_core::time::Timestamp;

use super::{Node, Revision};
use crate::engine::LiveView;
use crate::repository::Versioned;

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// What was asked for.
    pub spec: InstanceSpec,
    /// Running, stopped or deleted, as asked for.
    pub desired: DesiredState,
    /// Grows with each change by a caller.
    pub generation: u64,
    /// What is true.
    pub status: InstanceStatus,
    /// Its nodes, in order of creation.
    pub nodes: Vec<Node>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed by a caller.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Instance {
    /// `live`: what was seen last of its nodes.
    pub(crate) fn of(found: Versioned<InstanceRecord>, live: Option<&LiveView>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        let node = |node: dbaas_core::node::NodeRecord| {
            let seen = live.and_then(|live| live.nodes.get(&node.id));
            Node::of(node, seen)
        };
        Instance {
            id: record.id,
            spec: record.spec,
            desired: record.desired,
            generation: record.generation,
            status: record.status,
            nodes: record.nodes.into_iter().map(node).collect(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }

    /// Whether its status is about the newest change that was asked for.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation >= self.generation
    }
}
