//! What callers of the [`ControlPlane`](crate::ControlPlane) ask for: typed, so that everything that a field
//! alone can get wrong was found before. What needs other records (a name that is taken, an owner of another
//! instance) is found by the control plane.

mod instance;
mod kept;

pub use dbaas_core::instance::UpdateInstance;
pub use instance::{ActOnInstance, CreateInstance, InstanceAction, InstanceFilter};
pub use kept::{
    CreateConfig, CreatePassword, CreateToken, CreateVariable, UpdateConfig, UpdatePassword, UpdateToken,
    UpdateVariable,
};

use dbaas_core::access::AccessEntry;
use dbaas_core::extension::ExtensionName;
use dbaas_core::id::{DatabaseId, InstanceId, NodeId, UserId, VersionId};
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::password::Password;
use dbaas_core::size::PasswordVersion;
use dbaas_core::store::DocumentVersion;
use dbaas_core::version::ImageRef;

/// A new database.
#[derive(Debug, Clone)]
pub struct CreateDatabase {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same
    /// id and another request an error. `None`: a new one.
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
    /// Dropping it is refused until this is taken back.
    pub deletion_protection: bool,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
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
            deletion_protection: false,
            idempotency_key: None,
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
    /// Extensions that it is to have, all of them; what is left out is dropped, unless something depends on
    /// it.
    pub extensions: Option<Vec<ExtensionName>>,
    /// Whether dropping it is refused.
    pub deletion_protection: Option<bool>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
}

/// A new user.
#[derive(Debug, Clone)]
pub struct CreateUser {
    /// Its id, chosen by the caller: the same id and the same request again are the same resource, the same
    /// id and another request an error. `None`: a new one.
    pub id: Option<UserId>,
    /// Unique within the instance.
    pub name: UserName,
    /// Free text.
    pub description: Description,
    /// Its password; hashed at once and not kept.
    pub password: Password,
    /// What the caller calls this password.
    pub password_version: PasswordVersion,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
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
            idempotency_key: None,
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
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
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
    /// The extensions that databases may be asked to have; `None`: every one that the server says to be
    /// trusted.
    pub extensions: Option<Vec<ExtensionName>>,
    /// Makes the call safe to repeat.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl CreateVersion {
    /// A version with this image, for whatever extensions the server says to be trusted.
    pub fn new(name: InstanceName, image: ImageRef) -> Self {
        CreateVersion {
            name,
            description: Description::default(),
            image,
            deprecated: false,
            extensions: None,
            idempotency_key: None,
        }
    }
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
    /// The extensions that databases may be asked to have; `Some(None)`: every one that the server says to be
    /// trusted. What databases have stays.
    pub extensions: Option<Option<Vec<ExtensionName>>>,
    /// Only if this is the version of what was asked for (see
    /// [`Revision::asked`](crate::view::Revision::asked)).
    pub expected: Option<DocumentVersion>,
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
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Id>,
}

impl<T, Id> Listed<T, Id> {
    /// The same, each item as something else.
    pub(crate) fn map<V>(self, view: impl Fn(T) -> V) -> Listed<V, Id> {
        Listed {
            items: self.items.into_iter().map(view).collect(),
            next: self.next,
        }
    }
}

/// Makes a create call safe to repeat: the same key and fingerprint give the answer of the first call,
/// another fingerprint is an error.
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
