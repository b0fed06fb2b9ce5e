//! Calls about databases.

use dbaas_core::access::{Access, AccessEntry};
use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::extension::{ExtensionName, Extensions};
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::instance::protection;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::limits::{ACCESS_ENTRIES_MAX, DATABASES_PER_INSTANCE_MAX, EXTENSIONS_MAX};
use dbaas_core::store::DocumentVersion;
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::changes::{Object, Wanted, check, object_not_found, unless_lost, until_written};
use super::create::{ACCEPTED, Creation};
use super::{ControlPlane, instance_not_found, invalid, refuse_deleted, refuse_dropped};
use crate::error::{ControlError, FieldError};
use crate::ports::Ports;
use crate::repository::{Change, Versioned, child_name};
use crate::request::{CreateDatabase, Listed, Page, ResourceRef, UpdateDatabase};
use crate::view::Database;

impl Object for DatabaseRecord {
    const WHAT: &'static str = "database";

    fn instance(&self) -> InstanceId {
        self.instance
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }

    fn resource(id: Uuid) -> ResourceRef {
        ResourceRef::Database(DatabaseId::from_uuid(id))
    }
}

impl ControlPlane {
    /// Creates a database. Returns as soon as that is written down; PostgreSQL has it when it is ACTIVE.
    pub async fn create_database(
        &self,
        instance: InstanceId,
        mut request: CreateDatabase,
    ) -> Result<Database, ControlError> {
        let key = request.idempotency_key.take();
        let made = self.inner.create(NewDatabase { instance, request }, key).await;
        made.map(Database::of)
    }

    /// One database of an instance.
    pub async fn database(&self, instance: InstanceId, id: DatabaseId) -> Result<Database, ControlError> {
        let found = self.inner.load_object(instance, id.uuid()).await;
        found.map(Database::of)
    }

    /// The databases of an instance, in order of creation.
    pub async fn databases(
        &self,
        instance: InstanceId,
        page: Page<DatabaseId>,
    ) -> Result<Listed<Database, DatabaseId>, ControlError> {
        let inner = &self.inner;
        inner.load_instance(instance).await?;
        let (parent, after) = (Some(instance.uuid()), page.after.map(DatabaseId::uuid));
        let id = |record: &DatabaseRecord| record.id;
        let listed = inner.listed(parent, after, page.limit, id).await?;
        Ok(listed.map(Database::of))
    }

    /// Changes a database; what the update leaves out stays. Nothing is written if nothing changes.
    pub async fn update_database(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        update: UpdateDatabase,
    ) -> Result<Database, ControlError> {
        let (ports, update) = (self.ports(), &update);
        let decide = |of, record| updated(ports, of, record, update);
        let inner = &self.inner;
        let written = inner
            .change_object(instance, id.uuid(), update.expected, decide)
            .await;
        written.map(Database::of)
    }

    /// Asks for what keeps the owner of a database out of it to be put back; see [`repair`](Database::repair)
    /// for what came of it. Asking again while that is under way changes nothing.
    pub async fn repair_database_access(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        expected: Option<DocumentVersion>,
    ) -> Result<Database, ControlError> {
        let ports = self.ports();
        let repair = |_, mut record: DatabaseRecord| async move {
            let now = ports.now();
            record.repair.request(now);
            let name = &record.name;
            let message = format!("asked for: repair the owner's access to database \"{name}\"");
            let change = Change::new().event(instance, None, now, "repair_access_requested", message);
            Ok((record, change))
        };
        let inner = &self.inner;
        let written = inner.change_object(instance, id.uuid(), expected, repair).await;
        written.map(Database::of)
    }

