//! `deletion_protection` of instances and databases.

mod world;

use axum::http::{Method, StatusCode};
use serde_json::json;
use world::{INSTANCES, World};

async fn unprotected(world: &World, path: &str) {
    let body = json!({ "deletion_protection": false }).to_string();
    let changed = world.text(Method::PATCH, path, &body).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.json()["deletion_protection"], false);
}

async fn refused(world: &World, path: &str, name: &str) {
    let answer = world.delete(path).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["type"], "/problems/deletion-protected");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains(name) && detail.contains("deletion_protection"),
        "{detail}"
    );
    let there = world.get(path).await.json();
    assert_ne!(there["phase"], "deleting");
}

#[tokio::test]
async fn a_protected_instance_stays_until_it_is_unprotected() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    body["deletion_protection"] = json!(true);
    let made = world.post(INSTANCES, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.json()["deletion_protection"], true);
    let path = format!("{INSTANCES}/{}", made.json()["uuid"].as_str().unwrap());
    refused(&world, &path, "\"orders\"").await;
    unprotected(&world, &path).await;
    let deleted = world.delete(&path).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{deleted:?}");
    // Nobody is protected who did not ask for it; only true and false say anything.
    let plain = world.instance("plain").await;
    assert_eq!(world.get(&plain).await.json()["deletion_protection"], false);
    let wrong = world.put(&plain, &json!({ "deletion_protection": "yes" })).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    assert_eq!(wrong.errors()[0].0, "/deletion_protection");
}

#[tokio::test]
async fn a_protected_database_keeps_its_instance() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = json!({ "name": "app", "password": "correct horse" });
    let user = world.post(&format!("{instance}/users"), &user).await.json();
    let owner = format!("{instance}/users/{}", user["uuid"].as_str().unwrap());
    let body = json!({ "name": "shop", "owner": owner, "deletion_protection": true });
    let made = world.post(&format!("{instance}/databases"), &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let made = made.json();
    assert_eq!(made["deletion_protection"], true);
    let path = format!("{instance}/databases/{}", made["uuid"].as_str().unwrap());
    // What GET says may be sent back.
    let same = world.put(&path, &world.get(&path).await.json()).await;
    assert_eq!(same.status, StatusCode::OK, "{same:?}");

    refused(&world, &path, "\"shop\"").await;
    refused(&world, &instance, "\"shop\"").await;
    unprotected(&world, &path).await;
    let deleted = world.delete(&instance).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{deleted:?}");
}
