//! Makes a node's data directory what its [`Prepare`] says, on a thread of its own. Everything is crash-safe
//! by one mark: a directory that a preparation has touched and not finished is [`DataState::Incomplete`] and
//! never started.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRecipe, Prepare, ReplicationSource};
use dbaas_core::boot_output::{first_error, preparation_failure, rewind_added_wal, rewind_failure};
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{DataState, Exit, ExitReason, NodeRef, PowerState};
use dbaas_core::secret::Secret;

use crate::backend::Inner;
use crate::command::{self, ToolFailure};
use crate::discovery::Installation;
use crate::files::{self, Durability};
use crate::initdb::{InitPlace, initdb};
use crate::node::{Node, Preparation, PrepareKind};
use crate::priority;

/// A terabyte at 50 MB/s takes six hours. A source that is gone is noticed by TCP much earlier.
const COPY_AT_MOST: Duration = Duration::from_secs(24 * 3600);
/// How long a seed waits for a source that nobody starts.
const SEED_AT_MOST: Duration = Duration::from_secs(60);

/// Why a preparation did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Cancelled,
    Exit(Exit),
}

impl Failure {
    pub(crate) fn new(reason: ExitReason, message: impl Into<String>) -> Self {
        Failure::Exit(Exit {
            reason,
            message: message.into(),
        })
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        let reason = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExitReason::DiskFull,
            io::ErrorKind::Interrupted => return Failure::Cancelled,
            _ => ExitReason::PreparationFailed,
        };
        Failure::new(reason, e.to_string())
    }
}

impl PrepareKind {
    pub(crate) fn of(prepare: &Prepare) -> Self {
        match prepare {
            Prepare::Existing => PrepareKind::Existing,
            Prepare::Init { .. } => PrepareKind::Init,
            Prepare::SeedOf { .. } => PrepareKind::SeedOf,
            Prepare::BaseBackup { .. } => PrepareKind::BaseBackup,
            Prepare::Rewind { .. } => PrepareKind::Rewind,
        }
    }
}

/// A preparation at work.
pub(crate) struct Work<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) node: &'a Arc<Node>,
    pub(crate) installation: &'a Installation,
    pub(crate) preparation: &'a Preparation,
}

