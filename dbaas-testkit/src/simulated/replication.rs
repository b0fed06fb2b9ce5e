//! Streaming replication, base backups and rewinds between simulated nodes.

use dbaas_core::boot::ReplicationSource;
use dbaas_core::config::PrimaryConninfo;
use dbaas_core::infrastructure::{DataState, ExitReason, NodeRef};
use rand::Rng as _;

use super::Place;
use super::node::{Flow, Receiver, Sender, Server, SimNode, Stopping};
use super::wal::{Disk, Payload, RecordId, SEGMENT_BYTES, Wal};
use super::world::World;

/// `wal_receiver_timeout`.
const RECEIVER_TIMEOUT_MS: u64 = 3_000;
/// `wal_sender_timeout`.
const SENDER_TIMEOUT_MS: u64 = 5_000;
/// `wal_retrieve_retry_interval`.
const RETRY_MS: u64 = 50;

impl World {
    /// One node's receiver, its senders, and its shutdown.
    pub(super) fn step_replication(&mut self, node: NodeRef) {
        self.step_receiver(node);
        self.step_senders(node);
        self.step_shutdown(node);
    }

    fn step_receiver(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let breaks = self.chance(self.chaos.link_breaks);
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if found.frozen {
            return;
        }
        let boot = found.boot_id().to_owned();
        let Some((server, _)) = found.running() else {
            return;
        };
        if !server.in_recovery || server.ready_at_ms > now_ms {
            return;
        }
        let conninfo = server.conf.primary_conninfo.clone().unwrap_or_default();
        let slot = server.conf.primary_slot_name.clone().unwrap_or_default();
        if let Some(receiver) = &server.receiver {
            let other = receiver.conninfo != conninfo || receiver.slot != slot;
            let silent = now_ms.saturating_sub(receiver.last_message_ms) > RECEIVER_TIMEOUT_MS;
            if other || silent || breaks || server.promote_at_ms.is_some() {
                let source = receiver.source;
                self.end_receiver(node);
                self.tell_sender_gone(source, node);
                return;
            }
            let receiver = receiver.clone();
            self.receive(node, &boot, receiver);
        } else if !conninfo.is_empty() && server.connect_at_ms <= now_ms && server.promote_at_ms.is_none() {
            server.connect_at_ms = now_ms + RETRY_MS;
            self.connect(node, &boot, &conninfo, &slot);
        }
    }

    /// The walreceiver ends, maybe in the middle of a record: what it received of that is flushed, and cannot
    /// be replayed.
    fn end_receiver(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let in_the_middle = self.chance(self.chaos.parts_of_records);
        let Some((server, disk)) = self.nodes.get_mut(&node).and_then(SimNode::running) else {
            return;
        };
        server.connect_at_ms = now_ms + RETRY_MS;
        let Some(receiver) = server.receiver.take() else {
            return;
        };
        let Flow::Records { next } = receiver.flow else {
            return;
        };
        if !in_the_middle {
            return;
        }
        let end = self.wal.end(&disk.log);
        // Of what its source has not sent; or of what nobody will ever see whole, because its source dies
        // before all of it is written there.
        let next = self
            .nodes
            .get(&receiver.source)
            .and_then(|n| n.disk.as_ref())
            .and_then(|disk| disk.log.get(next))
            .map_or(end + 8_000, |id| self.wal.record(*id).end);
        let received = self.rng.random_range(end + 1..next.max(end + 2));
        let label = self.label(node);
        self.note(format!("{label} received a part of a record, up to {received}"));
        if let Some((server, _)) = self.nodes.get_mut(&node).and_then(SimNode::running) {
            server.received = Some(received);
        }
    }

    /// The walreceiver ended and its connection is closed.
    fn tell_sender_gone(&mut self, source: NodeRef, node: NodeRef) {
        if self.is_cut(Place::Node(source), Place::Node(node)) {
            return;
        }
        if let Some(found) = self.nodes.get_mut(&source)
            && !found.frozen
            && let Some((server, _)) = found.running()
        {
            server.senders.remove(&node);
        }
    }

