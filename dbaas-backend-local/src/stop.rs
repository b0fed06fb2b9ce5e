//! `power_off` and `remove`: the fence, and the end of a node.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::{DataDisposal, InfraError, InfraErrorKind, PowerOff, PowerState};
use rustix::process::Signal;

use crate::backend::Inner;
use crate::errors::{invalid, io_error};
use crate::files::{self, Durability};
use crate::node::{FORMAT, Kept, Node, Preparation, Record, Wanted, write_exit, write_json};
use crate::process::{find, kill_all};
use crate::server::KILL_AT_MOST;
use crate::shared_memory;

pub(crate) fn cancel_preparation(node: &Node) -> Option<Arc<Preparation>> {
    let state = node.state.lock();
    let preparation = state.preparing.clone()?;
    preparation.cancel();
    Some(preparation)
}

/// Kills the server first, so that it starts no more children, then everything else of the node.
pub(crate) fn kill_processes(node: &Node) -> Result<(), InfraError> {
    let (process, knows_memory) = {
        let state = node.state.lock();
        (state.process.clone(), !state.shared_memory.is_empty())
    };
    if let Some(process) = &process {
        if !knows_memory {
            shared_memory::remember(node, process);
        }
        process
            .signal(Signal::KILL)
            .map_err(|e| io_error("killing the server", &e))?;
    }
    kill_all(node.dir.path(), KILL_AT_MOST).map_err(|e| io_error("killing the node's processes", &e))?;
    match &process {
        // It may not have gone to its directory yet.
        Some(process) if !process.wait_until(KILL_AT_MOST) => {
            let message = format!(
                "the server (pid {}) does not end, although it was killed",
                process.pid()
            );
            Err(InfraError::new(InfraErrorKind::OutcomeUnknown, message))
        }
        _ => Ok(()),
    }
}

pub(crate) fn power_off(inner: &Arc<Inner>, node: &Arc<Node>, mode: PowerOff) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("switching the node off", &e);
    inner.changes.wake();
    if let Some(preparation) = cancel_preparation(node) {
        inner.changes.wake();
        let deadline = Instant::now() + KILL_AT_MOST;
        while !preparation.wait_ended(Duration::from_millis(20)) {
            kill_all(node.dir.path(), KILL_AT_MOST).map_err(shown)?;
            if Instant::now() >= deadline {
                let message = "the preparation does not stop; try again";
                return Err(InfraError::new(InfraErrorKind::OutcomeUnknown, message));
            }
        }
    }
    let process = node.state.lock().process.clone();
    if let (Some(process), PowerOff::Graceful { deadline_ms }) = (&process, mode)
        // A frozen server does not answer to anything but being killed.
        && !process.is_stopped()
    {
        process.signal(Signal::INT).map_err(shown)?;
        process.wait_until(Duration::from_millis(deadline_ms.into()));
    }
    kill_processes(node)?;
    if let Some(process) = &process {
        process.reap();
    }
    let record = {
        let mut state = node.state.lock();
        state.process = None;
        state.preparing = None;
        state.exit = None;
        state.seen_frozen = false;
        state.record.clone()
    };
    write_exit(&node.dir, None);
    if let Some(record) = record
        && record.wanted != Wanted::Off
    {
        // Lost in a power cut, the node is found to have died: off all the same.
        node.save(
            Record {
                wanted: Wanted::Off,
                ..record
            },
            Durability::Content,
        )
        .map_err(shown)?;
        inner.changed(node.id);
    }
    Ok(())
}

pub(crate) fn remove(inner: &Arc<Inner>, node: &Arc<Node>, disposal: DataDisposal) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("removing the node", &e);
    let record = node.state.lock().record.clone();
    let Some(record) = record else {
        // Removed already, and its data kept then; or never ours.
        if disposal == DataDisposal::Delete && node.dir.kept().exists() {
            delete_dir(inner, node).map_err(shown)?;
        }
        return Ok(());
    };
    match inner.power_of(node) {
        PowerState::Off | PowerState::Exited(_) => {}
        _ => return Err(invalid("the node runs; switch it off before it is removed")),
    }
    if !find(node.dir.path()).map_err(shown)?.is_empty() {
        return Err(invalid(
            "processes run in the node's directory; switch it off before it is removed",
        ));
    }
    match disposal {
        DataDisposal::Keep => {
            write_json(
                &node.dir.kept(),
                &Kept {
                    format: FORMAT,
                    boot: record.boot,
                },
                Durability::Disk,
            )
            .map_err(shown)?;
            for path in [node.dir.record(), node.dir.process(), node.dir.exit()] {
                files::remove_if_there(&path).map_err(shown)?;
            }
            files::sync_dir(node.dir.path()).map_err(shown)?;
        }
        DataDisposal::Delete => delete_dir(inner, node).map_err(shown)?,
    }
    inner.cgroups.remove(node.id.node);
    *node.state.lock() = crate::node::State::default();
    inner.changed(node.id);
    Ok(())
}

/// How long `remove` waits for the files of a node to be deleted; the rest goes on without it.
const DELETE_AT_MOST: Duration = Duration::from_secs(10);

fn delete_dir(inner: &Inner, node: &Node) -> io::Result<()> {
    shared_memory::release(node);
    let Some(gone) = files::to_trash(node.dir.path(), &inner.trash())? else {
        return Ok(());
    };
    if let Some(parent) = node.dir.path().parent() {
        files::sync_dir(parent)?;
        // Fails while the instance has other nodes, which is as it should be.
        let _ = fs::remove_dir(parent);
    }
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("dbaas-trash".into()).spawn(move || {
        if let Err(e) = files::remove_tree_if_there(&gone) {
            tracing::warn!(path = %gone.display(), error = %e, "cannot delete the files of a removed node");
        }
        let _ = done.send(());
    })?;
    let _ = wait.recv_timeout(DELETE_AT_MOST);
    Ok(())
}
