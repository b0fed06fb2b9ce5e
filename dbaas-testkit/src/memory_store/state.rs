//! What a [`MemoryStore`](super::MemoryStore) holds. A batch is applied in place and undone if an operation
//! is refused, so that its cost does not grow with the store.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dbaas_core::store::{
    Batch, Document, DocumentKey, DocumentVersion, EVENTS_LIMIT_MAX, Kind, LIST_LIMIT_MAX, Lease, LeaseToken,
    ListQuery, NewEvent, Op, Precondition, REFERRERS_MAX, StoreError, StoreErrorKind, StoredDocument,
    StoredEvent,
};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

#[derive(Default)]
pub(super) struct State {
    documents: BTreeMap<DocumentKey, StoredDocument>,
    /// Indexes over `documents`, kept by [`State::replace`] alone.
    names: BTreeMap<Kind, BTreeMap<String, Uuid>>,
    children: BTreeSet<(Kind, Uuid, Uuid)>,
    referrers: BTreeSet<(Uuid, Uuid, Kind)>,
    expiries: BTreeSet<(Timestamp, DocumentKey)>,
    /// The highest version that a deleted document of the kind had.
    version_floors: BTreeMap<Kind, u64>,
    events: BTreeMap<u64, NewEvent>,
    event_sequences: BTreeMap<Option<Uuid>, BTreeSet<u64>>,
    last_sequence: u64,
    leases: BTreeMap<String, LeaseState>,
}

struct LeaseState {
    fencing: u64,
    /// `None` once released.
    held: Option<(String, Timestamp)>,
}

/// What to put back, newest last.
enum Undo {
    Document(DocumentKey, Option<StoredDocument>),
    VersionFloor(Kind, Option<u64>),
}

impl State {
    pub(super) fn document_count(&self) -> usize {
        self.documents.len()
    }

    pub(super) fn get(&self, key: DocumentKey) -> Option<StoredDocument> {
        self.documents.get(&key).cloned()
    }

    pub(super) fn find(&self, kind: Kind, unique: &str) -> Option<StoredDocument> {
        let id = *self.names.get(kind)?.get(unique)?;
        self.get(DocumentKey { kind, id })
    }

    pub(super) fn list(&self, query: &ListQuery) -> Vec<StoredDocument> {
        let limit = query.limit.clamp(1, LIST_LIMIT_MAX);
        let ids: Vec<Uuid> = match query.parent {
            Some(parent) => {
                let from = match query.after {
                    Some(after) => Bound::Excluded((query.kind, parent, after)),
                    None => Bound::Included((query.kind, parent, Uuid::nil())),
                };
                let to = Bound::Included((query.kind, parent, Uuid::max()));
                range(&self.children, from, to)
                    .map(|(_, _, id)| *id)
                    .take(limit)
                    .collect()
            }
            None => {
                let key = |id| DocumentKey { kind: query.kind, id };
                let from = query
                    .after
                    .map_or(Bound::Included(key(Uuid::nil())), |id| Bound::Excluded(key(id)));
                self.documents
                    .range((from, Bound::Unbounded))
                    .map(|(key, _)| *key)
                    .take_while(|key| key.kind == query.kind)
                    .map(|key| key.id)
                    .take(limit)
                    .collect()
            }
        };
        ids.into_iter()
            .filter_map(|id| self.get(DocumentKey { kind: query.kind, id }))
            .collect()
    }

    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Vec<DocumentVersion>, StoreError> {
        if let Some(token) = &batch.lease
            && !self.holds(token)
        {
            return Err(StoreError::new(
                StoreErrorKind::LeaseLost,
                format!(
                    "the lease {:?} is no longer held with fencing number {}",
                    token.name, token.fencing
                ),
            ));
        }
        let mut undo = Vec::new();
        let result = self.apply(&batch.ops, &mut undo);
        match result {
            Ok((versions, events)) => {
                for event in events {
                    self.append(event);
                }
                Ok(versions)
            }
            Err(refused) => {
                for step in undo.into_iter().rev() {
                    match step {
                        Undo::Document(key, before) => {
                            self.replace(key, before);
                        }
                        Undo::VersionFloor(kind, Some(floor)) => {
                            self.version_floors.insert(kind, floor);
                        }
                        Undo::VersionFloor(kind, None) => {
                            self.version_floors.remove(kind);
                        }
                    }
                }
                Err(refused)
            }
        }
    }

