//! One instance's pass: load → observe → plan → record → act, until there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use dbaas_core::detector::{self, Trial};
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::{Observation, Progress};
use dbaas_core::plan::{self, Action, GoneObject, Outcome, Plan, Policy, Situation};
use dbaas_core::secret::UnsealError;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::Engine;
use super::act::{self, Done, Stage};
use super::inside::{Sights, Wanted};
use super::memory::{ActionMemory, InstanceMemory, Known, Rest};
use super::observe;
use crate::credentials::Credentials;
use crate::repository::{Change, Loaded, Observed, Record, Versioned};

/// Rounds of one pass, so that an instance that never settles does not keep others waiting.
const ROUNDS_MAX: usize = 64;
/// How long a round waits for its actions before it looks again. Longer ones go on in the background.
const ACT_PATIENCE: Duration = Duration::from_millis(1_000);

/// What to do with the instance after a pass.
pub(super) enum Next {
    /// Look again after so long, unless something happens before.
    After(Duration),
    /// It is gone.
    Forget,
}

impl Engine {
    /// One pass.
    pub(super) async fn pass(self: &Arc<Self>, id: InstanceId) -> Next {
        for _ in 0..ROUNDS_MAX {
            if self.is_stopping() {
                return Next::After(Duration::from_secs(1));
            }
            let Some(lease) = self.lease() else {
                return Next::After(Duration::from_millis(200));
            };
            match self.round(id, &lease).await {
                Ok(Round::Again) => {}
                Ok(Round::Done(next)) => return next,
                Err(error) => {
                    // A conflict is somebody's request that came in between: look again at once.
                    self.with_memory(id, InstanceMemory::doubt);
                    if error.kind() != StoreErrorKind::Conflict {
                        tracing::warn!(instance = %id, %error, "the store refused a write");
                        return Next::After(Duration::from_millis(500));
                    }
                }
            }
        }
        Next::After(Duration::from_millis(50))
    }

    /// The records: as they are remembered, unless somebody said that they changed.
    async fn load(&self, id: InstanceId) -> Result<Read, dbaas_core::store::StoreError> {
        let (cached, doubts) = self.with_memory(id, |m| (m.known.clone(), m.doubts));
        if let Some(known) = cached {
            return Ok(Read::Known(known));
        }
        let Some(instance) = self.ports.repository.load_instance(id).await? else {
            return Ok(Read::Gone);
        };
        let users = self.ports.repository.load_users(id).await?;
        let databases = self.ports.repository.load_databases(id).await?;
        let mut loaded = Loaded {
            instance,
            users,
            databases,
        };
        let credentials = match self.credentials(&mut loaded.instance.record) {
            Ok(credentials) => credentials,
            Err(error) => return Ok(Read::Sealed(error)),
        };
        let loaded = loaded.condensed();
        let known = Arc::new(Known { loaded, credentials });
        self.with_memory(id, |m| {
            if m.doubts == doubts {
                m.known = Some(Arc::clone(&known));
            }
        });
        Ok(Read::Known(known))
    }

