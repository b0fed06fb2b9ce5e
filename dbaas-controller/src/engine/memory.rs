//! What the engine remembers of an instance between passes. Nothing of it is needed after a crash: it makes judgements better (for how long has
//! the primary been silent?) and repeated failures rarer.

use std::collections::{BTreeMap, HashMap, VecDeque};

use dbaas_core::cluster::{Epoch, Lsn};
use dbaas_core::id::NodeId;
use dbaas_core::observation::{ActionFailure, Progress};
use dbaas_core::plan::{Action, PlannedEvent};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

use super::LiveView;
use crate::repository::Loaded;

/// A start is forgotten, for the backoff, when the node has been well for so long.
const WELL_AGAIN_MS: u64 = 10_000;
/// Events that are compared with, so that a repeated plan does not repeat them in the log.
const RECENT_EVENTS: usize = 32;
/// How the kinds of events begin that tell the state of something.
const STATES: [&str; 3] = ["instance_", "user_", "database_"];
/// An action on a user or database that was done so often, and is asked for again, is one that failed.
const DONE_IN_VAIN: u32 = 3;
/// For how long an equal event is not repeated.
const EVENT_REPEAT_MS: u64 = 10_000;

/// What is remembered of an instance.
#[derive(Default)]
pub(super) struct InstanceMemory {
    pub(super) nodes: HashMap<NodeId, NodeMemory>,
    /// Actions that run now or ran lately, by [`super::act::key`].
    pub(super) actions: HashMap<String, ActionMemory>,
    pub(super) object_failures: BTreeMap<Uuid, String>,
    pub(super) object_progress: BTreeMap<Uuid, Progress>,
    pub(super) wants_catalogue: bool,
    pub(super) catalogue_read_at: Option<Timestamp>,
    /// The records as last read or written.
    pub(super) loaded: Option<Loaded>,
    pub(super) loaded_at: Option<Timestamp>,
    /// Grows with each hint that the records changed, so that a read which began before the hint is not kept.
    pub(super) doubts: u64,
    pub(super) live: LiveView,
    recent_events: VecDeque<(Timestamp, PlannedEvent)>,
    /// Passes in a row that found nothing to do although something is expected.
    pub(super) quiet_passes: u32,
}

/// What is remembered of a node.
#[derive(Default)]
pub(super) struct NodeMemory {
    /// When it last answered, or was first asked.
    pub(super) answered_at: Option<Timestamp>,
    pub(super) silent: bool,
    /// When it last streamed, or was first looked at.
    pub(super) streamed_at: Option<Timestamp>,
    /// In which epoch it could have streamed and has not, and since when.
    waits: Option<(Epoch, Timestamp)>,
    /// At which position its replay is stalled, and since when.
    stalled: Option<(Lsn, Timestamp)>,
    /// Since when it has been well (primary or streaming).
    pub(super) well_since: Option<Timestamp>,
    /// Starts since it was last well.
    pub(super) starts: u32,
    pub(super) hold_off_until: Option<Timestamp>,
    pub(super) last_failure: Option<ActionFailure>,
}

/// What is remembered of an action.
#[derive(Default)]
pub(super) struct ActionMemory {
    pub(super) running: bool,
    pub(super) failures: u32,
    /// What was done last, and how often in a row without a look that showed its effect.
    done: Option<(Action, u32)>,
    pub(super) not_before: Option<Timestamp>,
}

impl ActionMemory {
    /// It was done. An error, for people, if it was done before and is asked for all the same: it has no effect, or somebody undoes it. The look that asked for
    /// it the second time may have begun before it was done, so that the third time is the first that counts.
    pub(super) fn done(&mut self, action: &Action) -> Result<(), String> {
        let before = self.done.take().filter(|(done, _)| done == action);
        let times = before.map_or(0, |(_, times)| times).saturating_add(1);
        self.done = Some((action.clone(), times));
        if times < DONE_IN_VAIN {
            return Ok(());
        }
        Err(format!(
            "it was done {times} times, and PostgreSQL does not show it: it has no effect, or somebody undoes it"
        ))
    }
}

impl NodeMemory {
    /// A start was ordered: the next one waits, twice as long each time.
    pub(super) fn started(&mut self, now: Timestamp, jitter_ms: u64) {
        let wait_ms = (100u64 << self.starts.min(10)).min(60_000);
        self.starts = self.starts.saturating_add(1);
        self.hold_off_until = Some(now.plus_ms(wait_ms + jitter_ms));
        self.well_since = None;
        // What did not answer before cannot be held against what was just started.
        self.answered_at = Some(now);
    }

    /// An action on it came to nothing.
    pub(super) fn failed(&mut self, action: &'static str, message: String) {
        let before = self
            .last_failure
            .take()
            .filter(|failure| failure.action == action);
        let times = before.map_or(0, |failure| failure.times).saturating_add(1);
        self.last_failure = Some(ActionFailure {
            action,
            message,
            times,
        });
    }

    /// An action on it was done: an earlier failure of the same is history.
    pub(super) fn done(&mut self, action: &'static str) {
        self.last_failure.take_if(|failure| failure.action == action);
    }

    /// The node is what it is to be.
    pub(super) fn well(&mut self, now: Timestamp) {
        let since = *self.well_since.get_or_insert(now);
        // That its configuration was refused says nothing against how well it serves: that is told until it takes one.
        self.last_failure
            .take_if(|failure| failure.action != "reconfigure");
        if now.since_ms(since) >= WELL_AGAIN_MS {
            self.starts = 0;
            self.hold_off_until = None;
        }
    }

