//! The SQLite store keeps the contract, and agrees with the memory store in whatever one can think of.
#![allow(missing_docs)]

use std::sync::Arc;

use dbaas_core::store::{
    Batch, Document, DocumentKey, DocumentVersion, Lease, LeaseToken, ListQuery, NewEvent, Op, Precondition,
    Store, StoreError, StoreErrorKind, StoredDocument, StoredEvent,
};
use dbaas_core::time::Timestamp;
use dbaas_store::{SqliteOptions, SqliteStore};
use dbaas_testkit::memory_store::MemoryStore;
use dbaas_testkit::store_conformance;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_store_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicUsize::new(0);
    store_conformance::run(|| {
        let name = format!("{}.db", made.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let path = directory.path().join(name);
        async move { Arc::new(SqliteStore::open(&path, SqliteOptions::default()).unwrap()) as Arc<dyn Store> }
    })
    .await;
    assert!(made.into_inner() > 10);
}

/// Small worlds collide often.
const KINDS: [&str; 2] = ["a", "b"];
const HOLDERS: [&str; 3] = ["x", "y", "z"];

/// Which version a precondition names, seen from what is there when it is used.
#[derive(Debug, Clone, Copy)]
enum Guess {
    /// Whatever holds.
    Right,
    Absent,
    Current,
    OffBy(i64),
}

#[derive(Debug, Clone)]
struct Put {
    kind: usize,
    id: u8,
    parent: Option<u8>,
    name: Option<u8>,
    references: Vec<u8>,
    expires_at: Option<i64>,
    body: u16,
}

#[derive(Debug, Clone)]
enum Change {
    Put(Put, Guess),
    Delete(usize, u8, Guess),
    Require(usize, u8, Guess),
    RequireUnreferenced(u8),
    Append(Option<u8>, u16),
}

