//! [`Stack`]: a control plane over real PostgreSQL in a directory of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbaas_backend_docker::DockerBackend;
use dbaas_backend_libvirt::LibvirtBackend;
use dbaas_backend_local::{FetchProgress, LocalOptions, WarmPool, discover, fetch};
use dbaas_controller::ControlPlane;
use dbaas_controller::request::Page;
use dbaas_controller::view::Version;
use dbaas_core::config::{Cidr, HbaRules};
use dbaas_core::id::VersionId;
use dbaas_core::version::{PostgresMajor, PostgresVersion};
use dbaas_embedded::{Embedded, EmbeddedOptions};
use tokio::sync::{Mutex, MutexGuard};

use crate::cluster::HEAL;
use crate::docker::DockerPlace;
use crate::fault;
use crate::libvirt::LibvirtPlace;

/// How a [`Stack`] is made.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Data directories made ahead; none unless asked for, so that a test measures and sees only its own.
    pub warm_pool: Option<WarmPool>,
    /// Does not wait until the other stacks of this process have ended.
    pub beside_others: bool,
    /// On Docker: disks of a fixed size, images in this directory.
    pub docker_disks: Option<PathBuf>,
    /// On libvirt: initialised data disks made ahead.
    pub libvirt_warm_sets: usize,
    /// Everything else.
    pub embedded: EmbeddedOptions,
}

/// Clusters of several tests at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A control plane that is open.
enum Running {
    Local(Embedded),
    Docker(Embedded<DockerBackend>),
    Libvirt(Embedded<LibvirtBackend>),
}

/// What nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Processes,
    Containers,
    Machines,
}

impl Running {
    fn plane(&self) -> &ControlPlane {
        match self {
            Running::Local(embedded) => &embedded.control_plane,
            Running::Docker(embedded) => &embedded.control_plane,
            Running::Libvirt(embedded) => &embedded.control_plane,
        }
    }
}

