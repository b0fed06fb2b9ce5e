//! The state of the world, and how it moves on by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{DataState, Endpoint, ExitReason, InfraEvent, NodeRef, PowerState};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::broadcast;

use super::ledger::Ledger;
use super::node::{Power, Server, SimNode, Waiting, exit};
use super::wal::{Catalogue, Database, Disk, Payload, Role, Wal};
use super::{Chaos, Costs, Loss, NodeReport, Place, Sickness};

mod boot;

/// Lines of the trace that are kept; the fingerprint is of all of them.
const TRACE_LINES: usize = 20_000;
/// A client gives up after so long.
const CLIENT_PATIENCE_MS: u64 = 1_000;
/// Hints of nodes' changes that a slow reader may be behind.
const EVENTS: usize = 256;

#[derive(Clone)]
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) rng: StdRng,
    pub(super) costs: Costs,
    pub(super) chaos: Chaos,
    pub(super) nodes: BTreeMap<NodeRef, SimNode>,
    /// What is left of nodes that were removed without their data.
    pub(super) kept: BTreeMap<NodeRef, SimNode>,
    pub(super) addresses: BTreeMap<u32, NodeRef>,
    pub(super) wal: Wal,
    pub(super) cut: BTreeSet<(Place, Place)>,
    pub(super) infra_down: BTreeSet<u8>,
    /// Nodes whose hosts do not answer the infrastructure, while others do.
    pub(super) hidden: BTreeSet<NodeRef>,
    pub(super) clients: BTreeMap<InstanceId, u64>,
    pub(super) ledgers: BTreeMap<InstanceId, Ledger>,
    pub(super) names: BTreeMap<InstanceId, String>,
    pub(super) controllers: u8,
    pub(super) violations: Vec<String>,
    pub(super) trace: Trace,
    pub(super) events: broadcast::Sender<InfraEvent>,
    pub(super) stirred: bool,
    /// Instances in which something goes on.
    active: BTreeSet<InstanceId>,
    next_number: u32,
    next_commit: u64,
    pub(super) next_session: u64,
    boots: u64,
}

#[derive(Clone, Default)]
pub(super) struct Trace {
    pub(super) lines: VecDeque<(u64, String)>,
    pub(super) hash: u64,
}

impl World {
    pub(super) fn new(seed: u64, costs: Costs) -> Self {
        World {
            now_ms: 0,
            rng: StdRng::seed_from_u64(seed),
            costs,
            chaos: Chaos::default(),
            nodes: BTreeMap::new(),
            kept: BTreeMap::new(),
            addresses: BTreeMap::new(),
            wal: Wal::default(),
            cut: BTreeSet::new(),
            infra_down: BTreeSet::new(),
            hidden: BTreeSet::new(),
            clients: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            names: BTreeMap::new(),
            controllers: 0,
            violations: Vec::new(),
            trace: Trace::default(),
            events: broadcast::Sender::new(EVENTS),
            stirred: false,
            active: BTreeSet::new(),
            next_number: 1,
            next_commit: 1,
            next_session: 1,
            boots: 0,
        }
    }

