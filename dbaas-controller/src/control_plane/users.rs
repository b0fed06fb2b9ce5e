//! Calls about users.

use std::sync::Arc;

use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, UserId};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::limits::USERS_PER_INSTANCE_MAX;
use dbaas_core::name::Description;
use dbaas_core::password::Password;
use dbaas_core::scram::{SALT_BYTES, ScramVerifier};
use dbaas_core::size::PasswordVersion;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::user::UserRecord;
use parking_lot::Mutex;
use rand::RngCore as _;
use uuid::Uuid;

use super::changes::{Object, Wanted, check, object_not_found, unless_lost, until_written};
use super::create::{ACCEPTED, Creation};
use super::{ControlPlane, Inner, instance_not_found, invalid, refuse_deleted, refuse_dropped};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, child_name};
use crate::request::{CreateUser, Listed, Page, ResourceRef, UpdateUser};
use crate::view::User;

impl Object for UserRecord {
    const WHAT: &'static str = "user";

    fn instance(&self) -> InstanceId {
        self.instance
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }

    fn resource(id: Uuid) -> ResourceRef {
        ResourceRef::User(UserId::from_uuid(id))
    }
}

impl ControlPlane {
    /// Creates a user. Returns as soon as that is written down; it can log in when it is ACTIVE.
    pub async fn create_user(&self, instance: InstanceId, request: CreateUser) -> Result<User, ControlError> {
        let inner = &self.inner;
        // An instance that does not exist costs no hashing.
        inner.load_instance(instance).await?;
        let CreateUser {
            id,
            name,
            description,
            password,
            password_version,
            idempotency_key,
        } = request;
        let password = Arc::new(password);
        let mut raced = false;
        loop {
            // With a chosen id the user may be there: the verifier of the same password is then the same.
            let current = inner.verifier_of(id).await?;
            let verifier = inner
                .ports
                .new_verifier(Arc::clone(&password), current.clone())
                .await?;
            let now = inner.ports.now();
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
            match inner.create(new, idempotency_key.clone()).await {
                // The same call may have made it between the look and the write.
                Err(ControlError::IdTaken { .. }) if current.is_none() && !raced => raced = true,
                answer => return answer.map(User::of),
            }
        }
    }

    /// One user of an instance.
    pub async fn user(&self, instance: InstanceId, id: UserId) -> Result<User, ControlError> {
        self.inner.load_object(instance, id.uuid()).await.map(User::of)
    }

    /// The users of an instance, in order of creation.
    pub async fn users(
        &self,
        instance: InstanceId,
        page: Page<UserId>,
    ) -> Result<Listed<User, UserId>, ControlError> {
        let inner = &self.inner;
        inner.load_instance(instance).await?;
        let (parent, after) = (Some(instance.uuid()), page.after.map(UserId::uuid));
        let id = |record: &UserRecord| record.id;
        let listed = inner.listed(parent, after, page.limit, id).await?;
        Ok(listed.map(User::of))
    }

    /// Changes a user; what the update leaves out stays. Nothing is written if nothing changes, also if the
    /// password is the one that it has.
    pub async fn update_user(
        &self,
        instance: InstanceId,
        id: UserId,
        update: UpdateUser,
    ) -> Result<User, ControlError> {
        let (inner, ports) = (&self.inner, self.ports());
        let update = &Update {
            description: update.description,
            password: update.password.map(Arc::new),
            password_version: update.password_version,
            expected: update.expected,
            hashed: Mutex::default(),
        };
        let decide = |_, record| update.carried_out(ports, record);
        let written = inner
            .change_object(instance, id.uuid(), update.expected, decide)
            .await;
        written.map(User::of)
    }

