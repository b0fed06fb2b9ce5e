//! Errors as `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): every error
//! that this crate answers with is one of [`ProblemKind`].

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

/// An answer lists at most so many wrong fields: a body of a megabyte can be wrong in a hundred thousand
/// places.
pub(crate) const ERRORS_MAX: usize = 50;

/// How long a client is asked to wait before it repeats a call that failed for a passing reason, in seconds.
const RETRY_AFTER_S: u32 = 1;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $status:ident, $name:literal, $title:literal;)+) => {
        /// What can go wrong. The name, which is the end of the problem's `type`, never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind),+];

            /// The last part of the `type`.
            pub const fn name(self) -> &'static str {
                match self { $(ProblemKind::$kind => $name,)+ }
            }

            /// The short text that is the same for each occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(ProblemKind::$kind => $title,)+ }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(ProblemKind::$kind => StatusCode::$status,)+ }
            }

            /// What it means and what to do, for the page at its `type`.
            pub const fn explanation(self) -> &'static str {
                match self { $(ProblemKind::$kind => concat!($($doc, "\n"),+),)+ }
            }
        }
    };
}

kinds! {
    /// The body is not one well-formed JSON document: broken UTF-8, a syntax error, text after its end, or
    /// nesting that is too deep.
    MalformedBody = BAD_REQUEST, "malformed-body", "The body is not well-formed JSON";
    /// A query parameter is unknown, repeated, or its value is not valid. Unlike unknown filters elsewhere,
    /// nothing is ignored here: a misspelt filter would otherwise match everything.
    InvalidQuery = BAD_REQUEST, "invalid-query", "The query parameters are not valid";
    /// A header (`If-Match`, `If-None-Match`, `Idempotency-Key`, `Last-Event-ID`, …) is not well-formed.
    InvalidHeader = BAD_REQUEST, "invalid-header", "A header is not valid";
    /// There is no token in the request, or it is not one of those that the server knows. Send
    /// `Authorization: Bearer <token>`.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A valid token is needed";
    /// The token is good, but not for this: the catalogue of versions is the administrator's, and a project's
    /// token creates instances in its own project only.
    Forbidden = FORBIDDEN, "forbidden", "Not allowed with this token";
    /// The resource does not exist, or it belongs to another project.
    NotFound = NOT_FOUND, "not-found", "Not found";
    /// There is nothing at this path; `/openapi.json` lists the paths.
    NoSuchPath = NOT_FOUND, "no-such-path", "There is nothing at this path";
    /// The path exists, but not with this method; the `Allow` header lists those that it has.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not have this method";
    /// The body did not arrive in time.
    BodyTimeout = REQUEST_TIMEOUT, "body-timeout", "The body did not arrive in time";
    /// Another resource has this name. Names are unique within the project (instances), the instance
    /// (databases, users) or the catalogue (versions).
    NameTaken = CONFLICT, "name-taken", "The name is taken";
    /// Another resource has the `uuid` that the request chose, or the one that was made by the same request
    /// has been changed since.
    IdTaken = CONFLICT, "id-taken", "The id is taken";
    /// Others depend on the resource: a user that owns databases, a version that instances have. The detail
    /// names them.
    InUse = CONFLICT, "in-use", "The resource is in use";
    /// The resource, or one of the databases that would go with it, is protected from deletion: set its
    /// `deletion_protection` to false first.
    DeletionProtected = CONFLICT, "deletion-protected", "Protected from deletion";
    /// The request does not fit the resource's present state; the detail says which state that is and what to
    /// do.
    WrongState = CONFLICT, "wrong-state", "Not possible in the present state";
    /// There are as many of these as there can be.
    LimitReached = CONFLICT, "limit-reached", "A limit is reached";
    /// The resource has changed since it was read (`If-Match`): read it again, then decide again.
    PreconditionFailed = PRECONDITION_FAILED, "precondition-failed", "The resource has changed since it was read";
    /// The body is larger than this server reads.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    /// Bodies are JSON: send `Content-Type: application/json`, uncompressed.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not declared as JSON";
    /// One or more fields are wrong; `errors` lists every one of them with the rule that it breaks. Nothing
    /// was changed.
    InvalidFields = UNPROCESSABLE_ENTITY, "invalid-fields", "The request is not valid";
    /// The manifest is wrong; `errors` lists all of it: the path of the resource in `pointer`, line and
    /// column in `detail`. Nothing was done.
    InvalidManifest = UNPROCESSABLE_ENTITY, "invalid-manifest", "The manifest is not valid";
    /// The same `Idempotency-Key` was used for a different request. Use a new key for each new request.
    IdempotencyMismatch = UNPROCESSABLE_ENTITY, "idempotency-mismatch", "The idempotency key was used for another request";
    /// The request with this `Idempotency-Key` was carried out before, and what it made has been deleted
    /// since. Use a new key to make another.
    IdempotencyGone = CONFLICT, "idempotency-gone", "What the idempotency key made is gone";
    /// As many clients wait (long polls, event streams) as the server lets wait at once. Poll without `wait`,
    /// or try again later.
    TooManyWaiting = TOO_MANY_REQUESTS, "too-many-waiting", "Too many clients are waiting";
    /// A defect of the server. The `id` is in its log too.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Internal error";
    /// The server has as many requests in hand as it takes at once. Nothing was done; try again after
    /// `Retry-After` seconds.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too many requests at once";
    /// The state of the control plane cannot be read or written now. Nothing was done; try again after
    /// `Retry-After` seconds.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The control plane is not available";
    /// The disk that the control plane keeps its state on is full. Nothing was done, and reading works;
    /// instances run on. Ask the operator to free some space, then try again.
    StorageFull = SERVICE_UNAVAILABLE, "storage-full", "The control plane's disk is full";
    /// The request was sent to the store, but no answer came: it may have been carried out. Read before
    /// repeating it.
    OutcomeUnknown = SERVICE_UNAVAILABLE, "outcome-unknown", "It is not known whether the request was carried out";
    /// The server does not take requests: it is starting, shutting down, or another one is in charge.
    NotReady = SERVICE_UNAVAILABLE, "not-ready", "The server is not ready";
}

