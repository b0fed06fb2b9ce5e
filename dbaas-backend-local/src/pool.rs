//! The warm pool: data directories that were made ahead and never served, each with a system identifier of
//! its own, with a spare database for the first tenant's, and with byte copies for the first standbys. An
//! instance then costs a rename and a start, and its first database another rename.
//!
//! ```text
//! <data dir>/pool/<version>/template/{primary/, password}
//! <data dir>/pool/<version>/<set>/{primary/, seed-0/, seed-1/, …, password}
//! ```
//! A set is made under a name that ends in `.new` and is whole when it has lost that ending; so is the
//! template, which `initdb` makes once per version. Sets are [copies](crate::identity) of it, and so is an
//! instance that finds no set: the pool may be small, for it is filled again in a moment. The superuser's
//! password is the template's until the control plane, who alone can read it, replaces it with the instance's
//! own, before anybody else can log in.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dbaas_core::secret::Secret;
use dbaas_core::version::{PostgresMajor, PostgresVersion};
use parking_lot::{Condvar, Mutex};
use rand::RngCore;

use crate::backend::Inner;
use crate::discovery::Installation;
use crate::files::{self, Durability};
use crate::identity;
use crate::initdb::{InitPlace, initdb, make_spare_database};
use crate::prepare::Failure;
use crate::priority;
use crate::process::kill_all;

/// How much is kept ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmPool {
    /// Sets for each version that is the newest of this machine or was used since the start. 0: no pool.
    pub sets: usize,
    /// Copies for standbys in each set.
    pub seeds_per_set: usize,
}

impl Default for WarmPool {
    fn default() -> Self {
        WarmPool {
            sets: 1,
            seeds_per_set: 2,
        }
    }
}

/// After a set was taken, an instance is being created: the pool stays out of its way for so long.
const REFILL_DELAY: Duration = Duration::from_secs(3);
const FIRST_FILL_DELAY: Duration = Duration::from_millis(200);
/// After a failure the next try comes after this.
const RETRY_DELAY: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(600);
const ENDING: &str = ".new";
const TEMPLATE: &str = "template";
/// As [`REFILL_DELAY`], where a set is a copy.
const COPY_DELAY: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct Wants {
    used: BTreeSet<PostgresMajor>,
    not_before: Instant,
    /// Versions whose template gave no copy: `initdb` makes their sets.
    distrusted: BTreeSet<PostgresVersion>,
}

/// The sets that are ready, and the thread that makes more.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    size: WarmPool,
    wants: Mutex<Wants>,
    changed: Condvar,
}

impl Pool {
    pub(crate) fn new(dir: PathBuf, size: WarmPool) -> Arc<Self> {
        let wants = Wants {
            used: BTreeSet::new(),
            not_before: Instant::now() + FIRST_FILL_DELAY,
            distrusted: BTreeSet::new(),
        };
        Arc::new(Pool {
            dir,
            size,
            wants: Mutex::new(wants),
            changed: Condvar::new(),
        })
    }

    /// Removes what an earlier process began and did not finish, and the processes that worked on it.
    pub(crate) fn clean(&self) -> io::Result<()> {
        files::make_dir(&self.dir, 0o755)?;
        kill_all(&self.dir, Duration::from_secs(10))?;
        for version in fs::read_dir(&self.dir)? {
            let version = version?;
            if !version.file_type()?.is_dir() {
                continue;
            }
            for set in fs::read_dir(version.path())? {
                let set = set?;
                if set.file_name().to_string_lossy().ends_with(ENDING) {
                    files::remove_tree_if_there(&set.path())?;
                }
            }
        }
        Ok(())
    }

    fn of(&self, installation: &Installation) -> PathBuf {
        self.dir.join(installation.version.to_string())
    }

