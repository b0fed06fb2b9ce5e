//! [`LocalBackend`]: the calls of [`Infrastructure`].

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, BootMark, Capabilities, DataDisposal, DataState, Endpoint, Enforcement, Exit,
    ExitReason, InfraError, InfraErrorKind, InfraEvent, InfraEvents, Infrastructure, NodeRef, NodeSpec,
    ObservedNode, PowerOff, PowerState, Resources,
};
use dbaas_core::version::PostgresMajor;
use futures_util::StreamExt;
use rustix::process::Signal;
use tokio_stream::wrappers::BroadcastStream;

use crate::LocalOptions;
use crate::account::Account;
use crate::backend::{Inner, io_error, lock};
use crate::discovery::Installation;
use crate::fetch::FetchProgress;
use crate::files::{self, Durability};
use crate::node::{
    Boot, FORMAT, Kept, Node, Preparation, PrepareKind, Record, Wanted, epoch_in, read_json, write_exit,
    write_json,
};
use crate::prepare::{Failure, Work};
use crate::process::{find, kill_all};
use crate::server::{KILL_AT_MOST, LaunchFailure, check_files, launch, port_is_free};

/// PostgreSQL nodes as processes of this machine. See the crate's documentation.
///
/// Dropping it stops what it does in the background; servers run on.
pub struct LocalBackend {
    inner: Arc<Inner>,
    _lock: File,
}

impl std::fmt::Debug for LocalBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalBackend")
            .field("root", &self.inner.root)
            .finish_non_exhaustive()
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl LocalBackend {
    /// Opens a data directory, makes it if it is not there, and adopts the servers that run from it.
    ///
    /// # Errors
    /// `Collision` if another process works on the directory; `Unsupported` if PostgreSQL cannot be run there as an unprivileged user.
    pub fn open(data_dir: &Path, options: LocalOptions) -> Result<LocalBackend, InfraError> {
        let shown = |e: io::Error| io_error(&format!("data directory {}", data_dir.display()), &e);
        fs::create_dir_all(data_dir).map_err(shown)?;
        let root = fs::canonicalize(data_dir).map_err(shown)?;
        let account = Account::choose(options.run_as.as_deref())?;
        let lock = lock(&root)?;
        let inner = Inner::open(root, options, account)?;
        Ok(LocalBackend { inner, _lock: lock })
    }

    /// Makes sure that a major version can be run, fetching it if need be.
    ///
    /// # Errors
    /// `ImageUnavailable`, with what to install instead.
    pub async fn ensure_major(
        &self,
        major: PostgresMajor,
        progress: FetchProgress,
    ) -> Result<Installation, InfraError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.ensure(major, &progress)).await
    }

    /// Makes sure that there is a PostgreSQL at all, fetching the newest known if there is none.
    ///
    /// # Errors
    /// `ImageUnavailable`, with what to install instead.
    pub async fn ensure_any(&self, progress: FetchProgress) -> Result<(), InfraError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.refresh_installations();
            if inner.installations().is_empty() {
                inner.ensure(PostgresMajor::NEWEST_KNOWN, &progress)?;
            }
            Ok(())
        })
        .await
    }

    /// Switches every node off, all at the same time: as [`PowerOff::Graceful`] with this deadline.
    ///
    /// # Errors
    /// The first node's that could not be switched off; the others are off nevertheless.
    pub async fn stop_all(&self, deadline: Duration) -> Result<(), InfraError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let nodes = self.list().await?;
        let all = nodes
            .iter()
            .map(|&node| self.power_off(node, PowerOff::Graceful { deadline_ms }));
        futures_util::future::join_all(all).await.into_iter().collect()
    }

    /// How many sets the warm pool holds ready for a major version.
    pub fn pool_ready(&self, major: PostgresMajor) -> usize {
        self.inner
            .installations()
            .get(&major)
            .map_or(0, |i| self.inner.pool.ready(i).len())
    }

    /// Runs one call for a node, alone. It goes on to its end also if the caller stops waiting.
    async fn alone<T: Send + 'static>(
        &self,
        node: Arc<Node>,
        call: impl FnOnce(&Arc<Inner>, &Arc<Node>) -> Result<T, InfraError> + Send + 'static,
    ) -> Result<T, InfraError> {
        let guard = Arc::clone(&node.op).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let result = call(&inner, &node);
            drop(guard);
            inner.forget(&node);
            result
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, InfraError> + Send + 'static,
) -> Result<T, InfraError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(_) => Err(InfraError::new(
            InfraErrorKind::OutcomeUnknown,
            "the call was interrupted",
        )),
    }
}

