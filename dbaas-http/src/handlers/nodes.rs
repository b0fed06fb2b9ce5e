//! `…/instances/{instance}/nodes`, their logs, and `…/connection`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use dbaas_core::connection::ConnectionStrings;
use dbaas_core::limits;
use dbaas_core::name::{DatabaseName, UserName};

use crate::app::App;
use crate::listing::Wanted;
use crate::path::{InstancePath, NodePath};
use crate::problem::Problem;
use crate::query::{NoQuery, Query, parsed, whole_in};
use crate::v1::nodes::{Connection, Node};

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    wanted: Wanted,
    _: NoQuery,
) -> Result<Response, Problem> {
    let nodes = app.control.nodes(id).await?;
    let nodes: Vec<Node<'_>> = nodes.iter().map(Node::of).collect();
    Ok(wanted.whole("nodes", &nodes))
}

/// The last lines of what a node's PostgreSQL wrote.
pub(crate) async fn log(
    State(app): State<Arc<App>>,
    NodePath(instance, node): NodePath,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let lines = query.one("tail", |text| whole_in(text, limits::LOG_LINES));
    query.finish()?;
    let lines = lines.unwrap_or(limits::LOG_LINES_DEFAULT);
    let log = app.control.node_log(instance, node, lines).await?;
    Ok(wanted.whole("lines", &log))
}

pub(crate) async fn connection(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    mut query: Query,
) -> Result<Json<Connection>, Problem> {
    let user: Option<UserName> = query.one("user", parsed);
    let database: Option<DatabaseName> = query.one("database", parsed);
    query.finish()?;
    let found = app.control.connection(id).await?;
    // Without a node there is nothing to connect to: no string is better than one that fails.
    let strings = (!found.endpoints.is_empty()).then(|| {
        let mut strings = ConnectionStrings::new(found.endpoints.clone());
        if let Some(user) = user {
            strings = strings.with_user(user);
        }
        if let Some(database) = database {
            strings = strings.with_database(database);
        }
        strings
    });
    let of = |text: fn(&ConnectionStrings) -> String| strings.as_ref().map(text);
    Ok(Json(Connection {
        uri: of(ConnectionStrings::uri),
        read_only_uri: of(ConnectionStrings::read_only_uri),
        jdbc_url: of(ConnectionStrings::jdbc_url),
        read_only_jdbc_url: of(ConnectionStrings::read_only_jdbc_url),
        primary: found.primary,
        endpoints: found.endpoints,
    }))
}
