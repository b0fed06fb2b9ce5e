//! `…/actions/adopt` of a database or user: taking over what the control plane did not make.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Parent, one};
use crate::app::App;
use crate::body::OptionalJsonBody;
use crate::conditional::Precondition;
use crate::path::{DatabasePath, UserPath};
use crate::problem::Problem;
use crate::query::NoQuery;
use crate::v1::actions;
use crate::v1::databases::Database;
use crate::v1::users::User;

pub(crate) async fn database(
    State(app): State<Arc<App>>,
    DatabasePath(instance, id): DatabasePath,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    actions::nothing(body.object()?)?;
    let parent = Parent::of(&app, instance).await?;
    let present = app.control.database(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let after = app.control.adopt_database(instance, id, expected).await?;
    let answer = Database::of(&after, parent.project);
    Ok(one(StatusCode::ACCEPTED, after.revision, &answer))
}

pub(crate) async fn user(
    State(app): State<Arc<App>>,
    UserPath(instance, id): UserPath,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    actions::nothing(body.object()?)?;
    let parent = Parent::of(&app, instance).await?;
    let present = app.control.user(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let after = app.control.adopt_user(instance, id, expected).await?;
    let answer = User::of(&after, parent.project);
    Ok(one(StatusCode::ACCEPTED, after.revision, &answer))
}
