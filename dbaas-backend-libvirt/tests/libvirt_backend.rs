//! What only a libvirt can tell: things done behind the backend's back, and what is in the way. One test
//! after the other, as each boots machines that take a processor.

mod fixture;

use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::infrastructure::{
    DataDisposal, DataState, ExitReason, InfraErrorKind, InfraEvent, Infrastructure, ObservedNode, PowerOff,
    PowerState,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::DiskGb;
use fixture::node::{PASSWORD, PATIENCE, init, observe, recipe, spec, until};
use fixture::{Fixture, SmallPool};
use futures_util::StreamExt as _;

/// Everything that can happen to one node that runs, so that one `initdb` is enough for it.
#[tokio::test(flavor = "multi_thread")]
async fn behind_its_back() {
    let Some(fixture) = Fixture::new() else { return };
    let backend = fixture.open();
    let spec = spec();
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
    let spec = spec();
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
    let mut spec = spec();
    let versions = backend.versions().await.unwrap();
    assert!(
        versions.iter().any(|v| v.version.major.get() == Fixture::major()),
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

/// libvirtd ends and comes back while a node is being prepared, while it runs, and while it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_is_restarted_in_the_middle() {
    let Some(fixture) = Fixture::new() else { return };
    let backend = fixture.open();
    let spec = spec();
    let node = spec.node;
    backend.apply(&spec).await.unwrap();
    backend.start(node, &init(1)).await.unwrap();
    assert_eq!(
        observe(&backend, node).await.unwrap().power,
        PowerState::Preparing
    );
    Fixture::libvirtd("down");
    for error in [
        backend.observe(node.instance).await.unwrap_err(),
        backend.power_off(node, PowerOff::Immediate).await.unwrap_err(),
        backend.start(node, &init(1)).await.unwrap_err(),
        backend.remove(node, DataDisposal::Delete).await.unwrap_err(),
        backend.list().await.unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error}");
    }
    Fixture::libvirtd("up");
    until(&backend, node, "came up although libvirtd was away", |p| {
        *p == PowerState::Running
    })
    .await;
    Fixture::libvirtd("down");
    assert!(backend.observe(node.instance).await.is_err());
    Fixture::libvirtd("up");
    assert_eq!(
        observe(&backend, node).await.unwrap().power,
        PowerState::Running,
        "it ran on"
    );

    // Events are told again, within what the stream takes to come back.
    let mut events = backend.events();
    let deadline = Instant::now() + PATIENCE;
    tokio::time::sleep(Duration::from_secs(10)).await;
    fixture.virsh(&["destroy", &Fixture::name(node)]).unwrap();
    loop {
        let told = tokio::time::timeout(deadline - Instant::now(), events.next()).await;
        if told.expect("the machine's end is told") == Some(InfraEvent::NodeChanged(node)) {
            break;
        }
    }
    assert!(matches!(
        observe(&backend, node).await.unwrap().power,
        PowerState::Exited(_)
    ));

    // While a call is under way: it fails, or it is done; the next one finds out.
    backend.start(node, &recipe(1, Prepare::Existing)).await.unwrap();
    until(&backend, node, "runs again", |p| *p == PowerState::Running).await;
    let deadline_ms = 60_000;
    let (off, ()) = tokio::join!(
        backend.power_off(node, PowerOff::Graceful { deadline_ms }),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            tokio::task::spawn_blocking(|| Fixture::libvirtd("down"))
                .await
                .unwrap();
        }
    );
    if let Err(error) = off {
        assert!(error.is_retryable(), "{error}");
    }
    Fixture::libvirtd("up");
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert!(!fixture.is_on(node));
    assert_eq!(
        observe(&backend, node).await.unwrap().data,
        DataState::Initialised
    );
    backend.remove(node, DataDisposal::Delete).await.unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

/// Images that lack a part, or do not boot.
#[tokio::test(flavor = "multi_thread")]
async fn images_that_do_not_boot() {
    let Some(fixture) = Fixture::new() else { return };
    let mut options = fixture.options.clone();
    options.boot_timeout = Duration::from_secs(5);
    let backend = dbaas_backend_libvirt::LibvirtBackend::connect(options).unwrap();
    let pool = fixture.options.pool.clone();
    let void = fixture.make_void_image(&pool, "98.1");
    let mut spec = spec();
    spec.image = "postgres:98".parse().unwrap();
    let node = spec.node;
    backend.apply(&spec).await.unwrap();
    backend.start(node, &init(1)).await.unwrap();
    let seen = until(
        &backend,
        node,
        "what hangs in its boot is ended, and has failed",
        |p| matches!(p, PowerState::Exited(_)),
    )
    .await;
    let PowerState::Exited(exit) = seen.power else {
        unreachable!("as waited for")
    };
    assert_eq!(exit.reason, ExitReason::PreparationFailed, "{exit:?}");
    assert!(exit.message.contains("before its boot script"), "{exit:?}");
    assert!(!fixture.is_on(node));

    // Its root disk vanishes: a start fails, and says so.
    for volume in &void {
        fixture.virsh(&["vol-delete", "--pool", &pool, volume]).unwrap();
    }
    let failed = backend.start(node, &init(2)).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed}");
    assert!(!fixture.is_on(node));
    let versions = backend.versions().await.unwrap();
    assert!(versions.iter().all(|v| v.version.major.get() != 98));
    backend.remove(node, DataDisposal::Delete).await.unwrap();

    // One whose description names a volume that is not there is none.
    let void = fixture.make_void_image(&pool, "98.2");
    fixture.virsh(&["vol-delete", "--pool", &pool, &void[1]]).unwrap();
    let versions = backend.versions().await.unwrap();
    assert!(versions.iter().all(|v| v.version.major.get() != 98));
    fixture.virsh(&["vol-delete", "--pool", &pool, &void[0]]).unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

/// A pool that has no room says so; when there is room, everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_full() {
    let Some(fixture) = Fixture::new() else { return };
    let small = SmallPool::make(&fixture);
    let mut options = fixture.options.clone();
    options.pool = SmallPool::NAME.into();
    let backend = dbaas_backend_libvirt::LibvirtBackend::connect(options).unwrap();
    fixture.make_void_image(SmallPool::NAME, "98.1");
    let mut spec = spec();
    spec.image = "postgres:98".parse().unwrap();
    let node = spec.node;
    small.fill();
    let full = backend.apply(&spec).await.unwrap_err();
    assert_eq!(full.kind(), InfraErrorKind::Exhausted, "{full}");
    small.empty();
    backend.apply(&spec).await.unwrap();
    small.fill();
    let full = backend.start(node, &init(1)).await.unwrap_err();
    assert_eq!(full.kind(), InfraErrorKind::Exhausted, "{full}");
    assert!(!fixture.is_on(node));
    let seen = observe(&backend, node).await.unwrap();
    assert_eq!((seen.power, seen.data), (PowerState::Off, DataState::Empty));
    small.empty();
    backend.remove(node, DataDisposal::Delete).await.unwrap();
    let left = fixture.virsh(&["vol-list", SmallPool::NAME]).unwrap();
    let ours = |line: &&str| line.trim_start().starts_with("dbaas-");
    assert_eq!(left.lines().find(ours), None);
}

