//! Attack: random faults on a real cluster under two workloads, each followed by the question whether anything acknowledged is missing.
//!
//! The seed decides which faults come, on which nodes, and after how long the controller dies in the middle of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_controller::request::{InstanceAction, UpdateInstance};
use dbaas_core::id::NodeId;
use dbaas_workload::bank::{BankOptions, BankWorkload};
use dbaas_workload::client::Access;
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::set::{SetOptions, SetWorkload};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::stack::Stack;

pub(crate) mod disk;
mod minor;
mod moment;

use disk::{SlowDisk, SmallDisk};
use moment::{Before, Moment};

/// What is done to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the primary's processes.
    KillPrimary,
    /// SIGSTOP of the primary's processes, for good.
    FreezePrimary,
    /// SIGSTOP, and SIGCONT soon after: an old primary that wakes up in the middle of things.
    FreezeAndThawPrimary,
    /// `kill -9` of one backend: PostgreSQL restarts itself.
    KillBackend,
    /// `kill -9` of a standby.
    KillStandby,
    /// SIGSTOP of a standby.
    FreezeStandby,
    /// `kill -9` of every standby.
    KillAllStandbys,
    /// `kill -9` of the primary and a standby.
    KillPrimaryAndStandby,
    /// `kill -9` of everything: a power cut.
    PowerCut,
    /// The controller dies, and is started again.
    KillController,
    /// The primary dies, and the controller in the middle of the failover.
    KillPrimaryThenController,
    /// The primary dies, and the new one as soon as it is chosen.
    KillPrimaryTwice,
    /// A power cut that takes the controller as well.
    KillEverything,
    /// A planned change of primary.
    Switchover,
    /// A planned change of primary, and the controller dies in the middle of it.
    SwitchoverThenKillController,
    /// Two nodes less and two nodes more.
    Scale,
    /// The primary dies, and the controller while the others are being sealed.
    CrashControllerSealing,
    /// The primary dies, and the controller while the next one is being promoted and the others re-pointed.
    CrashControllerPromoting,
    /// The primary dies, and the controller while the old one is rewound.
    CrashControllerRejoining,
    /// The primary dies, and a standby while it is being sealed.
    KillStandbySealing,
    /// The primary dies, and the next one exactly while it is being promoted.
    KillCandidatePromoting,
    /// The primary dies, and the next one freezes while it is being promoted.
    FreezeCandidatePromoting,
    /// The primary dies, and again while it is being rewound.
    KillNodeRejoining,
    /// The primary's WAL finds its disk full; later there is room again.
    FullDiskPrimary,
    /// The same on a standby.
    FullDiskStandby,
    /// The primary's disk writes some dozen blocks a second.
    SlowDiskPrimary,
    /// The same on a standby.
    SlowDiskStandby,
    /// The primary's processes are stopped and continued some times a second.
    StutterPrimary,
    /// To the other minor version, one node after the other, and back.
    MinorVersion,
}

impl Fault {
    /// Whether this machine lets it be done: some need root. ([`Fault::MinorVersion`] needs two minor versions, which is seen when it begins.)
    pub fn is_possible(self) -> bool {
        match self {
            Fault::FullDiskPrimary | Fault::FullDiskStandby => disk::can_fill(),
            Fault::SlowDiskPrimary | Fault::SlowDiskStandby => disk::can_slow(),
            _ => true,
        }
    }
}

