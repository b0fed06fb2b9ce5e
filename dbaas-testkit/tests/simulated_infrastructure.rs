//! Simulated nodes are held to the suite that real ones run: where a case tells them apart, the simulation is
//! wrong.
#![allow(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::infrastructure::{Endpoint, Infrastructure, NodeRef, ObservedNode, PowerState};
use dbaas_testkit::infrastructure_conformance::{Site, run};
use dbaas_testkit::simulated::{Costs, SimWorld};

struct Simulated(SimWorld);

#[async_trait]
impl Site for Simulated {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(self.0.controller().infrastructure())
    }

    async fn kill(&self, node: &ObservedNode) {
        self.0.crash(node.node);
    }

    async fn freeze(&self, node: &ObservedNode) -> bool {
        self.0.freeze(node.node);
        true
    }

    async fn running(&self, node: NodeRef) -> Option<usize> {
        let nodes = self.0.nodes(node.instance);
        let is_on = |power: &PowerState| !matches!(power, PowerState::Off | PowerState::Exited(_));
        Some(nodes.iter().filter(|n| n.node == node && is_on(&n.power)).count())
    }

    async fn answers(&self, endpoint: &Endpoint) -> bool {
        self.0.answers(endpoint)
    }
}

#[tokio::test(start_paused = true)]
async fn simulated_nodes_conform() {
    for seed in 0..20 {
        let world = SimWorld::new(seed, Costs::default());
        let moves = tokio::spawn(world.clone().run());
        run(&Simulated(world.clone())).await;
        assert_eq!(world.violations(), Vec::<String>::new(), "seed {seed}");
        moves.abort();
    }
}
