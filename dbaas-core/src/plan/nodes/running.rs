//! A standby that runs: whom it follows, whether its data is good, whether it has to be rewound or rebuilt.

use crate::boot_plan::conninfo;
use crate::cluster::ClusterPhase;
use crate::id::NodeId;
use crate::infrastructure::PowerOff;
use crate::kinds::EventKind;
use crate::node::{NodeRecord, Rejoin};
use crate::observation::NodeFacts;
use crate::patience::STUCK_SHUTDOWN_MS;
use crate::plan::Action;
use crate::plan::draft::{Draft, Serving};
use crate::reason::Reason;

use super::{SLOT_PREFIX, note_good_standby, set_rejoin};

/// A node that runs, answers, and is not the primary.
pub(super) fn plan(draft: &mut Draft<'_>, id: NodeId, facts: &NodeFacts, serving: Option<Serving>) {
    let name = draft.name(id);
    if !facts.in_recovery {
        // An old primary that something else started, or that was cut off. Its names are of an old epoch, so
        // that it acknowledges nothing. One that was taken for a standby was promoted by an order that came
        // late, on a timeline whose number the primary may have, too: a rewind would see no difference.
        if draft.node(id).is_some_and(|n| n.rejoin != Rejoin::Rewind) {
            set_rejoin(draft, id, Rejoin::BaseBackup);
        }
        draft.event(
            EventKind::StrayPrimaryFenced,
            Some(id),
            format!("{name} runs as a primary and is none: fencing it"),
        );
        let mode = PowerOff::Immediate;
        draft.pending(
            Reason::NodeFenced,
            format!("{name} runs as a primary and is none: it is being fenced"),
        );
        draft.act(Action::PowerOff { node: id, mode }, format!("fencing {name}"));
        return;
    }
    note_rebuilt(draft, id, facts);
    let Some(serving) = serving else { return };
    if draft.node(id).is_some_and(NodeRecord::is_to_be_rebuilt) {
        let why = format!("{name} may hold what the primary's history does not: rebuilding it");
        draft.pending(Reason::StandbyRebuilding, why.clone());
        draft.event(EventKind::StandbyRebuilding, Some(id), why.clone());
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
    draft.pending(Reason::NotStreaming, format!("{name} does not stream yet"));
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
    draft.event(EventKind::StandbyRebuilding, Some(id), why.clone());
    draft.act(Action::PowerOff { node: id, mode }, why);
}

/// A standby whose files are gone may go on streaming, and lets nobody in: it could not be sealed. No start
/// mends that, and a rewind would read what is gone.
pub(super) fn rebuild_damaged(draft: &mut Draft<'_>, id: NodeId, error: &str) {
    let name = draft.name(id);
    set_rejoin(draft, id, Rejoin::BaseBackup);
    let why = format!("{name} says that its files are gone or broken ({error}): rebuilding it");
    draft.pending(Reason::StandbyRebuilding, why.clone());
    draft.event(EventKind::StandbyRebuilding, Some(id), why.clone());
    let mode = PowerOff::Immediate;
    draft.act(Action::PowerOff { node: id, mode }, why);
}

/// This standby was started from the base backup that it was to be built anew from: its data is good, also if
/// the primary is lost before it could stream. Otherwise it could vote while it runs, and never be started
/// again.
fn note_rebuilt(draft: &mut Draft<'_>, id: NodeId, facts: &NodeFacts) {
    if let Some(node) = draft.node_mut(id)
        && node.rejoin == Rejoin::BaseBackup
        && node.rebuilds > 0
        && node.rebuilds == facts.rebuild
    {
        node.rejoin_by(Rejoin::InPlace);
    }
}
