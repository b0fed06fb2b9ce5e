//! Databases of an instance.

use dbaas_controller::request::{CreateDatabase, UpdateDatabase};
use dbaas_controller::view;
use dbaas_core::access::{AccessEntry, AccessLevel};
use dbaas_core::extension::{ExtensionName, ExtensionStatus};
use dbaas_core::id::{DatabaseId, InstanceId, ProjectId};
use dbaas_core::limits;
use dbaas_core::name::{DatabaseName, Description};
use dbaas_core::repair;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::conditions::{self, Condition};
use super::fields::{NAME_IS_FIXED, Parent, Present, READ_ONLY, chosen, not_set};
use super::schema;
use super::types::{
    Extension, FreeText, Id, InstanceUri, Level, ObjectPhaseWord, ObjectState, Time, UserUri, described,
};
use crate::decode::{Decoder, Object as Body, boolean, parsed, text};
use crate::openapi::schemas::{UUID_EXAMPLE, array, database_name, user_reference};
use crate::problem::Problem;
use crate::reference::{instance_uri, parse_user, user_uri};

/// Fields that nobody sets; the first may be chosen at creation.
const SET_BY_SERVER: [&str; 10] = [
    "uuid",
    "extension_status",
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
    /// A database's name.
    Name: database_name().examples(["orders"]);
    /// Its owner.
    Owner: user_reference()
        .examples([format!("/v1/types/postgres/instances/{UUID_EXAMPLE}/users/{UUID_EXAMPLE}")]);
    /// So many extensions at most.
    ExtensionList: array(<Extension as utoipa::PartialSchema>::schema()).max_items(Some(limits::EXTENSIONS_MAX));
    /// So many users at most.
    AccessList: array(schema::answer::<Access>()).max_items(Some(limits::ACCESS_ENTRIES_MAX));
}

/// A database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Database<'a> {
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
    name: &'a DatabaseName,
    /// Free text; tabs and line breaks are allowed, other control characters are not.
    #[schema(value_type = FreeText, inline)]
    description: &'a Description,
    /// A user of the same instance.
    #[schema(value_type = Owner, inline)]
    owner: String,
    /// Other users of the same instance who may use it, each once; a change names all of them.
    #[schema(value_type = AccessList, inline)]
    access: Vec<Access>,
    /// Extensions that it is to have, each once; a change names all of them. What is left out is dropped,
    /// unless something depends on it. Those that the server calls trusted, unless the version allows only
    /// some.
    #[schema(value_type = ExtensionList, inline)]
    extensions: Vec<&'a str>,
    /// What was last seen of the extensions that it is to have, and of those that are to go; empty until it
    /// has been looked at.
    #[schema(inline)]
    extension_status: Vec<Seen<'a>>,
    /// Dropping it, or deleting its instance, is refused until this is taken back.
    deletion_protection: bool,
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

/// What a user may do in a database that somebody else owns.
#[derive(Debug, Serialize, ToSchema)]
struct Access {
    /// A user of the same instance, not the owner.
    #[schema(value_type = UserUri, inline)]
    user: String,
    /// read: SELECT on everything, also on what is made later, by whomever. write: INSERT, UPDATE and DELETE,
    /// too. owner: every privilege that can be granted, CREATE among them; what others made can be altered by
    /// its owner only.
    #[schema(value_type = Level, inline)]
    level: &'static str,
}

/// What was last seen of an extension that was asked for, or is to be dropped.
#[derive(Debug, Serialize, ToSchema)]
struct Seen<'a> {
    /// Which one.
    name: &'a str,
    /// The version that the database has; null if it has not got it.
    #[schema(required)]
    installed_version: Option<&'a str>,
    /// The version that the server would make now; null if it has not got it.
    #[schema(required)]
    available_version: Option<&'a str>,
    /// They differ: the action update-extensions brings it to the available one.
    update_available: bool,
    /// Why it is not as asked for; null if it is, or is about to be.
    #[schema(required)]
    problem: Option<&'a str>,
}

impl<'a> Seen<'a> {
    fn of(seen: &'a ExtensionStatus) -> Self {
        let (installed, available) = (seen.installed.as_deref(), seen.available.as_deref());
        Seen {
            name: seen.name.as_str(),
            installed_version: installed,
            available_version: available,
            update_available: installed.is_some() && available.is_some() && installed != available,
            problem: seen.problem.as_deref(),
        }
    }
}

