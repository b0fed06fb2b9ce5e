//! The same on a libvirt: from the request to usable, beside what somebody does with `virsh` and SQL, and the
//! write pause.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Access, Client, ClientOptions, Target};

use super::BenchOptions;
use super::by_hand::patient;
use super::elsewhere::{Pauses, Place, Usable, usable};
use super::failover::{Fault, libpq, parallel};
use super::figures::Table;
use crate::cluster::PASSWORD;
use crate::stack::StackOptions;
use crate::{Cluster, Stack};

mod by_virsh;

use by_virsh::Prepared;

const LIBVIRT: Place = Place {
    name: "libvirt",
    // Machines may be emulated, on processors that others use, too.
    within: Duration::from_secs(600),
    calm: Duration::from_secs(2),
    floor: "floor: a clone of an initialised disk, virsh define and start until it accepts, CREATE ROLE, CREATE DATABASE by hand",
    times: 2.0,
    faults: told,
};

/// A machine that is gone or stands still says nothing, not even that a connection is closed: a client has to
/// notice that by itself.
fn clients() -> Vec<(&'static str, ClientOptions)> {
    let noticing = |options: ClientOptions| ClientOptions {
        silence: Some(Duration::from_secs(1)),
        ..options
    };
    vec![
        ("like libpq, tcp_user_timeout 1 s", noticing(libpq())),
        ("all hosts at once, tcp_user_timeout 1 s", noticing(parallel())),
    ]
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
    let mut figures = Usable::default();
    let prepared = Prepared::make(place, options.major, LIBVIRT.within).await?;
    progress("a data disk was initialised by hand".to_owned());
    for round in 0..options.runs {
        // A pool that is being filled takes a processor: also from what is done by hand.
        pool_filled(&stack).await?;
        let floor = by_hand(&prepared, round).await?;
        figures.floor.push(floor);
        let one = usable(&stack, &LIBVIRT, &format!("one-{round}"), (1, 0), options).await?;
        figures.one.push(one);
        pool_filled(&stack).await?;
        let three = usable(&stack, &LIBVIRT, &format!("three-{round}"), (3, 1), options).await?;
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
    tokio::time::sleep(LIBVIRT.calm).await;
    pool_filled(&stack).await?;
    let target = cluster.target(&stack).await?;
    let mut pauses = Pauses::of(clients());
    for round in 0..options.runs {
        pauses.round(&stack, &cluster, &target, round, progress).await?;
    }
    let mut tables = vec![figures.table(&LIBVIRT, memory()?)];
    tables.extend(pauses.tables(&LIBVIRT, None));
    Ok(tables)
}

fn told(fault: Fault) -> (&'static str, Duration) {
    match fault {
        Fault::Kill => ("virsh destroy", Duration::from_secs(2)),
        Fault::Freeze => ("virsh suspend", Duration::from_secs(4)),
        Fault::Switchover => ("switchover", Duration::from_secs(2)),
    }
}

/// Waits until the warm pool is filled and nothing is being made any more.
async fn pool_filled(stack: &Stack) -> anyhow::Result<()> {
    let until = Instant::now() + LIBVIRT.within;
    while stack.warm_sets_on_libvirt().await? == 0 {
        ensure!(Instant::now() < until, "the warm pool is not filled");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(LIBVIRT.calm).await;
    Ok(())
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
    let until = started + LIBVIRT.within;
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
    tokio::time::sleep(LIBVIRT.calm).await;
    Ok(usable)
}

/// What the control plane has in memory, and the programs that it asks and that tell it of events. The
/// clients of this benchmark are in it.
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
        "Memory of the control plane, this benchmark's clients included: {} MB, and {} MB of its virsh programs, what they share counted for each.",
        own / 1024,
        events / 1024
    )])
}
