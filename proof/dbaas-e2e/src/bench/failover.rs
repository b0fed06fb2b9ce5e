//! The write pause of a client that reconnects, when the primary is killed, frozen or changed, beside
//! PostgreSQL's own by hand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use dbaas_backend_local::WarmPool;
use dbaas_controller::request::InstanceAction;
use dbaas_workload::client::{Access, Client, ClientOptions, ConnectStrategy, Target};
use dbaas_workload::set::{SetOptions, SetWorkload};
use rustix::process::Signal;

use super::BenchOptions;
use super::by_hand::{ByHand, Server, conninfo, free_port, superuser};
use super::figures::{Goal, Row, Samples, Table};
use crate::stack::StackOptions;
use crate::{Cluster, Stack};

/// What happens to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of all its processes.
    Kill,
    /// SIGSTOP of all its processes.
    Freeze,
    /// A switchover is asked for.
    Switchover,
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Freeze, Fault::Switchover];

impl Fault {
    fn goal(self) -> Goal {
        Goal::Median(Duration::from_millis(match self {
            Fault::Kill => 700,
            Fault::Freeze => 4_000,
            Fault::Switchover => 500,
        }))
    }

    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of all processes",
            Fault::Freeze => "SIGSTOP of all processes",
            Fault::Switchover => "switchover",
        }
    }
}

/// How PostgreSQL alone is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ByHandFault {
    /// Killed; a standby promoted at once; nobody waits for standbys.
    KillAsynchronous,
    /// Killed; the other standby has to follow before a write is acknowledged.
    KillSynchronous,
    /// Stopped in an orderly way, then as [`ByHandFault::KillSynchronous`].
    Stop,
}

const BY_HAND: [ByHandFault; 3] = [
    ByHandFault::KillAsynchronous,
    ByHandFault::KillSynchronous,
    ByHandFault::Stop,
];

/// A client that does as libpq with several hosts: its shortest timeout, no limit on statements but the
/// test's.
pub(super) fn libpq() -> ClientOptions {
    ClientOptions {
        strategy: ConnectStrategy::Sequential,
        access: Access::ReadWrite,
        connect_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(30),
        retry_pause: Duration::from_millis(10),
        silence: None,
        settings: Vec::new(),
    }
}

pub(super) fn parallel() -> ClientOptions {
    ClientOptions {
        strategy: ConnectStrategy::Parallel,
        ..libpq()
    }
}

#[derive(Default)]
struct Figures {
    floor: BTreeMap<ByHandFault, Samples>,
    libpq: BTreeMap<Fault, Samples>,
    parallel: BTreeMap<Fault, Samples>,
    /// From the fault to each kind of event, and to the first write.
    steps: BTreeMap<Fault, BTreeMap<String, Samples>>,
    acknowledged: u64,
}

