//! What is not about a resource: health, metrics, the OpenAPI document and its page, the kinds of problems.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{MatchedPath, RawPathParams, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::access::Caller;
use crate::app::App;
use crate::docs_page;
use crate::problem::{Problem, ProblemKind};
use crate::query::NoQuery;

/// The process is alive.
pub(crate) async fn healthz(_: NoQuery) -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// The server can do its work: the store answers, and this control plane is the one that acts.
pub(crate) async fn readyz(State(app): State<Arc<App>>, _: NoQuery) -> Result<Json<Value>, Problem> {
    if app.is_stopping() {
        return Err(Problem::new(ProblemKind::NotReady, "the server is shutting down"));
    }
    let health = app.control.health().await;
    if !health.store_ok {
        tracing::warn!(detail = health.detail, "not ready");
        return Err(Problem::new(ProblemKind::NotReady, "the store cannot be reached"));
    }
    if !health.leader {
        return Err(Problem::new(
            ProblemKind::NotReady,
            "another control plane is in charge, or none is yet",
        ));
    }
    Ok(Json(
        json!({ "status": "ready", "backend": app.control.backend_name() }),
    ))
}

/// Metrics in Prometheus' text format.
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
) -> Result<Response, Problem> {
    // They tell of all projects.
    caller.require_admin()?;
    match &app.options.metrics {
        None => Err(Problem::new(
            ProblemKind::NoSuchPath,
            "this server keeps no metrics",
        )),
        Some(render) => Ok((
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            render(),
        )
            .into_response()),
    }
}

pub(crate) async fn openapi(State(app): State<Arc<App>>, _: NoQuery) -> Response {
    let json = app.fixed.openapi.clone();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// The document for generators that read OpenAPI 3.0 only.
pub(crate) async fn openapi_3_0(State(app): State<Arc<App>>, _: NoQuery) -> Response {
    let json = app.fixed.openapi_3_0.clone();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// The names of what is below a path.
pub(crate) async fn below(
    State(app): State<Arc<App>>,
    path: MatchedPath,
    _: NoQuery,
) -> Json<BTreeSet<&'static str>> {
    let root = path.as_str().trim_end_matches('/');
    let names = app.fixed.paths.iter().filter_map(|path| {
        let rest = path.strip_prefix(root)?.strip_prefix('/')?;
        let name = rest.split('/').next()?;
        (!name.is_empty()).then_some(name)
    });
    Json(names.collect())
}

pub(crate) async fn docs(State(app): State<Arc<App>>, _: NoQuery) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            docs_page::CONTENT_SECURITY_POLICY,
        ),
    ];
    (headers, app.fixed.docs.clone()).into_response()
}

/// What a problem's `type` leads to.
pub(crate) async fn problem(params: RawPathParams, _: NoQuery) -> Result<Response, Problem> {
    let name = params
        .iter()
        .find(|(key, _)| *key == "problem")
        .map(|(_, name)| name);
    let kind = ProblemKind::ALL.iter().find(|kind| Some(kind.name()) == name);
    let kind = kind.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such kind of problem"))?;
    let headers = [(
        header::CONTENT_SECURITY_POLICY,
        docs_page::CONTENT_SECURITY_POLICY,
    )];
    Ok((headers, Html(docs_page::problem_page(*kind))).into_response())
}
