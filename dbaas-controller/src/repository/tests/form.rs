//! Stores of other forms.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbaas_core::store::{Batch, Document, Op, Precondition, StoredDocument};
use dbaas_testkit::memory_store::StoreCall;
use serde::Deserialize;
use serde_json::Value as Json;

use super::*;

/// What the release before form 2 kept of an instance of two nodes that runs, with a database, two users, and
/// a restart that was asked for a moment before it was killed.
const FORM_1: &str = include_str!("form_1.json");

const KINDS: [Kind; 12] = [
    "instance",
    "instance_decisions",
    "instance_status",
    "user",
    "user_decisions",
    "user_status",
    "database",
    "database_decisions",
    "database_status",
    "version",
    "variable",
    "form",
];

#[derive(Deserialize)]
struct Kept {
    kind: String,
    id: Uuid,
    version: u64,
    parent: Option<Uuid>,
    unique: Option<String>,
    references: Vec<Uuid>,
    body: Json,
}

fn kept() -> Vec<Kept> {
    serde_json::from_str(FORM_1).unwrap()
}

/// A store with that in it, and how often it was written since.
async fn form_1() -> (Arc<MemoryStore>, Repository, Arc<AtomicUsize>) {
    let (store, repository) = repository();
    for kept in kept() {
        let kind = KINDS.into_iter().find(|kind| *kind == kept.kind).unwrap();
        let document = Document {
            key: DocumentKey { kind, id: kept.id },
            parent: kept.parent,
            unique: kept.unique,
            references: Vec::new(),
            expires_at: None,
            body: kept.body,
        };
        let mut precondition = Precondition::DoesNotExist;
        for version in 1..=kept.version {
            let mut document = document.clone();
            if version == kept.version {
                document.references.clone_from(&kept.references);
            }
            let batch = Batch {
                lease: None,
                ops: vec![Op::Put(document, precondition)],
            };
            precondition = Precondition::MatchesVersion(store.commit(batch).await.unwrap()[0]);
        }
    }
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
        if matches!(call, StoreCall::Commit(_)) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Fault::None
    })));
    (store, repository, commits)
}

async fn everything(store: &MemoryStore) -> BTreeMap<DocumentKey, StoredDocument> {
    let mut all = BTreeMap::new();
    for kind in KINDS {
        let query = ListQuery {
            kind,
            parent: None,
            after: None,
            limit: 100,
        };
        let found = store.list(query).await.unwrap();
        all.extend(found.into_iter().map(|stored| (stored.document.key, stored)));
    }
    all
}

/// Every record of a kind is as it was, and as taken over as it was.
async fn are_as_before<R>(repository: &Repository)
where
    R: Record + PartialEq + std::fmt::Debug,
{
    let before: Vec<Kept> = kept().into_iter().filter(|kept| kept.kind == R::KIND).collect();
    let after = repository.all::<R>(None).await.unwrap();
    assert!(!before.is_empty());
    assert_eq!(before.len(), after.len());
    for (before, after) in before.into_iter().zip(after) {
        let record: R = serde_json::from_value(before.body).unwrap();
        assert_eq!(record, after.record);
        assert_eq!(after.version.0, before.version + 1);
        assert!(after.parts.is_taken());
        assert_eq!(after.observed(), Some(2));
    }
}