fn not_found(node: NodeRef) -> InfraError {
    InfraError::new(
        InfraErrorKind::NotFound,
        format!("there is no node {}", node.node),
    )
}

fn invalid(message: impl Into<String>) -> InfraError {
    InfraError::new(InfraErrorKind::InvalidState, message)
}

#[async_trait]
impl Infrastructure for LocalBackend {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cpu: Enforcement::NotEnforced,
            ram: Enforcement::NotEnforced,
            disk: Enforcement::NotEnforced,
            live_resize: true,
            node_events: true,
        }
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        if self.inner.options.allow_download {
            let quiet: FetchProgress = Arc::new(|_, _| {});
            self.ensure_any(quiet).await?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.refresh_installations();
            let found = inner.installations();
            if found.is_empty() {
                let message = "there is no PostgreSQL 14 to 18 on this machine; install one, for example `apt-get install postgresql`, or \
                               name its directory with --postgres-dir";
                return Err(InfraError::new(InfraErrorKind::ImageUnavailable, message));
            }
            let available = found.values().filter_map(|installation| {
                let image = installation.image()?;
                let source = installation.bin_dir.display().to_string();
                Some(AvailableVersion { version: installation.version, image, source })
            });
            Ok(available.collect())
        })
        .await
    }

    async fn observe(&self, instance: InstanceId) -> Result<Vec<ObservedNode>, InfraError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let nodes = inner.nodes_of(instance);
            nodes
                .iter()
                .filter_map(|node| observe(&inner, node).transpose())
                .collect()
        })
        .await
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        let nodes = self.inner.nodes();
        Ok(nodes
            .iter()
            .filter(|n| n.state.lock().record.is_some())
            .map(|n| n.id)
            .collect())
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        self.alone(self.inner.handle(spec.node), move |inner, node| {
            apply(inner, node, spec)
        })
        .await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let node = self.inner.known(node).ok_or_else(|| not_found(node))?;
        let recipe = recipe.clone();
        self.alone(node, move |inner, node| start(inner, node, recipe))
            .await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        let node = self.inner.handle(node);
        if mode == PowerOff::Immediate {
            // A fence does not wait behind a call that takes its time: what runs is killed first, and again when nobody else works
            // on the node.
            let early = Arc::clone(&node);
            blocking(move || {
                cancel_preparation(&early);
                kill_processes(&early)
            })
            .await?;
        }
        self.alone(node, move |inner, node| power_off(inner, node, mode))
            .await
    }

    async fn resize(&self, node: NodeRef, resources: Resources) -> Result<(), InfraError> {
        let node = self.inner.known(node).ok_or_else(|| not_found(node))?;
        self.alone(node, move |_, node| {
            let mut record = node
                .state
                .lock()
                .record
                .clone()
                .ok_or_else(|| not_found(node.id))?;
            if record.spec.resources == resources {
                return Ok(());
            }
            record.spec.resources = resources;
            node.save(record).map_err(|e| io_error("writing node.json", &e))
        })
        .await
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(self.inner.handle(node), move |inner, node| {
            remove(inner, node, data)
        })
        .await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        let node = self.inner.known(node).ok_or_else(|| not_found(node))?;
        blocking(move || files::tail(&node.dir.log(), lines).map_err(|e| io_error("reading the log", &e)))
            .await
    }

    fn events(&self) -> InfraEvents {
        BroadcastStream::new(self.inner.subscribe())
            .map(|event| event.unwrap_or(InfraEvent::Missed))
            .boxed()
    }
}

