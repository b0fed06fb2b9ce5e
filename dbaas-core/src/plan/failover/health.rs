//! What is known of a primary, and who could be sealed in its place.

use std::collections::BTreeSet;

use crate::cluster::{ClusterPhase, ClusterState};
use crate::id::NodeId;
use crate::infrastructure::{DataState, PowerState};
use crate::node::Rejoin;
use crate::observation::Silence;
use crate::plan::draft::Draft;

/// What is known of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers and takes writes.
    Serving,
    /// It is not known to be lost: it is starting, or did not answer for a short time, or standbys still hear
    /// from it.
    Waiting,
    /// It does not serve, and there is reason to act.
    Lost,
}

pub(super) fn health(draft: &Draft<'_>, primary: NodeId) -> Health {
    let Some(seen) = draft.seen(primary) else {
        return Health::Waiting;
    };
    if let Ok(facts) = &seen.sql {
        if facts.in_recovery || facts.epoch < draft.epoch() {
            // It came up as a standby, or with an old configuration: not by this control plane's will.
            return Health::Lost;
        }
        let first_time = draft.node(primary).is_some_and(|n| n.rejoin == Rejoin::Seed);
        return if first_time && !facts.has_replication_role {
            Health::Waiting
        } else {
            Health::Serving
        };
    }
    if seen.is_off() {
        return Health::Lost;
    }
    let policy = draft.situation.policy;
    if seen.is_frozen() {
        return if seen.silent_ms >= policy.frozen_ms {
            Health::Lost
        } else {
            Health::Waiting
        };
    }
    if seen.silent_ms < policy.silent_ms {
        return Health::Waiting;
    }
    // A primary that only this controller cannot reach is not dead: its standbys still hear from it.
    if heard_by_standbys(draft, primary) {
        Health::Waiting
    } else {
        Health::Lost
    }
}

pub(super) fn heard_by_standbys(draft: &Draft<'_>, primary: NodeId) -> bool {
    let fresh = draft.situation.policy.receiver_fresh_ms;
    draft
        .all_others(primary)
        .iter()
        .filter_map(|id| draft.facts(*id))
        .any(|facts| {
            facts
                .receiver
                .as_ref()
                .is_some_and(|r| r.status == "streaming" && r.last_message_ms <= fresh)
        })
}

/// Whether a primary that does not answer, and that no standby which answers hears from, can acknowledge
/// nothing: a commit waits for more standbys than may be there without this control plane's seeing them.
/// Never where commits wait for nobody.
pub(super) fn cannot_acknowledge(draft: &Draft<'_>, cluster: &ClusterState) -> bool {
    let may_hear =
        |id: &&NodeId| **id != cluster.primary && !draft.is_off(**id) && draft.facts(**id).is_none();
    cluster
        .electorates
        .iter()
        .all(|electorate| electorate.voters.iter().filter(may_hear).count() < usize::from(electorate.k))
}

/// Standbys that answer, and so can be sealed.
pub(super) fn sealable(draft: &Draft<'_>, cluster: &ClusterState) -> BTreeSet<NodeId> {
    cluster
        .all_voters()
        .into_iter()
        .chain(cluster.former.as_ref().map(|former| former.node))
        .filter(|id| *id != cluster.primary || cluster.phase == ClusterPhase::Sealing)
        .filter(|id| {
            draft
                .facts(*id)
                .is_some_and(|f| f.in_recovery && f.epoch <= cluster.epoch.next())
        })
        .collect()
}

/// Its data directory is there and complete.
pub(super) fn intact(draft: &Draft<'_>, node: NodeId) -> bool {
    draft
        .situation
        .observation
        .infra(node)
        .is_some_and(|n| n.data == DataState::Initialised)
}

pub(super) fn loss(draft: &Draft<'_>, node: NodeId) -> String {
    match draft.power(node) {
        None if draft.is_off(node) => "its node is gone".to_owned(),
        None => "no answer".to_owned(),
        Some(PowerState::Exited(exit)) => exit.message.clone(),
        Some(PowerState::Off) => "it is switched off".to_owned(),
        Some(PowerState::Frozen) => "its processes are frozen".to_owned(),
        Some(PowerState::Running | PowerState::Preparing) => {
            let silent_ms = draft.seen(node).map_or(0, |s| s.silent_ms);
            let said = match draft.seen(node).map(|s| &s.sql) {
                Some(Err(Silence::Failed(error) | Silence::Damaged(error) | Silence::Exhausted(error))) => {
                    format!("; it says: {error}")
                }
                Some(Err(Silence::Login)) => "; it refuses the control plane's login".to_owned(),
                Some(Err(Silence::Refused)) => "; nothing listens there".to_owned(),
                _ => String::new(),
            };
            format!("no answer for {silent_ms} ms, and no standby hears from it{said}")
        }
    }
}
