//! A primary that answers looks and serves nobody: what a client gets is tried, and counts. And what becomes
//! of a failover that somebody asked for where the primary serves.

use std::collections::BTreeSet;

use crate::cluster::{ClusterPhase, ClusterState, FailoverCause};
use crate::id::NodeId;
use crate::infrastructure::PowerOff;
use crate::kinds::EventKind;
use crate::node::Rejoin;
use crate::observation::{Fitness, Unfit, UnfitKind};
use crate::patience::FAILOVER_MS;
use crate::plan::Action;
use crate::plan::draft::Draft;
use crate::reason::Reason;

use super::await_more;
use super::election::begin_epoch;
use super::health::sealable;

/// Why nobody is served by this primary, if that is so: for long enough, or for an operator who asks for a
/// failover, at once.
///
/// Its own word that its files are broken counts always. That nothing came back counts only where an old
/// session's look does: otherwise it may be the network, and the standbys are asked. What it has run out of,
/// or refuses, another node would soon lack or refuse, too.
pub(in crate::plan) fn serves_nobody<'a>(draft: &Draft<'a>, primary: NodeId) -> Option<&'a Unfit> {
    let seen = draft.seen(primary)?;
    let Fitness::Unfit {
        why,
        for_ms,
        times,
        again,
    } = &seen.fitness
    else {
        return None;
    };
    let policy = draft.situation.policy;
    // Where the one before it was as slow, what they share may be: going back and forth would make that
    // worse.
    let patience_ms = match (again, why.kind) {
        (true, UnfitKind::NoLogin | UnfitKind::NoCommit) => policy.unfit_again_ms,
        _ => policy.unfit_ms,
    };
    let long = *for_ms >= patience_ms && *times >= policy.unfit_trials;
    let asked = draft.situation.instance.requests.failover.is_some();
    let counts = match why.kind {
        UnfitKind::Damaged => true,
        UnfitKind::NoLogin | UnfitKind::NoCommit => seen.sql.is_ok(),
        UnfitKind::Exhausted | UnfitKind::Refuses => false,
    };
    (counts && (long || asked)).then_some(why)
}

/// Gives up a primary that serves nobody, where another node can take over. Whether this pass is over with
/// that.
pub(super) fn give_up(draft: &mut Draft<'_>, cluster: &ClusterState) -> bool {
    let primary = cluster.primary;
    let name = draft.name(primary);
    let Some(unfit) = serves_nobody(draft, primary) else {
        tell_of_refusal(draft, primary, &name);
        return false;
    };
    let said = words(unfit);
    let damaged = unfit.kind == UnfitKind::Damaged;
    let reachable = sealable(draft, cluster);
    let forced = draft
        .record
        .requests
        .failover
        .as_ref()
        .is_some_and(|f| f.allow_data_loss);
    let copies = draft.all_others(primary);
    let has_copy = copies
        .iter()
        .any(|id| draft.facts(*id).is_some_and(|f| f.in_recovery));
    if cluster.is_sealed_by(&reachable) {
        let message = format!("the primary {name} {said}; sealing {}", draft.names(&reachable));
        to_be_rebuilt(draft, primary, damaged);
        begin_epoch(draft, cluster, FailoverCause::PrimaryFailed, message);
        return true;
    }
    if forced && damaged && has_copy {
        if !await_more(draft, primary) {
            let message = format!("the primary {name} {said}; commits that no standby received are lost");
            to_be_rebuilt(draft, primary, true);
            begin_epoch(draft, cluster, FailoverCause::Forced, message);
        }
        return true;
    }
    if forced && !damaged {
        // Its disk has everything: started again it loses nothing, which is better than what was allowed.
        let why = format!("the primary {name} {said}, and nobody can take over without loss: restarting it");
        draft.event(EventKind::PrimaryHung, Some(primary), why.clone());
        draft.pending(Reason::PrimaryHung, why.clone());
        let mode = PowerOff::Immediate;
        draft.act(Action::PowerOff { node: primary, mode }, why);
        return true;
    }
    let nobody = nobody_else(draft, cluster, &reachable);
    draft.problem(
        reason_of(unfit.kind),
        format!("the primary {name} {said}; {nobody}"),
    );
    false
}

/// That a primary serves nobody for a reason that another one would have, or seems to have, too, is told.
fn tell_of_refusal(draft: &mut Draft<'_>, primary: NodeId, name: &str) {
    let policy = draft.situation.policy;
    let Some(Fitness::Unfit {
        why, for_ms, again, ..
    }) = draft.seen(primary).map(|seen| &seen.fitness)
    else {
        return;
    };
    if *for_ms < policy.unfit_ms {
        return;
    }
    let said = words(why);
    match why.kind {
        UnfitKind::Exhausted | UnfitKind::Refuses => draft.problem(reason_of(why.kind), format!(
            "the primary {name} {said}; another node would, too, so that it stays"
        )),
        UnfitKind::NoLogin | UnfitKind::NoCommit if *again => draft.problem(reason_of(why.kind), format!(
            "the primary {name} {said}, and the one before was the same: look at the disk and the host that they share; \
             if this lasts for {} s another node takes over",
            policy.unfit_again_ms / 1_000
        )),
        _ => {}
    }
}

