//! A PostgreSQL server for one test: its own data directory, a socket only, gone when it is dropped.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

const START_DEADLINE: Duration = Duration::from_secs(30);

/// An installed PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    pub(crate) bin: PathBuf,
    pub(crate) major: u32,
}

/// Every PostgreSQL (14 or newer) on this machine, one per major version. Where there is none the test is
/// skipped, loudly, or fails if `DBAAS_REQUIRE_POSTGRES=1`.
pub(crate) fn installations(test: &str) -> Vec<Installation> {
    let configured = std::env::var_os("DBAAS_POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = configured
        .into_iter()
        .chain(std::env::split_paths(&path))
        .collect();
    for root in ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt"] {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        candidates.extend(entries.map(|entry| entry.path().join("bin")));
    }
    let mut found: Vec<Installation> = Vec::new();
    for candidate in candidates {
        // A link on the PATH stands alone; the programs that belong together are where it leads.
        let Ok(postgres) = candidate.join("postgres").canonicalize() else {
            continue;
        };
        let bin = postgres.parent().unwrap().to_owned();
        if !["initdb", "pg_ctl", "psql"]
            .iter()
            .all(|program| bin.join(program).exists())
        {
            continue;
        }
        let Ok(output) = Command::new(bin.join("postgres")).arg("--version").output() else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let Ok(version) = dbaas_core::version::PostgresVersion::from_version_output(&text) else {
            continue;
        };
        let major = version.major.get();
        if !found.iter().any(|other| other.major == major) {
            found.push(Installation { bin, major });
        }
    }
    if found.is_empty() {
        let required = std::env::var("DBAAS_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "{test}: no PostgreSQL found and DBAAS_REQUIRE_POSTGRES=1"
        );
        // To the terminal itself: the test harness would swallow it.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: no PostgreSQL found on this machine"
        );
    }
    found
}

/// A data directory and, once started, its server.
pub(crate) struct Throwaway {
    pub(crate) installation: Installation,
    root: PathBuf,
    owner: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Throwaway {
    /// A directory of its own, with nothing in it.
    fn empty(installation: &Installation) -> Throwaway {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "dbaas-core-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir(&root).unwrap();
        Throwaway {
            installation: installation.clone(),
            owner: unprivileged(&root),
            root,
            server: None,
        }
    }

    /// A standby of a server that runs: a base backup, with the settings to follow it over its socket.
    pub(crate) fn copy_of(primary: &Throwaway) -> Throwaway {
        let server = Throwaway::empty(&primary.installation);
        let mut backup = server.command("pg_basebackup");
        backup.args([
            "-h",
            primary.root.to_str().unwrap(),
            "-U",
            "postgres",
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ]);
        backup.args(["-D", server.data().to_str().unwrap()]);
        let output = backup.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pg_basebackup: {errors}");
        server
    }

    /// `initdb` with the superuser `postgres`, who needs no password.
    pub(crate) fn init(installation: &Installation) -> Throwaway {
        let server = Throwaway::empty(installation);
        let data = server.data();
        let mut initdb = server.command("initdb");
        initdb.args([
            "-D",
            data.to_str().unwrap(),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]);
        let output = initdb.output().unwrap();
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        server
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file that the server's user may read, and nobody else.
    pub(crate) fn write(&self, path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.owner {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// A program of the installation, as the unprivileged user. It is killed with this process's thread.
    pub(crate) fn command(&self, program: &str) -> Command {
        let program = self.installation.bin.join(program);
        let mut command = match self.owner {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
                command
                    .args(["--clear-groups", "--pdeathsig", "KILL", "--"])
                    .arg(program);
                command
            }
        };
        command
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        command
    }

    /// Starts the server with a socket in its root directory and more arguments, and waits until it answers.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        let log = std::fs::File::create(self.root.join("log")).unwrap();
        let mut command = self.command("postgres");
        command.args([
            "-D",
            self.data().to_str().unwrap(),
            "-k",
            self.root.to_str().unwrap(),
            "-c",
            "listen_addresses=",
        ]);
        command
            .args(["-c", "fsync=off"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log);
        self.server = Some(command.spawn().unwrap());
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let answer = self.psql("postgres", &[], "SELECT 1");
            if answer.status.success() {
                return;
            }
            let exited = self.server.as_mut().unwrap().try_wait().unwrap();
            let errors = String::from_utf8_lossy(&answer.stderr);
            assert!(
                exited.is_none() && Instant::now() < deadline,
                "{exited:?}\n{errors}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Runs SQL as a user, over the socket; the SQL goes through standard input.
    pub(crate) fn psql(&self, user: &str, environment: &[(&str, &str)], sql: &str) -> Output {
        let mut command = self.command("psql");
        command.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-w",
            "-d",
            "postgres",
            "-U",
            user,
            "-h",
            self.root.to_str().unwrap(),
        ]);
        command
            .envs(environment.iter().copied())
            .env("PGCLIENTENCODING", "UTF8");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join();
        output
    }

    /// What SQL gives, as the superuser; panics if it fails.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.psql("postgres", &[], sql);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end_matches('\n')
            .to_owned()
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let data = self.data();
            let mut stop = self.command("pg_ctl");
            stop.args([
                "-D",
                data.to_str().unwrap_or_default(),
                "-m",
                "immediate",
                "-t",
                "20",
                "-w",
                "stop",
            ]);
            let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Gives the directory to an unprivileged user if this is root, whom PostgreSQL refuses to run as.
fn unprivileged(directory: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    // The directory was just made by this process, so its owner is this process's user.
    if std::fs::metadata(directory).unwrap().uid() != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let (uid, gid): (u32, u32) = ids("postgres")
        .or_else(|| ids("nobody"))
        .expect("a user to run PostgreSQL as");
    chown(directory, Some(uid), Some(gid)).unwrap();
    Some((uid, gid))
}

/// Quotes text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Runs a property on so many values that are the same in every run; one that fails is made as small as it
/// can be.
pub(crate) fn hold<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value)) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(15),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
