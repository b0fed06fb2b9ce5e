//! What instances cost that need nothing: memory, processor time and store writes of one controller, in real
//! time.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbaas_controller::ControlPlane;
use dbaas_controller::request::{CreateInstance, Page};
use dbaas_core::id::InstanceId;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::name::InstanceName;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_testkit::simulated::{Costs, SimWorld};

use crate::scenario::start_controller;
use crate::store::SimStore;

/// All instances are there within this time.
const CREATED_WITHIN: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Debug, Clone)]
pub struct Idle {
    /// How many instances.
    pub instances: usize,
    /// Nodes of each.
    pub nodes: u64,
    /// Resident memory that they added, with their simulated nodes and the store's documents, in bytes.
    /// `None` where the system does not say.
    pub added_bytes: Option<u64>,
    /// Until all of them were ACTIVE.
    pub created_in: Duration,
    /// The time measured.
    pub measured: Duration,
    /// Processor time in it, of the controller and the simulated world together. `None` where the system does
    /// not say.
    pub processor: Option<Duration>,
    /// Batches committed to the store in it.
    pub commits: u64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} instances of {} nodes", self.instances, self.nodes)?;
        writeln!(f, "all ACTIVE after       {:.1} s", self.created_in.as_secs_f64())?;
        match self.added_bytes {
            Some(bytes) => writeln!(
                f,
                "memory per instance    {:.1} kB (with its simulated nodes and its documents)",
                bytes as f64 / 1024.0 / self.instances.max(1) as f64
            )?,
            None => writeln!(f, "memory per instance    not known on this system")?,
        }
        match self.processor {
            Some(time) => writeln!(
                f,
                "processor              {:.1} % of one core over {:.0} s (with the simulated world)",
                100.0 * time.as_secs_f64() / self.measured.as_secs_f64().max(0.001),
                self.measured.as_secs_f64()
            )?,
            None => writeln!(f, "processor              not known on this system")?,
        }
        write!(f, "store writes           {}", self.commits)
    }
}

/// Makes instances, waits until they need nothing, and measures for so long.
pub fn measure(instances: usize, nodes: u64, seconds: u64) -> anyhow::Result<Idle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let result = runtime.block_on(play(instances, nodes, Duration::from_secs(seconds)));
    runtime.shutdown_background();
    result
}

/// As [`measure`], with a clock that is paused: nothing but the store's writes means anything.
pub fn count_writes(instances: usize, nodes: u64, seconds: u64) -> anyhow::Result<Idle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let result = runtime.block_on(play(instances, nodes, Duration::from_secs(seconds)));
    runtime.shutdown_background();
    result
}

async fn play(instances: usize, nodes: u64, measured: Duration) -> anyhow::Result<Idle> {
    let costs = Costs {
        init_ms: 20,
        start_ms: 5,
        ..Costs::default()
    };
    let world = SimWorld::new(1, costs);
    tokio::spawn(world.clone().run());
    let store = SimStore::new(1, false);
    let seat = start_controller(&world, &store, 1, "idle".to_owned()).await?;
    let control = seat.control.context("no controller")?;
    // What starting costs is not the instances'.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let memory = resident_bytes();
    let began = Instant::now();
    let ids = create(&control, instances, nodes).await?;
    for id in &ids {
        control
            .wait_for_instance(*id, Lifecycle::Active, CREATED_WITHIN)
            .await?;
    }
    let created_in = began.elapsed();
    // What was written last is looked at once more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, commits) = (processor_time(), store.commits());
    let started = Instant::now();
    tokio::time::sleep(measured).await;
    let elapsed = started.elapsed();
    Ok(Idle {
        instances,
        nodes,
        added_bytes: resident_bytes()
            .zip(memory)
            .map(|(now, then)| now.saturating_sub(then)),
        created_in,
        measured: elapsed,
        processor: processor_time()
            .zip(before)
            .map(|(now, then)| now.saturating_sub(then)),
        commits: store.commits() - commits,
    })
}

/// Makes instances with one synchronous replica each, where they have standbys.
pub(crate) async fn create(
    control: &ControlPlane,
    instances: usize,
    nodes: u64,
) -> anyhow::Result<Vec<InstanceId>> {
    let versions = control
        .versions(Page {
            after: None,
            limit: 1,
        })
        .await?;
    let version = versions.items.first().context("the catalogue is empty")?.id;
    let mut ids = Vec::with_capacity(instances);
    for index in 0..instances {
        let request = CreateInstance {
            cpu: CpuCores::new(1)?,
            ram: RamMb::new(512)?,
            disk: DiskGb::new(8)?,
            nodes: NodeCount::new(nodes)?,
            sync_replicas: SyncReplicas::new(1)?,
            ..CreateInstance::new(InstanceName::new(format!("idle-{index}"))?, version)
        };
        ids.push(control.create_instance(request).await?.id);
    }
    Ok(ids)
}

/// Resident memory of this process, from `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of this process, from `/proc`; its ticks are hundredths of a second.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}
