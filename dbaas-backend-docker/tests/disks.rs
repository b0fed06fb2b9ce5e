//! Disks of a fixed size: that they hold, grow, fill up and go.

mod fixture;
mod node;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use dbaas_backend_docker::{DockerBackend, DockerOptions};
use dbaas_core::boot::Prepare;
use dbaas_core::infrastructure::{
    DataDisposal, Enforcement, ExitReason, InfraErrorKind, Infrastructure, NodeRef, NodeSpec, PowerOff,
    PowerState,
};
use dbaas_core::size::DiskGb;
use fixture::{Fixture, loop_devices_under};
use node::{PASSWORD, init, node, observe, recipe, spec, until};

const GB: u64 = 1 << 30;

/// `None`, loudly, where there is no engine of the tests' own.
fn with_disks() -> Option<Fixture> {
    let fixture = Fixture::new(15)?.with_disks();
    fixture.disks().is_some().then_some(fixture)
}

fn sized(fixture: &Fixture, node: NodeRef, gb: u64) -> NodeSpec {
    let mut spec = spec(fixture, node);
    spec.resources.disk = DiskGb::new(gb).unwrap();
    spec
}

/// The size of the node's file system, as the node sees it.
fn size_inside(fixture: &Fixture, node: NodeRef) -> u64 {
    let size = [
        "exec",
        &Fixture::name(node),
        "stat",
        "-f",
        "-c",
        "%b %S",
        "/var/lib/postgresql/data",
    ];
    let told = fixture.docker(&size).unwrap();
    let (blocks, bytes) = told.split_once(' ').unwrap();
    blocks.parse::<u64>().unwrap() * bytes.parse::<u64>().unwrap()
}

/// The engine's directory of the node's volume.
fn mountpoint(fixture: &Fixture, node: NodeRef) -> PathBuf {
    let asked = ["volume", "inspect", "-f", "{{.Mountpoint}}", &Fixture::name(node)];
    fixture.docker(&asked).unwrap().into()
}

/// Takes all room but a little; nothing of it is written.
fn fill(directory: &Path) -> PathBuf {
    let ballast = directory.join("ballast");
    let free = rustix::fs::statvfs(directory).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(4 << 20);
    let file = std::fs::File::create(&ballast).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    ballast
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_disk() {
    let Some(fixture) = with_disks() else { return };
    let disks = fixture.disks().unwrap();
    let backend = fixture.open();
    assert_eq!(backend.capabilities().disk, Enforcement::Enforced);
    let node = node();
    backend.apply(&sized(&fixture, node, 8)).await.unwrap();
    backend.start(node, &init()).await.unwrap();
    let seen = until(&backend, node, PowerState::Running).await;
    let size = size_inside(&fixture, node);
    assert!((7 * GB..8 * GB).contains(&size), "{size}");
    let free = seen.disk_free_bytes.unwrap();
    assert!((7 * GB..size).contains(&free), "{free}");

    // It grows while the node is off, and only then.
    let larger = sized(&fixture, node, 12);
    backend.apply(&larger).await.unwrap();
    assert_eq!(size_inside(&fixture, node), size);
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    backend.apply(&larger).await.unwrap();
    // The machine was rebooted: loop devices are gone, and others may have their numbers.
    for device in loop_devices_under(&disks) {
        assert!(
            Command::new("losetup")
                .args(["-d", &device])
                .status()
                .unwrap()
                .success()
        );
    }
    assert_eq!(observe(&backend, node).await.power, PowerState::Off);
    backend.start(node, &recipe(2, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    let grown = size_inside(&fixture, node);
    assert!((11 * GB..12 * GB).contains(&grown), "{grown}");

    // It fills up: PostgreSQL ends where it cannot write WAL, the node says why, and growing heals it.
    fill(&mountpoint(&fixture, node));
    let password = format!("PGPASSWORD={PASSWORD}");
    let name = Fixture::name(node);
    let mut write = vec![
        "exec",
        "-e",
        &password,
        &name,
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "dbaas_admin",
    ];
    write.extend([
        "-d",
        "postgres",
        "-c",
        "CREATE TABLE IF NOT EXISTS t (i int)",
        "-c",
        "INSERT INTO t VALUES (1)",
    ]);
    write.extend(["-c", "SELECT pg_switch_wal()"]);
    let begin = Instant::now();
    let exit = loop {
        let _ = fixture.docker(&write);
        match observe(&backend, node).await.power {
            PowerState::Exited(exit) => break exit,
            _ => assert!(begin.elapsed() < Duration::from_secs(60), "PostgreSQL runs on"),
        }
    };
    assert_eq!(exit.reason, ExitReason::DiskFull, "{exit:?}");
    backend.apply(&sized(&fixture, node, 13)).await.unwrap();
    backend.start(node, &recipe(2, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();

    backend.remove(node, DataDisposal::Delete).await.unwrap();
    assert_eq!(fixture.left(), Vec::<String>::new());
}

/// A disk whose volume somebody removed is kept for a day, and gone after it.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_removed() {
    let Some(fixture) = with_disks() else { return };
    let disks = fixture.disks().unwrap();
    let backend = fixture.open();
    let (kept, gone) = (node(), node());
    for node in [kept, gone] {
        backend.apply(&sized(&fixture, node, 8)).await.unwrap();
        fixture.docker(&["rm", "-f", &Fixture::name(node)]).unwrap();
        fixture.docker(&["volume", "rm", &Fixture::name(node)]).unwrap();
    }
    drop(backend);
    let image = |node: NodeRef| disks.join(format!("{}.img", node.node));
    let two_days = Duration::from_secs(2 * 24 * 3600);
    let file = std::fs::File::options().write(true).open(image(gone)).unwrap();
    file.set_modified(SystemTime::now() - two_days).unwrap();
    drop(file);
    let _backend = fixture.open();
    let begin = Instant::now();
    while image(gone).exists() || loop_devices_under(&image(gone)) != Vec::<String>::new() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the orphan stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(image(kept).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machines_engine_has_none() {
    let options = DockerOptions {
        host: Some("tcp://192.0.2.1:2376".into()),
        disk_limits: Some("/var/tmp/dbaas-none".into()),
        ..DockerOptions::default()
    };
    let error = DockerBackend::connect(options).unwrap_err();
    assert_eq!(error.kind(), InfraErrorKind::Unsupported);
    assert!(error.to_string().contains("not one of this machine"), "{error}");
}
