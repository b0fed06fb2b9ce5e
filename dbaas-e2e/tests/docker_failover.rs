//! Loss of containers, volumes, networks and of the engine itself under a workload, on a real Docker Engine: nothing acknowledged is
//! lost, and the set of nodes heals by itself.
#![allow(clippy::print_stderr, reason = "measurements, and skipped tests say so")]

use std::time::{Duration, Instant};

use dbaas_core::id::NodeId;
use dbaas_e2e::docker::DockerPlace;
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::set::{SetOptions, SetWorkload};

type Result = anyhow::Result<()>;

/// Writes, does something to the cluster, waits until writes go on, heals, and holds it to its promise.
async fn under_load<F>(stack: &mut Stack, cluster: &Cluster, nodes: usize, what: &str, fault: F) -> Result
where
    F: AsyncFnOnce(&mut Stack) -> Result,
{
    let target = cluster.target(stack).await?;
    let probe = TwoWritersProbe::start(&target.hosts, &target, &ProbeOptions::default()).await?;
    let workload = SetWorkload::start(&target, &SetOptions::default()).await?;
    anyhow::ensure!(
        workload.wait_for_acknowledged(200, Duration::from_secs(20)).await,
        "{what}: no writes"
    );
    let before = cluster.events(stack).await?.len();
    let at = Instant::now();
    fault(stack).await?;
    let resumed = workload.wait_for_acknowledged(200, Duration::from_secs(90)).await;
    if !resumed {
        anyhow::bail!(
            "{what}: writes did not resume: {}",
            cluster.events(stack).await?.join("\n")
        );
    }
    cluster.wait_healed(stack, nodes).await?;
    let healed = at.elapsed();
    let report = workload.stop().await;
    let probe = probe.stop().await;
    assert!(
        probe.is_sound(),
        "{what}: two nodes acknowledged in the wrong order: {:?} {:?}",
        probe.violations,
        probe.shared_epochs
    );
    cluster.assert_nothing_lost(stack, &report).await?;
    let pause = report
        .timeline
        .longest_gap_between(at, at + Duration::from_secs(90))
        .duration();
    eprintln!(
        "{what}: write pause {pause:?}, healed after {healed:?}, {} acknowledged",
        report.acknowledged
    );
    if std::env::var_os("DBAAS_E2E_EVENTS").is_some() {
        eprintln!("{}", cluster.events(stack).await?[before..].join("\n"));
    }
    Ok(())
}

async fn primary(stack: &Stack, cluster: &Cluster) -> anyhow::Result<NodeId> {
    Ok(cluster.primary(stack).await?.record.id)
}

fn engine(stack: &Stack) -> anyhow::Result<&DockerPlace> {
    stack.docker().ok_or_else(|| anyhow::anyhow!("not on Docker"))
}

