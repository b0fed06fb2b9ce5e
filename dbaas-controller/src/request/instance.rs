//! Instances: what callers ask for.

use dbaas_core::id::{InstanceId, NodeId, ProjectId, VersionId};
use dbaas_core::infrastructure::Resources;
use dbaas_core::instance::{InstanceRecord, InstanceSpec, Labels};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::parameters::Parameters;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_core::store::DocumentVersion;
use dbaas_core::version::ImageRef;

use super::IdempotencyKey;

/// A new instance.
#[derive(Debug, Clone)]
pub struct CreateInstance {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same
    /// id and another request an error. `None`: a new one.
    pub id: Option<InstanceId>,
    /// Unique within the project.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Cores of each node.
    pub cpu: CpuCores,
    /// Memory of each node.
    pub ram: RamMb,
    /// Data disk of each node.
    pub disk: DiskGb,
    /// How many nodes.
    pub nodes: NodeCount,
    /// How many standbys a commit waits for.
    pub sync_replicas: SyncReplicas,
    /// A version of the catalogue that is not deprecated.
    pub version: VersionId,
    /// Settings of PostgreSQL, over what the control plane derives.
    pub parameters: Parameters,
    /// What callers call it, to find it by.
    pub labels: Labels,
    /// Deleting it is refused until this is taken back.
    pub deletion_protection: bool,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreateInstance {
    /// One small node (1 core, 1,024 MB, 10 GB; one synchronous replica as soon as there are more nodes) in
    /// the default project. Change what is to be different.
    pub fn new(name: InstanceName, version: VersionId) -> Self {
        CreateInstance {
            id: None,
            name,
            description: Description::default(),
            project: ProjectId::DEFAULT,
            cpu: CpuCores::MIN,
            ram: RamMb::new(1_024).unwrap_or(RamMb::MIN),
            disk: DiskGb::new(10).unwrap_or(DiskGb::MIN),
            nodes: NodeCount::MIN,
            sync_replicas: SyncReplicas::new(1).unwrap_or(SyncReplicas::MIN),
            version,
            parameters: Parameters::default(),
            labels: Labels::default(),
            deletion_protection: false,
            idempotency_key: None,
        }
    }

    /// What it asks for, with the image of its version.
    pub(crate) fn spec(&self, image: &ImageRef) -> InstanceSpec {
        let resources = Resources {
            cpu: self.cpu,
            ram: self.ram,
            disk: self.disk,
        };
        let mut spec = InstanceSpec::new(self.name.clone(), resources, self.version, image.clone());
        spec.description = self.description.clone();
        spec.project = self.project;
        spec.nodes = self.nodes;
        spec.sync_replicas = self.sync_replicas;
        spec.parameters = self.parameters.clone();
        spec.labels = self.labels.clone();
        spec.deletion_protection = self.deletion_protection;
        spec
    }
}

/// What an operator asks of an instance, done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceAction {
    /// Planned change of primary; `None`: to the best standby.
    Switchover {
        /// The node to become primary.
        to: Option<NodeId>,
    },
    /// Unplanned change of primary although the old one cannot be reached.
    Failover {
        /// Go on also where acknowledged commits may be lost.
        allow_data_loss: bool,
    },
    /// Restart every node, one at a time.
    Restart,
    /// Switch the nodes on.
    Start,
    /// Switch the nodes off; data is kept.
    Stop,
}

/// An action, and when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActOnInstance {
    /// What is asked for.
    pub action: InstanceAction,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
    /// Makes the call safe to repeat: one with the key and fingerprint of an earlier one does nothing, and
    /// answers the instance as it is now.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl From<InstanceAction> for ActOnInstance {
    fn from(action: InstanceAction) -> Self {
        ActOnInstance {
            action,
            expected: None,
            idempotency_key: None,
        }
    }
}

/// Which instances a listing wants: an empty filter matches everything, several values of one filter match
/// any of them.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Only of these projects.
    pub projects: Vec<ProjectId>,
    /// Only with these names.
    pub names: Vec<InstanceName>,
    /// Only of these versions.
    pub versions: Vec<VersionId>,
    /// Only in these states, as `NEW`, `IN_PROGRESS`, `ACTIVE`, `ERROR`.
    pub lifecycles: Vec<Lifecycle>,
    /// Only with all of these labels, each with its value.
    pub labels: Vec<(String, String)>,
}

impl InstanceFilter {
    /// Whether it lets everything through.
    pub(crate) fn is_empty(&self) -> bool {
        self.projects.is_empty()
            && self.names.is_empty()
            && self.versions.is_empty()
            && self.lifecycles.is_empty()
            && self.labels.is_empty()
    }

    /// Whether it lets this one through.
    pub(crate) fn matches(&self, record: &InstanceRecord) -> bool {
        fn any<T: PartialEq>(wanted: &[T], present: &T) -> bool {
            wanted.is_empty() || wanted.contains(present)
        }
        any(&self.projects, &record.spec.project)
            && any(&self.names, &record.spec.name)
            && any(&self.versions, &record.spec.version)
            && any(&self.lifecycles, &record.status.lifecycle)
            && self
                .labels
                .iter()
                .all(|(key, value)| record.spec.labels.has(key, value))
    }
}
