//! Resources by name or uuid.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use uuid::Uuid;

use crate::client::{Client, ROOT};
use crate::failure::{Failure, Kind};

/// Text in a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A resource that was found: what it is, and where.
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) item: Value,
}

impl Found {
    pub(crate) fn uuid(&self) -> &str {
        self.item["uuid"].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.item["name"].as_str().unwrap_or_default()
    }
}

/// An instance.
pub(crate) async fn instance(client: &Client, given: &str) -> Result<Found, Failure> {
    named(
        client,
        &format!("{ROOT}/instances"),
        "instances",
        "instance",
        given,
    )
    .await
}

/// A user of an instance.
pub(crate) async fn user(client: &Client, instance: &Found, given: &str) -> Result<Found, Failure> {
    let path = format!("{}/users", instance.path);
    named(client, &path, "users", "user", given).await
}

/// A database of an instance.
pub(crate) async fn database(client: &Client, instance: &Found, given: &str) -> Result<Found, Failure> {
    let path = format!("{}/databases", instance.path);
    named(client, &path, "databases", "database", given).await
}

/// A token.
pub(crate) async fn token(client: &Client, given: &str) -> Result<Found, Failure> {
    named(client, "/v1/iam/tokens", "tokens", "token", given).await
}

/// The primary of an instance.
pub(crate) async fn primary(client: &Client, instance: &Found) -> Result<Value, Failure> {
    let nodes = client.get(&format!("{}/nodes", instance.path)).await?;
    let primary = nodes["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|node| node["role"] == "primary")
        .cloned();
    primary.ok_or_else(|| {
        Failure::failed(format!("{:?} has no primary now", instance.name())).hint(format!(
            "dbaas nodes list {}, and name one of them",
            instance.name()
        ))
    })
}

/// A node of an instance.
pub(crate) async fn node(client: &Client, instance: &Found, given: &str) -> Result<Value, Failure> {
    let mut nodes = client.get(&format!("{}/nodes", instance.path)).await?;
    let Value::Array(nodes) = nodes["nodes"].take() else {
        return Err(Failure::failed("the server answered a list without items"));
    };
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
    let failure = Failure::not_found(format!("{:?} has no node {given:?}", instance.name()))
        .with(format!("it has: {}", names.join(", ")));
    nodes
        .iter()
        .find(|node| node["name"] == given || node["uuid"] == given)
        .cloned()
        .ok_or(failure)
}

/// A version of the catalogue: by uuid, name, image, PostgreSQL's version, or a major version, which means
/// its newest one.
pub(crate) async fn version(client: &Client, given: Option<&str>) -> Result<Found, Failure> {
    let mut versions = client.list(&format!("{ROOT}/versions"), "versions").await?;
    versions.sort_by_key(number);
    let usable = |version: &&Value| version["deprecated"] != true;
    let found = match given {
        None => versions.iter().rev().find(usable),
        Some(given) => {
            let exact = versions.iter().find(|version| {
                let is = |text: &str| text == given;
                ["uuid", "name", "image"]
                    .iter()
                    .any(|field| version[*field].as_str().is_some_and(is))
                    || written(version) == given
            });
            let of_major = |version: &&Value| written(version).split('.').next() == Some(given);
            exact.or_else(|| {
                let of_major: Vec<&Value> = versions.iter().filter(of_major).collect();
                of_major
                    .iter()
                    .rev()
                    .copied()
                    .find(usable)
                    .or(of_major.last().copied())
            })
        }
    };
    match found {
        Some(found) => Ok(Found {
            path: format!("{ROOT}/versions/{}", found["uuid"].as_str().unwrap_or_default()),
            item: found.clone(),
        }),
        None => {
            let known: Vec<String> = versions.iter().map(written).collect();
            let failure = match given {
                Some(given) => Failure::not_found(format!("there is no version {given:?} in the catalogue")),
                None => Failure::not_found("there is no version in the catalogue"),
            };
            Err(failure.with(format!("it has: {}", known.join(", "))))
        }
    }
}

/// PostgreSQL's version, as the image's tag begins with it.
fn written(version: &Value) -> String {
    let image = version["image"].as_str().unwrap_or_default();
    let tag = image.split('@').next().and_then(|image| image.rsplit(':').next());
    let is_version = |c: char| c.is_ascii_digit() || c == '.';
    tag.unwrap_or_default()
        .chars()
        .take_while(|c| is_version(*c))
        .collect()
}

fn number(version: &Value) -> Vec<u32> {
    written(version)
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

async fn named(
    client: &Client,
    collection: &str,
    name: &str,
    what: &str,
    given: &str,
) -> Result<Found, Failure> {
    let found = |item: Value| Found {
        path: format!("{collection}/{}", item["uuid"].as_str().unwrap_or_default()),
        item,
    };
    if Uuid::parse_str(given).is_ok() {
        match client.get(&format!("{collection}/{given}")).await {
            Ok(item) => return Ok(found(item)),
            // It may still be a name.
            Err(failure) if failure.kind == Kind::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    let mut all = match client
        .list(&format!("{collection}?name={}", encoded(given)), name)
        .await
    {
        Ok(all) => all,
        // No name that anything can have.
        Err(failure) if failure.kind == Kind::Usage => Vec::new(),
        Err(failure) => return Err(failure),
    };
    match all.len() {
        0 => Err(Failure::not_found(format!("there is no {what} {given:?}"))
            .hint(format!("dbaas {name} list shows what there is"))),
        1 => Ok(found(all.remove(0))),
        n => {
            let failure = Failure::usage(format!("{n} {name} are named {given:?}; give the uuid of one:"));
            Err(all.iter().fold(failure, |failure, item| {
                let field = |name: &str| item[name].as_str().unwrap_or_default();
                failure.with(format!(
                    "  {}  {}, project {}",
                    field("uuid"),
                    field("status"),
                    field("project_id")
                ))
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_told_from_images() {
        for (image, expected) in [
            ("postgres:15.18", "15.18"),
            ("registry:5000/postgres:18.4-alpine@sha256:00", "18.4"),
            ("postgres:17", "17"),
            ("postgres", ""),
        ] {
            assert_eq!(written(&json!({ "image": image })), expected);
        }
        assert!(number(&json!({ "image": "postgres:15.9" })) < number(&json!({ "image": "postgres:15.18" })));
    }
}
