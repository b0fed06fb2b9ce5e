//! The embedded default: a control plane over PostgreSQL processes of this machine, with everything that it keeps in one directory.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let dbaas = dbaas_embedded::open("/var/lib/dbaas".as_ref(), Default::default()).await?;
//! let page = dbaas_controller::request::Page { after: None, limit: 100 };
//! for version in dbaas.control_plane.versions(page).await?.items {
//!     println!("{}", version.record.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The directory holds the store (`dbaas.sqlite`), the key that its secrets are sealed with (`dbaas.key`: keep a copy apart from the
//! store's), a lock, and the nodes. PostgreSQL servers outlive the program: the next [`open`] adopts what runs.

use std::path::Path;
use std::sync::Arc;

use dbaas_backend_local::{LocalBackend, LocalOptions};
use dbaas_controller::ControlPlane;
use dbaas_controller::control_plane::StartError;
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::infrastructure::InfraError;
use dbaas_core::store::StoreError;
use dbaas_sql::PostgresExecutor;
use dbaas_store::{DataDirLock, DataDirLockError, KeyFileError, Sealer, SqliteOptions, SqliteStore};

/// What may be chosen.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedOptions {
    /// How nodes are run.
    pub local: LocalOptions,
    /// How the controller works.
    pub controller: ControllerSettings,
}

/// A control plane and what it was made of.
pub struct Embedded {
    /// What to call.
    pub control_plane: ControlPlane,
    /// The backend, for [`LocalBackend::stop_all`] and the like.
    pub backend: Arc<LocalBackend>,
    // Dropped last: nobody else may use the directory before everything above is gone.
    _lock: DataDirLock,
}

/// Why it did not open. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("{} cannot be made", path.display())]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the directory, or it cannot be used.
    #[error("the data directory cannot be used")]
    Lock(#[source] DataDirLockError),
    /// The key of the sealed secrets.
    #[error("the key file cannot be used")]
    Key(#[source] KeyFileError),
    /// The store.
    #[error("the store cannot be used")]
    Store(#[source] StoreError),
    /// PostgreSQL, or the place for its data.
    #[error("PostgreSQL cannot be run on this machine")]
    Backend(#[source] InfraError),
    /// The control plane.
    #[error("the control plane did not start")]
    Start(#[source] StartError),
}

/// Opens a directory, making it if it is not there, and starts the control plane over it. Must be called within a tokio runtime. Fetches
/// PostgreSQL if this machine has none and the options allow it.
pub async fn open(directory: &Path, options: EmbeddedOptions) -> Result<Embedded, OpenError> {
    std::fs::create_dir_all(directory).map_err(|source| OpenError::Directory {
        path: directory.to_owned(),
        source,
    })?;
    let lock = DataDirLock::acquire(directory).map_err(OpenError::Lock)?;
    let store_path = directory.join("dbaas.sqlite");
    let sealer = Sealer::beside_store(&directory.join("dbaas.key"), &store_path).map_err(OpenError::Key)?;
    let store = SqliteStore::open(&store_path, SqliteOptions::default()).map_err(OpenError::Store)?;
    let backend = LocalBackend::open(directory, options.local).map_err(OpenError::Backend)?;
    let progress = Arc::new(|what: &str, step| tracing::info!(version = what, ?step, "this machine has no PostgreSQL; fetching one"));
    backend.ensure_any(progress).await.map_err(OpenError::Backend)?;
    let backend = Arc::new(backend);
    let mut settings = options.controller;
    // The directory's lock says that no other controller is alive: a lease that one left behind is taken over at once.
    settings.lease_holder.get_or_insert_with(|| "embedded".to_owned());
    let control_plane = ControlPlane::builder()
        .infrastructure(Arc::clone(&backend) as _)
        .sql(Arc::new(PostgresExecutor::default()))
        .store(Arc::new(store))
        .sealer(Arc::new(sealer))
        .settings(settings)
        .start()
        .await
        .map_err(OpenError::Start)?;
    Ok(Embedded {
        control_plane,
        backend,
        _lock: lock,
    })
}
