//! `/v1/em/manifests`: texts that are kept, and what is done with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dbaas_controller::elements::{ApplyOptions, ManifestRequest, Reach};
use dbaas_controller::request::Page;
use dbaas_controller::view::StoredManifest;
use dbaas_core::id::ProjectId;
use dbaas_manifest::plan::Destroy;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{created, deleted, fresh, known, not_created, one, page};
use crate::access::{Caller, Identity};
use crate::app::App;
use crate::body::{DocumentBody, OptionalJsonBody};
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::decode::{Decoder, Object, boolean};
use crate::error::not_found;
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query, parsed};
use crate::scopes::READ_SECRET;
use crate::v1::elements::{Applied, Element, Manifest, Plan};

const PATH: &str = "/v1/em/manifests";

/// What the caller may see of projects.
pub(super) fn project_of(caller: Caller) -> Option<ProjectId> {
    match caller {
        Caller::Admin => None,
        Caller::Project(own) => Some(own),
    }
}

/// The project of what is made.
pub(super) fn project_for(caller: Caller, asked: Option<ProjectId>) -> Result<ProjectId, Problem> {
    let project = asked.or(project_of(caller)).unwrap_or(ProjectId::DEFAULT);
    if caller.sees(project) {
        return Ok(project);
    }
    Err(Problem::new(
        crate::problem::ProblemKind::Forbidden,
        "project_id is not the project of the token",
    ))
}

fn reach(caller: Caller) -> Reach {
    match caller {
        Caller::Admin => Reach::AnyProject,
        Caller::Project(_) => Reach::OwnProject,
    }
}

async fn visible(app: &App, caller: Caller, id: Uuid) -> Result<StoredManifest, Problem> {
    let found = app.control.manifest(id).await?;
    match caller.sees(found.project) {
        true => Ok(found),
        false => Err(not_found("manifest")),
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Manifests);
    let names: Vec<String> = query.many("name", parsed);
    query.finish()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let mut listed = app.control.manifests(project_of(caller), wanted).await?;
    listed.items.retain(|item| super::any_of(&names, &item.name));
    Ok(page(
        Listing::new("manifests", Collection::Manifests, paging.limit, style),
        &listed,
        Manifest::of,
    ))
}

/// The JSON Schema of manifests.
pub(crate) async fn schema(_: NoQuery) -> Json<serde_json::Value> {
    Json(dbaas_manifest::schema::schema())
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut query: Query,
    headers: HeaderMap,
    body: DocumentBody,
) -> Result<Response, Problem> {
    let name: Option<String> = query.one("name", parsed);
    let project: Option<ProjectId> = query.one("project_id", parsed);
    query.finish()?;
    let key = idempotency_key(
        &headers,
        &caller.scope(),
        PATH,
        body.bytes(),
        BodySecrecy::HoldsPassword,
    )?;
    let request = ManifestRequest {
        name,
        project: project_for(caller, project)?,
        idempotency_key: key,
        ..ManifestRequest::new(body.text()?)
    };
    let made = app.control.create_manifest(request).await;
    let made = made.map_err(|error| not_created(error, None))?;
    let uri = format!("{PATH}/{}", made.id);
    created(&uri, made.revision, &Manifest::of(&made))
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&headers)?;
    let found = visible(&app, identity.caller, id).await?;
    if wants_yaml(&headers) {
        // It may hold secrets.
        identity.scopes.require(READ_SECRET)?;
        let text = app.control.read_manifest_text(id, &identity.who).await?;
        let yaml = [(header::CONTENT_TYPE, "application/yaml")];
        return Ok((yaml, text.expose().to_owned()).into_response());
    }
    Ok(fresh(known, found.revision, &Manifest::of(&found)))
}

/// Whether the client asks for the text itself.
fn wants_yaml(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| {
        let first = accepted.split([',', ';']).next().unwrap_or_default().trim();
        first.eq_ignore_ascii_case("application/yaml")
    })
}

pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
    body: DocumentBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    let present = visible(&app, caller, id).await?;
    let expected = precondition.check(present.revision)?;
    let request = ManifestRequest {
        name: Some(present.name),
        project: present.project,
        ..ManifestRequest::new(body.text()?)
    };
    let written = app.control.replace_manifest(id, request, expected).await?;
    Ok(one(StatusCode::OK, written.revision, &Manifest::of(&written)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    let expected = match app.control.manifest(id).await {
        Ok(found) if !caller.sees(found.project) => return deleted(Ok(()), &precondition),
        Ok(found) => precondition.check(found.revision)?,
        Err(error) => return deleted(Err(error), &precondition),
    };
    deleted(app.control.delete_manifest(id, expected).await, &precondition)
}

/// What the body of an action may say.
#[derive(Default)]
struct Said {
    allow_destroy: bool,
    skip_unknown: bool,
    variables: BTreeMap<String, String>,
}

fn said(object: Object<'_>) -> Result<Said, Problem> {
    let mut d = Decoder::new("an action", object);
    let allow_destroy = d.optional("allow_destroy", boolean);
    let skip_unknown = d.optional("skip_unknown", boolean);
    let variables = d.optional("variables", variables);
    d.finish(|| {
        Some(Said {
            allow_destroy: allow_destroy.unwrap_or_default(),
            skip_unknown: skip_unknown.unwrap_or_default(),
            variables: variables.unwrap_or_default(),
        })
    })
}

fn variables(raw: &RawValue) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(raw.get()).map_err(|_| "must be an object of texts".to_owned())
}

impl Said {
    fn destroy(&self) -> Destroy {
        match self.allow_destroy {
            true => Destroy::Allow,
            false => Destroy::Refuse,
        }
    }
}

async fn request(app: &App, caller: Caller, id: Uuid, said: &Said) -> Result<ManifestRequest, Problem> {
    let found = visible(app, caller, id).await?;
    Ok(ManifestRequest {
        text: app.control.manifest_text(id).await?.expose().to_owned(),
        name: Some(found.name),
        variables: said.variables.clone(),
        skip_unknown: said.skip_unknown,
        project: found.project,
        reach: reach(caller),
        manifest: Some(id),
        idempotency_key: None,
    })
}

/// `validate` and `plan`: nothing is written.
pub(crate) async fn plan(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let said = said(body.object()?)?;
    let request = request(&app, caller, id, &said).await?;
    let plan = app.control.plan_manifest(request, said.destroy()).await?;
    Ok(Json(Plan::of(&plan)).into_response())
}

/// `install` and `upgrade`: the element becomes what the manifest says.
pub(crate) async fn install(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let said = said(body.object()?)?;
    let request = request(&app, caller, id, &said).await?;
    let options = ApplyOptions {
        destroy: said.destroy(),
        ..ApplyOptions::default()
    };
    let (element, plan) = app.control.begin_apply(request, options).await?;
    let answer = Applied {
        element: Element::of(&element),
        plan: Plan::of(&plan),
    };
    Ok(one(StatusCode::ACCEPTED, element.revision, &answer))
}

/// `uninstall`: the element of this manifest's name.
pub(crate) async fn uninstall(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let said = said(body.object()?)?;
    let found = visible(&app, caller, id).await?;
    let element = app.control.element_named(found.project, &found.name).await?;
    let element = element.ok_or_else(|| not_found("element"))?;
    uninstalled(&app, element.id, said.destroy()).await
}

/// The same of an element, whose manifest may be gone.
pub(crate) async fn uninstall_element(
    State(app): State<Arc<App>>,
    caller: Caller,
    KeptPath(id): KeptPath,
    _: NoQuery,
    body: OptionalJsonBody,
) -> Result<Response, Problem> {
    let said = said(body.object()?)?;
    super::elements::visible(&app, caller, id).await?;
    uninstalled(&app, id, said.destroy()).await
}

async fn uninstalled(app: &App, id: Uuid, destroy: Destroy) -> Result<Response, Problem> {
    let options = ApplyOptions {
        destroy,
        ..ApplyOptions::default()
    };
    let before = app.control.element(id).await?;
    app.control.begin_uninstall(id, options).await?;
    // It may be gone already.
    let now = app.control.element(id).await.unwrap_or(before);
    Ok(one(StatusCode::ACCEPTED, now.revision, &Element::of(&now)))
}
