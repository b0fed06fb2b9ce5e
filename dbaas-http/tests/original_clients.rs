//! What clients of the original service send and expect: bare arrays, its paging, repeated parents, defaults
//! of read-only fields, its error members, and what is below a path.

mod world;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use dbaas_http::{Access, HttpOptions, ListStyle};
use serde_json::{Value, json};
use world::{Answer, INSTANCES, VERSIONS, World};

const NOWHERE: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
const DEFAULT_PROJECT: &str = "00000000-0000-0000-0000-000000000000";

async fn accepting(world: &World, path: &str, accept: &str) -> Answer {
    world
        .call(Method::GET, path, &[("accept", accept)], Body::empty())
        .await
}

fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().expect("an array");
    items.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_as_arrays() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    world.database(&instance, "shop", &user).await;
    for (path, name) in [
        (INSTANCES.to_owned(), "instances"),
        (VERSIONS.to_owned(), "versions"),
        (format!("{instance}/users"), "users"),
        (format!("{instance}/databases"), "databases"),
        (format!("{instance}/nodes"), "nodes"),
        (format!("{instance}/events"), "events"),
    ] {
        let object = world.get(&path).await;
        assert_eq!(object.header("content-type"), "application/json");
        assert_eq!(object.header("vary"), "accept");
        let array = accepting(&world, &path, "application/json;profile=array").await;
        assert_eq!(array.status, StatusCode::OK);
        assert_eq!(array.header("content-type"), "application/json;profile=array");
        assert!(
            array.json().is_array() && object.json()[name].is_array(),
            "{path}"
        );
        let lengths = [array.json(), object.json()[name].clone()].map(|list| list.as_array().unwrap().len());
        assert_eq!(lengths[0], lengths[1], "{path}");
    }
    // What is no list stays what it is.
    let one = accepting(&world, &instance, "application/json;profile=array").await;
    assert_eq!(one.json()["name"], "orders");
    assert_eq!(one.header("content-type"), "application/json");
}

#[tokio::test]
async fn arrays_unless_the_client_says_otherwise() {
    let options = HttpOptions::new(Access::Anyone).with_list_style(ListStyle::Arrays);
    let world = World::with(options).await;
    let array = world.get(VERSIONS).await;
    assert_eq!(array.header("content-type"), "application/json");
    assert_eq!(names(&array.json()), ["PostgreSQL 15.18", "PostgreSQL 18.4"]);
    let object = accepting(&world, VERSIONS, "application/json; profile=\"object\"").await;
    assert_eq!(names(&object.json()["versions"]).len(), 2);
    assert_eq!(object.header("content-type"), "application/json;profile=object");
    // The document says what this server does.
    let document = world.get("/openapi.json").await.json();
    let content = &document["paths"][VERSIONS]["get"]["responses"]["200"]["content"];
    assert_eq!(content["application/json"]["schema"]["type"], "array");
    assert!(content["application/json;profile=object"]["schema"]["$ref"].is_string());
}

#[tokio::test]
async fn pages_by_limit_and_marker() {
    let world = World::new().await;
    for i in 0..5 {
        world.instance(&format!("i{i}")).await;
    }
    for accept in ["application/json", "application/json;profile=array"] {
        let mut seen = Vec::new();
        let mut marker = String::new();
        loop {
            let path = format!("{INSTANCES}?page_limit=2{marker}");
            let page = accepting(&world, &path, accept).await;
            assert_eq!(page.header("x-pagination-limit"), "2");
            let list = page.json();
            let list = list.get("instances").cloned().unwrap_or(list);
            seen.extend(names(&list).into_iter().map(str::to_owned));
            match page.header("x-pagination-marker") {
                "" => break,
                last => {
                    // The last item of the page, as in the original.
                    assert_eq!(list.as_array().unwrap().last().unwrap()["uuid"], last);
                    marker = format!("&page_marker={last}");
                }
            }
        }
        assert_eq!(seen, ["i0", "i1", "i2", "i3", "i4"], "{accept}");
    }
    let instance = world.instance("logged").await;
    let first = world.get(&format!("{instance}/events?page_limit=1")).await;
    assert_eq!(first.json()["events"].as_array().unwrap().len(), 1);
    let sequence = first.header("x-pagination-marker").to_owned();
    if !sequence.is_empty() {
        let rest = world
            .get(&format!("{instance}/events?page_marker={sequence}"))
            .await;
        assert!(rest.json()["events"][0]["sequence"].as_u64() > sequence.parse().ok());
    }
    // Of both spellings the smaller limit and the later position count.
    let both = world.get(&format!("{INSTANCES}?limit=3&page_limit=1")).await;
    assert_eq!(both.header("x-pagination-limit"), "1");
    for (query, place) in [("page_limit=0", "page_limit"), ("page_marker=x", "page_marker")] {
        let refused = world.get(&format!("{INSTANCES}?{query}")).await;
        assert_eq!(refused.problem(), "invalid-query");
        assert!(refused.names(place), "{refused:?}");
    }
}