    /// For how long it could have been streaming in this epoch and was not, without a break.
    pub(super) fn waiting_ms(&mut self, now: Timestamp, epoch: Epoch, waits: bool) -> u64 {
        if !waits {
            self.waits = None;
            return 0;
        }
        let since = match self.waits {
            Some((of, since)) if of == epoch => since,
            _ => now,
        };
        self.waits = Some((epoch, since));
        now.since_ms(since)
    }

    /// For how long its replay has been stalled at one position. `behind`: where it is, without a receiver and before the end of what it received, and whether
    /// it waits for more. It does not all the time: it looks for the rest of the record again and again, which takes long if that is large.
    pub(super) fn stalled_ms(&mut self, now: Timestamp, behind: Option<(Lsn, bool)>) -> u64 {
        self.stalled = match (self.stalled, behind) {
            (Some((before, since)), Some((at, _))) if before == at => Some((at, since)),
            (_, Some((at, true))) => Some((at, now)),
            _ => None,
        };
        self.stalled.map_or(0, |(_, since)| now.since_ms(since))
    }

    pub(super) fn hold_off_ms(&self, now: Timestamp) -> u64 {
        self.hold_off_until.map_or(0, |until| until.since_ms(now))
    }
}

impl InstanceMemory {
    /// The records have changed, or may have: read them again.
    pub(super) fn doubt(&mut self) {
        self.loaded = None;
        self.doubts += 1;
    }

    /// Which of these events are news.
    pub(super) fn fresh_events(&mut self, now: Timestamp, events: &[PlannedEvent]) -> Vec<PlannedEvent> {
        let mut fresh = Vec::new();
        for event in events {
            // A state that was come back to is news, however soon: else the log would end with the one before.
            let state = |event: &PlannedEvent| STATES.iter().find(|of| event.kind.starts_with(**of));
            let same = |old: &PlannedEvent| match state(event) {
                Some(of) => state(old) == Some(of),
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
    pub(super) fn may_begin(&self, key: &str, now: Timestamp) -> bool {
        self.actions
            .get(key)
            .is_none_or(|memory| !memory.running && memory.not_before.is_none_or(|until| until <= now))
    }

    /// Roles and databases were looked at, and these actions are asked for: whatever else was done has had its effect.
    pub(super) fn effects_seen(&mut self, asked_for: &[Action]) {
        for memory in self.actions.values_mut().filter(|memory| !memory.running) {
            memory.done.take_if(|(done, _)| !asked_for.contains(done));
        }
    }

    /// Forgets actions that are long over, so that this does not grow.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.actions.retain(|_, memory| {
            memory.running
                || memory
                    .not_before
                    .is_some_and(|until| now.since_ms(until) < 120_000)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_back_off_and_are_forgiven() {
        let t = Timestamp::from_unix_ms(1_000_000);
        let mut node = NodeMemory::default();
        assert_eq!(node.hold_off_ms(t), 0);
        node.started(t, 0);
        assert_eq!(node.hold_off_ms(t), 100);
        node.started(t, 0);
        assert_eq!(node.hold_off_ms(t), 200);
        for _ in 0..20 {
            node.started(t, 0);
        }
        assert_eq!(node.hold_off_ms(t), 60_000);
        node.well(t);
        node.well(t.plus_ms(WELL_AGAIN_MS));
        assert_eq!(node.hold_off_ms(t), 0);
    }

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
    fn replay_is_stalled_for_as_long_as_it_stays_where_it_is() {
        let mut node = NodeMemory::default();
        let at = |ms| Timestamp::from_unix_ms(ms);
        // It may still be about to replay what it has.
        assert_eq!(node.stalled_ms(at(0), Some((Lsn(5), false))), 0);
        assert_eq!(node.stalled_ms(at(300), Some((Lsn(5), true))), 0);
        assert_eq!(node.stalled_ms(at(700), Some((Lsn(5), false))), 400);
        assert_eq!(node.stalled_ms(at(800), Some((Lsn(6), true))), 0);
        assert_eq!(node.stalled_ms(at(900), Some((Lsn(6), true))), 100);
        assert_eq!(node.stalled_ms(at(1_000), None), 0);
        assert_eq!(node.stalled_ms(at(1_100), Some((Lsn(6), true))), 0);
    }

    #[test]
    fn only_the_time_counts_in_which_it_could_have_streamed() {
        let mut node = NodeMemory::default();
        let t = Timestamp::from_unix_ms(0);
        // It was the primary for an hour, then it is started to follow in the next epoch.
        assert_eq!(node.waiting_ms(t, Epoch(1), false), 0);
        let t = t.plus_ms(3_600_000);
        assert_eq!(node.waiting_ms(t, Epoch(1), false), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(200), Epoch(2), true), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(700), Epoch(2), true), 500);
        assert_eq!(node.waiting_ms(t.plus_ms(800), Epoch(3), true), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(900), Epoch(3), true), 100);
        assert_eq!(node.waiting_ms(t.plus_ms(901), Epoch(3), false), 0);
        assert_eq!(node.waiting_ms(t.plus_ms(999), Epoch(3), true), 0);
    }

    #[test]
    fn a_state_that_is_come_back_to_is_news() {
        let t = Timestamp::from_unix_ms(0);
        let event = |kind| PlannedEvent {
            kind,
            message: "m".to_owned(),
            node: None,
        };
        let mut memory = InstanceMemory::default();
        let log = [
            "instance_active",
            "instance_error",
            "instance_active",
            "instance_active",
        ];
        let news = log.map(|kind| memory.fresh_events(t, &[event(kind)]).len());
        assert_eq!(news, [1, 1, 1, 0]);
    }

    #[test]
    fn an_equal_event_is_news_once() {
        let t = Timestamp::from_unix_ms(0);
        let event = PlannedEvent {
            kind: "a",
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
