//! Long polls: until a record is in a state, or a deadline has passed.

use std::time::Duration;

use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::limits;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::ControlPlane;
use crate::error::ControlError;
use crate::view::{Database, Instance, User};

impl ControlPlane {
    /// Waits until the instance is in a state. ACTIVE and ERROR count only if they are about the newest
    /// request. The wait ends after `timeout` (10 minutes at most) with [`ControlError::Deadline`], or with
    /// [`ControlError::NotFound`] when the instance is gone.
    pub async fn wait_for_instance(
        &self,
        id: InstanceId,
        wanted: Lifecycle,
        timeout: Duration,
    ) -> Result<Instance, ControlError> {
        let mut wait = Wait::new(self, id, timeout);
        loop {
            let found = self.instance(id).await?;
            let status = &found.status;
            let reached = status.lifecycle == wanted
                && match wanted {
                    Lifecycle::New | Lifecycle::InProgress => true,
                    Lifecycle::Active | Lifecycle::Error => found.is_observed(),
                };
            if reached {
                return Ok(found);
            }
            if wait.is_over() {
                return Err(deadline(status.lifecycle.as_str(), &status.reason));
            }
            wait.next_look().await;
        }
    }

    /// Waits until the database is in a state; ends as [`ControlPlane::wait_for_instance`].
    pub async fn wait_for_database(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        wanted: ObjectLifecycle,
        timeout: Duration,
    ) -> Result<Database, ControlError> {
        let mut wait = Wait::new(self, instance, timeout);
        loop {
            let found = self.database(instance, id).await?;
            if found.lifecycle == wanted && !found.deleting {
                return Ok(found);
            }
            if wait.is_over() {
                return Err(deadline(found.lifecycle.as_str(), &found.reason));
            }
            wait.next_look().await;
        }
    }

    /// Waits until the user is in a state; ends as [`ControlPlane::wait_for_instance`].
    pub async fn wait_for_user(
        &self,
        instance: InstanceId,
        id: UserId,
        wanted: ObjectLifecycle,
        timeout: Duration,
    ) -> Result<User, ControlError> {
        let mut wait = Wait::new(self, instance, timeout);
        loop {
            let found = self.user(instance, id).await?;
            if found.lifecycle == wanted && !found.deleting {
                return Ok(found);
            }
            if wait.is_over() {
                return Err(deadline(found.lifecycle.as_str(), &found.reason));
            }
            wait.next_look().await;
        }
    }
}

fn deadline(state: &str, reason: &str) -> ControlError {
    ControlError::Deadline {
        state: state.to_owned(),
        reason: reason.to_owned(),
    }
}

/// A wait under way. Listens before the first look, so that no change falls between the look and the wait.
struct Wait {
    hints: Option<Receiver<InstanceId>>,
    instance: InstanceId,
    poll: Duration,
    until: Instant,
}

impl Wait {
    fn new(control: &ControlPlane, instance: InstanceId, timeout: Duration) -> Self {
        Wait {
            hints: Some(control.changes()),
            instance,
            poll: control
                .inner
                .ports
                .settings
                .wait_poll
                .max(Duration::from_millis(10)),
            until: Instant::now() + timeout.min(Duration::from_millis(limits::WAIT_MS_MAX)),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Returns when the instance may have changed: on a hint about it, or when hints were missed, or after
    /// the poll interval; never after the deadline.
    async fn next_look(&mut self) {
        let look_at = self.until.min(Instant::now() + self.poll);
        // Ends at `look_at`, whatever comes in.
        while let Some(hints) = &mut self.hints {
            match tokio::time::timeout_at(look_at, hints.recv()).await {
                Ok(Ok(changed)) if changed == self.instance => return,
                Ok(Ok(_)) if Instant::now() < look_at => {}
                Ok(Err(RecvError::Closed)) => self.hints = None,
                Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => return,
            }
        }
        tokio::time::sleep_until(look_at).await;
    }
}
