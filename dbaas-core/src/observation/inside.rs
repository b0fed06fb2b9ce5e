//! What was seen inside of a database: who may use what, as far as it differs from what was asked for.

use serde::{Deserialize, Serialize};

use crate::access::AccessLevel;

/// What a look into a database found. What is missing is listed up to a bound; the next look shows the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct InsideFacts {
    /// The roles that carry the levels, all of the database's own privileges with them.
    pub access: AccessFacts,
}

/// What of a database's access is there, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AccessFacts {
    /// The roles of the three levels exist, each level a member of the one before, with their privileges on the database itself.
    pub prepared: bool,
    /// Their members.
    pub members: Vec<AccessMember>,
    /// PUBLIC may create in the schema `public`, as PostgreSQL 14 has it.
    pub public_creates: bool,
    /// Objects on which a level lacks something, the first of them.
    pub missing: Vec<AccessObject>,
    /// How many there are.
    pub missing_count: u64,
    /// Roles that can create objects whose objects would not be accessible, the first of them.
    pub creators: Vec<String>,
    /// What those who lost a level were granted by somebody else, the first of it.
    pub foreign: Vec<ForeignGrant>,
}

/// A member of a level's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessMember {
    /// Of which level.
    pub level: AccessLevel,
    /// The member's name.
    pub name: String,
}

/// What can be granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// The database itself.
    Database,
    /// A schema.
    Schema,
    /// A table, view, materialized view or foreign table.
    Table,
    /// A sequence.
    Sequence,
    /// All functions and procedures of a schema.
    Routines,
}

/// An object by its name; the schema alone for a schema and for its routines, neither for the database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// What it is.
    pub kind: ObjectKind,
    /// Its schema.
    #[serde(default)]
    pub schema: String,
    /// Its name within the schema.
    #[serde(default)]
    pub name: String,
}

/// An object on which a level lacks something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccessObject {
    /// Which level.
    pub level: AccessLevel,
    /// On what.
    #[serde(flatten)]
    pub object: ObjectName,
    /// Somebody holds a lock on it that a GRANT may have to wait for.
    #[serde(default)]
    pub locked: bool,
}

/// A privilege that somebody granted to a user who is to have it no longer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ForeignGrant {
    /// Who granted.
    pub grantor: String,
    /// To whom.
    pub grantee: String,
    /// On what.
    #[serde(flatten)]
    pub object: ObjectName,
}
