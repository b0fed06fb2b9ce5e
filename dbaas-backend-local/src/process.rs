//! Processes by identity, not by number: a [`Process`] is a pidfd, so that neither a signal nor a look at it
//! can ever hit another process that got the same pid. [`find`] sees every process of a directory through
//! `/proc`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use serde::{Deserialize, Serialize};

/// The environment variable that marks every process that this backend starts, and what they start.
pub(crate) const MARKER: &str = "DBAAS_NODE";

/// What tells a process from every other one that ever ran: its pid, when it started, and the machine's boot
/// in which it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks from the machine's boot to the start of the process.
    pub(crate) start_ticks: u64,
    /// The kernel's random id of the machine's boot.
    pub(crate) machine_boot: String,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Neither a zombie nor on its way to become one.
    #[cfg(test)]
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Stopped by a signal or by a debugger.
    pub(crate) fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Reads `/proc/<pid>/stat`; `None` if there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the command's name in parentheses and may itself hold spaces and parentheses: what
/// counts comes after the last.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let after_name = text.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = std::str::from_utf8(text.get(after_name..)?)
        .ok()?
        .split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of proc(5); state is the third.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        start_ticks,
    })
}

/// The kernel's id of this boot of the machine.
pub(crate) fn machine_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// How a process ended, where we are its parent and so may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exit(i32),
    Signal(i32),
    /// Not our child, or reaped by something else.
    Unknown,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exit(code) => write!(f, "exit code {code}"),
            Ending::Signal(9) => f.write_str("killed (signal 9)"),
            Ending::Signal(number) => write!(f, "ended by signal {number}"),
            Ending::Unknown => f.write_str("ended"),
        }
    }
}

/// A process that is or was running; never another one of the same number.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    start_ticks: u64,
    pidfd: OwnedFd,
    /// What [`Process::reap`] found: the kernel tells it once, and several may ask.
    ending: Mutex<Option<Ending>>,
}

impl Process {
    /// Takes hold of a process. `None` if it is gone (or a zombie that is not our child).
    pub(crate) fn open(pid: u32) -> io::Result<Option<Process>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // Read after the pidfd was opened: if the pidfd's process still lives afterwards, the stat was its.
        let Some(found) = stat(pid) else {
            return Ok(None);
        };
        Ok(Some(Process {
            pid: raw,
            start_ticks: found.start_ticks,
            pidfd,
            ending: Mutex::new(None),
        }))
    }

    /// Takes hold of exactly this process, if it still runs.
    pub(crate) fn open_same(id: &ProcessId) -> io::Result<Option<Process>> {
        if id.machine_boot != machine_boot() {
            return Ok(None);
        }
        let process = Process::open(id.pid)?;
        Ok(process.filter(|p| p.start_ticks == id.start_ticks && p.is_alive()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn id(&self) -> ProcessId {
        ProcessId {
            pid: self.pid(),
            start_ticks: self.start_ticks,
            machine_boot: machine_boot(),
        }
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        !self.wait_until(Duration::ZERO)
    }

    /// Whether it is stopped (SIGSTOP) as of now.
    pub(crate) fn is_stopped(&self) -> bool {
        stat(self.pid()).is_some_and(|s| s.start_ticks == self.start_ticks && s.is_stopped())
    }

    /// Sends a signal; a process that has ended is not an error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Blocks until it has ended, at most so long; says whether it has. Does not reap.
    pub(crate) fn wait_until(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                // A pidfd that cannot be polled tells nothing: "still runs" is the safe answer.
                Err(_) => return false,
            }
        }
    }

    /// Readable once it has ended.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Collects the exit status of a child of ours that has ended, so that no zombie stays.
    pub(crate) fn reap(&self) -> Ending {
        let mut known = self.ending.lock();
        if let Some(ending) = *known {
            return ending;
        }
        let ending = match waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ending::Exit(code),
                (None, Some(signal)) => Ending::Signal(signal),
                (None, None) => Ending::Unknown,
            },
            _ => Ending::Unknown,
        };
        if ending != Ending::Unknown {
            *known = Some(ending);
        }
        ending
    }
}

/// Every living process of ours that works in `dir` or below. Ours: a PostgreSQL program, or marked by our
/// environment variable; a shell that an operator left standing in the directory is not.
pub(crate) fn find(dir: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for (pid, cwd) in working_directories()? {
        if cwd.starts_with(dir) && is_ours(pid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Working directories of all processes that we may look into.
pub(crate) fn working_directories() -> io::Result<Vec<(u32, PathBuf)>> {
    let mut all = Vec::new();
    let me = std::process::id();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if pid == me {
            continue;
        }
        // Gone, a kernel thread, a zombie, or another user's.
        let Ok(cwd) = fs::read_link(format!("/proc/{pid}/cwd")) else {
            continue;
        };
        all.push((pid, cwd));
    }
    Ok(all)
}

/// Whether it is one of PostgreSQL's programs or carries our mark.
pub(crate) fn is_ours(pid: u32) -> bool {
    const PROGRAMS: [&str; 6] = [
        "postgres",
        "initdb",
        "pg_basebackup",
        "pg_rewind",
        "pg_resetwal",
        "pg_controldata",
    ];
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(exe) => {
            let name = exe
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            // The kernel appends this after the program was upgraded under it.
            if PROGRAMS.contains(&name.trim_end_matches(" (deleted)")) {
                return true;
            }
        }
        // In the middle of its end: no program any more, but files and sockets still. Whatever it was, it is
        // to be waited for.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return true,
        Err(_) => {}
    }
    let marker = format!("{MARKER}=");
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|&b| b == 0)
            .any(|entry| entry.starts_with(marker.as_bytes()))
    })
}

