//! A world in memory in which the control plane can live: nodes with disks, PostgreSQL with an abstract
//! write-ahead log and real replication semantics, a network that can be cut, clients that write, and faults
//! on demand.
//!
//! [`SimWorld`] is the world; [`SimController`] is one control plane's way into it (its infrastructure, its
//! SQL, and the switch that ends it). Time is tokio's: in a runtime whose clock is paused nothing ever waits,
//! and one seed decides everything.
//!
//! What is true to PostgreSQL here, because a failover has to get it right:
//! * a commit waits for `ANY k (…)` of the standbys that stream *now* under those names and report a flush
//!   position of at least its own; the walsenders learn a new setting a little later than sessions do;
//! * a promotion takes the next timeline *that the node knows of*: two nodes that were promoted without
//!   knowing of each other are on the same timeline with different content;
//! * a standby whose log left the primary's history may connect, is shown as streaming and reports a flush
//!   position that means nothing;
//! * `pg_rewind` compares timelines of last checkpoints and does nothing where they are the same; but it
//!   recovers a node that was killed first, which adds to that node's log what is in nobody else's;
//! * a standby that received a part of a record has received more than it can replay; it forgets that with a
//!   restart, or with another timeline;
//! * a frozen server accepts connections and carries out what it was sent when it is thawed;
//! * slots live on one server and are not part of a base backup.

mod conf;
mod infrastructure;
mod ledger;
mod node;
mod replication;
mod sql;
mod statement;
mod wal;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{Endpoint, NodeRef, PowerState};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use infrastructure::SimInfrastructure;
pub use sql::SimSql;

use world::World;

/// How long things take, in milliseconds; each is drawn between this and twice as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// A call to the infrastructure.
    pub infra_ms: u64,
    /// Connecting, and each statement.
    pub sql_ms: u64,
    /// `initdb`.
    pub init_ms: u64,
    /// From start to answering.
    pub start_ms: u64,
    /// A base backup.
    pub backup_ms: u64,
    /// A rewind.
    pub rewind_ms: u64,
    /// From `pg_promote` to read-write.
    pub promote_ms: u64,
    /// A fast shutdown.
    pub shutdown_ms: u64,
    /// The checkpoint that a new primary writes by itself.
    pub checkpoint_ms: u64,
    /// One step of replication.
    pub step_ms: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Costs {
            infra_ms: 3,
            sql_ms: 1,
            init_ms: 400,
            start_ms: 80,
            backup_ms: 500,
            rewind_ms: 300,
            promote_ms: 40,
            shutdown_ms: 60,
            checkpoint_ms: 8_000,
            step_ms: 10,
        }
    }
}

/// How often calls and steps go wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chaos {
    /// An infrastructure call is refused.
    pub infra_fails: u32,
    /// An infrastructure call's request, or its answer, is lost: outcome unknown.
    pub infra_unknown: u32,
    /// An infrastructure call is carried out up to half a minute late, also when its caller has given up.
    pub infra_late: u32,
    /// A statement is carried out up to ten seconds late, also when its caller has given up.
    pub sql_late: u32,
    /// A statement's answer is lost.
    pub sql_unknown: u32,
    /// A hint of a node's change is lost.
    pub event_lost: u32,
    /// A preparation (rewind, base backup) fails.
    pub preparation_fails: u32,
    /// Replay on a standby stalls for some seconds (per step).
    pub replay_stalls: u32,
    /// A walreceiver's connection breaks (per step).
    pub link_breaks: u32,
    /// All commits have the size of the control plane's own records, so that histories that went apart meet
    /// again at record boundaries.
    pub equal_records: bool,
    /// A walreceiver that ends does so in the middle of a record.
    pub parts_of_records: u32,
}

/// An end of a network connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A controller, by its number.
    Controller(u8),
    /// The clients.
    Clients,
    /// A node.
    Node(NodeRef),
}

/// What keeps a primary from serving anybody although it answers looks, which are made on old sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sickness {
    /// No login ends.
    NoLogin,
    /// No commit ends.
    NoCommit,
    /// Its files are gone: logins are refused for that.
    Damaged,
}

/// What a lost disk leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The node with an empty disk.
    Disk,
    /// Nothing at all.
    Node,
}

/// The world. Cheap to clone; the clones are one.
#[derive(Clone)]
pub struct SimWorld {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    started: Instant,
    /// Something may have to be stepped again.
    stirred: Notify,
}

/// A world as it was at a moment: there for what it weighs.
pub struct WorldCopy {
    _world: Box<World>,
}