    /// The sets of a version that are whole.
    pub(crate) fn ready(&self, installation: &Installation) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.of(installation)) else {
            return Vec::new();
        };
        let is_whole = |path: &Path| !path.ends_with(TEMPLATE) && is_whole(path);
        entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| !p.to_string_lossy().ends_with(ENDING) && is_whole(p))
            .collect()
    }

    /// The template of a version, and the superuser's password in it; `None` where there is none, or none
    /// that can be copied.
    pub(crate) fn template(&self, installation: &Installation) -> Option<Template> {
        let dir = self.of(installation).join(TEMPLATE);
        if !is_whole(&dir) || self.wants.lock().distrusted.contains(&installation.version) {
            return None;
        }
        let password = fs::read_to_string(dir.join("password")).ok()?;
        Some(Template {
            data: dir.join("primary"),
            password: Secret::new(password),
        })
    }

    /// The template of this version gave no copy.
    fn distrust(&self, installation: &Installation) {
        self.wants.lock().distrusted.insert(installation.version);
    }

    /// For how long the pool keeps out of the way of an instance that is being created.
    fn delay(&self, installation: &Installation) -> Duration {
        match self.template(installation) {
            Some(_) => COPY_DELAY,
            None => REFILL_DELAY,
        }
    }

    /// Moves a set to `target` and gives the superuser's password of its directories. `None` if there is
    /// none.
    pub(crate) fn take(&self, installation: &Installation, target: &Path) -> Option<Secret> {
        if self.size.sets == 0 {
            return None;
        }
        let mut taken = None;
        for set in self.ready(installation) {
            // Who renames it has it.
            if fs::rename(&set, target).is_ok() {
                taken = Some(target);
                break;
            }
        }
        let delay = self.delay(installation);
        let mut wants = self.wants.lock();
        wants.used.insert(installation.version.major);
        wants.not_before = Instant::now() + delay;
        drop(wants);
        self.changed.notify_all();
        match fs::read_to_string(taken?.join("password")) {
            Ok(password) => Some(Secret::new(password)),
            Err(e) => {
                tracing::warn!(error = %e, "a set of the warm pool is unusable");
                let _ = files::remove_tree_if_there(target);
                None
            }
        }
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.changed.notify_all();
    }

    /// Fills the pool until the backend is closed. Runs on a thread of its own, at low priority.
    pub(crate) fn keep_filled(self: Arc<Self>, inner: &Weak<Inner>) {
        if self.size.sets == 0 {
            return;
        }
        priority::lower_to(priority::AHEAD_OF_NEED);
        loop {
            let (due, used) = {
                let mut wants = self.wants.lock();
                let now = Instant::now();
                if now < wants.not_before {
                    let until = wants.not_before;
                    self.changed.wait_until(&mut wants, until);
                }
                let due = Instant::now() >= wants.not_before;
                if due {
                    // Nothing to do after this round until somebody takes a set or a version is added.
                    wants.not_before = Instant::now() + IDLE;
                }
                (due, wants.used.clone())
            };
            let Some(inner) = inner.upgrade() else { return };
            if inner.is_closed() {
                return;
            }
            if !due {
                continue;
            }
            let wait = if inner.nodes.are_preparing() {
                let installations = inner.installed.of_major();
                let delays = installations
                    .values()
                    .map(|installation| self.delay(installation));
                delays.min().unwrap_or(REFILL_DELAY)
            } else {
                match self.fill_one(&inner, &used) {
                    Ok(true) => Duration::ZERO,
                    Ok(false) => IDLE,
                    Err(Failure::Cancelled) => return,
                    Err(Failure::Exit(exit)) => {
                        tracing::warn!(reason = %exit.message, "cannot fill the warm pool");
                        RETRY_DELAY
                    }
                }
            };
            drop(inner);
            let mut wants = self.wants.lock();
            wants.not_before = wants.not_before.min(Instant::now() + wait);
        }
    }

    /// Lets the thread look again now: a version was added.
    pub(crate) fn look_again(&self) {
        self.wants.lock().not_before = Instant::now() + FIRST_FILL_DELAY;
        self.changed.notify_all();
    }

    /// Makes the first set that is missing; says whether there was one to make.
    fn fill_one(&self, inner: &Inner, used: &BTreeSet<PostgresMajor>) -> Result<bool, Failure> {
        let installations = inner.installed.of_major();
        let newest = installations.keys().next_back().copied();
        for (major, installation) in &installations {
            let wanted = Some(*major) == newest || used.contains(major);
            if wanted && self.ready(installation).len() < self.size.sets {
                let started = Instant::now();
                self.make(inner, installation)?;
                let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::debug!(version = %installation.version, took_ms, "a set of the warm pool is ready");
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make(&self, inner: &Inner, installation: &Installation) -> Result<(), Failure> {
        let parent = self.of(installation);
        files::make_dir(&parent, 0o755)?;
        let name = if is_whole(&parent.join(TEMPLATE)) {
            uuid::Uuid::new_v4().to_string()
        } else {
            TEMPLATE.to_owned()
        };
        let building = parent.join(format!("{name}{ENDING}"));
        files::remove_tree_if_there(&building)?;
        let result = self.make_in(inner, installation, &building, name == TEMPLATE);
        if result.is_err() {
            let _ = files::remove_tree_if_there(&building);
        }
        result?;
        fs::rename(&building, parent.join(name))?;
        files::sync_dir(&parent)?;
        Ok(())
    }

    fn make_in(
        &self,
        inner: &Inner,
        installation: &Installation,
        building: &Path,
        is_template: bool,
    ) -> Result<(), Failure> {
        let cancelled = || inner.is_closed();
        let private = building.join("run");
        files::make_dir(building, 0o755)?;
        files::make_dir(&private, 0o700)?;
        inner.account.own(&private)?;
        let (primary, log) = (building.join("primary"), building.join("log"));
        let place = InitPlace {
            work_dir: building,
            data: &primary,
            private: &private,
            log: &log,
        };
        let template = self.template(installation).filter(|_| !is_template);
        let copied = match template {
            Some(template) => self.copy(inner, installation, "pool", &template, &place, &cancelled)?,
            None => None,
        };
        let password = match copied {
            Some(password) => password,
            None => {
                let password = new_password();
                initdb(inner, installation, "pool", &place, &password, &cancelled)?;
                make_spare_database(inner, installation, "pool", &place, &cancelled)?;
                password
            }
        };
        let seeds = if is_template { 0 } else { self.size.seeds_per_set };
        for index in 0..seeds {
            files::copy_tree(
                &primary,
                &building.join(format!("seed-{index}")),
                &inner.account,
                &cancelled,
            )?;
        }
        files::write(
            &building.join("password"),
            password.expose().as_bytes(),
            None,
            Durability::Process,
        )?;
        files::sync_file_system(building)?;
        if cancelled() {
            Err(Failure::Cancelled)
        } else {
            Ok(())
        }
    }
}

impl Pool {
    /// Copies the template, and gives the superuser's password of the copy. `None`: `initdb` does it, from
    /// now on.
    pub(crate) fn copy(
        &self,
        inner: &Inner,
        installation: &Installation,
        mark: &str,
        template: &Template,
        place: &InitPlace<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Secret>, Failure> {
        if identity::copy(inner, installation, mark, &template.data, place, cancelled)? {
            return Ok(Some(template.password.clone()));
        }
        self.distrust(installation);
        Ok(None)
    }
}

/// Whether nothing of it is missing.
fn is_whole(set: &Path) -> bool {
    set.join("password").is_file() && set.join("primary").is_dir()
}

/// A data directory that others are copies of.
#[derive(Debug)]
pub(crate) struct Template {
    data: PathBuf,
    password: Secret,
}

/// 256 random bits in hexadecimal.
fn new_password() -> Secret {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
