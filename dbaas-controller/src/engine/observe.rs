//! Looking at an instance: infrastructure and PostgreSQL, all nodes at once, each with a deadline.

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::cluster::{ClusterPhase, standby_name};
use dbaas_core::command;
use dbaas_core::detector::{Look, Outcome, is_damage, outcome_of};
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{Endpoint, NodeRef, ObservedNodes, PowerState};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::{CatalogueFacts, Fitness, NodeFacts, Observation, Silence};
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::{SqlError, SqlErrorKind, SqlTarget};
use dbaas_core::steady::Steady;
use futures_util::future::join_all;

use super::{LiveNode, LiveView};
use crate::credentials::Credentials;
use crate::ports::Ports;

/// Where and as whom the control plane logs in.
pub(super) fn target(endpoint: &Endpoint, password: &Secret) -> SqlTarget {
    SqlTarget {
        endpoint: endpoint.clone(),
        database: "postgres".to_owned(),
        user: ADMIN_ROLE.to_owned(),
        password: password.clone(),
    }
}

/// Looks. `silent` names nodes that did not answer last time: they are given less time.
pub(super) async fn look(
    ports: &Ports,
    record: &InstanceRecord,
    credentials: &Credentials,
    wants_catalogue: bool,
    silent: &[NodeId],
) -> Look {
    let timeout = ports.settings.sql_timeout;
    let infrastructure =
        match tokio::time::timeout(timeout * 5, ports.infrastructure.observe(record.id)).await {
            Ok(Ok(nodes)) => Ok(nodes),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
    let asked = whom_to_ask(record, infrastructure.as_ref().ok());
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
    let primary = record.cluster.as_ref().map(|c| c.primary);
    // First, so that what it shows lies before the positions that the standbys are then seen at.
    let catalogue = match asked
        .iter()
        .find(|(id, _)| wants_catalogue && Some(*id) == primary)
    {
        Some((_, endpoint)) => catalogue(ports, endpoint, credentials).await,
        None => None,
    };
    let looks = asked.iter().map(|(id, endpoint)| async {
        let timeout_ms = if silent.contains(id) {
            timeout_ms / 3 + 1
        } else {
            timeout_ms
        };
        (*id, facts(ports, endpoint, credentials, timeout_ms).await)
    });
    let sql = join_all(looks).await.into_iter().collect();
    Look {
        at: ports.now(),
        infrastructure,
        sql,
        catalogue,
    }
}

/// Nodes that may answer, and where. Where the infrastructure tells nothing of a node PostgreSQL still may.
fn whom_to_ask(record: &InstanceRecord, infrastructure: Option<&ObservedNodes>) -> Vec<(NodeId, Endpoint)> {
    let running = infrastructure.iter().flat_map(|nodes| &nodes.found);
    let running = running
        .filter(|n| n.power == PowerState::Running)
        .filter_map(|n| Some((n.node.node, n.endpoint.clone()?)));
    let is_unknown = |id| infrastructure.is_none_or(|nodes| nodes.unknown.contains(id));
    let unknown = record.nodes.iter().filter(|n| is_unknown(&n.id));
    running
        .chain(unknown.filter_map(|n| Some((n.id, n.endpoint.clone()?))))
        .collect()
}

async fn facts(
    ports: &Ports,
    endpoint: &Endpoint,
    credentials: &Credentials,
    timeout_ms: u32,
) -> Result<NodeFacts, Silence> {
    let script = command::observe_node(timeout_ms);
    let answer = ports
        .sql
        .run(&target(endpoint, &credentials.admin), &script)
        .await
        .map_err(|e| silence(&e))?;
    command::parse_node(&answer).map_err(|e| Silence::Failed(e.to_string()))
}

async fn catalogue(ports: &Ports, endpoint: &Endpoint, credentials: &Credentials) -> Option<CatalogueFacts> {
    let script = command::observe_catalogue();
    let answer = ports
        .sql
        .run(&target(endpoint, &credentials.admin), &script)
        .await
        .ok()?;
    command::parse_catalogue(&answer).ok()
}

fn silence(error: &SqlError) -> Silence {
    if let Some(state) = error.sqlstate().filter(|state| state.starts_with("53")) {
        return Silence::Exhausted(format!("{error}; SQLSTATE {state}"));
    }
    if let Some(state) = error.sqlstate().filter(|state| is_damage(state)) {
        return Silence::Damaged(format!("{error}; SQLSTATE {state}"));
    }
    match error.kind() {
        SqlErrorKind::Refused => Silence::Refused,
        SqlErrorKind::NotReady => Silence::NotReady,
        SqlErrorKind::Login => Silence::Login,
        SqlErrorKind::ConnectTimeout | SqlErrorKind::OutcomeUnknown => Silence::Timeout,
        _ => Silence::Failed(error.to_string()),
    }
}

/// What of a look users are shown at once, without its being written down.
pub(super) fn live_view(record: &InstanceRecord, observation: &Observation, now: Steady) -> LiveView {
    let cluster = record.cluster.as_ref();
    let epoch = cluster.map(|c| c.epoch).unwrap_or_default();
    let primary = cluster.map(|c| c.primary);
    let facts = primary.and_then(|id| observation.facts(id));
    let lag_bytes = |id: NodeId| {
        let name = standby_name(&record.node(id)?.name, epoch);
        let ours = observation.facts(id).is_none_or(|f| f.history == epoch);
        let primary = facts.filter(|_| ours)?;
        let replayed = primary.streaming(&name)?.replay_lsn?;
        Some(primary.lsn.0.saturating_sub(replayed.0))
    };
    let nodes = observation.nodes.iter().map(|(id, seen)| {
        let node = LiveNode {
            lag_bytes: lag_bytes(*id),
            disk_free_bytes: seen.infra.present().and_then(|n| n.disk_free_bytes),
        };
        (*id, node)
    });
    let steady = cluster.is_some_and(|c| c.phase == ClusterPhase::Steady);
    let fit = primary
        .and_then(|id| observation.node(id))
        .is_some_and(|seen| matches!(seen.fitness, Fitness::Serves { .. }));
    let serves = steady && fit && facts.is_some_and(|f| !f.in_recovery && f.epoch == epoch);
    LiveView {
        nodes: nodes.collect(),
        serves_at: serves.then_some(now),
    }
}

/// Tries what a client gets.
pub(super) async fn try_service(ports: &Ports, endpoint: &Endpoint, credentials: &Credentials) -> Outcome {
    let target = target(endpoint, &credentials.admin);
    outcome_of(&ports.sql.run(&target, &command::try_service()).await)
}

/// The node as the infrastructure knows it.
pub(super) fn node_ref(record: &InstanceRecord, node: NodeId) -> NodeRef {
    NodeRef {
        instance: record.id,
        node,
    }
}
