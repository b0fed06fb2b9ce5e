//! Every node's disk, start and source: what a node needs to be a good standby of the primary that serves, or to be there when an
//! election needs it.

use crate::boot_plan::{PreparePlan, conninfo};
use crate::cluster::{ClusterPhase, slot_name};
use crate::id::NodeId;
use crate::infrastructure::{DataDisposal, DataState, ExitReason, ObservedNode, PowerOff, PowerState};
use crate::node::{NodeRecord, Rejoin};
use crate::observation::{NodeFacts, Seen, Silence};

use super::Action;
use super::draft::{Draft, Serving};

/// Starts that ended by themselves before a heavier way of rejoining is taken.
const ATTEMPTS: u32 = 3;
/// How long a standby that is to be rewound may take to shut down, in milliseconds.
const STUCK_SHUTDOWN_MS: u32 = 5_000;
/// Prefix of our slots: others are not touched.
pub(super) const SLOT_PREFIX: &str = "dbaas_";

pub(super) fn plan(draft: &mut Draft<'_>, serving: Option<Serving>) {
    let ids: Vec<NodeId> = draft.record.nodes.iter().map(|n| n.id).collect();
    for id in ids {
        node(draft, id, serving);
    }
    if let Some(serving) = serving {
        slots_of_primary(draft, serving);
        strays(draft);
    }
}

/// A node that the record does not know: an order to make one came after it had been removed. It never had data; one that has is left for
/// people to look at.
fn strays(draft: &mut Draft<'_>) {
    let observation = draft.situation.observation;
    for (&id, seen) in &observation.nodes {
        let Some(found) = seen.infra.present() else {
            continue;
        };
        if draft.node(id).is_some() {
            continue;
        }
        if found.data == DataState::Empty && seen.is_off() {
            let data = DataDisposal::Delete;
            let why = format!("{id} is no node of this instance, and empty: removing it");
            draft.act(Action::Remove { node: id, data }, why);
        } else {
            draft.warnings.push(format!(
                "there is a node {id} ({}) that this instance does not know; it is left alone: remove it by hand if nobody needs its data",
                found.backend_ref.as_deref().unwrap_or("of no process")
            ));
        }
    }
}

fn node(draft: &mut Draft<'_>, id: NodeId, serving: Option<Serving>) {
    let Some(record) = draft.node(id).cloned() else {
        return;
    };
    let Some(seen) = draft.seen(id) else {
        // Decided on in this plan, so that nobody has made it yet.
        if draft.situation.observation.infrastructure_error.is_none() {
            create(draft, &record);
        }
        return;
    };
    if record.leaving && leave(draft, id, serving) {
        return;
    }
    let observed = match &seen.infra {
        Seen::Unknown => return,
        Seen::Absent => {
            let primary = draft.cluster().is_some_and(|c| c.primary == id);
            if record.rejoin != Rejoin::Seed && !primary {
                set_rejoin(draft, id, Rejoin::BaseBackup);
            }
            if !primary || record.rejoin == Rejoin::Seed {
                create(draft, &record);
            }
            return;
        }
        Seen::Present(observed) => observed,
    };
    if seen.is_off() && observed.applied.as_ref() != Some(&draft.node_spec(&record)) {
        let why = format!("{} gets the sizes that were asked for", record.name);
        draft.pending(why.clone());
        draft.act(Action::Apply(draft.node_spec(&record)), why);
        return;
    }
    if draft.cluster().is_some_and(|c| c.primary == id) {
        return; // Its start is the failover part's to decide.
    }
    match &observed.power {
        PowerState::Off | PowerState::Exited(_) => start(draft, id, observed, serving),
        PowerState::Preparing => draft.pending(format!("{} is being prepared", record.name)),
        PowerState::Frozen => {
            if seen.silent_ms >= draft.situation.policy.voter_gone_ms {
                let mode = PowerOff::Immediate;
                draft.act(
                    Action::PowerOff { node: id, mode },
                    format!("{} is frozen: restarting it", record.name),
                );
            }
        }
        PowerState::Running => match &seen.sql {
            Ok(facts) => running(draft, id, facts, serving),
            Err(silence) => {
                draft.pending(format!("{} does not answer yet", record.name));
                // A new standby knows the control plane's password when it has replayed it.
                if matches!(silence, Silence::Login | Silence::Refused | Silence::NotReady) {
                    draft.wake_within(draft.situation.policy.progress_ms * 2);
                }
            }
        },
    }
}

