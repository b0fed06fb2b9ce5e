//! Creation, stop and deletion of an instance.

use crate::cluster::{ClusterState, Electorate};
use crate::condition::{Conditions, Why};
use crate::id::NodeId;
use crate::infrastructure::{DataDisposal, PowerOff};
use crate::instance::{DesiredState, InstancePhase};
use crate::kinds::EventKind;
use crate::lifecycle::{Lifecycle, LifecycleEvent};
use crate::node::{NodeRecord, NodeRole, Rejoin};
use crate::patience::SHUTDOWN_MS;
use crate::reason::Reason;

use super::draft::Draft;
use super::{Action, conditions, status};

/// Whether the other parts are to be asked.
pub(super) fn plan(draft: &mut Draft<'_>) -> bool {
    match draft.record.desired {
        DesiredState::Deleted => {
            delete(draft);
            false
        }
        DesiredState::Stopped => {
            if draft.record.cluster.is_none() {
                decide_first_nodes(draft);
            }
            stop(draft);
            false
        }
        DesiredState::Running => {
            if draft.record.cluster.is_none() {
                decide_first_nodes(draft);
            }
            true
        }
    }
}

/// A new node's record.
pub(super) fn new_node(draft: &mut Draft<'_>, id: NodeId, role: NodeRole, rejoin: Rejoin) -> NodeRecord {
    let number = draft.record.next_node_number;
    draft.record.next_node_number += 1;
    NodeRecord {
        id,
        name: format!("n{number}"),
        created_at: draft.situation.observation.at,
        leaving: false,
        rejoin,
        rejoin_attempts: 0,
        rebuilds: u32::from(rejoin == Rejoin::BaseBackup),
        restart: None,
        lifecycle: Lifecycle::New,
        role,
        sync: false,
        reason: "about to be created".to_owned(),
        conditions: Conditions::accepted("about to be created", draft.situation.observation.at),
        endpoint: None,
        backend_ref: None,
    }
}

/// The first primary and its copies. Nothing was ever written, so that every copy holds everything and may
/// vote at once.
fn decide_first_nodes(draft: &mut Draft<'_>) {
    let count = usize::from(draft.record.spec.nodes.get());
    let ids: Vec<NodeId> = draft.situation.fresh_ids.iter().copied().take(count).collect();
    for (index, id) in ids.iter().enumerate() {
        let role = if index == 0 {
            NodeRole::Primary
        } else {
            NodeRole::Standby
        };
        let node = new_node(draft, *id, role, Rejoin::Seed);
        draft.record.nodes.push(node);
    }
    let Some((first, standbys)) = ids.split_first() else {
        return;
    };
    let electorate = Electorate::new(
        standbys.iter().copied(),
        draft.record.spec.effective_sync_replicas(),
    );
    draft.record.cluster = Some(ClusterState::initial(*first, electorate));
    draft.event(EventKind::NodesDecided, None, format!("creating {count} node(s)"));
}

fn stop(draft: &mut Draft<'_>) {
    draft.record.requests = Default::default();
    let (primary, now) = (draft.cluster().map(|c| c.primary), draft.situation.observation.at);
    let ids: Vec<NodeId> = draft.record.nodes.iter().map(|n| n.id).collect();
    let mode = PowerOff::Graceful {
        deadline_ms: SHUTDOWN_MS,
    };
    // The primary first: its standbys then receive everything up to its shutdown checkpoint.
    let running: Vec<NodeId> = ids.iter().copied().filter(|id| !draft.is_off(*id)).collect();
    let next: Vec<NodeId> = match primary {
        Some(primary) if running.contains(&primary) => vec![primary],
        _ => running.clone(),
    };
    for id in next {
        let why = format!("stopping {}", draft.name(id));
        draft.act(Action::PowerOff { node: id, mode }, why);
    }
    let off = running.is_empty();
    for id in &ids {
        let is_off = draft.is_off(*id);
        // A process that is gone is no longer named: its number may be another's by now.
        let backend_ref = draft
            .situation
            .observation
            .infra(*id)
            .and_then(|n| n.backend_ref.clone());
        if let Some(node) = draft.node_mut(*id) {
            node.sync = false;
            node.backend_ref = backend_ref;
            let (lifecycle, why) = if is_off {
                (Lifecycle::Active, Why::new(Reason::Stopped, "stopped, as asked"))
            } else {
                (Lifecycle::InProgress, Why::new(Reason::Stopping, "stopping"))
            };
            node.lifecycle = lifecycle;
            node.reason = why.text.clone();
            conditions::of_node_that_stops(node, why, now);
        }
    }
    let (phase, event, why) = if off {
        (
            InstancePhase::Stopped,
            LifecycleEvent::Converged,
            Why::from(Reason::Stopped),
        )
    } else {
        let (event, failure) = failing(draft, &running);
        (
            InstancePhase::Stopping,
            event,
            Why::new(
                Reason::Stopping,
                format!("its nodes are being switched off{failure}"),
            ),
        )
    };
    status::set(draft, phase, event, why, None);
    draft.record.status.primary_endpoint = None;
}

/// What an end that these nodes do not come to is, and why, to be added to the reason.
fn failing(draft: &Draft<'_>, nodes: &[NodeId]) -> (LifecycleEvent, String) {
    let failure = nodes
        .iter()
        .find_map(|id| Some((id, status::repeated_failure(draft, *id)?)));
    match failure {
        Some((id, failure)) => (
            LifecycleEvent::Failed,
            format!("; {}: {failure}; it is tried again", draft.name(*id)),
        ),
        None => (LifecycleEvent::WorkBegan, String::new()),
    }
}

fn delete(draft: &mut Draft<'_>) {
    draft.record.requests = Default::default();
    if let Some(error) = &draft.situation.observation.infrastructure_error {
        let text = format!("being deleted; the infrastructure does not answer: {error}");
        let why = Why::new(Reason::InfrastructureSilent, text);
        status::set(draft, InstancePhase::Deleting, LifecycleEvent::Failed, why, None);
        return;
    }
    // Also nodes that the record does not know: everything that carries this instance's id goes with it.
    let found: Vec<(NodeId, bool)> = draft
        .situation
        .observation
        .nodes
        .iter()
        .filter(|(_, seen)| seen.infra.present().is_some())
        .map(|(id, seen)| (*id, seen.is_off()))
        .collect();
    for (id, off) in &found {
        let name = draft.name(*id);
        if *off {
            let data = DataDisposal::Delete;
            draft.act(
                Action::Remove { node: *id, data },
                format!("removing {name}: the instance is being deleted"),
            );
        } else {
            let mode = PowerOff::Immediate;
            draft.act(
                Action::PowerOff { node: *id, mode },
                format!("switching {name} off for good"),
            );
        }
    }
    if found.is_empty() {
        draft.instance_gone = true;
        draft.why.push("nothing of the instance is left".to_owned());
    }
    let left: Vec<NodeId> = found.iter().map(|(id, _)| *id).collect();
    let (event, failure) = failing(draft, &left);
    let text = format!("being deleted; {} node(s) left{failure}", left.len());
    let why = Why::new(Reason::Deleting, text);
    status::set(draft, InstancePhase::Deleting, event, why, None);
    draft.record.status.primary_endpoint = None;
}
