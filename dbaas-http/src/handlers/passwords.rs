//! `/v1/secret/passwords`: passwords without their values, and one value at a time for who asks for it by
//! name.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dbaas_controller::request::{CreatePassword, Page, UpdatePassword};
use dbaas_controller::view::{Method, StoredPassword};
use dbaas_core::id::ProjectId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::secret::Secret;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::manifests::{project_for, project_of};
use super::{created, deleted, fresh, known, not_created, one, page};
use crate::access::{Caller, Identity};
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::decode::{Decoder, parsed, text};
use crate::error::not_found;
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query};
use crate::v1::fields_of;
use crate::v1::values::{self, PASSWORD_FIXED, PasswordValue};

const PATH: &str = "/v1/secret/passwords";

async fn visible(app: &App, caller: Caller, id: Uuid) -> Result<StoredPassword, Problem> {
    let found = app.control.password(id).await?;
    match caller.sees(found.project) {
        true => Ok(found),
        false => Err(not_found("password")),
    }
}

pub(super) fn number(raw: &RawValue) -> Result<u64, String> {
    raw.get()
        .parse()
        .map_err(|_| "must be a whole number, 0 or more".to_owned())
}

pub(super) fn id(raw: &RawValue) -> Result<Uuid, String> {
    text(|text| match text.len() {
        36 => Uuid::try_parse(text).map_err(|_| "must be a UUID"),
        _ => Err("must be a UUID"),
    })(raw)
}

fn method(raw: &RawValue) -> Result<Method, String> {
    text(|text| match text {
        "AUTO_HEX" => Ok(Method::AutoHex),
        "AUTO_URL_SAFE" => Ok(Method::AutoUrlSafe),
        "MANUAL" => Ok(Method::Manual),
        _ => Err("must be one of AUTO_HEX, AUTO_URL_SAFE, MANUAL"),
    })(raw)
}

fn value(raw: &RawValue) -> Result<Secret, String> {
    text(|text| match text.is_empty() {
        true => Err("must not be empty"),
        false => Ok(Secret::new(text)),
    })(raw)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Passwords);
    query.finish()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let listed = app.control.passwords(project_of(caller), wanted).await?;
    Ok(page(
        Listing::new("passwords", Collection::Passwords, paging.limit, style),
        &listed,
        values::Password::of,
    ))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let key = idempotency_key(
        &headers,
        &caller.scope(),
        PATH,
        body.bytes(),
        BodySecrecy::HoldsPassword,
    )?;
    let mut d = Decoder::new("a password", body.object()?);
    let name = d.required("name", parsed::<InstanceName>);
    let uuid = d.optional("uuid", id);
    let description = d.optional("description", parsed::<Description>);
    let project = d.optional("project_id", parsed::<ProjectId>);
    let how = d.optional("method", method);
    let length = d.optional("default_length", number);
    let rotation = d.optional("rotation", number);
    let given = d.optional("value", value);
    let mut request = d.finish(|| {
        let mut request = CreatePassword::new(name?);
        request.id = uuid;
        request.description = description.unwrap_or_default();
        request.method = how.unwrap_or(request.method);
        request.length = length.unwrap_or(request.length);
        request.rotation = rotation.unwrap_or_default();
        request.value = given;
        Some(request)
    })?;
    request.project = project_for(caller, project)?;
    request.idempotency_key = key;
    let made = app.control.create_password(request).await;
    let made = made.map_err(|error| not_created(error, None))?;
    created(
        &format!("{PATH}/{}", made.id),
        made.revision,
        &values::Password::of(&made),
    )
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
    Ok(fresh(known, found.revision, &values::Password::of(&found)))
}

/// The value itself. Who read it is in the log before it is answered.
pub(crate) async fn read_value(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
) -> Result<Response, Problem> {
    visible(&app, identity.caller, id).await?;
    let value = app.control.password_value(id, &identity.who).await?;
    let value = value.expose();
    Ok(Json(PasswordValue { value }).into_response())
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    let present = visible(&app, caller, id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&values::Password::of(&present))?;
    let mut d = Decoder::new("a password", body.object()?);
    let update = UpdatePassword {
        name: d.optional("name", parsed::<InstanceName>),
        description: d.optional("description", parsed::<Description>),
        method: d.optional("method", method),
        length: d.optional("default_length", number),
        rotation: d.optional("rotation", number),
        value: d.optional("value", value),
        expected,
    };
    for fixed in PASSWORD_FIXED {
        d.unchanged(fixed, fields.get(fixed), "cannot be changed");
    }
    let update = d.finish(|| Some(update))?;
    let updated = app.control.update_password(id, update).await?;
    Ok(one(
        StatusCode::OK,
        updated.revision,
        &values::Password::of(&updated),
    ))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    let expected = match app.control.password(id).await {
        Ok(found) if !caller.sees(found.project) => return deleted(Ok(()), &precondition),
        Ok(found) => precondition.check(found.revision)?,
        Err(error) => return deleted(Err(error), &precondition),
    };
    deleted(app.control.delete_password(id, expected).await, &precondition)
}
