//! Who may call, how much at once, and what happens when something fails.

mod world;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use dbaas_core::store::StoreErrorKind;
use dbaas_http::{Access, Caller, HttpOptions, TokenStore};
use dbaas_testkit::memory_store::{Fault, StoreCall};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt;
use world::{Answer, INSTANCES, VERSIONS, World};

const ADMIN: &str = "Bearer admin-0123456789";
const TENANT: &str = "Bearer tenant-0123456789";
const OTHER: &str = "Bearer other-0123456789";
const PROJECT: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
const OTHER_PROJECT: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120003";

async fn with_tokens() -> World {
    let text =
        format!("admin:admin-0123456789\n{PROJECT}:tenant-0123456789\n{OTHER_PROJECT}:other-0123456789\n");
    let tokens = TokenStore::parse(&text).unwrap();
    World::with(HttpOptions::new(Access::Tokens(tokens)).with_metrics(|| "up 1\n".to_owned())).await
}

async fn call_as(
    world: &World,
    token: &str,
    method: Method,
    path: &str,
    json: Option<serde_json::Value>,
) -> Answer {
    let headers = [("authorization", token), ("content-type", "application/json")];
    let body = json.map_or_else(Body::empty, |json| json.to_string().into());
    world.call(method, path, &headers, body).await
}

#[tokio::test]
async fn a_token_is_asked_for_where_it_matters() {
    let world = with_tokens().await;
    for path in [
        INSTANCES,
        VERSIONS,
        "/v1/postgres/instances",
        "/metrics",
        "/nowhere",
        "/v1/types/postgres/instances/x",
    ] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::UNAUTHORIZED, "unauthorized"),
            "{path}"
        );
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        let wrong = call_as(&world, "Bearer wrong-0123456789", Method::GET, path, None).await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(!String::from_utf8_lossy(&wrong.bytes).contains("wrong-"));
    }
    // A creation without a token is refused before its body is read.
    assert_eq!(
        world.text(Method::POST, INSTANCES, "{").await.status,
        StatusCode::UNAUTHORIZED
    );
    for path in ["/healthz", "/openapi.json", "/docs", "/problems/in-use"] {
        assert_eq!(world.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(
        call_as(&world, ADMIN, Method::GET, "/metrics", None).await.bytes,
        "up 1\n"
    );
    assert_eq!(
        call_as(&world, TENANT, Method::GET, "/metrics", None)
            .await
            .problem(),
        "forbidden"
    );
    assert_eq!(
        call_as(&world, ADMIN, Method::GET, "/nowhere", None)
            .await
            .problem(),
        "no-such-path"
    );
}

#[tokio::test]
async fn a_project_sees_its_own() {
    let world = with_tokens().await;
    let versions = call_as(&world, TENANT, Method::GET, VERSIONS, None).await.json();
    let version = versions["versions"][0]["uuid"].clone();
    let body = |name: &str| json!({ "name": name, "cpu": 1, "ram": 512, "disk_size": 8, "version": version });
    let mine = call_as(&world, TENANT, Method::POST, INSTANCES, Some(body("orders"))).await;
    assert_eq!(mine.status, StatusCode::CREATED, "{mine:?}");
    assert_eq!(mine.json()["project_id"], PROJECT);
    let path = mine.header("location").to_owned();

    // The same name in another project is another instance.
    assert_eq!(
        call_as(&world, OTHER, Method::POST, INSTANCES, Some(body("orders")))
            .await
            .status,
        StatusCode::CREATED
    );
    let mut foreign = body("elsewhere");
    foreign["project_id"] = json!(OTHER_PROJECT);
    let refused = call_as(&world, TENANT, Method::POST, INSTANCES, Some(foreign.clone())).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (StatusCode::FORBIDDEN, "forbidden")
    );
    assert_eq!(
        call_as(&world, ADMIN, Method::POST, INSTANCES, Some(foreign))
            .await
            .status,
        StatusCode::CREATED
    );

    let count = |answer: Answer| answer.json()["instances"].as_array().unwrap().len();
    assert_eq!(
        count(call_as(&world, ADMIN, Method::GET, INSTANCES, None).await),
        3
    );
    assert_eq!(
        count(call_as(&world, TENANT, Method::GET, INSTANCES, None).await),
        1
    );
    let filtered = format!("{INSTANCES}?project_id={OTHER_PROJECT}");
    assert_eq!(
        count(call_as(&world, TENANT, Method::GET, &filtered, None).await),
        0
    );
    assert_eq!(
        count(call_as(&world, ADMIN, Method::GET, &filtered, None).await),
        2
    );

    // Another project's instance looks as one that does not exist.
    let nowhere = format!("{INSTANCES}/{PROJECT}");
    for (method, below, json) in [
        (Method::GET, "", None),
        (Method::PUT, "", Some(json!({ "cpu": 2 }))),
        (Method::DELETE, "", None),
        (Method::GET, "/users", None),
        (
            Method::POST,
            "/users",
            Some(json!({ "name": "app", "password": "correct horse" })),
        ),
        (Method::GET, "/nodes", None),
        (Method::GET, "/events", None),
        (Method::POST, "/actions/stop", None),
        (Method::DELETE, &format!("/users/{PROJECT}"), None),
    ] {
        let foreign = call_as(
            &world,
            OTHER,
            method.clone(),
            &format!("{path}{below}"),
            json.clone(),
        )
        .await;
        let missing = call_as(
            &world,
            OTHER,
            method.clone(),
            &format!("{nowhere}{below}"),
            json.clone(),
        )
        .await;
        assert_eq!(
            (foreign.status, &foreign.bytes),
            (missing.status, &missing.bytes),
            "{method} {below}"
        );
        assert!(foreign.status == StatusCode::NOT_FOUND || (method == Method::DELETE && below.is_empty()));
    }
    assert_eq!(
        call_as(&world, TENANT, Method::GET, &path, None).await.json()["cpu"],
        1
    );

    let new = json!({ "name": "x", "image": "postgres:16.1" });
    let version = format!("{VERSIONS}/{}", version.as_str().unwrap());
    for (method, path, json) in [
        (Method::POST, VERSIONS, Some(new)),
        (Method::PUT, version.as_str(), Some(json!({ "deprecated": true }))),
        (
            Method::PATCH,
            version.as_str(),
            Some(json!({ "deprecated": true })),
        ),
        (Method::DELETE, version.as_str(), None),
    ] {
        let refused = call_as(&world, TENANT, method, path, json).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (StatusCode::FORBIDDEN, "forbidden")
        );
    }
}

