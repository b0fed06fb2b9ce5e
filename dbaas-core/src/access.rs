//! Who may use a database besides its owner: levels of access, and the roles that carry them in PostgreSQL.
//!
//! Each level is a role of the database that nobody can log in as: `dbaas_read_…`, `dbaas_write_…`,
//! `dbaas_owner_…`, the second a member of the first and the third of the second. A user has a level by being
//! a member. So a level is taken back by one statement, whatever number of objects there are, and what a
//! tenant grants by SQL is told apart from what was asked for here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::UserId;

/// What a user may do in a database that somebody else owns. Each level has what the ones before have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLevel {
    /// CONNECT; USAGE of every schema; SELECT on every table, view and sequence.
    Read,
    /// INSERT, UPDATE and DELETE on every table and view; USAGE and UPDATE of every sequence; temporary
    /// tables.
    Write,
    /// Every privilege that can be granted: new schemas, new objects in every schema, TRUNCATE, REFERENCES,
    /// TRIGGER, EXECUTE. What somebody else made can be altered and dropped by its owner only. No membership
    /// in the owner's role: that would reach into every other database of the same owner.
    Owner,
}

/// A text names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be read, write or owner")]
pub struct InvalidAccessLevel;

impl AccessLevel {
    /// All, the least first.
    pub const ALL: [AccessLevel; 3] = [AccessLevel::Read, AccessLevel::Write, AccessLevel::Owner];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            AccessLevel::Read => "read",
            AccessLevel::Write => "write",
            AccessLevel::Owner => "owner",
        }
    }

    /// The role whose members have this level in a database. No tenant's role can be called so.
    pub fn role(self, database: Uuid) -> String {
        format!("dbaas_{self}_{}", database.simple())
    }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AccessLevel {
    type Err = InvalidAccessLevel;

    fn from_str(text: &str) -> Result<Self, InvalidAccessLevel> {
        let found = AccessLevel::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or(InvalidAccessLevel)
    }
}

/// One user's access to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEntry {
    /// A user of the same instance, not the database's owner.
    pub user: UserId,
    /// What that user may do.
    pub level: AccessLevel,
}

/// What access to a database was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Who may use it besides its owner; each user once.
    pub entries: Vec<AccessEntry>,
    /// Users who have lost a level and may hold privileges still that somebody granted them by SQL: those are
    /// taken away too.
    #[serde(default)]
    pub taken_back: Vec<UserId>,
}

impl Access {
    /// The level of a user.
    pub fn level(&self, user: UserId) -> Option<AccessLevel> {
        let entry = self.entries.iter().find(|entry| entry.user == user);
        entry.map(|entry| entry.level)
    }

    /// Sets who may use it, and notes who thereby loses something. Whether that changes anything.
    pub fn set(&mut self, entries: &[AccessEntry]) -> bool {
        if self.entries == entries {
            return false;
        }
        let before = std::mem::replace(&mut self.entries, entries.to_vec());
        for entry in before {
            let loses = self.level(entry.user).is_none_or(|level| level < entry.level);
            if loses && !self.taken_back.contains(&entry.user) {
                self.taken_back.push(entry.user);
            }
        }
        true
    }

    /// Nobody has access or had it a moment ago: there is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.taken_back.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_a_level_is_noted() {
        let user = |n| UserId::from_uuid(Uuid::from_u128(n));
        let entry = |n, level| AccessEntry { user: user(n), level };
        let mut access = Access::default();
        assert!(access.set(&[
            entry(1, AccessLevel::Write),
            entry(2, AccessLevel::Read),
            entry(3, AccessLevel::Read)
        ]));
        assert_eq!(access.taken_back, []);
        assert!(!access.set(&access.entries.clone()));
        assert!(access.set(&[entry(1, AccessLevel::Read), entry(2, AccessLevel::Owner)]));
        assert_eq!(access.taken_back, [user(1), user(3)]);
        assert!(access.set(&[]));
        assert_eq!(access.taken_back, [user(1), user(3), user(2)]);
        assert!(!access.is_empty());
    }

    #[test]
    fn levels_by_their_words() {
        for level in AccessLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("admin".parse::<AccessLevel>(), Err(InvalidAccessLevel));
        let role = AccessLevel::Write.role(Uuid::from_u128(7));
        assert_eq!(role, "dbaas_write_00000000000000000000000000000007");
    }
}
