//! `/v1/types/postgres/versions`: everybody reads the catalogue, the administrator changes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use dbaas_controller::request::Page;
use dbaas_controller::view::Version;
use dbaas_core::id::VersionId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::parameters;
use dbaas_core::version::ImageRef;

use super::{Part, any_of, created, deleted, filtered, fresh, known, not_created, one};
use crate::access::Caller;
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::listing::{Listing, Wanted};
use crate::path::VersionPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query, one_of, parsed};
use crate::reference::{ROOT, version_uri};
use crate::v1::versions::{Parameter, Parameters};
use crate::v1::{self, fields_of};

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Versions);
    let names: Vec<InstanceName> = query.many("name", parsed);
    let images: Vec<ImageRef> = query.many("image", parsed);
    let deprecated = query.many("deprecated", |text| {
        one_of(text, &[("true", true), ("false", false)])
    });
    let ids: Vec<VersionId> = query.many("uuid", parsed);
    let descriptions: Vec<Description> = query.many("description", parsed);
    query.finish()?;
    let after = paging.after.map(VersionId::from_uuid);
    let all = names.is_empty() && images.is_empty() && deprecated.is_empty();
    let part = if all && ids.is_empty() && descriptions.is_empty() {
        let listed = app
            .control
            .versions(Page {
                after,
                limit: paging.limit,
            })
            .await?;
        Part {
            items: listed.items,
            next: listed.next,
        }
    } else {
        let fetch = |page| app.control.versions(page);
        let keep = |record: &Version| {
            any_of(&names, &record.name)
                && any_of(&images, &record.image)
                && any_of(&deprecated, &record.deprecated)
                && any_of(&ids, &record.id)
                && any_of(&descriptions, &record.description)
        };
        filtered(after, paging.limit, fetch, |record: &Version| record.id, keep).await?
    };
    let listing = Listing::new("versions", Collection::Versions, paging.limit, wanted);
    Ok(part.answer(listing, |id| id.uuid(), v1::versions::Version::of))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let path = format!("{ROOT}/versions");
    let key = idempotency_key(&headers, &caller.scope(), &path, body.bytes(), BodySecrecy::Plain)?;
    let mut create = v1::versions::create(body.object()?)?;
    create.idempotency_key = key;
    let made = app
        .control
        .create_version(create)
        .await
        .map_err(|error| not_created(error, None))?;
    created(
        &version_uri(made.id),
        made.revision,
        &v1::versions::Version::of(&made),
    )
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    _: Caller,
    VersionPath(id): VersionPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&headers)?;
    let found = app.control.version(id).await?;
    Ok(fresh(known, found.revision, &v1::versions::Version::of(&found)))
}

/// The settings of the version's major release.
pub(crate) async fn parameters(
    State(app): State<Arc<App>>,
    _: Caller,
    VersionPath(id): VersionPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found = app.control.version(id).await?;
    let known = found.major().map(parameters::catalogue).unwrap_or_default();
    let parameters = known.iter().map(Parameter::of).collect();
    Ok(Json(Parameters { parameters }).into_response())
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    VersionPath(id): VersionPath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let precondition = Precondition::read(&headers)?;
    let present = app.control.version(id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&v1::versions::Version::of(&present))?;
    let mut update = v1::versions::update(body.object()?, &fields)?;
    update.expected = expected;
    let updated = app.control.update_version(id, update).await?;
    Ok(one(
        StatusCode::OK,
        updated.revision,
        &v1::versions::Version::of(&updated),
    ))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    VersionPath(id): VersionPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    caller.require_admin()?;
    let precondition = Precondition::read(&headers)?;
    let expected = match precondition.is_given() {
        false => None,
        true => match app.control.version(id).await {
            Ok(present) => precondition.check(present.revision)?,
            Err(error) => return deleted(Err(error), &precondition),
        },
    };
    deleted(app.control.delete_version(id, expected).await, &precondition)
}
