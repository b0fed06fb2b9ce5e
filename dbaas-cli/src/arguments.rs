//! The command line.

mod access;
mod contexts;
mod objects;
mod parameters;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dbaas_server::ServerOptions;

pub(crate) use self::access::Access;
pub(crate) use self::contexts::{ContextToken, Contexts};
pub(crate) use self::objects::{Databases, OneDatabase, OneUser, PasswordSource, Users};
pub(crate) use self::parameters::Parameters;
pub(crate) use self::tokens::Tokens;

const ABOUT: &str = "\
Instances of PostgreSQL with automatic failover, their databases and users.

Resources are named by their name or their uuid. What changes data for good asks first on a terminal, and needs --yes elsewhere.";

const AFTER: &str = "\
Examples:
  dbaas server --data-dir ./try --stop-instances-on-exit     a server for trying things out
  dbaas create orders --nodes 3 --version 18 --wait          an instance of three nodes
  dbaas users create orders app --generate-password
  dbaas databases create orders shop --owner app --wait
  dbaas psql orders
  dbaas logs orders

Exit codes:
  0  done
  1  failed: the server cannot be reached, a token is missing, a program failed
  2  usage: the command line or a value in it is wrong
  3  not found
  4  conflict: the name is taken, the resource is in use, or it does not fit the present state
  5  timed out: --wait waited in vain; the work may go on

Configuration file ($DBAAS_CONFIG, else dbaas/config.yaml in $XDG_CONFIG_HOME or ~/.config):
  current: home
  contexts:
    home: { url: \"http://127.0.0.1:8432\" }
    work: { url: \"http://db.example:8432\", token_file: /home/me/.dbaas-token }
A file with a token in it must be readable by its owner only. dbaas contexts writes it.";

/// Managed PostgreSQL: instances with automatic failover, their databases and users.
#[derive(Debug, Parser)]
#[command(name = "dbaas", version, long_about = ABOUT, after_long_help = AFTER, after_help = "--help says more, with examples.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The server. [default: the context's, else http://127.0.0.1:8432]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DBAAS_URL",
        help_heading = "Global options"
    )]
    pub(crate) url: Option<String>,
    /// A context of the configuration file, in place of its current one.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "DBAAS_CONTEXT",
        help_heading = "Global options"
    )]
    pub(crate) context: Option<String>,
    /// How results are written.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table, help_heading = "Global options")]
    pub(crate) output: Output,
    /// Whether to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, help_heading = "Global options")]
    pub(crate) color: Colour,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// As the server answers.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an instance: `instances create` in short.
    #[command(after_help = "Example: dbaas create orders --nodes 3 --version 18 --wait")]
    Create(CreateInstance),
    /// Instances: create, list, show, edit, delete.
    #[command(subcommand, visible_alias = "instance")]
    Instances(Instances),
    /// Users of an instance: create, list, show, edit, delete.
    #[command(subcommand, visible_alias = "user")]
    Users(Users),
    /// Databases of an instance: create, list, show, edit, delete.
    #[command(subcommand, visible_alias = "database")]
    Databases(Databases),
    /// The catalogue of versions: create, list, show, edit, delete.
    #[command(subcommand, visible_alias = "version")]
    Versions(Versions),
    /// Nodes of an instance: list, show.
    #[command(subcommand, visible_alias = "node")]
    Nodes(Nodes),
    /// What happened to an instance, and why.
    #[command(subcommand, visible_alias = "event")]
    Events(Events),
    /// Tokens, for the administrator: create, list, show, edit, delete.
    #[command(subcommand, visible_alias = "token")]
    Tokens(Tokens),
    /// Settings of an instance's PostgreSQL: get, set, reset, list.
    #[command(subcommand, visible_alias = "parameter")]
    Parameters(Parameters),
    /// Show the last lines of what a node's PostgreSQL wrote, without passwords.
    #[command(
        after_help = "Examples:\n  dbaas logs orders               the primary's\n  dbaas logs orders n2 --tail 500"
    )]
    Logs(Logs),

    /// Say how to connect to an instance.
    #[command(after_help = "Example: psql \"$(dbaas connection orders --user app --database shop --uri)\"")]
    Connection(Connection),
    /// Run psql on an instance's primary.
    #[command(after_help = "Examples:\n  dbaas psql orders --user app --database shop\n  \
        PGPASSWORD=… dbaas psql orders -- -c 'SELECT 1'\n\n\
        If the instance has one database, that and its owner are the default. psql asks for the password unless PGPASSWORD has it.")]
    Psql(Psql),
    /// Write a database to a file, by pg_dump.
    #[command(after_help = "Example: dbaas dump orders --database shop shop.dump")]
    Dump(Dump),
    /// Fill a database from a file that dump has written, by pg_restore.
    #[command(after_help = "Example: dbaas restore orders --database shop shop.dump")]
    Restore(Restore),

    /// Make a standby the primary, in a planned way.
    #[command(after_help = "Example: dbaas switchover orders --to n2 --wait")]
    Switchover(Switchover),
    /// Make a standby the primary although the old one cannot be reached.
    #[command(after_help = "Example: dbaas failover orders --wait")]
    Failover(Failover),
    /// Restart every node, one at a time.
    #[command(after_help = "Example: dbaas restart orders --wait")]
    Restart(Act),
    /// Switch the nodes on.
    #[command(after_help = "Example: dbaas start orders --wait")]
    Start(Act),
    /// Switch the nodes off; data is kept.
    #[command(after_help = "Example: dbaas stop orders --wait")]
    Stop(Act),

    /// Say what applying a manifest would do; nothing is done.
    #[command(after_help = "Example: dbaas plan shop.yaml")]
    Plan(Plan),
    /// Make an element what its manifest says: instances, users, databases, passwords, configs.
    #[command(after_help = "Example: dbaas apply shop.yaml --wait")]
    Apply(Plan),
    /// Delete what an element has made.
    #[command(after_help = "Example: dbaas uninstall shop.yaml --allow-destroy --wait")]
    Uninstall(Uninstall),

    /// Servers that the configuration file knows: list, use, set, remove.
    #[command(subcommand, visible_alias = "context")]
    Contexts(Contexts),
    /// Run the server.
    #[command(
        after_help = "Examples:\n  dbaas server --data-dir ./try --stop-instances-on-exit\n  \
        dbaas server --listen 0.0.0.0:8432 --token-file tokens --node-address 10.0.0.5 --allow-clients 10.0.0.0/24\n\n\
        PostgreSQL servers outlive this one: stop it, upgrade it, start it again, and it adopts what runs."
    )]
    Server(Box<ServerOptions>),
    /// Write a completion script for a shell.
    #[command(after_help = "Example: dbaas completions bash > /etc/bash_completion.d/dbaas")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual page.
    #[command(after_help = "Example: dbaas man | man -l -")]
    Man {
        /// Of this command, such as instances-create; of dbaas itself if left out.
        page: Option<String>,
    },
}

