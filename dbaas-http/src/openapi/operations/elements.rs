//! Calls about manifests, elements, and the values that they refer to.

use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;

use super::{Call, create, delete, list, read, update};
use crate::openapi::parameters::{
    filter, idempotency_key, if_match, if_none_match, last_event_id, paging, query,
};
use crate::openapi::responses::header;
use crate::openapi::schemas::{instance_name, reference, text, uuid, whole};
use crate::query::Collection;

/// A body that is a manifest.
fn document(call: Call) -> Call {
    let yaml = ContentBuilder::new().schema(Some(text())).build();
    let json = ContentBuilder::new()
        .schema(Some(reference("ManifestDocument")))
        .build();
    let body = RequestBodyBuilder::new()
        .description(Some("The manifest, as YAML or as JSON."))
        .content("application/yaml", yaml)
        .content("application/json", json)
        .required(Some(Required::True))
        .build();
    Call(call.0.request_body(Some(body))).errors(&[408, 413, 415, 422])
}

/// An action of a manifest.
fn action(operation_id: &str, summary: &str, about: &str) -> Call {
    Call::new("elements", operation_id, summary)
        .about(about)
        .of(&["manifest"])
        .body("ManifestOptions", Required::False)
        .errors(&[409])
}

pub(crate) fn list_manifests() -> Operation {
    let filters = vec![filter("name", text())];
    list(
        "elements",
        "listManifests",
        "List manifests",
        "Manifests",
        Collection::Manifests,
        filters,
    )
    .done()
}

pub(crate) fn create_manifest() -> Operation {
    let call = Call::new("elements", "createManifest", "Keep a manifest")
        .about("Nothing is made of it yet: that is what its actions are for.")
        .with([
            idempotency_key(),
            query("name", "The element's name, if the text has none.", text()),
            query(
                "project_id",
                "The project; the token's, or the default one, if left out.",
                uuid(),
            ),
        ])
        .errors(&[409]);
    document(call)
        .answers_resource(201, "Manifest", "Kept.", &[("Location", "Where it is.")])
        .done()
}

pub(crate) fn manifest_schema() -> Operation {
    Call::new("elements", "manifestSchema", "Read the JSON Schema of manifests")
        .about("For editors: which fields there are, and which are needed. What else is wrong with a manifest, its plan tells.")
        .answers(200, "ManifestSchema", "The schema, draft 2020-12.")
        .done()
}

pub(crate) fn read_manifest() -> Operation {
    let content = |schema| ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description("The manifest, or its text.")
        .content("application/json", content(reference("Manifest")))
        .content("application/yaml", content(text().into()))
        .header(
            "ETag",
            header("Its version; of the manifest, not of the text.", text()),
        )
        .build();
    let call = Call::new("elements", "readManifest", "Read a manifest")
        .about("With `Accept: application/yaml` its text, which may hold secrets: who read it is written to the log first.")
        .with([if_none_match()])
        .of(&["manifest"]);
    Call(call.0.response("200", response))
        .answers_empty(304, "The client's copy is the present one.")
        .done()
}

pub(crate) fn replace_manifest() -> Operation {
    let call = Call::new("elements", "replaceManifest", "Replace the text of a manifest")
        .about("The element stays as it is until the manifest is installed.")
        .of(&["manifest"])
        .with([if_match()])
        .errors(&[409, 412]);
    document(call)
        .answers_resource(200, "Manifest", "Kept.", &[])
        .done()
}

pub(crate) fn delete_manifest() -> Operation {
    delete(
        "elements",
        "deleteManifest",
        "Delete a manifest; the element stays",
    )
    .of(&["manifest"])
    .done()
}

const PLAN_ABOUT: &str = "Writes nothing. Everything that is wrong with the manifest is told at once, with line, column and resource.";

pub(crate) fn validate_manifest() -> Operation {
    action("validateManifest", "Check a manifest", PLAN_ABOUT)
        .answers(
            200,
            "ManifestPlan",
            "It is valid; this is what installing it would do.",
        )
        .done()
}

pub(crate) fn plan_manifest() -> Operation {
    action(
        "planManifest",
        "Say what installing a manifest would do",
        PLAN_ABOUT,
    )
    .answers(200, "ManifestPlan", "What would be done, without secrets.")
    .done()
}

