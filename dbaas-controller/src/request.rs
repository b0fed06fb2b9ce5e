//! What callers of the [`ControlPlane`](crate::ControlPlane) ask for: typed, so that everything that a field alone can get wrong was found before.
//! What needs other records (a name that is taken, an owner of another instance) is found by the control plane.

mod kept;

pub use kept::{
    CreateConfig, CreatePassword, CreateToken, CreateVariable, UpdateConfig, UpdatePassword, UpdateToken,
    UpdateVariable,
};

use std::collections::BTreeMap;

use dbaas_core::access::AccessEntry;
use dbaas_core::extension::ExtensionName;
use dbaas_core::id::{DatabaseId, InstanceId, NodeId, ProjectId, UserId, VersionId};
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::parameters::Parameters;
use dbaas_core::password::Password;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, PasswordVersion, RamMb, SyncReplicas};
use dbaas_core::store::DocumentVersion;
use dbaas_core::version::ImageRef;

use crate::repository::Parts;

/// A new instance.
#[derive(Debug, Clone)]
pub struct CreateInstance {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same id and another
    /// request an error. `None`: a new one.
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
}

impl CreateInstance {
    /// One small node (1 core, 1,024 MB, 10 GB; one synchronous replica as soon as there are more nodes) in the default project. Change what
    /// is to be different.
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
        }
    }
}

/// Changes of an instance; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateInstance {
    /// A new name.
    pub name: Option<InstanceName>,
    /// A new description.
    pub description: Option<Description>,
    /// Cores of each node.
    pub cpu: Option<CpuCores>,
    /// Memory of each node.
    pub ram: Option<RamMb>,
    /// Data disk of each node; may not shrink.
    pub disk: Option<DiskGb>,
    /// How many nodes.
    pub nodes: Option<NodeCount>,
    /// How many standbys a commit waits for.
    pub sync_replicas: Option<SyncReplicas>,
    /// A version of the catalogue: must be the same major as the present one (a minor upgrade), not deprecated unless unchanged.
    pub version: Option<VersionId>,
    /// Settings of PostgreSQL, by name; `None` takes one back. Those that are not named stay.
    pub parameters: BTreeMap<String, Option<String>>,
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

/// A new database.
#[derive(Debug, Clone)]
pub struct CreateDatabase {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same id and another
    /// request an error. `None`: a new one.
    pub id: Option<DatabaseId>,
    /// Unique within the instance.
    pub name: DatabaseName,
    /// Free text.
    pub description: Description,
    /// A user of the same instance.
    pub owner: UserId,
    /// Other users of the same instance who may use it; each once.
    pub access: Vec<AccessEntry>,
    /// Extensions that it is to have; each once.
    pub extensions: Vec<ExtensionName>,
}

impl CreateDatabase {
    /// A database of this owner.
    pub fn new(name: DatabaseName, owner: UserId) -> Self {
        CreateDatabase {
            id: None,
            name,
            description: Description::default(),
            owner,
            access: Vec::new(),
            extensions: Vec::new(),
        }
    }
}

/// Changes of a database; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateDatabase {
    /// A new description.
    pub description: Option<Description>,
    /// Another user of the same instance.
    pub owner: Option<UserId>,
    /// Who may use it besides its owner, all of them; who is left out may no longer.
    pub access: Option<Vec<AccessEntry>>,
    /// Extensions that it is to have, all of them; what is left out is dropped, unless something depends on it.
    pub extensions: Option<Vec<ExtensionName>>,
}

/// A new user.
#[derive(Debug, Clone)]
pub struct CreateUser {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same id and another
    /// request an error. `None`: a new one.
    pub id: Option<UserId>,
    /// Unique within the instance.
    pub name: UserName,
    /// Free text.
    pub description: Description,
    /// Its password; hashed at once and not kept.
    pub password: Password,
    /// What the caller calls this password.
    pub password_version: PasswordVersion,
}

impl CreateUser {
    /// A user with this password.
    pub fn new(name: UserName, password: Password) -> Self {
        CreateUser {
            id: None,
            name,
            description: Description::default(),
            password,
            password_version: PasswordVersion::default(),
        }
    }
}

/// Changes of a user; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateUser {
    /// A new description.
    pub description: Option<Description>,
    /// A new password.
    pub password: Option<Password>,
    /// What the caller calls the new password; the next number if left out.
    pub password_version: Option<PasswordVersion>,
}

/// A new version of the catalogue.
#[derive(Debug, Clone)]
pub struct CreateVersion {
    /// For people: `PostgreSQL 15.18`.
    pub name: InstanceName,
    /// Free text.
    pub description: Description,
    /// What the backend runs: `postgres:15.18`.
    pub image: ImageRef,
    /// Keeps serving the instances that have it, takes no new ones.
    pub deprecated: bool,
    /// The extensions that databases may be asked to have; `None`: every one that the server says to be trusted.
    pub extensions: Option<Vec<ExtensionName>>,
}

/// Changes of a version; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateVersion {
    /// For people.
    pub name: Option<InstanceName>,
    /// Free text.
    pub description: Option<Description>,
    /// Takes no new instances.
    pub deprecated: Option<bool>,
    /// The extensions that databases may be asked to have; `Some(None)`: every one that the server says to be trusted. What databases have stays.
    pub extensions: Option<Option<Vec<ExtensionName>>>,
}

/// Which instances a listing wants: an empty filter matches everything, several values of one filter match any of them.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Only of these projects.
    pub projects: Vec<ProjectId>,
    /// Only with these names.
    pub names: Vec<InstanceName>,
    /// Only of these versions.
    pub versions: Vec<VersionId>,
    /// Only in these states, as `NEW`, `IN_PROGRESS`, `ACTIVE`, `ERROR`.
    pub lifecycles: Vec<dbaas_core::lifecycle::Lifecycle>,
}

/// A part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Page<Id> {
    /// Only what comes after this one.
    pub after: Option<Id>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
}

/// Answer to a listing.
#[derive(Debug, Clone)]
pub struct Listed<T, Id> {
    /// In order of creation.
    pub items: Vec<Versioned<T>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Id>,
}

/// A record and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The record.
    pub record: T,
    /// The version of what was asked for, which a precondition (`If-Match`) names. What the control plane decides and sees does not change it.
    pub version: DocumentVersion,
    pub(crate) parts: Parts,
}

impl<T> Versioned<T> {
    /// A number that grows with each change of what the control plane decided or saw; `None` where it writes nothing. With `version` it tells
    /// whether a copy of the record is the present one.
    pub fn observed(&self) -> Option<u64> {
        self.parts.observed()
    }
}

/// Makes a create call safe to repeat: the same key and fingerprint give the answer of the first call, another fingerprint is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key.
    pub key: String,
    /// A hash of the request.
    pub fingerprint: [u8; 32],
}

/// What a call is about, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceRef {
    /// An instance.
    Instance(InstanceId),
    /// A node.
    Node(NodeId),
    /// A database.
    Database(DatabaseId),
    /// A user.
    User(UserId),
    /// A version.
    Version(VersionId),
    /// A password, a config, a variable, a manifest or an element.
    Kept(uuid::Uuid),
}
