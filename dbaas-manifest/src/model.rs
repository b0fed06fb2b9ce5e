//! [`Manifest`]: a document in which everything was found to be right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use uuid::Uuid;

use crate::collection::{Collection, Key};
use crate::document::Node;
use crate::error::{Finding, Position};
use crate::expression::{Expression, Target};

/// A manifest that can be planned and applied.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The name of the element.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its version.
    pub version: semver::Version,
    /// Its id, if the manifest pins one.
    pub uuid: Option<Uuid>,
    /// What it needs of other elements: their names.
    pub requirements: BTreeMap<String, Requirement>,
    /// What it uses of other elements, by the name that it gives it.
    pub imports: BTreeMap<String, Import>,
    /// What other elements may use, by name.
    pub exports: BTreeMap<String, Key>,
    /// In an order in which each comes after what it refers to.
    pub resources: Vec<Resource>,
    /// Collections that were left out, since this control plane does not know them, and what refers to them.
    pub skipped: Vec<Finding>,
    /// What is worth a warning.
    pub warnings: Vec<Finding>,
    /// The document, as it was read.
    pub document: Node,
}

/// Bounds of another element's version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirement {
    /// As written: `from_version: 1.2.0`.
    pub bounds: Vec<(Bound, semver::Version)>,
}

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// At least.
    AtLeast,
    /// More than.
    Above,
    /// At most.
    AtMost,
    /// Less than.
    Below,
    /// Just this one.
    Exactly,
}

impl Bound {
    /// As a sign.
    pub const fn sign(self) -> &'static str {
        match self {
            Bound::AtLeast => ">=",
            Bound::Above => ">",
            Bound::AtMost => "<=",
            Bound::Below => "<",
            Bound::Exactly => "==",
        }
    }

    /// Whether a version is within it.
    pub fn holds(self, version: &semver::Version, bound: &semver::Version) -> bool {
        // Build metadata does not count.
        let order = version.cmp_precedence(bound);
        match self {
            Bound::AtLeast => order.is_ge(),
            Bound::Above => order.is_gt(),
            Bound::AtMost => order.is_le(),
            Bound::Below => order.is_lt(),
            Bound::Exactly => order.is_eq(),
        }
    }
}

/// What of another element is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The other element.
    pub element: String,
    /// Its link, as written.
    pub link: String,
    /// What that is.
    pub target: Imported,
}

/// What an import leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// A version of the catalogue, by its symbolic name.
    Version(String),
    /// A variable of the platform.
    Variable(String),
    /// A resource of another element.
    Resource {
        /// What it is.
        collection: Collection,
        /// Its id.
        id: Uuid,
    },
}

/// A resource that a manifest declares.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Which one.
    pub key: Key,
    /// Where it stands.
    pub position: Position,
    /// Its id, if the manifest pins one.
    pub uuid: Option<Uuid>,
    /// What the manifest says about it.
    pub fields: BTreeMap<String, FieldValue>,
}

/// A field and where it stands.
#[derive(Debug, Clone)]
pub struct FieldValue {
    /// Where.
    pub position: Position,
    /// What it says.
    pub expression: Expression,
}

impl Resource {
    /// The other resources of the manifest that this one refers to, its instance among them.
    pub fn dependencies(&self) -> BTreeSet<Key> {
        let mut found: BTreeSet<Key> = self
            .fields
            .values()
            .flat_map(|field| field.expression.references())
            .filter_map(|reference| match &reference.target {
                Target::Resource(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        found.extend(self.parent());
        found
    }

    /// The instance that it is in, if the manifest declares it.
    pub fn parent(&self) -> Option<Key> {
        match &self.key.parent {
            Some(crate::collection::Parent::Declared(name)) => Some(Key {
                collection: Collection::Instances,
                parent: None,
                name: name.clone(),
            }),
            _ => None,
        }
    }
}

impl Manifest {
    /// The resource with this key.
    pub fn resource(&self, key: &Key) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.key == *key)
    }
}

/// What exists around a manifest.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Variables of the platform.
    pub variables: BTreeMap<String, Json>,
    /// The catalogue: symbolic names, and the id of the version that each stands for.
    pub versions: BTreeMap<String, Uuid>,
    /// Other elements.
    pub elements: BTreeMap<String, ElementFacts>,
}

/// What of an element others may know.
#[derive(Debug, Clone)]
pub struct ElementFacts {
    /// Its version.
    pub version: semver::Version,
    /// What it exports, by link.
    pub exports: BTreeMap<String, (Collection, Uuid)>,
}
