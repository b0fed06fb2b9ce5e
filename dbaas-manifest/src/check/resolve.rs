//! What a reference refers to.

use std::collections::{BTreeMap, BTreeSet};

use super::header::Header;
use super::suggestion;
use crate::collection::{Collection, Key, Parent};
use crate::expression::{Resolved, Target};
use crate::model::{Imported, Surroundings};
use crate::reference::{Reference, Segment};

/// Everything that references are looked up in.
pub(super) struct Names<'a> {
    pub(super) header: &'a Header,
    pub(super) around: &'a Surroundings,
    pub(super) declared: &'a BTreeSet<Key>,
    /// Links of resources that are left out, and collections that are not known.
    pub(super) skipped: &'a BTreeMap<String, ()>,
}

/// Why a reference has no meaning here.
pub(super) enum Dangling {
    /// For people.
    Wrong(String),
    /// It refers to something that is left out.
    Skipped,
    /// What it refers to is wrong, which was reported.
    Reported,
}

const VERSION_FIELDS: [&str; 2] = ["uuid", "name"];
const VARIABLE_FIELDS: [&str; 2] = ["value", "name"];

/// A collection's path, and the parent that it names: of `$dbaas.types.postgres.instances.$db.users`, users
/// and `$db`.
pub(super) fn collection(path: &[Segment], element: &str) -> Option<(Collection, Option<Parent>)> {
    let words: Vec<String> = path.iter().map(Segment::to_string).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let below = |word: &str| match word {
        "users" => Some(Collection::Users),
        "databases" => Some(Collection::Databases),
        _ => None,
    };
    match words.as_slice() {
        ["$core", "vs", "variables"] => Some((Collection::Variables, None)),
        ["$core", "secret", "passwords"] => Some((Collection::Passwords, None)),
        ["$core", "config", "configs"] => Some((Collection::Configs, None)),
        ["$dbaas", "types", "postgres", "instances"] => Some((Collection::Instances, None)),
        ["$dbaas", "types", "postgres", "instances", name, kind] => {
            let parent = Parent::Declared(name.strip_prefix('$')?.to_owned());
            Some((below(kind)?, Some(parent)))
        }
        [own, "imports", name, kind] if own.strip_prefix('$') == Some(element) => {
            let parent = Parent::Imported(name.strip_prefix('$')?.to_owned());
            Some((below(kind)?, Some(parent)))
        }
        _ => None,
    }
}

impl Names<'_> {
    pub(super) fn resolve(&self, reference: Reference) -> Result<Resolved, Dangling> {
        let Some(access) = reference.access.clone() else {
            return Err(Dangling::Wrong(format!("{reference} names no field")));
        };
        let target = self.target(&reference)?;
        if let Some(field) = access.field().and_then(|path| path.first()) {
            let known = self.fields_of(&target);
            if !known.contains(&field.as_str()) {
                let hint = suggestion(field, known.iter().copied());
                let message = format!("{} has no field \"{field}\"{hint}", reference.link());
                return Err(Dangling::Wrong(message));
            }
        }
        Ok(Resolved {
            written: reference,
            target,
            access,
        })
    }

    fn target(&self, reference: &Reference) -> Result<Target, Dangling> {
        let link = reference.link();
        let path = &reference.path;
        if self.skipped.contains_key(&link) || self.skipped.contains_key(&collection_link(path)) {
            return Err(Dangling::Skipped);
        }
        let words: Vec<String> = path.iter().map(Segment::to_string).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["$dbaas", "types", "postgres", "versions", name] = words.as_slice() {
            let name = name.trim_start_matches('$').to_owned();
            return match self.around.versions.contains_key(&name) {
                true => Ok(Target::Version(name)),
                false => Err(Dangling::Wrong(format!(
                    "there is no version \"{name}\" in the catalogue"
                ))),
            };
        }
        if let [own, "imports", name] = words.as_slice() {
            return self.import(own, name);
        }
        let (last, before) = path.split_last().ok_or(Dangling::Reported)?;
        let Some((collection, parent)) = collection(before, &self.header.name).filter(|_| last.is_name)
        else {
            return Err(Dangling::Wrong(format!(
                "{link} leads nowhere: no such kind of resource is known here"
            )));
        };
        let key = Key {
            collection,
            parent,
            name: last.text.clone(),
        };
        if self.declared.contains(&key) {
            return Ok(Target::Resource(key));
        }
        if collection == Collection::Variables && self.around.variables.contains_key(&key.name) {
            return Ok(Target::Variable(key.name));
        }
        let near = self
            .declared
            .iter()
            .filter(|other| (other.collection, &other.parent) == (key.collection, &key.parent));
        let hint = suggestion(&key.name, near.map(|other| other.name.as_str()));
        Err(Dangling::Wrong(format!("the manifest declares no {link}{hint}")))
    }

    fn import(&self, own: &str, name: &str) -> Result<Target, Dangling> {
        let element = &self.header.name;
        if own.strip_prefix('$') != Some(element.as_str()) {
            let message = format!("{own}.imports: the imports of another element; this one is ${element}");
            return Err(Dangling::Wrong(message));
        }
        let name = name.trim_start_matches('$');
        if self.header.broken_imports.iter().any(|broken| broken == name) {
            return Err(Dangling::Reported);
        }
        match self.header.imports.get(name).map(|import| &import.target) {
            None => {
                let hint = suggestion(name, self.header.imports.keys().map(String::as_str));
                Err(Dangling::Wrong(format!("there is no import \"{name}\"{hint}")))
            }
            Some(Imported::Version(version)) => Ok(Target::Version(version.clone())),
            Some(Imported::Variable(variable)) => Ok(Target::Variable(variable.clone())),
            Some(Imported::Resource { .. }) => Ok(Target::Import(name.to_owned())),
        }
    }

    fn fields_of(&self, target: &Target) -> Vec<&'static str> {
        let of = |collection: Collection| {
            let declared = collection.fields().iter().map(|field| field.name);
            declared.chain(collection.computed().iter().copied()).collect()
        };
        match target {
            Target::Resource(key) => of(key.collection),
            Target::Version(_) => VERSION_FIELDS.to_vec(),
            Target::Variable(_) => VARIABLE_FIELDS.to_vec(),
            Target::Import(name) => self.header.imported(name).map_or_else(Vec::new, of),
        }
    }
}

/// The path without its last segment.
fn collection_link(path: &[Segment]) -> String {
    let words: Vec<String> = path
        .iter()
        .take(path.len().saturating_sub(1))
        .map(Segment::to_string)
        .collect();
    words.join(".")
}
