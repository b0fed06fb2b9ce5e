//! [`MemoryStore`]: a [`Store`] in memory, for simulation, with failures on demand.
//!
//! It keeps the whole contract of [`dbaas_core::store`] but one promise: nothing survives the process. To
//! simulate a crash of the controller, drop everything but the `Arc` of the store.
//!
//! ```
//! use std::sync::Arc;
//! use dbaas_core::store::{Batch, Store, StoreErrorKind};
//! use dbaas_testkit::memory_store::{Fault, MemoryStore, StoreCall};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = MemoryStore::new();
//! store.set_fault(Some(Arc::new(|call: &StoreCall<'_>| match call {
//!     StoreCall::Commit(_) => Fault::Fail(StoreErrorKind::Unavailable),
//!     _ => Fault::None,
//! })));
//! assert_eq!(store.commit(Batch::default()).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
//! store.set_fault(None);
//! assert!(store.commit(Batch::default()).await.is_ok());
//! # });
//! ```

mod state;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::store::{
    Batch, DocumentKey, DocumentVersion, Kind, Lease, LeaseToken, ListQuery, Store, StoreError,
    StoreErrorKind, StoredDocument, StoredEvent,
};
use dbaas_core::time::Timestamp;
use parking_lot::Mutex;
use uuid::Uuid;

use state::State;

/// A call that a [`MemoryStore`] received, as the fault hook sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum StoreCall<'a> {
    /// [`Store::get`].
    Get(DocumentKey),
    /// [`Store::find`].
    Find(Kind, &'a str),
    /// [`Store::list`].
    List(&'a ListQuery),
    /// [`Store::commit`].
    Commit(&'a Batch),
    /// [`Store::events`].
    Events(Option<Uuid>),
    /// [`Store::acquire_lease`]: name and holder.
    AcquireLease(&'a str, &'a str),
    /// [`Store::release_lease`].
    ReleaseLease(&'a LeaseToken),
    /// [`Store::expire`].
    Expire,
}

impl StoreCall<'_> {
    /// Whether the call may change the store.
    pub fn is_write(&self) -> bool {
        match self {
            StoreCall::Get(_) | StoreCall::Find(..) | StoreCall::List(_) | StoreCall::Events(_) => false,
            StoreCall::Commit(_)
            | StoreCall::AcquireLease(..)
            | StoreCall::ReleaseLease(_)
            | StoreCall::Expire => true,
        }
    }
}

/// What is to go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The call is not carried out and fails with this kind.
    Fail(StoreErrorKind),
    /// The call is not carried out; the caller is told [`StoreErrorKind::OutcomeUnknown`]
    /// (a read: [`StoreErrorKind::Unavailable`]).
    RequestLost,
    /// The call is carried out, and if it succeeded the caller is told [`StoreErrorKind::OutcomeUnknown`] all
    /// the same (a read: [`StoreErrorKind::Unavailable`]).
    AnswerLost,
}

/// Decides about each call. It runs before the call, outside the store's lock, so it may call the store.
pub type FaultHook = Arc<dyn Fn(&StoreCall<'_>) -> Fault + Send + Sync>;

/// A [`Store`] in memory. Share it through an `Arc`.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    fault: Mutex<Option<FaultHook>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets or clears the hook that decides which calls fail.
    pub fn set_fault(&self, hook: Option<FaultHook>) {
        *self.fault.lock() = hook;
    }

    /// How many documents it holds, of all kinds.
    pub fn document_count(&self) -> usize {
        self.state.lock().document_count()
    }

    fn call<T>(
        &self,
        call: StoreCall<'_>,
        perform: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let hook = self.fault.lock().clone();
        let fault = hook.map_or(Fault::None, |hook| hook(&call));
        let no_answer = if call.is_write() {
            StoreErrorKind::OutcomeUnknown
        } else {
            StoreErrorKind::Unavailable
        };
        match fault {
            Fault::None => perform(&mut self.state.lock()),
            Fault::Fail(kind) => Err(StoreError::new(
                kind,
                "injected fault: the store refused the call",
            )),
            Fault::RequestLost => Err(StoreError::new(no_answer, "injected fault: the request was lost")),
            Fault::AnswerLost => {
                perform(&mut self.state.lock())?;
                Err(StoreError::new(no_answer, "injected fault: the answer was lost"))
            }
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("documents", &self.document_count())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: DocumentKey) -> Result<Option<StoredDocument>, StoreError> {
        self.call(StoreCall::Get(key), |state| Ok(state.get(key)))
    }

    async fn find(&self, kind: Kind, unique: &str) -> Result<Option<StoredDocument>, StoreError> {
        self.call(
            StoreCall::Find(kind, unique),
            |state| Ok(state.find(kind, unique)),
        )
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<StoredDocument>, StoreError> {
        self.call(StoreCall::List(&query), |state| Ok(state.list(&query)))
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<DocumentVersion>, StoreError> {
        self.call(StoreCall::Commit(&batch), |state| state.commit(&batch))
    }

    async fn events(
        &self,
        subject: Option<Uuid>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.call(StoreCall::Events(subject), |state| {
            Ok(state.events(subject, after, limit))
        })
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
    ) -> Result<Result<Lease, Lease>, StoreError> {
        self.call(StoreCall::AcquireLease(name, holder), |state| {
            Ok(state.acquire_lease(name, holder, now, now.plus_ms(ttl_ms)))
        })
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), StoreError> {
        self.call(StoreCall::ReleaseLease(token), |state| {
            state.release_lease(token);
            Ok(())
        })
    }

    async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError> {
        self.call(StoreCall::Expire, |state| Ok(state.expire(now, keep_events)))
    }
}
