//! `/v1/em/elements`: what was made of manifests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use dbaas_controller::request::Page;
use dbaas_controller::view::Element;
use serde_json::json;
use uuid::Uuid;

use super::events::{Log, after, stream};
use super::manifests::project_of;
use super::{fresh, known, page};
use crate::access::Caller;
use crate::app::{App, WaitingPlace, wants_event_stream};
use crate::error::not_found;
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query, parsed, sequence};
use crate::v1::elements::{self, exports, imports};
use crate::v1::events::Event;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn visible(app: &App, caller: Caller, id: Uuid) -> Result<Element, Problem> {
    let found = app.control.element(id).await?;
    match caller.sees(found.project) {
        true => Ok(found),
        false => Err(not_found("element")),
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Elements);
    let names: Vec<String> = query.many("name", parsed);
    query.finish()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let mut listed = app.control.elements(project_of(caller), wanted).await?;
    listed.items.retain(|item| super::any_of(&names, &item.name));
    Ok(page(
        Listing::new("elements", Collection::Elements, paging.limit, style),
        &listed,
        elements::Element::of,
    ))
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&headers)?;
    let found = visible(&app, caller, id).await?;
    Ok(fresh(known, found.revision, &elements::Element::of(&found)))
}

pub(crate) async fn resources(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    visible(&app, caller, id).await?;
    let found = app.control.element_resources(id).await?;
    let resources: Vec<elements::Resource> = found.iter().map(elements::Resource::of).collect();
    Ok(Json(json!({ "resources": resources })).into_response())
}

pub(crate) async fn list_imports(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found = visible(&app, caller, id).await?;
    Ok(Json(json!({ "imports": imports(&found) })).into_response())
}

pub(crate) async fn list_exports(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found = visible(&app, caller, id).await?;
    Ok(Json(json!({ "exports": exports(&found) })).into_response())
}

/// The log of an element: how far an apply is, step by step; as pages or as Server-Sent Events.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    place: Option<Extension<WaitingPlace>>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let limit = query.limit();
    let after = after(&mut query);
    query.finish()?;
    visible(&app, caller, id).await?;
    if let Some(Extension(place)) = place
        && wants_event_stream(&headers)
    {
        let last = match headers.get(LAST_EVENT_ID) {
            None => None,
            Some(value) => {
                let last = value
                    .to_str()
                    .map_err(|_| "must be the id of an event")
                    .and_then(sequence);
                Some(last.map_err(|detail| Problem::header(&LAST_EVENT_ID, detail))?)
            }
        };
        return stream(app, Log::Element(id), last.or(after).unwrap_or(0), place).await;
    }
    let found = app.control.events_about(id, after.unwrap_or(0), limit).await?;
    let next = found.last().filter(|_| found.len() == limit);
    let next = next.map(|last| Collection::Events.log_cursor(last.sequence));
    let events: Vec<Event<'_>> = found.iter().map(Event::of).collect();
    Ok(Json(json!({ "events": events, "next": next })).into_response())
}
