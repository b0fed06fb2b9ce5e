//! [`inflict`]: each kind of fault, done to a cluster.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbaas_controller::request::{InstanceAction, UpdateInstance};
use dbaas_core::id::NodeId;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::{self, SlowDisk};
use super::moment::{Before, Moment};
use super::{AttackOptions, Fault, minor};
use crate::cluster::Cluster;
use crate::docker::Cut;
use crate::libvirt::LinkCut;
use crate::stack::Stack;

/// Does it. Returns when it is done, and what was taken away for a time is back.
pub(super) async fn inflict(
    stack: &mut Stack,
    cluster: &Cluster,
    options: &AttackOptions,
    fault: Fault,
    rng: &mut StdRng,
) -> anyhow::Result<()> {
    let primary = cluster.primary(stack).await?.id;
    let standbys: Vec<NodeId> = cluster.standbys(stack).await?.iter().map(|n| n.id).collect();
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
            if let Some(libvirt) = stack.libvirt() {
                let newest = ["sh", "-c", "kill -9 $(busybox pgrep -n postgres)"];
                // The newest one may end by itself before it is killed.
                let _ = libvirt.in_guest(cluster.id, primary, &newest).await;
            }
            // The first process is the postmaster; the newest is a client's, or soon replaced.
            let mut processes = cluster.processes(stack, primary)?;
            processes.sort_unstable();
            if let [_, .., newest] = processes[..]
                && let Some(pid) = Pid::from_raw(newest)
            {
                let _ = kill_process(pid, Signal::KILL);
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
                let state = cluster.record(stack).await?.cluster;
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
            let length = Duration::from_secs(rng.random_range(4..10));
            if let Some(libvirt) = stack.libvirt() {
                libvirt.slow_disk(cluster.id, node, rng.random_range(disk::SLOW_WRITES))?;
                tokio::time::sleep(length).await;
                // It may have been ended meanwhile, and is as fast as ever then.
                let _ = libvirt.slow_disk(cluster.id, node, 0);
            } else {
                let slow = SlowDisk::make(stack, cluster, node, rng)?;
                tokio::time::sleep(length).await;
                drop(slow);
            }
        }
        Fault::LoseDiskPrimary => cluster.lose_disk(stack, primary)?,
        Fault::LoseDiskStandby => cluster.lose_disk(stack, some_standby)?,
        Fault::CutPrimaryFromStandbys
        | Fault::CutPrimaryFromClients
        | Fault::CutPrimary
        | Fault::CutStandby
        | Fault::CutPair => {
            let (node, others, outside) = match fault {
                Fault::CutPrimaryFromStandbys => (primary, standbys, false),
                Fault::CutPrimaryFromClients => (primary, Vec::new(), true),
                Fault::CutPrimary => (primary, standbys, true),
                Fault::CutStandby => {
                    let mut others = standbys;
                    others.retain(|other| *other != some_standby);
                    others.push(primary);
                    (some_standby, others, true)
                }
                _ => {
                    let mut nodes = standbys;
                    nodes.push(primary);
                    nodes.shuffle(rng);
                    (nodes[0], vec![nodes[1]], false)
                }
            };
            let length = Duration::from_millis(rng.random_range(500..9_000));
            if let Some(libvirt) = stack.libvirt() {
                let cut = match fault {
                    Fault::CutPrimary | Fault::CutStandby => LinkCut::link(libvirt, cluster.id, node)?,
                    _ => {
                        let unreachable = addresses(stack, cluster, &others, outside).await?;
                        LinkCut::addresses(libvirt, cluster.id, node, unreachable).await?
                    }
                };
                tokio::time::sleep(length).await;
                cut.mend().await?;
            } else {
                let docker = stack
                    .docker()
                    .context("only containers and machines have networks to cut")?;
                let cut = Cut::make(docker, node, &others, outside)?;
                tokio::time::sleep(length).await;
                cut.mend()?;
            }
        }
        Fault::MinorVersion => minor::there_and_back(stack, cluster, usize::try_from(options.nodes)?).await?,
        Fault::StutterPrimary => disk::stutter(stack, cluster, primary, rng).await,
        Fault::Scale => {
            for nodes in [options.nodes.saturating_sub(2).max(1), options.nodes] {
                let change = UpdateInstance {
                    nodes: Some(nodes.try_into()?),
                    ..UpdateInstance::default()
                };
                stack.plane()?.update_instance(cluster.id, change).await?;
                if nodes != options.nodes {
                    cluster.wait_healed(stack, usize::try_from(nodes)?).await?;
                }
            }
        }
    }
    Ok(())
}

/// Where a machine reaches others, and whatever is outside: clients and the controller, which are on the
/// network's own host.
async fn addresses(
    stack: &Stack,
    cluster: &Cluster,
    others: &[NodeId],
    outside: bool,
) -> anyhow::Result<Vec<String>> {
    let nodes = cluster.nodes(stack).await?;
    let of = |node: &NodeId| {
        let view = nodes.iter().find(|view| view.id == *node);
        let endpoint = view.and_then(|view| view.endpoint.clone());
        endpoint
            .map(|endpoint| endpoint.host)
            .context("a node without an address")
    };
    let mut found = others.iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
    if outside {
        found.push(stack.libvirt().context("not on libvirt")?.gateway()?);
    }
    Ok(found)
}

/// How long there is no controller.
fn moment_of_silence(rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(0..400))
}
