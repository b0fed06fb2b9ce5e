//! Calls about instances.

use dbaas_core::id::{InstanceId, VersionId};
use dbaas_core::infrastructure::Resources;
use dbaas_core::instance::{DesiredState, InstancePhase, InstanceRecord, InstanceSpec};
use dbaas_core::lifecycle::LifecycleEvent;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

use super::actions::{self, Noted};
use super::changes::{before_try, check, too_much_contention};
use super::create::{Creation, Earlier, Key};
use super::updates::{self, NewVersion};
use super::{ControlPlane, Inner, Ports, clamp_limit, cut, instance_not_found, invalid, refuse_deleted};
use crate::error::ControlError;
use crate::repository::{Change, Record, instance_name};
use crate::request::{
    CreateInstance, IdempotencyKey, InstanceAction, InstanceFilter, Listed, Page, UpdateInstance, Versioned,
};

/// Instances that are looked at at once for a filtered listing.
const SCAN: usize = 500;
/// A filter of so many names at most is answered by looking up each name.
const LOOKUPS_MAX: usize = 64;

impl ControlPlane {
    /// Creates an instance. Returns as soon as that is written down; nodes are made in the background.
    pub async fn create_instance(
        &self,
        request: CreateInstance,
        key: Option<IdempotencyKey>,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        self.inner.create(request, key).await
    }

    /// One instance.
    pub async fn instance(&self, id: InstanceId) -> Result<Versioned<InstanceRecord>, ControlError> {
        self.inner.load_instance(id).await
    }

    /// Instances that match, in order of creation.
    pub async fn instances(
        &self,
        filter: InstanceFilter,
        page: Page<InstanceId>,
    ) -> Result<Listed<InstanceRecord, InstanceId>, ControlError> {
        let limit = clamp_limit(page.limit);
        let lookups = filter.projects.len().saturating_mul(filter.names.len());
        let found = if (1..=LOOKUPS_MAX).contains(&lookups) {
            self.inner.instances_by_name(&filter, page.after).await?
        } else {
            self.inner.scan_instances(&filter, page.after, limit + 1).await?
        };
        Ok(cut(found, limit, |record| record.id))
    }

