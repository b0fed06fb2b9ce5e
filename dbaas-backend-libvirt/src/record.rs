//! [`Record`]: what is known of a node while it is off, kept in its domain's metadata and once more at the
//! beginning of its control disk, so that a domain that somebody undefined can be made again. It holds no
//! secret.

use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef, NodeSpec};
use dbaas_node_start::control::Boot;
use serde::{Deserialize, Serialize};

use crate::pool::Image;

pub(crate) const FORMAT: u32 = 1;

/// Whether a start is due, or what became of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    /// Never started, or switched off by us.
    Off,
    /// Removed, the data kept.
    Kept,
    /// Started by [`Record::boot`].
    Started,
    /// Started by [`Record::boot`], as soon as this node's disk has been copied for it.
    AwaitsCopy(NodeId),
    /// That start failed before anything ran: there is no copy of its source, and why.
    NoCopy(String),
    /// Not a node, but a set of the warm pool, ready to be taken.
    Pooled,
    /// The same, taken for this node.
    Taken(NodeRef),
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) owner: String,
    pub(crate) spec: NodeSpec,
    /// Its address on the network, with the bits of the prefix: `10.76.0.2/24`.
    pub(crate) address: String,
    pub(crate) wanted: Wanted,
    /// The last start.
    pub(crate) boot: Option<Boot>,
    /// Nodes whose disks are copied from this one's before its first start.
    pub(crate) copies: Vec<NodeId>,
    /// The set of the warm pool that the data disk was cloned from; nodes of `copies` get clones of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pooled: Option<NodeId>,
    /// What the machine is made of: the image as it was when the node was made, or its version changed.
    pub(crate) image: Image,
}

impl Record {
    pub(crate) fn node(&self) -> NodeRef {
        self.spec.node
    }

    pub(crate) fn ip(&self) -> &str {
        self.address.split('/').next().unwrap_or_default()
    }

    pub(crate) fn to_json(&self) -> Result<String, InfraError> {
        serde_json::to_string(self)
            .map_err(|e| InfraError::new(InfraErrorKind::Other, format!("writing a node's record: {e}")))
    }

    /// From metadata or a control disk.
    pub(crate) fn parse(json: &str, node: NodeRef) -> Result<Self, InfraError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |e: &dyn std::fmt::Display| {
            let message = format!("the record of node {} cannot be read: {e}", node.node);
            InfraError::new(InfraErrorKind::Other, message)
        };
        let format: Format = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        if format.format > FORMAT {
            let message = "the node's record was written by a newer program; it is left alone";
            return Err(InfraError::new(InfraErrorKind::Unsupported, message));
        }
        let record: Record = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        if record.node() != node {
            return Err(damaged(&"it is another node's"));
        }
        Ok(record)
    }
}
