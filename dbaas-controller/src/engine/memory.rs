//! What the engine remembers of an instance between passes. Nothing of it is needed after a crash. For how
//! long things have been as they are is the failure detector's to remember (`dbaas_core::detector`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use dbaas_core::detector::{Backoff, Memory};
use dbaas_core::id::{DatabaseId, NodeId};
use dbaas_core::observation::Progress;
use dbaas_core::plan::{Action, PlannedEvent};
use dbaas_core::steady::Steady;
use uuid::Uuid;

use super::LiveView;
use crate::credentials::Credentials;
use crate::repository::Loaded;

/// Events that are compared with, so that a repeated plan does not repeat them in the log.
const RECENT_EVENTS: usize = 32;
/// An action on a user or database that was done so often, and is asked for again, is one that failed.
const DONE_IN_VAIN: u32 = 3;
/// For how long an action's failures are remembered after it could have been begun again.
const KEPT_MS: u64 = 120_000;
/// For how long an equal event is not repeated.
const EVENT_REPEAT_MS: u64 = 10_000;

/// The records of an instance, and what they seal.
pub(super) struct Known {
    pub(super) loaded: Loaded,
    pub(super) credentials: Credentials,
}

/// A plan that found nothing to do, and for what.
pub(super) struct Rest {
    known: Weak<Known>,
    stillness: u64,
    infrastructure_warnings: Vec<String>,
    /// Where what a client gets is tried.
    pub(super) try_service: Option<NodeId>,
}

impl Rest {
    pub(super) fn new(
        known: &Arc<Known>,
        stillness: u64,
        infrastructure_warnings: Vec<String>,
        try_service: Option<NodeId>,
    ) -> Self {
        Rest {
            known: Arc::downgrade(known),
            stillness,
            infrastructure_warnings,
            try_service,
        }
    }

    /// Whether the plan would be the same again.
    pub(super) fn goes_on(&self, known: &Arc<Known>, stillness: u64, warnings: &[String]) -> bool {
        self.stillness == stillness
            && std::ptr::eq(self.known.as_ptr(), Arc::as_ptr(known))
            && self.infrastructure_warnings == warnings
    }
}

/// What is remembered of an instance.
#[derive(Default)]
pub(super) struct InstanceMemory {
    /// The failure detector's.
    pub(super) detector: Memory,
    /// Actions that run now or ran lately, by [`super::act::key`].
    pub(super) actions: HashMap<String, ActionMemory>,
    pub(super) object_failures: BTreeMap<Uuid, String>,
    pub(super) object_progress: BTreeMap<Uuid, Progress>,
    pub(super) wants_catalogue: bool,
    pub(super) catalogue_read_at: Option<Steady>,
    /// When databases were looked into.
    pub(super) inside: BTreeMap<DatabaseId, InsideMemory>,
    /// The records as last read or written.
    pub(super) known: Option<Arc<Known>>,
    /// What was seen last, if the plan for it was at rest.
    pub(super) rest: Option<Rest>,
    /// Grows with each hint that the records changed, so that a read which began before the hint is not kept.
    pub(super) doubts: u64,
    pub(super) live: LiveView,
    recent_events: VecDeque<(Steady, PlannedEvent)>,
    /// Passes in a row that found nothing to do although something is expected.
    pub(super) quiet_passes: u32,
}

/// What is remembered of looking into a database.
#[derive(Default)]
pub(super) struct InsideMemory {
    /// Something is expected to be found there.
    pub(super) wanted: bool,
    looked_at: Option<Steady>,
    /// In a row.
    failures: u32,
}

impl InsideMemory {
    /// Whether to look into it now. Looks that failed become rarer.
    pub(super) fn is_due(&self, now: Steady, interval_ms: u64) -> bool {
        let wait_ms = match (self.failures, self.wanted) {
            (0, true) => 0,
            (0, false) => interval_ms,
            (failures, _) => (500u64 << failures.min(7)).min(60_000),
        };
        self.looked_at.is_none_or(|at| now.since_ms(at) >= wait_ms)
    }

    /// A look came to something, or to nothing. How often in a row it came to nothing.
    pub(super) fn looked(&mut self, now: Steady, well: bool) -> u32 {
        self.looked_at = Some(now);
        self.wanted = false;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        self.failures
    }
}

/// What is remembered of an action.
#[derive(Default)]
pub(super) struct ActionMemory {
    pub(super) running: bool,
    /// What was done last, and how often in a row without a look that showed its effect.
    done: Option<Box<(Action, u32)>>,
    pub(super) backoff: Backoff,
}

impl ActionMemory {
    /// It was done. An error, for people, if it was done before and is asked for all the same: it has no
    /// effect, or somebody undoes it. The look that asked for it the second time may have begun before it was
    /// done, so that the third time is the first that counts.
    pub(super) fn done(&mut self, action: &Action) -> Result<(), String> {
        let before = self.done.take().filter(|done| done.0 == *action);
        let times = before.map_or(0, |done| done.1).saturating_add(1);
        self.done = Some(Box::new((action.clone(), times)));
        if times < DONE_IN_VAIN {
            return Ok(());
        }
        Err(format!(
            "it was done {times} times, and PostgreSQL does not show it: it has no effect, or somebody undoes it"
        ))
    }
}