impl ProblemKind {
    /// The `type`: a path on this server, where the kind is explained.
    pub fn type_uri(self) -> String {
        format!("/problems/{}", self.name())
    }
}

/// One thing that is wrong, and the rule. Exactly one of `pointer`, `parameter` and `header` says where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wrong {
    /// JSON pointer into the body; empty for the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    pub(crate) detail: String,
}

impl Wrong {
    pub(crate) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Wrong {
            pointer: Some(pointer.into()),
            parameter: None,
            header: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Wrong {
            pointer: None,
            parameter: Some(name.into()),
            header: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn header(name: &HeaderName, detail: impl Into<String>) -> Self {
        Wrong {
            pointer: None,
            parameter: None,
            header: Some(name.to_string()),
            detail: detail.into(),
        }
    }
}

/// An error answer. Boxed, because it is the rare side of every `Result` here.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ProblemKind,
    detail: String,
    errors: Vec<Wrong>,
    id: Option<Uuid>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Json<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// The status and the detail once more, under the names that clients of the original service read.
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: &'a Vec<Wrong>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
}

impl Problem {
    /// A problem; the detail is for people and holds no secrets.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let headers = match kind.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                vec![(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))]
            }
            StatusCode::UNAUTHORIZED => {
                vec![(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"dbaas\""),
                )]
            }
            _ => Vec::new(),
        };
        Problem(Box::new(Inner {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            id: None,
            headers,
        }))
    }

    /// A problem of one or more places of the request. Only the first few are kept.
    pub(crate) fn wrong(kind: ProblemKind, mut errors: Vec<Wrong>) -> Self {
        let count = errors.len();
        errors.truncate(ERRORS_MAX);
        let detail = match (errors.as_slice(), count) {
            ([one], 1) => format!("{}: {}", place(one), one.detail),
            (some, n) if n > some.len() => {
                format!("{n} things are wrong; the first {} are listed", some.len())
            }
            (_, n) => format!("{n} things are wrong"),
        };
        let mut problem = Problem::new(kind, detail);
        problem.0.errors = errors;
        problem
    }

    /// A header that is wrong.
    pub(crate) fn header(name: &HeaderName, detail: impl Into<String>) -> Self {
        Problem::wrong(ProblemKind::InvalidHeader, vec![Wrong::header(name, detail)])
    }

    /// A defect: the message goes to the log with an id, the client sees the id only.
    pub(crate) fn internal(message: &str) -> Self {
        let id = Uuid::now_v7();
        tracing::error!(%id, message, "internal error");
        Problem::internal_with_id(id)
    }

    /// A defect that is in the log under this id already.
    pub(crate) fn internal_with_id(id: Uuid) -> Self {
        let mut problem = Problem::new(
            ProblemKind::Internal,
            format!("internal error; the server's log has it as {id}"),
        );
        problem.0.id = Some(id);
        problem
    }

    /// Which kind it is.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// What happened, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    #[cfg(test)]
    pub(crate) fn errors(&self) -> &[Wrong] {
        &self.0.errors
    }
}

fn place(wrong: &Wrong) -> String {
    match wrong {
        Wrong {
            parameter: Some(name),
            ..
        } => format!("parameter {name}"),
        Wrong {
            header: Some(name), ..
        } => format!("header {name}"),
        Wrong {
            pointer: Some(pointer),
            ..
        } if !pointer.is_empty() => pointer.clone(),
        _ => "the body".to_owned(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner {
            kind,
            detail,
            errors,
            id,
            headers,
        } = *self.0;
        let status = kind.status();
        let json = Json {
            r#type: kind.type_uri(),
            title: kind.title(),
            status: status.as_u16(),
            detail: &detail,
            code: status.as_u16(),
            message: &detail,
            errors: &errors,
            id,
        };
        // Strings and numbers only: this cannot fail, and an empty body would still carry the status.
        let body = serde_json::to_vec(&json).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response.headers_mut().extend(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_path() {
        let names: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!(
                kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                kind.name()
            );
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert!(!kind.explanation().trim().is_empty());
        }
    }

    #[test]
    fn one_wrong_field_is_the_detail_and_many_are_bounded() {
        let one = Problem::wrong(
            ProblemKind::InvalidFields,
            vec![Wrong::field("/cpu", "must be 1")],
        );
        assert_eq!(one.detail(), "/cpu: must be 1");
        let many = (0..60).map(|i| Wrong::field(format!("/{i}"), "x")).collect();
        let many = Problem::wrong(ProblemKind::InvalidFields, many);
        assert_eq!(many.errors().len(), ERRORS_MAX);
        assert_eq!(many.detail(), "60 things are wrong; the first 50 are listed");
    }
}