    /// Asks for what keeps a user from logging in to be put back; see [`repair`](User::repair) for what came
    /// of it. Asking again while that is under way changes nothing.
    pub async fn repair_user_access(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<User, ControlError> {
        let ports = self.ports();
        let repair = |_, mut record: UserRecord| async move {
            let now = ports.now();
            record.repair.request(now);
            let message = format!("asked for: repair the access of user \"{}\"", record.name);
            let change = Change::new().event(instance, None, now, "repair_access_requested", message);
            Ok((record, change))
        };
        let inner = &self.inner;
        let written = inner.change_object(instance, id.uuid(), expected, repair).await;
        written.map(User::of)
    }

    /// Drops a user. Refused while it owns databases, or is in the access list of one. Returns as soon as
    /// that is written down, and also when it was before; [`ControlError::NotFound`] when it is gone.
    pub async fn delete_user(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let (inner, ports) = (&self.inner, self.ports());
        until_written(ports, || async move {
            let read = inner.load_object::<UserRecord>(instance, id.uuid()).await?;
            if read.record.deleting || inner.instance_goes(instance).await? {
                return Ok(Some(()));
            }
            check(expected, &read)?;
            let now = ports.now();
            let mut record = read.record.clone();
            record.deleting = true;
            record.updated_at = now;
            record.accept("accepted; it is about to be dropped", now);
            let message = format!("asked for: drop user \"{}\"", record.name);
            // Databases refer to their owner, and a new one requires its owner unchanged: whichever of the
            // two calls comes second is refused.
            let change = Change::new()
                .event(instance, None, now, "user_delete_requested", message)
                .require_unreferenced(id.uuid());
            match ports.repository.ask(change, &record, &read).await {
                Err(error) if error.kind() == StoreErrorKind::Referenced => {
                    Err(owns_databases(ports, &record, &error.referrers).await)
                }
                written => Ok(unless_lost(ports, written)?.map(|_| inner.wake(instance))),
            }
        })
        .await
    }
}

/// An update under way.
struct Update {
    description: Option<Description>,
    password: Option<Arc<Password>>,
    password_version: Option<PasswordVersion>,
    expected: Option<DocumentVersion>,
    /// Which verifier the password was compared with, and what it was hashed to: hashing takes milliseconds.
    hashed: Mutex<Option<(ScramVerifier, ScramVerifier)>>,
}

impl Update {
    /// The user with the changes.
    async fn carried_out(&self, ports: &Ports, read: UserRecord) -> Result<Wanted<UserRecord>, ControlError> {
        let (now, instance) = (ports.now(), read.instance);
        let mut record = read.clone();
        let mut change = Change::new();
        if let Some(description) = &self.description {
            record.description = description.clone();
        }
        if let Some(password) = &self.password {
            record.verifier = self.verifier(ports, password, &read.verifier).await?;
            if record.verifier != read.verifier {
                record.password_version = read.password_version.next();
                record.accept("accepted; its new password is about to be set", now);
                let message = format!("asked for: a new password of user \"{}\"", record.name);
                change = change.event(instance, None, now, "user_update_requested", message);
            }
        }
        if let Some(version) = self.password_version {
            let present = read.password_version;
            if self.password.is_none() && version != present {
                let rule = format!("is {present} at present; another one goes with a password");
                return Err(invalid("/password_version", rule));
            }
            record.password_version = version;
        }
        if record != read {
            record.updated_at = now;
        }
        Ok((record, change))
    }

    async fn verifier(
        &self,
        ports: &Ports,
        password: &Arc<Password>,
        current: &ScramVerifier,
    ) -> Result<ScramVerifier, ControlError> {
        let known = self.hashed.lock().clone();
        if let Some((compared, verifier)) = known
            && compared == *current
        {
            return Ok(verifier);
        }
        let verifier = ports
            .new_verifier(Arc::clone(password), Some(current.clone()))
            .await?;
        *self.hashed.lock() = Some((current.clone(), verifier.clone()));
        Ok(verifier)
    }
}

impl Ports {
    /// What PostgreSQL checks the password against: `current` if that is of the same password. Off the
    /// runtime's threads, since it takes milliseconds.
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
        object_not_found::<UserRecord>(id)
    }

    fn concerns(record: &UserRecord) -> Option<InstanceId> {
        Some(record.instance)
    }
}
