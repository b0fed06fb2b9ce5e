//! The nodes of this machine, and handles of those that were asked about.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::NodeRef;
use parking_lot::Mutex;

use crate::adopt::adopted;
use crate::node::Node;
use crate::process::working_directories;

pub(crate) struct Nodes {
    root: PathBuf,
    by_id: Mutex<BTreeMap<NodeRef, Arc<Node>>>,
}

impl Nodes {
    /// Reads what is there below a data directory, and adopts the servers that run.
    pub(crate) fn load(root: &Path) -> io::Result<Nodes> {
        let mut by_id = BTreeMap::new();
        let running = working_directories()?;
        for instance in fs::read_dir(root.join("nodes"))? {
            let instance = instance?;
            let Some(instance_id) = instance
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<InstanceId>().ok())
            else {
                continue;
            };
            for node in fs::read_dir(instance.path())? {
                let node = node?;
                let Some(node_id) = node.file_name().to_str().and_then(|n| n.parse::<NodeId>().ok()) else {
                    continue;
                };
                let id = NodeRef {
                    instance: instance_id,
                    node: node_id,
                };
                match adopted(root, id, &running) {
                    Ok(Some(node)) => drop(by_id.insert(id, node)),
                    Ok(None) => {}
                    // One broken file must not take every other instance down; `apply` of this node will say
                    // what is wrong.
                    Err(e) => {
                        tracing::error!(node = %id.node, error = %e, "cannot read a node, it is left alone")
                    }
                }
            }
        }
        Ok(Nodes {
            root: root.to_owned(),
            by_id: Mutex::new(by_id),
        })
    }

    /// Each of them.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// Those of an instance.
    pub(crate) fn of(&self, instance: InstanceId) -> Vec<Arc<Node>> {
        let first = NodeRef {
            instance,
            node: NodeId::from_uuid(uuid::Uuid::nil()),
        };
        self.by_id
            .lock()
            .range(first..)
            .take_while(|(id, _)| id.instance == instance)
            .map(|(_, n)| Arc::clone(n))
            .collect()
    }

    /// The handle of a node, whether it exists or not: what serialises calls for it.
    pub(crate) fn handle(&self, id: NodeRef) -> Arc<Node> {
        let mut nodes = self.by_id.lock();
        Arc::clone(nodes.entry(id).or_insert_with(|| Node::new(&self.root, id)))
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn forget(&self, node: &Arc<Node>) {
        let mut nodes = self.by_id.lock();
        // The map's and the caller's.
        if Arc::strong_count(node) <= 2 && node.state.lock().record.is_none() {
            nodes.remove(&node.id);
        }
    }

    /// A node that exists.
    pub(crate) fn known(&self, id: NodeRef) -> Option<Arc<Node>> {
        let node = self.by_id.lock().get(&id).cloned()?;
        let exists = node.state.lock().record.is_some();
        exists.then_some(node)
    }

    pub(crate) fn are_preparing(&self) -> bool {
        self.all().iter().any(|n| n.state.lock().preparing.is_some())
    }
}
