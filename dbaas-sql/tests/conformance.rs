//! What the suite of `dbaas-testkit` says of the executor. This is all that it takes to run it on one's own.

mod setup;

use std::fs;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::sql_executor::{SqlExecutor, SqlTarget};
use dbaas_sql::{ExecutorSettings, PostgresExecutor};
use dbaas_testkit::sql_conformance::{Site, run};
use dbaas_workload::server::{ServerOptions, ThrowawayServer};
use setup::{server, target};

struct Place {
    settings: ExecutorSettings,
    server: ThrowawayServer,
    starting: ThrowawayServer,
}

#[async_trait]
impl Site for Place {
    fn executor(&self) -> Arc<dyn SqlExecutor> {
        Arc::new(PostgresExecutor::new(self.settings.clone()))
    }

    fn target(&self) -> SqlTarget {
        target(&self.server)
    }

    async fn log(&self) -> Option<String> {
        Some(self.server.log().expect("the log can be read"))
    }

    async fn freeze(&self) -> bool {
        self.server.freeze().expect("its processes can be stopped");
        true
    }

    async fn thaw(&self) {
        self.server.thaw().expect("its processes can go on");
    }

    async fn starting_up(&self) -> Option<SqlTarget> {
        Some(target(&self.starting))
    }
}

async fn keeps_the_contract(settings: ExecutorSettings, test: &str) {
    let few = ServerOptions::default().set("max_connections", "20");
    let Some(server) = server(test, &few) else {
        return;
    };
    let starting = starts_up_for_ever();
    run(&Place {
        settings,
        server,
        starting,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_sessions_that_are_kept() {
    keeps_the_contract(ExecutorSettings::default(), "conformance: kept").await;
}

/// The contract asks for neither: no session is kept, and none is cancelled but by the server's own limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_bounds_of_zero() {
    let settings = ExecutorSettings {
        idle_total: 0,
        cancels_at_once: 0,
        ..ExecutorSettings::default()
    };
    keeps_the_contract(settings, "conformance: zero").await;
}

/// Recovery without an end, and nobody let in meanwhile.
fn starts_up_for_ever() -> ThrowawayServer {
    let mut server = ThrowawayServer::start(&ServerOptions::default()).unwrap();
    server.stop().unwrap();
    fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    let mut conf = fs::OpenOptions::new()
        .append(true)
        .open(server.data_dir().join("postgresql.conf"))
        .unwrap();
    conf.write_all(b"hot_standby = off\n").unwrap();
    server.spawn().unwrap();
    server
}