    fn apply(
        &mut self,
        ops: &[Op],
        undo: &mut Vec<Undo>,
    ) -> Result<(Vec<DocumentVersion>, Vec<NewEvent>), StoreError> {
        let mut versions = Vec::new();
        let mut events = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match op {
                Op::Put(document, precondition) => {
                    self.check(document.key, *precondition, index)?;
                    versions.push(self.put(document, index, undo)?);
                }
                Op::Delete(key, version) => {
                    self.check(*key, Precondition::MatchesVersion(*version), index)?;
                    self.delete(*key, undo);
                }
                Op::Require(key, precondition) => self.check(*key, *precondition, index)?,
                Op::RequireUnreferenced(_) => {}
                Op::Append(event) => events.push(event.clone()),
            }
        }
        for (index, op) in ops.iter().enumerate() {
            if let Op::RequireUnreferenced(id) = op {
                self.check_unreferenced(*id, index)?;
            }
        }
        Ok((versions, events))
    }

    fn check(&self, key: DocumentKey, precondition: Precondition, op: usize) -> Result<(), StoreError> {
        let found = self.documents.get(&key).map(|stored| stored.version);
        let holds = match precondition {
            Precondition::DoesNotExist => found.is_none(),
            Precondition::MatchesVersion(version) => found == Some(version),
        };
        if holds {
            return Ok(());
        }
        let message = match found {
            Some(version) => format!("{} {} has version {}", key.kind, key.id, version.0),
            None => format!("{} {} does not exist", key.kind, key.id),
        };
        Err(refusal(StoreErrorKind::Conflict, message, op))
    }

    fn check_unreferenced(&self, id: Uuid, op: usize) -> Result<(), StoreError> {
        let mut referrers: Vec<Uuid> = self
            .referrers
            .range((id, Uuid::nil(), "")..)
            .take_while(|(target, _, _)| *target == id)
            .map(|(_, referrer, _)| *referrer)
            .take(REFERRERS_MAX + 1)
            .collect();
        if referrers.is_empty() {
            return Ok(());
        }
        referrers.truncate(REFERRERS_MAX);
        let mut error = refusal(
            StoreErrorKind::Referenced,
            format!("{id} is still referred to"),
            op,
        );
        error.referrers = referrers;
        Err(error)
    }

    fn put(
        &mut self,
        document: &Document,
        op: usize,
        undo: &mut Vec<Undo>,
    ) -> Result<DocumentVersion, StoreError> {
        let key = document.key;
        if let Some(name) = &document.unique
            && let Some(owner) = self.names.get(key.kind).and_then(|names| names.get(name))
            && *owner != key.id
        {
            return Err(refusal(
                StoreErrorKind::NameTaken,
                format!("{} {name:?} exists already", key.kind),
                op,
            ));
        }
        let before = match self.documents.get(&key) {
            Some(stored) => stored.version.0,
            None => self.version_floors.get(key.kind).copied().unwrap_or(0),
        };
        let version = DocumentVersion(before + 1);
        let previous = self.replace(
            key,
            Some(StoredDocument {
                document: document.clone(),
                version,
            }),
        );
        undo.push(Undo::Document(key, previous));
        Ok(version)
    }

    fn delete(&mut self, key: DocumentKey, undo: &mut Vec<Undo>) {
        let Some(previous) = self.replace(key, None) else {
            return;
        };
        let floor = self.version_floors.get(key.kind).copied();
        self.version_floors
            .insert(key.kind, floor.unwrap_or(0).max(previous.version.0));
        undo.push(Undo::Document(key, Some(previous)));
        undo.push(Undo::VersionFloor(key.kind, floor));
    }

    /// Sets or removes a document and keeps every index in step. Returns what was there.
    fn replace(&mut self, key: DocumentKey, new: Option<StoredDocument>) -> Option<StoredDocument> {
        let old = self.documents.remove(&key);
        if let Some(StoredDocument { document, .. }) = &old {
            if let (Some(name), Some(names)) = (&document.unique, self.names.get_mut(key.kind)) {
                names.remove(name);
            }
            if let Some(parent) = document.parent {
                self.children.remove(&(key.kind, parent, key.id));
            }
            for target in &document.references {
                self.referrers.remove(&(*target, key.id, key.kind));
            }
            if let Some(expires_at) = document.expires_at {
                self.expiries.remove(&(expires_at, key));
            }
        }
        if let Some(stored) = new {
            let document = &stored.document;
            if let Some(name) = &document.unique {
                self.names
                    .entry(key.kind)
                    .or_default()
                    .insert(name.clone(), key.id);
            }
            if let Some(parent) = document.parent {
                self.children.insert((key.kind, parent, key.id));
            }
            for target in &document.references {
                self.referrers.insert((*target, key.id, key.kind));
            }
            if let Some(expires_at) = document.expires_at {
                self.expiries.insert((expires_at, key));
            }
            self.documents.insert(key, stored);
        }
        old
    }

    fn append(&mut self, event: NewEvent) {
        self.last_sequence += 1;
        self.event_sequences
            .entry(event.subject)
            .or_default()
            .insert(self.last_sequence);
        self.events.insert(self.last_sequence, event);
    }

    pub(super) fn events(&self, subject: Option<Uuid>, after: u64, limit: usize) -> Vec<StoredEvent> {
        let limit = limit.clamp(1, EVENTS_LIMIT_MAX);
        let after = (Bound::Excluded(after), Bound::Unbounded);
        let stored = |sequence: &u64, event: &NewEvent| StoredEvent {
            sequence: *sequence,
            event: event.clone(),
        };
        match subject {
            None => self
                .events
                .range(after)
                .take(limit)
                .map(|(sequence, event)| stored(sequence, event))
                .collect(),
            Some(_) => self
                .event_sequences
                .get(&subject)
                .into_iter()
                .flat_map(|sequences| sequences.range(after))
                .take(limit)
                .filter_map(|sequence| Some(stored(sequence, self.events.get(sequence)?)))
                .collect(),
        }
    }

    fn holds(&self, token: &LeaseToken) -> bool {
        self.leases
            .get(&token.name)
            .is_some_and(|lease| lease.held.is_some() && lease.fencing == token.fencing)
    }

    pub(super) fn acquire_lease(
        &mut self,
        name: &str,
        holder: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Lease, Lease> {
        let lease = |fencing: u64, holder: &str, expires_at: Timestamp| Lease {
            token: LeaseToken {
                name: name.to_owned(),
                fencing,
            },
            holder: holder.to_owned(),
            expires_at,
        };
        let state = match self.leases.entry(name.to_owned()) {
            Entry::Vacant(entry) => entry.insert(LeaseState {
                fencing: 0,
                held: None,
            }),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        match &state.held {
            Some((other, until)) if other != holder && *until > now => {
                return Err(lease(state.fencing, other, *until));
            }
            Some((other, _)) if other == holder => {}
            _ => state.fencing += 1,
        }
        state.held = Some((holder.to_owned(), expires_at));
        Ok(lease(state.fencing, holder, expires_at))
    }

    pub(super) fn release_lease(&mut self, token: &LeaseToken) {
        if let Some(lease) = self.leases.get_mut(&token.name)
            && lease.fencing == token.fencing
        {
            lease.held = None;
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp, keep_events: usize) -> usize {
        let due: Vec<DocumentKey> = self
            .expiries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, key)| *key)
            .collect();
        for key in &due {
            self.delete(*key, &mut Vec::new());
        }
        for sequences in self.event_sequences.values_mut() {
            while sequences.len() > keep_events {
                if let Some(oldest) = sequences.pop_first() {
                    self.events.remove(&oldest);
                }
            }
        }
        self.event_sequences.retain(|_, sequences| !sequences.is_empty());
        due.len()
    }
}

fn refusal(kind: StoreErrorKind, message: String, op: usize) -> StoreError {
    let mut error = StoreError::new(kind, message);
    error.op = Some(op);
    error
}

/// A range that may be empty: `BTreeSet::range` panics if it starts after its end.
fn range<T: Ord>(set: &BTreeSet<T>, from: Bound<T>, to: Bound<T>) -> impl Iterator<Item = &T> {
    let empty = match (&from, &to) {
        (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        _ => false,
    };
    (!empty).then(|| set.range((from, to))).into_iter().flatten()
}
