//! What stands above the resources: names, versions, requirements, imports.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Options, below, check_name, entries, suggestion};
use crate::collection::Collection;
use crate::document::{Entry, Node, Value};
use crate::error::Report;
use crate::limits;
use crate::model::{Bound, Import, Imported, Requirement, Surroundings};
use crate::reference::Reference;

/// What a manifest has at its top.
pub(crate) const KNOWN: [&str; 10] = [
    "name",
    "description",
    "schema_version",
    "version",
    "api_version",
    "uuid",
    "requirements",
    "imports",
    "resources",
    "exports",
];
const BOUNDS: [(&str, Bound); 7] = [
    ("from_version", Bound::AtLeast),
    ("to_version", Bound::AtMost),
    (">=", Bound::AtLeast),
    (">", Bound::Above),
    ("<=", Bound::AtMost),
    ("<", Bound::Below),
    ("==", Bound::Exactly),
];

pub(super) struct Header {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) version: semver::Version,
    pub(super) uuid: Option<Uuid>,
    pub(super) requirements: BTreeMap<String, Requirement>,
    pub(super) imports: BTreeMap<String, Import>,
    /// Imports that are not good: what refers to them is not reported, too.
    pub(super) broken_imports: Vec<String>,
}

pub(super) fn read(root: &Node, options: &Options, around: &Surroundings, report: &mut Report) -> Header {
    for entry in entries(root, "", report) {
        if !KNOWN.contains(&entry.key.as_str()) {
            let hint = suggestion(&entry.key, KNOWN.into_iter());
            report.error(
                entry.position,
                &entry.key,
                format!("a manifest has no such field{hint}"),
            );
        }
    }
    let mut header = Header {
        name: name(root, options, report),
        description: text(root, "description", report).unwrap_or_default(),
        version: version_of(root, report),
        uuid: uuid(root, "", report),
        requirements: BTreeMap::new(),
        imports: BTreeMap::new(),
        broken_imports: Vec::new(),
    };
    if let Some(found) = root.entry("schema_version")
        && found.node.value != Value::Integer(1)
    {
        report.error(
            found.node.position,
            "schema_version",
            "the only one that is known is 1",
        );
    }
    if let Some(found) = root.entry("api_version")
        && found.node.text() != Some("v1")
    {
        report.error(
            found.node.position,
            "api_version",
            "the only one that is known is v1",
        );
    }
    requirements(root, around, &mut header, report);
    imports(root, around, &mut header, report);
    header
}

/// Names and version alone.
pub(super) fn head(root: &Node, options: &Options, report: &mut Report) -> super::Head {
    entries(root, "", report);
    super::Head {
        name: name(root, options, report),
        description: text(root, "description", report).unwrap_or_default(),
        version: match root.entry("version").and_then(|version| version.node.text()) {
            Some(text) if crate::jinja::found_in(text) => text.to_owned(),
            _ => version_of(root, report).to_string(),
        },
        uuid: uuid(root, "", report),
    }
}

/// From the text, from the caller, or from the references to the element's own imports.
fn name(root: &Node, options: &Options, report: &mut Report) -> String {
    if let Some(found) = root.entry("name") {
        let name = text(root, "name", report).unwrap_or_default();
        check_name(&name, found.node.position, "name", report);
        return name;
    }
    if let Some(name) = &options.name {
        check_name(name, root.position, "name", report);
        return name.clone();
    }
    let mut said = Vec::new();
    own_names(root, &mut said);
    said.sort();
    said.dedup();
    match said.as_slice() {
        [name] => name.clone(),
        _ => {
            report.error(
                root.position,
                "name",
                "the element has no name: add name: …, or give one with the request",
            );
            String::new()
        }
    }
}

/// The names in `$name.imports.…`.
fn own_names(node: &Node, said: &mut Vec<String>) {
    let mut take = |text: &str| {
        for (at, _) in text.match_indices('$') {
            if let Some((found, _)) = Reference::prefix(&text[at..])
                && found
                    .path
                    .get(1)
                    .is_some_and(|segment| !segment.is_name && segment.text == "imports")
            {
                said.push(found.path[0].text.clone());
            }
        }
    };
    match &node.value {
        Value::Text(text) => take(text),
        Value::List(items) => items.iter().for_each(|item| own_names(item, said)),
        Value::Map(entries) => {
            for entry in entries {
                take(&entry.key);
            }
            entries.iter().for_each(|entry| own_names(&entry.node, said));
        }
        _ => {}
    }
}

