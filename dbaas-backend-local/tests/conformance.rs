//! The suite that every backend runs.

mod fixture;

use std::sync::Arc;

use async_trait::async_trait;
use dbaas_backend_local::WarmPool;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_core::version::ImageRef;
use dbaas_testkit::infrastructure_conformance::{Site, run};
use fixture::{Fixture, kill, pid_of};

struct ThisMachine(Fixture);

#[async_trait]
impl Site for ThisMachine {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(self.0.open())
    }

    async fn image(&self, _: &dyn Infrastructure) -> ImageRef {
        format!("postgres:{}", self.0.installation.version)
            .parse()
            .unwrap()
    }

    async fn kill(&self, node: &ObservedNode) {
        kill(pid_of(node), "KILL");
    }

    async fn freeze(&self, node: &ObservedNode) -> bool {
        let dir = self.0.node_dir(node.node);
        fixture::processes_below(&dir)
            .into_iter()
            .for_each(|pid| kill(pid, "STOP"));
        true
    }

    async fn running(&self, node: NodeRef) -> Option<usize> {
        let dir = self.0.node_dir(node);
        Some(if dir.exists() {
            fixture::processes_below(&dir).len()
        } else {
            0
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_postgresql_15() {
    let Some(fixture) = Fixture::new(15) else { return };
    run(&ThisMachine(fixture)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_postgresql_18_and_a_warm_pool() {
    let Some(mut fixture) = Fixture::new(18) else {
        return;
    };
    fixture.options.warm_pool = WarmPool {
        sets: 1,
        seeds_per_set: 1,
    };
    run(&ThisMachine(fixture)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches three more PostgreSQLs"]
async fn conforms_with_the_majors_between() {
    for major in [14, 16, 17] {
        let Some(fixture) = Fixture::new(major) else {
            return;
        };
        run(&ThisMachine(fixture)).await;
    }
}
