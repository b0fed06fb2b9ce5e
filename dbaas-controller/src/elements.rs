//! Elements: what manifests declare, and what was made of it.
//!
//! An element is applied through the same calls as everybody uses. What it made is written down *before* it
//! is made, with the id that it will have, and so is what is being applied: after a crash in between the
//! control plane that acts goes on by itself.

pub(crate) mod facts;
pub(crate) mod locks;
pub(crate) mod record;
pub(crate) mod secret;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use dbaas_core::id::ProjectId;
use dbaas_core::limits;
use dbaas_manifest::error::Finding;
use dbaas_manifest::plan::{Destroy, Step};
use uuid::Uuid;

use crate::request::IdempotencyKey;

/// A manifest as a caller gives it.
#[derive(Clone)]
pub struct ManifestRequest {
    /// YAML or JSON. May hold secrets.
    pub text: String,
    /// The element's name, if the text has none.
    pub name: Option<String>,
    /// Values of `{{ … }}`.
    pub variables: BTreeMap<String, String>,
    /// Leave out kinds that are not known, and what refers to them.
    pub skip_unknown: bool,
    /// The project that the element belongs to.
    pub project: ProjectId,
    /// Whether its resources may be in other projects, too.
    pub reach: Reach,
    /// The stored manifest that the text comes from.
    pub manifest: Option<Uuid>,
    /// Makes keeping the text safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Where an element's resources may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the element's project only.
    OwnProject,
    /// Anywhere: for the administrator.
    AnyProject,
}

impl ManifestRequest {
    /// A text, in the default project, for the administrator.
    pub fn new(text: impl Into<String>) -> Self {
        ManifestRequest {
            text: text.into(),
            name: None,
            variables: BTreeMap::new(),
            skip_unknown: false,
            project: ProjectId::DEFAULT,
            reach: Reach::AnyProject,
            manifest: None,
            idempotency_key: None,
        }
    }
}

impl std::fmt::Debug for ManifestRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestRequest")
            .field("name", &self.name)
            .field("project", &self.project)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// How a manifest is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Whether instances and databases that left the manifest are deleted.
    pub destroy: Destroy,
    /// How long everything may take.
    pub timeout: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        ApplyOptions {
            destroy: Destroy::Refuse,
            timeout: Duration::from_millis(limits::WAIT_MS_MAX),
        }
    }
}

/// What applying a manifest would do, or did.
#[derive(Debug, Clone)]
pub struct ElementPlan {
    /// The element.
    pub element: String,
    /// The manifest's version.
    pub version: String,
    /// In order.
    pub steps: Vec<Step>,
    /// What was left out.
    pub skipped: Vec<Finding>,
    /// What is worth a warning.
    pub warnings: Vec<Finding>,
}

impl ElementPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        dbaas_manifest::plan::Plan {
            steps: self.steps.clone(),
        }
        .is_empty()
    }
}
