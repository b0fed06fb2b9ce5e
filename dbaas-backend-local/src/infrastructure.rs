//! [`LocalBackend`]: the calls of [`Infrastructure`].

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::boot::BootRecipe;
use dbaas_core::config::HbaRules;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, BootMark, Capabilities, DataDisposal, DataState, Endpoint, Enforcement, InfraError,
    InfraErrorKind, InfraEvent, InfraEvents, Infrastructure, NodeRef, NodeSpec, ObservedNode, ObservedNodes,
    PowerOff,
};
use dbaas_core::version::PostgresMajor;
use futures_util::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::LocalOptions;
use crate::account::Account;
use crate::apply::apply;
use crate::backend::{Inner, lock};
use crate::discovery::Installation;
use crate::errors::{io_error, not_found};
use crate::fetch::FetchProgress;
use crate::files;
use crate::node::{Node, Wanted};
use crate::start::start;
use crate::stop::{cancel_preparation, kill_processes, power_off, remove};

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
    /// `Collision` if another process works on the directory; `Unsupported` if PostgreSQL cannot be run there
    /// as an unprivileged user.
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
        blocking(move || inner.installed.ensure(major, &inner.account, &progress)).await
    }

    /// Makes sure that there is a PostgreSQL at all, fetching the newest known if there is none.
    ///
    /// # Errors
    /// `ImageUnavailable`, with what to install instead.
    pub async fn ensure_any(&self, progress: FetchProgress) -> Result<(), InfraError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.installed.refresh();
            if inner.installed.of_major().is_empty() {
                inner
                    .installed
                    .ensure(PostgresMajor::NEWEST_KNOWN, &inner.account, &progress)?;
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

    /// What of a node's resources nothing holds, and why not: `cpu` and `ram` where there is no delegated
    /// cgroup v2 directory ([`LocalOptions::cgroup`]), `disk_size` always.
    pub fn not_enforced(&self) -> Vec<(&'static str, String)> {
        let lacks = self.inner.cgroups.lacks();
        let disk = ("disk_size", "a directory has no size of its own");
        lacks
            .each()
            .chain([disk])
            .map(|(name, why)| (name, why.to_owned()))
            .collect()
    }

    /// How many sets the warm pool holds ready for a major version.
    pub fn pool_ready(&self, major: PostgresMajor) -> usize {
        self.inner
            .installed
            .of_major()
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
            inner.nodes.forget(&node);
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

#[async_trait]
impl Infrastructure for LocalBackend {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        let lacks = self.inner.cgroups.lacks();
        let held = |lack: &Option<String>| match lack {
            None => Enforcement::Enforced,
            Some(_) => Enforcement::NotEnforced,
        };
        Capabilities::new(held(&lacks.cpu), held(&lacks.ram), Enforcement::NotEnforced).with_node_events()
    }

    fn hba_rules(&self) -> HbaRules {
        self.inner.hba.clone()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        if self.inner.options.allow_download {
            let quiet: FetchProgress = Arc::new(|_, _| {});
            self.ensure_any(quiet).await?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.installed.refresh();
            let found = inner.installed.every();
            if found.is_empty() {
                let message = "there is no PostgreSQL 14 to 18 on this machine; install one, for example `apt-get install postgresql`, or \
                               name its directory with --postgres-dir";
                return Err(InfraError::new(InfraErrorKind::ImageUnavailable, message));
            }
            let available = found.iter().filter_map(|installation| {
                let image = installation.image()?;
                let source = installation.bin_dir.display().to_string();
                Some(AvailableVersion { version: installation.version, image, source })
            });
            Ok(available.collect())
        })
        .await
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let nodes = inner.nodes.of(instance);
            let found = nodes.iter().filter_map(|node| observe(&inner, node).transpose());
            found.collect::<Result<Vec<_>, _>>().map(Into::into)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        let nodes = self.inner.nodes.all();
        Ok(nodes
            .iter()
            .filter(|n| n.state.lock().record.is_some())
            .map(|n| n.id)
            .collect())
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        self.alone(self.inner.nodes.handle(spec.node), move |inner, node| {
            apply(inner, node, spec)
        })
        .await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let node = self.inner.nodes.known(node).ok_or_else(|| not_found(node))?;
        let recipe = recipe.clone();
        self.alone(node, move |inner, node| start(inner, node, recipe))
            .await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        let node = self.inner.nodes.handle(node);
        if mode == PowerOff::Immediate {
            // A fence does not wait behind a call that takes its time: what runs is killed first, and again
            // when nobody else works on the node.
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

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(self.inner.nodes.handle(node), move |inner, node| {
            remove(inner, node, data)
        })
        .await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        let node = self.inner.nodes.known(node).ok_or_else(|| not_found(node))?;
        blocking(move || files::tail(&node.dir.log(), lines).map_err(|e| io_error("reading the log", &e)))
            .await
    }

    fn events(&self) -> InfraEvents {
        BroadcastStream::new(self.inner.changes.subscribe())
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