/// All of them.
pub const FAULTS: [Fault; 29] = [
    Fault::KillPrimary,
    Fault::FreezePrimary,
    Fault::FreezeAndThawPrimary,
    Fault::KillBackend,
    Fault::KillStandby,
    Fault::FreezeStandby,
    Fault::KillAllStandbys,
    Fault::KillPrimaryAndStandby,
    Fault::PowerCut,
    Fault::KillController,
    Fault::KillPrimaryThenController,
    Fault::KillPrimaryTwice,
    Fault::KillEverything,
    Fault::Switchover,
    Fault::SwitchoverThenKillController,
    Fault::Scale,
    Fault::CrashControllerSealing,
    Fault::CrashControllerPromoting,
    Fault::CrashControllerRejoining,
    Fault::KillStandbySealing,
    Fault::KillCandidatePromoting,
    Fault::FreezeCandidatePromoting,
    Fault::KillNodeRejoining,
    Fault::FullDiskPrimary,
    Fault::FullDiskStandby,
    Fault::SlowDiskPrimary,
    Fault::SlowDiskStandby,
    Fault::StutterPrimary,
    Fault::MinorVersion,
];

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
        options.kinds.iter().partition(|kind| kind.is_possible());
    if !impossible.is_empty() {
        tracing::error!(
            "SKIPPED: this machine does not allow {impossible:?} (they need root, mounts and blkio control groups)"
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
    let probe = TwoWritersProbe::start(&target.hosts, &target, &ProbeOptions::default()).await?;
    let sets = SetWorkload::start(&target, &SetOptions::default()).await?;
    let bank = BankWorkload::start(&target, &BankOptions::default()).await?;
    ensure!(
        sets.wait_for_acknowledged(100, Duration::from_secs(30)).await,
        "no writes before the fault"
    );
    let at = Instant::now();
    match &small_disk {
        Some(small_disk) => small_disk.fill(stack, cluster, rng).await?,
        None => inflict(stack, cluster, options, fault, rng).await?,
    }
    let resumed = sets.wait_for_acknowledged(100, Duration::from_secs(90)).await;
    if !resumed {
        anyhow::bail!(
            "writes did not resume: {}",
            cluster.events(stack).await?.join("\n")
        );
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
        .longest_gap_between(at, at + Duration::from_secs(90))
        .duration())
}

/// Before the fault: the node that is to be hit gets a small disk, and becomes the primary if it is to be that.
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
    let node = standbys
        .choose(rng)
        .context("the cluster has no standby")?
        .record
        .id;
    let nodes = usize::try_from(options.nodes)?;
    let disk = SmallDisk::give(stack, cluster, node).await?;
    cluster.wait_healed(stack, nodes).await?;
    if fault == Fault::FullDiskPrimary {
        let action = InstanceAction::Switchover { to: Some(node) };
        stack.plane()?.act_on_instance(cluster.id, action).await?;
        let until = Instant::now() + crate::cluster::HEAL;
        while cluster.primary(stack).await.map(|p| p.record.id).ok() != Some(node) {
            ensure!(Instant::now() < until, "the switchover did not come to an end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.wait_healed(stack, nodes).await?;
    }
    Ok(Some(disk))
}

async fn inflict(
    stack: &mut Stack,
    cluster: &Cluster,
    options: &AttackOptions,
    fault: Fault,
    rng: &mut StdRng,
) -> anyhow::Result<()> {
    let primary = cluster.primary(stack).await?.record.id;
    let standbys: Vec<NodeId> = cluster
        .standbys(stack)
        .await?
        .iter()
        .map(|n| n.record.id)
        .collect();
    let some_standby = standbys
        .choose(rng)
        .copied()
        .context("the cluster has no standby")?;
    let moment = Duration::from_millis(rng.random_range(0..500));
    match fault {
        Fault::KillPrimary => cluster.signal(stack, primary, Signal::KILL)?,
        Fault::FreezePrimary => cluster.signal(stack, primary, Signal::STOP)?,
        Fault::FreezeAndThawPrimary => {
            cluster.signal(stack, primary, Signal::STOP)?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(500..2_500))).await;
            // It may have been fenced meanwhile: nothing is left to wake up then.
            let _ = cluster.signal(stack, primary, Signal::CONT);
        }
        Fault::KillBackend => {
            let backends = crate::fault::processes_under(&cluster.data_dir(stack, primary));
            let postmaster = backends
                .iter()
                .copied()
                .min()
                .context("the primary has no process")?;
            if let Some(pid) = backends.into_iter().filter(|pid| *pid != postmaster).max()
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        Fault::KillStandby => cluster.signal(stack, some_standby, Signal::KILL)?,
        Fault::FreezeStandby => cluster.signal(stack, some_standby, Signal::STOP)?,
        Fault::KillAllStandbys => {
            for standby in standbys {
                cluster.signal(stack, standby, Signal::KILL)?;
            }
        }
        Fault::KillPrimaryAndStandby => {
            cluster.signal(stack, primary, Signal::KILL)?;
            cluster.signal(stack, some_standby, Signal::KILL)?;
        }
        Fault::PowerCut | Fault::KillEverything => {
            if fault == Fault::KillEverything {
                stack.crash();
            }
            for node in standbys.iter().chain([&primary]) {
                let _ = cluster.signal(stack, *node, Signal::KILL);
            }
            if fault == Fault::KillEverything {
                tokio::time::sleep(moment).await;
                stack.open().await?;
            }
        }
        Fault::KillController => {
            stack.crash();
            tokio::time::sleep(moment).await;
            stack.open().await?;
        }
        Fault::KillPrimaryThenController => {
            cluster.signal(stack, primary, Signal::KILL)?;
            tokio::time::sleep(moment).await;
            stack.crash();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stack.open().await?;
        }
        Fault::KillPrimaryTwice => {
            cluster.signal(stack, primary, Signal::KILL)?;
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until {
                let state = stack.plane()?.instance(cluster.id).await?.record.cluster;
                if let Some(next) = state.map(|s| s.primary).filter(|next| *next != primary) {
                    tokio::time::sleep(moment / 2).await;
                    let _ = cluster.signal(stack, next, Signal::KILL);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Fault::Switchover | Fault::SwitchoverThenKillController => {
            let action = InstanceAction::Switchover {
                to: Some(some_standby),
            };
            stack.plane()?.act_on_instance(cluster.id, action).await?;
            if fault == Fault::SwitchoverThenKillController {
                tokio::time::sleep(moment).await;
                stack.crash();
                stack.open().await?;
            }
        }
        Fault::CrashControllerSealing
        | Fault::CrashControllerPromoting
        | Fault::CrashControllerRejoining
        | Fault::KillStandbySealing
        | Fault::KillCandidatePromoting
        | Fault::FreezeCandidatePromoting
        | Fault::KillNodeRejoining => {
            let before = Before::look(stack, cluster).await?;
            let moment = match fault {
                Fault::CrashControllerSealing | Fault::KillStandbySealing => Moment::Sealing,
                Fault::CrashControllerRejoining | Fault::KillNodeRejoining => Moment::Rejoining,
                _ => Moment::Promoting,
            };
            cluster.signal(stack, primary, Signal::KILL)?;
            let Some(node) = before.wait_for(stack, cluster, moment).await? else {
                tracing::warn!(?fault, "the moment was missed: only the primary was killed");
                return Ok(());
            };
            // Somewhere within that step, not always at its begin.
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..120))).await;
            match fault {
                Fault::KillStandbySealing => cluster.signal(stack, some_standby, Signal::KILL)?,
                Fault::KillCandidatePromoting | Fault::KillNodeRejoining => {
                    // What rewinds a node may have ended by now, with nothing begun yet.
                    let _ = cluster.signal(stack, node, Signal::KILL);
                }
                Fault::FreezeCandidatePromoting => cluster.signal(stack, node, Signal::STOP)?,
                _ => {
                    stack.crash();
                    tokio::time::sleep(moment_of_silence(rng)).await;
                    stack.open().await?;
                }
            }
        }
        // Its disk was prepared before.
        Fault::FullDiskPrimary | Fault::FullDiskStandby => {}
        Fault::SlowDiskPrimary | Fault::SlowDiskStandby => {
            let node = if fault == Fault::SlowDiskPrimary {
                primary
            } else {
                some_standby
            };
            let slow = SlowDisk::make(stack, cluster, node, rng)?;
            tokio::time::sleep(Duration::from_secs(rng.random_range(4..10))).await;
            drop(slow);
        }
        Fault::MinorVersion => minor::there_and_back(stack, cluster, usize::try_from(options.nodes)?).await?,
        Fault::StutterPrimary => disk::stutter(stack, cluster, primary, rng).await,
        Fault::Scale => {
            for nodes in [options.nodes.saturating_sub(2).max(1), options.nodes] {
                let change = UpdateInstance {
                    nodes: Some(nodes.try_into()?),
                    ..UpdateInstance::default()
                };
                stack.plane()?.update_instance(cluster.id, change, None).await?;
                if nodes != options.nodes {
                    cluster.wait_healed(stack, usize::try_from(nodes)?).await?;
                }
            }
        }
    }
    Ok(())
}

/// How long there is no controller.
fn moment_of_silence(rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(0..400))
}
