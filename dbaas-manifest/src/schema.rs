//! A JSON Schema of manifests, for editors. It says which fields there are and which are needed; the rest is
//! told by a plan.

use serde_json::{Map, Value as Json, json};

use crate::check::FIELDS;
use crate::collection::Collection;
use crate::limits;

/// The schema (draft 2020-12).
pub fn schema() -> Json {
    let (mut resources, mut within, mut kinds) = (Map::new(), Map::new(), Map::new());
    for collection in Collection::ALL {
        let named = json!({
            "type": ["object", "null"],
            "additionalProperties": {"$ref": format!("#/$defs/{}", collection.what())},
        });
        match collection {
            Collection::Users | Collection::Databases => {
                let instances = Collection::Instances
                    .path()
                    .trim_start_matches('$')
                    .replace('.', "\\.");
                let place = format!(
                    "^\\$({instances}|[^.]+\\.imports)\\.\\$[^.]+\\.{}$",
                    collection.path()
                );
                within.insert(place, named);
            }
            _ => drop(resources.insert(collection.path().to_owned(), named)),
        }
        kinds.insert(collection.what().to_owned(), kind(collection));
    }
    let text = || json!({"type": "string"});
    let linked = || {
        json!({"type": ["object", "null"], "maxProperties": limits::LINKS_MAX, "additionalProperties": {
            "type": "object",
            "properties": {"element": {"type": "string"}, "kind": {"const": "resource"}, "link": {"type": "string"}},
            "required": ["link"],
            "additionalProperties": false,
        }})
    };
    let mut properties = Map::new();
    for field in FIELDS {
        let rule = match field {
            "schema_version" => json!({"const": 1}),
            "version" => json!({"type": ["string", "number"]}),
            "api_version" => json!({"const": "v1"}),
            "uuid" => json!({"type": "string", "format": "uuid"}),
            "requirements" => json!({"type": ["object", "null"], "maxProperties": limits::LINKS_MAX}),
            "imports" | "exports" => linked(),
            "resources" => json!({
                "type": ["object", "null"],
                "properties": resources,
                "patternProperties": within,
                "additionalProperties": false,
            }),
            _ => text(),
        };
        properties.insert(field.to_owned(), rule);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Element manifest",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": kinds,
    })
}

/// Any value of a field may be a reference.
fn kind(collection: Collection) -> Json {
    let mut properties = Map::from_iter([("uuid".to_owned(), json!({"type": "string", "format": "uuid"}))]);
    for field in collection.fields() {
        let rule = match field.is_secret {
            true => json!({"writeOnly": true}),
            false => json!(true),
        };
        properties.insert(field.name.to_owned(), rule);
    }
    let required = collection.fields().iter().filter(|field| field.is_required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Value;
    use crate::yaml;

    #[test]
    fn the_specifications_example_is_as_described() {
        let schema = schema();
        let root = yaml::parse(include_str!("../examples/demo.yaml")).unwrap().root;
        let Value::Map(sections) = &root.value else {
            panic!()
        };
        for section in sections {
            assert!(schema["properties"][&section.key].is_object(), "{}", section.key);
        }
        let Value::Map(groups) = &root.entry("resources").unwrap().node.value else {
            panic!()
        };
        let resources = &schema["properties"]["resources"];
        for group in groups {
            let what = match group.key.rsplit('.').next().unwrap() {
                "users" => "user",
                "databases" => "database",
                _ => {
                    let place = resources["properties"][&group.key]["additionalProperties"]["$ref"].as_str();
                    place.unwrap().rsplit('/').next().unwrap()
                }
            };
            let kind = &schema["$defs"][what];
            let Value::Map(named) = &group.node.value else {
                panic!()
            };
            for needed in kind["required"].as_array().unwrap() {
                assert!(
                    named[0].node.entry(needed.as_str().unwrap()).is_some(),
                    "{needed}"
                );
            }
            let Value::Map(fields) = &named[0].node.value else {
                panic!()
            };
            for field in fields {
                assert!(
                    kind["properties"].get(&field.key).is_some(),
                    "{what}: {}",
                    field.key
                );
            }
        }
        let places: Vec<&String> = resources["patternProperties"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(
            places,
            [
                "^\\$(dbaas\\.types\\.postgres\\.instances|[^.]+\\.imports)\\.\\$[^.]+\\.databases$",
                "^\\$(dbaas\\.types\\.postgres\\.instances|[^.]+\\.imports)\\.\\$[^.]+\\.users$",
            ]
        );
        assert_eq!(
            schema["$defs"]["password"]["properties"]["value"],
            json!({"writeOnly": true})
        );
    }
}
