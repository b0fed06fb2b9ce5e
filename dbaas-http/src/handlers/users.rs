//! `…/instances/{instance}/users`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::request::Page;
use dbaas_controller::view::User;
use dbaas_core::id::UserId;
use dbaas_core::name::{Description, UserName};

use super::{
    OBJECT_LIFECYCLES, Part, any_of, bounded, created, deleted_within, filtered, fresh, known, not_created,
    one, project_of, waited,
};
use crate::access::Caller;
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::listing::{Listing, Wanted};
use crate::path::{InstancePath, UserPath};
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query, one_of, parsed};
use crate::reference::{instance_uri, user_uri};
use crate::v1::fields::Parent;
use crate::v1::{self, fields_of};

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InstancePath(instance): InstancePath,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Users);
    let names: Vec<UserName> = query.many("name", parsed);
    let states = query.many("status", |text| one_of(text, &OBJECT_LIFECYCLES));
    let ids: Vec<UserId> = query.many("uuid", parsed);
    let descriptions: Vec<Description> = query.many("description", parsed);
    query.finish()?;
    let project = project_of(&app, instance).await?;
    let after = paging.after.map(UserId::from_uuid);
    let all = names.is_empty() && states.is_empty() && ids.is_empty() && descriptions.is_empty();
    let part = if all {
        let listed = app
            .control
            .users(
                instance,
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
        let fetch = |page| app.control.users(instance, page);
        let keep = |record: &User| {
            any_of(&names, &record.name)
                && any_of(&states, &record.lifecycle)
                && any_of(&ids, &record.id)
                && any_of(&descriptions, &record.description)
        };
        filtered(after, paging.limit, fetch, |record: &User| record.id, keep).await?
    };
    let listing = Listing::new("users", Collection::Users, paging.limit, wanted);
    Ok(part.answer(
        listing,
        |id| id.uuid(),
        |record| v1::users::User::of(record, project),
    ))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    InstancePath(instance): InstancePath,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let path = format!("{}/users", instance_uri(instance));
    let key = idempotency_key(
        &headers,
        &caller.scope(),
        &path,
        body.bytes(),
        BodySecrecy::HoldsPassword,
    )?;
    let parent = Parent::of(&app, instance).await?;
    let mut create = v1::users::create(body.object()?, parent)?;
    create.idempotency_key = key;
    let made = app.control.create_user(instance, create).await;
    let made = made.map_err(|error| not_created(error, Some(instance)))?;
    created(
        &user_uri(instance, made.id),
        made.revision,
        &v1::users::User::of(&made, parent.project),
    )
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    UserPath(instance, id): UserPath,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let wait = query.wait(&OBJECT_LIFECYCLES);
    query.finish()?;
    let known = known(&headers)?;
    let project = project_of(&app, instance).await?;
    let Some(wait) = wait else {
        let found = app.control.user(instance, id).await?;
        return Ok(fresh(
            known,
            found.revision,
            &v1::users::User::of(&found, project),
        ));
    };
    let wait = bounded(&app, wait);
    let waiting = app.control.wait_for_user(instance, id, wait.state, wait.timeout);
    let (found, outcome) = waited(&app, waiting, app.control.user(instance, id)).await?;
    Ok(outcome.mark(one(
        StatusCode::OK,
        found.revision,
        &v1::users::User::of(&found, project),
    )))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    UserPath(instance, id): UserPath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    let parent = Parent::of(&app, instance).await?;
    let present = app.control.user(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&v1::users::User::of(&present, parent.project))?;
    let mut update = v1::users::update(body.object()?, parent, &fields)?;
    update.expected = expected;
    let updated = app.control.update_user(instance, id, update).await?;
    Ok(one(
        StatusCode::OK,
        updated.revision,
        &v1::users::User::of(&updated, parent.project),
    ))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    UserPath(instance, id): UserPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    let expected = match precondition.is_given() {
        false => None,
        true => match app.control.user(instance, id).await {
            Ok(present) => precondition.check(present.revision)?,
            Err(error) => return deleted_within(&app, instance, Err(error), &precondition).await,
        },
    };
    let result = app.control.delete_user(instance, id, expected).await;
    deleted_within(&app, instance, result, &precondition).await
}
