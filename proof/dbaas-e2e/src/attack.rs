//! Attack: random faults on a real cluster under two workloads, each followed by the question whether
//! anything acknowledged is missing.
//!
//! The seed decides which faults come, on which nodes, and after how long the controller dies in the middle
//! of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_controller::request::InstanceAction;
use dbaas_workload::bank::{BankOptions, BankWorkload};
use dbaas_workload::client::Access;
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::set::{SetOptions, SetWorkload};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use crate::cluster::Cluster;
use crate::stack::Stack;

pub(crate) mod disk;
mod inflict;
mod kind;
mod minor;
mod moment;

use disk::SmallDisk;
use inflict::inflict;
pub use kind::Fault;

/// How to attack.
#[derive(Debug, Clone)]
pub struct AttackOptions {
    /// Decides everything that is random.
    pub seed: u64,
    /// How many faults.
    pub faults: usize,
    /// Nodes of the cluster.
    pub nodes: u64,
    /// Synchronous replicas.
    pub k: u64,
    /// Which kinds of faults; those that this machine does not allow are left out, loudly.
    pub kinds: Vec<Fault>,
}

/// What came of an attack.
#[derive(Debug, Clone, Default)]
pub struct AttackReport {
    /// Per fault: the longest pauses of writes that clients saw.
    pub pauses: BTreeMap<Fault, Vec<Duration>>,
    /// Inserts that were acknowledged, all of them found again.
    pub acknowledged_inserts: u64,
    /// Transfers that were acknowledged, all of them found again.
    pub acknowledged_transfers: u64,
}

/// Attacks a new cluster. An error says which fault broke which promise. `told` hears of each fault survived.
pub async fn attack(
    stack: &mut Stack,
    options: &AttackOptions,
    mut told: impl FnMut(usize, Fault, Duration),
) -> anyhow::Result<AttackReport> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut options = options.clone();
    let minors = if options.kinds.contains(&Fault::MinorVersion) {
        stack.two_minors().await?
    } else {
        None
    };
    if minors.is_none() && options.kinds.contains(&Fault::MinorVersion) {
        tracing::error!(
            "SKIPPED: MinorVersion: there is only one minor version (with DBAAS_REQUIRE_POSTGRES=1 another one is fetched)"
        );
        options.kinds.retain(|kind| *kind != Fault::MinorVersion);
    }
    let options = &options;
    let cluster = Cluster::create(stack, "attacked", options.nodes, options.k, None).await?;
    let mut report = AttackReport::default();
    let mut bag: Vec<Fault> = Vec::new();
    let (kinds, impossible): (Vec<Fault>, Vec<Fault>) =
        options.kinds.iter().partition(|kind| kind.is_possible(stack));
    if !impossible.is_empty() {
        tracing::error!(
            "SKIPPED: {impossible:?} cannot be done here (a full disk needs root and processes, a slow one root and blkio control groups or machines, a cut network root and Docker, or machines)"
        );
    }
    ensure!(!kinds.is_empty(), "there is no fault to inflict");
    for number in 0..options.faults {
        if bag.is_empty() {
            // Every kind comes before any comes again.
            bag.clone_from(&kinds);
            bag.shuffle(&mut rng);
        }
        let fault = bag.pop().unwrap_or(Fault::KillPrimary);
        let context = || format!("fault {number} ({fault:?}) of seed {}", options.seed);
        let pause = one(stack, &cluster, options, fault, &mut rng, &mut report)
            .await
            .with_context(context)?;
        report.pauses.entry(fault).or_default().push(pause);
        told(number, fault, pause);
    }
    Ok(report)
}

