//! The suite that every [`Store`] runs: the contract of [`dbaas_core::store`] as code.
//!
//! Call [`run`] from a test, with a function that makes a fresh, empty store. It panics where the store
//! breaks the contract. Use a runtime with several threads, so that the concurrent cases are truly so.
//!
//! ```
//! use std::sync::Arc;
//! use dbaas_core::store::Store;
//! use dbaas_testkit::{memory_store::MemoryStore, store_conformance};
//!
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
//! store_conformance::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
//! # });
//! ```

mod batches;
mod concurrency;
mod documents;
mod events;
mod leases;

use std::future::Future;
use std::sync::Arc;

use dbaas_core::store::{
    Batch, Document, DocumentKey, DocumentVersion, Kind, Op, Precondition, Store, StoreError, StoreErrorKind,
    StoredDocument,
};
use dbaas_core::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

/// Runs every case, each against a store of its own.
///
/// # Panics
/// When the store does not do what the contract says; the message says what was expected.
pub async fn run<Make, Made>(make: Make)
where
    Make: Fn() -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    documents::preconditions(&*make().await).await;
    documents::contents_come_back_as_written(&*make().await).await;
    documents::versions_are_never_reused(&*make().await).await;
    documents::unique_names(&*make().await).await;
    documents::listing_and_paging(&*make().await).await;
    documents::expiry(&*make().await).await;
    batches::operations_see_those_before_them(&*make().await).await;
    batches::references(&*make().await).await;
    batches::a_refused_batch_leaves_nothing(&*make().await).await;
    leases::holders_and_expiry(&*make().await).await;
    leases::release(&*make().await).await;
    leases::fencing_of_commits(&*make().await).await;
    events::order_paging_and_subjects(&*make().await).await;
    events::retention(&*make().await).await;
    concurrency::one_of_sixteen_equal_creates_wins(make().await).await;
    concurrency::counter_loses_no_increment(make().await).await;
    concurrency::one_of_eight_takes_the_lease(make().await).await;
    concurrency::a_following_reader_misses_no_event(make().await).await;
}

const THING: Kind = "thing";
const OTHER: Kind = "other";

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn key(n: u128) -> DocumentKey {
    DocumentKey {
        kind: THING,
        id: id(n),
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000 + ms)
}

fn document(n: u128) -> Document {
    Document {
        key: key(n),
        parent: None,
        unique: None,
        references: Vec::new(),
        expires_at: None,
        body: json!({ "n": n.to_string() }),
    }
}

fn named(n: u128, name: &str) -> Document {
    Document {
        unique: Some(name.to_owned()),
        ..document(n)
    }
}

fn create(document: Document) -> Op {
    Op::Put(document, Precondition::DoesNotExist)
}

fn update(document: Document, version: DocumentVersion) -> Op {
    Op::Put(document, Precondition::MatchesVersion(version))
}

async fn commit(
    store: &dyn Store,
    ops: impl IntoIterator<Item = Op>,
) -> Result<Vec<DocumentVersion>, StoreError> {
    store
        .commit(Batch {
            lease: None,
            ops: ops.into_iter().collect(),
        })
        .await
}

/// Commits one `Put` and returns its version.
async fn put(store: &dyn Store, op: Op) -> DocumentVersion {
    let versions = commit(store, [op]).await.expect("the store takes the document");
    assert_eq!(versions.len(), 1, "one Put returns one version");
    versions[0]
}

async fn get(store: &dyn Store, key: DocumentKey) -> Option<StoredDocument> {
    store.get(key).await.expect("the store reads a document")
}

/// The batch is refused with this kind at this operation.
async fn refused(
    store: &dyn Store,
    ops: impl IntoIterator<Item = Op>,
    kind: StoreErrorKind,
    op: usize,
) -> StoreError {
    let error = commit(store, ops).await.expect_err("the store refuses the batch");
    assert_eq!(
        (error.kind(), error.op),
        (kind, Some(op)),
        "refused for the wrong reason: {error}"
    );
    assert!(!error.message.is_empty(), "an error says what happened");
    error
}