/// Kills what [`find`] finds, until it finds nothing. `Ok` is positive confirmation; `Err` names what is
/// left.
pub(crate) fn kill_all(dir: &Path, at_most: Duration) -> io::Result<()> {
    kill_in_rounds(dir, at_most, || kill_found(dir))
}

/// Kills what is found now. `None`: there is nothing.
pub(crate) fn kill_found(dir: &Path) -> io::Result<Option<Vec<Process>>> {
    let pids = find(dir)?;
    if pids.is_empty() {
        return Ok(None);
    }
    let mut targets = Vec::new();
    for pid in pids {
        // The pidfd first, then the look at what it is: what is killed is what was looked at.
        let Some(process) = Process::open(pid)? else {
            continue;
        };
        let still_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if still_there && is_ours(pid) && process.is_alive() {
            process.signal(Signal::KILL)?;
            targets.push(process);
        }
    }
    Ok(Some(targets))
}

/// Repeats a round of killing until it finds nothing.
pub(crate) fn kill_in_rounds(
    dir: &Path,
    at_most: Duration,
    round: impl Fn() -> io::Result<Option<Vec<Process>>>,
) -> io::Result<()> {
    let deadline = Instant::now() + at_most;
    while let Some(targets) = round()? {
        for target in &targets {
            target.wait_until(
                deadline
                    .saturating_duration_since(Instant::now())
                    .min(Duration::from_secs(1)),
            );
            // Orphans of a killed postmaster are ours to reap only if this program is their subreaper.
            target.reap();
        }
        if Instant::now() >= deadline {
            let left = find(dir)?;
            if left.is_empty() {
                return Ok(());
            }
            let message = format!("processes {left:?} do not end, although they were killed");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
    Ok(())
}

/// Names of the POSIX shared memory that a process has mapped (`/dev/shm/PostgreSQL.*`); a killed server
/// leaves them behind.
pub(crate) fn shared_memory_of(pid: u32) -> Vec<PathBuf> {
    let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else {
        return Vec::new();
    };
    let mut names: Vec<PathBuf> = Vec::new();
    for line in maps.split(|&b| b == b'\n') {
        let Some(at) = line.windows(9).position(|w| w == b"/dev/shm/") else {
            continue;
        };
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(&line[at..]));
        let is_postgres = name
            .file_name()
            .is_some_and(|n| n.as_bytes().starts_with(b"PostgreSQL."));
        if is_postgres && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_name_with_parentheses() {
        let line = b"4711 (a) b (c) T 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: b'T',
                parent: 1,
                start_ticks: 987_654
            }
        );
        assert!(stat.is_stopped() && stat.is_alive());
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"1 (x"), None);
        assert_eq!(parse_stat(b"1 (x) S 1"), None);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped by what is tested")]
    fn a_zombie_is_not_alive_and_is_reaped() {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        assert!(process.is_alive());
        assert!(!process.is_stopped());
        process.signal(Signal::STOP).unwrap();
        while !process.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait_until(Duration::from_secs(5)));
        assert!(!process.is_alive());
        assert!(!stat(child.id()).unwrap().is_alive());
        assert_eq!(process.reap(), Ending::Signal(9));
        assert_eq!(stat(child.id()), None);
    }

    #[test]
    fn the_same_pid_of_another_start_is_another_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = Process::open(child.id()).unwrap().unwrap().id();
        assert!(Process::open_same(&id).unwrap().is_some());
        let reused = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id.clone()
        };
        assert!(Process::open_same(&reused).unwrap().is_none());
        let rebooted = ProcessId {
            machine_boot: "another".into(),
            ..id
        };
        assert!(Process::open_same(&rebooted).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn kills_what_is_marked_below_a_directory_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("data");
        fs::create_dir(&inner).unwrap();
        let spawn = |marked: bool| {
            let mut command = std::process::Command::new("sleep");
            command.arg("60").current_dir(&inner);
            if marked {
                command.env(MARKER, "x");
            }
            command.spawn().unwrap()
        };
        let (mut ours, mut stopped, mut foreign) = (spawn(true), spawn(true), spawn(false));
        Process::open(stopped.id())
            .unwrap()
            .unwrap()
            .signal(Signal::STOP)
            .unwrap();
        kill_all(dir.path(), Duration::from_secs(5)).unwrap();
        assert!(foreign.try_wait().unwrap().is_none());
        foreign.kill().unwrap();
        foreign.wait().unwrap();
        for child in [&mut ours, &mut stopped] {
            assert!(stat(child.id()).is_none_or(|s| !s.is_alive()));
            let _ = child.wait();
        }
    }
}
