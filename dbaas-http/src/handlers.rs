//! One function for each call of the contract: read the request, call the control plane, answer.

pub(crate) mod actions;
pub(crate) mod adopt;
pub(crate) mod configs;
pub(crate) mod databases;
pub(crate) mod elements;
pub(crate) mod events;
pub(crate) mod instances;
pub(crate) mod manifests;
pub(crate) mod nodes;
pub(crate) mod passwords;
pub(crate) mod service;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod variables;
pub(crate) mod versions;

use std::future::Future;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{Listed, Page, ResourceRef};
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::limits;
use serde::Serialize;
use uuid::Uuid;

use crate::app::App;
use crate::conditional::{Precondition, Tag, Tags, etag, precondition_failed};
use crate::listing::Listing;
use crate::problem::{Problem, ProblemKind};
use crate::query::Wait;
use crate::v1::fields::Parent;

/// How a long poll ended.
pub(crate) const WAIT_OUTCOME: HeaderName = HeaderName::from_static("dbaas-wait");

/// States of an instance, as `status` and `wait` have them.
pub(crate) const LIFECYCLES: [(&str, Lifecycle); 4] = [
    ("NEW", Lifecycle::New),
    ("IN_PROGRESS", Lifecycle::InProgress),
    ("ACTIVE", Lifecycle::Active),
    ("ERROR", Lifecycle::Error),
];
/// States of a database or a user.
const OBJECT_LIFECYCLES: [(&str, ObjectLifecycle); 3] = [
    ("NEW", ObjectLifecycle::New),
    ("ACTIVE", ObjectLifecycle::Active),
    ("ERROR", ObjectLifecycle::Error),
];

/// Pages of the store that a filtered listing looks through at most; then it answers with what it has, and
/// where to go on.
const SCAN_PAGES_MAX: usize = 10;

/// One resource.
fn one(status: StatusCode, tag: impl Into<Tag>, answer: &impl Serialize) -> Response {
    let mut response = (status, Json(answer)).into_response();
    response.headers_mut().insert(header::ETAG, etag(tag.into()));
    response
}

/// The project of an instance, which its users and databases are in, too.
async fn project_of(app: &App, instance: InstanceId) -> Result<ProjectId, ControlError> {
    Ok(app.control.instance(instance).await?.spec.project)
}

impl Parent {
    async fn of(app: &App, instance: InstanceId) -> Result<Self, ControlError> {
        let project = project_of(app, instance).await?;
        Ok(Parent { instance, project })
    }
}

