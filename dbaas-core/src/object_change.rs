//! What is changed of roles and databases: the words in which the planner says it, and in which scripts do
//! it.

use crate::extension::ExtensionName;
use crate::id::{DatabaseId, UserId};
use crate::observation::{AccessMember, AccessObject, ExtensionPlace, ForeignGrant, RoleFacts, SettingFacts};

/// A role as the register and PostgreSQL know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    /// What it is called.
    pub name: String,
    /// Its OID.
    pub oid: u32,
}

impl RoleRef {
    pub(crate) fn of(role: &RoleFacts) -> Self {
        RoleRef {
            name: role.name.clone(),
            oid: role.oid,
        }
    }
}

/// Who inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heir {
    /// The owner of the database.
    Owner(RoleRef),
    /// The role that has no rights and cannot log in.
    Nobody,
}

/// A database in which a role that is dropped owns something, or has been granted something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inheritance {
    /// Its name.
    pub database: String,
    /// Its OID.
    pub oid: u32,
    /// Who gets what it owns there.
    pub heir: Heir,
    /// Nobody can connect to it, as its owner has it: it has to be opened meanwhile.
    pub closed: bool,
}

/// A database's objects that change hands with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The database.
    pub name: String,
    /// Its OID.
    pub oid: u32,
    /// Who owned it before.
    pub from: RoleRef,
    /// Who owns it.
    pub to: RoleRef,
    /// The other databases of the former owner, which stay.
    pub others: Vec<String>,
    /// Nobody can connect to it, as its owner has it: it has to be opened meanwhile.
    pub closed: bool,
}

/// A user or database by the name in its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: GoneObject,
    /// Its name.
    pub name: String,
}

/// What a database is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseSource {
    /// PostgreSQL's `template0`.
    Template,
    /// Itself: it is there already under its staging name, left over from a crash.
    Staged,
    /// The [spare database](crate::command::SPARE_DATABASE) that came with the data directory.
    Spare,
}

/// What is to change of a database's access, in this order. Each part converges by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessChange {
    /// Make the roles of its levels, and give them what they have on the database itself.
    pub prepare: bool,
    /// Who gets a level.
    pub join: Vec<AccessMember>,
    /// Who loses one.
    pub leave: Vec<AccessMember>,
    /// What else is taken from those who lost one.
    pub foreign: Vec<ForeignGrant>,
    /// PUBLIC is not to create in the schema `public`.
    pub close_public: bool,
    /// Whose sessions end.
    pub evict: Vec<String>,
    /// Whose objects are to be accessible from when they are made.
    pub creators: Vec<String>,
    /// What is there already and is not accessible.
    pub objects: Vec<AccessObject>,
}

/// A change of one of a database's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionChange {
    /// Make it.
    Create {
        /// Which one.
        name: ExtensionName,
        /// Whose it is to be: the database's owner's.
        owner: RoleRef,
        /// Where it can be made.
        place: ExtensionPlace,
    },
    /// Bring it to the version that the server offers.
    Update {
        /// Which one.
        name: ExtensionName,
        /// Whose it is.
        owner: String,
        /// The schema that it is in, and stays in.
        schema: String,
    },
    /// Drop it, unless something depends on it.
    Drop {
        /// Which one.
        name: ExtensionName,
        /// Whose it is.
        owner: String,
    },
}

impl ExtensionChange {
    /// Which one is changed.
    pub fn name(&self) -> &ExtensionName {
        match self {
            ExtensionChange::Create { name, .. }
            | ExtensionChange::Update { name, .. }
            | ExtensionChange::Drop { name, .. } => name,
        }
    }
}

/// Something that locks people out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lockout {
    /// The database accepts no connections; the role may not log in.
    Connections,
    /// There is a limit of connections.
    Limit,
    /// The owner lacks a privilege on the database.
    Privileges,
    /// The role's password expires.
    ValidUntil,
    /// A setting that sessions begin with.
    Setting(SettingFacts),
}

/// A user or database: one whose record is to be removed, or that an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneObject {
    /// A user.
    User(UserId),
    /// A database.
    Database(DatabaseId),
}

impl GoneObject {
    /// Its id.
    pub fn uuid(&self) -> uuid::Uuid {
        match self {
            GoneObject::User(id) => id.uuid(),
            GoneObject::Database(id) => id.uuid(),
        }
    }
}
