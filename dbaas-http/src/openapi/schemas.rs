//! The JSON of requests and answers. Bounds come from [`dbaas_core::limits`], as those of the checks do; patterns say what the checks do as
//! far as a regular expression can.

mod elements;
mod parts;

use dbaas_core::access::AccessLevel;
use dbaas_core::lifecycle::ObjectPhase;
use dbaas_core::limits;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use crate::handlers::instances::PHASES;
use crate::problem::{ERRORS_MAX, ProblemKind};
use crate::request::{DATABASE_READ_ONLY, INSTANCE_READ_ONLY, OBJECT_READ_ONLY, VERSION_READ_ONLY};

use parts::{
    COUNT_MAX, UUID_EXAMPLE, answer, array, change, closed, count, description, instance_reference,
    list_property, object, or_null, password, property, timestamp,
};
pub(crate) use parts::{
    Property, boolean, database_name, description_text, image, instance_name, reference, text, user_name,
    user_reference, uuid, version_reference, whole, words,
};

fn name_of(description: &str, schema: ObjectBuilder, example: &str) -> Property {
    property("name", description, schema).example(example)
}

fn instance_settable() -> Vec<Property> {
    vec![
        name_of("Unique within the project.", instance_name(), "orders"),
        description(),
        property("project_id", "The project; the token's, or the default one, if left out. Never changes.", uuid()),
        property("cpu", "Cores of each node.", whole(limits::CPU_CORES)).example(2),
        property("ram", "Memory of each node in MB.", whole(limits::RAM_MB)).example(2048),
        property("disk_size", "Data disk of each node in GB; never shrinks.", whole(limits::DISK_GB)).example(10),
        property("nodes_number", "Nodes, the primary included.", whole(limits::NODES))
            .default(limits::NODES_DEFAULT)
            .example(3),
        property(
            "sync_replica_number",
            "How many standbys have a commit before it is acknowledged. What runs is at most nodes_number - 1, see effective_sync_replicas.",
            whole(limits::SYNC_REPLICAS),
        )
        .default(limits::SYNC_REPLICAS_DEFAULT)
        .example(1),
        property("version", "A version of the catalogue, not deprecated; the same major version in a change.", version_reference())
            .example(format!("/v1/types/postgres/versions/{UUID_EXAMPLE}")),
        property(
            "parameters",
            "Settings of PostgreSQL by name, over what the control plane derives. In a change, those that are not named stay, and null takes one \
             back. A version's parameters call has all that there are.",
            parameters(),
        ),
    ]
}

/// Any setting: what it takes is in the catalogue of its version.
fn parameters() -> ObjectBuilder {
    let value = ObjectBuilder::new().schema_type(SchemaType::from_iter([
        Type::String,
        Type::Number,
        Type::Boolean,
        Type::Null,
    ]));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::Object(
            value.build(),
        )))))
}

fn parameter() -> ObjectBuilder {
    let number = || ObjectBuilder::new().schema_type(Type::Number);
    object(
        "A setting of PostgreSQL.",
        vec![
            property("name", "As PostgreSQL spells it.", text()).example("work_mem"),
            property(
                "type",
                "Which values it takes.",
                words(["bool", "integer", "real", "enum", "string"]),
            ),
            property("unit", "What a number without a unit counts.", text()).example("kB"),
            property("min", "The smallest value, in units.", number()),
            property("max", "The greatest value, in units.", number()),
            list_property("values", "The values of an enum.", array(text())),
            property(
                "default",
                "PostgreSQL's default, in units; the control plane derives some.",
                text(),
            ),
            property(
                "context",
                "When it takes effect, in PostgreSQL's words.",
                words(["postmaster", "sighup", "superuser", "backend", "user"]),
            ),
            property(
                "needs_restart",
                "Nodes are restarted for it, one at a time.",
                boolean(),
            ),
            property("description", "PostgreSQL's own.", text()),
            property(
                "refused_because",
                "It belongs to the control plane, for this reason.",
                text(),
            ),
        ],
        &[
            "name",
            "type",
            "default",
            "context",
            "needs_restart",
            "description",
        ],
    )
}