/// The primary is lost in every way that Docker knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_primaries() -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let begin = Instant::now();
    let cluster = Cluster::create(&stack, "primaries", 3, 1, None).await?;
    eprintln!("three nodes usable after {:?}", begin.elapsed());
    for fault in [
        "kill",
        "pause",
        "stop",
        "remove the container",
        "disconnect",
        "remove container and volume",
    ] {
        let c = cluster.clone();
        under_load(
            &mut stack,
            &cluster,
            3,
            &format!("primary: {fault}"),
            async |stack: &mut Stack| {
                let node = primary(stack, &c).await?;
                let name = DockerPlace::name(node);
                let docker = engine(stack)?;
                match fault {
                    "kill" | "pause" => docker.docker(&[fault, &name])?,
                    "stop" => docker.docker(&["stop", "-t", "20", &name])?,
                    "disconnect" => {
                        docker.docker(&["network", "disconnect", &format!("dbaas-{}", c.id), &name])?
                    }
                    "remove the container" => docker.docker(&["rm", "-f", &name])?,
                    _ => {
                        docker.docker(&["rm", "-f", &name])?;
                        // The backend may have made the container again meanwhile.
                        remove_volume(docker, &name)?
                    }
                };
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

fn remove_volume(docker: &DockerPlace, name: &str) -> anyhow::Result<String> {
    let mut last = None;
    for _ in 0..50 {
        match docker.docker(&["volume", "rm", name]) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
        let _ = docker.docker(&["rm", "-f", name]);
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("never tried")))
}

/// Writes go on without it, and it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_standbys() -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "standbys", 3, 1, None).await?;
    let before = primary(&stack, &cluster).await?;
    for fault in [
        "kill",
        "pause",
        "restart",
        "disconnect",
        "remove container and volume",
    ] {
        let c = cluster.clone();
        under_load(
            &mut stack,
            &cluster,
            3,
            &format!("standby: {fault}"),
            async |stack: &mut Stack| {
                let name = DockerPlace::name(c.standbys(stack).await?[0].record.id);
                let docker = engine(stack)?;
                match fault {
                    "kill" | "pause" => docker.docker(&[fault, &name])?,
                    // It has no ticket for a second start, so the controller has to start it.
                    "restart" => docker.docker(&["restart", "-t", "5", &name])?,
                    "disconnect" => {
                        docker.docker(&["network", "disconnect", &format!("dbaas-{}", c.id), &name])?
                    }
                    _ => {
                        docker.docker(&["rm", "-f", &name])?;
                        remove_volume(docker, &name)?
                    }
                };
                Ok(())
            },
        )
        .await?;
        assert_eq!(
            primary(&stack, &cluster).await?,
            before,
            "a standby's loss changes no primary"
        );
    }
    Ok(())
}

/// A power cut of the host: everything at once, the controller too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_killed() -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "power", 3, 1, None).await?;
    for with_controller in [false, true] {
        let c = cluster.clone();
        let what = if with_controller {
            "all nodes and the controller"
        } else {
            "all nodes"
        };
        under_load(&mut stack, &cluster, 3, what, async |stack: &mut Stack| {
            let nodes = c.nodes(stack).await?;
            let names: Vec<String> = nodes.iter().map(|n| DockerPlace::name(n.record.id)).collect();
            let mut kill = vec!["kill"];
            kill.extend(names.iter().map(String::as_str));
            if with_controller {
                stack.crash();
            }
            engine(stack)?.docker(&kill)?;
            if with_controller {
                stack.open().await?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The engine is restarted, and all containers end with it. `DBAAS_DOCKER_RESTART` is the program that does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_restarted() -> Result {
    let Ok(restart) = std::env::var("DBAAS_DOCKER_RESTART") else {
        anyhow::ensure!(
            std::env::var("DBAAS_REQUIRE_DOCKER").map_or(true, |v| v != "1"),
            "DBAAS_REQUIRE_DOCKER=1, and DBAAS_DOCKER_RESTART is not set"
        );
        eprintln!("SKIPPED: DBAAS_DOCKER_RESTART does not say how to restart the engine");
        return Ok(());
    };
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "engine", 3, 1, None).await?;
    under_load(
        &mut stack,
        &cluster,
        3,
        "engine restarted",
        async |_: &mut Stack| {
            let status = tokio::task::spawn_blocking(move || {
                std::process::Command::new("/bin/sh")
                    .args(["-c", &restart])
                    .status()
            })
            .await??;
            anyhow::ensure!(status.success(), "the engine was not restarted");
            Ok(())
        },
    )
    .await
}

/// One node: restarted where it is; without its data it is never made anew as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_node() -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let begin = Instant::now();
    let cluster = Cluster::create(&stack, "single", 1, 0, None).await?;
    eprintln!("one node usable after {:?}", begin.elapsed());
    for fault in ["kill", "pause", "remove the container"] {
        let c = cluster.clone();
        under_load(
            &mut stack,
            &cluster,
            1,
            &format!("single: {fault}"),
            async |stack: &mut Stack| {
                let name = DockerPlace::name(primary(stack, &c).await?);
                let docker = engine(stack)?;
                match fault {
                    "kill" | "pause" => docker.docker(&[fault, &name])?,
                    _ => docker.docker(&["rm", "-f", &name])?,
                };
                Ok(())
            },
        )
        .await?;
    }
    let name = DockerPlace::name(primary(&stack, &cluster).await?);
    engine(&stack)?.docker(&["rm", "-f", &name])?;
    remove_volume(engine(&stack)?, &name)?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let running = engine(&stack)?.running()?;
    let view = stack.plane()?.instance(cluster.id).await?.record;
    assert_eq!(
        running, 0,
        "an instance whose data is gone was started again, empty: {}",
        view.status.reason
    );
    assert!(!view.status.reason.is_empty());
    eprintln!(
        "single, volume removed: {} ({})",
        view.status.lifecycle, view.status.reason
    );
    Ok(())
}
