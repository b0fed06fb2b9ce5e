//! The start of a standby that is off: from what data, following whom, and when it has to wait.

use crate::boot_plan::PreparePlan;
use crate::cluster::{ClusterPhase, slot_name};
use crate::id::NodeId;
use crate::infrastructure::{DataState, ExitReason, ObservedNode, PowerState};
use crate::kinds::{ActionKind, EventKind};
use crate::node::{NodeRecord, Rejoin};
use crate::plan::Action;
use crate::plan::draft::{Draft, Serving};
use crate::reason::Reason;

use super::set_rejoin;

/// Starts that ended by themselves before a heavier way of rejoining is taken.
const ATTEMPTS: u32 = 3;

/// A standby that is off.
pub(super) fn plan(draft: &mut Draft<'_>, id: NodeId, observed: &ObservedNode, serving: Option<Serving>) {
    let Some(record) = draft.node(id).cloned() else {
        return;
    };
    let name = record.name.clone();
    let rejoin = next_rejoin(draft, &record, observed, serving);
    set_rejoin(draft, id, rejoin);
    if let PowerState::Exited(exit) = &observed.power {
        if exit.reason == ExitReason::DiskFull {
            draft.problem(Reason::DiskFull, draft.disk_is_full(&name));
        } else if record.rejoin != Rejoin::Seed {
            draft.pending(Reason::NodeExited, format!("{name} is off ({})", exit.message));
        }
    }
    let hold_off = draft.seen(id).map_or(0, |s| s.hold_off_ms);
    // Its data was what kept it from starting: with other data it need not wait.
    let gets_other_data = rejoin == Rejoin::BaseBackup && record.rejoin != Rejoin::BaseBackup;
    if hold_off > 0 && !gets_other_data {
        draft.pending(
            Reason::NodeStarting,
            format!("{name} is started again in {} s", hold_off.div_ceil(1000)),
        );
        draft.wake_within(hold_off);
        return;
    }
    let Some(cluster) = draft.cluster() else { return };
    let (primary, phase) = (cluster.primary, cluster.phase.clone());
    if phase == ClusterPhase::Promoting && can_do_without(draft, id) {
        return draft.pending(
            Reason::NodeWaiting,
            format!("{name} is started when the new primary takes writes"),
        );
    }
    let source = serving.and_then(|s| Some((s.node, draft.peer_endpoint(s.node)?)));
    let prepare = match rejoin {
        Rejoin::Seed => {
            // Together with the first node: its copy is put here before that one runs.
            let starting = draft
                .actions
                .iter()
                .any(|a| a.node() == primary && a.kind() == ActionKind::Start)
                || matches!(
                    draft.power(primary),
                    Some(PowerState::Preparing | PowerState::Running)
                );
            if !starting {
                return draft.pending(Reason::NodeWaiting, format!("{name} waits for the first node"));
            }
            PreparePlan::SeedOf { source: primary }
        }
        Rejoin::InPlace => PreparePlan::Existing,
        Rejoin::Rewind => match source {
            Some((source, _)) if !draft.facts(source).is_some_and(|f| f.checkpointed) => {
                draft.act(
                    Action::Checkpoint { node: source },
                    "a rewind needs the new primary's first checkpoint",
                );
                return draft.pending(
                    Reason::NodeWaiting,
                    format!("{name} waits for the new primary's first checkpoint"),
                );
            }
            Some((source, endpoint)) => PreparePlan::Rewind { source, endpoint },
            None if is_better_than_nothing(draft, id) => PreparePlan::Existing,
            None => {
                return draft.pending(
                    Reason::NodeWaiting,
                    format!("{name} waits for a primary to rewind to"),
                );
            }
        },
        Rejoin::BaseBackup => match source {
            Some((source, endpoint)) => {
                let slot = slot_name(&name);
                if !draft
                    .facts(source)
                    .is_some_and(|f| f.slots.iter().any(|s| s.name == slot && !s.lost))
                {
                    return draft.pending(
                        Reason::NodeWaiting,
                        format!("{name} waits for its slot on the primary"),
                    );
                }
                PreparePlan::BaseBackup {
                    source,
                    endpoint,
                    slot,
                }
            }
            None if observed.data == DataState::Initialised && is_better_than_nothing(draft, id) => {
                PreparePlan::Existing
            }
            None => {
                return draft.pending(
                    Reason::NodeWaiting,
                    format!("{name} waits for a primary to copy from"),
                );
            }
        },
    };
    // During an election a standby starts sealed: it may be needed to elect, and must not follow anybody.
    let follow = match (&phase, serving) {
        (_, Some(serving)) => Some(serving.node),
        (ClusterPhase::Steady, None) => Some(primary),
        (ClusterPhase::Sealing | ClusterPhase::Promoting, None) => None,
    };
    let boot = draft.standby_boot(id, follow, prepare);
    let how = match boot.prepare {
        PreparePlan::Init { .. } | PreparePlan::SeedOf { .. } => "as a copy of the first node",
        PreparePlan::Existing => "where it is",
        PreparePlan::Rewind { .. } => "after rewinding it",
        PreparePlan::BaseBackup { .. } => "from a base backup",
    };
    if let Some(node) = draft.node_mut(id) {
        node.rejoin_attempts += 1;
    }
    let why = format!("starting {name} {how}");
    if rejoin != Rejoin::Seed {
        draft.event(EventKind::StandbyStarting, Some(id), why.clone());
    }
    draft.pending(Reason::NodeStarting, why.clone());
    draft.act(
        Action::Start {
            node: id,
            boot: Box::new(boot),
        },
        why,
    );
}

