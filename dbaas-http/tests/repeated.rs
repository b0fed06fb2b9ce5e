//! Calls that come twice, or too late: `Idempotency-Key` and `If-Match` on what is no creation of a resource
//! within a project.

mod world;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use world::{Answer, VERSIONS, World};

async fn post(world: &World, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/json"));
    world.call(Method::POST, path, &headers, body.to_string()).await
}

/// How often the instance's log has an event of this kind.
async fn count(world: &World, instance: &str, kind: &str) -> usize {
    let events = world.get(&format!("{instance}/events?limit=1000")).await.json();
    let events = events["events"].as_array().unwrap();
    events.iter().filter(|event| event["kind"] == kind).count()
}

#[tokio::test]
async fn a_repeated_action_is_done_once() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let restart = format!("{instance}/actions/restart");
    for spelling in [
        restart.clone(),
        restart.replace("/types/", "/"),
        format!("{restart}/"),
    ] {
        let answer = post(&world, &spelling, &[("idempotency-key", "k1")], &json!({})).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    }
    assert_eq!(count(&world, &instance, "restart_requested").await, 1);

    // Another body, or another action, is another request.
    let other = post(&world, &restart, &[("idempotency-key", "k1")], &json!({ "x": 1 })).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    let stop = format!("{instance}/actions/stop");
    let other = post(&world, &stop, &[("idempotency-key", "k1")], &json!({})).await;
    assert_eq!(other.problem(), "idempotency-mismatch");
    // Another key asks again; within the same millisecond it would be the same request.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    post(&world, &restart, &[("idempotency-key", "k2")], &json!({})).await;
    assert_eq!(count(&world, &instance, "restart_requested").await, 2);
    let bad = post(&world, &restart, &[("idempotency-key", "two words")], &json!({})).await;
    assert_eq!(bad.problem(), "invalid-header");
}

#[tokio::test]
async fn an_action_that_had_nothing_to_do_does_nothing_later() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let start = format!("{instance}/actions/start");
    let key = [("idempotency-key", "start")];
    assert_eq!(
        post(&world, &start, &key, &json!({})).await.status,
        StatusCode::ACCEPTED
    );
    let stop = format!("{instance}/actions/stop");
    assert_eq!(
        post(&world, &stop, &[], &json!({})).await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        post(&world, &start, &key, &json!({})).await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        count(&world, &instance, "start_requested").await,
        0,
        "it stays stopped"
    );
}

#[tokio::test]
async fn an_action_is_held_to_its_version() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let stop = format!("{instance}/actions/stop");
    for stale in ["\"0\"", "\"007\"", "\"x\"", "W/\"1\"", "\"0\", \"x\""] {
        let answer = post(&world, &stop, &[("if-match", stale)], &json!({})).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{stale}");
    }
    assert_eq!(
        post(&world, &stop, &[("if-match", "1")], &json!({}))
            .await
            .problem(),
        "invalid-header"
    );
    assert_eq!(count(&world, &instance, "stop_requested").await, 0);

    // The engine may write in between: read and asked again, as a client would.
    for _ in 0..200 {
        let tag = world.get(&instance).await.header("etag").to_owned();
        let headers = [("if-match", tag.as_str()), ("idempotency-key", "stop")];
        let answer = post(&world, &stop, &headers, &json!({})).await;
        if answer.status == StatusCode::PRECONDITION_FAILED {
            continue;
        }
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        // What is repeated was done at that version, which has passed.
        let again = post(&world, &stop, &headers, &json!({})).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{again:?}");
        assert_eq!(count(&world, &instance, "stop_requested").await, 1);
        return;
    }
    panic!("it never held still");
}

#[tokio::test]
async fn a_repeated_version_is_the_same_one() {
    let world = World::new().await;
    let body = json!({ "name": "PostgreSQL 17.2", "image": "postgres:17.2" });
    let key = [("idempotency-key", "v1")];
    let first = post(&world, VERSIONS, &key, &body).await;
    let again = post(&world, VERSIONS, &key, &body).await;
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.json(), again.json());
    assert_eq!(post(&world, VERSIONS, &[], &body).await.problem(), "name-taken");
    let other = json!({ "name": "PostgreSQL 17.3", "image": "postgres:17.3" });
    assert_eq!(
        post(&world, VERSIONS, &key, &other).await.problem(),
        "idempotency-mismatch"
    );
    let old = json!({ "name": "old", "image": "postgres:13.1" });
    let refused = post(&world, VERSIONS, &[], &old).await;
    assert!(refused.errors()[0].1.contains("14 or newer"), "{refused:?}");
}

#[tokio::test]
async fn collections_are_filtered_by_id_and_description() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    world.instance("others").await;
    let user = world.user(&instance, "app").await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let version = world.version().await;
    world.user(&instance, "other").await;
    for (collection, kind, path) in [
        ("/v1/types/postgres/instances".to_owned(), "instances", &instance),
        (format!("{instance}/users"), "users", &user),
        (VERSIONS.to_owned(), "versions", &version),
    ] {
        let found = world
            .get(&format!(
                "{collection}?uuid={}&uuid=00000000-0000-0000-0000-000000000000",
                id(path)
            ))
            .await
            .json();
        let found = found[kind].as_array().unwrap();
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0]["uuid"], id(path));
        let patched = world
            .call(
                Method::PATCH,
                &format!("{collection}/{}", id(path)),
                &[("content-type", "application/json")],
                Body::from(r#"{"description":"the one"}"#),
            )
            .await;
        assert_eq!(patched.status, StatusCode::OK, "{patched:?}");
        let found = world
            .get(&format!("{collection}?description=the%20one"))
            .await
            .json();
        assert_eq!(found[kind].as_array().unwrap().len(), 1, "{kind}");
        let none = world
            .get(&format!("{collection}?description=another"))
            .await
            .json();
        assert_eq!(none[kind], json!([]), "{kind}");
    }
}

#[tokio::test]
async fn a_field_that_an_action_does_not_have_is_named_with_those_that_it_has() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let of = async |action: &str| {
        let path = format!("{instance}/actions/{action}");
        post(&world, &path, &[], &json!({ "zzz": 1 })).await.errors()[0]
            .1
            .clone()
    };
    assert_eq!(
        of("restart").await,
        "is not a field of this action, which takes none"
    );
    assert_eq!(
        of("switchover").await,
        "is not a field of this action; the only one is to"
    );
}
