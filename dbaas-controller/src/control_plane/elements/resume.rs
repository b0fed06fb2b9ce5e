//! Changes of elements that were cut short: the control plane that acts goes on with them, a bounded number
//! of times.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::apply::Begun;
use super::note::Work;
use crate::control_plane::{ControlPlane, Inner};
use crate::elements::locks::ElementLock;
use crate::elements::record::{ElementRecord, ElementStatus};
use crate::elements::work::{TRIES, WorkRecord};
use crate::error::ControlError;

/// How often this control plane looks whether it acts.
const LOOK: Duration = Duration::from_millis(500);
/// How often one that acts looks for changes that were cut short. Also at once when it begins to act.
const SEARCH: Duration = Duration::from_secs(5);
/// So many are gone on with at the same time.
const PARALLEL: usize = 4;

/// Goes on with what was cut short whenever this control plane is the one that acts, until it is dropped or
/// stopped. What is being gone on with then ends where it is, and is gone on with by the next one.
pub(crate) async fn keep_resuming(inner: Weak<Inner>) {
    let mut running = JoinSet::new();
    let mut searched: Option<Instant> = None;
    // Ends: with the control plane, of which it is a task.
    while let Some(plane) = inner.upgrade().map(|inner| ControlPlane { inner }) {
        if *plane.inner.engine.stopping().borrow() {
            break;
        }
        while running.try_join_next().is_some() {}
        if !plane.inner.engine.is_leader() {
            searched = None;
        } else if searched.is_none_or(|at| at.elapsed() >= SEARCH) {
            searched = Some(Instant::now());
            match plane.cut_short().await {
                Ok(found) => {
                    let room = PARALLEL.saturating_sub(running.len());
                    for id in found.into_iter().take(room) {
                        running.spawn(resume_until_stopped(plane.clone(), id));
                    }
                }
                Err(error) => tracing::warn!(%error, "what was cut short of elements could not be read"),
            }
        }
        let mut stopping = plane.inner.engine.stopping();
        drop(plane);
        // An error means that the control plane is gone.
        let stopped = stopping.wait_for(|stopping| *stopping);
        let _ = tokio::time::timeout(LOOK, stopped).await;
    }
}

async fn resume_until_stopped(plane: ControlPlane, id: Uuid) {
    let mut stopping = plane.inner.engine.stopping();
    tokio::select! {
        result = plane.resume_element(id) => if let Err(error) = result {
            tracing::info!(element = %id, %error, "a change of an element that was cut short does not go on");
        },
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

impl ControlPlane {
    /// Elements whose change may have been cut short, and whose next try is due. Some of them are being
    /// changed just now.
    async fn cut_short(&self) -> Result<Vec<Uuid>, ControlError> {
        let ports = self.ports();
        let now = ports.now();
        let all = ports.repository.all::<WorkRecord>(None).await;
        let all = all.map_err(|error| ports.store_error(error))?;
        let due = all.into_iter().filter(|found| found.record.not_before <= now);
        Ok(due.map(|found| found.record.id).collect())
    }

    /// Goes on with the change of an element that was cut short. Nothing, while somebody is at it; it ends
    /// where it is when somebody asks for another change.
    pub(in crate::control_plane) async fn resume_element(&self, id: Uuid) -> Result<(), ControlError> {
        let ports = &self.inner.ports;
        let failed = |error| ports.store_error(error);
        let element = ports.repository.load::<ElementRecord>(id).await.map_err(failed)?;
        let Some(element) = element.map(|found| found.record) else {
            return Ok(());
        };
        if self.inner.elements.is_taken(element.project, &element.name) {
            return Ok(());
        }
        let yields = Arc::new(Notify::new());
        let taken = self
            .take_element(element.project, &element.name, Some(Arc::clone(&yields)))
            .await;
        let lock = match taken {
            Err(ControlError::WrongState { .. }) => return Ok(()),
            taken => taken?,
        };
        tokio::select! {
            result = self.resume_taken(id, lock) => result,
            () = yields.notified() => Ok(()),
        }
    }

    async fn resume_taken(&self, id: Uuid, lock: ElementLock) -> Result<(), ControlError> {
        let ports = &self.inner.ports;
        let failed = |error| ports.store_error(error);
        // It may have come to its end before it could be taken.
        let work = ports.repository.load::<WorkRecord>(id).await.map_err(failed)?;
        let Some(work) = work.map(|found| found.record) else {
            lock.give_back(ports).await;
            return Ok(());
        };
        let tries = work.tries + 1;
        if tries > TRIES {
            lock.give_back(ports).await;
            let error = format!("it was cut short, and gone on with {TRIES} times in vain; apply it again");
            return self.gives_up(id, &error).await;
        }
        let options = work.options();
        let result = match work.request(ports) {
            Ok(None) => {
                let begun = self.write_removal_begun(id, options, tries, lock).await;
                match begun {
                    Ok(removal) => return self.finish_removal(removal).await,
                    Err(error) => Err(error),
                }
            }
            Ok(Some(request)) => {
                let begun = async {
                    let prepared = self.prepare(request, options.destroy).await?;
                    let element = self.write_begun(&prepared, &options, tries).await?;
                    Ok((prepared, element))
                };
                match begun.await {
                    Ok((prepared, element)) => {
                        let until = Instant::now() + options.timeout;
                        let begun = Begun {
                            prepared,
                            element,
                            until,
                            tries,
                            lock,
                        };
                        return self.finish(begun).await;
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        match result {
            // The store: it is tried again when it can be read.
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                let reason = format!("it was cut short, and cannot be gone on with: {error}");
                self.gives_up(id, &reason).await?;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn gives_up(&self, id: Uuid, reason: &str) -> Result<(), ControlError> {
        let write = |record: &mut ElementRecord| {
            record.status = ElementStatus::Error;
            record.reason = reason.to_owned();
        };
        self.write_down(id, "not_resumed", reason, Work::Over, write)
            .await
    }
}

/// For tests, which have no engine that acts.
#[cfg(test)]
impl ControlPlane {
    pub(in crate::control_plane) async fn resume_all(&self) -> Result<(), ControlError> {
        for id in self.cut_short().await? {
            self.resume_element(id).await?;
        }
        Ok(())
    }
}