fn observe(inner: &Inner, node: &Arc<Node>) -> Result<Option<ObservedNode>, InfraError> {
    let power = inner.power_of(node);
    let data = node
        .dir
        .data_state()
        .map_err(|e| io_error("looking at the data directory", &e))?;
    let free = rustix::fs::statvfs(node.dir.path())
        .ok()
        .map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    let state = node.state.lock();
    let Some(record) = &state.record else {
        return Ok(None);
    };
    let listen = inner.options.listen_address;
    let host = match &inner.options.advertise_host {
        Some(host) => host.clone(),
        None if listen.is_unspecified() => "127.0.0.1".to_owned(),
        None => listen.to_string(),
    };
    let endpoint = Endpoint {
        host,
        port: record.port,
    };
    let boot = record
        .boot
        .as_ref()
        .filter(|_| data != DataState::Empty || record.wanted == Wanted::On);
    Ok(Some(ObservedNode {
        node: node.id,
        power,
        data,
        applied: Some(record.spec.clone()),
        peer_endpoint: Some(endpoint.clone()),
        endpoint: Some(endpoint),
        boot: boot.map(|b| BootMark {
            epoch: b.epoch,
            boot_id: b.boot_id.clone(),
        }),
        bootstrap_password: state
            .bootstrap_password
            .clone()
            .filter(|_| data == DataState::Initialised),
        disk_free_bytes: free,
        backend_ref: state.process.as_ref().map(|p| format!("pid {}", p.pid())),
    }))
}

fn apply(inner: &Inner, node: &Node, spec: NodeSpec) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("making the node's directory", &e);
    let installation = inner.installation_for(&spec.image)?;
    check_major(node, &installation)?;
    let known = node.state.lock().record.clone();
    if let Some(record) = known {
        if record.spec != spec {
            node.save(Record { spec, ..record }).map_err(shown)?;
        }
        return Ok(());
    }
    let kept = find_kept(node)?;
    node.make_dirs(&inner.account).map_err(shown)?;
    let _choosing = inner.ports.lock();
    let port = choose_port(inner)?;
    let boot = kept.and_then(|k| k.boot);
    node.save(Record {
        format: FORMAT,
        spec,
        port,
        wanted: Wanted::Off,
        boot,
    })
    .map_err(shown)?;
    files::remove_if_there(&node.dir.kept()).map_err(shown)?;
    let password = fs::read_to_string(node.dir.bootstrap_password()).ok();
    node.state.lock().bootstrap_password = password.map(dbaas_core::secret::Secret::new);
    inner.changed(node.id);
    Ok(())
}

/// Data of an earlier life of the node; an error if the directory is somebody else's.
fn find_kept(node: &Node) -> Result<Option<Kept>, InfraError> {
    let shown = |e: io::Error| InfraError::new(InfraErrorKind::Collision, format!("cannot be read: {e}"));
    let collision = |what: &Path| {
        let message = format!(
            "{} is there and is not a node of this backend; move it away",
            what.display()
        );
        InfraError::new(InfraErrorKind::Collision, message)
    };
    if node.dir.record().exists() {
        return Err(collision(&node.dir.record()));
    }
    if let Some(kept) = read_json::<Kept>(&node.dir.kept()).map_err(shown)? {
        return if kept.format > FORMAT {
            Err(collision(&node.dir.kept()))
        } else {
            Ok(Some(kept))
        };
    }
    let entries = match fs::read_dir(node.dir.path()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(shown(e)),
    };
    for entry in entries.flatten() {
        // What an `apply` that was interrupted leaves.
        if !["run", ".node.json.new"].contains(&entry.file_name().to_string_lossy().as_ref()) {
            return Err(collision(&entry.path()));
        }
    }
    Ok(None)
}

/// A data directory belongs to one major version for ever.
fn check_major(node: &Node, installation: &Installation) -> Result<(), InfraError> {
    let Ok(text) = fs::read_to_string(node.dir.data().join("PG_VERSION")) else {
        return Ok(());
    };
    let there = text.trim();
    let wanted = installation.version.major.to_string();
    if there == wanted || node.dir.incomplete().exists() {
        return Ok(());
    }
    Err(invalid(format!(
        "the node's data directory is of PostgreSQL {there}, not {wanted}; an upgrade is not a restart"
    )))
}

