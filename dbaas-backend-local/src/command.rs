//! Starts PostgreSQL's programs: as the right user, in a directory by which they are found again, with an
//! environment that holds nothing of ours but a mark, writing to a file and never to a pipe that could break
//! or fill.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::files;
use crate::process::{Ending, MARKER, Process, kill_all};

/// A log is turned over at the start of a server when it is longer than this.
const LOG_TURNS_OVER: u64 = 8 * 1024 * 1024;

/// A command of ours, ready but for its arguments.
pub(crate) fn prepare(
    program: &Path,
    account: &Account,
    mark: &str,
    dir: &Path,
    log: &Path,
) -> io::Result<Command> {
    let output = open_log(log)?;
    let errors = output.try_clone()?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(MARKER, mark)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A Ctrl-C meant for the program that embeds us must not reach PostgreSQL.
        .process_group(0);
    account.apply(&mut command);
    Ok(command)
}

fn open_log(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(log)
}

/// Puts a long log aside; the one before it is dropped.
pub(crate) fn turn_log_over(log: &Path) -> io::Result<()> {
    if files::length(log) > LOG_TURNS_OVER {
        std::fs::rename(log, log.with_extension("1"))?;
    }
    Ok(())
}

/// How a program that prepares something ended, when not well.
#[derive(Debug)]
pub(crate) enum ToolFailure {
    /// We were told to stop.
    Cancelled,
    /// It failed; what it wrote.
    Failed { ending: Ending, output: String },
    /// It could not be started or watched.
    Io(io::Error),
}

impl From<io::Error> for ToolFailure {
    fn from(e: io::Error) -> Self {
        ToolFailure::Io(e)
    }
}

/// Runs a program to its end. `dir` is the directory that it was prepared with, `log` the file that it writes
/// to.
pub(crate) fn run(
    mut command: Command,
    dir: &Path,
    log: &Path,
    at_most: Duration,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), ToolFailure> {
    let before = files::length(log);
    let deadline = Instant::now() + at_most;
    if cancelled() {
        return Err(ToolFailure::Cancelled);
    }
    let child = command.spawn()?;
    let process = Process::open(child.id())?.ok_or_else(|| io::Error::other("a child that is not there"))?;
    while !process.wait_until(Duration::from_millis(20)) {
        let stop = cancelled();
        if stop || Instant::now() >= deadline {
            kill_all(dir, Duration::from_secs(10))?;
            process.reap();
            if stop {
                return Err(ToolFailure::Cancelled);
            }
            let output = format!("did not end within {} s", at_most.as_secs());
            return Err(ToolFailure::Failed {
                ending: Ending::Unknown,
                output,
            });
        }
    }
    match process.reap() {
        Ending::Exit(0) => Ok(()),
        _ if cancelled() => Err(ToolFailure::Cancelled),
        ending => {
            // What it started must not outlive it: initdb killed leaves its server behind.
            kill_all(dir, Duration::from_secs(10))?;
            Err(ToolFailure::Failed {
                ending,
                output: files::appended_since(log, before),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_to_the_end_and_stops_when_told_or_late() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let me = Account::choose(None).unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let shell = |script: &str| {
            let mut command = prepare(Path::new("/bin/sh"), &me, "test", dir.path(), &log).unwrap();
            command.args(["-c", script]);
            command
        };
        let minute = Duration::from_secs(60);
        run(shell("echo fine"), dir.path(), &log, minute, &|| false).unwrap();
        match run(shell("echo bad; exit 3"), dir.path(), &log, minute, &|| false) {
            Err(ToolFailure::Failed {
                ending: Ending::Exit(3),
                output,
            }) => assert_eq!(output, "bad\n"),
            other => panic!("{other:?}"),
        }
        let started = Instant::now();
        assert!(matches!(
            run(
                shell("sleep 60"),
                dir.path(),
                &log,
                Duration::from_millis(50),
                &|| false
            ),
            Err(ToolFailure::Failed { .. })
        ));
        let stop_soon = || started.elapsed() > Duration::from_millis(300);
        assert!(matches!(
            run(shell("sleep 60"), dir.path(), &log, minute, &stop_soon),
            Err(ToolFailure::Cancelled)
        ));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_environment_is_clean() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = dir.path().join("log");
        let me = Account::choose(None).unwrap();
        let command = prepare(Path::new("/usr/bin/env"), &me, "i/n", dir.path(), &log).unwrap();
        run(command, dir.path(), &log, Duration::from_secs(60), &|| false).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        let mut names: Vec<_> = text.lines().filter_map(|l| l.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["DBAAS_NODE", "LC_ALL", "PATH", "TZ"]);
    }
}
