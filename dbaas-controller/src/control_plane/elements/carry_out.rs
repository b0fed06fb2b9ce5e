//! Carrying a plan out: resources in bounded parallel, each after what it refers to, through the same calls
//! as everybody's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dbaas_core::id::{DatabaseId, InstanceId, ProjectId, UserId};
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_manifest::collection::{Collection, Key, Parent};
use dbaas_manifest::model::{Imported, Manifest, Resource};
use dbaas_manifest::plan::{self, Action, Change as FieldChange, Current, Wanted};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::fields::{Values, about, said, wrong};
use super::settle::settle;
use crate::control_plane::ControlPlane;
use crate::elements::facts::{Actual, World, look};
use crate::elements::record::MemberRecord;
use crate::error::ControlError;
use crate::repository::Change;

/// Resources that are worked on at the same time.
const PARALLEL: usize = 8;
/// A call that fails for a passing reason is made so often.
const TRIES: u32 = 5;

/// An element that is being applied.
pub(crate) struct Apply<'a> {
    pub(crate) plane: &'a ControlPlane,
    pub(crate) manifest: &'a Manifest,
    pub(crate) world: &'a World,
    pub(crate) element: Uuid,
    pub(crate) project: ProjectId,
    pub(crate) members: Mutex<BTreeMap<Key, MemberRecord>>,
    pub(crate) until: Instant,
}