    /// Changes an instance; what the update leaves out stays. Nothing is written if nothing changes.
    pub async fn update_instance(
        &self,
        id: InstanceId,
        update: UpdateInstance,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        let apply = |record: &mut InstanceRecord, version: NewVersion<'_>, _now| {
            let said = updates::apply(record, &update, version)?;
            Ok(Noted {
                kind: "update_requested",
                message: format!("asked for: {}", said.join(", ")),
            })
        };
        self.inner
            .change_instance(id, expected, update.version, None, apply)
            .await
    }

    /// Does something with an instance, once.
    pub async fn act_on_instance(
        &self,
        id: InstanceId,
        action: InstanceAction,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        self.act_on_instance_once(id, action, None, None).await
    }

    /// [`ControlPlane::act_on_instance`], only on the version that is expected, and safe to repeat: a call with the key and fingerprint of an
    /// earlier one does nothing and answers the instance as it is now.
    pub async fn act_on_instance_once(
        &self,
        id: InstanceId,
        action: InstanceAction,
        expected: Option<DocumentVersion>,
        key: Option<IdempotencyKey>,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        let key = key.map(|key| Key::new(&format!("actions of {id}"), &key));
        let serves = self.inner.engine.serves(id);
        let apply = |record: &mut InstanceRecord, _: NewVersion<'_>, now| {
            actions::apply(record, &action, serves, now)
        };
        self.inner.change_instance(id, expected, None, key, apply).await
    }

    /// Deletes an instance with its databases, users and data. Returns as soon as that is written down, and also when it was
    /// before; [`ControlError::NotFound`] when it is gone.
    pub async fn delete_instance(
        &self,
        id: InstanceId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let apply = |record: &mut InstanceRecord, _: NewVersion<'_>, _now| {
            record.desired = DesiredState::Deleted;
            record.status.phase = InstancePhase::Deleting;
            Ok(Noted {
                kind: "delete_requested",
                message: "asked for: deletion, with all data".to_owned(),
            })
        };
        if self.instance(id).await?.record.desired == DesiredState::Deleted {
            return Ok(());
        }
        match self.inner.change_instance(id, expected, None, None, apply).await {
            Ok(_) => Ok(()),
            // Somebody else's deletion came first.
            Err(ControlError::WrongState { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// Changes what is asked of an instance. `apply` is called again with what is read if another write came first.
    async fn change_instance(
        &self,
        id: InstanceId,
        expected: Option<DocumentVersion>,
        new_version: Option<VersionId>,
        key: Option<Key>,
        apply: impl Fn(&mut InstanceRecord, NewVersion<'_>, Timestamp) -> Result<Noted, ControlError>
        + Send
        + Sync,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        let ports = &self.ports;
        for attempt in 0..ports.settings.conflict_tries {
            before_try(&self.ports, attempt).await;
            let mut change = Change::new();
            if let Some(key) = &key {
                match self.earlier_use(key).await? {
                    Earlier::Made(_) => return self.load_instance(id).await,
                    Earlier::Nothing(expired) => {
                        change = change.put_over(&key.record(id.uuid(), ports), expired);
                    }
                }
            }
            let read = self.load_changeable_instance(id).await?;
            check(expected, &read)?;
            let new_version = new_version.filter(|version| *version != read.record.spec.version);
            let version = match new_version {
                Some(version) => ports
                    .repository
                    .load_version(version)
                    .await
                    .map_err(|e| ports.store_error(e))?,
                None => None,
            };
            let new_version = match (&version, new_version) {
                (Some(version), _) => NewVersion::Found(&version.record),
                (None, Some(_)) => NewVersion::Missing,
                (None, None) => NewVersion::Unchanged,
            };
            let now = ports.now();
            let mut record = read.record.clone();
            let noted = apply(&mut record, new_version, now)?;
            if record == read.record {
                // A key is used up also by a call that finds everything done: repeated later, it must not do anything then.
                if key.is_none() {
                    return Ok(read);
                }
                match ports.repository.commit(change.require(&read)).await {
                    Ok(_) => return Ok(read),
                    Err(error) if error.kind() == StoreErrorKind::Conflict => continue,
                    Err(error) => return Err(ports.store_error(error)),
                }
            }
            record.generation += 1;
            record.updated_at = now;
            record.status.lifecycle = record.status.lifecycle.transition(LifecycleEvent::WorkBegan);
            record.status.reason = format!("accepted, about to be carried out; {}", noted.message);

            if let Some(version) = &version {
                change = change.require(version);
            }
            let change = change.event(id, None, now, noted.kind, noted.message);
            match ports.repository.ask(change, &record, &read).await {
                Ok(written) => {
                    self.wake(id);
                    return Ok(written);
                }
                Err(error) => match error.kind() {
                    StoreErrorKind::Conflict => {}
                    StoreErrorKind::NameTaken => return Err(name_taken(ports, &record.spec).await),
                    _ => return Err(ports.store_error(error)),
                },
            }
        }
        Err(too_much_contention())
    }

    /// Instances of a filter that names projects and names: each pair is one look-up.
    async fn instances_by_name(
        &self,
        filter: &InstanceFilter,
        after: Option<InstanceId>,
    ) -> Result<Vec<Versioned<InstanceRecord>>, ControlError> {
        let mut found: Vec<Versioned<InstanceRecord>> = Vec::new();
        for project in &filter.projects {
            for name in &filter.names {
                let unique = instance_name(*project, name.as_str());
                let instance = self.ports.repository.find::<InstanceRecord>(&unique).await;
                let instance = instance.map_err(|error| self.ports.store_error(error))?;
                found.extend(instance.filter(|instance| {
                    let id = instance.record.id;
                    after.is_none_or(|after| id > after) && matches(filter, &instance.record)
                }));
            }
        }
        found.sort_by_key(|instance| instance.record.id);
        found.dedup_by_key(|instance| instance.record.id);
        Ok(found)
    }

    /// The first `wanted` instances that match.
    async fn scan_instances(
        &self,
        filter: &InstanceFilter,
        after: Option<InstanceId>,
        wanted: usize,
    ) -> Result<Vec<Versioned<InstanceRecord>>, ControlError> {
        let selective = !(filter.projects.is_empty()
            && filter.names.is_empty()
            && filter.versions.is_empty()
            && filter.lifecycles.is_empty());
        let at_once = if selective { SCAN } else { wanted };
        let mut found = Vec::new();
        let mut after = after.map(InstanceId::uuid);
        // Ends: ids grow from page to page, and the last page is not full.
        loop {
            let page = self
                .ports
                .repository
                .page::<InstanceRecord>(None, after, at_once)
                .await;
            let page = page.map_err(|error| self.ports.store_error(error))?;
            let complete = page.len() < at_once;
            let last = page.last().map(|last| last.record.uuid());
            found.extend(
                page.into_iter()
                    .filter(|instance| matches(filter, &instance.record)),
            );
            if complete || found.len() >= wanted || last <= after {
                found.truncate(wanted);
                return Ok(found);
            }
            after = last;
        }
    }
}

fn matches(filter: &InstanceFilter, record: &InstanceRecord) -> bool {
    fn any<T: PartialEq>(wanted: &[T], present: &T) -> bool {
        wanted.is_empty() || wanted.contains(present)
    }
    any(&filter.projects, &record.spec.project)
        && any(&filter.names, &record.spec.name)
        && any(&filter.versions, &record.spec.version)
        && any(&filter.lifecycles, &record.status.lifecycle)
}

impl Creation for CreateInstance {
    type Record = InstanceRecord;

    fn scope(&self) -> String {
        format!("instance/{}", self.project)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(InstanceRecord, Change), ControlError> {
        let version = ports
            .repository
            .load_version(self.version)
            .await
            .map_err(|e| ports.store_error(e))?;
        let Some(version) = version else {
            return Err(invalid("/version", "there is no such version"));
        };
        if version.record.deprecated {
            let name = &version.record.name;
            let detail = format!("{name} is deprecated and takes no new instances; choose another version");
            return Err(invalid("/version", detail));
        }
        let id = InstanceId::from_uuid(id);
        let now = ports.now();
        let spec = InstanceSpec {
            name: self.name.clone(),
            description: self.description.clone(),
            project: self.project,
            resources: Resources {
                cpu: self.cpu,
                ram: self.ram,
                disk: self.disk,
            },
            nodes: self.nodes,
            sync_replicas: self.sync_replicas,
            version: version.record.id,
            image: version.record.image.clone(),
            parameters: self.parameters.clone(),
        };
        let errors = updates::parameter_errors(&spec);
        if !errors.is_empty() {
            return Err(ControlError::Invalid { errors });
        }
        let message = format!(
            "asked for: instance \"{}\" of {}, {} node(s)",
            spec.name,
            spec.image,
            spec.nodes.get()
        );
        let record = InstanceRecord::new(id, spec, String::new(), now);
        let change = change
            .require(&version)
            .event(id, None, now, "create_requested", message)
            .create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.id.map(InstanceId::uuid)
    }

    fn makes(&self, record: &InstanceRecord) -> bool {
        let spec = &record.spec;
        record.desired != DesiredState::Deleted
            && (&self.name, &self.description, self.project) == (&spec.name, &spec.description, spec.project)
            && (self.cpu, self.ram, self.disk)
                == (spec.resources.cpu, spec.resources.ram, spec.resources.disk)
            && (self.nodes, self.sync_replicas, self.version)
                == (spec.nodes, spec.sync_replicas, spec.version)
            && self.parameters == spec.parameters
    }

    fn what(&self) -> &'static str {
        "instance"
    }

    async fn name_taken(&self, ports: &Ports) -> ControlError {
        let spec = (self.project, &self.name);
        taken_by(
            ports,
            &instance_name(spec.0, spec.1.as_str()),
            self.name.to_string(),
        )
        .await
    }

    fn gone(&self, id: Uuid) -> ControlError {
        instance_not_found(InstanceId::from_uuid(id))
    }

    fn concerns(record: &InstanceRecord) -> Option<InstanceId> {
        Some(record.id)
    }
}

async fn name_taken(ports: &Ports, spec: &InstanceSpec) -> ControlError {
    taken_by(
        ports,
        &instance_name(spec.project, spec.name.as_str()),
        spec.name.to_string(),
    )
    .await
}

async fn taken_by(ports: &Ports, unique: &str, name: String) -> ControlError {
    let holder = ports.repository.find::<InstanceRecord>(unique).await;
    let what = match holder {
        Ok(Some(holder)) if refuse_deleted(&holder.record).is_err() => {
            "instance, which is still being deleted"
        }
        _ => "instance of the project",
    };
    ControlError::NameTaken { what, name }
}