/// Measures. `progress` is told of each sample.
pub async fn run(options: &BenchOptions, progress: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Table>> {
    let stack = Stack::start_with(StackOptions {
        warm_pool: Some(WarmPool {
            sets: 0,
            ..WarmPool::default()
        }),
        ..StackOptions::default()
    })
    .await?
    .context("no PostgreSQL")?;
    let by_hand = ByHand::new(stack.local_options(), options.major)?;
    let prepared = by_hand.initdb("prepared")?;
    by_hand.sync()?;
    let cluster = Cluster::create(&stack, "failover", 3, 1, options.major).await?;
    let target = cluster.target(&stack).await?;
    let mut figures = Figures::default();
    for round in 0..options.runs {
        let at_hand = BY_HAND[round % BY_HAND.len()..]
            .iter()
            .chain(&BY_HAND[..round % BY_HAND.len()]);
        for fault in at_hand {
            let pause = floor(&by_hand, &prepared, *fault).await?;
            progress(format!("round {}: floor {fault:?} {pause:?}", round + 1));
            figures.floor.entry(*fault).or_default().push(pause);
        }
        for (name, client) in [("libpq", libpq()), ("parallel", parallel())] {
            for fault in FAULTS {
                let sample = ours(&stack, &cluster, &target, fault, &client).await?;
                progress(format!(
                    "round {}: {fault:?} {name} {:?} {:?}",
                    round + 1,
                    sample.pause,
                    sample.steps
                ));
                let into = if name == "libpq" {
                    &mut figures.libpq
                } else {
                    &mut figures.parallel
                };
                into.entry(fault).or_default().push(sample.pause);
                let steps = figures.steps.entry(fault).or_default();
                for (kind, after) in sample.steps {
                    steps.entry(kind).or_default().push(after);
                }
                figures.acknowledged += sample.acknowledged;
            }
        }
    }
    Ok(tables(&figures))
}

fn tables(f: &Figures) -> Vec<Table> {
    let none = Samples::default();
    let floor = |fault| f.floor.get(&fault).unwrap_or(&none);
    let beside = |fault: Fault| match fault {
        Fault::Kill | Fault::Freeze => floor(ByHandFault::KillSynchronous),
        Fault::Switchover => floor(ByHandFault::Stop),
    };
    let mut rows = vec![
        Row::new(
            "floor: kill -9, pg_promote by hand, asynchronous",
            floor(ByHandFault::KillAsynchronous),
        ),
        Row::new(
            "floor: kill -9, pg_promote and re-pointing by hand, k = 1",
            floor(ByHandFault::KillSynchronous),
        ),
        Row::new(
            "floor: fast stop, pg_promote and re-pointing by hand, k = 1",
            floor(ByHandFault::Stop),
        ),
    ];
    for (client, samples) in [("like libpq", &f.libpq), ("all hosts at once", &f.parallel)] {
        for fault in FAULTS {
            let Some(samples) = samples.get(&fault) else {
                continue;
            };
            let what = format!("{}, client {client}", fault.name());
            rows.push(Row::new(what, samples).beside(beside(fault)).goal(fault.goal()));
        }
    }
    let mut tables = vec![Table {
        title: "Write pause of a client that reconnects; three nodes, k = 1".to_owned(),
        rows,
        notes: vec![format!(
            "Every one of {} acknowledged rows was read back from the new primary.",
            f.acknowledged
        )],
    }];
    for (fault, steps) in &f.steps {
        let mut rows: Vec<(Duration, Row)> = steps
            .iter()
            .map(|(kind, samples)| (samples.median(), Row::new(kind.clone(), samples)))
            .collect();
        rows.sort_by_key(|(median, _)| *median);
        tables.push(Table {
            title: format!("{}: time from the fault, both clients", fault.name()),
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            notes: Vec::new(),
        });
    }
    tables
}

pub(super) struct Sample {
    pub(super) pause: Duration,
    pub(super) steps: Vec<(String, Duration)>,
    pub(super) acknowledged: u64,
}

/// One fault under a client that writes all the time.
pub(super) async fn ours(
    stack: &Stack,
    cluster: &Cluster,
    target: &Target,
    fault: Fault,
    client: &ClientOptions,
) -> anyhow::Result<Sample> {
    cluster.wait_healed(stack, 3).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let plane = stack.plane()?;
    let mut seen = 0;
    loop {
        let events = plane.events(cluster.id, seen, 1_000).await?;
        let Some(last) = events.last() else { break };
        seen = last.sequence;
    }
    let primary = cluster.primary(stack).await?.id;
    let workload = SetWorkload::start(target, &one_writer(client)).await?;
    ensure!(
        workload.wait_for_acknowledged(100, Duration::from_secs(20)).await,
        "no writes"
    );
    let wall_ms = unix_ms();
    let at = Instant::now();
    match fault {
        Fault::Kill => cluster.signal(stack, primary, Signal::KILL)?,
        Fault::Freeze => cluster.signal(stack, primary, Signal::STOP)?,
        Fault::Switchover => {
            plane
                .act_on_instance(cluster.id, InstanceAction::Switchover { to: None })
                .await?;
        }
    }
    // Writes go on until the change is over: a switchover begins a while after it was asked for.
    let until = Instant::now() + Duration::from_secs(60);
    while cluster.primary(stack).await.is_ok_and(|p| p.id == primary) {
        if Instant::now() > until {
            bail!(
                "nothing happened; events: {}",
                cluster.events(stack).await?.join("\n")
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !workload.wait_for_acknowledged(200, Duration::from_secs(60)).await {
        bail!(
            "writes did not resume: {}",
            cluster.events(stack).await?.join("\n")
        );
    }
    let report = workload.stop().await;
    let gap = report.timeline.longest_gap_between(at, Instant::now());
    let verdict = report.verify(target, Access::ReadWrite).await?;
    ensure!(verdict.is_sound(), "rows are missing: {verdict:?}");
    let mut steps = vec![
        ("last write".to_owned(), gap.start.saturating_duration_since(at)),
        ("first write".to_owned(), gap.end.saturating_duration_since(at)),
    ];
    for event in plane.events(cluster.id, seen, 1_000).await? {
        let after_ms = event.event.at.unix_ms() - wall_ms;
        let kind = event.event.kind;
        if !steps.iter().any(|(known, _)| *known == kind) {
            steps.push((kind, Duration::from_millis(u64::try_from(after_ms).unwrap_or(0))));
        }
    }
    steps.sort_by_key(|(_, after)| *after);
    Ok(Sample {
        pause: gap.duration(),
        steps,
        acknowledged: report.acknowledged,
    })
}

pub(super) fn one_writer(client: &ClientOptions) -> SetOptions {
    SetOptions {
        writers: 1,
        pause_between: Duration::from_millis(1),
        client: client.clone(),
        ..SetOptions::default()
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A primary and two standbys without a control plane, and the same done by somebody who knows at once what
/// to do.
async fn floor(by_hand: &ByHand, prepared: &std::path::Path, fault: ByHandFault) -> anyhow::Result<Duration> {
    let name = |node: &str| format!("{fault:?}-{node}");
    let data = ["p", "s1", "s2"]
        .map(|node| by_hand.copy(prepared, &name(node)))
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?;
    by_hand.sync()?;
    let k1 = fault != ByHandFault::KillAsynchronous;
    let sync = |names: &'static str| ("synchronous_standby_names", if k1 { names } else { "" });
    let fast = ("wal_retrieve_retry_interval", "50ms");
    let mut primary = by_hand.start(&data[0], free_port()?, &[sync("ANY 1 (s1, s2)"), fast])?;
    let mut standbys: Vec<Server> = Vec::new();
    for (index, other) in [(1, "s2"), (2, "s1")] {
        by_hand.write(&data[index], "standby.signal", "")?;
        let follow = format!(
            "primary_conninfo = '{}'\n",
            conninfo(&primary, &format!("s{index}"))
        );
        by_hand.write(&data[index], "postgresql.auto.conf", &follow)?;
        let names = if other == "s1" { "ANY 1 (s1)" } else { "ANY 1 (s2)" };
        standbys.push(by_hand.start(&data[index], free_port()?, &[sync(names), fast])?);
    }
    let mut admin = primary.connect().await?;
    streaming(&mut admin, 2).await?;
    let mut operators = Vec::new();
    for standby in &standbys {
        operators.push(standby.connect().await?);
    }
    let hosts = [&primary]
        .into_iter()
        .chain(&standbys)
        .map(Server::endpoint)
        .collect();
    let workload = SetWorkload::start(&superuser(hosts), &one_writer(&libpq())).await?;
    ensure!(
        workload.wait_for_acknowledged(100, Duration::from_secs(20)).await,
        "no writes"
    );
    let at = Instant::now();
    if fault == ByHandFault::Stop {
        primary.stop().await?;
    } else {
        primary.kill()?;
    }
    let addresses = [conninfo(&standbys[0], "s2"), conninfo(&standbys[1], "s1")];
    let pause = promote_by_hand(&mut operators, &addresses, workload, at).await?;
    drop((primary, standbys));
    for directory in data {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(pause)
}

/// What somebody does after the primary is gone who knows at once what to do: the one of two standbys that
/// has more is promoted, or the other could not follow; the other follows it by its address. The write pause
/// since `at`.
pub(super) async fn promote_by_hand(
    operators: &mut [Client],
    addresses: &[String; 2],
    workload: SetWorkload,
    at: Instant,
) -> anyhow::Result<Duration> {
    let [first, second] = operators else {
        bail!("there have to be two standbys");
    };
    let mut positions = Vec::new();
    for operator in [&mut *first, &mut *second] {
        let rows = operator
            .send("SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn")
            .await?;
        let text = rows.first().and_then(|row| row.first().cloned().flatten());
        positions.push(text.and_then(|t| t.parse::<u64>().ok()).unwrap_or(0));
    }
    let (promoted, following, address) = if positions[1] > positions[0] {
        (second, first, &addresses[1])
    } else {
        (first, second, &addresses[0])
    };
    let (done, re_pointed) = tokio::join!(
        promoted.send("SELECT pg_promote(false)"),
        re_point(following, address)
    );
    done?;
    re_pointed?;
    ensure!(
        workload.wait_for_acknowledged(50, Duration::from_secs(60)).await,
        "PostgreSQL by hand takes no writes"
    );
    let report = workload.stop().await;
    Ok(report.timeline.longest_gap_between(at, Instant::now()).duration())
}

async fn re_point(standby: &mut Client, follow: &str) -> anyhow::Result<()> {
    standby
        .send(&format!("ALTER SYSTEM SET primary_conninfo = '{follow}'"))
        .await?;
    standby.send("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// Waits until so many standbys stream.
pub(super) async fn streaming(admin: &mut Client, wanted: usize) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let rows = admin
            .send("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")
            .await?;
        if rows.len() >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < until, "standbys made by hand do not stream");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
