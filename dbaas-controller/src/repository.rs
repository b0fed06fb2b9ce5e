//! The typed layer over [`Store`]: records in, records out, and changes that go in one [`Batch`].
//!
//! Both the façade and the engine write through it, so that what a record's document looks like is said once.

mod change;
mod form;
mod instance;
mod objects;
mod parts;
mod record;
mod split;
#[cfg(test)]
mod tests;
mod versioned;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, UserId, VersionId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::store::{
    DocumentKey, DocumentVersion, Kind, ListQuery, Store, StoreError, StoreErrorKind, StoredDocument,
    StoredEvent,
};
use dbaas_core::user::UserRecord;
use dbaas_core::version::VersionRecord;
use uuid::Uuid;

pub(crate) use change::{Change, Observed};
pub(crate) use record::{
    IdempotencyRecord, Record, RemovedVersion, child_name, id_from, instance_name, written,
};
pub(crate) use versioned::Versioned;

/// Documents that are asked for at once when everything is wanted.
const PAGE: usize = 1_000;
/// Pages that are read at most when everything is wanted: the loop ends also with a store that repeats
/// itself.
const PAGES_MAX: usize = 10_000;

/// An instance with everything that belongs to it, as read.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) instance: Versioned<InstanceRecord>,
    pub(crate) users: Vec<Versioned<UserRecord>>,
    pub(crate) databases: Vec<Versioned<DatabaseRecord>>,
}

/// Typed access to a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repository {
    store: Arc<dyn Store>,
    /// No call takes longer, whatever the store does.
    timeout: Duration,
}

impl Loaded {
    /// As the engine remembers it: see [`Parts::condensed`](parts::Parts::condensed).
    #[must_use]
    pub(crate) fn condensed(mut self) -> Self {
        self.instance.parts = self.instance.parts.condensed();
        for user in &mut self.users {
            user.parts = user.parts.condensed();
        }
        for database in &mut self.databases {
            database.parts = database.parts.condensed();
        }
        self
    }

    /// Whether the engine has written down that it took over all that was asked for.
    pub(crate) fn is_taken(&self) -> bool {
        self.instance.parts.is_taken()
            && self.users.iter().all(|user| user.parts.is_taken())
            && self.databases.iter().all(|database| database.parts.is_taken())
    }
}

impl Repository {
    pub(crate) fn new(store: Arc<dyn Store>, timeout: Duration) -> Self {
        Repository { store, timeout }
    }

    /// The store itself, for leases and expiry.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The record with this id.
    pub(crate) async fn load<R: Record>(&self, id: Uuid) -> Result<Option<Versioned<R>>, StoreError> {
        // What was asked for comes last, so that what the engine wrote is never newer than it.
        let mut parts = Vec::with_capacity(R::PARTS.len());
        for kind in R::PARTS {
            parts.push(self.get(DocumentKey { kind, id }).await?);
        }
        let found = self.get(R::key(id)).await?;
        found.map(|found| record::decode(found, parts)).transpose()
    }

