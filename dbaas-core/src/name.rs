//! Names that are valid by construction: of instances, of databases and of users, and descriptions.
//!
//! Database and user names become PostgreSQL identifiers. They are checked here *and* always quoted where
//! they are used.
//!
//! ```
//! use dbaas_core::name::{DatabaseName, UserName};
//!
//! assert_eq!("orders_2".parse::<DatabaseName>().unwrap().as_str(), "orders_2");
//! assert_eq!(
//!     "оrders".parse::<DatabaseName>().unwrap_err().to_string(),
//!     "character 1 is 'о' (U+043E): only the letters a-z and A-Z, digits and underscores are allowed"
//! );
//! assert!("PG_catalog".parse::<UserName>().is_err());
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name or a description was refused. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Only white space was given.
    #[error("must not be blank")]
    Blank,
    /// Too many characters or bytes.
    #[error("must be at most {max} {unit} long, was {got}")]
    TooLong {
        /// The most that is allowed.
        max: usize,
        /// What is counted: `characters` or `bytes`.
        unit: &'static str,
        /// What was given.
        got: usize,
    },
    /// White space at the beginning or at the end.
    #[error("must not begin or end with white space (character {position} is {})", Shown(*.character))]
    EdgeWhitespace {
        /// Where.
        position: usize,
        /// Which.
        character: char,
    },
    /// A control character, or an invisible one that changes the direction or the lines of text.
    #[error("character {position} is {}: control characters are not allowed", Shown(*.character))]
    ControlCharacter {
        /// Where.
        position: usize,
        /// Which.
        character: char,
    },
    /// An identifier that begins with something else than a letter or an underscore.
    #[error("must begin with a letter a-z, A-Z or an underscore, not with {}", Shown(*.character))]
    BadFirstCharacter {
        /// Which.
        character: char,
    },
    /// An identifier with a character that is not allowed.
    #[error("character {position} is {}: only {allowed} are allowed", Shown(*.character))]
    BadCharacter {
        /// Where.
        position: usize,
        /// Which.
        character: char,
        /// What would have been allowed there.
        allowed: &'static str,
    },
    /// A name that PostgreSQL or this control plane keeps for itself.
    #[error("\"{name}\" is reserved")]
    Reserved {
        /// The name as given.
        name: String,
    },
    /// A name that begins as names do that PostgreSQL or this control plane keeps for itself.
    #[error("must not begin with \"{prefix}\" in any case, which is reserved")]
    ReservedPrefix {
        /// The beginning, in lower case.
        prefix: &'static str,
    },
}

