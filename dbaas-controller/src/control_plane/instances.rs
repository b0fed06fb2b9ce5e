//! Calls about instances.

use dbaas_core::id::{InstanceId, VersionId};
use dbaas_core::instance::{
    DesiredState, InstancePhase, InstanceRecord, InstanceSpec, NewVersion, apply_update, spec_errors,
};
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

use super::actions::{self, Noted};
use super::changes::{check, unless_lost, until_written};
use super::create::{Creation, Earlier, Key};
use super::databases::refuse_protected;
use super::{ControlPlane, Inner, clamp_limit, cut, instance_not_found, invalid, refuse_deleted};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, Record, Versioned, instance_name};
use crate::request::{ActOnInstance, CreateInstance, InstanceFilter, Listed, Page, UpdateInstance};
use crate::view::Instance;

/// Instances that are looked at at once for a filtered listing.
const SCAN: usize = 500;
/// A filter of so many names at most is answered by looking up each name.
const LOOKUPS_MAX: usize = 64;

impl ControlPlane {
    /// Creates an instance. Returns as soon as that is written down; nodes are made in the background.
    pub async fn create_instance(&self, mut request: CreateInstance) -> Result<Instance, ControlError> {
        let key = request.idempotency_key.take();
        Ok(self.shown(self.inner.create(request, key).await?))
    }

    /// One instance.
    pub async fn instance(&self, id: InstanceId) -> Result<Instance, ControlError> {
        Ok(self.shown(self.inner.load_instance(id).await?))
    }

    /// What a caller sees of an instance.
    fn shown(&self, found: Versioned<InstanceRecord>) -> Instance {
        let live = self.inner.engine.live(found.record.id);
        Instance::of(found, live.as_ref())
    }

    /// Whether this is the id of a user or database that was dropped, which no other one may have.
    pub(crate) async fn was_dropped(&self, id: InstanceId, object: Uuid) -> Result<bool, ControlError> {
        let found = self.inner.load_instance(id).await?;
        Ok(found.record.dropped.iter().any(|dropped| dropped == object))
    }

    /// Instances that match, in order of creation.
    pub async fn instances(
        &self,
        filter: InstanceFilter,
        page: Page<InstanceId>,
    ) -> Result<Listed<Instance, InstanceId>, ControlError> {
        let limit = clamp_limit(page.limit);
        let lookups = filter.projects.len().saturating_mul(filter.names.len());
        let found = if (1..=LOOKUPS_MAX).contains(&lookups) {
            self.inner.instances_by_name(&filter, page.after).await?
        } else {
            self.inner
                .matching_instances(&filter, page.after, limit + 1)
                .await?
        };
        let listed = cut(found, limit, |record| record.id);
        Ok(listed.map(|found| self.shown(found)))
    }

