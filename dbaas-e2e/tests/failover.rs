//! Loss of nodes under a workload, on real PostgreSQL: nothing acknowledged is lost, and the set of nodes heals by itself.

use std::time::{Duration, Instant};

use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::set::{SetOptions, SetWorkload};
use rustix::process::Signal;

type Result = anyhow::Result<()>;

/// Writes, does something to the cluster, waits until writes go on, heals, and holds it to its promise. The pause that a client saw.
async fn under_load<F>(
    stack: &mut Stack,
    cluster: &Cluster,
    nodes: usize,
    fault: F,
) -> anyhow::Result<Duration>
where
    F: AsyncFnOnce(&mut Stack) -> Result,
{
    let target = cluster.target(stack).await?;
    let probe = TwoWritersProbe::start(&target.hosts, &target, &ProbeOptions::default()).await?;
    let workload = SetWorkload::start(&target, &SetOptions::default()).await?;
    anyhow::ensure!(
        workload.wait_for_acknowledged(200, Duration::from_secs(20)).await,
        "no writes"
    );
    let at = Instant::now();
    fault(stack).await?;
    let resumed = workload.wait_for_acknowledged(200, Duration::from_secs(60)).await;
    if !resumed {
        anyhow::bail!(
            "writes did not resume: {}",
            cluster.events(stack).await?.join("\n")
        );
    }
    cluster.wait_healed(stack, nodes).await?;
    let report = workload.stop().await;
    let probe = probe.stop().await;
    assert!(
        probe.is_sound(),
        "two nodes acknowledged in the wrong order: {:?} {:?}",
        probe.violations,
        probe.shared_epochs
    );
    cluster.assert_nothing_lost(stack, &report).await?;
    let pause = report
        .timeline
        .longest_gap_between(at, at + Duration::from_secs(60))
        .duration();
    tracing::info!(?pause, acknowledged = report.acknowledged, "fault survived");
    Ok(pause)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_primary() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "killed", 3, 1, None).await?;
    let c = cluster.clone();
    let pause = under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.record.id;
        c.signal(stack, primary, Signal::KILL)
    })
    .await?;
    assert!(pause < Duration::from_secs(20), "{pause:?}");
    Ok(())
}
