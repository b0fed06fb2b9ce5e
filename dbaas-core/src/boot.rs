//! [`BootRecipe`]: what a node does when it starts. The core writes it, a backend only carries it out: as the
//! set-up of a process, as the command of a stock container, as a virtual machine's seed data.
//!
//! # What every backend does with a recipe, in this order
//! 1. Refuse with `StaleEpoch` if `dbaas.epoch` in the data directory's `postgresql.auto.conf` is greater
//!    than [`BootRecipe::epoch`].
//! 2. Carry out [`Prepare`]. A preparation that fails halfway leaves the node `Exited` with its reason and
//!    its data marked incomplete ([`DataState::Incomplete`](crate::infrastructure::DataState)), so that it is
//!    never started as it is.
//! 3. Write [`BootRecipe::files`] into the data directory (mode 0600, replacing what is there, by rename).
//! 4. Put `standby.signal` there ([`BootRole::Standby`]) or make sure that it, and `recovery.signal`, are
//!    absent ([`BootRole::Primary`]).
//! 5. Remove a stale `postmaster.pid` (the node is known to be off) and run `postgres -D …` with the
//!    backend's own listen address, port and socket directory on its command line: `postgresql.conf` itself
//!    listens nowhere, so that a server which something else starts from the same directory is closed to
//!    clients. (PostgreSQL complains of the difference in its log at every reload. A configuration file of
//!    the backend's own, which includes that one and says the same as the command line, spares it that:
//!    `-c config_file=…`.)

use serde::{Deserialize, Serialize};

use crate::cluster::Epoch;
use crate::endpoint::Endpoint;
use crate::id::NodeId;
use crate::infrastructure_error::{InfraError, InfraErrorKind};
use crate::secret::Secret;

/// What a node does when it starts. See the module's documentation for the order of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootRecipe {
    /// The epoch in which this start was decided. Kept by the backend as the node's boot mark.
    pub epoch: Epoch,
    /// How the data directory comes to be what the server needs.
    pub prepare: Prepare,
    /// Primary or standby.
    pub role: BootRole,
    /// Files to write into the data directory after preparing and before starting: `postgresql.conf`,
    /// `pg_hba.conf`, `postgresql.auto.conf`, `dbaas.pgpass`. File names only, no directories.
    pub files: Vec<BootFile>,
}

impl BootRecipe {
    /// A start in this epoch, that writes these files.
    pub fn new(epoch: Epoch, prepare: Prepare, role: BootRole, files: Vec<BootFile>) -> Self {
        BootRecipe {
            epoch,
            prepare,
            role,
            files,
        }
    }

    /// Whether every file is a plain name within the data directory, and none that PostgreSQL's life hangs
    /// on. A backend asks before it writes any of them.
    pub fn check_files(&self) -> Result<(), InfraError> {
        for file in &self.files {
            let name = file.name.as_str();
            let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', '\n']);
            if !is_name || ["PG_VERSION", "postmaster.pid", "postmaster.opts"].contains(&name) {
                let message = format!("{name:?} is not a file that a boot recipe may write");
                return Err(InfraError::new(InfraErrorKind::Unsupported, message));
            }
        }
        Ok(())
    }
}

