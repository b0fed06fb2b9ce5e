//! Many primaries that die in the same instant, as when a host fails whole: how soon all of them write again,
//! what the store has to take meanwhile, and that nobody else waits for it. In virtual time.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbaas_controller::ControlPlane;
use dbaas_core::id::InstanceId;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_testkit::simulated::{Costs, SimWorld};

use crate::idle::create;
use crate::scenario::start_controller;
use crate::store::SimStore;

/// All instances are there within this time, and write again.
const PATIENCE: Duration = Duration::from_secs(600);
/// Clients of the instances that lose their primaries write so often.
const CLIENTS_EVERY_MS: u64 = 50;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Deaths {
    /// Instances that lost their primaries.
    pub instances: usize,
    /// From the deaths to the first commit that was acknowledged again, of each, sorted.
    pub write_again_ms: Vec<u64>,
    /// Batches committed to the store until the last one wrote.
    pub commits: u64,
    /// How long another instance, which lost nothing, took to be stopped meanwhile, as somebody asked for.
    pub other_ms: u64,
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// How long that took in real time.
    pub took: Duration,
}

impl Deaths {
    /// The last one's.
    pub fn last_ms(&self) -> u64 {
        self.write_again_ms.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Deaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.write_again_ms.get(self.write_again_ms.len() / 2);
        writeln!(
            f,
            "{} primaries die at once: write again after {} ms in the median, the last after {} ms of virtual time",
            self.instances,
            median.copied().unwrap_or_default(),
            self.last_ms()
        )?;
        writeln!(
            f,
            "{} writes to the store, {:.1} each",
            self.commits,
            self.commits as f64 / self.instances.max(1) as f64
        )?;
        writeln!(
            f,
            "another instance was stopped within {} ms meanwhile",
            self.other_ms
        )?;
        write!(
            f,
            "{} promises broken; {:.1} s of real time",
            self.violations.len(),
            self.took.as_secs_f64()
        )
    }
}

/// Makes so many instances of three nodes, and one more, and kills the primaries of all but that one.
pub fn of_primaries(instances: usize) -> anyhow::Result<Deaths> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let result = runtime.block_on(play(instances));
    runtime.shutdown_background();
    result
}

async fn play(instances: usize) -> anyhow::Result<Deaths> {
    let world = SimWorld::new(1, Costs::default());
    tokio::spawn(world.clone().run());
    let store = SimStore::new(1, false);
    let seat = start_controller(&world, &store, 1, "deaths".to_owned()).await?;
    let control = seat.control.context("no controller")?;
    let mut ids = create(&control, instances + 1, 3).await?;
    for id in &ids {
        control
            .wait_for_instance(*id, Lifecycle::Active, PATIENCE)
            .await?;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    let other = ids.pop().context("no other instance")?;

    let (began, real, commits) = (world.now_ms(), Instant::now(), store.commits());
    for id in &ids {
        for node in world.nodes(*id).iter().filter(|node| node.is_primary) {
            world.crash(node.node);
        }
        world.set_clients(*id, CLIENTS_EVERY_MS);
    }
    let (write_again_ms, other_ms) =
        tokio::try_join!(write_again(&world, &ids, began), stopped(&control, other, &world))?;
    let commits = store.commits() - commits;
    let took = real.elapsed();
    for id in &ids {
        world.verify(*id);
    }
    Ok(Deaths {
        instances,
        write_again_ms,
        commits,
        other_ms,
        violations: world.violations(),
        took,
    })
}

async fn write_again(world: &SimWorld, ids: &[InstanceId], began: u64) -> anyhow::Result<Vec<u64>> {
    let mut waiting = ids.to_vec();
    let mut after = Vec::with_capacity(ids.len());
    while !waiting.is_empty() {
        let now_ms = world.now_ms() - began;
        anyhow::ensure!(
            Duration::from_millis(now_ms) < PATIENCE,
            "{} instances do not write again",
            waiting.len()
        );
        waiting.retain(|id| {
            let writes = world.acknowledged(*id) > 0;
            if writes {
                after.push(now_ms);
            }
            !writes
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(after)
}

/// How long it takes to stop an instance.
async fn stopped(control: &ControlPlane, id: InstanceId, world: &SimWorld) -> anyhow::Result<u64> {
    let began = world.now_ms();
    control
        .act_on_instance(id, dbaas_controller::request::InstanceAction::Stop)
        .await?;
    while world.nodes(id).iter().any(|node| node.is_primary) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(world.now_ms() - began)
}
