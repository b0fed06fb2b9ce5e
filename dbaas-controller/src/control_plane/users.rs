//! Calls about users.

use std::sync::Arc;

use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, UserId};
use dbaas_core::instance::DesiredState;
use dbaas_core::lifecycle::{LifecycleEvent, ObjectLifecycle};
use dbaas_core::limits::USERS_PER_INSTANCE_MAX;
use dbaas_core::password::Password;
use dbaas_core::scram::{SALT_BYTES, ScramVerifier};
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::user::UserRecord;
use rand::RngCore as _;
use uuid::Uuid;

use super::changes::{before_try, check, too_much_contention};
use super::create::{ACCEPTED, Creation};
use super::{ControlPlane, Inner, Ports, instance_not_found, invalid, refuse_deleted, refuse_dropped};
use crate::error::ControlError;
use crate::repository::{Change, child_name};
use crate::request::{CreateUser, IdempotencyKey, Listed, Page, ResourceRef, UpdateUser, Versioned};

impl ControlPlane {
    /// Creates a user. Returns as soon as that is written down; it can log in when the record is ACTIVE.
    pub async fn create_user(
        &self,
        instance: InstanceId,
        request: CreateUser,
        key: Option<IdempotencyKey>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        // An instance that does not exist costs no hashing.
        self.instance(instance).await?;
        let CreateUser {
            id,
            name,
            description,
            password,
            password_version,
        } = request;
        let password = Arc::new(password);
        let mut raced = false;
        loop {
            // With a chosen id the user may be there: the verifier of the same password is then the same.
            let current = self.inner.verifier_of(id).await?;
            let verifier = self
                .inner
                .ports
                .new_verifier(Arc::clone(&password), current.clone())
                .await?;
            let now = self.inner.ports.now();
            let template = UserRecord {
                id: id.unwrap_or(UserId::from_uuid(Uuid::nil())),
                instance,
                name: name.clone(),
                description: description.clone(),
                verifier,
                password_version,
                repair: Default::default(),
                deleting: false,
                adopting: false,
                created_at: now,
                updated_at: now,
                lifecycle: ObjectLifecycle::New,
                reason: ACCEPTED.to_owned(),
                conditions: Conditions::accepted(ACCEPTED, now),
            };
            let new = NewUser {
                template,
                chosen: id.is_some(),
            };
            match self.inner.create(new, key.clone()).await {
                // The same call may have made it between the look and the write.
                Err(ControlError::IdTaken { .. }) if current.is_none() && !raced => raced = true,
                answer => return answer,
            }
        }
    }

    /// One user of an instance.
    pub async fn user(
        &self,
        instance: InstanceId,
        id: UserId,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        self.inner.load_user(instance, id).await
    }

    /// The users of an instance, in order of creation.
    pub async fn users(
        &self,
        instance: InstanceId,
        page: Page<UserId>,
    ) -> Result<Listed<UserRecord, UserId>, ControlError> {
        self.instance(instance).await?;
        let after = page.after.map(UserId::uuid);
        self.inner
            .listed(Some(instance.uuid()), after, page.limit, |record: &UserRecord| {
                record.id
            })
            .await
    }

    /// Changes a user; what the update leaves out stays. Nothing is written if nothing changes, also if the password is the
    /// one that it has.
    pub async fn update_user(
        &self,
        instance: InstanceId,
        id: UserId,
        update: UpdateUser,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        self.inner.update_user(instance, id, update, expected).await
    }

    /// Asks for what keeps a user from logging in to be put back; see the record's [`repair`](UserRecord::repair) for what came of it. Asking
    /// again while that is under way changes nothing.
    pub async fn repair_user_access(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        self.inner.repair_user_access(instance, id, expected).await
    }

    /// Drops a user. Refused while it owns databases, or is in the access list of one. Returns as soon as that is written down, and also when it was before;
    /// [`ControlError::NotFound`] when it is gone.
    pub async fn delete_user(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_user(instance, id, expected).await
    }
}

impl Ports {
    /// What PostgreSQL checks the password against: `current` if that is of the same password. Off the runtime's threads,
    /// since it takes milliseconds.
    async fn new_verifier(
        &self,
        password: Arc<Password>,
        current: Option<ScramVerifier>,
    ) -> Result<ScramVerifier, ControlError> {
        let iterations = self.settings.scram_iterations;
        let hash = move || match current {
            Some(current) if current.verify(&password) => current,
            _ => {
                let mut salt = [0u8; SALT_BYTES];
                rand::rng().fill_bytes(&mut salt);
                ScramVerifier::derive(&password, salt, iterations)
            }
        };
        let hashed = self.randomness.compute(hash).await;
        hashed.map_err(|_| ControlError::internal("hashing a password was cut short", self.now()))
    }
}

