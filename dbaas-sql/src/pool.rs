//! [`Pool`]: idle sessions, bounded in number and age.

use std::collections::HashMap;
use std::time::Duration;

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::SqlTarget;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::Session;

/// How often sessions that are too old are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    database: String,
    user: String,
}

impl Key {
    fn of(target: &SqlTarget) -> Self {
        Key {
            endpoint: target.endpoint.clone(),
            database: target.database.clone(),
            user: target.user.clone(),
        }
    }
}

struct Idle {
    session: Session,
    /// What the session was opened with: who has another password does not get it.
    password: Secret,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) per_key: usize,
    pub(crate) total: usize,
    pub(crate) max_age: Duration,
}

/// Taken before a session is, and handed back with it: says whether any session was forgotten in between.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

#[derive(Default)]
struct State {
    idle: HashMap<Key, Vec<Idle>>,
    total: usize,
    forgotten: u64,
    swept: Option<Instant>,
}

pub(crate) struct Pool {
    bounds: Bounds,
    state: Mutex<State>,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Pool {
            bounds,
            state: Mutex::new(State::default()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().total
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.state.lock().forgotten)
    }

    /// The session to this target that was used last and is not known to be dead or too old.
    pub(crate) fn take(&self, target: &SqlTarget, now: Instant) -> Option<Session> {
        let mut state = self.state.lock();
        self.sweep(&mut state, now);
        let key = Key::of(target);
        let sessions = state.idle.get_mut(&key)?;
        let before = sessions.len();
        let mut found = None;
        while let Some(idle) = sessions.pop() {
            if self.is_usable(&idle, now) && idle.password == target.password {
                found = Some(idle.session);
                break;
            }
        }
        let (left, empty) = (sessions.len(), sessions.is_empty());
        state.total -= before - left;
        if empty {
            state.idle.remove(&key);
        }
        found
    }

    /// Keeps a session for the next script, unless there are enough or some were forgotten since the ticket
    /// was drawn.
    pub(crate) fn put(&self, target: &SqlTarget, session: Session, ticket: Ticket, now: Instant) {
        let mut state = self.state.lock();
        self.sweep(&mut state, now);
        // Which endpoint was forgotten does not matter: that is rare, and the cost is one login.
        if state.forgotten != ticket.0 || state.total >= self.bounds.total || session.is_closed() {
            return;
        }
        let sessions = state.idle.entry(Key::of(target)).or_default();
        if sessions.len() < self.bounds.per_key {
            sessions.push(Idle {
                session,
                password: target.password.clone(),
                since: now,
            });
            state.total += 1;
        } else if self.bounds.per_key == 0 {
            state.idle.remove(&Key::of(target));
        }
    }

    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.idle.retain(|key, _| key.endpoint != *endpoint);
        state.total = state.idle.values().map(Vec::len).sum();
    }

    fn is_usable(&self, idle: &Idle, now: Instant) -> bool {
        now.saturating_duration_since(idle.since) < self.bounds.max_age && !idle.session.is_closed()
    }

    fn sweep(&self, state: &mut State, now: Instant) {
        if state
            .swept
            .is_some_and(|at| now.saturating_duration_since(at) < SWEEP_EVERY)
        {
            return;
        }
        state.swept = Some(now);
        state.idle.retain(|_, sessions| {
            sessions.retain(|idle| self.is_usable(idle, now));
            !sessions.is_empty()
        });
        state.total = state.idle.values().map(Vec::len).sum();
    }
}
