//! [`Plan`]: what applying a manifest would do, from what it says and what there is. The only place where
//! that is decided.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::collection::{Collection, Field, Key, Parent};
use crate::error::{Finding, Refused, Report};
use crate::expression::{Expression, Target};
use crate::model::{Manifest, Resource};
use crate::render::{self, Fact, Facts, Outcome, Rendered};

/// What there is of a resource that the element made.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Its id.
    pub id: Uuid,
    /// Its fields, in the one form that values are compared in.
    pub fields: BTreeMap<String, Rendered>,
    /// Others keep it from being deleted, whatever the caller allows; says why.
    pub is_protected: Option<String>,
}

/// What a field is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// This.
    Known(Rendered),
    /// What this reference will say.
    Later(String),
}

/// What a caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Destroy {
    /// Instances and databases that left the manifest stay.
    #[default]
    Refuse,
    /// They are deleted with their data.
    Allow,
}

/// A change of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The field.
    pub field: String,
    /// What it is; `None` where that is not shown.
    pub from: Option<Json>,
    /// What it is to be; `None` where that is not shown, or not known yet.
    pub to: Option<Json>,
    /// For people: why a value is not shown.
    pub note: Option<String>,
}

/// What is done with a resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// It is made.
    Create {
        /// Its fields.
        changes: Vec<Change>,
    },
    /// It is changed.
    Update {
        /// What of it.
        changes: Vec<Change>,
    },
    /// It is as it is to be.
    Nothing,
    /// It left the manifest and is deleted.
    Delete,
    /// It left the manifest and stays.
    Retain {
        /// Why.
        why: String,
    },
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which resource.
    pub key: Key,
    /// What is done.
    pub action: Action,
}

/// What applying a manifest would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In order: each resource after what it refers to, then what goes, in the opposite order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let is_idle = |step: &Step| matches!(step.action, Action::Nothing | Action::Retain { .. });
        self.steps.iter().all(is_idle)
    }
}

/// What the fields of a resource are to be, as far as that is known. A config's `body` has become its
/// `content`.
pub fn wanted(
    resource: &Resource,
    manifest: &Manifest,
    facts: &dyn Facts,
) -> Result<BTreeMap<String, Wanted>, Vec<Finding>> {
    let (mut fields, mut report) = (BTreeMap::new(), Report::default());
    for (name, said) in &resource.fields {
        let path = format!("{}/{name}", resource.key);
        let Some(field) = resource.key.collection.field(name) else {
            continue;
        };
        match render::evaluate(&said.expression, manifest, facts) {
            Outcome::Later(found) => {
                fields.insert(name.clone(), Wanted::Later(found.written.to_string()));
            }
            Outcome::Wrong(message) => report.error(said.position, path, message),
            Outcome::Known(found) if found.is_secret && !may_hold_secret(resource.key.collection, field) => {
                let message = "holds a secret, and everybody who may see the resource sees this field; \
                    secrets go into a user's password, a password's value and a config's body";
                report.error(said.position, path, message);
            }
            Outcome::Known(found) => match (field.rule)(&found.value) {
                Err(rule) => report.error(said.position, path, from_where(&said.expression, rule)),
                Ok(value) => {
                    let is_secret = found.is_secret || field.is_secret;
                    fields.insert(name.clone(), Wanted::Known(Rendered { value, is_secret }));
                }
            },
        }
    }
    if resource.key.collection == Collection::Configs
        && let Some(body) = fields.remove("body")
    {
        let content = match body {
            Wanted::Later(reference) => Wanted::Later(reference),
            Wanted::Known(body) => match render::content(&body.value) {
                Ok(text) => Wanted::Known(Rendered {
                    value: Json::String(text),
                    is_secret: body.is_secret,
                }),
                Err(message) => {
                    report.error(resource.position, format!("{}/body", resource.key), message);
                    Wanted::Later(String::new())
                }
            },
        };
        fields.insert("content".to_owned(), content);
    }
    match report.errors.is_empty() {
        true => Ok(fields),
        false => Err(report.errors),
    }
}

/// Fields that are kept sealed.
fn may_hold_secret(collection: Collection, field: &Field) -> bool {
    field.is_secret || (collection == Collection::Configs && field.name == "body")
}

fn from_where(expression: &Expression, rule: String) -> String {
    match expression {
        Expression::Reference(found) => format!("{} {rule}", found.written),
        _ => rule,
    }
}

/// What is done with one resource.
pub fn decide(resource: &Resource, wanted: &BTreeMap<String, Wanted>, current: Option<&Current>) -> Action {
    let Some(current) = current else {
        let changes = wanted.iter().map(|(name, wanted)| change(name, None, wanted));
        return Action::Create {
            changes: changes.collect(),
        };
    };
    let changes: Vec<Change> = wanted
        .iter()
        .filter(|(name, wanted)| differs(resource, name, wanted, current))
        .map(|(name, wanted)| change(name, current.fields.get(name.as_str()), wanted))
        .collect();
    match changes.is_empty() {
        true => Action::Nothing,
        false => Action::Update { changes },
    }
}

fn differs(resource: &Resource, name: &str, wanted: &Wanted, current: &Current) -> bool {
    // The instance that something is in was checked, and cannot differ.
    if name == "instance" && resource.key.parent.is_some() {
        return false;
    }
    match wanted {
        // It may turn out to be the same; then nothing is done.
        Wanted::Later(_) => true,
        Wanted::Known(wanted) => current
            .fields
            .get(name)
            .is_none_or(|there| there.value != wanted.value),
    }
}

