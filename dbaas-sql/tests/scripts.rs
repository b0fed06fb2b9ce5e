//! What sessions of this executor have beyond the contract, which the conformance suite checks: more settings
//! that are pinned, limits that the server keeps, statements that are cancelled.

mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::secret::Secret;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{SqlErrorKind, SqlExecutor, SqlTarget};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::server::ServerOptions;
use setup::{ask, script, server, target, value};

#[tokio::test]
async fn settings_of_a_session() {
    let Some(server) = server("scripts: settings", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));

    // What the owner of a database, or somebody with CREATEROLE, may set must not reach the control plane's
    // sessions.
    for hostile in [
        "CREATE ROLE somebody",
        "CREATE DATABASE hostile",
        "ALTER DATABASE hostile SET default_transaction_read_only = on",
        "ALTER DATABASE hostile SET default_transaction_isolation = serializable",
        "ALTER DATABASE hostile SET role = somebody",
        "ALTER DATABASE hostile SET datestyle = 'SQL, DMY'",
    ] {
        ask(&executor, &target, hostile).await.unwrap();
    }
    let hostile = SqlTarget {
        database: "hostile".to_owned(),
        ..target
    };
    for (setting, wanted) in [
        ("SHOW transaction_read_only", "off"),
        ("SHOW transaction_isolation", "read committed"),
        ("SELECT current_user", "dbaas_admin"),
        ("SHOW datestyle", "ISO, MDY"),
        ("SHOW log_min_duration_statement", "-1"),
        ("SHOW statement_timeout", "4500ms"),
        ("SHOW lock_timeout", "2250ms"),
        ("SHOW idle_session_timeout", "90s"),
    ] {
        assert_eq!(
            ask(&executor, &hostile, setting).await.unwrap(),
            wanted,
            "{setting}"
        );
    }
    // A reused session takes over the deadline of the script that it runs.
    let other = script("SHOW statement_timeout").within_ms(1_000, 60_000);
    assert_eq!(
        value(executor.run(&hostile, &other).await.unwrap()).as_deref(),
        Some("59s")
    );
    assert_eq!(executor.idle_sessions(), 2);
}

#[tokio::test]
async fn targets_that_it_does_not_take() {
    let Some(server) = server("scripts: targets", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));

    // Who cannot turn off the logging of statements does not get to send any.
    ask(
        &executor,
        &target,
        "CREATE ROLE plain LOGIN PASSWORD 'plain-password'",
    )
    .await
    .unwrap();
    let plain = SqlTarget {
        user: "plain".to_owned(),
        password: Secret::new("plain-password"),
        ..target.clone()
    };
    let error = executor.run(&plain, &script("SELECT 1")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::Statement, Some("42501"))
    );

    let nul = SqlTarget {
        database: "a\0b".to_owned(),
        ..target
    };
    assert!(executor.run(&nul, &script("SELECT 1")).await.is_err());
}

#[tokio::test]
async fn statements_are_cancelled() {
    let Some(server) = server("scripts: cancelled", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (Arc::new(PostgresExecutor::default()), target(&server));
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(2%' AND pid <> pg_backend_pid()";

    // The server gives up first, and says so.
    let error = executor
        .run(&target, &script("SELECT pg_sleep(20)").within_ms(2_000, 1_000))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::OutcomeUnknown, Some("57014"), Some(0))
    );

    // A lock that is held: the transaction that waits for it gives up earlier still, having done nothing.
    ask(&executor, &target, "CREATE TABLE public.t (n int)")
        .await
        .unwrap();
    let holder = tokio::spawn({
        let (executor, target) = (Arc::clone(&executor), target.clone());
        let hold = script("LOCK TABLE public.t")
            .step(Statement::fixed("SELECT pg_sleep(3)"))
            .in_transaction();
        async move { executor.run(&target, &hold).await }
    });
    let locked = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'public.t'::regclass";
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask(&executor, &target, locked).await.unwrap() != "t" {
        assert!(Instant::now() < deadline);
    }
    let insert = script("INSERT INTO public.t VALUES (1)").within_ms(2_000, 1_000);
    let error = executor.run(&target, &insert).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::Statement, Some("55P03"))
    );
    holder.await.unwrap().unwrap();

    // The server does not give up: the client does, and cancels.
    let deaf = script("SET statement_timeout = 0")
        .step(Statement::fixed("SELECT pg_sleep(20)"))
        .within_ms(2_000, 700);
    let started = Instant::now();
    let error = executor.run(&target, &deaf).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::OutcomeUnknown, None, Some(1))
    );
    assert!(
        (700..3_000).contains(&started.elapsed().as_millis()),
        "{:?}",
        started.elapsed()
    );
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask(&executor, &target, asleep).await.unwrap() != "0" {
        assert!(Instant::now() < deadline, "the statement goes on");
    }

    // The caller loses interest.
    let endless = script("SELECT pg_sleep(20)").within_ms(2_000, 20_000);
    let dropped = tokio::time::timeout(Duration::from_millis(500), executor.run(&target, &endless)).await;
    assert!(dropped.is_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask(&executor, &target, asleep).await.unwrap() != "0" {
        assert!(Instant::now() < deadline, "the statement goes on");
    }
}
