//! What scripts do on a real server, and what their errors say.

mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::secret::Secret;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlErrorKind, SqlExecutor, SqlTarget};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::server::ServerOptions;
use setup::{ask, script, server, target, value};

#[tokio::test]
async fn steps_answer_in_text_under_pinned_settings() {
    let Some(server) = server("scripts: settings", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));

    let two =
        script("SELECT NULL, 'a b', 1.50, true, ''").step(Statement::fixed("SELECT generate_series(1, 2)"));
    let answers = executor.run(&target, &two).await.unwrap();
    let first = [None, Some("a b"), Some("1.50"), Some("t"), Some("")].map(|cell| cell.map(str::to_owned));
    assert_eq!(answers[0], [first]);
    assert_eq!(answers[1], [[Some("1".to_owned())], [Some("2".to_owned())]]);
    assert_eq!(
        executor
            .run(&target, &Script::new("nothing"))
            .await
            .unwrap()
            .len(),
        0
    );

    // What the owner of a database, or somebody with CREATEROLE, may set must not reach the control plane's sessions.
    for hostile in [
        "CREATE ROLE somebody",
        "CREATE DATABASE hostile",
        "ALTER DATABASE hostile SET search_path = public",
        "ALTER DATABASE hostile SET default_transaction_read_only = on",
        "ALTER DATABASE hostile SET default_transaction_isolation = serializable",
        "ALTER DATABASE hostile SET role = somebody",
        "ALTER DATABASE hostile SET datestyle = 'SQL, DMY'",
        "ALTER DATABASE hostile SET synchronous_commit = remote_apply",
        "ALTER ROLE ALL SET log_statement = 'all'",
    ] {
        ask(&executor, &target, hostile).await.unwrap();
    }
    let hostile = SqlTarget {
        database: "hostile".to_owned(),
        ..target
    };
    for (setting, wanted) in [
        ("SHOW search_path", "pg_catalog"),
        ("SHOW transaction_read_only", "off"),
        ("SHOW transaction_isolation", "read committed"),
        ("SELECT current_user", "dbaas_admin"),
        ("SHOW datestyle", "ISO, MDY"),
        ("SHOW synchronous_commit", "local"),
        ("SHOW log_statement", "none"),
        ("SHOW log_min_error_statement", "panic"),
        ("SHOW log_min_duration_statement", "-1"),
        ("SHOW application_name", "dbaas_controller"),
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
async fn first_failing_step_ends_the_script() {
    let Some(server) = server("scripts: failing step", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));
    ask(&executor, &target, "CREATE TABLE public.t (n int)")
        .await
        .unwrap();
    let count = || ask(&executor, &target, "SELECT count(*) FROM public.t");

    let steps = || {
        Script::new("failing")
            .guard(Statement::fixed("SELECT true"))
            .step(Statement::fixed("INSERT INTO public.t VALUES (1)"))
            .step(Statement::fixed("INSERT INTO public.t VALUES (1/0)"))
            .step(Statement::fixed("INSERT INTO public.t VALUES (3)"))
    };
    let error = executor.run(&target, &steps()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::Statement, Some("22012"), Some(2))
    );
    assert_eq!(error.to_string(), "division by zero");
    assert!(!error.is_retryable());
    assert_eq!(count().await.unwrap(), "1", "autocommit keeps what was before");

    let error = executor
        .run(&target, &steps().in_transaction())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.step()), (SqlErrorKind::Statement, Some(2)));
    assert_eq!(count().await.unwrap(), "1", "a transaction keeps nothing");

    // Neither `f`, NULL, no row nor no column is true.
    for guard in [
        "SELECT false",
        "SELECT NULL::bool",
        "SELECT true WHERE false",
        "SELECT",
        "SET lock_timeout = 1",
    ] {
        let guarded = Script::new("guarded")
            .step(Statement::fixed("INSERT INTO public.t VALUES (2)"))
            .guard(Statement::fixed(guard))
            .step(Statement::fixed("INSERT INTO public.t VALUES (3)"))
            .in_transaction();
        let error = executor.run(&target, &guarded).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (SqlErrorKind::GuardFailed, Some(1)),
            "{guard}"
        );
        assert_eq!(count().await.unwrap(), "1", "{guard}");
    }
    let error = executor
        .run(&target, &Script::new("guard").guard(Statement::fixed("SELECT 1")))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::GuardFailed, None)
    );

    let good = Script::new("good")
        .step(Statement::fixed("INSERT INTO public.t VALUES (2)"))
        .step(Statement::fixed("SELECT count(*) FROM public.t"))
        .in_transaction();
    assert_eq!(
        value(executor.run(&target, &good).await.unwrap()).as_deref(),
        Some("2")
    );
    assert_eq!(count().await.unwrap(), "2");

    // The commit itself may be what fails.
    ask(
        &executor,
        &target,
        "CREATE TABLE public.d (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    )
    .await
    .unwrap();
    let deferred = script("INSERT INTO public.d VALUES (1), (1)").in_transaction();
    let error = executor.run(&target, &deferred).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::Statement, Some("23505"), None)
    );
}

