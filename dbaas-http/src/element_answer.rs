//! The JSON of elements, manifests, plans, passwords, configs, variables and tokens. None of it holds a secret but what is asked for by name.

use std::collections::BTreeMap;

use dbaas_controller::elements::ElementPlan;
use dbaas_controller::view::{
    Element, ElementResource, ElementStatus, StoredConfig, StoredManifest, StoredPassword, Token, Variable,
};
use dbaas_core::time::Timestamp;
use dbaas_manifest::collection::Collection;
use dbaas_manifest::error::Finding;
use dbaas_manifest::plan::Action;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

#[derive(Debug, Serialize)]
pub(crate) struct ElementAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Uuid,
    version: &'a str,
    manifest: Option<Uuid>,
    status: ElementStatus,
    reason: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> ElementAnswer<'a> {
    pub(crate) fn of(found: &'a Element) -> Self {
        ElementAnswer {
            uuid: found.id,
            name: &found.name,
            description: &found.description,
            project_id: found.project.uuid(),
            version: &found.version,
            manifest: found.manifest,
            status: found.status,
            reason: &found.reason,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A resource that an element made.
#[derive(Debug, Serialize)]
pub(crate) struct ResourceAnswer {
    link: String,
    kind: &'static str,
    name: String,
    uuid: Uuid,
    uri: String,
    created_at: Timestamp,
}

impl ResourceAnswer {
    pub(crate) fn of(found: &ElementResource) -> Self {
        let (collection, id) = (found.key.collection, found.resource);
        let instance = found.instance.map(|id| id.to_string()).unwrap_or_default();
        let uri = match collection {
            Collection::Instances => format!("/v1/types/postgres/instances/{id}"),
            Collection::Users => format!("/v1/types/postgres/instances/{instance}/users/{id}"),
            Collection::Databases => format!("/v1/types/postgres/instances/{instance}/databases/{id}"),
            Collection::Passwords => format!("/v1/secret/passwords/{id}"),
            Collection::Configs => format!("/v1/config/configs/{id}"),
            Collection::Variables => format!("/v1/vs/variables/{id}"),
        };
        ResourceAnswer {
            link: found.key.to_string(),
            kind: collection.what(),
            name: found.key.name.clone(),
            uuid: id,
            uri,
            created_at: found.created_at,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ImportAnswer<'a> {
    name: &'a str,
    element: &'a str,
    link: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct ExportAnswer<'a> {
    name: &'a str,
    link: &'a str,
    uuid: Uuid,
}

pub(crate) fn imports(found: &Element) -> Vec<ImportAnswer<'_>> {
    found
        .imports
        .iter()
        .map(|(name, import)| ImportAnswer {
            name,
            element: &import.element,
            link: &import.link,
        })
        .collect()
}

pub(crate) fn exports(found: &Element) -> Vec<ExportAnswer<'_>> {
    found
        .exports
        .iter()
        .map(|(name, export)| ExportAnswer {
            name,
            link: &export.link,
            uuid: export.id,
        })
        .collect()
}

/// A manifest that is kept. Its text is answered by a call of its own.
#[derive(Debug, Serialize)]
pub(crate) struct ManifestAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Uuid,
    version: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> ManifestAnswer<'a> {
    pub(crate) fn of(found: &'a StoredManifest) -> Self {
        ManifestAnswer {
            uuid: found.id,
            name: &found.name,
            description: &found.description,
            project_id: found.project.uuid(),
            version: &found.version,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A step of a plan.
#[derive(Debug, Serialize)]
struct StepAnswer<'a> {
    link: String,
    kind: &'static str,
    #[serde(flatten)]
    action: &'a Action,
}

/// What applying a manifest would do.
#[derive(Debug, Serialize)]
pub(crate) struct PlanAnswer<'a> {
    element: &'a str,
    version: &'a str,
    nothing_to_do: bool,
    /// Without the steps in which nothing is done.
    steps: Vec<StepAnswer<'a>>,
    unchanged: usize,
    warnings: Vec<FindingAnswer<'a>>,
    skipped: Vec<FindingAnswer<'a>>,
}

#[derive(Debug, Serialize)]
struct FindingAnswer<'a> {
    line: usize,
    column: usize,
    path: &'a str,
    message: &'a str,
}

fn findings(found: &[Finding]) -> Vec<FindingAnswer<'_>> {
    found
        .iter()
        .map(|found| FindingAnswer {
            line: found.position.line,
            column: found.position.column,
            path: &found.path,
            message: &found.message,
        })
        .collect()
}

