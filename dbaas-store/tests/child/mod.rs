//! Other processes for tests: this same test program, asked to run one of its ignored tests.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Names the store that the child works on; tests that are meant for a child do nothing without it.
const STORE_VARIABLE: &str = "DBAAS_STORE_TEST_FILE";

/// The store to work on, if this process is a child.
pub(crate) fn store_path() -> Option<PathBuf> {
    std::env::var_os(STORE_VARIABLE).map(PathBuf::from)
}

/// Says something to the parent at once, past the capture of the test harness.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let line = format!("\nSAYS {line}\n");
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// A running child; killed (SIGKILL) when dropped.
pub(crate) struct Spawned {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// Runs the ignored test `name` on a store, with a command line put before it (such as `sh -c …`), perhaps of
/// a copy of the program and as another user.
pub(crate) fn spawn(name: &str, store: &Path, before: &[&str], program: &Path, user: Option<u32>) -> Spawned {
    let mut words: Vec<&std::ffi::OsStr> = before.iter().map(std::ffi::OsStr::new).collect();
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args(["--ignored", "--exact", name, "--nocapture", "--test-threads=1"]);
    command
        .env(STORE_VARIABLE, store)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(user) = user {
        std::os::unix::process::CommandExt::uid(&mut command, user);
        command.current_dir("/");
    }
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Spawned { child, output }
}

impl Spawned {
    /// What it says next; `None` once it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // A line that was cut off by a kill was never said.
            if let Some(said) = line
                .strip_prefix("SAYS ")
                .and_then(|said| said.strip_suffix('\n'))
            {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    /// `kill -9`.
    #[allow(dead_code, reason = "not every test program kills")]
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
