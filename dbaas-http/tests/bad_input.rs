//! Bad input: nothing panics or hangs, each answer is a problem that names the field and the rule, nothing is
//! changed, nothing secret is repeated.

mod world;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use futures_util::stream;
use serde_json::{Value, json};
use world::{Answer, INSTANCES, VERSIONS, World};

const NOWHERE: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";

/// Everything that there is, to be compared.
async fn state(world: &World, instance: &str) -> Value {
    let mut state = json!({});
    for path in [
        INSTANCES.to_owned(),
        VERSIONS.to_owned(),
        format!("{instance}/users"),
        format!("{instance}/databases"),
    ] {
        let mut found = world.get(&path).await.json();
        // What the engine finds out changes by itself.
        for item in found["instances"].as_array_mut().into_iter().flatten() {
            for field in [
                "status",
                "phase",
                "reason",
                "warnings",
                "nodes",
                "observed_generation",
            ] {
                item[field] = Value::Null;
            }
        }
        state[path] = found;
    }
    state
}

/// A JSON body with one field set to some JSON text (which a `Value` could not hold).
fn with(base: &Value, field: &str, json: &str) -> String {
    let mut fields = base.as_object().unwrap().clone();
    fields.remove(field);
    let mut parts: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{}:{value}", json!(key)))
        .collect();
    parts.push(format!("{}:{json}", json!(field)));
    format!("{{{}}}", parts.join(","))
}

async fn bounded<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), call)
        .await
        .expect("an answer in time")
}

#[track_caller]
fn refused(answer: &Answer, place: &str, rule: &str, what: &str) {
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{what}: {answer:?}"
    );
    assert_eq!(answer.problem(), "invalid-fields", "{what}");
    let errors = answer.errors();
    let found = errors
        .iter()
        .any(|(named, detail)| named == place && detail.contains(rule));
    assert!(found, "{what}: {place} {rule:?} is not in {errors:?}");
}

