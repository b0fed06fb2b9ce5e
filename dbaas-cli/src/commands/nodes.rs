//! Nodes and events of an instance.

use serde_json::Value;

use super::Context;
use crate::arguments::{Events, Logs, Nodes};
use crate::failure::Failure;
use crate::progress::follow;
use crate::resolve;
use crate::screen::{Column, text};

pub(crate) async fn run(context: &Context, command: Nodes) -> Result<(), Failure> {
    let Context { client, screen } = context;
    match command {
        Nodes::List { instance } => {
            let instance = resolve::instance(client, &instance).await?;
            let nodes = client.get(&format!("{}/nodes", instance.path)).await?;
            let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
            let columns: [Column<'_>; 7] = [
                ("NAME", &|n| text(n, "name")),
                ("ROLE", &|n| text(n, "role")),
                ("SYNC", &|n| text(n, "sync")),
                ("STATUS", &|n| text(n, "status")),
                ("LAG BYTES", &|n| text(n, "lag_bytes")),
                ("ADDRESS", &address),
                ("BACKEND", &|n| text(n, "backend_ref")),
            ];
            screen.list(&nodes, &columns)
        }
        Nodes::Show { instance, node } => {
            let instance = resolve::instance(client, &instance).await?;
            let node = resolve::node(client, &instance, &node).await?;
            let fields: [Column<'_>; 10] = [
                ("name", &|n| text(n, "name")),
                ("role", &|n| text(n, "role")),
                ("sync", &|n| text(n, "sync")),
                ("status", &|n| text(n, "status")),
                ("reason", &|n| text(n, "reason")),
                ("lag bytes", &|n| text(n, "lag_bytes")),
                ("disk free bytes", &|n| text(n, "disk_free_bytes")),
                ("address", &address),
                ("backend", &|n| text(n, "backend_ref")),
                ("uuid", &|n| text(n, "uuid")),
            ];
            screen.one(&node, &fields)
        }
    }
}

pub(crate) async fn logs(context: &Context, command: Logs) -> Result<(), Failure> {
    let Context { client, screen } = context;
    let instance = resolve::instance(client, &command.instance).await?;
    let node = match &command.node {
        Some(node) => resolve::node(client, &instance, node).await?,
        None => resolve::primary(client, &instance).await?,
    };
    let path = format!(
        "{}/nodes/{}/logs?tail={}",
        instance.path,
        text(&node, "uuid"),
        command.tail
    );
    let mut answer = client.get(&path).await?;
    if !screen.is_table() {
        return screen.one(&answer["lines"].take(), &[]);
    }
    let lines = answer["lines"].as_array();
    let lines: Vec<&str> = lines.into_iter().flatten().filter_map(Value::as_str).collect();
    match lines.is_empty() {
        true => {
            screen.note(&format!("{} has written nothing", text(&node, "name")));
            Ok(())
        }
        false => screen.write(&lines.join("\n")),
    }
}

fn address(node: &Value) -> String {
    match node["host"].as_str() {
        Some(host) => format!("{host}:{}", text(node, "port")),
        None => String::new(),
    }
}

pub(crate) async fn events(context: &Context, command: Events) -> Result<(), Failure> {
    let Context { client, screen } = context;
    let Events::List {
        instance,
        follow: goes_on,
    } = command;
    let instance = resolve::instance(client, &instance).await?;
    let line = |event: &Value| {
        let at = text(event, "at");
        let at = at.get(11..23).unwrap_or(&at);
        format!("{at}  {}: {}", text(event, "kind"), text(event, "message"))
    };
    if goes_on {
        // One document a line, so that each can be read when it comes.
        return follow(client, &instance, |event| {
            screen.write(&if screen.is_table() {
                line(event)
            } else {
                event.to_string()
            })
        })
        .await;
    }
    let events = client
        .list(&format!("{}/events", instance.path), "events")
        .await?;
    if screen.is_table() {
        let lines: Vec<String> = events.iter().map(line).collect();
        return screen.write(&lines.join("\n"));
    }
    screen.list(&events, &[])
}
