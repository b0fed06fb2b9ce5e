//! Connections to an instance, and PostgreSQL's own programs on them.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::Context;
use crate::arguments::{Connection, Dump, Psql, Restore, Target};
use crate::failure::Failure;
use crate::resolve::{self, Found};
use crate::screen::{last_part, text};

pub(crate) async fn connection(context: &Context, command: Connection) -> Result<(), Failure> {
    let instance = resolve::instance(&context.client, &command.instance).await?;
    if command.uri {
        let uri = uri(context, &instance, &command.target).await?;
        return context.screen.write(&uri);
    }
    let found = context.client.get(&path(&instance, &command.target)).await?;
    context.screen.one(
        &found,
        &[
            ("uri", &|c| text(c, "uri")),
            ("read only", &|c| text(c, "read_only_uri")),
            ("jdbc", &|c| text(c, "jdbc_url")),
            ("jdbc, read only", &|c| text(c, "read_only_jdbc_url")),
            ("primary", &|c| {
                c["primary"]["host"]
                    .as_str()
                    .map(|host| format!("{host}:{}", c["primary"]["port"]))
                    .unwrap_or_default()
            }),
        ],
    )
}

fn path(instance: &Found, target: &Target) -> String {
    let given = [("user", &target.user), ("database", &target.database)];
    let query: Vec<String> = given
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", resolve::encoded(value.as_ref()?))))
        .collect();
    match query.as_slice() {
        [] => format!("{}/connection", instance.path),
        query => format!("{}/connection?{}", instance.path, query.join("&")),
    }
}

async fn uri(context: &Context, instance: &Found, target: &Target) -> Result<String, Failure> {
    let found = context.client.get(&path(instance, target)).await?;
    let none = || {
        Failure::failed(format!("{:?} has no node to connect to yet", instance.name()))
            .hint(format!("dbaas instances show {}", instance.name()))
    };
    found["uri"].as_str().map(str::to_owned).ok_or_else(none)
}

/// What was given; where that leaves no choice, the one database and its owner.
async fn completed(context: &Context, instance: &Found, mut target: Target) -> Result<Target, Failure> {
    if target.user.is_some() && target.database.is_some() {
        return Ok(target);
    }
    let client = &context.client;
    let databases = client
        .list(&format!("{}/databases", instance.path), "databases")
        .await?;
    let database = match &target.database {
        Some(name) => databases
            .iter()
            .find(|database| database["name"] == name.as_str()),
        None => match databases.as_slice() {
            [one] => Some(one),
            [] => {
                return Err(
                    Failure::usage(format!("{:?} has no database", instance.name())).hint(format!(
                        "dbaas databases create {} NAME --owner USER",
                        instance.name()
                    )),
                );
            }
            many => {
                let names: Vec<String> = many.iter().map(|database| text(database, "name")).collect();
                return Err(Failure::usage("which database?")
                    .with(format!("--database is one of: {}", names.join(", "))));
            }
        },
    };
    let database = database.ok_or_else(|| {
        let name = target.database.clone().unwrap_or_default();
        Failure::not_found(format!("{:?} has no database {name:?}", instance.name()))
    })?;
    target.database = Some(text(database, "name"));
    if target.user.is_none() {
        let owner = client
            .get(&format!(
                "{}/users/{}",
                instance.path,
                last_part(database, "owner")
            ))
            .await?;
        target.user = Some(text(&owner, "name"));
    }
    Ok(target)
}

pub(crate) async fn psql(context: &Context, command: Psql) -> Result<(), Failure> {
    let instance = resolve::instance(&context.client, &command.instance).await?;
    let target = completed(context, &instance, command.target).await?;
    let uri = uri(context, &instance, &target).await?;
    Err(replaced(Command::new("psql").arg(uri).args(command.rest), "psql"))
}

pub(crate) async fn dump(context: &Context, command: Dump) -> Result<(), Failure> {
    if command.file.exists() {
        return Err(Failure::usage(format!(
            "{} exists already",
            command.file.display()
        )));
    }
    let instance = resolve::instance(&context.client, &command.instance).await?;
    let target = completed(context, &instance, command.target).await?;
    let uri = uri(context, &instance, &target).await?;
    let mut program = Command::new("pg_dump");
    program
        .args(["--format=custom", "--dbname", &uri, "--file"])
        .arg(&command.file)
        .args(command.rest);
    let result = finished(&mut program, "pg_dump");
    if result.is_err() {
        // A part of a dump is none. It did not exist before.
        let _ = std::fs::remove_file(&command.file);
    }
    result?;
    context.screen.note(&format!(
        "{} is in {}",
        target.database.unwrap_or_default(),
        command.file.display()
    ));
    Ok(())
}

pub(crate) async fn restore(context: &Context, command: Restore) -> Result<(), Failure> {
    readable(&command.file)?;
    let instance = resolve::instance(&context.client, &command.instance).await?;
    let target = completed(context, &instance, command.target).await?;
    let uri = uri(context, &instance, &target).await?;
    let mut program = Command::new("pg_restore");
    // The user of this session owns what it makes: the dump's owners may not exist here. All or nothing.
    program
        .args([
            "--no-owner",
            "--no-privileges",
            "--single-transaction",
            "--exit-on-error",
            "--dbname",
            &uri,
        ])
        .args(command.rest)
        .arg(&command.file);
    finished(&mut program, "pg_restore")?;
    context.screen.note(&format!(
        "{} has what is in {}",
        target.database.unwrap_or_default(),
        command.file.display()
    ));
    Ok(())
}

fn readable(file: &Path) -> Result<(), Failure> {
    std::fs::File::open(file)
        .map(drop)
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", file.display())))
}

/// Becomes the program; comes back only if that fails.
fn replaced(command: &mut Command, program: &str) -> Failure {
    not_started(program, &command.exec())
}

fn finished(command: &mut Command, program: &str) -> Result<(), Failure> {
    let status = command.status().map_err(|error| not_started(program, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::of_program(program, status.code()))
    }
}

fn not_started(program: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{program} cannot be started: {error}")).hint(format!(
        "{program} is one of PostgreSQL's client programs; PATH has to lead to it"
    ))
}
