//! YAML in, [`Node`]s out: the one module that knows the YAML library.
//!
//! It works on the parser's events, since a document needs what a deserializer hides: where every value
//! stands, which key was overwritten by a later one, and how much its aliases make of it before they make it.

mod template_block;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::document::{Entry, Node, Value};
use crate::error::{Finding, Position};
use crate::limits;

/// A document, and what is worth a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The document.
    pub root: Node,
    /// Keys that were overwritten.
    pub warnings: Vec<Finding>,
}

/// Parses one YAML (or JSON) document within the [limits].
pub fn parse(text: &str) -> Result<Parsed, Finding> {
    if text.len() > limits::BYTES_MAX {
        let message = format!("a manifest has at most {} bytes", limits::BYTES_MAX);
        return Err(fault(Position { line: 1, column: 1 }, message));
    }
    let refused = match build(text, &[]) {
        Ok(parsed) => return Ok(parsed),
        Err(refused) => refused,
    };
    // A template over several lines, written no deeper than its key, is not YAML. It is what the
    // documentation shows.
    match template_block::rewrite(text) {
        Some(rewritten) => build(&rewritten.text, &rewritten.lines),
        None => Err(refused),
    }
}

fn fault(position: Position, message: impl Into<String>) -> Finding {
    Finding {
        position,
        path: String::new(),
        message: message.into(),
    }
}

/// A finished value and how much it is.
#[derive(Clone)]
struct Built {
    node: Node,
    weight: Weight,
}

/// How many values, and how many bytes of text.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    values: usize,
    bytes: usize,
}

impl Weight {
    fn plus(self, other: Weight) -> Weight {
        Weight {
            values: self.values.saturating_add(other.values),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn is_too_much(self) -> bool {
        self.values > limits::VALUES_MAX || self.bytes > limits::EXPANDED_BYTES_MAX
    }
}

/// A list or map that is not finished.
struct Open {
    position: Position,
    anchor: usize,
    weight: Weight,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        index: HashMap<String, usize>,
        /// The key that waits for its value.
        key: Option<(Position, String)>,
    },
}

struct Builder<'a> {
    text: &'a str,
    /// Original lines of the lines of a rewritten text; empty if it was not rewritten.
    lines: &'a [usize],
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    total: Weight,
    root: Option<Node>,
    warnings: Vec<Finding>,
}

fn build(text: &str, lines: &[usize]) -> Result<Parsed, Finding> {
    let mut builder = Builder {
        text,
        lines,
        open: Vec::new(),
        anchors: HashMap::new(),
        total: Weight::default(),
        root: None,
        warnings: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    // Ends: every event takes some of the text.
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            let position = builder.position(mark.line(), mark.col());
            fault(position, format!("this is not YAML: {}", error.info()))
        })?;
        builder.take(event, span)?;
    }
    let start = Position { line: 1, column: 1 };
    let root = builder
        .root
        .ok_or_else(|| fault(start, "the document is empty"))?;
    Ok(Parsed {
        root,
        warnings: builder.warnings,
    })
}

