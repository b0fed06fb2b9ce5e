//! `/v1/config/configs`: rendered texts. Manifests make them; here they are read, and deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::request::Page;
use dbaas_controller::view::StoredConfig;
use uuid::Uuid;

use super::manifests::project_of;
use super::{deleted, fresh, known, page};
use crate::access::{Caller, Identity};
use crate::app::App;
use crate::conditional::Precondition;
use crate::error::not_found;
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query};
use crate::scopes::READ_SECRET;
use crate::v1::values::Config;

async fn visible(app: &App, caller: Caller, id: Uuid) -> Result<StoredConfig, Problem> {
    let found = app.control.config(id).await?;
    match caller.sees(found.project) {
        true => Ok(found),
        false => Err(not_found("config")),
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Configs);
    query.finish()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let listed = app.control.configs(project_of(caller), wanted).await?;
    Ok(page(
        Listing::new("configs", Collection::Configs, paging.limit, style),
        &listed,
        Config::of,
    ))
}

/// The config, with its text unless that holds a secret and the caller may not read any.
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&headers)?;
    let found = visible(&app, identity.caller, id).await?;
    if found.is_secret && !identity.scopes.allow(READ_SECRET) {
        return Ok(fresh(known, found.revision, &Config::of(&found)));
    }
    let content = app.control.config_content(id, &identity.who).await?;
    let answer = Config::of(&found).with(content.expose());
    Ok(fresh(known, found.revision, &answer))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    let expected = match app.control.config(id).await {
        Ok(found) if !caller.sees(found.project) => return deleted(Ok(()), &precondition),
        Ok(found) => precondition.check(found.revision)?,
        Err(error) => return deleted(Err(error), &precondition),
    };
    deleted(app.control.delete_config(id, expected).await, &precondition)
}