/// A character as people can recognise it in a message, also when it is invisible.
struct Shown(char);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = u32::from(self.0);
        if self.0 == ' ' {
            f.write_str("a space")
        } else if self.0.is_ascii_graphic() {
            write!(f, "'{}'", self.0)
        } else if self.0.is_alphanumeric() {
            write!(f, "'{}' (U+{code:04X})", self.0)
        } else {
            write!(f, "U+{code:04X}")
        }
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the rules.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                $check(&text)?;
                Ok($name(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok($name(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_newtype! {
    /// Name of an instance, a version or a project: 1 to 255 characters of any script, no control characters,
    /// not blank, no white space at either end.
    InstanceName, check_instance_name
}
text_newtype! {
    /// A description for people: up to 1,024 characters, may be empty. Tabs and newlines are allowed, other
    /// control characters are not.
    Description, check_description
}
text_newtype! {
    /// Name of a database: a letter or an underscore, then letters, digits and underscores (ASCII), at most
    /// 63 bytes. `postgres`, `template0`, `template1` and names that begin with `dbaas_` are refused in any
    /// case.
    DatabaseName, check_database_name
}
text_newtype! {
    /// Name of a user: as a database's, `$` too after the first character. Names that begin with `pg_`,
    /// `dbaas_` or `postgres`, and `public` and `none`, are refused in any case.
    UserName, check_user_name
}

impl Default for Description {
    /// The empty description.
    fn default() -> Self {
        Description(String::new())
    }
}

impl Description {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const DATABASE_CHARACTERS: &str = "the letters a-z and A-Z, digits and underscores";
const USER_CHARACTERS: &str = "the letters a-z and A-Z, digits, underscores and $";
/// The spare database has a sign in its name that no name may have; should that change, its name stays ours.
const RESERVED_DATABASES: [&str; 4] = ["postgres", "template0", "template1", "dbaas-spare"];
const RESERVED_DATABASE_PREFIXES: [&str; 1] = ["dbaas_"];
const RESERVED_USERS: [&str; 2] = ["public", "none"];
const RESERVED_USER_PREFIXES: [&str; 3] = ["pg_", "dbaas_", "postgres"];

fn check_instance_name(text: &str) -> Result<(), NameError> {
    check_length(text, *limits::NAME_CHARS.end())?;
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some((i, character)) = text.chars().enumerate().find(|&(_, c)| is_disruptive(c)) {
        return Err(NameError::ControlCharacter {
            position: i + 1,
            character,
        });
    }
    if text.chars().all(is_blank) {
        return Err(NameError::Blank);
    }
    let edges = [text.chars().enumerate().next(), text.chars().enumerate().last()];
    match edges.into_iter().flatten().find(|&(_, c)| is_blank(c)) {
        Some((i, character)) => Err(NameError::EdgeWhitespace {
            position: i + 1,
            character,
        }),
        None => Ok(()),
    }
}

fn check_description(text: &str) -> Result<(), NameError> {
    check_length(text, *limits::DESCRIPTION_CHARS.end())?;
    let bad = |c: char| is_disruptive(c) && !matches!(c, '\t' | '\n' | '\r');
    match text.chars().enumerate().find(|&(_, c)| bad(c)) {
        Some((i, character)) => Err(NameError::ControlCharacter {
            position: i + 1,
            character,
        }),
        None => Ok(()),
    }
}

fn check_database_name(text: &str) -> Result<(), NameError> {
    check_identifier(text, DATABASE_CHARACTERS, |c| {
        c.is_ascii_alphanumeric() || c == '_'
    })?;
    check_reserved(text, &RESERVED_DATABASES, &RESERVED_DATABASE_PREFIXES)
}

fn check_user_name(text: &str) -> Result<(), NameError> {
    check_identifier(text, USER_CHARACTERS, |c| {
        c.is_ascii_alphanumeric() || c == '_' || c == '$'
    })?;
    check_reserved(text, &RESERVED_USERS, &RESERVED_USER_PREFIXES)
}

fn check_length(text: &str, max: usize) -> Result<(), NameError> {
    let got = text.chars().count();
    if got > max {
        Err(NameError::TooLong {
            max,
            unit: "characters",
            got,
        })
    } else {
        Ok(())
    }
}

fn check_identifier(
    text: &str,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty);
    };
    // What is wrong with a character is said before what is wrong with the length: in "ä…" it is the ä that
    // matters.
    if let Some((i, character)) = text.chars().enumerate().find(|&(_, c)| !is_allowed(c)) {
        return Err(NameError::BadCharacter {
            position: i + 1,
            character,
            allowed,
        });
    }
    if !first.is_ascii_alphabetic() && first != '_' {
        return Err(NameError::BadFirstCharacter { character: first });
    }
    let max = *limits::IDENTIFIER_BYTES.end();
    if text.len() > max {
        return Err(NameError::TooLong {
            max,
            unit: "bytes",
            got: text.len(),
        });
    }
    Ok(())
}

fn check_reserved(text: &str, names: &[&str], prefixes: &[&'static str]) -> Result<(), NameError> {
    let lower = text.to_ascii_lowercase();
    if names.contains(&lower.as_str()) {
        return Err(NameError::Reserved {
            name: text.to_owned(),
        });
    }
    match prefixes.iter().find(|prefix| lower.starts_with(**prefix)) {
        Some(prefix) => Err(NameError::ReservedPrefix { prefix }),
        None => Ok(()),
    }
}

/// Control characters, line and paragraph separators, and the characters that turn the direction of text
/// around them: in a log or a table they make other text unreadable or misleading.
fn is_disruptive(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// White space, and characters that look like nothing at all.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' | '\u{3164}'
        )
}

#[cfg(test)]
mod tests;