impl InstanceMemory {
    /// The records have changed, or may have: read them again.
    pub(super) fn doubt(&mut self) {
        self.known = None;
        self.rest = None;
        self.doubts += 1;
    }

    /// Which of these events are news.
    pub(super) fn fresh_events(&mut self, now: Steady, events: &[PlannedEvent]) -> Vec<PlannedEvent> {
        let mut fresh = Vec::new();
        for event in events {
            // A state that was come back to is news, however soon: else the log would end with the one
            // before.
            let same = |old: &PlannedEvent| match event.kind.state_of() {
                Some(of) => old.kind.state_of() == Some(of),
                None => old == event,
            };
            let repeated = self
                .recent_events
                .iter()
                .rev()
                .find(|(_, old)| same(old))
                .is_some_and(|(at, old)| old == event && now.since_ms(*at) < EVENT_REPEAT_MS);
            if !repeated {
                self.recent_events.push_back((now, event.clone()));
                fresh.push(event.clone());
            }
        }
        while self.recent_events.len() > RECENT_EVENTS {
            self.recent_events.pop_front();
        }
        fresh
    }

    /// Whether an action may be begun now.
    pub(super) fn may_begin(&self, key: &str, now: Steady) -> bool {
        self.actions
            .get(key)
            .is_none_or(|memory| !memory.running && memory.backoff.left_ms(now) == 0)
    }

    /// Roles and databases were looked at, and these actions are asked for: whatever else was done has had
    /// its effect.
    pub(super) fn effects_seen(&mut self, asked_for: &[Action]) {
        for memory in self.actions.values_mut().filter(|memory| !memory.running) {
            memory.done.take_if(|done| !asked_for.contains(&done.0));
        }
    }

    /// Forgets actions and events that are long over, so that this does not grow.
    pub(super) fn tidy(&mut self, now: Steady) {
        let is_over = |(at, _): &(Steady, PlannedEvent)| now.since_ms(*at) >= EVENT_REPEAT_MS;
        if self.recent_events.front().is_some_and(is_over) {
            self.recent_events.retain(|event| !is_over(event));
            self.recent_events.shrink_to_fit();
        }
        if self.actions.is_empty() {
            return;
        }
        self.actions.retain(|_, memory| {
            memory.running
                || memory
                    .backoff
                    .over_for_ms(now)
                    .is_some_and(|over_ms| over_ms < KEPT_MS)
        });
        if self.actions.is_empty() {
            self.actions.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use dbaas_core::kinds::EventKind;

    use super::*;

    #[test]
    fn what_is_done_over_and_over_has_failed_until_its_effect_is_seen() {
        let action = |slot: &str| Action::DropSlots {
            node: NodeId::from_uuid(Uuid::nil()),
            names: vec![slot.to_owned()],
        };
        let mut memory = InstanceMemory::default();
        let done = |memory: &mut InstanceMemory, action: &Action| {
            let of = memory.actions.entry("key".to_owned()).or_default();
            of.done(action).is_ok()
        };
        assert_eq!(
            [0; 4].map(|_| done(&mut memory, &action("a"))),
            [true, true, false, false]
        );
        assert!(done(&mut memory, &action("b")), "something else");
        assert!(done(&mut memory, &action("b")));
        memory.effects_seen(&[action("b")]);
        assert!(!done(&mut memory, &action("b")), "it is asked for all the same");
        memory.effects_seen(&[]);
        assert!(done(&mut memory, &action("b")));
    }

    #[test]
    fn a_state_that_is_come_back_to_is_news() {
        let t = Steady::from_ms(0);
        let event = |kind| PlannedEvent {
            kind,
            message: "m".to_owned(),
            node: None,
        };
        let mut memory = InstanceMemory::default();
        let log = [
            EventKind::InstanceActive,
            EventKind::InstanceError,
            EventKind::InstanceActive,
            EventKind::InstanceActive,
        ];
        let news = log.map(|kind| memory.fresh_events(t, &[event(kind)]).len());
        assert_eq!(news, [1, 1, 1, 0]);
    }

    #[test]
    fn an_equal_event_is_news_once() {
        let t = Steady::from_ms(0);
        let event = PlannedEvent {
            kind: EventKind::DriftFound,
            message: "b".to_owned(),
            node: None,
        };
        let mut memory = InstanceMemory::default();
        assert_eq!(memory.fresh_events(t, std::slice::from_ref(&event)).len(), 1);
        assert_eq!(
            memory
                .fresh_events(t.plus_ms(5), std::slice::from_ref(&event))
                .len(),
            0
        );
        assert_eq!(
            memory
                .fresh_events(t.plus_ms(EVENT_REPEAT_MS), std::slice::from_ref(&event))
                .len(),
            1
        );
    }
}
