//! How results are written: tables for people, JSON or YAML for programs; colours on a terminal only.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::arguments::{Colour, Global, Output};
use crate::failure::Failure;

/// Standard output, as the user wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    output: Output,
    is_coloured: bool,
}

/// A column: its title, and what an item has there.
pub(crate) type Column<'a> = (&'a str, &'a dyn Fn(&Value) -> String);

impl Screen {
    pub(crate) fn new(global: &Global) -> Self {
        let on_terminal = || std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen {
            output: global.output,
            is_coloured: match global.color {
                Colour::Always => true,
                Colour::Never => false,
                Colour::Auto => on_terminal(),
            },
        }
    }

    pub(crate) fn is_table(self) -> bool {
        self.output == Output::Table
    }

    /// A list.
    pub(crate) fn list(self, items: &[Value], columns: &[Column<'_>]) -> Result<(), Failure> {
        if !self.is_table() {
            return self.value(&Value::Array(items.to_vec()));
        }
        let mut table = self.table();
        table.set_header(columns.iter().map(|(title, _)| Cell::new(title)));
        for item in items {
            table.add_row(columns.iter().map(|(_, text)| self.cell(text(item))));
        }
        self.write(&trimmed(&table))
    }

    /// One resource: each field on a line of its own.
    pub(crate) fn one(self, item: &Value, fields: &[Column<'_>]) -> Result<(), Failure> {
        if !self.is_table() {
            return self.value(item);
        }
        let mut table = self.table();
        for (title, text) in fields {
            let text = text(item);
            if !text.is_empty() {
                table.add_row([Cell::new(title), self.cell(text)]);
            }
        }
        self.write(&trimmed(&table))
    }

    /// Text that is a result, whatever the format.
    pub(crate) fn write(self, text: &str) -> Result<(), Failure> {
        match writeln!(std::io::stdout().lock(), "{text}") {
            // The reader has read enough: `| head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::failed(format!("the result cannot be written: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// What a person is told beside the result.
    pub(crate) fn note(self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn value(self, value: &Value) -> Result<(), Failure> {
        let internal = |_| Failure::failed("the result cannot be written");
        let text = match self.output {
            Output::Yaml => {
                serde_saphyr::to_string(value).map_err(|error| Failure::failed(error.to_string()))?
            }
            _ => serde_json::to_string_pretty(value).map_err(internal)?,
        };
        self.write(text.trim_end())
    }

    fn table(self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if self.is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    fn cell(self, text: String) -> Cell {
        let colour = match text.as_str() {
            "ACTIVE" => Some(Color::Green),
            "ERROR" => Some(Color::Red),
            "NEW" | "IN_PROGRESS" => Some(Color::Yellow),
            _ => None,
        };
        let cell = Cell::new(text);
        match colour {
            Some(colour) if self.is_coloured => cell.fg(colour),
            _ => cell,
        }
    }
}

/// Without the blanks that a table has at both ends of its lines.
fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A field as text; nothing for null.
pub(crate) fn text(item: &Value, field: &str) -> String {
    match &item[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `yes`, or nothing.
pub(crate) fn yes(item: &Value, field: &str) -> String {
    match item[field].as_bool() {
        Some(true) => "yes".to_owned(),
        _ => String::new(),
    }
}

/// A time without what nobody reads: `2026-11-27 12:50:03`.
pub(crate) fn time(item: &Value, field: &str) -> String {
    let text = text(item, field);
    text.get(..19).map(|text| text.replace('T', " ")).unwrap_or(text)
}

/// The last part of a reference.
pub(crate) fn last_part(item: &Value, field: &str) -> String {
    let text = text(item, field);
    text.rsplit('/').next().unwrap_or_default().to_owned()
}