#[derive(Debug, Clone)]
enum Call {
    Commit {
        under_lease: Option<(bool, u64)>,
        changes: Vec<Change>,
    },
    Acquire {
        name: bool,
        holder: usize,
        now: i64,
        ttl_ms: u64,
    },
    Release {
        name: bool,
        fencing: u64,
    },
    Expire {
        now: i64,
        keep_events: usize,
    },
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![
        12 => Just(Guess::Right),
        1 => Just(Guess::Absent),
        1 => Just(Guess::Current),
        1 => (-2..3_i64).prop_map(Guess::OffBy),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let put = (
        0..2_usize,
        0..5_u8,
        option::of(0..2_u8),
        option::of(0..3_u8),
        vec(0..5_u8, 0..3),
        option::weighted(0.2, 0..20_i64),
        any::<u16>(),
    )
        .prop_map(|(kind, id, parent, name, references, expires_at, body)| Put {
            kind,
            id,
            parent,
            name,
            references,
            expires_at,
            body,
        });
    prop_oneof![
        6 => (put, guess()).prop_map(|(put, guess)| Change::Put(put, guess)),
        3 => (0..2_usize, 0..5_u8, guess()).prop_map(|(kind, id, guess)| Change::Delete(kind, id, guess)),
        1 => (0..2_usize, 0..5_u8, guess()).prop_map(|(kind, id, guess)| Change::Require(kind, id, guess)),
        1 => (0..5_u8).prop_map(Change::RequireUnreferenced),
        2 => (option::of(0..3_u8), any::<u16>()).prop_map(|(subject, n)| Change::Append(subject, n)),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => (option::weighted(0.2, (any::<bool>(), 0..4_u64)), vec(change(), 0..5))
            .prop_map(|(under_lease, changes)| Call::Commit { under_lease, changes }),
        2 => (any::<bool>(), 0..3_usize, 0..20_i64, 0..10_u64)
            .prop_map(|(name, holder, now, ttl_ms)| Call::Acquire { name, holder, now, ttl_ms }),
        1 => (any::<bool>(), 0..4_u64).prop_map(|(name, fencing)| Call::Release { name, fencing }),
        1 => (0..20_i64, 0..4_usize).prop_map(|(now, keep_events)| Call::Expire { now, keep_events }),
    ]
}

fn id(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

fn key(kind: usize, n: u8) -> DocumentKey {
    DocumentKey {
        kind: KINDS[kind],
        id: id(n),
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn lease_name(name: bool) -> String {
    if name { "one" } else { "two" }.to_owned()
}

async fn precondition(model: &MemoryStore, key: DocumentKey, guess: Guess) -> Precondition {
    let version = model.get(key).await.unwrap().map_or(0, |stored| stored.version.0);
    match guess {
        Guess::Right if version == 0 => Precondition::DoesNotExist,
        Guess::Absent => Precondition::DoesNotExist,
        Guess::Right | Guess::Current => Precondition::MatchesVersion(DocumentVersion(version)),
        Guess::OffBy(by) => Precondition::MatchesVersion(DocumentVersion(version.saturating_add_signed(by))),
    }
}

async fn operation(model: &MemoryStore, change: &Change) -> Op {
    let version = |precondition| match precondition {
        Precondition::MatchesVersion(version) => version,
        Precondition::DoesNotExist => DocumentVersion(0),
    };
    match change {
        Change::Put(put, guess) => {
            let key = key(put.kind, put.id);
            let document = Document {
                key,
                parent: put.parent.map(id),
                unique: put.name.map(|name| format!("name {name}")),
                references: put.references.iter().map(|n| id(*n)).collect(),
                expires_at: put.expires_at.map(at),
                body: json!({ "n": put.body, "f": f64::from(put.body) / 7.0 }),
            };
            Op::Put(document, precondition(model, key, *guess).await)
        }
        Change::Delete(kind, n, guess) => {
            let key = key(*kind, *n);
            Op::Delete(key, version(precondition(model, key, *guess).await))
        }
        Change::Require(kind, n, guess) => {
            let key = key(*kind, *n);
            Op::Require(key, precondition(model, key, *guess).await)
        }
        Change::RequireUnreferenced(n) => Op::RequireUnreferenced(id(*n)),
        Change::Append(subject, n) => Op::Append(NewEvent {
            subject: subject.map(id),
            at: at(i64::from(*n)),
            kind: "k".into(),
            message: n.to_string(),
            node: None,
        }),
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Versions(Vec<DocumentVersion>),
    Lease(Result<Lease, Lease>),
    Done(usize),
    Refused(StoreErrorKind, Option<usize>, Vec<Uuid>),
}

fn refused(error: StoreError) -> Answer {
    Answer::Refused(error.kind, error.op, error.referrers)
}

async fn perform(store: &dyn Store, call: &Call, ops: &[Op]) -> Answer {
    match call {
        Call::Commit { under_lease, .. } => {
            let lease = under_lease.map(|(name, fencing)| LeaseToken {
                name: lease_name(name),
                fencing,
            });
            store
                .commit(Batch {
                    lease,
                    ops: ops.to_vec(),
                })
                .await
                .map_or_else(refused, Answer::Versions)
        }
        Call::Acquire {
            name,
            holder,
            now,
            ttl_ms,
        } => {
            let lease = store
                .acquire_lease(&lease_name(*name), HOLDERS[*holder], at(*now), *ttl_ms)
                .await;
            lease.map_or_else(refused, Answer::Lease)
        }
        Call::Release { name, fencing } => {
            let token = LeaseToken {
                name: lease_name(*name),
                fencing: *fencing,
            };
            store
                .release_lease(&token)
                .await
                .map_or_else(refused, |()| Answer::Done(0))
        }
        Call::Expire { now, keep_events } => store
            .expire(at(*now), *keep_events)
            .await
            .map_or_else(refused, Answer::Done),
    }
}

async fn everything(
    store: &dyn Store,
) -> (Vec<Vec<StoredDocument>>, Vec<Vec<StoredEvent>>, Vec<Option<Uuid>>) {
    let mut lists = Vec::new();
    let mut names = Vec::new();
    for kind in KINDS {
        for parent in [None, Some(id(0)), Some(id(1))] {
            for after in [None, Some(id(2))] {
                lists.push(
                    store
                        .list(ListQuery {
                            kind,
                            parent,
                            after,
                            limit: 3,
                        })
                        .await
                        .unwrap(),
                );
            }
        }
        for name in 0..3 {
            let found = store.find(kind, &format!("name {name}")).await.unwrap();
            names.push(found.map(|found| found.document.key.id));
        }
    }
    let mut events = Vec::new();
    for subject in [None, Some(id(0)), Some(id(1)), Some(id(2))] {
        events.push(store.events(subject, 0, 1000).await.unwrap());
        events.push(store.events(subject, 3, 2).await.unwrap());
    }
    (lists, events, names)
}

#[test]
fn any_sequence_of_calls_does_the_same_in_memory_and_in_sqlite() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let checked = runner.run(&vec(call(), 1..40), |calls| {
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let model = MemoryStore::new();
            let sqlite = SqliteStore::open(&directory.path().join("db"), SqliteOptions::default()).unwrap();
            for (index, call) in calls.iter().enumerate() {
                let mut ops = Vec::new();
                if let Call::Commit { changes, .. } = call {
                    for change in changes {
                        ops.push(operation(&model, change).await);
                    }
                }
                let expected = perform(&model, call, &ops).await;
                let found = perform(&sqlite, call, &ops).await;
                prop_assert_eq!(found, expected, "call {} {:?}", index, call);
                prop_assert_eq!(
                    everything(&sqlite).await,
                    everything(&model).await,
                    "after {} {:?}",
                    index,
                    call
                );
            }
            Ok(())
        })
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}