#[tokio::test]
async fn every_bound_of_an_instance_crossed_by_one() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let before = state(&world, &instance).await;
    let base = world.instance_body("new").await;
    let long = |n: usize| json!("ä".repeat(n)).to_string();
    let huge = "9".repeat(400);
    let whole = "written without a fraction or an exponent";
    let table: Vec<(&str, String, &str)> = vec![
        ("cpu", "0".into(), "between 1 and 128 cores"),
        ("cpu", "129".into(), "between 1 and 128 cores"),
        ("cpu", "-1".into(), "between 1 and 128 cores"),
        ("cpu", huge, "between 1 and 128 cores"),
        ("cpu", "1e400".into(), whole),
        ("cpu", "1.0".into(), whole),
        ("cpu", "1.5".into(), whole),
        ("cpu", "1E2".into(), whole),
        ("cpu", "\"1\"".into(), "must be a whole number, was text"),
        ("cpu", "null".into(), "was null"),
        ("cpu", "true".into(), "was true or false"),
        ("cpu", "[1]".into(), "was an array"),
        ("cpu", "{}".into(), "was an object"),
        ("ram", "511".into(), "between 512 and 1048576 MB"),
        ("ram", "1048577".into(), "between 512 and 1048576 MB"),
        ("disk_size", "7".into(), "between 8 and 1024 GB"),
        ("disk_size", "1025".into(), "between 8 and 1024 GB"),
        ("nodes_number", "0".into(), "between 1 and 16 nodes"),
        ("nodes_number", "17".into(), "between 1 and 16 nodes"),
        ("sync_replica_number", "-1".into(), "between 0 and 15"),
        ("sync_replica_number", "16".into(), "between 0 and 15"),
        ("sync_replica_number", "null".into(), "must not be null"),
        ("name", "\"\"".into(), "must not be empty"),
        ("name", "\"  \"".into(), "must not be blank"),
        ("name", "\"a\\n\"".into(), "control characters"),
        ("name", "\"a\\u0000b\"".into(), "control characters"),
        ("name", "\"a \"".into(), "white space"),
        ("name", "\"\\ud800\"".into(), "surrogate"),
        ("name", long(256), "at most 255 characters"),
        ("name", "7".into(), "must be text, was a number"),
        ("description", long(1025), "at most 1024 characters"),
        ("description", "null".into(), "must not be null"),
        ("project_id", "\"x\"".into(), "not a UUID"),
        ("version", "\"15\"".into(), "not a UUID"),
        (
            "version",
            json!(format!("{VERSIONS}/{NOWHERE}")).to_string(),
            "no",
        ),
        (
            "version",
            json!(format!("https://elsewhere.example{VERSIONS}/{NOWHERE}")).to_string(),
            "a URL is not a reference",
        ),
        (
            "version",
            json!(format!("{INSTANCES}/{NOWHERE}")).to_string(),
            "something else",
        ),
        ("version", "\"\"".into(), "must not be empty"),
        ("uuid", "\"7\"".into(), "UUID"),
        ("generation", "7".into(), "set by the server"),
        ("status", "\"ACTIVE\"".into(), "set by the server"),
        ("nodes", "[{}]".into(), "set by the server"),
        ("disksize", "8".into(), "did you mean \"disk_size\"?"),
        ("Cpu", "1".into(), "did you mean \"cpu\"?"),
    ];
    for (field, value, rule) in table {
        let body = with(&base, field, &value);
        let answer = bounded(world.text(Method::POST, INSTANCES, &body)).await;
        refused(&answer, &format!("/{field}"), rule, &body);
        // In a change, too, unless it is one that a creation alone has.
        if !["uuid", "generation", "status", "nodes", "project_id"].contains(&field) {
            for method in [Method::PUT, Method::PATCH] {
                let answer =
                    bounded(world.text(method, &instance, &format!("{{{}:{value}}}", json!(field)))).await;
                let rule = if value == "null" { "null" } else { rule };
                refused(&answer, &format!("/{field}"), rule, &body);
            }
        }
    }
    // At the bounds it is accepted.
    for (field, value) in [
        ("name", long(255)),
        ("description", long(1024)),
        ("cpu", "128".into()),
        ("ram", "1048576".into()),
        ("disk_size", "1024".into()),
    ] {
        let mut base = base.clone();
        base["name"] = json!(format!("at the bound of {field}"));
        let body = with(&base, field, &value);
        let answer = bounded(world.text(Method::POST, INSTANCES, &body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        assert_eq!(
            world.delete(answer.header("location")).await.status,
            StatusCode::NO_CONTENT
        );
    }
    let shrunk = world.put(&instance, &json!({ "disk_size": 100 })).await;
    assert_eq!(shrunk.status, StatusCode::OK);
    let shrunk = world.put(&instance, &json!({ "disk_size": 99, "cpu": 3 })).await;
    refused(&shrunk, "/disk_size", "shrink", "shrinking");
    assert_eq!(world.get(&instance).await.json()["cpu"], 1);
    world.put(&instance, &json!({ "disk_size": 100 })).await;
    let mut after = state(&world, &instance).await;
    // The growth above is the only change; instances that were accepted and deleted again may still be there.
    for field in ["disk_size", "generation", "updated_at", "conditions"] {
        after[INSTANCES]["instances"][0][field] = before[INSTANCES]["instances"][0][field].clone();
    }
    assert_eq!(
        after[INSTANCES]["instances"][0],
        before[INSTANCES]["instances"][0]
    );
    assert_eq!(after[VERSIONS], before[VERSIONS]);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new().await;
    let body = r#"{"cpu":0,"ram":"x","disk_size":7,"disk_size":8,"nodes_number":null,"sync_replica_number":1.5,"version":"x","status":"ACTIVE","nam":"x","projectid":1}"#;
    let answer = world.text(Method::POST, INSTANCES, body).await;
    for place in [
        "/name",
        "/cpu",
        "/ram",
        "/disk_size",
        "/nodes_number",
        "/sync_replica_number",
        "/version",
        "/status",
        "/nam",
        "/projectid",
    ] {
        assert!(answer.names(place), "{place}: {answer:?}");
    }
}

#[tokio::test]
async fn names_of_users_and_databases() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let owner = world.user(&instance, "owner").await;
    let before = state(&world, &instance).await;
    let bad = [
        "",
        " ",
        "a b",
        "a'b",
        "a\"b",
        "a;b",
        "a--b",
        "a\0",
        "a\0b",
        "a\n",
        "\na",
        "a\r\n",
        "1a",
        "$a",
        "a-b",
        "a.b",
        "ä",
        "aä",
        "оrders",
        "ａ",
        "a\u{200b}",
        "İ",
        "a/b",
        "a\\b",
        "%41",
        "../x",
        "{}",
        "\u{1F600}",
        "dbaas_x",
        "DBAAS_X",
    ];
    let long = "a".repeat(64);
    let multi = "é".repeat(32);
    for name in bad.into_iter().chain([long.as_str(), multi.as_str()]) {
        let user = bounded(world.post(
            &format!("{instance}/users"),
            &json!({ "name": name, "password": "correct horse" }),
        ))
        .await;
        refused(&user, "/name", "", name);
        let database = bounded(world.post(
            &format!("{instance}/databases"),
            &json!({ "name": name, "owner": owner }),
        ))
        .await;
        refused(&database, "/name", "", name);
    }
    for name in [
        "pg_x",
        "PG_x",
        "Pg_",
        "postgres",
        "POSTGRES",
        "postgres2",
        "public",
        "Public",
        "none",
    ] {
        let user = bounded(world.post(
            &format!("{instance}/users"),
            &json!({ "name": name, "password": "correct horse" }),
        ))
        .await;
        refused(&user, "/name", "reserved", name);
    }
    for name in ["postgres", "Template0", "template1", "a$b"] {
        let database = bounded(world.post(
            &format!("{instance}/databases"),
            &json!({ "name": name, "owner": owner }),
        ))
        .await;
        refused(&database, "/name", "", name);
    }
    assert_eq!(state(&world, &instance).await, before);
    // What PostgreSQL accepts in quotes is accepted.
    for name in ["select", "user", "SELECT", "_", "a", "a$b", &"a".repeat(63)] {
        let user = world
            .post(
                &format!("{instance}/users"),
                &json!({ "name": name, "password": "correct horse" }),
            )
            .await;
        assert_eq!(user.status, StatusCode::CREATED, "{name}");
    }
    for name in ["select", "Table", "_9", &"z".repeat(63)] {
        let database = world
            .post(
                &format!("{instance}/databases"),
                &json!({ "name": name, "owner": owner }),
            )
            .await;
        assert_eq!(database.status, StatusCode::CREATED, "{name}");
    }
}