/// A control plane in a directory of its own, with processes of this machine, or containers where
/// `DBAAS_E2E_BACKEND=docker`, or virtual machines where it is `libvirt`. When dropped, every process that it
/// started is killed and the directory deleted (kept with `DBAAS_E2E_KEEP=1`, for the servers' logs).
pub struct Stack {
    directory: tempfile::TempDir,
    options: EmbeddedOptions,
    running: Option<Running>,
    docker: Option<DockerPlace>,
    libvirt: Option<LibvirtPlace>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Stack {
    /// Starts one. `None`, loudly, where this machine has no PostgreSQL and nothing demands one
    /// (`DBAAS_REQUIRE_POSTGRES=1`).
    pub async fn start() -> anyhow::Result<Option<Stack>> {
        Self::start_with(StackOptions::default()).await
    }

    /// Starts one with options.
    pub async fn start_with(options: StackOptions) -> anyhow::Result<Option<Stack>> {
        let nodes = match std::env::var("DBAAS_E2E_BACKEND").as_deref() {
            Ok("docker") => Nodes::Containers,
            Ok("libvirt") => Nodes::Machines,
            _ => Nodes::Processes,
        };
        Self::start_there(options, nodes).await
    }

    /// Starts one with containers on a Docker Engine. `None`, loudly, where there is none and nothing demands
    /// one (`DBAAS_REQUIRE_DOCKER=1`).
    pub async fn start_on_docker() -> anyhow::Result<Option<Stack>> {
        Self::start_on_docker_with(StackOptions::default()).await
    }

    /// The same with options.
    pub async fn start_on_docker_with(options: StackOptions) -> anyhow::Result<Option<Stack>> {
        Self::start_there(options, Nodes::Containers).await
    }

    /// Starts one with virtual machines of a libvirt. `None`, loudly, where there is none and nothing demands
    /// one (`DBAAS_REQUIRE_LIBVIRT=1`).
    pub async fn start_on_libvirt() -> anyhow::Result<Option<Stack>> {
        Self::start_on_libvirt_with(StackOptions::default()).await
    }

    /// The same with options.
    pub async fn start_on_libvirt_with(options: StackOptions) -> anyhow::Result<Option<Stack>> {
        Self::start_there(options, Nodes::Machines).await
    }

    async fn start_there(options: StackOptions, nodes: Nodes) -> anyhow::Result<Option<Stack>> {
        let turn = if options.beside_others {
            None
        } else {
            Some(ONE_AT_A_TIME.lock().await)
        };
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let directory = tempfile::Builder::new().prefix("dbaas-e2e-").tempdir()?;
        // The unprivileged user that PostgreSQL runs as has to get in.
        std::fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let mut embedded = options.embedded;
        embedded.local.warm_pool = options.warm_pool.unwrap_or(WarmPool {
            sets: 0,
            ..WarmPool::default()
        });
        if let Some(dirs) = std::env::var_os("DBAAS_TEST_POSTGRES_DIR") {
            embedded.local.download_dir = Some(PathBuf::from(dirs));
        }
        let required = std::env::var_os("DBAAS_REQUIRE_POSTGRES").is_some_and(|v| v == "1");
        embedded.local.allow_download = required;
        let docker = if nodes == Nodes::Containers {
            let place = DockerPlace::from_env(&dbaas_embedded::owner(directory.path())?)?;
            if place.is_none() {
                tracing::error!(
                    "SKIPPED: no Docker Engine for tests; set DBAAS_DOCKER_HOST, or DBAAS_REQUIRE_DOCKER=1 to fail"
                );
                return Ok(None);
            }
            match options.docker_disks {
                Some(directory) => place.map(|place| place.with_disks(directory)),
                None => place,
            }
        } else {
            None
        };
        let libvirt = if nodes == Nodes::Machines {
            let place = LibvirtPlace::from_env(&dbaas_embedded::owner(directory.path())?)?;
            let Some(place) = place else {
                tracing::error!(
                    "SKIPPED: no libvirt for tests; set DBAAS_LIBVIRT_URI, or DBAAS_REQUIRE_LIBVIRT=1 to fail"
                );
                return Ok(None);
            };
            Some(place.with_warm_pool(options.libvirt_warm_sets))
        } else {
            None
        };
        let mut stack = Stack {
            directory,
            options: embedded,
            running: None,
            docker,
            libvirt,
            _turn: turn,
        };
        match stack.open().await {
            Ok(()) => {
                if let Some(major) = test_major()? {
                    stack.ensure_major(major).await?;
                }
                Ok(Some(stack))
            }
            Err(error) if !required && format!("{error:#}").contains("not installed") => {
                tracing::error!(
                    "SKIPPED: this machine has no PostgreSQL ({error:#}); set DBAAS_REQUIRE_POSTGRES=1 to fail"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the control plane; again after [`Stack::close`] or [`Stack::crash`].
    pub async fn open(&mut self) -> anyhow::Result<()> {
        // What a crash interrupted may hold the directory for a moment, on a busy machine for seconds: it is
        // a part of this process.
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.open_once().await {
                Err(error)
                    if Instant::now() < until
                        && format!("{error:#}").contains("in use by another process") =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                opened => {
                    self.running = Some(opened?);
                    return Ok(());
                }
            }
        }
    }

    async fn open_once(&self) -> anyhow::Result<Running> {
        let directory = self.directory.path();
        let settings = self.options.controller.clone();
        Ok(match (&self.docker, &self.libvirt) {
            (None, None) => Running::Local(dbaas_embedded::open(directory, self.options.clone()).await?),
            (Some(place), _) => {
                let backend = async { DockerBackend::connect(place.options()) };
                Running::Docker(dbaas_embedded::open_on(directory, backend, settings).await?)
            }
            (None, Some(place)) => {
                let backend = async { LibvirtBackend::connect(place.options()) };
                Running::Libvirt(dbaas_embedded::open_on(directory, backend, settings).await?)
            }
        })
    }

    /// Makes sure of a major and adds it to the catalogue.
    pub async fn ensure_major(&mut self, major: u32) -> anyhow::Result<()> {
        if self.docker.is_some() || self.libvirt.is_some() {
            // The engine, or the pool, has its image, or it has not.
            return Ok(());
        }
        let progress = Arc::new(|_: &str, _| {});
        self.embedded()?
            .backend
            .ensure_major(PostgresMajor::new(major)?, progress)
            .await?;
        // The catalogue is filled at the start.
        self.close().await;
        self.open().await
    }

    /// Stops the control plane in an orderly way; PostgreSQL goes on.
    pub async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.plane().shutdown(Duration::from_secs(5)).await;
        }
    }

    /// Ends the control plane between two awaits, wherever it is: as near to `kill -9` as one process can do
    /// to a part of itself. What is in flight is lost; nothing is given back.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// Opens the control plane anew with other networks that clients may come from.
    pub async fn allow_clients(&mut self, clients: Vec<Cidr>) -> anyhow::Result<()> {
        let ours = self.default_clients();
        self.options.controller.hba = Some(HbaRules {
            control: ours.clone(),
            peers: ours,
            clients,
        });
        self.close().await;
        self.open().await
    }

    /// The networks that clients may come from.
    pub fn allowed_clients(&self) -> Vec<Cidr> {
        match &self.options.controller.hba {
            Some(rules) => rules.clients.clone(),
            None => self.default_clients(),
        }
    }

    fn default_clients(&self) -> Vec<Cidr> {
        match self.docker {
            Some(_) => Cidr::everywhere().to_vec(),
            None => Cidr::loopback().to_vec(),
        }
    }

    /// The engine that its nodes run on, if they do.
    pub fn docker(&self) -> Option<&DockerPlace> {
        self.docker.as_ref()
    }

    /// The libvirt that its nodes run on, if they do.
    pub fn libvirt(&self) -> Option<&LibvirtPlace> {
        self.libvirt.as_ref()
    }

    /// How long a cluster may take to become, or become again, as asked for: machines may be emulated.
    pub fn patience(&self) -> Duration {
        match self.libvirt {
            Some(_) => HEAL * 5,
            None => HEAL,
        }
    }

    /// The control plane.
    pub fn plane(&self) -> anyhow::Result<&ControlPlane> {
        let running = self.running.as_ref().context("the control plane is closed")?;
        Ok(running.plane())
    }

    /// The control plane on this machine's processes, with its parts.
    pub fn embedded(&self) -> anyhow::Result<&Embedded> {
        match &self.running {
            Some(Running::Local(embedded)) => Ok(embedded),
            Some(Running::Docker(_) | Running::Libvirt(_)) => {
                anyhow::bail!("the nodes are not this machine's processes")
            }
            None => anyhow::bail!("the control plane is closed"),
        }
    }

    /// How many sets of initialised data disks are ready on its libvirt.
    pub async fn warm_sets_on_libvirt(&self) -> anyhow::Result<usize> {
        match &self.running {
            Some(Running::Libvirt(embedded)) => Ok(embedded.backend.warm_sets().await?),
            _ => anyhow::bail!("the nodes are not on a libvirt"),
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The options that it is opened with.
    pub fn local_options(&self) -> &LocalOptions {
        &self.options.local
    }

    /// The version of the catalogue with this major, or the newest.
    pub async fn version(&self, major: Option<u32>) -> anyhow::Result<VersionId> {
        let major = major.or(test_major()?);
        let versions = self.versions(major).await?;
        let newest = versions.last().map(|(_, record)| record.id);
        newest.with_context(|| format!("no PostgreSQL {major:?} in the catalogue"))
    }

    /// The catalogue's versions of a major, or all of them, the oldest first.
    async fn versions(&self, major: Option<u32>) -> anyhow::Result<Vec<(Option<PostgresVersion>, Version)>> {
        let page = Page {
            after: None,
            limit: 100,
        };
        let found = self.plane()?.versions(page).await?.items;
        let mut versions: Vec<Version> = found.into_iter().collect();
        versions.retain(|v| major.is_none_or(|major| v.image.major().is_some_and(|m| m.get() == major)));
        versions.sort_by_key(|v| (v.image.major(), v.image.version()));
        Ok(versions.into_iter().map(|v| (v.image.version(), v)).collect())
    }

    /// Two minor versions of the major that tests run on, the older first. Where the machine has one, the
    /// other is fetched if that is allowed and there is another to fetch. `None`: there is only one.
    pub async fn two_minors(&mut self) -> anyhow::Result<Option<[Version; 2]>> {
        if let Some(two) = self.newest_two_minors().await? {
            return Ok(Some(two));
        }
        if self.docker.is_some() || self.libvirt.is_some() || !self.options.local.allow_download {
            return Ok(None);
        }
        let Some(major) = self.newest_major().await? else {
            return Ok(None);
        };
        // In a place of their own: what only this stack wants is not to become what everybody's instances
        // get.
        let downloads = self.options.local.download_dir.clone();
        let place = downloads
            .unwrap_or_else(|| self.directory.path().join("postgresql"))
            .join("minors");
        std::fs::create_dir_all(&place)?;
        let fetched = tokio::task::spawn_blocking(move || {
            let quiet: FetchProgress = Arc::new(|_, _| {});
            fetch(major, &place, &quiet)
        });
        let fetched = fetched.await??;
        let local = &mut self.options.local;
        // Where some are named, those that are not do not count.
        let nowhere = PathBuf::from("/nonexistent");
        let here = discover(
            &local.postgres_dirs,
            local.download_dir.as_ref().unwrap_or(&nowhere),
        )
        .remove(&major);
        local.postgres_dirs.extend(
            here.into_iter()
                .chain([fetched])
                .map(|installation| installation.bin_dir),
        );
        self.close().await;
        self.open().await?;
        self.newest_two_minors().await
    }

    async fn newest_major(&self) -> anyhow::Result<Option<PostgresMajor>> {
        let versions = self.versions(test_major()?).await?;
        Ok(versions.last().and_then(|(_, record)| record.image.major()))
    }

    async fn newest_two_minors(&self) -> anyhow::Result<Option<[Version; 2]>> {
        let major = self.newest_major().await?.map(PostgresMajor::get);
        let mut versions = self.versions(major).await?;
        versions.retain(|(exact, _)| exact.is_some());
        let newest = versions.pop().zip(versions.pop());
        Ok(newest.map(|((_, newer), (_, older))| [older, newer]))
    }
}

/// The major that tests run on: `DBAAS_TEST_MAJOR`, else this machine's newest.
fn test_major() -> anyhow::Result<Option<u32>> {
    match std::env::var("DBAAS_TEST_MAJOR") {
        Ok(major) => Ok(Some(major.parse().context("DBAAS_TEST_MAJOR")?)),
        Err(_) => Ok(None),
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.running = None;
        let left = fault::kill_everything_under(self.directory.path());
        crate::attack::disk::unmount_under(self.directory.path());
        fault::release_shared_memory_under(&self.directory.path().join("nodes"));
        if std::env::var_os("DBAAS_E2E_KEEP").is_some() {
            // To read the servers' logs afterwards.
            self.directory.disable_cleanup(true);
        }
        if left > 0 && !std::thread::panicking() {
            tracing::debug!(left, "killed the processes that were left");
        }
    }
}
