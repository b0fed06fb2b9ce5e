//! The PostgreSQLs of this machine: found, looked for again, fetched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use dbaas_core::version::{ImageRef, PostgresMajor};
use parking_lot::{Mutex, RwLock};

use crate::LocalOptions;
use crate::account::Account;
use crate::discovery::{Installation, Installations, discover_all};
use crate::fetch::{FetchProgress, fetch};
use crate::pool::Pool;

pub(crate) struct Installed {
    /// Where is looked first.
    explicit: Vec<PathBuf>,
    downloads: PathBuf,
    allow_download: bool,
    found: RwLock<Installations>,
    /// One download at a time.
    fetching: Mutex<()>,
    /// Told when there is another one.
    pool: Arc<Pool>,
}

impl Installed {
    pub(crate) fn discover(options: &LocalOptions, root: &Path, pool: &Arc<Pool>) -> Installed {
        let downloads = options
            .download_dir
            .clone()
            .unwrap_or_else(|| root.join("postgresql"));
        Installed {
            found: RwLock::new(discover_all(&options.postgres_dirs, &downloads)),
            explicit: options.postgres_dirs.clone(),
            downloads,
            allow_download: options.allow_download,
            fetching: Mutex::new(()),
            pool: Arc::clone(pool),
        }
    }

    /// One PostgreSQL of every major version: what new instances get.
    pub(crate) fn of_major(&self) -> BTreeMap<PostgresMajor, Installation> {
        self.found.read().of_major.clone()
    }

    /// Every PostgreSQL.
    pub(crate) fn every(&self) -> Vec<Installation> {
        self.found.read().of_version.values().cloned().collect()
    }

    /// Looks at the machine again.
    pub(crate) fn refresh(&self) {
        let found = discover_all(&self.explicit, &self.downloads);
        if *self.found.read() != found {
            *self.found.write() = found;
            self.pool.look_again();
        }
    }

    /// The installation that runs an image: its very version if that is here, else what its major version is
    /// served by.
    pub(crate) fn for_image(&self, image: &ImageRef) -> Result<Installation, InfraError> {
        let Some(major) = image.major() else {
            let message = format!(
                "the image {image} names no version of PostgreSQL: its tag must begin with one, as postgres:15.18"
            );
            return Err(InfraError::new(InfraErrorKind::ImageUnavailable, message));
        };
        let find = |installations: &Installations| {
            let exact = image
                .version()
                .and_then(|version| installations.of_version.get(&version));
            exact.or_else(|| installations.of_major.get(&major)).cloned()
        };
        if let Some(found) = find(&self.found.read()) {
            return Ok(found);
        }
        self.refresh();
        find(&self.found.read()).ok_or_else(|| {
            let message = format!(
                "PostgreSQL {major} is not installed on this machine; install it, for example `apt-get install postgresql-{major}`, or \
                 name its directory with --postgres-dir"
            );
            InfraError::new(InfraErrorKind::ImageUnavailable, message)
        })
    }

    /// Fetches a major version, unless it is there. Blocks.
    pub(crate) fn ensure(
        &self,
        major: PostgresMajor,
        account: &Account,
        progress: &FetchProgress,
    ) -> Result<Installation, InfraError> {
        let _one_at_a_time = self.fetching.lock();
        self.refresh();
        if let Some(found) = self.found.read().of_major.get(&major) {
            return Ok(found.clone());
        }
        if !self.allow_download {
            let message = format!(
                "PostgreSQL {major} is not installed and downloads are switched off; install it, for example `apt-get install \
                 postgresql`, or name its directory with --postgres-dir"
            );
            return Err(InfraError::new(InfraErrorKind::ImageUnavailable, message));
        }
        let installation = fetch(major, &self.downloads, progress)?;
        account.check_way_to(&installation.bin_dir)?;
        self.refresh();
        Ok(installation)
    }
}
