//! A primary that answers every look and serves nobody: how soon another one takes its place, in virtual time.

use std::time::Duration;

use anyhow::Context as _;
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

/// Makes an instance with one synchronous replica, if it has a standby, and takes its primary's service away for good.
pub fn replace(sickness: Sickness, nodes: u64) -> anyhow::Result<Replaced> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let result = runtime.block_on(play(sickness, nodes));
    runtime.shutdown_background();
    result
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
        reason: control.instance(id).await?.record.status.reason,
        violations: world.violations(),
    })
}
