//! What the tests against a real server share.
#![allow(dead_code, unreachable_pub)]

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Rows, Script, SqlError, SqlExecutor, SqlTarget};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::server::{ServerOptions, ThrowawayServer, is_available_for};

pub fn server(test: &str, options: &ServerOptions) -> Option<ThrowawayServer> {
    is_available_for(test).then(|| ThrowawayServer::start(options).unwrap())
}

pub fn target(server: &ThrowawayServer) -> SqlTarget {
    SqlTarget {
        endpoint: server.endpoint(),
        database: "postgres".to_owned(),
        user: ADMIN_ROLE.to_owned(),
        password: server.password().clone(),
    }
}

pub fn script(text: &'static str) -> Script {
    Script::new("test").step(Statement::fixed(text))
}

/// The first column of the first row of the last step.
pub fn value(answers: Vec<Rows>) -> Option<String> {
    answers
        .into_iter()
        .next_back()?
        .into_iter()
        .next()?
        .into_iter()
        .next()?
}

pub async fn ask(
    executor: &PostgresExecutor,
    target: &SqlTarget,
    text: &'static str,
) -> Result<String, SqlError> {
    Ok(value(executor.run(target, &script(text)).await?).unwrap_or_default())
}
