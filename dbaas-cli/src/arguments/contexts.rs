//! `dbaas contexts`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Consent;

#[derive(Debug, Subcommand)]
pub(crate) enum Contexts {
    /// List contexts; none of their tokens is shown.
    #[command(visible_alias = "ls", after_help = "Example: dbaas contexts list")]
    List,
    /// Make a context the current one.
    #[command(after_help = "Example: dbaas contexts use work")]
    Use {
        /// Its name.
        name: String,
    },
    /// Add a context, or change one: its server by --url, and its token. The first one is the current one.
    #[command(
        after_help = "Examples:\n  dbaas contexts set home --url http://127.0.0.1:8432\n  \
        dbaas contexts set work --url http://db.example:8432 --token-file /home/me/.dbaas-token\n  \
        dbaas contexts set work --token-stdin < token"
    )]
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        token: ContextToken,
    },
    /// Remove a context.
    #[command(
        visible_alias = "rm",
        after_help = "Example: dbaas contexts remove work --yes"
    )]
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Where a context's token comes from: never from the command line, which others on the machine can read.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ContextToken {
    /// Keep the token that is on standard input.
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// Read the token from this file whenever it is needed.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// No token any more.
    #[arg(long)]
    pub(crate) no_token: bool,
}