fn instance_found() -> Vec<Property> {
    let node = answer(
        "A node; its nodes call has more.",
        vec![
            property("uuid", "Which one.", uuid()),
            property("name", "Its short name within the instance.", text()).example("n1"),
            property("role", "As last decided.", words(["primary", "standby"])),
            property(
                "status",
                "Its state.",
                words(["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"]),
            ),
        ],
    );
    vec![
        property("uuid", "Which one.", uuid()),
        property(
            "status",
            "Its state.",
            words(["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"]),
        ),
        property(
            "phase",
            "What it is busy with.",
            words(PHASES.map(|(word, _)| word)),
        ),
        property(
            "reason",
            "Why it is in that state, and what happens next.",
            text(),
        ),
        list_property(
            "warnings",
            "What to know although all is as asked for: limits that nobody enforces, drift.",
            array(text()),
        ),
        property(
            "effective_sync_replicas",
            "How many standbys really have a commit before it is acknowledged. Writes survive the loss of any one node with at least two nodes more than this.",
            whole(0..=15),
        ),
        list_property(
            "ipsv4",
            "IPv4 addresses of its nodes.",
            array(text().format(Some(SchemaFormat::Custom("ipv4".to_owned())))),
        ),
        list_property("nodes", "Its nodes, in order of creation.", array(node)),
        list_property(
            "parameters_pending_restart",
            "Settings that wait for the restart of a node; nodes are restarted one at a time.",
            array(text()),
        ),
        property(
            "generation",
            "Grows with each change of what is asked for.",
            count(),
        ),
        property(
            "observed_generation",
            "The generation that the status is about.",
            count(),
        ),
        property("created_at", "When it was asked for.", timestamp()),
        property(
            "updated_at",
            "When what is asked for was last changed.",
            timestamp(),
        ),
    ]
}

fn object_found() -> Vec<Property> {
    vec![
        property("uuid", "Which one.", uuid()),
        property("status", "Its state.", words(["NEW", "ACTIVE", "ERROR"])),
        property(
            "phase",
            "What is happening to it.",
            words(ObjectPhase::ALL.map(ObjectPhase::as_str)),
        ),
        property(
            "reason",
            "Why it is in that state, and what happens next.",
            text(),
        ),
        property(
            "repair",
            "The last repair of access that was asked for.",
            repair(),
        ),
        property("deleting", "It is being dropped.", boolean()),
        property("created_at", "When it was asked for.", timestamp()),
        property(
            "updated_at",
            "When what is asked for was last changed.",
            timestamp(),
        ),
    ]
}

fn database_found() -> Vec<Property> {
    let of_extensions = list_property(
        "extension_status",
        "What was last seen of the extensions that it is to have, and of those that are to go; empty until it has been looked at.",
        array(extension_status()),
    );
    both(vec![of_extensions], object_found())
}

/// What a creation may choose and a change may not.
fn chosen() -> Vec<Property> {
    vec![property(
        "uuid",
        "Chosen by the client: the same uuid and the same request again are the same resource. Made by the server if left out.",
        uuid(),
    )]
}

/// What the path says of a user or a database already.
fn object_place() -> Vec<Property> {
    vec![
        property("project_id", "The instance's project.", uuid()),
        property("instance", "The instance that it is in.", instance_reference())
            .example(format!("/v1/types/postgres/instances/{UUID_EXAMPLE}")),
    ]
}

fn repair() -> ObjectBuilder {
    answer(
        "The last repair of access that was asked for.",
        vec![
            property("pending", "One is under way.", boolean()),
            property(
                "done_at",
                "When the last one was seen to be done; null if there was none.",
                or_null(timestamp(), Type::String),
            ),
            list_property(
                "changed",
                "What the last one put back; empty if everything was as it is to be.",
                array(text()),
            ),
        ],
    )
}

fn database_settable() -> Vec<Property> {
    vec![
        name_of(
            "Unique within the instance; never changes.",
            database_name(),
            "orders",
        ),
        description(),
        property("owner", "A user of the same instance.", user_reference()).example(format!(
            "/v1/types/postgres/instances/{UUID_EXAMPLE}/users/{UUID_EXAMPLE}"
        )),
        list_property(
            "access",
            "Other users of the same instance who may use it, each once; a change names all of them.",
            array(access_entry()).max_items(Some(limits::ACCESS_ENTRIES_MAX)),
        ),
        list_property(
            "extensions",
            "Extensions that it is to have, each once; a change names all of them. What is left out is dropped, unless something depends on it. Those that the server \
             calls trusted, unless the version allows only some.",
            array(extension_name()).max_items(Some(limits::EXTENSIONS_MAX)),
        ),
    ]
}

fn extension_name() -> ObjectBuilder {
    text()
        .min_length(Some(*limits::IDENTIFIER_BYTES.start()))
        .max_length(Some(*limits::IDENTIFIER_BYTES.end()))
        .pattern(Some("^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$"))
}

