//! Tokens: who may call, and what.

use serde_json::Value;

use super::{Body, Context};
use crate::arguments::Tokens;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::resolve;
use crate::screen::{Column, text, time};

const TOKENS: &str = "/v1/iam/tokens";

pub(crate) async fn run(context: &Context, command: Tokens) -> Result<(), Failure> {
    let Context { client, screen } = context;
    match command {
        Tokens::Create {
            name,
            project,
            scope,
            description,
        } => {
            let body = Body::default()
                .with("name", Some(name))
                .with("project_id", project)
                .with("scopes", (!scope.is_empty()).then_some(scope))
                .with("description", description);
            let made = client.post(TOKENS, &body.whole()).await?;
            if screen.is_table() {
                screen.note("the token below is shown this once");
            }
            show(context, &made)
        }
        Tokens::List => {
            let tokens = client.list(TOKENS, "tokens").await?;
            let columns: [Column<'_>; 5] = [
                ("NAME", &|t| text(t, "name")),
                ("FOR", &whom),
                ("SCOPES", &scopes),
                ("CREATED", &|t| time(t, "created_at")),
                ("UUID", &|t| text(t, "uuid")),
            ];
            screen.list(&tokens, &columns)
        }
        Tokens::Show { token } => show(context, &resolve::token(client, &token).await?.item),
        Tokens::Edit {
            token,
            name,
            scope,
            description,
        } => {
            let found = resolve::token(client, &token).await?;
            let body = Body::default()
                .with("name", name)
                .with("scopes", (!scope.is_empty()).then_some(scope))
                .with("description", description)
                .change()?;
            show(context, &client.patch(&found.path, &body).await?)
        }
        Tokens::Delete { token, consent } => {
            let found = resolve::token(client, &token).await?;
            let question = format!(
                "Delete the token {:?}, which whoever has it cannot use then",
                found.name()
            );
            confirm(consent, &question)?;
            client.delete(&found.path).await?;
            screen.note(&format!("{} is gone", found.name()));
            Ok(())
        }
    }
}

fn whom(token: &Value) -> String {
    match token["project_id"].as_str() {
        Some(project) => format!("project {project}"),
        None => "administrator".to_owned(),
    }
}

fn scopes(token: &Value) -> String {
    let scopes = token["scopes"].as_array();
    let words: Vec<&str> = scopes.into_iter().flatten().filter_map(Value::as_str).collect();
    words.join(", ")
}

fn show(context: &Context, token: &Value) -> Result<(), Failure> {
    let fields: [Column<'_>; 7] = [
        ("name", &|t| text(t, "name")),
        ("description", &|t| text(t, "description")),
        ("token", &|t| text(t, "token")),
        ("for", &whom),
        ("scopes", &scopes),
        ("created", &|t| time(t, "created_at")),
        ("uuid", &|t| text(t, "uuid")),
    ];
    context.screen.one(token, &fields)
}
