//! The memory store keeps the contract, and fails when told to.
#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbaas_core::store::{Batch, Document, DocumentKey, Op, Precondition, Store, StoreErrorKind};
use dbaas_testkit::memory_store::{Fault, MemoryStore, StoreCall};
use dbaas_testkit::store_conformance;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_store_keeps_the_contract() {
    store_conformance::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

const KEY: DocumentKey = DocumentKey {
    kind: "thing",
    id: Uuid::nil(),
};

fn create() -> Batch {
    let document = Document {
        key: KEY,
        parent: None,
        unique: None,
        references: Vec::new(),
        expires_at: None,
        body: serde_json::Value::Null,
    };
    Batch {
        lease: None,
        ops: vec![Op::Put(document, Precondition::DoesNotExist)],
    }
}

fn on_commits(fault: Fault) -> Option<dbaas_testkit::memory_store::FaultHook> {
    Some(Arc::new(move |call: &StoreCall<'_>| match call {
        StoreCall::Commit(_) => fault,
        _ => Fault::None,
    }))
}

#[tokio::test]
async fn faults_say_what_they_do() {
    let store = MemoryStore::new();
    store.set_fault(on_commits(Fault::Fail(StoreErrorKind::Unavailable)));
    assert_eq!(
        store.commit(create()).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    assert_eq!(store.get(KEY).await.unwrap(), None);

    store.set_fault(on_commits(Fault::RequestLost));
    assert_eq!(
        store.commit(create()).await.unwrap_err().kind(),
        StoreErrorKind::OutcomeUnknown
    );
    assert_eq!(store.get(KEY).await.unwrap(), None, "the request was lost");

    store.set_fault(on_commits(Fault::AnswerLost));
    assert_eq!(
        store.commit(create()).await.unwrap_err().kind(),
        StoreErrorKind::OutcomeUnknown
    );
    assert!(
        store.get(KEY).await.unwrap().is_some(),
        "only the answer was lost"
    );
    assert_eq!(
        store.commit(create()).await.unwrap_err().kind(),
        StoreErrorKind::Conflict,
        "a refusal arrives"
    );

    store.set_fault(Some(Arc::new(|call: &StoreCall<'_>| {
        if call.is_write() {
            Fault::None
        } else {
            Fault::AnswerLost
        }
    })));
    assert_eq!(
        store.get(KEY).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable,
        "a read has no outcome"
    );
    store.set_fault(None);
    assert!(store.get(KEY).await.is_ok());
}

#[tokio::test]
async fn a_hook_may_count_and_call_the_store() {
    let store = Arc::new(MemoryStore::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let (inner, counter) = (Arc::downgrade(&store), Arc::clone(&calls));
    store.set_fault(Some(Arc::new(move |_: &StoreCall<'_>| {
        let documents = inner.upgrade().map_or(0, |store| store.document_count());
        let nth = counter.fetch_add(1, Ordering::Relaxed);
        if documents == 1 && nth > 0 {
            Fault::Fail(StoreErrorKind::Unavailable)
        } else {
            Fault::None
        }
    })));
    assert!(store.commit(create()).await.is_ok());
    assert_eq!(
        store.get(KEY).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}
