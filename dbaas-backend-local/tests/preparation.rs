//! How data directories come to be, on real PostgreSQL.
#![allow(clippy::print_stderr, reason = "measurements for whoever looks")]

mod fixture;

use std::time::{Duration, Instant};

use dbaas_backend_local::{LocalBackend, WarmPool};
use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::infrastructure::{
    DataState, Endpoint, ExitReason, InfraErrorKind, Infrastructure, NodeRef, ObservedNode, PowerOff,
    PowerState,
};
use dbaas_core::secret::Secret;
use fixture::{ADMIN_PASSWORD, Fixture, kill, recipe, source};

/// A primary with two standbys that are seed copies; the replication role is there.
async fn three(fixture: &Fixture, backend: &LocalBackend) -> [NodeRef; 3] {
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    for node in nodes {
        backend.apply(&fixture.spec(node)).await.unwrap();
    }
    let primary = fixture.observe(backend, nodes[0]).await;
    // The standbys first: they wait for their copies.
    for node in &nodes[1..] {
        let follow = recipe(
            1,
            Prepare::SeedOf {
                source: nodes[0].node,
            },
            BootRole::Standby,
            Some((&primary, "")),
        );
        backend.start(*node, &follow).await.unwrap();
        assert_eq!(fixture.observe(backend, *node).await.power, PowerState::Preparing);
    }
    let seeds = nodes[1..].iter().map(|n| n.node).collect();
    let prepare = Prepare::Init {
        admin_password: Secret::new(ADMIN_PASSWORD),
        seeds,
    };
    backend
        .start(nodes[0], &recipe(1, prepare, BootRole::Primary, None))
        .await
        .unwrap();
    for node in nodes {
        assert_eq!(
            fixture.wait_running(backend, node).await.power,
            PowerState::Running
        );
    }
    fixture.make_replication_role(backend, nodes[0]).await;
    nodes
}