fn create(draft: &mut Draft<'_>, node: &NodeRecord) {
    let why = format!("creating {}", node.name);
    draft.pending(why.clone());
    draft.act(Action::Apply(draft.node_spec(node)), why);
}

fn set_rejoin(draft: &mut Draft<'_>, id: NodeId, rejoin: Rejoin) {
    if let Some(node) = draft.node_mut(id)
        && node.rejoin != rejoin
    {
        node.rejoin_by(rejoin);
    }
}

/// This standby streams, and is of the primary's history: its data is good.
pub(super) fn note_good_standby(draft: &mut Draft<'_>, id: NodeId) {
    if let Some(node) = draft.node_mut(id)
        && !node.is_to_be_rebuilt()
    {
        node.rejoin_by(Rejoin::InPlace);
    }
}

/// This standby was started from the base backup that it was to be built anew from: its data is good, also if the primary is lost before it
/// could stream. Otherwise it could vote while it runs, and never be started again.
fn note_rebuilt(draft: &mut Draft<'_>, id: NodeId, facts: &NodeFacts) {
    if let Some(node) = draft.node_mut(id)
        && node.rejoin == Rejoin::BaseBackup
        && node.rebuilds > 0
        && node.rebuilds == facts.rebuild
    {
        node.rejoin_by(Rejoin::InPlace);
    }
}

/// A node that is to go: first out of every electorate, then off, then removed, then forgotten. Whether this is all there is to do for it.
fn leave(draft: &mut Draft<'_>, id: NodeId, serving: Option<Serving>) -> bool {
    let votes = draft
        .cluster()
        .is_some_and(|c| c.all_voters().contains(&id) || c.primary == id);
    let steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    let name = draft.name(id);
    if votes || !steady || serving.is_none() {
        draft.pending(format!("{name} is to be removed when it is no voter any more"));
        return false;
    }
    let Some(seen) = draft.seen(id) else { return true };
    match &seen.infra {
        Seen::Unknown => {}
        Seen::Absent => {
            draft.record.nodes.retain(|n| n.id != id);
            draft.event("node_removed", Some(id), format!("{name} was removed"));
            draft.soon();
            return true;
        }
        Seen::Present(_) if seen.is_off() => {
            let data = DataDisposal::Delete;
            draft.act(Action::Remove { node: id, data }, format!("removing {name}"));
        }
        Seen::Present(_) => {
            let mode = PowerOff::Immediate;
            draft.act(
                Action::PowerOff { node: id, mode },
                format!("{name} leaves the instance"),
            );
        }
    }
    draft.pending(format!("{name} is being removed"));
    true
}

