//! What only a libvirt can tell: things done behind the backend's back, and what is in the way. One test after the other, as each boots machines
//! that take a processor.

mod fixture;

use std::time::{Duration, Instant};

use dbaas_core::boot::{BootFile, BootRecipe, BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{
    DataDisposal, DataState, InfraErrorKind, Infrastructure, NodeRef, NodeSpec, ObservedNode, PowerOff,
    PowerState, Resources,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use fixture::Fixture;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(900);
const PASSWORD: &str = "not-to-be-found-anywhere";

fn spec(fixture: &Fixture) -> NodeSpec {
    let _ = fixture;
    NodeSpec::new(
        NodeRef {
            instance: InstanceId::from_uuid(Uuid::now_v7()),
            node: NodeId::from_uuid(Uuid::now_v7()),
        },
        "n1",
        "postgres:15".parse().unwrap(),
        Resources {
            cpu: CpuCores::new(1).unwrap(),
            ram: RamMb::new(512).unwrap(),
            disk: DiskGb::new(8).unwrap(),
        },
    )
}

fn recipe(epoch: u64, prepare: Prepare) -> BootRecipe {
    let file = |name: &str, content: String| BootFile {
        name: name.into(),
        content: Secret::new(content),
    };
    let files = vec![
        file(
            "postgresql.conf",
            "listen_addresses = ''\nshared_buffers = 16MB\n".into(),
        ),
        file("pg_hba.conf", "host all all all scram-sha-256\n".into()),
        file("postgresql.auto.conf", format!("dbaas.epoch = '{epoch}'\n")),
        file("dbaas.pgpass", format!("*:*:*:u:{PASSWORD}\n")),
    ];
    BootRecipe::new(Epoch(epoch), prepare, BootRole::Primary, files)
}

fn init(epoch: u64) -> BootRecipe {
    let prepare = Prepare::Init {
        admin_password: Secret::new(PASSWORD),
        seeds: Vec::new(),
    };
    recipe(epoch, prepare)
}

async fn observe(backend: &dyn Infrastructure, node: NodeRef) -> Option<ObservedNode> {
    let seen = backend.observe(node.instance).await.unwrap().found;
    seen.into_iter().find(|o| o.node == node)
}

async fn until(
    backend: &dyn Infrastructure,
    node: NodeRef,
    what: &str,
    is: impl Fn(&PowerState) -> bool,
) -> ObservedNode {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = observe(backend, node).await.expect("the node exists");
        if is(&seen.power) {
            return seen;
        }
        assert!(Instant::now() < deadline, "expected: {what}; seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Everything that can happen to one node that runs, so that one `initdb` is enough for it.
#[tokio::test(flavor = "multi_thread")]
async fn behind_its_back() {
    let Some(fixture) = Fixture::new() else { return };
    let backend = fixture.open();
    let spec = spec(&fixture);
    let (node, name) = (spec.node, Fixture::name(spec.node));
    backend.apply(&spec).await.unwrap();
    backend.start(node, &init(1)).await.unwrap();
    until(&backend, node, "runs", |p| *p == PowerState::Running).await;

    // No secret is left anywhere but in the guest.
    let xml = fixture.virsh(&["dumpxml", &name]).unwrap();
    let said = fixture.pool_file(&format!("{name}.console"));
    let control = fixture.pool_file(&format!("{name}.control"));
    for (what, text) in [
        ("the domain", xml.into_bytes()),
        ("the console", said),
        ("the control disk", control),
    ] {
        assert!(!text.is_empty(), "{what} is there");
        assert!(!contains(&text, PASSWORD), "{what} holds a password");
    }
    let mode = fixture
        .virsh(&["vol-dumpxml", "--pool", "dbaas", &format!("{name}.control")])
        .unwrap();
    assert!(mode.contains("<mode>0600</mode>"), "{mode}");

    // The disk grows while it runs, and the file system with it; it never shrinks.
    let mut larger = spec.clone();
    larger.resources.disk = DiskGb::new(9).unwrap();
    let free = |o: ObservedNode| o.disk_free_bytes.unwrap_or(0);
    backend.apply(&larger).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while free(observe(&backend, node).await.unwrap()) < 8 << 30 {
        assert!(Instant::now() < deadline, "the file system follows the disk");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let smaller = backend.apply(&spec).await.unwrap_err();
    assert_eq!(smaller.kind(), InfraErrorKind::Unsupported);

    // Undefined by hand while it runs: it runs on, and is known when it ends.
    fixture.virsh(&["undefine", &name]).unwrap();
    assert_eq!(observe(&backend, node).await.unwrap().power, PowerState::Running);
    fixture.virsh(&["destroy", &name]).unwrap();
    let seen = until(&backend, node, "is dead, not gone", |p| {
        matches!(p, PowerState::Exited(_))
    })
    .await;
    assert_eq!(seen.data, DataState::Initialised);

    // Started by hand: nothing runs in it, and nobody takes it for the node.
    fixture.virsh(&["start", &name]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fixture.is_on(node) {
        assert!(
            Instant::now() < deadline,
            "a machine that somebody started by hand ends"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    fixture.virsh(&["start", &name]).unwrap();
    assert_ne!(observe(&backend, node).await.unwrap().power, PowerState::Running);
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert!(!fixture.is_on(node));

    // Another control plane does not see it, and does not touch it.
    let other = Fixture::new().unwrap().open();
    assert!(other.observe(node.instance).await.unwrap().found.is_empty());
    assert!(!other.list().await.unwrap().contains(&node));
    other.remove(node, DataDisposal::Delete).await.unwrap();
    assert_eq!(
        other.apply(&spec).await.unwrap_err().kind(),
        InfraErrorKind::Collision
    );

    // The data disk removed by hand: there is no data any more.
    fixture
        .virsh(&["vol-delete", "--pool", "dbaas", &format!("{name}.data")])
        .unwrap();
    assert_eq!(observe(&backend, node).await.unwrap().data, DataState::Empty);
    let refused = backend
        .start(node, &recipe(2, Prepare::Existing))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), InfraErrorKind::InvalidState);

    backend.remove(node, DataDisposal::Delete).await.unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

/// A name that is taken is reported, and what has it is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken() {
    let Some(fixture) = Fixture::new() else { return };
    let backend = fixture.open();
    let spec = spec(&fixture);
    let name = Fixture::name(spec.node);
    fixture.define_foreign(&name);
    assert_eq!(
        backend.apply(&spec).await.unwrap_err().kind(),
        InfraErrorKind::Collision
    );
    assert!(observe(&backend, spec.node).await.is_none());
    backend.power_off(spec.node, PowerOff::Immediate).await.unwrap();
    backend.remove(spec.node, DataDisposal::Delete).await.unwrap();
    assert!(
        fixture.virsh(&["dominfo", &name]).is_ok(),
        "a foreign domain is left alone"
    );
    fixture.virsh(&["undefine", &name]).unwrap();
    let volume = format!("{name}.data");
    fixture.virsh(&["vol-create-as", "dbaas", &volume, "1M"]).unwrap();
    assert_eq!(
        backend.apply(&spec).await.unwrap_err().kind(),
        InfraErrorKind::Collision
    );
    backend.remove(spec.node, DataDisposal::Delete).await.unwrap();
    fixture
        .virsh(&["vol-delete", "--pool", "dbaas", &volume])
        .unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_libvirts_that_are_not_there() {
    let Some(fixture) = Fixture::new() else { return };
    let backend = fixture.open();
    let mut spec = spec(&fixture);
    let versions = backend.versions().await.unwrap();
    assert!(
        versions.iter().any(|v| v.version.major.get() == 15),
        "{versions:?}"
    );
    spec.image = "postgres:99".parse().unwrap();
    assert_eq!(
        backend.apply(&spec).await.unwrap_err().kind(),
        InfraErrorKind::ImageUnavailable
    );
    assert_eq!(
        fixture.left(),
        Vec::<String>::new(),
        "nothing is made of an image that is not there"
    );

    let mut options = fixture.options.clone();
    options.uri = "qemu+unix:///system?socket=/nonexistent".into();
    let away = dbaas_backend_libvirt::LibvirtBackend::connect(options).unwrap();
    for error in [
        away.versions().await.unwrap_err(),
        away.observe(spec.node.instance).await.unwrap_err(),
        away.power_off(spec.node, PowerOff::Immediate).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), InfraErrorKind::Unavailable, "{error}");
    }
}

fn contains(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|w| w == what.as_bytes())
}
