//! Instances, and what an operator asks of one.

use serde_json::{Map, Value, json};

use super::{Body, Context};
use crate::arguments::{Act, CreateInstance, EditInstance, Failover, Instances, Label, Switchover, Waiting};
use crate::client::ROOT;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::progress::Steps;
use crate::resolve;
use crate::screen::{Column, last_part, text, time, yes};

pub(crate) async fn run(context: &Context, command: Instances) -> Result<(), Failure> {
    match command {
        Instances::Create(command) => create(context, command).await,
        Instances::List { status, label } => list(context, &status, &label).await,
        Instances::Show { instance } => {
            let found = resolve::instance(&context.client, &instance).await?;
            show(context, &found.item).await
        }
        Instances::Edit(command) => edit(context, command).await,
        Instances::Delete {
            instance,
            consent,
            waiting,
        } => {
            let Context { client, screen } = context;
            let found = resolve::instance(client, &instance).await?;
            let databases = client
                .list(&format!("{}/databases", found.path), "databases")
                .await?;
            let holds = match databases.len() {
                0 => "no database".to_owned(),
                1 => format!("its database {}", text(&databases[0], "name")),
                n => format!("its {n} databases"),
            };
            let question = format!("Delete the instance {:?} with {holds} and all data", found.name());
            confirm(consent, &question)?;
            let steps = Steps::from_now(client, &found.path, waiting).await?;
            client.delete(&found.path).await?;
            if let Some(steps) = steps {
                steps.until_gone(waiting.timeout).await?;
            }
            screen.note(&format!("{} {}", found.name(), gone(waiting)));
            Ok(())
        }
    }
}

/// How a deletion ended.
pub(crate) fn gone(waiting: Waiting) -> &'static str {
    if waiting.wait {
        "is gone"
    } else {
        "is being deleted"
    }
}

pub(crate) async fn create(context: &Context, command: CreateInstance) -> Result<(), Failure> {
    let client = &context.client;
    let version = resolve::version(client, command.version.as_deref()).await?;
    let body = Body::default()
        .with("name", Some(command.name))
        .with("description", command.description)
        .with("project_id", command.project)
        .with("cpu", Some(command.cpu))
        .with("ram", Some(command.ram))
        .with("disk_size", Some(command.disk))
        .with("nodes_number", Some(command.nodes))
        .with("sync_replica_number", Some(command.sync_replicas))
        .with("version", Some(version.path))
        .with("labels", labels(&command.label, &[]))
        .with("deletion_protection", (!command.unprotected).then_some(true));
    let mut made = client.post(&format!("{ROOT}/instances"), &body.whole()).await?;
    if command.waiting.wait {
        let path = format!("{ROOT}/instances/{}", text(&made, "uuid"));
        let steps = Steps::from_the_beginning(client, &path);
        made = steps.until_done(command.waiting.timeout).await?;
    }
    show(context, &made).await
}

/// Labels to set and keys to remove; `None` if there is neither.
fn labels(set: &[Label], remove: &[String]) -> Option<Value> {
    let set = set
        .iter()
        .map(|label| (label.key.clone(), Value::from(label.value.as_str())));
    let removed = remove.iter().map(|key| (key.clone(), Value::Null));
    let all: Map<String, Value> = removed.chain(set).collect();
    (!all.is_empty()).then_some(Value::Object(all))
}

async fn list(context: &Context, states: &[String], labels: &[Label]) -> Result<(), Failure> {
    let client = &context.client;
    let states = states
        .iter()
        .map(|state| format!("status={}", resolve::encoded(&state.to_ascii_uppercase())));
    let labels = labels.iter().map(|label| {
        let label = format!("{}:{}", label.key, label.value);
        format!("label={}", resolve::encoded(&label))
    });
    let filters: Vec<String> = states.chain(labels).collect();
    let path = match filters.as_slice() {
        [] => format!("{ROOT}/instances"),
        filters => format!("{ROOT}/instances?{}", filters.join("&")),
    };
    let instances = client.list(&path, "instances").await?;
    let versions = versions(context).await?;
    context.screen.list(
        &instances,
        &[
            ("NAME", &|i| text(i, "name")),
            ("STATUS", &|i| text(i, "status")),
            ("PHASE", &|i| text(i, "phase")),
            ("NODES", &|i| text(i, "nodes_number")),
            ("SYNC", &|i| text(i, "effective_sync_replicas")),
            ("VERSION", &|i| version_name(i, &versions)),
            ("CPU", &|i| text(i, "cpu")),
            ("RAM", &|i| format!("{} MB", text(i, "ram"))),
            ("DISK", &|i| format!("{} GB", text(i, "disk_size"))),
            ("UUID", &|i| text(i, "uuid")),
        ],
    )
}

/// The catalogue, for the names of versions; not asked for where nobody reads names.
async fn versions(context: &Context) -> Result<Vec<Value>, Failure> {
    if context.screen.is_table() {
        let path = format!("{ROOT}/versions");
        context.client.list(&path, "versions").await
    } else {
        Ok(Vec::new())
    }
}