impl Work<'_> {
    pub(crate) fn run(&self, recipe: &BootRecipe) -> Result<(), Failure> {
        // Of one that did not end.
        files::remove_tree_if_there(&self.node.dir.backup())?;
        match &recipe.prepare {
            Prepare::Existing => Ok(()),
            Prepare::Init {
                admin_password,
                seeds,
            } => self.init(admin_password, seeds),
            Prepare::SeedOf { source } => self.await_seed(*source),
            Prepare::BaseBackup { source, slot } => self.base_backup(source, slot),
            Prepare::Rewind { source } => self.rewind(source),
        }
    }

    fn cancelled(&self) -> bool {
        self.preparation.is_cancelled() || self.inner.is_closed()
    }

    fn check(&self) -> Result<(), Failure> {
        if self.cancelled() {
            Err(Failure::Cancelled)
        } else {
            Ok(())
        }
    }

    fn init(&self, admin_password: &Secret, seeds: &[NodeId]) -> Result<(), Failure> {
        let dir = &self.node.dir;
        let seeds: Vec<Arc<Node>> = seeds
            .iter()
            .filter(|id| **id != self.node.id.node)
            .filter_map(|&node| {
                self.inner.nodes.known(NodeRef {
                    instance: self.node.id.instance,
                    node,
                })
            })
            .collect();
        if dir.data_state()? != DataState::Empty {
            dir.mark_incomplete()?;
            self.node.discard_data(&self.inner.trash())?;
        }
        files::remove_tree_if_there(&dir.set())?;
        files::remove_if_there(&dir.bootstrap_password())?;
        self.node.state.lock().bootstrap_password = None;
        match self.inner.pool.take(self.installation, &dir.set()) {
            Some(password) => self.init_from_set(password, &seeds)?,
            None => self.init_fresh(admin_password, &seeds)?,
        }
        self.check()?;
        dir.mark_complete()?;
        self.inner.changes.wake();
        Ok(())
    }

    /// The set lies in the node's own directory already; it is on the disk for good since it was made. No
    /// mark is needed: the data directory appears by rename, and last.
    fn init_from_set(&self, password: Secret, seeds: &[Arc<Node>]) -> Result<(), Failure> {
        let dir = &self.node.dir;
        let set = dir.set();
        let primary = set.join("primary");
        let mut copied = false;
        for (index, seed) in seeds.iter().enumerate() {
            self.check()?;
            let ready = set.join(format!("seed-{index}"));
            if ready.is_dir() {
                self.deliver(&ready, seed, true)?;
            } else {
                self.deliver(&primary, seed, false)?;
                copied = true;
            }
        }
        if copied {
            files::sync_file_system(dir.path())?;
        }
        for seed in seeds {
            self.put_in_place(seed)?;
        }
        self.check()?;
        std::fs::rename(set.join("password"), dir.bootstrap_password())?;
        self.node.state.lock().bootstrap_password = Some(password);
        std::fs::rename(&primary, dir.data())?;
        // Copies that nobody asked for are many files: they are deleted while the server starts.
        self.inner.discard_later(&set)?;
        Ok(())
    }

    fn init_fresh(&self, admin_password: &Secret, seeds: &[Arc<Node>]) -> Result<(), Failure> {
        let dir = &self.node.dir;
        dir.mark_incomplete()?;
        let place = InitPlace {
            work_dir: dir.path(),
            data: &dir.data(),
            private: &dir.run(),
            log: &dir.log(),
        };
        let made = priority::behind_what_serves(|| self.make_data(&place, admin_password));
        if let Some(password) = made.unwrap_or(Err(Failure::Cancelled))? {
            let path = dir.bootstrap_password();
            files::write(&path, password.expose().as_bytes(), None, Durability::Process)?;
            self.node.state.lock().bootstrap_password = Some(password);
        }
        std::thread::scope(|scope| {
            let copies: Vec<_> = seeds
                .iter()
                .map(|seed| scope.spawn(|| self.deliver(&dir.data(), seed, false)))
                .collect();
            copies
                .into_iter()
                .try_for_each(|copy| copy.join().unwrap_or(Err(Failure::Cancelled)))
        })?;
        self.check()?;
        files::sync_file_system(dir.path())?;
        seeds.iter().try_for_each(|seed| self.put_in_place(seed))
    }

    /// A copy of the template, with the superuser's password that it has, or what `initdb` makes, with the
    /// one that was asked for.
    fn make_data(&self, place: &InitPlace<'_>, admin_password: &Secret) -> Result<Option<Secret>, Failure> {
        let (inner, installation, mark) = (self.inner, self.installation, self.mark());
        let cancelled = || self.cancelled();
        if let Some(template) = inner.pool.template(installation)
            && let Some(password) =
                (inner.pool).copy(inner, installation, &mark, &template, place, &cancelled)?
        {
            return Ok(Some(password));
        }
        initdb(inner, installation, &mark, place, admin_password, &cancelled)?;
        Ok(None)
    }

    /// Brings a copy into the seed's directory, not yet in its place.
    fn deliver(&self, from: &Path, seed: &Node, moves: bool) -> Result<(), Failure> {
        let arriving = seed.dir.arriving();
        files::remove_tree_if_there(&arriving)?;
        if moves {
            std::fs::rename(from, &arriving)?;
        } else {
            files::copy_tree(from, &arriving, &self.inner.account, &|| self.cancelled())?;
        }
        Ok(())
    }

    /// Makes the copy the seed's data directory, unless that has been started already.
    fn put_in_place(&self, seed: &Node) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(10);
        // Not the blocking lock: two preparations must never wait for each other for ever.
        let _guard = loop {
            if let Ok(guard) = Arc::clone(&seed.op).try_lock_owned() {
                break guard;
            }
            self.check()?;
            if Instant::now() >= deadline {
                tracing::warn!(node = %seed.id.node, "busy: gets no seed copy");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.check()?;
        let usable = {
            let state = seed.state.lock();
            state.record.is_some() && state.process.is_none()
        };
        let arriving = seed.dir.arriving();
        let in_use = seed.dir.data_state()? == DataState::Initialised && seed.dir.ever_started()?;
        if !usable || in_use {
            tracing::warn!(node = %seed.id.node, "has data of its own: gets no seed copy");
            files::remove_tree_if_there(&arriving)?;
            return Ok(());
        }
        seed.discard_data(&self.inner.trash())?;
        std::fs::rename(&arriving, seed.dir.data())?;
        files::remove_if_there(&seed.dir.incomplete())?;
        // The directory reaches the disk when the seed is started; lost before that, there is none.
        Ok(())
    }

    fn await_seed(&self, source: NodeId) -> Result<(), Failure> {
        let deadline = Instant::now() + SEED_AT_MOST;
        let source = NodeRef {
            instance: self.node.id.instance,
            node: source,
        };
        loop {
            self.check()?;
            let seen = self.inner.changes.ticket();
            let Some(from) = self.inner.nodes.known(source) else {
                return Err(Failure::new(
                    ExitReason::SeedGone,
                    format!("its source {} does not exist", source.node),
                ));
            };
            let source_ready = from.dir.data_state()? == DataState::Initialised;
            let here = self.node.dir.data_state()? == DataState::Initialised;
            let power = self.inner.power_of(&from);
            // The source places its copies before it counts as ready: what is not here by then does not come.
            if source_ready && here {
                return Ok(());
            }
            if source_ready && power != PowerState::Preparing {
                let message = format!(
                    "its source {} has a data directory already and left no copy",
                    source.node
                );
                return Err(Failure::new(ExitReason::SeedGone, message));
            }
            if power != PowerState::Preparing && Instant::now() >= deadline {
                let message = format!(
                    "its source {} was not started within {} s",
                    source.node,
                    SEED_AT_MOST.as_secs()
                );
                return Err(Failure::new(ExitReason::SeedGone, message));
            }
            self.inner.changes.wait_after(seen, Duration::from_millis(100));
        }
    }

    fn base_backup(&self, source: &ReplicationSource, slot: &str) -> Result<(), Failure> {
        let dir = &self.node.dir;
        let backup = dir.backup();
        files::make_dir(&backup, 0o700)?;
        self.inner.account.own(&backup)?;
        let passfile = PassFile::write(self.inner, &dir.run(), source)?;
        let mut command = self.command("pg_basebackup")?;
        command
            .env("PGPASSFILE", &passfile.0)
            .arg("-D")
            .arg(&backup)
            .args([
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "--no-manifest",
                "-S",
                slot,
                "-d",
            ])
            .arg(source.conninfo(None));
        // What is there is given up as soon as the source sends, so that there is room for no more than one
        // copy; and not before, as it may be the last one.
        let mut given_up = OnceCell::new();
        let looking = || {
            if given_up.get().is_none() && files::has_entries(&backup) {
                let _ = given_up.set(self.give_up_data());
            }
            self.cancelled() || matches!(given_up.get(), Some(Err(_)))
        };
        let result = self.run_tool_watched("pg_basebackup", command, &preparation_failure, &looking);
        drop(passfile);
        match given_up.take() {
            Some(Err(error)) => return Err(error),
            Some(Ok(())) => result?,
            None => {
                result?;
                self.give_up_data()?;
            }
        }
        std::fs::rename(&backup, dir.data())?;
        files::sync_file_system(dir.path())?;
        self.check()?;
        dir.mark_complete()?;
        Ok(())
    }

    /// Removes the data, marked as incomplete from now on.
    fn give_up_data(&self) -> Result<(), Failure> {
        let dir = &self.node.dir;
        dir.mark_incomplete()?;
        self.node.discard_data(&self.inner.trash())?;
        files::remove_if_there(&dir.bootstrap_password())?;
        self.node.state.lock().bootstrap_password = None;
        Ok(())
    }

    fn rewind(&self, source: &ReplicationSource) -> Result<(), Failure> {
        let dir = &self.node.dir;
        let data = dir.data();
        dir.mark_incomplete()?;
        // The node is off. What is left of its last life would make the single-user server that pg_rewind
        // needs refuse to recover.
        for name in ["postmaster.pid", "standby.signal", "recovery.signal"] {
            files::remove_if_there(&data.join(name))?;
        }
        let passfile = PassFile::write(self.inner, &dir.run(), source)?;
        let mut command = self.command("pg_rewind")?;
        command
            .env("PGPASSFILE", &passfile.0)
            .arg("-D")
            .arg(&data)
            .arg("--no-sync")
            .arg("--source-server")
            .arg(source.conninfo(Some("postgres")));
        let before = files::length(&dir.log());
        let result = self.run_tool("pg_rewind", command, &rewind_failure);
        drop(passfile);
        if result.is_ok() && rewind_added_wal(&files::appended_since(&dir.log(), before)) {
            return Err(Failure::new(
                ExitReason::CannotRewind,
                "pg_rewind: there was nothing to rewind, but the recovery before it has written WAL that the primary does not have",
            ));
        }
        if let Err(Failure::Exit(exit)) = &result {
            // It connects before it touches anything: then the data is as whole as it was.
            if exit.reason == ExitReason::PreparationFailed && exit.message.contains("connection to server") {
                dir.mark_complete()?;
            }
        }
        result?;
        self.drop_slots(&data)?;
        files::sync_file_system(dir.path())?;
        self.check()?;
        dir.mark_complete()?;
        Ok(())
    }

    /// Slots of the node's life as a primary would keep WAL for standbys that follow another one now.
    fn drop_slots(&self, data: &Path) -> Result<(), Failure> {
        let entries = match std::fs::read_dir(data.join("pg_replslot")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn mark(&self) -> String {
        mark_of(self.node.id)
    }

    fn command(&self, program: &str) -> Result<std::process::Command, Failure> {
        let dir = &self.node.dir;
        let path = self.installation.program(program);
        Ok(command::prepare(
            &path,
            &self.inner.account,
            &self.mark(),
            dir.path(),
            &dir.log(),
        )?)
    }

    fn run_tool(
        &self,
        name: &str,
        command: std::process::Command,
        reason_of: &dyn Fn(&str) -> ExitReason,
    ) -> Result<(), Failure> {
        self.run_tool_watched(name, command, reason_of, &|| self.cancelled())
    }

    /// The same with something to look at now and then; `true` ends it.
    fn run_tool_watched(
        &self,
        name: &str,
        command: std::process::Command,
        reason_of: &dyn Fn(&str) -> ExitReason,
        ends: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let dir = &self.node.dir;
        let result = command::run(command, dir.path(), &dir.log(), COPY_AT_MOST, ends);
        result.map_err(|failure| tool_failure(name, failure, reason_of))
    }
}

/// The value of the mark in the environment of a node's processes.
pub(crate) fn mark_of(node: NodeRef) -> String {
    format!("{}/{}", node.instance, node.node)
}

pub(crate) fn tool_failure(
    name: &str,
    failure: ToolFailure,
    reason_of: &dyn Fn(&str) -> ExitReason,
) -> Failure {
    match failure {
        ToolFailure::Cancelled => Failure::Cancelled,
        ToolFailure::Io(e) => Failure::new(ExitReason::PreparationFailed, format!("{name}: {e}")),
        ToolFailure::Failed { ending, output } => Failure::new(
            reason_of(&output),
            format!("{name}: {ending}: {}", first_error(&output)),
        ),
    }
}

/// A password file (libpq, "The Password File") that is gone when this is dropped.
struct PassFile(PathBuf);

impl PassFile {
    fn write(inner: &Inner, dir: &Path, source: &ReplicationSource) -> io::Result<PassFile> {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let password = source.password.expose();
        if password.contains(['\n', '\r', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the replication password holds a line break",
            ));
        }
        let line = Secret::new(format!("*:*:*:{}:{}\n", escape(&source.user), escape(password)));
        let path = dir.join("pgpass");
        files::write(
            &path,
            line.expose().as_bytes(),
            Some(&inner.account),
            Durability::Process,
        )?;
        Ok(PassFile(path))
    }
}

impl Drop for PassFile {
    fn drop(&mut self) {
        if let Err(e) = files::remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), error = %e, "a password file stays behind");
        }
    }
}
