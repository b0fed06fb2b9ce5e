//! Loss of containers, volumes and networks under a workload, on a real Docker Engine: nothing acknowledged
//! is lost, and the set of nodes heals by itself.
#![allow(clippy::print_stderr, reason = "measurements, and skipped tests say so")]

mod docker_faults;

use std::time::{Duration, Instant};

use dbaas_controller::request::UpdateInstance;
use dbaas_e2e::attack::{AttackOptions, Fault, attack};
use dbaas_e2e::cluster::PASSWORD;
use dbaas_e2e::docker::{Cut, DockerPlace};
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::client::{Client, ClientOptions};
use docker_faults::{Result, engine, own_engine, primary, stack_with_disks, under_load};

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
        "out of memory",
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
                    "out of memory" => out_of_memory(docker, &name),
                    "disconnect" => {
                        docker.docker(&["network", "disconnect", &format!("dbaas-{}", c.id), &name])?
                    }
                    "remove the container" => docker.docker(&["rm", "-f", &name])?,
                    _ => docker.remove(node).map(|()| String::new())?,
                };
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

/// A session takes more memory than the container has.
fn out_of_memory(docker: &DockerPlace, name: &str) -> String {
    let password = format!("PGPASSWORD={PASSWORD}");
    let greedy = "SELECT length(repeat('x', 1000000000))";
    let mut command = vec!["exec", "-e", &password, name];
    command.extend(["psql", "-h", "127.0.0.1", "-U", "app", "-d", "shop", "-c", greedy]);
    match docker.docker(&command) {
        Ok(answer) => panic!("the container's memory has no limit: {answer}"),
        Err(error) => error.to_string(),
    }
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
                let node = c.standbys(stack).await?[0].id;
                let name = DockerPlace::name(node);
                let docker = engine(stack)?;
                match fault {
                    "kill" | "pause" => docker.docker(&[fault, &name])?,
                    // It has no ticket for a second start, so the controller has to start it.
                    "restart" => docker.docker(&["restart", "-t", "5", &name])?,
                    "disconnect" => {
                        docker.docker(&["network", "disconnect", &format!("dbaas-{}", c.id), &name])?
                    }
                    _ => docker.remove(node).map(|()| String::new())?,
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

/// The primary's disk fills up. It says so, another one takes over, nothing that was acknowledged is lost,
/// and more disk heals it: standbys first, each while it is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk() -> Result {
    let Some(own) = own_engine()? else { return Ok(()) };
    let Some(mut stack) = stack_with_disks(&own).await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "disk", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(
        &mut stack,
        &cluster,
        3,
        "disk full, then enlarged",
        async |stack: &mut Stack| {
            let full = primary(stack, &c).await?;
            let volume = engine(stack)?.mountpoint(full)?;
            fill(&volume)?;
            let until = Instant::now() + Duration::from_secs(90);
            let mut told = false;
            let mut admin = Client::new(c.admin(stack).await?, ClientOptions::default());
            while !told {
                anyhow::ensure!(Instant::now() < until, "a full disk is not told of");
                // Segments that are recycled would carry a light load for ever.
                if admin
                    .connect(Instant::now() + Duration::from_millis(200))
                    .await
                    .is_ok()
                {
                    let _ = admin.send("SELECT pg_switch_wal()").await;
                }
                let view = stack.plane()?.instance(c.id).await?;
                let nodes = c.nodes(stack).await?;
                let of_node = nodes.iter().find(|n| n.id == full).map(|n| n.reason.clone());
                let all = format!(
                    "{} {:?} {}",
                    view.status.reason,
                    view.status.warnings,
                    of_node.unwrap_or_default()
                );
                told = all.contains("disk space") || all.contains("disk of");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let update = UpdateInstance {
                disk: Some(10u64.try_into()?),
                ..UpdateInstance::default()
            };
            stack.plane()?.update_instance(c.id, update).await?;
            Ok(())
        },
    )
    .await?;
    for node in cluster.nodes(&stack).await? {
        let size = rustix::fs::statvfs(engine(&stack)?.mountpoint(node.id)?)?;
        let bytes = size.f_blocks * size.f_frsize;
        anyhow::ensure!(bytes > 9 << 30, "{} has {bytes} bytes", node.name);
    }
    Ok(())
}

/// Takes all room but a little; nothing of it is written.
fn fill(directory: &std::path::Path) -> Result {
    let free = rustix::fs::statvfs(directory)?;
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(20 << 20);
    let file = std::fs::File::create(directory.join("ballast"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

/// A power cut of the host: everything at once, the controller too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_killed() -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "power", 3, 1, None).await?;
    for what in [
        "all nodes killed",
        "all nodes and the controller killed",
        "all containers removed",
    ] {
        let c = cluster.clone();
        let with_controller = what.contains("controller");
        under_load(&mut stack, &cluster, 3, what, async |stack: &mut Stack| {
            let nodes = c.nodes(stack).await?;
            let names: Vec<String> = nodes.iter().map(|n| DockerPlace::name(n.id)).collect();
            let mut kill = if what.contains("removed") {
                vec!["rm", "-f"]
            } else {
                vec!["kill"]
            };
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

/// A part of the network fails, and comes back. The engine knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions() -> Result {
    if own_engine()?.is_none() {
        return Ok(());
    }
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "partitions", 3, 1, None).await?;
    for from in ["its standbys", "the controller and the clients"] {
        let c = cluster.clone();
        let before = primary(&stack, &cluster).await?;
        let what = format!("primary cut off from {from} for six seconds");
        under_load(&mut stack, &cluster, 3, &what, async |stack: &mut Stack| {
            let standbys = c.standbys(stack).await?;
            let others: Vec<_> = standbys.iter().map(|node| node.id).collect();
            let cut = if from == "its standbys" {
                Cut::make(engine(stack)?, before, &others, false)?
            } else {
                Cut::make(engine(stack)?, before, &[], true)?
            };
            tokio::time::sleep(Duration::from_secs(6)).await;
            cut.mend()?;
            Ok(())
        })
        .await?;
        if from != "its standbys" {
            let now = primary(&stack, &cluster).await?;
            assert_eq!(now, before, "its standbys heard from it all the time");
        }
    }
    Ok(())
}

/// Faults of the random attack that nothing else here does: networks that fail in other ways, a controller
/// that ends in the midst of a failover. All kinds, in random order, over and over: `dbaas-attack --docker`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacked() -> Result {
    if own_engine()?.is_none() {
        return Ok(());
    }
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let kinds = [
        Fault::CutPrimary,
        Fault::CutStandby,
        Fault::CutPair,
        Fault::CrashControllerPromoting,
        Fault::CrashControllerRejoining,
        Fault::LoseDiskPrimary,
    ];
    let options = AttackOptions {
        seed: 1,
        faults: kinds.len(),
        nodes: 3,
        k: 1,
        kinds: kinds.to_vec(),
    };
    let survived = attack(&mut stack, &options, |_, fault, pause| {
        eprintln!("{fault:?}: write pause {pause:?}");
    })
    .await?;
    assert_eq!(survived.pauses.len(), kinds.len());
    Ok(())
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
    engine(&stack)?.remove(primary(&stack, &cluster).await?)?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let running = engine(&stack)?.running()?;
    let view = stack.plane()?.instance(cluster.id).await?;
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
