//! The documents of an instance.

use dbaas_core::cluster::ClusterState;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::Resources;
use dbaas_core::instance::{
    DesiredState, Dropped, FailoverRequest, InstancePhase, InstanceRecord, InstanceSpec, InstanceStatus,
    ParameterState, Requests, SwitchoverRequest,
};
use dbaas_core::node::NodeRecord;
use dbaas_core::store::Kind;
use dbaas_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{Record, instance_name};
use super::split::{Asked, Split, record_in_three_documents, said};

/// The document that holds what is true of an instance.
pub(super) const STATUS: Kind = "instance_status";

/// What was asked of an instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InstanceIntent {
    id: InstanceId,
    spec: InstanceSpec,
    generation: u64,
    desired: DesiredState,
    #[serde(default)]
    asked: AskedRequests,
    /// The last change that withdrew what was asked for once before it.
    #[serde(default)]
    withdrawn: u64,
    /// What the caller was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What was asked for once. It stays when it is done: decisions say how far that is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct AskedRequests {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart: Option<Asked<Timestamp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switchover: Option<Asked<SwitchoverRequest>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failover: Option<Asked<FailoverRequest>>,
}

/// What was decided about an instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InstanceDecisions {
    /// The generation that was taken over.
    taken: u64,
    /// The planner's working copy: what is left to be done of what was asked for once.
    requests: Requests,
    cluster: Option<ClusterState>,
    nodes: Vec<NodeRecord>,
    largest: Resources,
    next_node_number: u32,
    sealed_credentials: String,
    dropped: Dropped,
    parameters: ParameterState,
}

impl Record for InstanceRecord {
    const KIND: Kind = "instance";
    const PARTS: &'static [Kind] = &["instance_decisions", STATUS];

    fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    fn unique(&self) -> Option<String> {
        Some(instance_name(self.spec.project, self.spec.name.as_str()))
    }

    fn references(&self) -> Vec<Uuid> {
        vec![self.spec.version.uuid()]
    }

    record_in_three_documents!();
}

impl Split for InstanceRecord {
    type Intent = InstanceIntent;
    type Decisions = InstanceDecisions;
    type Status = InstanceStatus;

    fn new_intent(&self) -> InstanceIntent {
        InstanceIntent {
            id: self.id,
            spec: self.spec.clone(),
            generation: self.generation,
            desired: self.desired,
            asked: AskedRequests::default(),
            withdrawn: 0,
            said: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn changed_intent(&self, read: &Self, before: InstanceIntent, is_taken: bool) -> InstanceIntent {
        let generation = self.generation;
        let (old, new) = (&read.requests, &self.requests);
        let is_gone = |was: bool, is: bool| was && !is;
        let withdraws = is_gone(old.restart.is_some(), new.restart.is_some())
            || is_gone(old.switchover.is_some(), new.switchover.is_some())
            || is_gone(old.failover.is_some(), new.failover.is_some());
        // What is left when something is withdrawn is asked for anew.
        let nothing = Requests::default();
        let old = if withdraws { &nothing } else { old };
        let asked = if withdraws {
            AskedRequests::default()
        } else {
            before.asked
        };
        InstanceIntent {
            asked: AskedRequests {
                restart: Asked::after(asked.restart, (&old.restart, &new.restart), generation),
                switchover: Asked::after(asked.switchover, (&old.switchover, &new.switchover), generation),
                failover: Asked::after(asked.failover, (&old.failover, &new.failover), generation),
            },
            withdrawn: if withdraws { generation } else { before.withdrawn },
            said: said(before.said, &read.status.reason, &self.status.reason, is_taken),
            ..self.new_intent()
        }
    }

    fn decisions(&self, intent: &InstanceIntent) -> InstanceDecisions {
        InstanceDecisions {
            taken: intent.generation,
            requests: self.requests.clone(),
            cluster: self.cluster.clone(),
            nodes: self.nodes.clone(),
            largest: self.largest,
            next_node_number: self.next_node_number,
            sealed_credentials: self.sealed_credentials.clone(),
            dropped: self.dropped.clone(),
            parameters: self.parameters.clone(),
        }
    }

    fn status(&self) -> InstanceStatus {
        self.status.clone()
    }

    fn join(
        intent: InstanceIntent,
        decisions: Option<InstanceDecisions>,
        status: Option<InstanceStatus>,
    ) -> Self {
        let InstanceIntent {
            id,
            spec,
            generation,
            desired,
            asked,
            withdrawn,
            said,
            created_at,
            updated_at,
        } = intent;
        let mut record = InstanceRecord::new(id, spec, String::new(), created_at);
        record.generation = generation;
        record.desired = desired;
        record.updated_at = updated_at;
        let taken = decisions.as_ref().map_or(0, |decisions| decisions.taken);
        if let Some(decisions) = decisions {
            record.requests = decisions.requests;
            record.cluster = decisions.cluster;
            record.nodes = decisions.nodes;
            record.largest = decisions.largest;
            record.next_node_number = decisions.next_node_number;
            record.sealed_credentials = decisions.sealed_credentials;
            record.dropped = decisions.dropped;
            record.parameters = decisions.parameters;
        }
        if let Some(status) = status {
            record.status = status;
        }
        if withdrawn > taken {
            record.requests = Requests::default();
        }
        let requests = &mut record.requests;
        requests.restart = Asked::since(asked.restart, taken).or(requests.restart.take());
        requests.switchover = Asked::since(asked.switchover, taken).or(requests.switchover.take());
        requests.failover = Asked::since(asked.failover, taken).or(requests.failover.take());
        if let Some(said) = said.filter(|_| generation > taken) {
            record.status.accept(said, updated_at);
            if desired == DesiredState::Deleted {
                record.status.phase = InstancePhase::Deleting;
            }
        }
        record
    }
}
