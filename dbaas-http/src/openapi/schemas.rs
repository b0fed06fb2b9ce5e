//! The JSON that no resource is: pages, problems, actions. What resources are is derived from their types in
//! `v1/`. Bounds come from [`dbaas_core::limits`], as those of the checks do; patterns say what the checks do
//! as far as a regular expression can.

mod elements;
mod parts;

use dbaas_core::limits;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::problem::{ERRORS_MAX, ProblemKind};
use crate::v1;

use parts::{COUNT_MAX, object, or_null, property};
pub(crate) use parts::{
    UUID_EXAMPLE, array, boolean, closed, count, database_name, description_text, free, image, instance_name,
    instance_reference, password, reference, text, timestamp, user_name, user_reference, uuid,
    version_reference, whole, words,
};

pub(crate) fn extension_name() -> ObjectBuilder {
    text()
        .min_length(Some(*limits::IDENTIFIER_BYTES.start()))
        .max_length(Some(*limits::IDENTIFIER_BYTES.end()))
        .pattern(Some("^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$"))
}

fn problem() -> ObjectBuilder {
    let wrong = closed()
        .description(Some("Something that is wrong, and the rule."))
        .property(
            "pointer",
            text().description(Some("JSON pointer into the body; empty for the whole of it.")),
        )
        .property(
            "parameter",
            text().description(Some("Name of a query parameter.")),
        )
        .property("header", text().description(Some("Name of a header.")))
        .property("detail", text().description(Some("The rule.")))
        .required("detail");
    let kinds = ProblemKind::ALL.iter().map(|kind| kind.type_uri());
    closed()
        .description(Some("An error (RFC 9457)."))
        .property(
            "type",
            text()
                .enum_values(Some(kinds))
                .description(Some("The kind: a path on this server that explains it.")),
        )
        .property("title", text().description(Some("The kind, for people.")))
        .property("status", whole(400..=599).description(Some("The HTTP status.")))
        .property("detail", text().description(Some("What happened, for people.")))
        .property(
            "code",
            whole(400..=599).description(Some("The status once more.")),
        )
        .property("message", text().description(Some("The detail once more.")))
        .property(
            "errors",
            array(wrong)
                .max_items(Some(ERRORS_MAX))
                .description(Some("Everything that is wrong, up to some bound.")),
        )
        .property(
            "id",
            uuid().description(Some("Under which the server's log has an internal error.")),
        )
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
        .required("code")
        .required("message")
}

/// A page of a collection.
fn page(name: &str, item: &str) -> ObjectBuilder {
    closed()
        .description(Some(format!("A page of {name}.")))
        .property(
            name,
            array(reference(item)).max_items(Some(*limits::PAGE_ITEMS.end())),
        )
        .property(
            "next",
            or_null(text(), Type::String).description(Some("The cursor of the next page; null at the end.")),
        )
        .required(name)
        .required("next")
}

/// All schemas by name.
pub(crate) fn all() -> Vec<(&'static str, Schema)> {
    let nodes = closed()
        .description(Some("The nodes, in order of creation."))
        .property("nodes", array(reference("Node")))
        .required("nodes");
    let log_lines = closed()
        .description(Some("What a node's PostgreSQL wrote."))
        .property("lines", array(reference("LogLine")))
        .required("lines");
    let switchover = object(
        "To which node.",
        vec![property(
            "to",
            "The standby to become primary; the best one if left out.",
            uuid(),
        )],
        &[],
    );
    let failover = object(
        "How far to go.",
        vec![
            property(
                "allow_data_loss",
                "Go on also where acknowledged commits may be lost.",
                boolean(),
            )
            .default(false),
        ],
        &[],
    );
    let status = |word: &'static str| {
        closed()
            .property("status", words([word]))
            .required("status")
            .description(Some("The server's state."))
    };
    let ready = status("ready")
        .property("backend", text().description(Some("Where nodes run.")))
        .required("backend");
    let schemas = [
        ("Instances", page("instances", "Instance")),
        ("Databases", page("databases", "Database")),
        ("Users", page("users", "User")),
        ("Versions", page("versions", "Version")),
        ("Nodes", nodes),
        (
            "LogLine",
            text().description(Some("A line that a node's PostgreSQL wrote.")),
        ),
        ("LogLines", log_lines),
        ("Events", page("events", "Event")),
        ("Switchover", switchover),
        ("Failover", failover),
        ("Nothing", closed().description(Some("No fields."))),
        ("Alive", status("alive")),
        ("Ready", ready),
        ("Problem", problem()),
    ];
    schemas
        .into_iter()
        .chain(elements::all())
        .map(|(name, schema)| (name, schema.build()))
        .chain(v1::schemas())
        .map(|(name, schema)| (name, Schema::Object(schema)))
        .collect()
}
