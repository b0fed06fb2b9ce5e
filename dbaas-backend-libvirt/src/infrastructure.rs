//! The calls of [`Infrastructure`].

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::boot::BootRecipe;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, Enforcement, InfraError, InfraErrorKind, InfraEvent,
    InfraEvents, Infrastructure, NodeRef, NodeSpec, ObservedNode, PowerOff, Resources,
};
use futures_util::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::backend::{Handle, Inner, LibvirtBackend};
use crate::look::not_found;
use crate::{observe, start, stop};

fn interrupted<E>(_: E) -> InfraError {
    InfraError::new(InfraErrorKind::OutcomeUnknown, "the call was interrupted")
}

impl LibvirtBackend {
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
            let _alone = inner.lock(node).await;
            let handle = inner.handle(node);
            let result = call(Arc::clone(&inner), Arc::clone(&handle)).await;
            handle.change();
            result
        };
        tokio::spawn(work).await.unwrap_or_else(|e| Err(interrupted(e)))
    }
}

#[async_trait]
impl Infrastructure for LibvirtBackend {
    fn name(&self) -> &str {
        "libvirt"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cpu: Enforcement::Enforced,
            ram: Enforcement::Enforced,
            disk: Enforcement::Enforced,
            // The disk grows at once, processors and memory with the next start.
            live_resize: false,
            node_events: true,
        }
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        self.inner.refresh_pool().await?;
        self.inner.versions().await
    }

    async fn observe(&self, instance: InstanceId) -> Result<Vec<ObservedNode>, InfraError> {
        observe::observe(&self.inner, instance).await
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        let looks = self.inner.look_at_all("dbaas-").await?;
        Ok(looks
            .into_iter()
            .filter(|look| look.existing().is_ok())
            .map(|look| look.node)
            .collect())
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
            // A fence does not wait behind a call that takes its time: what runs is destroyed first, and again when nobody else works on the
            // node.
            let inner = Arc::clone(&self.inner);
            let early = tokio::spawn(async move {
                let handle = inner.handle(node);
                let _stopping = handle.stopping();
                stop::destroy(&inner, node).await
            });
            early.await.unwrap_or_else(|e| Err(interrupted(e)))?;
        }
        self.alone(node, move |inner, handle| async move {
            stop::power_off(&inner, &handle, node, mode).await
        })
        .await
    }

    async fn resize(&self, node: NodeRef, resources: Resources) -> Result<(), InfraError> {
        self.alone(node, move |inner, handle| async move {
            start::resize(&inner, &handle, node, resources).await
        })
        .await
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(node, move |inner, handle| async move {
            stop::remove(&inner, &handle, node, data).await?;
            inner.drop_handle(node, &handle);
            Ok(())
        })
        .await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        let look = self.inner.look(node).await?.ok_or_else(|| not_found(node))?;
        look.existing()?;
        self.inner.console(&look, lines).await
    }

    fn events(&self) -> InfraEvents {
        BroadcastStream::new(self.inner.subscribe())
            .map(|event| event.unwrap_or(InfraEvent::Missed))
            .boxed()
    }
}
