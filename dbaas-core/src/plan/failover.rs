//! Loss of the primary: the protocol of `failover.md` as a function of record and observation.
//!
//! Steady → (the primary is lost, or a switchover was decided) → Sealing → (enough voters sealed) → Promoting
//! → (the new primary's data is safe on its own voters) → Steady. Each arrow is one compare-and-swap. See
//! `ARCHITECTURE.md`, "Failover", for the argument.

use std::collections::BTreeSet;

use crate::boot_plan::PreparePlan;
use crate::cluster::{ClusterPhase, ClusterState, FailoverCause};
use crate::id::NodeId;
use crate::infrastructure::{ExitReason, PowerOff, PowerState};
use crate::kinds::EventKind;
use crate::node::Rejoin;
use crate::observation::{NodeFacts, Silence};
use crate::patience::SHUTDOWN_MS;
use crate::plan::Action;
use crate::plan::draft::{Draft, Serving};
use crate::plan::first_start::first_start;
use crate::plan::hot_standby;
use crate::reason::Reason;

mod election;
mod followers;
mod health;
mod promotion;
mod service;

pub(super) use election::begin_epoch;
use election::sealing;
use health::{Health, cannot_acknowledge, health, heard_by_standbys, intact, loss, sealable};
use promotion::{marked, promoting};
pub(super) use service::{reason_of, serves_nobody, words};

/// Plans the protocol's next step; the primary, if it serves.
pub(super) fn plan(draft: &mut Draft<'_>) -> Option<Serving> {
    let cluster = draft.cluster()?.clone();
    match cluster.phase {
        ClusterPhase::Steady => steady(draft, &cluster),
        ClusterPhase::Sealing => {
            sealing(draft, &cluster);
            None
        }
        ClusterPhase::Promoting => promoting(draft, &cluster),
    }
}

fn steady(draft: &mut Draft<'_>, cluster: &ClusterState) -> Option<Serving> {
    let primary = cluster.primary;
    let health = health(draft, primary);
    let has_served = draft.node(primary).is_some_and(|n| n.rejoin != Rejoin::Seed);
    if draft.power(primary) == Some(&PowerState::Running) && (has_served || health == Health::Serving) {
        draft.try_service = Some(primary);
    }
    if health == Health::Serving {
        if let Some(node) = draft.node_mut(primary) {
            // It has data that must never be initialised over from now on.
            node.rejoin_by(Rejoin::InPlace);
        }
        if service::give_up(draft, cluster) {
            return None;
        }
        service::end_request(draft, primary);
        return marked(draft, primary, cluster.epoch).then_some(Serving { node: primary });
    }
    if draft.node(primary).is_some_and(|n| n.rejoin == Rejoin::Seed) {
        first_primary(draft, primary);
        return None;
    }
    if service::give_up(draft, cluster) {
        return None;
    }
    let asked_for = draft.record.requests.failover.is_some();
    if health == Health::Waiting && !asked_for {
        let name = draft.name(primary);
        let silent_ms = draft.seen(primary).map_or(0, |s| s.silent_ms);
        if silent_ms >= draft.situation.policy.silent_ms && heard_by_standbys(draft, primary) {
            let (why, advice) = left_alone(draft.seen(primary).map(|s| &s.sql));
            draft.problem(
                Reason::PrimaryUnreachable,
                format!(
                    "the primary {name} {why}, but its standbys hear from it: it is left alone; {advice}"
                ),
            );
        } else {
            draft.pending(
                Reason::PrimarySilent,
                format!("the primary {name} does not answer yet"),
            );
        }
        draft.soon();
        return None;
    }
    lost(draft, cluster);
    service::give_up_request(draft);
    None
}

/// Why a primary gives no facts although it is there, and what to look at: its own word comes before any
/// suspicion of the network.
fn left_alone(sql: Option<&Result<NodeFacts, Silence>>) -> (String, &'static str) {
    match sql {
        Some(Err(Silence::Exhausted(error))) => (
            format!("has run out of what a look needs ({error})"),
            "find the clients that use it up; those that are connected may go on",
        ),
        Some(Err(Silence::Failed(error) | Silence::Damaged(error))) => (
            format!("answers the control plane with an error ({error})"),
            "look at its log",
        ),
        Some(Err(Silence::Login)) => (
            "refuses the control plane's login".to_owned(),
            "look at its pg_hba.conf and its own role's password",
        ),
        _ => (
            "does not answer the control plane".to_owned(),
            "check the network between it and the control plane",
        ),
    }
}

