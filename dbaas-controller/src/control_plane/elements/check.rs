//! What a manifest alone does not tell to be wrong with it.

use dbaas_core::id::ProjectId;
use dbaas_core::parameters::Parameters;
use dbaas_manifest::collection::{Collection, Key};
use dbaas_manifest::error::{Finding, Refused};
use dbaas_manifest::model::Manifest;
use dbaas_manifest::plan::{self, Wanted};

use crate::elements::facts::World;
use crate::elements::{ManifestRequest, Reach};
use crate::error::ControlError;

pub(super) fn refused(refused: Refused) -> ControlError {
    ControlError::Manifest { refused }
}

pub(super) fn refuse_all(errors: Vec<Finding>) -> Result<(), ControlError> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(refused(Refused {
            errors,
            warnings: Vec::new(),
        })),
    }
}

/// Parameters that the version of their instance does not take. Where the version is not known yet, applying
/// tells.
pub(super) fn wrong_parameters(manifest: &Manifest, world: &World) -> Vec<Finding> {
    let instances = manifest
        .resources
        .iter()
        .filter(|resource| resource.key.collection == Collection::Instances);
    let mut errors = Vec::new();
    for resource in instances {
        let Some(said) = resource.fields.get("parameters") else {
            continue;
        };
        let Ok(wanted) = plan::wanted(resource, manifest, world) else {
            continue;
        };
        let known = |name: &str| match wanted.get(name) {
            Some(Wanted::Known(value)) => Some(&value.value),
            _ => None,
        };
        let (Some(parameters), Some(major)) = (
            known("parameters"),
            known("version").and_then(|id| world.major(id)),
        ) else {
            continue;
        };
        let parameters: Result<Parameters, _> = serde_json::from_value(parameters.clone());
        let wrong = parameters.map_or(Ok(()), |parameters| parameters.check(major));
        for wrong in wrong.err().unwrap_or_default() {
            errors.push(Finding {
                position: said.position,
                path: format!("{}/parameters/{}", resource.key, wrong.name),
                message: wrong.rule,
            });
        }
    }
    errors
}

/// `core` and `dbaas` are always there, and are nobody's.
pub(super) fn refuse_built_in(manifest: &Manifest) -> Result<(), ControlError> {
    match manifest.name.as_str() {
        "core" | "dbaas" => refuse_all(vec![Finding {
            position: manifest.document.position,
            path: "name".to_owned(),
            message: format!(
                "\"{}\" is an element of the platform; choose another name",
                manifest.name
            ),
        }]),
        _ => Ok(()),
    }
}

/// What is in an instance has its project; and a project's token reaches no other.
pub(super) fn check_projects(manifest: &Manifest, request: &ManifestRequest) -> Result<(), ControlError> {
    let said = |key: &Key| {
        let field = manifest.resource(key)?.fields.get("project_id")?;
        let id: ProjectId = field
            .expression
            .constant()?
            .as_str()?
            .to_ascii_lowercase()
            .parse()
            .ok()?;
        Some((id, field.position))
    };
    let mut errors = Vec::new();
    for resource in &manifest.resources {
        let project = said(&resource.key);
        let mut error = |position, message: String| {
            let path = format!("{}/project_id", resource.key);
            errors.push(Finding {
                position,
                path,
                message,
            });
        };
        if let Some((_, position)) = project.filter(|(id, _)| *id != request.project)
            && request.reach == Reach::OwnProject
        {
            error(position, "is another project than that of the token".to_owned());
        }
        if let (Some(parent), Some((id, position))) = (resource.parent(), project) {
            let of_parent = said(&parent).map_or(request.project, |(id, _)| id);
            if id != of_parent {
                error(position, format!("is another project than that of {parent}"));
            }
        }
    }
    refuse_all(errors)
}
