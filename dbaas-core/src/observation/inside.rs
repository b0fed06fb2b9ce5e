//! What was seen inside of a database: who may use what, as far as it differs from what was asked for.

use serde::{Deserialize, Serialize};

use crate::access::AccessLevel;
use crate::extension::ExtensionName;

/// What a look into a database found. What is missing is listed up to a bound; the next look shows the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct InsideFacts {
    /// The roles that carry the levels, all of the database's own privileges with them.
    #[serde(default)]
    pub access: AccessFacts,
    /// The extensions that were looked for.
    #[serde(default)]
    pub extensions: Vec<ExtensionFacts>,
}

/// What there is of an extension in a database, and what the server offers of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionFacts {
    /// Which one.
    pub name: ExtensionName,
    /// The version that the server makes if none is named; `None`: it has not got it.
    pub available: Option<String>,
    /// An owner of a database may create that version.
    pub trusted: bool,
    /// Where it can be made.
    pub place: ExtensionPlace,
    /// What it needs and is not there, or not in `pg_catalog`.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The database has it.
    pub installed: Option<InstalledExtension>,
}

/// Where an extension can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionPlace {
    /// In any schema, from which it can be moved to another one.
    Any,
    /// In `pg_catalog`.
    Catalog,
    /// In a schema of its own choice, or in one where it has to stay.
    Fixed,
}

/// An extension that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledExtension {
    /// Its version.
    pub version: String,
    /// Who owns it.
    pub owner: String,
    /// The schema that it is in.
    pub schema: String,
    /// Members of it that somebody has added, for people, the first of them: they belong to a role of a
    /// tenant's.
    #[serde(default)]
    pub added: Vec<String>,
    /// What depends on it besides its own members, for people, the first of it.
    #[serde(default)]
    pub dependents: Vec<String>,
}

/// What of a database's access is there, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AccessFacts {
    /// The roles of the three levels exist, each level a member of the one before, with their privileges on
    /// the database itself.
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
