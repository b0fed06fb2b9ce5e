//! What the user is told: state and reason of the instance and of each node.

use crate::cluster::{ClusterPhase, FailoverCause, standby_name};
use crate::condition::Why;
use crate::id::NodeId;
use crate::infrastructure::{Enforcement, ExitReason, PowerState};
use crate::instance::InstancePhase;
use crate::kinds::{ActionKind, EventKind};
use crate::lifecycle::{Lifecycle, LifecycleEvent};
use crate::node::NodeRole;
use crate::observation::{ActionFailure, Seen};
use crate::reason::Reason;

use super::draft::{Draft, Serving};
use super::{conditions, failover};

/// Sets the instance's state.
pub(super) fn set(
    draft: &mut Draft<'_>,
    phase: InstancePhase,
    event: LifecycleEvent,
    why: Why,
    serving: Option<Serving>,
) {
    conditions::of_instance(draft, event, &why, serving);
    let generation = draft.record.generation;
    let warnings = std::mem::take(&mut draft.warnings);
    let status = &mut draft.record.status;
    let before = status.lifecycle;
    status.lifecycle = before.transition(event);
    status.phase = phase;
    status.reason = why.text;
    status.warnings = warnings;
    status.observed_generation = generation;
    let (after, reason) = (status.lifecycle, status.reason.clone());
    if before != after {
        let kind = match after {
            Lifecycle::New => EventKind::InstanceNew,
            Lifecycle::InProgress => EventKind::InstanceInProgress,
            Lifecycle::Active => EventKind::InstanceActive,
            Lifecycle::Error => EventKind::InstanceError,
        };
        draft.event(kind, None, reason);
    }
}

pub(super) fn plan(draft: &mut Draft<'_>, serving: Option<Serving>) {
    nodes(draft, serving);
    warnings(draft);
    stuck(draft);
    if let Some(refused) = &draft.record.parameters.refused {
        let reason = &refused.reason;
        draft.problem(
            Reason::ParametersRefused,
            format!("{reason}; the parameters of before are in force: take back or change what was refused"),
        );
    }
    if let Some(error) = draft.situation.observation.infrastructure_error.clone() {
        draft.problem(
            Reason::InfrastructureSilent,
            format!("the infrastructure does not answer: {error}"),
        );
    }
    let endpoint = serving
        .and_then(|s| draft.situation.observation.infra(s.node))
        .and_then(|n| n.endpoint.clone());
    if endpoint.is_some() {
        draft.record.status.primary_endpoint = endpoint;
    }
    let mut waiting: Vec<String> = Vec::new();
    for node in &draft.record.nodes {
        waiting.extend(
            draft
                .facts(node.id)
                .into_iter()
                .flat_map(|f| f.pending_restart.iter().cloned()),
        );
    }
    waiting.sort();
    waiting.dedup();
    draft.record.status.parameters_pending_restart = waiting;
    if draft.pending.is_empty()
        && draft
            .cluster()
            .is_some_and(|c| c.is_joint() || c.phase != ClusterPhase::Steady)
    {
        // The newest electorate is written down, and the primary does not wait for it, or not enough of it is
        // there.
        draft.pending(
            Reason::ElectorateChanging,
            "whom a commit waits for is being changed",
        );
    }
    let phase = phase(draft, serving);
    if let Some(problem) = draft.problems.first().cloned() {
        set(draft, phase, LifecycleEvent::Failed, problem, serving);
    } else if let Some(pending) = draft.pending.first().cloned() {
        set(draft, phase, LifecycleEvent::WorkBegan, pending, serving);
    } else {
        let why = Why::from(Reason::AsAskedFor);
        set(draft, phase, LifecycleEvent::Converged, why, serving);
    }
}

/// How often in a row an action has to fail before people are told: once may be a moment's bad luck.
const FAILURES_TOLD: u32 = 2;

