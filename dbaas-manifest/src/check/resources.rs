//! The resources of a manifest: their kinds, fields and references, their order; and the exports.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::header::{Header, uuid};
use super::resolve::{Dangling, Names, collection};
use super::{Options, below, check_name, entries, suggestion};
use crate::collection::{Collection, Key, Parent};
use crate::document::{Entry, Node};
use crate::error::{Finding, Report};
use crate::expression::{self, Expression, Target};
use crate::limits;
use crate::model::{FieldValue, Resource, Surroundings};
use crate::order;
use crate::reference::Reference;

pub(super) struct Found {
    pub(super) resources: Vec<Resource>,
    pub(super) exports: BTreeMap<String, Key>,
    pub(super) skipped: Vec<Finding>,
}

/// A resource that is declared, not looked into yet.
struct Declared<'a> {
    key: Key,
    entry: &'a Entry,
}

pub(super) fn read(
    root: &Node,
    header: &Header,
    options: &Options,
    around: &Surroundings,
    report: &mut Report,
) -> Found {
    let mut skipped = Vec::new();
    let mut skipped_links: BTreeMap<String, ()> = BTreeMap::new();
    let declared = declared(root, header, options, &mut skipped, &mut skipped_links, report);
    let mut keys: BTreeSet<Key> = declared.iter().map(|found| found.key.clone()).collect();
    check_parents(&declared, &keys, header, report);

    // What refers to something that is left out is left out, too, until nothing of that is left.
    let resources = loop {
        let names = Names {
            header,
            around,
            declared: &keys,
            skipped: &skipped_links,
        };
        let mut round = Report::default();
        let (mut resources, mut dropped) = (Vec::new(), Vec::new());
        for found in declared.iter().filter(|found| keys.contains(&found.key)) {
            match resource(found, &names, &mut round) {
                Some(resource) => resources.push(resource),
                None => dropped.push(found),
            }
        }
        let orphans: Vec<&Declared<'_>> = declared
            .iter()
            .filter(|found| keys.contains(&found.key))
            .filter(|found| match &found.key.parent {
                Some(Parent::Declared(name)) => dropped
                    .iter()
                    .any(|gone| gone.key.collection == Collection::Instances && gone.key.name == *name),
                _ => false,
            })
            .collect();
        if dropped.is_empty() {
            report.errors.extend(round.errors);
            report.warnings.extend(round.warnings);
            break resources;
        }
        for gone in dropped.into_iter().chain(orphans) {
            keys.remove(&gone.key);
            skipped_links.insert(gone.key.to_string(), ());
            skipped.push(Finding {
                position: gone.entry.position,
                path: gone.key.to_string(),
                message: "left out: it refers to something that is not known here".to_owned(),
            });
        }
    };
    refuse_shared_ids(&resources, report);
    check_lengths(&resources, report);
    let exports = exports(root, header, &keys, report);
    Found {
        resources: in_order(resources, report),
        exports,
        skipped,
    }
}

fn declared<'a>(
    root: &'a Node,
    header: &Header,
    options: &Options,
    skipped: &mut Vec<Finding>,
    skipped_links: &mut BTreeMap<String, ()>,
    report: &mut Report,
) -> Vec<Declared<'a>> {
    let mut declared = Vec::new();
    let Some(section) = root.entry("resources") else {
        return declared;
    };
    for group in entries(&section.node, "resources", report) {
        let path = group
            .key
            .parse::<Reference>()
            .ok()
            .filter(|path| path.access.is_none());
        let kind = path
            .as_ref()
            .and_then(|path| collection(&path.path, &header.name));
        let Some((collection, parent)) = kind else {
            let message = format!("the kind {} is not known here", group.key);
            if options.skip_unknown {
                skipped_links.insert(group.key.clone(), ());
                skipped.push(Finding {
                    position: group.position,
                    path: group.key.clone(),
                    message,
                });
            } else {
                report.error(group.position, &group.key, message);
            }
            continue;
        };
        for entry in entries(&group.node, &group.key, report) {
            check_name(&entry.key, entry.position, &group.key, report);
            declared.push(Declared {
                key: Key {
                    collection,
                    parent: parent.clone(),
                    name: entry.key.clone(),
                },
                entry,
            });
        }
    }
    if declared.len() > limits::RESOURCES_MAX {
        let message = format!(
            "a manifest has at most {} resources, not {}",
            limits::RESOURCES_MAX,
            declared.len()
        );
        report.error(section.position, "resources", message);
        declared.truncate(limits::RESOURCES_MAX);
    }
    declared
}

