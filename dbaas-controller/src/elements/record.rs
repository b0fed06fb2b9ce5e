//! Elements, what they made, and what is kept for them: passwords, configs, variables, manifests.

use std::collections::BTreeMap;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::store::Kind;
use dbaas_core::time::Timestamp;
use dbaas_manifest::collection::{Collection, Key};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::repository::{Record, id_from};

/// How a password comes to its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Method {
    /// Random hexadecimal digits.
    AutoHex,
    /// Random letters, digits, `-` and `_`.
    AutoUrlSafe,
    /// It is given.
    Manual,
}

impl Method {
    /// As in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::AutoHex => "AUTO_HEX",
            Method::AutoUrlSafe => "AUTO_URL_SAFE",
            Method::Manual => "MANUAL",
        }
    }
}

/// A password. Its value is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PasswordRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// The project it belongs to.
    pub(crate) project: ProjectId,
    /// For people.
    pub(crate) name: InstanceName,
    /// Free text.
    pub(crate) description: Description,
    /// How it came to its value.
    pub(crate) method: Method,
    /// Characters of a generated value.
    pub(crate) length: u64,
    /// A number that somebody changes to get another value.
    pub(crate) rotation: u64,
    /// The value, sealed.
    pub(crate) sealed: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    pub(crate) updated_at: Timestamp,
}

/// A rendered text. It is sealed, whether it holds a secret or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConfigRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// The project it belongs to.
    pub(crate) project: ProjectId,
    /// For people.
    pub(crate) name: InstanceName,
    /// Free text.
    pub(crate) description: Description,
    /// What else the manifest says: path, mode, owner, group, target, on_change.
    pub(crate) fields: BTreeMap<String, Json>,
    /// Whether the text holds a secret.
    pub(crate) is_secret: bool,
    /// The text, sealed.
    pub(crate) sealed: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    pub(crate) updated_at: Timestamp,
}

/// A value that manifests refer to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VariableRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// The project it belongs to; `None`: the platform's, for all.
    pub(crate) project: Option<ProjectId>,
    /// Its name; those of the platform's are distinct.
    pub(crate) name: InstanceName,
    /// Free text.
    pub(crate) description: Description,
    /// The value.
    pub(crate) value: Json,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    pub(crate) updated_at: Timestamp,
}

/// A manifest that is kept. Its text is sealed: it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// The project it belongs to.
    pub(crate) project: ProjectId,
    /// The element's name, as the text or the request says.
    pub(crate) name: String,
    /// Free text.
    pub(crate) description: String,
    /// Its version.
    pub(crate) version: String,
    /// The text, sealed.
    pub(crate) sealed: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    pub(crate) updated_at: Timestamp,
}

/// How far an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ElementStatus {
    /// Being applied or uninstalled.
    InProgress,
    /// As its manifest says.
    Active,
    /// It was not applied to the end; the reason says why.
    Error,
}

/// What an element exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The link, as in the manifest.
    pub link: String,
    /// What it is.
    pub collection: Collection,
    /// Its id.
    pub id: Uuid,
    /// The instance that it is in.
    pub instance: Option<InstanceId>,
}

/// What an element imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOf {
    /// The other element.
    pub element: String,
    /// Its link.
    pub link: String,
}

/// An element: a manifest that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ElementRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// The project it belongs to.
    pub(crate) project: ProjectId,
    /// Its name; unique within the project.
    pub(crate) name: String,
    /// Free text.
    pub(crate) description: String,
    /// The version of its manifest.
    pub(crate) version: String,
    /// The stored manifest that it comes from.
    pub(crate) manifest: Option<Uuid>,
    /// A hash of the text that was applied.
    pub(crate) fingerprint: String,
    /// How far it is.
    pub(crate) status: ElementStatus,
    /// Why; for people, never empty.
    pub(crate) reason: String,
    /// By name.
    pub(crate) imports: BTreeMap<String, ImportOf>,
    /// By name.
    pub(crate) exports: BTreeMap<String, Export>,
    /// Elements that it requires or imports from, which must stay while it is there.
    pub(crate) needs: Vec<Uuid>,
    /// When it was first applied.
    pub(crate) created_at: Timestamp,
    /// When it was last applied.
    pub(crate) updated_at: Timestamp,
}

/// A resource that an element made, or is about to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    /// Follows from the element and the key.
    pub(crate) id: Uuid,
    /// The element.
    pub(crate) element: Uuid,
    /// Its place in the manifest.
    pub(crate) key: Key,
    /// The resource's id.
    pub(crate) resource: Uuid,
    /// The instance that it is in.
    pub(crate) instance: Option<InstanceId>,
    /// When it was first declared.
    pub(crate) created_at: Timestamp,
}

impl MemberRecord {
    pub(crate) fn id_of(element: Uuid, key: &Key) -> Uuid {
        id_from(&["element_resource", &element.to_string(), &key.to_string()])
    }
}

impl Record for PasswordRecord {
    const KIND: Kind = "password";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }
}

impl Record for ConfigRecord {
    const KIND: Kind = "config";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }
}

impl Record for VariableRecord {
    const KIND: Kind = "variable";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn unique(&self) -> Option<String> {
        self.project.is_none().then(|| self.name.to_string())
    }
}

impl Record for ManifestRecord {
    const KIND: Kind = "manifest";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }
}

impl Record for ElementRecord {
    const KIND: Kind = "element";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn unique(&self) -> Option<String> {
        Some(element_name(self.project, &self.name))
    }

    fn references(&self) -> Vec<Uuid> {
        self.needs.clone()
    }
}

impl Record for MemberRecord {
    const KIND: Kind = "element_resource";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn parent(&self) -> Option<Uuid> {
        Some(self.element)
    }
}

/// The unique name of an element.
pub(crate) fn element_name(project: ProjectId, name: &str) -> String {
    format!("{project}/{name}")
}
