//! What was acknowledged is there after a crash, and nothing is there by halves.
#![allow(missing_docs)]

mod child;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::store::{
    Batch, Document, DocumentKey, NewEvent, Op, Precondition, Store, StoreErrorKind, StoredDocument,
};
use dbaas_core::time::Timestamp;
use dbaas_store::{DataDirLock, DataDirLockError, SqliteOptions, SqliteStore};
use serde_json::json;
use uuid::Uuid;

const WRITERS: u64 = 4;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn key(kind: &'static str, writer: u64) -> DocumentKey {
    DocumentKey {
        kind,
        id: Uuid::from_u128(u128::from(writer)),
    }
}

async fn left(store: &SqliteStore, writer: u64) -> Option<StoredDocument> {
    store.get(key("left", writer)).await.unwrap()
}

/// Counts one further in two documents and an event, in one batch.
async fn count_further(store: &SqliteStore, writer: u64) -> Result<u64, StoreErrorKind> {
    let count = |stored: &Option<StoredDocument>| {
        stored
            .as_ref()
            .map_or(0, |s| s.document.body["n"].as_u64().unwrap())
    };
    let mut ops = Vec::new();
    let mut next = 0;
    for kind in ["left", "right"] {
        let stored = store.get(key(kind, writer)).await.map_err(|error| error.kind())?;
        next = count(&stored) + 1;
        let document = Document {
            key: key(kind, writer),
            parent: None,
            unique: Some(format!("{writer} at {next}")),
            references: vec![Uuid::from_u128(u128::from(next))],
            expires_at: None,
            body: json!({ "n": next, "filler": "x".repeat(500) }),
        };
        let precondition = match &stored {
            Some(stored) => Precondition::MatchesVersion(stored.version),
            None => Precondition::DoesNotExist,
        };
        ops.push(Op::Put(document, precondition));
    }
    ops.push(Op::Append(NewEvent {
        subject: Some(Uuid::from_u128(u128::from(writer))),
        at: Timestamp::from_unix_ms(0),
        kind: "counted".into(),
        message: next.to_string(),
        node: None,
    }));
    store
        .commit(Batch { lease: None, ops })
        .await
        .map(|_| next)
        .map_err(|error| error.kind())
}

