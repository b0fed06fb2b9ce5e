//! A node that tests make, and what they ask of it.
#![allow(dead_code, reason = "each test uses a part")]

use std::time::{Duration, Instant};

use dbaas_backend_docker::DockerBackend;
use dbaas_core::boot::{BootFile, BootRecipe, BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{Infrastructure, NodeRef, NodeSpec, ObservedNode, PowerState, Resources};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use uuid::Uuid;

use crate::fixture::Fixture;

pub(crate) const PASSWORD: &str = "a-secret-that-shows-nowhere";

pub(crate) fn node() -> NodeRef {
    NodeRef {
        instance: InstanceId::from_uuid(Uuid::now_v7()),
        node: NodeId::from_uuid(Uuid::now_v7()),
    }
}

pub(crate) fn resources(ram: u64) -> Resources {
    Resources {
        cpu: CpuCores::new(1).unwrap(),
        ram: RamMb::new(ram).unwrap(),
        disk: DiskGb::new(8).unwrap(),
    }
}

pub(crate) fn spec(fixture: &Fixture, node: NodeRef) -> NodeSpec {
    NodeSpec::new(node, "n1", fixture.image().parse().unwrap(), resources(512))
}

pub(crate) fn recipe(epoch: u64, prepare: Prepare) -> BootRecipe {
    let file = |name: &str, content: String| BootFile {
        name: name.into(),
        content: Secret::new(content),
    };
    let files = vec![
        file(
            "postgresql.conf",
            "listen_addresses = ''\nshared_buffers = 16MB\n".into(),
        ),
        file("postgresql.auto.conf", format!("dbaas.epoch = '{epoch}'\n")),
        file("dbaas.pgpass", format!("*:*:*:x:{PASSWORD}\n")),
    ];
    BootRecipe::new(Epoch(epoch), prepare, BootRole::Primary, files)
}

pub(crate) fn init() -> BootRecipe {
    let prepare = Prepare::Init {
        admin_password: Secret::new(PASSWORD),
        seeds: vec![],
    };
    recipe(1, prepare)
}

pub(crate) async fn observe(backend: &DockerBackend, node: NodeRef) -> ObservedNode {
    let mut all = backend.observe(node.instance).await.unwrap().found;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

pub(crate) async fn until(backend: &DockerBackend, node: NodeRef, power: PowerState) -> ObservedNode {
    let begin = Instant::now();
    loop {
        let seen = observe(backend, node).await;
        if seen.power == power {
            return seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
