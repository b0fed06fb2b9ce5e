//! What the [`ControlPlane`](crate::ControlPlane) answers: resources as a caller may see them. What the store
//! keeps beside that (sealed credentials, verifiers, the failover protocol's state, what is left to be done)
//! stays inside.

mod database;
mod element;
mod instance;
mod kept;
mod node;
mod user;
mod version;

use dbaas_core::store::DocumentVersion;

pub use crate::elements::record::{ElementStatus, Export, ImportOf, Method};
pub use database::Database;
pub use element::{Element, ElementResource, StoredManifest};
pub use instance::Instance;
pub use kept::{NewToken, StoredConfig, StoredPassword, Token, Variable};
pub use node::Node;
pub use user::User;
pub use version::Version;

use crate::repository::Versioned;

/// Which state of a resource a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Revision {
    /// The version of what was asked for, which a precondition (`If-Match`) names. What the control plane
    /// decides and sees does not change it.
    pub asked: DocumentVersion,
    /// A number that grows with each change of what the control plane decided or saw; `None` where it writes
    /// nothing. With `asked` it tells whether a copy is the present one.
    pub observed: Option<u64>,
}

impl Revision {
    fn of<R>(found: &Versioned<R>) -> Self {
        Revision {
            asked: found.version,
            observed: found.parts.observed(),
        }
    }
}
