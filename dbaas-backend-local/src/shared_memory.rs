//! Shared memory of the kernel that a killed server leaves behind. A later start of the same server recycles
//! it; when there will be none, because the node is removed, it is released here. Only what is provably the
//! node's: no process is attached to it, and the server that made it is the one that is written down.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::files::{self, Durability};
use crate::node::{Node, StoredProcess, write_json};
use crate::process::{Process, shared_memory_of};

/// Writes down what shared memory the node's server has mapped: once it was killed nobody can tell any more.
pub(crate) fn remember(node: &Node, process: &Arc<Process>) {
    let names = shared_memory_of(process.pid());
    if names.is_empty() || !process.is_alive() {
        return;
    }
    let mut state = node.state.lock();
    if state.process.as_ref().is_some_and(|p| Arc::ptr_eq(p, process)) {
        state.shared_memory.clone_from(&names);
        let stored = StoredProcess {
            id: process.id(),
            shared_memory: names,
            log_from: state.log_from,
        };
        if let Err(e) = write_json(&node.dir.process(), &stored, Durability::Process) {
            tracing::debug!(node = %node.id.node, error = %e, "cannot write down the server's shared memory");
        }
    }
}

/// Releases what the node's last server left. Best effort.
pub(crate) fn release(node: &Node) {
    let names = node.state.lock().shared_memory.clone();
    for name in names.iter().filter(|n| n.parent() == Some(Path::new("/dev/shm"))) {
        if let Err(e) = files::remove_if_there(name) {
            tracing::debug!(name = %name.display(), error = %e, "cannot release shared memory");
        }
    }
    // Lines of postmaster.pid (miscadmin.h): the pid is the first; shared memory key and id are the seventh.
    let Ok(text) = fs::read_to_string(node.dir.data().join("postmaster.pid")) else {
        return;
    };
    let mut lines = text.lines();
    let Some(pid) = lines.next() else { return };
    let Some((key, id)) = lines
        .nth(5)
        .and_then(|line| line.trim().split_once(char::is_whitespace))
    else {
        return;
    };
    let Ok(table) = fs::read_to_string("/proc/sysvipc/shm") else {
        return;
    };
    if is_orphan(&table, pid.trim(), key.trim(), id.trim()) {
        let removed = Command::new("ipcrm")
            .args(["-m", id.trim()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            tracing::debug!(id = id.trim(), "cannot release a System V shared memory segment");
        }
    }
}

/// Whether `/proc/sysvipc/shm` has this segment, made by this process and used by nobody.
fn is_orphan(table: &str, pid: &str, key: &str, id: &str) -> bool {
    let signed = |text: &str| {
        text.parse::<u32>()
            .map(u32::cast_signed)
            .or_else(|_| text.parse::<i32>())
            .ok()
    };
    let mut lines = table.lines();
    let Some(header) = lines.next() else { return false };
    let columns: Vec<&str> = header.split_whitespace().collect();
    let at = |name: &str| columns.iter().position(|c| *c == name);
    let (Some(k), Some(i), Some(c), Some(n)) = (at("key"), at("shmid"), at("cpid"), at("nattch")) else {
        return false;
    };
    lines.any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is = |index: usize, value: &str| fields.get(index) == Some(&value);
        fields
            .get(k)
            .is_some_and(|f| signed(f) == signed(key) && signed(key).is_some())
            && is(i, id)
            && is(c, pid)
            && is(n, "0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_orphan_of_this_server() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                     \x20  1234567          7   600                    56   100   101      0   101\n\
                     \x20  1234568          8   600                    56   200   201      5   101\n";
        assert!(is_orphan(table, "100", "1234567", "7"));
        assert!(
            !is_orphan(table, "101", "1234567", "7"),
            "made by another process"
        );
        assert!(!is_orphan(table, "100", "1234567", "8"));
        assert!(!is_orphan(table, "200", "1234568", "8"), "in use");
        assert!(!is_orphan("", "100", "1234567", "7"));
    }
}