/// A port that no other node has and that nobody listens on. Where the search begins depends on the data directory, so that two of them
/// on one machine seldom meet.
fn choose_port(inner: &Inner) -> Result<u16, InfraError> {
    let taken: std::collections::HashSet<u16> = inner
        .nodes()
        .iter()
        .filter_map(|n| n.state.lock().record.as_ref().map(|r| r.port))
        .collect();
    let ports: Vec<u16> = inner.options.port_range.clone().collect();
    let mut hasher = std::hash::DefaultHasher::new();
    inner.root.hash(&mut hasher);
    let offset = usize::try_from(hasher.finish() % (ports.len().max(1) as u64)).unwrap_or(0) & !0xf;
    let (before, after) = ports.split_at(offset.min(ports.len()));
    let address = inner.options.listen_address;
    after
        .iter()
        .chain(before)
        .copied()
        .find(|port| !taken.contains(port) && port_is_free(address, *port))
        .ok_or_else(|| {
            let range = &inner.options.port_range;
            let message = format!(
                "no port between {} and {} is free on {address}",
                range.start(),
                range.end()
            );
            InfraError::new(InfraErrorKind::Exhausted, message)
        })
}

fn start(inner: &Arc<Inner>, node: &Arc<Node>, recipe: BootRecipe) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("starting the node", &e);
    check_files(&recipe.files)?;
    let power = inner.power_of(node);
    let record = node
        .state
        .lock()
        .record
        .clone()
        .ok_or_else(|| not_found(node.id))?;
    let kept = epoch_in(&node.dir.data()).map_err(shown)?;
    if let Some(newer) = kept
        .max(record.boot.as_ref().map(|b| b.epoch))
        .filter(|e| *e > recipe.epoch)
    {
        let message = format!(
            "the node is at epoch {newer}, a start of epoch {} is stale",
            recipe.epoch
        );
        return Err(InfraError::new(InfraErrorKind::StaleEpoch, message));
    }
    let same_epoch = record.boot.as_ref().is_some_and(|b| b.epoch == recipe.epoch);
    match power {
        PowerState::Preparing | PowerState::Running | PowerState::Frozen if same_epoch => return Ok(()),
        PowerState::Preparing | PowerState::Running | PowerState::Frozen => {
            return Err(invalid(
                "the node runs already, by a recipe of another epoch; switch it off first",
            ));
        }
        PowerState::Off | PowerState::Exited(_) => {}
    }
    kill_all(node.dir.path(), KILL_AT_MOST).map_err(shown)?;
    let installation = inner.installation_for(&record.spec.image)?;
    check_major(node, &installation)?;
    let prepares = needs_preparation(node, &record, &recipe)?;

    let boot = Boot {
        epoch: recipe.epoch,
        boot_id: uuid::Uuid::new_v4().to_string(),
        prepare: PrepareKind::of(&recipe.prepare),
    };
    write_exit(&node.dir, None);
    files::remove_if_there(&node.dir.process()).map_err(shown)?;
    node.save(Record {
        wanted: Wanted::On,
        boot: Some(boot),
        ..record
    })
    .map_err(shown)?;
    node.state.lock().exit = None;
    if prepares {
        begin_preparation(inner, node, installation, recipe)
    } else {
        start_existing(inner, node, &installation, &recipe)
    }
}

/// Whether there is something to do before the server is started; an error if the recipe does not fit what is there.
fn needs_preparation(node: &Node, record: &Record, recipe: &BootRecipe) -> Result<bool, InfraError> {
    let shown = |e: io::Error| io_error("looking at the data directory", &e);
    let data = node.dir.data_state().map_err(shown)?;
    let initialised = data == DataState::Initialised;
    let kind = PrepareKind::of(&recipe.prepare);
    let by_this_start = record
        .boot
        .as_ref()
        .is_some_and(|b| b.epoch == recipe.epoch && b.prepare == kind);
    match &recipe.prepare {
        Prepare::Existing if initialised => Ok(false),
        Prepare::Existing => Err(invalid(format!(
            "there is no complete data directory to start from ({data:?})"
        ))),
        Prepare::Rewind { .. } if initialised => Ok(true),
        Prepare::Rewind { .. } => Err(invalid(format!(
            "there is no complete data directory to rewind ({data:?})"
        ))),
        Prepare::BaseBackup { .. } => Ok(true),
        Prepare::Init { .. } if !initialised => Ok(true),
        Prepare::Init { .. } if by_this_start => Ok(false),
        Prepare::Init { .. } => Err(invalid(
            "the node holds a database cluster already; it is not initialised again",
        )),
        Prepare::SeedOf { .. } if !initialised || !node.dir.ever_started().map_err(shown)? => Ok(true),
        Prepare::SeedOf { .. } if by_this_start => Ok(false),
        Prepare::SeedOf { .. } => Err(invalid("the node holds a database cluster of its own already")),
    }
}

