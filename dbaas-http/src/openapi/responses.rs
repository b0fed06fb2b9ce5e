//! Answers that many calls have: errors by status.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Header, Ref, RefOr};

use super::schemas::{reference, text, whole};

/// Statuses of errors, the name of their component, and what they mean.
const ERRORS: [(u16, &str, &str); 14] = [
    (
        400,
        "BadRequest",
        "The body, a query parameter or a header is malformed.",
    ),
    (401, "Unauthorized", "A valid token is needed."),
    (403, "Forbidden", "Not allowed with this token."),
    (
        404,
        "NotFound",
        "It does not exist, or belongs to another project.",
    ),
    (408, "RequestTimeout", "The body did not arrive in time."),
    (
        409,
        "Conflict",
        "The name is taken, others depend on it, or it does not fit the present state.",
    ),
    (
        412,
        "PreconditionFailed",
        "The resource has changed since it was read.",
    ),
    (413, "ContentTooLarge", "The body is too large."),
    (415, "UnsupportedMediaType", "The body is not declared as JSON."),
    (
        422,
        "UnprocessableContent",
        "Fields are wrong; every one of them is listed.",
    ),
    (429, "TooManyWaiting", "Too many clients wait already."),
    (500, "InternalError", "A defect of the server; its log has more."),
    (
        503,
        "Unavailable",
        "The server has too much to do, or cannot reach its store.",
    ),
    (405, "MethodNotAllowed", "The path does not have this method."),
];

/// All shared answers by name.
pub(crate) fn all() -> Vec<(&'static str, Response)> {
    ERRORS
        .iter()
        .map(|(status, name, text)| (*name, problem(*status, text)))
        .collect()
}

/// The shared answer with this status.
pub(crate) fn shared(status: u16) -> RefOr<Response> {
    match ERRORS.iter().find(|(known, ..)| *known == status) {
        Some((_, name, _)) => Ref::from_response_name(*name).into(),
        None => problem(status, "An error.").into(),
    }
}

fn problem(status: u16, description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(reference("Problem"))).build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content);
    let response = match status {
        401 => response.header("WWW-Authenticate", header("How to authenticate.", text())),
        405 => response.header("Allow", header("The methods that it has.", text())),
        429 | 503 => response.header("Retry-After", header("Seconds to wait.", whole(0..=3600))),
        _ => response,
    };
    response.build()
}

pub(crate) fn header(description: &str, schema: utoipa::openapi::schema::ObjectBuilder) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