    /// The record that holds this unique name.
    pub(crate) async fn find<R: Record>(&self, unique: &str) -> Result<Option<Versioned<R>>, StoreError> {
        let found = self
            .bounded(StoreErrorKind::Unavailable, self.store.find(R::KIND, unique))
            .await?;
        let Some(found) = found else { return Ok(None) };
        if R::PARTS.is_empty() {
            return record::decode(found, Vec::new()).map(Some);
        }
        let found = self.load::<R>(found.document.key.id).await?;
        Ok(found.filter(|found| found.record.unique().as_deref() == Some(unique)))
    }

    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError> {
        self.bounded(StoreErrorKind::Unavailable, self.store.get(key))
            .await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError> {
        self.bounded(StoreErrorKind::Unavailable, self.store.list(query))
            .await
    }

    /// One page of records, in order of id.
    pub(crate) async fn page<R: Record>(
        &self,
        parent: Option<Uuid>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let query = |kind| ListQuery {
            kind,
            parent,
            after,
            limit,
        };
        // In the order of [`Repository::load`].
        let mut parts = Vec::with_capacity(R::PARTS.len());
        for kind in R::PARTS {
            let found = self.list(query(kind)).await?;
            // A page that is full may end before the last record: some that were on it are gone.
            let ends = found.last().filter(|_| found.len() >= limit);
            let ends = ends.map(|last| last.document.key.id);
            let found: BTreeMap<Uuid, StoredDocument> = found
                .into_iter()
                .map(|stored| (stored.document.key.id, stored))
                .collect();
            parts.push((*kind, found, ends));
        }
        let mut records = Vec::new();
        for first in self.list(query(R::KIND)).await? {
            let id = first.document.key.id;
            let mut of_record = Vec::with_capacity(parts.len());
            for (kind, found, ends) in &mut parts {
                of_record.push(match found.remove(&id) {
                    None if ends.is_some_and(|ends| id > ends) => self.get(DocumentKey { kind, id }).await?,
                    found => found,
                });
            }
            records.push(record::decode(first, of_record)?);
        }
        Ok(records)
    }

    /// All documents of a kind, as they are.
    async fn documents(&self, kind: Kind) -> Result<Vec<StoredDocument>, StoreError> {
        let mut documents: Vec<StoredDocument> = Vec::new();
        for _ in 0..PAGES_MAX {
            let query = ListQuery {
                kind,
                parent: None,
                after: documents.last().map(|last| last.document.key.id),
                limit: PAGE,
            };
            let page = self.list(query).await?;
            let complete = page.len() < PAGE;
            documents.extend(page);
            if complete {
                return Ok(documents);
            }
        }
        Err(StoreError::new(
            StoreErrorKind::Unusable,
            format!("the list of {kind} never ends"),
        ))
    }

    /// A page of the documents of a kind, as they are, and its last id; `None` when there are no more.
    pub(crate) async fn documents_after(
        &self,
        kind: Kind,
        after: Option<Uuid>,
    ) -> Result<Option<(Vec<StoredDocument>, Uuid)>, StoreError> {
        let query = ListQuery {
            kind,
            parent: None,
            after,
            limit: PAGE,
        };
        let page = self.list(query).await?;
        let last = page.last().map(|last| last.document.key.id);
        // A store that repeats itself ends it.
        Ok(last.filter(|last| Some(*last) > after).map(|last| (page, last)))
    }

    /// How many records of a kind a parent has; counts no further than `enough`.
    pub(crate) async fn count<R: Record>(&self, parent: Uuid, enough: usize) -> Result<usize, StoreError> {
        let query = ListQuery {
            kind: R::KIND,
            parent: Some(parent),
            after: None,
            limit: enough,
        };
        let found = self
            .bounded(StoreErrorKind::Unavailable, self.store.list(query))
            .await?;
        Ok(found.len())
    }

    /// All records of a kind (of a parent), in order of id.
    pub(crate) async fn all<R: Record>(&self, parent: Option<Uuid>) -> Result<Vec<Versioned<R>>, StoreError> {
        let mut records: Vec<Versioned<R>> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = records.last().map(|last| last.record.uuid());
            let page = self.page::<R>(parent, after, PAGE).await?;
            let complete = page.len() < PAGE;
            records.extend(page);
            if complete {
                return Ok(records);
            }
        }
        Err(StoreError::new(
            StoreErrorKind::Unusable,
            format!("the list of {} never ends", R::KIND),
        ))
    }

    /// The instance, or `None` when it is gone.
    pub(crate) async fn load_instance(
        &self,
        id: InstanceId,
    ) -> Result<Option<Versioned<InstanceRecord>>, StoreError> {
        self.load(id.uuid()).await
    }

