//! Sealing and choosing: a new epoch is begun, enough voters are sealed, the one that has most becomes the
//! candidate.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::cluster::{ClusterPhase, ClusterState, Electorate, FailoverCause, FormerPrimary};
use crate::id::NodeId;
use crate::infrastructure::PowerOff;
use crate::kinds::EventKind;
use crate::node::{NodeRole, Rejoin};
use crate::patience::{SHUTDOWN_MS, STALLED_MS};
use crate::plan::Action;
use crate::plan::draft::Draft;
use crate::reason::Reason;

use super::followers::prepare_followers;
use super::health::{intact, sealable};
use super::{await_more, restart_in_place};

/// The compare-and-swap that begins a new epoch. The actions of the same plan run only if it succeeded.
pub(in crate::plan) fn begin_epoch(
    draft: &mut Draft<'_>,
    cluster: &ClusterState,
    cause: FailoverCause,
    message: String,
) {
    let mut next = cluster.clone();
    next.epoch = cluster.epoch.next();
    next.phase = ClusterPhase::Sealing;
    next.barrier = None;
    let kind = match &cause {
        FailoverCause::PrimaryFailed => EventKind::FailoverStarted,
        FailoverCause::Switchover { .. } => EventKind::SwitchoverStarted,
        FailoverCause::Forced => EventKind::ForcedFailoverStarted,
    };
    next.cause = Some(cause);
    draft.event(
        kind,
        Some(cluster.primary),
        format!("{message} (epoch {})", next.epoch),
    );
    draft.record.cluster = Some(next.clone());
    sealing(draft, &next);
}

pub(super) fn sealing(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let old = cluster.primary;
    let planned = matches!(cluster.cause, Some(FailoverCause::Switchover { .. }));
    let forced = cluster.cause == Some(FailoverCause::Forced);
    let old_off = draft.is_off(old);
    draft.soon();
    if !old_off {
        // The fence. Safety does not rest on it where k >= 1, but it ends stale reads, and a planned change
        // needs the clean shutdown.
        let mode = if planned {
            PowerOff::Graceful {
                deadline_ms: SHUTDOWN_MS,
            }
        } else {
            PowerOff::Immediate
        };
        let why = format!("fencing the old primary {}", draft.name(old));
        draft.act(Action::PowerOff { node: old, mode }, why);
        if planned || forced {
            draft.pending(Reason::Electing, "waiting for the old primary to be off");
            return;
        }
    }
    let candidates = if forced {
        draft
            .all_others(old)
            .into_iter()
            .filter(|id| draft.facts(*id).is_some_and(|f| f.in_recovery))
            .collect()
    } else {
        sealable(draft, cluster)
    };
    let epoch = cluster.epoch;
    let sealed: BTreeSet<NodeId> = candidates
        .iter()
        .copied()
        .filter(|id| draft.facts(*id).is_some_and(|f| f.is_sealed(epoch)))
        .collect();
    let enough = if forced {
        old_off && !sealed.is_empty() && sealed == candidates
    } else {
        cluster.is_sealed_by(&sealed)
    };
    // Also when there are enough: whoever can be sealed now need not be rewound later.
    for id in candidates.difference(&sealed) {
        let Some(facts) = draft.facts(*id) else { continue };
        // Sealed but for its receiver ending or its replay catching up.
        let catches_up = facts.epoch == epoch && facts.primary_conninfo.is_empty();
        if catches_up && !facts.is_behind() {
            continue;
        }
        let closed_names = draft.missing_closed_names(facts);
        if restart_stalled(draft, *id) {
            continue;
        }
        // A query may hold replay up. Sealing it again would end that query, too; but each reload of its
        // settings wakes replay, which then reads a record that is not whole once more from its beginning: a
        // large one keeps it busy all the time, and it is never seen to wait for the rest.
        if catches_up && closed_names.is_none() {
            let why = format!(
                "{} replays what it has: ending what holds that up",
                draft.name(*id)
            );
            draft.act(Action::EndConflicts { node: *id, epoch }, why);
            continue;
        }
        draft.act(
            Action::Seal {
                node: *id,
                epoch,
                closed_names,
            },
            format!("sealing {}", draft.name(*id)),
        );
    }
    if enough && forced && await_more(draft, old) {
        // Seen again soon.
    } else if enough {
        choose(draft, cluster, &sealed);
    } else if old_off && !cluster.is_sealed_by(&candidates) && intact(draft, old) && !forced {
        // The old primary holds everything that was ever acknowledged; nobody was promoted in this epoch, nor
        // can be now.
        let name = draft.name(old);
        let message =
            format!("too few standbys can be sealed to elect: {name} goes on as primary in epoch {epoch}");
        draft.event(EventKind::FailoverAbandoned, Some(old), message.clone());
        // One that was to be promoted, and was never seen to be: started as a primary it would go on on the
        // timeline of the primary before it, which may have written other things there. It is promoted.
        let is_candidate = cluster.former.is_some();
        if let Some(state) = draft.record.cluster.as_mut() {
            state.phase = if is_candidate {
                ClusterPhase::Promoting
            } else {
                ClusterPhase::Steady
            };
            state.cause = None;
        }
        draft.record.requests.switchover = None;
        if is_candidate {
            draft.pending(Reason::Promoting, message);
        } else {
            restart_in_place(draft, old);
        }
    } else if !cluster.is_sealed_by(&candidates) && !forced {
        let missing: BTreeSet<NodeId> = cluster.all_voters().difference(&candidates).copied().collect();
        draft.problem(
            Reason::FailoverHeldUp,
            format!(
                "a new primary cannot be chosen yet: {} may hold acknowledged commits and cannot be reached",
                draft.names(&missing)
            ),
        );
    } else {
        draft.pending(
            Reason::Electing,
            format!(
                "electing a new primary (epoch {epoch}): {} sealed",
                draft.names(&sealed)
            ),
        );
    }
}

