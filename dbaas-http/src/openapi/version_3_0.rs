//! The document in OpenAPI 3.0.3: many generators refuse 3.1. What differs is how a schema says "or null" and
//! "for example", and that 3.0 knows no licence identifiers. An answer that comes in several media types is
//! described as JSON alone: generators make one type of all of them.

use serde_json::{Map, Value, json};

use super::OBJECT_LIST;

/// The version that is made.
const VERSION: &str = "3.0.3";

/// An OpenAPI 3.1 document of ours in 3.0.3.
pub fn as_3_0(mut document: Value) -> Value {
    document["openapi"] = json!(VERSION);
    if let Some(license) = document
        .pointer_mut("/info/license")
        .and_then(Value::as_object_mut)
    {
        license.remove("identifier");
    }
    convert(&mut document);
    document
}

fn convert(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if is_schema(fields) {
                convert_schema(fields);
            }
            if fields.contains_key(OBJECT_LIST) {
                fields.retain(|media_type, _| media_type == OBJECT_LIST);
            }
            fields.values_mut().for_each(convert);
        }
        Value::Array(items) => items.iter_mut().for_each(convert),
        _ => {}
    }
}

/// Whether these are the keywords of a schema and not, say, properties with such names.
fn is_schema(fields: &Map<String, Value>) -> bool {
    let is_type = |value: &Value| value.is_string() || value.is_array();
    fields.get("type").is_some_and(is_type) || fields.get("oneOf").is_some_and(Value::is_array)
}

fn convert_schema(fields: &mut Map<String, Value>) {
    // `type: [string, null]` is `type: string, nullable: true`.
    if let Some(Value::Array(types)) = fields.get("type") {
        let not_null = types.iter().find(|name| *name != "null").cloned();
        if types.iter().any(|name| name == "null") {
            fields.insert("nullable".to_owned(), json!(true));
        }
        if let Some(not_null) = not_null {
            fields.insert("type".to_owned(), not_null);
        }
    }
    if let Some(Value::Array(examples)) = fields.remove("examples")
        && let Some(first) = examples.into_iter().next()
    {
        fields.insert("example".to_owned(), first);
    }
    // A list that is read-only is wrapped in a choice of one in the 3.1 document.
    if let Some(Value::Array(choices)) = fields.get("oneOf")
        && let [Value::Object(only)] = choices.as_slice()
    {
        let only = only.clone();
        fields.remove("oneOf");
        fields.extend(only);
    }
}
