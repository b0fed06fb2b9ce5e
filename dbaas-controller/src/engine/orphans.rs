//! Nodes of instances that the store does not know: a store that was lost, or restored from an old copy,
//! leaves them behind. They hold somebody's data, so they are reported and left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use dbaas_core::id::{InstanceId, NodeId};

use super::Engine;

/// How long the infrastructure may take to name all of its nodes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Seen the last time. One that is seen once may belong to an instance that was deleted between two
    /// questions.
    suspected: BTreeSet<(InstanceId, NodeId)>,
    /// Told of, and still there.
    told: BTreeSet<(InstanceId, NodeId)>,
}

impl Orphans {
    /// Those that are found for the second time and were not told of yet.
    fn news(&mut self, found: BTreeSet<(InstanceId, NodeId)>) -> Vec<(InstanceId, NodeId)> {
        self.told.retain(|node| found.contains(node));
        let certain = found.intersection(&self.suspected).copied();
        let news: Vec<_> = certain.filter(|node| !self.told.contains(node)).collect();
        self.told.extend(news.iter().copied());
        self.suspected = found;
        news
    }
}

impl Engine {
    /// Compares what the infrastructure has with what the store knows, and tells of the difference.
    pub(super) async fn look_for_orphans(&self, orphans: &mut Orphans) {
        // In this order: an instance is in the store before its first node is made.
        let nodes = match tokio::time::timeout(PATIENCE, self.ports.infrastructure.list()).await {
            Ok(Ok(nodes)) => nodes,
            Ok(Err(error)) => {
                return tracing::debug!(%error, "the infrastructure's nodes could not be listed");
            }
            Err(_) => return tracing::debug!("the infrastructure's nodes could not be listed in time"),
        };
        let known: BTreeSet<InstanceId> = match self.ports.repository.list_instance_ids().await {
            Ok(ids) => ids.into_iter().collect(),
            Err(error) => return tracing::warn!(%error, "the list of instances could not be read"),
        };
        let unknown = nodes.iter().filter(|node| !known.contains(&node.instance));
        let news = orphans.news(unknown.map(|node| (node.instance, node.node)).collect());
        for (instance, node) in news {
            tracing::warn!(
                %instance, %node,
                "an orphaned node: the store knows no such instance. It is left alone; restore the store, or remove the node by hand if \
                 nobody needs its data"
            );
        }
        ::metrics::gauge!(crate::metrics::ORPHANED_NODES).set(orphans.told.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_orphan_is_told_of_once_when_it_is_seen_twice() {
        let node = |n| {
            (
                InstanceId::from_uuid(Uuid::from_u128(1)),
                NodeId::from_uuid(Uuid::from_u128(n)),
            )
        };
        let mut orphans = Orphans::default();
        assert_eq!(orphans.news([node(1), node(2)].into()), []);
        assert_eq!(orphans.news([node(1)].into()), [node(1)]);
        assert_eq!(orphans.news([node(1), node(2)].into()), []);
        assert_eq!(orphans.news([].into()), []);
        assert!(orphans.told.is_empty());
        assert_eq!(orphans.news([node(1)].into()), []);
        assert_eq!(orphans.news([node(1)].into()), [node(1)], "it is back");
    }
}