    fn connect(&mut self, node: NodeRef, boot: &str, conninfo: &str, slot: &str) {
        let now_ms = self.now_ms;
        let Ok(target) = PrimaryConninfo::parse(conninfo) else {
            return;
        };
        let endpoint = dbaas_core::infrastructure::Endpoint {
            host: target.host,
            port: target.port,
        };
        let Some(source) = self.at(&endpoint).filter(|source| *source != node) else {
            return;
        };
        if self.is_cut(Place::Node(source), Place::Node(node)) {
            return;
        }
        let Some(found) = self.nodes.get(&source) else {
            return;
        };
        let Some(server) = found.answering(now_ms) else {
            return;
        };
        let Some(disk) = &found.disk else { return };
        if !server.catalogue.has_replication_role || disk.slots.get(slot) != Some(&false) {
            return;
        }
        if server
            .senders
            .iter()
            .any(|(other, sender)| sender.slot == slot && *other != node)
            || server.senders.get(&node).is_some_and(|s| s.standby_boot == boot)
        {
            return; // The slot is in use.
        }
        let source_boot = found.boot_id().to_owned();
        let Some(mine) = self.nodes.get(&node).and_then(|n| n.disk.as_ref()) else {
            return;
        };
        let Some(flow) = flow(&self.wal, mine, disk) else {
            return;
        };
        let (known, end) = (disk.known_timeline.max(disk.timeline), self.wal.end(&mine.log));
        // What it has of another timeline's last record does not count on this one.
        let same_timeline = mine.timeline == disk.timeline;
        if flow == Flow::Stuck {
            let line = format!(
                "{} connects to {} and gets nowhere: its log is of another history",
                self.label(node),
                self.label(source)
            );
            self.note(line);
        }
        let Some((server, disk)) = self.nodes.get_mut(&node).and_then(SimNode::running) else {
            return;
        };
        disk.known_timeline = disk.known_timeline.max(known);
        let before = server.received.filter(|_| same_timeline);
        server.received = Some(before.unwrap_or(0).max(end));
        server.receiver = Some(Receiver {
            source,
            source_boot,
            conninfo: conninfo.to_owned(),
            slot: slot.to_owned(),
            flow,
            last_message_ms: now_ms,
        });
        let sender = Sender {
            name: target.application_name,
            slot: slot.to_owned(),
            flush: end,
            replay: end,
            last_reply_ms: now_ms,
            standby_boot: boot.to_owned(),
        };
        if let Some((server, _)) = self.nodes.get_mut(&source).and_then(SimNode::running) {
            server.senders.insert(node, sender);
        }
    }

    /// One step of an established connection.
    fn receive(&mut self, node: NodeRef, boot: &str, receiver: Receiver) {
        let now_ms = self.now_ms;
        let cut = self.is_cut(Place::Node(receiver.source), Place::Node(node));
        let late = self.rng.random_range(0..10) == 0;
        let source = self.nodes.get(&receiver.source);
        let same_start = source.is_some_and(|n| n.boot_id() == receiver.source_boot && n.server().is_some());
        if cut || source.is_some_and(|n| n.frozen) {
            return; // Silence.
        }
        let alive = same_start
            && source
                .and_then(SimNode::server)
                .is_some_and(|server| server.senders.get(&node).is_some_and(|s| s.standby_boot == boot));
        let Some(source) = source.filter(|_| alive) else {
            // The connection was closed from the other side.
            self.end_receiver(node);
            return;
        };
        let Some(source_disk) = &source.disk else { return };
        let (new, ancestry): (Vec<RecordId>, _) = match receiver.flow {
            Flow::Records { next } if !late => (
                source_disk.log.get(next..).unwrap_or_default().to_vec(),
                (source_disk.timeline, source_disk.history.clone()),
            ),
            _ => (Vec::new(), (source_disk.timeline, Vec::new())),
        };
        // What is reported is what was flushed the step before.
        let Some((server, disk)) = self.nodes.get_mut(&node).and_then(SimNode::running) else {
            return;
        };
        let flush = self.wal.end(&disk.log);
        let replay = self.wal.end(&disk.log[..server.replayed.min(disk.log.len())]);
        if let Some(mine) = &mut server.receiver {
            mine.last_message_ms = now_ms;
            if let Flow::Records { next } = &mut mine.flow {
                *next += new.len();
            }
        }
        if let Some(last) = new.last() {
            let timeline = self.wal.record(*last).timeline;
            if timeline > disk.timeline {
                let (source_timeline, history) = ancestry;
                disk.history = history;
                disk.timeline = timeline;
                disk.known_timeline = disk.known_timeline.max(source_timeline);
            }
            disk.log.extend(new);
            server.received = Some(self.wal.end(&disk.log));
        }
        if let Some((server, _)) = self.nodes.get_mut(&receiver.source).and_then(SimNode::running)
            && let Some(sender) = server.senders.get_mut(&node)
        {
            sender.flush = flush;
            sender.replay = replay;
            sender.last_reply_ms = now_ms;
        }
    }