/// Nodes that the infrastructure fails to make or to start: nothing goes on until somebody, or time, removes
/// the cause.
fn stuck(draft: &mut Draft<'_>) {
    let ids: Vec<NodeId> = draft.record.nodes.iter().map(|n| n.id).collect();
    for id in ids {
        let done = match repeated_failure(draft, id) {
            Some(failure) if failure.action == ActionKind::Apply => "created",
            Some(failure) if failure.action == ActionKind::Start => "started",
            Some(failure) if failure.action == ActionKind::Remove => "removed",
            _ => continue,
        };
        if let Some(failure) = repeated_failure(draft, id).filter(|_| draft.is_off(id)) {
            let (name, why) = (draft.name(id), &failure.message);
            draft.problem(
                Reason::NodeFails,
                format!("{name} cannot be {done}: {why}; it is tried again"),
            );
        }
    }
}

/// What has failed on a node more than once, and has not been done since.
pub(super) fn repeated_failure<'a>(draft: &Draft<'a>, node: NodeId) -> Option<&'a ActionFailure> {
    draft
        .seen(node)
        .and_then(|seen| seen.last_failure.as_ref())
        .filter(|failure| failure.times >= FAILURES_TOLD)
}

fn phase(draft: &Draft<'_>, serving: Option<Serving>) -> InstancePhase {
    let Some(cluster) = draft.cluster() else {
        return InstancePhase::Creating;
    };
    let switching = matches!(cluster.cause, Some(FailoverCause::Switchover { .. }));
    match (&cluster.phase, serving) {
        (ClusterPhase::Sealing | ClusterPhase::Promoting, None) if switching => InstancePhase::SwitchingOver,
        (ClusterPhase::Sealing | ClusterPhase::Promoting, None) => InstancePhase::FailingOver,
        (_, None) => match draft.situation.instance.status.phase {
            InstancePhase::Creating => InstancePhase::Creating,
            InstancePhase::Stopped | InstancePhase::Starting => InstancePhase::Starting,
            _ => InstancePhase::FailingOver,
        },
        (_, Some(_)) if draft.pending.is_empty() && draft.problems.is_empty() => InstancePhase::Running,
        (_, Some(_)) if draft.record.requests.restart.is_some() => InstancePhase::Restarting,
        (_, Some(_)) => match draft.situation.instance.status.phase {
            InstancePhase::Creating => InstancePhase::Creating,
            _ => InstancePhase::Updating,
        },
    }
}

