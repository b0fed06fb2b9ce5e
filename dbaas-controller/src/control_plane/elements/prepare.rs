//! From a text to a plan: everything that is wrong with a manifest is found here, and nothing is written.

use std::collections::BTreeMap;

use dbaas_core::id::ProjectId;
use dbaas_manifest::check;
use dbaas_manifest::collection::{Collection, Key};
use dbaas_manifest::error::Finding;
use dbaas_manifest::model::{Imported, Manifest};
use dbaas_manifest::plan::{self, Action, Current, Destroy, Plan, Wanted};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::check::{check_projects, refuse_all, refuse_built_in, refused, wrong_parameters};
use super::settle::settle;
use crate::control_plane::ControlPlane;
use crate::elements::facts::{World, look};
use crate::elements::record::{ElementRecord, Export, MemberRecord, element_name};
use crate::elements::{ElementPlan, ManifestRequest};
use crate::error::ControlError;
use crate::repository::{Versioned, instance_name};

/// A manifest that was read and planned.
pub(super) struct Prepared {
    pub(super) request: ManifestRequest,
    pub(super) manifest: Manifest,
    pub(super) world: World,
    pub(super) element: Option<Versioned<ElementRecord>>,
    pub(super) members: BTreeMap<Key, MemberRecord>,
    pub(super) plan: Plan,
}

impl ControlPlane {
    pub(super) async fn prepare(
        &self,
        request: ManifestRequest,
        destroy: Destroy,
    ) -> Result<Prepared, ControlError> {
        let ports = self.ports();
        // The name is in the text, and what an element of that name exports is not around it: so the text is
        // read twice.
        let options = check::Options {
            name: request.name.clone(),
            variables: request.variables.clone(),
            skip_unknown: request.skip_unknown,
        };
        let mut world = World::gather(ports, request.project, None).await?;
        let mut manifest = check::read(&request.text, &options, &world.around).map_err(refused)?;
        refuse_built_in(&manifest)?;
        let element = ports
            .repository
            .find(&element_name(request.project, &manifest.name))
            .await;
        let element: Option<Versioned<ElementRecord>> = element.map_err(|error| ports.store_error(error))?;
        if let Some(element) = &element {
            world = World::gather(ports, request.project, Some(element.record.id)).await?;
            manifest = check::read(&request.text, &options, &world.around).map_err(refused)?;
        }
        check_projects(&manifest, &request)?;
        let members = match &element {
            None => BTreeMap::new(),
            Some(element) => self.members(element.record.id).await?,
        };
        self.look_at_all(&manifest, &members, &world).await?;
        let mut currents = world.currents(&members);
        self.settle_all(&manifest, &world, &mut currents).await?;
        let mut plan = plan::plan(&manifest, &world, &currents, destroy).map_err(refused)?;
        let mut errors = self
            .taken_names(&manifest, &world, &plan, request.project)
            .await?;
        errors.extend(wrong_parameters(&manifest, &world));
        errors.sort_by_key(|finding| finding.position);
        refuse_all(errors)?;
        // What is gone already is forgotten without a word.
        let gone = members
            .keys()
            .filter(|key| manifest.resource(key).is_none() && !currents.contains_key(key));
        plan.steps.extend(gone.map(|key| plan::Step {
            key: key.clone(),
            action: Action::Delete,
        }));
        Ok(Prepared {
            request,
            manifest,
            world,
            element,
            members,
            plan,
        })
    }

    /// Reads what there is of the element's resources, and of those that it imports.
    async fn look_at_all(
        &self,
        manifest: &Manifest,
        members: &BTreeMap<Key, MemberRecord>,
        world: &World,
    ) -> Result<(), ControlError> {
        let ports = self.ports();
        for (key, member) in members {
            if let Some(actual) = look(ports, key.collection, member.resource).await? {
                world.actual.write().insert(key.clone(), actual);
            }
        }
        for (name, import) in &manifest.imports {
            if let Imported::Resource { collection, id } = import.target
                && let Some(actual) = look(ports, collection, id).await?
            {
                world.imports.write().insert(name.clone(), actual);
            }
        }
        Ok(())
    }

