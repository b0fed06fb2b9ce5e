//! Uninstalling an element: everything that it made goes, and then the element.

use std::collections::BTreeMap;
use std::time::Duration;

use dbaas_core::store::StoreErrorKind;
use dbaas_manifest::collection::Key;
use dbaas_manifest::plan::{self, Action};
use tokio::time::Instant;
use uuid::Uuid;

use super::note::Work;
use super::removal::remove;
use crate::control_plane::ControlPlane;
use crate::elements::ApplyOptions;
use crate::elements::facts::{World, look};
use crate::elements::locks::ElementLock;
use crate::elements::record::{ElementRecord, ElementStatus, MemberRecord};
use crate::elements::work::{self, TRIES, WorkRecord};
use crate::error::ControlError;
use crate::repository::Change;

/// An element that is about to go.
pub(super) struct Removal {
    id: Uuid,
    steps: Vec<plan::Step>,
    members: BTreeMap<Key, MemberRecord>,
    until: Instant,
    /// How often it was gone on with by itself; 0: somebody asked for it.
    tries: u32,
    lock: ElementLock,
}

impl ControlPlane {
    pub(super) async fn begin_removal(
        &self,
        id: Uuid,
        options: ApplyOptions,
    ) -> Result<Removal, ControlError> {
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        let lock = self
            .take_element(read.record.project, &read.record.name, None)
            .await?;
        self.write_removal_begun(id, options, 0, lock).await
    }

    pub(super) async fn write_removal_begun(
        &self,
        id: Uuid,
        options: ApplyOptions,
        tries: u32,
        lock: ElementLock,
    ) -> Result<Removal, ControlError> {
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        self.refuse_needed(&read.record).await?;
        let members = self.members(id).await?;
        let world = World::default();
        for (key, member) in &members {
            if let Some(actual) = look(self.ports(), key.collection, member.resource).await? {
                world.actual.write().insert(key.clone(), actual);
            }
        }
        let currents = world.currents(&members);
        let left = currents.iter().collect();
        let mut steps = plan::removals(&left, options.destroy);
        let stays: Vec<String> = steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Retain { why } => Some(format!("{} ({why})", step.key)),
                _ => None,
            })
            .collect();
        if !stays.is_empty() {
            let detail = format!(
                "nothing was done, since something would stay: {}",
                stays.join("; ")
            );
            return Err(ControlError::InUse { detail });
        }
        let gone = members.keys().filter(|key| !currents.contains_key(key));
        steps.extend(gone.map(|key| plan::Step {
            key: key.clone(),
            action: Action::Delete,
        }));
        let (kind, reason) = match tries {
            0 => ("uninstall_begun", "being uninstalled".to_owned()),
            tries => (
                "uninstall_resumed",
                format!("being uninstalled, gone on with after it was cut short ({tries} of {TRIES})"),
            ),
        };
        let write = |record: &mut ElementRecord| {
            record.status = ElementStatus::InProgress;
            record.reason = reason.clone();
        };
        let work = WorkRecord::uninstall(self.ports(), id, &options, tries);
        self.write_down(id, kind, &reason, Work::Begun(Some(work)), write)
            .await?;
        Ok(Removal {
            id,
            steps,
            members,
            until: Instant::now() + options.timeout.max(Duration::from_secs(1)),
            tries,
            lock,
        })
    }

    pub(super) async fn finish_removal(&self, removal: Removal) -> Result<(), ControlError> {
        let result = self.carry_removal_out(&removal).await;
        removal.lock.give_back(self.ports()).await;
        result
    }

    async fn carry_removal_out(&self, removal: &Removal) -> Result<(), ControlError> {
        let id = removal.id;
        if let Err(error) = remove(self, &removal.steps, &removal.members, removal.until).await {
            let (status, kind, reason, work) = match work::goes_on(removal.tries, &error) {
                true => (
                    ElementStatus::InProgress,
                    "uninstall_put_off",
                    work::put_off(removal.tries, &error),
                    Work::Stays,
                ),
                false => (
                    ElementStatus::Error,
                    "uninstall_failed",
                    format!("not uninstalled: {error}"),
                    Work::Over,
                ),
            };
            let write = |record: &mut ElementRecord| {
                record.status = status;
                record.reason = reason.clone();
            };
            self.write_down(id, kind, &reason, work, write).await?;
            return Err(error);
        }
        let read = self.inner.load_kept::<ElementRecord>(id).await?;
        let ports = self.ports();
        let change = Change::new().delete(&read).require_unreferenced(id).note(
            id,
            ports.now(),
            "uninstalled",
            "everything that it made is gone",
        );
        let change = self.with_work(change, id, Work::Over).await?;
        let result = ports.repository.commit(change).await;
        self.hint_element(id);
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == StoreErrorKind::Referenced => {
                self.refuse_needed(&read.record).await?;
                Err(ports.store_error(error))
            }
            Err(error) => Err(ports.store_error(error)),
        }
    }

    /// An element stays while another one requires it or imports from it.
    async fn refuse_needed(&self, element: &ElementRecord) -> Result<(), ControlError> {
        let ports = self.ports();
        let all = ports
            .repository
            .all::<ElementRecord>(Some(element.project.uuid()))
            .await;
        let names: Vec<String> = all
            .map_err(|error| ports.store_error(error))?
            .into_iter()
            .filter(|other| other.record.needs.contains(&element.id))
            .map(|other| format!("\"{}\"", other.record.name))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "\"{}\" is required or imported by {}; uninstall those first",
            element.name,
            names.join(", ")
        );
        Err(ControlError::InUse { detail })
    }
}
