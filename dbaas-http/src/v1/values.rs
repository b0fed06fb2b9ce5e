//! What manifests refer to: passwords, rendered configs and variables. None of it holds a secret but what is
//! asked for by name.

use std::collections::BTreeMap;

use dbaas_controller::view;
use dbaas_core::time::Timestamp;
use dbaas_manifest::limits::PASSWORD_LENGTH;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::schema;
use super::types::{Anything, Count, FreeText, Id, Time, described};
use crate::openapi::schemas::{free, instance_name, text, whole, words};

/// Fields of a password that a change cannot have.
pub(crate) const PASSWORD_FIXED: [&str; 5] =
    ["uuid", "project_id", "constructor", "created_at", "updated_at"];
/// Fields of a variable that a change cannot have.
pub(crate) const VARIABLE_FIXED: [&str; 5] = ["uuid", "name", "project_id", "created_at", "updated_at"];

described! {
    /// A name.
    Name: instance_name();
    /// How a password comes to its value.
    Method: words(["AUTO_HEX", "AUTO_URL_SAFE", "MANUAL"]);
    /// Characters of a generated value.
    Length: whole(*PASSWORD_LENGTH.start()..=*PASSWORD_LENGTH.end());
    /// What a value is made into.
    ConstructorKind: words(["plain"]);
    /// A value that is given.
    Given: text().min_length(Some(1)).write_only(true);
    /// What happens when a text changes.
    OnChange: free("What happens when the text changes: nothing.");
}

/// A password, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Password<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// For people.
    #[schema(value_type = Name, inline)]
    name: &'a str,
    /// Free text.
    #[schema(value_type = FreeText, inline)]
    description: &'a str,
    /// The project it belongs to.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// How it comes to its value.
    #[schema(value_type = Method, inline)]
    method: &'static str,
    /// Characters of a generated value.
    #[schema(value_type = Length, inline)]
    default_length: u64,
    /// Another number makes another value.
    #[schema(value_type = Count, inline)]
    rotation: u64,
    /// What the value is made into.
    #[schema(inline)]
    constructor: Constructor,
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

/// What the value is made into.
#[derive(Debug, Serialize, ToSchema)]
struct Constructor {
    #[schema(value_type = ConstructorKind, inline)]
    kind: &'static str,
}

/// What requests about passwords have and answers never.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is decoded with the rest")]
struct Secrets {
    /// The value, for MANUAL only.
    #[schema(value_type = Given, inline)]
    value: Given,
}

/// The value of a password.
// Has no `Debug`: it is a secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct PasswordValue<'a> {
    /// The value.
    pub(crate) value: &'a str,
}

impl<'a> Password<'a> {
    pub(crate) fn of(found: &'a view::StoredPassword) -> Self {
        Password {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.uuid(),
            method: found.method.as_str(),
            default_length: found.length,
            rotation: found.rotation,
            constructor: Constructor { kind: "plain" },
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A rendered text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Config<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// For people.
    name: &'a str,
    /// Free text.
    description: &'a str,
    /// The project it belongs to.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// Whether the text holds a secret.
    is_secret: bool,
    #[serde(flatten)]
    #[schema(ignore)]
    fields: &'a BTreeMap<String, Value>,
    /// The text; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    content: Option<&'a str>,
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

/// What else the manifest may say of a config.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is kept as given")]
struct ConfigFields {
    path: String,
    mode: String,
    owner: String,
    group: String,
    #[schema(value_type = Anything, inline)]
    target: Anything,
    #[schema(value_type = OnChange, inline)]
    on_change: OnChange,
}

impl<'a> Config<'a> {
    /// Without its text.
    pub(crate) fn of(found: &'a view::StoredConfig) -> Self {
        Config {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.uuid(),
            is_secret: found.is_secret,
            fields: &found.fields,
            content: None,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }

    /// The same with its text.
    pub(crate) fn with(mut self, content: &'a str) -> Self {
        self.content = Some(content);
        self
    }
}

/// A variable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Variable<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Its name.
    #[schema(value_type = Name, inline)]
    name: &'a str,
    /// Free text.
    #[schema(value_type = FreeText, inline)]
    description: &'a str,
    /// The project it belongs to; null: the platform's.
    #[schema(value_type = Option<Id>, inline)]
    project_id: Option<Uuid>,
    /// The value.
    #[schema(value_type = Anything, inline)]
    value: &'a Value,
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

impl<'a> Variable<'a> {
    pub(crate) fn of(found: &'a view::Variable) -> Self {
        Variable {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.map(|project| project.uuid()),
            value: &found.value,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// The id that a creation may choose.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is decoded with the rest")]
struct Chosen {
    /// Its id; one is made if left out.
    #[schema(value_type = Id, inline)]
    uuid: Id,
}

/// A creation whose `uuid` may be chosen.
pub(super) fn chosen(creation: Object) -> Object {
    let required = creation.required.clone();
    let mut whole = schema::both(creation, schema::derived::<Chosen>());
    whole.required = required;
    whole
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 8] {
    let password = || schema::both(schema::derived::<Password>(), schema::derived::<Secrets>());
    let made = ["uuid", "constructor", "created_at", "updated_at"];
    let new_password = schema::creation(password(), "A new password.", &made, &["name"]);
    let variable = schema::derived::<Variable>;
    let made = ["uuid", "project_id", "created_at", "updated_at"];
    let new_variable = schema::creation(variable(), "A new variable.", &made, &["name", "value"]);
    let mut config = schema::derived::<Config>();
    let always = config.required.clone();
    config = schema::both(config, schema::derived::<ConfigFields>());
    config.required = always;
    [
        ("Password", schema::answer::<Password>()),
        ("PasswordCreate", chosen(new_password)),
        (
            "PasswordUpdate",
            schema::change(password(), "Changes of a password.", &PASSWORD_FIXED, &[]),
        ),
        ("PasswordValue", schema::answer::<PasswordValue>()),
        ("Config", config),
        ("Variable", schema::answer::<Variable>()),
        ("VariableCreate", chosen(new_variable)),
        (
            "VariableUpdate",
            schema::change(variable(), "Changes of a variable.", &VARIABLE_FIXED, &[]),
        ),
    ]
}
