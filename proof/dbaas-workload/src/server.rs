//! [`ThrowawayServer`]: a real PostgreSQL on a loopback port for one test.
//!
//! # What it leaves behind
//! Nothing. Dropping it kills every process whose working directory is its data directory, frozen or not, and
//! deletes the directory. Should the test itself be killed, the kernel ends the postmaster (parent death
//! signal), which ends its children. That signal is sent when the *thread* that called
//! [`ThrowawayServer::start`] ends, so call it (and [`ThrowawayServer::restart`]) on the test's own thread,
//! not in `spawn_blocking`.
//!
//! Calls block for up to some seconds; that is fine in a test. Linux only (it reads `/proc`).

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Target;

/// Which unprivileged user runs the server when the test runs as root.
const UNPRIVILEGED: &str = "postgres";
const READY_WITHIN: Duration = Duration::from_secs(60);
const GONE_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// What a server is to be like.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Lines for `postgresql.conf`, such as `("max_connections", "20")`.
    pub settings: Vec<(String, String)>,
    /// Directory of `initdb` and `postgres`; where there is none, `DBAAS_TEST_POSTGRES_BIN`, else the newest
    /// that is found.
    pub bin_dir: Option<PathBuf>,
}

impl ServerOptions {
    /// With another setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running (or killed, or frozen) server.
#[derive(Debug)]
pub struct ThrowawayServer {
    bin_dir: PathBuf,
    // Deleted on drop, after the processes are gone.
    dir: tempfile::TempDir,
    data_dir: PathBuf,
    port: u16,
    password: Secret,
    postmaster: Option<Child>,
}

impl ThrowawayServer {
    /// The PostgreSQL that tests run against; `None` if there is none on this machine.
    pub fn find_bin_dir() -> Option<PathBuf> {
        if let Some(dir) = std::env::var_os("DBAAS_TEST_POSTGRES_BIN") {
            return Some(dir.into());
        }
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some((
                    entry.file_name().to_str()?.parse().ok()?,
                    entry.path().join("bin"),
                ))
            })
            .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("initdb").is_file())
            .collect();
        found.sort();
        found.pop().map(|(_, bin)| bin).or_else(|| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path)
                .find(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file())
        })
    }

    /// Initialises a data directory and starts a server on it; returns when it accepts connections.
    pub fn start(options: &ServerOptions) -> io::Result<Self> {
        let mut server = Self::unstarted(options)?;
        let mut pwfile = tempfile::NamedTempFile::new_in(server.dir.path())?;
        pwfile.write_all(server.password.expose().as_bytes())?;
        give_away(pwfile.path())?;
        server.run_tool("initdb", |command| {
            command
                .arg("-D")
                .arg(&server.data_dir)
                .args(["-U", ADMIN_ROLE, "-A", "scram-sha-256", "--pwfile"])
                .arg(pwfile.path())
                .args([
                    "-E",
                    "UTF8",
                    "--locale=C.UTF-8",
                    "--data-checksums",
                    "--no-sync",
                    "--no-instructions",
                ]);
        })?;
        server.configure(options)?;
        server.boot()?;
        Ok(server)
    }

    /// A streaming standby of this server (which must run), made by `pg_basebackup`; `application_name` is
    /// how it shows up there.
    pub fn start_standby(&self, application_name: &str, options: &ServerOptions) -> io::Result<Self> {
        let mut standby = Self::unstarted(options)?;
        standby.bin_dir.clone_from(&self.bin_dir);
        standby.password = self.password.clone();
        let passfile = standby.dir.path().join("passfile");
        fs::write(&passfile, format!("*:*:*:*:{}\n", self.password.expose()))?;
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600))?;
        give_away(&passfile)?;
        let conninfo = format!(
            "host=127.0.0.1 port={} user={ADMIN_ROLE} application_name={application_name} passfile={}",
            self.port,
            passfile.display()
        );
        standby.run_tool("pg_basebackup", |command| {
            command
                .arg("-D")
                .arg(&standby.data_dir)
                .args(["-d", &conninfo, "-R", "-c", "fast", "-X", "stream", "-N"]);
        })?;
        standby.configure(options)?;
        standby.boot()?;
        Ok(standby)
    }

    fn unstarted(options: &ServerOptions) -> io::Result<Self> {
        let bin_dir = options
            .bin_dir
            .clone()
            .or_else(Self::find_bin_dir)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no PostgreSQL server found"))?;
        let dir = tempfile::Builder::new().prefix("dbaas-throwaway-").tempdir()?;
        give_away(dir.path())?;
        // As /proc shows it.
        let data_dir = fs::canonicalize(dir.path())?.join("data");
        let port = free_port()?;
        let password = Secret::new(uuid::Uuid::new_v4().simple().to_string());
        Ok(ThrowawayServer {
            bin_dir,
            dir,
            data_dir,
            port,
            password,
            postmaster: None,
        })
    }

    fn configure(&self, options: &ServerOptions) -> io::Result<()> {
        // A killed process loses nothing that it wrote, so fsync is not needed to survive kill -9.
        let mut text = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\n\
             shared_buffers = 16MB\nmax_wal_size = 256MB\nwal_log_hints = on\nhot_standby_feedback = off\n",
            self.port
        );
        for (name, value) in &options.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        fs::OpenOptions::new()
            .append(true)
            .open(self.data_dir.join("postgresql.conf"))?
            .write_all(text.as_bytes())
    }

    /// Starts the server again after [`Self::kill9`] or [`Self::stop`]; returns when it accepts connections.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill9()?;
        // Nothing of the old server runs, and its pid may by now be that of another process.
        let _ = fs::remove_file(self.data_dir.join("postmaster.pid"));
        self.boot()
    }

    /// Starts the server without waiting for it to accept connections.
    pub fn spawn(&mut self) -> io::Result<()> {
        self.kill9()?;
        let _ = fs::remove_file(self.data_dir.join("postmaster.pid"));
        self.spawn_postmaster()
    }

    fn boot(&mut self) -> io::Result<()> {
        self.spawn_postmaster()?;
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready() {
            let ended = self
                .postmaster
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten();
            if ended.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "server did not start: {}",
                    self.log_tail()
                )));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn spawn_postmaster(&mut self) -> io::Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = unprivileged(&self.bin_dir.join("postgres"), ParentDeath::Quit)
            .arg("-D")
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.postmaster = Some(child);
        Ok(())
    }

    /// Whether the postmaster says that it accepts connections (also read-only ones).
    fn is_ready(&self) -> bool {
        fs::read_to_string(self.data_dir.join("postmaster.pid"))
            .is_ok_and(|text| matches!(text.lines().nth(7).map(str::trim), Some("ready" | "standby")))
    }

    fn run_tool(&self, tool: &str, arguments: impl FnOnce(&mut Command)) -> io::Result<()> {
        let mut command = unprivileged(&self.bin_dir.join(tool), ParentDeath::Kill);
        arguments(&mut command);
        let output = command.stdin(Stdio::null()).output()?;
        if output.status.success() {
            Ok(())
        } else {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(io::Error::other(format!("{tool} failed: {message}")))
        }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    /// The superuser's password; its name is [`ADMIN_ROLE`].
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// The superuser's way into database `postgres` of this server alone.
    pub fn target(&self) -> Target {
        Target {
            hosts: vec![self.endpoint()],
            database: "postgres".to_owned(),
            user: ADMIN_ROLE.to_owned(),
            password: self.password.clone(),
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What the server wrote.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.log_path())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Kills every process of the server, as a power cut would, and waits until they are gone.
    pub fn kill9(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            // The postmaster first, so that it starts nothing new.
            if let Some(child) = &mut self.postmaster
                && child.try_wait()?.is_none()
            {
                child.kill()?;
                child.wait()?;
            }
            self.postmaster = None;
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "processes of the server do not end",
                ));
            }
            thread::sleep(POLL);
        }
    }

    /// Fast shutdown; waits until it is done.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(child) = &self.postmaster
            && let Some(pid) = Pid::from_raw(child.id().cast_signed())
        {
            let _ = kill_process(pid, Signal::INT);
        }
        let deadline = Instant::now() + READY_WITHIN;
        while let Some(child) = &mut self.postmaster {
            if child.try_wait()?.is_some() {
                self.postmaster = None;
            } else if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server does not stop",
                ));
            } else {
                thread::sleep(POLL);
            }
        }
        self.kill9()
    }

    /// SIGSTOP to every process: its port still accepts, nothing answers.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// SIGCONT to every process.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal_all(Signal::CONT)
    }

    /// Makes the server read its configuration files again.
    pub fn reload(&self) -> io::Result<()> {
        match self
            .postmaster
            .as_ref()
            .and_then(|child| Pid::from_raw(child.id().cast_signed()))
        {
            Some(pid) => Ok(kill_process(pid, Signal::HUP)?),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the server does not run")),
        }
    }

    fn signal_all(&self, signal: Signal) -> io::Result<()> {
        // Twice: a process may have been forked while the first round was under way. A frozen postmaster
        // forks no more.
        for _ in 0..2 {
            for pid in self.processes() {
                match kill_process(pid, signal) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Every live process of this server: all of them have its data directory as their working directory.
    pub fn processes(&self) -> Vec<Pid> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
                if cwd == self.data_dir {
                    Pid::from_raw(pid)
                } else {
                    None
                }
            })
            .collect()
    }
}

