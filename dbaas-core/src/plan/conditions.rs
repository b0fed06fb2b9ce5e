//! The conditions of an instance, of its nodes, users and databases: what was decided and seen in this plan,
//! for programs.

use std::collections::BTreeSet;

use crate::condition::{ConditionStatus, ConditionType, Why, status_after};
use crate::id::NodeId;
use crate::infrastructure::{ExitReason, PowerState};
use crate::instance::DesiredState;
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle};
use crate::node::NodeRecord;
use crate::observation::{Fitness, Seen, Silence};
use crate::reason::Reason;
use crate::time::Timestamp;

use super::draft::{Draft, Serving};
use super::failover;
use super::hashes::Hashes;

type Judged = (ConditionStatus, Why);

fn is_so(reason: Reason) -> Judged {
    (ConditionStatus::True, reason.into())
}

fn is_not(reason: Reason, text: impl Into<String>) -> Judged {
    (ConditionStatus::False, Why::new(reason, text))
}

/// Those of the instance; `why` is what its status says. Those of its nodes are there already.
pub(super) fn of_instance(draft: &mut Draft<'_>, event: LifecycleEvent, why: &Why, serving: Option<Serving>) {
    let now = draft.situation.observation.at;
    let mut conditions = std::mem::take(&mut draft.record.status.conditions);
    let mut set = |kind, judged: Option<Judged>| match judged {
        Some((status, why)) => conditions.set(kind, status, why, now),
        None => conditions.remove(kind),
    };
    set(
        ConditionType::Reconciled,
        Some((status_after(event), why.clone())),
    );
    let runs = draft.record.desired == DesiredState::Running;
    set(
        ConditionType::InfrastructureReachable,
        Some(infrastructure(draft)),
    );
    set(ConditionType::DiskSpace, Some(disks(draft)));
    if runs {
        set(ConditionType::Ready, Some(ready(draft, why, serving)));
        set(ConditionType::Replicating, replicating(draft, serving));
        set(ConditionType::ParametersApplied, Some(parameters(draft)));
        set(ConditionType::ObjectsReconciled, Some(objects(draft)));
    } else {
        set(ConditionType::Ready, Some((ConditionStatus::False, why.clone())));
        for kind in [
            ConditionType::Replicating,
            ConditionType::ParametersApplied,
            ConditionType::ObjectsReconciled,
        ] {
            set(kind, None);
        }
    }
    draft.record.status.conditions = conditions;
}

/// Whether a client's commit is acknowledged now.
fn ready(draft: &Draft<'_>, why: &Why, serving: Option<Serving>) -> Judged {
    let Some(primary) = serving.map(|serving| serving.node) else {
        return not_serving(draft, why);
    };
    if let Some(unfit) = failover::serves_nobody(draft, primary) {
        return is_not(
            failover::reason_of(unfit.kind),
            format!("the primary {} {}", draft.name(primary), failover::words(unfit)),
        );
    }
    if let Some(judged) = refuses(draft, primary) {
        return judged;
    }
    let (Some(cluster), Some(facts)) = (draft.cluster(), draft.facts(primary)) else {
        return is_so(Reason::TakesWrites);
    };
    let streaming = draft.streaming(facts);
    let current = cluster.current();
    match current.count(&streaming) >= usize::from(current.k) {
        true => is_so(Reason::TakesWrites),
        false => is_not(
            Reason::CommitsWaitForStandbys,
            format!(
                "a commit waits for {} of {}, and too few of them stream",
                current.k,
                draft.names(&current.voters)
            ),
        ),
    }
}

/// A primary that refuses for a reason that another one would have, too: for as long as counts with one that
/// serves nobody.
fn refuses(draft: &Draft<'_>, primary: NodeId) -> Option<Judged> {
    let Fitness::Unfit { why, for_ms, .. } = &draft.seen(primary)?.fitness else {
        return None;
    };
    (*for_ms >= draft.situation.policy.unfit_ms).then(|| {
        is_not(
            failover::reason_of(why.kind),
            format!("the primary {} {}", draft.name(primary), failover::words(why)),
        )
    })
}

/// Nobody is known to take writes. What its standbys hear from may well take some.
fn not_serving(draft: &Draft<'_>, why: &Why) -> Judged {
    let told = draft.problems.first().or(draft.pending.first()).unwrap_or(why);
    let status = match told.reason {
        Reason::PrimaryUnreachable | Reason::InfrastructureSilent => ConditionStatus::Unknown,
        _ => ConditionStatus::False,
    };
    (status, told.clone())
}

