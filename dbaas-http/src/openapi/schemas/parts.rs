//! What schemas are made of: properties, objects, texts with their patterns, references.

use std::ops::RangeInclusive;

use dbaas_core::limits;
use serde_json::Value;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};

/// An unsigned number that an answer has: what a JSON number holds exactly.
pub(super) const COUNT_MAX: u64 = (1 << 53) - 1;

/// Characters that a name has nowhere: see `dbaas_core::name`.
pub(super) const DISRUPTIVE: &str = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069";
/// Characters that a name does not have at its ends.
pub(super) const BLANK: &str =
    r"\s\u00a0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\u3164\ufeff\u00ad\u0085";

/// An image's repository has at most so many characters, which no pattern can say; the whole may have more,
/// with a digest.
pub(super) const IMAGE_CHARS_DESCRIBED: usize = 255;

pub(crate) const UUID_EXAMPLE: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";

/// A property of an object.
pub(crate) struct Property {
    pub(super) name: &'static str,
    schema: ObjectBuilder,
}

pub(super) fn property(name: &'static str, description: &str, schema: ObjectBuilder) -> Property {
    Property {
        name,
        schema: schema.description(Some(description)),
    }
}

impl Property {
    pub(super) fn default(mut self, default: impl Into<Value>) -> Self {
        self.schema = self.schema.default(Some(default.into()));
        self
    }
}

/// An object that has exactly these properties. `required` says which of them it always has.
pub(super) fn object(description: &str, properties: Vec<Property>, required: &[&str]) -> ObjectBuilder {
    let mut schema = closed().description(Some(description));
    for property in properties {
        if required.contains(&property.name) {
            schema = schema.required(property.name);
        }
        let name = property.name;
        schema = schema.property(name, property.schema);
    }
    schema
}

/// An object of whatever there is.
pub(crate) fn free(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

pub(crate) fn closed() -> ObjectBuilder {
    ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

pub(crate) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(crate) fn whole(bounds: RangeInclusive<u64>) -> ObjectBuilder {
    let (min, max) = (*bounds.start() as usize, *bounds.end() as usize);
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(min))
        .maximum(Some(max))
}

pub(crate) fn boolean() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean)
}

pub(crate) fn words(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    text().enum_values(Some(words))
}

pub(crate) fn uuid() -> ObjectBuilder {
    text().format(Some(SchemaFormat::Custom("uuid".to_owned())))
}

pub(crate) fn timestamp() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

pub(super) fn or_null(schema: ObjectBuilder, of: Type) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([of, Type::Null]))
}

pub(crate) fn count() -> ObjectBuilder {
    whole(0..=COUNT_MAX)
}

pub(crate) fn reference(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

pub(crate) fn array(items: impl Into<RefOr<Schema>>) -> ArrayBuilder {
    let items: RefOr<Schema> = items.into();
    ArrayBuilder::new().items(items)
}

pub(crate) fn instance_name() -> ObjectBuilder {
    let pattern = format!("^[^{BLANK}{DISRUPTIVE}]([^{DISRUPTIVE}]*[^{BLANK}{DISRUPTIVE}])?$");
    text()
        .min_length(Some(*limits::NAME_CHARS.start()))
        .max_length(Some(*limits::NAME_CHARS.end()))
        .pattern(Some(pattern))
}

pub(crate) fn database_name() -> ObjectBuilder {
    let max = *limits::IDENTIFIER_BYTES.end();
    let pattern = "^(?!([Dd][Bb][Aa][Aa][Ss]_|([Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss]|[Tt][Ee][Mm][Pp][Ll][Aa][Tt][Ee][01])$))[A-Za-z_][A-Za-z0-9_]*$";
    text()
        .min_length(Some(1))
        .max_length(Some(max))
        .pattern(Some(pattern))
}

pub(crate) fn user_name() -> ObjectBuilder {
    let max = *limits::IDENTIFIER_BYTES.end();
    let pattern = "^(?!([Pp][Gg]_|[Dd][Bb][Aa][Aa][Ss]_|[Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss]|([Pp][Uu][Bb][Ll][Ii][Cc]|[Nn][Oo][Nn][Ee])$))[A-Za-z_][A-Za-z0-9_$]*$";
    text()
        .min_length(Some(1))
        .max_length(Some(max))
        .pattern(Some(pattern))
}

pub(crate) fn description_text() -> ObjectBuilder {
    let pattern =
        r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$";
    text()
        .max_length(Some(*limits::DESCRIPTION_CHARS.end()))
        .pattern(Some(pattern))
}

pub(crate) fn password() -> ObjectBuilder {
    text()
        .min_length(Some(*limits::PASSWORD_CHARS.start()))
        .max_length(Some(*limits::PASSWORD_CHARS.end()))
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
        .write_only(true)
}

/// `/v1/types/postgres/versions/UUID` in each spelling, or the UUID.
pub(crate) fn version_reference() -> ObjectBuilder {
    let uuid = uuid_pattern();
    text().pattern(Some(format!(
        "^((/v1/types/postgres|/v1/postgres)/versions/{uuid}/?|{uuid})$"
    )))
}

/// The same for an instance.
pub(crate) fn instance_reference() -> ObjectBuilder {
    let uuid = uuid_pattern();
    text().pattern(Some(format!(
        "^((/v1/types/postgres|/v1/postgres)/instances/{uuid}/?|{uuid})$"
    )))
}

/// The same for a user of an instance.
pub(crate) fn user_reference() -> ObjectBuilder {
    let uuid = uuid_pattern();
    text().pattern(Some(format!(
        "^((/v1/types/postgres|/v1/postgres)/instances/{uuid}/users/{uuid}/?|{uuid})$"
    )))
}

pub(super) fn uuid_pattern() -> &'static str {
    "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
}

pub(crate) fn image() -> ObjectBuilder {
    // The first part is a registry if it has a dot or a port, or is localhost; then it may have upper-case
    // letters and no underscores.
    let label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?";
    let port = "[1-9][0-9]{0,3}";
    let registry = format!("({label}(\\.{label})+(:{port})?|{label}:{port}|localhost)/");
    let word = "[a-z0-9]+((_|__|-+)[a-z0-9]+)*";
    let dotted = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*";
    let path = format!("({registry}{dotted}|{word}(?=/)|{dotted}(?!/))(/{dotted})*");
    let tag = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?";
    let digest = "(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?";
    text()
        .min_length(Some(*limits::IMAGE_REF_BYTES.start()))
        .max_length(Some(IMAGE_CHARS_DESCRIBED))
        .pattern(Some(format!("^{path}{tag}{digest}$")))
}
