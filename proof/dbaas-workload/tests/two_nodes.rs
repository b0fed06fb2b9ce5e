//! The client, the comparison and the probe against a primary and its streaming standby.

use std::time::{Duration, Instant};

use dbaas_workload::amcheck::{check_structures, install_amcheck};
use dbaas_workload::client::{Access, Client, ClientOptions, ConnectStrategy};
use dbaas_workload::compare::{CompareError, compare_nodes};
use dbaas_workload::probe::{ProbeOptions, TwoWritersProbe};
use dbaas_workload::server::{ServerOptions, ThrowawayServer, is_available_for};
use dbaas_workload::set::{SetOptions, SetWorkload};

fn pair(test: &str) -> Option<(ThrowawayServer, ThrowawayServer)> {
    is_available_for(test).then(|| {
        let options = ServerOptions::default().set("dbaas.epoch", "1");
        let primary = ThrowawayServer::start(&options).unwrap();
        let standby = primary.start_standby("n2", &options).unwrap();
        (primary, standby)
    })
}

async fn on(server: &ThrowawayServer, sql: &str) {
    let options = ClientOptions {
        access: Access::Any,
        statement_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    let mut client = Client::new(server.target(), options);
    client
        .send_until_done(sql, Instant::now() + Duration::from_secs(10))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_finds_the_new_primary() {
    let Some((mut primary, standby)) = pair("client: failover") else {
        return;
    };
    // The standby first, so that the client has to look further.
    let target = primary.target().at(vec![standby.endpoint(), primary.endpoint()]);
    for strategy in [ConnectStrategy::Sequential, ConnectStrategy::Parallel] {
        let mut client = Client::new(
            target.clone(),
            ClientOptions {
                strategy,
                ..ClientOptions::default()
            },
        );
        client
            .connect(Instant::now() + Duration::from_secs(60))
            .await
            .unwrap();
        assert_eq!(client.connected_to(), Some(&primary.endpoint()), "{strategy:?}");
    }
    on(&primary, "ALTER SYSTEM SET synchronous_standby_names = 'n2'").await;
    on(&primary, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(200)).await;

    let workload = SetWorkload::start(&target, &SetOptions::default()).await.unwrap();
    assert!(workload.wait_for_acknowledged(100, Duration::from_secs(20)).await);
    primary.kill9().unwrap();
    // The new primary waits for nobody.
    on(&standby, "ALTER SYSTEM SET synchronous_standby_names = ''").await;
    on(&standby, "SELECT pg_promote()").await;
    assert!(workload.wait_for_acknowledged(100, Duration::from_secs(20)).await);
    let report = workload.stop().await;
    let verdict = report.verify(&target, Access::ReadWrite).await.unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_host_costs_a_parallel_client_nothing() {
    let Some((primary, standby)) = pair("client: frozen host") else {
        return;
    };
    standby.freeze().unwrap();
    let target = primary.target().at(vec![standby.endpoint(), primary.endpoint()]);
    // Longer than a connection takes on a machine that is busy.
    let connect_timeout = Duration::from_secs(6);
    for strategy in [ConnectStrategy::Parallel, ConnectStrategy::Sequential] {
        let mut client = Client::new(
            target.clone(),
            ClientOptions {
                strategy,
                connect_timeout,
                ..ClientOptions::default()
            },
        );
        let started = Instant::now();
        client.connect(started + Duration::from_secs(60)).await.unwrap();
        let waited_for_the_frozen = started.elapsed() >= connect_timeout;
        assert_eq!(client.connected_to(), Some(&primary.endpoint()));
        let sequential = matches!(strategy, ConnectStrategy::Sequential);
        assert_eq!(waited_for_the_frozen, sequential, "{strategy:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comparison_sees_differences() {
    let Some((mut primary, standby)) = pair("compare") else {
        return;
    };
    let endpoints = [primary.endpoint(), standby.endpoint()];
    let login = primary.target();
    on(&primary, "CREATE DATABASE \"ot'her \"\"db\"").await;
    on(&primary, "CREATE TABLE \"a \"\"t'able\" AS SELECT n AS dbaas_row, repeat('x', n) AS s FROM generate_series(1, 500) n").await;
    on(&primary, "CREATE UNLOGGED TABLE unlogged AS SELECT 1").await;
    let same = compare_nodes(&endpoints, &login, Duration::from_secs(20))
        .await
        .unwrap();
    assert!(same.is_equal(), "{:?}", same.differences);
    assert_eq!(same.primary, primary.endpoint());
    assert!(same.tables >= 2 && same.rows >= 500);

    // Cut off, the standby cannot catch up.
    on(&standby, "ALTER SYSTEM SET primary_conninfo = ''").await;
    on(&standby, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    on(
        &primary,
        "INSERT INTO \"a \"\"t'able\" SELECT 0, repeat('only here', 50) FROM generate_series(1, 9000)",
    )
    .await;
    let late = compare_nodes(&endpoints, &login, Duration::from_secs(4))
        .await
        .unwrap_err();
    assert!(matches!(late, CompareError::NotCaughtUp { .. }), "{late}");

    // Each a primary by itself.
    on(&standby, "SELECT pg_promote()").await;
    let two = compare_nodes(&endpoints, &login, Duration::from_secs(60))
        .await
        .unwrap_err();
    assert!(
        matches!(&two, CompareError::NotOnePrimary(primaries) if primaries.len() == 2),
        "{two}"
    );

    // The old primary as a standby without a rewind: further on in the log than the new one, and not the
    // same.
    primary.stop().unwrap();
    std::fs::write(primary.data_dir().join("standby.signal"), "").unwrap();
    primary.restart().unwrap();
    let diverged = compare_nodes(&endpoints, &login, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(diverged.primary, standby.endpoint());
    let [difference] = diverged.differences.as_slice() else {
        panic!("{:?}", diverged.differences)
    };
    assert_eq!(difference.name.table, "a \"t'able");
    let rows: Vec<_> = difference
        .sums
        .iter()
        .map(|sum| sum.as_ref().map(|sum| sum.rows))
        .collect();
    assert_eq!(rows, [Some(9_500), Some(500)]);
}

/// Waits, however slow the machine is.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_tells_a_handover_from_two_primaries() {
    let Some((mut primary, standby)) = pair("probe") else {
        return;
    };
    let endpoints = [primary.endpoint(), standby.endpoint()];
    let login = primary.target();

    // Split brain without replication in between: one epoch, two nodes.
    let probe = TwoWritersProbe::start(&endpoints, &login, &ProbeOptions::default())
        .await
        .unwrap();
    until("the primary acknowledges, the standby refuses", || {
        probe.acknowledged(0) > 10 && probe.failed(1) > 0
    })
    .await;
    on(&standby, "ALTER SYSTEM SET dbaas.epoch = '2'").await;
    on(&standby, "SELECT pg_reload_conf()").await;
    on(&standby, "SELECT pg_promote()").await;
    until("both acknowledge", || probe.acknowledged(1) > 10).await;
    let before = probe.acknowledged(0);
    until("the old one still does", || probe.acknowledged(0) > before + 10).await;
    let report = probe.stop().await;
    assert_eq!(
        report.acks_by_node().len(),
        2,
        "both acknowledged: {:?}",
        report.errors
    );
    assert!(!report.is_sound());
    assert!(!report.violations.is_empty());
    assert_eq!(report.violations[0].newer_epoch.node, 1);
    assert_eq!(report.violations[0].newer_epoch.epoch, 2);
    assert_eq!(report.violations[0].newer_epoch.timeline, 2);
    assert_eq!(report.violations[0].other.node, 0);
    assert!(
        report.errors.contains_key("25006"),
        "the standby refused before: {:?}",
        report.errors
    );

    // From here on one at a time.
    primary.kill9().unwrap();
    let probe = TwoWritersProbe::start(&endpoints, &login, &ProbeOptions::default())
        .await
        .unwrap();
    until("the other acknowledges", || probe.acknowledged(1) > 10).await;
    let report = probe.stop().await;
    assert!(report.is_sound());
    assert!(!report.acks.is_empty());
    assert_eq!(report.lost().await.unwrap(), []);
    on(
        &standby,
        &format!(
            "DELETE FROM dbaas_probe WHERE run = '{}' AND seq = {}",
            report.run, report.acks[0].seq
        ),
    )
    .await;
    assert!(!report.lost().await.unwrap().is_empty());
}

/// An index whose function gives other values than when it was built lacks the rows: amcheck says so, of the
/// primary and of the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_index_is_found_on_every_node() {
    let Some((primary, standby)) = pair("amcheck") else {
        return;
    };
    let endpoints = [primary.endpoint(), standby.endpoint()];
    let (login, within) = (primary.target(), Duration::from_secs(60));
    if !install_amcheck(&login, Instant::now() + within).await.unwrap() {
        return;
    }
    on(
        &primary,
        "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
    )
    .await;
    on(
        &primary,
        "CREATE TABLE t AS SELECT g AS i FROM generate_series(1, 100) g",
    )
    .await;
    on(&primary, "CREATE INDEX broken ON t (f(i))").await;
    compare_nodes(&endpoints, &login, within).await.unwrap();
    assert_eq!(check_structures(&endpoints, &login, within).await.unwrap(), []);
    on(
        &primary,
        "CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1000'",
    )
    .await;
    compare_nodes(&endpoints, &login, within).await.unwrap();
    let found = check_structures(&endpoints, &login, within).await.unwrap();
    let nodes: Vec<_> = found
        .iter()
        .map(|corruption| corruption.endpoint.clone())
        .collect();
    assert_eq!(nodes, endpoints, "{found:?}");
    assert!(
        found
            .iter()
            .all(|corruption| corruption.message.contains("broken")),
        "{found:?}"
    );
}
