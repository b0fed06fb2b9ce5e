//! Who may use a database besides its owner.

use serde_json::{Value, json};

use super::Context;
use super::databases::{named, names};
use crate::arguments::{Access, Waiting};
use crate::failure::{Failure, Kind};
use crate::progress::object_done;
use crate::resolve::{self, Found};
use crate::screen::{Column, last_part, text};

/// Somebody else changes the same list at the same time: so often it is read and changed again.
const TRIES: u32 = 5;

pub(crate) async fn run(context: &Context, command: Access) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        Access::List { instance, database } => {
            let instance = resolve::instance(client, &instance).await?;
            let database = resolve::database(client, &instance, &database).await?;
            show(context, &instance, &database.item).await
        }
        Access::Grant {
            instance,
            database,
            user,
            level,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let user = resolve::user(client, &instance, &user).await?;
            let change = |entries: &mut Vec<Value>| {
                entries.retain(|entry| last_part(entry, "user") != user.uuid());
                entries.push(json!({ "user": user.path, "level": level.as_str() }));
                Ok(())
            };
            change_access(context, &instance, &database, waiting, change).await
        }
        Access::Revoke {
            instance,
            database,
            user,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let user = resolve::user(client, &instance, &user).await?;
            let change = |entries: &mut Vec<Value>| {
                let before = entries.len();
                entries.retain(|entry| last_part(entry, "user") != user.uuid());
                match entries.len() < before {
                    true => Ok(()),
                    false => Err(
                        Failure::not_found(format!("{:?} has no access to it", user.name()))
                            .hint("dbaas databases access list shows who has"),
                    ),
                }
            };
            change_access(context, &instance, &database, waiting, change).await
        }
    }
}

async fn change_access(
    context: &Context,
    instance: &Found,
    database: &str,
    waiting: Waiting,
    change: impl Fn(&mut Vec<Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let client = &context.client;
    let path = resolve::database(client, instance, database).await?.path;
    // Ends: after so many tries.
    for attempt in 1.. {
        let answer = client.get_tagged(&path).await?;
        let mut entries = answer.json["access"].as_array().cloned().unwrap_or_default();
        change(&mut entries)?;
        let body = json!({ "access": entries });
        match client.patch_if(&path, &body, answer.tag.as_deref()).await {
            Err(failure) if failure.kind == Kind::Conflict && attempt < TRIES => {}
            Err(failure) => return Err(failure),
            Ok(changed) => {
                let changed = object_done(client, &path, changed, waiting).await?;
                return show(context, instance, &changed).await;
            }
        }
    }
    Ok(())
}

async fn show(context: &Context, instance: &Found, database: &Value) -> Result<(), Failure> {
    let entries = database["access"].as_array().cloned().unwrap_or_default();
    let names = names(context, instance).await?;
    if entries.is_empty() && context.screen.is_table() {
        context
            .screen
            .note(&format!("{} is its owner's alone", text(database, "name")));
        return Ok(());
    }
    let columns: [Column<'_>; 2] = [
        ("USER", &|entry| named(entry, "user", &names)),
        ("LEVEL", &|entry| text(entry, "level")),
    ];
    context.screen.list(&entries, &columns)
}
