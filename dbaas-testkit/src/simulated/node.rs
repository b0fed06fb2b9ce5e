//! A simulated node: its power, its disk, and the server that runs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::Discriminant;
use std::sync::Arc;

use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::config::AutoConf;
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{BootMark, DataState, Endpoint, Exit, ExitReason, NodeRef, NodeSpec};

use super::Sickness;
use super::conf::ConfFile;
use super::wal::{Catalogue, Disk, RecordId};

/// Port that every simulated server listens on.
const PORT: u16 = 5432;

#[derive(Clone)]
pub(super) struct SimNode {
    /// For traces: `a/n1`.
    pub(super) label: String,
    /// Its address is made of it.
    pub(super) number: u32,
    pub(super) spec: Option<NodeSpec>,
    pub(super) data: DataState,
    pub(super) disk: Option<Disk>,
    pub(super) power: Power,
    pub(super) frozen: bool,
    pub(super) boot: Option<BootMark>,
    /// How that start was to get its data.
    pub(super) prepared: Option<Discriminant<Prepare>>,
    /// Put here by the first node's preparation, for a later [`Prepare::SeedOf`](dbaas_core::boot::Prepare).
    pub(super) seed: Option<Disk>,
    /// Nodes that this one's initialisation made copies for.
    pub(super) seeded: BTreeSet<NodeId>,
}

#[derive(Clone)]
pub(super) enum Power {
    Off,
    Preparing(Box<Preparation>),
    Running(Box<Server>),
    Exited(Exit),
}

#[derive(Clone)]
pub(super) struct Preparation {
    pub(super) recipe: BootRecipe,
    pub(super) done_at_ms: u64,
    pub(super) deadline_ms: u64,
}

/// A running PostgreSQL.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) started_at_ms: u64,
    /// Answers from then on.
    pub(super) ready_at_ms: u64,
    pub(super) in_recovery: bool,
    /// What sessions see.
    pub(super) conf: AutoConf,
    /// `postgresql.conf` as it was started with, as it has read it last, and as somebody is about to write
    /// it.
    pub(super) started_with: ConfFile,
    pub(super) file: ConfFile,
    pub(super) new_file: ConfFile,
    /// What walsenders judge by: follows `conf` a little later.
    pub(super) sync_names: String,
    pub(super) sync_names_at_ms: u64,
    pub(super) receiver: Option<Receiver>,
    /// The receiver's last position since the server started: past the end of the log if that is in the
    /// middle of a record.
    pub(super) received: Option<u64>,
    pub(super) connect_at_ms: u64,
    pub(super) promote_at_ms: Option<u64>,
    pub(super) checkpoint_at_ms: Option<u64>,
    /// How much of the log is replayed.
    pub(super) replayed: usize,
    pub(super) replay_stalled_until_ms: u64,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) senders: BTreeMap<NodeRef, Sender>,
    /// Sessions of the control plane; whether each holds the advisory lock.
    pub(super) sessions: BTreeMap<u64, bool>,
    pub(super) waiting: Vec<Waiting>,
    /// What keeps it from serving anybody although it answers looks.
    pub(super) sickness: Option<Sickness>,
    /// Being shut down: killed at this moment at the latest.
    pub(super) stopping: Option<Stopping>,
    pub(super) next_commit_at_ms: u64,
    /// What it serves with was held against what clients were told.
    pub(super) checked: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    pub(super) earliest_ms: u64,
    pub(super) latest_ms: u64,
}

/// A client's commit that waits for standbys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) commit: u64,
    pub(super) record: RecordId,
    pub(super) end: u64,
    pub(super) since_ms: u64,
}

/// A walreceiver.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    pub(super) source: NodeRef,
    /// The source's start that it is connected to.
    pub(super) source_boot: String,
    pub(super) conninfo: String,
    pub(super) slot: String,
    pub(super) flow: Flow,
    pub(super) last_message_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next record is this one of the source's log.
    Records { next: usize },
    /// Connected, shown as streaming, and getting nowhere: its log is of another history.
    Stuck,
}

/// A walsender, as `pg_stat_replication` shows it.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) name: String,
    pub(super) slot: String,
    pub(super) flush: u64,
    pub(super) replay: u64,
    pub(super) last_reply_ms: u64,
    /// The start of the standby that it belongs to.
    pub(super) standby_boot: String,
}

impl SimNode {
    pub(super) fn new(label: String, number: u32) -> Self {
        SimNode {
            label,
            number,
            spec: None,
            data: DataState::Empty,
            disk: None,
            power: Power::Off,
            frozen: false,
            boot: None,
            prepared: None,
            seed: None,
            seeded: BTreeSet::new(),
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let [_, b, c, d] = self.number.to_be_bytes();
        Endpoint {
            host: format!("10.{b}.{c}.{d}"),
            port: PORT,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.power, Power::Running(_) | Power::Preparing(_))
    }

    pub(super) fn server(&self) -> Option<&Server> {
        match &self.power {
            Power::Running(server) => Some(server),
            _ => None,
        }
    }

    /// The server and its disk.
    pub(super) fn running(&mut self) -> Option<(&mut Server, &mut Disk)> {
        match (&mut self.power, &mut self.disk) {
            (Power::Running(server), Some(disk)) => Some((server, disk)),
            _ => None,
        }
    }

    /// Its server, if it runs, is not frozen and answers.
    pub(super) fn answering(&self, now_ms: u64) -> Option<&Server> {
        self.server()
            .filter(|server| !self.frozen && server.ready_at_ms <= now_ms && server.stopping.is_none())
    }

    pub(super) fn boot_id(&self) -> &str {
        self.boot.as_ref().map_or("", |boot| boot.boot_id.as_str())
    }

    /// Every process of it ends now.
    pub(super) fn kill(&mut self, exit: Option<Exit>) {
        if let Power::Preparing(preparation) = &self.power
            && (self.data != DataState::Initialised
                || matches!(preparation.recipe.prepare, Prepare::Rewind { .. }))
        {
            self.data = DataState::Incomplete;
        }
        self.frozen = false;
        self.power = match exit {
            Some(exit) => Power::Exited(exit),
            None => Power::Off,
        };
    }
}

pub(super) fn exit(reason: ExitReason, message: &str) -> Exit {
    Exit {
        reason,
        message: message.to_owned(),
    }
}
