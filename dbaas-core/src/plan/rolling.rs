//! Changes of a running instance that touch one node after the other: scaling, new sizes, restarts,
//! switchovers.

use std::cmp::Reverse;

use crate::cluster::{ClusterPhase, FailoverCause, Lsn, standby_name};
use crate::id::NodeId;
use crate::infrastructure::PowerOff;
use crate::instance::SwitchoverRequest;
use crate::kinds::EventKind;
use crate::node::{NodeRecord, NodeRole, Rejoin, RestartMark};
use crate::observation::{NodeFacts, Seen};
use crate::patience::{CHECKPOINT_MS, SHUTDOWN_MS, SWITCHOVER_MS};
use crate::reason::Reason;

use super::draft::{Draft, Serving};
use super::lifetime::new_node;
use super::{Action, configuration, failover, hot_standby};

pub(super) fn plan(draft: &mut Draft<'_>, primary: Serving) {
    let Some(facts) = draft.facts(primary.node) else {
        return;
    };
    scale(draft, primary);
    mark_restarts(draft);
    let largest = &mut draft.record.largest;
    largest.cpu = largest.cpu.max(draft.record.spec.resources.cpu);
    largest.ram = largest.ram.max(draft.record.spec.resources.ram);
    let calm = draft
        .cluster()
        .is_some_and(|c| c.phase == ClusterPhase::Steady && !c.is_joint());
    if draft.record.requests.switchover.is_some() {
        if calm {
            switchover(draft, primary, facts);
        } else {
            draft.pending(
                Reason::SwitchoverWaiting,
                "a switchover waits for the change of voters to settle",
            );
        }
    } else if calm && !configuration::is_under_way(draft) {
        roll(draft, primary, facts);
    }
}

fn scale(draft: &mut Draft<'_>, primary: Serving) {
    // Whoever is primary stays; another one goes instead.
    if let Some(node) = draft.node_mut(primary.node) {
        node.leaving = false;
    }
    let wanted = usize::from(draft.record.spec.nodes.get());
    let staying: Vec<NodeId> = draft
        .record
        .nodes
        .iter()
        .filter(|n| !n.leaving)
        .map(|n| n.id)
        .collect();
    for _ in staying.len()..wanted {
        let known = |id: &NodeId| draft.record.nodes.iter().any(|n| n.id == *id);
        let Some(id) = draft.situation.fresh_ids.iter().copied().find(|id| !known(id)) else {
            return;
        };
        let node = new_node(draft, id, NodeRole::Standby, Rejoin::BaseBackup);
        let why = format!("adding {} (base backup)", node.name);
        draft.event(EventKind::NodeAdded, Some(id), why.clone());
        draft.pending(Reason::NodeCreating, why);
        draft.record.nodes.push(node);
        draft.soon();
    }
    for _ in wanted..staying.len() {
        let streaming = draft
            .facts(primary.node)
            .map(|f| draft.streaming(f))
            .unwrap_or_default();
        // Those that do not work first, then the newest.
        let victim = draft
            .record
            .nodes
            .iter()
            .filter(|n| !n.leaving && n.id != primary.node)
            .min_by_key(|n| (streaming.contains(&n.id), Reverse(n.created_at), Reverse(n.id)))
            .map(|n| n.id);
        let Some(victim) = victim else { return };
        let name = draft.name(victim);
        if let Some(node) = draft.node_mut(victim) {
            node.leaving = true;
        }
        draft.event(
            EventKind::NodeLeaving,
            Some(victim),
            format!("removing {name}: nodes_number is {wanted} now"),
        );
        draft.soon();
    }
}

/// Notes which start of each node a new request for a restart is about.
fn mark_restarts(draft: &mut Draft<'_>) {
    let asked = draft.record.requests.restart;
    let observation = draft.situation.observation;
    for node in &mut draft.record.nodes {
        let Some(asked) = asked else {
            node.restart = None;
            continue;
        };
        if node.restart.as_ref().is_some_and(|mark| mark.asked == asked) {
            continue;
        }
        let boot_id = match observation.node(node.id).map(|seen| &seen.infra) {
            Some(Seen::Present(found)) => found.boot.as_ref().map(|boot| boot.boot_id.clone()),
            Some(Seen::Absent) => None,
            Some(Seen::Unknown) | None => continue,
        };
        node.restart = Some(RestartMark { asked, boot_id });
    }
}

