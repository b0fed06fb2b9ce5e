//! Paths: their spellings, and the ids in them. An extractor for an instance also checks that the instance
//! exists for the caller, so that no handler can forget it.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{Uri, uri};
use dbaas_controller::error::ControlError;
use dbaas_core::id::{DatabaseId, InstanceId, NodeId, UserId, VersionId};
use uuid::Uuid;

use crate::access::{Caller, Identity};
use crate::app::App;
use crate::error::not_found;
use crate::problem::Problem;
use crate::reference::{ROOT, SHORT_ROOT};

/// Brings a request's path into the one spelling that is routed: the long root, no slash at the end.
pub(crate) fn canonical<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    if let Some(uri) = canonical_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// `None` if the URI is spelled so already (or cannot be spelled otherwise: then it is routed to nothing).
fn canonical_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let trimmed = path
        .strip_suffix('/')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(path);
    let below_short = trimmed
        .strip_prefix(SHORT_ROOT)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    if below_short.is_none() && trimmed.len() == path.len() {
        return None;
    }
    let path = match below_short {
        Some(rest) => format!("{ROOT}{rest}"),
        None => trimmed.to_owned(),
    };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri::Parts::from(uri.clone());
    parts.path_and_query = Some(PathAndQuery::from_str(&path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

async fn id<T: FromStr>(
    parts: &mut Parts,
    state: &Arc<App>,
    name: &str,
    what: &'static str,
) -> Result<T, Problem> {
    // A path that is not UTF-8 leads nowhere, as one that is not a UUID.
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| not_found(what))?;
    let text = params.iter().find(|(key, _)| *key == name).map(|(_, text)| text);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| not_found(what))
}

/// Who calls.
pub(crate) fn caller(parts: &Parts) -> Result<Caller, Problem> {
    // The layer `authenticate` is around every route that has such an extractor.
    parts
        .extensions
        .get::<Caller>()
        .copied()
        .ok_or_else(|| Problem::internal("a route without authentication"))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        caller(parts)
    }
}

impl FromRequestParts<Arc<App>> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let found = parts.extensions.get::<Identity>().cloned();
        found.ok_or_else(|| Problem::internal("a route without authentication"))
    }
}

/// The id of an instance, and whether the caller may know of it.
pub(crate) struct AnyInstancePath {
    pub(crate) id: InstanceId,
    /// It belongs to another project: for this caller it does not exist.
    pub(crate) is_foreign: bool,
}

impl FromRequestParts<Arc<App>> for AnyInstancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = caller(parts)?;
        let id = id(parts, app, "instance", "instance").await?;
        let is_foreign = match caller {
            Caller::Admin => false,
            Caller::Project(_) => match app.control.instance(id).await {
                Ok(found) => !caller.sees(found.spec.project),
                // What follows says so.
                Err(ControlError::NotFound { .. }) => false,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(AnyInstancePath { id, is_foreign })
    }
}

/// An instance that the caller may know of, or that does not exist at all (what follows says so).
pub(crate) struct InstancePath(pub(crate) InstanceId);

impl FromRequestParts<Arc<App>> for InstancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match AnyInstancePath::from_request_parts(parts, app).await? {
            AnyInstancePath { is_foreign: true, .. } => Err(not_found("instance")),
            AnyInstancePath {
                id,
                is_foreign: false,
            } => Ok(InstancePath(id)),
        }
    }
}

/// A database of such an instance.
pub(crate) struct DatabasePath(pub(crate) InstanceId, pub(crate) DatabaseId);

impl FromRequestParts<Arc<App>> for DatabasePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let InstancePath(instance) = InstancePath::from_request_parts(parts, app).await?;
        Ok(DatabasePath(
            instance,
            id(parts, app, "database", "database").await?,
        ))
    }
}

/// A user of such an instance.
pub(crate) struct UserPath(pub(crate) InstanceId, pub(crate) UserId);

impl FromRequestParts<Arc<App>> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let InstancePath(instance) = InstancePath::from_request_parts(parts, app).await?;
        Ok(UserPath(instance, id(parts, app, "user", "user").await?))
    }
}

/// A node of such an instance.
pub(crate) struct NodePath(pub(crate) InstanceId, pub(crate) NodeId);

impl FromRequestParts<Arc<App>> for NodePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let InstancePath(instance) = InstancePath::from_request_parts(parts, app).await?;
        Ok(NodePath(instance, id(parts, app, "node", "node").await?))
    }
}

/// A version of the catalogue.
pub(crate) struct VersionPath(pub(crate) VersionId);

impl FromRequestParts<Arc<App>> for VersionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        Ok(VersionPath(id(parts, app, "version", "version").await?))
    }
}

/// A manifest, an element, a password, a config or a variable: the last id of the path. Whether the caller
/// may know of it, the handler finds out.
pub(crate) struct KeptPath(pub(crate) Uuid);

impl FromRequestParts<Arc<App>> for KeptPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| not_found("resource"))?;
        let text = params.iter().last().map(|(_, text)| text).unwrap_or_default();
        match text.len() {
            36 => Uuid::try_parse(text)
                .map(KeptPath)
                .map_err(|_| not_found("resource")),
            _ => Err(not_found("resource")),
        }
    }
}

/// Nothing is at this path.
pub(crate) async fn no_such_path(request: Request) -> Problem {
    let shown: String = request.uri().path().chars().take(200).collect();
    Problem::new(
        crate::problem::ProblemKind::NoSuchPath,
        format!("there is nothing at {shown}"),
    )
}

/// The path is there, the method is not. The router adds `Allow`.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(
        crate::problem::ProblemKind::MethodNotAllowed,
        "this path does not have this method; the Allow header lists those that it has",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let canonical = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            canonical_uri(&uri).unwrap_or(uri).to_string()
        };
        for (given, routed) in [
            ("/", "/"),
            ("//", "/"),
            ("/healthz/", "/healthz"),
            ("/v1/postgres", "/v1/types/postgres"),
            ("/v1/postgres/instances", "/v1/types/postgres/instances"),
            (
                "/v1/postgres/instances/?limit=1",
                "/v1/types/postgres/instances?limit=1",
            ),
            ("/v1/types/postgres/instances/", "/v1/types/postgres/instances"),
            ("/v1/types/postgres/instances//", "/v1/types/postgres/instances/"),
            ("/v1/postgresql/instances", "/v1/postgresql/instances"),
            (
                "http://localhost:8432/v1/postgres/versions/",
                "http://localhost:8432/v1/types/postgres/versions",
            ),
        ] {
            assert_eq!(canonical(given), routed, "{given}");
        }
    }
}