const INSTALL_ABOUT: &str = "Goes on in the background; the element's status and events say how far it is. Again, it changes nothing. \
    Instances and databases that left the manifest are deleted with `allow_destroy` only.";

pub(crate) fn install_manifest() -> Operation {
    action(
        "installManifest",
        "Make an element what its manifest says",
        INSTALL_ABOUT,
    )
    .answers_resource(202, "Applied", "Begun.", &[])
    .done()
}

pub(crate) fn upgrade_manifest() -> Operation {
    action(
        "upgradeManifest",
        "Make an element what another version of its manifest says",
        INSTALL_ABOUT,
    )
    .answers_resource(202, "Applied", "Begun.", &[])
    .done()
}

const UNINSTALL_ABOUT: &str = "Goes on in the background. Refused while another element needs this one, and, without `allow_destroy`, \
    while it has instances or databases.";

pub(crate) fn uninstall_manifest() -> Operation {
    action(
        "uninstallManifest",
        "Delete everything that the element made",
        UNINSTALL_ABOUT,
    )
    .answers_resource(202, "Element", "Begun.", &[])
    .done()
}

pub(crate) fn uninstall_element() -> Operation {
    Call::new(
        "elements",
        "uninstallElement",
        "Delete everything that an element made",
    )
    .about(UNINSTALL_ABOUT)
    .of(&["element"])
    .body("ManifestOptions", Required::False)
    .errors(&[409])
    .answers_resource(202, "Element", "Begun.", &[])
    .done()
}

pub(crate) fn list_elements() -> Operation {
    let filters = vec![filter("name", text())];
    list(
        "elements",
        "listElements",
        "List elements",
        "Elements",
        Collection::Elements,
        filters,
    )
    .done()
}

pub(crate) fn read_element() -> Operation {
    read("elements", "readElement", "Read an element", "Element", &[])
        .of(&["element"])
        .done()
}

pub(crate) fn list_element_resources() -> Operation {
    Call::new("elements", "listElementResources", "List what an element made")
        .of(&["element"])
        .answers(200, "ElementResources", "In order of creation.")
        .done()
}

pub(crate) fn list_element_imports() -> Operation {
    Call::new(
        "elements",
        "listElementImports",
        "List what an element uses of others",
    )
    .of(&["element"])
    .answers(200, "ElementImports", "By name.")
    .done()
}

pub(crate) fn list_element_exports() -> Operation {
    Call::new(
        "elements",
        "listElementExports",
        "List what others may use of an element",
    )
    .of(&["element"])
    .answers(200, "ElementExports", "By name.")
    .done()
}

pub(crate) fn list_element_events() -> Operation {
    let content = |schema: &str| ContentBuilder::new().schema(Some(reference(schema))).build();
    let response = ResponseBuilder::new()
        .description("The newest last.")
        .content("application/json", content("Events"))
        .content(
            "text/event-stream",
            ContentBuilder::new().schema(Some(text())).build(),
        )
        .build();
    let call = Call::new(
        "elements",
        "listElementEvents",
        "Read how far an element is, step by step",
    )
    .about("With `Accept: text/event-stream` as Server-Sent Events, as those of instances.")
    .of(&["element"])
    .with(paging(Collection::Events))
    .with([query(
        "after",
        "Only events after this sequence number.",
        whole(0..=999_999_999_999_999_999),
    )])
    .with([last_event_id()])
    .errors(&[429]);
    Call(call.0.response("200", response)).done()
}

pub(crate) fn list_passwords() -> Operation {
    list(
        "values",
        "listPasswords",
        "List passwords, without their values",
        "Passwords",
        Collection::Passwords,
        vec![],
    )
    .done()
}

pub(crate) fn create_password() -> Operation {
    let links = (
        "password",
        &[
            "readPassword",
            "replacePassword",
            "deletePassword",
            "readPasswordValue",
        ] as &[&str],
    );
    create(
        "values",
        "createPassword",
        "Create a password",
        "Password",
        "PasswordCreate",
        links,
    )
    .done()
}

pub(crate) fn read_password() -> Operation {
    read(
        "values",
        "readPassword",
        "Read a password, without its value",
        "Password",
        &[],
    )
    .of(&["password"])
    .done()
}

