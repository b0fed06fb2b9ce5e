//! Another minor version and back, one node after the other.

use anyhow::{Context as _, ensure};

use crate::cluster::Cluster;
use crate::stack::Stack;

/// Changes to the other of two minor versions; when every node runs it, back to the one before. Returns as
/// soon as that is asked for.
pub(super) async fn there_and_back(stack: &mut Stack, cluster: &Cluster, nodes: usize) -> anyhow::Result<()> {
    let before = stack.plane()?.instance(cluster.id).await?.spec.version;
    let minors = stack
        .two_minors()
        .await?
        .context("there is only one minor version")?;
    let other = minors
        .iter()
        .find(|version| version.id != before)
        .context("the other minor version is gone")?;
    cluster.change_version(stack, other.id).await?;
    cluster.wait_healed(stack, nodes).await?;
    let wanted = other.image.version().map(|version| version.to_string());
    let running = cluster.server_versions(stack).await?;
    ensure!(
        running.iter().all(|version| Some(version) == wanted.as_ref()),
        "nodes run {running:?} and not {wanted:?}"
    );
    cluster.change_version(stack, before).await
}
