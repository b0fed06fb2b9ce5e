//! `labels` of an instance, and lists by them.

mod world;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use world::{INSTANCES, World};

#[tokio::test]
async fn labels_are_set_changed_and_removed() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    body["labels"] = json!({ "team": "shop", "example.org/tier": "2", "empty": "", "not": null });
    let made = world.post(INSTANCES, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let made = made.json();
    let set = json!({ "empty": "", "example.org/tier": "2", "team": "shop" });
    assert_eq!(made["labels"], set);
    let path = format!("{INSTANCES}/{}", made["uuid"].as_str().unwrap());
    assert_eq!(world.get(&path).await.json()["labels"], set);

    // What GET says may be sent back.
    let same = world.put(&path, &made).await;
    assert_eq!(same.status, StatusCode::OK, "{same:?}");
    assert_eq!(same.json()["generation"], 1, "nothing changed");

    let left = json!({ "example.org/tier": "3", "team": "shop" });
    for (method, change) in [
        (
            Method::PUT,
            json!({ "labels": { "empty": null, "absent": null } }),
        ),
        (Method::PATCH, json!({ "labels": { "example.org/tier": "3" } })),
    ] {
        let changed = world.text(method, &path, &change.to_string()).await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    }
    let after = world.get(&path).await.json();
    assert_eq!(after["labels"], left);
    assert_eq!(after["generation"], 3);
    let plain = world.instance("plain").await;
    assert_eq!(world.get(&plain).await.json()["labels"], json!({}));
}

#[tokio::test]
async fn labels_that_are_wrong_are_named() {
    let world = World::new().await;
    let path = world.instance("orders").await;
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
    for (labels, pointers) in [
        (
            json!({ "Team": "a", "a/b": "-", "ok": "ok" }),
            vec!["/labels/Team", "/labels/a~1b"],
        ),
        (
            json!({ "team": 7, "tier": [] }),
            vec!["/labels/team", "/labels/tier"],
        ),
        (json!(["team"]), vec!["/labels"]),
        (Value::Object(many), vec!["/labels"]),
    ] {
        let refused = world.put(&path, &json!({ "labels": labels })).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        let found: Vec<String> = refused.errors().into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(found, pointers);
        let mut body = world.instance_body("other").await;
        body["labels"] = labels;
        let refused = world.post(INSTANCES, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    }
    for filter in ["team", "Team:a", "team:-", ""] {
        let refused = world.get(&format!("{INSTANCES}?label={filter}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{filter}: {refused:?}");
    }
}

#[tokio::test]
async fn a_list_by_labels_has_pages() {
    let world = World::new().await;
    for n in 0..12 {
        let mut body = world.instance_body(&format!("i{n}")).await;
        let team = if n % 2 == 0 { "shop" } else { "stock" };
        body["labels"] = json!({ "team": team, "third": (n % 3).to_string() });
        assert_eq!(world.post(INSTANCES, &body).await.status, StatusCode::CREATED);
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["instances"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut found = Vec::new();
    let mut pages = 0;
    let mut cursor = String::new();
    // Ends: with the last page.
    loop {
        let path = format!("{INSTANCES}?label=team:shop&limit=4{cursor}");
        let page = world.get(&path).await.json();
        let some = names(&page);
        assert!(some.len() <= 4);
        found.extend(some);
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["i0", "i2", "i4", "i6", "i8", "i10"]);
    assert_eq!(pages, 2);

    // All of them have to match, beside the other filters.
    let both = world
        .get(&format!("{INSTANCES}?label=team:shop&label=third:0"))
        .await
        .json();
    assert_eq!(names(&both), ["i0", "i6"]);
    let with_name = format!("{INSTANCES}?label=team:shop&name=i6&name=i7&cpu=1");
    assert_eq!(names(&world.get(&with_name).await.json()), ["i6"]);
    let project = "00000000-0000-0000-0000-000000000000";
    let in_project = format!("{INSTANCES}?label=team:stock&project_id={project}&name=i6&name=i7");
    assert_eq!(names(&world.get(&in_project).await.json()), ["i7"]);
    let none = world.get(&format!("{INSTANCES}?label=team:none")).await.json();
    assert_eq!((names(&none).len(), &none["next"]), (0, &Value::Null));
}
