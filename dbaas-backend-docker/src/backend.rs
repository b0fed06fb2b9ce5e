//! [`DockerBackend`]: what all calls share.

use std::collections::HashSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::infrastructure::{Endpoint, InfraError, InfraErrorKind, Infrastructure, NodeRef, PowerOff};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::DockerOptions;
use crate::disk::Disks;
use crate::engine::{Engine, Machine};
use crate::events;
use crate::image::Images;
use crate::nodes::Nodes;
use crate::registry;

/// PostgreSQL nodes as containers. See the crate's documentation.
///
/// Dropping it stops what it does in the background; containers run on.
pub struct DockerBackend {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for DockerBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerBackend")
            .field("host", &self.inner.engine.host())
            .field("owner", &self.inner.options.owner)
            .finish_non_exhaustive()
    }
}

impl Drop for DockerBackend {
    fn drop(&mut self) {
        self.inner.tasks.lock().abort_all();
    }
}

impl DockerBackend {
    /// Connects to an engine, now or when it is there: an engine that is away makes calls fail with
    /// `Unavailable`, not this one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unsupported` if the options make no sense, ask for disks of a fixed size where there can be none, or
    /// name a file of logins that cannot be used.
    pub fn connect(options: DockerOptions) -> Result<DockerBackend, InfraError> {
        let unsupported = |message: &str| Err(InfraError::new(InfraErrorKind::Unsupported, message));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if options.owner.is_empty() || options.owner.len() > 128 || !options.owner.chars().all(is_plain) {
            return unsupported("the owner must be up to 128 letters, digits and - _ .");
        }
        if options.port_range.is_empty() || *options.port_range.start() == 0 {
            return unsupported("the range of ports is empty, or begins with 0");
        }
        let engine = Engine::new(options.host.as_deref(), options.request_timeout)?;
        if let Some(file) = &options.registry_login_file {
            registry::check(file)?;
        }
        let disks = match &options.disk_limits {
            Some(directory) => Some(Disks::new(directory, &options.owner, engine.host())?),
            None => None,
        };
        let inner = Arc::new(Inner {
            engine,
            disks,
            options,
            images: Images::default(),
            machine: Machine::default(),
            nodes: Nodes::new(),
            kept: Mutex::default(),
            network: tokio::sync::Mutex::default(),
            ports: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        inner.spawn(events::watch(weak.clone()));
        if inner.disks.is_some() {
            inner.spawn(events::clean(weak));
        }
        Ok(DockerBackend { inner })
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
        join_all(all).await.into_iter().collect()
    }
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) options: DockerOptions,
    /// Where nodes have disks of a fixed size.
    pub(crate) disks: Option<Disks>,
    pub(crate) images: Images,
    pub(crate) machine: Machine,
    pub(crate) nodes: Nodes,
    /// Volumes without a node, by the time that the engine made them.
    pub(crate) kept: Mutex<HashSet<(NodeRef, String)>>,
    /// The engine allows two networks of one name: they are made one after the other.
    pub(crate) network: tokio::sync::Mutex<()>,
    /// Held while a port is chosen and written down.
    pub(crate) ports: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

impl Inner {
    /// Runs something in the background, until the backend is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Where clients reach a node.
    pub(crate) fn endpoint(&self, port: u16) -> Endpoint {
        let host = match (&self.options.advertise_host, self.options.publish_address) {
            (Some(host), _) => host.clone(),
            (None, IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            (None, IpAddr::V6(ip)) if ip.is_unspecified() => "::1".to_owned(),
            (None, ip) => ip.to_string(),
        };
        Endpoint { host, port }
    }
}
