//! Settings of an instance's PostgreSQL.

use serde_json::{Map, Value, json};

use super::Context;
use crate::arguments::{Parameters, Waiting};
use crate::client::ROOT;
use crate::failure::Failure;
use crate::progress::Steps;
use crate::resolve::{self, Found};
use crate::screen::{Column, text};

pub(crate) async fn run(context: &Context, command: Parameters) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        Parameters::Get { instance, parameter } => {
            let found = resolve::instance(client, &instance).await?;
            if let Some(missing) = parameter.iter().find(|name| value(&found.item, name).is_none()) {
                return Err(Failure::not_found(format!(
                    "{:?} has no parameter {missing:?}: what the server derives, or PostgreSQL's default, is in force",
                    found.name()
                ))
                .hint(format!("dbaas parameters get {} shows what is set", found.name())));
            }
            show(context, &found.item, &parameter)
        }
        Parameters::Set {
            instance,
            setting,
            waiting,
        } => {
            let settings = setting.into_iter().map(|(name, value)| (name, json!(value)));
            let found = resolve::instance(client, &instance).await?;
            change(context, &found, settings.collect(), waiting).await
        }
        Parameters::Reset {
            instance,
            parameter,
            waiting,
        } => {
            let settings = parameter.into_iter().map(|name| (name, Value::Null));
            let found = resolve::instance(client, &instance).await?;
            change(context, &found, settings.collect(), waiting).await
        }
        Parameters::List { version } => list(context, version.as_deref()).await,
    }
}

fn value<'a>(instance: &'a Value, name: &str) -> Option<&'a Value> {
    instance["parameters"].get(name.to_ascii_lowercase())
}

fn pending(instance: &Value, name: &str) -> bool {
    let waiting = instance["parameters_pending_restart"].as_array();
    waiting.is_some_and(|waiting| waiting.iter().any(|waiting| waiting == name))
}

fn show(context: &Context, instance: &Value, only: &[String]) -> Result<(), Failure> {
    let settings = instance["parameters"].as_object().cloned().unwrap_or_default();
    let wanted = |name: &String| only.is_empty() || only.iter().any(|only| only.eq_ignore_ascii_case(name));
    let settings: Map<String, Value> = settings.into_iter().filter(|(name, _)| wanted(name)).collect();
    if !context.screen.is_table() {
        return context.screen.one(&Value::Object(settings), &[]);
    }
    if settings.is_empty() {
        context.screen.note("no parameter is set");
        return Ok(());
    }
    let rows: Vec<Value> = settings
        .iter()
        .map(|(name, value)| {
            let waits = if pending(instance, name) {
                "waits for a restart"
            } else {
                ""
            };
            json!({"name": name, "value": value, "note": waits})
        })
        .collect();
    let columns: [Column<'_>; 3] = [
        ("NAME", &|row| text(row, "name")),
        ("VALUE", &|row| text(row, "value")),
        ("", &|row| text(row, "note")),
    ];
    context.screen.list(&rows, &columns)
}

async fn change(
    context: &Context,
    found: &Found,
    settings: Map<String, Value>,
    waiting: Waiting,
) -> Result<(), Failure> {
    let client = &context.client;
    let steps = Steps::from_now(client, &found.path, waiting).await?;
    let mut changed = client
        .patch(&found.path, &json!({ "parameters": settings }))
        .await?;
    if let Some(steps) = steps {
        changed = steps.until_done(waiting.timeout).await?;
    }
    show(context, &changed, &[])
}

async fn list(context: &Context, version: Option<&str>) -> Result<(), Failure> {
    let client = &context.client;
    let version = resolve::version(client, version).await?;
    let id = version.uuid();
    let mut answer = client.get(&format!("{ROOT}/versions/{id}/parameters")).await?;
    let Value::Array(parameters) = answer["parameters"].take() else {
        return Err(Failure::failed("the server answered a list without items"));
    };
    let settable = |parameter: &Value| match parameter["refused_because"].as_str() {
        Some(reason) => format!("no: {reason}"),
        None => "yes".to_owned(),
    };
    let columns: [Column<'_>; 5] = [
        ("NAME", &|p| text(p, "name")),
        ("TYPE", &|p| text(p, "type")),
        ("UNIT", &|p| text(p, "unit")),
        ("RESTART", &|p| text(p, "needs_restart")),
        ("SETTABLE", &settable),
    ];
    context.screen.list(&parameters, &columns)
}