/// Nothing where there is nothing to replicate to.
fn replicating(draft: &Draft<'_>, serving: Option<Serving>) -> Option<Judged> {
    let standbys = draft.record.nodes.iter().filter(|node| !node.leaving).count();
    if draft.record.spec.nodes.get() <= 1 && standbys <= 1 {
        return None;
    }
    let Some(facts) = serving.and_then(|serving| draft.facts(serving.node)) else {
        return Some((ConditionStatus::Unknown, Reason::NoPrimary.into()));
    };
    let streaming = draft.streaming(facts);
    let others = serving
        .map(|serving| draft.others(serving.node))
        .unwrap_or_default();
    let away: BTreeSet<NodeId> = others.into_iter().filter(|id| !streaming.contains(id)).collect();
    let asked = draft.record.spec.effective_sync_replicas();
    let k = draft.cluster().map_or(0, |cluster| cluster.current().k);
    Some(if !away.is_empty() {
        is_not(
            Reason::NotStreaming,
            format!("not streaming: {}", draft.names(&away)),
        )
    } else if k < asked {
        is_not(
            Reason::StandbysMissing,
            format!("{k} of {asked} synchronous standbys are there"),
        )
    } else {
        is_so(Reason::AllStream)
    })
}

fn parameters(draft: &Draft<'_>) -> Judged {
    if let Some(refused) = &draft.record.parameters.refused {
        return is_not(Reason::ParametersRefused, refused.reason.clone());
    }
    if let Some(problem) = draft
        .problems
        .iter()
        .find(|problem| problem.reason == Reason::ConfigurationFails)
    {
        return (ConditionStatus::False, problem.clone());
    }
    let of_node = |node: &NodeRecord| {
        node.conditions
            .get(ConditionType::ParametersApplied)
            .map(|of| of.reason)
    };
    if draft
        .record
        .nodes
        .iter()
        .any(|node| of_node(node) == Some(Reason::Reconfiguring))
    {
        return is_not(Reason::Reconfiguring, Reason::Reconfiguring.to_string());
    }
    let waiting = &draft.record.status.parameters_pending_restart;
    match waiting.is_empty() {
        true => is_so(Reason::Configured),
        false => is_not(
            Reason::RestartPending,
            format!("waiting for a restart: {}", waiting.join(", ")),
        ),
    }
}

fn infrastructure(draft: &Draft<'_>) -> Judged {
    let observation = draft.situation.observation;
    if let Some(error) = &observation.infrastructure_error {
        return is_not(
            Reason::InfrastructureSilent,
            format!("the infrastructure does not answer: {error}"),
        );
    }
    let is_unknown = |node: &&NodeRecord| {
        draft
            .seen(node.id)
            .is_some_and(|seen| seen.infra == Seen::Unknown)
    };
    let unknown = draft.record.nodes.iter().filter(is_unknown);
    let unknown = unknown.map(|node| node.id).collect::<BTreeSet<_>>();
    match unknown.is_empty() {
        true => is_so(Reason::InfrastructureAnswers),
        false => is_not(
            Reason::NodesOutOfSight,
            format!("out of its sight: {}", draft.names(&unknown)),
        ),
    }
}

/// The worst of all nodes.
fn disks(draft: &Draft<'_>) -> Judged {
    let mut all = draft.record.nodes.iter().map(|node| disk(draft, node.id));
    let worst = |judged: &Judged| match judged.0 {
        ConditionStatus::False if judged.1.reason == Reason::DiskFull => 3,
        ConditionStatus::False => 2,
        ConditionStatus::True => 1,
        ConditionStatus::Unknown => 0,
    };
    let first = all
        .next()
        .unwrap_or((ConditionStatus::Unknown, Reason::DiskNotMeasured.into()));
    all.fold(first, |a, b| if worst(&b) > worst(&a) { b } else { a })
}

fn disk(draft: &Draft<'_>, id: NodeId) -> Judged {
    let Some(found) = draft.situation.observation.infra(id) else {
        return (ConditionStatus::Unknown, Reason::DiskNotMeasured.into());
    };
    let name = draft.name(id);
    let floor = draft.disk_floor();
    match (&found.power, found.disk_free_bytes) {
        (PowerState::Exited(exit), _) if exit.reason == ExitReason::DiskFull => {
            is_not(Reason::DiskFull, draft.disk_is_full(&name))
        }
        (_, Some(free)) if free < floor => is_not(
            Reason::DiskLow,
            format!(
                "{name}: less than {} MB of disk space are left; {}",
                floor >> 20,
                draft.disk_advice()
            ),
        ),
        (_, Some(_)) => is_so(Reason::DiskSpaceLeft),
        (_, None) => (ConditionStatus::Unknown, Reason::DiskNotMeasured.into()),
    }
}

