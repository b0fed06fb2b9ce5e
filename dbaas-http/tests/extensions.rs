//! `extensions` of a database, and what a version allows.

mod world;

use axum::http::StatusCode;
use serde_json::json;
use world::World;

#[tokio::test]
async fn a_database_is_asked_to_have_extensions() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let body = json!({ "name": "shop", "owner": user, "extensions": ["pg_trgm", "uuid-ossp"] });
    let databases = format!("{instance}/databases");
    let made = world.post(&databases, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let made = made.json();
    assert_eq!(made["extensions"], json!(["pg_trgm", "uuid-ossp"]));
    assert_eq!(made["extension_status"], json!([]));
    let listed = world.get(&databases).await.json();
    assert_eq!(listed["databases"][0]["extensions"], made["extensions"]);

    let database = format!("{databases}/{}", made["uuid"].as_str().unwrap());
    // The whole answer may be sent back.
    let same = world.put(&database, &made).await;
    assert_eq!(same.status, StatusCode::OK, "{same:?}");
    let changed = world
        .put(&database, &json!({ "extensions": ["hstore"] }))
        .await
        .json();
    assert_eq!(changed["extensions"], json!(["hstore"]));
    assert_eq!(changed["status"], "NEW");
    assert!(changed["reason"].as_str().unwrap().contains("extensions"));

    let action = format!("{database}/actions/update-extensions");
    let asked = world.post(&action, &json!({})).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let wrong = world.post(&action, &json!({ "all": true })).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_rule() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let database = world.database(&instance, "shop", &user).await;
    let list = json!(["pg_trgm", "dblink", "PG", 7, null]);
    let refused = world.put(&database, &json!({ "extensions": list })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let errors = refused.errors();
    let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/extensions/1", "/extensions/2", "/extensions/3", "/extensions/4"]
    );
    assert!(errors[0].1.contains("takes a superuser"), "{errors:?}");
    for (list, place) in [
        (json!(["hstore", "hstore"]), "/extensions/1"),
        (json!("hstore"), "/extensions"),
        (json!(null), "/extensions"),
        (json!(vec!["a"; 65]), "/extensions"),
    ] {
        let refused = world.put(&database, &json!({ "extensions": list })).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{list}");
        assert!(refused.names(place), "{list}: {refused:?}");
    }
    let status = json!({ "extension_status": [{ "name": "hstore" }] });
    let refused = world.put(&database, &status).await;
    assert!(refused.names("/extension_status"), "{refused:?}");
}

#[tokio::test]
async fn a_version_allows_some() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let database = world.database(&instance, "shop", &user).await;
    let version = world.version().await;
    assert_eq!(world.get(&version).await.json()["extensions"], json!(null));
    assert_eq!(
        world
            .put(&database, &json!({ "extensions": ["hstore"] }))
            .await
            .status,
        StatusCode::OK
    );
    let allowed = world.put(&version, &json!({ "extensions": ["pg_trgm"] })).await;
    assert_eq!(allowed.json()["extensions"], json!(["pg_trgm"]));
    // What it is to have already may stay.
    let both = json!({ "extensions": ["hstore", "pg_trgm"] });
    assert_eq!(world.put(&database, &both).await.status, StatusCode::OK);
    let refused = world.put(&database, &json!({ "extensions": ["citext"] })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let errors = refused.errors();
    assert_eq!(errors[0].0, "/extensions/0");
    assert!(
        errors[0]
            .1
            .contains("not allowed by the instance's version, which allows pg_trgm")
    );
    let all = world.put(&version, &json!({ "extensions": null })).await;
    assert_eq!(all.json()["extensions"], json!(null));
    let taken = world.put(&database, &json!({ "extensions": ["citext"] })).await;
    assert_eq!(taken.status, StatusCode::OK);
}
