//! Statement texts stay out of this program's log, where the driver would write them. The server's is the
//! conformance suite's matter.

mod setup;

use std::io;
use std::sync::{Arc, Mutex};

use dbaas_core::secret::Secret;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlExecutor};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::client::{Access, Client, ClientOptions};
use dbaas_workload::server::ServerOptions;
use setup::{server, target};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_stay_out_of_logs() {
    let captured = Captured::default();
    let writer = captured.clone();
    // `init` carries records of the `log` crate over, as an application's would.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let Some(server) = server("logging", &ServerOptions::default()) else {
        return;
    };
    let (executor, target) = (PostgresExecutor::default(), target(&server));
    let secret = Secret::new("hunter2-verifier");
    let password = |role: &str| {
        Script::new("password").step(
            Statement::fixed("ALTER ROLE ")
                .ident(role)
                .raw(" PASSWORD ")
                .literal(secret.expose()),
        )
    };
    executor
        .run(
            &target,
            &Script::new("role").step(Statement::fixed("CREATE ROLE r")),
        )
        .await
        .unwrap();
    executor.run(&target, &password("r")).await.unwrap();
    executor
        .run(&target, &password("r").in_transaction().within_ms(2_000, 3_000))
        .await
        .unwrap();
    let error = executor.run(&target, &password("missing")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"));
    // A duplicate key has its value in the detail.
    let unique = Script::new("detail")
        .step(Statement::fixed("CREATE TEMP TABLE u (s text UNIQUE)"))
        .step(
            Statement::fixed("INSERT INTO u SELECT ")
                .literal(secret.expose())
                .raw(" FROM generate_series(1, 2)"),
        );
    let detailed = executor.run(&target, &unique).await.unwrap_err();
    assert_eq!(detailed.sqlstate(), Some("23505"));
    assert!(!format!("{executor:?} {target:?}").contains("hunter2"));

    // The same without our sessions shows: the test would see it.
    let mut control = Client::new(
        server.target(),
        ClientOptions {
            access: Access::Any,
            ..ClientOptions::default()
        },
    );
    control
        .connect(std::time::Instant::now() + std::time::Duration::from_secs(5))
        .await
        .unwrap();
    control.send("SELECT 'seen-by-control'").await.unwrap();

    let ours = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(
        ours.contains("seen-by-control"),
        "log records are not carried over"
    );
    let leak = ours
        .lines()
        .find(|line| line.contains("hunter2") || line.contains(server.password().expose()));
    assert_eq!(leak, None);
}
