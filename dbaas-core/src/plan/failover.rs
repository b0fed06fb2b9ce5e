//! Loss of the primary: the protocol of `failover.md` as a function of record and observation.
//!
//! Steady → (the primary is lost, or a switchover was decided) → Sealing → (enough voters sealed) → Promoting → (the new primary's data is
//! safe on its own voters) → Steady. Each arrow is one compare-and-swap. See `ARCHITECTURE.md`, "Failover", for the argument.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::boot_plan::PreparePlan;
use crate::cluster::{ClusterPhase, ClusterState, Electorate, Epoch, FailoverCause, FormerPrimary};
use crate::id::NodeId;
use crate::infrastructure::{DataState, ExitReason, PowerOff, PowerState};
use crate::node::{NodeRole, Rejoin};
use crate::observation::Silence;

use super::Action;
use super::draft::{Draft, Serving};
use super::lifetime::{self, SHUTDOWN_MS};
use super::nodes::SLOT_PREFIX;

/// What is known of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It answers and takes writes.
    Serving,
    /// It is not known to be lost: it is starting, or did not answer for a short time, or standbys still hear from it.
    Waiting,
    /// It does not serve, and there is reason to act.
    Lost,
}

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
    if health == Health::Serving {
        draft.record.requests.failover = None;
        if let Some(node) = draft.node_mut(primary) {
            // It has data that must never be initialised over from now on.
            node.rejoin = Rejoin::InPlace;
            node.rejoin_attempts = 0;
        }
        return marked(draft, primary, cluster.epoch).then_some(Serving { node: primary });
    }
    if draft.node(primary).is_some_and(|n| n.rejoin == Rejoin::Seed) {
        first_primary(draft, primary);
        return None;
    }
    let asked_for = draft.record.requests.failover.is_some();
    if health == Health::Waiting && !asked_for {
        let name = draft.name(primary);
        let silent_ms = draft.seen(primary).map_or(0, |s| s.silent_ms);
        if silent_ms >= draft.situation.policy.silent_ms && heard_by_standbys(draft, primary) {
            draft.problem(format!(
                "the primary {name} does not answer the control plane, but its standbys hear from it: it is left alone; check the \
                 network between it and the control plane"
            ));
        } else {
            draft.pending(format!("the primary {name} does not answer yet"));
        }
        draft.soon();
        return None;
    }
    lost(draft, cluster);
    None
}

/// The first primary has not served yet.
fn first_primary(draft: &mut Draft<'_>, primary: NodeId) {
    lifetime::first_start(draft, primary);
    if draft.power(primary) == Some(&PowerState::Running) {
        let needs_roles = match draft.seen(primary).map(|s| &s.sql) {
            Some(Ok(facts)) => !facts.in_recovery,
            // It is about to come up, and the action waits for that moment.
            Some(Err(Silence::Login | Silence::Refused | Silence::NotReady)) => true,
            _ => false,
        };
        if needs_roles {
            draft.act(
                Action::Bootstrap { node: primary },
                "making the control plane's own roles",
            );
        }
    }
    let name = draft.name(primary);
    draft.pending(format!("the first node {name} is being started"));
    draft.soon();
}

fn health(draft: &Draft<'_>, primary: NodeId) -> Health {
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

fn heard_by_standbys(draft: &Draft<'_>, primary: NodeId) -> bool {
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

/// Standbys that answer, and so can be sealed.
fn sealable(draft: &Draft<'_>, cluster: &ClusterState) -> BTreeSet<NodeId> {
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

fn lost(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let primary = cluster.primary;
    let name = draft.name(primary);
    let reachable = sealable(draft, cluster);
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
        draft.pending(format!("{name} is starting: it replays its WAL"));
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

/// A primary, or a candidate, that is frozen and that nobody can stand for is switched off, to be started again.
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
        draft.pending(why.clone());
        draft.act(Action::PowerOff { node: primary, mode }, why);
    }
    frozen
}

/// Its data directory is there and complete.
fn intact(draft: &Draft<'_>, node: NodeId) -> bool {
    draft
        .situation
        .observation
        .infra(node)
        .is_some_and(|n| n.data == DataState::Initialised)
}

fn loss(draft: &Draft<'_>, node: NodeId) -> String {
    match draft.power(node) {
        None if draft.is_off(node) => "its node is gone".to_owned(),
        None => "no answer".to_owned(),
        Some(PowerState::Exited(exit)) => exit.message.clone(),
        Some(PowerState::Off) => "it is switched off".to_owned(),
        Some(PowerState::Frozen) => "its processes are frozen".to_owned(),
        Some(PowerState::Running | PowerState::Preparing) => {
            let silent_ms = draft.seen(node).map_or(0, |s| s.silent_ms);
            format!("no answer for {silent_ms} ms, and no standby hears from it")
        }
    }
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
        draft.problem(format!(
            "the disk of {name} is full: enlarge disk_size or free space; starting is tried again"
        ));
    }
    if hold_off > 0 {
        draft.problem(format!("{why}; next try in {} s", hold_off.div_ceil(1000)));
        draft.wake_within(hold_off);
        return;
    }
    draft.event("primary_restarted", Some(primary), why.clone());
    let boot = draft.primary_boot(PreparePlan::Existing);
    draft.act(
        Action::Start {
            node: primary,
            boot: Box::new(boot),
        },
        why.clone(),
    );
    draft.pending(why);
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
    // With k = 0 there is one writer, and no promise of zero loss: the standby may take over once the primary is known to be off and
    // its disk is lost. Otherwise somebody has to say that loss is acceptable.
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
            draft.pending(format!("fencing {name}, then failing over as asked"));
            return;
        }
        let message =
            format!("the primary {name} cannot come back; commits that no standby received are lost");
        begin_epoch(draft, cluster, FailoverCause::Forced, message);
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
    draft.problem(text);
}

