//! Instances that need nothing write nothing, in virtual time.

use std::time::Duration;

use anyhow::Context as _;
use dbaas_controller::ControlPlane;
use dbaas_controller::request::{CreateInstance, Page};
use dbaas_core::id::{InstanceId, VersionId};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::name::InstanceName;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_testkit::simulated::{Costs, SimWorld};

use crate::scenario::start_controller;
use crate::store::SimStore;

/// All instances are there within this time.
const CREATED_WITHIN: Duration = Duration::from_secs(600);

/// How long things take in a world that is there for what its controller costs.
pub(crate) fn costs() -> Costs {
    Costs {
        init_ms: 20,
        start_ms: 5,
        ..Costs::default()
    }
}

/// Makes instances, waits until they need nothing, and counts the batches that are committed to the store
/// within so many seconds.
pub fn count_writes(instances: usize, nodes: u64, seconds: u64) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let result = runtime.block_on(play(instances, nodes, Duration::from_secs(seconds)));
    runtime.shutdown_background();
    result
}

async fn play(instances: usize, nodes: u64, counted: Duration) -> anyhow::Result<u64> {
    let world = SimWorld::new(1, costs());
    tokio::spawn(world.clone().run());
    let store = SimStore::new(1, false);
    let seat = start_controller(&world, &store, 1, "idle".to_owned()).await?;
    let control = seat.control.context("no controller")?;
    for id in create(&control, instances, nodes).await? {
        control
            .wait_for_instance(id, Lifecycle::Active, CREATED_WITHIN)
            .await?;
    }
    // What was written last is looked at once more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = store.commits();
    tokio::time::sleep(counted).await;
    Ok(store.commits() - before)
}

/// Makes instances with one synchronous replica each, where they have standbys.
pub(crate) async fn create(
    control: &ControlPlane,
    instances: usize,
    nodes: u64,
) -> anyhow::Result<Vec<InstanceId>> {
    let version = version(control).await?;
    let mut ids = Vec::with_capacity(instances);
    for index in 0..instances {
        let request = request(index, nodes, version)?;
        ids.push(control.create_instance(request).await?.id);
    }
    Ok(ids)
}

/// The first version of the catalogue.
pub(crate) async fn version(control: &ControlPlane) -> anyhow::Result<VersionId> {
    let page = Page {
        after: None,
        limit: 1,
    };
    let versions = control.versions(page).await?;
    Ok(versions.items.first().context("the catalogue is empty")?.id)
}

/// What is asked for.
pub(crate) fn request(index: usize, nodes: u64, version: VersionId) -> anyhow::Result<CreateInstance> {
    Ok(CreateInstance {
        cpu: CpuCores::new(1)?,
        ram: RamMb::new(512)?,
        disk: DiskGb::new(8)?,
        nodes: NodeCount::new(nodes)?,
        sync_replicas: SyncReplicas::new(1)?,
        ..CreateInstance::new(InstanceName::new(format!("idle-{index}"))?, version)
    })
}
