//! Looking at an instance: infrastructure and PostgreSQL, all nodes at once, each with a deadline.

use std::collections::BTreeMap;

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::cluster::standby_name;
use dbaas_core::command;
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{Endpoint, NodeRef, ObservedNode, PowerState};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::{CatalogueFacts, NodeFacts, NodeObservation, Observation, Seen, Silence};
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::{SqlError, SqlErrorKind, SqlTarget};
use dbaas_core::time::Timestamp;
use futures_util::future::join_all;

use super::memory::InstanceMemory;
use super::{LiveNode, LiveView};
use crate::control_plane::Ports;
use crate::credentials::Credentials;

/// Where and as whom the control plane logs in.
pub(super) fn target(endpoint: &Endpoint, password: &Secret) -> SqlTarget {
    SqlTarget {
        endpoint: endpoint.clone(),
        database: "postgres".to_owned(),
        user: ADMIN_ROLE.to_owned(),
        password: password.clone(),
    }
}

/// What was seen, before it is held against what is remembered.
pub(super) struct Look {
    infrastructure: Result<Vec<ObservedNode>, String>,
    sql: BTreeMap<NodeId, Result<NodeFacts, Silence>>,
    catalogue: Option<CatalogueFacts>,
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
    let asked = whom_to_ask(record, infrastructure.as_deref().ok());
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
        infrastructure,
        sql,
        catalogue,
    }
}

/// Nodes that may answer, and where. Where the infrastructure gives no answer PostgreSQL still may.
fn whom_to_ask(record: &InstanceRecord, infrastructure: Option<&[ObservedNode]>) -> Vec<(NodeId, Endpoint)> {
    match infrastructure {
        Some(nodes) => nodes
            .iter()
            .filter(|n| n.power == PowerState::Running)
            .filter_map(|n| Some((n.node.node, n.endpoint.clone()?)))
            .collect(),
        None => record
            .nodes
            .iter()
            .filter_map(|n| Some((n.id, n.endpoint.clone()?)))
            .collect(),
    }
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
    match error.kind() {
        SqlErrorKind::Refused => Silence::Refused,
        SqlErrorKind::NotReady => Silence::NotReady,
        SqlErrorKind::Login => Silence::Login,
        SqlErrorKind::ConnectTimeout | SqlErrorKind::OutcomeUnknown => Silence::Timeout,
        _ => Silence::Failed(error.to_string()),
    }
}

/// Holds what was seen against what is remembered: since when has each node been silent, and not streaming? `at` is the time of day, `now`
/// the steady time that what is remembered is measured in.
pub(super) fn remember(
    memory: &mut InstanceMemory,
    record: &InstanceRecord,
    look: Look,
    at: Timestamp,
    now: Timestamp,
) -> Observation {
    let mut observation = Observation::empty(at);
    observation.object_failures = memory.object_failures.clone();
    observation.object_progress = memory.object_progress.clone();
    if look.catalogue.is_some() {
        memory.catalogue_read_at = Some(now);
    }
    observation.catalogue = look.catalogue;
    let mut found: BTreeMap<NodeId, ObservedNode> = BTreeMap::new();
    match look.infrastructure {
        Ok(nodes) => found.extend(nodes.into_iter().map(|n| (n.node.node, n))),
        Err(error) => observation.infrastructure_error = Some(error),
    }
    let unknown = observation.infrastructure_error.is_some();
    let epoch = record.cluster.as_ref().map(|c| c.epoch).unwrap_or_default();
    let primary = record.cluster.as_ref().map(|c| c.primary);
    let primary_facts = primary
        .and_then(|id| look.sql.get(&id))
        .and_then(|r| r.as_ref().ok())
        .cloned();
    let primary_serves = primary_facts.as_ref().is_some_and(|f| !f.in_recovery);
    let ids: Vec<NodeId> = record
        .nodes
        .iter()
        .map(|n| n.id)
        .chain(found.keys().copied())
        .collect();
    let mut live = LiveView::default();
    let mut sql = look.sql;
    for id in ids {
        if observation.nodes.contains_key(&id) {
            continue;
        }
        let infra = match found.remove(&id) {
            Some(node) => Seen::Present(node),
            None if unknown => Seen::Unknown,
            None => Seen::Absent,
        };
        let answer = sql.remove(&id).unwrap_or(Err(Silence::NotAsked));
        let node = memory.nodes.entry(id).or_default();
        node.silent = answer.is_err();
        let first_asked = *node.answered_at.get_or_insert(now);
        if answer.is_ok() {
            node.answered_at = Some(now);
        }
        let silent_ms = if answer.is_ok() {
            0
        } else {
            now.since_ms(first_asked)
        };
        let name = record.node(id).map(|n| standby_name(&n.name, epoch));
        // A row of a node whose data is of another history tells nothing.
        let ours = answer.as_ref().ok().is_none_or(|f| f.history == epoch);
        let row = name
            .as_deref()
            .filter(|_| ours)
            .and_then(|name| primary_facts.as_ref()?.streaming(name));
        let first_looked = *node.streamed_at.get_or_insert(now);
        let runs = infra.present().is_some_and(|n| n.power == PowerState::Running);
        let is_primary = primary == Some(id) && answer.as_ref().is_ok_and(|f| !f.in_recovery);
        if row.is_some() || is_primary || (primary_facts.is_none() && runs) {
            // Without a primary nobody streams: that is not this node's fault. Nor does the primary itself.
            node.streamed_at = Some(now);
        }
        let not_streaming_ms = if row.is_some() {
            0
        } else {
            now.since_ms(first_looked)
        };
        let could_stream = answer.is_ok() && !is_primary && primary_serves;
        let behind = answer.as_ref().ok().filter(|f| f.is_behind());
        let stalled_ms = node.stalled_ms(now, behind.map(|f| (f.lsn, f.replay_waits)));
        let waiting_ms = node.waiting_ms(now, epoch, could_stream && row.is_none());
        if row.is_some() || is_primary {
            node.well(now);
        } else {
            node.well_since = None;
        }
        let lag_bytes = match (&primary_facts, row) {
            (Some(primary), Some(row)) => row.replay_lsn.map(|at| primary.lsn.0.saturating_sub(at.0)),
            _ => None,
        };
        let disk_free_bytes = infra.present().and_then(|n| n.disk_free_bytes);
        live.nodes.insert(
            id,
            LiveNode {
                lag_bytes,
                disk_free_bytes,
            },
        );
        let hold_off_ms = node.hold_off_ms(now);
        let last_failure = node.last_failure.clone();
        let seen = NodeObservation {
            infra,
            sql: answer,
            silent_ms,
            not_streaming_ms,
            waiting_ms,
            stalled_ms,
            hold_off_ms,
            last_failure,
        };
        observation.nodes.insert(id, seen);
    }
    memory.nodes.retain(|id, _| observation.nodes.contains_key(id));
    memory.live = live;
    observation
}

/// The node as the infrastructure knows it.
pub(super) fn node_ref(record: &InstanceRecord, node: NodeId) -> NodeRef {
    NodeRef {
        instance: record.id,
        node,
    }
}
