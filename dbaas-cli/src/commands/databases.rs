//! Databases of an instance.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::instances::gone;
use super::{Body, Context};
use crate::arguments::{Databases, OneDatabase};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::progress::{object_done, object_gone};
use crate::resolve::{self, Found};
use crate::screen::{Column, last_part, text, time, yes};

pub(crate) async fn run(context: &Context, command: Databases) -> Result<(), Failure> {
    let Context { client, screen } = context;
    match command {
        Databases::Create {
            instance,
            name,
            owner,
            extension,
            description,
            unprotected,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let owner = resolve::user(client, &instance, &owner).await?;
            let body = Body::default()
                .with("name", Some(name))
                .with("description", description)
                .with("owner", Some(owner.path))
                .with("extensions", (!extension.is_empty()).then_some(extension))
                .with("deletion_protection", (!unprotected).then_some(true));
            let path = format!("{}/databases", instance.path);
            let made = client.post(&path, &body.whole()).await?;
            let path = format!("{path}/{}", text(&made, "uuid"));
            let made = object_done(client, &path, made, waiting).await?;
            show(context, &instance, &made).await
        }
        Databases::List { instance } => {
            let instance = resolve::instance(client, &instance).await?;
            let databases = client
                .list(&format!("{}/databases", instance.path), "databases")
                .await?;
            let owners = names(context, &instance).await?;
            let columns: [Column<'_>; 6] = [
                ("NAME", &|d| text(d, "name")),
                ("OWNER", &|d| named(d, "owner", &owners)),
                ("STATUS", &|d| text(d, "status")),
                ("REASON", &|d| text(d, "reason")),
                ("CREATED", &|d| time(d, "created_at")),
                ("UUID", &|d| text(d, "uuid")),
            ];
            screen.list(&databases, &columns)
        }
        Databases::Show { instance, database } => {
            let instance = resolve::instance(client, &instance).await?;
            let database = resolve::database(client, &instance, &database).await?;
            show(context, &instance, &database.item).await
        }
        Databases::Edit {
            instance,
            database,
            owner,
            extension,
            no_extensions,
            description,
            protection,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let database = resolve::database(client, &instance, &database).await?;
            let owner = match owner {
                None => None,
                Some(owner) => Some(resolve::user(client, &instance, &owner).await?.path),
            };
            let extensions = (no_extensions || !extension.is_empty()).then_some(extension);
            let body = Body::default()
                .with("owner", owner)
                .with("extensions", extensions)
                .with("description", description)
                .with("deletion_protection", protection.wanted())
                .change()?;
            let changed = client.patch(&database.path, &body).await?;
            let changed = object_done(client, &database.path, changed, waiting).await?;
            show(context, &instance, &changed).await
        }
        Databases::Access(command) => super::access::run(context, command).await,
        Databases::Adopt(command) => act(context, "adopt", command).await,
        Databases::UpdateExtensions(command) => act(context, "update-extensions", command).await,
        Databases::RepairAccess(command) => act(context, "repair-access", command).await,
        Databases::Delete {
            instance,
            database,
            consent,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let database = resolve::database(client, &instance, &database).await?;
            let question = format!(
                "Drop the database {:?} of {:?} with all data",
                database.name(),
                instance.name()
            );
            confirm(consent, &question)?;
            client.delete(&database.path).await?;
            object_gone(client, &database.path, waiting).await?;
            screen.note(&format!("{} {}", database.name(), gone(waiting)));
            Ok(())
        }
    }
}

/// Names of users by uuid; not asked for where nobody reads names.
pub(super) async fn names(context: &Context, instance: &Found) -> Result<BTreeMap<String, String>, Failure> {
    if !context.screen.is_table() {
        return Ok(BTreeMap::new());
    }
    let users = context
        .client
        .list(&format!("{}/users", instance.path), "users")
        .await?;
    Ok(users
        .iter()
        .map(|user| (text(user, "uuid"), text(user, "name")))
        .collect())
}

/// The name of the user that a field refers to.
pub(super) fn named(item: &Value, field: &str, names: &BTreeMap<String, String>) -> String {
    let uuid = last_part(item, field);
    names.get(&uuid).cloned().unwrap_or(uuid)
}

async fn act(context: &Context, action: &str, command: OneDatabase) -> Result<(), Failure> {
    let client = &context.client;
    let instance = resolve::instance(client, &command.instance).await?;
    let database = resolve::database(client, &instance, &command.database).await?;
    let path = format!("{}/actions/{action}", database.path);
    let after = client.post(&path, &json!({})).await?;
    let after = object_done(client, &database.path, after, command.waiting).await?;
    show(context, &instance, &after).await
}

async fn show(context: &Context, instance: &Found, database: &Value) -> Result<(), Failure> {
    let owners = names(context, instance).await?;
    let access = |database: &Value| {
        let entries = database["access"].as_array().cloned().unwrap_or_default();
        let entry = |entry: &Value| format!("{} {}", named(entry, "user", &owners), text(entry, "level"));
        entries.iter().map(entry).collect::<Vec<_>>().join(", ")
    };
    let extensions = |database: &Value| {
        let names = database["extensions"].as_array();
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        names.join(", ")
    };
    let fields: [Column<'_>; 10] = [
        ("name", &|d| text(d, "name")),
        ("description", &|d| text(d, "description")),
        ("owner", &|d| named(d, "owner", &owners)),
        ("access", &access),
        ("extensions", &extensions),
        ("protected", &|d| yes(d, "deletion_protection")),
        ("status", &|d| text(d, "status")),
        ("reason", &|d| text(d, "reason")),
        ("created", &|d| time(d, "created_at")),
        ("uuid", &|d| text(d, "uuid")),
    ];
    context.screen.one(database, &fields)
}