    async fn round(
        self: &Arc<Self>,
        id: InstanceId,
        lease: &dbaas_core::store::LeaseToken,
    ) -> Result<Round, dbaas_core::store::StoreError> {
        let known = match self.load(id).await? {
            Read::Known(known) => known,
            Read::Gone => return Ok(Round::Done(Next::Forget)),
            Read::Sealed(error) => {
                tracing::error!(instance = %id, %error, "the instance cannot be managed");
                return Ok(Round::Done(Next::After(Duration::from_secs(30))));
            }
        };
        let (loaded, credentials) = (&known.loaded, &known.credentials);
        let record = &loaded.instance.record;
        let (wants_catalogue, wanted, silent) = self.with_memory(id, |m| {
            let now = self.ports.steady();
            let drift_ms = u64::try_from(self.ports.settings.drift_interval.as_millis()).unwrap_or(u64::MAX);
            let due = m.catalogue_read_at.is_none_or(|at| now.since_ms(at) >= drift_ms);
            let interval = self.ports.settings.inside_interval.as_millis();
            let interval_ms = u64::try_from(interval).unwrap_or(u64::MAX);
            let wanted = Wanted::now(m, loaded, now, interval_ms);
            let wants_catalogue = m.wants_catalogue || due || wanted.needs_catalogue();
            (wants_catalogue, wanted, m.detector.silent())
        });
        let look = observe::look(&self.ports, record, credentials, wants_catalogue, &silent).await;
        let sights = Sights::of(&self.ports, record, &look, credentials, &wanted).await;
        let (now, steady) = (look.at, self.ports.steady());
        let observation = self.with_memory(id, |m| {
            if wants_catalogue {
                m.wants_catalogue = false;
            }
            if look.catalogue.is_some() {
                m.catalogue_read_at = Some(steady);
            }
            let mut observation = detector::update(&mut m.detector, record, look, steady);
            observation.object_failures = m.object_failures.clone();
            observation.object_progress = m.object_progress.clone();
            sights.remember(m, &mut observation, steady);
            m.live = observe::live_view(record, &observation, steady);
            observation
        });
        let infrastructure_warnings = self.ports.infrastructure.warnings();
        let stillness = observation.stillness();
        if let Some(try_service) = stillness
            .filter(|_| loaded.is_taken() && !observation.looked_closer())
            .and_then(|still| self.rests(id, &known, still, &infrastructure_warnings))
        {
            if let Some(node) = try_service {
                self.try_service(id, node, &observation, credentials);
            }
            return Ok(Round::Done(Next::After(self.quiet(id, self.policy.heartbeat_ms))));
        }
        let users: Vec<_> = loaded.users.iter().map(|u| u.record.clone()).collect();
        let databases: Vec<_> = loaded.databases.iter().map(|d| d.record.clone()).collect();
        let fresh_ids: Vec<NodeId> = (0..dbaas_core::size::NodeCount::MAX.get())
            .map(|_| NodeId::from_uuid(self.ports.randomness.new_id(now)))
            .collect();
        let policy = Policy {
            infrastructure_warnings,
            ..self.policy.clone()
        };
        let situation = Situation {
            instance: record,
            users: &users,
            databases: &databases,
            observation: &observation,
            policy: &policy,
            fresh_ids: &fresh_ids,
        };
        let plan = plan::plan(situation);
        tracing::trace!(instance = %id, why = ?plan.why, actions = plan.actions.len(), "planned");
        if let Some(node) = plan.try_service {
            self.try_service(id, node, &observation, credentials);
        }
        let at_rest = stillness.filter(|_| plan.is_at_rest(&situation));
        let events = self.with_memory(id, |m| {
            m.rest = at_rest.map(|still| {
                Rest::new(
                    &known,
                    still,
                    policy.infrastructure_warnings.clone(),
                    plan.try_service,
                )
            });
            m.wants_catalogue |= plan.wants_catalogue;
            if observation.catalogue.is_some() {
                m.effects_seen(&plan.actions);
            }
            for database in &plan.wants_inside {
                m.inside.entry(*database).or_default().wanted = true;
            }
            m.fresh_events(steady, &plan.events)
        });
        if plan.is_idle() && events.is_empty() && loaded.is_taken() {
            return Ok(Round::Done(Next::After(self.quiet(id, plan.wake_after_ms))));
        }
        let news = plan.record.is_some() || !plan.users.is_empty() || !plan.databases.is_empty();
        let wrote = news || !loaded.is_taken();
        let Some(known) = self.commit(id, lease, known, &plan, &events).await? else {
            return Ok(Round::Done(Next::Forget));
        };
        if plan.actions.is_empty() {
            return Ok(self.after(id, &plan, wrote));
        }
        let users = known.loaded.users.iter().map(|u| u.record.clone()).collect();
        let stage = Stage {
            ports: Arc::clone(&self.ports),
            record: known.loaded.instance.record.clone(),
            users,
            credentials: known.credentials.clone(),
            observation,
        };
        let acted = self.act(id, Arc::new(stage), &plan.actions).await;
        Ok(self.after(id, &plan, acted || wrote))
    }

    /// Whether an instance of which so much is seen still needs nothing, as when it was planned for last; and
    /// if so, where what a client gets is tried.
    fn rests(
        &self,
        id: InstanceId,
        known: &Arc<Known>,
        stillness: u64,
        warnings: &[String],
    ) -> Option<Option<NodeId>> {
        self.with_memory(id, |m| {
            let rest = m.rest.as_ref().filter(|_| !m.wants_catalogue)?;
            let goes_on = rest.goes_on(known, stillness, warnings);
            goes_on.then_some(rest.try_service)
        })
    }