#[tokio::test]
async fn two_projects_may_use_the_same_idempotency_key() {
    let world = with_tokens().await;
    let version =
        call_as(&world, ADMIN, Method::GET, VERSIONS, None).await.json()["versions"][0]["uuid"].clone();
    let body =
        json!({ "name": "orders", "cpu": 1, "ram": 512, "disk_size": 8, "version": version }).to_string();
    let mut made = Vec::new();
    for token in [TENANT, OTHER] {
        let headers = [
            ("authorization", token),
            ("content-type", "application/json"),
            ("idempotency-key", "1"),
        ];
        let answer = world.call(Method::POST, INSTANCES, &headers, body.clone()).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        made.push(answer.header("location").to_owned());
    }
    assert_ne!(made[0], made[1]);
}

#[tokio::test]
async fn an_embedder_authenticates_by_itself() {
    let world = World::with(HttpOptions::new(Access::Embedder)).await;
    assert_eq!(world.get(INSTANCES).await.problem(), "unauthorized");
    let mut request = Request::get(INSTANCES).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Caller::Admin);
    assert_eq!(world.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_tokens_pages_of_other_sites_do_nothing() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let stop = format!("{instance}/actions/stop");
    for headers in [
        vec![("host", "rebound.example")],
        vec![("host", "localhost"), ("origin", "https://evil.example")],
        vec![("host", "localhost"), ("origin", "null")],
    ] {
        let mut request = Request::post(&stop);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(), "forbidden");
    }
    assert_eq!(world.get(&instance).await.json()["generation"], 1);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_with_an_id() {
    let world = World::with(HttpOptions::new(Access::Anyone).with_metrics(|| panic!("a secret"))).await;
    let answer = world.get("/metrics").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (StatusCode::INTERNAL_SERVER_ERROR, "internal")
    );
    assert!(answer.json()["id"].is_string());
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("a secret"));
}

#[tokio::test]
async fn a_store_that_cannot_be_reached() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let body = world.instance_body("other").await;
    let fail = |kind: StoreErrorKind| {
        world
            .store
            .set_fault(Some(Arc::new(move |call: &StoreCall<'_>| match kind {
                StoreErrorKind::OutcomeUnknown if !call.is_write() => Fault::None,
                kind => Fault::Fail(kind),
            })));
    };
    fail(StoreErrorKind::Unavailable);
    for answer in [
        world.get(&instance).await,
        world.get(INSTANCES).await,
        world.post(INSTANCES, &body).await,
        world.delete(&instance).await,
    ] {
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        );
        assert_eq!(answer.header("retry-after"), "1");
    }
    let ready = world.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.problem().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "not-ready")
    );
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);

    fail(StoreErrorKind::OutcomeUnknown);
    let unknown = world.put(&instance, &json!({ "cpu": 2 })).await;
    assert_eq!(
        (unknown.status, unknown.problem().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown")
    );
    world.store.set_fault(None);
    assert_eq!(world.get(&instance).await.status, StatusCode::OK);
}