/// The first that fails, or how many are not as asked for yet.
fn objects(draft: &Draft<'_>) -> Judged {
    let users = draft.users.iter().map(|user| {
        let name = user.name.as_str();
        (
            "user",
            name,
            user.lifecycle,
            user.deleting,
            &user.reason,
            &user.conditions,
        )
    });
    let databases = draft.databases.iter().map(|database| {
        let name = database.name.as_str();
        let (state, goes) = (database.lifecycle, database.deleting);
        (
            "database",
            name,
            state,
            goes,
            &database.reason,
            &database.conditions,
        )
    });
    let mut pending = 0;
    for (what, name, lifecycle, deleting, reason, conditions) in users.chain(databases) {
        if lifecycle == ObjectLifecycle::Error {
            let known = conditions.get(ConditionType::Reconciled).map(|of| of.reason);
            return is_not(
                known.unwrap_or(Reason::ObjectFails),
                format!("{what} {name}: {reason}"),
            );
        }
        pending += usize::from(deleting || lifecycle != ObjectLifecycle::Active);
    }
    match pending {
        0 => is_so(Reason::AsAskedFor),
        _ => is_not(
            Reason::ObjectsPending,
            format!("{pending} users and databases are not as asked for yet"),
        ),
    }
}

/// Those of a node that is to run; without an `event` nothing is known of it.
pub(super) fn of_node(
    draft: &mut Draft<'_>,
    index: usize,
    event: Option<LifecycleEvent>,
    why: &Why,
    is_primary: bool,
    hashes: &Hashes,
) {
    let now = draft.situation.observation.at;
    let id = draft.record.nodes[index].id;
    let status = event.map_or(ConditionStatus::Unknown, status_after);
    let streams = why.reason == Reason::Streaming;
    let disk = disk(draft, id);
    let applied = configured(draft, id, hashes);
    let conditions = &mut draft.record.nodes[index].conditions;
    conditions.set(ConditionType::Ready, status, why.clone(), now);
    conditions.remove(ConditionType::Reconciled);
    match (is_primary, streams) {
        (true, _) => conditions.remove(ConditionType::Replicating),
        (false, true) => conditions.set(
            ConditionType::Replicating,
            ConditionStatus::True,
            Reason::Streaming,
            now,
        ),
        (false, false) => conditions.set(
            ConditionType::Replicating,
            ConditionStatus::False,
            Reason::NotStreaming,
            now,
        ),
    }
    conditions.set(ConditionType::DiskSpace, disk.0, disk.1, now);
    conditions.set(ConditionType::ParametersApplied, applied.0, applied.1, now);
}

/// Whether a node runs with its configuration.
fn configured(draft: &Draft<'_>, id: NodeId, hashes: &Hashes) -> Judged {
    let Some(seen) = draft.seen(id) else {
        return (ConditionStatus::Unknown, Reason::NodeSilent.into());
    };
    match &seen.sql {
        Ok(facts) if !hashes.has_read(id, facts) => {
            is_not(Reason::Reconfiguring, Reason::Reconfiguring.to_string())
        }
        Ok(facts) if !facts.pending_restart.is_empty() => is_not(
            Reason::RestartPending,
            format!("waiting for a restart: {}", facts.pending_restart.join(", ")),
        ),
        Ok(_) => is_so(Reason::Configured),
        Err(Silence::NotReady | Silence::Refused) => (ConditionStatus::Unknown, Reason::NodeStarting.into()),
        Err(_) => (ConditionStatus::Unknown, Reason::NodeSilent.into()),
    }
}

/// Those of a node of an instance that is stopped, or is being stopped.
pub(super) fn of_node_that_stops(node: &mut NodeRecord, why: Why, now: Timestamp) {
    let conditions = &mut node.conditions;
    for kind in [
        ConditionType::Reconciled,
        ConditionType::Replicating,
        ConditionType::ParametersApplied,
    ] {
        conditions.remove(kind);
    }
    conditions.set(ConditionType::Ready, ConditionStatus::False, why, now);
}