    /// What comes after a plan that was carried out.
    fn after(&self, id: InstanceId, plan: &Plan, did_something: bool) -> Round {
        if did_something || !plan.gone.is_empty() {
            self.with_memory(id, |m| m.quiet_passes = 0);
            return Round::Again;
        }
        Round::Done(Next::After(self.quiet(id, plan.wake_after_ms)))
    }

    /// The instance's credentials. A new instance gets some; they are written down with the first decision
    /// about it, before anything uses them.
    fn credentials(&self, record: &mut InstanceRecord) -> Result<Credentials, UnsealError> {
        let sealer = self.ports.sealer.as_ref();
        if !record.sealed_credentials.is_empty() {
            return Credentials::open(sealer, record.id, &record.sealed_credentials);
        }
        let credentials = Credentials::generate();
        record.sealed_credentials = credentials.seal(sealer, record.id)?;
        Ok(credentials)
    }

    /// Nothing was done: how long until the next look? Where something is expected the looks become rarer.
    fn quiet(&self, id: InstanceId, wake_after_ms: u64) -> Duration {
        let heartbeat_ms = self.policy.heartbeat_ms;
        self.with_memory(id, |m| {
            m.tidy(self.ports.steady());
            if wake_after_ms >= heartbeat_ms {
                m.quiet_passes = 0;
                return Duration::from_millis(wake_after_ms);
            }
            m.quiet_passes = m.quiet_passes.saturating_add(1);
            let growth = 1u64 << (m.quiet_passes / 25).min(5);
            Duration::from_millis((wake_after_ms * growth).min(heartbeat_ms))
        })
    }

    /// Writes what the plan changes. `None` when the instance is gone with it.
    async fn commit(
        &self,
        id: InstanceId,
        lease: &dbaas_core::store::LeaseToken,
        known: Arc<Known>,
        plan: &Plan,
        events: &[dbaas_core::plan::PlannedEvent],
    ) -> Result<Option<Arc<Known>>, dbaas_core::store::StoreError> {
        let now = self.ports.now();
        let mut loaded = known.loaded.clone();
        let mut change = Change::under(lease);
        for event in events {
            tracing::info!(instance = %id, kind = %event.kind, node = ?event.node, "{}", event.message);
            change = change.event(id, event.node, now, event.kind.as_str(), event.message.clone());
        }
        if plan.instance_gone {
            change = change.event(
                id,
                None,
                now,
                "instance_deleted",
                "the instance and its data are gone",
            );
            change = change.remove_instance(&loaded.instance, &loaded.databases, &loaded.users);
            self.ports.repository.commit(change).await?;
            self.ports.hint(id);
            return Ok(None);
        }
        // What is done was decided on this record: it must still be the one. What is taken over is written
        // down before it is acted upon.
        let record = plan.record.as_ref().unwrap_or(&loaded.instance.record).clone();
        let (mut change, instance) = change.observe(record, &loaded.instance);
        for gone in &plan.gone {
            match gone {
                GoneObject::User(user) => {
                    if let Some(user) = loaded.users.iter().find(|u| u.record.id == *user) {
                        change = change.delete(user);
                    }
                }
                GoneObject::Database(database) => {
                    if let Some(database) = loaded.databases.iter().find(|d| d.record.id == *database) {
                        change = change.delete(database);
                    }
                }
            }
        }
        loaded
            .users
            .retain(|u| !plan.gone.contains(&GoneObject::User(u.record.id)));
        loaded
            .databases
            .retain(|d| !plan.gone.contains(&GoneObject::Database(d.record.id)));
        let (change, users) = observed(change, &loaded.users, &plan.users);
        let (change, databases) = observed(change, &loaded.databases, &plan.databases);
        if change.writes_nothing() {
            return Ok(Some(known));
        }
        let versions = self.ports.repository.commit(change).await?;
        loaded.instance = instance.committed(&versions);
        settle(&mut loaded.users, users, &versions);
        settle(&mut loaded.databases, databases, &versions);
        let known = Arc::new(Known {
            loaded: loaded.condensed(),
            credentials: known.credentials.clone(),
        });
        // A request that came in meanwhile has set `known` to nothing; what was just written is older than
        // it only if the commit had failed. So it is the newest.
        self.with_memory(id, |m| {
            if m.known.is_some() {
                m.known = Some(Arc::clone(&known));
            }
        });
        self.ports.hint(id);
        Ok(Some(known))
    }

