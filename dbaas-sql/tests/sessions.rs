//! How many sessions are kept and for how long, and that no task outlives its session.

mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::sql_executor::{SqlErrorKind, SqlExecutor, SqlTarget};
use dbaas_sql::{ExecutorSettings, PostgresExecutor};
use dbaas_workload::server::ServerOptions;
use setup::{ask, script, server, target, value};

const PID: &str = "SELECT pg_backend_pid()";

async fn fresh_pid(executor: &PostgresExecutor, target: &SqlTarget) -> String {
    value(
        executor
            .run(target, &script(PID).on_fresh_session())
            .await
            .unwrap(),
    )
    .unwrap()
}

#[tokio::test]
async fn what_is_repeated_is_planned_once() {
    let Some(server) = server("sessions: repeated", &ServerOptions::default()) else {
        return;
    };
    let (target, executor) = (target(&server), PostgresExecutor::default());
    let pid = value(executor.run(&target, &script(PID).repeated()).await.unwrap());
    for _ in 0..3 {
        let again = executor.run(&target, &script(PID).repeated()).await.unwrap();
        assert_eq!(value(again), pid, "on the same session");
    }
    let prepared = "SELECT count(*) || ' ' || sum(generic_plans) FROM pg_prepared_statements";
    assert_eq!(ask(&executor, &target, prepared).await.unwrap(), "1 4");
}

#[tokio::test]
async fn kept_for_reuse_within_bounds() {
    let Some(server) = server("sessions: reuse", &ServerOptions::default()) else {
        return;
    };
    let target = target(&server);
    let executor = Arc::new(PostgresExecutor::default());

    let pid = ask(&executor, &target, PID).await.unwrap();
    assert_eq!(ask(&executor, &target, PID).await.unwrap(), pid, "reused");
    fresh_pid(&executor, &target).await;
    assert_eq!(executor.idle_sessions(), 2);
    fresh_pid(&executor, &target).await;
    assert_eq!(executor.idle_sessions(), 2, "bounded for one target");

    // An error ends the session that had it.
    assert_eq!(
        ask(&executor, &target, "SELECT 1/0").await.unwrap_err().kind(),
        SqlErrorKind::Statement
    );
    assert_eq!(executor.idle_sessions(), 1);

    // Forgotten, also the one that is in use meanwhile.
    ask(&executor, &target, PID).await.unwrap();
    let in_use = tokio::spawn({
        let (executor, target) = (Arc::clone(&executor), target.clone());
        async move { executor.run(&target, &script("SELECT pg_sleep(0.4)")).await }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    executor.forget(&target.endpoint);
    assert_eq!(executor.idle_sessions(), 0);
    in_use.await.unwrap().unwrap();
    assert_eq!(executor.idle_sessions(), 0);

    // Bounds of zero keep nothing.
    for settings in [
        ExecutorSettings {
            idle_per_target: 0,
            ..ExecutorSettings::default()
        },
        ExecutorSettings {
            idle_total: 0,
            ..ExecutorSettings::default()
        },
    ] {
        let executor = PostgresExecutor::new(settings);
        ask(&executor, &target, PID).await.unwrap();
        assert_eq!(executor.idle_sessions(), 0);
    }
    let young = ExecutorSettings {
        idle_max_age: Duration::from_millis(50),
        ..ExecutorSettings::default()
    };
    let executor = PostgresExecutor::new(young);
    let pid = ask(&executor, &target, PID).await.unwrap();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_ne!(ask(&executor, &target, PID).await.unwrap(), pid, "too old");
}

#[tokio::test]
async fn no_task_is_left() {
    let Some(server) = server("sessions: tasks", &ServerOptions::default()) else {
        return;
    };
    let target = target(&server);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let ended = async || {
        let deadline = Instant::now() + Duration::from_secs(5);
        while alive() > before {
            assert!(Instant::now() < deadline, "{} tasks are left", alive() - before);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    let executor = PostgresExecutor::default();
    for _ in 0..4 {
        fresh_pid(&executor, &target).await;
    }
    assert!(alive() > before);
    let _ = ask(&executor, &target, "SELECT 1/0").await;
    executor.forget(&target.endpoint);
    ended().await;

    // A server that does not answer, with a statement under way and with idle sessions.
    fresh_pid(&executor, &target).await;
    fresh_pid(&executor, &target).await;
    server.freeze().unwrap();
    let error = executor
        .run(&target, &script(PID).within_ms(500, 300))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), SqlErrorKind::OutcomeUnknown);
    drop(executor);
    ended().await;
}