/// Whether the node has not been started since the request for a restart was taken up.
fn awaits_restart(draft: &Draft<'_>, id: NodeId) -> bool {
    let boot = draft
        .situation
        .observation
        .infra(id)
        .and_then(|found| found.boot.as_ref());
    match (draft.node(id).and_then(|node| node.restart.as_ref()), boot) {
        (Some(mark), Some(boot)) => mark.boot_id.as_deref() == Some(boot.boot_id.as_str()),
        (None, _) | (_, None) => false,
    }
}

/// Whether a node runs with another size or image than asked for, with settings that wait for its next start,
/// or was to be restarted.
fn outdated(draft: &Draft<'_>, id: NodeId) -> bool {
    let Some(facts) = draft.facts(id) else {
        return false;
    };
    let Some(node) = draft.node(id) else { return false };
    let applied = draft
        .situation
        .observation
        .infra(id)
        .and_then(|n| n.applied.as_ref());
    let other_spec = applied.is_some_and(|spec| *spec != draft.node_spec(node));
    awaits_restart(draft, id) || other_spec || !facts.pending_restart.is_empty()
}

fn roll(draft: &mut Draft<'_>, primary: Serving, facts: &NodeFacts) {
    let standbys = draft.others(primary.node);
    let streaming = draft.streaming(facts);
    let behind: Vec<NodeId> = standbys
        .iter()
        .copied()
        .filter(|id| outdated(draft, *id))
        .collect();
    let all_there = standbys
        .iter()
        .all(|id| streaming.contains(id) || behind.contains(id));
    let primary_outdated = outdated(draft, primary.node);
    if behind.is_empty() && !primary_outdated {
        let unseen = |n: &NodeRecord| n.restart.is_none() || draft.facts(n.id).is_none();
        let unseen = draft.record.nodes.iter().any(unseen);
        if draft.record.requests.restart.is_some() && !unseen {
            draft.record.requests.restart = None;
            draft.event(EventKind::RestartCompleted, None, "every node was restarted");
        }
        return;
    }
    draft.soon();
    draft.pending(
        Reason::NodeRestarting,
        format!(
            "restarting nodes one at a time; {} left",
            behind.len() + usize::from(primary_outdated)
        ),
    );
    if !all_there {
        return;
    }
    if let Some(next) = behind.first() {
        let why = format!(
            "restarting the standby {} for its new configuration",
            draft.name(*next)
        );
        draft.event(EventKind::NodeRestarting, Some(*next), why.clone());
        draft.act(
            Action::PowerOff {
                node: *next,
                mode: PowerOff::Graceful {
                    deadline_ms: SHUTDOWN_MS,
                },
            },
            why,
        );
    } else if standbys.is_empty() || hot_standby::is_to_be_lowered(draft, primary.node) {
        hot_standby::restart_where_it_is(draft, primary.node);
        let why = format!(
            "restarting {} for its new configuration",
            draft.name(primary.node)
        );
        draft.event(EventKind::NodeRestarting, Some(primary.node), why.clone());
        draft.act(
            Action::PowerOff {
                node: primary.node,
                mode: PowerOff::Graceful {
                    deadline_ms: SHUTDOWN_MS,
                },
            },
            why,
        );
    } else {
        draft.record.requests.switchover = Some(SwitchoverRequest {
            to: None,
            at: draft.situation.observation.at,
            by_controller: true,
            prepared: false,
            checkpoint_after: None,
        });
        draft
            .why
            .push("the primary is restarted last: switching over first".to_owned());
    }
}

