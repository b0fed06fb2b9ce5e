//! Every call, described.

pub(crate) mod elements;
pub(crate) mod service;
pub(crate) mod versions;

use dbaas_core::limits;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, Schema};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{RefOr, Required};

pub(crate) use service::*;
pub(crate) use versions::*;

use super::parameters::{
    filter, id, idempotency_key, if_match, if_none_match, last_event_id, paging, query, waiting,
};
use super::responses::{header, shared};
use super::schemas::{
    database_name, description_text, reference, text, user_name, user_reference, uuid, whole, words,
};
use super::{ARRAY_LIST, BEARER, OBJECT_LIST};
use crate::query::Collection;
use crate::v1;

const STATES: [&str; 4] = ["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"];
const OBJECT_STATES: [&str; 3] = ["NEW", "ACTIVE", "ERROR"];

/// Errors that every call with a token can have.
const ALWAYS: [u16; 5] = [400, 401, 403, 500, 503];

/// A call under description.
struct Call(OperationBuilder);

impl Call {
    fn new(tag: &str, operation_id: &str, summary: &str) -> Self {
        let call = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(operation_id))
            .summary(Some(summary));
        Call(call.security(SecurityRequirement::new::<_, _, String>(BEARER, []))).errors(&ALWAYS)
    }

    /// A call that needs no token.
    fn open(operation_id: &str, summary: &str) -> Self {
        let call = OperationBuilder::new()
            .tag("service")
            .operation_id(Some(operation_id))
            .summary(Some(summary));
        Call(call.securities(Some([]))).errors(&[400, 500])
    }

    fn about(self, description: &str) -> Self {
        Call(self.0.description(Some(description)))
    }

    fn with(self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        Call(parameters.into_iter().fold(self.0, OperationBuilder::parameter))
    }

    fn errors(self, statuses: &[u16]) -> Self {
        Call(statuses.iter().fold(self.0, |call, status| {
            call.response(status.to_string(), shared(*status))
        }))
    }

    /// A resource in the path, which may not exist.
    fn of(self, names: &[&'static str]) -> Self {
        self.with(names.iter().map(|name| id(name))).errors(&[404])
    }

    fn body(self, schema: &str, required: Required) -> Self {
        let content = || ContentBuilder::new().schema(Some(reference(schema))).build();
        let body = RequestBodyBuilder::new()
            .content("application/json", content())
            .required(Some(required))
            .build();
        Call(self.0.request_body(Some(body))).errors(&[408, 413, 415, 422])
    }

    /// A JSON answer.
    fn answers(self, status: u16, schema: &str, description: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(reference(schema))).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .build();
        Call(self.0.response(status.to_string(), response))
    }

    /// A JSON answer that is a resource, with its version.
    fn answers_resource(
        self,
        status: u16,
        schema: &str,
        description: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let content = ContentBuilder::new().schema(Some(reference(schema))).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .header("ETag", header("Its version.", text()));
        let response = headers.iter().fold(response, |response, (name, about)| {
            response.header(*name, header(about, text()))
        });
        Call(self.0.response(status.to_string(), response.build()))
    }

    fn answers_empty(self, status: u16, description: &str) -> Self {
        Call(self.0.response(
            status.to_string(),
            ResponseBuilder::new().description(description).build(),
        ))
    }

    fn done(self) -> Operation {
        self.0.build()
    }
}

/// A collection.
fn list(
    tag: &str,
    operation_id: &str,
    summary: &str,
    schema: &str,
    collection: Collection,
    filters: Vec<Parameter>,
) -> Call {
    let call = Call::new(tag, operation_id, summary)
        .with(paging(collection))
        .with(filters);
    Call(call.0.response("200", page(schema, "A page.").build()))
}

/// A page in both styles, see [`ListStyle`](crate::ListStyle).
fn page(schema: &str, description: &str) -> ResponseBuilder {
    entire(schema, description)
        .header("X-Pagination-Limit", header("Most items of a page.", text()))
        .header(
            "X-Pagination-Marker",
            header("The page_marker of the next page; not there at the end.", text()),
        )
}

/// A list without pages in both styles.
fn entire(schema: &str, description: &str) -> ResponseBuilder {
    let item = schema.strip_suffix('s').unwrap_or(schema);
    let content = |schema: RefOr<Schema>| ContentBuilder::new().schema(Some(schema)).build();
    let items = ArrayBuilder::new().items(reference(item)).build();
    ResponseBuilder::new()
        .description(description)
        .content(OBJECT_LIST, content(reference(schema)))
        .content(ARRAY_LIST, content(items.into()))
}

