//! What the engine tells before it can be asked. It says that a container died as soon as its last process is
//! gone, and then tidies up (network, mounts) for some hundred milliseconds, in which it answers no question
//! about that container. A failover does not wait for it.

use std::time::{Duration, Instant};

use bollard::models::ContainerStateStatusEnum as Status;

use crate::container::Found;

/// After so long the engine is asked again.
const BELIEVED: Duration = Duration::from_secs(3);

/// The end of a container, as the engine's event told it: no process of it runs any more.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) container: String,
    /// By the engine's clock, in nanoseconds since 1970.
    pub(crate) at: i64,
    pub(crate) exit_code: i64,
    pub(crate) told: Instant,
}

impl Death {
    /// The container as it is now, if this was the end of the life in which it was found running.
    pub(crate) fn end_of(&self, found: &Found) -> Option<Found> {
        let started: jiff::Timestamp = found.life.started_at.parse().ok()?;
        let is_its = found.running
            && found.id == self.container
            && started.as_nanosecond() < i128::from(self.at)
            && self.told.elapsed() < BELIEVED;
        is_its.then(|| Found {
            running: false,
            status: Status::EXITED,
            exit_code: self.exit_code,
            ..found.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_ends_one_life() {
        let node = dbaas_core::infrastructure::NodeRef {
            instance: dbaas_core::id::InstanceId::from_uuid(uuid::Uuid::nil()),
            node: dbaas_core::id::NodeId::from_uuid(uuid::Uuid::nil()),
        };
        let mut found = Found::read(bollard::models::ContainerInspectResponse::default(), node);
        found.id = "c".into();
        found.running = true;
        found.life.started_at = "2026-11-23T21:12:03.5Z".into();
        let death = Death {
            container: "c".into(),
            at: 1_795_468_323_500_000_001,
            exit_code: 137,
            told: Instant::now(),
        };
        let end = death.end_of(&found).unwrap();
        assert_eq!((end.running, end.exit_code), (false, 137));
        // One of an earlier life that is told late.
        let late = Death {
            at: death.at - 1,
            ..death.clone()
        };
        assert!(late.end_of(&found).is_none());
        let other = Death {
            container: "d".into(),
            ..death.clone()
        };
        assert!(other.end_of(&found).is_none());
        found.running = false;
        assert!(death.end_of(&found).is_none());
    }
}
