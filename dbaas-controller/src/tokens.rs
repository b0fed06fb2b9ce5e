//! Tokens that the control plane keeps: a hash of each, and what it allows. What the words of its scopes
//! mean, the interface knows.

use dbaas_core::id::ProjectId;
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::store::Kind;
use dbaas_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::repository::Record;

/// A token, without its text, which nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Its id.
    pub(crate) id: Uuid,
    /// For people.
    pub(crate) name: InstanceName,
    /// Free text.
    pub(crate) description: Description,
    /// The project that it is for; `None`: all of them.
    pub(crate) project: Option<ProjectId>,
    /// What it allows, in words.
    pub(crate) scopes: Vec<String>,
    /// Of its text. The text is long and random, so a fast hash is enough.
    pub(crate) hash: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    pub(crate) updated_at: Timestamp,
}

impl TokenRecord {
    /// The hash of a token's text.
    pub(crate) fn hash_of(text: &str) -> String {
        let digest = Sha256::digest(text);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Record for TokenRecord {
    const KIND: Kind = "token";

    fn uuid(&self) -> Uuid {
        self.id
    }

    fn unique(&self) -> Option<String> {
        Some(self.hash.clone())
    }
}