/// Whether what a standby has is needed, also where it was to be rewound or rebuilt: the primary's disk is
/// lost, and
/// - this is the primary of before, and nobody has caught up with its successor yet: everything that was
///   acknowledged in its time is here. It is started sealed, and stands for that;
/// - or nothing was promised (k = 0), or somebody has said that commits may be lost: then whatever there is
///   is better than nothing.
fn is_better_than_nothing(draft: &Draft<'_>, id: NodeId) -> bool {
    let Some(cluster) = draft.cluster() else {
        return false;
    };
    let observed = draft.situation.observation.infra(cluster.primary);
    let is_lost = draft.is_off(cluster.primary) && observed.is_none_or(|n| n.data != DataState::Initialised);
    let stands_for_its_time = cluster.former.as_ref().is_some_and(|former| former.node == id);
    let failover = draft.record.requests.failover.as_ref();
    is_lost
        && (stands_for_its_time || !cluster.is_synchronous() || failover.is_some_and(|f| f.allow_data_loss))
}

/// Whether a promotion that goes well ends without this node, which is off. Its start would only take time
/// from those that writes wait for; where one of them keeps the promotion waiting, it is started.
fn can_do_without(draft: &Draft<'_>, id: NodeId) -> bool {
    let Some(cluster) = draft.cluster() else {
        return false;
    };
    let patience_ms = draft.situation.policy.voter_gone_ms;
    let well = |other: &NodeId| {
        *other != id
            && draft.facts(*other).is_some()
            && draft
                .seen(*other)
                .is_some_and(|seen| seen.waiting_ms < patience_ms)
    };
    let voters = cluster.current().voters;
    let others = voters
        .iter()
        .filter(|v| **v != cluster.primary && well(v))
        .count();
    let needed = cluster
        .electorates
        .iter()
        .map(|e| usize::from(e.k))
        .max()
        .unwrap_or(0);
    well(&cluster.primary) && others >= needed
}

/// How a standby that is off gets its data: heavier where the lighter way has failed or cannot work.
fn next_rejoin(
    draft: &Draft<'_>,
    record: &NodeRecord,
    observed: &ObservedNode,
    serving: Option<Serving>,
) -> Rejoin {
    let (rejoin, attempts) = (record.rejoin, record.rejoin_attempts);
    let served = draft
        .cluster()
        .and_then(|c| draft.node(c.primary))
        .is_some_and(|primary| primary.rejoin != Rejoin::Seed);
    let reason = match &observed.power {
        PowerState::Exited(exit) => Some(exit.reason),
        _ => None,
    };
    match (&rejoin, observed.data, reason) {
        (Rejoin::BaseBackup, _, _) => Rejoin::BaseBackup,
        (Rejoin::Seed, DataState::Initialised, _) if served => Rejoin::InPlace,
        (Rejoin::Seed, _, Some(ExitReason::SeedGone)) => Rejoin::BaseBackup,
        (Rejoin::Seed, _, _) if served && serving.is_some() => Rejoin::BaseBackup,
        (Rejoin::Seed, _, _) => Rejoin::Seed,
        (_, DataState::Empty | DataState::Incomplete, _) => Rejoin::BaseBackup,
        (_, DataState::Initialised, Some(ExitReason::CannotRewind | ExitReason::PreparationFailed)) => {
            Rejoin::BaseBackup
        }
        // It says itself that its files are gone or broken: no start mends that, and a rewind would read
        // them.
        (_, DataState::Initialised, Some(ExitReason::Damaged)) if serving.is_some() => Rejoin::BaseBackup,
        // It was started so before, ended by itself and never came to stream.
        (Rejoin::InPlace, DataState::Initialised, Some(ExitReason::Died))
            if attempts >= ATTEMPTS && serving.is_some() =>
        {
            Rejoin::Rewind
        }
        (Rejoin::Rewind, DataState::Initialised, Some(ExitReason::Died)) if attempts >= ATTEMPTS => {
            Rejoin::BaseBackup
        }
        (rejoin, DataState::Initialised, _) => *rejoin,
    }
}