/// How the data directory comes to be. Exhaustive on purpose: a backend that does not know a new way is to
/// fail when it is compiled, not when a node is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepare {
    /// It is there and complete; anything else is an error.
    Existing,
    /// `initdb`: data checksums, UTF-8, `C.UTF-8`, SCRAM, superuser [`ADMIN_ROLE`] with this password.
    /// Refused if the directory holds a cluster already (the same epoch's own finished `Init` counts as
    /// done). A backend that keeps initialised directories ready may hand one out that has another password,
    /// and then reports that one as
    /// [`ObservedNode::bootstrap_password`](crate::infrastructure::ObservedNode). It may also have made [a
    /// spare database](crate::command::SPARE_DATABASE) in it, in this version's own way
    /// ([`create_spare_database`](crate::command::create_spare_database)): the first tenant's database then
    /// costs a rename.
    Init {
        /// The superuser's password.
        admin_password: Secret,
        /// Nodes (applied already, still empty) that get a byte copy of the new data directory *before* this
        /// node's first start.
        seeds: Vec<NodeId>,
    },
    /// The data directory is the copy that the source's [`Prepare::Init`] puts there. Started at the same
    /// time as the source or later: waits for the copy (bounded, state `Preparing`). If the source was
    /// started without one, the node is `Exited` with
    /// [`ExitReason::SeedGone`](crate::infrastructure::ExitReason) and the controller takes a base backup
    /// instead.
    SeedOf {
        /// The first node.
        source: NodeId,
    },
    /// `pg_basebackup` from a running server, in place of whatever is there. What is there is given up when
    /// the source has begun to send, not before: where the source is gone it may be the last copy.
    BaseBackup {
        /// Where from.
        source: ReplicationSource,
        /// The physical slot that keeps the WAL for it; it exists already.
        slot: String,
    },
    /// `pg_rewind` against a running server; where the source says that there is nothing to do, that is fine,
    /// unless the target had to recover first ([`rewind_added_wal`](crate::boot_output::rewind_added_wal)):
    /// that is a failure, [`CannotRewind`](crate::infrastructure::ExitReason). The target is known to be off.
    /// If it fails the data is marked incomplete, unless nobody answered: then nothing was touched.
    Rewind {
        /// The server to follow afterwards.
        source: ReplicationSource,
    },
}

/// A running server to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationSource {
    /// Its node.
    pub node: NodeId,
    /// Where nodes reach it ([`ObservedNode::peer_endpoint`](crate::infrastructure::ObservedNode)).
    pub endpoint: Endpoint,
    /// The role to log in as: [`REPLICATION_ROLE`] for a base backup and for rewind.
    pub user: String,
    /// Its password; passed by a file with mode 0600, never on a command line.
    pub password: Secret,
}

impl ReplicationSource {
    /// The connection string for `pg_basebackup` (no database) and `pg_rewind` (any database), without the
    /// password. A source that falls silent is given up within half a minute.
    pub fn conninfo(&self, database: Option<&str>) -> String {
        let quote = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut text = format!(
            "host={} port={} user={} connect_timeout=10 keepalives_idle=10 keepalives_interval=5 keepalives_count=3 \
             tcp_user_timeout=30000 sslmode=prefer application_name=dbaas_prepare",
            quote(&self.endpoint.host),
            self.endpoint.port,
            quote(&self.user),
        );
        if let Some(database) = database {
            text += &format!(" dbname={}", quote(database));
        }
        text
    }
}

/// Primary or standby at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootRole {
    /// Starts read-write.
    Primary,
    /// Starts in standby mode; whom it follows stands in `postgresql.auto.conf`.
    Standby,
}

/// A file of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its text; may hold secrets.
    pub content: Secret,
}

/// The superuser that the control plane logs in as.
pub const ADMIN_ROLE: &str = "dbaas_admin";
/// The role that standbys stream with; also used for rewind (it is granted what `pg_rewind` needs).
pub const REPLICATION_ROLE: &str = "dbaas_replication";
/// The role that inherits what nobody else does: it cannot log in and has no rights.
pub const HEIR_ROLE: &str = "dbaas_heir";
/// The password file in the data directory that `primary_conninfo` names.
pub const PASSFILE: &str = "dbaas.pgpass";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_write_only_plain_names() {
        let recipe = |name: &str| BootRecipe {
            epoch: Epoch(1),
            prepare: Prepare::Existing,
            role: BootRole::Standby,
            files: vec![BootFile {
                name: name.into(),
                content: Secret::new(""),
            }],
        };
        for good in ["postgresql.conf", "dbaas.pgpass"] {
            assert!(recipe(good).check_files().is_ok());
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "PG_VERSION",
            "postmaster.pid",
            "x\0",
            "x\ny",
        ] {
            assert!(recipe(bad).check_files().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_connection_string_is_quoted_and_has_no_password() {
        let source = ReplicationSource {
            node: NodeId::from_uuid(uuid::Uuid::nil()),
            endpoint: Endpoint {
                host: "a' b\\".into(),
                port: 1,
            },
            user: "u".into(),
            password: Secret::new("hunter22"),
        };
        let text = source.conninfo(Some("postgres"));
        assert!(text.starts_with("host='a\\' b\\\\' port=1 user='u' "), "{text}");
        assert!(text.ends_with(" dbname='postgres'") && !text.contains("hunter22"));
        assert!(!source.conninfo(None).contains("dbname"));
    }
}
