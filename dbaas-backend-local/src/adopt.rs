//! What an earlier process left: nodes that are written down, and servers that run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbaas_core::infrastructure::{DataState, Exit, ExitReason, NodeRef};
use dbaas_core::secret::Secret;

use crate::node::{FORMAT, Node, NodeDir, Record, StoredProcess, Wanted, read_exit, read_json};
use crate::process::{Process, is_ours, kill_all};
use crate::server::KILL_AT_MOST;

/// A node as it was left, with its server if that runs; `None` where nothing was written down.
pub(crate) fn adopted(root: &Path, id: NodeRef, running: &[(u32, PathBuf)]) -> io::Result<Option<Arc<Node>>> {
    let node = Node::new(root, id);
    let Some(record) = read_json::<Record>(&node.dir.record())? else {
        return Ok(None);
    };
    if record.format > FORMAT {
        return Err(io::Error::other(format!(
            "{} was written by a newer program",
            node.dir.record().display()
        )));
    }
    let stored = read_json::<StoredProcess>(&node.dir.process()).unwrap_or_default();
    let process = adopt(&node.dir, stored.as_ref(), running)?;
    if process.is_none() {
        // Children of a server that died while nobody looked, and programs of a preparation that nobody
        // waits for any more.
        kill_all(node.dir.path(), KILL_AT_MOST)?;
    }
    let exit = match (&process, record.wanted) {
        (None, Wanted::On) => Some(read_exit(&node.dir).unwrap_or_else(|| exit_unseen(&node.dir))),
        _ => None,
    };
    let bootstrap_password = match fs::read_to_string(node.dir.bootstrap_password()) {
        Ok(text) => Some(Secret::new(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let mut state = node.state.lock();
    state.log_from = stored.as_ref().map_or(0, |stored| stored.log_from);
    if let Some(process) = &process {
        tracing::info!(node = %id.node, pid = process.pid(), "adopted a running server");
    }
    state.record = Some(record);
    state.process = process.map(Arc::new);
    state.exit = exit;
    state.bootstrap_password = bootstrap_password;
    state.shared_memory = stored.map(|s| s.shared_memory).unwrap_or_default();
    drop(state);
    Ok(Some(node))
}

/// The server of a node that runs already, if it does: by what was written down about it, else by where it
/// works and what PostgreSQL itself wrote down.
fn adopt(
    dir: &NodeDir,
    stored: Option<&StoredProcess>,
    running: &[(u32, PathBuf)],
) -> io::Result<Option<Process>> {
    if dir.data_state()? != DataState::Initialised {
        return Ok(None);
    }
    let data = dir.data();
    let works_there = |pid: u32| running.iter().any(|(p, cwd)| *p == pid && *cwd == data) && is_ours(pid);
    if let Some(stored) = stored
        && let Some(process) = Process::open_same(&stored.id)?
        // A server that was started a moment ago has not gone to its data directory yet.
        && (works_there(stored.id.pid) || running.iter().any(|(p, cwd)| *p == stored.id.pid && cwd == dir.path()))
    {
        return Ok(Some(process));
    }
    // The first line is the postmaster's pid; a single-user server writes a negative one.
    let written = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = written
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok())
    else {
        return Ok(None);
    };
    if !works_there(pid) {
        return Ok(None);
    }
    Ok(Process::open(pid)?.filter(Process::is_alive))
}

/// Why a node is off that should be on, where nobody saw it end.
pub(crate) fn exit_unseen(dir: &NodeDir) -> Exit {
    if matches!(dir.data_state(), Ok(DataState::Incomplete)) {
        let message = "the preparation of its data directory was interrupted: the control plane or the machine was restarted";
        return Exit {
            reason: ExitReason::PreparationFailed,
            message: message.into(),
        };
    }
    let message = "PostgreSQL ended while the control plane was not running: the machine was restarted, or it was killed";
    Exit {
        reason: ExitReason::Died,
        message: message.into(),
    }
}
