//! [`Change`]: writes of several records that happen together or not at all.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{Batch, DocumentVersion, LeaseToken, NewEvent, Op, Precondition, StoreError};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::record::{self, Record};
use crate::request::Versioned;

/// A batch under construction. Nothing is written until it is committed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    lease: Option<LeaseToken>,
    ops: Vec<Op>,
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

    /// Writes a record that was read with this version.
    #[must_use]
    pub(crate) fn update<R: Record>(self, record: &R, read: DocumentVersion) -> Self {
        self.put(record, Precondition::MatchesVersion(read))
    }

    /// Writes a record over the one that was read, or creates it if there was none.
    #[must_use]
    pub(crate) fn put_over<R: Record>(self, record: &R, read: Option<DocumentVersion>) -> Self {
        self.put(
            record,
            read.map_or(Precondition::DoesNotExist, Precondition::MatchesVersion),
        )
    }

    fn put<R: Record>(mut self, record: &R, precondition: Precondition) -> Self {
        match record::encode(record) {
            Ok(document) => self.ops.push(Op::Put(document, precondition)),
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
        self
    }

    /// Removes a record as it was read.
    #[must_use]
    pub(crate) fn delete<R: Record>(mut self, read: &Versioned<R>) -> Self {
        self.ops
            .push(Op::Delete(R::key(read.record.uuid()), read.version));
        self
    }

    /// Refused unless the record still is as it was read.
    #[must_use]
    pub(crate) fn require<R: Record>(mut self, read: &Versioned<R>) -> Self {
        let precondition = Precondition::MatchesVersion(read.version);
        self.ops
            .push(Op::Require(R::key(read.record.uuid()), precondition));
        self
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

    /// Removes an instance with what it holds. Refused (`Referenced`) if a database or a user came in between: read again.
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
