//! Calls about elements: plan and apply a manifest, uninstall what it made.

mod resume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::parameters::Parameters;
use dbaas_core::store::{StoreErrorKind, StoredEvent};
use dbaas_manifest::check;
use dbaas_manifest::collection::{Collection, Key};
use dbaas_manifest::error::{Finding, Refused};
use dbaas_manifest::model::{Imported, Manifest};
use dbaas_manifest::plan::{self, Action, Current, Destroy, Plan, Wanted};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use resume::keep_resuming;

use super::{ControlPlane, Ports};
use crate::elements::apply::{Apply, settle};
use crate::elements::facts::{World, look};
use crate::elements::locks::ElementLock;
use crate::elements::record::{ElementRecord, ElementStatus, Export, ImportOf, MemberRecord, element_name};
use crate::elements::removal::remove;
use crate::elements::work::{TRIES, WorkRecord};
use crate::elements::{ApplyOptions, ElementPlan, ManifestRequest, Reach};
use crate::error::ControlError;
use crate::repository::{Change, instance_name};
use crate::request::{Listed, Page, Versioned};

/// A manifest that was read and planned.
struct Prepared {
    request: ManifestRequest,
    manifest: Manifest,
    world: World,
    element: Option<Versioned<ElementRecord>>,
    members: BTreeMap<Key, MemberRecord>,
    plan: Plan,
}

/// An element that is about to be changed: written down, and nobody else changes it.
struct Begun {
    prepared: Prepared,
    element: Uuid,
    until: Instant,
    /// How often it was gone on with by itself; 0: somebody asked for it.
    tries: u32,
    lock: ElementLock,
}

/// What becomes of the note of what an element is being changed to.
#[derive(Clone)]
enum Work {
    /// The change has begun.
    Begun(Option<WorkRecord>),
    /// It goes on later.
    Stays,
    /// It is over.
    Over,
}

impl ControlPlane {
    /// What applying the manifest would do. Everything that is wrong with it is told at once, and nothing is written.
    pub async fn plan_manifest(
        &self,
        request: ManifestRequest,
        destroy: Destroy,
    ) -> Result<ElementPlan, ControlError> {
        let prepared = self.prepare(request, destroy).await?;
        Ok(prepared.shown())
    }

    /// Applies a manifest, and returns when everything that it declares is there. Applied again it changes nothing.
    ///
    /// When it fails half-way, what was made stays and is the element's; applying it again goes on. When it is cut short, because this
    /// process ends or the caller goes away, the control plane that acts goes on by itself.
    pub async fn apply_manifest(
        &self,
        request: ManifestRequest,
        options: ApplyOptions,
    ) -> Result<(Versioned<ElementRecord>, ElementPlan), ControlError> {
        let begun = self.begin(request, options).await?;
        let (id, shown) = (begun.element, begun.prepared.shown());
        self.finish(begun).await?;
        Ok((self.element(id).await?, shown))
    }

