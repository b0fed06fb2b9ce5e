//! Calls about the server itself.

use utoipa::openapi::RefOr;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::ArrayBuilder;

use super::Call;
use crate::openapi::parameters::path;
use crate::openapi::schemas::{text, words};
use crate::problem::ProblemKind;

pub(crate) fn healthz() -> Operation {
    Call::open("healthz", "Whether the process is alive")
        .answers(200, "Alive", "It is.")
        .done()
}

pub(crate) fn readyz() -> Operation {
    Call::open("readyz", "Whether the server can do its work")
        .answers(200, "Ready", "It can.")
        .errors(&[503])
        .done()
}

pub(crate) fn metrics() -> Operation {
    content(
        Call::new("service", "metrics", "Metrics in Prometheus' text format").errors(&[404]),
        "text/plain",
    )
}

/// The names of what is below a path.
pub(crate) fn below(name: &str, path: &str) -> Operation {
    let id = format!("listBelow{}{}", name[..1].to_uppercase(), &name[1..]);
    names(
        Call::new("service", &id, &format!("List what is below {path}")),
        "Names, to be appended to the path.",
    )
}

pub(crate) fn specifications() -> Operation {
    names(
        Call::open(
            "listSpecifications",
            "List the versions of OpenAPI that this document is there in",
        ),
        "Versions, to be appended to the path.",
    )
}

fn names(call: Call, description: &str) -> Operation {
    let content = ContentBuilder::new()
        .schema(Some(ArrayBuilder::new().items(RefOr::from(text()))))
        .build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build();
    Call(call.0.response("200", response)).done()
}

pub(crate) fn openapi() -> Operation {
    document("openapi", "This document")
}

pub(crate) fn openapi_3_1() -> Operation {
    document("openapi31", "This document")
}

pub(crate) fn openapi_3_0() -> Operation {
    document(
        "openapi30",
        "This document in OpenAPI 3.0, for generators that do not read 3.1",
    )
}

fn document(operation_id: &str, summary: &str) -> Operation {
    let content = ContentBuilder::new()
        .schema(Some(utoipa::openapi::schema::ObjectBuilder::new()))
        .build();
    let response = ResponseBuilder::new()
        .description("The document.")
        .content("application/json", content)
        .build();
    Call(Call::open(operation_id, summary).0.response("200", response)).done()
}

pub(crate) fn docs() -> Operation {
    content(Call::open("docs", "This document as a page"), "text/html")
}

pub(crate) fn problem() -> Operation {
    let names = words(ProblemKind::ALL.iter().map(|kind| kind.name()));
    let call = Call::open("problem", "What a kind of error means");
    content(
        call.with([path("problem", "The end of a problem's type.", names)])
            .errors(&[404]),
        "text/html",
    )
}

/// A call that answers text.
fn content(call: Call, content_type: &str) -> Operation {
    let content = ContentBuilder::new().schema(Some(text())).build();
    let response = ResponseBuilder::new()
        .description("Text.")
        .content(content_type, content)
        .build();
    Call(call.0.response("200", response)).done()
}
