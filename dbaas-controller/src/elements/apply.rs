//! Carrying a plan out: resources in bounded parallel, each after what it refers to, through the same calls
//! as everybody's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dbaas_core::id::{DatabaseId, InstanceId, ProjectId, UserId, VersionId};
use dbaas_core::instance::Labels;
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::parameters::Parameters;
use dbaas_core::password::Password;
use dbaas_manifest::collection::{Collection, Key, Parent};
use dbaas_manifest::model::{Imported, Manifest, Resource};
use dbaas_manifest::plan::{self, Action, Change as FieldChange, Current, Wanted};
use dbaas_manifest::render::Rendered;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::time::Instant;
use uuid::Uuid;

use super::facts::{Actual, World, look};
use super::record::MemberRecord;
use crate::control_plane::ControlPlane;
use crate::error::{ControlError, FieldError};
use crate::repository::Change;
use crate::request::{
    CreateConfig, CreateDatabase, CreateInstance, CreatePassword, CreateUser, CreateVariable, UpdateConfig,
    UpdateDatabase, UpdateInstance, UpdatePassword, UpdateUser, UpdateVariable,
};

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

/// The values of a resource that is about to be made or changed.
type Values = BTreeMap<String, Rendered>;

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
            self.settle(key, &values, current).await?;
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

    /// Fills in what cannot be read: whether a user has the password, and which of two versions with one name
    /// is meant.
    async fn settle(&self, key: &Key, values: &Values, current: &mut Actual) -> Result<(), ControlError> {
        settle(self.plane, self.world, key, values, current).await
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

    async fn create_once(
        &self,
        key: &Key,
        member: &MemberRecord,
        values: &Values,
    ) -> Result<(), ControlError> {
        let plane = self.plane;
        let instance = || member.instance.ok_or_else(|| missing("instance"));
        let name = |name: &str| parsed(values, "name").or_else(|_| name.parse().map_err(|_| missing("name")));
        let project = match values.get("project_id") {
            None => self.project,
            Some(_) => parsed(values, "project_id")?,
        };
        match key.collection {
            Collection::Instances => {
                let mut request = CreateInstance::new(parsed(values, "name")?, parsed(values, "version")?);
                request.id = Some(InstanceId::from_uuid(member.resource));
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                request.cpu = decoded(values, "cpu")?;
                request.ram = decoded(values, "ram")?;
                request.disk = decoded(values, "disk_size")?;
                if values.contains_key("nodes_number") {
                    request.nodes = decoded(values, "nodes_number")?;
                }
                if values.contains_key("sync_replica_number") {
                    request.sync_replicas = decoded(values, "sync_replica_number")?;
                }
                request.parameters = maybe(values, "parameters")?.unwrap_or_default();
                request.labels = maybe(values, "labels")?.unwrap_or_default();
                plane.create_instance(request).await.map(|_| ())
            }
            Collection::Users => {
                let mut request = CreateUser::new(parsed(values, "name")?, secret(values)?);
                request.id = Some(UserId::from_uuid(member.resource));
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_user(instance()?, request).await.map(|_| ())
            }
            Collection::Databases => {
                let mut request = CreateDatabase::new(parsed(values, "name")?, parsed(values, "owner")?);
                request.id = Some(DatabaseId::from_uuid(member.resource));
                request.access = maybe(values, "access")?.unwrap_or_default();
                request.extensions = maybe(values, "extensions")?.unwrap_or_default();
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_database(instance()?, request).await.map(|_| ())
            }
            Collection::Passwords => {
                let mut request = CreatePassword::new(name(&key.name)?);
                request.id = Some(member.resource);
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                if values.contains_key("method") {
                    request.method = decoded(values, "method")?;
                }
                if values.contains_key("default_length") {
                    request.length = decoded(values, "default_length")?;
                }
                if values.contains_key("rotation") {
                    request.rotation = decoded(values, "rotation")?;
                }
                request.value = given(values);
                plane.create_password(request).await.map(|_| ())
            }
            Collection::Configs => {
                let (content, is_secret) = content(values)?;
                let mut request = CreateConfig::new(name(&key.name)?, content);
                request.id = Some(member.resource);
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                request.is_secret = is_secret;
                request.fields = config_fields(values);
                plane.create_config(request).await.map(|_| ())
            }
            Collection::Variables => {
                let value = values.get("value").map(|value| value.value.clone());
                let mut request =
                    CreateVariable::new(name(&key.name)?, value.ok_or_else(|| missing("value"))?);
                request.id = Some(member.resource);
                request.project = Some(project);
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_variable(request).await.map(|_| ())
            }
        }
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

    async fn update_once(
        &self,
        key: &Key,
        member: &MemberRecord,
        changed: &Values,
        values: &Values,
    ) -> Result<(), ControlError> {
        let plane = self.plane;
        let instance = || member.instance.ok_or_else(|| missing("instance"));
        let id = member.resource;
        match key.collection {
            Collection::Instances => {
                let id = InstanceId::from_uuid(id);
                let there = plane.instance(id).await?.spec;
                let parameters = match maybe::<Parameters>(changed, "parameters")? {
                    None => BTreeMap::new(),
                    Some(wanted) => replaced(there.parameters.iter(), wanted.iter()),
                };
                let labels = match maybe::<Labels>(changed, "labels")? {
                    None => BTreeMap::new(),
                    Some(wanted) => replaced(there.labels.iter(), wanted.iter()),
                };
                let update = UpdateInstance {
                    parameters,
                    labels,
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    cpu: maybe(changed, "cpu")?,
                    ram: maybe(changed, "ram")?,
                    disk: maybe(changed, "disk_size")?,
                    nodes: maybe(changed, "nodes_number")?,
                    sync_replicas: maybe(changed, "sync_replica_number")?,
                    version: maybe::<VersionId>(changed, "version")?,
                    ..UpdateInstance::default()
                };
                plane.update_instance(id, update).await.map(|_| ())
            }
            Collection::Users => {
                let password = match changed.contains_key("password") {
                    true => Some(secret(changed)?),
                    false => None,
                };
                let update = UpdateUser {
                    description: optional(changed, "description")?,
                    password,
                    ..UpdateUser::default()
                };
                let id = UserId::from_uuid(id);
                plane.update_user(instance()?, id, update).await.map(|_| ())
            }
            Collection::Databases => {
                let update = UpdateDatabase {
                    description: optional(changed, "description")?,
                    owner: optional(changed, "owner")?,
                    access: maybe(changed, "access")?,
                    extensions: maybe(changed, "extensions")?,
                    expected: None,
                };
                let id = DatabaseId::from_uuid(id);
                plane.update_database(instance()?, id, update).await.map(|_| ())
            }
            Collection::Passwords => {
                let update = UpdatePassword {
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    method: maybe(changed, "method")?,
                    length: maybe(changed, "default_length")?,
                    rotation: maybe(changed, "rotation")?,
                    // With another method the value counts, also where it is the one that was generated.
                    value: given(values),
                    expected: None,
                };
                plane.update_password(id, update).await.map(|_| ())
            }
            Collection::Configs => {
                let text = match changed.contains_key("content") {
                    true => Some(content(changed)?),
                    false => None,
                };
                let update = UpdateConfig {
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    fields: config_fields(changed),
                    content: text,
                    expected: None,
                };
                plane.update_config(id, update).await.map(|_| ())
            }
            Collection::Variables => {
                let update = UpdateVariable {
                    description: optional(changed, "description")?,
                    value: changed.get("value").map(|value| value.value.clone()),
                    expected: None,
                };
                plane.update_variable(id, update).await.map(|_| ())
            }
        }
    }
}

/// The change from some parameters or labels to others: those that a manifest does not say any more are taken
/// back.
fn replaced<'a>(
    there: impl Iterator<Item = (&'a str, &'a str)>,
    wanted: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, Option<String>> {
    let gone = there.map(|(name, _)| (name.to_owned(), None));
    let set = wanted.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    // Of two with one name the later one counts.
    gone.chain(set).collect()
}

/// See [`Apply::settle`].
pub(crate) async fn settle(
    plane: &ControlPlane,
    world: &World,
    key: &Key,
    values: &Values,
    current: &mut Actual,
) -> Result<(), ControlError> {
    match key.collection {
        Collection::Users => {
            if let Some(wanted) = values.get("password")
                && let Some(text) = wanted.value.as_str()
                && let Ok(password) = Password::new(text)
                && plane
                    .has_password(UserId::from_uuid(current.id), password)
                    .await?
            {
                current.fields.insert("password".to_owned(), wanted.clone());
            }
        }
        Collection::Instances => {
            if let (Some(wanted), Some(there)) = (values.get("version"), current.fields.get_mut("version"))
                && world.is_same_symbol(&wanted.value, &there.value)
            {
                there.value = wanted.value.clone();
            }
        }
        _ => {}
    }
    Ok(())
}

fn said(error: &ControlError) -> String {
    match error {
        ControlError::Invalid { errors } => {
            let errors: Vec<String> = errors
                .iter()
                .map(|error| format!("{} {}", error.pointer, error.detail))
                .collect();
            errors.join("; ")
        }
        error => error.to_string(),
    }
}

/// The error, with the resource that it is about.
pub(crate) fn about(key: &Key, error: ControlError) -> ControlError {
    match error {
        ControlError::Deadline { state, reason } => ControlError::Deadline {
            state,
            reason: format!("{key}: {reason}"),
        },
        ControlError::Unavailable { .. } | ControlError::Full | ControlError::Internal { .. } => error,
        error => ControlError::WrongState {
            detail: format!("{key}: {}", said(&error)),
        },
    }
}

fn wrong(errors: Vec<dbaas_manifest::error::Finding>) -> ControlError {
    ControlError::Manifest {
        refused: dbaas_manifest::error::Refused {
            errors,
            warnings: Vec::new(),
        },
    }
}

fn missing(field: &str) -> ControlError {
    ControlError::Invalid {
        errors: vec![FieldError {
            pointer: format!("/{field}"),
            detail: "is missing".to_owned(),
        }],
    }
}

fn rule(field: &str, detail: impl std::fmt::Display) -> ControlError {
    ControlError::Invalid {
        errors: vec![FieldError {
            pointer: format!("/{field}"),
            detail: detail.to_string(),
        }],
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    values: &Values,
    field: &str,
) -> Result<T, ControlError> {
    let text = values.get(field).and_then(|value| value.value.as_str());
    let text = text.ok_or_else(|| missing(field))?;
    text.parse().map_err(|error: T::Err| rule(field, error))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    values: &Values,
    field: &str,
) -> Result<Option<T>, ControlError> {
    match values.contains_key(field) {
        true => parsed(values, field).map(Some),
        false => Ok(None),
    }
}

fn decoded<T: serde::de::DeserializeOwned>(values: &Values, field: &str) -> Result<T, ControlError> {
    let value = values.get(field).ok_or_else(|| missing(field))?;
    // The decoder's message may quote the value; none of these is a secret.
    serde_json::from_value(value.value.clone()).map_err(|error| rule(field, error))
}

fn maybe<T: serde::de::DeserializeOwned>(values: &Values, field: &str) -> Result<Option<T>, ControlError> {
    match values.contains_key(field) {
        true => decoded(values, field).map(Some),
        false => Ok(None),
    }
}

fn secret(values: &Values) -> Result<Password, ControlError> {
    let text = values.get("password").and_then(|value| value.value.as_str());
    Password::new(text.ok_or_else(|| missing("password"))?).map_err(|error| rule("password", error))
}

fn given(values: &Values) -> Option<dbaas_core::secret::Secret> {
    let text = values.get("value")?.value.as_str()?;
    Some(dbaas_core::secret::Secret::new(text))
}

fn content(values: &Values) -> Result<(dbaas_core::secret::Secret, bool), ControlError> {
    let value = values.get("content").ok_or_else(|| missing("body"))?;
    let text = value.value.as_str().ok_or_else(|| missing("body"))?;
    Ok((dbaas_core::secret::Secret::new(text), value.is_secret))
}

/// What a config says beside its text.
fn config_fields(values: &Values) -> BTreeMap<String, Json> {
    ["path", "mode", "owner", "group", "target", "on_change"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), values.get(name)?.value.clone())))
        .collect()
}
