//! What is kept for manifests and people: [`StoredPassword`], [`StoredConfig`], [`Variable`], [`Token`]. None
//! of them shows a secret.

use std::collections::BTreeMap;

use dbaas_core::id::ProjectId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::secret::Secret;
use dbaas_core::time::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Method, Revision};
use crate::elements::record::{ConfigRecord, PasswordRecord, VariableRecord};
use crate::repository::Versioned;
use crate::tokens::TokenRecord;

/// A password, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredPassword {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: ProjectId,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// How it came to its value.
    pub method: Method,
    /// Characters of a generated value.
    pub length: u64,
    /// A number that somebody changes to get another value.
    pub rotation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl StoredPassword {
    pub(crate) fn of(found: Versioned<PasswordRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        StoredPassword {
            id: record.id,
            project: record.project,
            name: record.name,
            description: record.description,
            method: record.method,
            length: record.length,
            rotation: record.rotation,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// A rendered text, without it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredConfig {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: ProjectId,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// What else the manifest says: path, mode, owner, group, target, on_change.
    pub fields: BTreeMap<String, Json>,
    /// Whether the text holds a secret.
    pub is_secret: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl StoredConfig {
    pub(crate) fn of(found: Versioned<ConfigRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        StoredConfig {
            id: record.id,
            project: record.project,
            name: record.name,
            description: record.description,
            fields: record.fields,
            is_secret: record.is_secret,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// A value that manifests refer to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Variable {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to; `None`: the platform's, for all.
    pub project: Option<ProjectId>,
    /// Its name; those of the platform's are distinct.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The value.
    pub value: Json,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Variable {
    pub(crate) fn of(found: Versioned<VariableRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        Variable {
            id: record.id,
            project: record.project,
            name: record.name,
            description: record.description,
            value: record.value,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// A token, without its text, which nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project that it is for; `None`: all of them.
    pub project: Option<ProjectId>,
    /// What it allows, in words.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Which state this is.
    pub revision: Revision,
}

impl Token {
    pub(crate) fn of(found: Versioned<TokenRecord>) -> Self {
        let revision = Revision::of(&found);
        let record = found.record;
        Token {
            id: record.id,
            name: record.name,
            description: record.description,
            project: record.project,
            scopes: record.scopes,
            created_at: record.created_at,
            updated_at: record.updated_at,
            revision,
        }
    }
}

/// A token that was just made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewToken {
    /// The token.
    pub token: Token,
    /// Its text, this once; `None` if the same call made it before.
    pub text: Option<Secret>,
}
