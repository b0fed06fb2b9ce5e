//! A node's life on real PostgreSQL.
#![allow(clippy::print_stderr, reason = "measurements for whoever looks")]

mod fixture;

use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::infrastructure::{
    DataDisposal, DataState, ExitReason, InfraErrorKind, InfraEvent, Infrastructure, PowerOff, PowerState,
};
use dbaas_core::secret::Secret;
use fixture::{ADMIN_PASSWORD, Fixture, kill, pid_of, recipe};
use futures_util::StreamExt;

fn existing(epoch: u64) -> dbaas_core::boot::BootRecipe {
    recipe(epoch, Prepare::Existing, BootRole::Primary, None)
}

async fn init_start_restart_and_removal(major: u32) {
    let Some(fixture) = Fixture::new(major) else {
        return;
    };
    let backend = fixture.open();
    let node = fixture.node();
    let spec = fixture.spec(node);

    assert!(backend.observe(node.instance).await.unwrap().found.is_empty());
    assert_eq!(
        backend.start(node, &existing(1)).await.unwrap_err().kind(),
        InfraErrorKind::NotFound
    );
    backend.apply(&spec).await.unwrap();
    backend.apply(&spec).await.unwrap();
    let made = fixture.observe(&backend, node).await;
    assert_eq!(
        (made.power, made.data, made.boot),
        (PowerState::Off, DataState::Empty, None)
    );
    assert_eq!(made.applied, Some(spec.clone()));
    assert!(made.disk_free_bytes.unwrap() > 0);
    assert_eq!(backend.list().await.unwrap(), [node]);
    assert_eq!(
        backend.start(node, &existing(1)).await.unwrap_err().kind(),
        InfraErrorKind::InvalidState
    );

    let init = Prepare::Init {
        admin_password: Secret::new(ADMIN_PASSWORD),
        seeds: vec![],
    };
    let first = recipe(1, init, BootRole::Primary, None);
    let asked = Instant::now();
    backend.start(node, &first).await.unwrap();
    // Not how fast this machine is, but that it does not wait for initdb and a start.
    assert!(asked.elapsed() < Duration::from_secs(5), "start returns at once");
    backend.start(node, &first).await.unwrap();
    let running = fixture.wait_running(&backend, node).await;
    assert_eq!(running.power, PowerState::Running);
    assert_eq!(running.data, DataState::Initialised);
    assert_eq!(running.boot.as_ref().unwrap().epoch, Epoch(1));
    assert_eq!(running.endpoint, made.endpoint);
    assert_eq!(fixture.sql(&backend, node, "SHOW server_encoding").await, "UTF8");
    assert_eq!(fixture.sql(&backend, node, "SHOW data_checksums").await, "on");
    assert_eq!(
        fixture.sql(&backend, node, "SHOW password_encryption").await,
        "scram-sha-256"
    );
    assert_eq!(
        fixture.sql(&backend, node, "SHOW unix_socket_directories").await,
        ""
    );
    assert_eq!(fixture.sql(&backend, node, "SHOW dbaas.epoch").await, "1");
    fixture.sql(&backend, node, "SELECT pg_reload_conf()").await;
    fixture.sql(&backend, node, "SELECT pg_sleep(0.3)").await;
    let pending = "SELECT string_agg(name, ' ') FROM pg_settings WHERE pending_restart";
    assert_eq!(
        fixture.sql(&backend, node, pending).await,
        "",
        "a reload finds what runs"
    );
    let log = backend.logs(node, 50).await.unwrap();
    assert!(log.contains("reloading configuration files"), "{log}");
    assert!(!log.contains("cannot be changed without restarting"), "{log}");
    fixture
        .sql(&backend, node, "CREATE TABLE t AS SELECT 42 AS a")
        .await;
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(fixture.data(node)).unwrap());
    assert_eq!(mode & 0o777, 0o700);
    for pid in fixture.processes() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(
            !status
                .lines()
                .any(|l| l.starts_with("Uid:") && l.contains("\t0\t")),
            "runs as root: {status}"
        );
    }
    assert_eq!(
        backend
            .remove(node, DataDisposal::Delete)
            .await
            .unwrap_err()
            .kind(),
        InfraErrorKind::InvalidState
    );
    assert_eq!(
        backend.start(node, &existing(2)).await.unwrap_err().kind(),
        InfraErrorKind::InvalidState
    );

    backend
        .power_off(node, PowerOff::Graceful { deadline_ms: 30_000 })
        .await
        .unwrap();
    assert_eq!(fixture.processes(), [0; 0]);
    backend
        .power_off(node, PowerOff::Graceful { deadline_ms: 30_000 })
        .await
        .unwrap();
    let off = fixture.observe(&backend, node).await;
    assert_eq!((off.power, off.data), (PowerState::Off, DataState::Initialised));
    assert!(
        backend
            .logs(node, 50)
            .await
            .unwrap()
            .contains("database system is shut down")
    );
    assert_eq!(backend.logs(node, 1).await.unwrap().lines().count(), 1);

    // Init of the same epoch counts as done; of another it is refused.
    let init = Prepare::Init {
        admin_password: Secret::new("another"),
        seeds: vec![],
    };
    let again = recipe(2, init, BootRole::Primary, None);
    assert_eq!(
        backend.start(node, &again).await.unwrap_err().kind(),
        InfraErrorKind::InvalidState
    );
    backend.start(node, &first).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT a FROM t").await, "42");
    assert_ne!(fixture.observe(&backend, node).await.boot, running.boot);
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert_eq!(fixture.processes(), [0; 0]);

    backend.start(node, &existing(3)).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT a FROM t").await, "42");
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert_eq!(
        backend.start(node, &existing(2)).await.unwrap_err().kind(),
        InfraErrorKind::StaleEpoch
    );

    // Kept, found again, and deleted.
    backend.remove(node, DataDisposal::Keep).await.unwrap();
    assert!(backend.list().await.unwrap().is_empty());
    backend.apply(&spec).await.unwrap();
    assert_eq!(
        fixture.observe(&backend, node).await.boot.unwrap().epoch,
        Epoch(3)
    );
    backend.start(node, &existing(4)).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT a FROM t").await, "42");
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
    backend.remove(node, DataDisposal::Delete).await.unwrap();
    backend.remove(node, DataDisposal::Delete).await.unwrap();
    assert!(backend.list().await.unwrap().is_empty());
    assert!(!fixture.node_dir(node).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn init_start_restart_and_removal_15() {
    init_start_restart_and_removal(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_start_restart_and_removal_18() {
    init_start_restart_and_removal(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_is_told_at_once_and_leaves_no_child() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    let pid = pid_of(&fixture.observe(&backend, node).await);

    // A child that is stopped would outlive its postmaster.
    let child = fixture.processes().into_iter().find(|p| *p != pid).unwrap();
    kill(child, "STOP");
    let mut events = backend.events();
    kill(pid, "KILL");
    let event = tokio::time::timeout(Duration::from_secs(10), events.next())
        .await
        .unwrap();
    assert_eq!(event, Some(InfraEvent::NodeChanged(node)));
    let PowerState::Exited(exit) = fixture.observe(&backend, node).await.power else {
        panic!("not exited")
    };
    assert_eq!(exit.reason, ExitReason::Died);
    assert!(exit.message.contains("killed (signal 9)"), "{}", exit.message);
    assert_eq!(fixture.processes(), [0; 0]);

    // Its postmaster.pid is still there; that does not keep it from starting.
    assert!(fixture.data(node).join("postmaster.pid").exists());
    backend.start(node, &existing(1)).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT 1").await, "1");
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_seen_and_switched_off() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    let mut events = backend.events();
    let mut all = fixture.processes();
    assert!(all.len() > 3);
    for pid in &all {
        kill(*pid, "STOP");
    }
    let event = tokio::time::timeout(Duration::from_secs(30), events.next())
        .await
        .unwrap();
    assert_eq!(event, Some(InfraEvent::NodeChanged(node)));
    assert_eq!(fixture.observe(&backend, node).await.power, PowerState::Frozen);
    let asked = Instant::now();
    backend
        .power_off(node, PowerOff::Graceful { deadline_ms: 60_000 })
        .await
        .unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "a frozen server is not waited for"
    );
    all.retain(|pid| {
        std::path::Path::new(&format!("/proc/{pid}/cwd"))
            .read_link()
            .is_ok()
    });
    assert_eq!(all, [0; 0]);
    assert_eq!(fixture.processes(), [0; 0]);
    assert_eq!(fixture.observe(&backend, node).await.power, PowerState::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_way_is_not_taken_for_a_death() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    fixture.primary(&backend, node, vec![]).await;
    fixture.wait_running(&backend, node).await;
    for round in 0..5 {
        let mode = PowerOff::Graceful { deadline_ms: 10_000 };
        backend.power_off(node, mode).await.unwrap();
        let recipe = existing(1);
        let mut start = std::pin::pin!(backend.start(node, &recipe));
        loop {
            let seen = tokio::select! {
                biased;
                seen = fixture.observe(&backend, node) => seen,
                started = &mut start => break started.unwrap(),
            };
            assert!(
                !matches!(seen.power, PowerState::Exited(_)),
                "round {round}: {:?}",
                seen.power
            );
            // Lets the start, which is asked for only here, go on.
            tokio::select! {
                biased;
                started = &mut start => break started.unwrap(),
                () = tokio::time::sleep(Duration::from_micros(200)) => {}
            }
        }
        fixture.wait_running(&backend, node).await;
    }
}

/// What is left of a server that has ended is killed by a thread that may come late: it must not meet the
/// next server.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_server_does_not_end_the_next_one() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    fixture.primary(&backend, node, vec![]).await;
    for round in 0..25 {
        let running = fixture.wait_running(&backend, node).await;
        if round % 2 == 0 {
            kill(pid_of(&running), "KILL");
        }
        backend.power_off(node, PowerOff::Immediate).await.unwrap();
        backend.start(node, &existing(1)).await.unwrap();
        let started = fixture.observe(&backend, node).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let later = fixture.observe(&backend, node).await;
        assert_eq!(later.power, PowerState::Running, "round {round}");
        assert_eq!(later.boot, started.boot, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlives_the_backend_and_is_adopted() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    let before = fixture.observe(&backend, node).await;
    let second = dbaas_backend_local::LocalBackend::open(fixture.dir.path(), fixture.options.clone());
    assert_eq!(second.unwrap_err().kind(), InfraErrorKind::Collision);

    drop(backend);
    let backend = fixture.open();
    let after = fixture.observe(&backend, node).await;
    assert_eq!(
        after,
        dbaas_core::infrastructure::ObservedNode {
            disk_free_bytes: after.disk_free_bytes,
            ..before.clone()
        }
    );
    assert_eq!(fixture.sql(&backend, node, "SELECT 1").await, "1");

    // Without our own note, by what PostgreSQL wrote down.
    drop(backend);
    std::fs::remove_file(fixture.node_dir(node).join("process.json")).unwrap();
    let backend = fixture.open();
    assert_eq!(
        fixture.observe(&backend, node).await.backend_ref,
        before.backend_ref
    );

    // Its death is told, too.
    let mut events = backend.events();
    let killed = Instant::now();
    kill(pid_of(&after), "KILL");
    tokio::time::timeout(Duration::from_secs(10), events.next())
        .await
        .unwrap();
    assert!(
        killed.elapsed() < Duration::from_millis(200),
        "{:?}",
        killed.elapsed()
    );
    assert!(matches!(
        fixture.observe(&backend, node).await.power,
        PowerState::Exited(_)
    ));
    assert_eq!(fixture.processes(), [0; 0]);

    // And is still known after another restart of the backend.
    drop(backend);
    let backend = fixture.open();
    let PowerState::Exited(exit) = fixture.observe(&backend, node).await.power else {
        panic!("not exited")
    };
    assert!(exit.message.contains("PostgreSQL"), "{}", exit.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_machine_leaves_stale_files_only() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    let pid = pid_of(&fixture.observe(&backend, node).await);
    drop(backend);
    kill(pid, "KILL");
    while !fixture.processes().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Both files name a pid that another process, this one, has now.
    let me = std::process::id();
    let pidfile = fixture.data(node).join("postmaster.pid");
    let text = std::fs::read_to_string(&pidfile).unwrap();
    std::fs::write(&pidfile, text.replacen(&pid.to_string(), &me.to_string(), 1)).unwrap();
    let note = fixture.node_dir(node).join("process.json");
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replacen(&pid.to_string(), &me.to_string(), 1)).unwrap();

    let backend = fixture.open();
    let seen = fixture.observe(&backend, node).await;
    let PowerState::Exited(exit) = seen.power else {
        panic!("{seen:?}")
    };
    assert_eq!(exit.reason, ExitReason::Died);
    assert!(
        exit.message
            .contains("the machine was restarted, or it was killed"),
        "{}",
        exit.message
    );
    backend.start(node, &existing(1)).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT 1").await, "1");
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_took_is_said_clearly() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let (node, other) = (fixture.node(), fixture.node());
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    backend.apply(&fixture.spec(other)).await.unwrap();
    let endpoint = fixture.observe(&backend, node).await.endpoint.unwrap();
    assert_ne!(
        fixture.observe(&backend, other).await.endpoint.unwrap().port,
        endpoint.port
    );
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    let squatter = std::net::TcpListener::bind((endpoint.host.as_str(), endpoint.port)).unwrap();
    let error = backend.start(node, &existing(1)).await.unwrap_err();
    assert_eq!(error.kind(), InfraErrorKind::Collision);
    assert!(
        error.to_string().contains(&format!("port {} ", endpoint.port)),
        "{error}"
    );
    let PowerState::Exited(exit) = fixture.observe(&backend, node).await.power else {
        panic!("not exited")
    };
    assert_eq!(exit.message, error.to_string());
    drop(squatter);
    backend.start(node, &existing(1)).await.unwrap();
    fixture.sql(&backend, node, "SELECT 1").await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_says_when_it_cannot_start_is_passed_on() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "SELECT 1").await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    let mut broken = existing(2);
    broken.files[0].content = Secret::new("no_such_setting = 1\n");
    backend.start(node, &broken).await.unwrap();
    let seen = fixture
        .wait(&backend, node, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    let PowerState::Exited(exit) = seen.power else {
        unreachable!()
    };
    assert_eq!(exit.reason, ExitReason::Died);
    assert!(
        exit.message.contains("exit code 1") && exit.message.contains("FATAL"),
        "{}",
        exit.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_epoch_refuses_older_recipes() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    fixture
        .sql(&backend, node, "ALTER SYSTEM SET dbaas.epoch = '7'")
        .await;
    assert_eq!(
        backend.start(node, &existing(6)).await.unwrap_err().kind(),
        InfraErrorKind::StaleEpoch
    );
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert_eq!(
        backend.start(node, &existing(6)).await.unwrap_err().kind(),
        InfraErrorKind::StaleEpoch
    );
    backend.start(node, &existing(7)).await.unwrap();
    assert_eq!(fixture.sql(&backend, node, "SHOW dbaas.epoch").await, "7");
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
}

/// System V segments made by a process, and files of POSIX shared memory that nobody had before.
fn shared_memory(pid: u32) -> (usize, std::collections::BTreeSet<String>) {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let of_pid = table
        .lines()
        .filter(|l| l.split_whitespace().nth(4) == Some(&pid.to_string()))
        .count();
    let files = std::fs::read_dir("/dev/shm")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    (of_pid, files.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_leaves_no_shared_memory() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    for by_somebody_else in [false, true] {
        let node = fixture.node();
        fixture.primary(&backend, node, vec![]).await;
        fixture.sql(&backend, node, "SELECT 1").await;
        let pid = pid_of(&fixture.observe(&backend, node).await);
        let mapped = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let mapped: Vec<&str> = mapped
            .lines()
            .filter_map(|l| l.split("/dev/shm/").nth(1))
            .collect();
        assert!(!mapped.is_empty());
        let (segments, files) = shared_memory(pid);
        assert!(segments == 1 && mapped.iter().all(|name| files.contains(*name)));
        if by_somebody_else {
            // After it ran for a while.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            kill(pid, "KILL");
        }
        backend.power_off(node, PowerOff::Immediate).await.unwrap();
        assert_eq!(shared_memory(pid).0, 1, "a killed server leaves it behind");
        backend.remove(node, DataDisposal::Delete).await.unwrap();
        let (segments, files) = shared_memory(pid);
        assert!(
            segments == 0 && !mapped.iter().any(|name| files.contains(*name)),
            "{mapped:?}"
        );
    }
}

/// A small file system in memory, unmounted when this is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir_all(&at).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=120m,mode=755", "tmpfs"])
            .arg(&at)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(at)),
            _ => {
                eprintln!("SKIPPED: cannot mount a small disk here");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        fixture::processes_below(&self.0)
            .into_iter()
            .for_each(|pid| kill(pid, "KILL"));
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_called_so() {
    let Some(fixture) = Fixture::new(15) else { return };
    let Some(disk) = SmallDisk::mount(fixture.dir.path().join("small")) else {
        return;
    };
    let backend = dbaas_backend_local::LocalBackend::open(&disk.0, fixture.options.clone()).unwrap();
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    fixture.sql(&backend, node, "CREATE TABLE t (a text)").await;
    let before = fixture.observe(&backend, node).await;
    assert!(before.disk_free_bytes.unwrap() < 120 << 20);
    // Until no WAL can be written: then PostgreSQL gives up.
    let fill = "INSERT INTO t SELECT repeat(md5(i::text), 30) FROM generate_series(1, 20000) i; CHECKPOINT";
    let deadline = Instant::now() + Duration::from_secs(60);
    while fixture.observe(&backend, node).await.power == PowerState::Running {
        let _ = fixture.try_sql(&before, fill);
        assert!(Instant::now() < deadline, "the disk does not fill up");
    }
    let seen = fixture.observe(&backend, node).await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::DiskFull),
        "{seen:?}"
    );
    assert!(seen.disk_free_bytes.unwrap() < before.disk_free_bytes.unwrap());

    // A new node does not fit either.
    let other = fixture.node();
    fixture.primary(&backend, other, vec![]).await;
    let seen = fixture
        .wait(&backend, other, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::DiskFull),
        "{seen:?}"
    );
    assert_eq!(seen.data, DataState::Incomplete);
}
