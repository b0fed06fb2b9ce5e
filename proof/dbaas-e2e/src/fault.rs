//! Faults: what happens to processes of a node.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Every process whose working directory lies under this one.
pub fn processes_under(directory: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
        })
        .collect()
}

/// Sends a signal to every process under a directory. How many there were.
pub fn signal_under(directory: &Path, signal: Signal) -> usize {
    let pids = processes_under(directory);
    for pid in &pids {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _ = kill_process(pid, signal);
        }
    }
    pids.len()
}

/// `kill -9` until nothing is left. How many processes there were.
pub fn kill_everything_under(directory: &Path) -> usize {
    let until = Instant::now() + Duration::from_secs(10);
    let mut killed = 0;
    loop {
        let found = signal_under(directory, Signal::KILL);
        killed = killed.max(found);
        if found == 0 || Instant::now() > until {
            return killed;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Releases the System V shared memory of servers under a directory that were killed: the machine has only so
/// many segments.
pub fn release_shared_memory_under(directory: &Path) {
    let mut pending = vec![directory.to_owned()];
    // Nodes lie four levels deep; the bound is for directories that are none of ours.
    for _ in 0..100_000 {
        let Some(next) = pending.pop() else { return };
        let Ok(entries) = std::fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name() == "postmaster.pid" {
                // Line 7: key and id of the segment.
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let id = text
                    .lines()
                    .nth(6)
                    .and_then(|line| line.split_whitespace().nth(1));
                if let Some(id) = id.filter(|id| id.parse::<u32>().is_ok()) {
                    let _ = std::process::Command::new("ipcrm").args(["-m", id]).output();
                }
            } else if entry.file_type().is_ok_and(|t| t.is_dir()) && next.components().count() < 12 {
                pending.push(entry.path());
            }
        }
    }
}

/// What every process under a directory is at: its number, its state, what it waits for in the kernel, and
/// its command line.
pub fn doing_under(directory: &Path) -> Vec<String> {
    let read =
        |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let of = |pid: i32| {
        let stat = read(pid, "stat");
        let state = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.trim().chars().next());
        let command: String = read(pid, "cmdline").replace('\0', " ").chars().take(80).collect();
        format!("{pid} {} {} {command}", state.unwrap_or('?'), read(pid, "wchan"))
    };
    processes_under(directory).into_iter().map(of).collect()
}