fn start_existing(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: &Installation,
    recipe: &BootRecipe,
) -> Result<(), InfraError> {
    let error = match launch(inner, node, installation, recipe, None) {
        Ok(()) => return Ok(()),
        Err(LaunchFailure::Cancelled) => {
            InfraError::new(InfraErrorKind::Unavailable, "the backend is being closed")
        }
        Err(LaunchFailure::PortTaken(message)) => InfraError::new(InfraErrorKind::Collision, message),
        Err(LaunchFailure::Io(e)) => io_error("starting PostgreSQL", &e),
    };
    let reason = if error.kind() == InfraErrorKind::Exhausted {
        ExitReason::DiskFull
    } else {
        ExitReason::Died
    };
    set_exit(
        inner,
        node,
        Exit {
            reason,
            message: error.to_string(),
        },
    );
    Err(error)
}

fn set_exit(inner: &Inner, node: &Node, exit: Exit) {
    write_exit(&node.dir, Some(&exit));
    {
        let mut state = node.state.lock();
        state.preparing = None;
        state.exit = Some(exit);
    }
    inner.changed(node.id);
}

fn begin_preparation(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: Installation,
    recipe: BootRecipe,
) -> Result<(), InfraError> {
    let preparation = Preparation::new();
    node.state.lock().preparing = Some(Arc::clone(&preparation));
    inner.changed(node.id);
    let (inner_there, node_there, there) = (Arc::clone(inner), Arc::clone(node), Arc::clone(&preparation));
    let thread = std::thread::Builder::new()
        .name("dbaas-prepare".into())
        .spawn(move || {
            prepare_and_launch(&inner_there, &node_there, &installation, &recipe, &there);
            there.set_ended();
        });
    if let Err(e) = thread {
        let message = format!("cannot start a thread: {e}");
        set_exit(
            inner,
            node,
            Exit {
                reason: ExitReason::PreparationFailed,
                message: message.clone(),
            },
        );
        return Err(InfraError::new(InfraErrorKind::Exhausted, message));
    }
    Ok(())
}

fn prepare_and_launch(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: &Installation,
    recipe: &BootRecipe,
    preparation: &Preparation,
) {
    let work = Work {
        inner,
        node,
        installation,
        preparation,
    };
    let result = work.run(recipe).and_then(|()| {
        launch(inner, node, installation, recipe, Some(preparation)).map_err(|failure| match failure {
            LaunchFailure::Cancelled => Failure::Cancelled,
            LaunchFailure::PortTaken(message) => Failure::new(ExitReason::Died, message),
            LaunchFailure::Io(e) => e.into(),
        })
    });
    match result {
        Ok(()) => {}
        Err(_) if inner.is_closed() => {}
        Err(Failure::Cancelled) => {
            let exit = Exit {
                reason: ExitReason::PreparationFailed,
                message: "the preparation was stopped".into(),
            };
            set_exit(inner, node, exit);
        }
        Err(Failure::Exit(exit)) => {
            tracing::warn!(node = %node.id.node, reason = ?exit.reason, message = %exit.message, "a preparation failed");
            set_exit(inner, node, exit);
        }
    }
}

fn cancel_preparation(node: &Node) -> Option<Arc<Preparation>> {
    let state = node.state.lock();
    let preparation = state.preparing.clone()?;
    preparation.cancel();
    Some(preparation)
}

/// Kills the server first, so that it starts no more children, then everything else of the node.
fn kill_processes(node: &Node) -> Result<(), InfraError> {
    let process = node.state.lock().process.clone();
    if let Some(process) = &process {
        process
            .signal(Signal::KILL)
            .map_err(|e| io_error("killing the server", &e))?;
    }
    kill_all(node.dir.path(), KILL_AT_MOST).map_err(|e| io_error("killing the node's processes", &e))?;
    match &process {
        // It may not have gone to its directory yet.
        Some(process) if !process.wait_until(KILL_AT_MOST) => {
            let message = format!(
                "the server (pid {}) does not end, although it was killed",
                process.pid()
            );
            Err(InfraError::new(InfraErrorKind::OutcomeUnknown, message))
        }
        _ => Ok(()),
    }
}