/// How far a writer came; checks that the parts of its batches agree.
async fn counted(store: &SqliteStore, writer: u64) -> u64 {
    let number = |stored: &StoredDocument| stored.document.body["n"].as_u64().unwrap();
    let right = store.get(key("right", writer)).await.unwrap();
    let Some(left) = left(store, writer).await else {
        assert_eq!(right, None, "half a batch");
        return 0;
    };
    let n = number(&left);
    assert_eq!(right.as_ref().map(number), Some(n), "half a batch");
    let named = store.find("left", &format!("{writer} at {n}")).await.unwrap();
    assert_eq!(named, Some(left), "the name is of the same batch");
    let subject = Some(Uuid::from_u128(u128::from(writer)));
    let (mut after, mut events) = (0, 0);
    loop {
        let page = store.events(subject, after, 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for event in page {
            events += 1;
            assert_eq!(event.event.message, events.to_string(), "an event is missing");
        }
    }
    assert_eq!(events, n, "one event for each batch");
    n
}

#[test]
#[ignore = "run by acknowledged_commits_survive_kill_9 in a process of its own"]
fn child_counts_until_killed() {
    let Some(path) = child::store_path() else { return };
    let store = Arc::new(open(&path));
    runtime().block_on(async {
        let begun = Instant::now();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    while begun.elapsed() < Duration::from_secs(20) {
                        let n = count_further(&store, writer).await.unwrap();
                        child::say(&format!("{writer} {n}"));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[test]
fn acknowledged_commits_survive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let runtime = runtime();
    let mut total = 0;
    for round in 0..6_u64 {
        let program = std::env::current_exe().unwrap();
        let mut child = child::spawn("child_counts_until_killed", &path, &[], &program, None);
        let mut acknowledged = [0; WRITERS as usize];
        let mut hear = |child: &mut child::Spawned| {
            let Some(said) = child.hear() else { return false };
            let (writer, n) = said.split_once(' ').unwrap();
            acknowledged[writer.parse::<usize>().unwrap()] = n.parse::<u64>().unwrap();
            true
        };
        assert!(hear(&mut child), "the child writes");
        let until = Instant::now() + Duration::from_millis(40 + 90 * round);
        while Instant::now() < until {
            assert!(hear(&mut child), "the child writes until it is killed");
        }
        child.kill();
        while hear(&mut child) {}
        runtime.block_on(async {
            let store = open(&path);
            for writer in 0..WRITERS {
                let n = counted(&store, writer).await;
                let known = acknowledged[usize::try_from(writer).unwrap()];
                assert!(n >= known, "writer {writer}: {known} acknowledged, {n} found");
                assert!(n <= known + 1, "writer {writer} had one commit under way");
                total = total.max(n);
            }
        });
    }
    assert!(total > 20, "the test has written something: {total}");
}

#[test]
fn a_log_that_is_cut_or_scribbled_on_gives_the_commits_before() {
    const COMMITS: u64 = 25;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let runtime = runtime();
    let (file, log) = runtime.block_on(async {
        let store = open(&path);
        for n in 1..=COMMITS {
            assert_eq!(count_further(&store, 0).await, Ok(n));
        }
        (
            std::fs::read(&path).unwrap(),
            std::fs::read(directory.path().join("db-wal")).unwrap(),
        )
    });
    let recovered = |log: &[u8], name: &str| {
        let directory = directory.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("db"), &file).unwrap();
        std::fs::write(directory.join("db-wal"), log).unwrap();
        runtime.block_on(async {
            let store = open(&directory.join("db"));
            let n = counted(&store, 0).await;
            assert_eq!(
                count_further(&store, 0).await,
                Ok(n + 1),
                "and it goes on from there"
            );
            n
        })
    };
    assert_eq!(
        recovered(&log, "whole"),
        COMMITS,
        "a machine that lost power right after the last commit"
    );
    let mut last = 0;
    for step in 0..=20 {
        let length = log.len() * step / 20;
        let n = recovered(&log[..length], &format!("cut {step}"));
        assert!(n >= last && n <= COMMITS, "a longer log holds no fewer commits");
        last = n;
        let mut scribbled = log.clone();
        if let Some(byte) = scribbled.get_mut(length) {
            *byte ^= 0x55;
            assert_eq!(
                recovered(&scribbled, &format!("scribble {step}")),
                n,
                "nothing after the damage counts"
            );
        }
    }
    assert_eq!(last, COMMITS);
}

#[test]
#[ignore = "run by a_file_that_cannot_grow_loses_nothing in a process of its own"]
fn child_counts_until_it_fails() {
    let Some(path) = child::store_path() else { return };
    let store = open(&path);
    runtime().block_on(async {
        let mut failures = 0;
        for _ in 0..5000 {
            match count_further(&store, 0).await {
                Ok(n) => child::say(&n.to_string()),
                Err(kind) => {
                    assert!(
                        matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::OutcomeUnknown),
                        "{kind:?}"
                    );
                    child::say(&format!("{kind:?}"));
                    failures += 1;
                    if failures == 20 {
                        break;
                    }
                }
            }
        }
    });
    child::say("ends");
}

#[test]
fn a_file_that_cannot_grow_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    drop(open(&path));
    let program = std::env::current_exe().unwrap();
    // 1,200 blocks of 512 bytes: reached by the log before it is first copied into the file.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 1200; exec \"$@\"", "sh"];
    let mut child = child::spawn("child_counts_until_it_fails", &path, &limited, &program, None);
    let (mut acknowledged, mut failures, mut ended) = (0, 0, false);
    while let Some(said) = child.hear() {
        match said.parse::<u64>() {
            Ok(n) => acknowledged = n,
            Err(_) if said == "ends" => ended = true,
            Err(_) => failures += 1,
        }
    }
    assert!(ended, "the store fails in good order");
    assert!(
        acknowledged > 5 && failures > 0,
        "{acknowledged} commits, {failures} failures"
    );
    runtime().block_on(async {
        let store = open(&path);
        let n = counted(&store, 0).await;
        assert!(
            n == acknowledged || n == acknowledged + 1,
            "{acknowledged} acknowledged, {n} found"
        );
        assert_eq!(
            count_further(&store, 0).await,
            Ok(n + 1),
            "with room again it goes on"
        );
    });
}

#[test]
#[ignore = "run by a_lock_ends_with_its_process in a process of its own"]
fn child_holds_the_lock() {
    let Some(path) = child::store_path() else { return };
    let _lock = DataDirLock::acquire(&path).unwrap();
    child::say(&std::process::id().to_string());
    std::thread::sleep(Duration::from_secs(20));
}

#[test]
fn a_lock_ends_with_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = child::spawn("child_holds_the_lock", directory.path(), &[], &program, None);
    let process = child.hear().unwrap();
    match DataDirLock::acquire(directory.path()) {
        Err(error @ DataDirLockError::Locked { .. }) => {
            assert!(
                error
                    .to_string()
                    .contains(&format!("in use by process {process} on ")),
                "{error}"
            );
        }
        other => panic!("expected to be refused: {other:?}"),
    }
    child.kill();
    DataDirLock::acquire(directory.path()).unwrap();
}
