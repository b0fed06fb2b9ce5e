//! Events of a log.

use dbaas_core::store::StoredEvent;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::schema;
use super::types::{Count, Id, Time, described};

described! {
    /// The kind of an event.
    Kind: crate::openapi::schemas::text().examples(["failover_started"]);
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event<'a> {
    /// Its position in the log.
    #[schema(value_type = Count, inline)]
    sequence: u64,
    /// When.
    #[schema(value_type = Time, inline)]
    at: Timestamp,
    /// A stable word.
    #[schema(value_type = Kind, inline)]
    kind: &'a str,
    /// For people.
    message: &'a str,
    /// The node that it is about.
    #[schema(value_type = Option<Id>, inline)]
    node: Option<Uuid>,
}

impl<'a> Event<'a> {
    pub(crate) fn of(event: &'a StoredEvent) -> Self {
        Event {
            sequence: event.sequence,
            at: event.event.at,
            kind: &event.event.kind,
            message: &event.event.message,
            node: event.event.node,
        }
    }
}

/// The schema, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 1] {
    [("Event", schema::answer::<Event>())]
}