/// What is known of a node from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// Which.
    pub node: NodeRef,
    /// For traces.
    pub label: String,
    /// Whether it runs.
    pub power: PowerState,
    /// It answers and takes writes.
    pub is_primary: bool,
    /// It streams records of the primary, and its log is a part of the primary's.
    pub follows: bool,
    /// It has a complete data directory.
    pub has_data: bool,
    /// Client commits in its log.
    pub commits: usize,
    /// Names of roles and databases, as replayed.
    pub roles: BTreeSet<String>,
    /// Names of databases.
    pub databases: BTreeSet<String>,
}

impl SimWorld {
    /// An empty world, to be made within a tokio runtime. Nothing moves until [`SimWorld::run`] is spawned.
    pub fn new(seed: u64, costs: Costs) -> Self {
        SimWorld {
            shared: Arc::new(Shared {
                world: Mutex::new(World::new(seed, costs)),
                started: Instant::now(),
                stirred: Notify::new(),
            }),
        }
    }

    /// Moves the world on: replication, preparations, promotions, clients. Never returns; to be spawned.
    pub async fn run(self) {
        loop {
            let idle = self.with(|world| world.step());
            if idle {
                self.shared.stirred.notified().await;
            } else {
                let step_ms = self.shared.world.lock().costs.step_ms.max(1);
                tokio::time::sleep(Duration::from_millis(step_ms)).await;
            }
        }
    }

    /// Milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks or changes, at this moment.
    fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let now_ms = self.now_ms();
        let (value, stirred) = {
            let mut world = self.shared.world.lock();
            world.now_ms = now_ms;
            let value = f(&mut world);
            (value, std::mem::take(&mut world.stirred))
        };
        if stirred {
            self.shared.stirred.notify_one();
        }
        value
    }

    /// One more control plane's way into the world.
    pub fn controller(&self) -> SimController {
        let id = self.with(|world| {
            world.controllers += 1;
            world.controllers
        });
        SimController {
            world: self.clone(),
            id,
            alive: Arc::new(Switch::default()),
        }
    }

    /// A copy of everything in it, which takes as much memory as it does.
    pub fn copied(&self) -> WorldCopy {
        WorldCopy {
            _world: Box::new(self.shared.world.lock().clone()),
        }
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl Into<String>) {
        self.with(|world| world.note(line.into()));
    }

    /// What happened, oldest first: each line with its milliseconds.
    pub fn trace(&self) -> Vec<(u64, String)> {
        self.shared.world.lock().trace.lines.iter().cloned().collect()
    }

    /// A hash of the whole trace: the same for two runs that were the same.
    pub fn fingerprint(&self) -> u64 {
        self.shared.world.lock().trace.hash
    }

    /// Promises that were broken.
    pub fn violations(&self) -> Vec<String> {
        self.shared.world.lock().violations.clone()
    }

    /// Sets how often things go wrong by themselves.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.with(|world| world.chaos = chaos);
    }

    /// The infrastructure of this controller answers nothing, or answers again.
    pub fn set_infrastructure_down(&self, controller: u8, down: bool) {
        self.with(|world| {
            world.note(format!("infrastructure of controller {controller} down: {down}"));
            if down {
                world.infra_down.insert(controller);
            } else {
                world.infra_down.remove(&controller);
            }
        });
    }

    /// The infrastructure knows nothing of this node any more, while it knows of others; or it does again.
    /// The node itself goes on.
    pub fn set_hidden(&self, node: NodeRef, hidden: bool) {
        self.with(|world| {
            world.note(format!(
                "{} hidden from the infrastructure: {hidden}",
                world.label(node)
            ));
            if hidden {
                world.hidden.insert(node);
            } else {
                world.hidden.remove(&node);
            }
        });
    }

    /// Clients write about every so many milliseconds to every node of the instance that takes writes; 0:
    /// they stop.
    pub fn set_clients(&self, instance: InstanceId, every_ms: u64) {
        self.with(|world| {
            world.clients.insert(instance, every_ms);
            world.stir(instance);
        });
    }

    /// The instance is named so in traces.
    pub fn name_instance(&self, instance: InstanceId, name: &str) {
        self.with(|world| world.names.insert(instance, name.to_owned()));
    }

    /// From now on the instance promises no more than one writer (k is, or was, 0), or it promises durability
    /// again.
    pub fn expect_asynchronous(&self, instance: InstanceId, asynchronous: bool) {
        self.with(|world| world.ledger(instance).asynchronous = asynchronous);
    }

    /// An operator has given up what cannot be reached.
    pub fn expect_loss(&self, instance: InstanceId, given_up: bool) {
        self.with(|world| world.ledger(instance).given_up = given_up);
    }

    /// The instance's data is to go.
    pub fn expect_deletion(&self, instance: InstanceId) {
        self.with(|world| world.ledger(instance).deleting = true);
    }

    /// The nodes of an instance, in the order of their ids.
    pub fn nodes(&self, instance: InstanceId) -> Vec<NodeReport> {
        self.with(|world| world.reports(instance))
    }

    /// The nodes of an instance in words, for somebody who looks for a fault.
    pub fn describe(&self, instance: InstanceId) -> Vec<String> {
        self.with(|world| world.describe(instance))
    }

    /// Whether a server answers at this address.
    pub fn answers(&self, endpoint: &Endpoint) -> bool {
        self.with(|world| {
            let node = world.at(endpoint).and_then(|node| world.nodes.get(&node));
            node.is_some_and(|node| node.answering(world.now_ms).is_some())
        })
    }

    /// How many commits clients of the instance were told are safe.
    pub fn acknowledged(&self, instance: InstanceId) -> usize {
        self.with(|world| world.ledger(instance).len())
    }

    /// Holds what the instance's primary has against what clients were told, now. Whether there is a primary.
    pub fn verify(&self, instance: InstanceId) -> bool {
        self.with(|world| world.verify(instance))
    }

    /// Kills every process of a node.
    pub fn crash(&self, node: NodeRef) {
        self.with(|world| world.crash(node, "killed"));
    }

    /// Stops every process of a node, without ending it.
    pub fn freeze(&self, node: NodeRef) {
        self.with(|world| world.freeze(node, true));
    }

    /// The server of a node serves no new client from now on, although it answers looks; `None`: it does
    /// again. A start mends it.
    pub fn sicken(&self, node: NodeRef, sickness: Option<Sickness>) {
        self.with(|world| world.sicken(node, sickness));
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, node: NodeRef) {
        self.with(|world| world.freeze(node, false));
    }

    /// A node's disk is lost.
    pub fn lose_disk(&self, node: NodeRef, loss: Loss) {
        self.with(|world| world.lose_disk(node, loss));
    }

    /// A role or database is dropped behind the control plane's back on the instance's primary.
    pub fn drop_behind(&self, instance: InstanceId, name: &str) {
        self.with(|world| world.drop_behind(instance, name));
    }

    /// A role that is none of the control plane's is made on the instance's primary.
    pub fn create_foreign_role(&self, instance: InstanceId, name: &str) {
        self.with(|world| world.create_foreign_role(instance, name));
    }

    /// Nothing passes between two places any more.
    pub fn cut(&self, a: Place, b: Place) {
        self.with(|world| {
            let line = format!("cut {} - {}", world.place(a), world.place(b));
            world.note(line);
            world.cut.insert((a.min(b), a.max(b)));
            world.stir_all();
        });
    }

    /// Everything passes again between two places.
    pub fn join(&self, a: Place, b: Place) {
        self.with(|world| {
            world.cut.remove(&(a.min(b), a.max(b)));
            world.stir_all();
        });
    }

    /// Everything passes everywhere, nothing is frozen, nothing goes wrong by itself.
    pub fn heal(&self) {
        self.with(|world| {
            world.note("all faults end".to_owned());
            world.chaos = Chaos::default();
            world.cut.clear();
            world.infra_down.clear();
            let nodes: Vec<NodeRef> = world.nodes.keys().copied().collect();
            for node in nodes {
                world.freeze(node, false);
                world.sicken(node, None);
            }
            world.stir_all();
        });
    }
}

