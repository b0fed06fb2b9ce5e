//! `/v1/iam/tokens`: who may call, for the administrator. A token's text is answered once, when it is made.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::request::{CreateToken, Page, UpdateToken};
use dbaas_core::id::ProjectId;
use dbaas_core::name::{Description, InstanceName};
use serde_json::value::RawValue;

use super::passwords::id as read_id;
use super::{created, deleted, fresh, known, not_created, one, page};
use crate::access::Identity;
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::decode::{Decoder, parsed};
use crate::listing::{Listing, Wanted};
use crate::path::KeptPath;
use crate::problem::{Problem, ProblemKind};
use crate::query::{Collection, NoQuery, Query, parsed as parsed_parameter};
use crate::scopes::{InvalidScope, SCOPES_MAX, Scopes};
use crate::v1::fields_of;
use crate::v1::tokens::{FIXED, NewToken, Token};

const PATH: &str = "/v1/iam/tokens";

fn scopes(raw: &RawValue) -> Result<Scopes, String> {
    let words: Vec<String> =
        serde_json::from_str(raw.get()).map_err(|_| "must be a list of scopes".to_owned())?;
    if !(1..=SCOPES_MAX).contains(&words.len()) {
        return Err(format!("must have 1 to {SCOPES_MAX} scopes, has {}", words.len()));
    }
    Scopes::new(words).map_err(|error: InvalidScope| error.to_string())
}

/// Nobody gives what he does not have.
fn covered(identity: &Identity, scopes: &Scopes) -> Result<(), Problem> {
    match identity.scopes.cover(scopes) {
        true => Ok(()),
        false => Err(Problem::new(
            ProblemKind::Forbidden,
            "a token cannot allow more than the one that makes it",
        )),
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    identity: Identity,
    style: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Tokens);
    let names: Vec<InstanceName> = query.many("name", parsed_parameter);
    query.finish()?;
    identity.caller.require_admin()?;
    let wanted = Page {
        after: paging.after,
        limit: paging.limit,
    };
    let mut listed = app.control.tokens(wanted).await?;
    listed.items.retain(|item| super::any_of(&names, &item.name));
    Ok(page(
        Listing::new("tokens", Collection::Tokens, paging.limit, style),
        &listed,
        Token::of,
    ))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    identity: Identity,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    identity.caller.require_admin()?;
    let scope = identity.caller.scope();
    let key = idempotency_key(&headers, &scope, PATH, body.bytes(), BodySecrecy::Plain)?;
    let mut d = Decoder::new("a token", body.object()?);
    let name = d.required("name", parsed::<InstanceName>);
    let uuid = d.optional("uuid", read_id);
    let description = d.optional("description", parsed::<Description>);
    let project = d.or_null("project_id", parsed::<ProjectId>);
    let scopes = d.optional("scopes", scopes);
    let (request, scopes) = d.finish(|| {
        let scopes = scopes.unwrap_or_default();
        let request = CreateToken {
            id: uuid,
            name: name?,
            description: description.unwrap_or_default(),
            project,
            scopes: scopes.words().to_vec(),
            idempotency_key: key,
        };
        Some((request, scopes))
    })?;
    covered(&identity, &scopes)?;
    let made = app.control.create_token(request).await;
    let made = made.map_err(|error| not_created(error, None))?;
    let answer = NewToken {
        token: Token::of(&made.token),
        text: made.text.as_ref().map(dbaas_core::secret::Secret::expose),
    };
    created(&format!("{PATH}/{}", made.token.id), made.token.revision, &answer)
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    identity.caller.require_admin()?;
    let known = known(&headers)?;
    let found = app.control.token(id).await?;
    Ok(fresh(known, found.revision, &Token::of(&found)))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    identity.caller.require_admin()?;
    let precondition = Precondition::read(&headers)?;
    let present = app.control.token(id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&Token::of(&present))?;
    let mut d = Decoder::new("a token", body.object()?);
    let name = d.optional("name", parsed::<InstanceName>);
    let description = d.optional("description", parsed::<Description>);
    let scopes = d.optional("scopes", scopes);
    for fixed in FIXED {
        d.unchanged(fixed, fields.get(fixed), "cannot be changed; make another token");
    }
    let scopes = d.finish(|| Some(scopes))?;
    if let Some(scopes) = &scopes {
        covered(&identity, scopes)?;
    }
    let update = UpdateToken {
        name,
        description,
        scopes: scopes.map(|scopes| scopes.words().to_vec()),
        expected,
    };
    let updated = app.control.update_token(id, update).await?;
    Ok(one(StatusCode::OK, updated.revision, &Token::of(&updated)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    identity: Identity,
    KeptPath(id): KeptPath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    identity.caller.require_admin()?;
    let precondition = Precondition::read(&headers)?;
    let expected = match app.control.token(id).await {
        Ok(found) => precondition.check(found.revision)?,
        Err(error) => return deleted(Err(error), &precondition),
    };
    deleted(app.control.delete_token(id, expected).await, &precondition)
}
