//! One node: its directory, what is kept there about it, and what is known of it in memory.
//!
//! ```text
//! <data dir>/nodes/<instance>/<node>/
//!   node.json            what it is to be, its port, its last start, whether it is to be on
//!   process.json         the server's process; worthless after a restart of the machine
//!   exit.json            why it is off, if it is off by itself
//!   incomplete           there while a preparation runs, and after one that did not end: `data` must not be started
//!   bootstrap_password   if `data` came from the warm pool
//!   server.conf          address and port, around the `postgresql.conf` in `data`
//!   kept.json            instead of node.json: removed, data kept
//!   data/ run/ log log.1
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::cluster::Epoch;
use dbaas_core::config::AutoConf;
use dbaas_core::infrastructure::{DataState, Exit, ExitReason, NodeRef, NodeSpec};
use dbaas_core::secret::Secret;
use parking_lot::{Condvar, Mutex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::files::{self, Durability};
use crate::port::HeldPort;
use crate::process::{Process, ProcessId};

/// Version of the files' format; a greater one is of a newer program and left alone.
pub(crate) const FORMAT: u32 = 1;

/// Paths of a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeDir(PathBuf);

impl NodeDir {
    pub(crate) fn new(root: &Path, node: NodeRef) -> Self {
        NodeDir(
            root.join("nodes")
                .join(node.instance.to_string())
                .join(node.node.to_string()),
        )
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Files for the programs that prepare the data directory; theirs to read, nobody else's.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("node.json")
    }

    /// The configuration file that the server is started with; includes the one in `data`.
    pub(crate) fn server_conf(&self) -> PathBuf {
        self.0.join("server.conf")
    }

    pub(crate) fn kept(&self) -> PathBuf {
        self.0.join("kept.json")
    }

    pub(crate) fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    pub(crate) fn incomplete(&self) -> PathBuf {
        self.0.join("incomplete")
    }

    pub(crate) fn bootstrap_password(&self) -> PathBuf {
        self.0.join("bootstrap_password")
    }

    /// A set of the warm pool that is being taken into use.
    pub(crate) fn set(&self) -> PathBuf {
        self.0.join("set")
    }

    /// A seed copy on its way to become `data`.
    pub(crate) fn arriving(&self) -> PathBuf {
        self.0.join("arriving")
    }

    /// A base backup on its way to become `data`.
    pub(crate) fn backup(&self) -> PathBuf {
        self.0.join("backup")
    }

    /// Whether anything of a node's data is there, and whole.
    pub(crate) fn data_state(&self) -> io::Result<DataState> {
        if self.incomplete().try_exists()? {
            return Ok(DataState::Incomplete);
        }
        data_state(&self.data())
    }

    /// PostgreSQL writes this file when a server is started for the first time; initdb does not.
    pub(crate) fn ever_started(&self) -> io::Result<bool> {
        self.data().join("postmaster.opts").try_exists()
    }

    /// Marks `data` as not to be started, before a preparation touches it.
    pub(crate) fn mark_incomplete(&self) -> io::Result<()> {
        files::write(
            &self.incomplete(),
            b"a preparation of the data directory was begun\n",
            None,
            Durability::Disk,
        )
    }

    /// Takes the mark away, after what it is about has reached the disk.
    pub(crate) fn mark_complete(&self) -> io::Result<()> {
        files::remove_if_there(&self.incomplete())?;
        files::sync_dir(&self.0)
    }
}

fn data_state(data: &Path) -> io::Result<DataState> {
    if data.join("PG_VERSION").try_exists()? && data.join("global/pg_control").try_exists()? {
        return Ok(DataState::Initialised);
    }
    Ok(if files::is_empty_dir(data)? {
        DataState::Empty
    } else {
        DataState::Incomplete
    })
}

/// The epoch that `postgresql.auto.conf` of a data directory names: the last line counts, as for PostgreSQL.
pub(crate) fn epoch_in(data: &Path) -> io::Result<Option<Epoch>> {
    match fs::read(data.join("postgresql.auto.conf")) {
        Ok(text) => Ok(AutoConf::parse_epoch(&String::from_utf8_lossy(&text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// What a start was to do with the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrepareKind {
    Existing,
    Init,
    SeedOf,
    BaseBackup,
    Rewind,
}

/// The last start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) epoch: Epoch,
    pub(crate) boot_id: String,
    pub(crate) prepare: PrepareKind,
}

/// What the last call wanted the node to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    Off,
    On,
}

/// `node.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) spec: NodeSpec,
    pub(crate) port: u16,
    pub(crate) wanted: Wanted,
    pub(crate) boot: Option<Boot>,
}

/// `kept.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) format: u32,
    pub(crate) boot: Option<Boot>,
}

/// `exit.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredExit {
    reason: String,
    message: String,
}

/// `process.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredProcess {
    #[serde(flatten)]
    pub(crate) id: ProcessId,
    /// Shared memory that stays behind if the server is killed.
    #[serde(default)]
    pub(crate) shared_memory: Vec<PathBuf>,
    /// How long the node's log was when this server was started: what is before is of earlier ones.
    #[serde(default)]
    pub(crate) log_from: u64,
}

/// Reads a JSON file; `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a JSON file by rename.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(io::Error::other)?;
    bytes.push(b'\n');
    files::write(path, &bytes, None, durability)
}

const REASONS: [(ExitReason, &str); 6] = [
    (ExitReason::Died, "died"),
    (ExitReason::PreparationFailed, "preparation_failed"),
    (ExitReason::SeedGone, "seed_gone"),
    (ExitReason::CannotRewind, "cannot_rewind"),
    (ExitReason::DiskFull, "disk_full"),
    (ExitReason::Damaged, "damaged"),
];

