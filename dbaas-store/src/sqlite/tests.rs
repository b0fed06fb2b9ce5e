//! Queues and deadlines, with requests that take as long as the test wants.

use std::sync::mpsc::channel;
use std::time::Instant;

use dbaas_core::store::{Document, Op, Precondition};
use serde_json::json;

use super::*;

fn open(options: SqliteOptions) -> (tempfile::TempDir, Arc<SqliteStore>) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("db"), options).unwrap();
    (directory, Arc::new(store))
}

fn quick() -> SqliteOptions {
    SqliteOptions {
        deadline: Duration::from_secs(1),
        busy_timeout: Duration::from_millis(20),
        queue_length: 4,
        readers: 1,
        ..SqliteOptions::default()
    }
}

fn create(n: u128) -> Batch {
    let document = Document {
        key: DocumentKey {
            kind: "thing",
            id: Uuid::from_u128(n),
        },
        parent: None,
        unique: None,
        references: Vec::new(),
        expires_at: None,
        body: json!(1),
    };
    Batch {
        lease: None,
        ops: vec![Op::Put(document, Precondition::DoesNotExist)],
    }
}

async fn exists(store: &SqliteStore, n: u128) -> bool {
    store
        .get(DocumentKey {
            kind: "thing",
            id: Uuid::from_u128(n),
        })
        .await
        .unwrap()
        .is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_writer_is_told_apart_from_one_that_did_not_begin() {
    let (_directory, store) = open(quick());
    let (release, released) = channel::<()>();
    let slow = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store
                .write(move |connection| {
                    connection.execute("INSERT INTO barrier VALUES (7)", [])?;
                    let _ = released.recv_timeout(Duration::from_secs(10));
                    Ok(())
                })
                .await
        })
    };
    tokio::time::sleep(Duration::from_millis(150)).await;
    // Queued behind the slow one: never begun, so surely not written.
    let late = store.commit(create(1)).await.unwrap_err();
    assert_eq!(late.kind(), StoreErrorKind::Unavailable, "{late}");
    assert!(late.is_retryable());
    let slow = slow.await.unwrap().unwrap_err();
    assert_eq!(slow.kind(), StoreErrorKind::OutcomeUnknown, "{slow}");
    // Reads do not wait for the writer.
    assert!(!exists(&store, 1).await);
    release.send(()).unwrap();
    store.commit(create(2)).await.unwrap();
    assert!(
        !exists(&store, 1).await,
        "what was reported as not begun is never done later"
    );
    let kept: i64 = store
        .read(|connection| Ok(connection.query_row("SELECT count(*) FROM barrier", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(kept, 2, "what was begun was done, this time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queues_refuse_at_once() {
    let (_directory, store) = open(SqliteOptions {
        deadline: Duration::from_secs(5),
        ..quick()
    });
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (write, read) = (Arc::clone(&store), Arc::clone(&store));
        let (at_write, at_read) = (Arc::clone(&released), Arc::clone(&released));
        let wait = |gate: &Mutex<Receiver<()>>| {
            let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(10));
            Ok(())
        };
        waiting.push(tokio::spawn(async move {
            write.write(move |_| wait(&at_write)).await
        }));
        waiting.push(tokio::spawn(
            async move { read.read(move |_| wait(&at_read)).await },
        ));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut queued = Vec::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        queued.push(tokio::spawn(async move { store.commit(create(n)).await }));
    }
    // One of the two slow writes is under way, the other one waits among four.
    let begun = Instant::now();
    while queued.iter().filter(|task| task.is_finished()).count() < 5 {
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "refused at once, not after the deadline"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..4 {
        release.send(()).unwrap();
    }
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    let mut done = 0;
    for task in queued {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
    }
    assert_eq!(done, 3);
}

/// Keeps the only reading thread busy until the sender is dropped.
async fn occupy_reader(store: &Arc<SqliteStore>) -> std::sync::mpsc::Sender<()> {
    let (release, released) = channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let occupy = move |_: &Connection| {
            let _ = begun.send(());
            let _ = released.recv_timeout(Duration::from_secs(10));
            Ok(())
        };
        store.read(occupy).await
    });
    has_begun.await.unwrap();
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_read_needs_no_thread_and_falls_back_to_one() {
    let (_directory, store) = open(quick());
    store.commit(create(1)).await.unwrap();
    let release = occupy_reader(&store).await;
    assert!(exists(&store, 1).await, "read on the spot");
    let all = ListQuery {
        kind: "thing",
        parent: None,
        after: None,
        limit: SMALL_LIST + 1,
    };
    let error = store.list(all).await.unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Unavailable,
        "waits for the thread: {error}"
    );
    drop(release);
    // Another task reads on the spot: this one goes to the thread instead of waiting.
    let here = store.on_the_spot.as_ref().unwrap();
    let found = here.read(|_| {
        assert!(here.read(|_| Ok(())).is_none());
        Ok(())
    });
    assert!(found.is_some());
    assert!(exists(&store, 1).await);
}

