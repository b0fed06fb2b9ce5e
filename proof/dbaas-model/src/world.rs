//! The abstract world: nodes, controllers, messages, and what was promised to clients.

use std::fmt;

use crate::record::Rec;
use crate::wal::Wal;

/// Most nodes that a model can have.
pub const MOST_NODES: usize = 5;

/// `synchronous_standby_names`: any `k` of these standbys, under the names of this epoch. No voters: closed.
/// `k` of 0: asynchronous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Names {
    /// How many.
    pub k: u8,
    /// Of these, as bits.
    pub voters: u8,
    /// Under the names of this epoch; 0 where there are none.
    pub epoch: u8,
}

/// Whom a standby follows, and the epoch in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The node.
    pub node: u8,
    /// The epoch in its `application_name`.
    pub epoch: u8,
}

/// What a primary's walsender knows of a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// The epoch in the standby's name.
    pub epoch: u8,
    /// Flushed up to here, by its word.
    pub flushed: u8,
}

/// How a data directory is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prepare {
    /// It is there.
    Existing,
    /// `initdb`, and copies for these nodes, as bits.
    Init(u8),
    /// The copy of the first node.
    Seed,
    /// A base backup from this node.
    Backup(u8),
    /// A rewind to this node.
    Rewind(u8),
}

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot {
    /// Decided in this epoch.
    pub epoch: u8,
    /// The data.
    pub prepare: Prepare,
    /// A base backup's number; 0 for every other way.
    pub rebuild: u8,
    /// Primary or standby.
    pub primary: bool,
    /// Whom to follow.
    pub target: Option<Target>,
    /// What it waits for as a primary.
    pub names: Names,
}

/// What is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Data {
    /// Nothing.
    #[default]
    Empty,
    /// A whole data directory.
    Full,
    /// A preparation that did not end.
    Incomplete,
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Power {
    /// Never started, or switched off.
    #[default]
    Off,
    /// It ended by itself.
    Died,
    /// Its preparation ended halfway.
    Failed,
    /// There was no copy of the first node for it.
    SeedGone,
    /// A preparation runs.
    Preparing(Boot),
    /// It runs.
    Running,
    /// It is stopped in its tracks.
    Frozen,
}

/// What keeps a primary from serving anybody although it answers looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sickness {
    /// Nothing.
    #[default]
    Well,
    /// A process that is stuck: the next start mends it.
    Stuck,
    /// Files that are gone: other data mends it.
    Damaged,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Node {
    /// The infrastructure has made it.
    pub exists: bool,
    /// Its disk.
    pub data: Data,
    /// Its process.
    pub power: Power,
    /// It runs, or would by itself come up, as a primary.
    pub primary: bool,
    /// Flushed WAL.
    pub wal: Wal,
    /// Of which so much is replayed.
    pub replayed: u8,
    /// The newest timeline that it has a history file of: a promotion begins the one after.
    pub newest_timeline: u8,
    /// It has streamed since its start.
    pub streamed: bool,
    /// What it received ends in the middle of an entry, so that it has received more than it can replay.
    pub part: bool,
    /// The base backup that it was started from; 0 if it was started in another way.
    pub rebuild: u8,
    /// The persisted epoch.
    pub epoch: u8,
    /// `primary_conninfo`.
    pub target: Option<Target>,
    /// The connection of its walreceiver.
    pub receiver: Option<Target>,
    /// `synchronous_standby_names`.
    pub names: Names,
    /// Version of that setting, persisted with it.
    pub setting: u8,
    /// As a primary it wrote a checkpoint on its present timeline.
    pub checkpointed: bool,
    /// Its last start was the one that made it.
    pub made: bool,
    /// A server was started on this data.
    pub started: bool,
    /// What its walsenders know, by standby.
    pub reports: [Option<Report>; MOST_NODES],
    /// Whether new clients get anything from it.
    pub sick: Sickness,
}

impl Node {
    /// Runs and makes progress.
    pub fn runs(&self) -> bool {
        self.power == Power::Running
    }

    /// Accepts writes.
    pub fn is_writable(&self) -> bool {
        self.runs() && self.primary
    }
}

/// An action of a plan, as it travels to where it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Act {
    /// On this node.
    pub node: u8,
    /// This.
    pub what: What,
}

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// Makes the node.
    Apply,
    /// Starts it.
    Start(Boot),
    /// Switches it off; gracefully?
    PowerOff(bool),
    /// Removes it with its data.
    Remove,
    /// Makes the control plane's roles and the first mark.
    Bootstrap,
    /// Seals it.
    Seal(u8, Option<Names>),
    /// Promotes it.
    Promote(u8, Names),
    /// Writes the mark.
    Mark(u8),
    /// Sets what it waits for.
    SetNames(u8, u8, Names),
    /// Makes it follow.
    Follow(u8, Target, Option<Names>),
    /// Writes a checkpoint.
    Checkpoint,
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Controller {
    /// About to look.
    Idle,
    /// It has looked and decided, and is paused before its write. `stale`: the record was written since it
    /// was read.
    Decided {
        /// The record to be written.
        record: Option<Rec>,
        /// To be done then.
        acts: Vec<Act>,
        /// Somebody else wrote.
        stale: bool,
    },
    /// It performs the actions of a plan.
    Acting(Vec<Act>),
}

