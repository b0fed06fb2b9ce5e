//! Passwords, configs, variables and tokens: what callers ask for.

use std::collections::BTreeMap;

use dbaas_core::id::ProjectId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::secret::Secret;
use dbaas_core::store::DocumentVersion;
use dbaas_manifest::limits::PASSWORD_LENGTH_DEFAULT;
use serde_json::Value as Json;
use uuid::Uuid;

use super::IdempotencyKey;
use crate::elements::record::Method;

/// A new password.
#[derive(Debug, Clone)]
pub struct CreatePassword {
    /// Its id, chosen by the caller.
    pub id: Option<Uuid>,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project it belongs to.
    pub project: ProjectId,
    /// How it comes to its value.
    pub method: Method,
    /// Characters of a generated value.
    pub length: u64,
    /// A number that somebody changes to get another value.
    pub rotation: u64,
    /// The value, for [`Method::Manual`] only.
    pub value: Option<Secret>,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreatePassword {
    /// A generated one, in the default project.
    pub fn new(name: InstanceName) -> Self {
        CreatePassword {
            id: None,
            name,
            description: Description::default(),
            project: ProjectId::DEFAULT,
            method: Method::AutoUrlSafe,
            length: PASSWORD_LENGTH_DEFAULT,
            rotation: 0,
            value: None,
            idempotency_key: None,
        }
    }
}

/// Changes of a password; `None` leaves a field as it is. Another method, length or rotation makes another
/// value.
#[derive(Debug, Clone, Default)]
pub struct UpdatePassword {
    /// For people.
    pub name: Option<InstanceName>,
    /// Free text.
    pub description: Option<Description>,
    /// How it comes to its value.
    pub method: Option<Method>,
    /// Characters of a generated value.
    pub length: Option<u64>,
    /// A number that somebody changes to get another value.
    pub rotation: Option<u64>,
    /// The value, for [`Method::Manual`] only.
    pub value: Option<Secret>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
}

/// A new config.
#[derive(Debug, Clone)]
pub struct CreateConfig {
    /// Its id, chosen by the caller.
    pub id: Option<Uuid>,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Path, mode, owner, group, target, on_change: kept as given.
    pub fields: BTreeMap<String, Json>,
    /// The text.
    pub content: Secret,
    /// Whether the text holds a secret.
    pub is_secret: bool,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreateConfig {
    /// A text without secrets, in the default project.
    pub fn new(name: InstanceName, content: Secret) -> Self {
        CreateConfig {
            id: None,
            name,
            description: Description::default(),
            project: ProjectId::DEFAULT,
            fields: BTreeMap::new(),
            content,
            is_secret: false,
            idempotency_key: None,
        }
    }
}

/// Changes of a config; `None`, and fields that are not in the map, stay.
#[derive(Debug, Clone, Default)]
pub struct UpdateConfig {
    /// For people.
    pub name: Option<InstanceName>,
    /// Free text.
    pub description: Option<Description>,
    /// Those that change.
    pub fields: BTreeMap<String, Json>,
    /// The text, and whether it holds a secret.
    pub content: Option<(Secret, bool)>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
}

/// A new variable.
#[derive(Debug, Clone)]
pub struct CreateVariable {
    /// Its id, chosen by the caller.
    pub id: Option<Uuid>,
    /// Its name; of the platform's, no two have the same.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project it belongs to; `None`: the platform's, for all.
    pub project: Option<ProjectId>,
    /// The value.
    pub value: Json,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreateVariable {
    /// One of the platform's.
    pub fn new(name: InstanceName, value: Json) -> Self {
        CreateVariable {
            id: None,
            name,
            description: Description::default(),
            project: None,
            value,
            idempotency_key: None,
        }
    }
}

/// Changes of a variable; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateVariable {
    /// Free text.
    pub description: Option<Description>,
    /// The value.
    pub value: Option<Json>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct CreateToken {
    /// Its id, chosen by the caller.
    pub id: Option<Uuid>,
    /// For people.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project that it is for; `None`: all of them.
    pub project: Option<ProjectId>,
    /// What it allows, in words.
    pub scopes: Vec<String>,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreateToken {
    /// One of all projects, that allows nothing yet.
    pub fn new(name: InstanceName) -> Self {
        CreateToken {
            id: None,
            name,
            description: Description::default(),
            project: None,
            scopes: Vec::new(),
            idempotency_key: None,
        }
    }
}

/// Changes of a token; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateToken {
    /// For people.
    pub name: Option<InstanceName>,
    /// Free text.
    pub description: Option<Description>,
    /// What it allows, in words: all of them.
    pub scopes: Option<Vec<String>>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
}
