//! The suite that every backend runs.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_testkit::infrastructure_conformance::{Site, run};
use fixture::Fixture;

struct ALibvirt(Fixture);

#[async_trait]
impl Site for ALibvirt {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(self.0.open())
    }

    async fn kill(&self, node: &ObservedNode) {
        self.0.virsh(&["destroy", &Fixture::name(node.node)]).unwrap();
    }

    async fn freeze(&self, node: &ObservedNode) -> bool {
        self.0.virsh(&["suspend", &Fixture::name(node.node)]).unwrap();
        true
    }

    async fn running(&self, node: NodeRef) -> Option<usize> {
        Some(usize::from(self.0.is_on(node)))
    }

    /// Machines are emulated here, on processors that others use, too.
    fn patience(&self) -> Duration {
        Duration::from_secs(900)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let site = ALibvirt(fixture);
    run(&site).await;
    assert_eq!(site.0.left(), Vec::<String>::new(), "something is left");
}
