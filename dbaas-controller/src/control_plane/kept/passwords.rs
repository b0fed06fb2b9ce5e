//! Calls about passwords.

use dbaas_core::id::{InstanceId, ProjectId, UserId};
use dbaas_core::password::Password;
use dbaas_core::secret::Secret;
use dbaas_core::store::DocumentVersion;
use dbaas_core::user::UserRecord;
use dbaas_manifest::limits::PASSWORD_LENGTH;
use uuid::Uuid;

use super::kept_not_found;
use crate::control_plane::create::Creation;
use crate::control_plane::{ControlPlane, invalid};
use crate::elements::facts::opened;
use crate::elements::record::{Method, PasswordRecord};
use crate::elements::secret;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::Change;
use crate::request::{CreatePassword, Listed, Page, UpdatePassword};
use crate::view::StoredPassword;

impl ControlPlane {
    /// Creates a password; its value is made at once.
    pub async fn create_password(&self, mut request: CreatePassword) -> Result<StoredPassword, ControlError> {
        check(request.method, request.length, request.value.as_ref())?;
        let ports = std::sync::Arc::clone(&self.inner.ports);
        let key = request.idempotency_key.take();
        let made = self.inner.create(NewPassword { request, ports }, key).await;
        made.map(StoredPassword::of)
    }

    /// One password, without its value.
    pub async fn password(&self, id: Uuid) -> Result<StoredPassword, ControlError> {
        self.inner.load_kept(id).await.map(StoredPassword::of)
    }

    /// The passwords of a project, or of all, without their values.
    pub async fn passwords(
        &self,
        project: Option<ProjectId>,
        page: Page<Uuid>,
    ) -> Result<Listed<StoredPassword, Uuid>, ControlError> {
        let listed = self.inner.list_kept(project.map(ProjectId::uuid), page).await?;
        Ok(listed.map(StoredPassword::of))
    }

    /// Changes a password. A new value is made only when the method, the length or the rotation changes.
    pub async fn update_password(
        &self,
        id: Uuid,
        update: UpdatePassword,
    ) -> Result<StoredPassword, ControlError> {
        let ports = &self.inner.ports;
        let apply = |record: &mut PasswordRecord| {
            let before = record.clone();
            record.name = update.name.clone().unwrap_or(before.name.clone());
            record.description = update.description.clone().unwrap_or(before.description.clone());
            record.method = update.method.unwrap_or(before.method);
            record.length = update.length.unwrap_or(before.length);
            record.rotation = update.rotation.unwrap_or(before.rotation);
            let is_same = |a: &PasswordRecord| (a.method, a.length, a.rotation);
            if record.method == Method::Manual {
                if update.value.is_none() && before.method != Method::Manual {
                    return Err(invalid("/value", "method MANUAL needs a value"));
                }
                check(
                    record.method,
                    record.length,
                    update.value.as_ref().or(Some(&Secret::new(""))),
                )?;
                if let Some(value) = &update.value
                    && opened(ports, id, &before.sealed)? != *value
                {
                    record.sealed = secret::seal(ports.sealer.as_ref(), id, value.expose());
                }
            } else {
                check(record.method, record.length, update.value.as_ref())?;
                if is_same(record) != is_same(&before) {
                    let value = secret::generate(record.method, length(record.length));
                    record.sealed = secret::seal(ports.sealer.as_ref(), id, value.expose());
                }
            }
            if *record != before {
                record.updated_at = ports.now();
            }
            Ok(())
        };
        let written = self.inner.update_kept(id, update.expected, apply).await;
        written.map(StoredPassword::of)
    }

    /// Removes a password. Users who have it keep it.
    pub async fn delete_password(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_kept::<PasswordRecord>(id, expected).await
    }

    /// The value of a password. That it was read, and by whom, is written to the event log first.
    pub async fn password_value(&self, id: Uuid, by: &str) -> Result<Secret, ControlError> {
        let read = self.inner.load_kept::<PasswordRecord>(id).await?;
        let ports = &self.inner.ports;
        let message = format!(
            "the value of the password \"{}\" was read by {by}",
            read.record.name
        );
        let change = Change::new().note(id, ports.now(), "password_value_read", message);
        ports
            .repository
            .commit(change)
            .await
            .map_err(|error| ports.store_error(error))?;
        opened(ports, id, &read.record.sealed)
    }

    /// Whether a user has this password.
    pub(crate) async fn has_password(&self, user: UserId, password: Password) -> Result<bool, ControlError> {
        let ports = &self.inner.ports;
        let found = ports.repository.load::<UserRecord>(user.uuid()).await;
        let Some(found) = found.map_err(|error| ports.store_error(error))? else {
            return Ok(false);
        };
        let verifier = found.record.verifier;
        let verified = ports.randomness.compute(move || verifier.verify(&password)).await;
        verified.map_err(|_| ControlError::internal("verifying a password was cut short", ports.now()))
    }
}

/// A value is given with [`Method::Manual`], and only then.
fn check(method: Method, length: u64, value: Option<&Secret>) -> Result<(), ControlError> {
    if !PASSWORD_LENGTH.contains(&length) {
        let (least, most) = (PASSWORD_LENGTH.start(), PASSWORD_LENGTH.end());
        return Err(invalid(
            "/default_length",
            format!("must be between {least} and {most}"),
        ));
    }
    match (method, value) {
        (Method::Manual, None) => Err(invalid("/value", "method MANUAL needs a value")),
        (Method::AutoHex | Method::AutoUrlSafe, Some(_)) => {
            Err(invalid("/value", "a value is given with method MANUAL only"))
        }
        _ => Ok(()),
    }
}

fn length(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX).min(4_096)
}

struct NewPassword {
    request: CreatePassword,
    ports: std::sync::Arc<Ports>,
}

impl Creation for NewPassword {
    type Record = PasswordRecord;

    fn scope(&self) -> String {
        format!("password/{}", self.request.project)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(PasswordRecord, Change), ControlError> {
        let request = &self.request;
        let value = match &request.value {
            Some(value) => value.clone(),
            None => secret::generate(request.method, length(request.length)),
        };
        let now = ports.now();
        let record = PasswordRecord {
            id,
            project: request.project,
            name: request.name.clone(),
            description: request.description.clone(),
            method: request.method,
            length: request.length,
            rotation: request.rotation,
            sealed: secret::seal(ports.sealer.as_ref(), id, value.expose()),
            created_at: now,
            updated_at: now,
        };
        let change = change.create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.request.id
    }

    fn makes(&self, record: &PasswordRecord) -> bool {
        let request = &self.request;
        let same_value = match &request.value {
            None => true,
            Some(value) => opened(&self.ports, record.id, &record.sealed).is_ok_and(|there| there == *value),
        };
        same_value
            && (&request.name, &request.description, request.project)
                == (&record.name, &record.description, record.project)
            && (request.method, request.length, request.rotation)
                == (record.method, record.length, record.rotation)
    }

    fn what(&self) -> &'static str {
        "password"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        // Names of passwords are not unique.
        ControlError::NameTaken {
            what: "password",
            name: self.request.name.to_string(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        kept_not_found::<PasswordRecord>(id)
    }

    fn concerns(_: &PasswordRecord) -> Option<InstanceId> {
        None
    }
}
