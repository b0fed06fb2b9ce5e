//! Extensions of a database: which ones were asked for, and what was last seen of them.
//!
//! PostgreSQL calls an extension *trusted* where its packager says that an owner of a database may create it:
//! its script then runs with the rights of the bootstrap superuser. Others take a superuser, and are never
//! made here. Which ones are trusted is the server's own word (`pg_available_extension_versions`); the list
//! below only lets a request be refused at once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Timestamp;

/// Why a text names no extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExtensionName {
    /// Too short or too long.
    #[error("must be 1 to {} bytes long, was {got}", limits::IDENTIFIER_BYTES.end())]
    Length {
        /// What was given, in bytes.
        got: usize,
    },
    /// Characters that no extension's name has.
    #[error("must begin with a letter a-z and have only a-z, 0-9, _ and single hyphens within it")]
    Characters,
    /// Of those that come with PostgreSQL one that is not trusted.
    #[error("\"{name}\" takes a superuser, and is not offered: it would reach beyond its database")]
    Superuser {
        /// The name.
        name: String,
    },
}

/// Those that come with PostgreSQL 14 to 18 and are not trusted.
const SUPERUSERS: [&str; 36] = [
    "adminpack",
    "amcheck",
    "autoinc",
    "bloom",
    "dblink",
    "dict_xsyn",
    "earthdistance",
    "file_fdw",
    "hstore_plpython3u",
    "insert_username",
    "intagg",
    "jsonb_plpython3u",
    "ltree_plpython3u",
    "moddatetime",
    "old_snapshot",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_logicalinspect",
    "pg_overexplain",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_surgery",
    "pg_visibility",
    "pg_walinspect",
    "pgrowlocks",
    "pgstattuple",
    "plperlu",
    "plpython3u",
    "pltclu",
    "postgres_fdw",
    "refint",
    "sslinfo",
    "test_slru",
    "worker_spi",
    "xml2",
];

/// Name of an extension: of 1 to 63 bytes, small letters, digits, `_` and single hyphens, with a letter
/// first; none that is known to take a superuser.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExtensionName(String);

impl ExtensionName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ExtensionName {
    /// Checks the characters alone, as for what is in the store: what is offered may have changed since.
    fn well_formed(text: &str) -> Result<Self, InvalidExtensionName> {
        if !limits::IDENTIFIER_BYTES.contains(&text.len()) {
            return Err(InvalidExtensionName::Length { got: text.len() });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        let well = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(allowed)
            && !text.contains("--")
            && !text.ends_with('-');
        match well {
            true => Ok(ExtensionName(text.to_owned())),
            false => Err(InvalidExtensionName::Characters),
        }
    }
}

impl FromStr for ExtensionName {
    type Err = InvalidExtensionName;

    fn from_str(text: &str) -> Result<Self, InvalidExtensionName> {
        let name = ExtensionName::well_formed(text)?;
        match SUPERUSERS.contains(&text) {
            true => Err(InvalidExtensionName::Superuser {
                name: text.to_owned(),
            }),
            false => Ok(name),
        }
    }
}

impl TryFrom<String> for ExtensionName {
    type Error = InvalidExtensionName;

    fn try_from(text: String) -> Result<Self, InvalidExtensionName> {
        ExtensionName::well_formed(&text)
    }
}

impl From<ExtensionName> for String {
    fn from(name: ExtensionName) -> String {
        name.0
    }
}

impl fmt::Display for ExtensionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was last seen of an extension of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionStatus {
    /// Which one.
    pub name: ExtensionName,
    /// The version that the database has; `None`: it has not got it.
    pub installed: Option<String>,
    /// The version that the server would make now; `None`: it has not got it.
    pub available: Option<String>,
    /// Why it is not as asked for, for people, where only a change of something helps.
    pub problem: Option<String>,
}

/// Which extensions of a database were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extensions {
    /// Those that it is to have; each once.
    #[serde(default)]
    pub names: Vec<ExtensionName>,
    /// Those that it was to have once, is not to have any more, and may have still.
    #[serde(default)]
    pub removed: Vec<ExtensionName>,
    /// Their update to the versions that the server offers was asked for and is not done yet, since.
    #[serde(default)]
    pub update_requested_at: Option<Timestamp>,
    /// What was last seen of both.
    #[serde(default)]
    pub seen: Vec<ExtensionStatus>,
}

