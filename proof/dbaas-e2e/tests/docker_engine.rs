//! The engine itself goes away and comes back under a workload, with and without its containers.

mod docker_faults;

use std::process::Command;
use std::time::Duration;

use dbaas_e2e::{Cluster, Stack};
use docker_faults::{Result, engine, own_engine, primary, stack_with_disks, under_load};

/// Down for so long.
const AWAY: Duration = Duration::from_secs(4);
const LIVE: &[&str] = &["--live-restore"];

/// All containers end with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted() -> Result {
    let Some(own) = own_engine()? else { return Ok(()) };
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "engine", 3, 1, None).await?;
    let fault = async |_: &mut Stack| {
        own.run("down", &[]).await?;
        own.run("up", &[]).await
    };
    under_load(&mut stack, &cluster, 3, "engine restarted", fault).await
}

/// A power cut of the machine: the engine, all containers and the control plane end at once, without a word.
/// The disks are of a fixed size: their loop devices are gone, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cut() -> Result {
    let Some(own) = own_engine()? else { return Ok(()) };
    let Some(mut stack) = stack_with_disks(&own).await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "power", 3, 1, None).await?;
    let fault = async |stack: &mut Stack| {
        stack.crash();
        own.run("crash", &[]).await?;
        own.run("up", &[]).await?;
        stack.open().await
    };
    under_load(&mut stack, &cluster, 3, "power cut", fault).await
}

/// Containers go on without it; a primary may die meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_with_live_restore() -> Result {
    let Some(own) = own_engine()? else { return Ok(()) };
    own.run("down", &[]).await?;
    own.run("up", LIVE).await?;
    let result = with_live_restore(&own).await;
    // As it was, for whoever comes next.
    own.run("down", &[]).await?;
    own.run("up", &[]).await?;
    result
}

async fn with_live_restore(own: &docker_faults::OwnEngine) -> Result {
    let Some(mut stack) = Stack::start_on_docker().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "live", 3, 1, None).await?;
    for what in [
        "engine restarted, containers live on",
        "primary killed while the engine is down",
    ] {
        let killed = what.contains("killed");
        let c = cluster.clone();
        under_load(&mut stack, &cluster, 3, what, async |stack: &mut Stack| {
            let process = engine(stack)?.pid(primary(stack, &c).await?)?;
            own.run("down", &[]).await?;
            if killed {
                let status = Command::new("kill").args(["-9", &process]).status()?;
                anyhow::ensure!(status.success(), "the primary is not killed");
            }
            tokio::time::sleep(AWAY).await;
            own.run("up", LIVE).await
        })
        .await?;
    }
    Ok(())
}
