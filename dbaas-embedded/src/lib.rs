//! The embedded default: a control plane over PostgreSQL processes of this machine, with everything that it
//! keeps in one directory.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let dbaas = dbaas_embedded::open("/var/lib/dbaas".as_ref(), Default::default()).await?;
//! let page = dbaas_embedded::request::Page { after: None, limit: 100 };
//! for version in dbaas.control_plane.versions(page).await?.items {
//!     println!("{}", version.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The directory holds the store (`dbaas.sqlite`), the key that its secrets are sealed with (`dbaas.key`:
//! keep a copy apart from the store's), a lock, and the nodes. PostgreSQL servers outlive the program: the
//! next [`open`] adopts what runs.
//!
//! Everything that a program needs to call the control plane is here by name, so that it depends on this
//! crate alone: what is asked for ([`request`]) and shown ([`view`]), and the types of their fields. Who
//! brings a backend of his own implements [`infrastructure::Infrastructure`], which is `dbaas_core`'s.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use dbaas_controller::control_plane::StartError;
use dbaas_core::infrastructure::{InfraError, Infrastructure};
use dbaas_core::store::StoreError;
use dbaas_sql::PostgresExecutor;
use dbaas_store::{DataDirLock, DataDirLockError, KeyFileError, Sealer, SqliteOptions, SqliteStore};

pub use dbaas_backend_local::{LocalBackend, LocalOptions};
pub use dbaas_controller::settings::ControllerSettings;
pub use dbaas_controller::{ControlPlane, control_plane, elements, error, request, settings, view};
pub use dbaas_core::{
    access, condition, connection, extension, id, infrastructure, instance, lifecycle, name, node,
    parameters, password, repair, secret, size, store, time, version,
};

/// What may be chosen.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedOptions {
    /// How nodes are run.
    pub local: LocalOptions,
    /// How the controller works.
    pub controller: ControllerSettings,
}

/// A control plane and what it was made of.
pub struct Embedded<B = LocalBackend> {
    /// What to call.
    pub control_plane: ControlPlane,
    /// The backend, for [`LocalBackend::stop_all`] and the like.
    pub backend: Arc<B>,
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
    #[error("PostgreSQL cannot be run there")]
    Backend(#[source] InfraError),
    /// The control plane.
    #[error("the control plane did not start")]
    Start(#[source] StartError),
}

/// Opens a directory, making it if it is not there, and starts the control plane over it. Must be called
/// within a tokio runtime. Fetches PostgreSQL if this machine has none and the options allow it.
pub async fn open(directory: &Path, options: EmbeddedOptions) -> Result<Embedded, OpenError> {
    let local = async {
        let backend = LocalBackend::open(directory, options.local)?;
        let progress = Arc::new(|what: &str, step| {
            tracing::info!(
                version = what,
                ?step,
                "this machine has no PostgreSQL; fetching one"
            )
        });
        backend.ensure_any(progress).await?;
        Ok(backend)
    };
    open_on(directory, local, options.controller).await
}

/// As [`open`], with instances on another backend; the directory holds everything but the nodes. The backend
/// is opened when the directory is this process's.
pub async fn open_on<B: Infrastructure>(
    directory: &Path,
    backend: impl Future<Output = Result<B, InfraError>>,
    mut settings: ControllerSettings,
) -> Result<Embedded<B>, OpenError> {
    make_directory(directory)?;
    let lock = DataDirLock::acquire(directory).map_err(OpenError::Lock)?;
    let store_path = directory.join("dbaas.sqlite");
    let sealer = Sealer::beside_store(&directory.join("dbaas.key"), &store_path).map_err(OpenError::Key)?;
    let store = SqliteStore::open(&store_path, SqliteOptions::default()).map_err(OpenError::Store)?;
    let backend = Arc::new(backend.await.map_err(OpenError::Backend)?);
    // The directory's lock says that no other controller is alive: a lease that one left behind is taken over
    // at once.
    settings.lease_holder.get_or_insert_with(|| "embedded".to_owned());
    settings.alone = true;
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

/// A name for the control plane of a directory, made once by chance: what backends mark their nodes with
/// where several control planes may share a place, such as a Docker Engine.
pub fn owner(directory: &Path) -> Result<String, OpenError> {
    make_directory(directory)?;
    let path = directory.join("owner");
    let shown = |source| OpenError::Directory {
        path: path.clone(),
        source,
    };
    let name = uuid::Uuid::new_v4().to_string();
    let new = write_beside(&path, &name).map_err(shown)?;
    // Whoever is first decides; the file appears whole.
    let linked = std::fs::hard_link(&new, &path);
    let _ = std::fs::remove_file(&new);
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(shown(e)),
        _ => {}
    }
    let text = std::fs::read_to_string(&path).map_err(shown)?;
    Ok(text.trim().to_owned())
}

fn write_beside(path: &Path, name: &str) -> std::io::Result<std::path::PathBuf> {
    use std::io::Write as _;
    let new = path.with_extension(name);
    let mut file = std::fs::File::create_new(&new)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    Ok(new)
}

fn make_directory(directory: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Directory {
        path: directory.to_owned(),
        source,
    };
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(failed)?;
    // Passed through by PostgreSQL's user, whatever the umask is; what is secret in it has modes of its own.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).map_err(failed)
}