#[tokio::test]
async fn users_and_databases_repeat_their_parent() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let uuid = instance.rsplit('/').next().unwrap();
    let project = world.get(&instance).await.json()["project_id"].clone();
    assert_eq!(project, DEFAULT_PROJECT);
    let short = instance.replace("/v1/types/postgres/", "/v1/postgres/");
    let users = format!("{short}/users/");
    for (i, parent) in [uuid, &instance, &short].into_iter().enumerate() {
        let body = json!({
            "name": format!("app{i}"), "password": "correct horse", "project_id": project, "instance": parent,
            "status": "NEW", "created_at": null, "updated_at": null, "deleting": false
        });
        let made = world.post(&users, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        assert_eq!(made.json()["project_id"], project);
        assert_eq!(made.json()["instance"], instance.as_str());
        // Back as it was read, and with the parent in another spelling.
        let path = made.header("location").to_owned();
        let written = world
            .put(&path, &json!({ "project_id": project, "instance": parent }))
            .await;
        assert_eq!(written.status, StatusCode::OK, "{written:?}");
    }
    let user = world.user(&instance, "owner").await;
    let databases = format!("{instance}/databases");
    let body = json!({ "name": "shop", "owner": user, "project_id": project, "instance": instance });
    let made = world.post(&databases, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let database = made.header("location").to_owned();

    let other = world.instance("other").await;
    let wrong = json!({ "name": "x", "owner": user, "password": "correct horse", "project_id": NOWHERE, "instance": other });
    let without = |field: &str| {
        let mut body = wrong.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    for (method, path, body) in [
        (Method::POST, &databases, without("password")),
        (Method::POST, &users, without("owner")),
        (
            Method::PUT,
            &database,
            json!({ "project_id": NOWHERE, "instance": other }),
        ),
        (
            Method::PUT,
            &user,
            json!({ "project_id": NOWHERE, "instance": other }),
        ),
    ] {
        let refused = world.text(method, path, &body.to_string()).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        let places: Vec<_> = refused.errors().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/project_id", "/instance"], "{refused:?}");
    }
}

#[tokio::test]
async fn read_only_fields_of_a_creation_may_be_null_or_the_default() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    for (field, value) in [
        ("status", json!("NEW")),
        ("ipsv4", json!([])),
        ("created_at", json!(null)),
        ("updated_at", json!(null)),
        ("generation", json!(null)),
    ] {
        body[field] = value;
    }
    let made = world.post(INSTANCES, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    for (field, value) in [
        ("status", json!("ACTIVE")),
        ("ipsv4", json!(["10.0.0.1"])),
        ("created_at", json!("2026-01-01T00:00:00Z")),
        ("generation", json!(1)),
    ] {
        let mut body = world.instance_body("another").await;
        body[field] = value;
        let refused = world.post(INSTANCES, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert!(refused.names(&format!("/{field}")), "{refused:?}");
    }
}

#[tokio::test]
async fn problems_have_the_members_of_the_original() {
    let world = World::new().await;
    for answer in [
        world.get("/nowhere").await,
        world.post(INSTANCES, &json!({})).await,
    ] {
        let problem = answer.json();
        assert_eq!(problem["code"], answer.status.as_u16());
        assert_eq!(problem["message"], problem["detail"]);
    }
}

#[tokio::test]
async fn what_is_below_a_path() {
    let world = World::new().await;
    for (path, some) in [
        ("/", vec!["healthz", "specifications", "v1"]),
        ("/v1/", vec!["types"]),
        ("/v1/types/", vec!["postgres"]),
        ("/v1/types/postgres/", vec!["instances", "versions"]),
        ("/v1/postgres", vec!["instances", "versions"]),
        ("/specifications/", vec!["3.0.3", "3.1.0"]),
    ] {
        let listed = world.get(path).await;
        assert_eq!(listed.status, StatusCode::OK, "{path}: {listed:?}");
        let listed: Vec<String> = serde_json::from_value(listed.json()).unwrap();
        assert!(
            some.iter().all(|name| listed.iter().any(|listed| listed == name)),
            "{path}: {listed:?}"
        );
        // Each leads somewhere.
        for name in listed {
            let below = world.get(&format!("{}/{name}", path.trim_end_matches('/'))).await;
            let is_there = below.status != StatusCode::NOT_FOUND || below.problem() == "not-found";
            assert!(
                is_there || ["problems", "metrics"].contains(&&*name),
                "{path}: {name}: {below:?}"
            );
        }
    }
    let old = world.get("/specifications/3.0.3").await.json();
    assert_eq!(old["openapi"], "3.0.3");
    assert_eq!(
        world.get("/specifications/3.1.0").await.json()["openapi"],
        "3.1.0"
    );
}

#[tokio::test]
async fn ids_that_the_client_chose() {
    let world = World::new().await;
    let chosen = |n: u8| format!("6bdc9203-bef4-4c63-9476-7d9729c43e{n:02x}");
    let mut body = world.instance_body("orders").await;
    body["uuid"] = json!(chosen(1));
    let instance = format!("{INSTANCES}/{}", chosen(1));
    // Twice: the same request is the same resource.
    for _ in 0..2 {
        let made = world.post(INSTANCES, &body).await;
        assert_eq!(
            (made.status, made.header("location")),
            (StatusCode::CREATED, &*instance)
        );
    }
    body["cpu"] = json!(2);
    let other = world.post(INSTANCES, &body).await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{other:?}");

    let users = format!("{instance}/users");
    let user = json!({ "uuid": chosen(2), "name": "app", "password": "correct horse" });
    for _ in 0..2 {
        let made = world.post(&users, &user).await;
        assert_eq!(made.json()["uuid"], chosen(2), "{made:?}");
    }
    let database = json!({ "uuid": chosen(3), "name": "shop", "owner": chosen(2) });
    let made = world.post(&format!("{instance}/databases"), &database).await;
    assert_eq!(made.json()["uuid"], chosen(3), "{made:?}");
    let null = json!({ "uuid": null, "name": "second", "password": "correct horse" });
    assert_eq!(world.post(&users, &null).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_password_has_a_version_that_a_client_may_choose() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let version = |answer: &Answer| answer.json()["password_version"].clone();
    assert_eq!(version(&world.get(&user).await), 1);
    for (body, expected) in [
        (json!({ "description": "x" }), 1),
        (json!({ "password": "correct horse" }), 1),
        (json!({ "password": "another one" }), 2),
        (json!({ "password": "a third one", "password_version": 7 }), 7),
        (json!({ "password_version": 7 }), 7),
        (json!({ "password": "a third one", "password_version": 8 }), 8),
    ] {
        let changed = world.put(&user, &body).await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
        assert_eq!(version(&changed), expected, "{body}");
        assert_eq!(version(&world.get(&user).await), expected, "{body}");
        assert!(changed.json().get("password").is_none());
    }
    let refused = world.put(&user, &json!({ "password_version": 9 })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.names("/password_version"), "{refused:?}");
    let users = format!("{instance}/users");
    let made = world
        .post(
            &users,
            &json!({ "name": "second", "password": "correct horse", "password_version": 5 }),
        )
        .await;
    assert_eq!(version(&made), 5);
}

/// What Terraform and its like need: what was sent is what is answered, also by GET.
#[tokio::test]
async fn nothing_comes_back_spelled_differently() {
    let world = World::new().await;
    let version = world.version().await;
    let text = "  Été – 漢字\t\"quoted\"\r\n";
    let sent = json!({
        "uuid": "6bdc9203-bef4-4c63-9476-7d9729c43e7f", "name": "Orders (été) 漢字", "description": text, "project_id": NOWHERE,
        "cpu": 1, "ram": 512, "disk_size": 8, "nodes_number": 1, "sync_replica_number": 15, "version": version,
        "parameters": {"work_mem": "64MB", "jit": "off", "max_connections": "300"}
    });
    let made = world.post(INSTANCES, &sent).await;
    let instance = made.header("location").to_owned();
    let user = json!({ "name": "App_$1", "description": text, "password_version": 3, "instance": instance, "project_id": NOWHERE });
    let mut with_password = user.clone();
    with_password["password"] = json!("correct horse");
    let made_user = world.post(&format!("{instance}/users"), &with_password).await;
    let owner = made_user.header("location").to_owned();
    let second = world.user(&instance, "second").await;
    let third = world.user(&instance, "third").await;
    // The order of a list is kept, too.
    let access = json!([{ "user": third, "level": "write" }, { "user": second, "level": "read" }]);
    let database = json!({
        "name": "Shop", "description": text, "owner": owner, "instance": instance, "project_id": NOWHERE, "access": access
    });
    let made_database = world.post(&format!("{instance}/databases"), &database).await;
    for (sent, made) in [(sent, made), (user, made_user), (database, made_database)] {
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        // An import has the id alone.
        let read = world.get(made.header("location")).await.json();
        for (field, value) in sent.as_object().unwrap() {
            assert_eq!((&made.json()[field], &read[field]), (value, value), "{field}");
        }
    }
}