#[tokio::test]
async fn more_than_the_bounds_is_refused() {
    let world = Arc::new(World::with(HttpOptions::new(Access::Anyone).with_bounds(1, 1)).await);
    let instance = world.instance("orders").await;
    // A request that stays in hand: its body never comes.
    let slow = tokio::spawn({
        let world = world.clone();
        async move {
            let never = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
            world
                .call(
                    Method::POST,
                    INSTANCES,
                    &[("content-type", "application/json")],
                    never,
                )
                .await
        }
    });
    // One that waits.
    let waiting = tokio::spawn({
        let (world, path) = (world.clone(), format!("{instance}?wait=ACTIVE&timeout=10m"));
        async move { world.get(&path).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = world.get(INSTANCES).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
    );
    assert_eq!(refused.header("retry-after"), "1");
    let refused = world.get(&format!("{instance}?wait=ACTIVE")).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "too-many-waiting")
    );
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
    slow.abort();
    waiting.abort();
    let _ = (slow.await, waiting.await);
    assert_eq!(world.get(INSTANCES).await.status, StatusCode::OK);
    assert_eq!(
        world
            .get(&format!("{instance}?wait=ERROR&timeout=1ms"))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_end_is_orderly() {
    let (stop, stopping) = watch::channel(false);
    let world = Arc::new(World::with(HttpOptions::new(Access::Anyone).with_stopping(stopping)).await);
    let instance = world.instance("orders").await;
    let waiting = tokio::spawn({
        let (world, path) = (world.clone(), format!("{instance}?wait=ACTIVE&timeout=10m"));
        async move { world.get(&path).await }
    });
    let stream = open_stream(&world, &format!("{instance}/events"), None).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(true).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        (waited.status, waited.header("dbaas-wait")),
        (StatusCode::OK, "stopping")
    );
    let rest = tokio::time::timeout(Duration::from_secs(5), stream.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "the stream ends");
    assert_eq!(world.get("/readyz").await.problem(), "not-ready");
    assert_eq!(world.get(&instance).await.status, StatusCode::OK);
}

/// The frames of an event stream.
async fn open_stream(
    world: &World,
    path: &str,
    last: Option<&str>,
) -> impl futures_util::Stream<Item = String> + Unpin + use<> {
    let mut request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::ACCEPT, "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = world
        .router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let frames = response.into_body().into_data_stream();
    Box::pin(frames.map(|frame| String::from_utf8(frame.unwrap().to_vec()).unwrap()))
}

#[tokio::test]
async fn events_as_a_stream() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let path = format!("{instance}/events");
    let mut stream = open_stream(&world, &path, None).await;
    let next = async |stream: &mut (dyn futures_util::Stream<Item = String> + Unpin)| {
        tokio::time::timeout(Duration::from_secs(5), stream.next())
            .await
            .expect("an event in time")
            .expect("an event")
    };
    let first = next(&mut stream).await;
    let field = |frame: &str, name: &str| {
        let line = frame
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a field");
        line.trim_start_matches(':').trim().to_owned()
    };
    let data: serde_json::Value = serde_json::from_str(&field(&first, "data")).unwrap();
    assert_eq!(field(&first, "id"), data["sequence"].to_string());
    assert_eq!(field(&first, "event"), data["kind"].as_str().unwrap());

    // What happens now comes at once.
    world.user(&instance, "app").await;
    let mut seen = next(&mut stream).await;
    for _ in 0..20 {
        if seen.contains("app") {
            break;
        }
        seen = next(&mut stream).await;
    }
    assert!(seen.contains("app"), "{seen}");

    // A connection that broke goes on after the last event.
    let mut again = open_stream(&world, &path, Some(&field(&first, "id"))).await;
    let second = next(&mut again).await;
    assert!(field(&second, "id").parse::<u64>().unwrap() > field(&first, "id").parse::<u64>().unwrap());
    let request = Request::get(&path)
        .header("host", "localhost")
        .header("accept", "text/event-stream")
        .header("last-event-id", "x");
    assert_eq!(
        world.send(request.body(Body::empty()).unwrap()).await.problem(),
        "invalid-header"
    );
    let nowhere = Request::get(format!("{INSTANCES}/{PROJECT}/events"))
        .header("host", "localhost")
        .header("accept", "text/event-stream");
    let answer = world
        .router
        .clone()
        .oneshot(nowhere.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let _ = answer.into_body().collect().await;
}
