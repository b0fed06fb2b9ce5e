//! Starts the server of a node whose data directory is ready, and notices what became of it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRecipe, BootRole};
use dbaas_core::boot_output::{server_exit, telling_line};
use dbaas_core::infrastructure::Exit;

use crate::backend::Inner;
use crate::command;
use crate::discovery::Installation;
use crate::files::{self, Durability};
use crate::node::{Node, Preparation, State, StoredProcess, write_exit, write_json};
use crate::port;
use crate::prepare::mark_of;
use crate::process::{Ending, Process, kill_all, kill_found, kill_in_rounds};

/// A port of a server that was just killed may be busy for a moment.
const PORT_BUSY_AT_MOST: Duration = Duration::from_millis(500);
/// How long processes may take to vanish after they were killed.
pub(crate) const KILL_AT_MOST: Duration = Duration::from_secs(10);

/// Why a server was not started.
#[derive(Debug)]
pub(crate) enum LaunchFailure {
    /// Told to stop meanwhile.
    Cancelled,
    /// Somebody else has its port.
    PortTaken(String),
    Io(io::Error),
}

impl From<io::Error> for LaunchFailure {
    fn from(e: io::Error) -> Self {
        LaunchFailure::Io(e)
    }
}

/// Steps 3 to 5 of a boot: files, role, server. The node is known to be off; nobody else works on it.
pub(crate) fn launch(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: &Installation,
    recipe: &BootRecipe,
    preparation: Option<&Preparation>,
) -> Result<(), LaunchFailure> {
    write_files(inner, node, recipe)?;
    let data = node.dir.data();
    files::remove_if_there(&data.join("postmaster.pid"))?;

    let (port, resources) = node
        .state
        .lock()
        .record
        .as_ref()
        .map(|r| (r.port, r.spec.resources))
        .ok_or(LaunchFailure::Cancelled)?;
    inner.cgroups.limit(node.id.node, resources)?;
    let address = inner.options.listen_address;
    let deadline = Instant::now() + PORT_BUSY_AT_MOST;
    while !port::is_free(address, port) {
        if Instant::now() >= deadline {
            let message = format!(
                "the node's port {port} on {address} is in use by a process that is not ours; free it (`ss -ltnp 'sport = :{port}'` \
                 shows whose it is)"
            );
            return Err(LaunchFailure::PortTaken(message));
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    write_server_conf(inner, node, address, port)?;
    let log = node.dir.log();
    command::turn_log_over(&log)?;
    let log_from = files::length(&log);
    let mut command = command::prepare(
        &installation.program("postgres"),
        &inner.account,
        &mark_of(node.id),
        node.dir.path(),
        &log,
    )?;
    command
        .arg("-D")
        .arg(&data)
        .arg("-c")
        .arg(format!("config_file={}", node.dir.server_conf().display()))
        .args([
            "-c",
            &format!("listen_addresses={address}"),
            "-c",
            &format!("port={port}"),
        ])
        // A path below the data directory is too long for a socket's address, and nobody needs one.
        .args([
            "-c",
            "unix_socket_directories=",
            "-c",
            "logging_collector=off",
            "-c",
            "log_destination=stderr",
        ]);

    let process = {
        // Whoever cancels holds this lock while doing so: what is not started by then is not started at all.
        let mut state = node.state.lock();
        if inner.is_closed() || preparation.is_some_and(Preparation::is_cancelled) {
            return Err(LaunchFailure::Cancelled);
        }
        let mut child = command.spawn()?;
        let process = match Process::open(child.id()) {
            Ok(Some(process)) => Arc::new(process),
            failed => {
                // What cannot be watched must not run.
                child.kill()?;
                child.wait()?;
                let why = failed
                    .err()
                    .unwrap_or_else(|| io::Error::other("a child that is not there"));
                return Err(why.into());
            }
        };
        let placed = inner.cgroups.place(node.id.node, node.dir.path(), process.pid());
        if let Err(e) = placed
            && process.is_alive()
        {
            // Nor what cannot be held, where limits are said to be.
            kill_all(node.dir.path(), KILL_AT_MOST)?;
            process.reap();
            return Err(e.into());
        }
        state.process = Some(Arc::clone(&process));
        state.preparing = None;
        state.exit = None;
        state.seen_frozen = false;
        state.shared_memory.clear();
        state.log_from = log_from;
        process
    };
    let stored = StoredProcess {
        id: process.id(),
        shared_memory: Vec::new(),
        log_from,
    };
    if let Err(e) = write_json(&node.dir.process(), &stored, Durability::Process) {
        // It is found again by its directory, too.
        tracing::warn!(node = %node.id.node, error = %e, "cannot write down the server's process");
    }
    tracing::debug!(node = %node.id.node, pid = process.pid(), port, "PostgreSQL started");
    inner.watch(node, &process);
    inner.changed(node.id);
    Ok(())
}

/// What the command line says again in a file that includes `postgresql.conf`, which listens nowhere:
/// PostgreSQL compares its files with what it runs with at every reload, the command line notwithstanding,
/// and would complain of an address that it cannot change.
fn write_server_conf(inner: &Inner, node: &Node, address: IpAddr, port: u16) -> io::Result<()> {
    let included = node.dir.data().join("postgresql.conf");
    let included = included
        .to_str()
        .ok_or_else(|| io::Error::other("the data directory's path is not UTF-8"))?
        .replace('\'', "''");
    let text = format!(
        "include '{included}'\nlisten_addresses = '{address}'\nport = {port}\nunix_socket_directories = ''\n\
         logging_collector = off\nlog_destination = 'stderr'\n"
    );
    let path = node.dir.server_conf();
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    files::write(&path, text.as_bytes(), Some(&inner.account), Durability::Process)
}

fn write_files(inner: &Inner, node: &Node, recipe: &BootRecipe) -> io::Result<()> {
    let data = node.dir.data();
    let mut contents: Vec<(&str, &[u8])> = recipe
        .files
        .iter()
        .map(|f| (f.name.as_str(), f.content.expose().as_bytes()))
        .collect();
    files::remove_if_there(&data.join("recovery.signal"))?;
    match recipe.role {
        BootRole::Standby => contents.push(("standby.signal", b"")),
        BootRole::Primary => files::remove_if_there(&data.join("standby.signal"))?,
    }
    files::write_all(&data, &contents, &inner.account, node.dir.path())
}

/// A server has ended: makes sure that nothing of it is left, and only then says so. A child that lives on
/// without its postmaster could still answer a client.
pub(crate) fn settle(inner: &Inner, node: &Node, process: &Arc<Process>) -> io::Result<()> {
    let is_current = |state: &State| state.process.as_ref().is_some_and(|p| Arc::ptr_eq(p, process));
    // It may be late: the node may have been switched off and started again meanwhile. A server is started
    // under this lock, so that what is killed under it is of the server that has ended.
    kill_in_rounds(node.dir.path(), KILL_AT_MOST, || {
        let state = node.state.lock();
        if is_current(&state) {
            kill_found(node.dir.path())
        } else {
            Ok(None)
        }
    })?;
    let ending = process.reap();
    if inner.is_closed() {
        return Ok(());
    }
    let exit = {
        let mut state = node.state.lock();
        if !is_current(&state) {
            return Ok(());
        }
        state.process = None;
        let log = last_lines(&files::appended_since(&node.dir.log(), state.log_from));
        let exit = exit_of(ending, &log);
        state.exit = Some(exit.clone());
        exit
    };
    write_exit(&node.dir, Some(&exit));
    tracing::info!(node = %node.id.node, pid = process.pid(), message = %exit.message, "a server has ended");
    inner.changed(node.id);
    Ok(())
}

/// The end of a log: what a server says of its end is within its last lines.
fn last_lines(log: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Why a server has ended. `log`: the last that it wrote itself. One that was killed has not said why: its
/// last complaint is about something else.
fn exit_of(ending: Ending, log: &str) -> Exit {
    let reason = server_exit(log);
    let line = match ending {
        Ending::Signal(9) => String::new(),
        Ending::Signal(_) | Ending::Exit(_) | Ending::Unknown => telling_line(log),
    };
    let message = match line.as_str() {
        "" => format!("PostgreSQL {ending}"),
        line => format!("PostgreSQL {ending}; its log ends with: {line}"),
    };
    Exit { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_of_this_end() {
        let log = "LOG:  starting PostgreSQL\nERROR:  an hour ago\n";
        assert_eq!(
            exit_of(Ending::Signal(9), log).message,
            "PostgreSQL killed (signal 9)"
        );
        let exit = exit_of(Ending::Exit(1), &format!("{log}FATAL:  out of luck\n"));
        assert_eq!(
            exit.message,
            "PostgreSQL exit code 1; its log ends with: FATAL:  out of luck"
        );
        let long = "LOG: x\n".repeat(100);
        assert_eq!(last_lines(&long).lines().count(), 20);
    }
}
