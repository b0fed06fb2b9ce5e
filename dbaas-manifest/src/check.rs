//! From a text to a [`Manifest`], or to everything that is wrong with it.

mod header;
mod resolve;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use header::KNOWN as FIELDS;

use crate::document::{Node, Value};
use crate::error::{Finding, Position, Refused, Report};
use crate::model::{Manifest, Surroundings};
use crate::reference::{Reference, Segment};
use crate::{jinja, yaml};

/// What a caller says beside the text.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name of the element, if the text has none.
    pub name: Option<String>,
    /// Values of `{{ … }}`. If there are any, all have to be here.
    pub variables: BTreeMap<String, String>,
    /// Leave out collections that are not known, and what refers to them.
    pub skip_unknown: bool,
}

/// Reads a manifest, with everything in it checked that can be checked before something is made.
pub fn read(text: &str, options: &Options, around: &Surroundings) -> Result<Manifest, Refused> {
    let mut report = Report::default();
    let substituted;
    let text = if options.variables.is_empty() {
        text
    } else {
        match jinja::substitute(text, &options.variables) {
            Ok(text) => {
                substituted = text;
                substituted.as_str()
            }
            Err(errors) => return Err(refused(errors)),
        }
    };
    let parsed = yaml::parse(text).map_err(|error| refused(vec![error]))?;
    report.warnings.extend(parsed.warnings);
    let root = parsed.root;
    let Value::Map(_) = &root.value else {
        report.error(
            root.position,
            "",
            format!("a manifest is a map, not {}", root.kind()),
        );
        return Err(refused(report.errors));
    };
    refuse_jinja(&root, "", &mut report);
    let header = header::read(&root, options, around, &mut report);
    let found = resources::read(&root, &header, options, around, &mut report);
    let warnings = report.finish()?;
    Ok(Manifest {
        name: header.name,
        description: header.description,
        version: header.version,
        uuid: header.uuid,
        requirements: header.requirements,
        imports: header.imports,
        exports: found.exports,
        resources: found.resources,
        skipped: found.skipped,
        warnings,
        document: root,
    })
}

/// What stands above the resources of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name of the element.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its version.
    pub version: String,
    /// Its id, if the manifest pins one.
    pub uuid: Option<uuid::Uuid>,
}

/// Reads what stands above the resources. What is around the manifest does not count, and `{{ … }}` that is
/// not given may stay.
pub fn head(text: &str, options: &Options) -> Result<Head, Refused> {
    let mut substituted = None;
    if !options.variables.is_empty() {
        let done = jinja::substitute(text, &options.variables).map_err(refused)?;
        substituted = Some(done);
    }
    let parsed = yaml::parse(substituted.as_deref().unwrap_or(text)).map_err(|error| refused(vec![error]))?;
    let mut report = Report::default();
    let head = header::head(&parsed.root, options, &mut report);
    report.finish()?;
    Ok(head)
}

fn refused(errors: Vec<Finding>) -> Refused {
    Refused {
        errors,
        warnings: Vec::new(),
    }
}

/// `{{ … }}` is an error wherever nothing substitutes it. A template of a config has variables of its own.
fn refuse_jinja(node: &Node, path: &str, report: &mut Report) {
    match &node.value {
        Value::Text(text) if jinja::found_in(text) => {
            let message = "holds {{ … }} or {% … %} of Jinja: give its variables with --set name=value";
            report.error(node.position, path, message);
        }
        Value::List(items) => items.iter().for_each(|item| refuse_jinja(item, path, report)),
        Value::Map(entries) => {
            let is_template = node
                .entry("kind")
                .is_some_and(|kind| kind.node.text() == Some("template"));
            for entry in entries {
                if !(is_template && entry.key == "template") {
                    refuse_jinja(&entry.node, &below(path, &entry.key), report);
                }
            }
        }
        _ => {}
    }
}

/// The path of what is below something.
fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}/{key}"),
    }
}

/// The entries of a map; nothing stands for an empty one.
fn entries<'a>(node: &'a Node, path: &str, report: &mut Report) -> &'a [crate::document::Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        _ => {
            report.error(node.position, path, format!("must be a map, not {}", node.kind()));
            &[]
        }
    }
}

/// A name that references can name.
fn check_name(name: &str, position: Position, path: &str, report: &mut Report) {
    let segment = format!("${name}").parse::<Reference>();
    let is_one = segment.is_ok_and(|found| {
        found.access.is_none()
            && found.path
                == [Segment {
                    is_name: true,
                    text: name.to_owned(),
                }]
    });
    if !is_one || name.len() > crate::limits::NAME_BYTES_MAX {
        let message = format!(
            "\"{name}\" is not a name: a letter or _, then letters, digits, _ and -, at most {} of them",
            crate::limits::NAME_BYTES_MAX
        );
        report.error(position, path, message);
    }
}

/// `; did you mean "…"?`
fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|known| (strsim::levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    near.map_or_else(String::new, |(_, known)| format!("; did you mean \"{known}\"?"))
}
