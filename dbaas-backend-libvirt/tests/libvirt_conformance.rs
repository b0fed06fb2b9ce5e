//! The suite that every backend runs.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_testkit::infrastructure_conformance::{Site, run_part};
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

/// In two halves at the same time, as two programs that share a libvirt: what takes longest is that machines
/// boot, one processor each.
#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let mut halves = Vec::new();
    for half in 0..2 {
        let Some(fixture) = Fixture::new() else {
            return;
        };
        let runtime = tokio::runtime::Handle::current();
        halves.push(tokio::task::spawn_blocking(move || {
            runtime.block_on(run_part(&ALibvirt(fixture), half, 2));
        }));
    }
    // The second is heard out although the first has failed.
    let ended = futures_util::future::join_all(halves).await;
    for half in ended {
        half.unwrap();
    }
    let fixture = Fixture::new().unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new(), "something is left");
}