/// What may still happen, so that a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Commits of clients.
    pub commits: u8,
    /// Crashes of nodes.
    pub crashes: u8,
    /// Nodes frozen.
    pub freezes: u8,
    /// Primaries that serve nobody.
    pub sicknesses: u8,
    /// Links between nodes cut.
    pub cuts: u8,
    /// Nodes that start by themselves.
    pub self_starts: u8,
    /// Actions delayed or duplicated, and controllers paused before their write.
    pub delays: u8,
    /// Actions lost, and controllers that crash while they act; 255 is any number.
    pub losses: u8,
    /// Looks of a controller in which nodes, or the infrastructure, do not answer although they could.
    pub clouded: u8,
    /// Disks lost.
    pub disk_losses: u8,
    /// Entries of which a standby receives a part.
    pub parts: u8,
    /// Requests of users not yet made, as bits of the configuration's list.
    pub requests: u8,
}

/// Something that must never happen, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A primary of the record lacks an acknowledged commit.
    CommitLost,
    /// Two nodes acknowledged in one epoch, or one did in an older epoch than another one before.
    TwoAcknowledge,
    /// An epoch was used twice, or went back.
    EpochReused,
    /// A commit was acknowledged by the word of a standby that does not hold it.
    FalseAcknowledgement,
    /// A standby that passes for one of the primary's own history holds something else.
    Diverged,
    /// A commit was acknowledged that no electorate of the record accounts for: a failover need not find it.
    Uncovered,
    /// A destructive action was asked for where the last copy of an acknowledged commit is, or an `initdb`
    /// over data.
    LastCopyDestroyed,
    /// A primary that its standbys hear was given up because a controller does not.
    NeedlessFailover,
    /// It does not serve, and says nothing of it.
    NoReason,
    /// After the faults ended it did not become writable.
    Stuck,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The store's record.
    pub record: Rec,
    /// The nodes.
    pub nodes: [Node; MOST_NODES],
    /// The controllers; they are alike, so that their order means nothing.
    pub controllers: Vec<Controller>,
    /// Delayed actions: done at any later time, or never.
    pub strays: Vec<Act>,
    /// Links between nodes that are cut, as bits `a * MOST_NODES + b`, a < b.
    pub cut: u32,
    /// What may still happen.
    pub budget: Budget,
    /// Acknowledged commits, as bits.
    pub acknowledged: u8,
    /// Which node acknowledged in each epoch, plus 1.
    pub acknowledger: [u8; 8],
    /// Which node was promoted in each epoch, plus 1.
    pub promoted: [u8; 8],
    /// What went wrong.
    pub violation: Option<Violation>,
}

impl State {
    /// Whether two nodes reach each other.
    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.cut & link(a, b) == 0
    }

    /// Notes what went wrong, the first time.
    pub fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }
}

/// The bit of a link.
pub fn link(a: usize, b: usize) -> u32 {
    1 << (a.min(b) * MOST_NODES + a.max(b))
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "record {:?}", self.record)?;
        for (i, n) in self.nodes.iter().enumerate().filter(|(_, n)| n.exists) {
            let role = if n.primary { "primary" } else { "standby" };
            write!(
                f,
                "  n{} {:?} {:?} {role} e{} wal[{:?}] replayed {}",
                i + 1,
                n.power,
                n.data,
                n.epoch,
                n.wal,
                n.replayed
            )?;
            if n.sick != Sickness::Well {
                write!(f, " {:?}", n.sick)?;
            }
            if n.part {
                write!(f, " and a part of an entry")?;
            }
            write!(f, " names {}of{:b}@{}", n.names.k, n.names.voters, n.names.epoch)?;
            if let Some(t) = n.target {
                write!(f, " follows n{}@{}", t.node + 1, t.epoch)?;
            }
            if let Some(t) = n.receiver {
                write!(f, " receives from n{}@{}", t.node + 1, t.epoch)?;
            }
            for (s, r) in n.reports.iter().enumerate() {
                if let Some(r) = r {
                    write!(f, " n{}@{}->{}", s + 1, r.epoch, r.flushed)?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "  controllers {:?}", self.controllers)?;
        write!(
            f,
            "  strays {:?} cut {:b} acknowledged {:b}",
            self.strays, self.cut, self.acknowledged
        )?;
        if let Some(v) = self.violation {
            write!(f, "  VIOLATION {v:?}")?;
        }
        Ok(())
    }
}
