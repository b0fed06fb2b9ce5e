//! [`Store`]: where the control plane keeps what it was asked for and what it knows.
//!
//! A store is a set of small JSON documents, an append-only event log and leases. It knows nothing of
//! PostgreSQL: the typed layer above it (in the controller) turns records into documents.
//!
//! # Contract
//! * There is no blind write: every write carries a [`Precondition`].
//! * A [`Batch`] is atomic: either every operation happened or none did.
//! * A commit that returned `Ok` survives a crash of the process and of the machine.
//! * [`StoreErrorKind::OutcomeUnknown`] means that the commit may or may not have happened; the caller reads
//!   again.
//! * A read that starts after a commit returned sees that commit, whoever made it.
//! * A store reads no clock. A document is there, with its name and its references, until [`Store::expire`]
//!   is called with a `now` at or after its `expires_at`; a lease is held until somebody else takes it with a
//!   `now` at or after its `expires_at`, or until it is released.
//!
//! What a third party's implementation must do is checked by `dbaas_testkit::store_conformance`.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A listing returns at most so many documents; a larger [`ListQuery::limit`] is taken as this one.
pub const LIST_LIMIT_MAX: usize = 10_000;

/// [`Store::events`] returns at most so many events; a larger limit is taken as this one.
pub const EVENTS_LIMIT_MAX: usize = 1_000;

/// A [`StoreErrorKind::Referenced`] names at most so many documents.
pub const REFERRERS_MAX: usize = 16;

/// What a document is; a small static word such as `"instance"`. Ids are unique within a kind.
pub type Kind = &'static str;

/// Address of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentKey {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub id: Uuid,
}

/// Version of a document: one more with every write, 1 or any higher number when it is created. Never reused
/// for the same key, also not after a deletion (or expiry) and re-creation. An implementation may start a
/// kind's new documents above the highest version of those that it has deleted, so that it needs to remember
/// one number only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentVersion(pub u64);

/// A document to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its address.
    pub key: DocumentKey,
    /// The document it belongs to (a database's instance), for [`Store::list`].
    pub parent: Option<Uuid>,
    /// A name that no other document of the same kind may have at the same time (scope included by the
    /// caller, for example `"<project>/<name>"`).
    pub unique: Option<String>,
    /// Ids of documents that this one refers to (a database's owner): they cannot be deleted or marked under
    /// [`Op::RequireUnreferenced`] while this document exists.
    pub references: Vec<Uuid>,
    /// When the store may forget it by itself; `None` keeps it.
    pub expires_at: Option<Timestamp>,
    /// The content.
    pub body: serde_json::Value,
}

/// A document as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDocument {
    /// What was written.
    pub document: Document,
    /// Its version.
    pub version: DocumentVersion,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// No document has this key (one that [`Store::expire`] has removed counts as absent).
    DoesNotExist,
    /// The document exists and has exactly this version.
    MatchesVersion(DocumentVersion),
}

/// One operation of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Write the document: the precondition is checked first (`Conflict`), then the unique name
    /// (`NameTaken`).
    Put(Document, Precondition),
    /// Remove the document.
    Delete(DocumentKey, DocumentVersion),
    /// Write nothing, but refuse the batch unless this holds.
    Require(DocumentKey, Precondition),
    /// Refuse the batch if any document lists this id in its `references`, seen as the batch leaves them.
    RequireUnreferenced(Uuid),
    /// Append to the event log; the store assigns the sequence number.
    Append(NewEvent),
}

/// Operations that happen together or not at all. Each sees what those before it in the batch did, so a name
/// that one operation gives up can be taken by the next; [`Op::RequireUnreferenced`] alone is checked after
/// all others. The first operation that is refused is the one reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// If set, the batch is refused (`LeaseLost`, before anything else is checked) unless this token is the
    /// newest of its lease and was not released. A lease that has expired but that nobody else has taken is
    /// still good: what protects against two holders is the fencing number, not a clock.
    pub lease: Option<LeaseToken>,
    /// In order.
    pub ops: Vec<Op>,
}

