//! Who applies what: one change of an element at a time, of all control planes on one store.
//!
//! Within a control plane by a set in memory; between control planes by a lease of the store, which is
//! renewed while the change goes on. A control plane that dies lets it run out. What goes on by itself after
//! it was cut short yields to what somebody asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::id::ProjectId;
use dbaas_core::store::LeaseToken;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::ControlError;
use crate::ports::Ports;

type Name = (ProjectId, String);

/// For how long what was asked for waits for what yields to it.
const YIELDS_WITHIN: Duration = Duration::from_secs(10);

/// The elements that are being changed, each by something that somebody asked for, or by something that
/// yields when it is told to.
#[derive(Clone, Default)]
pub(crate) struct ElementLocks(Arc<Mutex<HashMap<Name, Option<Arc<Notify>>>>>);

/// Held while an element is being changed.
pub(crate) struct ElementLock {
    _here: Here,
    lease: LeaseToken,
    renewal: JoinHandle<()>,
}

/// The part of it that is in memory.
struct Here {
    locks: ElementLocks,
    name: Name,
}

impl ElementLocks {
    /// Takes an element, unless somebody else changes it. `holder` is who this control plane is among those
    /// on its store; who gives `yields` ends when that is notified.
    pub(crate) async fn take(
        &self,
        ports: &Arc<Ports>,
        holder: &str,
        project: ProjectId,
        element: &str,
        yields: Option<Arc<Notify>>,
    ) -> Result<ElementLock, ControlError> {
        let here = self.take_here(project, element, yields).await?;
        let name = format!("element/{project}/{element}");
        let lease = acquire(ports, &name, holder).await?;
        let Some(lease) = lease else {
            return Err(ControlError::WrongState {
                detail: format!(
                    "the element \"{element}\" is being changed by another control plane; wait for the end of that"
                ),
            });
        };
        let renewal = tokio::spawn(renew(Arc::clone(ports), name, holder.to_owned()));
        Ok(ElementLock {
            _here: here,
            lease,
            renewal,
        })
    }

    async fn take_here(
        &self,
        project: ProjectId,
        element: &str,
        yields: Option<Arc<Notify>>,
    ) -> Result<Here, ControlError> {
        let name = (project, element.to_owned());
        let until = Instant::now() + YIELDS_WITHIN;
        // Ends: with the time.
        loop {
            let held = {
                let mut all = self.0.lock();
                let held = all.get(&name).cloned();
                if held.is_none() {
                    all.insert(name.clone(), yields.clone());
                }
                held
            };
            match held {
                None => break,
                Some(Some(other)) if yields.is_none() && Instant::now() < until => other.notify_one(),
                Some(_) => {
                    return Err(ControlError::WrongState {
                        detail: format!(
                            "the element \"{element}\" is being changed just now; wait for the end of that"
                        ),
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Here {
            locks: self.clone(),
            name,
        })
    }

    pub(crate) fn is_taken(&self, project: ProjectId, element: &str) -> bool {
        self.0.lock().contains_key(&(project, element.to_owned()))
    }
}

impl ElementLock {
    /// Gives it back at once. One that is only dropped runs out for other control planes, and is free for
    /// this one.
    pub(crate) async fn give_back(self, ports: &Ports) {
        self.renewal.abort();
        if let Err(error) = ports.repository.store().release_lease(&self.lease).await {
            tracing::debug!(%error, "the lease of an element runs out by itself");
        }
    }
}

impl Drop for ElementLock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.name);
    }
}

/// `None`: another control plane has it.
async fn acquire(ports: &Ports, name: &str, holder: &str) -> Result<Option<LeaseToken>, ControlError> {
    let ttl = u64::try_from(ports.settings.lease_ttl.as_millis()).unwrap_or(u64::MAX);
    let asked = ports
        .repository
        .store()
        .acquire_lease(name, holder, ports.now(), ttl);
    let answer = tokio::time::timeout(ports.settings.store_timeout, asked).await;
    let unanswered = |_| ControlError::Unavailable {
        message: "the store did not answer".to_owned(),
        outcome_unknown: false,
    };
    let taken = answer
        .map_err(unanswered)?
        .map_err(|error| ports.store_error(error))?;
    Ok(taken.ok().map(|lease| lease.token))
}

/// Keeps the lease, until it is aborted. Where it cannot be kept the change goes on: two that make the same
/// make nothing twice.
async fn renew(ports: Arc<Ports>, name: String, holder: String) {
    let every = (ports.settings.lease_ttl / 3).max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(every).await;
        match acquire(&ports, &name, &holder).await {
            Ok(Some(_)) => {}
            Ok(None) => tracing::warn!(name, "another control plane took over the change of an element"),
            Err(error) => tracing::warn!(name, %error, "the lease of an element could not be renewed"),
        }
    }
}