impl<'a> PlanAnswer<'a> {
    pub(crate) fn of(plan: &'a ElementPlan) -> Self {
        let steps: Vec<StepAnswer<'_>> = plan
            .steps
            .iter()
            .filter(|step| step.action != Action::Nothing)
            .map(|step| StepAnswer {
                link: step.key.to_string(),
                kind: step.key.collection.what(),
                action: &step.action,
            })
            .collect();
        PlanAnswer {
            element: &plan.element,
            version: &plan.version,
            nothing_to_do: plan.is_empty(),
            unchanged: plan.steps.len() - steps.len(),
            steps,
            warnings: findings(&plan.warnings),
            skipped: findings(&plan.skipped),
        }
    }
}

/// An element under way, and what is done.
#[derive(Debug, Serialize)]
pub(crate) struct AppliedAnswer<'a> {
    pub(crate) element: ElementAnswer<'a>,
    pub(crate) plan: PlanAnswer<'a>,
}

/// A password, without its value.
#[derive(Debug, Serialize)]
pub(crate) struct PasswordAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Uuid,
    method: &'static str,
    default_length: u64,
    rotation: u64,
    constructor: Constructor,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Constructor {
    kind: &'static str,
}

impl<'a> PasswordAnswer<'a> {
    pub(crate) fn of(found: &'a StoredPassword) -> Self {
        PasswordAnswer {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.uuid(),
            method: found.method.as_str(),
            default_length: found.length,
            rotation: found.rotation,
            constructor: Constructor { kind: "plain" },
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A config; its text only where it is asked for alone.
#[derive(Debug, Serialize)]
pub(crate) struct ConfigAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Uuid,
    is_secret: bool,
    #[serde(flatten)]
    fields: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> ConfigAnswer<'a> {
    /// The same with its text.
    pub(crate) fn with(mut self, content: &'a str) -> Self {
        self.content = Some(content);
        self
    }

    pub(crate) fn of(found: &'a StoredConfig) -> Self {
        ConfigAnswer {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.uuid(),
            is_secret: found.is_secret,
            fields: &found.fields,
            content: None,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A variable.
#[derive(Debug, Serialize)]
pub(crate) struct VariableAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Option<Uuid>,
    value: &'a Value,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> VariableAnswer<'a> {
    pub(crate) fn of(found: &'a Variable) -> Self {
        VariableAnswer {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.map(|project| project.uuid()),
            value: &found.value,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A token, without its text.
#[derive(Debug, Serialize)]
pub(crate) struct TokenAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    description: &'a str,
    project_id: Option<Uuid>,
    scopes: &'a [String],
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> TokenAnswer<'a> {
    pub(crate) fn of(found: &'a Token) -> Self {
        TokenAnswer {
            uuid: found.id,
            name: found.name.as_str(),
            description: found.description.as_str(),
            project_id: found.project.map(|project| project.uuid()),
            scopes: &found.scopes,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A token that was just made. Has no `Debug`: its text is a secret.
#[derive(Serialize)]
pub(crate) struct NewTokenAnswer<'a> {
    #[serde(flatten)]
    pub(crate) record: TokenAnswer<'a>,
    /// Nothing when the call was repeated.
    pub(crate) token: Option<&'a str>,
}
