//! `power_off` and `remove`: the fence, and the end of a node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::query_parameters::KillContainerOptionsBuilder;
use dbaas_core::infrastructure::{DataDisposal, InfraError, InfraErrorKind, NodeRef, PowerOff};
use futures_util::future::try_join_all;

use crate::backend::Inner;
use crate::container::Found;
use crate::engine::{if_there, invalid, shown, status_of};
use crate::handle::Handle;
use crate::names;
use crate::observe::control;
use dbaas_node_start::control::{Control, Ticket, ticket_upload};

/// How long processes may take to vanish after they were killed.
const KILL_AT_MOST: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Kills every container of the node, those that prepare included; `Ok` when none of them runs any more.
pub(crate) async fn kill_all(inner: &Inner, docker: &Docker, node: NodeRef) -> Result<(), InfraError> {
    let ids = inner.containers_of(docker, node).await?;
    let handle = inner.nodes.handle(node);
    try_join_all(ids.iter().map(|id| kill(docker, &handle, id)))
        .await
        .map(|_| ())
}

async fn kill(docker: &Docker, handle: &Handle, id: &str) -> Result<(), InfraError> {
    if !runs(docker, handle, id).await? {
        return Ok(());
    }
    signal(docker, id, "SIGKILL").await?;
    if wait(docker, handle, id, KILL_AT_MOST).await? {
        return Ok(());
    }
    Err(InfraError::new(
        InfraErrorKind::OutcomeUnknown,
        "the node's container does not end, although it was killed; is the engine in order?",
    ))
}

async fn signal(docker: &Docker, id: &str, signal: &str) -> Result<(), InfraError> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    match docker.kill_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        // Gone, or not running any more: what follows finds out.
        Err(e) if matches!(status_of(&e), Some(404 | 409)) => Ok(()),
        Err(Error::DockerResponseServerError { message, .. }) if message.contains("is not running") => Ok(()),
        Err(e) => Err(shown("killing the node's container", &e)),
    }
}

/// Whether the engine does not positively say that nothing of the container runs.
async fn runs(docker: &Docker, handle: &Handle, id: &str) -> Result<bool, InfraError> {
    if handle.dead().is_some_and(|found| found.id == id) {
        return Ok(false);
    }
    let found = if_there(docker.inspect_container(id, None).await)
        .map_err(|e| shown("looking at the node's container", &e))?;
    let Some(found) = found else { return Ok(false) };
    let state = found.state.unwrap_or_default();
    let settled = matches!(
        state.status,
        Some(Status::CREATED | Status::EXITED | Status::DEAD | Status::REMOVING)
    );
    Ok(!settled || state.running == Some(true) || state.pid.is_some_and(|pid| pid > 0))
}