    /// Fills in what cannot be read from the records, see [`settle`].
    async fn settle_all(
        &self,
        manifest: &Manifest,
        world: &World,
        currents: &mut BTreeMap<Key, Current>,
    ) -> Result<(), ControlError> {
        for resource in &manifest.resources {
            let Some(current) = currents.get_mut(&resource.key) else {
                continue;
            };
            let needs_it = matches!(resource.key.collection, Collection::Users | Collection::Instances);
            // What is wrong is told by the plan.
            let Some(Ok(wanted)) = needs_it.then(|| plan::wanted(resource, manifest, world)) else {
                continue;
            };
            let values = wanted.into_iter().filter_map(|(name, wanted)| match wanted {
                Wanted::Known(value) => Some((name, value)),
                Wanted::Later(_) => None,
            });
            let Some(mut actual) = world.actual.read().get(&resource.key).cloned() else {
                continue;
            };
            settle(self, world, &resource.key, &values.collect(), &mut actual).await?;
            current.fields = actual.fields;
        }
        Ok(())
    }

    /// Instances that are to be made, and whose names somebody else has.
    async fn taken_names(
        &self,
        manifest: &Manifest,
        world: &World,
        plan: &Plan,
        project: ProjectId,
    ) -> Result<Vec<Finding>, ControlError> {
        let ports = self.ports();
        let mut errors = Vec::new();
        for step in &plan.steps {
            let is_new =
                step.key.collection == Collection::Instances && matches!(step.action, Action::Create { .. });
            let Some(resource) = manifest.resource(&step.key).filter(|_| is_new) else {
                continue;
            };
            let Ok(wanted) = plan::wanted(resource, manifest, world) else {
                continue;
            };
            let text = |name: &str| match wanted.get(name) {
                Some(Wanted::Known(value)) => value.value.as_str().map(str::to_owned),
                _ => None,
            };
            let project = text("project_id")
                .and_then(|id| id.parse().ok())
                .unwrap_or(project);
            let Some(name) = text("name") else { continue };
            let holder = ports
                .repository
                .find::<dbaas_core::instance::InstanceRecord>(&instance_name(project, &name))
                .await;
            if holder.map_err(|error| ports.store_error(error))?.is_some() {
                errors.push(Finding {
                    position: resource.position,
                    path: format!("{}/name", step.key),
                    message: format!("the name \"{name}\" is taken by another instance of the project"),
                });
            }
        }
        Ok(errors)
    }
}

impl Prepared {
    pub(super) fn shown(&self) -> ElementPlan {
        ElementPlan {
            element: self.manifest.name.clone(),
            version: self.manifest.version.to_string(),
            steps: self.plan.steps.clone(),
            skipped: self.manifest.skipped.clone(),
            warnings: self.manifest.warnings.clone(),
        }
    }

    /// The elements that have to stay while this one is there.
    pub(super) fn needs(&self) -> Vec<Uuid> {
        let imported = self.manifest.imports.values().map(|import| &import.element);
        let mut needs: Vec<Uuid> = self
            .manifest
            .requirements
            .keys()
            .chain(imported)
            .filter_map(|name| self.world.elements.get(name).map(|element| element.id))
            .collect();
        needs.sort();
        needs.dedup();
        needs
    }

    pub(super) fn exports(&self) -> BTreeMap<String, Export> {
        let actual = self.world.actual.read();
        let export = |(name, key): (&String, &Key)| {
            let found = actual.get(key)?;
            let export = Export {
                link: key.to_string(),
                collection: key.collection,
                id: found.id,
                instance: found.instance,
            };
            Some((name.clone(), export))
        };
        self.manifest.exports.iter().filter_map(export).collect()
    }
}

pub(super) fn fingerprint(request: &ManifestRequest) -> String {
    let mut hash = Sha256::new();
    hash.update(&request.text);
    for (name, value) in &request.variables {
        hash.update(name);
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
