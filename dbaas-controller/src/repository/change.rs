//! [`Change`]: writes of several records that happen together or not at all.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{
    Batch, DocumentKey, DocumentVersion, LeaseToken, NewEvent, Op, Precondition, StoreError, StoreErrorKind,
    StoredDocument,
};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::parts::{Body, Part, Parts};
use super::record::{self, Record};
use crate::repository::Versioned;

/// A batch under construction. Nothing is written until it is committed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    lease: Option<LeaseToken>,
    ops: Vec<Op>,
    /// How many of them are [`Op::Put`].
    puts: usize,
    /// The first record that could not be written down.
    failed: Option<StoreError>,
}

impl Change {
    /// No operation yet, no lease: for the façade, which writes intent only.
    pub(crate) fn new() -> Self {
        Change::default()
    }

    /// Refused unless the lease is still held: for the engine.
    pub(crate) fn under(lease: &LeaseToken) -> Self {
        Change {
            lease: Some(lease.clone()),
            ..Change::default()
        }
    }

    /// Writes a record that does not exist yet.
    #[must_use]
    pub(crate) fn create<R: Record>(self, record: &R) -> Self {
        self.put(record, Precondition::DoesNotExist)
    }

    /// Writes what a caller asks for by changing the record that was read. What the engine writes is left
    /// alone.
    #[must_use]
    pub(crate) fn ask<R: Record>(mut self, record: &R, read: &Versioned<R>) -> Self {
        match record::document(record, record.asked(read)) {
            Ok(document) => self.push_put(document, Precondition::MatchesVersion(read.version)),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Writes what the engine decided and saw: only what differs of it, and only if all is as it was read.
    /// Says what the record is then.
    pub(crate) fn observe<R: Record>(mut self, record: R, read: &Versioned<R>) -> (Self, Observed<R>) {
        self = self.require(read);
        let id = record.uuid();
        let bodies = match record.part_bodies(read.parts.first()) {
            Ok(bodies) => bodies,
            Err(_) => {
                self.fail(record::not_written_down::<R>(id));
                Vec::new()
            }
        };
        let mut parts = Vec::new();
        for ((kind, body), old) in R::PARTS.iter().zip(bodies).zip(read.parts.others()) {
            let precondition = precondition(old.as_ref().map(|old| old.version));
            let kept = Body::new(body.clone());
            if old.as_ref().is_some_and(|old| old.body == kept) {
                self.ops.push(Op::Require(DocumentKey { kind, id }, precondition));
                parts.push((old.clone(), None));
                continue;
            }
            let part = Part {
                version: DocumentVersion(0),
                body: kept,
            };
            parts.push((Some(part), Some(self.puts)));
            self.push_put(record::part_document(&record, kind, body), precondition);
        }
        let observed = Observed {
            record,
            version: read.version,
            before: read.parts.clone(),
            parts,
        };
        (self, observed)
    }

    /// Writes a record of form 1 in the present one.
    #[must_use]
    pub(super) fn rewrite<R: Record>(mut self, stored: StoredDocument) -> Self {
        let StoredDocument { document, version } = stored;
        let id = document.key.id;
        let record = serde_json::from_value::<R>(document.body)
            .ok()
            .filter(|record| record.uuid() == id);
        let Some(record) = record else {
            let message = format!("the stored {} {id} cannot be read: it is damaged", R::KIND);
            self.fail(StoreError::new(StoreErrorKind::Unusable, message));
            return self;
        };
        let (first, parts) = match record.body().and_then(|first| {
            let parts = record.part_bodies(&Body::new(first.clone()))?;
            Ok((first, parts))
        }) {
            Ok(bodies) => bodies,
            Err(_) => {
                self.fail(record::not_written_down::<R>(id));
                return self;
            }
        };
        match record::document(&record, Ok(first)) {
            Ok(document) => self.push_put(document, Precondition::MatchesVersion(version)),
            Err(error) => self.fail(error),
        }
        for (kind, body) in R::PARTS.iter().zip(parts) {
            let part = record::part_document(&record, kind, body);
            self.push_put(part, Precondition::DoesNotExist);
        }
        self
    }

    /// Writes a record that is one document, and that was read with this version.
    #[must_use]
    pub(crate) fn update<R: Record>(self, record: &R, read: DocumentVersion) -> Self {
        self.put(record, Precondition::MatchesVersion(read))
    }

    /// Writes a record that is one document over the one that was read, or creates it if there was none.
    #[must_use]
    pub(crate) fn put_over<R: Record>(self, record: &R, read: Option<DocumentVersion>) -> Self {
        self.put(record, precondition(read))
    }

    fn put<R: Record>(mut self, record: &R, precondition: Precondition) -> Self {
        match record::document(record, record.body()) {
            Ok(document) => self.push_put(document, precondition),
            Err(error) => self.fail(error),
        }
        self
    }

    fn push_put(&mut self, document: dbaas_core::store::Document, precondition: Precondition) {
        self.ops.push(Op::Put(document, precondition));
        self.puts += 1;
    }

    fn fail(&mut self, error: StoreError) {
        self.failed.get_or_insert(error);
    }

    /// Removes a record as it was read.
    #[must_use]
    pub(crate) fn delete<R: Record>(mut self, read: &Versioned<R>) -> Self {
        let id = read.record.uuid();
        self.ops.push(Op::Delete(R::key(id), read.version));
        for (kind, part) in R::PARTS.iter().zip(read.parts.others()) {
            let key = DocumentKey { kind, id };
            self.ops.push(match part {
                Some(part) => Op::Delete(key, part.version),
                None => Op::Require(key, Precondition::DoesNotExist),
            });
        }
        self
    }

    /// Refused unless what was asked for still is as it was read.
    #[must_use]
    pub(crate) fn require<R: Record>(mut self, read: &Versioned<R>) -> Self {
        let precondition = Precondition::MatchesVersion(read.version);
        self.ops
            .push(Op::Require(R::key(read.record.uuid()), precondition));
        self
    }

    /// Whether it changes nothing.
    pub(crate) fn writes_nothing(&self) -> bool {
        self.ops.iter().all(|op| matches!(op, Op::Require(..)))
    }

    /// Refused if any record refers to this one, seen as the change leaves them.
    #[must_use]
    pub(crate) fn require_unreferenced(mut self, id: Uuid) -> Self {
        self.ops.push(Op::RequireUnreferenced(id));
        self
    }

    /// Appends to the event log of an instance.
    #[must_use]
    pub(crate) fn event(
        mut self,
        instance: InstanceId,
        node: Option<NodeId>,
        at: Timestamp,
        kind: &str,
        message: impl Into<String>,
    ) -> Self {
        self.ops.push(Op::Append(NewEvent {
            subject: Some(instance.uuid()),
            at,
            kind: kind.to_owned(),
            message: message.into(),
            node: node.map(NodeId::uuid),
        }));
        self
    }

    /// Appends to the event log of something that is no instance: an element, a password.
    #[must_use]
    pub(crate) fn note(
        mut self,
        subject: Uuid,
        at: Timestamp,
        kind: &str,
        message: impl Into<String>,
    ) -> Self {
        self.ops.push(Op::Append(NewEvent {
            subject: Some(subject),
            at,
            kind: kind.to_owned(),
            message: message.into(),
            node: None,
        }));
        self
    }

    /// Removes an instance with what it holds. Refused (`Referenced`) if a database or a user came in
    /// between: read again.
    #[must_use]
    pub(crate) fn remove_instance(
        mut self,
        instance: &Versioned<InstanceRecord>,
        databases: &[Versioned<DatabaseRecord>],
        users: &[Versioned<UserRecord>],
    ) -> Self {
        for database in databases {
            self = self.delete(database);
        }
        for user in users {
            self = self.delete(user);
        }
        self.delete(instance)
            .require_unreferenced(instance.record.id.uuid())
    }

    /// What the store is to carry out.
    pub(crate) fn into_batch(self) -> Result<Batch, StoreError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Batch {
                lease: self.lease,
                ops: self.ops,
            }),
        }
    }
}

fn precondition(read: Option<DocumentVersion>) -> Precondition {
    read.map_or(Precondition::DoesNotExist, Precondition::MatchesVersion)
}

/// What a record is once a change that [observes](Change::observe) it is committed.
pub(crate) struct Observed<R> {
    record: R,
    version: DocumentVersion,
    before: Parts,
    /// Each with the number of its write among those of the change, if it is written.
    parts: Vec<(Option<Part>, Option<usize>)>,
}

impl<R> Observed<R> {
    /// With the versions that the commit returned.
    pub(crate) fn committed(self, versions: &[DocumentVersion]) -> Versioned<R> {
        let part = |(part, put): (Option<Part>, Option<usize>)| {
            let version = put.and_then(|put| versions.get(put).copied());
            part.map(|part| Part {
                version: version.unwrap_or(part.version),
                ..part
            })
        };
        Versioned {
            record: self.record,
            version: self.version,
            parts: self
                .before
                .with_others(self.parts.into_iter().map(part).collect()),
        }
    }
}