/// A resource that was made.
fn created(uri: &str, tag: impl Into<Tag>, answer: &impl Serialize) -> Result<Response, Problem> {
    let location =
        HeaderValue::from_str(uri).map_err(|_| Problem::internal("a URI is not a header value"))?;
    let mut response = one(StatusCode::CREATED, tag, answer);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A creation that was refused. What is not found then is what an earlier call with the same idempotency key
/// made; but not the instance that something was to be made in.
fn not_created(error: ControlError, within: Option<InstanceId>) -> Problem {
    match error {
        ControlError::NotFound { what, resource } if within.map(ResourceRef::Instance) != Some(resource) => {
            let detail = format!(
                "the {what} that this key made has been deleted since; use a new key to make another one"
            );
            Problem::new(ProblemKind::IdempotencyGone, detail)
        }
        error => error.into(),
    }
}

/// The resource, or that the client's copy is still good.
fn fresh(known: Option<Tags>, tag: impl Into<Tag>, answer: &impl Serialize) -> Response {
    let tag = tag.into();
    if known.is_some_and(|tags| tags.match_weakly(tag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        response.headers_mut().insert(header::ETAG, etag(tag));
        return response;
    }
    one(StatusCode::OK, tag, answer)
}

/// What the client has, from `If-None-Match`.
fn known(headers: &HeaderMap) -> Result<Option<Tags>, Problem> {
    Tags::read(headers, &header::IF_NONE_MATCH)
}

/// How a wait came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitOutcome {
    Reached,
    Timeout,
    Stopping,
}

impl WaitOutcome {
    fn mark(self, mut response: Response) -> Response {
        let word = match self {
            WaitOutcome::Reached => "reached",
            WaitOutcome::Timeout => "timeout",
            WaitOutcome::Stopping => "stopping",
        };
        response
            .headers_mut()
            .insert(WAIT_OUTCOME, HeaderValue::from_static(word));
        response
    }
}

/// A wait, no longer than the program allows.
fn bounded<S>(app: &App, wait: Wait<S>) -> Wait<S> {
    Wait {
        timeout: wait.timeout.min(app.options.wait_max),
        ..wait
    }
}

/// Waits; a deadline is not an error, the answer is then the resource as it is.
async fn waited<T>(
    app: &App,
    wait: impl Future<Output = Result<T, ControlError>>,
    present: impl Future<Output = Result<T, ControlError>>,
) -> Result<(T, WaitOutcome), Problem> {
    let outcome = tokio::select! {
        waited = wait => match waited {
            Ok(found) => return Ok((found, WaitOutcome::Reached)),
            Err(ControlError::Deadline { .. }) => WaitOutcome::Timeout,
            Err(error) => return Err(error.into()),
        },
        () = app.stopped() => WaitOutcome::Stopping,
    };
    Ok((present.await?, outcome))
}

/// What a deletion answers: also what is gone already is gone.
fn deleted(result: Result<(), ControlError>, precondition: &Precondition) -> Result<StatusCode, Problem> {
    match result {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(ControlError::NotFound { .. }) => gone(precondition),
        Err(error) => Err(error.into()),
    }
}

/// The same for what an instance has: of an instance that is not there nothing can be gone.
async fn deleted_within(
    app: &App,
    instance: InstanceId,
    result: Result<(), ControlError>,
    precondition: &Precondition,
) -> Result<StatusCode, Problem> {
    if let Err(ControlError::NotFound { .. }) = result {
        app.control.instance(instance).await?;
    }
    deleted(result, precondition)
}

/// The answer to the deletion of what is not there.
fn gone(precondition: &Precondition) -> Result<StatusCode, Problem> {
    if precondition.is_given() {
        Err(precondition_failed())
    } else {
        Ok(StatusCode::NO_CONTENT)
    }
}

/// A part of a collection: items until `limit`, and after which to go on.
struct Part<T, Id> {
    items: Vec<T>,
    next: Option<Id>,
}

impl<T, Id> Part<T, Id> {
    fn answer<'a, A: Serialize>(
        &'a self,
        listing: Listing,
        id: impl Fn(&Id) -> Uuid,
        answer: impl Fn(&'a T) -> A,
    ) -> Response {
        let items: Vec<A> = self.items.iter().map(answer).collect();
        let next = self.next.as_ref().map(|next| {
            let id = id(next);
            (listing.collection.cursor(id), id.to_string())
        });
        listing.page(&items, next)
    }
}

/// A page as the control plane gave it.
fn page<'a, T, A: Serialize>(
    listing: Listing,
    listed: &'a Listed<T, Uuid>,
    answer: impl Fn(&'a T) -> A,
) -> Response {
    let items: Vec<A> = listed.items.iter().map(answer).collect();
    let next = listed
        .next
        .map(|next| (listing.collection.cursor(next), next.to_string()));
    listing.page(&items, next)
}

/// A part of a collection whose filters the control plane does not know: looks through at most
/// [`SCAN_PAGES_MAX`] pages.
async fn filtered<T, Id: Copy, F>(
    mut after: Option<Id>,
    limit: usize,
    fetch: impl Fn(Page<Id>) -> F,
    id: impl Fn(&T) -> Id,
    keep: impl Fn(&T) -> bool,
) -> Result<Part<T, Id>, Problem>
where
    F: Future<Output = Result<Listed<T, Id>, ControlError>>,
{
    let mut items = Vec::new();
    for _ in 0..SCAN_PAGES_MAX {
        let page = fetch(Page {
            after,
            limit: *limits::PAGE_ITEMS.end(),
        })
        .await?;
        for item in page.items {
            if !keep(&item) {
                after = Some(id(&item));
                continue;
            }
            if items.len() == limit {
                return Ok(Part { items, next: after });
            }
            after = Some(id(&item));
            items.push(item);
        }
        match page.next {
            None => return Ok(Part { items, next: None }),
            Some(next) => after = Some(next),
        }
        if items.len() == limit {
            break;
        }
    }
    Ok(Part { items, next: after })
}

/// Whether a filter with these values lets this one through.
pub(crate) fn any_of<T: PartialEq>(wanted: &[T], got: &T) -> bool {
    wanted.is_empty() || wanted.contains(got)
}
