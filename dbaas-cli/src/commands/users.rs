//! Users of an instance.

use serde_json::{Value, json};

use super::instances::gone;
use super::{Body, Context};
use crate::arguments::{OneUser, Users};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::passwords::Chosen;
use crate::progress::{object_done, object_gone};
use crate::resolve;
use crate::screen::{Column, text, time};

pub(crate) async fn run(context: &Context, command: Users) -> Result<(), Failure> {
    let Context { client, screen } = context;
    match command {
        Users::Create {
            instance,
            name,
            password,
            description,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let chosen = password.chosen(&name)?;
            let body = Body::default()
                .with("name", Some(name))
                .with("description", description)
                .with("password", Some(chosen.password.as_str()));
            let path = format!("{}/users", instance.path);
            let made = client.post(&path, &body.whole()).await?;
            let path = format!("{path}/{}", text(&made, "uuid"));
            tell_new(context, &chosen);
            let made = object_done(client, &path, made, waiting).await?;
            show(context, made, Some(&chosen))
        }
        Users::List { instance } => {
            let instance = resolve::instance(client, &instance).await?;
            let users = client.list(&format!("{}/users", instance.path), "users").await?;
            let columns: [Column<'_>; 5] = [
                ("NAME", &|u| text(u, "name")),
                ("STATUS", &|u| text(u, "status")),
                ("REASON", &|u| text(u, "reason")),
                ("CREATED", &|u| time(u, "created_at")),
                ("UUID", &|u| text(u, "uuid")),
            ];
            screen.list(&users, &columns)
        }
        Users::Show { instance, user } => {
            let instance = resolve::instance(client, &instance).await?;
            let user = resolve::user(client, &instance, &user).await?;
            show(context, user.item, None)
        }
        Users::Edit {
            instance,
            user,
            password,
            description,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let user = resolve::user(client, &instance, &user).await?;
            let chosen = password.given()?;
            let body = Body::default()
                .with("description", description)
                .with("password", chosen.as_ref().map(|chosen| chosen.password.as_str()))
                .change()?;
            let changed = client.patch(&user.path, &body).await?;
            if let Some(chosen) = &chosen {
                tell_new(context, chosen);
            }
            let changed = object_done(client, &user.path, changed, waiting).await?;
            show(context, changed, chosen.as_ref())
        }
        Users::Adopt(command) => act(context, "adopt", command).await,
        Users::RepairAccess(command) => act(context, "repair-access", command).await,
        Users::Delete {
            instance,
            user,
            consent,
            waiting,
        } => {
            let instance = resolve::instance(client, &instance).await?;
            let user = resolve::user(client, &instance, &user).await?;
            confirm(
                consent,
                &format!("Drop the user {:?} of {:?}", user.name(), instance.name()),
            )?;
            client.delete(&user.path).await?;
            object_gone(client, &user.path, waiting).await?;
            screen.note(&format!("{} {}", user.name(), gone(waiting)));
            Ok(())
        }
    }
}

async fn act(context: &Context, action: &str, command: OneUser) -> Result<(), Failure> {
    let client = &context.client;
    let instance = resolve::instance(client, &command.instance).await?;
    let user = resolve::user(client, &instance, &command.user).await?;
    let path = format!("{}/actions/{action}", user.path);
    let after = client.post(&path, &json!({})).await?;
    show(
        context,
        object_done(client, &user.path, after, command.waiting).await?,
        None,
    )
}

/// A password that was made here is told as soon as it is the user's: if waiting fails, it is not lost.
fn tell_new(context: &Context, chosen: &Chosen) {
    if chosen.is_new && context.screen.is_table() {
        context.screen.note("the password below is shown this once");
    }
}

fn show(context: &Context, mut user: Value, chosen: Option<&Chosen>) -> Result<(), Failure> {
    if let Some(chosen) = chosen.filter(|chosen| chosen.is_new) {
        user["password"] = chosen.password.as_str().into();
    }
    let fields: [Column<'_>; 7] = [
        ("name", &|u| text(u, "name")),
        ("description", &|u| text(u, "description")),
        ("password", &|u| text(u, "password")),
        ("status", &|u| text(u, "status")),
        ("reason", &|u| text(u, "reason")),
        ("created", &|u| time(u, "created_at")),
        ("uuid", &|u| text(u, "uuid")),
    ];
    context.screen.one(&user, &fields)
}