impl Drop for ThrowawayServer {
    fn drop(&mut self) {
        // Nobody is left to tell; the test that looks for leftovers will.
        let _ = self.kill9();
    }
}

#[derive(Clone, Copy)]
enum ParentDeath {
    /// The postmaster's immediate shutdown: ends its children, too.
    Quit,
    Kill,
}

/// A command that runs as an unprivileged user, and that ends when this process does.
fn unprivileged(program: &Path, parent_death: ParentDeath) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(match parent_death {
        ParentDeath::Quit => "--pdeathsig=QUIT",
        ParentDeath::Kill => "--pdeathsig=KILL",
    });
    if is_root() {
        command.args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--init-groups"]);
    }
    command
        .arg("--")
        .arg(program)
        .current_dir("/")
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", "/usr/bin:/bin");
    // A relocated installation: its walreceiver would load this machine's libpq, which may be older than it
    // needs.
    if let Some(lib) = program
        .parent()
        .and_then(Path::parent)
        .map(|prefix| prefix.join("lib"))
        && lib.join("libpq.so.5").exists()
    {
        command.env("LD_LIBRARY_PATH", lib);
    }
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Hands a path over to the user that the server runs as.
fn give_away(path: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != UNPRIVILEGED {
            return None;
        }
        Some((
            fields.nth(1)?.parse::<u32>().ok()?,
            fields.next()?.parse::<u32>().ok()?,
        ))
    });
    let Some((uid, gid)) = ids else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "running as root, and there is no user postgres",
        ));
    };
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// For the first line of a test: whether it can run. Without PostgreSQL on this machine it says so on
/// standard error, or panics if `DBAAS_REQUIRE_POSTGRES` is `1`.
///
/// # Panics
/// See above: a check that cannot run must not look like one that passed.
#[allow(clippy::print_stderr)]
pub fn is_available_for(test: &str) -> bool {
    if ThrowawayServer::find_bin_dir().is_some() {
        return true;
    }
    assert!(
        std::env::var_os("DBAAS_REQUIRE_POSTGRES").is_none_or(|value| value != "1"),
        "{test}: no PostgreSQL server found, and DBAAS_REQUIRE_POSTGRES=1"
    );
    eprintln!("SKIPPED: {test}: no PostgreSQL server found");
    false
}
