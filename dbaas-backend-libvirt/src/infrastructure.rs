//! The calls of [`Infrastructure`].

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::boot::BootRecipe;
use dbaas_core::config::{Cidr, HbaRules};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, Enforcement, InfraError, InfraErrorKind, InfraEvent,
    InfraEvents, Infrastructure, NodeRef, NodeSpec, ObservedNodes, PowerOff,
};
use futures_util::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::backend::{Inner, LibvirtBackend};
use crate::handle::Handle;
use crate::look::not_found;
use crate::network::Addresses;
use crate::{ahead, observe, start, stop};

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
            let handle = inner.nodes.handle(node);
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
        let held = Enforcement::Enforced;
        Capabilities::new(held, held, held).with_node_events()
    }

    /// Clients and the control plane from wherever the network lets them come, other nodes from private
    /// networks, which libvirt's are, or from the one whose addresses were given.
    fn hba_rules(&self) -> HbaRules {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        let private = private.iter().filter_map(|text| text.parse().ok());
        HbaRules {
            control: Cidr::everywhere().to_vec(),
            peers: private
                .chain(self.inner.options.addresses.and_then(Addresses::cidr))
                .collect(),
            clients: Cidr::everywhere().to_vec(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        self.inner.refresh_pool().await?;
        self.inner.versions().await
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        observe::observe(&self.inner, instance).await.map(Into::into)
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        let looks = self.inner.look_at_all("dbaas-").await?;
        Ok(looks
            .into_iter()
            .filter(|look| look.existing().is_ok() && !ahead::is_set(look.node))
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
            // A fence does not wait behind a call that takes its time: what runs is destroyed first, and
            // again when nobody else works on the node.
            let inner = Arc::clone(&self.inner);
            let early = tokio::spawn(async move {
                let handle = inner.nodes.handle(node);
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

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(node, move |inner, handle| async move {
            stop::remove(&inner, &handle, node, data).await?;
            inner.nodes.forget(node, &handle);
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
        BroadcastStream::new(self.inner.nodes.subscribe())
            .map(|event| event.unwrap_or(InfraEvent::Missed))
            .boxed()
    }
}
