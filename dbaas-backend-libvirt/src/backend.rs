//! [`LibvirtBackend`]: what all calls share.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind, Infrastructure, PowerOff};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::LibvirtOptions;
use crate::ahead::{self, Ahead};
use crate::events;
use crate::nodes::Nodes;
use crate::pool::Image;
use crate::shell::Shells;
use crate::virsh::{Hypervisor, Virsh};
use crate::xml::{Accelerator, Subnet};

/// PostgreSQL nodes as virtual machines. See the crate's documentation.
///
/// Dropping it stops what it does in the background; machines run on.
pub struct LibvirtBackend {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for LibvirtBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibvirtBackend")
            .field("uri", &self.inner.options.uri)
            .field("owner", &self.inner.options.owner)
            .finish_non_exhaustive()
    }
}

impl Drop for LibvirtBackend {
    fn drop(&mut self) {
        self.inner.tasks.lock().abort_all();
    }
}

impl LibvirtBackend {
    /// Connects to a libvirt, now or when it is there: one that is away makes calls fail with `Unavailable`,
    /// not this one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unsupported` if the options make no sense.
    pub fn connect(options: LibvirtOptions) -> Result<LibvirtBackend, InfraError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        for (what, text) in [
            ("owner", &options.owner),
            ("network", &options.network),
            ("pool", &options.pool),
        ] {
            if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.chars().all(is_plain) {
                let message = format!("the {what} must be up to 64 letters, digits and - _ ., not {text:?}");
                return Err(InfraError::new(InfraErrorKind::Unsupported, message));
            }
        }
        let libvirt = Virsh {
            uri: options.uri.clone(),
            deadline: options.request_timeout,
            shells: Shells::default(),
        };
        let inner = Arc::new(Inner {
            libvirt: Box::new(libvirt),
            options,
            accelerator: Mutex::default(),
            pool_path: Mutex::default(),
            subnet: Mutex::default(),
            images: Mutex::default(),
            addresses: tokio::sync::Mutex::default(),
            ahead: Arc::default(),
            nodes: Nodes::new(),
            tasks: Mutex::default(),
        });
        inner.spawn(events::watch(Arc::downgrade(&inner)));
        inner.spawn(ahead::keep_filled(Arc::downgrade(&inner)));
        Ok(LibvirtBackend { inner })
    }

    /// How many sets of the warm pool are ready.
    ///
    /// # Errors
    /// libvirt's.
    pub async fn warm_sets(&self) -> Result<usize, InfraError> {
        ahead::ready(&self.inner).await
    }

    /// Removes the warm pool. Another one is made only by a backend that is connected later.
    ///
    /// # Errors
    /// libvirt's.
    pub async fn remove_warm_pool(&self) -> Result<(), InfraError> {
        self.inner.tasks.lock().abort_all();
        ahead::discard_all(&self.inner).await
    }

    /// Switches every node off, all at the same time: as [`PowerOff::Graceful`] with this deadline.
    ///
    /// # Errors
    /// The first node's that could not be switched off; the others are off nevertheless.
    pub async fn stop_all(&self, deadline: Duration) -> Result<(), InfraError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        // What is done in the background begins nothing any more.
        self.inner.tasks.lock().abort_all();
        ahead::discard_unfinished(&self.inner).await?;
        let nodes = self.list().await?;
        let all = nodes
            .iter()
            .map(|&node| self.power_off(node, PowerOff::Graceful { deadline_ms }));
        join_all(all).await.into_iter().collect()
    }
}

pub(crate) struct Inner {
    pub(crate) libvirt: Box<dyn Hypervisor>,
    pub(crate) options: LibvirtOptions,
    pub(crate) nodes: Nodes,
    /// What is known of the host once it was asked.
    pub(crate) accelerator: Mutex<Option<Accelerator>>,
    pub(crate) pool_path: Mutex<Option<String>>,
    pub(crate) subnet: Mutex<Option<Subnet>>,
    /// By name.
    pub(crate) images: Mutex<HashMap<String, Image>>,
    /// Held while an address is chosen and written down.
    pub(crate) addresses: tokio::sync::Mutex<()>,
    pub(crate) ahead: Arc<Ahead>,
    tasks: Mutex<JoinSet<()>>,
}

impl Inner {
    /// Runs something in the background, until the backend is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }
}
