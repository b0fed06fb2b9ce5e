//! The contract's calls, one after another, against the router.

mod world;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use world::{INSTANCES, VERSIONS, World};

const NOWHERE: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";

#[tokio::test]
async fn an_instance_from_creation_to_deletion() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    body["nodes_number"] = json!(3);
    body["description"] = json!("Bestellungen\nund mehr");
    let made = world.post(INSTANCES, &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let instance = made.json();
    let uuid = instance["uuid"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("{INSTANCES}/{uuid}"));
    assert!(made.header("etag").starts_with('"'));
    for (field, value) in [
        ("name", json!("orders")),
        ("description", json!("Bestellungen\nund mehr")),
        ("project_id", json!("00000000-0000-0000-0000-000000000000")),
        ("cpu", json!(1)),
        ("ram", json!(512)),
        ("disk_size", json!(8)),
        ("nodes_number", json!(3)),
        ("sync_replica_number", json!(1)),
        ("effective_sync_replicas", json!(1)),
        ("status", json!("NEW")),
        ("phase", json!("creating")),
        ("ipsv4", json!([])),
        ("nodes", json!([])),
        ("generation", json!(1)),
        ("observed_generation", json!(0)),
        ("version", body["version"].clone()),
    ] {
        assert_eq!(instance[field], value, "{field}");
    }
    assert!(!instance["reason"].as_str().unwrap().is_empty());
    assert!(instance["created_at"].as_str().unwrap().ends_with('Z'));

    // Both spellings, with and without a slash at the end, are one.
    for path in [
        format!("{INSTANCES}/{uuid}"),
        format!("{INSTANCES}/{uuid}/"),
        format!("/v1/postgres/instances/{uuid}"),
        format!("/v1/postgres/instances/{uuid}/"),
    ] {
        let read = world.get(&path).await;
        assert_eq!(read.status, StatusCode::OK, "{path}");
        assert_eq!(read.json()["uuid"], uuid);
    }

    let path = made.header("location").to_owned();
    let updated = world
        .put(&path, &json!({ "cpu": 2, "sync_replica_number": 15 }))
        .await;
    assert_eq!(updated.status, StatusCode::OK, "{updated:?}");
    let updated = updated.json();
    assert_eq!(
        (
            &updated["cpu"],
            &updated["ram"],
            &updated["effective_sync_replicas"]
        ),
        (&json!(2), &json!(512), &json!(2))
    );
    assert_eq!(updated["generation"], 2);

    let patched = world.text(Method::PATCH, &path, r#"{"name":"orders 2"}"#).await;
    assert_eq!(patched.json()["name"], "orders 2");

    assert_eq!(world.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.delete(&path).await.status, StatusCode::NO_CONTENT);
    let deleting = world.get(&path).await;
    if deleting.status == StatusCode::OK {
        assert_eq!(deleting.json()["phase"], "deleting");
        let refused = world.put(&path, &json!({ "cpu": 3 })).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (StatusCode::CONFLICT, "wrong-state")
        );
    } else {
        assert_eq!(deleting.problem(), "not-found");
    }
    // What never was is gone as well.
    assert_eq!(
        world.delete(&format!("{INSTANCES}/{NOWHERE}")).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn what_was_read_can_be_written_back() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let database = world.database(&instance, "shop", &user).await;
    for (path, field, changed) in [
        (instance.clone(), "description", json!("new")),
        (user.clone(), "description", json!("new")),
        (database, "description", json!("new")),
        (world.version().await, "deprecated", json!(true)),
    ] {
        // A status that changes in between is a difference: then the client reads again, as here.
        for attempt in 0.. {
            let mut read = world.get(&path).await.json();
            read[field] = changed.clone();
            let written = world.put(&path, &read).await;
            if written.status == StatusCode::UNPROCESSABLE_ENTITY && attempt < 5 {
                continue;
            }
            assert_eq!(written.status, StatusCode::OK, "{written:?}");
            assert_eq!(written.json()[field], changed);
            break;
        }
    }
    // Another value of a read-only field is refused, by name.
    let refused = world
        .put(
            &instance,
            &json!({ "uuid": NOWHERE, "generation": 99, "project_id": NOWHERE, "cpu": 5 }),
        )
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        ["/uuid", "/generation", "/project_id"]
            .iter()
            .all(|field| refused.names(field)),
        "{refused:?}"
    );
    assert_eq!(refused.errors().len(), 3);
    assert_eq!(world.get(&instance).await.json()["cpu"], 1);
    let refused = world.put(&user, &json!({ "name": "other" })).await;
    assert!(refused.names("/name"), "{refused:?}");
}