    /// Asks for the extensions of a database to be brought to the versions that its server offers. Asking
    /// again while that is under way changes nothing, nor does asking where it is to have none.
    pub async fn update_extensions(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        expected: Option<DocumentVersion>,
    ) -> Result<Database, ControlError> {
        let ports = self.ports();
        let update = |_, mut record: DatabaseRecord| async move {
            let now = ports.now();
            if !record.extensions.request_update(now) {
                return Ok((record, Change::new()));
            }
            record.accept("accepted; its extensions are about to be updated", now);
            let message = format!("asked for: update the extensions of database \"{}\"", record.name);
            let change = Change::new().event(instance, None, now, "extensions_update_requested", message);
            Ok((record, change))
        };
        let inner = &self.inner;
        let written = inner.change_object(instance, id.uuid(), expected, update).await;
        written.map(Database::of)
    }

    /// Drops a database with its data, unless it is protected ([`ControlError::Protected`]), also while
    /// clients are connected to it. Returns as soon as that is written down, and also when it was before;
    /// [`ControlError::NotFound`] when it is gone.
    pub async fn delete_database(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let (inner, ports) = (&self.inner, self.ports());
        until_written(ports, || async move {
            let read = inner.load_object::<DatabaseRecord>(instance, id.uuid()).await?;
            if read.record.deleting || inner.instance_goes(instance).await? {
                return Ok(Some(()));
            }
            check(expected, &read)?;
            refuse_protected(&read.record)?;
            let now = ports.now();
            let mut record = read.record.clone();
            record.deleting = true;
            record.updated_at = now;
            record.accept("accepted; it is about to be dropped", now);
            let message = format!("asked for: drop database \"{}\"", record.name);
            let change = Change::new().event(instance, None, now, "database_delete_requested", message);
            let written = unless_lost(ports, ports.repository.ask(change, &record, &read).await)?;
            Ok(written.map(|_| inner.wake(instance)))
        })
        .await
    }
}

/// The database with the changes, and what has to be true for them.
async fn updated(
    ports: &Ports,
    of: InstanceRecord,
    read: DatabaseRecord,
    update: &UpdateDatabase,
) -> Result<Wanted<DatabaseRecord>, ControlError> {
    const KIND: &str = "database_update_requested";
    let (now, instance) = (ports.now(), of.id);
    let mut record = read.clone();
    let mut change = Change::new();
    if let Some(description) = &update.description {
        record.description = description.clone();
    }
    if let Some(owner) = update.owner.filter(|owner| *owner != read.owner) {
        let owner = owner_of(ports, instance, owner).await?;
        let name = &owner.record.name;
        record.owner = owner.record.id;
        record.accept(format!("accepted; its owner is about to become \"{name}\""), now);
        let message = format!("asked for: database \"{}\" owned by \"{name}\"", record.name);
        change = change.require(&owner).event(instance, None, now, KIND, message);
    }
    if update.access.is_some() || record.owner != read.owner {
        let entries = update.access.as_ref().unwrap_or(&read.access.entries);
        let users = users_with_access(ports, instance, record.owner, entries).await?;
        if record.access.set(entries) {
            record.accept("accepted; its access is about to change", now);
            let told = told(&users, entries);
            let message = format!("asked for: access to database \"{}\": {told}", record.name);
            change = change.event(instance, None, now, KIND, message);
            change = users.iter().fold(change, |change, user| change.require(user));
        }
    }
    if let Some(names) = &update.extensions {
        allowed_extensions(ports, &of, names, &read.extensions.names).await?;
        if record.extensions.set(names) {
            record.accept("accepted; its extensions are about to change", now);
            let listed = listed(names);
            let message = format!("asked for: extensions of database \"{}\": {listed}", record.name);
            change = change.event(instance, None, now, KIND, message);
        }
    }
    if let Some(protected) = update
        .deletion_protection
        .filter(|p| *p != read.deletion_protection)
    {
        record.deletion_protection = protected;
        let message = format!("database \"{}\" is {}", record.name, protection(protected));
        change = change.event(instance, None, now, KIND, message);
    }
    if record != read {
        record.updated_at = now;
    }
    Ok((record, change))
}

