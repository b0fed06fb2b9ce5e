//! The simulated write-ahead log: records with positions and timelines, and what a node keeps of it on its
//! disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbaas_core::config::AutoConf;
use dbaas_core::scram::ScramVerifier;
use dbaas_core::secret::Secret;
use uuid::Uuid;

use super::conf::ConfFile;

/// Where every cluster's log begins: after what `initdb` wrote.
pub(super) const FIRST_LSN: u64 = 0x0300_0000;
/// Positions within one segment: a standby asks for WAL from a segment's beginning.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;

/// A record by its number in [`Wal`].
pub(super) type RecordId = u32;

/// What a record does.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    /// End of recovery, checkpoints and other records without an effect here.
    Nothing,
    /// A client's transaction, by its number.
    Commit(u64),
    /// Shared catalogues, as they are after it.
    Catalogue(Arc<Catalogue>),
}

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) end: u64,
    pub(super) timeline: u32,
    pub(super) payload: Payload,
}

/// Every record that was ever written, by anybody.
#[derive(Debug, Clone, Default)]
pub(super) struct Wal {
    records: Vec<Record>,
}

impl Wal {
    pub(super) fn record(&self, id: RecordId) -> &Record {
        &self.records[id as usize]
    }

    /// Where a log ends.
    pub(super) fn end(&self, log: &[RecordId]) -> u64 {
        log.last().map_or(FIRST_LSN, |id| self.record(*id).end)
    }

    /// Writes a record to the end of a node's log.
    pub(super) fn append(&mut self, disk: &mut Disk, bytes: u64, payload: Payload) -> u64 {
        let end = self.end(&disk.log) + bytes.max(8);
        let id = RecordId::try_from(self.records.len()).unwrap_or(RecordId::MAX);
        self.records.push(Record {
            end,
            timeline: disk.timeline,
            payload,
        });
        disk.log.push(id);
        end
    }

    /// Recovers a disk, as a server does that is not a standby: it writes a checkpoint, which is in nobody
    /// else's log. Whether there was anything to recover.
    pub(super) fn recover(&mut self, disk: &mut Disk) -> bool {
        if disk.clean {
            return false;
        }
        self.append(disk, 120, Payload::Nothing);
        disk.checkpoint_timeline = disk.timeline;
        disk.checkpoint_redo = self.end(&disk.log);
        disk.clean = true;
        true
    }

    /// The client transactions in a log.
    pub(super) fn commits<'a>(&'a self, log: &'a [RecordId]) -> impl Iterator<Item = u64> + 'a {
        log.iter().filter_map(|id| match self.record(*id).payload {
            Payload::Commit(commit) => Some(commit),
            _ => None,
        })
    }

    /// The shared catalogues after replaying a log.
    pub(super) fn catalogue(&self, log: &[RecordId]) -> Arc<Catalogue> {
        log.iter()
            .rev()
            .find_map(|id| match &self.record(*id).payload {
                Payload::Catalogue(catalogue) => Some(Arc::clone(catalogue)),
                _ => None,
            })
            .unwrap_or_default()
    }
}

/// How the control plane's superuser logs in.
#[derive(Debug, Clone, Default)]
pub(super) enum AdminLogin {
    #[default]
    Nobody,
    Password(Secret),
    Verifier(Box<ScramVerifier>),
}

/// Roles and databases.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    pub(super) admin: AdminLogin,
    /// The newest epoch's mark.
    pub(super) history: u64,
    pub(super) has_replication_role: bool,
    /// The newest setting of synchronous standbys.
    pub(super) setting: u64,
    pub(super) roles: BTreeMap<String, Role>,
    pub(super) databases: BTreeMap<String, Database>,
    /// Roles of levels of access, with their members.
    pub(super) levels: BTreeMap<String, BTreeSet<String>>,
    /// The register of what is the control plane's, if there is one: OIDs by id.
    pub(super) register: Option<BTreeMap<Uuid, u32>>,
    pub(super) last_oid: u32,
}

impl Catalogue {
    pub(super) fn new_oid(&mut self) -> u32 {
        self.last_oid += 1;
        16_384 + self.last_oid
    }

    /// Whose this OID is.
    pub(super) fn registered(&self, oid: u32) -> Option<Uuid> {
        let found = self.register.iter().flatten().find(|(_, of)| **of == oid);
        found.map(|(id, _)| *id)
    }

    /// Whether there is a role or database with this OID.
    pub(super) fn exists(&self, oid: u32) -> bool {
        self.roles.values().any(|role| role.oid == oid)
            || self.databases.values().any(|database| database.oid == oid)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    pub(super) oid: u32,
    pub(super) verifier: String,
    pub(super) can_login: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Database {
    pub(super) owner: String,
    pub(super) oid: u32,
    pub(super) public_connects: bool,
    /// Names of the roles that own something in it: each of its owners made something in it.
    pub(super) makers: BTreeSet<String>,
    /// The extensions that it has.
    pub(super) extensions: BTreeSet<String>,
}

/// A node's data directory.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// What is flushed.
    pub(super) log: Vec<RecordId>,
    /// The timeline that its last record is on.
    pub(super) timeline: u32,
    /// The highest timeline whose history file it has: a promotion takes the next one.
    pub(super) known_timeline: u32,
    /// The timelines before, each with the position at which it was left.
    pub(super) history: Vec<(u32, u64)>,
    /// The timeline of its last checkpoint.
    pub(super) checkpoint_timeline: u32,
    /// Where its last checkpoint begins.
    pub(super) checkpoint_redo: u64,
    /// The server that had it last was shut down in an orderly way: who opens it to write need not recover it
    /// first.
    pub(super) clean: bool,
    pub(super) conf: AutoConf,
    /// `postgresql.conf`.
    pub(super) file: ConfFile,
    pub(super) standby_signal: bool,
    /// Physical slots; whether the WAL that it needs is gone.
    pub(super) slots: BTreeMap<String, bool>,
}

impl Disk {
    pub(super) fn new() -> Self {
        Disk {
            log: Vec::new(),
            timeline: 1,
            known_timeline: 1,
            history: Vec::new(),
            checkpoint_timeline: 1,
            checkpoint_redo: 0,
            clean: true,
            conf: AutoConf::default(),
            file: ConfFile::default(),
            standby_signal: false,
            slots: BTreeMap::new(),
        }
    }

    /// Up to where a timeline is part of this disk's history; `end` is where its log ends.
    pub(super) fn end_of_timeline(&self, timeline: u32, end: u64) -> Option<u64> {
        if timeline == self.timeline {
            return Some(end);
        }
        self.history
            .iter()
            .find(|(ancestor, _)| *ancestor == timeline)
            .map(|(_, left_at)| *left_at)
    }

    /// The system identifier: what `initdb` wrote first is in every copy, and nowhere else.
    pub(super) fn system(&self) -> Option<&RecordId> {
        self.log.first()
    }

    /// A copy as a base backup or a rewind makes it: without the slots.
    pub(super) fn copied(&self) -> Disk {
        Disk {
            slots: BTreeMap::new(),
            ..self.clone()
        }
    }
}