fn extension_status() -> ObjectBuilder {
    answer(
        "What was last seen of an extension that was asked for, or is to be dropped.",
        vec![
            property("name", "Which one.", text()),
            property(
                "installed_version",
                "The version that the database has; null if it has not got it.",
                or_null(text(), Type::String),
            ),
            property(
                "available_version",
                "The version that the server would make now; null if it has not got it.",
                or_null(text(), Type::String),
            ),
            property(
                "update_available",
                "They differ: the action update-extensions brings it to the available one.",
                boolean(),
            ),
            property(
                "problem",
                "Why it is not as asked for; null if it is, or is about to be.",
                or_null(text(), Type::String),
            ),
        ],
    )
}

fn access_entry() -> ObjectBuilder {
    let levels = AccessLevel::ALL.map(AccessLevel::as_str);
    answer(
        "What a user may do in a database that somebody else owns.",
        vec![
            property(
                "user",
                "A user of the same instance, not the owner.",
                user_reference(),
            ),
            property(
                "level",
                "read: SELECT on everything, also on what is made later, by whomever. write: INSERT, UPDATE and DELETE, too. owner: every \
                 privilege that can be granted, CREATE among them; what others made can be altered by its owner only.",
                words(levels),
            ),
        ],
    )
}

fn user_settable() -> Vec<Property> {
    vec![
        name_of("Unique within the instance; never changes.", user_name(), "app"),
        description(),
        password(),
        property(
            "password_version",
            "Grows with each new password, unless the request that sets it says what it is. A client that keeps no passwords \
             compares it with what it knows.",
            whole(limits::PASSWORD_VERSION),
        )
        .default(*limits::PASSWORD_VERSION.start()),
    ]
}

fn version_settable() -> Vec<Property> {
    vec![
        name_of("For people.", instance_name(), "PostgreSQL 15.18"),
        description(),
        property(
            "image",
            "What nodes are made of; the tag begins with PostgreSQL's version. Unique; never changes.",
            image(),
        )
        .example("postgres:15.18"),
        property(
            "deprecated",
            "New instances cannot have it; those that have it keep it.",
            boolean(),
        )
        .default(false),
        list_property(
            "extensions",
            "Extensions that databases may be asked to have; null: every one that the server calls trusted. Others take a superuser, and are never made.",
            array(extension_name())
                .max_items(Some(limits::EXTENSIONS_MAX))
                .schema_type(SchemaType::from_iter([Type::Array, Type::Null])),
        ),
    ]
}

fn version_found() -> Vec<Property> {
    vec![
        property("uuid", "Which one.", uuid()),
        property("created_at", "When it was added.", timestamp()),
        property("updated_at", "When it was changed last.", timestamp()),
    ]
}

fn both(mut first: Vec<Property>, second: Vec<Property>) -> Vec<Property> {
    first.extend(second);
    first
}

fn without(mut properties: Vec<Property>, name: &str) -> Vec<Property> {
    properties.retain(|property| property.name != name);
    properties
}