impl Extensions {
    /// Those of a new database.
    pub fn of(names: &[ExtensionName]) -> Self {
        Extensions {
            names: names.to_vec(),
            ..Extensions::default()
        }
    }

    /// Sets which ones it is to have, and notes which are to go. Whether that changes anything.
    pub fn set(&mut self, names: &[ExtensionName]) -> bool {
        if self.names == names {
            return false;
        }
        let before = std::mem::replace(&mut self.names, names.to_vec());
        self.removed.extend(before);
        self.removed.retain(|name| !names.contains(name));
        let mut noted = Vec::new();
        self.removed.retain(|name| {
            let new = !noted.contains(name);
            noted.push(name.clone());
            new
        });
        // What was seen of them is to be seen anew: what to say of one that is to go is something else.
        self.seen.clear();
        true
    }

    /// Asks for updates, unless they are under way. Whether that changes anything.
    pub fn request_update(&mut self, now: Timestamp) -> bool {
        if self.names.is_empty() || self.update_requested_at.is_some() {
            return false;
        }
        self.update_requested_at = Some(now);
        self.seen.clear();
        true
    }

    /// There is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.removed.is_empty()
    }

    /// All that are to be there, and those that are to go.
    pub fn looked_after(&self) -> impl Iterator<Item = &ExtensionName> {
        self.names.iter().chain(&self.removed)
    }

    /// Every one was seen since something was last asked for.
    pub fn all_seen(&self) -> bool {
        let mut all = self.looked_after();
        all.all(|name| self.seen.iter().any(|seen| seen.name == *name))
    }

    /// Every one was last seen to be as asked for.
    pub fn is_settled(&self) -> bool {
        let there = |name: &ExtensionName| {
            let seen = self.seen.iter().find(|seen| seen.name == *name);
            seen.is_some_and(|seen| seen.installed.is_some() && seen.problem.is_none())
        };
        self.removed.is_empty() && self.update_requested_at.is_none() && self.names.iter().all(there)
    }

    /// What was last seen to be wrong, for people; empty if nothing was.
    pub fn problems(&self) -> String {
        let problems = self.seen.iter().filter_map(|seen| seen.problem.as_deref());
        problems.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ExtensionName {
        text.parse().unwrap()
    }

    #[test]
    fn names_by_their_rules() {
        for text in ["pg_trgm", "uuid-ossp", "a", "plperl", "postgis"] {
            assert_eq!(name(text).to_string(), text);
        }
        let long = "a".repeat(64);
        for text in ["", long.as_str()] {
            assert!(matches!(
                text.parse::<ExtensionName>(),
                Err(InvalidExtensionName::Length { .. })
            ));
        }
        for text in [
            "PG_trgm", "-a", "a--b", "a-", "1a", "a b", "a;b", "a\"", "../a", "ä",
        ] {
            assert_eq!(
                text.parse::<ExtensionName>(),
                Err(InvalidExtensionName::Characters),
                "{text}"
            );
        }
        for text in SUPERUSERS {
            assert!(matches!(
                text.parse::<ExtensionName>(),
                Err(InvalidExtensionName::Superuser { .. })
            ));
        }
        assert!(SUPERUSERS.is_sorted());
    }

    #[test]
    fn what_is_left_out_is_to_go_until_it_is_named_again() {
        let [a, b] = ["a", "b"].map(name);
        let mut extensions = Extensions::of(&[a.clone(), b.clone()]);
        assert!(!extensions.set(&[a.clone(), b.clone()]));
        assert!(extensions.set(std::slice::from_ref(&b)));
        assert_eq!(extensions.removed, std::slice::from_ref(&a));
        assert!(extensions.set(&[]));
        assert_eq!(extensions.removed, [a.clone(), b.clone()]);
        assert!(!extensions.request_update(Timestamp::from_unix_ms(1)));
        assert!(extensions.set(std::slice::from_ref(&a)));
        assert_eq!(extensions.removed, [b]);
        assert!(extensions.request_update(Timestamp::from_unix_ms(1)));
        assert!(!extensions.request_update(Timestamp::from_unix_ms(2)));
        assert!(!extensions.is_settled() && !extensions.all_seen() && !extensions.is_empty());
    }
}