#[tokio::test]
async fn passwords() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let users = format!("{instance}/users");
    let before = state(&world, &instance).await;
    let secret = "S3cr3tS3";
    for (password, rule) in [
        (secret[..7].to_owned(), "between 8 and 99 characters"),
        (secret.repeat(13)[..100].to_owned(), "between 8 and 99 characters"),
        (format!("{secret}\0"), "control character"),
        (format!("{secret}\n"), "control character"),
        (format!("{secret}\u{7f}"), "control character"),
        (format!("{secret}\u{85}"), "control character"),
        (format!("{secret}\u{1F600}"), "cannot be used"),
    ] {
        let body = json!({ "name": "app", "password": password });
        let answer = bounded(world.post(&users, &body)).await;
        refused(&answer, "/password", rule, &password);
        let text = String::from_utf8_lossy(&answer.bytes);
        assert!(!text.contains(&secret[..7]), "{text}");
    }
    for value in [
        "12345678",
        "[\"S3cr3tS3\"]",
        "{\"S3cr3tS3\":1}",
        "true",
        "null",
        "\"S3cr3tS3\\ud800\"",
        "\"S3cr3tS3\\u0007\"",
    ] {
        let body = format!(r#"{{"name":"app","password":{value}}}"#);
        let answer = bounded(world.text(Method::POST, &users, &body)).await;
        refused(&answer, "/password", "", value);
        let text = String::from_utf8_lossy(&answer.bytes);
        assert!(!text.contains("S3cr3tS3") && !text.contains("12345678"), "{text}");
    }
    // Malformed around a password, and a password where none belongs.
    for body in [
        r#"{"name":"app","password":"S3cr3tS3"#,
        r#"{"name":"app","password":"S3cr3tS3",}"#,
        r#"{"name":"app","password":"S3cr3tS3"} S3cr3tS3"#,
    ] {
        let answer = bounded(world.text(Method::POST, &users, body)).await;
        assert_eq!(answer.problem(), "malformed-body");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("S3cr3tS3"));
    }
    assert_eq!(state(&world, &instance).await, before);

    let good = [
        "S3cr3tS3".to_owned(),
        "x".repeat(99),
        " with spaces ".to_owned(),
        r#"'";\--/*@:/?#[]%"#.to_owned(),
        "$user$ $1 ${HOME} `id`".to_owned(),
        "Ängström-Ω".to_owned(),
        "A\u{308}ngstro\u{308}m".to_owned(),
        "md5d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        format!("SCRAM-SHA-256$4096:{0}${0}:{0}", "c2FsdA=="),
    ];
    for (i, password) in good.iter().enumerate() {
        let answer = world
            .post(&users, &json!({ "name": format!("u{i}"), "password": password }))
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{password}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(&json!(password).to_string()));
        let changed = world
            .put(answer.header("location"), &json!({ "password": password }))
            .await;
        assert_eq!(changed.status, StatusCode::OK, "{password}");
    }
    let events = world.get(&format!("{instance}/events")).await;
    assert!(!String::from_utf8_lossy(&events.bytes).contains("S3cr3tS3"));
}