    fn step_senders(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let Some(server) = self
            .nodes
            .get(&node)
            .filter(|n| !n.frozen)
            .and_then(SimNode::server)
        else {
            return;
        };
        let ended: Vec<NodeRef> = server
            .senders
            .iter()
            .filter(|(standby, sender)| {
                let silent = now_ms.saturating_sub(sender.last_reply_ms) > SENDER_TIMEOUT_MS;
                let cut = self.is_cut(Place::Node(node), Place::Node(**standby));
                let other = self.nodes.get(standby);
                let there = other.is_some_and(|n| n.server().is_some() && n.boot_id() == sender.standby_boot);
                // A process that ended closes its connections; a machine that cannot be reached does not.
                silent || (!there && !cut)
            })
            .map(|(standby, _)| *standby)
            .collect();
        if let Some((server, _)) = self.nodes.get_mut(&node).and_then(SimNode::running) {
            for standby in ended {
                server.senders.remove(&standby);
            }
        }
    }

    /// A fast shutdown: ends when every connected standby has everything, and at the deadline at the latest.
    fn step_shutdown(&mut self, node: NodeRef) {
        let now_ms = self.now_ms;
        let Some(found) = self.nodes.get(&node) else {
            return;
        };
        let (Some(server), Some(disk)) = (found.server(), &found.disk) else {
            return;
        };
        let Some(Stopping {
            earliest_ms,
            latest_ms,
        }) = server.stopping
        else {
            return;
        };
        let end = self.wal.end(&disk.log);
        let sent = server.senders.values().all(|sender| sender.flush >= end);
        let done = !found.frozen && now_ms >= earliest_ms && (sent || server.in_recovery);
        if done || now_ms >= latest_ms {
            let label = found.label.clone();
            if let Some(found) = self.nodes.get_mut(&node) {
                if let Some((server, disk)) = found.running() {
                    if !server.in_recovery {
                        disk.checkpoint_timeline = disk.timeline;
                        disk.checkpoint_redo = end;
                    }
                    disk.clean = done;
                }
                found.kill(None);
            }
            self.note(format!("{label} is shut down"));
            self.hint(node);
        }
    }

    /// Begins a fast shutdown.
    pub(super) fn shut_down(&mut self, node: NodeRef, deadline_ms: u64) {
        let earliest_ms = self.now_ms + self.about(self.costs.shutdown_ms);
        let latest_ms = self.now_ms + deadline_ms.max(1);
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if let Some((server, disk)) = found.running() {
            if server.stopping.is_none() {
                server.stopping = Some(Stopping {
                    earliest_ms,
                    latest_ms,
                });
                server.sessions.clear();
                server.waiting.clear();
                if !server.in_recovery {
                    // The shutdown checkpoint, which standbys receive.
                    self.wal.append(disk, 120, Payload::Nothing);
                    server.replayed = disk.log.len();
                }
            }
        } else if found.is_on() {
            found.kill(None);
        }
        self.stir(node.instance);
    }

    /// Nothing is under way from this standby's source.
    pub(super) fn is_level(&self, server: &Server, disk: &Disk) -> bool {
        let Some(receiver) = &server.receiver else {
            return false;
        };
        let Some(source) = self.nodes.get(&receiver.source) else {
            return false;
        };
        let wanted = server.conf.primary_conninfo.as_deref() == Some(&receiver.conninfo);
        let end = source.disk.as_ref().map_or(0, |disk| disk.log.len());
        let alive = !source.frozen && source.server().is_some() && source.boot_id() == receiver.source_boot;
        wanted && alive && receiver.flow == Flow::Records { next: end } && server.replayed == disk.log.len()
    }

    /// Every standby has said that it has everything.
    pub(super) fn senders_are_level(&self, server: &Server, disk: &Disk) -> bool {
        let end = self.wal.end(&disk.log);
        server.senders.iter().all(|(standby, sender)| {
            let there = self
                .nodes
                .get(standby)
                .is_some_and(|n| n.server().is_some() && n.boot_id() == sender.standby_boot);
            there && sender.flush == end && sender.replay == end
        })
    }

    fn source_of(&self, node: NodeRef, source: &ReplicationSource) -> Option<(NodeRef, &SimNode)> {
        let found = self.at(&source.endpoint)?;
        let cut = self.is_cut(Place::Node(found), Place::Node(node));
        let n = self.nodes.get(&found)?;
        let serves = n
            .answering(self.now_ms)
            .is_some_and(|server| server.catalogue.has_replication_role);
        (found.instance == node.instance && serves && !cut).then_some((found, n))
    }

