//! [`under_load`]: something happens to a cluster that is written to, and it keeps its promises.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::set::{SetOptions, SetWorkload};

use crate::cluster::Cluster;
use crate::stack::Stack;

/// How long writes may stay away.
const RESUME: Duration = Duration::from_secs(90);

/// What was seen meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Survived {
    /// The longest pause of writes that the client saw.
    pub pause: Duration,
    /// When every node was as asked for again, from the change on.
    pub healed: Duration,
    /// Inserts that were acknowledged, all of them found again.
    pub acknowledged: u64,
}

/// Writes, changes something, waits until writes go on, waits until there are so many nodes and all is well,
/// writes a little more, and holds the cluster to its promises: no two nodes acknowledged in the wrong order,
/// nothing acknowledged is missing, all nodes are the same and sound.
pub async fn under_load<F>(
    stack: &mut Stack,
    cluster: &Cluster,
    nodes: usize,
    change: F,
) -> anyhow::Result<Survived>
where
    F: AsyncFnOnce(&mut Stack) -> anyhow::Result<()>,
{
    let target = cluster.target(stack).await?;
    let probe = TwoWritersProbe::start(&target.hosts, &target, &ProbeOptions::default()).await?;
    let workload = SetWorkload::start(&target, &SetOptions::default()).await?;
    ensure!(
        workload.wait_for_acknowledged(200, Duration::from_secs(30)).await,
        "no writes before the change"
    );
    let at = Instant::now();
    change(stack).await?;
    if !workload.wait_for_acknowledged(200, RESUME).await {
        bail!("writes did not resume: {}", cluster.story(stack).await);
    }
    cluster.wait_healed(stack, nodes).await?;
    let healed = at.elapsed();
    ensure!(
        workload.wait_for_acknowledged(100, RESUME).await,
        "no writes to what has healed: {}",
        cluster.story(stack).await
    );
    let report = workload.stop().await;
    let probe = probe.stop().await;
    ensure!(
        probe.is_sound(),
        "two nodes acknowledged in the wrong order: {:?} {:?}",
        probe.violations,
        probe.shared_epochs
    );
    cluster.assert_nothing_lost(stack, &report).await?;
    let pause = report.timeline.longest_gap_between(at, at + RESUME).duration();
    let acknowledged = report.acknowledged;
    tracing::info!(?pause, ?healed, acknowledged, "survived");
    Ok(Survived {
        pause,
        healed,
        acknowledged,
    })
}
