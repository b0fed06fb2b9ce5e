//! The values of expressions, as far as they are known.

use std::fmt;

use serde_json::Value as Json;

use crate::expression::{Expression, Piece, Resolved, Target};
use crate::jinja;
use crate::limits;
use crate::model::Manifest;
use crate::reference::Access;

/// A value. What has a secret in it is one.
#[derive(Clone, PartialEq)]
pub struct Rendered {
    /// The value.
    pub value: Json,
    /// Whether it must not be shown.
    pub is_secret: bool,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_secret {
            true => f.write_str("Rendered(…)"),
            false => write!(f, "Rendered({})", self.value),
        }
    }
}

impl Rendered {
    /// One that may be shown.
    pub fn open(value: impl Into<Json>) -> Self {
        Rendered {
            value: value.into(),
            is_secret: false,
        }
    }

    /// One that must not be shown.
    pub fn secret(value: impl Into<Json>) -> Self {
        Rendered {
            value: value.into(),
            is_secret: true,
        }
    }
}

/// What is known of a field of something that exists.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// This.
    Known(Rendered),
    /// It will be known.
    Later,
    /// There is no such field, and there will be none.
    Missing,
}

/// What is known of the world that references refer to.
pub trait Facts {
    /// A field, `path` below it.
    fn field(&self, target: &Target, path: &[String]) -> Fact;
    /// Where the API has it; `None` while that is not known.
    fn uri(&self, target: &Target) -> Option<String>;
}

/// What came of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its value.
    Known(Rendered),
    /// It waits for this, among others.
    Later(Box<Resolved>),
    /// It has no value; for people, without secrets.
    Wrong(String),
}

/// The value of an expression of a manifest.
pub fn evaluate(expression: &Expression, manifest: &Manifest, facts: &dyn Facts) -> Outcome {
    match expression {
        Expression::Value(value) => Outcome::Known(Rendered::open(value.clone())),
        Expression::Reference(found) => read(found, manifest, facts),
        Expression::Template(pieces) => template(pieces, manifest, facts),
        Expression::List(items) => {
            let (mut values, mut is_secret) = (Vec::with_capacity(items.len()), false);
            for item in items {
                match evaluate(item, manifest, facts) {
                    Outcome::Known(found) => {
                        is_secret |= found.is_secret;
                        values.push(found.value);
                    }
                    other => return other,
                }
            }
            let value = Json::Array(values);
            Outcome::Known(Rendered { value, is_secret })
        }
        Expression::Map(fields) => {
            let (mut values, mut is_secret) = (serde_json::Map::new(), false);
            for (name, field) in fields {
                match evaluate(field, manifest, facts) {
                    Outcome::Known(found) => {
                        is_secret |= found.is_secret;
                        values.insert(name.clone(), found.value);
                    }
                    other => return other,
                }
            }
            let value = Json::Object(values);
            Outcome::Known(Rendered { value, is_secret })
        }
    }
}

fn template(pieces: &[Piece], manifest: &Manifest, facts: &dyn Facts) -> Outcome {
    let (mut text, mut is_secret) = (String::new(), false);
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Reference(found) => match read(found, manifest, facts) {
                Outcome::Known(value) => {
                    is_secret |= value.is_secret;
                    match as_text(&value.value) {
                        Some(value) => text.push_str(&value),
                        None => return Outcome::Wrong(format!("{} is no text and no number", found.written)),
                    }
                }
                other => return other,
            },
        }
        if text.len() > limits::RENDERED_BYTES_MAX {
            let message = format!(
                "the rendered text is longer than {} bytes",
                limits::RENDERED_BYTES_MAX
            );
            return Outcome::Wrong(message);
        }
    }
    let value = Json::String(text);
    Outcome::Known(Rendered { value, is_secret })
}

/// Text of a value: of a list, its items with commas between them.
fn as_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(as_text).collect();
            items.map(|items| items.join(","))
        }
        Json::Null | Json::Object(_) => None,
    }
}

