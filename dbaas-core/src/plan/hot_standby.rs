//! Settings that a standby may not have less of than its primary ([`HOT_STANDBY_FLOOR_SETTINGS`]): greater
//! values reach the standbys first, smaller ones the primary first.
//!
//! * A primary is configured with what is wanted, a standby with the *floor*: the greatest values that any
//!   node of the instance may run with. A standby gets what is wanted where that is more, so that greater
//!   values are a rolling change like any other.
//! * Smaller values can reach the primary only by a restart where it is: a standby with them would refuse to
//!   start while the primary has more, so there is nobody to switch over to. The primary is noted before it
//!   is switched off, so that this is not taken for its loss.
//! * When the primary runs with what is wanted, its position is noted; when every node has replayed up to
//!   there, and with it the record of the primary's new values, the floor is lowered, and the standbys follow
//!   one at a time.

use std::collections::BTreeMap;

use crate::cluster::ClusterPhase;
use crate::id::NodeId;
use crate::instance::Lowered;
use crate::reason::Reason;

use super::draft::Draft;
use super::settings::{self, floor, values};

/// Keeps the floor: at least what servers have run with, and what the primary runs with; lowered when every
/// node can do with less. What no server has run with yet, and may refuse, does not count: else a node that
/// refused it could never be started with less. (A standby may be promoted while it runs with more than is
/// wanted by then: it was tried and taken back, or the floor was just lowered. Its own standbys could not
/// start with less, and without them it is never restarted.)
pub(super) fn keep_floor(draft: &mut Draft<'_>) {
    let by_size = settings::by_size(&draft.record);
    let mut proven = by_size.clone();
    draft.record.parameters.proven.apply_to(&mut proven);
    let wanted = values(&settings::wanted(&draft.record));
    let (by_size, proven) = (values(&by_size), values(&proven));
    let mut floor = floor(&draft.record);
    let primary = draft.cluster().and_then(|c| draft.facts(c.primary));
    let running = primary
        .filter(|facts| !facts.in_recovery)
        .map(|facts| &facts.hot_standby);
    for (name, floor) in &mut floor {
        let of = |values: &BTreeMap<String, u64>| values.get(name).copied().unwrap_or_default();
        *floor = (*floor).max(of(&proven)).max(running.map_or(0, of));
    }
    let is_lower = wanted
        .iter()
        .any(|(name, value)| floor.get(name).is_some_and(|floor| value < floor));
    let lowered = if is_lower {
        note_lowered(draft, &wanted)
    } else {
        None
    };
    let all_there = lowered.as_ref().is_some_and(|lowered| {
        draft.record.nodes.iter().all(|node| {
            let facts = draft.facts(node.id);
            facts.is_some_and(|f| f.history == lowered.epoch && f.lsn >= lowered.at)
        })
    });
    let state = &mut draft.record.parameters;
    state.lowered = lowered.filter(|_| !all_there);
    if all_there {
        floor = wanted;
    }
    state.floor = if floor == by_size { BTreeMap::new() } else { floor };
    if draft.record.parameters.lowered.is_some() {
        // The standbys' turn is still to come.
        draft.pending(
            Reason::Reconfiguring,
            "smaller values wait until every node has replayed that the primary runs with them",
        );
        draft.soon();
    }
}

/// Where the primary was when it first ran with what is wanted.
fn note_lowered(draft: &Draft<'_>, wanted: &BTreeMap<String, u64>) -> Option<Lowered> {
    let cluster = draft.cluster().filter(|c| c.phase == ClusterPhase::Steady)?;
    let known = draft.record.parameters.lowered.clone();
    if let Some(known) = known.filter(|known| known.epoch == cluster.epoch && known.values == *wanted) {
        return Some(known);
    }
    let facts = draft.facts(cluster.primary).filter(|f| !f.in_recovery)?;
    (facts.hot_standby == *wanted).then(|| Lowered {
        epoch: cluster.epoch,
        values: wanted.clone(),
        at: facts.lsn,
    })
}

/// Whether the primary runs with more than wanted of something that its standbys may not have less of.
pub(super) fn is_to_be_lowered(draft: &Draft<'_>, primary: NodeId) -> bool {
    let wanted = values(&settings::wanted(&draft.record));
    draft.facts(primary).is_some_and(|facts| {
        let running = &facts.hot_standby;
        running
            .iter()
            .any(|(name, value)| wanted.get(name).is_some_and(|wanted| wanted < value))
    })
}

/// Notes that the primary's next start is where it is.
pub(super) fn restart_where_it_is(draft: &mut Draft<'_>, primary: NodeId) {
    let boot = draft
        .situation
        .observation
        .infra(primary)
        .and_then(|n| n.boot.as_ref());
    draft.record.parameters.restarting = boot.map(|boot| boot.boot_id.clone());
}

/// Whether the primary is being switched off, or is off, for its new configuration, and was not started
/// since. Only for so long as that is quicker than an election, and only once: a start that comes to nothing
/// is a loss like any other.
pub(super) fn is_restarting(draft: &Draft<'_>, primary: NodeId) -> bool {
    let boot = draft
        .situation
        .observation
        .infra(primary)
        .and_then(|n| n.boot.as_ref());
    let noted = draft.record.parameters.restarting.as_deref();
    let seen = draft.seen(primary);
    noted.is_some()
        && boot.map(|boot| boot.boot_id.as_str()) == noted
        && seen.is_some_and(|seen| {
            seen.silent_ms < draft.situation.policy.voter_gone_ms && seen.last_failure.is_none()
        })
}
