//! Names and labels.

use std::collections::HashMap;

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::NodeRef;

pub(crate) const OWNER: &str = "dbaas.owner";
pub(crate) const INSTANCE: &str = "dbaas.instance";
pub(crate) const NODE: &str = "dbaas.node";
pub(crate) const NODE_NAME: &str = "dbaas.node_name";
pub(crate) const ROLE: &str = "dbaas.role";
pub(crate) const PORT: &str = "dbaas.port";
/// The node's address on the instance's network: fixed, so that finding a peer never waits for a name server.
pub(crate) const IP: &str = "dbaas.ip";
/// The network's addresses, to make it again where somebody removed it.
pub(crate) const SUBNET: &str = "dbaas.subnet";
pub(crate) const IMAGE: &str = "dbaas.image";
/// The image's digest in its registry: what the instance's other nodes are made of, also when the tag has
/// moved on.
pub(crate) const DIGEST: &str = "dbaas.digest";
pub(crate) const CONFIG: &str = "dbaas.config";

/// [`ROLE`] of a node's own container.
pub(crate) const ROLE_SERVER: &str = "server";
/// [`ROLE`] of a container that initialises a node and its copies.
pub(crate) const ROLE_INIT: &str = "init";

/// The node's container, also its name on the instance's network, and its volume.
pub(crate) fn node(node: NodeRef) -> String {
    format!("dbaas-{}", node.node)
}

/// The container that initialises a node and its copies.
pub(crate) fn init(node: NodeRef) -> String {
    format!("dbaas-{}-init", node.node)
}

/// The instance's network.
pub(crate) fn network(instance: InstanceId) -> String {
    format!("dbaas-{instance}")
}

/// The labels of what belongs to an instance.
pub(crate) fn instance_labels(owner: &str, instance: InstanceId) -> HashMap<String, String> {
    HashMap::from([
        (OWNER.to_owned(), owner.to_owned()),
        (INSTANCE.to_owned(), instance.to_string()),
    ])
}

/// The labels of what belongs to a node.
pub(crate) fn node_labels(owner: &str, node: NodeRef) -> HashMap<String, String> {
    let mut labels = instance_labels(owner, node.instance);
    labels.insert(NODE.to_owned(), node.node.to_string());
    labels
}

/// Filters that find what has these labels.
pub(crate) fn filters<'a>(
    labels: impl IntoIterator<Item = (&'a str, String)>,
) -> HashMap<String, Vec<String>> {
    let labels = labels
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    HashMap::from([("label".to_owned(), labels)])
}

/// Whose node it is that has these labels.
pub(crate) fn node_of(labels: &HashMap<String, String>) -> Option<NodeRef> {
    let instance: InstanceId = labels.get(INSTANCE)?.parse().ok()?;
    let node: NodeId = labels.get(NODE)?.parse().ok()?;
    Some(NodeRef { instance, node })
}

/// Whether these labels are the node's, of this owner.
pub(crate) fn is_ours(labels: Option<&HashMap<String, String>>, owner: &str, node: NodeRef) -> bool {
    labels
        .is_some_and(|labels| labels.get(OWNER).is_some_and(|o| o == owner) && node_of(labels) == Some(node))
}
