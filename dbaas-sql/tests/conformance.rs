//! What the suite of `dbaas-testkit` says of the executor. This is all that it takes to run it on one's own.

mod setup;

use std::fs;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::sql_executor::{SqlExecutor, SqlTarget};
use dbaas_sql::PostgresExecutor;
use dbaas_testkit::sql_conformance::{Site, run};
use dbaas_workload::server::{ServerOptions, ThrowawayServer};
use setup::{server, target};

struct Place {
    server: ThrowawayServer,
    starting: ThrowawayServer,
}

#[async_trait]
impl Site for Place {
    fn executor(&self) -> Arc<dyn SqlExecutor> {
        Arc::new(PostgresExecutor::default())
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    let few = ServerOptions::default().set("max_connections", "20");
    let Some(server) = server("conformance", &few) else {
        return;
    };
    let starting = starts_up_for_ever();
    run(&Place { server, starting }).await;
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