fn reason_name(reason: ExitReason) -> &'static str {
    REASONS
        .iter()
        .find(|(r, _)| *r == reason)
        .map_or("died", |(_, name)| name)
}

/// Reads `exit.json`; worth nothing if unreadable.
pub(crate) fn read_exit(dir: &NodeDir) -> Option<Exit> {
    let stored: StoredExit = read_json(&dir.exit()).ok()??;
    let reason = REASONS
        .iter()
        .find(|(_, name)| *name == stored.reason)
        .map_or(ExitReason::Died, |(r, _)| *r);
    Some(Exit {
        reason,
        message: stored.message,
    })
}

/// Writes or removes `exit.json`. It is for people and for choosing what to try next: that it cannot be
/// written changes nothing else.
pub(crate) fn write_exit(dir: &NodeDir, exit: Option<&Exit>) {
    let result = match exit {
        Some(exit) => {
            let stored = StoredExit {
                reason: reason_name(exit.reason).into(),
                message: exit.message.clone(),
            };
            write_json(&dir.exit(), &stored, Durability::Process)
        }
        None => files::remove_if_there(&dir.exit()),
    };
    if let Err(e) = result {
        tracing::warn!(dir = %dir.path().display(), error = %e, "cannot keep why the node is off");
    }
}

/// A preparation that is under way: it can be told to stop, and waited for.
#[derive(Debug)]
pub(crate) struct Preparation {
    cancelled: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Preparation {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Preparation {
            cancelled: AtomicBool::new(false),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn set_ended(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    /// Blocks until its thread has ended, at most so long; says whether it has.
    pub(crate) fn wait_ended(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut ended = self.ended.lock();
        while !*ended {
            if self.changed.wait_until(&mut ended, deadline).timed_out() {
                return *ended;
            }
        }
        true
    }
}

/// What is known of a node in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// `None`: there is no such node (any more).
    pub(crate) record: Option<Record>,
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) preparing: Option<Arc<Preparation>>,
    /// A start is under way that has neither a preparation nor a process yet: the node is not taken for one
    /// that has died.
    pub(crate) starting: bool,
    /// Why it is off, where it is off by itself.
    pub(crate) exit: Option<Exit>,
    pub(crate) bootstrap_password: Option<Secret>,
    /// What [`crate::watch`] saw last.
    pub(crate) seen_frozen: bool,
    pub(crate) shared_memory: Vec<PathBuf>,
    /// Where the log of the present server begins, as in [`StoredProcess`].
    pub(crate) log_from: u64,
    /// Its port, where this process has chosen it: nobody else gets it while the node is off.
    pub(crate) held_port: Option<HeldPort>,
}

/// A node, known or asked about.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeRef,
    pub(crate) dir: NodeDir,
    /// Held by the one call that works on the node.
    pub(crate) op: Arc<tokio::sync::Mutex<()>>,
    pub(crate) state: Mutex<State>,
}

impl Node {
    pub(crate) fn new(root: &Path, id: NodeRef) -> Arc<Self> {
        Arc::new(Node {
            id,
            dir: NodeDir::new(root, id),
            op: Arc::new(tokio::sync::Mutex::new(())),
            state: Mutex::new(State::default()),
        })
    }

    /// Replaces `node.json` and the copy in memory. Only under [`Node::op`].
    pub(crate) fn save(&self, record: Record, durability: Durability) -> io::Result<()> {
        write_json(&self.dir.record(), &record, durability)?;
        self.state.lock().record = Some(record);
        Ok(())
    }

    /// Makes the node's directory and those within that are ours, not `data`.
    pub(crate) fn make_dirs(&self, account: &Account) -> io::Result<()> {
        if let Some(parent) = self.dir.path().parent() {
            files::make_dir(parent, 0o755)?;
        }
        files::make_dir(self.dir.path(), 0o755)?;
        let run = self.dir.run();
        files::make_dir(&run, 0o700)?;
        account.own(&run)
    }

    /// Removes `data`, if it is there.
    pub(crate) fn discard_data(&self, trash: &Path) -> io::Result<()> {
        if let Some(gone) = files::to_trash(&self.dir.data(), trash)? {
            files::remove_tree_if_there(&gone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_directory_is_never_taken_for_a_whole_one() {
        let root = tempfile::tempdir().unwrap();
        let id = NodeRef {
            instance: dbaas_core::id::InstanceId::from_uuid(uuid::Uuid::from_u128(1)),
            node: dbaas_core::id::NodeId::from_uuid(uuid::Uuid::from_u128(2)),
        };
        let dir = NodeDir::new(root.path(), id);
        assert_eq!(dir.data_state().unwrap(), DataState::Empty);
        fs::create_dir_all(dir.data()).unwrap();
        assert_eq!(dir.data_state().unwrap(), DataState::Empty);
        fs::write(dir.data().join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(dir.data_state().unwrap(), DataState::Incomplete);
        fs::create_dir(dir.data().join("global")).unwrap();
        fs::write(dir.data().join("global/pg_control"), "x").unwrap();
        assert_eq!(dir.data_state().unwrap(), DataState::Initialised);
        dir.mark_incomplete().unwrap();
        assert_eq!(dir.data_state().unwrap(), DataState::Incomplete);
        dir.mark_complete().unwrap();
        assert_eq!(dir.data_state().unwrap(), DataState::Initialised);
    }

    #[test]
    fn why_it_is_off_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let dir = NodeDir(root.path().to_owned());
        for (reason, _) in REASONS {
            let exit = Exit {
                reason,
                message: "m".into(),
            };
            write_exit(&dir, Some(&exit));
            assert_eq!(read_exit(&dir), Some(exit));
        }
        write_exit(&dir, None);
        assert_eq!(read_exit(&dir), None);
    }
}