/// Waiting for what was asked for.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Waiting {
    /// Wait until it is done, and tell of each step.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most, such as 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration, requires = "wait")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CreateInstance {
    /// Its name, unique within the project.
    pub(crate) name: String,
    /// A version of the catalogue: 18, 18.4, a name or a uuid. [default: the newest]
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Nodes, the primary included.
    #[arg(long, default_value_t = 1)]
    pub(crate) nodes: u64,
    /// How many standbys have a commit before it is acknowledged.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) sync_replicas: u64,
    /// Cores of each node.
    #[arg(long, value_name = "CORES", default_value_t = 1)]
    pub(crate) cpu: u64,
    /// Memory of each node in MB.
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    pub(crate) ram: u64,
    /// Data disk of each node in GB.
    #[arg(long, value_name = "GB", default_value_t = 10)]
    pub(crate) disk: u64,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Its project's uuid. [default: the token's, or the default project]
    #[arg(long, value_name = "UUID")]
    pub(crate) project: Option<String>,
    /// A label, such as team:shop. May be given several times.
    #[arg(long, value_name = "KEY:VALUE", value_parser = label)]
    pub(crate) label: Vec<Label>,
    /// Do not protect it from deletion.
    #[arg(long)]
    pub(crate) unprotected: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Instances {
    /// Create an instance.
    #[command(after_help = "Example: dbaas instances create orders --nodes 3 --version 18 --wait")]
    Create(CreateInstance),
    /// List instances.
    #[command(
        visible_alias = "ls",
        after_help = "Example: dbaas instances list --status ERROR"
    )]
    List {
        /// Only in this state: NEW, IN_PROGRESS, ACTIVE, ERROR. May be given several times.
        #[arg(long, ignore_case = true)]
        status: Vec<String>,
        /// Only with this label, such as team:shop. Given several times: with all of them.
        #[arg(long, value_name = "KEY:VALUE", value_parser = label)]
        label: Vec<Label>,
    },
    /// Show an instance and its nodes.
    #[command(after_help = "Example: dbaas instances show orders")]
    Show {
        /// Name or uuid.
        instance: String,
    },
    /// Change an instance; what is not given stays.
    #[command(after_help = "Example: dbaas instances edit orders --nodes 3 --ram 2048 --wait")]
    Edit(EditInstance),
    /// Delete an instance with its databases, users and data.
    #[command(
        visible_alias = "rm",
        after_help = "Example: dbaas instances delete orders --yes --wait"
    )]
    Delete {
        /// Name or uuid.
        instance: String,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// What is asked before data is gone.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Consent {
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EditInstance {
    /// Name or uuid.
    pub(crate) instance: String,
    /// A new name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Another version of the same major, such as 18.4.
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Nodes, the primary included.
    #[arg(long)]
    pub(crate) nodes: Option<u64>,
    /// How many standbys have a commit before it is acknowledged.
    #[arg(long, value_name = "N")]
    pub(crate) sync_replicas: Option<u64>,
    /// Cores of each node.
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu: Option<u64>,
    /// Memory of each node in MB.
    #[arg(long, value_name = "MB")]
    pub(crate) ram: Option<u64>,
    /// Data disk of each node in GB; never shrinks.
    #[arg(long, value_name = "GB")]
    pub(crate) disk: Option<u64>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Set a label, such as team:shop. May be given several times.
    #[arg(long, value_name = "KEY:VALUE", value_parser = label)]
    pub(crate) label: Vec<Label>,
    /// Remove the label with this key. May be given several times.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove_label: Vec<String>,
    #[command(flatten)]
    pub(crate) protection: Protection,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// Whether deleting something is refused.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Protection {
    /// Protect it from deletion.
    #[arg(long)]
    protect: bool,
    /// Do not protect it from deletion any more.
    #[arg(long)]
    unprotect: bool,
}

impl Protection {
    /// As it is to be; `None`: as it is.
    pub(crate) fn wanted(&self) -> Option<bool> {
        (self.protect || self.unprotect).then_some(self.protect)
    }
}

/// A label of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

fn label(text: &str) -> Result<Label, &'static str> {
    let (key, value) = text.split_once(':').ok_or("must be a key, a colon and a value")?;
    Ok(Label {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum Versions {
    /// Add a version to the catalogue.
    #[command(after_help = "Example: dbaas versions create \"PostgreSQL 18.4\" --image postgres:18.4")]
    Create {
        /// For people.
        name: String,
        /// What nodes are made of; the tag begins with PostgreSQL's version.
        #[arg(long)]
        image: String,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the catalogue.
    #[command(visible_alias = "ls", after_help = "Example: dbaas versions list")]
    List,
    /// Show a version.
    #[command(after_help = "Example: dbaas versions show 18.4")]
    Show {
        /// A major version, a version, a name or a uuid.
        version: String,
    },
    /// Rename or deprecate a version.
    #[command(after_help = "Example: dbaas versions edit 15.17 --deprecated true")]
    Edit {
        /// A major version, a version, a name or a uuid.
        version: String,
        /// A new name.
        #[arg(long)]
        name: Option<String>,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Whether new instances cannot have it.
        #[arg(long, value_name = "true|false")]
        deprecated: Option<bool>,
    },
    /// Remove a version that no instance has.
    #[command(
        visible_alias = "rm",
        after_help = "Example: dbaas versions delete 15.17 --yes"
    )]
    Delete {
        /// A major version, a version, a name or a uuid.
        version: String,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// The node: name or uuid. [default: the primary]
    pub(crate) node: Option<String>,
    /// How many lines, at most 1000.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
    pub(crate) tail: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Nodes {
    /// List the nodes of an instance, with live figures.
    #[command(visible_alias = "ls", after_help = "Example: dbaas nodes list orders")]
    List {
        /// The instance: name or uuid.
        instance: String,
    },
    /// Show a node.
    #[command(after_help = "Example: dbaas nodes show orders n1")]
    Show {
        /// The instance: name or uuid.
        instance: String,
        /// The node: name or uuid.
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List what happened to an instance, the newest last.
    #[command(
        visible_alias = "ls",
        after_help = "Example: dbaas events list orders --follow"
    )]
    List {
        /// The instance: name or uuid.
        instance: String,
        /// Go on with what happens from now on.
        #[arg(long, short)]
        follow: bool,
    },
}

/// A user and a database of an instance, to connect as and to.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Connect as this user.
    #[arg(long, short = 'U')]
    pub(crate) user: Option<String>,
    /// Connect to this database.
    #[arg(long, short)]
    pub(crate) database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Write the libpq URI alone.
    #[arg(long)]
    pub(crate) uri: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Psql {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Passed on to psql.
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// Where to write; it must not exist. A directory's worth of tables in one file, in pg_dump's custom
    /// format.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Passed on to pg_dump.
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// What dump has written.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Passed on to pg_restore.
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Act {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Switchover {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// The standby to become primary: name or uuid. [default: the best one]
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// Go on also where acknowledged commits may be lost.
    #[arg(long)]
    pub(crate) allow_data_loss: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The manifest, in YAML or JSON.
    pub(crate) file: PathBuf,
    /// A variable of the text, which stands there as {{ NAME }}. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Leave out resources of kinds that are not known.
    #[arg(long)]
    pub(crate) skip_unknown: bool,
    /// Also delete instances and databases that the manifest does not have any more.
    #[arg(long)]
    pub(crate) allow_destroy: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// The manifest's file, or the element's name.
    pub(crate) element: String,
    /// Also delete instances and databases, with their data.
    #[arg(long)]
    pub(crate) allow_destroy: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

/// `500ms`, `30s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let rule = || "must be a time such as 500ms, 30s, 5m or 1h".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse::<u32>().map_err(|_| rule())?.into();
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(rule()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            for command in command.get_subcommands() {
                let path = format!("{path} {}", command.get_name());
                if command.has_subcommands() {
                    walk(command, &path);
                    continue;
                }
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
            }
        }
        walk(&Arguments::command(), "dbaas");
    }

    #[test]
    fn times() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "-1s", "1d", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
