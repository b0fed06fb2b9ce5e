//! Data directories that are copies of a template, each with an identity of its own, on real PostgreSQL.

#![allow(clippy::print_stderr, reason = "measurements for whoever looks")]

mod fixture;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dbaas_backend_local::{LocalBackend, WarmPool};
use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode, PowerOff, PowerState};
use dbaas_core::version::PostgresMajor;
use fixture::{Fixture, recipe, source};
use uuid::Uuid;

const GRACEFUL: PowerOff = PowerOff::Graceful { deadline_ms: 30_000 };

/// What `pg_controldata` shows of the system identifier and of the secret of mock challenges.
fn identity(fixture: &Fixture, data: &Path) -> (String, String) {
    let shown = program(fixture, "pg_controldata", &["-D", &data.display().to_string()]);
    assert!(!shown.contains("WARNING"), "{shown}");
    let value = |label: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {shown}"))
            .trim()
            .to_owned()
    };
    (
        value("Database system identifier:"),
        value("Mock authentication nonce:"),
    )
}

fn program(fixture: &Fixture, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(fixture.installation.bin_dir.join(name))
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn until(fixture: &Fixture, seen: &ObservedNode, sql: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut got = fixture.try_sql(seen, sql);
    while got.as_deref() != Ok(answer) {
        assert!(Instant::now() < deadline, "{sql}: {got:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        got = fixture.try_sql(seen, sql);
    }
}

/// A node of an instance of its own.
fn stranger(fixture: &Fixture) -> NodeRef {
    NodeRef {
        instance: InstanceId::from_uuid(Uuid::now_v7()),
        ..fixture.node()
    }
}

/// A backend whose pool has a template of this version, and a set that is a copy of it.
async fn opened(fixture: &mut Fixture) -> LocalBackend {
    fixture.options.warm_pool = WarmPool {
        sets: 1,
        seeds_per_set: 1,
    };
    let backend = fixture.open();
    let own = fixture.installation.version.major;
    // The pool is for the newest version of the machine and for those that are used.
    let newest: PostgresMajor = backend.versions().await.unwrap().last().unwrap().version.major;
    if newest != own {
        let first = stranger(fixture);
        fixture.primary(&backend, first, vec![]).await;
        fixture.wait_running(&backend, first).await;
    }
    fixture.pool_filled(&backend, own).await;
    backend
}

fn template(fixture: &Fixture) -> PathBuf {
    let version = fixture.installation.version.to_string();
    fixture
        .dir
        .path()
        .join("pool")
        .join(version)
        .join("template/primary")
}

async fn copies_are_clusters_of_their_own(major: u32) {
    let Some(mut fixture) = Fixture::new(major) else {
        return;
    };
    let backend = opened(&mut fixture).await;
    let fixture = fixture;

    // One that moves a set in, with a copy for its standby; others find no set, and copy the template.
    let (a, b) = (fixture.node(), fixture.node());
    let others = [stranger(&fixture), stranger(&fixture), stranger(&fixture)];
    for node in [a, b] {
        backend.apply(&fixture.spec(node)).await.unwrap();
    }
    let seen_a = fixture.observe(&backend, a).await;
    let seed = Prepare::SeedOf { source: a.node };
    let follow = recipe(1, seed, BootRole::Standby, Some((&seen_a, "")));
    backend.start(b, &follow).await.unwrap();
    fixture.primary(&backend, a, vec![b.node]).await;
    for node in others {
        fixture.primary(&backend, node, vec![]).await;
    }
    let mut identities = vec![identity(&fixture, &template(&fixture))];
    for node in [a, others[0], others[1], others[2]] {
        let seen = fixture.wait_running(&backend, node).await;
        assert!(seen.bootstrap_password.is_some(), "not a copy");
        // It takes logins, and what it shows is what the file says.
        let shown = fixture
            .sql(
                &backend,
                node,
                "SELECT system_identifier FROM pg_control_system()",
            )
            .await;
        let found = identity(&fixture, &fixture.data(node));
        assert_eq!(found.0, shown);
        identities.push(found);
    }
    let (identifiers, nonces): (BTreeSet<_>, BTreeSet<_>) = identities.iter().cloned().unzip();
    assert_eq!((identifiers.len(), nonces.len()), (5, 5), "{identifiers:?}");

    // Its own standby follows; another one's is refused.
    fixture.make_replication_role(&backend, a).await;
    fixture.wait_running(&backend, b).await;
    assert_eq!(identity(&fixture, &fixture.data(b)), identities[1]);
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    let seen_a = fixture.observe(&backend, a).await;
    until(&fixture, &seen_a, streaming, "1").await;
    let [c, d, _] = others;
    fixture.make_replication_role(&backend, c).await;
    let seen_c = fixture.observe(&backend, c).await;
    backend.power_off(b, GRACEFUL).await.unwrap();
    let wrong = recipe(2, Prepare::Existing, BootRole::Standby, Some((&seen_c, "")));
    backend.start(b, &wrong).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !backend.logs(b, 200).await.unwrap().contains("identifier differs") {
        assert!(
            Instant::now() < deadline,
            "{}",
            backend.logs(b, 50).await.unwrap()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(&fixture, &seen_c, streaming, "0").await;

    backed_up_and_rewound(&fixture, &backend, c).await;
    sound(&fixture, &backend, d).await;
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
}

/// A base backup of it follows it and takes over; it is rewound to follow that one.
async fn backed_up_and_rewound(fixture: &Fixture, backend: &LocalBackend, c: NodeRef) {
    let e = NodeRef {
        instance: c.instance,
        ..fixture.node()
    };
    fixture.sql(backend, c, "CREATE TABLE t AS SELECT 1 AS a").await;
    fixture
        .sql(
            backend,
            c,
            "SELECT pg_create_physical_replication_slot('e', true)",
        )
        .await;
    backend.apply(&fixture.spec(e)).await.unwrap();
    let seen_c = fixture.observe(backend, c).await;
    let backup = Prepare::BaseBackup {
        source: source(&seen_c),
        slot: "e".into(),
    };
    let backup = recipe(1, backup, BootRole::Standby, Some((&seen_c, "e")));
    backend.start(e, &backup).await.unwrap();
    fixture.wait_running(backend, e).await;
    let mut seen_e = fixture.observe(backend, e).await;
    // The password came with the data.
    seen_e.bootstrap_password.clone_from(&seen_c.bootstrap_password);
    until(fixture, &seen_e, "SELECT a FROM t", "1").await;
    assert_eq!(
        identity(fixture, &fixture.data(e)),
        identity(fixture, &fixture.data(c))
    );
    backend.power_off(e, GRACEFUL).await.unwrap();
    fixture.sql(backend, c, "INSERT INTO t VALUES (2)").await;
    backend.power_off(c, PowerOff::Immediate).await.unwrap();
    let sealed = recipe(2, Prepare::Existing, BootRole::Standby, None);
    backend.start(e, &sealed).await.unwrap();
    until(fixture, &seen_e, "SELECT pg_promote()", "t").await;
    until(
        fixture,
        &seen_e,
        "INSERT INTO t VALUES (3); CHECKPOINT; SELECT 1",
        "1",
    )
    .await;
    let rewind = Prepare::Rewind {
        source: source(&seen_e),
    };
    let rewind = recipe(2, rewind, BootRole::Standby, Some((&seen_e, "")));
    backend.start(c, &rewind).await.unwrap();
    let seen = fixture.wait_running(backend, c).await;
    assert_eq!(seen.power, PowerState::Running);
    let all = "SELECT string_agg(a::text, ',' ORDER BY a) FROM t";
    until(fixture, &seen_c, all, "1,3").await;
}

/// Its indexes and its pages are what they should be.
async fn sound(fixture: &Fixture, backend: &LocalBackend, d: NodeRef) {
    let indexes = "CREATE EXTENSION amcheck; \
                   SELECT count(*) > 50 FROM (SELECT bt_index_check(i.indexrelid, true) FROM pg_index i \
                   JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
                   WHERE a.amname = 'btree' AND c.relpersistence = 'p') x";
    assert_eq!(fixture.sql(backend, d, indexes).await, "t");
    let heaps = "SELECT count(*) FROM (SELECT verify_heapam(c.oid) FROM pg_class c \
                 WHERE c.relkind = 'r' AND c.relpersistence = 'p') x";
    assert_eq!(fixture.sql(backend, d, heaps).await, "0");
    backend.power_off(d, GRACEFUL).await.unwrap();
    let data = fixture.data(d).display().to_string();
    let checked = program(fixture, "pg_checksums", &["--check", "-D", &data]);
    assert!(checked.contains("Bad checksums:  0"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_clusters_of_their_own_15() {
    copies_are_clusters_of_their_own(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_clusters_of_their_own_18() {
    copies_are_clusters_of_their_own(18).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches three more PostgreSQLs"]
async fn copies_are_clusters_of_their_own_between() {
    for major in [14, 16, 17] {
        copies_are_clusters_of_their_own(major).await;
    }
}

/// A template that is not as expected costs nothing but the time of `initdb`.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_unexpected_is_left_alone() {
    let Some(mut fixture) = Fixture::new(15) else {
        return;
    };
    let backend = opened(&mut fixture).await;
    let set = stranger(&fixture);
    fixture.primary(&backend, set, vec![]).await;
    fixture.wait_running(&backend, set).await;
    let path = template(&fixture).join("global/pg_control");
    let mut control_file = std::fs::read(&path).unwrap();
    control_file[100] ^= 1;
    std::fs::write(&path, control_file).unwrap();
    // The pool may have made a set of it before.
    for _ in 0..3 {
        let node = stranger(&fixture);
        fixture.primary(&backend, node, vec![]).await;
        let seen = fixture.wait_running(&backend, node).await;
        assert_eq!(seen.power, PowerState::Running);
        assert_eq!(fixture.sql(&backend, node, "SELECT 1").await, "1");
    }
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
}

/// A burst: nobody waits for `initdb`, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_are_copies() {
    let Some(mut fixture) = Fixture::new(15) else {
        return;
    };
    let backend = opened(&mut fixture).await;
    let fixture = fixture;
    let nodes: Vec<NodeRef> = (0..10).map(|_| stranger(&fixture)).collect();
    let began = Instant::now();
    for node in &nodes {
        fixture.primary(&backend, *node, vec![]).await;
    }
    let mut identifiers = BTreeSet::new();
    for node in &nodes {
        let seen = fixture.wait_running(&backend, *node).await;
        assert!(seen.bootstrap_password.is_some(), "made by initdb");
        let identifier = "SELECT system_identifier FROM pg_control_system()";
        identifiers.insert(fixture.sql(&backend, *node, identifier).await);
    }
    eprintln!("ten take logins after {:?}", began.elapsed());
    assert_eq!(identifiers.len(), 10);
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
}