    /// Tries what a client gets, if that is due. Apart from the pass: a trial that hangs keeps no look
    /// waiting.
    fn try_service(
        self: &Arc<Self>,
        id: InstanceId,
        node: NodeId,
        observation: &Observation,
        credentials: &Credentials,
    ) {
        let began = self.ports.steady();
        let Some(endpoint) = observation.infra(node).and_then(|n| n.endpoint.as_ref()) else {
            return;
        };
        if !self.with_memory(id, |m| m.detector.begin_trial(node, began)) {
            return;
        }
        let endpoint = endpoint.clone();
        let (engine, credentials) = (Arc::clone(self), credentials.clone());
        let span = tracing::debug_span!("trial", instance = %id, %node);
        let trial = async move {
            let outcome = observe::try_service(&engine.ports, &endpoint, &credentials).await;
            if let detector::Outcome::Failed(unfit) = &outcome {
                ::metrics::counter!(crate::metrics::TRIAL_FAILURES).increment(1);
                tracing::warn!(kind = ?unfit.kind, "a client would not be served: {}", unfit.message);
            }
            let trial = Trial { node, began, outcome };
            let every_ms = engine.trial_every_ms();
            let now = engine.ports.steady();
            let is_known = engine.memory.lock().contains_key(&id);
            if is_known && !engine.with_memory(id, |m| m.detector.end_trial(trial, now, every_ms)) {
                engine.queue.wake(id);
            }
        };
        tokio::spawn(trial.instrument(span));
    }

    /// Begins the actions that may begin, and waits a while for them. Whether any was begun.
    async fn act(self: &Arc<Self>, id: InstanceId, stage: Arc<Stage>, actions: &[Action]) -> bool {
        let mut begun = JoinSet::new();
        for first in actions {
            if actions.iter().any(|other| act::precedes(other, first)) {
                continue; // It is begun with what it comes after.
            }
            let followers = actions.iter().filter(|other| act::precedes(first, other));
            let chain: Vec<Action> = [first]
                .into_iter()
                .chain(followers)
                .map_while(|action| self.begin(id, action).then(|| action.clone()))
                .collect();
            if chain.is_empty() {
                continue;
            }
            let engine = Arc::clone(self);
            let stage = Arc::clone(&stage);
            // Spawned apart from the pass: a look at the instance never waits for a slow action.
            let task = tokio::spawn(async move { engine.perform_in_turn(id, stage, chain).await });
            begun.spawn(task);
        }
        if begun.is_empty() {
            return false;
        }
        let interrupted = self.interrupt_of(id);
        let all = async { while begun.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = all => {}
            () = interrupted.notified() => {}
            () = tokio::time::sleep(ACT_PATIENCE) => {}
        }
        // What still runs goes on by itself: `begun` holds handles of tasks of their own.
        begun.detach_all();
        true
    }

    /// Notes that an action runs from now on, if it may.
    fn begin(&self, id: InstanceId, action: &Action) -> bool {
        let now = self.ports.steady();
        let key = act::key(action);
        self.with_memory(id, |m| {
            let may = m.may_begin(&key, now);
            if may {
                m.actions.entry(key).or_default().running = true;
                if let Action::Start { node, .. } = action {
                    let jitter_ms = self.ports.randomness.below(50);
                    m.detector.started(*node, now, jitter_ms);
                }
            }
            may
        })
    }

    /// One after the other; what comes after a failure is left to the next plan.
    async fn perform_in_turn(&self, id: InstanceId, stage: Arc<Stage>, chain: Vec<Action>) {
        let mut well = true;
        for action in chain {
            if well {
                let span = tracing::debug_span!("act", instance = %id, action = %action.kind(), node = %action.node());
                well = self.perform(id, &stage, &action).instrument(span).await;
            } else {
                let key = act::key(&action);
                self.with_memory(id, |m| m.actions.entry(key).or_default().running = false);
            }
        }
    }

