//! The slots of those who are to follow a new primary.

use crate::id::NodeId;
use crate::plan::Action;
use crate::plan::draft::Draft;
use crate::plan::nodes::SLOT_PREFIX;

/// The names of the slots that a primary has for the other nodes.
pub(super) fn slots_of_followers(draft: &Draft<'_>, primary: NodeId) -> Vec<String> {
    let others = draft.others(primary);
    others
        .iter()
        .map(|id| crate::cluster::slot_name(&draft.name(*id)))
        .collect()
}

/// The other sealed nodes' slots, made while the promotion runs.
pub(super) fn prepare_followers(draft: &mut Draft<'_>, candidate: NodeId) {
    let wanted = slots_of_followers(draft, candidate);
    let Some(facts) = draft.facts(candidate) else {
        return;
    };
    let missing: Vec<String> = wanted
        .into_iter()
        .filter(|name| !facts.slots.iter().any(|s| s.name == *name))
        .collect();
    if !missing.is_empty() {
        draft.act(
            Action::CreateSlots {
                node: candidate,
                names: missing,
            },
            "slots on the new primary",
        );
    }
    // Left from a time when it was primary before, and of no use: nobody is to be judged by them.
    let lost: Vec<String> = facts
        .slots
        .iter()
        .filter(|s| s.name.starts_with(SLOT_PREFIX) && s.lost && !s.active)
        .map(|s| s.name.clone())
        .collect();
    if !lost.is_empty() {
        draft.act(
            Action::DropSlots {
                node: candidate,
                names: lost,
            },
            "slots that lost their WAL",
        );
    }
}
