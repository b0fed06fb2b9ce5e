//! What goes over the wire in version 1 of the interface, one file for each resource: the struct that is
//! answered, the schemas that are derived from it (of the answer, of a creation and of a change), and what
//! the bodies of requests are read as. Everything that a field alone can get wrong is found here, and all of
//! it at once.

pub(crate) mod actions;
mod conditions;
pub(crate) mod databases;
pub(crate) mod elements;
pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod instances;
pub(crate) mod nodes;
mod schema;
pub(crate) mod tokens;
pub(crate) mod types;
pub(crate) mod users;
pub(crate) mod values;
pub(crate) mod versions;

use dbaas_core::id::{InstanceId, ProjectId};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::Object;

use crate::access::Caller;
use crate::decode::Object as Body;
use crate::problem::Problem;
use actions::ActionName;
use fields::{Parent, Present};

/// The schemas of all resources, by name.
pub(crate) fn schemas() -> impl Iterator<Item = (&'static str, Object)> {
    instances::schemas()
        .into_iter()
        .chain(nodes::schemas())
        .chain(databases::schemas())
        .chain(users::schemas())
        .chain(versions::schemas())
        .chain(events::schemas())
        .chain(elements::schemas())
        .chain(values::schemas())
        .chain(tokens::schemas())
}

/// An answer as the fields that it has, for comparing with what a request repeats.
pub(crate) fn fields_of(answer: &impl Serialize) -> Result<Present, Problem> {
    match serde_json::to_value(answer) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::internal("an answer is not a JSON object")),
    }
}

/// Decodes a body as one of the requests, for fuzzing: what nobody else needs is the result.
pub fn decode_for_fuzzing(which: u8, body: &[u8]) -> Result<(), Problem> {
    let object = Body::parse(body)?;
    let instance = InstanceId::from_uuid(uuid::Uuid::nil());
    let project = ProjectId::DEFAULT;
    let parent = Parent { instance, project };
    let present = Present::from_iter([("uuid".to_owned(), Value::String(uuid::Uuid::nil().to_string()))]);
    match which % 10 {
        0 => instances::create(object, Caller::Admin).map(drop),
        1 => instances::update(object, &present).map(drop),
        2 => databases::create(object, parent).map(drop),
        3 => databases::update(object, parent, &present).map(drop),
        4 => users::create(object, parent).map(drop),
        5 => users::update(object, parent, &present).map(drop),
        6 => versions::create(object).map(drop),
        7 => versions::update(object, &present).map(drop),
        8 => actions::action(ActionName::Switchover, object).map(drop),
        _ => actions::action(ActionName::Failover, object).map(drop),
    }
}
