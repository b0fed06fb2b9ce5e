//! The JSON of manifests, elements, and the values that they refer to.

use dbaas_manifest::limits::PASSWORD_LENGTH;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};

use super::{
    COUNT_MAX, Property, answer, array, boolean, both, change, closed, description_text, instance_name,
    list_property, object, or_null, page, property, reference, text, timestamp, uuid, whole, words,
};
use crate::handlers::tokens::READ_ONLY as TOKEN_READ_ONLY;
use crate::scopes::{PATTERN, SCOPES_MAX};

fn times() -> Vec<Property> {
    vec![
        property("created_at", "When it was made.", timestamp()),
        property("updated_at", "When it was last changed.", timestamp()),
    ]
}

/// Whatever JSON there is.
fn anything() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(utoipa::openapi::schema::SchemaType::AnyValue)
}

fn free(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

fn element() -> ObjectBuilder {
    let properties = vec![
        property("uuid", "Its id.", uuid()),
        property("name", "Unique within the project.", text()),
        property("description", "Free text.", text()),
        property("project_id", "The project it belongs to.", uuid()),
        property("version", "The version of its manifest.", text()),
        property(
            "manifest",
            "The manifest that it was made of; null if none is kept.",
            or_null(uuid(), Type::String),
        ),
        property(
            "status",
            "How far it is.",
            words(["IN_PROGRESS", "ACTIVE", "ERROR"]),
        ),
        property("reason", "Why.", text()),
    ];
    answer(
        "An element: what was made of a manifest.",
        both(properties, times()),
    )
}

fn manifest() -> ObjectBuilder {
    let properties = vec![
        property("uuid", "Its id.", uuid()),
        property("name", "The element's name.", text()),
        property("description", "Free text.", text()),
        property("project_id", "The project it belongs to.", uuid()),
        property("version", "Its version.", text()),
    ];
    answer("A manifest that is kept.", both(properties, times()))
}

fn options() -> ObjectBuilder {
    let variables = free("Values of {{ … }} in the text, by name.");
    object(
        "How a manifest is read and applied.",
        vec![
            property(
                "allow_destroy",
                "Delete instances and databases that left the manifest.",
                boolean(),
            )
            .default(false),
            property(
                "skip_unknown",
                "Leave out kinds that are not known, and what refers to them.",
                boolean(),
            )
            .default(false),
            property("variables", "Values of {{ … }} in the text, by name.", variables),
        ],
        &[],
    )
}

fn plan() -> ObjectBuilder {
    let finding = || {
        closed()
            .description(Some("Something worth a warning."))
            .property("line", whole(0..=COUNT_MAX))
            .property("column", whole(0..=COUNT_MAX))
            .property("path", text())
            .property("message", text())
    };
    let change = closed()
        .description(Some("A change of a field. Secrets are not shown."))
        .property("field", text())
        .property("from", anything())
        .property("to", anything())
        .property("note", or_null(text(), Type::String));
    let step = closed()
        .description(Some("What is done with a resource."))
        .property("link", text())
        .property("kind", text())
        .property("action", words(["create", "update", "delete", "retain"]))
        .property("changes", array(change))
        .property("why", text())
        .required("link")
        .required("kind")
        .required("action");
    closed()
        .description(Some("What applying a manifest does."))
        .property("element", text())
        .property("version", text())
        .property("nothing_to_do", boolean())
        .property("steps", array(step))
        .property("unchanged", whole(0..=COUNT_MAX))
        .property("warnings", array(finding()))
        .property("skipped", array(finding()))
        .required("element")
        .required("version")
        .required("nothing_to_do")
        .required("steps")
        .required("unchanged")
        .required("warnings")
        .required("skipped")
}

fn password_settable() -> Vec<Property> {
    let (least, most) = (*PASSWORD_LENGTH.start(), *PASSWORD_LENGTH.end());
    vec![
        property("name", "For people.", instance_name()),
        property("description", "Free text.", description_text()),
        property("project_id", "The project it belongs to.", uuid()),
        property(
            "method",
            "How it comes to its value.",
            words(["AUTO_HEX", "AUTO_URL_SAFE", "MANUAL"]),
        ),
        property(
            "default_length",
            "Characters of a generated value.",
            whole(least..=most),
        ),
        property(
            "rotation",
            "Another number makes another value.",
            whole(0..=COUNT_MAX),
        ),
    ]
}

fn password_value() -> Vec<Property> {
    vec![property(
        "value",
        "The value, for MANUAL only.",
        text().min_length(Some(1)).write_only(true),
    )]
}

fn password_found() -> Vec<Property> {
    let constructor = closed().property("kind", words(["plain"])).required("kind");
    let found = vec![
        property("uuid", "Its id.", uuid()),
        property("constructor", "What the value is made into.", constructor),
    ];
    both(found, times())
}

fn config() -> ObjectBuilder {
    let all = both(
        vec![
            property("uuid", "Its id.", uuid()),
            property("name", "For people.", text()),
            property("description", "Free text.", text()),
            property("project_id", "The project it belongs to.", uuid()),
            property("is_secret", "Whether the text holds a secret.", boolean()),
        ],
        times(),
    );
    answer("A rendered text.", all)
        .property("path", text())
        .property("mode", text())
        .property("owner", text())
        .property("group", text())
        .property("target", anything())
        .property("on_change", free("What happens when the text changes: nothing."))
        .property("content", text().description(Some("The text; not in lists.")))
}

fn variable_settable() -> Vec<Property> {
    vec![
        property("name", "Its name.", instance_name()),
        property("description", "Free text.", description_text()),
        property("value", "The value.", anything()),
    ]
}

fn variable_found() -> Vec<Property> {
    let found = vec![
        property("uuid", "Its id.", uuid()),
        property(
            "project_id",
            "The project it belongs to; null: the platform's.",
            or_null(uuid(), Type::String),
        ),
    ];
    both(found, times())
}

fn token_settable() -> Vec<Property> {
    let scope = text()
        .pattern(Some(PATTERN))
        .examples([serde_json::json!("*.read")]);
    let scopes = array(scope).min_items(Some(1)).max_items(Some(SCOPES_MAX));
    vec![
        property("name", "For people.", instance_name()),
        property("description", "Free text.", description_text()),
        property(
            "project_id",
            "The project that it is for; null: all of them, as the administrator.",
            or_null(uuid(), Type::String),
        ),
        list_property(
            "scopes",
            "What it allows: * everything, or words such as instance.create, user.*, *.read. Values of secrets are read with \
             secret_value.read or * only.",
            scopes,
        ),
    ]
}

fn token_found() -> Vec<Property> {
    both(vec![property("uuid", "Its id.", uuid())], times())
}

pub(super) fn all() -> Vec<(&'static str, ObjectBuilder)> {
    let fixed = ["uuid", "project_id", "constructor", "created_at", "updated_at"];
    let id = || vec![property("uuid", "Its id; one is made if left out.", uuid())];
    let resource = closed()
        .property("link", text())
        .property("kind", text())
        .property("name", text())
        .property("uuid", uuid())
        .property("uri", text())
        .property("created_at", timestamp());
    let import = closed()
        .property("name", text())
        .property("element", text())
        .property("link", text());
    let export = closed()
        .property("name", text())
        .property("link", text())
        .property("uuid", uuid());
    let whole_list = |name: &'static str, about: &str, item: ObjectBuilder| {
        closed()
            .description(Some(about.to_owned()))
            .property(name, array(item))
            .required(name)
    };
    vec![
        ("ManifestDocument", free("A manifest: see docs/manifests.md.")),
        ("ManifestSchema", free("A JSON Schema.")),
        ("ManifestOptions", options()),
        ("ManifestPlan", plan()),
        ("Manifest", manifest()),
        ("Manifests", page("manifests", "Manifest")),
        (
            "Applied",
            closed()
                .description(Some("An element that is being applied."))
                .property("element", reference("Element"))
                .property("plan", reference("ManifestPlan"))
                .required("element")
                .required("plan"),
        ),
        ("Element", element()),
        ("Elements", page("elements", "Element")),
        (
            "ElementResources",
            whole_list("resources", "What an element made.", resource),
        ),
        (
            "ElementImports",
            whole_list("imports", "What an element uses of others.", import),
        ),
        (
            "ElementExports",
            whole_list("exports", "What others may use of an element.", export),
        ),
        (
            "Password",
            answer(
                "A password, without its value.",
                both(password_settable(), password_found()),
            ),
        ),
        (
            "PasswordCreate",
            object(
                "A new password.",
                both(id(), both(password_settable(), password_value())),
                &["name"],
            ),
        ),
        (
            "PasswordUpdate",
            change(
                "Changes of a password.",
                both(both(password_settable(), password_value()), password_found()),
                &fixed,
            ),
        ),
        ("Passwords", page("passwords", "Password")),
        (
            "PasswordValue",
            answer(
                "The value of a password.",
                vec![property("value", "The value.", text())],
            ),
        ),
        ("Config", config()),
        ("Configs", page("configs", "Config")),
        (
            "Variable",
            answer("A variable.", both(variable_settable(), variable_found())),
        ),
        (
            "VariableCreate",
            object(
                "A new variable.",
                both(id(), variable_settable()),
                &["name", "value"],
            ),
        ),
        (
            "VariableUpdate",
            change(
                "Changes of a variable.",
                both(variable_settable(), variable_found()),
                &["uuid", "name", "project_id", "created_at", "updated_at"],
            ),
        ),
        ("Variables", page("variables", "Variable")),
        (
            "Token",
            answer(
                "A token, without its text.",
                both(token_settable(), token_found()),
            ),
        ),
        (
            "NewToken",
            answer(
                "A token that was just made.",
                both(
                    both(token_settable(), token_found()),
                    vec![property(
                        "token",
                        "Its text, answered this once; null when the call was repeated.",
                        or_null(text(), Type::String),
                    )],
                ),
            ),
        ),
        (
            "TokenCreate",
            object("A new token.", both(id(), token_settable()), &["name"]),
        ),
        (
            "TokenUpdate",
            change(
                "Changes of a token.",
                both(token_settable(), token_found()),
                &TOKEN_READ_ONLY,
            ),
        ),
        ("Tokens", page("tokens", "Token")),
    ]
}