fn read(found: &Resolved, manifest: &Manifest, facts: &dyn Facts) -> Outcome {
    let later = || Outcome::Later(Box::new(found.clone()));
    let Some(path) = found.access.field() else {
        return match facts.uri(&found.target) {
            Some(uri) => Outcome::Known(Rendered::open(uri)),
            None => later(),
        };
    };
    let value = match field(&found.target, path, manifest, facts) {
        Ok(Fact::Known(value)) => value,
        Ok(Fact::Later) => return later(),
        Ok(Fact::Missing) => return Outcome::Wrong(format!("{} has no such field", found.written)),
        Err(outcome) => return outcome,
    };
    let Rendered { value, is_secret } = value;
    // Nothing, and a list of nothing, are not values: they would be rendered by accident.
    let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if is_empty {
        return later();
    }
    let no_text = || Outcome::Wrong(format!("{}: a map has no text", found.written));
    let value = match &found.access {
        Access::Field(_) | Access::GetUri => value,
        Access::ToStr(_) => match as_text(&value) {
            Some(text) => Json::String(text),
            None => return no_text(),
        },
        Access::Join(_, sep) => {
            let Json::Array(items) = &value else {
                return Outcome::Wrong(format!("{} joins what is not a list", found.written));
            };
            let items: Option<Vec<String>> = items.iter().map(as_text).collect();
            match items {
                Some(items) => Json::String(items.join(sep)),
                None => return no_text(),
            }
        }
        Access::Index(_, n) => {
            let Json::Array(mut items) = value else {
                return Outcome::Wrong(format!("{} picks from what is not a list", found.written));
            };
            if *n >= items.len() {
                return later();
            }
            items.swap_remove(*n)
        }
    };
    Outcome::Known(Rendered { value, is_secret })
}

/// What the manifest declares counts before what there is: it is what there will be.
fn field(target: &Target, path: &[String], manifest: &Manifest, facts: &dyn Facts) -> Result<Fact, Outcome> {
    let declared = match (target, path.first()) {
        (Target::Resource(key), Some(first)) => manifest
            .resource(key)
            .and_then(|resource| Some((resource.fields.get(first)?, key.collection.field(first)?))),
        _ => None,
    };
    let Some((said, rule)) = declared else {
        return Ok(facts.field(target, path));
    };
    let mut found = match evaluate(&said.expression, manifest, facts) {
        Outcome::Known(found) => found,
        other => return Err(other),
    };
    found.is_secret |= rule.is_secret;
    Ok(below(found, &path[1..]))
}

/// What is at a path within a value.
pub fn below(found: Rendered, path: &[String]) -> Fact {
    let mut value = found.value;
    for part in path {
        value = match value {
            Json::Object(mut fields) => match fields.remove(part) {
                Some(value) => value,
                None => return Fact::Missing,
            },
            _ => return Fact::Missing,
        };
    }
    Fact::Known(Rendered { value, ..found })
}

/// The text of a config, from its body.
pub fn content(body: &Json) -> Result<String, String> {
    let text = |name: &str| body.get(name).and_then(Json::as_str).unwrap_or_default();
    if body.get("kind").and_then(Json::as_str) == Some("text") {
        return Ok(text("content").to_owned());
    }
    let variables = body
        .get("variables")
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    let mut named = std::collections::BTreeMap::new();
    for (name, value) in &variables {
        let text =
            as_text(value).ok_or_else(|| format!("the variable \"{name}\" is a map, which has no text"))?;
        named.insert(name.clone(), text);
    }
    let rendered = jinja::substitute(text("template"), &named).map_err(|errors| {
        errors
            .first()
            .map_or_else(String::new, |error| format!("template: {}", error.message))
    })?;
    match rendered.len() > limits::RENDERED_BYTES_MAX {
        true => Err(format!(
            "the rendered text is longer than {} bytes",
            limits::RENDERED_BYTES_MAX
        )),
        false => Ok(rendered),
    }
}