/// What a standby received may end in the middle of a record, whose rest its primary did not get to send: it
/// waits for that, before the end of what it received, and would never count as having replayed everything.
/// That its replay stands still does not show that there is no whole record left. A start does: it replays
/// all that there is before it waits. So it is switched off, to be started sealed. (One that is to be rewound
/// or rebuilt is then not started without a primary. It could not be sealed while it ran either; and without
/// it an old primary whose data is intact goes on.)
fn restart_stalled(draft: &mut Draft<'_>, id: NodeId) -> bool {
    if draft.seen(id).is_none_or(|seen| seen.stalled_ms < STALLED_MS) {
        return false;
    }
    let why = format!(
        "{} received a part of a record, and no more comes: restarting it, so that it replays all that it has",
        draft.name(id)
    );
    draft.event(EventKind::StandbyStalled, Some(id), why.clone());
    let mode = PowerOff::Immediate;
    draft.act(Action::PowerOff { node: id, mode }, why);
    true
}

/// The sealed node that has most: by history, then position; a planned change prefers the node asked for
/// among equals.
fn choose(draft: &mut Draft<'_>, cluster: &ClusterState, sealed: &BTreeSet<NodeId>) {
    let preferred = match cluster.cause {
        Some(FailoverCause::Switchover { to }) => Some(to),
        _ => None,
    };
    let staying = |id: &NodeId| draft.node(*id).is_some_and(|n| !n.leaving);
    let best = sealed
        .iter()
        .filter_map(|id| draft.facts(*id).map(|f| (*id, f)))
        .max_by_key(|(id, facts)| {
            (
                facts.history,
                facts.lsn,
                Some(*id) == preferred,
                staying(id),
                Reverse(*id),
            )
        });
    let Some((candidate, facts)) = best else { return };
    let epoch = cluster.epoch;
    let old = cluster.primary;
    let k = cluster.current().k;
    // Only those of the candidate's own history may vote at once: they hold a part of what it holds, and
    // nothing else. One of an older history may have gone on where the candidate's turned off; it votes when
    // it has replayed the new epoch's mark. And if that history is not of the epoch just before this one, a
    // primary of an epoch between may have gone on from it without its mark having come this far: then the
    // same mark does not show the same history, and nobody votes at once. The same holds if a candidate was
    // promoted twice in one epoch, with a single mark.
    let newest = facts.history.next() == epoch && !cluster.repromoted;
    let same_history = |id: &NodeId| newest && draft.facts(*id).is_some_and(|f| f.history == facts.history);
    let voters: BTreeSet<NodeId> = sealed
        .iter()
        .copied()
        .filter(|id| *id != candidate && staying(id) && same_history(id))
        .collect();
    let voters = if k == 0 { BTreeSet::new() } else { voters };
    // A primary that was lost, and stands for its time because its successor is lost, too: it may not know of
    // that one's promotion.
    let knows_less = draft
        .node(candidate)
        .is_some_and(|n| matches!(n.rejoin, Rejoin::Rewind | Rejoin::BaseBackup));
    let message = format!(
        "{} has most ({}, history {}): promoting it (epoch {epoch})",
        draft.name(candidate),
        facts.lsn,
        facts.history
    );
    draft.pending(Reason::Promoting, message.clone());
    draft.event(EventKind::CandidateChosen, Some(candidate), message);
    let closed_names = draft.closed_names();
    let planned = matches!(cluster.cause, Some(FailoverCause::Switchover { .. }));
    if let Some(state) = draft.record.cluster.as_mut() {
        state.phase = ClusterPhase::Promoting;
        state.primary = candidate;
        state.repromoted = false;
        if cluster.cause == Some(FailoverCause::Forced) {
            // What the old electorates held beyond the sealed nodes was given up by the operator.
            state.electorates.clear();
        }
        state.former = None;
        state.propose(Electorate { voters, k });
        state.former = Some(FormerPrimary {
            node: old,
            electorates: state.electorates.len() - 1,
        });
    }
    for node in &mut draft.record.nodes {
        if node.id == candidate {
            node.role = NodeRole::Primary;
            // It has data that must never be initialised over, also if it was never seen to serve or to
            // follow.
            node.rejoin_by(Rejoin::InPlace);
        } else {
            node.role = NodeRole::Standby;
            node.sync = false;
        }
        if node.id == old && node.rejoin != Rejoin::BaseBackup {
            // It may have written what nobody received. After a clean shutdown it has not, and following is
            // tried first.
            node.rejoin_by(if planned { Rejoin::InPlace } else { Rejoin::Rewind });
        }
        // If the candidate does not know of a promotion that there was, or may have been, both will have
        // taken the same number for their timelines: a rewind, and a standby that asks for more WAL, would
        // see no difference, and foreign content would stay. Whoever was not sealed, and so may hold some, is
        // built anew; and so is the candidate of before, sealed or not: that promotion was its own. Where the
        // candidate is the primary from before that one, whoever is sealed may hold a part of that promotion,
        // too.
        let may_be_foreign = node.id == old || !sealed.contains(&node.id) || knows_less;
        if !newest && node.id != candidate && may_be_foreign && node.rejoin != Rejoin::Seed {
            node.rejoin_by(Rejoin::BaseBackup);
        }
    }
    draft.act(
        Action::Promote {
            node: candidate,
            epoch,
            closed_names,
        },
        "promoting the candidate",
    );
    prepare_followers(draft, candidate);
}