#[tokio::test]
async fn references() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let other = world.instance("other").await;
    let owner = world.user(&instance, "owner").await;
    let elsewhere = world.user(&other, "owner").await;
    let database = world.database(&instance, "shop", &owner).await;
    let before = state(&world, &instance).await;
    let missing = format!("{instance}/users/{NOWHERE}");
    for reference in [
        elsewhere.as_str(),
        elsewhere.rsplit('/').next().unwrap(),
        &missing,
        NOWHERE,
        "",
        "owner",
        &format!("http://localhost{owner}"),
        &format!("//localhost{owner}"),
        &format!("{owner}?x=1"),
        &format!("{owner}#x"),
        &format!("{owner}\n"),
        &format!("{owner}//"),
        &owner.replace("/users/", "/users/../users/"),
        &owner.replace("/users/", "/databases/"),
        &owner.replace("postgres", "mysql"),
        &database,
        "file:///etc/passwd",
        &"x".repeat(100_000),
    ] {
        let created = bounded(world.post(
            &format!("{instance}/databases"),
            &json!({ "name": "x", "owner": reference }),
        ))
        .await;
        refused(&created, "/owner", "", reference);
        let moved = bounded(world.put(&database, &json!({ "owner": reference }))).await;
        refused(&moved, "/owner", "", reference);
    }
    assert_eq!(state(&world, &instance).await, before);
}