fn switchover(draft: &mut Draft<'_>, primary: Serving, facts: &NodeFacts) {
    let Some(request) = draft.record.requests.switchover.clone() else {
        return;
    };
    let Some(cluster) = draft.cluster().cloned() else {
        return;
    };
    draft.soon();
    if request.to == Some(primary.node) {
        draft.record.requests.switchover = None;
        draft.event(
            EventKind::SwitchoverDone,
            Some(primary.node),
            "it is the primary already",
        );
        return;
    }
    let ready = |id: &NodeId| {
        draft.node(*id).is_some_and(|n| !n.leaving)
            && cluster.current().voters.contains(id)
            && draft.facts(*id).is_some_and(|f| f.in_recovery)
            && draft.caught_up(facts).contains(id)
    };
    let flushed = |id: &NodeId| {
        facts
            .streaming(&standby_name(&draft.name(*id), cluster.epoch))
            .and_then(|s| s.flush_lsn)
    };
    let target = match request.to {
        Some(to) => Some(to).filter(ready),
        None => draft
            .others(primary.node)
            .into_iter()
            .filter(ready)
            .max_by_key(|id| (flushed(id), Reverse(*id))),
    };
    let reachable = cluster
        .current()
        .voters
        .iter()
        .copied()
        .filter(|id| draft.facts(*id).is_some())
        .collect();
    let Some(target) = target.filter(|_| cluster.is_sealed_by(&reachable)) else {
        let now = draft.situation.observation.at;
        let gone = request
            .to
            .is_some_and(|to| draft.node(to).is_none_or(|node| node.leaving));
        let given_up = if draft.others(primary.node).is_empty() {
            Some("there is no standby that stays")
        } else if gone {
            Some("the node that was to take over is being removed, or is gone")
        } else if !request.by_controller && now.since_ms(request.at) > SWITCHOVER_MS {
            Some("no standby was ready to take over within a minute")
        } else {
            None
        };
        if let Some(why) = given_up {
            draft.record.requests.switchover = None;
            draft.event(EventKind::SwitchoverGivenUp, None, why);
        } else {
            // Asked for in the future: the clock was set back since, and the minute counts from now.
            if let Some(request) = draft.record.requests.switchover.as_mut() {
                request.at = request.at.min(now);
            }
            draft.pending(
                Reason::SwitchoverWaiting,
                "a switchover waits for a standby that has caught up",
            );
        }
        return;
    };
    if !is_checkpointed(draft, &request, primary, facts) {
        return;
    }
    draft.record.requests.switchover = None;
    let message = format!(
        "switching over from {} to {}",
        draft.name(primary.node),
        draft.name(target)
    );
    failover::begin_epoch(draft, &cluster, FailoverCause::Switchover { to: target }, message);
}

/// Whether the checkpoint that makes the shutdown short has ended; it is asked for here. Clients write until
/// then: a shutdown that began earlier would wait for it, and they with it. One that does not end ends the
/// request.
fn is_checkpointed(
    draft: &mut Draft<'_>,
    request: &SwitchoverRequest,
    primary: Serving,
    facts: &NodeFacts,
) -> bool {
    let now = draft.situation.observation.at;
    let ended = |after: Lsn| facts.checkpoint_redo.is_some_and(|redo| redo >= after);
    if request.prepared && request.checkpoint_after.is_none_or(ended) {
        return true;
    }
    let asked_at = if request.prepared { request.at } else { now };
    let name = draft.name(primary.node);
    if now.since_ms(asked_at) <= CHECKPOINT_MS {
        if let Some(request) = draft.record.requests.switchover.as_mut() {
            request.prepared = true;
            request.checkpoint_after.get_or_insert(facts.lsn);
            // From now on it is the checkpoint that is waited for. (Asked for in the future: the clock was
            // set back.)
            request.at = asked_at.min(now);
        }
        draft.pending(
            Reason::SwitchoverWaiting,
            format!("a switchover waits for a checkpoint of {name}"),
        );
        draft.act(
            Action::Checkpoint { node: primary.node },
            "a checkpoint now makes the shutdown short",
        );
    } else if request.by_controller {
        draft.problem(Reason::CheckpointHangs, format!(
            "restarting {name} waits for a checkpoint, which does not end: clients would wait for it while {name} shuts down; look at its disk"
        ));
        draft.act(
            Action::Checkpoint { node: primary.node },
            "the checkpoint before a switchover has not ended",
        );
    } else {
        draft.record.requests.switchover = None;
        let minutes = CHECKPOINT_MS / 60_000;
        draft.event(
            EventKind::SwitchoverGivenUp,
            Some(primary.node),
            format!(
                "the checkpoint of {name} before it did not end within {minutes} minutes, and clients would have waited for it; {name} goes on as \
                 primary; look at its disk"
            ),
        );
    }
    false
}
