//! A workload under faults, and how to do them to a Docker Engine of the tests' own.
#![allow(clippy::print_stderr, reason = "measurements, and skipped tests say so")]
#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use dbaas_core::id::NodeId;
use dbaas_e2e::docker::DockerPlace;
use dbaas_e2e::stack::StackOptions;
use dbaas_e2e::{Cluster, Stack};

pub(crate) type Result = anyhow::Result<()>;

/// Writes, does something to the cluster, waits until writes go on, heals, and holds it to its promise.
pub(crate) async fn under_load<F>(
    stack: &mut Stack,
    cluster: &Cluster,
    nodes: usize,
    what: &str,
    fault: F,
) -> Result
where
    F: AsyncFnOnce(&mut Stack) -> Result,
{
    let before = cluster.events(stack).await?.len();
    let survived = dbaas_e2e::under_load(stack, cluster, nodes, fault)
        .await
        .with_context(|| what.to_owned())?;
    eprintln!(
        "{what}: write pause {:?}, healed after {:?}, {} acknowledged",
        survived.pause, survived.healed, survived.acknowledged
    );
    if std::env::var_os("DBAAS_E2E_EVENTS").is_some() {
        eprintln!("{}", cluster.events(stack).await?[before..].join("\n"));
    }
    Ok(())
}

pub(crate) async fn primary(stack: &Stack, cluster: &Cluster) -> anyhow::Result<NodeId> {
    Ok(cluster.primary(stack).await?.id)
}

pub(crate) fn engine(stack: &Stack) -> anyhow::Result<&DockerPlace> {
    stack.docker().ok_or_else(|| anyhow::anyhow!("not on Docker"))
}

/// The engine that these tests may do anything to, with the directory that `ci/docker/engine` was given.
/// `None`, loudly, where there is none and nothing demands one.
pub(crate) fn own_engine() -> anyhow::Result<Option<OwnEngine>> {
    let Some(directory) = std::env::var_os("DBAAS_DOCKER_ENGINE_DIR") else {
        anyhow::ensure!(
            std::env::var("DBAAS_REQUIRE_DOCKER").map_or(true, |v| v != "1"),
            "DBAAS_REQUIRE_DOCKER=1, and DBAAS_DOCKER_ENGINE_DIR is not set"
        );
        eprintln!("SKIPPED: DBAAS_DOCKER_ENGINE_DIR names no engine that a test may do anything to");
        return Ok(None);
    };
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ci/docker/engine");
    Ok(Some(OwnEngine {
        program,
        directory: directory.into(),
    }))
}

/// A control plane whose nodes have disks of a fixed size.
pub(crate) async fn stack_with_disks(own: &OwnEngine) -> anyhow::Result<Option<Stack>> {
    Stack::start_on_docker_with(StackOptions {
        docker_disks: Some(own.directory.join("disks")),
        ..StackOptions::default()
    })
    .await
}

/// See [`own_engine`].
#[derive(Debug, Clone)]
pub(crate) struct OwnEngine {
    program: PathBuf,
    directory: PathBuf,
}

impl OwnEngine {
    /// `up`, `down` or `crash`, with options for dockerd.
    pub(crate) async fn run(&self, verb: &'static str, options: &'static [&'static str]) -> Result {
        let mut command = Command::new(&self.program);
        command
            .arg(verb)
            .arg(&self.directory)
            .args(options)
            .stdin(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status()).await??;
        anyhow::ensure!(status.success(), "engine {verb}: {status}");
        Ok(())
    }
}