/// Waits until a query answers so.
async fn until(fixture: &Fixture, seen: &ObservedNode, sql: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut got = fixture.try_sql(seen, sql);
    while got.as_deref() != Ok(answer) {
        assert!(Instant::now() < deadline, "{sql}: {got:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        got = fixture.try_sql(seen, sql);
    }
}

async fn stop(fixture: &Fixture, backend: &LocalBackend) {
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
    assert_eq!(fixture.processes(), [0; 0]);
}

async fn seeds_stream(major: u32) {
    let Some(fixture) = Fixture::new(major) else {
        return;
    };
    let backend = fixture.open();
    let nodes = three(&fixture, &backend).await;
    let primary = fixture.observe(&backend, nodes[0]).await;
    until(
        &fixture,
        &primary,
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
        "2",
    )
    .await;
    fixture
        .sql(&backend, nodes[0], "CREATE TABLE t AS SELECT 42 AS a")
        .await;
    for node in &nodes[1..] {
        let seen = fixture.observe(&backend, *node).await;
        until(&fixture, &seen, "SELECT a FROM t", "42").await;
        assert_eq!(
            fixture.sql(&backend, *node, "SELECT pg_is_in_recovery()").await,
            "t"
        );
    }
    // Started again with the recipe of its birth, a standby goes on with what it has.
    backend.power_off(nodes[1], PowerOff::Immediate).await.unwrap();
    let follow = recipe(
        1,
        Prepare::SeedOf {
            source: nodes[0].node,
        },
        BootRole::Standby,
        Some((&primary, "")),
    );
    backend.start(nodes[1], &follow).await.unwrap();
    let seen = fixture.observe(&backend, nodes[1]).await;
    until(&fixture, &seen, "SELECT a FROM t", "42").await;
    for _ in 0..100 {
        assert_eq!(backend.observe(fixture.instance).await.unwrap().found.len(), 3);
    }
    stop(&fixture, &backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_stream_15() {
    seeds_stream(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_stream_18() {
    seeds_stream(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_without_a_copy_is_told_so() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let (first, late) = (fixture.node(), fixture.node());
    fixture.primary(&backend, first, vec![]).await;
    backend.apply(&fixture.spec(late)).await.unwrap();
    let primary = fixture.wait_running(&backend, first).await;
    let follow = recipe(
        1,
        Prepare::SeedOf { source: first.node },
        BootRole::Standby,
        Some((&primary, "")),
    );
    backend.start(late, &follow).await.unwrap();
    let seen = fixture
        .wait(&backend, late, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::SeedGone),
        "{seen:?}"
    );
    assert_eq!(seen.data, DataState::Empty);
    stop(&fixture, &backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn base_backup_then_rewind_after_divergence_15() {
    base_backup_then_rewind_after_divergence(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn base_backup_then_rewind_after_divergence_18() {
    base_backup_then_rewind_after_divergence(18).await;
}

async fn base_backup_then_rewind_after_divergence(major: u32) {
    let Some(fixture) = Fixture::new(major) else {
        return;
    };
    let backend = fixture.open();
    let (a, b) = (fixture.node(), fixture.node());
    fixture.primary(&backend, a, vec![]).await;
    fixture.make_replication_role(&backend, a).await;
    fixture
        .sql(&backend, a, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        .await;
    fixture
        .sql(
            &backend,
            a,
            "SELECT pg_create_physical_replication_slot('b', true)",
        )
        .await;
    backend.apply(&fixture.spec(b)).await.unwrap();
    let seen_a = fixture.observe(&backend, a).await;
    let backup = |slot: &str| {
        let prepare = Prepare::BaseBackup {
            source: source(&seen_a),
            slot: slot.into(),
        };
        recipe(1, prepare, BootRole::Standby, Some((&seen_a, slot)))
    };

    // A backup that fails leaves nothing that could be started.
    backend.start(b, &backup("no_such_slot")).await.unwrap();
    let seen = fixture
        .wait(&backend, b, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    let PowerState::Exited(exit) = &seen.power else {
        unreachable!()
    };
    assert_eq!(exit.reason, ExitReason::PreparationFailed);
    assert!(exit.message.contains("no_such_slot"), "{}", exit.message);
    // Incomplete if it was seen to send before it failed, and otherwise as before.
    assert_ne!(seen.data, DataState::Initialised);
    let existing = recipe(1, Prepare::Existing, BootRole::Standby, None);
    assert_eq!(
        backend.start(b, &existing).await.unwrap_err().kind(),
        InfraErrorKind::InvalidState
    );

    backend.start(b, &backup("b")).await.unwrap();
    assert_eq!(fixture.wait_running(&backend, b).await.power, PowerState::Running);
    let seen_b = fixture.observe(&backend, b).await;
    until(&fixture, &seen_b, "SELECT a FROM t", "1").await;
    let secrets = ["pgpass", "pwfile"].map(|name| fixture.node_dir(b).join("run").join(name));
    assert!(secrets.iter().all(|path| !path.exists()));

    // The primary is killed with rows that the standby never gets.
    backend
        .power_off(b, PowerOff::Graceful { deadline_ms: 30_000 })
        .await
        .unwrap();
    fixture
        .sql(
            &backend,
            a,
            "INSERT INTO t VALUES (2); CHECKPOINT; INSERT INTO t VALUES (3)",
        )
        .await;
    backend.power_off(a, PowerOff::Immediate).await.unwrap();
    backend
        .start(b, &recipe(2, Prepare::Existing, BootRole::Standby, None))
        .await
        .unwrap();
    until(&fixture, &seen_b, "SELECT pg_promote()", "t").await;
    fixture
        .sql(&backend, b, "INSERT INTO t VALUES (4); CHECKPOINT")
        .await;

    // A source that does not answer: nothing was touched, the data is whole.
    let mut nowhere = source(&seen_b);
    nowhere.endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: 1,
    };
    let rewind = |source| {
        recipe(
            2,
            Prepare::Rewind { source },
            BootRole::Standby,
            Some((&seen_b, "")),
        )
    };
    backend.start(a, &rewind(nowhere)).await.unwrap();
    let seen = fixture
        .wait(&backend, a, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::PreparationFailed),
        "{seen:?}"
    );
    assert_eq!(seen.data, DataState::Initialised, "{seen:?}");

    let started = Instant::now();
    backend.start(a, &rewind(source(&seen_b))).await.unwrap();
    assert_eq!(fixture.wait_running(&backend, a).await.power, PowerState::Running);
    until(
        &fixture,
        &seen_a,
        "SELECT string_agg(a::text, ',' ORDER BY a) FROM t",
        "1,4",
    )
    .await;
    eprintln!("rewound and caught up after {:?}", started.elapsed());
    assert_eq!(
        fixture
            .sql(&backend, a, "SELECT count(*) FROM pg_replication_slots")
            .await,
        "0"
    );
    assert_eq!(fixture.sql(&backend, a, "SHOW dbaas.epoch").await, "2");

    // Where there is nothing to rewind, that is fine.
    backend
        .power_off(a, PowerOff::Graceful { deadline_ms: 30_000 })
        .await
        .unwrap();
    backend.start(a, &rewind(source(&seen_b))).await.unwrap();
    fixture.sql(&backend, b, "INSERT INTO t VALUES (5)").await;
    until(&fixture, &seen_a, "SELECT count(*) FROM t", "3").await;

    // But not if it was killed: the recovery that comes first writes WAL that its primary does not have.
    backend.power_off(a, PowerOff::Immediate).await.unwrap();
    backend.start(a, &rewind(source(&seen_b))).await.unwrap();
    let seen = fixture
        .wait(&backend, a, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::CannotRewind),
        "{seen:?}"
    );
    assert_eq!(seen.data, DataState::Incomplete);
    fixture
        .sql(
            &backend,
            b,
            "SELECT pg_create_physical_replication_slot('a', true)",
        )
        .await;
    let anew = Prepare::BaseBackup {
        source: source(&seen_b),
        slot: "a".into(),
    };
    let anew = recipe(2, anew, BootRole::Standby, Some((&seen_b, "a")));
    backend.start(a, &anew).await.unwrap();
    assert_eq!(fixture.wait_running(&backend, a).await.power, PowerState::Running);
    until(&fixture, &seen_a, "SELECT count(*) FROM t", "3").await;

    // Another cluster cannot be a source.
    let c = fixture.node();
    fixture.primary(&backend, c, vec![]).await;
    fixture.make_replication_role(&backend, c).await;
    let seen_c = fixture.observe(&backend, c).await;
    backend.power_off(a, PowerOff::Immediate).await.unwrap();
    backend.start(a, &rewind(source(&seen_c))).await.unwrap();
    let seen = fixture
        .wait(&backend, a, "exited", |p| matches!(p, PowerState::Exited(_)))
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::CannotRewind),
        "{seen:?}"
    );
    assert_eq!(seen.data, DataState::Incomplete);
    stop(&fixture, &backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_is_stopped_and_never_started_as_it_is() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    let mut starts = 0;
    let init = || Prepare::Init {
        admin_password: Secret::new(ADMIN_PASSWORD),
        seeds: vec![],
    };
    for how in ["power_off", "kill", "power_off late"] {
        starts += 1;
        backend.apply(&fixture.spec(node)).await.unwrap();
        backend
            .start(node, &recipe(starts, init(), BootRole::Primary, None))
            .await
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while fixture.processes().is_empty() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fixture.observe(&backend, node).await.data, DataState::Incomplete);
        match how {
            "power_off" | "power_off late" => {
                // By then the directory looks whole, and is not.
                while how == "power_off late" && !fixture.data(node).join("global/pg_control").exists() {
                    assert!(Instant::now() < deadline);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                backend.power_off(node, PowerOff::Immediate).await.unwrap();
                assert_eq!(fixture.processes(), [0; 0]);
                assert_eq!(fixture.observe(&backend, node).await.power, PowerState::Off);
            }
            _ => {
                fixture.processes().into_iter().for_each(|pid| kill(pid, "KILL"));
                let seen = fixture
                    .wait(&backend, node, "exited", |p| matches!(p, PowerState::Exited(_)))
                    .await;
                assert!(
                    matches!(seen.power, PowerState::Exited(e) if e.reason == ExitReason::PreparationFailed)
                );
            }
        }
        assert_eq!(fixture.observe(&backend, node).await.data, DataState::Incomplete);
        let existing = recipe(starts, Prepare::Existing, BootRole::Primary, None);
        assert_eq!(
            backend.start(node, &existing).await.unwrap_err().kind(),
            InfraErrorKind::InvalidState
        );
    }
    // It may be replaced.
    backend
        .start(node, &recipe(9, init(), BootRole::Primary, None))
        .await
        .unwrap();
    assert_eq!(fixture.sql(&backend, node, "SELECT 1").await, "1");
    stop(&fixture, &backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_reopened_ends_what_a_preparation_left() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    fixture.primary(&backend, node, vec![]).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while fixture.processes().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(backend);
    let backend = fixture.open();
    let seen = fixture.observe(&backend, node).await;
    assert_eq!(seen.data, DataState::Incomplete, "{seen:?}");
    let PowerState::Exited(exit) = seen.power else {
        panic!("{seen:?}")
    };
    assert_eq!(exit.reason, ExitReason::PreparationFailed);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fixture.processes().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fixture.observe(&backend, node).await.data, DataState::Incomplete);
}

/// A program that was killed cannot end what it started: the next one does, and nothing else that happens to
/// be there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_program_left_running_is_ended() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = fixture.node();
    let backend = fixture.open();
    backend.apply(&fixture.spec(node)).await.unwrap();
    drop(backend);
    let dir = fixture.node_dir(node);
    std::fs::create_dir(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/half"), "").unwrap();
    std::fs::write(dir.join("incomplete"), "").unwrap();
    let text = std::fs::read_to_string(dir.join("node.json")).unwrap();
    std::fs::write(dir.join("node.json"), text.replace("\"off\"", "\"on\"")).unwrap();
    let left = |mark: Option<&str>| {
        let mut command = std::process::Command::new("sleep");
        command.arg("600").current_dir(dir.join("data"));
        mark.map(|mark| command.env("DBAAS_NODE", mark));
        command.spawn().unwrap()
    };
    let (mut tool, mut operator) = (left(Some("x")), left(None));
    let backend = fixture.open();
    let seen = fixture.observe(&backend, node).await;
    // Reaped by the backend, or here.
    assert!(
        tool.try_wait().map_or(true, |status| status.is_some()),
        "the preparation's program still runs"
    );
    assert!(
        operator.try_wait().unwrap().is_none(),
        "a process that is not ours was killed"
    );
    operator.kill().unwrap();
    operator.wait().unwrap();
    assert_eq!(seen.data, DataState::Incomplete);
    let PowerState::Exited(exit) = seen.power else {
        panic!("{seen:?}")
    };
    assert_eq!(exit.reason, ExitReason::PreparationFailed);
    assert!(exit.message.contains("interrupted"), "{}", exit.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warm_pool_gives_whole_clusters_each_of_its_own() {
    let Some(mut fixture) = Fixture::new(15) else {
        return;
    };
    fixture.options.warm_pool = WarmPool {
        sets: 1,
        seeds_per_set: 1,
    };
    let backend = fixture.open();
    let major = fixture.installation.version.major;
    // The machine may have a newer PostgreSQL; the pool is for the newest, and for what is used.
    let newest = backend.versions().await.unwrap().last().unwrap().version.major;
    fixture.pool_filled(&backend, newest).await;
    let mut identifiers = std::collections::HashSet::new();
    for round in 0..2 {
        let nodes = [fixture.node(), fixture.node(), fixture.node()];
        for node in nodes {
            backend.apply(&fixture.spec(node)).await.unwrap();
        }
        let had = backend.pool_ready(major);
        let started = Instant::now();
        let seeds = nodes[1..].iter().map(|n| n.node).collect();
        let prepare = Prepare::Init {
            admin_password: Secret::new(ADMIN_PASSWORD),
            seeds,
        };
        backend
            .start(nodes[0], &recipe(1, prepare, BootRole::Primary, None))
            .await
            .unwrap();
        let primary = fixture.wait_running(&backend, nodes[0]).await;
        for node in &nodes[1..] {
            let follow = recipe(
                1,
                Prepare::SeedOf {
                    source: nodes[0].node,
                },
                BootRole::Standby,
                Some((&primary, "")),
            );
            backend.start(*node, &follow).await.unwrap();
        }
        eprintln!(
            "round {round}: running after {:?}, {had} sets ready",
            started.elapsed()
        );
        assert_eq!(primary.bootstrap_password.is_some(), had > 0);
        if had > 0 {
            assert_ne!(primary.bootstrap_password, Some(Secret::new(ADMIN_PASSWORD)));
        }
        fixture.make_replication_role(&backend, nodes[0]).await;
        until(
            &fixture,
            &primary,
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
            "2",
        )
        .await;
        let identifier = fixture
            .sql(
                &backend,
                nodes[0],
                "SELECT system_identifier FROM pg_control_system()",
            )
            .await;
        assert!(identifiers.insert(identifier), "two instances are one cluster");
        backend.stop_all(Duration::from_secs(30)).await.unwrap();
        fixture.pool_filled(&backend, major).await;
    }
    // What a crash leaves of a set being made is cleaned up; what is whole stays.
    let half = fixture
        .dir
        .path()
        .join(format!("pool/{}/half.new", fixture.installation.version));
    std::fs::create_dir_all(half.join("primary")).unwrap();
    drop(backend);
    let backend = fixture.open();
    assert!(!half.exists());
    assert_eq!(backend.pool_ready(major), 1);
    drop(backend);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fixture.processes().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