fn change(name: &str, from: Option<&Rendered>, to: &Wanted) -> Change {
    let shown = |value: &Rendered| (!value.is_secret).then(|| value.value.clone());
    let (to, note) = match to {
        Wanted::Known(value) if value.is_secret => (None, Some("a secret, not shown".to_owned())),
        Wanted::Known(value) => (Some(value.value.clone()), None),
        Wanted::Later(reference) => (None, Some(format!("known when applied: {reference}"))),
    };
    let hides = note.is_some();
    Change {
        field: name.to_owned(),
        from: from.filter(|_| !hides).and_then(shown),
        to,
        note,
    }
}

/// Fields that a resource keeps for its life.
pub const fn is_fixed(collection: Collection, field: &str) -> bool {
    match collection {
        Collection::Users | Collection::Databases => matches!(field.as_bytes(), b"name" | b"project_id"),
        _ => matches!(field.as_bytes(), b"project_id"),
    }
}

/// Whether a password gets another value.
fn renews(key: &Key, action: &Action) -> bool {
    let makes_value =
        |change: &Change| matches!(change.field.as_str(), "method" | "default_length" | "rotation");
    match action {
        Action::Update { changes } => {
            key.collection == Collection::Passwords && changes.iter().any(makes_value)
        }
        _ => false,
    }
}

/// What is known, but for the values of passwords that get another one.
struct Renewed<'a> {
    facts: &'a dyn Facts,
    passwords: BTreeSet<Key>,
}

impl Facts for Renewed<'_> {
    fn field(&self, target: &Target, path: &[String]) -> Fact {
        match target {
            Target::Resource(key)
                if self.passwords.contains(key) && path.first().is_some_and(|first| first == "value") =>
            {
                Fact::Later
            }
            _ => self.facts.field(target, path),
        }
    }

    fn uri(&self, target: &Target) -> Option<String> {
        self.facts.uri(target)
    }
}

/// The plan, or everything that keeps it from being carried out.
pub fn plan(
    manifest: &Manifest,
    facts: &dyn Facts,
    made: &BTreeMap<Key, Current>,
    destroy: Destroy,
) -> Result<Plan, Refused> {
    let (mut report, mut steps) = (Report::default(), Vec::new());
    let mut renewed = Renewed {
        facts,
        passwords: BTreeSet::new(),
    };
    for resource in &manifest.resources {
        let wanted = match wanted(resource, manifest, &renewed) {
            Ok(wanted) => wanted,
            Err(errors) => {
                report.errors.extend(errors);
                continue;
            }
        };
        let current = made.get(&resource.key);
        if let (Some(pinned), Some(current)) = (resource.uuid, current)
            && pinned != current.id
        {
            let message = format!("it was made with the id {}, which cannot change", current.id);
            report.error(resource.position, format!("{}/uuid", resource.key), message);
        }
        let action = decide(resource, &wanted, current);
        if let Action::Update { changes } = &action {
            for change in changes
                .iter()
                .filter(|change| is_fixed(resource.key.collection, &change.field))
            {
                let what = resource.key.collection.what();
                let message = format!(
                    "the {} of a {what} cannot change; declare another one",
                    change.field
                );
                let at = resource
                    .fields
                    .get(&change.field)
                    .map_or(resource.position, |field| field.position);
                report.error(at, format!("{}/{}", resource.key, change.field), message);
            }
        }
        if renews(&resource.key, &action) {
            renewed.passwords.insert(resource.key.clone());
        }
        let key = resource.key.clone();
        steps.push(Step { key, action });
    }
    report.finish()?;
    let left: BTreeMap<&Key, &Current> = made
        .iter()
        .filter(|(key, _)| manifest.resource(key).is_none())
        .collect();
    steps.extend(removals(&left, destroy));
    Ok(Plan { steps })
}

/// What goes, in the opposite order: databases before their owners, instances last.
pub fn removals(left: &BTreeMap<&Key, &Current>, destroy: Destroy) -> Vec<Step> {
    let rank = |collection: Collection| match collection {
        Collection::Configs => 0,
        Collection::Databases => 1,
        Collection::Users => 2,
        Collection::Instances => 3,
        Collection::Passwords => 4,
        Collection::Variables => 5,
    };
    let mut order: Vec<(&Key, &Current)> = left.iter().map(|(key, current)| (*key, *current)).collect();
    order.sort_by_key(|(key, _)| (rank(key.collection), *key));
    let mut retained: Vec<(&Key, &Current)> = Vec::new();
    let mut steps = Vec::new();
    for (key, current) in order {
        let owns = |other: &&(&Key, &Current)| {
            let owner = other.1.fields.get("owner").and_then(|owner| owner.value.as_str());
            owner.is_some_and(|owner| owner == current.id.to_string())
        };
        let is_within = |other: &&(&Key, &Current)| {
            key.collection == Collection::Instances
                && other.0.parent == Some(Parent::Declared(key.name.clone()))
        };
        let why = if let Some(why) = &current.is_protected {
            Some(why.clone())
        } else if key.collection.holds_data() && destroy == Destroy::Refuse {
            Some("it holds data: it is deleted with allow_destroy only".to_owned())
        } else {
            let kept = retained.iter().find(|other| owns(other) || is_within(other));
            kept.map(|other| format!("{} stays", other.0))
        };
        let action = match why {
            Some(why) => {
                retained.push((key, current));
                Action::Retain { why }
            }
            None => Action::Delete,
        };
        let key = key.clone();
        steps.push(Step { key, action });
    }
    steps
}
