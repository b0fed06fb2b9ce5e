//! The interface as an OpenAPI 3.1 document, made from the same table as the router and from the same bounds
//! as the checks; and the same as a 3.0 document.

pub(crate) mod operations;
pub(crate) mod parameters;
pub(crate) mod responses;
pub(crate) mod schemas;
mod version_3_0;

use serde_json::Value;
use utoipa::openapi::path::PathsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem};

use crate::listing::ListStyle;
use crate::routes::routes;

pub use version_3_0::as_3_0;

/// Media type of a list as an object: what a server answers unless told otherwise.
pub(crate) const OBJECT_LIST: &str = "application/json";
/// Media type of a list as an array.
pub(crate) const ARRAY_LIST: &str = "application/json;profile=array";

/// Name of the security scheme.
pub(crate) const BEARER: &str = "bearer";

const DESCRIPTION: &str = "\
Instances of PostgreSQL with their databases and users, from a catalogue of versions.

**Paths.** Everything under `/v1/types/postgres` is also under `/v1/postgres`; a slash at the end is accepted. References in bodies are URIs in \
either spelling, or bare UUIDs; answers use the long spelling.

**Work goes on in the background.** A call writes down what is wanted and returns; `status`, `phase` and `reason` say how far it is. \
`GET …?wait=ACTIVE&timeout=60s` waits for a state: the header `Dbaas-Wait` of its answer is `reached`, `timeout` or `stopping`.

**Changes.** PUT and PATCH are the same: fields that are left out stay. Read-only fields may be repeated with their present value, so that \
GET, edit, PUT works; read-only fields with another value, and unknown fields, are errors.

**Repeating safely.** Every resource has an `ETag`; `If-Match` makes a change conditional on it. A POST with an `Idempotency-Key` may be repeated \
for 24 hours and makes one resource only.

**Errors** are `application/problem+json` (RFC 9457); their `type` is a path on this server that explains it, `errors` lists everything that is wrong.

**Lists** are in order of their uuids, which is the order of creation unless a client chose them. `next` is the `cursor` of the next page, null at the end; a page may be short, also empty, and still have a `next`. \
A filter that is given several times means any of its values. \
`Accept: application/json;profile=array` gives a bare array; `page_limit` and `page_marker` work as `limit` and `cursor` do, and the headers \
`X-Pagination-Limit` and `X-Pagination-Marker` say how to go on.";

const TAGS: [(&str, &str); 9] = [
    ("instances", "PostgreSQL instances of 1 to 16 nodes"),
    (
        "operations",
        "What an operator asks of an instance once, and what is seen of it",
    ),
    ("databases", "Databases of an instance"),
    ("users", "Users of an instance"),
    (
        "versions",
        "The catalogue of versions; the administrator changes it",
    ),
    (
        "elements",
        "Manifests, and what was made of them; see docs/manifests.md",
    ),
    (
        "values",
        "Passwords, rendered configs and variables that manifests refer to",
    ),
    ("tokens", "Who may call, and what; for the administrator"),
    ("service", "The server itself"),
];

/// The document.
pub fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in routes() {
        for (method, operation) in route.operations {
            paths = paths.path(route.path, PathItem::new(method, operation));
        }
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas::all() {
        components = components.schema(name, schema);
    }
    for (name, response) in responses::all() {
        components = components.response(name, response);
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of the administrator, or of one project. A server on loopback may ask for none.",
        ))
        .build();
    components = components.security_scheme(BEARER, SecurityScheme::Http(bearer));
    let license = LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Managed PostgreSQL")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(license)),
        )
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(TAGS.map(|(name, text)| {
            TagBuilder::new().name(name).description(Some(text)).build()
        })))
        .build()
}

/// The document as a server with this style of lists sends it.
pub(crate) fn served(style: ListStyle) -> Value {
    // Built from constants: a test reads what comes out.
    let mut document = serde_json::to_value(document()).unwrap_or_default();
    if style == ListStyle::Arrays {
        arrays_by_default(&mut document);
    }
    document
}

/// Swaps the two shapes of every list.
fn arrays_by_default(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(array) = fields.remove(ARRAY_LIST)
                && let Some(object) = fields.insert(OBJECT_LIST.to_owned(), array)
            {
                fields.insert("application/json;profile=object".to_owned(), object);
            }
            fields.values_mut().for_each(arrays_by_default);
        }
        Value::Array(items) => items.iter_mut().for_each(arrays_by_default),
        _ => {}
    }
}
