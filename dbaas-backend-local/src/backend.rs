//! What all calls share: the nodes, the account, the installations, who is told of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::config::HbaRules;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{
    DataState, Exit, ExitReason, InfraError, InfraErrorKind, InfraEvent, NodeRef, PowerState,
};
use dbaas_core::secret::Secret;
use dbaas_core::version::{ImageRef, PostgresMajor};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::broadcast;

use crate::LocalOptions;
use crate::account::Account;
use crate::cgroup::Cgroups;
use crate::clients::hba_rules;
use crate::discovery::{Installation, Installations, discover_all};
use crate::fetch::{FetchProgress, fetch};
use crate::files;
use crate::node::{FORMAT, Node, NodeDir, Record, StoredProcess, Wanted, read_exit, read_json};
use crate::pool::Pool;
use crate::process::{Process, is_ours, kill_all, working_directories};
use crate::server::{KILL_AT_MOST, settle};
use crate::watch::Watch;

/// An error of the file system, as this crate's callers see it.
pub(crate) fn io_error(what: &str, e: &io::Error) -> InfraError {
    let kind = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => InfraErrorKind::Exhausted,
        io::ErrorKind::TimedOut => InfraErrorKind::OutcomeUnknown,
        _ => InfraErrorKind::Other,
    };
    InfraError::new(kind, format!("{what}: {e}"))
}

pub(crate) fn not_found(node: NodeRef) -> InfraError {
    InfraError::new(
        InfraErrorKind::NotFound,
        format!("there is no node {}", node.node),
    )
}

