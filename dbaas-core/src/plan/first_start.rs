//! The first start of an instance.

use crate::boot::BootRole;
use crate::cluster::Electorate;
use crate::id::NodeId;
use crate::infrastructure::{DataState, PowerState};
use crate::kinds::EventKind;
use crate::node::Rejoin;

use super::Action;
use super::draft::Draft;

/// One `initdb`, copied to every other node before it runs.
pub(super) fn first_start(draft: &mut Draft<'_>, primary: NodeId) {
    let seeds: Vec<NodeId> = draft
        .record
        .nodes
        .iter()
        .filter(|n| n.id != primary && n.rejoin == Rejoin::Seed)
        .map(|n| n.id)
        .collect();
    // The copies are put where the other nodes' disks are: those have to be there first.
    let ready = seeds
        .iter()
        .all(|id| draft.situation.observation.infra(*id).is_some());
    let off = matches!(
        draft.power(primary),
        Some(PowerState::Off | PowerState::Exited(_))
    );
    let held_off = draft.seen(primary).is_some_and(|s| s.hold_off_ms > 0);
    if ready && off && !held_off {
        let seeds = without_copies_of_an_earlier_one(draft, primary, seeds);
        let boot = draft.primary_boot(crate::boot_plan::PreparePlan::Init { seeds });
        debug_assert_eq!(boot.role, BootRole::Primary);
        draft.act(
            Action::Start {
                node: primary,
                boot: Box::new(boot),
            },
            "first start of the instance",
        );
    }
}

/// The nodes that get a copy of the cluster that is about to be made. One that has run already has a copy of
/// an earlier one, whose first node is lost before it was seen to serve: its positions, and its mark, mean
/// nothing in the new one's history. It is built anew, and votes when that is done; nothing was ever
/// acknowledged that it would be needed for.
fn without_copies_of_an_earlier_one(
    draft: &mut Draft<'_>,
    primary: NodeId,
    seeds: Vec<NodeId>,
) -> Vec<NodeId> {
    let observation = draft.situation.observation;
    let whole = |id: NodeId| observation.infra(id).filter(|n| n.data == DataState::Initialised);
    if whole(primary).is_some() {
        return seeds; // It goes on as it was made.
    }
    let has_run = |id: &NodeId| whole(*id).is_some_and(|n| n.boot.is_some());
    let (old, new): (Vec<NodeId>, Vec<NodeId>) = seeds.into_iter().partition(has_run);
    if old.is_empty() {
        return new;
    }
    for id in &old {
        if let Some(node) = draft.node_mut(*id) {
            node.rejoin_by(Rejoin::BaseBackup);
        }
        let why = format!(
            "{} is a copy of a cluster whose first node is lost: rebuilding it",
            draft.name(*id)
        );
        draft.event(EventKind::StandbyRebuilding, Some(*id), why);
    }
    let k = draft.record.spec.effective_sync_replicas();
    if let Some(cluster) = draft.record.cluster.as_mut() {
        cluster.electorates = vec![Electorate::new(new.iter().copied(), k)];
    }
    new
}