#[tokio::test]
async fn a_runtime_of_one_worker_never_waits_for_the_disk() {
    let (_directory, store) = open(quick());
    store.commit(create(1)).await.unwrap();
    let release = occupy_reader(&store).await;
    let key = DocumentKey {
        kind: "thing",
        id: Uuid::from_u128(1),
    };
    assert_eq!(
        store.get(key).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    drop(release);
    assert!(exists(&store, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_leaves_its_group_alone() {
    let (_directory, store) = open(SqliteOptions::default());
    let (release, released) = channel::<()>();
    let first = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let wait = move |_: &Connection| {
                let _ = released.recv_timeout(Duration::from_secs(10));
                Ok(())
            };
            store.write(wait).await
        })
    };
    tokio::time::sleep(Duration::from_millis(150)).await;
    // All of these end up in one transaction.
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(create(n % 10)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(150)).await;
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!(done, 10);
    for n in 0..10 {
        assert!(exists(&store, n).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_in_another_process_makes_us_wait_and_then_say_so() {
    let (_directory, store) = open(quick());
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.commit(create(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("another process"), "{error}");
    assert!(!exists(&store, 1).await);
    other.execute_batch("COMMIT").unwrap();
    store.commit(create(1)).await.unwrap();

    // Longer than the caller's patience: given up before it was begun.
    drop(store);
    let (_directory, store) = open(SqliteOptions {
        busy_timeout: Duration::from_secs(2),
        ..quick()
    });
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.commit(create(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    other.execute_batch("COMMIT").unwrap();
    store.commit(create(2)).await.unwrap();
    assert!(!exists(&store, 1).await);
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_goes_on_reading() {
    let (_directory, store) = open(SqliteOptions::default());
    store.commit(create(1)).await.unwrap();
    store
        .write(|connection| {
            // The nearest to a full disk that needs no file system of its own: SQLITE_FULL all the same.
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 2), [], |_| Ok(()))?;
            Ok(())
        })
        .await
        .unwrap();
    let large = |n| {
        let mut batch = create(n);
        if let Op::Put(document, _) = &mut batch.ops[0] {
            document.body = json!("x".repeat(100_000));
        }
        batch
    };
    let error = store.commit(large(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("free some space"), "{error}");
    assert!(exists(&store, 1).await && !exists(&store, 2).await);
    let unlimited = |connection: &Connection| {
        connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))?;
        Ok(())
    };
    store.write(unlimited).await.unwrap();
    store.commit(large(2)).await.unwrap();
}

#[tokio::test]
async fn while_an_outcome_is_in_doubt_nothing_is_read_before_the_barrier() {
    let (_directory, store) = open(SqliteOptions::default());
    store.commit(create(1)).await.unwrap();
    let doubt = Arc::clone(&store.doubt);
    // Another process holds the write lock, so that the barrier cannot pass.
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    doubt.store(true, std::sync::atomic::Ordering::Release);
    let key = DocumentKey {
        kind: "thing",
        id: Uuid::from_u128(1),
    };
    assert_eq!(
        store.get(key).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    other.execute_batch("COMMIT").unwrap();
    store.commit(create(2)).await.unwrap();
    assert!(exists(&store, 1).await && exists(&store, 2).await);
    let passed: i64 = store
        .read(|connection| Ok(connection.query_row("SELECT max(passed) FROM barrier", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(passed, 1);
}

#[tokio::test]
async fn bodies_beyond_the_bounds_are_refused_with_their_operation() {
    let (_directory, store) = open(SqliteOptions::default());
    let with_body = |n, body| {
        let mut batch = create(n);
        if let Op::Put(document, _) = &mut batch.ops[0] {
            document.body = body;
        }
        batch
    };
    let nested = |levels| (1..levels).fold(json!([]), |inner, _| serde_json::Value::Array(vec![inner]));
    store.commit(with_body(1, nested(100))).await.unwrap();
    assert!(exists(&store, 1).await, "what was taken can be read");
    for body in [nested(101), nested(2000), json!("x".repeat(9 << 20))] {
        let error = store.commit(with_body(2, body)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.op),
            (StoreErrorKind::TooLarge, Some(0)),
            "{error}"
        );
    }
    assert!(!exists(&store, 2).await);
}

#[test]
fn a_dropped_store_is_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (directory, store) = open(SqliteOptions::default());
    runtime.block_on(store.commit(create(1))).unwrap();
    drop(store);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["db"], "the log was copied into the file and removed");
}
