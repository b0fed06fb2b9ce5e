//! The work queue: which instance is to be looked at next. One pass per instance at a time; a bound on passes
//! at the same time; an instance that is woken while its pass runs gets another one right after.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::id::InstanceId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When each instance is due. Holds one entry per instance, whatever happens.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<InstanceId, Entry>,
    due: BTreeSet<(Instant, InstanceId)>,
}

struct Entry {
    due: Instant,
    running: bool,
    /// Woken while its pass ran.
    woken: bool,
    /// Ends the waiting of a pass that runs.
    interrupt: Arc<Notify>,
}

impl Queue {
    /// Look at this instance now.
    pub(super) fn wake(&self, id: InstanceId) {
        self.schedule(id, Instant::now());
    }

    /// Look at this instance then, or earlier.
    pub(super) fn wake_at(&self, id: InstanceId, at: Instant) {
        self.schedule(id, at);
    }

    /// Look at every instance now.
    pub(super) fn wake_all(&self) {
        let known: Vec<InstanceId> = self.state.lock().entries.keys().copied().collect();
        for id in known {
            self.wake(id);
        }
    }

    /// Something happened to it: look at it now, also if a pass is waiting for its actions.
    pub(super) fn interrupt(&self, id: InstanceId) {
        self.schedule(id, Instant::now());
        if let Some(entry) = self.state.lock().entries.get(&id) {
            entry.interrupt.notify_waiters();
        }
    }

    fn schedule(&self, id: InstanceId, at: Instant) {
        let mut state = self.state.lock();
        let State { entries, due } = &mut *state;
        let entry = entries.entry(id).or_insert_with(|| {
            due.insert((at, id));
            Entry {
                due: at,
                running: false,
                woken: false,
                interrupt: Arc::new(Notify::new()),
            }
        });
        if entry.running {
            entry.woken = true;
        } else if at < entry.due {
            due.remove(&(entry.due, id));
            entry.due = at;
            due.insert((at, id));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// What ends the waiting of this instance's pass.
    pub(super) fn interrupt_of(&self, id: InstanceId) -> Arc<Notify> {
        self.state
            .lock()
            .entries
            .get(&id)
            .map(|e| Arc::clone(&e.interrupt))
            .unwrap_or_default()
    }

    /// Waits for an instance that is due, and marks it as running.
    pub(super) async fn next(&self) -> InstanceId {
        loop {
            let wait = {
                let mut state = self.state.lock();
                let now = Instant::now();
                match state.due.first().copied() {
                    Some((due, id)) if due <= now => {
                        state.due.remove(&(due, id));
                        if let Some(entry) = state.entries.get_mut(&id) {
                            entry.running = true;
                            entry.woken = false;
                            return id;
                        }
                        continue;
                    }
                    Some((due, _)) => due - now,
                    None => Duration::from_secs(3600),
                }
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A pass has ended. `None`: the instance is gone.
    pub(super) fn done(&self, id: InstanceId, again_after: Option<Duration>) {
        let mut state = self.state.lock();
        let State { entries, due } = &mut *state;
        let Some(entry) = entries.get_mut(&id) else { return };
        match again_after {
            // A wake-up during the last pass may be a new instance's with the same id only in theory; it is
            // looked at once more.
            None if !entry.woken => {
                entries.remove(&id);
            }
            _ => {
                let wait = again_after.filter(|_| !entry.woken).unwrap_or_default();
                entry.running = false;
                entry.due = Instant::now() + wait;
                due.insert((entry.due, id));
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// How many instances there are, and how many passes run.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (
            state.entries.len(),
            state.entries.values().filter(|e| e.running).count(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> InstanceId {
        InstanceId::from_uuid(uuid::Uuid::from_u128(n))
    }

    #[tokio::test(start_paused = true)]
    async fn one_pass_at_a_time_and_no_wake_is_lost() {
        let queue = Queue::default();
        queue.wake(id(1));
        queue.wake(id(1));
        assert_eq!(queue.next().await, id(1));
        // Nothing else is due while the pass runs, also when it is woken.
        queue.wake(id(1));
        assert!(
            tokio::time::timeout(Duration::from_secs(5), queue.next())
                .await
                .is_err()
        );
        queue.done(id(1), Some(Duration::from_secs(60)));
        let before = Instant::now();
        assert_eq!(queue.next().await, id(1));
        assert_eq!(before.elapsed(), Duration::ZERO);
        queue.done(id(1), Some(Duration::from_secs(60)));
        assert_eq!(queue.next().await, id(1));
        assert_eq!(before.elapsed(), Duration::from_secs(60));
        queue.done(id(1), None);
        assert_eq!(queue.size(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_is_first() {
        let queue = Queue::default();
        queue.wake(id(1));
        queue.wake(id(2));
        let first = queue.next().await;
        let second = queue.next().await;
        queue.done(first, Some(Duration::from_secs(9)));
        queue.done(second, Some(Duration::from_secs(3)));
        assert_eq!(queue.next().await, second);
        assert_eq!(queue.next().await, first);
    }
}