/// Waits until it does not run; says whether it came to that.
async fn wait(docker: &Docker, handle: &Handle, id: &str, at_most: Duration) -> Result<bool, InfraError> {
    let deadline = Instant::now() + at_most;
    let mut pause = POLL;
    loop {
        let died = handle.died.notified();
        // The engine answers late while it tidies up, and tells before.
        let runs = tokio::select! {
            runs = runs(docker, handle, id) => runs?,
            () = died => runs(docker, handle, id).await?,
        };
        if !runs {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let died = handle.died.notified();
        let _ = tokio::time::timeout(pause, died).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

pub(crate) async fn power_off(
    inner: &Arc<Inner>,
    handle: &Handle,
    node: NodeRef,
    mode: PowerOff,
) -> Result<(), InfraError> {
    let docker = inner.engine.docker().await?;
    let _by_our_will = handle.stopping();
    let found = inner.find(&docker, node).await?;
    handle.found(found.as_ref());
    if let (Some(found), PowerOff::Graceful { deadline_ms }) = (&found, mode)
        && found.running
        // A frozen server does not answer to anything but being killed.
        && found.status != Status::PAUSED
        && control(inner, &docker, handle, found).await.is_ok_and(|c| c.up)
    {
        signal(&docker, &found.id, "SIGINT").await?;
        // Written down while PostgreSQL shuts down.
        let at_most = Duration::from_millis(deadline_ms.into());
        let (ended, noted) = tokio::join!(
            wait(&docker, handle, &found.id, at_most),
            note_off(inner, &docker, handle, found)
        );
        if ended? && noted.is_ok() {
            kill_all(inner, &docker, node).await?;
            if let Ok(known) = noted {
                handle.remember(found.life.clone(), known);
            }
            inner.nodes.changed(node);
            return Ok(());
        }
    }
    kill_all(inner, &docker, node).await?;
    let Some(found) = inner.find(&docker, node).await? else {
        return Ok(());
    };
    // The node is off, whatever becomes of the note that it is so by our will.
    match note_off(inner, &docker, handle, &found).await {
        Ok(known) => handle.remember(found.life.clone(), known),
        Err(error) => {
            handle.forget();
            tracing::warn!(node = %node.node, %error, "the node is off; that it is so by our will cannot be written down");
        }
    }
    inner.nodes.changed(node);
    Ok(())
}

/// Makes the ticket void: what was off by our will is told from what died, and a start that is still under
/// way at the engine starts nothing.
async fn note_off(
    inner: &Inner,
    docker: &Docker,
    handle: &Handle,
    found: &Found,
) -> Result<Control, InfraError> {
    let mut known = control(inner, docker, handle, found).await?;
    if known.ticket == Ticket::Off {
        return Ok(known);
    }
    let account = inner.account(docker, found).await?;
    // What else is known stays true meanwhile: the engine answers late about a container that has just ended,
    // and nobody has to wait for that.
    let written = inner
        .upload(docker, found, ticket_upload(account, &Ticket::Off)?)
        .await;
    if written.is_err() || !known.up {
        handle.forget();
    }
    written?;
    known.ticket = Ticket::Off;
    Ok(known)
}

pub(crate) async fn remove(
    inner: &Arc<Inner>,
    handle: &Handle,
    node: NodeRef,
    disposal: DataDisposal,
) -> Result<(), InfraError> {
    let docker = inner.engine.docker().await?;
    for id in inner.containers_of(&docker, node).await? {
        if runs(&docker, handle, &id).await? {
            return Err(invalid("the node runs; switch it off before it is removed"));
        }
    }
    if disposal == DataDisposal::Keep {
        let Some(found) = inner.restore_container(&docker, node).await? else {
            return Ok(());
        };
        let account = inner.account(&docker, &found).await?;
        inner
            .upload(&docker, &found, ticket_upload(account, &Ticket::Kept)?)
            .await?;
    }
    handle.forget();
    for id in inner.containers_of(&docker, node).await? {
        inner.remove_container(&docker, &id).await?;
    }
    if disposal == DataDisposal::Delete {
        if inner.find_volume(&docker, node).await?.is_some() {
            inner.remove_volume(&docker, node).await?;
        }
        if let Some(disks) = &inner.disks {
            disks.remove(node.node).await?;
        }
        remove_network(inner, &docker, node).await;
    }
    handle.forget();
    inner.nodes.changed(node);
    Ok(())
}

/// Removes the instance's network with its last node.
async fn remove_network(inner: &Arc<Inner>, docker: &Docker, node: NodeRef) {
    let _one_at_a_time = inner.network.lock().await;
    let left = async {
        let volumes = inner.volumes(docker, Some(node.instance)).await?;
        let containers = inner.nodes_with_container(docker, Some(node.instance)).await?;
        Ok::<_, InfraError>(!volumes.is_empty() || !containers.is_empty())
    };
    if left.await.unwrap_or(true) {
        return;
    }
    let name = names::network(node.instance);
    let ours = match if_there(docker.inspect_network(&name, None).await) {
        Ok(Some(found)) => found
            .labels
            .is_some_and(|l| l.get(names::OWNER) == Some(&inner.options.owner)),
        _ => false,
    };
    if ours && let Err(error) = docker.remove_network(&name).await {
        tracing::warn!(network = name, %error, "the network of an instance that is gone stays behind");
    }
}
