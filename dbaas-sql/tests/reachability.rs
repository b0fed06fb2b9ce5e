//! Servers that do not take connections.

mod setup;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::{SqlErrorKind, SqlExecutor, SqlTarget};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::server::ServerOptions;
use setup::{ask, script, server, target};

#[tokio::test]
async fn frozen_then_thawed_then_gone() {
    let Some(mut server) = server("reachability: frozen", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));
    ask(&executor, &target, "SELECT 1").await.unwrap();

    server.freeze().unwrap();
    let started = Instant::now();
    // On the kept session the statement is sent; a new one does not even come to be.
    let kept = executor
        .run(&target, &script("SELECT 1").within_ms(300, 300))
        .await
        .unwrap_err();
    assert_eq!(
        (kept.kind(), kept.step()),
        (SqlErrorKind::OutcomeUnknown, Some(0))
    );
    let new = executor
        .run(&target, &script("SELECT 1").within_ms(300, 300))
        .await
        .unwrap_err();
    assert_eq!((new.kind(), new.step()), (SqlErrorKind::ConnectTimeout, None));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );

    server.thaw().unwrap();
    assert_eq!(ask(&executor, &target, "SELECT 1").await.unwrap(), "1");

    server.kill9().unwrap();
    executor.forget(&target.endpoint);
    let started = Instant::now();
    let error = executor.run(&target, &script("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), SqlErrorKind::Refused);
    assert!(error.is_retryable());
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn not_ready_while_it_starts_up() {
    let Some(mut server) = server("reachability: starting", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));
    server.stop().unwrap();
    // Recovery without an end, and nobody let in meanwhile.
    fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    let mut conf = fs::OpenOptions::new()
        .append(true)
        .open(server.data_dir().join("postgresql.conf"))
        .unwrap();
    conf.write_all(b"hot_standby = off\n").unwrap();
    server.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let error = loop {
        let error = executor.run(&target, &script("SELECT 1")).await.unwrap_err();
        if error.kind() != SqlErrorKind::Refused {
            break error;
        }
        assert!(Instant::now() < deadline, "it does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::NotReady, Some("57P03"))
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn out_of_connection_slots() {
    let options = ServerOptions::default()
        .set("max_connections", "4")
        .set("superuser_reserved_connections", "0")
        .set("max_wal_senders", "0");
    let Some(server) = server("reachability: slots", &options) else {
        return;
    };
    let (executor, target) = (Arc::new(PostgresExecutor::default()), target(&server));
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let (executor, target) = (Arc::clone(&executor), target.clone());
            // Longer than it takes the last of them to connect, on any machine.
            let sleep = script("SELECT pg_sleep(60)").within_ms(10_000, 60_000);
            // Again where the one below took its slot for a moment.
            tokio::spawn(async move { while executor.run(&target, &sleep).await.is_err() {} })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let error = loop {
        match executor
            .run(&target, &script("SELECT 1").on_fresh_session())
            .await
        {
            Err(error) => break error,
            Ok(_) => executor.forget(&target.endpoint),
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (SqlErrorKind::NotReady, Some("53300"))
    );
    sleepers.iter().for_each(|sleeper| sleeper.abort());
}

/// A port forwarder whose server is gone accepts and hangs up; something else may listen on what was a node's port.
#[tokio::test]
async fn something_else_listens() {
    let executor = PostgresExecutor::default();
    for greeting in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(greeting);
        });
        let target = SqlTarget {
            endpoint: Endpoint {
                host: "127.0.0.1".to_owned(),
                port,
            },
            database: "d".to_owned(),
            user: "u".to_owned(),
            password: Secret::new("p"),
        };
        let error = executor
            .run(&target, &script("SELECT 1").within_ms(1_000, 1_000))
            .await
            .unwrap_err();
        other.join().unwrap();
        assert!(
            matches!(error.kind(), SqlErrorKind::Refused | SqlErrorKind::ConnectTimeout),
            "{greeting:?}: {:?}",
            error.kind()
        );
        assert!(error.is_retryable());
    }
}
