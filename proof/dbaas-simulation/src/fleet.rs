//! What very many instances cost one controller, in real time: to make them, to have them, to start with
//! them, and to list them. The store is SQLite on the disk; the simulated world has a thread of its own, so
//! that what the controller takes can be told from what the world takes.

mod elsewhere;
mod figures;
mod pages;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbaas_controller::ControlPlane;
use dbaas_controller::request::{InstanceFilter, Page};
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::id::InstanceId;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_store::{SqliteOptions, SqliteStore};
use dbaas_testkit::simulated::SimWorld;
use futures_util::future::try_join_all;

use crate::clock::SimClock;
use crate::idle::{costs, request, version};
use crate::sealer::SimSealer;
use elsewhere::{CountedStore, Elsewhere, World};
pub use figures::{Figures, Latency, Restart};

/// All instances are there within this time.
const CREATED_WITHIN: Duration = Duration::from_secs(900);
/// Calls of creation at the same time.
const CALLERS: usize = 16;

/// Makes so many instances and measures.
pub fn measure(instances: usize, nodes: u64, seconds: u64) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    let result = runtime.block_on(play(instances, nodes, Duration::from_secs(seconds)));
    runtime.shutdown_background();
    result
}

async fn play(instances: usize, nodes: u64, measured: Duration) -> anyhow::Result<Figures> {
    let world = World::start(SimWorld::new(1, costs()))?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("control-plane.db");
    let store = Arc::new(CountedStore::new(SqliteStore::open(
        &path,
        SqliteOptions::default(),
    )?));
    let control = start(&world, &store).await?;
    // What starting costs is not the instances'.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let memory = figures::resident_bytes();

    let (began, spent) = (Instant::now(), Spent::now(&world));
    let ids = create(&control, instances, nodes).await?;
    let created_in = began.elapsed();
    let creation = spent.since(&world);

    // What was written last is looked at once more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (began, spent, commits) = (Instant::now(), Spent::now(&world), store.commits());
    let looks = world.looks();
    tokio::time::sleep(measured).await;
    let looks = world.looks() - looks;
    let (elapsed, idle, commits) = (began.elapsed(), spent.since(&world), store.commits() - commits);
    let added = figures::resident_bytes()
        .zip(memory)
        .map(|(now, then)| now.saturating_sub(then));
    let of_world = world_bytes(&world.sim);

    let pages = pages::measure(&control, &ids).await?;
    let restart = restart(control, &world, &store, &ids).await?;
    Ok(Figures {
        instances,
        nodes,
        created_in,
        creation,
        added_bytes: added,
        world_bytes: of_world,
        measured: elapsed,
        idle,
        looks,
        commits,
        pages,
        restart,
    })
}

/// Processor time of this process and of the world's thread.
struct Spent {
    all: Option<Duration>,
    world: Option<Duration>,
}

impl Spent {
    fn now(world: &World) -> Self {
        Spent {
            all: figures::processor_time("self"),
            world: figures::processor_time(&world.thread),
        }
    }

    /// What the controller took since, and the world.
    fn since(&self, world: &World) -> Option<(Duration, Duration)> {
        let now = Spent::now(world);
        let all = now.all?.saturating_sub(self.all?);
        let of_world = now.world?.saturating_sub(self.world?);
        Some((all.saturating_sub(of_world), of_world))
    }
}

async fn start(world: &World, store: &Arc<CountedStore>) -> anyhow::Result<ControlPlane> {
    let sim = world.sim.controller();
    let store: Arc<CountedStore> = Arc::clone(store);
    Ok(ControlPlane::builder()
        .infrastructure(Arc::new(Elsewhere::new(world, sim.infrastructure())))
        .sql(Arc::new(Elsewhere::new(world, sim.sql())))
        .store(store)
        .sealer(Arc::new(SimSealer))
        .clock(Arc::new(SimClock::new(&world.sim)))
        .simulation_seed(1)
        .settings(ControllerSettings {
            lease_holder: Some("fleet".to_owned()),
            alone: true,
            // Each look takes the simulated world ten milliseconds and more.
            concurrency: 512,
            ..ControllerSettings::default()
        })
        .start()
        .await?)
}

/// Makes the instances, and waits until all are ACTIVE.
async fn create(control: &ControlPlane, instances: usize, nodes: u64) -> anyhow::Result<Vec<InstanceId>> {
    let version = version(control).await?;
    let next = AtomicUsize::new(0);
    let caller = || async {
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= instances {
                return anyhow::Ok(made);
            }
            made.push(control.create_instance(request(index, nodes, version)?).await?.id);
        }
    };
    let made = try_join_all((0..CALLERS).map(|_| caller())).await?;
    let mut ids: Vec<InstanceId> = made.into_iter().flatten().collect();
    ids.sort_unstable();
    for id in &ids {
        control
            .wait_for_instance(*id, Lifecycle::Active, CREATED_WITHIN)
            .await?;
    }
    Ok(ids)
}

/// Resident memory that a copy of the world adds: what the world itself takes. The first copy fills what is
/// free.
fn world_bytes(world: &SimWorld) -> Option<u64> {
    let first = world.copied();
    let before = figures::resident_bytes()?;
    let second = world.copied();
    let added = figures::resident_bytes()?.saturating_sub(before);
    drop((first, second));
    Some(added)
}

/// Ends the controller and starts another one.
async fn restart(
    control: ControlPlane,
    world: &World,
    store: &Arc<CountedStore>,
    ids: &[InstanceId],
) -> anyhow::Result<Restart> {
    let epochs = epochs(&control, ids).await?;
    control.shutdown(Duration::from_secs(10)).await;
    drop(control);
    let commits = store.commits();
    let began = Instant::now();
    let control = start(world, store).await?;
    let page = Page {
        after: None,
        limit: 100,
    };
    control.instances(InstanceFilter::default(), page).await?;
    while !control.health().await.leader {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let serving_in = began.elapsed();
    let limit = Duration::from_secs(120);
    while control.instances_looked_at() < ids.len() && began.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let looked_at = control.instances_looked_at();
    let looked_at_in = began.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let failovers = epochs_differ(&epochs, &self::epochs(&control, ids).await?);
    let commits = store.commits() - commits;
    control.shutdown(Duration::from_secs(10)).await;
    Ok(Restart {
        serving_in,
        looked_at,
        looked_at_in,
        failovers,
        commits,
    })
}

async fn epochs(control: &ControlPlane, ids: &[InstanceId]) -> anyhow::Result<Vec<u64>> {
    let mut epochs = Vec::with_capacity(ids.len());
    for id in ids {
        let record = control.instance_record(*id).await?;
        epochs.push(record.cluster.context("no cluster")?.epoch.0);
    }
    Ok(epochs)
}

fn epochs_differ(before: &[u64], after: &[u64]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}
