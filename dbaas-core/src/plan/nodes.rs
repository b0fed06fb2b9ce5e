//! Every node's disk, start and source: what a node needs to be a good standby of the primary that serves, or
//! to be there when an election needs it.

mod running;
mod slots;
mod start;

use crate::cluster::ClusterPhase;
use crate::id::NodeId;
use crate::infrastructure::{DataDisposal, DataState, PowerOff, PowerState};
use crate::kinds::EventKind;
use crate::node::{NodeRecord, Rejoin};
use crate::observation::{Seen, Silence};
use crate::reason::Reason;

use super::Action;
use super::draft::{Draft, Serving};

pub(super) use slots::SLOT_PREFIX;

pub(super) fn plan(draft: &mut Draft<'_>, serving: Option<Serving>) {
    let ids: Vec<NodeId> = draft.record.nodes.iter().map(|n| n.id).collect();
    for id in ids {
        node(draft, id, serving);
    }
    if let Some(serving) = serving {
        slots::of_primary(draft, serving);
        strays(draft);
    }
}

/// A node that the record does not know: an order to make one came after it had been removed. It never had
/// data; one that has is left for people to look at.
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
        draft.pending(Reason::NodeChanging, why.clone());
        draft.act(Action::Apply(draft.node_spec(&record)), why);
        return;
    }
    if draft.cluster().is_some_and(|c| c.primary == id) {
        return; // Its start is the failover part's to decide.
    }
    match &observed.power {
        PowerState::Off | PowerState::Exited(_) => start::plan(draft, id, observed, serving),
        PowerState::Preparing => draft.pending(
            Reason::NodePreparing,
            format!("{} is being prepared", record.name),
        ),
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
            Ok(facts) => running::plan(draft, id, facts, serving),
            Err(Silence::Damaged(error))
                if serving.is_some() && seen.silent_ms >= draft.situation.policy.silent_ms =>
            {
                running::rebuild_damaged(draft, id, error);
            }
            Err(silence) => {
                draft.pending(Reason::NodeSilent, format!("{} does not answer yet", record.name));
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
    draft.pending(Reason::NodeCreating, why.clone());
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

/// A node that is to go: first out of every electorate, then off, then removed, then forgotten. Whether this
/// is all there is to do for it.
fn leave(draft: &mut Draft<'_>, id: NodeId, serving: Option<Serving>) -> bool {
    let votes = draft
        .cluster()
        .is_some_and(|c| c.all_voters().contains(&id) || c.primary == id);
    let steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    let name = draft.name(id);
    if votes || !steady || serving.is_none() {
        draft.pending(
            Reason::NodeRemoving,
            format!("{name} is to be removed when it is no voter any more"),
        );
        return false;
    }
    let Some(seen) = draft.seen(id) else { return true };
    match &seen.infra {
        Seen::Unknown => {}
        Seen::Absent => {
            draft.record.nodes.retain(|n| n.id != id);
            draft.event(EventKind::NodeRemoved, Some(id), format!("{name} was removed"));
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
    draft.pending(Reason::NodeRemoving, format!("{name} is being removed"));
    true
}