pub(crate) fn invalid(message: impl Into<String>) -> InfraError {
    InfraError::new(InfraErrorKind::InvalidState, message)
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: LocalOptions,
    /// Who may connect; worked out once, as it may ask for the address of a name.
    pub(crate) hba: HbaRules,
    pub(crate) account: Account,
    pub(crate) cgroups: Cgroups,
    pub(crate) pool: Arc<Pool>,
    /// Chosen for a node that is not written down yet.
    pub(crate) reserved_ports: Mutex<BTreeSet<u16>>,
    nodes: Mutex<BTreeMap<NodeRef, Arc<Node>>>,
    installations: RwLock<Installations>,
    /// One download at a time.
    fetching: Mutex<()>,
    events: broadcast::Sender<InfraEvent>,
    closed: AtomicBool,
    watch: Arc<Watch>,
    waiting: Mutex<u64>,
    waiting_changed: Condvar,
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
        let downloads = options
            .download_dir
            .clone()
            .unwrap_or_else(|| root.join("postgresql"));
        let pool = Pool::new(root.join("pool"), options.warm_pool);
        pool.clean().map_err(shown)?;
        let cgroups = Cgroups::open(options.cgroup.as_deref());
        for (what, why) in cgroups.lacks().each() {
            tracing::info!(why, "{what} is not enforced");
        }
        let inner = Inner {
            hba: hba_rules(&options),
            cgroups,
            installations: RwLock::new(discover_all(&options.postgres_dirs, &downloads)),
            options: LocalOptions {
                download_dir: Some(downloads),
                ..options
            },
            account,
            pool,
            reserved_ports: Mutex::new(BTreeSet::new()),
            nodes: Mutex::new(BTreeMap::new()),
            fetching: Mutex::new(()),
            events: broadcast::channel(1024).0,
            closed: AtomicBool::new(false),
            watch: Watch::new().map_err(shown)?,
            waiting: Mutex::new(0),
            waiting_changed: Condvar::new(),
            root,
        };
        inner.load().map_err(|e| io_error("reading the nodes", &e))?;
        let inner = Arc::new(inner);
        inner
            .begin_watching()
            .map_err(|e| io_error("starting a thread", &e))?;
        Ok(inner)
    }

    fn begin_watching(self: &Arc<Self>) -> io::Result<()> {
        for node in self.nodes() {
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

    fn load(&self) -> io::Result<()> {
        let running = working_directories()?;
        for instance in fs::read_dir(self.root.join("nodes"))? {
            let instance = instance?;
            let Some(instance_id) = instance
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<InstanceId>().ok())
            else {
                continue;
            };
            for node in fs::read_dir(instance.path())? {
                let node = node?;
                let Some(node_id) = node.file_name().to_str().and_then(|n| n.parse::<NodeId>().ok()) else {
                    continue;
                };
                let id = NodeRef {
                    instance: instance_id,
                    node: node_id,
                };
                if let Err(e) = self.load_node(id, &running) {
                    // One broken file must not take every other instance down; `apply` of this node will say
                    // what is wrong.
                    tracing::error!(node = %id.node, error = %e, "cannot read a node, it is left alone");
                }
            }
        }
        Ok(())
    }

    fn load_node(&self, id: NodeRef, running: &[(u32, PathBuf)]) -> io::Result<()> {
        let node = Node::new(&self.root, id);
        let Some(record) = read_json::<Record>(&node.dir.record())? else {
            return Ok(());
        };
        if record.format > FORMAT {
            return Err(io::Error::other(format!(
                "{} was written by a newer program",
                node.dir.record().display()
            )));
        }
        let stored = read_json::<StoredProcess>(&node.dir.process()).unwrap_or_default();
        let process = adopt(&node.dir, stored.as_ref(), running)?;
        if process.is_none() {
            // Children of a server that died while nobody looked, and programs of a preparation that nobody
            // waits for any more.
            kill_all(node.dir.path(), KILL_AT_MOST)?;
        }
        let exit = match (&process, record.wanted) {
            (None, Wanted::On) => Some(read_exit(&node.dir).unwrap_or_else(|| exit_unseen(&node.dir))),
            _ => None,
        };
        let bootstrap_password = match fs::read_to_string(node.dir.bootstrap_password()) {
            Ok(text) => Some(Secret::new(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut state = node.state.lock();
        state.log_from = stored.as_ref().map_or(0, |stored| stored.log_from);
        if let Some(process) = &process {
            tracing::info!(node = %id.node, pid = process.pid(), "adopted a running server");
        }
        state.record = Some(record);
        state.process = process.map(Arc::new);
        state.exit = exit;
        state.bootstrap_password = bootstrap_password;
        state.shared_memory = stored.map(|s| s.shared_memory).unwrap_or_default();
        drop(state);
        self.nodes.lock().insert(id, node);
        Ok(())
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
        for node in self.nodes() {
            // With this lock held nobody is about to start a server: see `launch`.
            let state = node.state.lock();
            if let Some(preparation) = &state.preparing {
                preparation.cancel();
            }
        }
        self.pool.close();
        self.watch.wake_up();
        self.notify_waiting();
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().values().cloned().collect()
    }

    pub(crate) fn nodes_of(&self, instance: InstanceId) -> Vec<Arc<Node>> {
        let first = NodeRef {
            instance,
            node: NodeId::from_uuid(uuid::Uuid::nil()),
        };
        self.nodes
            .lock()
            .range(first..)
            .take_while(|(id, _)| id.instance == instance)
            .map(|(_, n)| Arc::clone(n))
            .collect()
    }

    /// The handle of a node, whether it exists or not: what serialises calls for it.
    pub(crate) fn handle(&self, id: NodeRef) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        Arc::clone(nodes.entry(id).or_insert_with(|| Node::new(&self.root, id)))
    }

    /// Forgets the handle of a node that does not exist, unless another call holds it.
    pub(crate) fn forget(&self, node: &Arc<Node>) {
        let mut nodes = self.nodes.lock();
        // The map's and the caller's.
        if Arc::strong_count(node) <= 2 && node.state.lock().record.is_none() {
            nodes.remove(&node.id);
        }
    }

    /// A node that exists.
    pub(crate) fn known(&self, id: NodeRef) -> Option<Arc<Node>> {
        let node = self.nodes.lock().get(&id).cloned()?;
        let exists = node.state.lock().record.is_some();
        exists.then_some(node)
    }

    pub(crate) fn is_preparing(&self) -> bool {
        self.nodes().iter().any(|n| n.state.lock().preparing.is_some())
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
            // Nobody listening is fine.
            let _ = self.events.send(InfraEvent::NodeChanged(node));
        }
        self.notify_waiting();
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<InfraEvent> {
        self.events.subscribe()
    }

    /// The end of a server is told from now on.
    pub(crate) fn watch(&self, node: &Arc<Node>, process: &Arc<Process>) {
        if let Err(e) = self.watch.add(node, process) {
            tracing::error!(node = %node.id.node, error = %e, "the end of a server will be seen late");
        }
    }

    /// To be taken before looking at what [`Inner::wait_for_others`] is to wait for.
    pub(crate) fn waiting_ticket(&self) -> u64 {
        *self.waiting.lock()
    }

    /// Blocks until something changed after the ticket was taken, at most so long.
    pub(crate) fn wait_for_others(&self, ticket: u64, at_most: Duration) {
        let mut changes = self.waiting.lock();
        if *changes == ticket {
            self.waiting_changed.wait_for(&mut changes, at_most);
        }
    }

    pub(crate) fn notify_waiting(&self) {
        *self.waiting.lock() += 1;
        self.waiting_changed.notify_all();
    }

    /// One PostgreSQL of every major version: what new instances get.
    pub(crate) fn installations(&self) -> BTreeMap<PostgresMajor, Installation> {
        self.installations.read().of_major.clone()
    }

    /// Every PostgreSQL.
    pub(crate) fn every_installation(&self) -> Vec<Installation> {
        self.installations.read().of_version.values().cloned().collect()
    }

    /// Looks at the machine again.
    pub(crate) fn refresh_installations(&self) {
        let found = discover_all(&self.options.postgres_dirs, &self.downloads());
        if *self.installations.read() != found {
            *self.installations.write() = found;
            self.pool.look_again();
        }
    }

    fn downloads(&self) -> PathBuf {
        self.options
            .download_dir
            .clone()
            .unwrap_or_else(|| self.root.join("postgresql"))
    }

    /// The installation that runs an image: its very version if that is here, else what its major version is
    /// served by.
    pub(crate) fn installation_for(&self, image: &ImageRef) -> Result<Installation, InfraError> {
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
        if let Some(found) = find(&self.installations.read()) {
            return Ok(found);
        }
        self.refresh_installations();
        find(&self.installations.read()).ok_or_else(|| {
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
        progress: &FetchProgress,
    ) -> Result<Installation, InfraError> {
        let _one_at_a_time = self.fetching.lock();
        self.refresh_installations();
        if let Some(found) = self.installations.read().of_major.get(&major) {
            return Ok(found.clone());
        }
        if !self.options.allow_download {
            let message = format!(
                "PostgreSQL {major} is not installed and downloads are switched off; install it, for example `apt-get install \
                 postgresql`, or name its directory with --postgres-dir"
            );
            return Err(InfraError::new(InfraErrorKind::ImageUnavailable, message));
        }
        let installation = fetch(major, &self.downloads(), progress)?;
        self.account.check_way_to(&installation.bin_dir)?;
        self.refresh_installations();
        Ok(installation)
    }
}

/// The server of a node that runs already, if it does: by what was written down about it, else by where it
/// works and what PostgreSQL itself wrote down.
fn adopt(
    dir: &NodeDir,
    stored: Option<&StoredProcess>,
    running: &[(u32, PathBuf)],
) -> io::Result<Option<Process>> {
    if dir.data_state()? != DataState::Initialised {
        return Ok(None);
    }
    let data = dir.data();
    let works_there = |pid: u32| running.iter().any(|(p, cwd)| *p == pid && *cwd == data) && is_ours(pid);
    if let Some(stored) = stored
        && let Some(process) = Process::open_same(&stored.id)?
        // A server that was started a moment ago has not gone to its data directory yet.
        && (works_there(stored.id.pid) || running.iter().any(|(p, cwd)| *p == stored.id.pid && cwd == dir.path()))
    {
        return Ok(Some(process));
    }
    // The first line is the postmaster's pid; a single-user server writes a negative one.
    let written = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = written
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok())
    else {
        return Ok(None);
    };
    if !works_there(pid) {
        return Ok(None);
    }
    Ok(Process::open(pid)?.filter(Process::is_alive))
}

/// Why a node is off that should be on, where nobody saw it end.
fn exit_unseen(dir: &NodeDir) -> Exit {
    if matches!(dir.data_state(), Ok(DataState::Incomplete)) {
        let message = "the preparation of its data directory was interrupted: the control plane or the machine was restarted";
        return Exit {
            reason: ExitReason::PreparationFailed,
            message: message.into(),
        };
    }
    let message = "PostgreSQL ended while the control plane was not running: the machine was restarted, or it was killed";
    Exit {
        reason: ExitReason::Died,
        message: message.into(),
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
