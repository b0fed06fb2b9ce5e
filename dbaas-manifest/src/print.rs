//! A document as YAML again: what is printed parses to an equal document.

use std::fmt::Write as _;

use crate::document::{Entry, Node, Value};

/// A key that is written longer than YAML lets one be (1024 characters; YAML 1.2, 7.4.2) has a line of its
/// own, with a question mark before it.
const SIMPLE_KEY_BYTES_MAX: usize = 1_000;

/// Prints a document in block style. Comments, anchors and the spelling of text are not kept.
pub fn print(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => map(&mut out, entries, 0),
        Value::List(nodes) if !nodes.is_empty() => list(&mut out, nodes, 0),
        _ => {
            scalar(&mut out, node);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    (0..depth).for_each(|_| out.push_str("  "));
}

fn map(out: &mut String, entries: &[Entry], depth: usize) {
    for entry in entries {
        indent(out, depth);
        let mut key = String::new();
        text(&mut key, &entry.key);
        if key.len() > SIMPLE_KEY_BYTES_MAX {
            let _ = writeln!(out, "? {key}");
            indent(out, depth);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        below(out, &entry.node, depth);
    }
}

fn list(out: &mut String, nodes: &[Node], depth: usize) {
    for node in nodes {
        indent(out, depth);
        out.push('-');
        below(out, node, depth);
    }
}

fn below(out: &mut String, node: &Node, depth: usize) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            map(out, entries, depth + 1);
        }
        Value::List(nodes) if !nodes.is_empty() => {
            out.push('\n');
            list(out, nodes, depth + 1);
        }
        _ => {
            out.push(' ');
            scalar(out, node);
            out.push('\n');
        }
    }
}

fn scalar(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Real(text) => out.push_str(text),
        Value::Text(value) => text(out, value),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

/// Plain where nothing in the text could be taken for anything else, else in double quotes.
fn text(out: &mut String, value: &str) {
    if is_plain(value) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// Whether YAML takes the character as it is within double quotes, and every editor shows it.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{85}' | '\u{a0}'
        )
        && !c.is_whitespace()
        || c == ' '
}

fn is_plain(value: &str) -> bool {
    let mut chars = value.chars();
    let Some(first) = chars.next() else { return false };
    let begins = first.is_ascii_alphabetic() || first == '$' || first == '/';
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '$'));
    let word = ![
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan",
    ]
    .contains(&value.to_ascii_lowercase().as_str());
    begins && rest && word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_long_when_it_is_written() {
        for (length, values) in [
            (90, "1"),
            (120, "1"),
            (120, "[1, {b: 2}]"),
            (5_000, "{c: {d: [x]}}"),
        ] {
            let text = format!(
                "a: 1\n? \"{}\"\n: {values}\nz: {{y: 1}}\n",
                "\\x03".repeat(length)
            );
            let root = crate::yaml::parse(&text).unwrap().root;
            let printed = print(&root);
            let again = crate::yaml::parse(&printed).map(|parsed| parsed.root);
            assert_eq!(again, Ok(root), "{length}: {printed}");
        }
    }
}