/// Users and databases are in instances that exist.
fn check_parents(declared: &[Declared<'_>], keys: &BTreeSet<Key>, header: &Header, report: &mut Report) {
    for found in declared {
        let message = match &found.key.parent {
            None => continue,
            Some(Parent::Declared(name)) => {
                let instance = Key {
                    collection: Collection::Instances,
                    parent: None,
                    name: name.clone(),
                };
                if keys.contains(&instance) {
                    continue;
                }
                format!("the manifest declares no {instance}")
            }
            Some(Parent::Imported(name)) => match header.imported(name) {
                Some(Collection::Instances) => continue,
                Some(_) => format!("the import \"{name}\" is not an instance"),
                None if header.broken_imports.contains(name) => continue,
                None => format!("there is no import \"{name}\" that is an instance"),
            },
        };
        report.error(found.entry.position, found.key.to_string(), message);
    }
}

/// `None` if it refers to something that is left out.
fn resource(found: &Declared<'_>, names: &Names<'_>, report: &mut Report) -> Option<Resource> {
    let (key, entry) = (&found.key, found.entry);
    let path = key.to_string();
    let collection = key.collection;
    let mut fields = BTreeMap::new();
    let mut refers_to_skipped = false;
    for said in entries(&entry.node, &path, report) {
        let field_path = below(&path, &said.key);
        if said.key == "uuid" {
            continue;
        }
        let Some(field) = collection.field(&said.key) else {
            let known = collection.fields().iter().map(|field| field.name).chain(["uuid"]);
            let hint = suggestion(&said.key, known);
            let message = format!("a {} has no such field{hint}", collection.what());
            report.error(said.position, field_path, message);
            continue;
        };
        // Both take what is wrong; only one of them at a time.
        let faults = std::cell::RefCell::new(Vec::new());
        let mut resolve = |reference: Reference, position| match names.resolve(reference) {
            Ok(found) => Some(found),
            Err(Dangling::Wrong(message)) => {
                faults.borrow_mut().push((position, message));
                None
            }
            Err(Dangling::Skipped) => {
                refers_to_skipped = true;
                None
            }
            // The error is where the import is.
            Err(Dangling::Reported) => {
                faults.borrow_mut().push((position, String::new()));
                None
            }
        };
        let mut fault = |position, message| faults.borrow_mut().push((position, message));
        let expression = expression::read(&said.node, &mut resolve, &mut fault);
        let faults = faults.into_inner();
        if faults.is_empty() && !refers_to_skipped {
            if let Some(value) = expression.constant()
                && let Err(rule) = (field.rule)(&value)
            {
                report.error(said.node.position, &field_path, rule);
            }
            check_owner(key, &said.key, &expression, said, &field_path, report);
            check_access(key, &said.key, &expression, said, &field_path, report);
        }
        for (position, message) in faults.into_iter().filter(|(_, message)| !message.is_empty()) {
            report.error(position, &field_path, message);
        }
        let position = said.node.position;
        fields.insert(said.key.clone(), FieldValue { position, expression });
    }
    for missing in collection.fields().iter().filter(|field| field.is_required) {
        if !fields.contains_key(missing.name) {
            report.error(entry.position, &path, format!("{} is missing", missing.name));
        }
    }
    check_manual(key, &fields, entry, report);
    let uuid = uuid(&entry.node, &path, report);
    (!refers_to_skipped).then(|| Resource {
        key: key.clone(),
        position: entry.position,
        uuid,
        fields,
    })
}

/// `instance` is the instance that it is in, and `owner` a user of it.
fn check_owner(
    key: &Key,
    field: &str,
    expression: &Expression,
    said: &Entry,
    path: &str,
    report: &mut Report,
) {
    let Expression::Reference(found) = expression else {
        return;
    };
    let is_good = match (field, &found.target) {
        ("instance", Target::Resource(other)) => {
            other.collection == Collection::Instances
                && key.parent == Some(Parent::Declared(other.name.clone()))
        }
        ("instance", Target::Import(name)) => key.parent == Some(Parent::Imported(name.clone())),
        ("owner", Target::Resource(other)) if key.collection == Collection::Databases => {
            other.collection == Collection::Users && other.parent == key.parent
        }
        ("instance", _) => false,
        _ => true,
    };
    if !is_good {
        let message = match field {
            "instance" => "must be the instance in whose collection this stands",
            _ => "must be a user of the same instance",
        };
        report.error(said.node.position, path, message);
    }
}

/// Whoever has access is a user of the same instance.
fn check_access(
    key: &Key,
    field: &str,
    expression: &Expression,
    said: &Entry,
    path: &str,
    report: &mut Report,
) {
    if (key.collection, field) != (Collection::Databases, "access") {
        return;
    }
    let Expression::List(entries) = expression else {
        return;
    };
    for (index, entry) in entries.iter().enumerate() {
        if let Expression::Map(fields) = entry
            && let Some(Expression::Reference(found)) = fields.get("user")
            && let Target::Resource(other) = &found.target
            && (other.collection != Collection::Users || other.parent != key.parent)
        {
            let message = format!("entry {}: user must be a user of the same instance", index + 1);
            let position = item_position(said, index);
            report.error(position, path, message);
        }
    }
}

/// Where an item of a list stands.
fn item_position(said: &Entry, index: usize) -> crate::error::Position {
    match &said.node.value {
        crate::document::Value::List(items) => items.get(index).map_or(said.position, |item| item.position),
        _ => said.position,
    }
}

/// A value is given just where it is not generated.
fn check_manual(key: &Key, fields: &BTreeMap<String, FieldValue>, entry: &Entry, report: &mut Report) {
    if key.collection != Collection::Passwords {
        return;
    }
    let method = fields.get("method").and_then(|field| field.expression.constant());
    let is_manual = method == Some(serde_json::json!("MANUAL"));
    let path = key.to_string();
    match (is_manual, fields.get("value")) {
        (true, None) => report.error(entry.position, &path, "method MANUAL needs a value"),
        (false, Some(value)) => {
            let message = "a value is given with method MANUAL only; the others generate one";
            report.error(value.position, below(&path, "value"), message);
        }
        _ => {}
    }
}

fn refuse_shared_ids(resources: &[Resource], report: &mut Report) {
    let mut seen: BTreeMap<(Collection, Uuid), &Key> = BTreeMap::new();
    for resource in resources {
        let Some(id) = resource.uuid else { continue };
        if let Some(other) = seen.insert((resource.key.collection, id), &resource.key) {
            let path = below(&resource.key.to_string(), "uuid");
            report.error(resource.position, path, format!("{other} has the same uuid"));
        }
    }
}

/// A generated password that is given to a user is one that users may have.
fn check_lengths(resources: &[Resource], report: &mut Report) {
    let lengths: BTreeMap<&Key, u64> = resources
        .iter()
        .filter(|resource| resource.key.collection == Collection::Passwords)
        .filter(|resource| !resource.fields.contains_key("value"))
        .filter_map(|resource| match resource.fields.get("default_length") {
            None => Some((&resource.key, limits::PASSWORD_LENGTH_DEFAULT)),
            Some(said) => Some((&resource.key, said.expression.constant()?.as_u64()?)),
        })
        .collect();
    let (least, most) = (
        dbaas_core::limits::PASSWORD_CHARS.start(),
        dbaas_core::limits::PASSWORD_CHARS.end(),
    );
    for resource in resources
        .iter()
        .filter(|resource| resource.key.collection == Collection::Users)
    {
        let Some(said) = resource.fields.get("password") else {
            continue;
        };
        let Expression::Reference(found) = &said.expression else {
            continue;
        };
        let Target::Resource(key) = &found.target else {
            continue;
        };
        if let Some(length) = lengths.get(key)
            && !(*least as u64..=*most as u64).contains(length)
        {
            let message =
                format!("{key} has {length} characters, and a user's password has {least} to {most}");
            report.error(
                said.position,
                below(&resource.key.to_string(), "password"),
                message,
            );
        }
    }
}

fn in_order(resources: Vec<Resource>, report: &mut Report) -> Vec<Resource> {
    let graph: BTreeMap<Key, BTreeSet<Key>> = resources
        .iter()
        .map(|resource| (resource.key.clone(), resource.dependencies()))
        .collect();
    let mut by_key: BTreeMap<Key, Resource> = resources
        .into_iter()
        .map(|resource| (resource.key.clone(), resource))
        .collect();
    match order::sorted(&graph) {
        Ok(order) => order.iter().filter_map(|key| by_key.remove(key)).collect(),
        Err(cycle) => {
            let position = cycle
                .first()
                .and_then(|key| by_key.get(key))
                .map(|first| first.position);
            let path: Vec<String> = cycle.iter().map(Key::to_string).collect();
            let message = format!("these refer to each other in a circle: {}", path.join(" -> "));
            let first = path.first().cloned().unwrap_or_default();
            report.error(position.unwrap_or_default(), first, message);
            Vec::new()
        }
    }
}

fn exports(root: &Node, header: &Header, keys: &BTreeSet<Key>, report: &mut Report) -> BTreeMap<String, Key> {
    let mut exports = BTreeMap::new();
    let Some(section) = root.entry("exports") else {
        return exports;
    };
    let all = entries(&section.node, "exports", report);
    if all.len() > limits::LINKS_MAX {
        let message = format!("there are at most {}, not {}", limits::LINKS_MAX, all.len());
        report.error(section.position, "exports", message);
    }
    for entry in all.iter().take(limits::LINKS_MAX) {
        let path = below("exports", &entry.key);
        check_name(&entry.key, entry.position, &path, report);
        for field in entries(&entry.node, &path, report) {
            match field.key.as_str() {
                "link" => {}
                "kind" if field.node.text() == Some("resource") => {}
                "kind" => report.error(
                    field.node.position,
                    below(&path, "kind"),
                    "the only one that is known is resource",
                ),
                other => report.error(field.position, below(&path, other), "an export has no such field"),
            }
        }
        let Some(link) = entry.node.entry("link") else {
            report.error(entry.position, &path, "link is missing");
            continue;
        };
        let reference = link.node.text().and_then(|text| text.parse::<Reference>().ok());
        let key = reference
            .filter(|found| found.access.is_none())
            .and_then(|found| {
                let (last, before) = found.path.split_last()?;
                let (collection, parent) = collection(before, &header.name)?;
                Some(Key {
                    collection,
                    parent,
                    name: last.text.clone(),
                })
            });
        match key.filter(|key| keys.contains(key)) {
            Some(key) => {
                exports.insert(entry.key.clone(), key);
            }
            None => report.error(
                link.node.position,
                below(&path, "link"),
                "must be the link of a resource that the manifest declares",
            ),
        }
    }
    exports
}
