//! `/v1/vs/variables`: everybody reads those of the platform, the administrator changes them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::request::{CreateVariable, Page, UpdateVariable};
use dbaas_controller::view::Variable;
use dbaas_core::name::{Description, InstanceName};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::passwords::id as read_id;
use super::{created, deleted, fresh, known, not_created, one, page};
use crate::access::Caller;
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::decode::{Decoder, parsed};
use crate::error::not_found;
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query};
use crate::v1::fields_of;
use crate::v1::values::{self, VARIABLE_FIXED};

const PATH: &str = "/v1/vs/variables";

fn sees(caller: Caller, record: &Variable) -> bool {
    record.project.is_none_or(|project| caller.sees(project))
}

async fn visible(app: &App, caller: Caller, id: Uuid) -> Result<Variable, Problem> {
    let found = app.control.variable(id).await?;
    match sees(caller, &found) {
        true => Ok(found),
        false => Err(not_found("variable")),
    }
}

fn any_value(raw: &RawValue) -> Result<Value, String> {
    serde_json::from_str(raw.get()).map_err(|_| "is not a value".to_owned())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Variables);
    query.finish()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let mut listed = app.control.variables(wanted).await?;
    listed.items.retain(|item| sees(caller, item));
    Ok(page(
        Listing::new("variables", Collection::Variables, paging.limit, style),
        &listed,
        values::Variable::of,
    ))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let key = idempotency_key(&headers, &caller.scope(), PATH, body.bytes(), BodySecrecy::Plain)?;
    let mut d = Decoder::new("a variable", body.object()?);
    let name = d.required("name", parsed::<InstanceName>);
    let uuid = d.optional("uuid", read_id);
    let description = d.optional("description", parsed::<Description>);
    let value = d.required("value", any_value);
    let request = d.finish(|| {
        let mut request = CreateVariable::new(name?, value?);
        request.id = uuid;
        request.idempotency_key = key;
        request.description = description.unwrap_or_default();
        Some(request)
    })?;
    let made = app.control.create_variable(request).await;
    let made = made.map_err(|error| not_created(error, None))?;
    created(
        &format!("{PATH}/{}", made.id),
        made.revision,
        &values::Variable::of(&made),
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
    Ok(fresh(known, found.revision, &values::Variable::of(&found)))
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
    caller.require_admin()?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&values::Variable::of(&present))?;
    let mut d = Decoder::new("a variable", body.object()?);
    let update = UpdateVariable {
        description: d.optional("description", parsed::<Description>),
        value: d.optional("value", any_value),
        expected,
    };
    for fixed in VARIABLE_FIXED {
        d.unchanged(fixed, fields.get(fixed), "cannot be changed");
    }
    let update = d.finish(|| Some(update))?;
    let updated = app.control.update_variable(id, update).await?;
    Ok(one(
        StatusCode::OK,
        updated.revision,
        &values::Variable::of(&updated),
    ))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    caller.require_admin()?;
    let precondition = Precondition::read(&headers)?;
    let expected = match app.control.variable(id).await {
        Ok(found) => precondition.check(found.revision)?,
        Err(error) => return deleted(Err(error), &precondition),
    };
    deleted(app.control.delete_variable(id, expected).await, &precondition)
}