    /// Whether a base backup from there would begin now.
    pub(super) fn is_sent_by(&self, node: NodeRef, source: &ReplicationSource) -> bool {
        self.source_of(node, source).is_some()
    }

    pub(super) fn copy_base_backup(
        &mut self,
        node: NodeRef,
        source: &ReplicationSource,
        slot: &str,
    ) -> Result<(), ExitReason> {
        let failed = ExitReason::PreparationFailed;
        let (_, from) = self.source_of(node, source).ok_or(failed)?;
        let disk = from.disk.as_ref().ok_or(failed)?;
        if disk.slots.get(slot) != Some(&false) {
            return Err(failed);
        }
        let copy = disk.copied();
        if self
            .nodes
            .get(&node)
            .is_some_and(|n| n.data == DataState::Initialised)
        {
            self.before_destroying(node, "a base backup");
        }
        let found = self.nodes.get_mut(&node).ok_or(failed)?;
        found.disk = Some(copy);
        found.data = DataState::Initialised;
        Ok(())
    }

    pub(super) fn rewind(
        &mut self,
        node: NodeRef,
        source: &ReplicationSource,
        fails: bool,
    ) -> Result<(), ExitReason> {
        let failed = ExitReason::PreparationFailed;
        // Nothing is touched before the source has answered.
        let (_, from) = self.source_of(node, source).ok_or(failed)?;
        let theirs = from.disk.as_ref().ok_or(failed)?.copied();
        let label = self.label(node);
        let found = self.nodes.get_mut(&node).ok_or(failed)?;
        if found.data != DataState::Initialised {
            return Err(failed);
        }
        let Some(mine) = found.disk.as_mut() else {
            return Err(failed);
        };
        if mine.system() != theirs.system() {
            return Err(ExitReason::CannotRewind);
        }
        let recovered = self.wal.recover(mine);
        if mine.timeline == theirs.checkpoint_timeline {
            self.note(format!(
                "{label}: rewind finds the same timeline and does nothing"
            ));
            return self.nothing_rewound(node, recovered);
        }
        let end = self.wal.end(&mine.log);
        let their_end = self.wal.end(&theirs.log);
        let left_at = theirs.end_of_timeline(mine.timeline, their_end);
        let common =
            match left_at {
                Some(left_at) => left_at.min(end),
                // The newest timeline that both were on.
                None => match mine.history.iter().rev().find_map(|(timeline, left)| {
                    Some((*left).min(theirs.end_of_timeline(*timeline, their_end)?))
                }) {
                    Some(common) => common,
                    None => return Err(ExitReason::CannotRewind),
                },
            };
        if left_at.is_some() && end <= common {
            self.note(format!("{label}: rewind finds nothing to rewind"));
            return self.nothing_rewound(node, recovered);
        }
        self.before_destroying(node, "a rewind");
        let found = self.nodes.get_mut(&node).ok_or(failed)?;
        if fails {
            found.data = DataState::Incomplete;
            found.disk = None;
            return Err(ExitReason::CannotRewind);
        }
        found.disk = Some(theirs);
        self.note(format!("{label} is rewound to {common}"));
        Ok(())
    }

    /// `pg_rewind` did nothing, or no more than recover the node: then its log ends with what is in nobody
    /// else's.
    fn nothing_rewound(&mut self, node: NodeRef, recovered: bool) -> Result<(), ExitReason> {
        if !recovered {
            return Ok(());
        }
        self.before_destroying(node, "a rewind that only recovered it");
        if let Some(found) = self.nodes.get_mut(&node) {
            found.data = DataState::Incomplete;
        }
        Err(ExitReason::CannotRewind)
    }
}

/// How a standby's stream would go; `None`: the server refuses it.
fn flow(wal: &Wal, mine: &Disk, theirs: &Disk) -> Option<Flow> {
    if mine.system() != theirs.system() {
        return None;
    }
    let end = wal.end(&mine.log);
    let left_at = theirs.end_of_timeline(mine.timeline, wal.end(&theirs.log))?;
    if end > left_at {
        // It asks from the beginning of its segment on, and that the server has.
        return (end / SEGMENT_BYTES == left_at / SEGMENT_BYTES).then_some(Flow::Stuck);
    }
    // Positions are all that is compared: what lies before them may be another history's.
    let next = theirs.log.partition_point(|id| wal.record(*id).end <= end);
    let boundary = wal.end(&theirs.log[..next]) == end;
    Some(if boundary {
        Flow::Records { next }
    } else {
        Flow::Stuck
    })
}