fn with_fixed<'a>(read_only: &[&'a str], fixed: &[&'a str]) -> Vec<&'a str> {
    [read_only, fixed].concat()
}

fn node() -> ObjectBuilder {
    answer(
        "A node of an instance.",
        vec![
            property("uuid", "Which one.", uuid()),
            property("name", "Its short name within the instance.", text()),
            property("role", "As last decided.", words(["primary", "standby"])),
            property("sync", "A commit waits for it.", boolean()),
            property(
                "status",
                "Its state.",
                words(["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"]),
            ),
            property(
                "reason",
                "Why it is in that state, and what happens next.",
                text(),
            ),
            property("leaving", "It is being removed.", boolean()),
            property("host", "Where it listens.", or_null(text(), Type::String)),
            property(
                "port",
                "Where it listens.",
                or_null(whole(0..=65_535), Type::Integer),
            ),
            property(
                "lag_bytes",
                "WAL that it is behind the primary; null where that is not known.",
                or_null(count(), Type::Integer),
            ),
            property(
                "disk_free_bytes",
                "Free on its data disk; null where that is not known.",
                or_null(count(), Type::Integer),
            ),
            property(
                "backend_ref",
                "What an operator looks for: a process id, a container id, a domain name.",
                or_null(text(), Type::String),
            ),
            property("created_at", "When it was decided on.", timestamp()),
        ],
    )
}

fn event() -> ObjectBuilder {
    answer(
        "Something that happened.",
        vec![
            property("sequence", "Its position in the log.", count()),
            property("at", "When.", timestamp()),
            property("kind", "A stable word.", text()).example("failover_started"),
            property("message", "For people.", text()),
            property(
                "node",
                "The node that it is about.",
                or_null(uuid(), Type::String),
            ),
        ],
    )
}

fn endpoint() -> Vec<Property> {
    vec![
        property("host", "Name or address.", text()),
        property("port", "TCP port.", whole(0..=65_535)),
    ]
}

fn connection() -> ObjectBuilder {
    let string = |what: &str| {
        or_null(text(), Type::String).description(Some(format!("{what}; null while there is no node")))
    };
    let primary = answer("Where the primary is; null while there is none.", endpoint());
    closed()
        .description(Some("How to connect. There is never a password in it."))
        .property("uri", string("For libpq: whichever node is the primary"))
        .property(
            "read_only_uri",
            string("For libpq (14 and newer): a standby where there is one"),
        )
        .property("jdbc_url", string("For JDBC: whichever node is the primary"))
        .property(
            "read_only_jdbc_url",
            string("For JDBC: a standby where there is one"),
        )
        .property("primary", or_null(primary, Type::Object))
        .property(
            "endpoints",
            array(answer("An endpoint.", endpoint())).description(Some("Every node, the primary first.")),
        )
        .required("uri")
        .required("read_only_uri")
        .required("jdbc_url")
        .required("read_only_jdbc_url")
        .required("primary")
        .required("endpoints")
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
    let instance_fixed = with_fixed(&INSTANCE_READ_ONLY, &["project_id"]);
    let object_fixed = with_fixed(&OBJECT_READ_ONLY, &["name", "project_id", "instance"]);
    let database_fixed = with_fixed(&object_fixed, &[DATABASE_READ_ONLY]);
    let version_fixed = with_fixed(&VERSION_READ_ONLY, &["image"]);
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
        (
            "Instance",
            answer(
                "A PostgreSQL instance.",
                both(instance_settable(), instance_found()),
            ),
        ),
        (
            "InstanceCreate",
            object(
                "A new instance.",
                both(instance_settable(), chosen()),
                &["name", "cpu", "ram", "disk_size", "version"],
            ),
        ),
        (
            "InstanceUpdate",
            change(
                "Changes of an instance.",
                both(instance_settable(), instance_found()),
                &instance_fixed,
            ),
        ),
        ("Instances", page("instances", "Instance")),
        (
            "Database",
            answer(
                "A database.",
                both(database_settable(), both(object_place(), database_found())),
            ),
        ),
        (
            "DatabaseCreate",
            object(
                "A new database.",
                both(database_settable(), both(object_place(), chosen())),
                &["name", "owner"],
            ),
        ),
        (
            "DatabaseUpdate",
            change(
                "Changes of a database.",
                both(database_settable(), both(object_place(), database_found())),
                &database_fixed,
            ),
        ),
        ("Databases", page("databases", "Database")),
        (
            "User",
            answer(
                "A user.",
                both(
                    without(user_settable(), "password"),
                    both(object_place(), object_found()),
                ),
            ),
        ),
        (
            "UserCreate",
            object(
                "A new user.",
                both(user_settable(), both(object_place(), chosen())),
                &["name", "password"],
            ),
        ),
        (
            "UserUpdate",
            change(
                "Changes of a user.",
                both(user_settable(), both(object_place(), object_found())),
                &object_fixed,
            ),
        ),
        ("Users", page("users", "User")),
        (
            "Version",
            answer(
                "A version of the catalogue.",
                both(version_settable(), version_found()),
            ),
        ),
        (
            "VersionCreate",
            object("A new version.", version_settable(), &["name", "image"]),
        ),
        (
            "VersionUpdate",
            change(
                "Changes of a version.",
                both(version_settable(), version_found()),
                &version_fixed,
            ),
        ),
        ("Versions", page("versions", "Version")),
        (
            "Parameters",
            answer(
                "The settings of a version.",
                vec![list_property("parameters", "By name.", array(parameter()))],
            ),
        ),
        ("Node", node()),
        ("Nodes", nodes),
        (
            "LogLine",
            text().description(Some("A line that a node's PostgreSQL wrote.")),
        ),
        ("LogLines", log_lines),
        ("Event", event()),
        ("Events", page("events", "Event")),
        ("Connection", connection()),
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
        .map(|(name, schema)| (name, Schema::Object(schema.build())))
        .collect()
}