impl Apply<'_> {
    /// Makes and changes what the manifest declares; ends at the first error, when what was begun is done.
    pub(crate) async fn resources(&self) -> Result<(), ControlError> {
        let mut waiting: Vec<(&Resource, BTreeSet<Key>)> = self
            .manifest
            .resources
            .iter()
            .map(|resource| (resource, resource.dependencies()))
            .collect();
        let (mut done, mut failed): (BTreeSet<Key>, Option<ControlError>) = (BTreeSet::new(), None);
        let mut running = FuturesUnordered::new();
        // Ends: each round ends one of the resources, and what waits has its needs met by what comes before
        // it.
        loop {
            if failed.is_none() {
                waiting.retain(|(resource, needs)| {
                    let is_ready = running.len() < PARALLEL && needs.is_subset(&done);
                    if is_ready {
                        running.push(async { (resource.key.clone(), self.resource(resource).await) });
                    }
                    !is_ready
                });
            }
            match running.next().await {
                None => break,
                Some((key, Ok(()))) => {
                    done.insert(key);
                }
                Some((key, Err(error))) => {
                    let message = format!("{key}: {}", said(&error));
                    self.plane
                        .note_element(self.element, "resource_failed", message)
                        .await;
                    failed.get_or_insert(about(&key, error));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn resource(&self, resource: &Resource) -> Result<(), ControlError> {
        let values = self.values(resource).await?;
        let key = &resource.key;
        let (member, mut current) = self.member(resource).await?;
        if let Some(current) = &mut current {
            settle(self.plane, self.world, key, &values, current).await?;
        }
        let wanted = values
            .iter()
            .map(|(name, value)| (name.clone(), Wanted::Known(value.clone())));
        let current = current.map(|found| Current {
            id: found.id,
            fields: found.fields,
            is_protected: None,
        });
        let action = plan::decide(resource, &wanted.collect(), current.as_ref());
        let (kind, message) = match &action {
            Action::Create { .. } => {
                self.create(key, &member, &values).await?;
                ("resource_created", format!("{key}: created"))
            }
            Action::Update { changes } => {
                self.update(key, &member, changes, &values).await?;
                let names: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
                ("resource_updated", format!("{key}: changed {}", names.join(", ")))
            }
            Action::Nothing | Action::Delete | Action::Retain { .. } => ("", String::new()),
        };
        if !kind.is_empty() {
            self.plane.note_element(self.element, kind, message).await;
        }
        let actual = self.look(key.collection, member.resource).await?;
        let actual = actual.ok_or_else(|| ControlError::WrongState {
            detail: format!("{key} was deleted while the manifest was applied; apply it again"),
        })?;
        self.world.actual.write().insert(key.clone(), actual);
        Ok(())
    }

    async fn look(&self, collection: Collection, id: Uuid) -> Result<Option<Actual>, ControlError> {
        look(self.plane.ports(), collection, id).await
    }

    /// Every field's value; waits for those that are not known yet.
    async fn values(&self, resource: &Resource) -> Result<Values, ControlError> {
        // Ends: with a deadline. A round waits for the instances that the resource refers to.
        let mut pause = Duration::from_millis(50);
        loop {
            let wanted = plan::wanted(resource, self.manifest, self.world).map_err(wrong)?;
            let mut values = Values::new();
            let mut waits_for = None;
            for (name, wanted) in wanted {
                match wanted {
                    Wanted::Known(value) => {
                        values.insert(name, value);
                    }
                    Wanted::Later(reference) => waits_for = Some(reference),
                }
            }
            let Some(reference) = waits_for else {
                return Ok(values);
            };
            if Instant::now() >= self.until {
                return Err(ControlError::Deadline {
                    state: "IN_PROGRESS".to_owned(),
                    reason: format!("{} waits for {reference}", resource.key),
                });
            }
            self.refresh(resource).await?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Looks again at what a resource refers to; an instance is waited for.
    async fn refresh(&self, resource: &Resource) -> Result<(), ControlError> {
        for key in resource.dependencies() {
            let id = self.world.actual.read().get(&key).map(|actual| actual.id);
            let Some(id) = id else { continue };
            if key.collection == Collection::Instances {
                self.wait_for_instance(InstanceId::from_uuid(id)).await?;
            }
            if let Some(actual) = self.look(key.collection, id).await? {
                self.world.actual.write().insert(key, actual);
            }
        }
        for (name, import) in &self.manifest.imports {
            if let Imported::Resource { collection, id } = import.target
                && let Some(actual) = self.look(collection, id).await?
            {
                self.world.imports.write().insert(name.clone(), actual);
            }
        }
        Ok(())
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    async fn wait_for_instance(&self, id: InstanceId) -> Result<(), ControlError> {
        let waited = self
            .plane
            .wait_for_instance(id, Lifecycle::Active, self.left())
            .await;
        waited.map(|_| ())
    }

    /// Waits until everything that was made is there.
    pub(crate) async fn converged(&self) -> Result<(), ControlError> {
        let made: Vec<(Key, Actual)> = self
            .world
            .actual
            .read()
            .iter()
            .map(|(key, actual)| (key.clone(), actual.clone()))
            .collect();
        let about = |key: &Key, error| about(key, error);
        for collection in [Collection::Instances, Collection::Users, Collection::Databases] {
            let those = made.iter().filter(|(key, _)| key.collection == collection);
            for (key, actual) in those {
                let Some(instance) = actual.instance else { continue };
                if self.manifest.resource(key).is_none() {
                    continue;
                }
                let (active, left) = (ObjectLifecycle::Active, self.left());
                let waited = match collection {
                    Collection::Instances => self.wait_for_instance(instance).await,
                    Collection::Users => {
                        let id = UserId::from_uuid(actual.id);
                        self.plane
                            .wait_for_user(instance, id, active, left)
                            .await
                            .map(|_| ())
                    }
                    _ => {
                        let id = DatabaseId::from_uuid(actual.id);
                        self.plane
                            .wait_for_database(instance, id, active, left)
                            .await
                            .map(|_| ())
                    }
                };
                waited.map_err(|error| about(key, error))?;
            }
        }
        Ok(())
    }

    /// The element's note of a resource, written before the resource is, and what there is of the resource.
    async fn member(&self, resource: &Resource) -> Result<(MemberRecord, Option<Actual>), ControlError> {
        let key = &resource.key;
        let ports = self.plane.ports();
        let instance = self.instance_of(key)?;
        let known = self.members.lock().get(key).cloned();
        if let Some(member) = known {
            let actual = self.look(key.collection, member.resource).await?;
            if actual.is_some() || !self.was_dropped(instance, member.resource).await? {
                return Ok((member, actual));
            }
            // Somebody dropped it: within an instance an id is not used again.
            if resource.uuid.is_some() {
                return Ok((member, None));
            }
            let renewed = MemberRecord {
                resource: ports.randomness.new_id(ports.now()),
                instance,
                ..member
            };
            let found = ports.repository.load::<MemberRecord>(renewed.id).await;
            let read = found
                .map_err(|error| ports.store_error(error))?
                .map(|found| found.version);
            let change = Change::new().put_over(&renewed, read);
            ports
                .repository
                .commit(change)
                .await
                .map_err(|error| ports.store_error(error))?;
            self.members.lock().insert(key.clone(), renewed.clone());
            return Ok((renewed, None));
        }
        let id = match resource.uuid {
            None => ports.randomness.new_id(ports.now()),
            Some(pinned) => {
                if self.look(key.collection, pinned).await?.is_some() {
                    return Err(ControlError::IdTaken {
                        what: key.collection.what(),
                        id: pinned,
                    });
                }
                pinned
            }
        };
        let member = MemberRecord {
            id: MemberRecord::id_of(self.element, key),
            element: self.element,
            key: key.clone(),
            resource: id,
            instance,
            created_at: ports.now(),
        };
        let change = Change::new().create(&member).note(
            self.element,
            ports.now(),
            "resource_begun",
            format!("{key}: is about to be made"),
        );
        ports
            .repository
            .commit(change)
            .await
            .map_err(|error| ports.store_error(error))?;
        self.members.lock().insert(key.clone(), member.clone());
        Ok((member, None))
    }

    async fn was_dropped(&self, instance: Option<InstanceId>, id: Uuid) -> Result<bool, ControlError> {
        let Some(instance) = instance else {
            return Ok(false);
        };
        self.plane.was_dropped(instance, id).await
    }

    fn instance_of(&self, key: &Key) -> Result<Option<InstanceId>, ControlError> {
        let found = match &key.parent {
            None => return Ok(None),
            Some(Parent::Declared(name)) => {
                let parent = Key {
                    collection: Collection::Instances,
                    parent: None,
                    name: name.clone(),
                };
                self.world.actual.read().get(&parent).map(|actual| actual.id)
            }
            Some(Parent::Imported(name)) => {
                match self.manifest.imports.get(name).map(|import| &import.target) {
                    Some(Imported::Resource { id, .. }) => Some(*id),
                    _ => None,
                }
            }
        };
        let missing = || ControlError::WrongState {
            detail: format!("{key}: its instance is gone"),
        };
        found
            .map(|id| Some(InstanceId::from_uuid(id)))
            .ok_or_else(missing)
    }

    async fn create(&self, key: &Key, member: &MemberRecord, values: &Values) -> Result<(), ControlError> {
        // Ends: after so many tries.
        for attempt in 1.. {
            match self.create_once(key, member, values).await {
                Err(error) if error.is_retryable() && attempt < TRIES => self.pause(attempt).await,
                answer => return answer,
            }
        }
        Ok(())
    }

    async fn pause(&self, attempt: u32) {
        tokio::time::sleep(Duration::from_millis(100 << attempt.min(5))).await;
    }

    async fn update(
        &self,
        key: &Key,
        member: &MemberRecord,
        changes: &[FieldChange],
        values: &Values,
    ) -> Result<(), ControlError> {
        let changed: Values = values
            .iter()
            .filter(|(name, _)| changes.iter().any(|change| change.field == **name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // Ends: after so many tries.
        for attempt in 1.. {
            match self.update_once(key, member, &changed, values).await {
                Err(error) if error.is_retryable() && attempt < TRIES => self.pause(attempt).await,
                answer => return answer,
            }
        }
        Ok(())
    }
}