fn nodes(draft: &mut Draft<'_>, serving: Option<Serving>) {
    let epoch = draft.epoch();
    let (voters, k) = draft
        .cluster()
        .map(|c| (c.current().voters, c.current().k))
        .unwrap_or_default();
    let primary_facts = serving.and_then(|s| draft.facts(s.node));
    let hashes = draft.hashes();
    for index in 0..draft.record.nodes.len() {
        let id = draft.record.nodes[index].id;
        let Some(seen) = draft.seen(id) else { continue };
        let is_primary = serving.is_some_and(|s| s.node == id);
        let name = standby_name(&draft.record.nodes[index].name, epoch);
        let streams =
            primary_facts.is_some_and(|f| f.streaming(&name).is_some()) && draft.is_of_this_history(id);
        let power = seen.infra.present().map(|n| &n.power);
        let (mut event, mut why) = match (&seen.infra, power) {
            (Seen::Unknown, _) => (None, Reason::InfrastructureSilent.into()),
            (Seen::Absent, _) => (
                Some(LifecycleEvent::WorkBegan),
                Why::new(Reason::NodeCreating, "being created"),
            ),
            _ if is_primary => match failover::serves_nobody(draft, id) {
                Some(unfit) => (
                    Some(LifecycleEvent::Failed),
                    Why::new(
                        failover::reason_of(unfit.kind),
                        format!("primary: {}", failover::words(unfit)),
                    ),
                ),
                None => (
                    Some(LifecycleEvent::Converged),
                    Why::new(Reason::TakesWrites, "primary: takes writes"),
                ),
            },
            _ if streams => (
                Some(LifecycleEvent::Converged),
                Why::new(Reason::Streaming, "standby: streams from the primary"),
            ),
            (_, Some(PowerState::Exited(exit))) => {
                let reason = match exit.reason {
                    ExitReason::DiskFull => Reason::DiskFull,
                    _ => Reason::NodeExited,
                };
                (
                    Some(LifecycleEvent::Failed),
                    Why::new(reason, exit.message.clone()),
                )
            }
            (_, Some(PowerState::Frozen)) => (
                Some(LifecycleEvent::Failed),
                Why::new(Reason::NodeFrozen, "its processes are frozen"),
            ),
            (_, Some(PowerState::Preparing)) => (
                Some(LifecycleEvent::WorkBegan),
                Why::new(Reason::NodePreparing, "its data is being prepared"),
            ),
            (_, Some(PowerState::Off)) => (
                Some(LifecycleEvent::WorkBegan),
                Why::new(Reason::NodeStarting, "off; about to be started"),
            ),
            (_, Some(PowerState::Running)) if seen.sql.is_err() => (
                Some(LifecycleEvent::WorkBegan),
                Why::new(Reason::NodeSilent, "PostgreSQL does not answer yet"),
            ),
            _ => (
                Some(LifecycleEvent::WorkBegan),
                Why::new(Reason::NotStreaming, "standby: not streaming yet"),
            ),
        };
        if let (Some(failure), false, false) = (&seen.last_failure, is_primary, streams) {
            why.text = format!("{why}; last failure: {failure}");
            if failure.times >= FAILURES_TOLD && seen.is_off() {
                event = Some(LifecycleEvent::Failed);
            }
        }
        let (endpoint, backend_ref) = match seen.infra.present() {
            Some(n) => (n.endpoint.clone(), n.backend_ref.clone()),
            None => (None, None),
        };
        conditions::of_node(draft, index, event, &why, is_primary, &hashes);
        let node = &mut draft.record.nodes[index];
        if let Some(event) = event {
            node.lifecycle = node.lifecycle.transition(event);
        }
        node.reason = why.text;
        node.sync = k > 0 && streams && voters.contains(&id);
        if serving.is_some() {
            node.role = if is_primary {
                NodeRole::Primary
            } else {
                NodeRole::Standby
            };
        }
        if endpoint.is_some() {
            node.endpoint = endpoint;
        }
        node.backend_ref = backend_ref;
    }
}

fn warnings(draft: &mut Draft<'_>) {
    let policy = draft.situation.policy;
    let capabilities = &policy.capabilities;
    let mut loose = Vec::new();
    for (name, enforcement) in [
        ("cpu", capabilities.cpu),
        ("ram", capabilities.ram),
        ("disk_size", capabilities.disk),
    ] {
        if enforcement == Enforcement::NotEnforced {
            loose.push(name);
        }
    }
    if !loose.is_empty() {
        draft
            .warnings
            .push(format!("not enforced by this backend: {}", loose.join(", ")));
    }
    draft
        .warnings
        .extend(policy.infrastructure_warnings.iter().cloned());
    if draft.record.spec.nodes.get() > 1 && !draft.record.spec.writes_survive_one_loss() {
        let k = draft.record.spec.effective_sync_replicas();
        draft.warnings.push(format!(
            "writes stop while one node is lost: with {k} synchronous standby(s) that needs at least {} nodes",
            k + 2
        ));
    }
    let floor = draft.disk_floor();
    let advice = draft.disk_advice();
    for node in &draft.record.nodes {
        let free = draft
            .situation
            .observation
            .infra(node.id)
            .and_then(|n| n.disk_free_bytes);
        if free.is_some_and(|free| free < floor) {
            // The bound, not what is left: that changes with each look, and is in the list of nodes.
            draft.warnings.push(format!(
                "{}: less than {} MB of disk space are left; {advice}",
                node.name,
                floor >> 20
            ));
        }
    }
}