/// The first primary has not served yet.
fn first_primary(draft: &mut Draft<'_>, primary: NodeId) {
    first_start(draft, primary);
    if draft.power(primary) == Some(&PowerState::Running) {
        let needs_roles = match draft.seen(primary).map(|s| &s.sql) {
            Some(Ok(facts)) => !facts.in_recovery,
            // It is about to come up, and the action waits for that moment.
            Some(Err(Silence::Login | Silence::Refused | Silence::NotReady)) => true,
            _ => false,
        };
        if needs_roles {
            // A standby that finds its slot missing waits a while before it asks again.
            let slots = followers::slots_of_followers(draft, primary);
            draft.act(
                Action::Bootstrap { node: primary, slots },
                "making the control plane's own roles",
            );
        }
    }
    let name = draft.name(primary);
    if let Some(PowerState::Exited(exit)) = draft.power(primary) {
        let why = &exit.message;
        draft.problem(
            Reason::PrimaryDoesNotStart,
            format!("the first node {name} does not start: {why}; it is tried again"),
        );
    }
    draft.pending(
        Reason::PrimaryStarting,
        format!("the first node {name} is being started"),
    );
    draft.soon();
}

fn lost(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let primary = cluster.primary;
    let name = draft.name(primary);
    let reachable = sealable(draft, cluster);
    if hot_standby::is_restarting(draft, primary) && intact(draft, primary) {
        if draft.is_off(primary) {
            restart_in_place(draft, primary);
        } else {
            // That it is silent while it shuts down, as it was told to, is no loss.
            draft.pending(
                Reason::NodeRestarting,
                format!("{name} is being restarted with its new configuration"),
            );
        }
        draft.soon();
        return;
    }
    if cluster.is_sealed_by(&reachable) {
        let message = format!(
            "the primary {name} is lost ({}); sealing {}",
            loss(draft, primary),
            draft.names(&reachable)
        );
        begin_epoch(draft, cluster, FailoverCause::PrimaryFailed, message);
        return;
    }
    let off = draft.is_off(primary);
    if restart_frozen(draft, primary) {
        // Next time it is off.
    } else if draft
        .seen(primary)
        .is_some_and(|s| s.sql == Err(Silence::NotReady))
    {
        // It replays its own WAL; nobody else can take over, so there is nothing better than to let it.
        draft.pending(
            Reason::PrimaryStarting,
            format!("{name} is starting: it replays its WAL"),
        );
    } else if draft.facts(primary).is_some() {
        let mode = PowerOff::Graceful {
            deadline_ms: SHUTDOWN_MS,
        };
        draft.act(
            Action::PowerOff { node: primary, mode },
            format!("{name} was started as something else: restarting it as primary"),
        );
    } else if off && intact(draft, primary) {
        restart_in_place(draft, primary);
    } else {
        cannot_elect(draft, cluster, &reachable);
    }
    draft.soon();
}

/// A primary, or a candidate, that is frozen and that nobody can stand for is switched off, to be started
/// again.
fn restart_frozen(draft: &mut Draft<'_>, primary: NodeId) -> bool {
    let patience = draft.situation.policy.silent_ms;
    let frozen = draft
        .seen(primary)
        .is_some_and(|seen| seen.is_frozen() && seen.silent_ms >= patience);
    if frozen {
        let why = format!(
            "{} is frozen and nobody can take over: restarting it",
            draft.name(primary)
        );
        let mode = PowerOff::Immediate;
        draft.pending(Reason::PrimaryHung, why.clone());
        draft.act(Action::PowerOff { node: primary, mode }, why);
    }
    frozen
}

/// A primary, or a candidate, that runs and does not answer, for so long that it will not by itself, is
/// switched off, to be started again: if it can acknowledge nothing anyway, so that nobody is disturbed. One
/// that is only starting says so, or refuses.
fn restart_hung(draft: &mut Draft<'_>, cluster: &ClusterState) -> bool {
    let primary = cluster.primary;
    let patience = draft.situation.policy.voter_gone_ms;
    let hung = draft.seen(primary).is_some_and(|seen| {
        let mute = matches!(
            seen.sql,
            Err(Silence::Timeout | Silence::Failed(_) | Silence::Damaged(_) | Silence::Login)
        );
        mute && seen.silent_ms >= patience
    });
    if !hung || draft.power(primary) != Some(&PowerState::Running) || !cannot_acknowledge(draft, cluster) {
        return false;
    }
    let why = format!(
        "{} runs but does not answer ({}), and nobody can take over: restarting it",
        draft.name(primary),
        loss(draft, primary)
    );
    draft.problem(Reason::PrimaryHung, why.clone());
    draft.event(EventKind::PrimaryHung, Some(primary), why.clone());
    let mode = PowerOff::Immediate;
    draft.act(Action::PowerOff { node: primary, mode }, why);
    true
}