fn version_name(instance: &Value, versions: &[Value]) -> String {
    let uuid = last_part(instance, "version");
    let found = versions.iter().find(|version| version["uuid"] == *uuid);
    found.map_or(uuid.clone(), |version| text(version, "name"))
}

async fn show(context: &Context, instance: &Value) -> Result<(), Failure> {
    let versions = versions(context).await?;
    let nodes = |i: &Value| {
        let nodes = i["nodes"].as_array().cloned().unwrap_or_default();
        let node = |node: &Value| {
            format!(
                "{} {} {}",
                text(node, "name"),
                text(node, "role"),
                text(node, "status")
            )
        };
        nodes.iter().map(node).collect::<Vec<_>>().join(", ")
    };
    let warnings = |i: &Value| {
        let warnings = i["warnings"].as_array().cloned().unwrap_or_default();
        let warnings: Vec<&str> = warnings.iter().filter_map(Value::as_str).collect();
        warnings.join("; ")
    };
    let sync = |i: &Value| {
        let (asked, runs) = (text(i, "sync_replica_number"), text(i, "effective_sync_replicas"));
        if asked == runs {
            runs
        } else {
            format!("{runs} (asked for: {asked})")
        }
    };
    let labels = |i: &Value| {
        let labels = i["labels"].as_object().cloned().unwrap_or_default();
        let label = |(key, value): (&String, &Value)| format!("{key}:{}", value.as_str().unwrap_or_default());
        labels.iter().map(label).collect::<Vec<_>>().join(", ")
    };
    let fields: [Column<'_>; 18] = [
        ("name", &|i| text(i, "name")),
        ("description", &|i| text(i, "description")),
        ("labels", &labels),
        ("protected", &|i| yes(i, "deletion_protection")),
        ("status", &|i| text(i, "status")),
        ("phase", &|i| text(i, "phase")),
        ("reason", &|i| text(i, "reason")),
        ("warnings", &warnings),
        ("version", &|i| version_name(i, &versions)),
        ("nodes", &|i| text(i, "nodes_number")),
        ("sync replicas", &sync),
        ("cpu", &|i| text(i, "cpu")),
        ("ram", &|i| format!("{} MB", text(i, "ram"))),
        ("disk", &|i| format!("{} GB", text(i, "disk_size"))),
        ("members", &nodes),
        ("created", &|i| time(i, "created_at")),
        ("project", &|i| text(i, "project_id")),
        ("uuid", &|i| text(i, "uuid")),
    ];
    context.screen.one(instance, &fields)
}

async fn edit(context: &Context, command: EditInstance) -> Result<(), Failure> {
    let client = &context.client;
    let found = resolve::instance(client, &command.instance).await?;
    let version = match &command.version {
        None => None,
        Some(version) => Some(resolve::version(client, Some(version)).await?.path),
    };
    let body = Body::default()
        .with("name", command.name)
        .with("description", command.description)
        .with("cpu", command.cpu)
        .with("ram", command.ram)
        .with("disk_size", command.disk)
        .with("nodes_number", command.nodes)
        .with("sync_replica_number", command.sync_replicas)
        .with("version", version)
        .with("labels", labels(&command.label, &command.remove_label))
        .with("deletion_protection", command.protection.wanted())
        .change()?;
    let steps = Steps::from_now(client, &found.path, command.waiting).await?;
    let mut changed = client.patch(&found.path, &body).await?;
    if let Some(steps) = steps {
        changed = steps.until_done(command.waiting.timeout).await?;
    }
    show(context, &changed).await
}

pub(crate) async fn switchover(context: &Context, command: Switchover) -> Result<(), Failure> {
    let found = resolve::instance(&context.client, &command.instance).await?;
    let body = match &command.to {
        None => json!({}),
        Some(node) => {
            let node = resolve::node(&context.client, &found, node).await?;
            json!({ "to": node["uuid"] })
        }
    };
    order(context, &found, "switchover", &body, command.waiting).await
}

pub(crate) async fn failover(context: &Context, command: Failover) -> Result<(), Failure> {
    let found = resolve::instance(&context.client, &command.instance).await?;
    if command.allow_data_loss {
        let question = format!(
            "Fail {:?} over even if acknowledged commits are lost",
            found.name()
        );
        confirm(command.consent, &question)?;
    }
    let body = json!({ "allow_data_loss": command.allow_data_loss });
    order(context, &found, "failover", &body, command.waiting).await
}

pub(crate) async fn act(context: &Context, action: &str, command: Act) -> Result<(), Failure> {
    let found = resolve::instance(&context.client, &command.instance).await?;
    order(context, &found, action, &json!({}), command.waiting).await
}

async fn order(
    context: &Context,
    found: &resolve::Found,
    action: &str,
    body: &Value,
    waiting: Waiting,
) -> Result<(), Failure> {
    let client = &context.client;
    let steps = Steps::from_now(client, &found.path, waiting).await?;
    let mut after = client
        .post(&format!("{}/actions/{action}", found.path), body)
        .await?;
    if let Some(steps) = steps {
        after = steps.until_done(waiting.timeout).await?;
    }
    show(context, &after).await
}
