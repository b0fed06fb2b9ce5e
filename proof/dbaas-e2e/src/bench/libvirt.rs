//! The same on a libvirt: from the request to usable, beside what somebody does with `virsh` and SQL, and the write pause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Access, Client, Target};

use super::BenchOptions;
use super::by_hand::patient;
use super::failover::{Fault, libpq, ours};
use super::figures::{Goal, Row, Samples, Table};
use super::provision::delete;
use crate::cluster::PASSWORD;
use crate::stack::StackOptions;
use crate::{Cluster, Stack};

mod by_virsh;

use by_virsh::Prepared;

/// Machines may be emulated, on processors that others use, too.
const WITHIN: Duration = Duration::from_secs(600);
/// What was removed a moment ago must not be paid for by what is measured next.
const CALM: Duration = Duration::from_secs(2);
const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Freeze, Fault::Switchover];

#[derive(Default)]
struct Figures {
    floor: Samples,
    one: Samples,
    three: Samples,
    pauses: BTreeMap<Fault, Samples>,
    steps: BTreeMap<Fault, BTreeMap<String, Samples>>,
    acknowledged: u64,
    memory: Vec<String>,
}

/// Measures. `progress` is told of each sample.
pub async fn run(options: &BenchOptions, progress: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Table>> {
    let stack = Stack::start_on_libvirt_with(StackOptions {
        libvirt_warm_sets: 1,
        ..StackOptions::default()
    })
    .await?
    .context("no libvirt; set DBAAS_LIBVIRT_URI")?;
    let place = stack.libvirt().context("not on libvirt")?;
    let mut figures = Figures::default();
    let prepared = Prepared::make(place, options.major, WITHIN).await?;
    progress("a data disk was initialised by hand".to_owned());
    for round in 0..options.runs {
        // A pool that is being filled takes a processor: also from what is done by hand.
        pool_filled(&stack).await?;
        let floor = by_hand(&prepared, round).await?;
        figures.floor.push(floor);
        let one = instance(&stack, &format!("one-{round}"), 1, 0, options).await?;
        figures.one.push(one);
        pool_filled(&stack).await?;
        let three = instance(&stack, &format!("three-{round}"), 3, 1, options).await?;
        figures.three.push(three);
        progress(format!(
            "round {}: by hand {floor:?}, one node {one:?}, three {three:?}",
            round + 1
        ));
    }
    drop(prepared);
    pool_filled(&stack).await?;
    let cluster = Cluster::create(&stack, "failover", 3, 1, options.major).await?;
    // The set that follows the one that this took is being made.
    tokio::time::sleep(CALM).await;
    pool_filled(&stack).await?;
    let target = cluster.target(&stack).await?;
    for round in 0..options.runs {
        for fault in FAULTS {
            let sample = ours(&stack, &cluster, &target, fault, &libpq()).await?;
            progress(format!(
                "round {}: {fault:?} {:?} {:?}",
                round + 1,
                sample.pause,
                sample.steps
            ));
            figures.pauses.entry(fault).or_default().push(sample.pause);
            let steps = figures.steps.entry(fault).or_default();
            for (kind, after) in sample.steps {
                steps.entry(kind).or_default().push(after);
            }
            figures.acknowledged += sample.acknowledged;
        }
    }
    figures.memory = memory()?;
    Ok(tables(&figures))
}

fn tables(f: &Figures) -> Vec<Table> {
    let mut tables = vec![Table {
        title: "libvirt: from the request to a user who has logged in to a database".to_owned(),
        rows: vec![
            Row::new(
                "floor: a clone of an initialised disk, virsh define and start until it accepts, CREATE ROLE, CREATE DATABASE by hand",
                &f.floor,
            ),
            Row::new("one node (beside its floor)", &f.one)
                .beside(&f.floor)
                .goal(Goal::Times(2.0)),
            Row::new("three nodes, k = 1 (beside one node)", &f.three)
                .beside(&f.one)
                .goal(Goal::Times(2.0)),
        ],
        notes: f.memory.clone(),
    }];
    let mut rows = Vec::new();
    for (fault, samples) in &f.pauses {
        let (what, goal_ms) = told(*fault);
        rows.push(Row::new(what, samples).goal(Goal::Median(Duration::from_millis(goal_ms))));
    }
    tables.push(Table {
        title: "libvirt: write pause of a client like libpq that reconnects; three nodes, k = 1".to_owned(),
        rows,
        notes: vec![format!(
            "Every one of {} acknowledged rows was read back from the new primary.",
            f.acknowledged
        )],
    });
    for (fault, steps) in &f.steps {
        let mut rows: Vec<(Duration, Row)> = steps
            .iter()
            .map(|(kind, samples)| (samples.median(), Row::new(kind.clone(), samples)))
            .collect();
        rows.sort_by_key(|(median, _)| *median);
        tables.push(Table {
            title: format!("{}: time from the fault", told(*fault).0),
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            notes: Vec::new(),
        });
    }
    tables
}

fn told(fault: Fault) -> (&'static str, u64) {
    match fault {
        Fault::Kill => ("virsh destroy", 2_000),
        Fault::Freeze => ("virsh suspend", 4_000),
        Fault::Switchover => ("switchover", 2_000),
    }
}

/// Waits until the warm pool is filled and nothing is being made any more.
async fn pool_filled(stack: &Stack) -> anyhow::Result<()> {
    let until = Instant::now() + WITHIN;
    while stack.warm_sets_on_libvirt().await? == 0 {
        ensure!(Instant::now() < until, "the warm pool is not filled");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(CALM).await;
    Ok(())
}

/// Asks for an instance and logs in; then deletes it. Until the login.
async fn instance(
    stack: &Stack,
    name: &str,
    nodes: u64,
    k: u64,
    options: &BenchOptions,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let cluster = Cluster::request(stack, name, nodes, k, options.major).await?;
    cluster.wait_ready(stack).await?;
    let mut client = Client::new(cluster.target(stack).await?, patient(Access::ReadWrite));
    client.connect(Instant::now() + WITHIN).await?;
    let usable = started.elapsed();
    tracing::info!(name, ?usable, events = ?cluster.events(stack).await?, "instance usable");
    client.disconnect();
    delete(stack, &cluster).await?;
    tokio::time::sleep(CALM).await;
    Ok(usable)
}

/// The same by `virsh`.
async fn by_hand(prepared: &Prepared<'_>, round: usize) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let machine = prepared.start(round)?;
    let target = |user: &str, database: &str| Target {
        hosts: vec![Endpoint {
            host: machine.address.clone(),
            port: 5432,
        }],
        database: database.to_owned(),
        user: user.to_owned(),
        password: Secret::new(PASSWORD),
    };
    let until = started + WITHIN;
    let mut admin = Client::new(target(by_virsh::SUPERUSER, "postgres"), patient(Access::Any));
    admin.connect(until).await?;
    admin
        .send(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"))
        .await?;
    admin
        .send("CREATE DATABASE shop OWNER app TEMPLATE template0")
        .await?;
    let mut user = Client::new(target("app", "shop"), patient(Access::ReadWrite));
    user.connect(until).await?;
    let usable = started.elapsed();
    drop(machine);
    tokio::time::sleep(CALM).await;
    Ok(usable)
}

/// What the control plane has in memory, with the program that tells it of events. The clients of this benchmark are in it.
fn memory() -> anyhow::Result<Vec<String>> {
    let resident = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
    };
    let own = resident("self").context("no memory is told of this process")?;
    let us = std::process::id().to_string();
    let mut events = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(us.as_str()) {
            events += resident(&name).unwrap_or(0);
        }
    }
    Ok(vec![format!(
        "Memory of the control plane, this benchmark's clients included: {} MB, and {} MB of the virsh that tells of events.",
        own / 1024,
        events / 1024
    )])
}