/// The primary's own disk has everything: starting it again loses nothing.
fn restart_in_place(draft: &mut Draft<'_>, primary: NodeId) {
    let name = draft.name(primary);
    let hold_off = draft.seen(primary).map_or(0, |s| s.hold_off_ms);
    let why = format!(
        "the primary {name} is off ({}) and its data is intact: restarting it",
        loss(draft, primary)
    );
    if let Some(PowerState::Exited(exit)) = draft.power(primary)
        && exit.reason == ExitReason::DiskFull
    {
        draft.problem(Reason::DiskFull, draft.disk_is_full(&name));
    }
    if hold_off > 0 {
        draft.problem(
            Reason::PrimaryDoesNotStart,
            format!("{why}; next try in {} s", hold_off.div_ceil(1000)),
        );
        draft.wake_within(hold_off);
        return;
    }
    draft.event(EventKind::PrimaryRestarted, Some(primary), why.clone());
    let boot = draft.primary_boot(PreparePlan::Existing);
    draft.act(
        Action::Start {
            node: primary,
            boot: Box::new(boot),
        },
        why.clone(),
    );
    draft.pending(Reason::PrimaryStarting, why);
}

/// Neither electing nor restarting is possible now.
fn cannot_elect(draft: &mut Draft<'_>, cluster: &ClusterState, reachable: &BTreeSet<NodeId>) {
    let primary = cluster.primary;
    let name = draft.name(primary);
    let off = draft.is_off(primary);
    let forced = draft
        .record
        .requests
        .failover
        .as_ref()
        .is_some_and(|f| f.allow_data_loss);
    let asynchronous = !cluster.is_synchronous();
    let standbys: BTreeSet<NodeId> = draft
        .all_others(primary)
        .into_iter()
        .filter(|id| {
            draft
                .facts(*id)
                .is_some_and(|f| f.in_recovery && f.epoch <= cluster.epoch.next())
        })
        .collect();
    // With k = 0 there is one writer, and no promise of zero loss: the standby may take over once the primary
    // is known to be off and its disk is lost. Otherwise somebody has to say that loss is acceptable.
    if !standbys.is_empty() && (forced || (asynchronous && off && !intact(draft, primary))) {
        if await_more(draft, primary) {
            return;
        }
        if !off {
            let mode = PowerOff::Immediate;
            draft.act(
                Action::PowerOff { node: primary, mode },
                format!("fencing {name} before a forced failover"),
            );
            draft.pending(
                Reason::Electing,
                format!("fencing {name}, then failing over as asked"),
            );
            return;
        }
        let message =
            format!("the primary {name} cannot come back; commits that no standby received are lost");
        begin_epoch(draft, cluster, FailoverCause::Forced, message);
        return;
    }
    if restart_hung(draft, cluster) {
        return;
    }
    let silent: BTreeSet<NodeId> = cluster.all_voters().difference(reachable).copied().collect();
    let mut text = format!("the primary {name} is lost ({})", loss(draft, primary));
    if asynchronous && !standbys.is_empty() {
        text.push_str(
            "; with no synchronous replica a standby takes over only when the primary is known to be off: waiting for it, or \
             ask for a failover with allow_data_loss",
        );
    } else if silent.is_empty() {
        text.push_str("; no standby can take over, waiting for it to come back");
    } else {
        text.push_str(&format!(
            "; {} may hold acknowledged commits and cannot be reached: waiting for it or for the primary, or ask for a \
             failover with allow_data_loss",
            draft.names(&silent)
        ));
    }
    draft.problem(Reason::PrimaryLost, text);
}

/// It was switched off to be started where it is, or is about to answer.
fn is_being_started(draft: &Draft<'_>, id: NodeId) -> bool {
    let in_place = |id| {
        draft
            .node(id)
            .is_some_and(|n| matches!(n.rejoin, Rejoin::InPlace | Rejoin::Seed))
    };
    match draft.power(id) {
        Some(PowerState::Off) => in_place(id),
        Some(PowerState::Preparing) => true,
        _ => draft
            .seen(id)
            .is_some_and(|seen| matches!(seen.sql, Err(Silence::NotReady))),
    }
}

/// A failover that may lose commits takes the best copy there is: one that was there a moment ago may hold
/// more than those that answer. An operator who accepts the loss is kept waiting only for those that are
/// being started.
fn await_more(draft: &mut Draft<'_>, primary: NodeId) -> bool {
    let asked = draft.record.requests.failover.is_some();
    let patience = draft.situation.policy.voter_gone_ms;
    let awaited: BTreeSet<NodeId> = draft
        .all_others(primary)
        .into_iter()
        .filter(|id| draft.facts(*id).is_none() && intact(draft, *id))
        .filter(|id| draft.seen(*id).is_some_and(|s| s.silent_ms < patience))
        .filter(|id| !asked || is_being_started(draft, *id))
        .collect();
    if awaited.is_empty() {
        return false;
    }
    let text = format!("waiting for {}, which may hold more", draft.names(&awaited));
    draft.pending(Reason::Electing, text);
    draft.soon();
    true
}