impl Builder<'_> {
    fn position(&self, line: usize, column: usize) -> Position {
        let original = line.checked_sub(1).and_then(|index| self.lines.get(index));
        Position {
            line: original.copied().unwrap_or(line).max(1),
            column: column + 1,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Finding> {
        let position = self.position(span.start.line(), span.start.col());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => Err(fault(
                position,
                "a manifest is one document; a second one begins here",
            )),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(built) => self.add(Built {
                    node: Node {
                        position,
                        ..built.node
                    },
                    ..built
                }),
                None => Err(fault(position, "this alias stands within what it is an alias of")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(position, tag.is_some())?;
                let value = self.scalar(&text, style, span);
                let weight = Weight {
                    values: 1,
                    bytes: text.len(),
                };
                let node = Node { position, value };
                self.finish(anchor, Built { node, weight })
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(position, tag.is_some())?;
                self.begin(position, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(position, tag.is_some())?;
                let content = Content::Map {
                    entries: Vec::new(),
                    index: HashMap::new(),
                    key: None,
                };
                self.begin(position, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser ends what it began.
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let value = match open.content {
                    Content::List(nodes) => Value::List(nodes),
                    Content::Map { entries, .. } => Value::Map(entries),
                };
                let node = Node {
                    position: open.position,
                    value,
                };
                // Its values were counted when they came.
                let weight = open.weight;
                if open.anchor > 0 {
                    let built = Built {
                        node: node.clone(),
                        weight,
                    };
                    self.anchors.insert(open.anchor, built);
                }
                self.place(Built { node, weight })
            }
        }
    }

    fn begin(&mut self, position: Position, anchor: usize, content: Content) -> Result<(), Finding> {
        if self.open.len() >= limits::DEPTH_MAX {
            let message = format!("nested deeper than {} levels", limits::DEPTH_MAX);
            return Err(fault(position, message));
        }
        if let Some(Open {
            content: Content::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(fault(
                position,
                "a key is text; if this is {{ … }} of Jinja, give its variables with --set",
            ));
        }
        let weight = Weight { values: 1, bytes: 0 };
        self.count(position, weight)?;
        self.open.push(Open {
            position,
            anchor,
            weight,
            content,
        });
        Ok(())
    }

    fn count(&mut self, position: Position, weight: Weight) -> Result<(), Finding> {
        self.total = self.total.plus(weight);
        if self.total.is_too_much() {
            let message = format!(
                "with what its aliases repeat the document has more than {} values or {} bytes",
                limits::VALUES_MAX,
                limits::EXPANDED_BYTES_MAX
            );
            return Err(fault(position, message));
        }
        Ok(())
    }

    /// A scalar is finished.
    fn finish(&mut self, anchor: usize, built: Built) -> Result<(), Finding> {
        if anchor > 0 {
            self.anchors.insert(anchor, built.clone());
        }
        self.add(built)
    }

    /// Counts a value, then puts it where it belongs.
    fn add(&mut self, built: Built) -> Result<(), Finding> {
        self.count(built.node.position, built.weight)?;
        self.place(built)
    }

    fn place(&mut self, built: Built) -> Result<(), Finding> {
        let Built { node, weight } = built;
        let position = node.position;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.plus(weight);
        match &mut open.content {
            Content::List(nodes) => nodes.push(node),
            Content::Map { entries, index, key } => match key.take() {
                None => *key = Some((position, key_text(&node)?)),
                Some((position, name)) => {
                    let entry = Entry {
                        position,
                        key: name.clone(),
                        node,
                    };
                    match index.get(&name).copied() {
                        None => {
                            index.insert(name, entries.len());
                            entries.push(entry);
                        }
                        Some(before) => {
                            let first = entries[before].position.line;
                            let message = format!(
                                "\"{name}\" stands in line {first} and again in line {}; the last one counts",
                                position.line
                            );
                            if self.warnings.len() < limits::FINDINGS_MAX {
                                self.warnings.push(fault(position, message));
                            }
                            entries[before] = entry;
                        }
                    }
                }
            },
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, span: Span) -> Value {
        match style {
            // YAML would fold the lines of such a template into one.
            ScalarStyle::Plain if text.starts_with("f\"") && span.start.line() != span.end.line() => {
                let length = span.end.index().saturating_sub(span.start.index());
                let raw: String = self.text.chars().skip(span.start.index()).take(length).collect();
                Value::Text(template_block::dedented(&raw))
            }
            ScalarStyle::Plain => plain(text),
            _ => Value::Text(text.to_owned()),
        }
    }
}

fn refuse_tag(position: Position, is_there: bool) -> Result<(), Finding> {
    match is_there {
        true => Err(fault(position, "tags (!…) are not known here")),
        false => Ok(()),
    }
}

fn key_text(node: &Node) -> Result<String, Finding> {
    match &node.value {
        Value::Text(text) if text == "<<" => Err(fault(
            node.position,
            "merge keys (<<) are not known here; write the fields out",
        )),
        Value::Text(text) | Value::Real(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(fault(node.position, "a key is text")),
    }
}

/// A plain scalar by YAML's core schema. Numbers that do not fit stay text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = if let Some(digits) = text.strip_prefix("0x") {
        i64::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = text.strip_prefix("0o") {
        i64::from_str_radix(digits, 8).ok()
    } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    };
    // A number with zeros before it is a mode or a code, and its zeros are part of it.
    let is_padded = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    match number {
        Some(number) if !is_padded && !text.contains("x-") && !text.contains("o-") => Value::Integer(number),
        _ if is_real(digits) && text.parse::<f64>().is_ok_and(f64::is_finite) => Value::Real(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

/// `1.5`, `.5`, `1e3`, but not `1`, `inf`, `1.2.3`.
fn is_real(digits: &str) -> bool {
    let mut bytes = digits.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'))
}
