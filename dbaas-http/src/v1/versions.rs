//! Versions of the catalogue, and the settings of each.

use dbaas_controller::request::{CreateVersion, UpdateVersion};
use dbaas_controller::view;
use dbaas_core::extension::ExtensionName;
use dbaas_core::limits;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::parameters::{self, ownership};
use dbaas_core::time::Timestamp;
use dbaas_core::version::ImageRef;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, SchemaType, Type};
use uuid::Uuid;

use super::fields::{Present, READ_ONLY, not_set};
use super::schema;
use super::types::{Extension, FreeText, Id, Number, Time, described};
use crate::decode::{Decoder, Object as Body, boolean, parsed};
use crate::openapi::schemas::{array, image, instance_name, text, words};
use crate::problem::Problem;

/// Fields that nobody sets.
const SET_BY_SERVER: [&str; 3] = ["uuid", "created_at", "updated_at"];
const IMAGE_IS_FIXED: &str = "cannot be changed; add another version and deprecate this one";

described! {
    /// A version's name.
    Name: instance_name().examples(["PostgreSQL 15.18"]);
    /// A version's image.
    Image: image().examples(["postgres:15.18"]);
    /// Whether a version is deprecated.
    Deprecated: crate::openapi::schemas::boolean().default(Some(false.into()));
    /// Some extensions, or all.
    AllowedExtensions: array(<Extension as utoipa::PartialSchema>::schema())
        .max_items(Some(limits::EXTENSIONS_MAX))
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]));
    /// The name of a setting.
    SettingName: text().examples(["work_mem"]);
    /// The type of a setting.
    SettingType: words(["bool", "integer", "real", "enum", "string"]);
    /// The unit of a setting.
    SettingUnit: text().examples(["kB"]);
    /// When a setting takes effect.
    SettingContext: words(["postmaster", "sighup", "superuser", "backend", "user"]);
}

/// A version of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version<'a> {
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// For people.
    #[schema(value_type = Name, inline)]
    name: &'a InstanceName,
    /// Free text; tabs and line breaks are allowed, other control characters are not.
    #[schema(value_type = FreeText, inline)]
    description: &'a Description,
    /// What nodes are made of; the tag begins with PostgreSQL's version. Unique; never changes.
    #[schema(value_type = Image, inline)]
    image: &'a str,
    /// New instances cannot have it; those that have it keep it.
    #[schema(value_type = Deprecated, inline)]
    deprecated: bool,
    /// Extensions that databases may be asked to have; null: every one that the server calls trusted. Others
    /// take a superuser, and are never made.
    #[schema(value_type = AllowedExtensions, inline)]
    extensions: Option<Vec<&'a str>>,
    /// When it was added.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

impl<'a> Version<'a> {
    pub(crate) fn of(found: &'a view::Version) -> Self {
        Version {
            uuid: found.id.uuid(),
            name: &found.name,
            description: &found.description,
            image: found.image.as_str(),
            deprecated: found.deprecated,
            extensions: found
                .extensions
                .as_ref()
                .map(|names| names.iter().map(ExtensionName::as_str).collect()),
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A setting of PostgreSQL.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Parameter {
    /// As PostgreSQL spells it.
    #[schema(value_type = SettingName, inline)]
    name: &'static str,
    /// Which values it takes.
    #[serde(rename = "type")]
    #[schema(value_type = SettingType, inline)]
    kind: &'static str,
    /// What a number without a unit counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = SettingUnit, inline, required = false)]
    unit: Option<String>,
    /// The smallest value, in units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Number, inline, required = false)]
    min: Option<f64>,
    /// The greatest value, in units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Number, inline, required = false)]
    max: Option<f64>,
    /// The values of an enum.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    values: Option<&'static [&'static str]>,
    /// PostgreSQL's default, in units; the control plane derives some.
    default: &'static str,
    /// When it takes effect, in PostgreSQL's words.
    #[schema(value_type = SettingContext, inline)]
    context: &'static str,
    /// Nodes are restarted for it, one at a time.
    needs_restart: bool,
    /// PostgreSQL's own.
    description: &'static str,
    /// It belongs to the control plane, for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    refused_because: Option<&'static str>,
}

impl Parameter {
    pub(crate) fn of(parameter: &'static parameters::Parameter) -> Self {
        use parameters::Kind;
        let (kind, unit, range, values) = match &parameter.kind {
            Kind::Bool => ("bool", None, None, None),
            Kind::Integer { min, max, unit } => ("integer", *unit, Some((*min as f64, *max as f64)), None),
            Kind::Real { min, max, unit } => ("real", *unit, Some((*min, *max)), None),
            Kind::Enum(values) => ("enum", None, None, Some(values.as_slice())),
            Kind::String => ("string", None, None, None),
        };
        Parameter {
            name: parameter.name,
            kind,
            unit: unit.map(|unit| unit.to_string()),
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            values,
            default: parameter.default,
            context: parameter.context.as_str(),
            needs_restart: parameter.context == parameters::Context::Postmaster,
            description: parameter.description,
            refused_because: ownership(parameter.name),
        }
    }
}

/// The settings of a version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Parameters {
    /// By name.
    #[schema(inline)]
    pub(crate) parameters: Vec<Parameter>,
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 4] {
    let all = schema::derived::<Version>;
    [
        ("Version", schema::answer::<Version>()),
        (
            "VersionCreate",
            schema::creation(all(), "A new version.", &SET_BY_SERVER, &["name", "image"]),
        ),
        (
            "VersionUpdate",
            schema::change(all(), "Changes of a version.", &SET_BY_SERVER, &["image"]),
        ),
        ("Parameters", schema::answer::<Parameters>()),
    ]
}

pub(crate) fn create(body: Body<'_>) -> Result<CreateVersion, Problem> {
    let mut d = Decoder::new("a version", body);
    let name = d.required("name", parsed::<InstanceName>);
    let description = d.optional("description", parsed::<Description>);
    let image = d.required("image", parsed::<ImageRef>);
    let deprecated = d.optional("deprecated", boolean);
    let extensions = d.values_or_null("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>);
    not_set(&mut d, &SET_BY_SERVER);
    d.finish(|| {
        Some(CreateVersion {
            name: name?,
            description: description.unwrap_or_default(),
            image: image?,
            deprecated: deprecated.unwrap_or_default(),
            extensions: extensions.flatten(),
            idempotency_key: None,
        })
    })
}

pub(crate) fn update(body: Body<'_>, present: &Present) -> Result<UpdateVersion, Problem> {
    let mut d = Decoder::new("a version", body);
    let update = UpdateVersion {
        name: d.optional("name", parsed::<InstanceName>),
        description: d.optional("description", parsed::<Description>),
        deprecated: d.optional("deprecated", boolean),
        extensions: d.values_or_null("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>),
        expected: None,
    };
    d.unchanged("image", present.get("image"), IMAGE_IS_FIXED);
    for field in SET_BY_SERVER {
        d.unchanged(field, present.get(field), READ_ONLY);
    }
    d.finish(|| Some(update))
}
