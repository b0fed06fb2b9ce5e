//! What all calls share, opened and closed as a whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::config::HbaRules;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef, PowerState};
use parking_lot::Mutex;

use crate::LocalOptions;
use crate::account::Account;
use crate::adopt::exit_unseen;
use crate::cgroup::Cgroups;
use crate::changes::Changes;
use crate::clients::hba_rules;
use crate::errors::io_error;
use crate::files;
use crate::installed::Installed;
use crate::node::{Node, Record, Wanted};
use crate::nodes::Nodes;
use crate::pool::Pool;
use crate::process::Process;
use crate::server::settle;
use crate::watch::Watch;

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: LocalOptions,
    /// Who may connect; worked out once, as it may ask for the address of a name.
    pub(crate) hba: HbaRules,
    pub(crate) account: Account,
    pub(crate) cgroups: Cgroups,
    pub(crate) pool: Arc<Pool>,
    pub(crate) installed: Installed,
    pub(crate) nodes: Nodes,
    pub(crate) changes: Changes,
    /// Chosen for a node that is not written down yet.
    pub(crate) reserved_ports: Mutex<BTreeSet<u16>>,
    watch: Arc<Watch>,
    closed: AtomicBool,
}

impl Inner {
    /// Reads what is there and adopts what runs.
    pub(crate) fn open(
        root: PathBuf,
        options: LocalOptions,
        account: Account,
    ) -> Result<Arc<Inner>, InfraError> {
        let shown = |e: io::Error| io_error(&format!("data directory {}", root.display()), &e);
        for (name, mode) in [("nodes", 0o755), ("trash", 0o700), ("postgresql", 0o755)] {
            files::make_dir(&root.join(name), mode).map_err(shown)?;
        }
        account.check_way_to(&root.join("nodes"))?;
        Process::open(std::process::id()).map_err(|e| {
            let message = format!("the local backend needs Linux 5.4 or newer, for pidfd ({e})");
            InfraError::new(InfraErrorKind::Unsupported, message)
        })?;
        let pool = Pool::new(root.join("pool"), options.warm_pool);
        pool.clean().map_err(shown)?;
        let cgroups = Cgroups::open(options.cgroup.as_deref());
        for (what, why) in cgroups.lacks().each() {
            tracing::info!(why, "{what} is not enforced");
        }
        let inner = Arc::new(Inner {
            hba: hba_rules(&options),
            cgroups,
            installed: Installed::discover(&options, &root, &pool),
            nodes: Nodes::load(&root).map_err(|e| io_error("reading the nodes", &e))?,
            changes: Changes::new(),
            options,
            account,
            pool,
            reserved_ports: Mutex::default(),
            watch: Watch::new().map_err(shown)?,
            closed: AtomicBool::new(false),
            root,
        });
        inner
            .begin_watching()
            .map_err(|e| io_error("starting a thread", &e))?;
        Ok(inner)
    }

    fn begin_watching(self: &Arc<Self>) -> io::Result<()> {
        for node in self.nodes.all() {
            let process = node.state.lock().process.clone();
            if let Some(process) = process {
                self.watch(&node, &process);
                self.hold_adopted(&node, process.pid());
            }
        }
        let (watch, weak) = (Arc::clone(&self.watch), Arc::downgrade(self));
        std::thread::Builder::new()
            .name("dbaas-watch".into())
            .spawn(move || watch.run(&weak))?;
        let (pool, weak) = (Arc::clone(&self.pool), Arc::downgrade(self));
        std::thread::Builder::new()
            .name("dbaas-pool".into())
            .spawn(move || pool.keep_filled(&weak))?;
        let trash = self.trash();
        std::thread::Builder::new()
            .name("dbaas-trash".into())
            .spawn(move || empty_trash(&trash))?;
        Ok(())
    }

