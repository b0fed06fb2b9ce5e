//! `parameters` of an instance, and the list of a version.

mod world;

use axum::http::StatusCode;
use serde_json::json;
use world::{INSTANCES, World};

#[tokio::test]
async fn parameters_are_set_changed_and_taken_back() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    body["parameters"] = json!({ "Work_Mem": "64MB", "max_connections": 300, "jit": true });
    let made = world.post(INSTANCES, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let made = made.json();
    let set = json!({ "jit": "on", "max_connections": "300", "work_mem": "64MB" });
    assert_eq!(made["parameters"], set);
    assert_eq!(made["parameters_pending_restart"], json!([]));
    let path = format!("{INSTANCES}/{}", made["uuid"].as_str().unwrap());
    let change = json!({ "parameters": { "jit": null, "work_mem": "8MB" } });
    let changed = world.put(&path, &change).await.json();
    let left = json!({ "max_connections": "300", "work_mem": "8MB" });
    assert_eq!(changed["parameters"], left);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_rule() {
    let world = World::new().await;
    let path = world.instance("orders").await;
    let change = json!({ "parameters": { "work_mem": "1kB", "fsync": "off", "no/such": "1", "jit": [] } });
    let refused = world.put(&path, &change).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        refused.errors(),
        [(
            "/parameters/jit".to_owned(),
            "must be text, a number, true or false, or null, was an array".to_owned()
        )]
    );
    let change = json!({ "parameters": { "work_mem": "1kB", "fsync": "off", "no/such": "1" } });
    let refused = world.put(&path, &change).await;
    let pointers: Vec<String> = refused.errors().into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(
        pointers,
        [
            "/parameters/fsync",
            "/parameters/no~1such",
            "/parameters/work_mem"
        ]
    );
    assert!(refused.errors()[2].1.contains("is at least 64 kB; was 1kB"));
}

#[tokio::test]
async fn a_version_lists_its_settings() {
    let world = World::new().await;
    let path = format!("{}/parameters", world.version().await);
    let listed = world.get(&path).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    let listed = listed.json();
    let all = listed["parameters"].as_array().unwrap();
    let find = |name: &str| all.iter().find(|p| p["name"] == name).unwrap();
    assert_eq!(find("work_mem")["unit"], "kB");
    assert_eq!(find("max_connections")["needs_restart"], true);
    assert!(find("fsync")["refused_because"].is_string());
    assert!(find("work_mem").get("refused_because").is_none());
}