    /// Changes an instance; what the update leaves out stays. Nothing is written if nothing changes.
    pub async fn update_instance(
        &self,
        id: InstanceId,
        update: UpdateInstance,
    ) -> Result<Instance, ControlError> {
        let apply = |record: &mut InstanceRecord, version: NewVersion<'_>, _now| {
            let said =
                apply_update(record, &update, version).map_err(|errors| ControlError::Invalid { errors })?;
            Ok(Noted {
                kind: "update_requested",
                message: format!("asked for: {}", said.join(", ")),
            })
        };
        let asked = Asked {
            expected: update.expected,
            new_version: update.version,
            ..Asked::default()
        };
        Ok(self.shown(self.inner.change_instance(id, asked, apply).await?))
    }

    /// Does something with an instance, once.
    ///
    /// An [`InstanceAction`](crate::request::InstanceAction) will do where neither a version is expected nor
    /// the call is to be safe to repeat.
    pub async fn act_on_instance(
        &self,
        id: InstanceId,
        act: impl Into<ActOnInstance>,
    ) -> Result<Instance, ControlError> {
        let ActOnInstance {
            action,
            expected,
            idempotency_key,
        } = act.into();
        let asked = Asked {
            expected,
            key: idempotency_key.map(|key| Key::new(&format!("actions of {id}"), &key)),
            ..Asked::default()
        };
        let serves = self.inner.engine.serves(id);
        let apply = |record: &mut InstanceRecord, _: NewVersion<'_>, now| {
            actions::apply(record, &action, serves, now)
        };
        Ok(self.shown(self.inner.change_instance(id, asked, apply).await?))
    }

    /// Deletes an instance with its databases, users and data, unless it or one of its databases is protected
    /// ([`ControlError::Protected`]). Returns as soon as that is written down, and
    /// also when it was before; [`ControlError::NotFound`] when it is gone.
    pub async fn delete_instance(
        &self,
        id: InstanceId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let apply = |record: &mut InstanceRecord, _: NewVersion<'_>, _now| {
            if record.spec.deletion_protection {
                return Err(ControlError::Protected {
                    what: "instance",
                    name: record.spec.name.to_string(),
                });
            }
            record.desired = DesiredState::Deleted;
            record.status.phase = InstancePhase::Deleting;
            Ok(Noted {
                kind: "delete_requested",
                message: "asked for: deletion, with all data".to_owned(),
            })
        };
        if self.inner.instance_goes(id).await? {
            return Ok(());
        }
        let asked = Asked {
            expected,
            takes_databases: true,
            ..Asked::default()
        };
        match self.inner.change_instance(id, asked, apply).await {
            Ok(_) => Ok(()),
            // Somebody else's deletion came first.
            Err(ControlError::WrongState { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a change of an instance comes with.
#[derive(Default)]
struct Asked {
    expected: Option<DocumentVersion>,
    /// The version of the catalogue that it is to have.
    new_version: Option<VersionId>,
    key: Option<Key>,
    /// Its databases go with it: none of them may be protected, also when this is written.
    takes_databases: bool,
}

impl Inner {
    /// Changes what is asked of an instance. `apply` is called again with what is read if another write came
    /// first.
    async fn change_instance(
        &self,
        id: InstanceId,
        asked: Asked,
        apply: impl Fn(&mut InstanceRecord, NewVersion<'_>, Timestamp) -> Result<Noted, ControlError>
        + Send
        + Sync,
    ) -> Result<Versioned<InstanceRecord>, ControlError> {
        let (ports, asked, apply) = (&self.ports, &asked, &apply);
        until_written(ports, || self.try_to_change(id, asked, apply)).await
    }

    /// `None`: another write came first.
    async fn try_to_change(
        &self,
        id: InstanceId,
        asked: &Asked,
        apply: &(
             impl Fn(&mut InstanceRecord, NewVersion<'_>, Timestamp) -> Result<Noted, ControlError> + Send + Sync
         ),
    ) -> Result<Option<Versioned<InstanceRecord>>, ControlError> {
        let ports = &self.ports;
        let mut change = Change::new();
        if let Some(key) = &asked.key {
            match self.earlier_use(key).await? {
                Earlier::Made(_) => return self.load_instance(id).await.map(Some),
                Earlier::Nothing(expired) => {
                    change = change.put_over(&key.record(id.uuid(), ports), expired);
                }
            }
        }
        let read = self.load_changeable_instance(id).await?;
        check(asked.expected, &read)?;
        let new_version = asked
            .new_version
            .filter(|version| *version != read.record.spec.version);
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
            // A key is used up also by a call that finds everything done: repeated later, it must not do
            // anything then.
            if asked.key.is_none() {
                return Ok(Some(read));
            }
            let committed = ports.repository.commit(change.require(&read)).await;
            return Ok(unless_lost(ports, committed)?.map(|_| read));
        }
        record.generation += 1;
        record.updated_at = now;
        let said = format!("accepted, about to be carried out; {}", noted.message);
        record.status.accept(said, now);

        if let Some(version) = &version {
            change = change.require(version);
        }
        if asked.takes_databases {
            let databases = ports.repository.load_databases(id).await;
            for database in databases.map_err(|e| ports.store_error(e))? {
                refuse_protected(&database.record)?;
                change = change.require(&database);
            }
        }
        let change = change.event(id, None, now, noted.kind, noted.message);
        match ports.repository.ask(change, &record, &read).await {
            Err(error) if error.kind() == StoreErrorKind::NameTaken => {
                Err(name_taken(ports, &record.spec).await)
            }
            written => {
                let written = unless_lost(ports, written)?;
                if written.is_some() {
                    self.wake(id);
                }
                Ok(written)
            }
        }
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
                    after.is_none_or(|after| id > after) && filter.matches(&instance.record)
                }));
            }
        }
        found.sort_by_key(|instance| instance.record.id);
        found.dedup_by_key(|instance| instance.record.id);
        Ok(found)
    }

    /// The first `wanted` instances that match: of those that may, by what the engine remembers, where that
    /// is all of them.
    async fn matching_instances(
        &self,
        filter: &InstanceFilter,
        after: Option<InstanceId>,
        wanted: usize,
    ) -> Result<Vec<Versioned<InstanceRecord>>, ControlError> {
        let candidates = self.engine.candidates(after, |record| filter.matches(record));
        let Some(candidates) = candidates.filter(|_| !filter.is_empty()) else {
            return self.scan_instances(filter, after, wanted).await;
        };
        let mut found = Vec::new();
        for id in candidates {
            let instance = self.ports.repository.load_instance(id).await;
            let instance = instance.map_err(|error| self.ports.store_error(error))?;
            found.extend(instance.filter(|instance| filter.matches(&instance.record)));
            if found.len() >= wanted {
                break;
            }
        }
        Ok(found)
    }

    /// The first `wanted` instances that match.
    async fn scan_instances(
        &self,
        filter: &InstanceFilter,
        after: Option<InstanceId>,
        wanted: usize,
    ) -> Result<Vec<Versioned<InstanceRecord>>, ControlError> {
        let at_once = if filter.is_empty() { wanted } else { SCAN };
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
                    .filter(|instance| filter.matches(&instance.record)),
            );
            if complete || found.len() >= wanted || last <= after {
                found.truncate(wanted);
                return Ok(found);
            }
            after = last;
        }
    }
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
        let spec = self.spec(&version.record.image);
        let errors = spec_errors(&spec);
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
        // The version's image may have another tag by now.
        record.desired != DesiredState::Deleted && self.spec(&record.spec.image) == record.spec
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
