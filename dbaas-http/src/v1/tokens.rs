//! Tokens: who may call, and what.

use dbaas_controller::view;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::schema;
use super::types::{FreeText, Id, Time, described};
use super::values::{Name, chosen};
use crate::openapi::schemas::{array, text};
use crate::scopes::{PATTERN, SCOPES_MAX};

/// Fields that nobody sets once the token is there.
pub(crate) const FIXED: [&str; 4] = ["uuid", "project_id", "created_at", "updated_at"];

described! {
    /// What a token allows.
    ScopeList: array(text().pattern(Some(PATTERN)).examples(["*.read"]))
        .min_items(Some(1))
        .max_items(Some(SCOPES_MAX));
}

/// A token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// For people.
    #[schema(value_type = Name, inline)]
    name: &'a str,
    /// Free text.
    #[schema(value_type = FreeText, inline)]
    description: &'a str,
    /// The project that it is for; null: all of them, as the administrator.
    #[schema(value_type = Option<Id>, inline)]
    project_id: Option<Uuid>,
    /// What it allows: * everything, or words such as instance.create, user.*, *.read. Values of secrets are
    /// read with secret_value.read or * only.
    #[schema(value_type = ScopeList, inline)]
    scopes: &'a [String],
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

impl<'a> Token<'a> {
    pub(crate) fn of(found: &'a view::Token) -> Self {
        Token {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.map(|project| project.uuid()),
            scopes: &found.scopes,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A token that was just made.
// Has no `Debug`: its text is a secret.
#[derive(Serialize)]
pub(crate) struct NewToken<'a> {
    #[serde(flatten)]
    pub(crate) token: Token<'a>,
    #[serde(rename = "token")]
    pub(crate) text: Option<&'a str>,
}

/// What an answer has this once.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is answered with the rest")]
struct Text {
    /// Its text, answered this once; null when the call was repeated.
    #[schema(required)]
    token: Option<String>,
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 4] {
    let all = schema::derived::<Token>;
    let mut new = schema::both(schema::answer::<Token>(), schema::derived::<Text>());
    new.description = Some("A token that was just made.".to_owned());
    let made = ["uuid", "created_at", "updated_at"];
    [
        ("Token", schema::answer::<Token>()),
        ("NewToken", new),
        (
            "TokenCreate",
            chosen(schema::creation(all(), "A new token.", &made, &["name"])),
        ),
        (
            "TokenUpdate",
            schema::change(all(), "Changes of a token.", &FIXED, &[]),
        ),
    ]
}