    /// Whether it succeeded.
    async fn perform(&self, id: InstanceId, stage: &Stage, action: &Action) -> bool {
        let started = tokio::time::Instant::now();
        let mut result = match tokio::time::timeout(act::deadline(action), stage.perform(action)).await {
            Ok(result) => result,
            Err(_) => Err(act::failed("no answer in time")),
        };
        if matches!(result, Ok(Done::Whole)) && object_action(action) {
            let key = act::key(action);
            let done = self.with_memory(id, |m| m.actions.entry(key).or_default().done(action));
            result = done.map(|()| Done::Whole).map_err(act::failed);
        }
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        ::metrics::histogram!(crate::metrics::ACTION_SECONDS, "action" => action.kind().as_str())
            .record(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => tracing::debug!(elapsed_ms, "done"),
            Err(error) => {
                ::metrics::counter!(crate::metrics::ACTION_FAILURES, "action" => action.kind().as_str())
                    .increment(1);
                tracing::warn!(elapsed_ms, %error, "{} on {} failed", action.kind(), action.node());
            }
        }
        let well = result.is_ok();
        let now = self.ports.steady();
        self.with_memory(id, |m| {
            let memory: &mut ActionMemory = m.actions.entry(act::key(action)).or_default();
            memory.running = false;
            let outcome = match &result {
                Ok(Done::Whole) => Outcome::Done,
                Ok(Done::Part { .. }) => Outcome::Part,
                Err(error) => error.outcome(),
            };
            let failures = memory.backoff.failures();
            let wait_ms = action.held_off_ms(outcome, failures);
            if well {
                memory.backoff.succeeded(now, wait_ms);
            } else {
                let jitter_ms = self.ports.randomness.below(20);
                memory.backoff.failed_for(now, wait_ms + jitter_ms);
            }
            match act::object(action) {
                Some(object) => {
                    let before = m.object_progress.remove(&object);
                    m.object_failures.remove(&object);
                    match result {
                        Ok(Done::Whole) => {}
                        Ok(Done::Part { left, moved }) => {
                            let before = before.or(Some(Progress::at(None, left + moved)));
                            m.object_progress.insert(object, Progress::at(before, left));
                        }
                        Err(error) => {
                            m.object_progress.extend(before.map(|before| (object, before)));
                            if error.is_telling(failures) {
                                m.object_failures.insert(object, error.to_string());
                            }
                        }
                    }
                }
                None => {
                    if let Some(node) = m.detector.known(action.node()) {
                        match result {
                            Ok(_) => node.done(action.kind()),
                            Err(error) => node.failed(action.kind(), error.to_string()),
                        }
                    }
                }
            }
            if object_action(action) {
                m.wants_catalogue = true;
            }
        });
        self.queue.wake(id);
        well
    }
}

/// Adds to the change what is new of these records, and which ones they are.
fn observed<R: Record + Clone>(
    mut change: Change,
    loaded: &[Versioned<R>],
    planned: &[R],
) -> (Change, Vec<(usize, Observed<R>)>) {
    let mut written = Vec::new();
    for (index, read) in loaded.iter().enumerate() {
        let new = planned.iter().find(|new| new.uuid() == read.record.uuid());
        if new.is_none() && read.parts.is_taken() {
            continue;
        }
        let new = new.unwrap_or(&read.record).clone();
        let (with, observed) = change.observe(new, read);
        change = with;
        written.push((index, observed));
    }
    (change, written)
}

/// Puts what was written in the place of what was read.
fn settle<R>(loaded: &mut [Versioned<R>], written: Vec<(usize, Observed<R>)>, versions: &[DocumentVersion]) {
    for (index, observed) in written {
        if let Some(place) = loaded.get_mut(index) {
            *place = observed.committed(versions);
        }
    }
}

fn object_action(action: &Action) -> bool {
    act::object(action).is_some()
}

/// What came of reading an instance's records.
enum Read {
    Known(Arc<Known>),
    /// The instance is gone.
    Gone,
    /// Its credentials cannot be opened.
    Sealed(UnsealError),
}

enum Round {
    Again,
    Done(Next),
}
