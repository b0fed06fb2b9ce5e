//! [`ControlPlane`]: what an embedder calls. It writes down what is wanted; the engine does it.
//!
//! Every call checks what it needs other records for, writes in one batch with preconditions, and returns;
//! what comes of it is seen in the records' status, in the events, and by the `wait_for_…` calls.
//!
//! # Concurrent changes
//! Calls write what was asked for, and the engine writes what it decided and saw, each into documents of
//! their own. A call that loses against another call reads again and tries again, unless the caller expects a
//! version (`If-Match`).

mod actions;
mod adopt;
mod builder;
mod changes;
mod create;
mod databases;
mod elements;
mod instances;
mod kept;
mod logs;
mod manifests;
#[cfg(feature = "proof")]
mod proof;
mod users;
mod versions;
mod wait;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{Capabilities, Endpoint};
use dbaas_core::instance::{DesiredState, InstanceRecord};
use dbaas_core::limits;
use dbaas_core::store::StoredEvent;
use tokio::sync::broadcast;

pub use builder::{ControlPlaneBuilder, StartError};

use crate::elements::locks::ElementLocks;
use crate::engine::EngineHandle;
use crate::error::{ControlError, FieldError};
use crate::ports::Ports;
use crate::repository::{Record, Versioned};
use crate::request::{Listed, ResourceRef};
use crate::view::Node;

/// A control plane: instances, their databases and users, and the catalogue of versions. Cheap to clone; the
/// clones are one.
#[derive(Clone)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) ports: Arc<Ports>,
    pub(crate) engine: EngineHandle,
    /// Elements that are being changed.
    pub(crate) elements: ElementLocks,
}

/// Where clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Where the primary is; `None` while there is none.
    pub primary: Option<Endpoint>,
    /// Every node, the primary first, the others in order of creation.
    pub endpoints: Vec<Endpoint>,
}

/// Whether the control plane can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The store answers.
    pub store_ok: bool,
    /// This control plane is the one that acts; another one may.
    pub leader: bool,
    /// For people.
    pub detail: String,
}

impl ControlPlane {
    /// What is needed to start one.
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// What façade and engine share.
    pub(crate) fn ports(&self) -> &Ports {
        &self.inner.ports
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.ports.infrastructure.capabilities()
    }

    /// The backend's short name: `local`, `docker`.
    pub fn backend_name(&self) -> &str {
        self.inner.ports.infrastructure.name()
    }

    /// Hints that something of an instance changed, from now on. A slow reader is told how many it missed.
    pub fn changes(&self) -> broadcast::Receiver<InstanceId> {
        self.inner.ports.hints.subscribe()
    }

    /// The nodes of an instance, in order of creation.
    pub async fn nodes(&self, id: InstanceId) -> Result<Vec<Node>, ControlError> {
        Ok(self.instance(id).await?.nodes)
    }

    /// Where clients of an instance connect to.
    pub async fn connection(&self, id: InstanceId) -> Result<ConnectionInfo, ControlError> {
        let instance = self.instance(id).await?;
        let primary = instance.status.primary_endpoint;
        let mut endpoints: Vec<Endpoint> = primary.iter().cloned().collect();
        for node in instance.nodes.into_iter().filter(|node| !node.leaving) {
            if let Some(endpoint) = node.endpoint
                && !endpoints.contains(&endpoint)
            {
                endpoints.push(endpoint);
            }
        }
        Ok(ConnectionInfo { primary, endpoints })
    }