/// A standby that is off.
fn start(draft: &mut Draft<'_>, id: NodeId, observed: &ObservedNode, serving: Option<Serving>) {
    let Some(record) = draft.node(id).cloned() else {
        return;
    };
    let name = record.name.clone();
    let rejoin = next_rejoin(draft, &record, observed, serving);
    set_rejoin(draft, id, rejoin);
    if let PowerState::Exited(exit) = &observed.power {
        if exit.reason == ExitReason::DiskFull {
            draft.problem(draft.disk_is_full(&name));
        } else if record.rejoin != Rejoin::Seed {
            draft.pending(format!("{name} is off ({})", exit.message));
        }
    }
    let hold_off = draft.seen(id).map_or(0, |s| s.hold_off_ms);
    if hold_off > 0 {
        draft.pending(format!(
            "{name} is started again in {} s",
            hold_off.div_ceil(1000)
        ));
        draft.wake_within(hold_off);
        return;
    }
    let Some(cluster) = draft.cluster() else { return };
    let (primary, phase) = (cluster.primary, cluster.phase.clone());
    if phase == ClusterPhase::Promoting && can_do_without(draft, id) {
        return draft.pending(format!("{name} is started when the new primary takes writes"));
    }
    let source = serving.and_then(|s| Some((s.node, draft.peer_endpoint(s.node)?)));
    let prepare = match rejoin {
        Rejoin::Seed => {
            // Together with the first node: its copy is put here before that one runs.
            let starting = draft
                .actions
                .iter()
                .any(|a| a.node() == primary && a.name() == "start")
                || matches!(
                    draft.power(primary),
                    Some(PowerState::Preparing | PowerState::Running)
                );
            if !starting {
                return draft.pending(format!("{name} waits for the first node"));
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
                return draft.pending(format!("{name} waits for the new primary's first checkpoint"));
            }
            Some((source, endpoint)) => PreparePlan::Rewind { source, endpoint },
            None if is_better_than_nothing(draft, id) => PreparePlan::Existing,
            None => return draft.pending(format!("{name} waits for a primary to rewind to")),
        },
        Rejoin::BaseBackup => match source {
            Some((source, endpoint)) => {
                let slot = slot_name(&name);
                if !draft
                    .facts(source)
                    .is_some_and(|f| f.slots.iter().any(|s| s.name == slot && !s.lost))
                {
                    return draft.pending(format!("{name} waits for its slot on the primary"));
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
            None => return draft.pending(format!("{name} waits for a primary to copy from")),
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
        draft.event("standby_starting", Some(id), why.clone());
    }
    draft.pending(why.clone());
    draft.act(
        Action::Start {
            node: id,
            boot: Box::new(boot),
        },
        why,
    );
}

/// Whether what a standby has is needed, also where it was to be rewound or rebuilt: the primary's disk is lost, and
/// - this is the primary of before, and nobody has caught up with its successor yet: everything that was acknowledged in its time is here. It is started
///   sealed, and stands for that;
/// - or nothing was promised (k = 0), or somebody has said that commits may be lost: then whatever there is is better than nothing.
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

/// Whether a promotion that goes well ends without this node, which is off. Its start would only take time from those that writes wait for;
/// where one of them keeps the promotion waiting, it is started.
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

/// A node that runs, answers, and is not the primary.
fn running(draft: &mut Draft<'_>, id: NodeId, facts: &NodeFacts, serving: Option<Serving>) {
    let name = draft.name(id);
    if !facts.in_recovery {
        // An old primary that something else started, or that was cut off. Its names are of an old epoch, so that it acknowledges nothing.
        // One that was taken for a standby was promoted by an order that came late, on a timeline whose number the primary may have, too:
        // a rewind would see no difference.
        if draft.node(id).is_some_and(|n| n.rejoin != Rejoin::Rewind) {
            set_rejoin(draft, id, Rejoin::BaseBackup);
        }
        draft.event(
            "stray_primary_fenced",
            Some(id),
            format!("{name} runs as a primary and is none: fencing it"),
        );
        let mode = PowerOff::Immediate;
        draft.pending(format!(
            "{name} runs as a primary and is none: it is being fenced"
        ));
        draft.act(Action::PowerOff { node: id, mode }, format!("fencing {name}"));
        return;
    }
    note_rebuilt(draft, id, facts);
    let Some(serving) = serving else { return };
    if draft.node(id).is_some_and(NodeRecord::is_to_be_rebuilt) {
        let why = format!("{name} may hold what the primary's history does not: rebuilding it");
        draft.pending(why.clone());
        draft.event("standby_rebuilding", Some(id), why.clone());
        let mode = PowerOff::Immediate;
        draft.act(Action::PowerOff { node: id, mode }, why);
        return;
    }
    let Some(primary) = draft.facts(serving.node) else {
        return;
    };
    let epoch = draft.epoch();
    let Some(target) = draft.follow_target(id, serving.node) else {
        return;
    };
    let wanted = conninfo(&target);
    let closed_names = draft.missing_closed_names(facts);
    let misled =
        facts.primary_conninfo != wanted || facts.primary_slot != target.slot || facts.epoch != epoch;
    if (misled || closed_names.is_some()) && facts.epoch <= epoch {
        let slot = target.slot.clone();
        draft.act(
            Action::Follow {
                node: id,
                epoch,
                conninfo: wanted,
                slot,
                closed_names,
            },
            format!("{name} is to follow {}", draft.name(serving.node)),
        );
    }
    let leftover: Vec<String> = facts
        .slots
        .iter()
        .filter(|s| s.name.starts_with(SLOT_PREFIX) && !s.active)
        .map(|s| s.name.clone())
        .collect();
    let steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    if !leftover.is_empty() && steady {
        draft.act(
            Action::DropSlots {
                node: id,
                names: leftover,
            },
            format!("slots on the standby {name} keep WAL for nobody"),
        );
    }
    if primary.streaming(&target.application_name).is_some() && facts.history == epoch {
        note_good_standby(draft, id);
        return;
    }
    draft.pending(format!("{name} does not stream yet"));
    draft.wake_within(draft.situation.policy.progress_ms * 2);
    // On a primary that was just promoted, a slot that is lost is from a time before: it is made anew.
    let lost_slot = steady && primary.slots.iter().any(|s| s.name == target.slot && s.lost);
    let waited = draft.seen(id).map_or(0, |s| s.waiting_ms);
    let stuck = waited >= draft.situation.policy.stuck_standby_ms && facts.replay_waits && !misled;
    if !(lost_slot || stuck) {
        return;
    }
    let rejoin = match draft.node(id).map(|n| n.rejoin) {
        Some(Rejoin::InPlace | Rejoin::Seed) if !lost_slot => Rejoin::Rewind,
        _ => Rejoin::BaseBackup,
    };
    set_rejoin(draft, id, rejoin);
    let what = if rejoin == Rejoin::Rewind {
        "rewinding it"
    } else {
        "rebuilding it"
    };
    // A rewind wants a clean shutdown: recovery after a kill would write WAL of its own.
    let mode = match rejoin {
        Rejoin::Rewind => PowerOff::Graceful {
            deadline_ms: STUCK_SHUTDOWN_MS,
        },
        _ => PowerOff::Immediate,
    };
    let why = format!("{name} cannot follow the primary: {what}");
    draft.event("standby_rebuilding", Some(id), why.clone());
    draft.act(Action::PowerOff { node: id, mode }, why);
}

/// One slot per other node; none for nodes that are gone; one that lost its WAL is made anew.
fn slots_of_primary(draft: &mut Draft<'_>, serving: Serving) {
    let Some(facts) = draft.facts(serving.node) else {
        return;
    };
    if !facts.has_replication_role {
        draft.act(
            Action::Bootstrap {
                node: serving.node,
                slots: Vec::new(),
            },
            "the replication role is missing: making it again",
        );
    }
    let wanted: Vec<String> = draft
        .record
        .nodes
        .iter()
        .filter(|n| n.id != serving.node)
        .map(|n| slot_name(&n.name))
        .collect();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| !facts.slots.iter().any(|s| s.name == **name))
        .cloned()
        .collect();
    let surplus: Vec<String> = facts
        .slots
        .iter()
        .filter(|s| s.name.starts_with(SLOT_PREFIX) && !s.active && (s.lost || !wanted.contains(&s.name)))
        .map(|s| s.name.clone())
        .collect();
    if !missing.is_empty() {
        draft.act(
            Action::CreateSlots {
                node: serving.node,
                names: missing,
            },
            "a slot for each standby",
        );
    }
    if !surplus.is_empty() {
        draft.act(
            Action::DropSlots {
                node: serving.node,
                names: surplus,
            },
            "slots that nobody will use",
        );
    }
}
