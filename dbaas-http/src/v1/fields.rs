//! What requests of all resources have in common.

use dbaas_core::id::{InstanceId, ProjectId};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::schema;
use super::types::Id;
use crate::decode::{Decoder, parsed, text};
use crate::reference::parse_instance;

/// What an answer says of itself; a creation cannot have it.
const SET_BY_SERVER: &str = "is set by the server; leave it out";
/// The same in a change, where repeating the present value is fine.
pub(super) const READ_ONLY: &str = "is read-only and differs from the present value; leave it out";
pub(super) const NAME_IS_FIXED: &str =
    "cannot be changed; to have another name, create another one and move the data";

/// What a field that nobody sets may be in a creation besides null: the value that the original's clients
/// send by default.
const DEFAULTS: [(&str, &str); 6] = [
    ("extension_status", "[]"),
    ("status", "\"NEW\""),
    ("ipsv4", "[]"),
    ("nodes", "[]"),
    ("warnings", "[]"),
    ("deleting", "false"),
];

/// The present resource as its answer shows it, for the fields that a change may repeat.
pub(crate) type Present = Map<String, Value>;

/// The instance that a user or a database is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) instance: InstanceId,
    pub(crate) project: ProjectId,
}

impl Parent {
    /// `project_id` and `instance`, which the path says already.
    pub(super) fn repeated(self, d: &mut Decoder<'_>) {
        d.equal(
            "project_id",
            parsed,
            self.project,
            "is not the project of the instance",
        );
        let rule = "is not the instance in the path";
        d.equal("instance", text(parse_instance), self.instance, rule);
    }
}

/// Fields that a creation cannot set.
pub(super) fn not_set(d: &mut Decoder<'_>, fields: &[&'static str]) {
    for field in fields {
        let default = DEFAULTS.iter().find(|(name, _)| name == field);
        d.refused(field, default.map(|(_, json)| *json), SET_BY_SERVER);
    }
}

/// What a creation may choose and a change may not.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: it is decoded with the rest")]
struct Chosen {
    /// Chosen by the client: the same uuid and the same request again are the same resource. Made by the
    /// server if left out.
    #[schema(value_type = Id, inline)]
    uuid: Id,
}

/// A creation whose `uuid` may be chosen.
pub(super) fn chosen(creation: Object) -> Object {
    let mut chosen = schema::derived::<Chosen>();
    chosen.required = Vec::new();
    schema::both(creation, chosen)
}
