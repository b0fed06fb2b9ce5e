//! The suite that every backend runs.

mod fixture;

use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_core::version::ImageRef;
use dbaas_testkit::infrastructure_conformance::{Site, run};
use fixture::Fixture;

struct AnEngine(Fixture);

#[async_trait]
impl Site for AnEngine {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(self.0.open())
    }

    async fn image(&self, _: &dyn Infrastructure) -> ImageRef {
        self.0.image().parse().unwrap()
    }

    async fn kill(&self, node: &ObservedNode) {
        self.0.docker(&["kill", &Fixture::name(node.node)]).unwrap();
    }

    async fn freeze(&self, node: &ObservedNode) -> bool {
        self.0.docker(&["pause", &Fixture::name(node.node)]).unwrap();
        true
    }

    async fn running(&self, node: NodeRef) -> Option<usize> {
        let of_node = format!("label=dbaas.node={}", node.node);
        let listed = self.0.docker(&["ps", "-q", "--filter", &of_node]).unwrap();
        // The list lags behind while the engine tidies up after a container; asked about the one, the engine
        // waits for itself.
        let runs = |id: &&str| {
            self.0
                .docker(&["inspect", "-f", "{{.State.Running}}", id])
                .is_ok_and(|running| running == "true")
        };
        Some(listed.lines().filter(runs).count())
    }
}

async fn conforms(fixture: Option<Fixture>) {
    let Some(fixture) = fixture else {
        return;
    };
    let site = AnEngine(fixture);
    run(&site).await;
    assert_eq!(
        site.0.left(),
        Vec::<String>::new(),
        "something is left on the engine"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_postgresql_15() {
    conforms(Fixture::new(15)).await;
}

/// Where the engine is the tests' own, with disks of a fixed size.
#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_postgresql_18() {
    conforms(Fixture::new(18).map(Fixture::with_disks)).await;
}
