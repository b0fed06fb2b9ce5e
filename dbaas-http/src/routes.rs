//! Every path of the contract, with its handlers and their description: one table makes the router and the
//! OpenAPI document, so that they cannot differ.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::routing::{MethodRouter, get, post};
use dbaas_controller::ControlPlane;
use serde_json::Value;
use tower::Layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::path::{HttpMethod, Operation};

use crate::app::{App, Fixed, admit, authenticate, observe, panicked};
use crate::handlers::{actions, adopt, databases, events, instances, nodes, service, users, versions};
use crate::linger::linger;
use crate::openapi::operations as op;
use crate::options::HttpOptions;
use crate::path::{canonical, method_not_allowed, no_such_path};
use crate::{docs_page, openapi};

mod elements;

/// A path: who answers, and how that is described.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    handlers: MethodRouter<Arc<App>>,
    pub(crate) operations: Vec<(HttpMethod, Operation)>,
}

impl Route {
    fn new(
        path: &'static str,
        handlers: MethodRouter<Arc<App>>,
        operations: impl IntoIterator<Item = (HttpMethod, Operation)>,
    ) -> Self {
        Route {
            path,
            handlers,
            operations: operations.into_iter().collect(),
        }
    }
}

/// The table.
pub(crate) fn routes() -> Vec<Route> {
    use HttpMethod::{Delete, Get, Patch, Post, Put};
    vec![
        Route::new(
            "/v1/types/postgres/instances",
            get(instances::list).post(instances::create),
            [(Get, op::list_instances()), (Post, op::create_instance())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}",
            get(instances::read)
                .put(instances::update)
                .patch(instances::update)
                .delete(instances::delete),
            [
                (Get, op::read_instance()),
                (Put, op::replace_instance()),
                (Patch, op::patch_instance()),
                (Delete, op::delete_instance()),
            ],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/actions/switchover",
            post(actions::switchover),
            [(Post, op::switchover())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/actions/failover",
            post(actions::failover),
            [(Post, op::failover())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/actions/restart",
            post(actions::restart),
            [(Post, op::restart())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/actions/start",
            post(actions::start),
            [(Post, op::start())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/actions/stop",
            post(actions::stop),
            [(Post, op::stop())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/nodes",
            get(nodes::list),
            [(Get, op::list_nodes())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/nodes/{node}/logs",
            get(nodes::log),
            [(Get, op::read_node_log())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/events",
            get(events::list),
            [(Get, op::list_events())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/connection",
            get(nodes::connection),
            [(Get, op::connection())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/databases",
            get(databases::list).post(databases::create),
            [(Get, op::list_databases()), (Post, op::create_database())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/databases/{database}",
            get(databases::read)
                .put(databases::update)
                .patch(databases::update)
                .delete(databases::delete),
            [
                (Get, op::read_database()),
                (Put, op::replace_database()),
                (Patch, op::patch_database()),
                (Delete, op::delete_database()),
            ],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/databases/{database}/actions/adopt",
            post(adopt::database),
            [(Post, op::adopt_database())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/users/{user}/actions/adopt",
            post(adopt::user),
            [(Post, op::adopt_user())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/databases/{database}/actions/repair-access",
            post(actions::repair_database_access),
            [(Post, op::repair_database_access())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/databases/{database}/actions/update-extensions",
            post(actions::update_extensions),
            [(Post, op::update_extensions())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/users/{user}/actions/repair-access",
            post(actions::repair_user_access),
            [(Post, op::repair_user_access())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/users",
            get(users::list).post(users::create),
            [(Get, op::list_users()), (Post, op::create_user())],
        ),
        Route::new(
            "/v1/types/postgres/instances/{instance}/users/{user}",
            get(users::read)
                .put(users::update)
                .patch(users::update)
                .delete(users::delete),
            [
                (Get, op::read_user()),
                (Put, op::replace_user()),
                (Patch, op::patch_user()),
                (Delete, op::delete_user()),
            ],
        ),
        Route::new(
            "/v1/types/postgres/versions",
            get(versions::list).post(versions::create),
            [(Get, op::list_versions()), (Post, op::create_version())],
        ),
        Route::new(
            "/v1/types/postgres/versions/{version}",
            get(versions::read)
                .put(versions::update)
                .patch(versions::update)
                .delete(versions::delete),
            [
                (Get, op::read_version()),
                (Put, op::replace_version()),
                (Patch, op::patch_version()),
                (Delete, op::delete_version()),
            ],
        ),
        Route::new("/", get(service::below), [(Get, op::below("root", "/"))]),
        Route::new("/v1", get(service::below), [(Get, op::below("v1", "/v1"))]),
        Route::new(
            "/v1/types",
            get(service::below),
            [(Get, op::below("types", "/v1/types"))],
        ),
        Route::new(
            "/v1/types/postgres",
            get(service::below),
            [(Get, op::below("postgres", "/v1/types/postgres"))],
        ),
        Route::new(
            "/v1/types/postgres/versions/{version}/parameters",
            get(versions::parameters),
            [(Get, op::list_parameters())],
        ),
        Route::new("/healthz", get(service::healthz), [(Get, op::healthz())]),
        Route::new("/readyz", get(service::readyz), [(Get, op::readyz())]),
        Route::new("/metrics", get(service::metrics), [(Get, op::metrics())]),
        Route::new("/openapi.json", get(service::openapi), [(Get, op::openapi())]),
        Route::new(
            "/specifications",
            get(service::below),
            [(Get, op::specifications())],
        ),
        Route::new(
            "/specifications/3.0.3",
            get(service::openapi_3_0),
            [(Get, op::openapi_3_0())],
        ),
        Route::new(
            "/specifications/3.1.0",
            get(service::openapi),
            [(Get, op::openapi_3_1())],
        ),
        Route::new("/docs", get(service::docs), [(Get, op::docs())]),
        Route::new(
            "/problems/{problem}",
            get(service::problem),
            [(Get, op::problem())],
        ),
    ]
    .into_iter()
    .chain(elements::routes())
    .collect()
}

/// The REST interface of a control plane.
///
/// The router answers every request, also those to paths that it does not know: merge it behind your own
/// paths, or nest nothing. The caller provides the listener; see the server in `examples/server` for one with
/// deadlines and an orderly end.
pub fn router(control_plane: ControlPlane, options: HttpOptions) -> Router {
    let document = openapi::served(options.list_style);
    // Built from constants: a test reads what comes out.
    let json = |document: &Value| Bytes::from(serde_json::to_vec(document).unwrap_or_default());
    let fixed = Fixed {
        openapi: json(&document),
        openapi_3_0: json(&openapi::as_3_0(document.clone())),
        docs: Bytes::from(docs_page::page(&document)),
        paths: routes().iter().map(|route| route.path).collect(),
    };
    let app = Arc::new(App::new(control_plane, options, fixed));

    let mut inner = Router::new();
    for route in routes() {
        inner = inner.route(route.path, route.handlers);
    }
    let inner = inner
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(from_fn_with_state(app.clone(), authenticate))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe))
        .with_state(app);
    // Outside of the router, because it changes what is routed.
    let spelled = map_request(|request: axum::extract::Request| async { canonical(request) }).layer(inner);
    // Outermost: whichever layer answers, the client gets to read it.
    Router::new().fallback_service(spelled).layer(from_fn(linger))
}
