//! Who may acknowledge: changes of voters and of k on a serving primary, and the end of a promotion.
//!
//! Every change goes the same way: (1) compare-and-swap to the old electorates *and* the new one, (2) the
//! primary's setting, (3) compare-and-swap of the primary's position seen with the setting in effect (the
//! barrier), (4) when k of the new voters hold the barrier, compare-and-swap to the new electorate alone. At
//! each moment a commit that was acknowledged under any setting that can have been in effect is found by a
//! failover that satisfies every electorate of the record.

use std::collections::BTreeSet;

use crate::cluster::{ClusterPhase, ClusterState, Electorate, standby_name};
use crate::id::NodeId;
use crate::kinds::EventKind;
use crate::observation::NodeFacts;
use crate::reason::Reason;

use super::Action;
use super::draft::{Draft, Serving};
use super::nodes::note_good_standby;

/// As many electorates as a record may hold: more changes wait until some have settled.
const MOST_ELECTORATES: usize = 16;

pub(super) fn plan(draft: &mut Draft<'_>, primary: Serving) {
    let Some(facts) = draft.facts(primary.node) else {
        return;
    };
    let Some(cluster) = draft.cluster().cloned() else {
        return;
    };
    let names = draft.wanted_sync_names();
    if facts.sync_names != names || facts.setting != cluster.setting {
        let (epoch, setting) = (cluster.epoch, cluster.setting);
        draft.act(
            Action::SetSyncNames {
                node: primary.node,
                epoch,
                setting,
                names,
            },
            "whom the primary waits for",
        );
        draft.pending(
            Reason::ElectorateChanging,
            "the primary is told whom a commit waits for",
        );
    } else if cluster.is_joint() || cluster.phase == ClusterPhase::Promoting {
        settle(draft, &cluster, facts);
    }
    // A change waits for the one before, unless that one can never settle.
    let Some(cluster) = draft.cluster().cloned() else {
        return;
    };
    let current = cluster.current();
    let stuck = current.count(&draft.streaming(facts)) < usize::from(current.k);
    if (!cluster.is_joint() && cluster.phase == ClusterPhase::Steady) || stuck {
        propose(draft, &cluster, facts);
    }
}

/// The newest electorate is in effect on the primary: when may the older ones be forgotten?
fn settle(draft: &mut Draft<'_>, cluster: &ClusterState, facts: &NodeFacts) {
    let electorate = cluster.current();
    draft.soon();
    let safe = if electorate.k == 0 {
        true
    } else {
        let Some(barrier) = cluster.barrier else {
            if let Some(state) = draft.record.cluster.as_mut() {
                state.barrier = Some(facts.lsn);
            }
            draft
                .why
                .push(format!("waiting for voters to reach {}", facts.lsn));
            return;
        };
        let holders: BTreeSet<NodeId> = electorate
            .voters
            .iter()
            .copied()
            .filter(|id| draft.is_of_this_history(*id))
            .filter(|id| {
                let name = standby_name(&draft.name(*id), cluster.epoch);
                facts
                    .streaming(&name)
                    .and_then(|s| s.flush_lsn)
                    .is_some_and(|flushed| flushed >= barrier)
            })
            .collect();
        holders.len() >= usize::from(electorate.k)
    };
    if !safe {
        let missing = format!(
            "waiting for {} of {} to catch up",
            electorate.k,
            draft.names(&electorate.voters)
        );
        draft.pending(Reason::ElectorateChanging, missing);
        return;
    }
    let promoted = cluster.phase == ClusterPhase::Promoting;
    if let Some(state) = draft.record.cluster.as_mut() {
        state.settle();
        state.phase = ClusterPhase::Steady;
        state.cause = None;
    }
    if promoted {
        let message = format!(
            "{} is the primary of epoch {}; synchronous: {}",
            draft.name(cluster.primary),
            cluster.epoch,
            draft.names(&electorate.voters)
        );
        draft.event(EventKind::FailoverCompleted, Some(cluster.primary), message);
        draft.record.requests.failover = None;
    } else {
        let message = format!(
            "a commit waits for {} of {}",
            electorate.k,
            draft.names(&electorate.voters)
        );
        draft.event(EventKind::ElectorateChanged, None, message);
    }
}

