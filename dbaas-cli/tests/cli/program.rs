//! The program under test, and a server of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// `dbaas` in an environment that no user's configuration reaches.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbaas"));
    for name in [
        "DBAAS_URL",
        "DBAAS_TOKEN",
        "DBAAS_CONTEXT",
        "NO_COLOR",
        "PGPASSWORD",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("DBAAS_CONFIG", "/nonexistent")
        .stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Done {
    Done::of(command(arguments).output().unwrap())
}

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

/// `dbaas server`, and a directory for it and the tests.
pub(crate) struct Server {
    child: Child,
    /// As `http://127.0.0.1:port`.
    pub(crate) url: String,
    /// What it asks for; without a token file, nothing.
    pub(crate) token: Option<String>,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        // A PostgreSQL of another user has to get in.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (child, url) = spawn(directory.path(), &[]);
        Server {
            child,
            url,
            token: None,
            directory,
        }
    }

    /// A server that asks for a token; nothing runs on it.
    pub(crate) fn with_tokens(token: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("tokens");
        std::fs::write(&file, format!("admin:{token}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (child, url) = spawn(directory.path(), &["--token-file", file.to_str().unwrap()]);
        Server {
            child,
            url,
            token: Some(token.to_owned()),
            directory,
        }
    }

    /// Kills the server with SIGKILL, and starts another one on what is left.
    pub(crate) fn killed_and_started_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.url) = spawn(self.directory.path(), &[]);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command
            .env("DBAAS_URL", &self.url)
            .env("PGPASSWORD", "correct horse");
        if let Some(token) = &self.token {
            command.env("DBAAS_TOKEN", token);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    }

    /// A run with something on standard input.
    pub(crate) fn fed(&self, input: &str, arguments: &[&str]) -> Done {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }
}

/// `dbaas server` on a directory, and where it listens.
fn spawn(directory: &Path, more: &[&str]) -> (Child, String) {
    let arguments = [
        "server",
        "--listen",
        "127.0.0.1:0",
        "--warm-pool",
        "0",
        "--no-download",
        "--stop-instances-on-exit",
    ];
    let mut child = command(&arguments)
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--log", "warn"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut greeting = String::new();
    while !greeting.contains("listening on") || !greeting.ends_with('\n') {
        if stdout.read_line(&mut greeting).unwrap() == 0 {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("it did not start: {greeting}{error}");
        }
    }
    let line = greeting
        .lines()
        .find(|line| line.contains("listening on"))
        .unwrap();
    let url = line.split_whitespace().last().unwrap().to_owned();
    // The rest of what it says must not fill a pipe that nobody reads.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let mut stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
    (child, url)
}

impl Drop for Server {
    fn drop(&mut self) {
        // In an orderly way, so that it switches its instances off.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
