//! `…/instances/{instance}/actions/…`: what an operator asks for once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::one;
use crate::answer::InstanceAnswer;
use crate::app::App;
use crate::body::OptionalJsonBody;
use crate::path::InstancePath;
use crate::problem::Problem;
use crate::query::NoQuery;
use crate::request::{self, ActionName};

/// A handler for each name; they differ in the body that they take.
macro_rules! action {
    ($handler:ident, $name:ident) => {
        pub(crate) async fn $handler(
            app: State<Arc<App>>,
            instance: InstancePath,
            query: NoQuery,
            headers: HeaderMap,
            body: OptionalJsonBody,
        ) -> Result<Response, Problem> {
            act(ActionName::$name, app, instance, query, headers, body).await
        }
    };
}

action!(switchover, Switchover);
action!(failover, Failover);
action!(restart, Restart);
action!(start, Start);
action!(stop, Stop);

async fn act(
    name: ActionName,
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    _: NoQuery,
    _: HeaderMap,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let action = request::action(name, body.object()?)?;
    let after = app.control.act_on_instance(id, action).await?;
    Ok(one(
        StatusCode::ACCEPTED,
        after.version,
        &InstanceAnswer::of(&after.record),
    ))
}
