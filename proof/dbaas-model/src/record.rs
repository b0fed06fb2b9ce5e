//! The instance's record, made comparable: without times and without texts for people.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dbaas_core::id::{InstanceId, NodeId, VersionId};
use dbaas_core::infrastructure::Resources;
use dbaas_core::instance::{InstancePhase, InstanceRecord, InstanceSpec};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

/// Attempts beyond this make no difference to the planner.
const ATTEMPTS_THAT_COUNT: u32 = 3;

/// A record and a fingerprint of it. Two records are equal when their fingerprints are (64 bits, as the
/// checker itself compares states).
#[derive(Clone)]
pub struct Rec {
    record: Arc<InstanceRecord>,
    fingerprint: u64,
}

impl Rec {
    /// Takes out what means nothing to the protocol.
    pub fn new(mut record: InstanceRecord) -> Self {
        let status = &mut record.status;
        status.lifecycle = Lifecycle::InProgress;
        status.phase = InstancePhase::Updating;
        status.reason = String::new();
        status.warnings = Vec::new();
        status.observed_generation = 0;
        status.primary_endpoint = None;
        record.generation = 1;
        for node in &mut record.nodes {
            node.lifecycle = Lifecycle::InProgress;
            node.reason = String::new();
            node.endpoint = None;
            node.backend_ref = None;
            node.created_at = Timestamp::default();
            node.sync = false;
            node.rejoin_attempts = node.rejoin_attempts.min(ATTEMPTS_THAT_COUNT);
        }
        let text = serde_json::to_string(&record).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Rec {
            record: Arc::new(record),
            fingerprint: hasher.finish(),
        }
    }

    /// A new instance that nothing was done for.
    pub fn created(nodes: u8, k: u8) -> Self {
        let valid = "the model's own values are within bounds";
        let resources = Resources {
            cpu: CpuCores::MIN,
            ram: RamMb::MIN,
            disk: DiskGb::MIN,
        };
        let version = VersionId::from_uuid(Uuid::from_u128(1));
        let image = "postgres:17".parse().expect(valid);
        let mut spec = InstanceSpec::new("model".parse().expect(valid), resources, version, image);
        spec.nodes = NodeCount::new(u64::from(nodes)).expect(valid);
        spec.sync_replicas = SyncReplicas::new(u64::from(k)).expect(valid);
        let id = InstanceId::from_uuid(Uuid::from_u128(1));
        Rec::new(InstanceRecord::new(id, spec, String::new(), Timestamp::default()))
    }

    /// The record.
    pub fn get(&self) -> &InstanceRecord {
        &self.record
    }

    /// The same with a change.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut InstanceRecord)) -> Rec {
        let mut record = (*self.record).clone();
        change(&mut record);
        Rec::new(record)
    }

    /// The record's epoch; 0 before there is one.
    pub fn epoch(&self) -> u8 {
        self.record.cluster.as_ref().map_or(0, |c| small(c.epoch.0))
    }

    /// Its primary, if it is decided.
    pub fn primary(&self) -> Option<usize> {
        self.record.cluster.as_ref().map(|c| index(c.primary))
    }
}

/// A number of the model: all of them are small.
pub fn small(n: u64) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// The id of the node at an index.
pub fn id(index: usize) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(index as u128 + 1))
}

/// The index of a node.
pub fn index(id: NodeId) -> usize {
    id.uuid().as_u128() as usize - 1
}

impl PartialEq for Rec {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Rec {}

impl Hash for Rec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl fmt::Debug for Rec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(c) = &self.record.cluster else {
            return f.write_str("(no nodes yet)");
        };
        write!(f, "e{} {:?} primary n{}", c.epoch, c.phase, index(c.primary) + 1)?;
        for e in &c.electorates {
            let voters: Vec<usize> = e.voters.iter().map(|v| index(*v) + 1).collect();
            write!(f, " [{} of {voters:?}]", e.k)?;
        }
        if let Some(barrier) = c.barrier {
            write!(f, " barrier {}", barrier.0)?;
        }
        if let Some(cause) = &c.cause {
            write!(f, " {cause:?}")?;
        }
        for n in &self.record.nodes {
            let leaving = if n.leaving { " leaving" } else { "" };
            write!(f, " {}:{:?}{leaving}", n.name, n.rejoin)?;
        }
        Ok(())
    }
}