/// It is not to be dropped by mistake, by itself or with its instance.
pub(super) fn refuse_protected(record: &DatabaseRecord) -> Result<(), ControlError> {
    match record.deletion_protection && !record.deleting {
        true => Err(ControlError::Protected {
            what: "database",
            name: record.name.to_string(),
        }),
        false => Ok(()),
    }
}

/// A user who can own a database of the instance.
async fn owner_of(
    ports: &Ports,
    instance: InstanceId,
    owner: UserId,
) -> Result<Versioned<UserRecord>, ControlError> {
    let found = ports
        .repository
        .load_user(owner)
        .await
        .map_err(|error| ports.store_error(error))?;
    match found.filter(|found| found.record.instance == instance) {
        None => Err(invalid("/owner", "this instance has no such user")),
        Some(found) if found.record.deleting => Err(invalid(
            "/owner",
            format!("the user \"{}\" is being deleted", found.record.name),
        )),
        Some(found) => Ok(found),
    }
}

/// The users of an access list, in its order. Everything that is wrong with the list, at once.
async fn users_with_access(
    ports: &Ports,
    instance: InstanceId,
    owner: UserId,
    entries: &[AccessEntry],
) -> Result<Vec<Versioned<UserRecord>>, ControlError> {
    if entries.len() > ACCESS_ENTRIES_MAX {
        return Err(invalid(
            "/access",
            format!("may name at most {ACCESS_ENTRIES_MAX} users"),
        ));
    }
    let (mut users, mut errors) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let found = ports.repository.load_user(entry.user).await;
        let found = found.map_err(|error| ports.store_error(error))?;
        let found = found.filter(|found| found.record.instance == instance);
        let named_before = entries[..index].iter().any(|before| before.user == entry.user);
        let wrong = match &found {
            None => Some("this instance has no such user".to_owned()),
            Some(user) => {
                let name = &user.record.name;
                if user.record.deleting {
                    Some(format!("the user \"{name}\" is being deleted"))
                } else if entry.user == owner {
                    Some(format!(
                        "the user \"{name}\" is the owner, who has every right: leave the entry out"
                    ))
                } else if named_before {
                    Some(format!("the user \"{name}\" is named twice"))
                } else {
                    None
                }
            }
        };
        errors.extend(wrong.map(|detail| FieldError::new(format!("/access/{index}/user"), detail)));
        users.extend(found);
    }
    match errors.is_empty() {
        true => Ok(users),
        false => Err(ControlError::Invalid { errors }),
    }
}

/// Whether a database of the instance may be asked to have these. Everything that is wrong with the list, at
/// once. `present`: what it is to have already may stay, whatever its version has come to allow.
async fn allowed_extensions(
    ports: &Ports,
    instance: &InstanceRecord,
    names: &[ExtensionName],
    present: &[ExtensionName],
) -> Result<(), ControlError> {
    if names.len() > EXTENSIONS_MAX {
        return Err(invalid(
            "/extensions",
            format!("may name at most {EXTENSIONS_MAX} extensions"),
        ));
    }
    let version = ports.repository.load_version(instance.spec.version).await;
    let version = version.map_err(|error| ports.store_error(error))?;
    let allowed = version.and_then(|version| version.record.extensions);
    let errors = names.iter().enumerate().filter_map(|(index, name)| {
        let detail = match &allowed {
            _ if names[..index].contains(name) => format!("the extension \"{name}\" is named twice"),
            Some(allowed) if !allowed.contains(name) && !present.contains(name) => format!(
                "the extension \"{name}\" is not allowed by the instance's version, which allows {}",
                listed(allowed)
            ),
            _ => return None,
        };
        Some(FieldError::new(format!("/extensions/{index}"), detail))
    });
    let errors: Vec<_> = errors.collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ControlError::Invalid { errors }),
    }
}