#[tokio::test]
async fn alter_system_commits_by_itself() {
    // A custom setting that the server has never heard of can be altered from PostgreSQL 16 on only.
    let options = ServerOptions::default().set("dbaas.epoch", "1");
    let Some(server) = server("scripts: alter system", &options) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));
    let alter = Statement::fixed("ALTER SYSTEM SET dbaas.epoch = ").literal("7");
    let reload = Statement::fixed("SELECT pg_reload_conf()");
    let set = Script::new("epoch").step(alter.clone()).guard(reload);
    executor.run(&target, &set).await.unwrap();
    let auto = std::fs::read_to_string(server.data_dir().join("postgresql.auto.conf")).unwrap();
    assert!(auto.contains("dbaas.epoch = '7'"), "{auto}");
    // A new session has what the postmaster has; that takes the reload some milliseconds.
    let show = script("SELECT current_setting('dbaas.epoch', true)").on_fresh_session();
    let deadline = Instant::now() + Duration::from_secs(5);
    while value(executor.run(&target, &show).await.unwrap()).as_deref() != Some("7") {
        assert!(Instant::now() < deadline, "reload does not show");
    }
    let error = executor
        .run(&target, &Script::new("t").step(alter).in_transaction())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::Statement, Some("25001"))
    );
}

#[tokio::test]
async fn login_that_is_refused() {
    let Some(server) = server("scripts: login", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));

    let wrong = SqlTarget {
        password: Secret::new("wr0ng-secret"),
        ..target.clone()
    };
    let error = executor.run(&wrong, &script("SELECT 1")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::Login, Some("28P01"), None)
    );
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{wrong:?}"),
        format!("{executor:?}"),
    ] {
        assert!(!text.contains("wr0ng"), "{text}");
        assert!(!text.contains(server.password().expose()), "{text}");
    }
    let nobody = SqlTarget {
        user: "nobody_here".to_owned(),
        ..target.clone()
    };
    assert_eq!(
        executor
            .run(&nobody, &script("SELECT 1"))
            .await
            .unwrap_err()
            .kind(),
        SqlErrorKind::Login
    );

    let nowhere = SqlTarget {
        database: "nowhere".to_owned(),
        ..target.clone()
    };
    let error = executor.run(&nowhere, &script("SELECT 1")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::Statement, Some("3D000"))
    );

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
async fn killed_midway_is_unknown() {
    let Some(server) = server("scripts: killed", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (Arc::new(PostgresExecutor::default()), target(&server));

    let suicide = Script::new("suicide")
        .step(Statement::fixed("CREATE TABLE public.before (n int)"))
        .step(Statement::fixed("SELECT pg_terminate_backend(pg_backend_pid())"))
        .step(Statement::fixed("CREATE TABLE public.after (n int)"));
    let error = executor.run(&target, &suicide).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::OutcomeUnknown, Some("57P01"), Some(1))
    );
    assert!(error.is_retryable());
    let tables = "SELECT to_regclass('public.before') IS NOT NULL AND to_regclass('public.after') IS NULL";
    assert_eq!(ask(&executor, &target, tables).await.unwrap(), "t");

    let sleeping = tokio::spawn({
        let (executor, target) = (Arc::clone(&executor), target.clone());
        async move {
            executor
                .run(&target, &script("SELECT pg_sleep(20)").within_ms(2_000, 20_000))
                .await
        }
    });
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask(&executor, &target, kill).await.unwrap() == "0" {
        assert!(Instant::now() < deadline);
    }
    let error = sleeping.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::OutcomeUnknown, Some("57P01"))
    );
}

#[tokio::test]
async fn every_wait_ends() {
    let Some(server) = server("scripts: timeouts", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (Arc::new(PostgresExecutor::default()), target(&server));
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(2%' AND pid <> pg_backend_pid()";

    // The server gives up first, and says so.
    let started = Instant::now();
    let error = executor
        .run(&target, &script("SELECT pg_sleep(20)").within_ms(2_000, 1_000))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        (SqlErrorKind::OutcomeUnknown, Some("57014"), Some(0))
    );
    assert!(started.elapsed() < Duration::from_secs(5));

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
