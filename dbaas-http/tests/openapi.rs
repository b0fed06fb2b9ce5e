//! The OpenAPI document: as committed, complete, and true.

mod world;

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use world::{INSTANCES, VERSIONS, World};

fn document() -> Value {
    serde_json::to_value(dbaas_http::openapi::document()).unwrap()
}

#[test]
fn the_committed_documents_are_the_present_ones() {
    let old = dbaas_http::openapi::as_3_0(document());
    for (name, document) in [("openapi.json", document()), ("openapi-3.0.3.json", old)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is not what the code says; run this test with UPDATE_GOLDEN=1",
            path.display()
        );
    }
}

/// What OpenAPI 3.0 does not know: lists of types, `examples` of a schema, identifiers of licences.
#[test]
fn the_older_document_holds_nothing_newer() {
    fn walk(value: &Value, nullable: &mut usize) {
        match value {
            Value::Object(fields) => {
                assert!(!fields.get("type").is_some_and(Value::is_array), "{value}");
                assert!(!fields.get("examples").is_some_and(Value::is_array), "{value}");
                let content = fields.get("content").and_then(Value::as_object);
                // Of media types, and not a property with that name.
                if let Some(content) = content.filter(|content| content.keys().all(|name| name.contains('/')))
                {
                    assert_eq!(content.len(), 1, "{value}");
                }
                *nullable += usize::from(fields.get("nullable") == Some(&json!(true)));
                fields.values().for_each(|value| walk(value, nullable));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, nullable)),
            _ => {}
        }
    }
    let old = dbaas_http::openapi::as_3_0(document());
    let mut nullable = 0;
    walk(&old, &mut nullable);
    assert!(nullable > 5, "{nullable}");
    assert_eq!(old["openapi"], "3.0.3");
    assert_eq!(old["info"]["license"], json!({ "name": "MIT OR Apache-2.0" }));
    // The same calls.
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            assert!(
                old["paths"][path][method]["operationId"].is_string(),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_operations_are_distinct() {
    fn walk(root: &Value, value: &Value, found: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    *found += 1;
                    assert!(
                        root.pointer(reference.trim_start_matches('#')).is_some(),
                        "{reference}"
                    );
                }
                fields.values().for_each(|value| walk(root, value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(root, value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = 0;
    walk(&document, &document, &mut found);
    assert!(found > 100);
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{operation}"
            );
        }
    }
}

#[tokio::test]
async fn every_call_is_there_and_no_other() {
    let world = World::new().await;
    let document = document();
    let instance = world.instance("orders").await;
    let id = instance.rsplit('/').next().unwrap().to_owned();
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path
            .replace("{instance}", &id)
            .replace("{problem}", "in-use")
            .replace("{database}", &id)
            .replace("{user}", &id)
            .replace("{version}", &id)
            .replace("{manifest}", &id)
            .replace("{element}", &id)
            .replace("{password}", &id)
            .replace("{config}", &id)
            .replace("{variable}", &id);
        for method in [
            Method::GET,
            Method::PUT,
            Method::PATCH,
            Method::POST,
            Method::OPTIONS,
        ] {
            let answer = world.call(method.clone(), &real, &[], Body::empty()).await;
            let is_described = item.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(
                answer.status != StatusCode::METHOD_NOT_ALLOWED,
                is_described,
                "{method} {path}"
            );
            if is_described {
                let responses = &item[method.as_str().to_lowercase()]["responses"];
                assert!(
                    responses.get(answer.status.as_str()).is_some(),
                    "{method} {path}: {answer:?}"
                );
            }
        }
    }
}

/// The part of JSON Schema that the document uses for objects: which fields there are, and which there must
/// be.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) {
        for (field, value) in fields {
            let property = properties
                .get(field)
                .unwrap_or_else(|| panic!("{at}/{field} is not described"));
            check(document, property, value, &format!("{at}/{field}"));
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                fields.contains_key(required.as_str().unwrap()),
                "{at} lacks {required}"
            );
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values.iter().for_each(|value| check(document, items, value, at));
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
}

#[tokio::test]
async fn answers_are_as_described() {
    let world = World::new().await;
    let document = document();
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let database = world.database(&instance, "shop", &user).await;
    for (path, schema) in [
        (INSTANCES.to_owned(), "Instances"),
        (instance.clone(), "Instance"),
        (format!("{instance}/users"), "Users"),
        (user.clone(), "User"),
        (format!("{instance}/databases"), "Databases"),
        (database, "Database"),
        (VERSIONS.to_owned(), "Versions"),
        (world.version().await, "Version"),
        (format!("{instance}/nodes"), "Nodes"),
        (format!("{instance}/events"), "Events"),
        (format!("{instance}/connection"), "Connection"),
        ("/healthz".to_owned(), "Alive"),
        ("/nowhere".to_owned(), "Problem"),
    ] {
        let answer = world.get(&path).await.json();
        check(
            &document,
            &document["components"]["schemas"][schema],
            &answer,
            schema,
        );
    }
    let wrong = world.post(INSTANCES, &json!({})).await.json();
    check(
        &document,
        &document["components"]["schemas"]["Problem"],
        &wrong,
        "Problem",
    );
}

#[tokio::test]
async fn requests_take_what_is_described_and_nothing_else() {
    let world = World::new().await;
    let document = document();
    let instance = world.instance("orders").await;
    let user = world.user(&instance, "app").await;
    let database = world.database(&instance, "shop", &user).await;
    for (method, path, schema) in [
        (Method::POST, INSTANCES.to_owned(), "InstanceCreate"),
        (Method::PUT, instance.clone(), "InstanceUpdate"),
        (Method::POST, format!("{instance}/users"), "UserCreate"),
        (Method::PUT, user.clone(), "UserUpdate"),
        (Method::POST, format!("{instance}/databases"), "DatabaseCreate"),
        (Method::PUT, database, "DatabaseUpdate"),
        (Method::POST, VERSIONS.to_owned(), "VersionCreate"),
        (Method::PUT, world.version().await, "VersionUpdate"),
        (
            Method::POST,
            format!("{instance}/actions/switchover"),
            "Switchover",
        ),
        (Method::POST, format!("{instance}/actions/failover"), "Failover"),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let described = schema["properties"].as_object().unwrap();
        // A field of the wrong type is known if that is what is said of it; null is wrong everywhere.
        let body: serde_json::Map<String, Value> = described
            .keys()
            .map(|field| (field.clone(), Value::Null))
            .chain([("unheard_of".to_owned(), Value::Null)])
            .collect();
        let answer = world
            .text(method.clone(), &path, &Value::Object(body).to_string())
            .await;
        let unknown: Vec<String> = answer
            .errors()
            .into_iter()
            .filter(|(_, rule)| rule.contains("is not a field"))
            .map(|(place, _)| place)
            .collect();
        assert_eq!(unknown, ["/unheard_of"], "{method} {path}");
        // Without any field, what is missing is what is described as required.
        let answer = world.text(method.clone(), &path, "{}").await;
        let missing: BTreeSet<String> = answer
            .errors()
            .into_iter()
            .filter(|(_, rule)| rule == "is required")
            .map(|(place, _)| place)
            .collect();
        let required: BTreeSet<String> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| format!("/{}", name.as_str().unwrap()))
            .collect();
        assert_eq!(missing, required, "{method} {path}");
    }
}
