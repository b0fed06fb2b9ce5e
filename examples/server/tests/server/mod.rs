//! The server as a process under test.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Whether this machine has a PostgreSQL; fails where one is required.
pub(crate) fn has_postgres() -> bool {
    let found = !dbaas_backend_local::discover(&[], Path::new("/nonexistent")).is_empty();
    if !found {
        assert!(
            std::env::var("DBAAS_REQUIRE_POSTGRES").as_deref() != Ok("1"),
            "this machine has no PostgreSQL"
        );
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine has no PostgreSQL");
    }
    found
}

/// A directory that a PostgreSQL of another user may enter.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbaas-server"));
    command
        .args(arguments)
        .args(["--warm-pool", "0", "--no-download", "--log", "info"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server under test; killed if the test ends before it does.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    /// What it said when it had started.
    pub(crate) greeting: String,
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Server {
        let data = directory.join("data");
        let mut all = vec!["--data-dir", data.to_str().unwrap()];
        all.extend(arguments);
        let mut child = command(&all).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        // It says where it listens when it listens; if it ends instead, this ends, too.
        while !greeting.contains("curl") {
            if stdout.read_line(&mut greeting).unwrap() == 0 {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("it did not start: {greeting}{error}");
            }
        }
        let address = greeting
            .lines()
            .find_map(|line| line.split_once("http://"))
            .unwrap()
            .1
            .trim()
            .to_owned();
        Server {
            child,
            stdout,
            greeting,
            address,
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end");
    }

    /// It greets as soon as it listens; to take charge needs a moment more.
    pub(crate) fn until_ready(&self) {
        let until = Instant::now() + DEADLINE;
        while !self.get("/readyz", "").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < until, "it is never ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        request(
            &self.address,
            &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n"),
        )
    }
}

pub(crate) fn request(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A run that must end by itself.
pub(crate) fn run(arguments: &[&str]) -> (bool, String) {
    let mut child = command(arguments).spawn().unwrap();
    let until = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    (
        status.success(),
        String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr),
    )
}
