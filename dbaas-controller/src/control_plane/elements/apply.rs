//! Applying a plan: written down when it begins and when it ends.

use std::sync::Arc;

use dbaas_core::id::ProjectId;
use dbaas_core::store::StoreErrorKind;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::carry_out::Apply;
use super::note::Work;
use super::prepare::{Prepared, fingerprint};
use super::removal::remove;
use crate::control_plane::{ControlPlane, invalid};
use crate::elements::locks::ElementLock;
use crate::elements::record::{ElementRecord, ElementStatus, ImportOf};
use crate::elements::work::{self, TRIES, WorkRecord};
use crate::elements::{ApplyOptions, ManifestRequest};
use crate::error::ControlError;
use crate::repository::Change;

/// An element that is about to be changed: written down, and nobody else changes it.
pub(super) struct Begun {
    pub(super) prepared: Prepared,
    pub(super) element: Uuid,
    pub(super) until: Instant,
    /// How often it was gone on with by itself; 0: somebody asked for it.
    pub(super) tries: u32,
    pub(super) lock: ElementLock,
}

impl ControlPlane {
    /// Writes down that the element is about to be applied.
    pub(super) async fn begin(
        &self,
        request: ManifestRequest,
        options: ApplyOptions,
    ) -> Result<Begun, ControlError> {
        // Planned twice: the first plan tells the name, and the second one is made when nobody else changes
        // the element.
        let name = self
            .prepare(request.clone(), options.destroy)
            .await?
            .manifest
            .name;
        let lock = self.take_element(request.project, &name, None).await?;
        let prepared = self.prepare(request, options.destroy).await?;
        let element = self.write_begun(&prepared, &options, 0).await?;
        Ok(Begun {
            prepared,
            element,
            until: Instant::now() + options.timeout,
            tries: 0,
            lock,
        })
    }

    pub(super) async fn take_element(
        &self,
        project: ProjectId,
        name: &str,
        yields: Option<Arc<Notify>>,
    ) -> Result<ElementLock, ControlError> {
        let inner = &self.inner;
        let holder = inner.engine.holder();
        inner
            .elements
            .take(&inner.ports, holder, project, name, yields)
            .await
    }

    pub(super) async fn write_begun(
        &self,
        prepared: &Prepared,
        options: &ApplyOptions,
        tries: u32,
    ) -> Result<Uuid, ControlError> {
        let ports = self.ports();
        let (manifest, now) = (&prepared.manifest, ports.now());
        let fingerprint = fingerprint(&prepared.request);
        if let Some(element) = &prepared.element
            && element.record.status == ElementStatus::Active
            && element.record.fingerprint == fingerprint
            && prepared.plan.is_empty()
        {
            return Ok(element.record.id);
        }
        let before = prepared.element.as_ref();
        let id = match (before, manifest.uuid) {
            (Some(before), Some(pinned)) if pinned != before.record.id => {
                return Err(invalid(
                    "/uuid",
                    format!("the element has the id {}", before.record.id),
                ));
            }
            (Some(before), _) => before.record.id,
            (None, Some(pinned)) => pinned,
            (None, None) => ports.randomness.new_id(now),
        };
        let record = ElementRecord {
            id,
            project: prepared.request.project,
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            version: manifest.version.to_string(),
            manifest: prepared
                .request
                .manifest
                .or(before.and_then(|before| before.record.manifest)),
            fingerprint,
            status: ElementStatus::InProgress,
            reason: match tries {
                0 => "being applied".to_owned(),
                tries => format!("being applied, gone on with after it was cut short ({tries} of {TRIES})"),
            },
            imports: manifest
                .imports
                .iter()
                .map(|(name, import)| {
                    let (element, link) = (import.element.clone(), import.link.clone());
                    (name.clone(), ImportOf { element, link })
                })
                .collect(),
            exports: before
                .map(|before| before.record.exports.clone())
                .unwrap_or_default(),
            needs: prepared.needs(),
            created_at: before.map_or(now, |before| before.record.created_at),
            updated_at: now,
        };
        let (kind, message) = match tries {
            0 => ("apply_begun", format!("applying version {}", record.version)),
            tries => (
                "apply_resumed",
                format!("was cut short; going on by itself, {tries} of {TRIES}"),
            ),
        };
        let work = WorkRecord::apply(ports, id, &prepared.request, options, tries);
        let change = Change::new()
            .note(id, now, kind, message)
            .put_over(&record, before.map(|before| before.version));
        let change = self.with_work(change, id, Work::Begun(work)).await?;
        match ports.repository.commit(change).await {
            Ok(_) => {
                self.hint_element(id);
                Ok(id)
            }
            Err(error) if matches!(error.kind(), StoreErrorKind::Conflict | StoreErrorKind::NameTaken) => {
                Err(ControlError::WrongState {
                    detail: format!(
                        "the element \"{}\" was changed by somebody else just now; try again",
                        record.name
                    ),
                })
            }
            Err(error) => Err(ports.store_error(error)),
        }
    }

    /// Carries out what was begun, and writes down what came of it.
    pub(super) async fn finish(&self, begun: Begun) -> Result<(), ControlError> {
        let result = self.carry_out(&begun).await;
        begun.lock.give_back(self.ports()).await;
        result
    }

    async fn carry_out(&self, begun: &Begun) -> Result<(), ControlError> {
        let Begun {
            prepared,
            element,
            until,
            tries,
            ..
        } = begun;
        if prepared.plan.is_empty()
            && prepared.element.as_ref().is_some_and(|there| {
                there.record.status == ElementStatus::Active
                    && there.record.fingerprint == fingerprint(&prepared.request)
            })
        {
            return Ok(());
        }
        let apply = Apply {
            plane: self,
            manifest: &prepared.manifest,
            world: &prepared.world,
            element: *element,
            project: prepared.request.project,
            members: Mutex::new(prepared.members.clone()),
            until: *until,
        };
        let result = async {
            apply.resources().await?;
            remove(self, &prepared.plan.steps, &prepared.members, *until).await?;
            apply.converged().await
        }
        .await;
        let (status, kind, reason, work) = match &result {
            Ok(()) => (
                ElementStatus::Active,
                "applied",
                "as its manifest says".to_owned(),
                Work::Over,
            ),
            Err(error) if work::goes_on(*tries, error) => {
                let (status, kind) = (ElementStatus::InProgress, "apply_put_off");
                (status, kind, work::put_off(*tries, error), Work::Stays)
            }
            Err(error) => (
                ElementStatus::Error,
                "apply_failed",
                error.to_string(),
                Work::Over,
            ),
        };
        let exports = prepared.exports();
        let write = |record: &mut ElementRecord| {
            record.status = status;
            record.reason = reason.clone();
            if status == ElementStatus::Active {
                record.exports = exports.clone();
            }
        };
        self.write_down(*element, kind, &reason, work, write).await?;
        result
    }
}