impl Inner {
    async fn verifier_of(&self, id: Option<UserId>) -> Result<Option<ScramVerifier>, ControlError> {
        let Some(id) = id else { return Ok(None) };
        let found = self.ports.repository.load_user(id).await;
        let found = found.map_err(|error| self.ports.store_error(error))?;
        Ok(found.map(|found| found.record.verifier))
    }

    async fn load_user(
        &self,
        instance: InstanceId,
        id: UserId,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        let found = self.ports.repository.load_user(id).await;
        found
            .map_err(|error| self.ports.store_error(error))?
            .filter(|found| found.record.instance == instance)
            .ok_or_else(|| not_found(id))
    }

    async fn update_user(
        &self,
        instance: InstanceId,
        id: UserId,
        update: UpdateUser,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        let ports = &self.ports;
        let password = update.password.map(Arc::new);
        // What the password was hashed to, and which verifier it was compared with.
        let mut hashed: Option<(ScramVerifier, ScramVerifier)> = None;
        for attempt in 0..ports.settings.conflict_tries {
            before_try(&self.ports, attempt).await;
            self.load_changeable_instance(instance).await?;
            let read = self.load_user(instance, id).await?;
            check(expected, &read)?;
            if read.record.deleting {
                return Err(being_deleted());
            }
            let now = ports.now();
            let mut record = read.record.clone();
            let mut change = Change::new();
            if let Some(description) = &update.description {
                record.description = description.clone();
            }
            if let Some(password) = &password {
                let current = &read.record.verifier;
                record.verifier = match &hashed {
                    Some((compared, verifier)) if compared == current => verifier.clone(),
                    _ => {
                        ports
                            .new_verifier(password.clone(), Some(current.clone()))
                            .await?
                    }
                };
                hashed = Some((current.clone(), record.verifier.clone()));
                if record.verifier != *current {
                    record.password_version = read.record.password_version.next();
                    record.lifecycle = record.lifecycle.transition(LifecycleEvent::WorkBegan);
                    record.reason = "accepted; its new password is about to be set".to_owned();
                    let message = format!("asked for: a new password of user \"{}\"", record.name);
                    change = change.event(instance, None, now, "user_update_requested", message);
                }
            }
            if let Some(version) = update.password_version {
                let present = read.record.password_version;
                if password.is_none() && version != present {
                    let rule = format!("is {present} at present; another one goes with a password");
                    return Err(invalid("/password_version", rule));
                }
                record.password_version = version;
            }
            if record == read.record {
                return Ok(read);
            }
            record.updated_at = now;
            match ports.repository.ask(change, &record, &read).await {
                Ok(written) => {
                    self.wake(instance);
                    return Ok(written);
                }
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                Err(error) => return Err(ports.store_error(error)),
            }
        }
        Err(too_much_contention())
    }

    async fn repair_user_access(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        let ports = &self.ports;
        for attempt in 0..ports.settings.conflict_tries {
            before_try(&self.ports, attempt).await;
            self.load_changeable_instance(instance).await?;
            let read = self.load_user(instance, id).await?;
            check(expected, &read)?;
            if read.record.deleting {
                return Err(being_deleted());
            }
            let now = ports.now();
            let mut record = read.record.clone();
            record.repair.request(now);
            if record == read.record {
                return Ok(read);
            }
            let message = format!("asked for: repair the access of user \"{}\"", record.name);
            let change = Change::new().event(instance, None, now, "repair_access_requested", message);
            match ports.repository.ask(change, &record, &read).await {
                Ok(written) => {
                    self.wake(instance);
                    return Ok(written);
                }
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                Err(error) => return Err(ports.store_error(error)),
            }
        }
        Err(too_much_contention())
    }

    async fn delete_user(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let ports = &self.ports;
        for attempt in 0..ports.settings.conflict_tries {
            before_try(&self.ports, attempt).await;
            let read = self.load_user(instance, id).await?;
            let instance_goes = self.load_instance(instance).await?.record.desired == DesiredState::Deleted;
            if read.record.deleting || instance_goes {
                return Ok(());
            }
            check(expected, &read)?;
            let now = ports.now();
            let mut record = read.record.clone();
            record.deleting = true;
            record.updated_at = now;
            record.lifecycle = record.lifecycle.transition(LifecycleEvent::WorkBegan);
            record.reason = "accepted; it is about to be dropped".to_owned();
            let message = format!("asked for: drop user \"{}\"", record.name);
            // Databases refer to their owner, and a new one requires its owner unchanged: whichever of the two calls comes
            // second is refused.
            let change = Change::new()
                .event(instance, None, now, "user_delete_requested", message)
                .require_unreferenced(id.uuid());
            match ports.repository.ask(change, &record, &read).await {
                Ok(_) => {
                    self.wake(instance);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    StoreErrorKind::Conflict => {}
                    StoreErrorKind::Referenced => {
                        return Err(owns_databases(ports, &record, &error.referrers).await);
                    }
                    _ => return Err(ports.store_error(error)),
                },
            }
        }
        Err(too_much_contention())
    }
}