/// Proof of a lease: a holder that lost it has an older number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseToken {
    /// What is leased.
    pub name: String,
    /// The fencing number, from 1; strictly increasing with each change of holder, also across releases.
    pub fencing: u64,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The proof.
    pub token: LeaseToken,
    /// Who holds it: host, process id, start time; for people.
    pub holder: String,
    /// Until when, on the clock that the caller passes.
    pub expires_at: Timestamp,
}

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// The instance it is about; `None` for the control plane itself.
    pub subject: Option<Uuid>,
    /// When.
    pub at: Timestamp,
    /// A stable word, such as `failover_started`.
    pub kind: String,
    /// For people. Holds no secrets.
    pub message: String,
    /// The node it is about.
    pub node: Option<Uuid>,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Position in the log, from 1; increasing in the order in which commits become visible, gaps allowed,
    /// never reused: a reader that asks for what is after the last number that it saw misses nothing.
    pub sequence: u64,
    /// The event.
    #[serde(flatten)]
    pub event: NewEvent,
}

/// Which documents a listing wants. Order is by id (UUIDv7: by time of creation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// The kind.
    pub kind: Kind,
    /// Only those that belong to this one.
    pub parent: Option<Uuid>,
    /// Only ids greater than this one.
    pub after: Option<Uuid>,
    /// At most so many, 1 to [`LIST_LIMIT_MAX`]; what lies outside is taken as the nearest.
    pub limit: usize,
}

/// What went wrong, for deciding what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A precondition did not hold: somebody else wrote first. Nothing was written.
    Conflict,
    /// A unique name is taken. Nothing was written.
    NameTaken,
    /// The document is still referred to. Nothing was written.
    Referenced,
    /// The lease is lost. Nothing was written.
    LeaseLost,
    /// A document is larger or nested deeper than the store takes (bodies of 2 MiB and 64 levels always are).
    /// Nothing was written.
    TooLarge,
    /// The store cannot be reached or is overloaded. Nothing was written.
    Unavailable,
    /// The store's disk is full. Nothing was written; reading works.
    Full,
    /// The request was sent, no answer came: it may have been carried out.
    OutcomeUnknown,
    /// The store's content is of a newer schema, or damaged. Nothing was touched.
    Unusable,
}

/// Failure of a store call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The class.
    pub kind: StoreErrorKind,
    /// For people: what, and what to do next. No secrets.
    pub message: String,
    /// For `Conflict`, `NameTaken`, `Referenced`, `TooLarge`: index of the operation in the batch that was
    /// refused.
    pub op: Option<usize>,
    /// For `Referenced`: the ids of (some of) the documents that refer to it.
    pub referrers: Vec<Uuid>,
}

impl StoreError {
    /// An error of a kind with a message.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        StoreError {
            kind,
            message: message.into(),
            op: None,
            referrers: Vec::new(),
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable | StoreErrorKind::Full | StoreErrorKind::OutcomeUnknown
        )
    }
}

/// Where records, events and leases are kept. See the module's contract.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The document, or `None`.
    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError>;

    /// The document of this kind that holds this unique name.
    async fn find(&self, kind: Kind, unique: &str) -> Result<Option<StoredDocument>, StoreError>;

    /// Documents in order of id.
    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError>;

    /// Carries out the batch atomically. Returns the new version of every `Put`, in order.
    async fn commit(&self, batch: Batch) -> Result<Vec<DocumentVersion>, StoreError>;

    /// Events after a sequence number, oldest first; at most `limit` (1 to [`EVENTS_LIMIT_MAX`], what lies
    /// outside is taken as the nearest). `Some(subject)` wants only those about it, `None` wants all.
    async fn events(
        &self,
        subject: Option<Uuid>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Takes or renews a lease until `now + ttl_ms`. A holder that has it already keeps its fencing number,
    /// also when it comes late but before anybody else: so `holder` must differ for every start of every
    /// process. `Ok(Err(lease))` says who else holds it.
    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
    ) -> Result<Result<Lease, Lease>, StoreError>;

    /// Gives a lease back. Not an error if it is lost already.
    async fn release_lease(&self, token: &LeaseToken) -> Result<(), StoreError>;

    /// Removes documents whose `expires_at` is at or before `now` and, per subject (`None` is one of them),
    /// events beyond the newest `keep_events`. Returns how many documents were removed. Writes nothing if
    /// there is nothing to remove.
    async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError>;
}
