//! `dbaas tokens`.

use clap::Subcommand;

use super::Consent;

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Create a token, and print it once.
    #[command(
        after_help = "Examples:\n  dbaas tokens create ci --project 0197f3c2-6d3b-7c9e-9f5a-0242ac120002\n  \
        dbaas tokens create monitoring --scope '*.read'"
    )]
    Create {
        /// For people.
        name: String,
        /// The project that it is for. [default: all of them, as the administrator]
        #[arg(long, value_name = "UUID")]
        project: Option<String>,
        /// What it allows: *, instance.create, user.*, *.read, secret_value.read. May be given several times.
        /// [default: *]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List tokens.
    #[command(visible_alias = "ls", after_help = "Example: dbaas tokens list")]
    List,
    /// Show a token, without its text.
    #[command(after_help = "Example: dbaas tokens show ci")]
    Show {
        /// Name or uuid.
        token: String,
    },
    /// Rename a token, or change what it allows.
    #[command(after_help = "Example: dbaas tokens edit ci --scope '*.read' --scope instance.update")]
    Edit {
        /// Name or uuid.
        token: String,
        /// A new name.
        #[arg(long)]
        name: Option<String>,
        /// What it allows from now on; all of it has to be given.
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete a token: from now on it is nobody's.
    #[command(visible_alias = "rm", after_help = "Example: dbaas tokens delete ci --yes")]
    Delete {
        /// Name or uuid.
        token: String,
        #[command(flatten)]
        consent: Consent,
    },
}
