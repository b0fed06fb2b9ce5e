//! Users of an instance.

use dbaas_controller::request::{CreateUser, UpdateUser};
use dbaas_controller::view;
use dbaas_core::id::{ProjectId, UserId};
use dbaas_core::name::{Description, UserName};
use dbaas_core::password::Password;
use dbaas_core::size::PasswordVersion;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::conditions::{self, Condition};
use super::databases::Repair;
use super::fields::{NAME_IS_FIXED, Parent, Present, READ_ONLY, chosen, not_set};
use super::schema;
use super::types::{
    FreeText, Id, InstanceUri, ObjectPhaseWord, ObjectState, PasswordNumber, Time, described,
};
use crate::decode::{Decoder, Object as Body, parsed, whole};
use crate::openapi::schemas::{password, user_name};
use crate::problem::Problem;
use crate::reference::instance_uri;

/// Fields that nobody sets; the first may be chosen at creation.
const SET_BY_SERVER: [&str; 9] = [
    "uuid",
    "status",
    "phase",
    "reason",
    "conditions",
    "repair",
    "deleting",
    "created_at",
    "updated_at",
];

described! {
    /// A user's name.
    Name: user_name().examples(["app"]);
    /// A new password.
    NewPassword: password().examples(["correct horse battery"]);
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User<'a> {
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// The instance's project.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// The instance that it is in.
    #[schema(value_type = InstanceUri, inline)]
    instance: String,
    /// Unique within the instance; never changes.
    #[schema(value_type = Name, inline)]
    name: &'a UserName,
    /// Free text; tabs and line breaks are allowed, other control characters are not.
    #[schema(value_type = FreeText, inline)]
    description: &'a Description,
    /// Grows with each new password, unless the request that sets it says what it is. A client that keeps no
    /// passwords compares it with what it knows.
    #[schema(value_type = PasswordNumber, inline)]
    password_version: PasswordVersion,
    /// Its state.
    #[schema(value_type = ObjectState, inline)]
    status: &'static str,
    /// What is happening to it.
    #[schema(value_type = ObjectPhaseWord, inline)]
    phase: &'static str,
    /// Why it is in that state, and what happens next.
    reason: &'a str,
    /// The same for programs, and what else is so.
    #[schema(inline)]
    conditions: Vec<Condition>,
    /// The last repair of access that was asked for.
    #[schema(inline)]
    repair: Repair<'a>,
    /// It is being dropped.
    deleting: bool,
    /// When it was asked for.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When what is asked for was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

/// What requests have and answers never.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is decoded with the rest")]
struct Secrets {
    /// Characters beyond ASCII are prepared with SASLprep (RFC 4013); those on which PostgreSQL clients do
    /// not agree are refused. Stored as a SCRAM-SHA-256 verifier only.
    #[schema(value_type = NewPassword, inline)]
    password: NewPassword,
}

impl<'a> User<'a> {
    pub(crate) fn of(found: &'a view::User, project: ProjectId) -> Self {
        User {
            uuid: found.id.uuid(),
            project_id: project.uuid(),
            instance: instance_uri(found.instance),
            name: &found.name,
            description: &found.description,
            password_version: found.password_version,
            status: found.lifecycle.as_str(),
            phase: found.phase.as_str(),
            reason: &found.reason,
            conditions: conditions::of(&found.conditions),
            repair: Repair::of(&found.repair),
            deleting: found.deleting,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 3] {
    let asked = || schema::both(schema::derived::<User>(), schema::derived::<Secrets>());
    let fixed = ["name", "project_id", "instance"];
    let creation = schema::creation(asked(), "A new user.", &SET_BY_SERVER, &["name", "password"]);
    [
        ("User", schema::answer::<User>()),
        ("UserCreate", chosen(creation)),
        (
            "UserUpdate",
            schema::change(asked(), "Changes of a user.", &SET_BY_SERVER, &fixed),
        ),
    ]
}

pub(crate) fn create(body: Body<'_>, parent: Parent) -> Result<CreateUser, Problem> {
    let mut d = Decoder::new("a user", body);
    let id = d.or_null("uuid", parsed::<UserId>);
    let name = d.required("name", parsed::<UserName>);
    let description = d.optional("description", parsed::<Description>);
    let password = d.required("password", parsed::<Password>);
    let password_version = d.optional("password_version", whole::<PasswordVersion>);
    parent.repeated(&mut d);
    not_set(&mut d, &SET_BY_SERVER[1..]);
    d.finish(|| {
        Some(CreateUser {
            id,
            name: name?,
            description: description.unwrap_or_default(),
            password: password?,
            password_version: password_version.unwrap_or_default(),
            idempotency_key: None,
        })
    })
}

pub(crate) fn update(body: Body<'_>, parent: Parent, present: &Present) -> Result<UpdateUser, Problem> {
    let mut d = Decoder::new("a user", body);
    d.unchanged("name", present.get("name"), NAME_IS_FIXED);
    let update = UpdateUser {
        description: d.optional("description", parsed::<Description>),
        password: d.optional("password", parsed::<Password>),
        password_version: d.optional("password_version", whole::<PasswordVersion>),
        expected: None,
    };
    parent.repeated(&mut d);
    for field in SET_BY_SERVER {
        d.unchanged(field, present.get(field), READ_ONLY);
    }
    d.finish(|| Some(update))
}