/// Data disks that were initialised ahead: an instance costs a clone and a boot, and each set is used once.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the end-to-end core uses it, too; ci/libvirt/run rest runs it"]
async fn the_warm_pool() {
    let Some(fixture) = Fixture::new() else { return };
    let mut options = fixture.options.clone();
    options.warm_sets = 1;
    let backend = dbaas_backend_libvirt::LibvirtBackend::connect(options).unwrap();
    ready(&backend).await;
    assert!(
        backend.list().await.unwrap().is_empty(),
        "what is kept ready is no node"
    );
    let first = spec();
    let mut second = spec();
    second.node.instance = first.node.instance;
    for spec in [&first, &second] {
        backend.apply(spec).await.unwrap();
    }
    let prepare = Prepare::Init {
        admin_password: Secret::new(PASSWORD),
        seeds: vec![second.node.node],
    };
    backend.start(first.node, &recipe(1, prepare)).await.unwrap();
    let mut follows = recipe(
        1,
        Prepare::SeedOf {
            source: first.node.node,
        },
    );
    follows.role = BootRole::Standby;
    backend.start(second.node, &follows).await.unwrap();
    for node in [first.node, second.node] {
        let seen = until(&backend, node, "runs", |p| *p == PowerState::Running).await;
        assert_eq!(
            (seen.data, seen.bootstrap_password),
            (DataState::Initialised, None)
        );
        let name = Fixture::name(node);
        let console = String::from_utf8_lossy(&fixture.pool_file(&format!("{name}.console"))).into_owned();
        assert!(
            !console.contains("file system\n"),
            "no file system was made: {console}"
        );
        assert!(!console.contains(PASSWORD));
        let control = fixture.pool_file(&format!("{name}.control"));
        assert!(!contains(&control, PASSWORD), "a password is left");
        let size = fixture
            .virsh(&["vol-info", "--bytes", "--pool", "dbaas", &format!("{name}.data")])
            .unwrap();
        assert!(size.contains(&(8u64 << 30).to_string()), "{size}");
    }
    // The next one is another one: what was taken is gone, and a new one is made.
    let deadline = Instant::now() + PATIENCE;
    while fixture
        .left()
        .iter()
        .filter(|name| name.ends_with(".data"))
        .count()
        > 2
    {
        assert!(Instant::now() < deadline, "a set that was used goes");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ready(&backend).await;
    for node in [first.node, second.node] {
        backend.power_off(node, PowerOff::Immediate).await.unwrap();
        backend.remove(node, DataDisposal::Delete).await.unwrap();
    }
    assert!(!fixture.left().is_empty(), "the pool outlives instances");
    backend.remove_warm_pool().await.unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

async fn ready(backend: &dbaas_backend_libvirt::LibvirtBackend) {
    let deadline = Instant::now() + PATIENCE;
    while backend.warm_sets().await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "the warm pool is filled");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn contains(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|w| w == what.as_bytes())
}