fn propose(draft: &mut Draft<'_>, cluster: &ClusterState, facts: &NodeFacts) {
    let current = cluster.current();
    let wanted = wanted(draft, cluster, facts);
    let asked = draft.record.spec.effective_sync_replicas();
    if wanted.k < asked {
        draft.pending(
            Reason::StandbysMissing,
            format!("{} of {asked} synchronous standbys are there", wanted.k),
        );
    }
    if wanted == current {
        return;
    }
    let mut next = cluster.clone();
    next.propose(wanted.clone());
    if next.electorates.len() > MOST_ELECTORATES {
        draft.problem(
            Reason::ElectorateChanging,
            "too many changes of voters at once: waiting for standbys to catch up",
        );
        return;
    }
    let why = format!(
        "voters {} (k {}) become {} (k {})",
        draft.names(&current.voters),
        current.k,
        draft.names(&wanted.voters),
        wanted.k
    );
    draft.why.push(why);
    draft.record.cluster = Some(next);
    for id in draft.caught_up(facts).intersection(&wanted.voters) {
        // With what makes it count: if it dies now it is needed as it is, and not by a way that needs a
        // primary.
        note_good_standby(draft, *id);
    }
    draft.soon();
}

fn wanted(draft: &Draft<'_>, cluster: &ClusterState, facts: &NodeFacts) -> Electorate {
    let current = cluster.current();
    let asked = draft.record.spec.effective_sync_replicas();
    // A switchover of an asynchronous instance is made synchronous first, so that nothing acknowledged is
    // lost by it; not where nobody is left who could take over: that one waits for a voter for ever.
    let someone_stays = draft
        .record
        .nodes
        .iter()
        .any(|n| n.id != cluster.primary && !n.leaving);
    let asked = if asked == 0 && draft.record.requests.switchover.is_some() && someone_stays {
        1
    } else {
        asked
    };
    let exists = |id: &NodeId| draft.node(*id).is_some();
    let staying = |id: &NodeId| draft.node(*id).is_some_and(|n| !n.leaving);
    let streaming = draft.streaming(facts);
    let caught_up: BTreeSet<NodeId> = draft
        .caught_up(facts)
        .into_iter()
        .filter(|id| staying(id))
        .collect();
    let k = if asked <= current.k {
        asked
    } else {
        let possible = u8::try_from(caught_up.len()).unwrap_or(u8::MAX);
        asked.min(possible).max(current.k)
    };
    if k == 0 {
        return Electorate::new([], 0);
    }
    let gone_ms = draft.situation.policy.voter_gone_ms;
    let present =
        |id: &NodeId| streaming.contains(id) || draft.seen(*id).is_some_and(|s| s.not_streaming_ms < gone_ms);
    let enough = |voters: &BTreeSet<NodeId>| voters.len() >= usize::from(k);
    let present_voters: BTreeSet<NodeId> = current
        .voters
        .iter()
        .copied()
        .filter(|id| staying(id) && present(id))
        .chain(caught_up.iter().copied())
        .collect();
    if enough(&present_voters) {
        return Electorate {
            voters: present_voters,
            k,
        };
    }
    // Nobody is taken out while too few would be left: a voter that is away may come back.
    let staying_voters: BTreeSet<NodeId> = current
        .voters
        .iter()
        .copied()
        .filter(staying)
        .chain(caught_up.iter().copied())
        .collect();
    if enough(&staying_voters) {
        return Electorate {
            voters: staying_voters,
            k,
        };
    }
    let all: BTreeSet<NodeId> = current
        .voters
        .iter()
        .copied()
        .filter(exists)
        .chain(caught_up)
        .collect();
    Electorate { voters: all, k }
}