#[tokio::test]
async fn bodies_that_are_no_json() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let before = state(&world, &instance).await;
    let json = [("content-type", "application/json")];
    let nested = format!("{{\"name\":{}", "[".repeat(100_000));
    let malformed: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"   ".to_vec(),
        b"{".to_vec(),
        b"{}{}".to_vec(),
        b"{\"name\":\"\xff\xfe\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"{\"name\":'x'}".to_vec(),
        b"{\"cpu\":NaN}".to_vec(),
        b"{\"cpu\":0x10}".to_vec(),
        b"{\"cpu\":+1}".to_vec(),
        b"// comment\n{}".to_vec(),
        b"name=x&cpu=1".to_vec(),
        b"\0".to_vec(),
        nested.into_bytes(),
        "{\"a\":".repeat(50_000).into_bytes(),
    ];
    for body in malformed {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        for (method, path) in [
            (Method::POST, INSTANCES.to_owned()),
            (Method::PUT, instance.clone()),
            (Method::POST, format!("{instance}/users")),
        ] {
            let answer = bounded(world.call(method, &path, &json, body.clone())).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (StatusCode::BAD_REQUEST, "malformed-body"),
                "{shown}"
            );
        }
    }
    for body in ["[]", "null", "true", "7", "\"x\"", "1e400"] {
        let answer = bounded(world.text(Method::POST, INSTANCES, body)).await;
        refused(&answer, "", "must be an object", body);
    }
    let duplicate = bounded(world.text(Method::PUT, &instance, r#"{"cpu":2,"c\u0070u":3}"#)).await;
    refused(&duplicate, "/cpu", "more than once", "duplicate");
    for (content_type, accepted) in [
        ("application/json; charset=utf-8", true),
        ("APPLICATION/JSON", true),
        ("application/merge-patch+json", true),
        ("application/json; charset=utf-16", false),
        ("text/plain", false),
        ("text/json", false),
        ("application/x-www-form-urlencoded", false),
        ("multipart/form-data; boundary=x", false),
        ("json", false),
        ("", false),
    ] {
        let answer =
            bounded(world.call(Method::PATCH, &instance, &[("content-type", content_type)], "{}")).await;
        match accepted {
            true => assert_eq!(answer.status, StatusCode::OK, "{content_type}"),
            false => assert_eq!(answer.problem(), "unsupported-media-type", "{content_type}"),
        }
    }
    let untyped = bounded(world.call(Method::PUT, &instance, &[], "{}")).await;
    assert_eq!(
        (untyped.status, untyped.problem().as_str()),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type")
    );
    let compressed = bounded(world.call(
        Method::PUT,
        &instance,
        &[json[0], ("content-encoding", "gzip")],
        "{}",
    ))
    .await;
    assert_eq!(compressed.problem(), "unsupported-media-type");
    assert_eq!(state(&world, &instance).await, before);
}

#[tokio::test]
async fn large_and_slow_bodies() {
    let world = World::new().await;
    let json = [("content-type", "application/json")];
    let ten_mb = format!("{{\"name\":\"{}\"}}", "x".repeat(10 * 1024 * 1024));
    let declared = bounded(world.call(Method::POST, INSTANCES, &json, ten_mb)).await;
    assert_eq!(
        (declared.status, declared.problem().as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large")
    );
    // Of unknown length, and without end.
    let endless = Body::from_stream(stream::repeat_with(|| {
        Ok::<_, std::io::Error>("x".repeat(64 * 1024))
    }));
    let endless = bounded(world.call(Method::POST, INSTANCES, &json, endless)).await;
    assert_eq!(endless.problem(), "body-too-large");
    // A megabyte of spaces is read, and is malformed.
    let spaces = bounded(world.call(Method::POST, INSTANCES, &json, " ".repeat(1024 * 1024))).await;
    assert_eq!(spaces.problem(), "malformed-body");
    let keys = format!(
        "{{{}}}",
        (0..60_000)
            .map(|i| format!("\"k{i}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let keys = bounded(world.call(Method::POST, INSTANCES, &json, keys)).await;
    assert_eq!(keys.problem(), "invalid-fields");
    assert!(keys.bytes.len() < 20_000);
    let broken = Body::from_stream(stream::iter([Ok("{"), Err(std::io::Error::other("cut"))]));
    let broken = bounded(world.call(Method::POST, INSTANCES, &json, broken)).await;
    assert_eq!(broken.problem(), "malformed-body");
    assert_eq!(world.get(INSTANCES).await.json()["instances"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let world = World::new().await;
    let never = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
    let answer = world
        .call(
            Method::POST,
            INSTANCES,
            &[("content-type", "application/json")],
            never,
        )
        .await;
    assert_eq!(answer.problem(), "body-timeout");
}

#[tokio::test]
async fn the_same_name_in_two_projects_and_deletion_during_creation() {
    let world = World::new().await;
    let mut body = world.instance_body("orders").await;
    assert_eq!(world.post(INSTANCES, &body).await.status, StatusCode::CREATED);
    assert_eq!(world.post(INSTANCES, &body).await.problem(), "name-taken");
    body["project_id"] = json!(NOWHERE);
    let second = world.post(INSTANCES, &body).await;
    assert_eq!(second.status, StatusCode::CREATED);
    let path = second.header("location");
    assert_eq!(world.delete(path).await.status, StatusCode::NO_CONTENT);
    let user = world
        .post(
            &format!("{path}/users"),
            &json!({ "name": "app", "password": "correct horse" }),
        )
        .await;
    assert!(
        ["wrong-state", "not-found"].contains(&user.problem().as_str()),
        "{user:?}"
    );
}

#[tokio::test]
async fn headers_and_queries() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    for (path, parameter) in [
        (format!("{INSTANCES}?x=1"), "x"),
        (format!("{instance}?verbose=true"), "verbose"),
        (
            format!("{instance}/events?limit=10000000000000000000000"),
            "limit",
        ),
        (format!("{instance}/events?after=-1"), "after"),
        (format!("{instance}/events?after=18446744073709551615"), "after"),
        (format!("{instance}/users?owner=x"), "owner"),
        (format!("{instance}/nodes?limit=1"), "limit"),
        (format!("{instance}?wait=ACTIVE&timeout=1h"), "timeout"),
        (format!("{INSTANCES}?name=%00"), "name"),
    ] {
        let answer = bounded(world.get(&path)).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "invalid-query"),
            "{path}"
        );
        assert!(answer.names(parameter), "{path}: {answer:?}");
    }
    assert_eq!(
        bounded(world.get(&format!("{INSTANCES}?name=%ff")))
            .await
            .problem(),
        "invalid-query"
    );
    let many = "name=a&".repeat(5000);
    assert_eq!(
        bounded(world.get(&format!("{INSTANCES}?{many}"))).await.problem(),
        "invalid-query"
    );
    let created = bounded(world.text(Method::POST, &format!("{INSTANCES}?dry_run=1"), "{}")).await;
    assert!(created.names("dry_run"), "{created:?}");
}
