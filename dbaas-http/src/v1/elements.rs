//! Manifests that are kept, elements that were made of them, and what elements have. None of it holds a
//! secret.

use dbaas_controller::elements::ElementPlan;
use dbaas_controller::view;
use dbaas_core::time::Timestamp;
use dbaas_manifest::collection::Collection;
use dbaas_manifest::error::Finding;
use dbaas_manifest::plan::Action;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder};
use uuid::Uuid;

use super::schema;
use super::types::{Id, Time, described};
use crate::openapi::schemas::{array, closed, words};

described! {
    /// How far an element is.
    ElementState: words(["IN_PROGRESS", "ACTIVE", "ERROR"]);
}

/// An element: what was made of a manifest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Element<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Unique within the project.
    name: &'a str,
    /// Free text.
    description: &'a str,
    /// The project it belongs to.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// The version of its manifest.
    version: &'a str,
    /// The manifest that it was made of; null if none is kept.
    #[schema(value_type = Option<Id>, inline)]
    manifest: Option<Uuid>,
    /// How far it is.
    #[schema(value_type = ElementState, inline)]
    status: view::ElementStatus,
    /// Why.
    reason: &'a str,
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

impl<'a> Element<'a> {
    pub(crate) fn of(found: &'a view::Element) -> Self {
        Element {
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

/// A manifest that is kept.
// Its text is answered by a call of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Manifest<'a> {
    /// Its id.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// The element's name.
    name: &'a str,
    /// Free text.
    description: &'a str,
    /// The project it belongs to.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// Its version.
    version: &'a str,
    /// When it was made.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

impl<'a> Manifest<'a> {
    pub(crate) fn of(found: &'a view::StoredManifest) -> Self {
        Manifest {
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

/// A resource that an element made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resource {
    /// Its place in the manifest.
    link: String,
    /// What it is.
    kind: &'static str,
    /// Its name in the manifest.
    name: String,
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Where it is.
    uri: String,
    /// When it was first declared.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
}

impl Resource {
    pub(crate) fn of(found: &view::ElementResource) -> Self {
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
        Resource {
            link: found.key.to_string(),
            kind: collection.what(),
            name: found.key.name.clone(),
            uuid: id,
            uri,
            created_at: found.created_at,
        }
    }
}

/// What an element uses of another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Import<'a> {
    /// What it calls it.
    name: &'a str,
    /// The other element.
    element: &'a str,
    /// The other's link.
    link: &'a str,
}

/// What others may use of an element.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Export<'a> {
    /// What others call it.
    name: &'a str,
    /// Its link.
    link: &'a str,
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
}

pub(crate) fn imports(found: &view::Element) -> Vec<Import<'_>> {
    let import = |(name, import)| {
        let (name, import): (&String, &view::ImportOf) = (name, import);
        Import {
            name,
            element: &import.element,
            link: &import.link,
        }
    };
    found.imports.iter().map(import).collect()
}

pub(crate) fn exports(found: &view::Element) -> Vec<Export<'_>> {
    let export = |(name, export)| {
        let (name, export): (&String, &view::Export) = (name, export);
        Export {
            name,
            link: &export.link,
            uuid: export.id,
        }
    };
    found.exports.iter().map(export).collect()
}

/// A step of a plan.
#[derive(Debug, Serialize)]
struct Step<'a> {
    link: String,
    kind: &'static str,
    #[serde(flatten)]
    action: &'a Action,
}

/// What applying a manifest would do. Its schema is written by hand: an [`Action`] serialises as
/// `dbaas-manifest` says.
#[derive(Debug, Serialize)]
pub(crate) struct Plan<'a> {
    element: &'a str,
    version: &'a str,
    nothing_to_do: bool,
    /// Without the steps in which nothing is done.
    steps: Vec<Step<'a>>,
    unchanged: usize,
    warnings: Vec<Told<'a>>,
    skipped: Vec<Told<'a>>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    line: usize,
    column: usize,
    path: &'a str,
    message: &'a str,
}

fn told(found: &[Finding]) -> Vec<Told<'_>> {
    let one = |found| {
        let found: &Finding = found;
        Told {
            line: found.position.line,
            column: found.position.column,
            path: &found.path,
            message: &found.message,
        }
    };
    found.iter().map(one).collect()
}

impl<'a> Plan<'a> {
    pub(crate) fn of(plan: &'a ElementPlan) -> Self {
        let steps: Vec<Step<'_>> = plan
            .steps
            .iter()
            .filter(|step| step.action != Action::Nothing)
            .map(|step| Step {
                link: step.key.to_string(),
                kind: step.key.collection.what(),
                action: &step.action,
            })
            .collect();
        Plan {
            element: &plan.element,
            version: &plan.version,
            nothing_to_do: plan.is_empty(),
            unchanged: plan.steps.len() - steps.len(),
            steps,
            warnings: told(&plan.warnings),
            skipped: told(&plan.skipped),
        }
    }
}

/// An element under way, and what is done.
#[derive(Debug, Serialize)]
pub(crate) struct Applied<'a> {
    pub(crate) element: Element<'a>,
    pub(crate) plan: Plan<'a>,
}

/// A list that has no pages.
fn whole_list(name: &'static str, about: &str, mut item: Object) -> Object {
    // Other releases may leave out some of it.
    item.required = Vec::new();
    let list: ObjectBuilder = closed()
        .description(Some(about))
        .property(name, array(item))
        .required(name);
    list.build()
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 5] {
    [
        ("Manifest", schema::answer::<Manifest>()),
        ("Element", schema::answer::<Element>()),
        (
            "ElementResources",
            whole_list(
                "resources",
                "What an element made.",
                schema::derived::<Resource>(),
            ),
        ),
        (
            "ElementImports",
            whole_list(
                "imports",
                "What an element uses of others.",
                schema::derived::<Import>(),
            ),
        ),
        (
            "ElementExports",
            whole_list(
                "exports",
                "What others may use of an element.",
                schema::derived::<Export>(),
            ),
        ),
    ]
}
