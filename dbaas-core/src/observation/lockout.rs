//! What may lock people out of a database, or a user out of all of them.

use serde::{Deserialize, Serialize};

/// What the catalogues say of a database or a role, as far as it can keep people out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockoutFacts {
    /// The database accepts connections; the role may log in.
    pub connections: bool,
    /// How many sessions there may be; -1 without a limit.
    pub limit: i64,
    /// A database's owner has every privilege on it.
    #[serde(default)]
    pub privileges: Option<bool>,
    /// A role's password expires then.
    #[serde(default)]
    pub valid_until: Option<String>,
    /// Settings that sessions there begin with.
    #[serde(default)]
    pub settings: Vec<SettingFacts>,
}

/// A setting of a role, a database, or of a role in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingFacts {
    /// Of which role; `None`: of all.
    pub role: Option<String>,
    /// In which database; `None`: in all.
    pub database: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value, the beginning of it.
    pub value: String,
}