    /// Every instance's id, in order of creation.
    pub(crate) async fn list_instance_ids(&self) -> Result<Vec<InstanceId>, StoreError> {
        // Ids alone: a record that cannot be read must not keep the others from being served.
        let mut ids = Vec::new();
        while let Some((page, _)) = self
            .documents_after(InstanceRecord::KIND, ids.last().map(|id: &InstanceId| id.uuid()))
            .await?
        {
            ids.extend(
                page.iter()
                    .map(|stored| InstanceId::from_uuid(stored.document.key.id)),
            );
        }
        Ok(ids)
    }

    /// Every instance that is as asked for, by its status.
    pub(crate) async fn list_settled(&self) -> Result<BTreeSet<InstanceId>, StoreError> {
        let (mut settled, mut after) = (BTreeSet::new(), None);
        while let Some((page, last)) = self.documents_after(instance::STATUS, after).await? {
            after = Some(last);
            let of_page = page.iter().map(|stored| &stored.document);
            let of_page = of_page.filter(|status| status.body["lifecycle"] == Lifecycle::Active.as_str());
            settled.extend(of_page.map(|status| InstanceId::from_uuid(status.key.id)));
        }
        Ok(settled)
    }

    /// All databases of an instance.
    pub(crate) async fn load_databases(
        &self,
        instance: InstanceId,
    ) -> Result<Vec<Versioned<DatabaseRecord>>, StoreError> {
        self.all(Some(instance.uuid())).await
    }

    /// The user, or `None` when it is gone.
    pub(crate) async fn load_user(&self, id: UserId) -> Result<Option<Versioned<UserRecord>>, StoreError> {
        self.load(id.uuid()).await
    }

    /// All users of an instance.
    pub(crate) async fn load_users(
        &self,
        instance: InstanceId,
    ) -> Result<Vec<Versioned<UserRecord>>, StoreError> {
        self.all(Some(instance.uuid())).await
    }

    /// The version of the catalogue.
    pub(crate) async fn load_version(
        &self,
        id: VersionId,
    ) -> Result<Option<Versioned<VersionRecord>>, StoreError> {
        self.load(id.uuid()).await
    }

    /// The newest events of an instance after a sequence number, oldest first.
    pub(crate) async fn events(
        &self,
        instance: InstanceId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let call = self.store.events(Some(instance.uuid()), after, limit);
        self.bounded(StoreErrorKind::Unavailable, call).await
    }

    /// The events about any record after a sequence number, oldest first.
    pub(crate) async fn events_about(
        &self,
        subject: Uuid,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let call = self.store.events(Some(subject), after, limit);
        self.bounded(StoreErrorKind::Unavailable, call).await
    }

    /// Carries out a change. Returns the new version of every record that it writes, in order.
    pub(crate) async fn commit(&self, change: Change) -> Result<Vec<DocumentVersion>, StoreError> {
        let batch = change.into_batch()?;
        self.bounded(StoreErrorKind::OutcomeUnknown, self.store.commit(batch))
            .await
    }

    /// Carries out a change that writes one record. Returns its new version.
    pub(crate) async fn commit_one(&self, change: Change) -> Result<DocumentVersion, StoreError> {
        let versions = self.commit(change).await?;
        let missing = || StoreError::new(StoreErrorKind::Unusable, "the store returned no version");
        versions.last().copied().ok_or_else(missing)
    }

    /// Carries out a caller's change of the record that was read, with what else the change holds. Returns
    /// the record as it is then.
    pub(crate) async fn ask<R: Record>(
        &self,
        change: Change,
        record: &R,
        read: &Versioned<R>,
    ) -> Result<Versioned<R>, StoreError> {
        let first = record.asked(read);
        let first = first.map_err(|_| record::not_written_down::<R>(record.uuid()))?;
        let version = self.commit_one(change.ask(record, read)).await?;
        record::compose(R::key(record.uuid()), version, read.parts.with_first(first))
    }

    /// A store promises a deadline of its own; this one is there for those that break it.
    async fn bounded<T>(
        &self,
        late: StoreErrorKind,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the store did not answer within {} ms", self.timeout.as_millis());
                Err(StoreError::new(late, message))
            }
        }
    }
}