/// A failover that may lose commits takes the best copy there is: one that was there a moment ago may hold more than those that answer. An
/// operator who accepts the loss is not kept waiting.
fn await_more(draft: &mut Draft<'_>, primary: NodeId) -> bool {
    if draft.record.requests.failover.is_some() {
        return false;
    }
    let patience = draft.situation.policy.voter_gone_ms;
    let awaited: BTreeSet<NodeId> = draft
        .all_others(primary)
        .into_iter()
        .filter(|id| draft.facts(*id).is_none() && intact(draft, *id))
        .filter(|id| draft.seen(*id).is_some_and(|s| s.silent_ms < patience))
        .collect();
    if awaited.is_empty() {
        return false;
    }
    let text = format!("waiting for {}, which may hold more", draft.names(&awaited));
    draft.pending(text);
    draft.soon();
    true
}

/// The compare-and-swap that begins a new epoch. The actions of the same plan run only if it succeeded.
pub(super) fn begin_epoch(
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
        FailoverCause::PrimaryFailed => "failover_started",
        FailoverCause::Switchover { .. } => "switchover_started",
        FailoverCause::Forced => "forced_failover_started",
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

fn sealing(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let old = cluster.primary;
    let planned = matches!(cluster.cause, Some(FailoverCause::Switchover { .. }));
    let forced = cluster.cause == Some(FailoverCause::Forced);
    let old_off = draft.is_off(old);
    draft.soon();
    if !old_off {
        // The fence. Safety does not rest on it where k >= 1, but it ends stale reads, and a planned change needs the clean shutdown.
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
            draft.pending("waiting for the old primary to be off");
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
        if facts.epoch == epoch && facts.primary_conninfo.is_empty() {
            continue; // Sealed but for its receiver ending or its replay catching up.
        }
        let closed_names = draft.missing_closed_names(facts);
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
        // The old primary holds everything that was ever acknowledged; nobody was promoted in this epoch, nor can be now.
        let name = draft.name(old);
        let message =
            format!("too few standbys can be sealed to elect: {name} goes on as primary in epoch {epoch}");
        draft.event("failover_abandoned", Some(old), message);
        if let Some(state) = draft.record.cluster.as_mut() {
            state.phase = ClusterPhase::Steady;
            state.cause = None;
        }
        draft.record.requests.switchover = None;
        restart_in_place(draft, old);
    } else if !cluster.is_sealed_by(&candidates) && !forced {
        let missing: BTreeSet<NodeId> = cluster.all_voters().difference(&candidates).copied().collect();
        draft.problem(format!(
            "a new primary cannot be chosen yet: {} may hold acknowledged commits and cannot be reached",
            draft.names(&missing)
        ));
    } else {
        draft.pending(format!(
            "electing a new primary (epoch {epoch}): {} sealed",
            draft.names(&sealed)
        ));
    }
}

/// The sealed node that has most: by history, then position; a planned change prefers the node asked for among equals.
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
    // Only those of the candidate's own history may vote at once: they hold a part of what it holds, and nothing else. One of an older
    // history may have gone on where the candidate's turned off; it votes when it has replayed the new epoch's mark. And if that history
    // is not of the epoch just before this one, a primary of an epoch between may have gone on from it without its mark having come this
    // far: then the same mark does not show the same history, and nobody votes at once.
    // The same holds if a candidate was promoted twice in one epoch, with a single mark.
    let newest = facts.history.next() == epoch && !cluster.repromoted;
    let same_history = |id: &NodeId| newest && draft.facts(*id).is_some_and(|f| f.history == facts.history);
    let voters: BTreeSet<NodeId> = sealed
        .iter()
        .copied()
        .filter(|id| *id != candidate && staying(id) && same_history(id))
        .collect();
    let voters = if k == 0 { BTreeSet::new() } else { voters };
    let message = format!(
        "{} has most ({}, history {}): promoting it (epoch {epoch})",
        draft.name(candidate),
        facts.lsn,
        facts.history
    );
    draft.pending(message.clone());
    draft.event("candidate_chosen", Some(candidate), message);
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
            // It has data that must never be initialised over, also if it was never seen to serve or to follow.
            node.rejoin = Rejoin::InPlace;
            node.rejoin_attempts = 0;
        } else {
            node.role = NodeRole::Standby;
            node.sync = false;
        }
        if node.id == old && node.rejoin != Rejoin::BaseBackup {
            // It may have written what nobody received. After a clean shutdown it has not, and following is tried first.
            node.rejoin = if planned { Rejoin::InPlace } else { Rejoin::Rewind };
            node.rejoin_attempts = 0;
        }
        // If the candidate does not know of a promotion that there was, or may have been, both will have taken the same number for their
        // timelines: a rewind, and a standby that asks for more WAL, would see no difference, and foreign content would stay. Whoever
        // was not sealed, and so may hold some, is built anew.
        if !newest && node.id != candidate && !sealed.contains(&node.id) && node.rejoin != Rejoin::Seed {
            node.rejoin = Rejoin::BaseBackup;
            node.rejoin_attempts = 0;
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

/// The other sealed nodes' slots, made while the promotion runs.
fn prepare_followers(draft: &mut Draft<'_>, candidate: NodeId) {
    let wanted: Vec<String> = draft
        .others(candidate)
        .iter()
        .map(|id| crate::cluster::slot_name(&draft.name(*id)))
        .collect();
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

fn promoting(draft: &mut Draft<'_>, cluster: &ClusterState) -> Option<Serving> {
    let candidate = cluster.primary;
    let epoch = cluster.epoch;
    let name = draft.name(candidate);
    draft.soon();
    let Some(facts) = draft.facts(candidate) else {
        candidate_silent(draft, cluster);
        return None;
    };
    if facts.epoch > epoch {
        draft.problem(format!(
            "{name} was taken over in epoch {} by another controller",
            facts.epoch
        ));
        return None;
    }
    if facts.in_recovery {
        draft.pending(format!("promoting {name} (epoch {epoch})"));
        if facts.is_sealed(epoch) && draft.missing_closed_names(facts).is_none() {
            if facts.history >= epoch {
                // Something else started it as a standby.
                note_repromotion(draft);
            }
            let closed_names = draft.closed_names();
            draft.act(
                Action::Promote {
                    node: candidate,
                    epoch,
                    closed_names,
                },
                "promoting the candidate",
            );
        } else {
            let closed_names = draft.missing_closed_names(facts);
            draft.act(
                Action::Seal {
                    node: candidate,
                    epoch,
                    closed_names,
                },
                "sealing the candidate again",
            );
        }
        prepare_followers(draft, candidate);
        return None;
    }
    marked(draft, candidate, epoch).then_some(Serving { node: candidate })
}

/// The candidate is promoted a second time in its epoch, or may be. The mark is written once, and others may hold it from the first time: what
/// they hold of the candidate's history says nothing of its second part, so that a position from before is no barrier either.
fn note_repromotion(draft: &mut Draft<'_>) {
    if let Some(state) = draft.record.cluster.as_mut()
        && !state.repromoted
    {
        state.repromoted = true;
        state.barrier = None;
    }
}

/// Whether this primary has written the mark of its epoch; if not, it is to. Also one that goes on in a new epoch because nobody could be
/// elected: its standbys count only when they have replayed the mark.
fn marked(draft: &mut Draft<'_>, primary: NodeId, epoch: Epoch) -> bool {
    let Some(facts) = draft.facts(primary) else {
        return false;
    };
    if facts.history >= epoch {
        return true;
    }
    let name = draft.name(primary);
    draft.pending(format!(
        "{name} is the primary; marking its history (epoch {epoch})"
    ));
    draft.act(
        Action::MarkHistory { node: primary, epoch },
        "the first record of the epoch's primary",
    );
    draft.soon();
    false
}

/// The candidate does not answer: elect again if that is possible, else bring it back.
fn candidate_silent(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let candidate = cluster.primary;
    let name = draft.name(candidate);
    match health(draft, candidate) {
        Health::Serving => {}
        Health::Waiting => draft.pending(format!("waiting for the new primary {name} to answer")),
        Health::Lost => {
            let reachable = sealable(draft, cluster);
            if cluster.is_sealed_by(&reachable) {
                let message = format!("the new primary {name} is lost too ({})", loss(draft, candidate));
                begin_epoch(draft, cluster, FailoverCause::PrimaryFailed, message);
            } else if restart_frozen(draft, candidate) {
                // Next time it is off.
            } else if draft.is_off(candidate) && intact(draft, candidate) {
                // As a standby, sealed: whether it had been promoted is not known, and promoting it again is always right.
                if draft.seen(candidate).is_some_and(|s| s.hold_off_ms == 0) {
                    let boot = draft.standby_boot(candidate, None, PreparePlan::Existing);
                    draft.act(
                        Action::Start {
                            node: candidate,
                            boot: Box::new(boot),
                        },
                        format!("the new primary {name} is off: starting it again to promote it"),
                    );
                    note_repromotion(draft);
                }
                draft.pending(format!("the new primary {name} is being started again"));
            } else {
                cannot_elect(draft, cluster, &reachable);
            }
        }
    }
}
