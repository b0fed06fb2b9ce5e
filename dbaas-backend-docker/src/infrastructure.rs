//! The calls of [`Infrastructure`].

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::boot::BootRecipe;
use dbaas_core::config::{Cidr, HbaRules};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, Enforcement, InfraError, InfraErrorKind, InfraEvent,
    InfraEvents, Infrastructure, NodeRef, NodeSpec, ObservedNode, ObservedNodes, PowerOff,
};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio_stream::wrappers::BroadcastStream;

use crate::backend::{DockerBackend, Inner};
use crate::handle::Handle;
use crate::start::not_found;
use crate::{image, observe, start, stop};
use dbaas_node_start::control::Ticket;

impl DockerBackend {
    /// Runs one call for a node, alone. It goes on to its end also if the caller stops waiting.
    async fn alone<T, F>(
        &self,
        node: NodeRef,
        call: impl FnOnce(Arc<Inner>, Arc<Handle>) -> F + Send + 'static,
    ) -> Result<T, InfraError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, InfraError>> + Send,
    {
        let inner = Arc::clone(&self.inner);
        let work = async move {
            let handle = inner.nodes.handle(node);
            let guard = Arc::clone(&handle.op).lock_owned().await;
            let result = call(inner, Arc::clone(&handle)).await;
            if result.is_err() {
                handle.forget();
            }
            drop(guard);
            result
        };
        match tokio::spawn(work).await {
            Ok(result) => result,
            Err(_) => Err(InfraError::new(
                InfraErrorKind::OutcomeUnknown,
                "the call was interrupted",
            )),
        }
    }
}

#[async_trait]
impl Infrastructure for DockerBackend {
    fn name(&self) -> &str {
        "docker"
    }

    fn capabilities(&self) -> Capabilities {
        let disk = match self.inner.disks {
            Some(_) => Enforcement::Enforced,
            None => Enforcement::NotEnforced,
        };
        Capabilities::new(Enforcement::Enforced, Enforcement::Enforced, disk).with_node_events()
    }

    /// Clients and the control plane from everywhere that the published port can be reached from (the engine
    /// shows most of them as coming from the network's gateway), other nodes from private networks, which
    /// Docker's are.
    fn hba_rules(&self) -> HbaRules {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        HbaRules {
            control: Cidr::everywhere().to_vec(),
            peers: private.iter().filter_map(|text| text.parse().ok()).collect(),
            clients: Cidr::everywhere().to_vec(),
        }
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        image::versions(&self.inner).await
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        if let Some(seen) = self.inner.nodes.all_remembered(instance) {
            return Ok(seen.into());
        }
        let changes = self.inner.nodes.changes();
        let docker = self.inner.engine.docker().await?;
        let (with_container, volumes) = tokio::try_join!(
            self.inner.nodes_with_container(&docker, Some(instance)),
            self.inner.volumes(&docker, Some(instance)),
        )?;
        let nodes: BTreeSet<NodeRef> = with_container
            .into_iter()
            .chain(volumes.into_iter().map(|(n, _)| n))
            .collect();
        self.inner
            .nodes
            .listed(instance, nodes.iter().copied().collect(), changes);
        let seen = nodes.into_iter().map(|node| {
            let docker = &docker;
            async move {
                let handle = self.inner.nodes.handle(node);
                observe::observe(&self.inner, docker, &handle, node).await
            }
        });
        let found: Vec<ObservedNode> = try_join_all(seen).await?.into_iter().flatten().collect();
        Ok(found.into())
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        let docker = self.inner.engine.docker().await?;
        let (with_container, volumes) = tokio::try_join!(
            self.inner.nodes_with_container(&docker, None),
            self.inner.volumes(&docker, None),
        )?;
        let mut nodes: BTreeSet<NodeRef> = with_container.into_iter().collect();
        for (node, _) in volumes {
            if nodes.contains(&node) {
                continue;
            }
            // Kept on purpose, or left behind by somebody who removed the container.
            let handle = self.inner.nodes.handle(node);
            match observe::observe(&self.inner, &docker, &handle, node).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    nodes.insert(node);
                }
                Err(error) => {
                    // One node that cannot be looked at must not hide all others; its volume is ours.
                    tracing::warn!(node = %node.node, %error, "a node cannot be looked at");
                    nodes.insert(node);
                }
            }
        }
        Ok(nodes.into_iter().collect())
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        self.alone(spec.node, move |inner, handle| async move {
            start::apply(&inner, &handle, spec).await
        })
        .await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let recipe = recipe.clone();
        self.alone(node, move |inner, handle| async move {
            start::start(&inner, &handle, node, recipe).await
        })
        .await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        if mode == PowerOff::Immediate {
            // A fence does not wait behind a call that takes its time: what runs is killed first, and again
            // when nobody else works on the node.
            let inner = Arc::clone(&self.inner);
            let early = tokio::spawn(async move {
                let docker = inner.engine.docker().await?;
                stop::kill_all(&inner, &docker, node).await
            });
            early.await.unwrap_or_else(|_| {
                Err(InfraError::new(
                    InfraErrorKind::OutcomeUnknown,
                    "the call was interrupted",
                ))
            })?;
        }
        self.alone(node, move |inner, handle| async move {
            stop::power_off(&inner, &handle, node, mode).await
        })
        .await
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(node, move |inner, handle| async move {
            stop::remove(&inner, &handle, node, data).await?;
            inner.nodes.forget(node, &handle);
            Ok(())
        })
        .await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        let docker = self.inner.engine.docker().await?;
        let found = self
            .inner
            .find(&docker, node)
            .await?
            .ok_or_else(|| not_found(node))?;
        let handle = self.inner.nodes.handle(node);
        let known = observe::control(&self.inner, &docker, &handle, &found).await?;
        if known.spec.is_none() || known.ticket == Ticket::Kept {
            return Err(not_found(node));
        }
        observe::log(&docker, &found.id, lines, "").await
    }

    fn events(&self) -> InfraEvents {
        BroadcastStream::new(self.inner.nodes.subscribe())
            .map(|event| event.unwrap_or(InfraEvent::Missed))
            .boxed()
    }
}