/// Names the databases that keep a user from being deleted.
async fn owns_databases(ports: &Ports, user: &UserRecord, referrers: &[Uuid]) -> ControlError {
    let (mut kept, mut going, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for id in referrers {
        // Gone in the meantime, or not readable now: then it is not named.
        if let Ok(Some(database)) = ports.repository.load::<DatabaseRecord>(*id).await {
            let names = if database.record.deleting {
                &mut going
            } else if database.record.owner == user.id {
                &mut kept
            } else {
                &mut open
            };
            names.push(format!("\"{}\"", database.record.name));
        }
    }
    let name = &user.name;
    if !open.is_empty() {
        let open = open.join(", ");
        let owned = match kept.as_slice() {
            [] => String::new(),
            kept => format!(" It owns databases, too: {}.", kept.join(", ")),
        };
        let detail = format!(
            "the user \"{name}\" is in the access list of databases: {open}; take it out of them first.{owned}"
        );
        return ControlError::InUse { detail };
    }
    let detail = match (kept.as_slice(), going.as_slice()) {
        ([], []) => format!("the user \"{name}\" owned databases a moment ago; try again"),
        ([], going) => {
            let going = going.join(", ");
            format!(
                "the user \"{name}\" owns databases that are still being deleted: {going}; try again when they are gone"
            )
        }
        (kept, going) => {
            let all = [kept, going].concat().join(", ");
            format!("the user \"{name}\" owns databases: {all}; delete them or give them another owner first")
        }
    };
    ControlError::InUse { detail }
}

struct NewUser {
    /// All but the id, unless that was chosen.
    template: UserRecord,
    /// Whether the id was chosen by the caller.
    chosen: bool,
}

impl Creation for NewUser {
    type Record = UserRecord;

    fn scope(&self) -> String {
        format!("user/{}", self.template.instance)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(UserRecord, Change), ControlError> {
        let repository = &ports.repository;
        let instance_id = self.template.instance;
        let instance = repository
            .load_instance(instance_id)
            .await
            .map_err(|error| ports.store_error(error))?;
        let instance = instance.ok_or_else(|| instance_not_found(instance_id))?;
        refuse_deleted(&instance.record)?;
        refuse_dropped(&instance.record, id, "user")?;
        let count = repository
            .count::<UserRecord>(instance_id.uuid(), USERS_PER_INSTANCE_MAX)
            .await;
        if count.map_err(|error| ports.store_error(error))? >= USERS_PER_INSTANCE_MAX {
            let detail = format!("an instance has at most {USERS_PER_INSTANCE_MAX} users");
            return Err(ControlError::LimitReached { detail });
        }
        let now = ports.now();
        let mut record = self.template.clone();
        record.id = UserId::from_uuid(id);
        record.created_at = now;
        record.conditions = Conditions::accepted(ACCEPTED, now);
        record.updated_at = now;
        let message = format!("asked for: user \"{}\"", record.name);
        let change = change
            .require(&instance)
            .event(instance_id, None, now, "user_create_requested", message)
            .create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.chosen.then_some(self.template.id.uuid())
    }

    fn makes(&self, record: &UserRecord) -> bool {
        let template = &self.template;
        !record.deleting
            && (
                template.instance,
                &template.name,
                &template.description,
                &template.verifier,
                template.password_version,
            ) == (
                record.instance,
                &record.name,
                &record.description,
                &record.verifier,
                record.password_version,
            )
    }

    fn what(&self) -> &'static str {
        "user"
    }

    async fn name_taken(&self, ports: &Ports) -> ControlError {
        let name = self.template.name.to_string();
        let holder = ports
            .repository
            .find::<UserRecord>(&child_name(self.template.instance, &name))
            .await;
        let what = match holder {
            Ok(Some(holder)) if holder.record.deleting => "user, which is still being deleted",
            _ => "user of the instance",
        };
        ControlError::NameTaken { what, name }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        not_found(UserId::from_uuid(id))
    }

    fn concerns(record: &UserRecord) -> Option<InstanceId> {
        Some(record.instance)
    }
}

fn not_found(id: UserId) -> ControlError {
    ControlError::NotFound {
        what: "user",
        resource: ResourceRef::User(id),
    }
}

fn being_deleted() -> ControlError {
    ControlError::WrongState {
        detail: "the user is being deleted and cannot be changed any more".to_owned(),
    }
}
