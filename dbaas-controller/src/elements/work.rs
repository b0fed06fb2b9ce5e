//! What an element is being changed to, kept while that goes on: who comes after a crash goes on from it.

use std::collections::BTreeMap;
use std::time::Duration;

use dbaas_core::id::ProjectId;
use dbaas_core::store::Kind;
use dbaas_core::time::Timestamp;
use dbaas_manifest::plan::Destroy;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::facts::opened;
use super::secret::seal;
use super::{ApplyOptions, ManifestRequest, Reach};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::Record;

/// How often a change that was cut short is gone on with by itself.
pub(crate) const TRIES: u32 = 8;
/// Between the first two tries; twice as long between the next two, and so on.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// What is larger is not kept: the store would refuse it, and with it the change.
const SEALED_BYTES_MAX: usize = 1_900_000;

/// A change of an element that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkRecord {
    /// The element's.
    pub(crate) id: Uuid,
    work: Work,
    allow_destroy: bool,
    timeout_ms: u64,
    /// How often it was gone on with by itself.
    pub(crate) tries: u32,
    /// When it is gone on with at the earliest.
    pub(crate) not_before: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    Apply {
        project: ProjectId,
        any_project: bool,
        name: Option<String>,
        skip_unknown: bool,
        manifest: Option<Uuid>,
        /// The manifest. Sealed, as it may hold secrets.
        text: String,
        /// Values of `{{ … }}`, as JSON. Sealed for the same reason.
        variables: String,
    },
    Uninstall,
}

impl WorkRecord {
    /// That a manifest is being applied. `None`, where it is too large to be kept.
    pub(crate) fn apply(
        ports: &Ports,
        element: Uuid,
        request: &ManifestRequest,
        options: &ApplyOptions,
        tries: u32,
    ) -> Option<Self> {
        let variables = serde_json::to_string(&request.variables).ok()?;
        let sealer = ports.sealer.as_ref();
        let (text, variables) = (
            seal(sealer, element, &request.text),
            seal(sealer, element, &variables),
        );
        let work = Work::Apply {
            project: request.project,
            any_project: request.reach == Reach::AnyProject,
            name: request.name.clone(),
            skip_unknown: request.skip_unknown,
            manifest: request.manifest,
            text,
            variables,
        };
        let Work::Apply { text, variables, .. } = &work else {
            return None;
        };
        (text.len() + variables.len() <= SEALED_BYTES_MAX)
            .then(|| WorkRecord::new(ports, element, work.clone(), options, tries))
    }

    /// That an element is being uninstalled.
    pub(crate) fn uninstall(ports: &Ports, element: Uuid, options: &ApplyOptions, tries: u32) -> Self {
        WorkRecord::new(ports, element, Work::Uninstall, options, tries)
    }

    fn new(ports: &Ports, id: Uuid, work: Work, options: &ApplyOptions, tries: u32) -> Self {
        WorkRecord {
            id,
            work,
            allow_destroy: options.destroy == Destroy::Allow,
            timeout_ms: u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX),
            tries,
            not_before: ports.now().plus_ms(pause_ms(tries)),
        }
    }

    pub(crate) fn options(&self) -> ApplyOptions {
        ApplyOptions {
            destroy: match self.allow_destroy {
                true => Destroy::Allow,
                false => Destroy::Refuse,
            },
            timeout: Duration::from_millis(self.timeout_ms),
        }
    }

    /// The manifest that is applied; `None`: the element is being uninstalled.
    pub(crate) fn request(&self, ports: &Ports) -> Result<Option<ManifestRequest>, ControlError> {
        let Work::Apply {
            project,
            any_project,
            name,
            skip_unknown,
            manifest,
            text,
            variables,
        } = &self.work
        else {
            return Ok(None);
        };
        let text = opened(ports, self.id, text)?.expose().to_owned();
        let variables = opened(ports, self.id, variables)?;
        let variables: BTreeMap<String, String> = serde_json::from_str(variables.expose())
            .map_err(|_| ControlError::internal("a stored change of an element is damaged", ports.now()))?;
        Ok(Some(ManifestRequest {
            text,
            name: name.clone(),
            variables,
            skip_unknown: *skip_unknown,
            project: *project,
            reach: match any_project {
                true => Reach::AnyProject,
                false => Reach::OwnProject,
            },
            manifest: *manifest,
            idempotency_key: None,
        }))
    }
}

/// How long after a try the next one begins; nothing before the first.
fn pause_ms(tries: u32) -> u64 {
    let Some(doublings) = tries.checked_sub(1) else {
        return 0;
    };
    let pause = PAUSE.saturating_mul(1u32 << doublings.min(16));
    u64::try_from(pause.min(PAUSE_MAX).as_millis()).unwrap_or(u64::MAX)
}

impl Record for WorkRecord {
    const KIND: Kind = "element_work";

    fn uuid(&self) -> Uuid {
        self.id
    }
}

/// Whether a change that failed is tried again by itself: one that is gone on with already, for a passing
/// reason, not too often.
pub(crate) fn goes_on(tries: u32, error: &ControlError) -> bool {
    (1..TRIES).contains(&tries) && error.is_retryable()
}

/// Says so.
pub(crate) fn put_off(tries: u32, error: &ControlError) -> String {
    format!(
        "after it was cut short it was gone on with {tries} of {TRIES} times; it goes on again in a while: {error}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let all: Vec<u64> = (0..=TRIES).map(|tries| pause_ms(tries) / 1_000).collect();
        assert_eq!(all, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pause_ms(u32::MAX), 300_000);
    }
}