/// The same for programs.
pub(in crate::plan) const fn reason_of(kind: UnfitKind) -> Reason {
    match kind {
        UnfitKind::NoLogin => Reason::NoLogin,
        UnfitKind::NoCommit => Reason::NoCommit,
        UnfitKind::Damaged => Reason::PrimaryDamaged,
        UnfitKind::Exhausted => Reason::Exhausted,
        UnfitKind::Refuses => Reason::CommitsRefused,
    }
}

/// What clients see of it.
pub(in crate::plan) fn words(unfit: &Unfit) -> String {
    let message = &unfit.message;
    match unfit.kind {
        UnfitKind::NoLogin => format!("lets nobody log in ({message})"),
        UnfitKind::NoCommit => format!("takes no commits ({message}, and it waits for no standby)"),
        UnfitKind::Damaged => format!("serves nobody: its files are gone or broken ({message})"),
        UnfitKind::Exhausted => format!("has run out of something ({message})"),
        UnfitKind::Refuses => format!("refuses commits ({message})"),
    }
}

fn to_be_rebuilt(draft: &mut Draft<'_>, primary: NodeId, damaged: bool) {
    if let Some(node) = draft.node_mut(primary).filter(|_| damaged) {
        node.rejoin_by(Rejoin::BaseBackup);
    }
}

fn nobody_else(draft: &Draft<'_>, cluster: &ClusterState, reachable: &BTreeSet<NodeId>) -> String {
    if draft.all_others(cluster.primary).is_empty() {
        return "there is no standby to take over: look at its disk and its log, then restart it".to_owned();
    }
    if !cluster.is_synchronous() {
        return "with no synchronous replica no standby is known to have every commit: ask for a failover with allow_data_loss"
            .to_owned();
    }
    let silent: BTreeSet<NodeId> = cluster.all_voters().difference(reachable).copied().collect();
    format!(
        "nobody can take over: {} may hold acknowledged commits and cannot be reached; bring it back, or ask for a failover with \
         allow_data_loss",
        draft.names(&silent)
    )
}

/// The primary serves as far as is known, and a failover is asked for: it was carried out, or there is
/// nothing to do. Never forgotten without a word.
pub(super) fn end_request(draft: &mut Draft<'_>, primary: NodeId) {
    let Some(request) = draft.record.requests.failover.clone() else {
        return;
    };
    let now = draft.situation.observation.at;
    let name = draft.name(primary);
    if request.from.is_some_and(|from| from != primary) {
        draft.record.requests.failover = None;
        draft.event(
            EventKind::FailoverDone,
            Some(primary),
            format!("{name} is the primary"),
        );
        return;
    }
    let waited_ms = now.since_ms(request.at);
    let serves = match draft.seen(primary).map(|seen| &seen.fitness) {
        Some(Fitness::Serves { ms_ago }) => *ms_ago <= waited_ms,
        _ => false,
    };
    if serves || waited_ms > FAILOVER_MS {
        draft.record.requests.failover = None;
        let why = format!(
            "{name} serves, so that there is nothing to fail over from; actions/switchover changes it"
        );
        draft.event(EventKind::FailoverGivenUp, Some(primary), why);
        return;
    }
    if let Some(request) = draft.record.requests.failover.as_mut() {
        // Asked for in the future: the clock was set back since.
        request.at = request.at.min(now);
    }
    draft.pending(
        Reason::FailoverRequested,
        format!("a failover is asked for: trying whether {name} serves"),
    );
    draft.wake_within(draft.situation.policy.progress_ms * 10);
}

/// The primary does not serve, and what was asked for could not be carried out for long: whoever asked is
/// told, and asks again when the world has changed.
pub(super) fn give_up_request(draft: &mut Draft<'_>) {
    let steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    let now = draft.situation.observation.at;
    let late = draft
        .record
        .requests
        .failover
        .as_ref()
        .is_some_and(|request| now.since_ms(request.at) > FAILOVER_MS);
    if !steady || !late {
        return;
    }
    draft.record.requests.failover = None;
    let reason = draft.problems.first().or(draft.pending.first());
    let reason = reason.map_or("nobody can take over", |why| &why.text);
    let why = format!(
        "it could not be carried out within {} s: {reason}",
        FAILOVER_MS / 1_000
    );
    draft.event(EventKind::FailoverGivenUp, None, why);
}