    /// What happened to an instance after a position of the log, oldest first: at most `limit` (1 to 1,000)
    /// events.
    pub async fn events(
        &self,
        id: InstanceId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ControlError> {
        self.inner.load_instance(id).await?;
        let ports = &self.inner.ports;
        ports
            .repository
            .events(id, after, limit)
            .await
            .map_err(|error| ports.store_error(error))
    }

    /// Whether it can do its work.
    pub async fn health(&self) -> Health {
        let leader = self.inner.engine.is_leader();
        // Any document will do, also one that does not exist.
        let asked = self
            .inner
            .ports
            .repository
            .load_instance(InstanceId::from_uuid(uuid::Uuid::nil()));
        let (store_ok, detail) = match tokio::time::timeout(Duration::from_secs(2), asked).await {
            Ok(Ok(_)) if leader => (true, "the store answers, and this control plane acts".to_owned()),
            Ok(Ok(_)) => (
                true,
                "the store answers; another control plane acts, or none does yet".to_owned(),
            ),
            Ok(Err(error)) => (false, format!("the store: {error}")),
            Err(_) => (false, "the store did not answer within 2 s".to_owned()),
        };
        Health {
            store_ok,
            leader,
            detail,
        }
    }

    /// Ends passes between two actions, for at most `deadline`. Instances go on running.
    pub async fn shutdown(&self, deadline: Duration) {
        self.inner.engine.shutdown(deadline).await;
    }
}

impl Inner {
    /// Something was asked of this instance.
    fn wake(&self, instance: InstanceId) {
        self.engine.wake(instance);
        self.ports.hint(instance);
    }

    async fn load_instance(&self, id: InstanceId) -> Result<Versioned<InstanceRecord>, ControlError> {
        let found = self
            .ports
            .repository
            .load_instance(id)
            .await
            .map_err(|error| self.ports.store_error(error))?;
        found.ok_or_else(|| instance_not_found(id))
    }

    /// The instance, unless it is being deleted.
    async fn load_changeable_instance(
        &self,
        id: InstanceId,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        let instance = self.load_instance(id).await?;
        refuse_deleted(&instance.record)?;
        Ok(instance)
    }

    /// One page of the records of a parent (or of all).
    async fn listed<R: Record, Id: Copy>(
        &self,
        parent: Option<uuid::Uuid>,
        after: Option<uuid::Uuid>,
        limit: usize,
        id: impl Fn(&R) -> Id,
    ) -> Result<Listed<Versioned<R>, Id>, ControlError> {
        let limit = clamp_limit(limit);
        let found = self.ports.repository.page::<R>(parent, after, limit + 1).await;
        Ok(cut(
            found.map_err(|error| self.ports.store_error(error))?,
            limit,
            id,
        ))
    }
}

/// The bounds of a page.
fn clamp_limit(limit: usize) -> usize {
    limit.clamp(*limits::PAGE_ITEMS.start(), *limits::PAGE_ITEMS.end())
}

/// A page of what was read, one item more than asked for if there is more.
fn cut<R, Id: Copy>(
    mut items: Vec<Versioned<R>>,
    limit: usize,
    id: impl Fn(&R) -> Id,
) -> Listed<Versioned<R>, Id> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| id(&last.record));
    Listed { items, next }
}

fn instance_not_found(id: InstanceId) -> ControlError {
    ControlError::NotFound {
        what: "instance",
        resource: ResourceRef::Instance(id),
    }
}

fn refuse_deleted(instance: &InstanceRecord) -> Result<(), ControlError> {
    match instance.desired {
        DesiredState::Running | DesiredState::Stopped => Ok(()),
        DesiredState::Deleted => Err(ControlError::WrongState {
            detail: "the instance is being deleted; nothing of it can be changed any more".to_owned(),
        }),
    }
}

/// An id that was dropped within the instance is not used again there: an order that comes late may still
/// speak of it.
fn refuse_dropped(instance: &InstanceRecord, id: uuid::Uuid, what: &str) -> Result<(), ControlError> {
    if instance.dropped.iter().any(|dropped| dropped == id) {
        return Err(ControlError::WrongState {
            detail: format!(
                "the id {id} was that of a {what} of this instance that was dropped; choose another"
            ),
        });
    }
    Ok(())
}

fn invalid(pointer: &str, detail: impl Into<String>) -> ControlError {
    ControlError::Invalid {
        errors: vec![FieldError::new(pointer, detail)],
    }
}

/// The name of a node in messages.
fn node_name(instance: &InstanceRecord, id: NodeId) -> String {
    instance
        .node(id)
        .map_or_else(|| id.to_string(), |node| node.name.clone())
}
