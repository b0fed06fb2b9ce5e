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
