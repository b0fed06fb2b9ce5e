//! `…/instances/{instance}/actions/…`: what an operator asks for once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::request::ActOnInstance;

use super::{one, project_of};
use crate::access::Caller;
use crate::app::App;
use crate::body::OptionalJsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::path::{DatabasePath, InstancePath, UserPath};
use crate::problem::Problem;
use crate::query::NoQuery;
use crate::reference::instance_uri;
use crate::v1::actions::{self, ActionName};
use crate::v1::databases::Database;
use crate::v1::instances::Instance;
use crate::v1::users::User;

/// A handler for each name; they differ in the body that they take.
macro_rules! action {
    ($handler:ident, $name:ident) => {
        pub(crate) async fn $handler(
            app: State<Arc<App>>,
            instance: InstancePath,
            caller: Caller,
            query: NoQuery,
            headers: HeaderMap,
            body: OptionalJsonBody,
        ) -> Result<Response, Problem> {
            act(
                ActionName::$name,
                app,
                instance,
                caller,
                query,
                headers,
                body,
            )
            .await
        }
    };
}

action!(switchover, Switchover);
action!(failover, Failover);
action!(restart, Restart);
action!(start, Start);
action!(stop, Stop);

pub(crate) async fn repair_database_access(
    State(app): State<Arc<App>>,
    DatabasePath(instance, id): DatabasePath,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    actions::nothing(body.object()?)?;
    let present = app.control.database(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let after = app.control.repair_database_access(instance, id, expected).await?;
    let answer = Database::of(&after, project_of(&app, instance).await?);
    Ok(one(StatusCode::ACCEPTED, after.revision, &answer))
}

pub(crate) async fn update_extensions(
    State(app): State<Arc<App>>,
    DatabasePath(instance, id): DatabasePath,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    actions::nothing(body.object()?)?;
    let present = app.control.database(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let after = app.control.update_extensions(instance, id, expected).await?;
    let answer = Database::of(&after, project_of(&app, instance).await?);
    Ok(one(StatusCode::ACCEPTED, after.revision, &answer))
}

pub(crate) async fn repair_user_access(
    State(app): State<Arc<App>>,
    UserPath(instance, id): UserPath,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    actions::nothing(body.object()?)?;
    let present = app.control.user(instance, id).await?;
    let expected = precondition.check(present.revision)?;
    let after = app.control.repair_user_access(instance, id, expected).await?;
    let answer = User::of(&after, project_of(&app, instance).await?);
    Ok(one(StatusCode::ACCEPTED, after.revision, &answer))
}

async fn act(
    name: ActionName,
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let path = format!("{}/actions/{name:?}", instance_uri(id));
    let key = idempotency_key(&headers, &caller.scope(), &path, body.bytes(), BodySecrecy::Plain)?;
    let precondition = Precondition::read(&headers)?;
    let action = actions::action(name, body.object()?)?;
    let expected = match precondition.version() {
        // Judged together with the key: a call that is repeated does not find the version that it was meant
        // for.
        Some(version) => Some(version),
        None if !precondition.is_given() => None,
        None => precondition.check(app.control.instance(id).await?.revision)?,
    };
    let act = ActOnInstance {
        action,
        expected,
        idempotency_key: key,
    };
    let after = app.control.act_on_instance(id, act).await?;
    Ok(one(StatusCode::ACCEPTED, after.revision, &Instance::of(&after)))
}
