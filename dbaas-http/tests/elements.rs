//! Manifests over REST: kept, planned, installed, followed, uninstalled; and who may read the secrets.

mod world;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use dbaas_core::id::ProjectId;
use dbaas_http::{Access, Caller, HttpOptions, TokenStore};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;
use world::World;

const MANIFESTS: &str = "/v1/em/manifests/";
const TEXT: &str = "
name: app
version: 1.0.0
resources:
  $core.secret.passwords:
    key: {method: AUTO_HEX, default_length: 20}
  $core.vs.variables:
    region: {value: north}
  $core.config.configs:
    env:
      path: /etc/app.env
      body: {kind: text, content: 'f\"KEY={$core.secret.passwords.$key:value} REGION={$core.vs.variables.$region:value}\"'}
exports:
  region: {link: $core.vs.variables.$region}
";

async fn create(world: &World, text: &str) -> String {
    let made = world
        .call(
            Method::POST,
            MANIFESTS,
            &[("content-type", "application/yaml")],
            text.to_owned(),
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made.header("location").to_owned()
}

async fn act(world: &World, manifest: &str, action: &str, body: &Value) -> world::Answer {
    world
        .post(&format!("{manifest}/actions/{action}/invoke"), body)
        .await
}

/// The element of the manifest, when it is not in progress any more.
async fn settled(world: &World, path: &str) -> Value {
    for _ in 0..1_000 {
        let element = world.get(path).await.json();
        if element["status"] != "IN_PROGRESS" {
            return element;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never ends");
}

#[tokio::test]
async fn a_manifest_is_kept_planned_installed_and_uninstalled() {
    let world = World::new().await;
    let manifest = create(&world, TEXT).await;
    let kept = world.get(&manifest).await.json();
    assert_eq!(
        (&kept["name"], &kept["version"]),
        (&json!("app"), &json!("1.0.0"))
    );

    let text = world
        .call(
            Method::GET,
            &manifest,
            &[("accept", "application/yaml")],
            Body::empty(),
        )
        .await;
    assert_eq!(
        (text.header("content-type"), &text.bytes[..]),
        ("application/yaml", TEXT.as_bytes())
    );

    let plan = act(&world, &manifest, "plan", &json!({})).await;
    assert_eq!(plan.status, StatusCode::OK, "{plan:?}");
    let plan = plan.json();
    assert_eq!(
        (&plan["nothing_to_do"], plan["steps"].as_array().unwrap().len()),
        (&json!(false), 3)
    );
    assert_eq!(world.get("/v1/em/elements/").await.json()["elements"], json!([]));

    let applied = act(&world, &manifest, "install", &json!({})).await;
    assert_eq!(applied.status, StatusCode::ACCEPTED, "{applied:?}");
    let element = format!(
        "/v1/em/elements/{}",
        applied.json()["element"]["uuid"].as_str().unwrap()
    );
    assert_eq!(settled(&world, &element).await["status"], "ACTIVE");
    let again = act(&world, &manifest, "plan", &json!({})).await.json();
    assert_eq!(
        (&again["nothing_to_do"], &again["unchanged"]),
        (&json!(true), &json!(3))
    );

    let resources = world.get(&format!("{element}/resources")).await.json();
    let uri = |kind: &str| {
        let all = resources["resources"].as_array().unwrap();
        let found = all.iter().find(|found| found["kind"] == kind).unwrap();
        found["uri"].as_str().unwrap().to_owned()
    };
    let value = world.get(&format!("{}/value", uri("password"))).await;
    assert_eq!(value.header("cache-control"), "no-store");
    let value = value.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(value.len(), 20);
    let config = world.get(&uri("config")).await.json();
    assert_eq!(config["content"], json!(format!("KEY={value} REGION=north")));
    assert_eq!(
        (&config["path"], &config["is_secret"]),
        (&json!("/etc/app.env"), &json!(true))
    );
    let exports = world.get(&format!("{element}/exports")).await.json();
    assert_eq!(exports["exports"][0]["link"], "$core.vs.variables.$region");

    // Nothing but what is asked for by name holds the secret.
    for path in [
        manifest.clone(),
        element.clone(),
        format!("{element}/resources"),
        format!("{element}/events"),
        "/v1/secret/passwords/".to_owned(),
        "/v1/config/configs/".to_owned(),
        uri("password"),
    ] {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(&value), "{path}");
    }

    // A replaced text changes just what differs.
    let changed = TEXT.replace("north", "south").replace("1.0.0", "1.1.0");
    let replaced = world
        .call(Method::PUT, &manifest, &[("content-type", "text/yaml")], changed)
        .await;
    assert_eq!(replaced.json()["version"], "1.1.0");
    let plan = act(&world, &manifest, "plan", &json!({})).await.json();
    assert_eq!(
        (&plan["unchanged"], &plan["steps"][0]["action"]),
        (&json!(1), &json!("update"))
    );
    act(&world, &manifest, "upgrade", &json!({})).await;
    assert_eq!(settled(&world, &element).await["version"], "1.1.0");
    let config = world.get(&uri("config")).await.json();
    assert_eq!(config["content"], json!(format!("KEY={value} REGION=south")));

    assert_eq!(
        act(&world, &manifest, "uninstall", &json!({})).await.status,
        StatusCode::ACCEPTED
    );
    for _ in 0..1_000 {
        if world.get(&element).await.status == StatusCode::NOT_FOUND {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.get(&element).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.get("/v1/secret/passwords/").await.json()["passwords"],
        json!([])
    );
    assert_eq!(world.delete(&manifest).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn every_error_is_told_with_its_place() {
    let world = World::new().await;
    let wrong = TEXT
        .replace("AUTO_HEX", "AUTO")
        .replace("$region:value", "$regoin:value");
    let manifest = create(&world, &wrong).await;
    for action in ["validate", "plan", "install"] {
        let answer = act(&world, &manifest, action, &json!({})).await;
        assert_eq!(answer.problem(), "invalid-manifest");
        let errors = answer.errors();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert_eq!(errors[0].0, "/$core.secret.passwords.$key/method");
        assert!(
            errors[0].1.starts_with("line 6, column 19: must be one of"),
            "{errors:?}"
        );
        assert!(errors[1].1.contains("did you mean \"region\"?"), "{errors:?}");
    }
    let broken = world
        .call(
            Method::POST,
            MANIFESTS,
            &[("content-type", "application/yaml")],
            "a: [",
        )
        .await;
    assert_eq!(broken.problem(), "invalid-manifest");
    let json = world
        .post(
            MANIFESTS,
            &json!({"name": "j", "resources": {"$core.vs.variables": {"a": {"value": 1}}}}),
        )
        .await;
    assert_eq!(json.status, StatusCode::CREATED, "{json:?}");
    let text = world
        .call(
            Method::POST,
            MANIFESTS,
            &[("content-type", "text/csv")],
            "name: x",
        )
        .await;
    assert_eq!(text.problem(), "unsupported-media-type");
    // Variables of the text come with the action.
    let manifest = create(&world, "name: v\nversion: \"{{ version }}\"\n").await;
    assert_eq!(
        act(&world, &manifest, "plan", &json!({})).await.problem(),
        "invalid-manifest"
    );
    let plan = act(
        &world,
        &manifest,
        "plan",
        &json!({"variables": {"version": "3.2.1"}}),
    )
    .await;
    assert_eq!(plan.json()["version"], "3.2.1", "{plan:?}");
}

#[tokio::test]
async fn a_project_sees_its_own() {
    let project = ProjectId::from_uuid(Uuid::from_u128(5));
    let mut tokens = TokenStore::default();
    tokens.insert("the-administrators", Caller::Admin);
    tokens.insert("the-projects-own-token", Caller::Project(project));
    tokens.insert(
        "another-projects-token",
        Caller::Project(ProjectId::from_uuid(Uuid::from_u128(6))),
    );
    let world = World::with(HttpOptions::new(Access::Tokens(tokens))).await;
    let call = |token: &'static str, method: Method, path: String, body: String| {
        let world = &world;
        async move {
            let bearer = format!("Bearer {token}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            world.call(method, &path, &headers, Body::from(body)).await
        }
    };
    let (own, other, admin) = (
        "the-projects-own-token",
        "another-projects-token",
        "the-administrators",
    );
    let password = json!({"name": "mine"}).to_string();
    let made = call(own, Method::POST, "/v1/secret/passwords".into(), password.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let path = made.header("location").to_owned();
    let value = format!("{path}/value");
    for (token, status) in [
        (own, StatusCode::OK),
        (admin, StatusCode::OK),
        (other, StatusCode::NOT_FOUND),
    ] {
        assert_eq!(
            call(token, Method::GET, path.clone(), String::new()).await.status,
            status
        );
        assert_eq!(
            call(token, Method::GET, value.clone(), String::new())
                .await
                .status,
            status
        );
    }
    assert_eq!(world.get(&value).await.status, StatusCode::UNAUTHORIZED);
    let listed = call(other, Method::GET, "/v1/secret/passwords".into(), String::new()).await;
    assert_eq!(listed.json()["passwords"], json!([]));
    // A project's manifest stays within the project.
    let foreign = json!({"name": "x", "resources": {"$core.secret.passwords": {"p": {"project_id": Uuid::from_u128(6).to_string()}}}});
    let made = call(own, Method::POST, MANIFESTS.into(), foreign.to_string()).await;
    let plan = call(
        own,
        Method::POST,
        format!("{}/actions/plan/invoke", made.header("location")),
        "{}".into(),
    )
    .await;
    assert!(plan.errors()[0].1.contains("than that of the token"), "{plan:?}");
    let hidden = call(
        other,
        Method::GET,
        made.header("location").to_owned(),
        String::new(),
    )
    .await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
    // Variables of the platform: everybody reads, the administrator writes.
    let listed = call(other, Method::GET, "/v1/vs/variables".into(), String::new())
        .await
        .json();
    assert_eq!(listed["variables"].as_array().unwrap().len(), 2);
    let body = json!({"name": "v", "value": 1}).to_string();
    assert_eq!(
        call(own, Method::POST, "/v1/vs/variables".into(), body.clone())
            .await
            .problem(),
        "forbidden"
    );
    assert_eq!(
        call(admin, Method::POST, "/v1/vs/variables".into(), body)
            .await
            .status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_manifest_may_have_a_mebibyte() {
    let world = World::new().await;
    let most = 1024 * 1024;
    let of = |length: usize| {
        let head = "name: long\nresources: {$core.vs.variables: {v: {value: '";
        let tail = "'}}}\n";
        format!("{head}{}{tail}", "x".repeat(length - head.len() - tail.len()))
    };
    let manifest = create(&world, &of(most)).await;
    let plan = act(&world, &manifest, "plan", &json!({})).await;
    assert_eq!(plan.json()["steps"].as_array().unwrap().len(), 1);
    let yaml = [("accept", "application/yaml")];
    let text = world.call(Method::GET, &manifest, &yaml, Body::empty()).await;
    assert_eq!(text.bytes.len(), most);
    let headers = [("content-type", "application/yaml")];
    let longer = world.call(Method::POST, MANIFESTS, &headers, of(most + 1)).await;
    assert_eq!(longer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_apply_can_be_followed() {
    let world = World::new().await;
    let manifest = create(&world, TEXT).await;
    let applied = act(&world, &manifest, "install", &json!({})).await.json();
    let path = format!(
        "/v1/em/elements/{}/events",
        applied["element"]["uuid"].as_str().unwrap()
    );
    let request = axum::http::Request::get(&path)
        .header("host", "localhost")
        .header("accept", "text/event-stream")
        .body(Body::empty())
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("event: applied") {
        let frame = tokio::time::timeout(Duration::from_secs(60), body.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    for step in ["apply_begun", "resource_begun", "resource_created"] {
        assert!(text.contains(&format!("event: {step}")), "{text}");
    }
}

#[tokio::test]
async fn a_password_gets_another_value_when_that_is_asked_for() {
    let world = World::new().await;
    let made = world
        .post(
            "/v1/secret/passwords/",
            &json!({"name": "p", "default_length": 12}),
        )
        .await;
    let path = made.header("location").to_owned();
    let value = async || world.get(&format!("{path}/value")).await.json()["value"].clone();
    let first = value().await;
    assert_eq!(first.as_str().unwrap().len(), 12);
    assert_eq!(
        world.put(&path, &json!({"description": "d"})).await.status,
        StatusCode::OK
    );
    assert_eq!(value().await, first);
    assert_eq!(
        world.put(&path, &json!({"rotation": 1})).await.json()["rotation"],
        1
    );
    assert_ne!(value().await, first);
    let wrong = world.put(&path, &json!({"value": "given"})).await;
    assert!(wrong.names("/value"), "{wrong:?}");
    let given = world
        .put(&path, &json!({"method": "MANUAL", "value": "given"}))
        .await;
    assert_eq!(given.status, StatusCode::OK, "{given:?}");
    assert_eq!(value().await, "given");
    assert!(
        world
            .post(
                "/v1/secret/passwords/",
                &json!({"name": "p", "default_length": 513})
            )
            .await
            .names("/default_length")
    );
}
