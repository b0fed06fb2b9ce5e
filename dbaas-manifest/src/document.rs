//! [`Node`]: a YAML document with the place of every value.

use serde_json::Value as Json;

use crate::error::Position;

/// A value, and where it stands. Equal are nodes of equal values, wherever they stand.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub value: Value,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value
    }
}

/// A value of YAML's core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// Any other finite number, as spelled: a version `1.10` is not `1.1`.
    Real(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map; the keys are distinct.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key stands.
    pub position: Position,
    /// The key.
    pub key: String,
    /// Its value.
    pub node: Node,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (&self.key, &self.node) == (&other.key, &other.node)
    }
}

impl Node {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a whole number",
            Value::Real(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same in JSON.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => Json::from(*value),
            Value::Real(text) => text.parse::<f64>().map_or(Json::Null, Json::from),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(nodes) => Json::Array(nodes.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                let fields = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()));
                Json::Object(fields.collect())
            }
        }
    }
}