/// Extensions, for people.
fn listed(names: &[ExtensionName]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names
            .iter()
            .map(ExtensionName::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// An access list, for people.
fn told(users: &[Versioned<UserRecord>], entries: &[AccessEntry]) -> String {
    let each = users.iter().zip(entries);
    let all: Vec<String> = each
        .map(|(user, entry)| format!("\"{}\" {}", user.record.name, entry.level))
        .collect();
    match all.is_empty() {
        true => "its owner's alone".to_owned(),
        false => all.join(", "),
    }
}

struct NewDatabase {
    instance: InstanceId,
    request: CreateDatabase,
}

impl Creation for NewDatabase {
    type Record = DatabaseRecord;

    fn scope(&self) -> String {
        format!("database/{}", self.instance)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(DatabaseRecord, Change), ControlError> {
        let repository = &ports.repository;
        let instance = repository
            .load_instance(self.instance)
            .await
            .map_err(|error| ports.store_error(error))?;
        let instance = instance.ok_or_else(|| instance_not_found(self.instance))?;
        refuse_deleted(&instance.record)?;
        refuse_dropped(&instance.record, id, "database")?;
        let owner = owner_of(ports, self.instance, self.request.owner).await?;
        let entries = &self.request.access;
        let users = users_with_access(ports, self.instance, self.request.owner, entries).await?;
        allowed_extensions(ports, &instance.record, &self.request.extensions, &[]).await?;
        let count = repository
            .count::<DatabaseRecord>(self.instance.uuid(), DATABASES_PER_INSTANCE_MAX)
            .await;
        if count.map_err(|error| ports.store_error(error))? >= DATABASES_PER_INSTANCE_MAX {
            let detail = format!("an instance has at most {DATABASES_PER_INSTANCE_MAX} databases");
            return Err(ControlError::LimitReached { detail });
        }
        let now = ports.now();
        let record = DatabaseRecord {
            id: DatabaseId::from_uuid(id),
            instance: self.instance,
            name: self.request.name.clone(),
            description: self.request.description.clone(),
            owner: owner.record.id,
            former_owners: Vec::new(),
            access: Access {
                entries: entries.clone(),
                taken_back: Vec::new(),
            },
            extensions: Extensions::of(&self.request.extensions),
            repair: Default::default(),
            deletion_protection: self.request.deletion_protection,
            deleting: false,
            adopting: false,
            lost_at: None,
            created_at: now,
            updated_at: now,
            lifecycle: ObjectLifecycle::New,
            reason: ACCEPTED.to_owned(),
            conditions: Conditions::accepted(ACCEPTED, now),
        };
        let message = format!(
            "asked for: database \"{}\" owned by \"{}\"",
            record.name, owner.record.name
        );
        let change = users.iter().fold(change, |change, user| change.require(user));
        let change = change
            .require(&instance)
            .require(&owner)
            .event(self.instance, None, now, "database_create_requested", message)
            .create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.request.id.map(DatabaseId::uuid)
    }

    fn makes(&self, record: &DatabaseRecord) -> bool {
        let request = &self.request;
        !record.deleting
            && record.instance == self.instance
            && (&request.name, &request.description, request.owner)
                == (&record.name, &record.description, record.owner)
            && request.access == record.access.entries
            && request.extensions == record.extensions.names
            && request.deletion_protection == record.deletion_protection
    }

    fn what(&self) -> &'static str {
        "database"
    }

    async fn name_taken(&self, ports: &Ports) -> ControlError {
        let name = self.request.name.to_string();
        let holder = ports
            .repository
            .find::<DatabaseRecord>(&child_name(self.instance, &name))
            .await;
        let what = match holder {
            Ok(Some(holder)) if holder.record.deleting => "database, which is still being deleted",
            _ => "database of the instance",
        };
        ControlError::NameTaken { what, name }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        object_not_found::<DatabaseRecord>(id)
    }

    fn concerns(record: &DatabaseRecord) -> Option<InstanceId> {
        Some(record.instance)
    }
}