/// The last repair of access that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Repair<'a> {
    /// One is under way.
    pending: bool,
    /// When the last one was seen to be done; null if there was none.
    #[schema(value_type = Option<Time>, inline, required)]
    done_at: Option<Timestamp>,
    /// What the last one put back; empty if everything was as it is to be.
    changed: &'a [String],
}

impl<'a> Repair<'a> {
    pub(super) fn of(repair: &'a repair::Repair) -> Self {
        let last = repair.last.as_ref();
        Repair {
            pending: repair.requested_at.is_some(),
            done_at: last.map(|last| last.at),
            changed: last.map_or(&[], |last| &last.changed),
        }
    }
}

impl<'a> Database<'a> {
    pub(crate) fn of(found: &'a view::Database, project: ProjectId) -> Self {
        Database {
            uuid: found.id.uuid(),
            project_id: project.uuid(),
            instance: instance_uri(found.instance),
            name: &found.name,
            description: &found.description,
            owner: user_uri(found.instance, found.owner),
            access: found
                .access
                .iter()
                .map(|entry| Access {
                    user: user_uri(found.instance, entry.user),
                    level: entry.level.as_str(),
                })
                .collect(),
            extensions: found.extensions.iter().map(ExtensionName::as_str).collect(),
            extension_status: found.extension_status.iter().map(Seen::of).collect(),
            deletion_protection: found.deletion_protection,
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
    let all = schema::derived::<Database>;
    let fixed = ["name", "project_id", "instance"];
    let creation = schema::creation(all(), "A new database.", &SET_BY_SERVER, &["name", "owner"]);
    [
        ("Database", schema::answer::<Database>()),
        ("DatabaseCreate", chosen(creation)),
        (
            "DatabaseUpdate",
            schema::change(all(), "Changes of a database.", &SET_BY_SERVER, &fixed),
        ),
    ]
}

pub(crate) fn create(body: Body<'_>, parent: Parent) -> Result<CreateDatabase, Problem> {
    let mut d = Decoder::new("a database", body);
    let id = d.or_null("uuid", parsed::<DatabaseId>);
    let name = d.required("name", parsed::<DatabaseName>);
    let description = d.optional("description", parsed::<Description>);
    let owner = d.required("owner", text(|uri| parse_user(uri, parent.instance)));
    let access = access(&mut d, parent.instance);
    let extensions = extensions(&mut d);
    let deletion_protection = d.optional("deletion_protection", boolean);
    parent.repeated(&mut d);
    not_set(&mut d, &SET_BY_SERVER[1..]);
    d.finish(|| {
        Some(CreateDatabase {
            id,
            name: name?,
            description: description.unwrap_or_default(),
            owner: owner?,
            access: access.unwrap_or_default(),
            extensions: extensions.unwrap_or_default(),
            deletion_protection: deletion_protection.unwrap_or_default(),
            idempotency_key: None,
        })
    })
}

fn access(d: &mut Decoder<'_>, instance: InstanceId) -> Option<Vec<AccessEntry>> {
    d.optional_list("access", limits::ACCESS_ENTRIES_MAX, "an access entry", |d| {
        let user = d.required("user", text(|uri| parse_user(uri, instance)));
        let level = d.required("level", parsed::<AccessLevel>);
        Some(AccessEntry {
            user: user?,
            level: level?,
        })
    })
}

fn extensions(d: &mut Decoder<'_>) -> Option<Vec<ExtensionName>> {
    d.values("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>)
}

pub(crate) fn update(body: Body<'_>, parent: Parent, present: &Present) -> Result<UpdateDatabase, Problem> {
    let mut d = Decoder::new("a database", body);
    d.unchanged("name", present.get("name"), NAME_IS_FIXED);
    let update = UpdateDatabase {
        description: d.optional("description", parsed::<Description>),
        owner: d.optional("owner", text(|uri| parse_user(uri, parent.instance))),
        access: access(&mut d, parent.instance),
        extensions: extensions(&mut d),
        deletion_protection: d.optional("deletion_protection", boolean),
        expected: None,
    };
    parent.repeated(&mut d);
    for field in SET_BY_SERVER {
        d.unchanged(field, present.get(field), READ_ONLY);
    }
    d.finish(|| Some(update))
}
