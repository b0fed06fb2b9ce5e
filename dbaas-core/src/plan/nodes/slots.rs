//! Replication slots of the primary that serves.

use crate::cluster::slot_name;
use crate::plan::Action;
use crate::plan::draft::{Draft, Serving};

/// Prefix of our slots: others are not touched.
pub(in crate::plan) const SLOT_PREFIX: &str = "dbaas_";

/// One slot per other node; none for nodes that are gone; one that lost its WAL is made anew.
pub(super) fn of_primary(draft: &mut Draft<'_>, serving: Serving) {
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
