//! `dbaas databases access`.

use clap::{Subcommand, ValueEnum};

use super::Waiting;

/// What a user may do in a database of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Read everything.
    Read,
    /// Also insert, update and delete.
    Write,
    /// Also make new objects, and everything else that can be granted.
    Owner,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::Read => "read",
            Level::Write => "write",
            Level::Owner => "owner",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// List who may use a database besides its owner.
    #[command(
        visible_alias = "ls",
        after_help = "Example: dbaas databases access list orders shop"
    )]
    List {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
    },
    /// Give a user a level of access, in place of the one that the user has.
    #[command(after_help = "Example: dbaas databases access grant orders shop reporting read --wait")]
    Grant {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
        /// A user of the instance: name or uuid.
        user: String,
        /// How much.
        level: Level,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Take a user's access away, with what others granted the user by SQL.
    #[command(after_help = "Example: dbaas databases access revoke orders shop reporting --wait")]
    Revoke {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
        /// A user of the instance: name or uuid.
        user: String,
        #[command(flatten)]
        waiting: Waiting,
    },
}
