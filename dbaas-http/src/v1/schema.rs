//! What is made of the schema that a wire type derives: those of its answer, of its creation and of its
//! change.

use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, AllOf, ArrayItems, Object, OneOf, OneOfBuilder, Schema, SchemaType, Type,
};

/// The derived schema, with everything that is known of a field at the field. Objects have no other fields
/// than they say.
pub(crate) fn derived<T: PartialSchema>() -> Object {
    match plain(T::schema()) {
        RefOr::T(Schema::Object(object)) => object,
        // Wire types are structs.
        _ => Object::new(),
    }
}

/// An answer: it always has everything.
pub(crate) fn answer<T: PartialSchema>() -> Object {
    let mut object = without_defaults(derived::<T>());
    object.required = object.properties.keys().cloned().collect();
    object
}

/// A request that makes something: everything but what nobody sets, and `required` of it.
pub(crate) fn creation(mut all: Object, description: &str, read_only: &[&str], required: &[&str]) -> Object {
    all.description = Some(description.to_owned());
    all.properties
        .retain(|name, _| !read_only.contains(&name.as_str()));
    all.required = required.iter().map(|&name| name.to_owned()).collect();
    all
}

/// A change: everything may be left out, so that nothing has a default; some may be repeated but not changed.
pub(crate) fn change(all: Object, description: &str, read_only: &[&str], fixed: &[&str]) -> Object {
    let mut object = without_defaults(all);
    object.description = Some(description.to_owned());
    object.required = Vec::new();
    for (name, schema) in &mut object.properties {
        if read_only.contains(&name.as_str()) || fixed.contains(&name.as_str()) {
            let property = std::mem::replace(schema, RefOr::T(Schema::default()));
            *schema = read_only_property(property);
        }
    }
    object
}

/// The fields of both.
pub(crate) fn both(mut first: Object, second: Object) -> Object {
    first.properties.extend(second.properties);
    first.required.extend(second.required);
    first
}

fn read_only_property(property: RefOr<Schema>) -> RefOr<Schema> {
    match property {
        RefOr::T(Schema::Object(mut object)) => {
            object.read_only = Some(true);
            RefOr::T(Schema::Object(object))
        }
        // An array cannot say it by itself.
        other => OneOfBuilder::new().item(other).read_only(true).into(),
    }
}

fn without_defaults(mut object: Object) -> Object {
    for schema in object.properties.values_mut() {
        if let RefOr::T(Schema::Object(property)) = schema {
            property.default = None;
        }
    }
    object
}

/// Undoes how the derivation adds to a type that it does not know: `allOf` of the type and of an object with
/// the description, `oneOf` of the type and null.
fn plain(schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(schema) = schema else { return schema };
    match schema {
        Schema::AllOf(AllOf { mut items, .. }) if items.len() == 2 => {
            let added = items.pop();
            let base = plain(items.remove(0));
            match added {
                Some(RefOr::T(Schema::Object(added))) => described(base, added.description),
                _ => base,
            }
        }
        Schema::OneOf(OneOf {
            mut items,
            description,
            ..
        }) if items.len() == 2 => {
            items.truncate(1);
            described(or_null(plain(items.remove(0))), description)
        }
        Schema::Object(object) => RefOr::T(Schema::Object(plain_object(object))),
        Schema::Array(mut array) => {
            if let ArrayItems::RefOrSchema(items) = array.items {
                array.items = ArrayItems::RefOrSchema(Box::new(plain(*items)));
            }
            array.description = array.description.map(on_one_line);
            RefOr::T(Schema::Array(array))
        }
        other => RefOr::T(other),
    }
}

fn plain_object(mut object: Object) -> Object {
    object.description = object.description.map(on_one_line);
    if !object.properties.is_empty() {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        let properties = std::mem::take(&mut object.properties);
        object.properties = properties
            .into_iter()
            .map(|(name, schema)| (name, plain(schema)))
            .collect();
    }
    object
}

fn described(schema: RefOr<Schema>, text: Option<String>) -> RefOr<Schema> {
    let Some(text) = text.map(on_one_line) else {
        return schema;
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.description = Some(text);
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.description = Some(text);
            RefOr::T(Schema::Array(array))
        }
        other => other,
    }
}

fn or_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let nullable = |of: SchemaType| match of {
        SchemaType::Type(of) => SchemaType::from_iter([of, Type::Null]),
        other => other,
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.schema_type = nullable(object.schema_type);
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.schema_type = nullable(array.schema_type);
            RefOr::T(Schema::Array(array))
        }
        other => other,
    }
}

/// A comment of several lines, as one text.
fn on_one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
