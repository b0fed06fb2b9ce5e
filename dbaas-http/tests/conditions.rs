//! `conditions` of instances, nodes, databases and users: told, and set by nobody.

mod world;

use axum::http::StatusCode;
use serde_json::{Value, json};
use world::{INSTANCES, World};

/// Status and reason of a condition.
fn of(resource: &Value, kind: &str) -> (String, String) {
    let conditions = resource["conditions"].as_array().expect("a list");
    let mut found = conditions.iter().filter(|condition| condition["type"] == kind);
    let condition = found.next().unwrap_or_else(|| panic!("{kind} in {resource}"));
    assert!(found.next().is_none(), "each type once");
    for text in ["message", "since"] {
        assert!(!condition[text].as_str().expect("a text").is_empty());
    }
    let word = |field: &str| condition[field].as_str().expect("a word").to_owned();
    (word("status"), word("reason"))
}

#[tokio::test]
async fn what_was_just_asked_for_is_not_reconciled() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let owner = user.clone();
    let database = world.database(&instance, "shop", &owner).await;
    for path in [&instance, &user, &database] {
        let found = world.get(path).await.json();
        // Why depends on how far it is by now.
        let (status, reason) = of(&found, "Reconciled");
        assert_eq!(status, "False", "{path}: {reason}");
        assert!(reason.chars().all(char::is_alphabetic), "{reason}");
    }
}

#[tokio::test]
async fn nobody_sets_them_and_what_was_answered_may_be_sent_back() {
    let world = World::new().await;
    let path = world.instance("orders").await;
    let found = world.get(&path).await.json();
    let same = world
        .put(&path, &json!({ "conditions": found["conditions"] }))
        .await;
    assert_eq!(same.status, StatusCode::OK, "{same:?}");
    let refused = world.put(&path, &json!({ "conditions": [] })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    assert!(refused.names("/conditions"), "{refused:?}");
    let mut body = world.instance_body("other").await;
    body["conditions"] = found["conditions"].clone();
    let refused = world.post(INSTANCES, &body).await;
    assert!(refused.names("/conditions"), "{refused:?}");
}
