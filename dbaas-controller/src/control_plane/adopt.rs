//! Taking over a role or database that the control plane did not make: asked for explicitly, carried out by the planner.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::lifecycle::LifecycleEvent;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::user::UserRecord;

use super::changes::{before_try, check, too_much_contention};
use super::{ControlPlane, Inner};
use crate::error::ControlError;
use crate::repository::{Change, Record};
use crate::request::Versioned;

const ASKED: &str = "accepted; what has its name in PostgreSQL is about to be taken over";

impl ControlPlane {
    /// Takes over the database of this resource's name that the control plane did not make, such as one that somebody restored: from then on it is this
    /// resource's, and is set to what that asks for. Events say what came of it. Where nothing of that name waits to be taken over, nothing is done.
    pub async fn adopt_database(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<DatabaseRecord>, ControlError> {
        let inner = &self.inner;
        for attempt in 0..inner.ports.settings.conflict_tries {
            before_try(&inner.ports, attempt).await;
            inner.load_changeable_instance(instance).await?;
            let read = self.database(instance, id).await?;
            check(expected, &read)?;
            if read.record.deleting {
                return Err(being_deleted("database"));
            }
            let mut record = read.record.clone();
            record.adopting = true;
            if record == read.record {
                return Ok(read);
            }
            record.lifecycle = record.lifecycle.transition(LifecycleEvent::WorkBegan);
            record.reason = ASKED.to_owned();
            let message = format!("asked for: take over database \"{}\"", record.name);
            if let Some(written) = inner.asked_to_adopt(instance, message, &record, &read).await? {
                return Ok(written);
            }
        }
        Err(too_much_contention())
    }

    /// Takes over the role of this user's name that the control plane did not make: from then on it is this user's, with this user's password. A superuser's
    /// is not taken over.
    pub async fn adopt_user(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<Versioned<UserRecord>, ControlError> {
        let inner = &self.inner;
        for attempt in 0..inner.ports.settings.conflict_tries {
            before_try(&inner.ports, attempt).await;
            inner.load_changeable_instance(instance).await?;
            let read = self.user(instance, id).await?;
            check(expected, &read)?;
            if read.record.deleting {
                return Err(being_deleted("user"));
            }
            let mut record = read.record.clone();
            record.adopting = true;
            if record == read.record {
                return Ok(read);
            }
            record.lifecycle = record.lifecycle.transition(LifecycleEvent::WorkBegan);
            record.reason = ASKED.to_owned();
            let message = format!("asked for: take over role \"{}\"", record.name);
            if let Some(written) = inner.asked_to_adopt(instance, message, &record, &read).await? {
                return Ok(written);
            }
        }
        Err(too_much_contention())
    }
}

impl Inner {
    /// Writes the request; `None`: somebody else wrote meanwhile.
    async fn asked_to_adopt<R: Record>(
        &self,
        instance: InstanceId,
        message: String,
        record: &R,
        read: &Versioned<R>,
    ) -> Result<Option<Versioned<R>>, ControlError> {
        let ports = &self.ports;
        let change = Change::new().event(instance, None, ports.now(), "adoption_requested", message);
        match ports.repository.ask(change, record, read).await {
            Ok(written) => {
                self.wake(instance);
                Ok(Some(written))
            }
            Err(error) if error.kind() == StoreErrorKind::Conflict => Ok(None),
            Err(error) => Err(ports.store_error(error)),
        }
    }
}

fn being_deleted(what: &str) -> ControlError {
    ControlError::WrongState {
        detail: format!("the {what} is being deleted and cannot be changed any more"),
    }
}
