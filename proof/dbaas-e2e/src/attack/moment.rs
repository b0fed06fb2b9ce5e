//! The moments of a failover at which something else can go wrong.

use std::time::{Duration, Instant};

use dbaas_core::cluster::{ClusterPhase, Epoch};
use dbaas_core::id::NodeId;

use crate::cluster::Cluster;
use crate::stack::Stack;

/// A step of a failover that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Voters are being sealed.
    Sealing,
    /// A candidate is being promoted, and the others are re-pointed to it.
    Promoting,
    /// The old primary is rewound, or copied anew.
    Rejoining,
}

/// What there was before the failover.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    epoch: Epoch,
    primary: NodeId,
    events: u64,
}

impl Before {
    pub(super) async fn look(stack: &Stack, cluster: &Cluster) -> anyhow::Result<Self> {
        let state = cluster.record(stack).await?.cluster;
        let state = state.ok_or_else(|| anyhow::anyhow!("the instance has no cluster"))?;
        // The listing is bounded: go on to its end.
        let mut events = 0;
        loop {
            let page = stack.plane()?.events(cluster.id, events, 1000).await?;
            let Some(last) = page.last() else { break };
            events = last.sequence;
        }
        Ok(Before {
            epoch: state.epoch,
            primary: state.primary,
            events,
        })
    }

    /// Waits for a moment. The node that it is about: the new primary while it is promoted, else the old one.
    /// `None`: it was over sooner than anybody could look, or did not come.
    pub(super) async fn wait_for(
        &self,
        stack: &Stack,
        cluster: &Cluster,
        moment: Moment,
    ) -> anyhow::Result<Option<NodeId>> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if moment == Moment::Rejoining {
                let events = stack.plane()?.events(cluster.id, self.events, 1000).await?;
                if events
                    .iter()
                    .any(|e| e.event.kind == "standby_starting" && e.event.node == Some(self.primary.uuid()))
                {
                    return Ok(Some(self.primary));
                }
            } else if let Some(state) = cluster.record(stack).await?.cluster
                && state.epoch > self.epoch
            {
                match (moment, state.phase) {
                    (Moment::Sealing, ClusterPhase::Sealing)
                    | (Moment::Promoting, ClusterPhase::Promoting) => return Ok(Some(state.primary)),
                    (_, ClusterPhase::Steady) | (Moment::Sealing, ClusterPhase::Promoting) => {
                        return Ok(None);
                    }
                    (Moment::Promoting | Moment::Rejoining, ClusterPhase::Sealing)
                    | (Moment::Rejoining, _) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(None)
    }
}
