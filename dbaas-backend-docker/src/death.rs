//! What the engine tells before it can be asked. It says that a container died as soon as its last process is gone, and then tidies up
//! (network, mounts) for some hundred milliseconds, in which it answers no question about that container. A failover does not wait for it.

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
        let started = unix_nanos(&found.life.started_at)?;
        let is_its = found.running
            && found.id == self.container
            && started < self.at
            && self.told.elapsed() < BELIEVED;
        is_its.then(|| Found {
            running: false,
            status: Status::EXITED,
            exit_code: self.exit_code,
            ..found.clone()
        })
    }
}

/// Nanoseconds since 1970 of a time such as `2026-01-31T23:59:59.123456789Z` (RFC 3339, UTC), as the engine writes it.
fn unix_nanos(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if !(1970..2200).contains(&year) || !(1..=12).contains(&month) || fraction.len() > 9 {
        return None;
    }
    // Days in the years and months before, the year beginning with March so that the leap day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + (day - 1) - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine() {
        assert_eq!(unix_nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            unix_nanos("2026-11-23T21:12:03.5Z"),
            Some(1_795_468_323_500_000_000)
        );
        assert_eq!(
            unix_nanos("2024-02-29T23:59:59.000000001Z"),
            Some(1_709_251_199_000_000_001)
        );
        // Never started.
        assert_eq!(unix_nanos("0001-01-01T00:00:00Z"), None);
        for bad in [
            "",
            "2026",
            "2026-11-23",
            "2026-11-23T21:12:03+01:00",
            "2026-13-01T00:00:00Z",
        ] {
            assert_eq!(unix_nanos(bad), None, "{bad}");
        }
    }

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