pub(crate) fn read_password_value() -> Operation {
    Call::new("values", "readPasswordValue", "Read the value of a password")
        .about("Needs a scope of its own, secret_value.read. Who read it is written to the log first.")
        .of(&["password"])
        .answers(200, "PasswordValue", "The value.")
        .done()
}

pub(crate) fn replace_password() -> Operation {
    update(
        "values",
        "replacePassword",
        "Change a password",
        "Password",
        "PasswordUpdate",
    )
    .of(&["password"])
    .done()
}

pub(crate) fn patch_password() -> Operation {
    update(
        "values",
        "patchPassword",
        "Change a password",
        "Password",
        "PasswordUpdate",
    )
    .of(&["password"])
    .done()
}

pub(crate) fn delete_password() -> Operation {
    delete(
        "values",
        "deletePassword",
        "Delete a password; users who have it keep it",
    )
    .of(&["password"])
    .done()
}

pub(crate) fn list_configs() -> Operation {
    list(
        "values",
        "listConfigs",
        "List configs, without their texts",
        "Configs",
        Collection::Configs,
        vec![],
    )
    .done()
}

pub(crate) fn read_config() -> Operation {
    read(
        "values",
        "readConfig",
        "Read a config with its rendered text",
        "Config",
        &[],
    )
    .about("A text that holds a secret is left out unless the scope secret_value.read is there; who read it is written to the log first.")
    .of(&["config"])
    .done()
}

pub(crate) fn delete_config() -> Operation {
    delete("values", "deleteConfig", "Delete a config")
        .of(&["config"])
        .done()
}

pub(crate) fn list_variables() -> Operation {
    list(
        "values",
        "listVariables",
        "List variables",
        "Variables",
        Collection::Variables,
        vec![],
    )
    .done()
}

pub(crate) fn create_variable() -> Operation {
    let links = (
        "variable",
        &["readVariable", "replaceVariable", "deleteVariable"] as &[&str],
    );
    create(
        "values",
        "createVariable",
        "Create a variable of the platform",
        "Variable",
        "VariableCreate",
        links,
    )
    .done()
}

pub(crate) fn read_variable() -> Operation {
    read("values", "readVariable", "Read a variable", "Variable", &[])
        .of(&["variable"])
        .done()
}

pub(crate) fn replace_variable() -> Operation {
    update(
        "values",
        "replaceVariable",
        "Change a variable",
        "Variable",
        "VariableUpdate",
    )
    .of(&["variable"])
    .done()
}

pub(crate) fn patch_variable() -> Operation {
    update(
        "values",
        "patchVariable",
        "Change a variable",
        "Variable",
        "VariableUpdate",
    )
    .of(&["variable"])
    .done()
}

pub(crate) fn delete_variable() -> Operation {
    delete("values", "deleteVariable", "Delete a variable")
        .of(&["variable"])
        .done()
}

pub(crate) fn list_tokens() -> Operation {
    let filters = vec![filter("name", instance_name())];
    list(
        "tokens",
        "listTokens",
        "List tokens",
        "Tokens",
        Collection::Tokens,
        filters,
    )
    .done()
}

pub(crate) fn create_token() -> Operation {
    let links = ("token", &["readToken", "replaceToken", "deleteToken"] as &[&str]);
    create(
        "tokens",
        "createToken",
        "Create a token",
        "NewToken",
        "TokenCreate",
        links,
    )
    .about("Its text is answered this once. It cannot allow more than the token that makes it.")
    .done()
}

pub(crate) fn read_token() -> Operation {
    read(
        "tokens",
        "readToken",
        "Read a token, without its text",
        "Token",
        &[],
    )
    .of(&["token"])
    .done()
}

pub(crate) fn replace_token() -> Operation {
    update("tokens", "replaceToken", "Change a token", "Token", "TokenUpdate")
        .of(&["token"])
        .done()
}

pub(crate) fn patch_token() -> Operation {
    update("tokens", "patchToken", "Change a token", "Token", "TokenUpdate")
        .of(&["token"])
        .done()
}

pub(crate) fn delete_token() -> Operation {
    delete(
        "tokens",
        "deleteToken",
        "Delete a token: from now on it is nobody's",
    )
    .of(&["token"])
    .done()
}