async fn one(
    stack: &mut Stack,
    cluster: &Cluster,
    options: &AttackOptions,
    fault: Fault,
    rng: &mut StdRng,
    report: &mut AttackReport,
) -> anyhow::Result<Duration> {
    let small_disk = small_disk(stack, cluster, options, fault, rng).await?;
    let target = cluster.target(stack).await?;
    let load = Load::of(stack);
    let probe = TwoWritersProbe::start(&target.hosts, &target, &load.probe).await?;
    let sets = SetWorkload::start(&target, &load.sets).await?;
    let bank = BankWorkload::start(&target, &load.bank).await?;
    ensure!(
        sets.wait_for_acknowledged(load.enough, stack.patience() / 4)
            .await,
        "no writes before the fault"
    );
    let at = Instant::now();
    match &small_disk {
        Some(small_disk) => small_disk.fill(stack, cluster, rng).await?,
        None => inflict(stack, cluster, options, fault, rng).await?,
    }
    let resumed = sets
        .wait_for_acknowledged(load.enough, stack.patience() * 3 / 4)
        .await;
    if !resumed {
        anyhow::bail!("writes did not resume: {}", cluster.story(stack).await);
    }
    cluster
        .wait_healed(stack, usize::try_from(options.nodes)?)
        .await?;
    let (sets, bank, probe) = (sets.stop().await, bank.stop().await, probe.stop().await);
    ensure!(
        probe.is_sound(),
        "two nodes acknowledged: {:?} {:?}",
        probe.violations,
        probe.shared_epochs
    );
    let target = cluster.target(stack).await?;
    let verdict = bank.verify(&target, Access::ReadWrite).await?;
    ensure!(verdict.is_sound(), "the bank's books are wrong: {verdict:?}");
    cluster.assert_nothing_lost(stack, &sets).await?;
    if let Some(small_disk) = small_disk {
        small_disk.take_away(stack, cluster).await?;
        cluster
            .wait_healed(stack, usize::try_from(options.nodes)?)
            .await?;
    }
    report.acknowledged_inserts += sets.acknowledged;
    report.acknowledged_transfers += bank.acknowledged;
    Ok(sets
        .timeline
        .longest_gap_between(at, at + stack.patience() * 3 / 4)
        .duration())
}

/// What goes on while faults come.
struct Load {
    probe: ProbeOptions,
    sets: SetOptions,
    bank: BankOptions,
    /// So many acknowledged rows show that the cluster takes writes.
    enough: u64,
}

impl Load {
    fn of(stack: &Stack) -> Load {
        let mut load = Load {
            probe: ProbeOptions::default(),
            sets: SetOptions::default(),
            bank: BankOptions::default(),
            enough: 100,
        };
        if stack.libvirt().is_some() {
            // Emulated machines have a processor for each of them, and it is slow: what they are asked must
            // not be all that they do.
            load.enough = 20;
            load.probe.writers_per_node = 1;
            load.probe.pause_between = Duration::from_millis(100);
            (load.sets.writers, load.bank.tellers) = (2, 2);
            load.sets.pause_between = Duration::from_millis(50);
            load.bank.pause_between = Duration::from_millis(100);
            load.bank.audit_every = Duration::from_secs(1);
            let patience = Duration::from_secs(5);
            for client in [&mut load.sets.client, &mut load.bank.client] {
                (client.connect_timeout, client.statement_timeout) = (patience, patience);
                client.retry_pause = Duration::from_millis(100);
            }
            (load.probe.connect_timeout, load.probe.statement_timeout) = (patience, patience);
        }
        load
    }
}

/// Before the fault: the node that is to be hit gets a small disk, and becomes the primary if it is to be
/// that.
async fn small_disk(
    stack: &mut Stack,
    cluster: &Cluster,
    options: &AttackOptions,
    fault: Fault,
    rng: &mut StdRng,
) -> anyhow::Result<Option<SmallDisk>> {
    if !matches!(fault, Fault::FullDiskPrimary | Fault::FullDiskStandby) {
        return Ok(None);
    }
    let standbys = cluster.standbys(stack).await?;
    let node = standbys.choose(rng).context("the cluster has no standby")?.id;
    let nodes = usize::try_from(options.nodes)?;
    let disk = SmallDisk::give(stack, cluster, node).await?;
    cluster.wait_healed(stack, nodes).await?;
    if fault == Fault::FullDiskPrimary {
        let action = InstanceAction::Switchover { to: Some(node) };
        stack.plane()?.act_on_instance(cluster.id, action).await?;
        let until = Instant::now() + stack.patience();
        while cluster.primary(stack).await.map(|p| p.id).ok() != Some(node) {
            ensure!(Instant::now() < until, "the switchover did not come to an end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.wait_healed(stack, nodes).await?;
    }
    Ok(Some(disk))
}
