//! Element manifests: planned, applied, uninstalled.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Context;
use super::instances::gone;
use crate::arguments::{Plan, Uninstall};
use crate::client::Client;
use crate::config;
use crate::confirm::confirm;
use crate::failure::{Failure, Kind};
use crate::progress::Steps;
use crate::resolve::encoded;
use crate::screen::{Column, text};

const MANIFESTS: &str = "/v1/em/manifests";
const ELEMENTS: &str = "/v1/em/elements";

/// A manifest that the server keeps.
struct Kept {
    path: String,
    name: String,
}

impl Kept {
    async fn of(client: &Client, file: &Path) -> Result<Self, Failure> {
        let written = config::text(file)?;
        let made = client.post_text(MANIFESTS, "application/yaml", &written).await?;
        Ok(Kept {
            path: format!("{MANIFESTS}/{}", text(&made, "uuid")),
            name: text(&made, "name"),
        })
    }

    async fn act(&self, client: &Client, action: &str, body: &Value) -> Result<Value, Failure> {
        client
            .post(&format!("{}/actions/{action}/invoke", self.path), body)
            .await
    }

    /// Has it forgotten. What it was kept for has been done, or was refused: a failure now is none.
    async fn forget(&self, client: &Client) {
        let _ = client.delete(&self.path).await;
    }
}

fn body(command: &Plan) -> Value {
    let variables: Map<String, Value> = command
        .set
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    json!({
        "variables": variables, "skip_unknown": command.skip_unknown, "allow_destroy": command.allow_destroy
    })
}

pub(crate) async fn plan(context: &Context, command: Plan) -> Result<(), Failure> {
    let client = &context.client;
    let kept = Kept::of(client, &command.file).await?;
    let planned = kept.act(client, "plan", &body(&command)).await;
    kept.forget(client).await;
    show(context, &planned?)
}

/// What would be done, or is being done.
fn show(context: &Context, plan: &Value) -> Result<(), Failure> {
    if !context.screen.is_table() {
        return context.screen.one(plan, &[]);
    }
    for kind in ["warnings", "skipped"] {
        for finding in plan[kind].as_array().into_iter().flatten() {
            let place = format!("line {}, column {}", finding["line"], finding["column"]);
            context
                .screen
                .note(&format!("{kind}: {place}: {}", text(finding, "message")));
        }
    }
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    if steps.is_empty() {
        return context.screen.write("nothing to do");
    }
    let columns: [Column<'_>; 3] = [
        ("ACTION", &|s| text(s, "action")),
        ("KIND", &|s| text(s, "kind")),
        ("RESOURCE", &|s| text(s, "link")),
    ];
    context.screen.list(&steps, &columns)
}

/// The element of this name, if there is one.
async fn element(client: &Client, name: &str) -> Result<Option<Value>, Failure> {
    let path = format!("{ELEMENTS}?name={}", encoded(name));
    let mut found = client.list(&path, "elements").await?;
    match found.len() {
        0 => Ok(None),
        1 => Ok(Some(found.remove(0))),
        n => {
            let failure = Failure::usage(format!("{n} elements are named {name:?}, in as many projects:"));
            Err(found.iter().fold(failure, |failure, element| {
                failure.with(format!(
                    "  {}  project {}",
                    text(element, "uuid"),
                    text(element, "project_id")
                ))
            }))
        }
    }
}

pub(crate) async fn apply(context: &Context, command: Plan) -> Result<(), Failure> {
    let client = &context.client;
    let kept = Kept::of(client, &command.file).await?;
    let body = body(&command);
    let before = element(client, &kept.name).await;
    let begun = match before {
        Ok(before) => match earlier(context, &command, before.as_ref()).await {
            Ok(steps) => begin(context, &command, &kept, &body)
                .await
                .map(|applied| (before, steps, applied)),
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    let (before, steps, applied) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            kept.forget(client).await;
            return Err(failure);
        }
    };
    let path = format!("{ELEMENTS}/{}", text(&applied["element"], "uuid"));
    let mut now = applied["element"].clone();
    if command.waiting.wait {
        let steps = steps.unwrap_or_else(|| Steps::from_the_beginning(client, &path));
        now = steps.until_settled(command.waiting.timeout).await?;
    }
    // The text of the time before is nobody's now.
    if let Some(old) = before.as_ref().and_then(|before| before["manifest"].as_str()) {
        let old = Kept {
            path: format!("{MANIFESTS}/{old}"),
            name: kept.name.clone(),
        };
        if old.path != kept.path {
            old.forget(client).await;
        }
    }
    show_element(context, &now)
}

/// The steps of an element that is there already, from now on: those of the times before are not told again.
async fn earlier<'a>(
    context: &'a Context,
    command: &Plan,
    before: Option<&Value>,
) -> Result<Option<Steps<'a>>, Failure> {
    match before {
        None => Ok(None),
        Some(found) => {
            let path = format!("{ELEMENTS}/{}", text(found, "uuid"));
            Steps::from_now(&context.client, &path, command.waiting).await
        }
    }
}

/// Asks where data goes, and begins.
async fn begin(context: &Context, command: &Plan, kept: &Kept, body: &Value) -> Result<Value, Failure> {
    let client = &context.client;
    let planned = kept.act(client, "plan", body).await?;
    if context.screen.is_table() {
        show(context, &planned)?;
    }
    let steps = planned["steps"].as_array().cloned().unwrap_or_default();
    let deletes: Vec<String> = steps
        .iter()
        .filter(|step| step["action"] == "delete")
        .map(|step| text(step, "link"))
        .collect();
    if !deletes.is_empty() {
        confirm(command.consent, &format!("Delete {}", deletes.join(", ")))?;
    }
    kept.act(client, "install", body).await
}

fn show_element(context: &Context, element: &Value) -> Result<(), Failure> {
    let fields: [Column<'_>; 5] = [
        ("element", &|e| text(e, "name")),
        ("version", &|e| text(e, "version")),
        ("status", &|e| text(e, "status")),
        ("reason", &|e| text(e, "reason")),
        ("uuid", &|e| text(e, "uuid")),
    ];
    context.screen.one(element, &fields)
}

pub(crate) async fn uninstall(context: &Context, command: Uninstall) -> Result<(), Failure> {
    let client = &context.client;
    let file = Path::new(&command.element);
    let name = if file.is_file() {
        let kept = Kept::of(client, file).await?;
        kept.forget(client).await;
        kept.name
    } else {
        command.element.clone()
    };
    let found = element(client, &name)
        .await?
        .ok_or_else(|| Failure::not_found(format!("there is no element {name:?}, and no such file")))?;
    let data = if command.allow_destroy {
        ", instances and databases with their data included"
    } else {
        ""
    };
    confirm(
        command.consent,
        &format!("Delete everything that {name:?} has made{data}"),
    )?;
    let path = format!("{ELEMENTS}/{}", text(&found, "uuid"));
    let steps = Steps::from_now(client, &path, command.waiting).await?;
    let body = json!({ "allow_destroy": command.allow_destroy });
    match client
        .post(&format!("{path}/actions/uninstall/invoke"), &body)
        .await
    {
        Ok(_) => {}
        Err(failure) if failure.kind == Kind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    if let Some(steps) = steps {
        steps.until_gone(command.waiting.timeout).await?;
    }
    if let Some(manifest) = found["manifest"].as_str() {
        let path = format!("{MANIFESTS}/{manifest}");
        Kept {
            path,
            name: name.clone(),
        }
        .forget(client)
        .await;
    }
    context.screen.note(&format!("{name} {}", gone(command.waiting)));
    Ok(())
}
