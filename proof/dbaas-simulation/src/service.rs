//! A primary that answers every look and serves nobody: how soon another one takes its place, in virtual
//! time.

use std::time::Duration;

use anyhow::Context as _;
use dbaas_core::cluster::ClusterPhase;
use dbaas_core::infrastructure::NodeRef;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_testkit::simulated::{Costs, Sickness, SimWorld};

use crate::idle::create;
use crate::scenario::start_controller;
use crate::store::SimStore;

/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of it.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// From the fault to a commit that another primary acknowledged; `None` if there was none.
    pub after_ms: Option<u64>,
    /// The reason that the instance gives in the end.
    pub reason: String,
    /// Promises that were broken.
    pub violations: Vec<String>,
}

/// Makes an instance with one synchronous replica, if it has a standby, and takes its primary's service away
/// for good.
pub fn replace(sickness: Sickness, nodes: u64) -> anyhow::Result<Replaced> {
    in_virtual_time(play(sickness, nodes))
}

/// Makes an instance of three nodes, takes the service of whichever is primary away for so long, as a disk
/// that all share does, and counts the failovers.
pub fn share(sickness: Sickness, lasts: Duration) -> anyhow::Result<u64> {
    in_virtual_time(play_shared(sickness, lasts))
}

fn in_virtual_time<T>(play: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let result = runtime.block_on(play);
    runtime.shutdown_background();
    result
}

async fn play_shared(sickness: Sickness, lasts: Duration) -> anyhow::Result<u64> {
    let world = SimWorld::new(1, Costs::default());
    tokio::spawn(world.clone().run());
    let store = SimStore::new(1, false);
    let seat = start_controller(&world, &store, 1, "service".to_owned()).await?;
    let control = seat.control.context("no controller")?;
    let ids = create(&control, 1, 3).await?;
    let id = *ids.first().context("no instance")?;
    control.wait_for_instance(id, Lifecycle::Active, PATIENCE).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let until = tokio::time::Instant::now() + lasts;
    let mut first = None;
    loop {
        let cluster = control.instance_record(id).await?.cluster.context("no cluster")?;
        let epoch = cluster.epoch.0;
        let before = *first.get_or_insert(epoch);
        if tokio::time::Instant::now() >= until {
            return Ok(epoch - before);
        }
        for node in world.nodes(id) {
            if cluster.phase == ClusterPhase::Steady && node.is_primary {
                world.sicken(node.node, Some(sickness));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn play(sickness: Sickness, nodes: u64) -> anyhow::Result<Replaced> {
    let world = SimWorld::new(1, Costs::default());
    tokio::spawn(world.clone().run());
    let store = SimStore::new(1, false);
    let seat = start_controller(&world, &store, 1, "service".to_owned()).await?;
    let control = seat.control.context("no controller")?;
    let ids = create(&control, 1, nodes).await?;
    let id = *ids.first().context("no instance")?;
    control.wait_for_instance(id, Lifecycle::Active, PATIENCE).await?;
    world.set_clients(id, 50);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let primary = |world: &SimWorld| -> Option<NodeRef> {
        world.nodes(id).into_iter().find(|n| n.is_primary).map(|n| n.node)
    };
    let before = primary(&world).context("no primary")?;
    world.sicken(before, Some(sickness));
    let (from, acknowledged) = (world.now_ms(), world.acknowledged(id));
    let mut after_ms = None;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let replaced = primary(&world).is_some_and(|now| now != before);
        if replaced && world.acknowledged(id) > acknowledged {
            after_ms = Some(world.now_ms() - from);
            break;
        }
    }
    Ok(Replaced {
        after_ms,
        reason: control.instance(id).await?.status.reason,
        violations: world.violations(),
    })
}
