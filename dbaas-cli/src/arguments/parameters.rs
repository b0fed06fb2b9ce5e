//! `dbaas parameters`.

use clap::Subcommand;

use super::{Waiting, pair};

#[derive(Debug, Subcommand)]
pub(crate) enum Parameters {
    /// Show the parameters that were set, or the value of some.
    #[command(after_help = "Example: dbaas parameters get orders work_mem")]
    Get {
        /// The instance: name or uuid.
        instance: String,
        /// Of these only.
        parameter: Vec<String>,
    },
    /// Set parameters. Those that are not given stay.
    #[command(after_help = "Example: dbaas parameters set orders work_mem=64MB max_connections=300 --wait")]
    Set {
        /// The instance: name or uuid.
        instance: String,
        /// What is set.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
        setting: Vec<(String, String)>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Take parameters back: what the server derives, or PostgreSQL's default, is in force.
    #[command(
        visible_alias = "unset",
        after_help = "Example: dbaas parameters reset orders work_mem --wait"
    )]
    Reset {
        /// The instance: name or uuid.
        instance: String,
        /// Which.
        #[arg(required = true)]
        parameter: Vec<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List every parameter that a version has, and whether it may be set.
    #[command(
        visible_alias = "ls",
        after_help = "Example: dbaas parameters list --version 18"
    )]
    List {
        /// A version of the catalogue. [default: the newest]
        #[arg(long)]
        version: Option<String>,
    },
}
