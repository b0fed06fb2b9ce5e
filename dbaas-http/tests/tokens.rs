//! Tokens that the administrator makes, and what their scopes allow.

mod world;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use dbaas_http::{Access, Caller, HttpOptions, Scopes, TokenStore};
use serde_json::{Value, json};
use world::{Answer, INSTANCES, World};

const TOKENS: &str = "/v1/iam/tokens";
const ADMIN: &str = "the-administrators-token";
const PROJECT: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";

async fn world() -> World {
    let mut tokens = TokenStore::default();
    tokens.insert(ADMIN, Caller::Admin);
    let only = Scopes::new(["token.create", "instance.read"]).unwrap();
    tokens.insert_with_scopes("makes-tokens-only", Caller::Admin, only);
    World::with(HttpOptions::new(Access::Tokens(tokens))).await
}

async fn call(world: &World, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = body.map_or_else(Body::empty, |body| body.to_string().into());
    world.call(method, path, &headers, body).await
}

/// A new token: its path and its text.
async fn made(world: &World, body: Value) -> (String, String) {
    let made = call(world, ADMIN, Method::POST, TOKENS, Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let text = made.json()["token"].as_str().unwrap().to_owned();
    (made.header("location").to_owned(), text)
}

#[tokio::test]
async fn a_token_is_made_used_changed_and_deleted() {
    let world = world().await;
    let (path, token) = made(
        &world,
        json!({"name": "ci", "project_id": PROJECT, "scopes": ["*.read"]}),
    )
    .await;
    assert!(token.starts_with("dbaas_") && token.len() > 40, "{token}");
    // Its text is nowhere any more.
    for shown in [&path, TOKENS] {
        let answer = call(&world, ADMIN, Method::GET, shown, None).await;
        assert!(answer.json().to_string().contains("ci"), "{answer:?}");
        assert!(!answer.json().to_string().contains("dbaas_"), "{answer:?}");
    }
    assert_eq!(
        call(&world, &token, Method::GET, INSTANCES, None).await.status,
        StatusCode::OK
    );
    let create = json!({"name": "p"});
    let refused = call(
        &world,
        &token,
        Method::POST,
        "/v1/secret/passwords",
        Some(create.clone()),
    )
    .await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (StatusCode::FORBIDDEN, "forbidden")
    );
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("password.create"),
        "{refused:?}"
    );

    // More is allowed from the next request on, of its own project.
    let more = json!({"scopes": ["*.read", "password.*"], "uuid": path.rsplit('/').next()});
    let changed = call(&world, ADMIN, Method::PATCH, &path, Some(more)).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let made = call(&world, &token, Method::POST, "/v1/secret/passwords", Some(create)).await;
    assert_eq!(made.json()["project_id"], PROJECT, "{made:?}");
    // Tokens are the administrator's.
    let refused = call(&world, &token, Method::GET, TOKENS, None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");

    let gone = call(&world, ADMIN, Method::DELETE, &path, None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{gone:?}");
    let unknown = call(&world, &token, Method::GET, INSTANCES, None).await;
    assert_eq!(unknown.problem(), "unauthorized", "{unknown:?}");
}

#[tokio::test]
async fn a_value_is_read_with_its_own_scope_and_by_name() {
    let world = world().await;
    let password = call(
        &world,
        ADMIN,
        Method::POST,
        "/v1/secret/passwords",
        Some(json!({"name": "p"})),
    )
    .await;
    let path = password.header("location").to_owned();
    let value = format!("{path}/value");
    let (_, reads) = made(
        &world,
        json!({"name": "reads", "scopes": ["*.read", "password.*"]}),
    )
    .await;
    assert_eq!(
        call(&world, &reads, Method::GET, &path, None).await.status,
        StatusCode::OK
    );
    let refused = call(&world, &reads, Method::GET, &value, None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let (_, knows) = made(
        &world,
        json!({"name": "deploys", "scopes": ["secret_value.read"]}),
    )
    .await;
    let read = call(&world, &knows, Method::GET, &value, None).await;
    assert_eq!(read.json()["value"].as_str().unwrap().len(), 32, "{read:?}");
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    let events = world.control.events_about(id, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    let message = &events[0].event.message;
    assert!(
        message.ends_with("was read by admin with the token \"deploys\""),
        "{message}"
    );
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let world = world().await;
    for (scopes, status) in [
        (json!(["instance.read"]), StatusCode::CREATED),
        (json!(["instance.*"]), StatusCode::FORBIDDEN),
        (json!(["*"]), StatusCode::FORBIDDEN),
        (json!([]), StatusCode::UNPROCESSABLE_ENTITY),
        (json!(["everything"]), StatusCode::UNPROCESSABLE_ENTITY),
        (json!("*"), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let body = json!({"name": "x", "scopes": scopes});
        let answer = call(&world, "makes-tokens-only", Method::POST, TOKENS, Some(body)).await;
        assert_eq!(answer.status, status, "{scopes}: {answer:?}");
    }
    // The same request again makes no other token, and does not say its text again.
    let bearer = format!("Bearer {ADMIN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "once"),
    ];
    let create = || world.call(Method::POST, TOKENS, &headers, json!({"name": "y"}).to_string());
    let (first, second) = (create().await.json(), create().await.json());
    assert_eq!(first["uuid"], second["uuid"]);
    assert!(
        first["token"].is_string() && second["token"].is_null(),
        "{second}"
    );
}

#[tokio::test]
async fn a_config_with_a_secret_and_a_manifest_are_shown_to_whoever_may_read_secrets() {
    let world = world().await;
    let text = "name: app\nresources:\n  $core.secret.passwords:\n    key: {method: AUTO_HEX}\n  $core.config.configs:\n    \
        env: {body: {kind: text, content: 'f\"KEY={$core.secret.passwords.$key:value}\"'}}\n    \
        open: {body: {kind: text, content: nothing}}\n";
    let bearer = format!("Bearer {ADMIN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/yaml"),
    ];
    let made_of = world.call(Method::POST, "/v1/em/manifests", &headers, text).await;
    let manifest = made_of.header("location").to_owned();
    let install = format!("{manifest}/actions/install/invoke");
    let begun = call(&world, ADMIN, Method::POST, &install, None).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
    let element = format!(
        "/v1/em/elements/{}",
        begun.json()["element"]["uuid"].as_str().unwrap()
    );
    for _ in 0..1_000 {
        if call(&world, ADMIN, Method::GET, &element, None).await.json()["status"] == "ACTIVE" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (_, reads) = made(&world, json!({"name": "reads", "scopes": ["*.read"]})).await;
    let configs = call(&world, &reads, Method::GET, "/v1/config/configs", None)
        .await
        .json();
    let configs = configs["configs"].as_array().unwrap().clone();
    assert_eq!(configs.len(), 2);
    for config in configs {
        let path = format!("/v1/config/configs/{}", config["uuid"].as_str().unwrap());
        let seen = call(&world, &reads, Method::GET, &path, None).await.json();
        assert_eq!(
            seen.get("content").is_some(),
            config["is_secret"] == false,
            "{seen}"
        );
        let whole = call(&world, ADMIN, Method::GET, &path, None).await.json();
        assert!(whole["content"].is_string(), "{whole}");
    }
    let bearer = format!("Bearer {reads}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/yaml")];
    let refused = world.call(Method::GET, &manifest, &headers, Body::empty()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    // A plan is a look; an install is none.
    let plan = format!("{manifest}/actions/plan/invoke");
    assert_eq!(
        call(&world, &reads, Method::POST, &plan, None).await.status,
        StatusCode::OK
    );
    assert_eq!(
        call(&world, &reads, Method::POST, &install, None).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_node_that_is_not_there_has_no_log() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let path = format!("{instance}/nodes/{PROJECT}/logs");
    assert_eq!(world.get(&path).await.problem(), "not-found");
    let wrong = world.get(&format!("{path}?tail=1001&follow=1")).await;
    assert!(wrong.names("tail") && wrong.names("follow"), "{wrong:?}");
}
