//! [`Stack`]: a control plane over real PostgreSQL in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use dbaas_backend_local::{LocalOptions, WarmPool};
use dbaas_controller::ControlPlane;
use dbaas_controller::request::Page;
use dbaas_core::id::VersionId;
use dbaas_core::version::PostgresMajor;
use dbaas_embedded::{Embedded, EmbeddedOptions};
use tokio::sync::{Mutex, MutexGuard};

use crate::fault;

/// How a [`Stack`] is made.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Data directories made ahead; none unless asked for, so that a test measures and sees only its own.
    pub warm_pool: Option<WarmPool>,
    /// Everything else.
    pub embedded: EmbeddedOptions,
}

/// Clusters of several tests at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A control plane in a directory of its own. When dropped, every process that it started is killed and the directory deleted (kept with
/// `DBAAS_E2E_KEEP=1`, for the servers' logs).
pub struct Stack {
    directory: tempfile::TempDir,
    options: EmbeddedOptions,
    embedded: Option<Embedded>,
    _turn: MutexGuard<'static, ()>,
}

impl Stack {
    /// Starts one. `None`, loudly, where this machine has no PostgreSQL and nothing demands one (`DBAAS_REQUIRE_POSTGRES=1`).
    pub async fn start() -> anyhow::Result<Option<Stack>> {
        Self::start_with(StackOptions::default()).await
    }

    /// Starts one with options.
    pub async fn start_with(options: StackOptions) -> anyhow::Result<Option<Stack>> {
        let turn = ONE_AT_A_TIME.lock().await;
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
        let mut stack = Stack {
            directory,
            options: embedded,
            embedded: None,
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
        let embedded = dbaas_embedded::open(self.directory.path(), self.options.clone()).await?;
        self.embedded = Some(embedded);
        Ok(())
    }

    /// Makes sure of a major and adds it to the catalogue.
    pub async fn ensure_major(&mut self, major: u32) -> anyhow::Result<()> {
        let progress = std::sync::Arc::new(|_: &str, _| {});
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
        if let Some(embedded) = self.embedded.take() {
            embedded.control_plane.shutdown(Duration::from_secs(5)).await;
        }
    }

    /// Ends the control plane between two awaits, wherever it is: as near to `kill -9` as one process can do to a part of itself. What is
    /// in flight is lost; nothing is given back.
    pub fn crash(&mut self) {
        self.embedded = None;
    }

    /// The control plane.
    pub fn plane(&self) -> anyhow::Result<&ControlPlane> {
        Ok(&self.embedded()?.control_plane)
    }

    /// The control plane with its parts.
    pub fn embedded(&self) -> anyhow::Result<&Embedded> {
        self.embedded.as_ref().context("the control plane is closed")
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
        let versions = self
            .plane()?
            .versions(Page {
                after: None,
                limit: 100,
            })
            .await?
            .items;
        versions
            .iter()
            .map(|v| &v.record)
            .filter(|v| major.is_none_or(|major| v.image.major().is_some_and(|m| m.get() == major)))
            .max_by_key(|v| v.image.major())
            .map(|v| v.id)
            .with_context(|| format!("no PostgreSQL {major:?} in the catalogue"))
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
        self.embedded = None;
        let left = fault::kill_everything_under(self.directory.path());
        if std::env::var_os("DBAAS_E2E_KEEP").is_some() {
            // To read the servers' logs afterwards.
            self.directory.disable_cleanup(true);
        }
        if left > 0 && !std::thread::panicking() {
            tracing::debug!(left, "killed the processes that were left");
        }
    }
}
