//! `/v1/types/postgres/instances`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::Page;
use dbaas_controller::view;
use dbaas_core::id::InstanceId;

use super::{
    LIFECYCLES, Part, any_of, bounded, created, deleted, filtered, fresh, gone, known, not_created, one,
    waited,
};
use crate::access::Caller;
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::listing::{Listing, Wanted};
use crate::path::{AnyInstancePath, InstancePath};
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query};
use crate::reference::{ROOT, instance_uri};
use crate::v1::instances::{Filters, Instance};
use crate::v1::{self, fields_of};

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Instances);
    let Filters { mut known, rest } = Filters::read(&mut query);
    query.finish()?;

    let nothing = Part {
        items: Vec::new(),
        next: None,
    };
    let mut is_nothing = false;
    if let Caller::Project(own) = caller {
        // Other projects have nothing that this caller could see.
        is_nothing = !any_of(&known.projects, &own);
        known.projects = vec![own];
    }
    let after = paging.after.map(InstanceId::from_uuid);
    let part = if is_nothing {
        nothing
    } else if rest.is_empty() {
        let listed = app
            .control
            .instances(
                known,
                Page {
                    after,
                    limit: paging.limit,
                },
            )
            .await?;
        Part {
            items: listed.items,
            next: listed.next,
        }
    } else {
        let fetch = |page| app.control.instances(known.clone(), page);
        filtered(
            after,
            paging.limit,
            fetch,
            |found: &view::Instance| found.id,
            |found| rest.keep(found),
        )
        .await?
    };
    let listing = Listing::new("instances", Collection::Instances, paging.limit, wanted);
    Ok(part.answer(listing, |id| id.uuid(), Instance::of))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let path = format!("{ROOT}/instances");
    let key = idempotency_key(&headers, &caller.scope(), &path, body.bytes(), BodySecrecy::Plain)?;
    let mut create = v1::instances::create(body.object()?, caller)?;
    create.idempotency_key = key;
    let made = app
        .control
        .create_instance(create)
        .await
        .map_err(|error| not_created(error, None))?;
    created(&instance_uri(made.id), made.revision, &Instance::of(&made))
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let wait = query.wait(&LIFECYCLES);
    query.finish()?;
    let known = known(&headers)?;
    let Some(wait) = wait else {
        let found = app.control.instance(id).await?;
        return Ok(fresh(known, found.revision, &Instance::of(&found)));
    };
    let wait = bounded(&app, wait);
    let waiting = app.control.wait_for_instance(id, wait.state, wait.timeout);
    let (found, outcome) = waited(&app, waiting, app.control.instance(id)).await?;
    Ok(outcome.mark(one(StatusCode::OK, found.revision, &Instance::of(&found))))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    let present = app.control.instance(id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&Instance::of(&present))?;
    let mut update = v1::instances::update(body.object()?, &fields)?;
    update.expected = expected;
    let updated = app.control.update_instance(id, update).await?;
    Ok(one(StatusCode::OK, updated.revision, &Instance::of(&updated)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    AnyInstancePath { id, is_foreign }: AnyInstancePath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    if is_foreign {
        // As if it were gone: the two must look the same.
        return gone(&precondition);
    }
    let expected = match precondition.is_given() {
        false => None,
        true => match app.control.instance(id).await {
            Ok(present) => precondition.check(present.revision)?,
            Err(ControlError::NotFound { .. }) => return gone(&precondition),
            Err(error) => return Err(error.into()),
        },
    };
    deleted(app.control.delete_instance(id, expected).await, &precondition)
}
