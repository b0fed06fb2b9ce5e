//! [`Expression`]: what a field of a manifest says: a value, a reference, a template, or a list or map of
//! them.

use std::collections::BTreeMap;

use crate::collection::Key;
use crate::document::{Node, Value};
use crate::error::Position;
use crate::reference::{Access, Reference};
use crate::template::{self, Part};

/// What a reference refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A resource of the same manifest.
    Resource(Key),
    /// A version of the catalogue, by its symbolic name.
    Version(String),
    /// A variable of the platform.
    Variable(String),
    /// A resource of another element, by the name of the import.
    Import(String),
}

/// A reference of which it is known what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As written, for messages.
    pub written: Reference,
    /// What it refers to.
    pub target: Target,
    /// What is read.
    pub access: Access,
}

/// What a field says.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value.
    Value(serde_json::Value),
    /// The value of something else, with its type.
    Reference(Box<Resolved>),
    /// Text with values of something else in it.
    Template(Vec<Piece>),
    /// Several.
    List(Vec<Expression>),
    /// Named ones.
    Map(BTreeMap<String, Expression>),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// To be replaced.
    Reference(Box<Resolved>),
}

impl Expression {
    /// Every reference within.
    pub fn references(&self) -> Vec<&Resolved> {
        match self {
            Expression::Value(_) => Vec::new(),
            Expression::Reference(found) => vec![found],
            Expression::Template(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Text(_) => None,
                    Piece::Reference(found) => Some(&**found),
                })
                .collect(),
            Expression::List(items) => items.iter().flat_map(Expression::references).collect(),
            Expression::Map(fields) => fields.values().flat_map(Expression::references).collect(),
        }
    }

    /// The value, if nothing in it refers to anything.
    pub fn constant(&self) -> Option<serde_json::Value> {
        match self {
            Expression::Value(value) => Some(value.clone()),
            Expression::Reference(_) => None,
            Expression::Template(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    Piece::Reference(_) => None,
                })
                .collect::<Option<String>>()
                .map(serde_json::Value::String),
            Expression::List(items) => {
                let items: Option<Vec<_>> = items.iter().map(Expression::constant).collect();
                items.map(serde_json::Value::Array)
            }
            Expression::Map(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, field)| Some((name.clone(), field.constant()?)));
                fields.collect::<Option<_>>().map(serde_json::Value::Object)
            }
        }
    }
}

/// Reads an expression. `resolve` says what a reference refers to, or what is wrong with it; `fault` takes
/// what is wrong.
pub(crate) fn read(
    node: &Node,
    resolve: &mut dyn FnMut(Reference, Position) -> Option<Resolved>,
    fault: &mut dyn FnMut(Position, String),
) -> Expression {
    match &node.value {
        Value::Text(text) if template::is_template(text) => match template::parts(text) {
            Ok(parts) => {
                let piece = |part| match part {
                    Part::Text(text) => Some(Piece::Text(text)),
                    Part::Reference(reference) => {
                        resolve(reference, node.position).map(|found| Piece::Reference(Box::new(found)))
                    }
                };
                Expression::Template(parts.into_iter().filter_map(piece).collect())
            }
            Err(faults) => {
                faults
                    .into_iter()
                    .for_each(|message| fault(node.position, message));
                Expression::Value(serde_json::Value::Null)
            }
        },
        Value::Text(text) if text.starts_with('$') => {
            match text.parse::<Reference>() {
                Ok(reference) if reference.access.is_none() => {
                    fault(
                        node.position,
                        format!("{reference} names no field: {reference}:uuid"),
                    );
                }
                Ok(reference) => {
                    if let Some(found) = resolve(reference, node.position) {
                        return Expression::Reference(Box::new(found));
                    }
                }
                Err(error) => fault(node.position, format!("begins with $ and is {error}")),
            }
            Expression::Value(serde_json::Value::Null)
        }
        Value::List(items) => Expression::List(items.iter().map(|item| read(item, resolve, fault)).collect()),
        Value::Map(entries) => {
            let fields = entries
                .iter()
                .map(|entry| (entry.key.clone(), read(&entry.node, resolve, fault)));
            Expression::Map(fields.collect())
        }
        _ => Expression::Value(node.to_json()),
    }
}