fn power_off(inner: &Arc<Inner>, node: &Arc<Node>, mode: PowerOff) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("switching the node off", &e);
    inner.notify_waiting();
    if let Some(preparation) = cancel_preparation(node) {
        inner.notify_waiting();
        let deadline = Instant::now() + KILL_AT_MOST;
        while !preparation.wait_ended(Duration::from_millis(20)) {
            kill_all(node.dir.path(), KILL_AT_MOST).map_err(shown)?;
            if Instant::now() >= deadline {
                let message = "the preparation does not stop; try again";
                return Err(InfraError::new(InfraErrorKind::OutcomeUnknown, message));
            }
        }
    }
    let process = node.state.lock().process.clone();
    if let (Some(process), PowerOff::Graceful { deadline_ms }) = (&process, mode)
        // A frozen server does not answer to anything but being killed.
        && !process.is_stopped()
    {
        process.signal(Signal::INT).map_err(shown)?;
        process.wait_until(Duration::from_millis(deadline_ms.into()));
    }
    kill_processes(node)?;
    if let Some(process) = &process {
        process.reap();
    }
    let record = {
        let mut state = node.state.lock();
        state.process = None;
        state.preparing = None;
        state.exit = None;
        state.seen_frozen = false;
        state.record.clone()
    };
    write_exit(&node.dir, None);
    if let Some(record) = record
        && record.wanted != Wanted::Off
    {
        node.save(Record {
            wanted: Wanted::Off,
            ..record
        })
        .map_err(shown)?;
        inner.changed(node.id);
    }
    Ok(())
}

fn remove(inner: &Arc<Inner>, node: &Arc<Node>, disposal: DataDisposal) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("removing the node", &e);
    let record = node.state.lock().record.clone();
    let Some(record) = record else {
        // Removed already, and its data kept then; or never ours.
        if disposal == DataDisposal::Delete && node.dir.kept().exists() {
            delete_dir(inner, node).map_err(shown)?;
        }
        return Ok(());
    };
    match inner.power_of(node) {
        PowerState::Off | PowerState::Exited(_) => {}
        _ => return Err(invalid("the node runs; switch it off before it is removed")),
    }
    if !find(node.dir.path()).map_err(shown)?.is_empty() {
        return Err(invalid(
            "processes run in the node's directory; switch it off before it is removed",
        ));
    }
    match disposal {
        DataDisposal::Keep => {
            write_json(
                &node.dir.kept(),
                &Kept {
                    format: FORMAT,
                    boot: record.boot,
                },
                Durability::Disk,
            )
            .map_err(shown)?;
            for path in [node.dir.record(), node.dir.process(), node.dir.exit()] {
                files::remove_if_there(&path).map_err(shown)?;
            }
            files::sync_dir(node.dir.path()).map_err(shown)?;
        }
        DataDisposal::Delete => delete_dir(inner, node).map_err(shown)?,
    }
    *node.state.lock() = crate::node::State::default();
    inner.changed(node.id);
    Ok(())
}

/// How long `remove` waits for the files of a node to be deleted; the rest goes on without it.
const DELETE_AT_MOST: Duration = Duration::from_secs(10);

fn delete_dir(inner: &Inner, node: &Node) -> io::Result<()> {
    crate::shared_memory::release(node);
    let Some(gone) = files::to_trash(node.dir.path(), &inner.trash())? else {
        return Ok(());
    };
    if let Some(parent) = node.dir.path().parent() {
        files::sync_dir(parent)?;
        // Fails while the instance has other nodes, which is as it should be.
        let _ = fs::remove_dir(parent);
    }
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("dbaas-trash".into()).spawn(move || {
        if let Err(e) = files::remove_tree_if_there(&gone) {
            tracing::warn!(path = %gone.display(), error = %e, "cannot delete the files of a removed node");
        }
        let _ = done.send(());
    })?;
    let _ = wait.recv_timeout(DELETE_AT_MOST);
    Ok(())
}