    /// The limits of a server that an earlier process started: that one may have known of no cgroup.
    fn hold_adopted(&self, node: &Node, pid: u32) {
        let resources = node.state.lock().record.as_ref().map(|r| r.spec.resources);
        let Some(resources) = resources else { return };
        let held = self.cgroups.limit(node.id.node, resources);
        if let Err(e) = held.and_then(|()| self.cgroups.place(node.id.node, node.dir.path(), pid)) {
            tracing::warn!(node = %node.id.node, error = %e, "the limits of an adopted server are not held until its next start");
        }
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Moves a tree to the trash and deletes it there in the background.
    pub(crate) fn discard_later(&self, path: &Path) -> io::Result<()> {
        let Some(gone) = files::to_trash(path, &self.trash())? else {
            return Ok(());
        };
        let delete = move || {
            if let Err(e) = files::remove_tree_if_there(&gone) {
                tracing::warn!(path = %gone.display(), error = %e, "cannot empty the trash");
            }
        };
        std::thread::Builder::new()
            .name("dbaas-trash".into())
            .spawn(delete)?;
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Stops everything that works in the background; servers run on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for node in self.nodes.all() {
            // With this lock held nobody is about to start a server: see `launch`.
            let state = node.state.lock();
            if let Some(preparation) = &state.preparing {
                preparation.cancel();
            }
        }
        self.pool.close();
        self.watch.wake_up();
        self.changes.wake();
    }

    /// Whether the node runs, as of now.
    pub(crate) fn power_of(&self, node: &Arc<Node>) -> PowerState {
        let (process, preparing) = {
            let state = node.state.lock();
            (state.process.clone(), state.preparing.is_some() || state.starting)
        };
        if preparing {
            return PowerState::Preparing;
        }
        if let Some(process) = process {
            if process.is_alive() {
                return if process.is_stopped() {
                    PowerState::Frozen
                } else {
                    PowerState::Running
                };
            }
            if let Err(e) = settle(self, node, &process) {
                tracing::error!(node = %node.id.node, error = %e, "a server has ended and left processes behind");
                return PowerState::Running;
            }
        }
        let state = node.state.lock();
        match (&state.process, &state.preparing, &state.exit, &state.record) {
            (Some(_), ..) => PowerState::Running,
            (_, Some(_), ..) => PowerState::Preparing,
            (_, _, Some(exit), _) => PowerState::Exited(exit.clone()),
            (
                ..,
                Some(Record {
                    wanted: Wanted::On, ..
                }),
            ) => PowerState::Exited(exit_unseen(&node.dir)),
            _ => PowerState::Off,
        }
    }

    /// Tells everybody who listens that a node changed.
    pub(crate) fn changed(&self, node: NodeRef) {
        if !self.is_closed() {
            self.changes.tell(node);
        }
        self.changes.wake();
    }

    /// The end of a server is told from now on.
    pub(crate) fn watch(&self, node: &Arc<Node>, process: &Arc<Process>) {
        if let Err(e) = self.watch.add(node, process) {
            tracing::error!(node = %node.id.node, error = %e, "the end of a server will be seen late");
        }
    }
}

fn empty_trash(trash: &Path) {
    let Ok(entries) = fs::read_dir(trash) else { return };
    for entry in entries.flatten() {
        if let Err(e) = files::remove_tree_if_there(&entry.path()) {
            tracing::warn!(path = %entry.path().display(), error = %e, "cannot empty the trash");
        }
    }
}

/// The lock that keeps two backends from working on one data directory. Free again when it is dropped.
pub(crate) fn lock(root: &Path) -> Result<File, InfraError> {
    let path = root.join("local.lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| io_error(&path.display().to_string(), &e))?;
    // A child that is being started holds a copy for a moment.
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!(
                    "the data directory {} is in use by another process",
                    root.display()
                );
                return Err(InfraError::new(InfraErrorKind::Collision, message));
            }
            Err(e) => return Err(io_error(&path.display().to_string(), &e.into())),
        }
    }
}