#[tokio::test]
async fn a_store_of_form_1_is_rewritten_in_one_transaction_and_loses_nothing() {
    let (store, repository, commits) = form_1().await;
    repository.migrate().await.unwrap();
    assert_eq!(commits.load(Ordering::SeqCst), 1);
    are_as_before::<InstanceRecord>(&repository).await;
    are_as_before::<UserRecord>(&repository).await;
    are_as_before::<DatabaseRecord>(&repository).await;
    let instance = repository.all::<InstanceRecord>(None).await.unwrap().remove(0);
    assert!(
        instance.record.requests.restart.is_some(),
        "asked for, and not seen yet"
    );
    assert!(instance.record.status.observed_generation < instance.record.generation);
    assert!(!instance.record.sealed_credentials.is_empty());

    // Names and references are as they were: the version has an instance, the owner a database.
    let name = instance_name(ProjectId::DEFAULT, "orders");
    assert!(repository.find::<InstanceRecord>(&name).await.unwrap().is_some());
    let owner = repository.all::<DatabaseRecord>(None).await.unwrap()[0]
        .record
        .owner;
    for id in [instance.record.spec.version.uuid(), owner.uuid()] {
        let error = repository
            .commit(Change::new().require_unreferenced(id))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Referenced);
    }

    let before = everything(&store).await;
    let commits_before = commits.load(Ordering::SeqCst);
    repository.migrate().await.unwrap();
    assert_eq!(commits.load(Ordering::SeqCst), commits_before, "it is done");
    assert!(everything(&store).await == before);
}

#[tokio::test]
async fn a_rewriting_that_was_cut_short_happened_whole_or_not_at_all() {
    for fault in [
        Fault::Fail(StoreErrorKind::Unavailable),
        Fault::RequestLost,
        Fault::AnswerLost,
    ] {
        let (store, repository, _) = form_1().await;
        let before = everything(&store).await;
        let first = AtomicUsize::new(0);
        store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
            let is_first = matches!(call, StoreCall::Commit(_)) && first.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { fault } else { Fault::None }
        })));
        let outcome = repository.migrate().await;
        if fault == Fault::Fail(StoreErrorKind::Unavailable) {
            assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Unavailable);
            assert!(everything(&store).await == before);
            repository.migrate().await.unwrap();
        } else {
            outcome.unwrap();
        }
        are_as_before::<InstanceRecord>(&repository).await;
        are_as_before::<UserRecord>(&repository).await;
        are_as_before::<DatabaseRecord>(&repository).await;
    }
}

#[tokio::test]
async fn a_record_that_is_damaged_keeps_the_store_as_it_is() {
    let (store, repository, commits) = form_1().await;
    let id = kept().into_iter().find(|kept| kept.kind == "user").unwrap().id;
    let mut stored = store.get(UserRecord::key(id)).await.unwrap().unwrap();
    stored.document.body["verifier"] = "SECRET".into();
    let put = Op::Put(stored.document, Precondition::MatchesVersion(stored.version));
    let batch = Batch {
        lease: None,
        ops: vec![put],
    };
    store.commit(batch).await.unwrap();
    let before = everything(&store).await;
    let commits_before = commits.load(Ordering::SeqCst);
    let error = repository.migrate().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable);
    assert!(error.message.contains(&id.to_string()) && !error.message.contains("SECRET"));
    assert_eq!(commits.load(Ordering::SeqCst), commits_before);
    assert!(everything(&store).await == before);
}

#[tokio::test]
async fn a_newer_form_is_refused_and_left_alone() {
    let (store, repository, commits) = form_1().await;
    repository.migrate().await.unwrap();
    let key = DocumentKey {
        kind: "form",
        id: Uuid::nil(),
    };
    let mut note = store.get(key).await.unwrap().unwrap();
    note.document.body["form"] = 3.into();
    let put = Op::Put(note.document, Precondition::MatchesVersion(note.version));
    let batch = Batch {
        lease: None,
        ops: vec![put],
    };
    store.commit(batch).await.unwrap();
    let before = everything(&store).await;
    let commits_before = commits.load(Ordering::SeqCst);
    let error = repository.migrate().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable);
    assert!(error.message.contains("form 3"), "{error}");
    assert_eq!(commits.load(Ordering::SeqCst), commits_before);
    assert!(everything(&store).await == before);
}

#[tokio::test]
async fn a_new_store_gets_the_note_alone() {
    let (store, repository) = repository();
    repository.migrate().await.unwrap();
    assert_eq!(everything(&store).await.len(), 1);
}
