//! What all changes have in common: tries, the version that a caller expects, and the wake-up of the engine.

use std::time::Duration;

use dbaas_core::id::InstanceId;
use dbaas_core::instance::{DesiredState, InstanceRecord};
use dbaas_core::store::{DocumentVersion, StoreError, StoreErrorKind};
use uuid::Uuid;

use super::Inner;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, Record, Versioned};
use crate::request::ResourceRef;

/// A database or a user: what an instance has.
pub(super) trait Object: Record + Clone + PartialEq + Send + Sync {
    /// In words.
    const WHAT: &'static str;

    /// The instance that it is in.
    fn instance(&self) -> InstanceId;

    /// Whether it is to be dropped.
    fn is_deleting(&self) -> bool;

    /// The resource with this id.
    fn resource(id: Uuid) -> ResourceRef;
}

/// What is to be written of an object that was read. The same record again: nothing.
pub(super) type Wanted<R> = (R, Change);

/// Holds a caller to the version that it expects, if any. The engine's writes are no other version: they are
/// documents of their own.
pub(super) fn check<R>(expected: Option<DocumentVersion>, read: &Versioned<R>) -> Result<(), ControlError> {
    match expected {
        Some(expected) if expected != read.version => Err(ControlError::VersionMismatch),
        _ => Ok(()),
    }
}

/// Tries until an attempt is answered; an attempt answers `None` when somebody else wrote what it had read.
pub(super) async fn until_written<T, F>(ports: &Ports, attempt: impl Fn() -> F) -> Result<T, ControlError>
where
    F: Future<Output = Result<Option<T>, ControlError>>,
{
    for number in 0..ports.settings.conflict_tries {
        before_try(ports, number).await;
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
    }
    Err(too_much_contention())
}

/// The answer of an attempt's write: `None` where it lost.
pub(super) fn unless_lost<T>(
    ports: &Ports,
    written: Result<T, StoreError>,
) -> Result<Option<T>, ControlError> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == StoreErrorKind::Conflict => Ok(None),
        Err(error) => Err(ports.store_error(error)),
    }
}

/// Waits before a try: not at all before the first one, then a random time that grows, so that many who lost
/// do not all come back at once.
pub(super) async fn before_try(ports: &Ports, attempt: u32) {
    if attempt == 0 {
        return;
    }
    let longest_ms = 1u64 << attempt.min(6);
    let ms = ports.randomness.below(longest_ms + 1);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Every try lost against somebody else's write.
pub(super) fn too_much_contention() -> ControlError {
    ControlError::Unavailable {
        message: "it is being changed by many at once; try again".to_owned(),
        outcome_unknown: false,
    }
}

/// There is no such object in the instance.
pub(super) fn object_not_found<R: Object>(id: Uuid) -> ControlError {
    ControlError::NotFound {
        what: R::WHAT,
        resource: R::resource(id),
    }
}

impl Inner {
    /// The object, if it is in this instance.
    pub(super) async fn load_object<R: Object>(
        &self,
        instance: InstanceId,
        id: Uuid,
    ) -> Result<Versioned<R>, ControlError> {
        let found = self.ports.repository.load::<R>(id).await;
        found
            .map_err(|error| self.ports.store_error(error))?
            .filter(|found| found.record.instance() == instance)
            .ok_or_else(|| object_not_found::<R>(id))
    }

    /// Changes what is asked of an object: reads it and its instance, lets `decide` change it, writes that,
    /// and wakes the engine. `decide` is called again with what is read then if another write came first.
    /// Nothing is written if the record stays as it is.
    pub(super) async fn change_object<R, F>(
        &self,
        instance: InstanceId,
        id: Uuid,
        expected: Option<DocumentVersion>,
        decide: impl Fn(InstanceRecord, R) -> F,
    ) -> Result<Versioned<R>, ControlError>
    where
        R: Object,
        F: Future<Output = Result<Wanted<R>, ControlError>>,
    {
        let (ports, decide) = (&self.ports, &decide);
        until_written(ports, || async move {
            let of = self.load_changeable_instance(instance).await?;
            let read = self.load_object::<R>(instance, id).await?;
            check(expected, &read)?;
            if read.record.is_deleting() {
                let detail = format!("the {} is being deleted and cannot be changed any more", R::WHAT);
                return Err(ControlError::WrongState { detail });
            }
            let (record, change) = decide(of.record, read.record.clone()).await?;
            if record == read.record {
                return Ok(Some(read));
            }
            let written = unless_lost(ports, ports.repository.ask(change, &record, &read).await)?;
            if written.is_some() {
                self.wake(instance);
            }
            Ok(written)
        })
        .await
    }

    /// Whether the instance is being deleted, with all that it has.
    pub(super) async fn instance_goes(&self, instance: InstanceId) -> Result<bool, ControlError> {
        Ok(self.load_instance(instance).await?.record.desired == DesiredState::Deleted)
    }
}