    pub(super) fn note(&mut self, line: String) {
        let mut hasher = DefaultHasher::new();
        (self.trace.hash, self.now_ms, &line).hash(&mut hasher);
        self.trace.hash = hasher.finish();
        self.trace.lines.push_back((self.now_ms, line));
        if self.trace.lines.len() > TRACE_LINES {
            self.trace.lines.pop_front();
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.note(format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.random_range(0..1_000) < per_mille
    }

    /// Between this and twice as much.
    pub(super) fn about(&mut self, ms: u64) -> u64 {
        if ms == 0 {
            0
        } else {
            self.rng.random_range(ms..=ms * 2)
        }
    }

    pub(super) fn place(&self, place: Place) -> String {
        match place {
            Place::Controller(id) => format!("controller {id}"),
            Place::Clients => "clients".to_owned(),
            Place::Node(node) => self.label(node),
        }
    }

    pub(super) fn label(&self, node: NodeRef) -> String {
        self.nodes
            .get(&node)
            .map_or_else(|| node.node.to_string(), |n| n.label.clone())
    }

    pub(super) fn ledger(&mut self, instance: InstanceId) -> &mut Ledger {
        self.ledgers.entry(instance).or_default()
    }

    pub(super) fn is_cut(&self, a: Place, b: Place) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Something changed in this instance: it has to be stepped.
    pub(super) fn stir(&mut self, instance: InstanceId) {
        if self.active.insert(instance) {
            // While nothing happened nothing was counted.
            let now_ms = self.now_ms;
            for (_, node) in self.instance_mut(instance) {
                if let Some((server, _)) = node.running() {
                    for sender in server.senders.values_mut() {
                        sender.last_reply_ms = now_ms;
                    }
                    if let Some(receiver) = &mut server.receiver {
                        receiver.last_message_ms = now_ms;
                    }
                }
            }
        }
        self.stirred = true;
    }

    pub(super) fn stir_all(&mut self) {
        let instances: BTreeSet<InstanceId> = self.nodes.keys().map(|node| node.instance).collect();
        for instance in instances {
            self.stir(instance);
        }
    }

    pub(super) fn is_active(&self, instance: InstanceId) -> bool {
        self.active.contains(&instance)
    }

    pub(super) fn refs(&self, instance: InstanceId) -> Vec<NodeRef> {
        self.nodes
            .range(bounds(instance))
            .map(|(node, _)| *node)
            .collect()
    }

    fn instance_mut(&mut self, instance: InstanceId) -> impl Iterator<Item = (&NodeRef, &mut SimNode)> {
        self.nodes.range_mut(bounds(instance))
    }

    pub(super) fn at(&self, endpoint: &Endpoint) -> Option<NodeRef> {
        let address: std::net::Ipv4Addr = endpoint.host.parse().ok()?;
        let number = u32::from(address) & 0x00ff_ffff;
        self.addresses.get(&number).copied()
    }

    pub(super) fn add_node(&mut self, node: NodeRef, name: &str) -> &mut SimNode {
        let instance = self
            .names
            .get(&node.instance)
            .cloned()
            .unwrap_or_else(|| node.instance.to_string());
        if let Some(kept) = self.kept.remove(&node) {
            self.addresses.insert(kept.number, node);
            self.nodes.entry(node).or_insert(kept);
        }
        let number = self.next_number;
        self.nodes.entry(node).or_insert_with(|| {
            self.next_number += 1;
            self.addresses.insert(number, node);
            SimNode::new(format!("{instance}/{name}"), number)
        })
    }

    /// Says that a node changed.
    pub(super) fn hint(&mut self, node: NodeRef) {
        if !self.chance(self.chaos.event_lost) {
            // Nobody may be listening.
            let _ = self.events.send(InfraEvent::NodeChanged(node));
        }
    }

    pub(super) fn power(&self, node: &SimNode) -> PowerState {
        match &node.power {
            Power::Off => PowerState::Off,
            Power::Preparing(_) => PowerState::Preparing,
            Power::Running(_) if node.frozen => PowerState::Frozen,
            Power::Running(_) => PowerState::Running,
            Power::Exited(exit) => PowerState::Exited(exit.clone()),
        }
    }

    // ---------------------------------------------------------------- faults

    pub(super) fn crash(&mut self, node: NodeRef, how: &str) {
        let Some(found) = self.nodes.get_mut(&node).filter(|n| n.is_on()) else {
            return;
        };
        let label = found.label.clone();
        found.kill(Some(exit(ExitReason::Died, how)));
        self.note(format!("{label} dies ({how})"));
        self.stir(node.instance);
        self.hint(node);
    }

    pub(super) fn freeze(&mut self, node: NodeRef, frozen: bool) {
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if found.frozen == frozen || (frozen && found.server().is_none()) {
            return;
        }
        found.frozen = frozen;
        let label = found.label.clone();
        self.note(format!("{label} {}", if frozen { "freezes" } else { "thaws" }));
        self.stir(node.instance);
        self.hint(node);
    }

    pub(super) fn sicken(&mut self, node: NodeRef, sickness: Option<Sickness>) {
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        let label = found.label.clone();
        let Some((server, _)) = found.running() else {
            return;
        };
        if server.sickness == sickness {
            return;
        }
        server.sickness = sickness;
        self.note(format!("{label} serves clients as ever but for {sickness:?}"));
        self.stir(node.instance);
    }

    pub(super) fn lose_disk(&mut self, node: NodeRef, loss: Loss) {
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        let label = found.label.clone();
        found.kill(Some(exit(ExitReason::Died, "its disk is lost")));
        found.disk = None;
        found.seed = None;
        found.boot = None;
        found.data = DataState::Empty;
        if loss == Loss::Node {
            self.nodes.remove(&node);
            self.addresses.retain(|_, owner| *owner != node);
        }
        self.note(format!("{label} loses its disk ({loss:?})"));
        self.stir(node.instance);
        self.hint(node);
    }

    fn change_catalogue(&mut self, instance: InstanceId, change: impl Fn(&mut Catalogue)) {
        let now_ms = self.now_ms;
        for node in self.refs(instance) {
            let Some(found) = self.nodes.get_mut(&node) else {
                continue;
            };
            if found.answering(now_ms).is_none_or(|server| server.in_recovery) {
                continue;
            }
            if let Some((server, disk)) = found.running() {
                let mut catalogue = (*server.catalogue).clone();
                change(&mut catalogue);
                write_catalogue(&mut self.wal, server, disk, catalogue);
            }
        }
        self.stir(instance);
    }

    pub(super) fn drop_behind(&mut self, instance: InstanceId, name: &str) {
        self.note(format!("{name} is dropped behind the control plane's back"));
        self.change_catalogue(instance, |catalogue| {
            catalogue.roles.remove(name);
            catalogue.databases.remove(name);
        });
    }

    pub(super) fn create_foreign_role(&mut self, instance: InstanceId, name: &str) {
        self.change_catalogue(instance, |catalogue| {
            let role = Role {
                oid: catalogue.new_oid(),
                verifier: String::new(),
                can_login: true,
            };
            catalogue.roles.insert(name.to_owned(), role);
            let database = Database {
                extensions: Default::default(),
                owner: name.to_owned(),
                oid: catalogue.new_oid(),
                public_connects: true,
                makers: [name.to_owned()].into(),
            };
            catalogue.databases.insert(name.to_owned(), database);
        });
    }

    // ---------------------------------------------------------------- preparing and starting

    /// Data of a node is about to be deleted or replaced: not if it is the last copy of something that
    /// clients were told is safe.
    pub(super) fn before_destroying(&mut self, node: NodeRef, why: &str) {
        let Some(disk) = self.nodes.get(&node).and_then(|n| n.disk.as_ref()) else {
            return;
        };
        let mine: BTreeSet<u64> = self.wal.commits(&disk.log).collect();
        let elsewhere = self.held_elsewhere(node);
        let ledger = self.ledgers.entry(node.instance).or_default();
        if ledger.deleting || ledger.given_up {
            return;
        }
        let last = ledger.counted(&mine).find(|commit| !elsewhere.contains(commit));
        if let Some(commit) = last {
            let label = self.label(node);
            self.violation(format!(
                "{why} destroys the last copy of acknowledged commit {commit} on {label}"
            ));
        }
    }

    /// The commits on complete disks of the instance's other nodes.
    pub(super) fn held_elsewhere(&self, node: NodeRef) -> BTreeSet<u64> {
        self.nodes
            .range(bounds(node.instance))
            .filter(|(other, n)| **other != node && n.data == DataState::Initialised)
            .filter_map(|(_, n)| n.disk.as_ref())
            .flat_map(|disk| self.wal.commits(&disk.log))
            .collect()
    }

    /// Moves everything on to this moment. Whether nothing is left to be moved until something is stirred.
    pub(super) fn step(&mut self) -> bool {
        for instance in self.active.clone() {
            let nodes = self.refs(instance);
            for node in &nodes {
                self.preparation_due(*node);
                self.step_server(*node);
            }
            for node in &nodes {
                self.step_replication(*node);
            }
            for node in &nodes {
                self.step_clients(*node);
            }
            if !self.is_busy(instance) {
                self.active.remove(&instance);
            }
        }
        self.active.is_empty()
    }

    /// Something of the instance goes on without being stirred.
    fn is_busy(&self, instance: InstanceId) -> bool {
        let disturbed = !self.cut.is_empty() || self.chaos != Chaos::default();
        let writing = self.clients.get(&instance).is_some_and(|every| *every > 0);
        if disturbed || writing {
            return true;
        }
        self.nodes.range(bounds(instance)).any(|(_, node)| {
            let (Power::Running(server), Some(disk)) = (&node.power, &node.disk) else {
                return node.is_on();
            };
            let wants = disk.standby_signal
                && server
                    .conf
                    .primary_conninfo
                    .as_deref()
                    .is_some_and(|c| !c.is_empty());
            node.frozen
                || server.ready_at_ms > self.now_ms
                || server.promote_at_ms.is_some()
                || server.checkpoint_at_ms.is_some()
                || server.stopping.is_some()
                || !server.waiting.is_empty()
                || server.sync_names_at_ms > 0
                || (server.in_recovery && server.replayed < disk.log.len())
                || (wants && !self.is_level(server, disk))
                || !self.senders_are_level(server, disk)
        })
    }

    fn step_server(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let stalls = self.chance(self.chaos.replay_stalls);
        let stall_ms = if stalls {
            self.rng.random_range(100..4_000)
        } else {
            0
        };
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if found.frozen {
            return;
        }
        let label = found.label.clone();
        let Some((server, disk)) = found.running() else {
            return;
        };
        if server.sync_names_at_ms > 0 && server.sync_names_at_ms <= now_ms {
            server.sync_names_at_ms = 0;
            server.sync_names = server.conf.synchronous_standby_names.clone().unwrap_or_default();
        }
        if server.in_recovery {
            if stalls {
                server.replay_stalled_until_ms = now_ms + stall_ms;
            }
            if server.replay_stalled_until_ms <= now_ms && server.replayed < disk.log.len() {
                server.replayed = disk.log.len();
                server.catalogue = self.wal.catalogue(&disk.log);
            }
        }
        if server.checkpoint_at_ms.is_some_and(|at| at <= now_ms) {
            server.checkpoint_at_ms = None;
            disk.checkpoint_timeline = disk.timeline;
            disk.checkpoint_redo = self.wal.end(&disk.log);
        }
        if server.promote_at_ms.is_some_and(|at| at <= now_ms) && server.in_recovery {
            if server.replayed < disk.log.len() {
                return; // A promotion replays everything that was received first.
            }
            self.promote(node, &label);
        }
    }

    fn promote(&mut self, node: NodeRef, label: &str) {
        let checkpoint_ms = self.about(self.costs.checkpoint_ms);
        let now_ms = self.now_ms;
        let Some((server, disk)) = self.nodes.get_mut(&node).and_then(SimNode::running) else {
            return;
        };
        server.promote_at_ms = None;
        server.in_recovery = false;
        server.receiver = None;
        server.checked = false;
        disk.standby_signal = false;
        let end = self.wal.end(&disk.log);
        disk.history.push((disk.timeline, end));
        disk.timeline = disk.timeline.max(disk.known_timeline) + 1;
        disk.known_timeline = disk.timeline;
        self.wal.append(disk, 104, Payload::Nothing);
        server.replayed = disk.log.len();
        server.checkpoint_at_ms = Some(now_ms + checkpoint_ms);
        let line = format!(
            "{label} is promoted (epoch {}, timeline {}, at {end}, waits for {:?})",
            server.conf.epoch, disk.timeline, server.sync_names
        );
        self.note(line);
        self.hold_against_ledger(node);
    }

    /// A primary's log against what clients were told.
    fn hold_against_ledger(&mut self, node: NodeRef) {
        let elsewhere = self.held_elsewhere(node);
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        let label = found.label.clone();
        let Some((server, disk)) = found.running() else {
            return;
        };
        server.checked = true;
        let epoch = server.conf.epoch.0;
        let held: BTreeSet<u64> = self.wal.commits(&disk.log).collect();
        let broken = self
            .ledgers
            .entry(node.instance)
            .or_default()
            .serves(node, epoch, held, &elsewhere, &label);
        if let Some(broken) = broken {
            self.violation(broken);
        }
    }

    /// Holds every primary against the ledger.
    pub(super) fn verify(&mut self, instance: InstanceId) -> bool {
        let now_ms = self.now_ms;
        let serves = |n: &SimNode| n.answering(now_ms).is_some_and(|server| !server.in_recovery);
        let primaries: Vec<NodeRef> = self
            .nodes
            .range(bounds(instance))
            .filter(|(_, n)| serves(n))
            .map(|(node, _)| *node)
            .collect();
        for node in &primaries {
            self.hold_against_ledger(*node);
        }
        !primaries.is_empty()
    }

    fn step_clients(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let every_ms = self.clients.get(&node.instance).copied().unwrap_or(0);
        let reachable = !self.is_cut(Place::Clients, Place::Node(node));
        let Some(found) = self.nodes.get(&node) else {
            return;
        };
        let Some(server) = found.answering(now_ms) else {
            return;
        };
        if server.in_recovery || !server.catalogue.has_replication_role {
            return;
        }
        if !server.checked {
            self.hold_against_ledger(node);
        }
        if every_ms > 0 && reachable {
            let pause_ms = self.about(every_ms);
            let bytes = if self.chaos.equal_records {
                120
            } else {
                8 * self.rng.random_range(8..1_000)
            };
            let commit = self.next_commit;
            if let Some((server, disk)) = self.nodes.get_mut(&node).and_then(SimNode::running)
                && server.next_commit_at_ms <= now_ms
                && server.sickness.is_none()
            {
                self.next_commit += 1;
                server.next_commit_at_ms = now_ms + pause_ms;
                let end = self.wal.append(disk, bytes, Payload::Commit(commit));
                server.replayed = disk.log.len();
                server.waiting.push(Waiting {
                    commit,
                    record: disk.log.last().copied().unwrap_or_default(),
                    end,
                    since_ms: now_ms,
                });
            }
        }
        self.release_waiting(node, reachable);
    }

    fn release_waiting(&mut self, node: NodeRef, reachable: bool) {
        let now_ms = self.now_ms;
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        let label = found.label.clone();
        let Some((server, _)) = found.running() else {
            return;
        };
        if server.waiting.is_empty() {
            return;
        }
        let rule = dbaas_core::config::parse_sync_names(&server.sync_names);
        let epoch = server.conf.epoch.0;
        let mut released: Vec<(Waiting, Vec<NodeRef>)> = Vec::new();
        let senders = &server.senders;
        server.waiting.retain(|waiting| {
            let Some((k, names)) = &rule else { return true };
            let holders: Vec<NodeRef> = senders
                .iter()
                .filter(|(_, sender)| sender.flush >= waiting.end && names.contains(&sender.name))
                .map(|(standby, _)| *standby)
                .collect();
            if holders.len() >= usize::from(*k) {
                let holders = if *k == 0 { Vec::new() } else { holders };
                released.push((*waiting, holders));
                return false;
            }
            now_ms.saturating_sub(waiting.since_ms) < CLIENT_PATIENCE_MS
        });
        for (waiting, holders) in released {
            if !reachable {
                continue; // Nobody is told.
            }
            for holder in holders {
                let holds = self
                    .nodes
                    .get(&holder)
                    .and_then(|n| n.disk.as_ref())
                    .is_some_and(|disk| disk.log.contains(&waiting.record));
                // A disk that is lost in between had it.
                let gone = self.nodes.get(&holder).is_none_or(|n| n.disk.is_none());
                if !holds && !gone {
                    let other = self.label(holder);
                    self.violation(format!(
                        "commit {} on {label} was acknowledged by {other}, which does not have it",
                        waiting.commit
                    ));
                }
            }
            let broken = self.ledgers.entry(node.instance).or_default().acknowledge(
                waiting.commit,
                epoch,
                node,
                &label,
            );
            if let Some(broken) = broken {
                self.violation(broken);
            }
        }
    }

    // ---------------------------------------------------------------- reports

    pub(super) fn reports(&self, instance: InstanceId) -> Vec<NodeReport> {
        let primary_log = self
            .nodes
            .range(bounds(instance))
            .filter(|(_, n)| n.answering(self.now_ms).is_some_and(|server| !server.in_recovery))
            .find_map(|(_, n)| n.disk.as_ref())
            .map(|disk| disk.log.as_slice());
        let report = |(node, n): (&NodeRef, &SimNode)| {
            let log = n.disk.as_ref().map_or(&[][..], |disk| disk.log.as_slice());
            let server = n.answering(self.now_ms);
            let streams = server.is_some_and(|server| {
                server
                    .receiver
                    .as_ref()
                    .is_some_and(|r| matches!(r.flow, super::node::Flow::Records { .. }))
            });
            let catalogue = server.map(|server| server.catalogue.clone()).unwrap_or_default();
            NodeReport {
                node: *node,
                label: n.label.clone(),
                power: self.power(n),
                is_primary: server.is_some_and(|server| !server.in_recovery),
                follows: streams && primary_log.is_some_and(|primary| primary.starts_with(log)),
                has_data: n.data == DataState::Initialised,
                commits: self.wal.commits(log).count(),
                roles: catalogue.roles.keys().cloned().collect(),
                databases: catalogue.databases.keys().cloned().collect(),
            }
        };
        self.nodes.range(bounds(instance)).map(report).collect()
    }
}

impl World {
    pub(super) fn describe(&self, instance: InstanceId) -> Vec<String> {
        let line = |(node, n): (&NodeRef, &SimNode)| {
            let disk = n.disk.as_ref().map(|disk| {
                format!(
                    "timeline {} (knows {}), history {:?}, at {}, epoch {}, slots {:?}",
                    disk.timeline,
                    disk.known_timeline,
                    disk.history,
                    self.wal.end(&disk.log),
                    disk.conf.epoch,
                    disk.slots
                )
            });
            let server = n.server().map(|server| {
                format!(
                    "recovery {}, mark {}, replayed {} of {}, receiver {:?}, senders {:?}, waits for {:?}, waiting {}",
                    server.in_recovery,
                    server.catalogue.history,
                    server.replayed,
                    n.disk.as_ref().map_or(0, |disk| disk.log.len()),
                    server.receiver,
                    server.senders,
                    server.sync_names,
                    server.waiting.len()
                )
            });
            format!(
                "{} {}: {:?} {:?} {disk:?} {server:?}",
                n.label,
                node.node,
                self.power(n),
                n.data
            )
        };
        self.nodes.range(bounds(instance)).map(line).collect()
    }
}

/// Writes a primary's new catalogue to its log.
pub(super) fn write_catalogue(wal: &mut Wal, server: &mut Server, disk: &mut Disk, catalogue: Catalogue) {
    let catalogue = std::sync::Arc::new(catalogue);
    // All of the same size: two histories that went apart may have records that end at the same positions.
    wal.append(disk, 120, Payload::Catalogue(std::sync::Arc::clone(&catalogue)));
    server.catalogue = catalogue;
    server.replayed = disk.log.len();
}

/// The nodes of one instance.
pub(super) fn bounds(instance: InstanceId) -> std::ops::RangeInclusive<NodeRef> {
    let node = |id: u128| NodeRef {
        instance,
        node: dbaas_core::id::NodeId::from_uuid(uuid::Uuid::from_u128(id)),
    };
    node(0)..=node(u128::MAX)
}