/// One control plane's way into the world.
#[derive(Clone)]
pub struct SimController {
    world: SimWorld,
    id: u8,
    alive: Arc<Switch>,
}

/// Whether a controller lives, or is paused.
#[derive(Default)]
struct Switch {
    dead: AtomicBool,
    paused_until_ms: AtomicU64,
}

impl SimController {
    /// Its number.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// What it reaches nodes through.
    pub fn infrastructure(&self) -> SimInfrastructure {
        SimInfrastructure::new(self.clone())
    }

    /// What it reaches PostgreSQL through.
    pub fn sql(&self) -> SimSql {
        SimSql::new(self.clone())
    }

    /// The world that it lives in.
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// Ends it: what it does from now on reaches nothing, and it hears nothing. What was on its way arrives.
    pub fn kill(&self) {
        self.alive.dead.store(true, Ordering::SeqCst);
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.alive.dead.load(Ordering::SeqCst)
    }

    /// Nothing that it does reaches anything for so long: it is paused between deciding and acting.
    pub fn pause(&self, ms: u64) {
        let until = self.world.now_ms() + ms;
        self.alive.paused_until_ms.store(until, Ordering::SeqCst);
    }

    /// To be awaited before anything is sent: returns when it may be, never if the controller is dead.
    pub async fn gate(&self) {
        // Ends: a pause is bounded, and a later one is rare.
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = self.alive.paused_until_ms.load(Ordering::SeqCst);
            let now = self.world.now_ms();
            if until <= now {
                return;
            }
            tokio::time::sleep(Duration::from_millis((until - now).min(100))).await;
        }
    }
}