pub(super) fn text(node: &Node, key: &str, report: &mut Report) -> Option<String> {
    let found = node.entry(key)?;
    match found.node.text() {
        Some(text) => Some(text.to_owned()),
        None => {
            let message = format!("must be text, not {}", found.node.kind());
            report.error(found.node.position, key, message);
            None
        }
    }
}

/// A pinned id.
pub(super) fn uuid(node: &Node, path: &str, report: &mut Report) -> Option<Uuid> {
    let found = node.entry("uuid")?;
    let id = found
        .node
        .text()
        .filter(|text| text.len() == 36)
        .and_then(|text| Uuid::try_parse(text).ok())
        .filter(|id| !id.is_nil() && !id.is_max());
    if id.is_none() {
        let message = "must be a UUID such as 0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
        report.error(found.node.position, below(path, "uuid"), message);
    }
    id
}

fn version_of(root: &Node, report: &mut Report) -> semver::Version {
    let none = semver::Version::new(0, 0, 0);
    match root.entry("version") {
        None => none,
        Some(entry) => version(entry, "version", report).unwrap_or(none),
    }
}

fn version(entry: &Entry, path: &str, report: &mut Report) -> Option<semver::Version> {
    let spelled = match &entry.node.value {
        Value::Text(text) | Value::Real(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        _ => String::new(),
    };
    // `1` and `1.2` are `1.0.0` and `1.2.0`.
    let core = spelled.split(['-', '+']).next().unwrap_or_default();
    let missing = 2usize.saturating_sub(core.matches('.').count());
    let padded = format!("{core}{}{}", ".0".repeat(missing), &spelled[core.len()..]);
    match semver::Version::parse(&padded) {
        Ok(version) => Some(version),
        Err(_) => {
            report.error(
                entry.node.position,
                path,
                "must be a semantic version such as 1.2.3 or 2.0.0-rc.1",
            );
            None
        }
    }
}

fn requirements(root: &Node, around: &Surroundings, header: &mut Header, report: &mut Report) {
    let Some(section) = root.entry("requirements") else {
        return;
    };
    let all = entries(&section.node, "requirements", report);
    bound(all.len(), section, report);
    for entry in all.iter().take(limits::LINKS_MAX) {
        let path = below("requirements", &entry.key);
        let mut requirement = Requirement::default();
        for said in entries(&entry.node, &path, report) {
            let path = below(&path, &said.key);
            let Some((_, sign)) = BOUNDS.iter().find(|(word, _)| *word == said.key) else {
                let hint = suggestion(&said.key, BOUNDS.iter().map(|(word, _)| *word));
                report.error(
                    said.position,
                    path,
                    format!("a requirement has no such field{hint}"),
                );
                continue;
            };
            if let Some(version) = version(said, &path, report) {
                requirement.bounds.push((*sign, version));
            }
        }
        let name = entry.key.trim_start_matches('$').to_owned();
        match around.elements.get(&name) {
            None => report.error(entry.position, &path, format!("there is no element \"{name}\"")),
            Some(element) => {
                for (sign, version) in &requirement.bounds {
                    if !sign.holds(&element.version, version) {
                        let (sign, there) = (sign.sign(), &element.version);
                        let message = format!("\"{name}\" {sign} {version} is needed, and there is {there}");
                        report.error(entry.position, &path, message);
                    }
                }
            }
        }
        header.requirements.insert(name, requirement);
    }
}

fn bound(count: usize, section: &Entry, report: &mut Report) {
    if count > limits::LINKS_MAX {
        let message = format!("there are at most {}, not {count}", limits::LINKS_MAX);
        report.error(section.position, &section.key, message);
    }
}

fn imports(root: &Node, around: &Surroundings, header: &mut Header, report: &mut Report) {
    let Some(section) = root.entry("imports") else {
        return;
    };
    let all = entries(&section.node, "imports", report);
    bound(all.len(), section, report);
    for entry in all.iter().take(limits::LINKS_MAX) {
        let path = below("imports", &entry.key);
        check_name(&entry.key, entry.position, &path, report);
        let errors = report.errors.len();
        let found = import(entry, &path, around, header, report);
        match found {
            Some(import) if report.errors.len() == errors => {
                header.imports.insert(entry.key.clone(), import);
            }
            _ => header.broken_imports.push(entry.key.clone()),
        }
    }
}

fn import(
    entry: &Entry,
    path: &str,
    around: &Surroundings,
    header: &Header,
    report: &mut Report,
) -> Option<Import> {
    let known = ["element", "kind", "link"];
    for field in entries(&entry.node, path, report) {
        if !known.contains(&field.key.as_str()) {
            let hint = suggestion(&field.key, known.into_iter());
            report.error(
                field.position,
                below(path, &field.key),
                format!("an import has no such field{hint}"),
            );
        }
    }
    if let Some(kind) = entry.node.entry("kind")
        && kind.node.text() != Some("resource")
    {
        report.error(
            kind.node.position,
            below(path, "kind"),
            "the only one that is known is resource",
        );
    }
    for needed in ["element", "link"] {
        if entry.node.entry(needed).is_none() {
            report.error(entry.position, path, format!("{needed} is missing"));
        }
    }
    let element = text(&entry.node, "element", report)?
        .trim_start_matches('$')
        .to_owned();
    let link_entry = entry.node.entry("link")?;
    let link = text(&entry.node, "link", report)?;
    let at = link_entry.node.position;
    let link_path = below(path, "link");
    if element == header.name {
        report.error(
            entry.position,
            path,
            "an element does not import from itself; refer to the resource",
        );
        return None;
    }
    let Some(facts) = around.elements.get(&element) else {
        report.error(
            entry.position,
            below(path, "element"),
            format!("there is no element \"{element}\""),
        );
        return None;
    };
    let parsed = link
        .parse::<Reference>()
        .ok()
        .filter(|link| link.access.is_none());
    let Some(parsed) = parsed else {
        report.error(
            at,
            link_path,
            "must be a link such as $dbaas.types.postgres.versions.$pg18",
        );
        return None;
    };
    let words: Vec<String> = parsed.path.iter().map(ToString::to_string).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let target = match words.as_slice() {
        ["$dbaas", "types", "postgres", "versions", name] if element == "dbaas" => {
            let name = name.trim_start_matches('$');
            if !around.versions.contains_key(name) {
                let there: Vec<&str> = around.versions.keys().map(String::as_str).collect();
                let message = format!(
                    "there is no version \"{name}\"; the catalogue has {}",
                    there.join(", ")
                );
                report.error(at, link_path, message);
                return None;
            }
            Imported::Version(name.to_owned())
        }
        ["$core", "vs", "variables", name] if element == "core" => {
            let name = name.trim_start_matches('$');
            if !around.variables.contains_key(name) {
                report.error(at, link_path, format!("there is no variable \"{name}\""));
                return None;
            }
            Imported::Variable(name.to_owned())
        }
        _ => {
            // As the exporting element says, or with that element before it.
            let stripped = link.strip_prefix(&format!("${element}.")).unwrap_or(&link);
            let exported = facts.exports.get(&link).or_else(|| facts.exports.get(stripped));
            let Some((collection, id)) = exported else {
                report.error(at, link_path, format!("\"{element}\" exports no such thing"));
                return None;
            };
            Imported::Resource {
                collection: *collection,
                id: *id,
            }
        }
    };
    Some(Import {
        element,
        link,
        target,
    })
}

impl Header {
    /// The collection that an import is of, if it is a resource of another element.
    pub(super) fn imported(&self, name: &str) -> Option<Collection> {
        match self.imports.get(name)?.target {
            Imported::Resource { collection, .. } => Some(collection),
            Imported::Version(_) | Imported::Variable(_) => None,
        }
    }
}