#[tokio::test]
async fn users_and_databases() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let shown = world.get(&user).await.json();
    assert_eq!((&shown["name"], &shown["status"]), (&json!("app"), &json!("NEW")));
    assert_eq!(shown["phase"], "creating");
    assert!(shown.get("password").is_none() && shown.get("verifier").is_none());

    // The owner in each spelling.
    let uuid = user.rsplit('/').next().unwrap();
    let short = user.replace("/v1/types/postgres/", "/v1/postgres/");
    for (i, owner) in [uuid, &user, &short, &format!("{user}/")].into_iter().enumerate() {
        let database = world.database(&instance, &format!("shop_{i}"), owner).await;
        assert_eq!(world.get(&database).await.json()["owner"], user.as_str());
    }

    let taken = world
        .post(
            &format!("{instance}/users"),
            &json!({ "name": "app", "password": "another one" }),
        )
        .await;
    assert_eq!(
        (taken.status, taken.problem().as_str()),
        (StatusCode::CONFLICT, "name-taken")
    );
    let owns = world.delete(&user).await;
    assert_eq!(
        (owns.status, owns.problem().as_str()),
        (StatusCode::CONFLICT, "in-use")
    );
    assert!(
        owns.json()["detail"].as_str().unwrap().contains("shop_0"),
        "{owns:?}"
    );

    let second = world.user(&instance, "second").await;
    let database = world.database(&instance, "moved", &user).await;
    let moved = world.put(&database, &json!({ "owner": second })).await;
    assert_eq!(moved.json()["owner"], second.as_str());
    for gone in [world.user(&instance, "third").await, database] {
        assert_eq!(world.delete(&gone).await.status, StatusCode::NO_CONTENT);
        let going = world.get(&gone).await;
        if going.status == StatusCode::OK {
            assert_eq!(going.json()["phase"], "deleting");
            assert_eq!(going.json()["deleting"], true);
        }
    }

    // Another instance's user is no owner here, and an instance's things are found below it only.
    let other = world.instance("other").await;
    let refused = world
        .post(
            &format!("{other}/databases"),
            &json!({ "name": "x", "owner": user }),
        )
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.names("/owner"), "{refused:?}");
    let refused = world
        .post(
            &format!("{other}/databases"),
            &json!({ "name": "x", "owner": uuid }),
        )
        .await;
    assert!(refused.names("/owner"), "{refused:?}");
    assert_eq!(
        world.get(&format!("{other}/users/{uuid}")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        world.delete(&format!("{other}/users/{uuid}")).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.get(&user).await.status, StatusCode::OK);
    assert_eq!(
        world.get(&format!("{INSTANCES}/{NOWHERE}/users")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        world
            .delete(&format!("{INSTANCES}/{NOWHERE}/users/{uuid}"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_catalogue() {
    let world = World::new().await;
    let listed = world.get(VERSIONS).await.json();
    assert_eq!(listed["versions"][0]["name"], "PostgreSQL 15.18");
    assert_eq!(listed["versions"][0]["image"], "postgres:15.18");
    assert_eq!(world.get("/v1/postgres/versions").await.json(), listed);

    let made = world
        .post(
            VERSIONS,
            &json!({ "name": "PostgreSQL 16.9", "image": "postgres:16.9" }),
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let path = made.header("location").to_owned();
    let again = world
        .post(VERSIONS, &json!({ "name": "again", "image": "postgres:16.9" }))
        .await;
    assert_eq!(again.problem(), "name-taken");

    let mut body = world.instance_body("on 16").await;
    body["version"] = json!(path);
    let instance = world.post(INSTANCES, &body).await;
    assert_eq!(instance.status, StatusCode::CREATED);
    let used = world.delete(&path).await;
    assert_eq!(
        (used.status, used.problem().as_str()),
        (StatusCode::CONFLICT, "in-use")
    );
    assert!(used.json()["detail"].as_str().unwrap().contains("on 16"));

    assert_eq!(
        world.put(&path, &json!({ "deprecated": true })).await.status,
        StatusCode::OK
    );
    body["name"] = json!("too late");
    let refused = world.post(INSTANCES, &body).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.names("/version"), "{refused:?}");
    // The one that has it goes on, and may be changed.
    let going_on = instance.header("location").to_owned();
    assert_eq!(
        world
            .put(&going_on, &json!({ "cpu": 2, "version": path }))
            .await
            .status,
        StatusCode::OK
    );

    let image = world.put(&path, &json!({ "image": "postgres:17.1" })).await;
    assert!(image.names("/image"), "{image:?}");
    let deprecated = world.get(&format!("{VERSIONS}?deprecated=true")).await.json();
    assert_eq!(deprecated["versions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_and_filters() {
    let world = World::new().await;
    for i in 0..7 {
        let mut body = world.instance_body(&format!("i{i}")).await;
        body["cpu"] = json!(1 + i % 2);
        assert_eq!(world.post(INSTANCES, &body).await.status, StatusCode::CREATED);
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["instances"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for (filter, expected) in [
        ("", vec!["i0", "i1", "i2", "i3", "i4", "i5", "i6"]),
        ("cpu=2&", vec!["i1", "i3", "i5"]),
        ("name=i4&name=i2&", vec!["i2", "i4"]),
        ("name=nobody&", vec![]),
        ("cpu=1&cpu=2&name=i6&", vec!["i6"]),
    ] {
        for limit in [1, 2, 3, 100, 1000] {
            let mut seen = Vec::new();
            let mut path = format!("{INSTANCES}?{filter}limit={limit}");
            for _ in 0..20 {
                let page = world.get(&path).await.json();
                assert!(page["instances"].as_array().unwrap().len() <= limit);
                seen.extend(names(&page));
                match page["next"].as_str() {
                    Some(next) => path = format!("{INSTANCES}?{filter}limit={limit}&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(seen, expected, "{filter}{limit}");
        }
    }
    let elsewhere = world
        .get(&format!("{INSTANCES}?project_id={NOWHERE}"))
        .await
        .json();
    assert_eq!(names(&elsewhere), Vec::<String>::new());
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=1.0",
        "cursor=x",
        "nmae=i1",
        "status=UP",
        "name=",
        "cpu=one",
        "project_id=7",
    ] {
        let refused = world.get(&format!("{INSTANCES}?{bad}")).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (StatusCode::BAD_REQUEST, "invalid-query"),
            "{bad}"
        );
        assert!(refused.names(bad.split('=').next().unwrap()), "{refused:?}");
    }
    // A cursor leads through its own collection only.
    let page = world.get(&format!("{INSTANCES}?limit=1")).await.json();
    let cursor = page["next"].as_str().unwrap();
    assert_eq!(
        world.get(&format!("{VERSIONS}?cursor={cursor}")).await.problem(),
        "invalid-query"
    );

    let instance = world.instance("owner of things").await;
    let (a, b) = (world.user(&instance, "a").await, world.user(&instance, "b").await);
    for (name, owner) in [("d1", &a), ("d2", &b), ("d3", &a)] {
        world.database(&instance, name, owner).await;
    }
    let of_a = world
        .get(&format!("{instance}/databases?owner={a}&limit=1"))
        .await
        .json();
    assert_eq!(of_a["databases"][0]["name"], "d1");
    let rest = world
        .get(&format!(
            "{instance}/databases?owner={a}&cursor={}",
            of_a["next"].as_str().unwrap()
        ))
        .await;
    assert_eq!(rest.json()["databases"][0]["name"], "d3");
    assert_eq!(rest.json()["next"], Value::Null);
}

#[tokio::test]
async fn entity_tags() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let path = world.user(&instance, "app").await;
    let read = world.get(&path).await;
    let tag = read.header("etag").to_owned();

    let fresh = world
        .call(Method::GET, &path, &[("if-none-match", &tag)], Body::empty())
        .await;
    assert_eq!(
        (fresh.status, fresh.bytes.len(), fresh.header("etag")),
        (StatusCode::NOT_MODIFIED, 0, tag.as_str())
    );
    let weak = format!("\"x\", W/{tag}");
    let fresh = world
        .call(Method::GET, &path, &[("if-none-match", &weak)], Body::empty())
        .await;
    assert_eq!(fresh.status, StatusCode::NOT_MODIFIED);

    let json = ("content-type", "application/json");
    let change = |tag: String| {
        let (world, path) = (&world, &path);
        async move {
            world
                .call(
                    Method::PUT,
                    path,
                    &[json, ("if-match", &tag)],
                    r#"{"description":"x"}"#,
                )
                .await
        }
    };
    for stale in ["\"0\"".to_owned(), format!("W/{tag}"), "\"x\", \"y\"".to_owned()] {
        let refused = change(stale.clone()).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (StatusCode::PRECONDITION_FAILED, "precondition-failed"),
            "{stale}"
        );
    }
    assert_eq!(change("7".to_owned()).await.problem(), "invalid-header");
    assert_eq!(world.get(&path).await.json()["description"], "");
    let changed = change(format!("\"x\", {tag}")).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(change(tag.clone()).await.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(change("*".to_owned()).await.status, StatusCode::OK);

    let stale = world
        .call(Method::DELETE, &path, &[("if-match", &tag)], Body::empty())
        .await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let gone = format!("{instance}/users/{NOWHERE}");
    let gone = world
        .call(Method::DELETE, &gone, &[("if-match", "*")], Body::empty())
        .await;
    assert_eq!(gone.status, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn what_the_control_plane_sees_keeps_nobody_from_a_change() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let path = world.user(&instance, "app").await;
    let tag = world.get(&path).await.header("etag").to_owned();
    // As it was when the control plane had written something else about it.
    let (asked, _) = tag.trim_matches('"').split_once('-').unwrap();
    let unseen = format!("\"{asked}-4000000000\"");
    assert_ne!(unseen, tag);
    let stale = world
        .call(Method::GET, &path, &[("if-none-match", &unseen)], Body::empty())
        .await;
    assert_eq!(stale.status, StatusCode::OK, "its status is news");
    assert_eq!(stale.header("etag"), tag);
    let json = ("content-type", "application/json");
    let changed = world
        .call(
            Method::PUT,
            &path,
            &[json, ("if-match", &unseen)],
            r#"{"description":"x"}"#,
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let late = world
        .call(
            Method::PUT,
            &path,
            &[json, ("if-match", &tag)],
            r#"{"description":"y"}"#,
        )
        .await;
    assert_eq!(
        late.status,
        StatusCode::PRECONDITION_FAILED,
        "somebody asked for something"
    );
}

#[tokio::test]
async fn a_repeated_creation_makes_one() {
    let world = World::new().await;
    let body = world.instance_body("orders").await.to_string();
    let with = |key: &'static str, body: String| {
        let world = &world;
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        async move { world.call(Method::POST, INSTANCES, &headers, body).await }
    };
    let first = with("k1", body.clone()).await;
    let again = with("k1", body.clone()).await;
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.header("location"), again.header("location"));
    let other = with("k1", body.replace("orders", "others")).await;
    assert_eq!(
        (other.status, other.problem().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-mismatch")
    );
    assert_eq!(with("k2", body).await.problem(), "name-taken");
    assert_eq!(
        with("not one word", "{}".to_owned()).await.problem(),
        "invalid-header"
    );
    let listed = world.get(INSTANCES).await.json();
    assert_eq!(listed["instances"].as_array().unwrap().len(), 1);

    // What it made is gone: it is neither made again nor not found.
    let body = world.instance_body("short-lived").await.to_string();
    let made = with("k3", body.clone()).await;
    assert_eq!(
        world.delete(made.header("location")).await.status,
        StatusCode::NO_CONTENT
    );
    for _ in 0..200 {
        if world.get(made.header("location")).await.status == StatusCode::NOT_FOUND {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let again = with("k3", body).await;
    assert_eq!(
        (again.status, again.problem().as_str()),
        (StatusCode::CONFLICT, "idempotency-gone")
    );

    // With a password in the body, too; and no hash of it that is quicker to guess from than the verifier is
    // kept.
    let users = format!("{}/users", first.header("location"));
    let headers = [("content-type", "application/json"), ("idempotency-key", "u1")];
    let user = |password: &str| format!(r#"{{"name":"app","password":"{password}"}}"#);
    let made = world
        .call(Method::POST, &users, &headers, user("correct horse"))
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    let again = world
        .call(Method::POST, &users, &headers, user("correct horse"))
        .await;
    assert_eq!(again.header("location"), made.header("location"));
    let other = world
        .call(Method::POST, &users, &headers, user("battery staple"))
        .await;
    assert_eq!(other.problem(), "idempotency-mismatch");
}

#[tokio::test]
async fn sixteen_equal_creations_at_once() {
    let world = World::new().await;
    let body = world.instance_body("orders").await;
    let calls = (0..16).map(|_| world.post(INSTANCES, &body));
    let answers = futures_util::future::join_all(calls).await;
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((of(StatusCode::CREATED), of(StatusCode::CONFLICT)), (1, 15));
}

#[tokio::test]
async fn actions() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let act = |name: &str, body: &'static str| {
        let path = format!("{instance}/actions/{name}");
        let world = &world;
        async move {
            match body {
                "" => world.call(Method::POST, &path, &[], Body::empty()).await,
                body => world.text(Method::POST, &path, body).await,
            }
        }
    };
    let stopped = act("stop", "").await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED, "{stopped:?}");
    assert_eq!(stopped.json()["name"], "orders");
    assert_eq!(act("restart", "").await.problem(), "wrong-state");
    assert_eq!(act("start", "{}").await.status, StatusCode::ACCEPTED);
    assert_eq!(act("restart", "").await.status, StatusCode::ACCEPTED);
    // A one-node instance has no standby.
    for name in ["switchover", "failover"] {
        let refused = act(name, "").await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (StatusCode::CONFLICT, "wrong-state"),
            "{name}"
        );
    }
    assert!(act("switchover", r#"{"to":"n1"}"#).await.names("/to"));
    assert!(
        act("failover", r#"{"allow_data_loss":"yes"}"#)
            .await
            .names("/allow_data_loss")
    );
    assert!(act("restart", r#"{"force":true}"#).await.names("/force"));
    assert_eq!(act("restart", "[]").await.problem(), "invalid-fields");
    assert_eq!(act("explode", "").await.problem(), "no-such-path");
    let untyped = world
        .call(Method::POST, &format!("{instance}/actions/stop"), &[], "{}")
        .await;
    assert_eq!(untyped.problem(), "unsupported-media-type");
    let nowhere = world
        .text(Method::POST, &format!("{INSTANCES}/{NOWHERE}/actions/stop"), "{}")
        .await;
    assert_eq!(nowhere.problem(), "not-found");
}

#[tokio::test]
async fn nodes_connection_and_events() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    assert!(world.get(&format!("{instance}/nodes")).await.json()["nodes"].is_array());
    let connection = world
        .get(&format!("{instance}/connection?user=app&database=shop"))
        .await;
    assert_eq!(connection.status, StatusCode::OK);
    assert_eq!(connection.json()["uri"], Value::Null);
    let refused = world
        .get(&format!(
            "{instance}/connection?user=pg_x&database=a-b&password=x"
        ))
        .await;
    assert_eq!(refused.problem(), "invalid-query");
    assert!(
        ["user", "database", "password"]
            .iter()
            .all(|name| refused.names(name))
    );

    world.user(&instance, "app").await;
    let all = world.get(&format!("{instance}/events")).await.json();
    let events = all["events"].as_array().unwrap();
    assert!(events.len() >= 2);
    let first = world.get(&format!("{instance}/events?limit=1")).await.json();
    assert_eq!(first["events"][0], events[0]);
    let next = first["next"].as_str().unwrap();
    let second = world
        .get(&format!("{instance}/events?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(second["events"][0], events[1]);
    let after = events[0]["sequence"].as_u64().unwrap();
    let second = world
        .get(&format!("{instance}/events?limit=1&after={after}"))
        .await
        .json();
    assert_eq!(second["events"][0], events[1]);
    for path in ["nodes", "connection", "events"] {
        assert_eq!(
            world
                .get(&format!("{INSTANCES}/{NOWHERE}/{path}"))
                .await
                .problem(),
            "not-found"
        );
    }
}

#[tokio::test]
async fn waits_end() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let waited = world.get(&format!("{user}?wait=ACTIVE&timeout=50ms")).await;
    assert_eq!(
        (waited.status, waited.header("dbaas-wait")),
        (StatusCode::OK, "timeout")
    );
    let status = waited.json()["status"].as_str().unwrap().to_owned();
    let reached = world.get(&format!("{user}?wait={status}&timeout=5s")).await;
    assert_eq!(
        (reached.status, reached.header("dbaas-wait")),
        (StatusCode::OK, "reached")
    );
    for bad in [
        "wait=IN_PROGRESS",
        "wait=active",
        "wait=ACTIVE&timeout=11m",
        "wait=ACTIVE&wait=NEW",
        "wait=",
    ] {
        assert_eq!(
            world.get(&format!("{user}?{bad}")).await.problem(),
            "invalid-query",
            "{bad}"
        );
    }
    let nowhere = world
        .get(&format!("{INSTANCES}/{NOWHERE}?wait=ACTIVE&timeout=10m"))
        .await;
    assert_eq!(nowhere.problem(), "not-found");
}

#[tokio::test]
async fn paths_and_methods() {
    let world = World::new().await;
    for path in [
        "/v2",
        "/v2/postgres/instances",
        "/v1/mysql/instances",
        "/v1/postgres/instances/x/y",
        "/v1/postgres/instances//",
    ] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::NOT_FOUND, "no-such-path"),
            "{path}"
        );
    }
    for path in [
        "x",
        "%ff",
        "..",
        "0197f3c26d3b7c9e9f5a0242ac120002",
        "%30197f3c2-6d3b-7c9e-9f5a-0242ac12000",
    ] {
        let answer = world.get(&format!("{INSTANCES}/{path}")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::NOT_FOUND, "not-found"),
            "{path}"
        );
    }
    for (method, path, allow) in [
        (Method::DELETE, INSTANCES.to_owned(), "GET,HEAD,POST"),
        (Method::PATCH, VERSIONS.to_owned(), "GET,HEAD,POST"),
        (
            Method::POST,
            format!("{INSTANCES}/{NOWHERE}"),
            "GET,HEAD,PUT,PATCH,DELETE",
        ),
        (Method::OPTIONS, "/healthz".to_owned(), "GET,HEAD"),
        (Method::GET, format!("{INSTANCES}/{NOWHERE}/actions/stop"), "POST"),
    ] {
        let answer = world.call(method, &path, &[], Body::empty()).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            "{path}"
        );
        let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{path}");
    }
    let head = world.call(Method::HEAD, INSTANCES, &[], Body::empty()).await;
    assert_eq!((head.status, head.bytes.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn the_server_itself() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.json()["status"], "alive");
    let document = world.get("/openapi.json").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    let docs = world.get("/docs").await;
    assert!(docs.header("content-type").starts_with("text/html"));
    assert!(
        docs.header("content-security-policy")
            .contains("default-src 'none'")
    );
    let page = world.get("/problems/name-taken").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&page.bytes).contains("The name is taken"));
    assert_eq!(world.get("/problems/nothing").await.problem(), "not-found");
    assert_eq!(world.get("/metrics").await.problem(), "no-such-path");
    assert_eq!(world.get("/healthz?x=1").await.problem(), "invalid-query");
    let listed = world.get(INSTANCES).await;
    assert_eq!(
        (
            listed.header("cache-control"),
            listed.header("x-content-type-options")
        ),
        ("no-store", "nosniff")
    );
}
