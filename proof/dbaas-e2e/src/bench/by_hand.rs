//! PostgreSQL by hand, as the same unprivileged user: the floor that the control plane is held against.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_backend_local::{Installation, LocalOptions, discover};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Access, Client, ClientOptions, ConnectStrategy, Target};
use rustix::process::{Pid, Signal, kill_process};

use crate::fault;

/// The superuser of clusters that are made by hand, and its password.
pub const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "by hand, by hand";
const START_WITHIN: Duration = Duration::from_secs(60);

/// A directory for clusters that are made by hand. When dropped, everything in it is killed and deleted.
pub struct ByHand {
    directory: tempfile::TempDir,
    /// What is run.
    pub installation: Installation,
    account: Option<(u32, u32)>,
}

/// A server that was started by hand; killed when dropped.
pub struct Server {
    child: Child,
    /// Its data directory.
    pub data: PathBuf,
    /// Its port on the loopback address.
    pub port: u16,
}

impl ByHand {
    /// Finds PostgreSQL as the backend with these options does.
    pub fn new(local: &LocalOptions, major: Option<u32>) -> anyhow::Result<ByHand> {
        let nowhere = PathBuf::from("/nonexistent");
        let downloads = local.download_dir.clone().unwrap_or(nowhere);
        let installation = discover(&local.postgres_dirs, &downloads)
            .into_iter()
            .filter(|(found, _)| major.is_none_or(|major| found.get() == major))
            .map(|(_, installation)| installation)
            .next_back()
            .context("no PostgreSQL of that version on this machine")?;
        let directory = tempfile::Builder::new().prefix("dbaas-by-hand-").tempdir()?;
        std::fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let account = if rustix::process::geteuid().is_root() {
            let names = match local.run_as.as_deref() {
                Some(name) => vec![name],
                None => vec!["postgres", "nobody"],
            };
            Some(lookup(&names).context("no unprivileged user to run PostgreSQL as")?)
        } else {
            None
        };
        Ok(ByHand {
            directory,
            installation,
            account,
        })
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &str) -> anyhow::Result<Command> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let mut command = Command::new(self.installation.bin_dir.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }

    fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Some((uid, gid)) = self.account {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// `initdb` with the backend's own options.
    pub fn initdb(&self, name: &str) -> anyhow::Result<PathBuf> {
        let data = self.path(name);
        let password = self.path("pwfile");
        std::fs::write(&password, PASSWORD)?;
        self.own(&password)?;
        std::fs::DirBuilder::new().create(&data)?;
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        self.own(&data)?;
        let status = self
            .command("initdb")?
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                SUPERUSER,
                "-E",
                "UTF8",
                "--data-checksums",
                "--no-sync",
                "--no-instructions",
            ])
            .args([
                "--auth-host=scram-sha-256",
                "--auth-local=scram-sha-256",
                "--locale=C.UTF-8",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .status()?;
        ensure!(status.success(), "initdb by hand: {status}");
        Ok(data)
    }

    /// A byte copy of a data directory that nobody runs.
    pub fn copy(&self, from: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.path(name);
        let status = Command::new("cp").arg("-a").arg(from).arg(&to).status()?;
        ensure!(status.success(), "cp: {status}");
        Ok(to)
    }

    /// Has everything of its file system written for good.
    pub fn sync(&self) -> anyhow::Result<()> {
        Ok(rustix::fs::syncfs(std::fs::File::open(self.directory.path())?)?)
    }

    /// Adds a file to a data directory.
    pub fn write(&self, data: &Path, name: &str, content: &str) -> anyhow::Result<()> {
        let path = data.join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        self.own(&path)
    }

    /// `postgres -D …` with settings on its command line. Does not wait.
    pub fn start(&self, data: &Path, port: u16, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(data);
        command.args(["-c", &format!("port={port}")]);
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("log_min_messages", "warning"),
        ]
        .iter()
        .chain(settings)
        {
            command.args(["-c", &format!("{name}={value}")]);
        }
        Ok(Server {
            child: command.spawn()?,
            data: data.to_owned(),
            port,
        })
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        fault::kill_everything_under(self.directory.path());
    }
}

impl Server {
    /// How to reach it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    /// A session of the superuser, tried for until the server takes it.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let mut client = Client::new(superuser(vec![self.endpoint()]), patient(Access::Any));
        client.connect(Instant::now() + START_WITHIN).await?;
        Ok(client)
    }

    /// Kills everything of it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        fault::signal_under(&self.data, Signal::KILL);
        self.child.kill()?;
        Ok(())
    }

    /// A fast shutdown, to its end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::INT)?;
        let until = Instant::now() + START_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("the server does not stop");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        fault::kill_everything_under(&self.data);
        // It may not have gone to its data directory yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the superuser connects.
pub fn superuser(hosts: Vec<Endpoint>) -> Target {
    Target {
        hosts,
        database: "postgres".to_owned(),
        user: SUPERUSER.to_owned(),
        password: Secret::new(PASSWORD),
    }
}

/// The password in a connection string of a standby.
pub fn conninfo(primary: &Server, application_name: &str) -> String {
    format!(
        "host=127.0.0.1 port={} user={SUPERUSER} password=''{PASSWORD}'' application_name={application_name}",
        primary.port
    )
}

/// A client that waits for long statements and tries again at once.
pub fn patient(access: Access) -> ClientOptions {
    ClientOptions {
        strategy: ConnectStrategy::Sequential,
        access,
        connect_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(60),
        retry_pause: Duration::from_millis(2),
        silence: None,
        settings: Vec::new(),
    }
}

/// A port of the loopback address that nobody uses now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn lookup(names: &[&str]) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    names.iter().find_map(|name| {
        let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    })
}
