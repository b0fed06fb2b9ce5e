//! Nodes of an instance, as kept in the store.

use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::id::NodeId;
use crate::infrastructure::Endpoint;
use crate::lifecycle::Lifecycle;
use crate::time::Timestamp;

/// What a node is in its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Takes writes.
    Primary,
    /// Follows the primary.
    Standby,
}

/// How a node that is off, or cannot follow, gets its data back. Kept in the record because it has to survive
/// a crash of the controller: a node marked so is never started in any other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejoin {
    /// Its data directory is good: start it where it is.
    InPlace,
    /// It may hold WAL that the primary's history does not: rewind it.
    Rewind,
    /// Its data is useless: take a base backup.
    BaseBackup,
    /// It was never started: it is a copy of the first node, or, where there is none, takes a base backup.
    Seed,
}

/// Which start of a node is to be followed by another one. Starts are told apart by their ids and not by
/// their times: clocks of several machines, or one that is set, say nothing about what came first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartMark {
    /// The request, by when it was made.
    pub asked: Timestamp,
    /// The node's last start when the request was taken up; `None` if it had never been started.
    pub boot_id: Option<String>,
}

/// A node as kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its short name, `n1`, `n2`, …; never used again within the instance.
    pub name: String,
    /// When it was decided on.
    pub created_at: Timestamp,
    /// It is to be removed.
    pub leaving: bool,
    /// How its next start gets its data.
    pub rejoin: Rejoin,
    /// The attempt number of the current way of rejoining; after some the next heavier way is taken.
    pub rejoin_attempts: u32,
    /// How often it was decided to build it anew from a base backup. The number stands in what the backup is
    /// started with, so that a server that runs with it is known to have no data from before.
    #[serde(default)]
    pub rebuilds: u32,
    /// While a restart of every node is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartMark>,
    /// NEW, IN_PROGRESS, ACTIVE, ERROR.
    pub lifecycle: Lifecycle,
    /// Primary or standby, as last decided.
    pub role: NodeRole,
    /// A commit waits for it (it is a voter and there is a k).
    pub sync: bool,
    /// Why it is in that state: for people, never empty.
    pub reason: String,
    /// The same for programs, and more.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// Where it listens.
    pub endpoint: Option<Endpoint>,
    /// What an operator looks for: a process id, a container id.
    pub backend_ref: Option<String>,
}

impl NodeRecord {
    /// Another way of getting its data is taken from now on.
    pub fn rejoin_by(&mut self, rejoin: Rejoin) {
        self.rejoin = rejoin;
        self.rejoin_attempts = 0;
        if rejoin == Rejoin::BaseBackup {
            self.rebuilds = self.rebuilds.saturating_add(1);
        }
    }

    /// Whether it may hold what the primary's history does not: it is to be built anew, and nothing that it
    /// has counts. A server that runs from that base backup tells its number, and is then to be started where
    /// it is. (In records from before there were numbers, one that was begun counts as done.)
    pub fn is_to_be_rebuilt(&self) -> bool {
        self.rejoin == Rejoin::BaseBackup && (self.rebuilds > 0 || self.rejoin_attempts == 0)
    }
}
