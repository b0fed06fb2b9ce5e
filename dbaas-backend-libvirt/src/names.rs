//! Names of domains and volumes, and whose node they are.

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::NodeRef;

const PREFIX: &str = "dbaas-";
/// A UUID as text.
const ID: usize = 36;

/// A volume of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volume {
    Root,
    Data,
    Control,
    /// What the guest's console said. It grows a number where libvirt has begun another file.
    Console,
}

impl Volume {
    fn ending(self) -> &'static str {
        match self {
            Volume::Root => "root",
            Volume::Data => "data",
            Volume::Control => "control",
            Volume::Console => "console",
        }
    }
}

/// The node's domain; volumes begin with the same words.
pub(crate) fn domain(node: NodeRef) -> String {
    format!("{PREFIX}{}-{}", node.instance, node.node)
}

/// All that an instance has begins with this.
pub(crate) fn of_instance(instance: InstanceId) -> String {
    format!("{PREFIX}{instance}-")
}

pub(crate) fn volume(node: NodeRef, volume: Volume) -> String {
    format!("{}.{}", domain(node), volume.ending())
}

/// The node that has a domain of this name.
pub(crate) fn node_of_domain(name: &str) -> Option<NodeRef> {
    let ids = name.strip_prefix(PREFIX)?;
    let instance: InstanceId = ids.get(..ID)?.parse().ok()?;
    let node: NodeId = ids.get(ID..)?.strip_prefix('-')?.parse().ok()?;
    Some(NodeRef { instance, node })
}

/// The node that has a volume of this name, and the rest of the name.
pub(crate) fn node_of_volume(name: &str) -> Option<(NodeRef, &str)> {
    let (domain, ending) = name.split_once('.')?;
    Some((node_of_domain(domain)?, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let node = NodeRef {
            instance: InstanceId::from_uuid(uuid::Uuid::from_u128(7)),
            node: NodeId::from_uuid(uuid::Uuid::from_u128(8)),
        };
        assert_eq!(node_of_domain(&domain(node)), Some(node));
        assert_eq!(node_of_volume(&volume(node, Volume::Data)), Some((node, "data")));
        assert!(domain(node).starts_with(&of_instance(node.instance)));
        for foreign in ["", "dbaas-", "web", "dbaas-x-y", &format!("{}x", domain(node))] {
            assert_eq!(node_of_domain(foreign), None, "{foreign}");
        }
    }
}
