//! The JSON of plans: their steps serialise as `dbaas-manifest` says.

use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::{
    COUNT_MAX, array, boolean, closed, free, object, or_null, page, property, reference, text, whole, words,
};

/// Whatever JSON there is.
fn anything() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue)
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

pub(super) fn all() -> Vec<(&'static str, ObjectBuilder)> {
    vec![
        ("ManifestDocument", free("A manifest: see docs/manifests.md.")),
        ("ManifestSchema", free("A JSON Schema.")),
        ("ManifestOptions", options()),
        ("ManifestPlan", plan()),
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
        ("Elements", page("elements", "Element")),
        ("Passwords", page("passwords", "Password")),
        ("Configs", page("configs", "Config")),
        ("Variables", page("variables", "Variable")),
        ("Tokens", page("tokens", "Token")),
    ]
}