/// The calls that a creation's answer leads to: by operation, with the name of the new resource's id in their
/// path.
type Links = (&'static str, &'static [&'static str]);

const INSTANCE_LINKS: Links = (
    "instance",
    &[
        "readInstance",
        "replaceInstance",
        "patchInstance",
        "deleteInstance",
        "listNodes",
        "listEvents",
        "readConnection",
        "listDatabases",
        "createDatabase",
        "listUsers",
        "createUser",
        "switchover",
        "failover",
        "restart",
        "stop",
        "start",
    ],
);
const DATABASE_LINKS: Links = (
    "database",
    &[
        "readDatabase",
        "replaceDatabase",
        "patchDatabase",
        "deleteDatabase",
    ],
);
const USER_LINKS: Links = ("user", &["readUser", "replaceUser", "patchUser", "deleteUser"]);
fn create(tag: &str, operation_id: &str, summary: &str, schema: &str, body: &str, links: Links) -> Call {
    let call = Call::new(tag, operation_id, summary)
        .with([idempotency_key()])
        .body(body, Required::True)
        .errors(&[409]);
    let content = ContentBuilder::new().schema(Some(reference(schema))).build();
    let response = ResponseBuilder::new()
        .description("Accepted; the resource is NEW.")
        .content("application/json", content)
        .header("ETag", header("Its version.", text()))
        .header("Location", header("Where it is.", text()));
    let (name, operations) = links;
    let response = operations.iter().fold(response, |response, operation| {
        let link = LinkBuilder::new()
            .operation_id(*operation)
            .parameter(name, "$response.body#/uuid");
        let link = match name {
            "database" | "user" => link.parameter("instance", "$request.path.instance"),
            _ => link,
        };
        response.link(*operation, link.build())
    });
    Call(call.0.response("201", response.build()))
}

/// One resource; `states` are those that can be waited for.
fn read(tag: &str, operation_id: &str, summary: &str, schema: &str, states: &'static [&'static str]) -> Call {
    let call = Call::new(tag, operation_id, summary).with([if_none_match()]);
    let headers: &[_] = match states {
        [] => &[],
        _ => &[("Dbaas-Wait", "How a wait ended: reached, timeout or stopping.")],
    };
    let call = match states {
        [] => call,
        states => call.with(waiting(words(states.iter().copied()))).errors(&[429]),
    };
    call.answers_resource(200, schema, "The resource.", headers)
        .answers_empty(304, "The client's copy is the present one.")
}

/// PUT and PATCH are the same call.
fn update(tag: &str, operation_id: &str, summary: &str, schema: &str, body: &str) -> Call {
    Call::new(tag, operation_id, summary)
        .about("Fields that are left out stay. Read-only fields may be repeated with their present value.")
        .with([if_match()])
        .body(body, Required::True)
        .answers_resource(200, schema, "The resource, with what is wanted now.", &[])
        .errors(&[409, 412])
}

fn delete(tag: &str, operation_id: &str, summary: &str) -> Call {
    Call::new(tag, operation_id, summary)
        .about("Also where it is gone already. It is still answered, as being deleted, until it is gone.")
        .with([if_match()])
        .answers_empty(204, "Accepted, or gone already.")
        .errors(&[409, 412])
}

fn action(operation_id: &str, summary: &str, body: &str) -> Operation {
    Call::new("operations", operation_id, summary)
        .of(&["instance"])
        .with([if_match(), idempotency_key()])
        .body(body, Required::False)
        .answers_resource(
            202,
            "Instance",
            "Accepted; status and events say how it goes.",
            &[],
        )
        .errors(&[409, 412])
        .done()
}

pub(crate) fn list_instances() -> Operation {
    list(
        "instances",
        "listInstances",
        "List instances",
        "Instances",
        Collection::Instances,
        v1::instances::Filters::described(),
    )
    .done()
}

pub(crate) fn create_instance() -> Operation {
    create(
        "instances",
        "createInstance",
        "Create an instance",
        "Instance",
        "InstanceCreate",
        INSTANCE_LINKS,
    )
    .done()
}

pub(crate) fn read_instance() -> Operation {
    read(
        "instances",
        "readInstance",
        "Read an instance",
        "Instance",
        &STATES,
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn replace_instance() -> Operation {
    update(
        "instances",
        "replaceInstance",
        "Change an instance",
        "Instance",
        "InstanceUpdate",
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn patch_instance() -> Operation {
    update(
        "instances",
        "patchInstance",
        "Change an instance",
        "Instance",
        "InstanceUpdate",
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn delete_instance() -> Operation {
    delete(
        "instances",
        "deleteInstance",
        "Delete an instance with its databases, users and data",
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn switchover() -> Operation {
    action("switchover", "Change the primary in a planned way", "Switchover")
}

pub(crate) fn failover() -> Operation {
    action(
        "failover",
        "Change the primary although the old one cannot be reached",
        "Failover",
    )
}

pub(crate) fn restart() -> Operation {
    action("restart", "Restart every node, one at a time", "Nothing")
}

pub(crate) fn start() -> Operation {
    action("start", "Switch the nodes on", "Nothing")
}

pub(crate) fn stop() -> Operation {
    action("stop", "Switch the nodes off; data is kept", "Nothing")
}

fn repair(
    operation_id: &str,
    summary: &str,
    tag: &str,
    resource: &str,
    of: &'static [&'static str],
) -> Operation {
    Call::new(tag, operation_id, summary)
        .about("Once; the field repair says what was put back. Asking again while one is under way changes nothing.")
        .of(of)
        .with([if_match()])
        .body("Nothing", Required::False)
        .answers_resource(202, resource, "Accepted; the field repair says how it goes.", &[])
        .errors(&[409, 412])
        .done()
}

pub(crate) fn repair_database_access() -> Operation {
    repair(
        "repairDatabaseAccess",
        "Put back what keeps the owner of a database out: connections, limit, privileges, settings",
        "databases",
        "Database",
        &["instance", "database"],
    )
}

pub(crate) fn update_extensions() -> Operation {
    Call::new(
        "databases",
        "updateExtensions",
        "Bring a database's extensions to the versions that its server offers",
    )
    .about("Once; the field extension_status says which versions there are. Asking again while one is under way changes nothing.")
    .of(&["instance", "database"])
    .with([if_match()])
    .body("Nothing", Required::False)
    .answers_resource(202, "Database", "Accepted; the field extension_status says how it goes.", &[])
    .errors(&[409, 412])
    .done()
}

pub(crate) fn repair_user_access() -> Operation {
    repair(
        "repairUserAccess",
        "Put back what keeps a user from logging in: LOGIN, limit, expiry, settings",
        "users",
        "User",
        &["instance", "user"],
    )
}

pub(crate) fn list_nodes() -> Operation {
    let call = Call::new(
        "operations",
        "listNodes",
        "List the nodes of an instance, with live figures",
    )
    .of(&["instance"]);
    Call(call.0.response("200", entire("Nodes", "The nodes.").build())).done()
}

pub(crate) fn read_node_log() -> Operation {
    let lines = *limits::LOG_LINES.start() as u64..=*limits::LOG_LINES.end() as u64;
    let call = Call::new(
        "operations",
        "readNodeLog",
        "Read the last lines of what a node's PostgreSQL wrote",
    )
    .about(
        "At most 512 kB. Passwords in statements and connection strings, and password hashes, are left out. 404 while the node is not made yet.",
    )
    .of(&["instance", "node"])
    .with([query(
        "tail",
        "Most lines.",
        whole(lines).default(Some(limits::LOG_LINES_DEFAULT.into())),
    )])
    .errors(&[409]);
    Call(
        call.0
            .response("200", entire("LogLines", "The lines, the oldest first.").build()),
    )
    .done()
}

pub(crate) fn list_events() -> Operation {
    let response = page("Events", "The newest last.")
        .content(
            "text/event-stream",
            ContentBuilder::new().schema(Some(text())).build(),
        )
        .build();
    let call = Call::new("operations", "listEvents", "Read the log of what happened to an instance, and why")
        .about(
            "With `Accept: text/event-stream` as Server-Sent Events: each event's data is an Event, its id the sequence; \
             `Last-Event-ID` goes on after one.",
        )
        .of(&["instance"])
        .with(paging(Collection::Events))
        .with([query("after", "Only events after this sequence number.", whole(0..=999_999_999_999_999_999))])
        .with([last_event_id()])
        .errors(&[429]);
    Call(call.0.response("200", response)).done()
}

pub(crate) fn connection() -> Operation {
    Call::new(
        "operations",
        "readConnection",
        "Read how to connect to an instance",
    )
    .of(&["instance"])
    .with([
        query("user", "Fill in this user.", user_name()),
        query("database", "Fill in this database.", database_name()),
    ])
    .answers(200, "Connection", "Connection strings, without a password.")
    .done()
}

pub(crate) fn list_databases() -> Operation {
    let filters = vec![
        filter("uuid", uuid()),
        filter("name", database_name()),
        filter("description", description_text()),
        filter("owner", user_reference()),
        filter("status", words(OBJECT_STATES)),
    ];
    list(
        "databases",
        "listDatabases",
        "List databases",
        "Databases",
        Collection::Databases,
        filters,
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn create_database() -> Operation {
    create(
        "databases",
        "createDatabase",
        "Create a database",
        "Database",
        "DatabaseCreate",
        DATABASE_LINKS,
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn read_database() -> Operation {
    read(
        "databases",
        "readDatabase",
        "Read a database",
        "Database",
        &OBJECT_STATES,
    )
    .of(&["instance", "database"])
    .done()
}

pub(crate) fn replace_database() -> Operation {
    update(
        "databases",
        "replaceDatabase",
        "Change a database's owner, access list or description",
        "Database",
        "DatabaseUpdate",
    )
    .of(&["instance", "database"])
    .done()
}

pub(crate) fn patch_database() -> Operation {
    update(
        "databases",
        "patchDatabase",
        "Change a database's owner, access list or description",
        "Database",
        "DatabaseUpdate",
    )
    .of(&["instance", "database"])
    .done()
}

pub(crate) fn delete_database() -> Operation {
    delete(
        "databases",
        "deleteDatabase",
        "Drop a database, also if clients are connected",
    )
    .of(&["instance", "database"])
    .done()
}

fn adopt(operation_id: &str, summary: &str, tag: &str, resource: &str, of: &[&'static str]) -> Operation {
    Call::new(tag, operation_id, summary)
        .about(
            "What has the right name and was not made by the control plane (restored from a dump by an administrator, say) is left alone, and the resource is in \
             ERROR, until this is called. Where nothing waits to be taken over, nothing is done. Events say what came of it.",
        )
        .of(of)
        .with([if_match()])
        .body("Nothing", Required::False)
        .answers_resource(202, resource, "Accepted; status and events say how it goes.", &[])
        .errors(&[409, 412])
        .done()
}

pub(crate) fn adopt_database() -> Operation {
    adopt(
        "adoptDatabase",
        "Take over the database of this name that the control plane did not make",
        "databases",
        "Database",
        &["instance", "database"],
    )
}

pub(crate) fn adopt_user() -> Operation {
    adopt(
        "adoptUser",
        "Take over the role of this name that the control plane did not make",
        "users",
        "User",
        &["instance", "user"],
    )
}

pub(crate) fn list_users() -> Operation {
    let filters = vec![
        filter("uuid", uuid()),
        filter("name", user_name()),
        filter("description", description_text()),
        filter("status", words(OBJECT_STATES)),
    ];
    list(
        "users",
        "listUsers",
        "List users",
        "Users",
        Collection::Users,
        filters,
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn create_user() -> Operation {
    create(
        "users",
        "createUser",
        "Create a user",
        "User",
        "UserCreate",
        USER_LINKS,
    )
    .of(&["instance"])
    .done()
}

pub(crate) fn read_user() -> Operation {
    read("users", "readUser", "Read a user", "User", &OBJECT_STATES)
        .of(&["instance", "user"])
        .done()
}

pub(crate) fn replace_user() -> Operation {
    update(
        "users",
        "replaceUser",
        "Change a user's password or description",
        "User",
        "UserUpdate",
    )
    .of(&["instance", "user"])
    .done()
}

pub(crate) fn patch_user() -> Operation {
    update(
        "users",
        "patchUser",
        "Change a user's password or description",
        "User",
        "UserUpdate",
    )
    .of(&["instance", "user"])
    .done()
}

pub(crate) fn delete_user() -> Operation {
    delete("users", "deleteUser", "Drop a user that owns no database")
        .of(&["instance", "user"])
        .done()
}