    /// Begins to apply a manifest, and returns as soon as that is written down. How far it is, the element's status says and,
    /// step by step, its events.
    pub async fn begin_apply(
        &self,
        request: ManifestRequest,
        options: ApplyOptions,
    ) -> Result<(Versioned<ElementRecord>, ElementPlan), ControlError> {
        let begun = self.begin(request, options).await?;
        let (id, shown) = (begun.element, begun.prepared.shown());
        let plane = self.clone();
        let mut stopping = self.inner.engine.stopping();
        tokio::spawn(async move {
            tokio::select! {
                result = plane.finish(begun) => if let Err(error) = result {
                    tracing::info!(element = %id, %error, "a manifest was not applied to the end");
                },
                // The control plane that acts next goes on.
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        Ok((self.element(id).await?, shown))
    }

    /// Deletes everything that an element made, and the element. Refused while another element needs it, and, unless that is
    /// allowed, while it has instances or databases. Returns when everything is gone.
    pub async fn uninstall_element(&self, id: Uuid, options: ApplyOptions) -> Result<(), ControlError> {
        let begun = self.begin_removal(id, options).await?;
        self.finish_removal(begun).await
    }

    /// [`ControlPlane::uninstall_element`], which returns as soon as that is written down.
    pub async fn begin_uninstall(&self, id: Uuid, options: ApplyOptions) -> Result<(), ControlError> {
        let begun = self.begin_removal(id, options).await?;
        let plane = self.clone();
        let mut stopping = self.inner.engine.stopping();
        tokio::spawn(async move {
            tokio::select! {
                result = plane.finish_removal(begun) => if let Err(error) = result {
                    tracing::info!(element = %id, %error, "an element was not uninstalled to the end");
                },
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        Ok(())
    }

    /// One element.
    pub async fn element(&self, id: Uuid) -> Result<Versioned<ElementRecord>, ControlError> {
        let mut found = self.inner.load_kept::<ElementRecord>(id).await?;
        self.tell_if_interrupted(&mut found.record).await?;
        Ok(found)
    }

    /// The element of a project with this name.
    pub async fn element_named(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<Option<Versioned<ElementRecord>>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.find(&element_name(project, name)).await;
        let mut found: Option<Versioned<ElementRecord>> = found.map_err(|error| ports.store_error(error))?;
        if let Some(found) = &mut found {
            self.tell_if_interrupted(&mut found.record).await?;
        }
        Ok(found)
    }

    /// The elements of a project, or of all.
    pub async fn elements(
        &self,
        project: Option<ProjectId>,
        page: Page<Uuid>,
    ) -> Result<Listed<ElementRecord, Uuid>, ControlError> {
        let mut listed = self
            .inner
            .list_kept::<ElementRecord>(project.map(ProjectId::uuid), page)
            .await?;
        for item in &mut listed.items {
            self.tell_if_interrupted(&mut item.record).await?;
        }
        Ok(listed)
    }

    /// What an element made.
    pub async fn element_resources(&self, id: Uuid) -> Result<Vec<MemberRecord>, ControlError> {
        self.element(id).await?;
        let mut members: Vec<MemberRecord> = self.members(id).await?.into_values().collect();
        members.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        Ok(members)
    }

    /// What happened to an element, or to a password, after a position of the log, oldest first. The log outlives them.
    pub async fn events_about(
        &self,
        subject: Uuid,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.events_about(subject, after, limit).await;
        found.map_err(|error| ports.store_error(error))
    }

    /// Appends to an element's log. That the log cannot be written now keeps nothing from being done.
    pub(crate) async fn note_element(&self, element: Uuid, kind: &str, message: String) {
        let ports = self.ports();
        let change = Change::new().note(element, ports.now(), kind, message);
        if let Err(error) = ports.repository.commit(change).await {
            tracing::warn!(%element, %error, "an event was lost");
        }
        self.hint_element(element);
    }

    /// Tells those who follow an element's log.
    pub(crate) fn hint_element(&self, element: Uuid) {
        self.ports().hint(InstanceId::from_uuid(element));
    }

    /// What this control plane does not do itself is done by another one, or was cut short.
    async fn tell_if_interrupted(&self, record: &mut ElementRecord) -> Result<(), ControlError> {
        if record.status != ElementStatus::InProgress
            || self.inner.elements.is_taken(record.project, &record.name)
        {
            return Ok(());
        }
        let ports = self.ports();
        let work = ports.repository.load::<WorkRecord>(record.id).await;
        if work.map_err(|error| ports.store_error(error))?.is_some() {
            record.reason += "; if that was cut short, it goes on by itself";
        } else {
            record.status = ElementStatus::Error;
            record.reason = "it was cut short; apply it again".to_owned();
        }
        Ok(())
    }

    async fn members(&self, element: Uuid) -> Result<BTreeMap<Key, MemberRecord>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.all::<MemberRecord>(Some(element)).await;
        let found = found.map_err(|error| ports.store_error(error))?;
        Ok(found
            .into_iter()
            .map(|found| (found.record.key.clone(), found.record))
            .collect())
    }

    async fn prepare(&self, request: ManifestRequest, destroy: Destroy) -> Result<Prepared, ControlError> {
        let ports = self.ports();
        // The name is in the text, and what an element of that name exports is not around it: so the text is read twice.
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

    /// Writes down that the element is about to be applied.
    async fn begin(&self, request: ManifestRequest, options: ApplyOptions) -> Result<Begun, ControlError> {
        // Planned twice: the first plan tells the name, and the second one is made when nobody else changes the element.
        let name = self
            .prepare(request.clone(), options.destroy)
            .await?
            .manifest
            .name;
        let lock = self.take_element(request.project, &name, None).await?;
        let prepared = self.prepare(request, options.destroy).await?;
        let element = self.write_begun(&prepared, &options, 0).await?;
        Ok(Begun {
            prepared,
            element,
            until: Instant::now() + options.timeout,
            tries: 0,
            lock,
        })
    }

    async fn take_element(
        &self,
        project: ProjectId,
        name: &str,
        yields: Option<Arc<Notify>>,
    ) -> Result<ElementLock, ControlError> {
        let inner = &self.inner;
        let holder = inner.engine.holder();
        inner
            .elements
            .take(&inner.ports, holder, project, name, yields)
            .await
    }

    async fn write_begun(
        &self,
        prepared: &Prepared,
        options: &ApplyOptions,
        tries: u32,
    ) -> Result<Uuid, ControlError> {
        let ports = self.ports();
        let (manifest, now) = (&prepared.manifest, ports.now());
        let fingerprint = fingerprint(&prepared.request);
        if let Some(element) = &prepared.element
            && element.record.status == ElementStatus::Active
            && element.record.fingerprint == fingerprint
            && prepared.plan.is_empty()
        {
            return Ok(element.record.id);
        }
        let before = prepared.element.as_ref();
        let id = match (before, manifest.uuid) {
            (Some(before), Some(pinned)) if pinned != before.record.id => {
                return Err(super::invalid(
                    "/uuid",
                    format!("the element has the id {}", before.record.id),
                ));
            }
            (Some(before), _) => before.record.id,
            (None, Some(pinned)) => pinned,
            (None, None) => ports.randomness.new_id(now),
        };
        let record = ElementRecord {
            id,
            project: prepared.request.project,
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            version: manifest.version.to_string(),
            manifest: prepared
                .request
                .manifest
                .or(before.and_then(|before| before.record.manifest)),
            fingerprint,
            status: ElementStatus::InProgress,
            reason: match tries {
                0 => "being applied".to_owned(),
                tries => format!("being applied, gone on with after it was cut short ({tries} of {TRIES})"),
            },
            imports: manifest
                .imports
                .iter()
                .map(|(name, import)| {
                    let (element, link) = (import.element.clone(), import.link.clone());
                    (name.clone(), ImportOf { element, link })
                })
                .collect(),
            exports: before
                .map(|before| before.record.exports.clone())
                .unwrap_or_default(),
            needs: prepared.needs(),
            created_at: before.map_or(now, |before| before.record.created_at),
            updated_at: now,
        };
        let (kind, message) = match tries {
            0 => ("apply_begun", format!("applying version {}", record.version)),
            tries => (
                "apply_resumed",
                format!("was cut short; going on by itself, {tries} of {TRIES}"),
            ),
        };
        let work = WorkRecord::apply(ports, id, &prepared.request, options, tries);
        let change = Change::new()
            .note(id, now, kind, message)
            .put_over(&record, before.map(|before| before.version));
        let change = self.with_work(change, id, Work::Begun(work)).await?;
        match ports.repository.commit(change).await {
            Ok(_) => {
                self.hint_element(id);
                Ok(id)
            }
            Err(error) if matches!(error.kind(), StoreErrorKind::Conflict | StoreErrorKind::NameTaken) => {
                Err(ControlError::WrongState {
                    detail: format!(
                        "the element \"{}\" was changed by somebody else just now; try again",
                        record.name
                    ),
                })
            }
            Err(error) => Err(ports.store_error(error)),
        }
    }

    /// The change, with what becomes of the note of what the element is being changed to.
    async fn with_work(&self, change: Change, element: Uuid, work: Work) -> Result<Change, ControlError> {
        let ports = self.ports();
        let there = ports.repository.load::<WorkRecord>(element).await;
        let there = there.map_err(|error| ports.store_error(error))?;
        Ok(match (work, there) {
            (Work::Begun(Some(work)), there) => change.put_over(&work, there.map(|there| there.version)),
            (Work::Begun(None) | Work::Over, Some(there)) => change.delete(&there),
            (Work::Begun(None) | Work::Over, None) | (Work::Stays, _) => change,
        })
    }

    /// Carries out what was begun, and writes down what came of it.
    async fn finish(&self, begun: Begun) -> Result<(), ControlError> {
        let result = self.carry_out(&begun).await;
        begun.lock.give_back(self.ports()).await;
        result
    }

    async fn carry_out(&self, begun: &Begun) -> Result<(), ControlError> {
        let Begun {
            prepared,
            element,
            until,
            tries,
            ..
        } = begun;
        if prepared.plan.is_empty()
            && prepared.element.as_ref().is_some_and(|there| {
                there.record.status == ElementStatus::Active
                    && there.record.fingerprint == fingerprint(&prepared.request)
            })
        {
            return Ok(());
        }
        let apply = Apply {
            plane: self,
            manifest: &prepared.manifest,
            world: &prepared.world,
            element: *element,
            project: prepared.request.project,
            members: Mutex::new(prepared.members.clone()),
            until: *until,
        };
        let result = async {
            apply.resources().await?;
            remove(self, &prepared.plan.steps, &prepared.members, *until).await?;
            apply.converged().await
        }
        .await;
        let (status, kind, reason, work) = match &result {
            Ok(()) => (
                ElementStatus::Active,
                "applied",
                "as its manifest says".to_owned(),
                Work::Over,
            ),
            Err(error) if resume::goes_on(*tries, error) => {
                let (status, kind) = (ElementStatus::InProgress, "apply_put_off");
                (status, kind, resume::put_off(*tries, error), Work::Stays)
            }
            Err(error) => (
                ElementStatus::Error,
                "apply_failed",
                error.to_string(),
                Work::Over,
            ),
        };
        let exports = prepared.exports();
        let write = |record: &mut ElementRecord| {
            record.status = status;
            record.reason = reason.clone();
            if status == ElementStatus::Active {
                record.exports = exports.clone();
            }
        };
        self.write_down(*element, kind, &reason, work, write).await?;
        result
    }

    async fn write_down(
        &self,
        id: Uuid,
        kind: &str,
        message: &str,
        work: Work,
        write: impl Fn(&mut ElementRecord),
    ) -> Result<(), ControlError> {
        let ports = self.ports();
        for attempt in 0..ports.settings.conflict_tries {
            super::changes::before_try(ports, attempt).await;
            let mut read = self.inner.load_kept::<ElementRecord>(id).await?;
            write(&mut read.record);
            let change = Change::new()
                .note(id, ports.now(), kind, message)
                .update(&read.record, read.version);
            let change = self.with_work(change, id, work.clone()).await?;
            match ports.repository.commit(change).await {
                Ok(_) => {
                    self.hint_element(id);
                    return Ok(());
                }
                Err(error) if error.kind() == StoreErrorKind::Conflict || error.is_retryable() => {}
                Err(error) => return Err(ports.store_error(error)),
            }
        }
        Err(super::changes::too_much_contention())
    }

    async fn begin_removal(&self, id: Uuid, options: ApplyOptions) -> Result<Removal, ControlError> {
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        let lock = self
            .take_element(read.record.project, &read.record.name, None)
            .await?;
        self.write_removal_begun(id, options, 0, lock).await
    }

    async fn write_removal_begun(
        &self,
        id: Uuid,
        options: ApplyOptions,
        tries: u32,
        lock: ElementLock,
    ) -> Result<Removal, ControlError> {
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        self.refuse_needed(&read.record).await?;
        let members = self.members(id).await?;
        let world = World::default();
        for (key, member) in &members {
            if let Some(actual) = look(self.ports(), key.collection, member.resource).await? {
                world.actual.write().insert(key.clone(), actual);
            }
        }
        let currents = world.currents(&members);
        let left = currents.iter().collect();
        let mut steps = plan::removals(&left, options.destroy);
        let stays: Vec<String> = steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Retain { why } => Some(format!("{} ({why})", step.key)),
                _ => None,
            })
            .collect();
        if !stays.is_empty() {
            let detail = format!(
                "nothing was done, since something would stay: {}",
                stays.join("; ")
            );
            return Err(ControlError::InUse { detail });
        }
        let gone = members.keys().filter(|key| !currents.contains_key(key));
        steps.extend(gone.map(|key| plan::Step {
            key: key.clone(),
            action: Action::Delete,
        }));
        let (kind, reason) = match tries {
            0 => ("uninstall_begun", "being uninstalled".to_owned()),
            tries => (
                "uninstall_resumed",
                format!("being uninstalled, gone on with after it was cut short ({tries} of {TRIES})"),
            ),
        };
        let write = |record: &mut ElementRecord| {
            record.status = ElementStatus::InProgress;
            record.reason = reason.clone();
        };
        let work = WorkRecord::uninstall(self.ports(), id, &options, tries);
        self.write_down(id, kind, &reason, Work::Begun(Some(work)), write)
            .await?;
        Ok(Removal {
            id,
            steps,
            members,
            until: Instant::now() + options.timeout.max(Duration::from_secs(1)),
            tries,
            lock,
        })
    }

    async fn finish_removal(&self, removal: Removal) -> Result<(), ControlError> {
        let result = self.carry_removal_out(&removal).await;
        removal.lock.give_back(self.ports()).await;
        result
    }

    async fn carry_removal_out(&self, removal: &Removal) -> Result<(), ControlError> {
        let id = removal.id;
        if let Err(error) = remove(self, &removal.steps, &removal.members, removal.until).await {
            let (status, kind, reason, work) = match resume::goes_on(removal.tries, &error) {
                true => (
                    ElementStatus::InProgress,
                    "uninstall_put_off",
                    resume::put_off(removal.tries, &error),
                    Work::Stays,
                ),
                false => (
                    ElementStatus::Error,
                    "uninstall_failed",
                    format!("not uninstalled: {error}"),
                    Work::Over,
                ),
            };
            let write = |record: &mut ElementRecord| {
                record.status = status;
                record.reason = reason.clone();
            };
            self.write_down(id, kind, &reason, work, write).await?;
            return Err(error);
        }
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        let ports = self.ports();
        let change = Change::new().delete(&read).require_unreferenced(id).note(
            id,
            ports.now(),
            "uninstalled",
            "everything that it made is gone",
        );
        let change = self.with_work(change, id, Work::Over).await?;
        let result = ports.repository.commit(change).await;
        self.hint_element(id);
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == StoreErrorKind::Referenced => {
                self.refuse_needed(&read.record).await?;
                Err(ports.store_error(error))
            }
            Err(error) => Err(ports.store_error(error)),
        }
    }

    /// An element stays while another one requires it or imports from it.
    async fn refuse_needed(&self, element: &ElementRecord) -> Result<(), ControlError> {
        let ports = self.ports();
        let all = ports
            .repository
            .all::<ElementRecord>(Some(element.project.uuid()))
            .await;
        let names: Vec<String> = all
            .map_err(|error| ports.store_error(error))?
            .into_iter()
            .filter(|other| other.record.needs.contains(&element.id))
            .map(|other| format!("\"{}\"", other.record.name))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "\"{}\" is required or imported by {}; uninstall those first",
            element.name,
            names.join(", ")
        );
        Err(ControlError::InUse { detail })
    }
}

/// An element that is about to go.
struct Removal {
    id: Uuid,
    steps: Vec<plan::Step>,
    members: BTreeMap<Key, MemberRecord>,
    until: Instant,
    /// As in [`Begun`].
    tries: u32,
    lock: ElementLock,
}

impl Prepared {
    fn shown(&self) -> ElementPlan {
        ElementPlan {
            element: self.manifest.name.clone(),
            version: self.manifest.version.to_string(),
            steps: self.plan.steps.clone(),
            skipped: self.manifest.skipped.clone(),
            warnings: self.manifest.warnings.clone(),
        }
    }

    /// The elements that have to stay while this one is there.
    fn needs(&self) -> Vec<Uuid> {
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

    fn exports(&self) -> BTreeMap<String, Export> {
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

fn refused(refused: Refused) -> ControlError {
    ControlError::Manifest { refused }
}

fn refuse_all(errors: Vec<Finding>) -> Result<(), ControlError> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(refused(Refused {
            errors,
            warnings: Vec::new(),
        })),
    }
}

/// Parameters that the version of their instance does not take. Where the version is not known yet, applying tells.
fn wrong_parameters(manifest: &Manifest, world: &World) -> Vec<Finding> {
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
fn refuse_built_in(manifest: &Manifest) -> Result<(), ControlError> {
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
fn check_projects(manifest: &Manifest, request: &ManifestRequest) -> Result<(), ControlError> {
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

fn fingerprint(request: &ManifestRequest) -> String {
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

/// For the modules of the façade that write manifests.
pub(super) fn seal_text(ports: &Ports, id: Uuid, text: &str) -> String {
    crate::elements::secret::seal(ports.sealer.as_ref(), id, text)
}
