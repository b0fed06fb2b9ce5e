//! What opening does with files that are new, old, foreign, damaged, or out of reach.
#![allow(missing_docs)]

mod child;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbaas_core::store::{
    Batch, Document, DocumentKey, DocumentVersion, NewEvent, Op, Precondition, Store, StoreError,
    StoreErrorKind,
};
use dbaas_core::time::Timestamp;
use dbaas_store::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::json;
use uuid::Uuid;

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, SqliteOptions::default())
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control-plane.db");
    (directory, path)
}

/// The names and contents of all files but SQLite's shared memory, which is no part of the data.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Opening fails as `Unusable`, for a reason that names `because`, and changes no file.
fn is_refused_untouched(path: &Path, because: &str) {
    let directory = path.parent().unwrap();
    let before = contents(directory);
    let error = open(path).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
    assert!(error.message.contains(because), "{error}");
    assert!(contents(directory) == before, "a file was touched");
}

fn document(n: u128) -> Document {
    Document {
        key: DocumentKey {
            kind: "thing",
            id: Uuid::from_u128(n),
        },
        parent: None,
        unique: None,
        references: Vec::new(),
        expires_at: None,
        body: json!({ "text": "x".repeat(2000) }),
    }
}

async fn put(store: &SqliteStore, n: u128) -> Vec<DocumentVersion> {
    let ops = vec![Op::Put(document(n), Precondition::DoesNotExist)];
    store.commit(Batch { lease: None, ops }).await.unwrap()
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let (_directory, path) = scratch();
    let store = open(&path).unwrap();
    let version = put(&store, 1).await[0];
    put(&store, 2).await;
    let event = NewEvent {
        subject: None,
        at: Timestamp::from_unix_ms(1),
        kind: "k".into(),
        message: "m".into(),
        node: None,
    };
    let ops = vec![Op::Append(event), Op::Delete(document(1).key, version)];
    store.commit(Batch { lease: None, ops }).await.unwrap();
    let now = Timestamp::from_unix_ms(10);
    let lease = store.acquire_lease("l", "a", now, 100).await.unwrap().unwrap();
    let (stored, events) = (
        store.get(document(2).key).await.unwrap(),
        store.events(None, 0, 10).await.unwrap(),
    );
    store.expire(now, 0).await.unwrap();
    drop(store);

    let store = open(&path).unwrap();
    assert_eq!(store.get(document(2).key).await.unwrap(), stored);
    assert!(put(&store, 1).await[0] > version, "versions are not used again");
    assert_eq!(
        store.acquire_lease("l", "b", now, 1).await.unwrap().unwrap_err(),
        lease
    );
    let taken = store
        .acquire_lease("l", "b", lease.expires_at, 1)
        .await
        .unwrap()
        .unwrap();
    assert!(taken.token.fencing > lease.token.fencing);
    store
        .commit(Batch {
            lease: None,
            ops: vec![Op::Append(events[0].event.clone())],
        })
        .await
        .unwrap();
    assert!(
        store.events(None, 0, 10).await.unwrap()[0].sequence > events[0].sequence,
        "nor are event numbers"
    );
}

#[tokio::test]
async fn files_are_private() {
    let (directory, path) = scratch();
    let store = open(&path).unwrap();
    put(&store, 1).await;
    let mut names = Vec::new();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["control-plane.db", "control-plane.db-shm", "control-plane.db-wal"]
    );
}

#[test]
fn a_newer_schema_is_left_alone() {
    let (_directory, path) = scratch();
    drop(open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    is_refused_untouched(&path, "schema 3, this program knows 2");
}

#[test]
fn a_newer_schema_that_only_the_log_knows_of_is_left_alone() {
    let (directory, path) = scratch();
    drop(open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    drop(connection);
    assert!(contents(directory.path()).len() > 1, "there is a log");
    is_refused_untouched(&path, "schema 7");
}

#[test]
fn foreign_files_are_left_alone() {
    let (_directory, path) = scratch();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE accounts (id); PRAGMA user_version = 1;")
        .unwrap();
    drop(connection);
    is_refused_untouched(&path, "not written by this program");
    fs::write(&path, "hello").unwrap();
    is_refused_untouched(&path, "not written by this program");
    fs::write(&path, vec![b'x'; 100_000]).unwrap();
    is_refused_untouched(&path, "not written by this program");
    fs::write(&path, "").unwrap();
    is_refused_untouched(&path, "empty");
}

#[tokio::test]
async fn a_damaged_file_is_left_alone() {
    let (_directory, path) = scratch();
    let store = open(&path).unwrap();
    for n in 0..50 {
        put(&store, n).await;
    }
    drop(store);
    let sound = fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8192].fill(0xA5);
    fs::write(&path, &damaged).unwrap();
    is_refused_untouched(&path, "restore the file from a backup");
    fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    is_refused_untouched(&path, "restore the file from a backup");

    // Not checked on opening: found by whoever comes across it.
    fs::write(&path, &damaged).unwrap();
    let options = SqliteOptions {
        check_up_to_bytes: 0,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).unwrap();
    let mut kinds = Vec::new();
    for n in 0..50 {
        kinds.extend(store.get(document(n).key).await.err().map(|error| error.kind()));
    }
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == StoreErrorKind::Unusable),
        "{kinds:?}"
    );
}

#[test]
fn a_log_without_its_file_is_not_taken_for_a_new_store() {
    let (_directory, path) = scratch();
    fs::write(path.with_file_name("control-plane.db-wal"), "log").unwrap();
    is_refused_untouched(&path, "restore both from a backup");
}

#[test]
fn places_where_no_file_can_be_are_named() {
    let (directory, path) = scratch();
    for path in [
        directory.path().to_owned(),
        directory.path().join("missing/db"),
        PathBuf::from("/dev/null/db"),
    ] {
        let error = open(&path).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    }
    assert!(!path.exists());
}

#[test]
#[ignore = "run by read_only_places_are_named in a process of its own"]
fn child_opens() {
    let Some(path) = child::store_path() else { return };
    match open(&path) {
        Ok(_) => child::say("opened"),
        Err(error) => child::say(&format!("{:?}: {error}", error.kind())),
    }
}

#[test]
fn read_only_places_are_named() {
    let (directory, path) = scratch();
    drop(open(&path).unwrap());
    // The superuser is not held by permissions, so a child that is nobody tries; it needs a program that it
    // can reach.
    let root = is_superuser();
    let programs = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = programs.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let before = contents(directory.path());
    for path in [path.clone(), directory.path().join("new.db")] {
        let user = root.then_some(65534);
        let said = child::spawn("child_opens", &path, &[], &program, user)
            .hear()
            .unwrap();
        assert!(said.starts_with("Unavailable: "), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert_eq!(contents(directory.path()), before);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_make_and_use_it_at_the_same_time() {
    let (_directory, path) = scratch();
    let opened: Vec<_> = (0..6)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || open(&path).unwrap())
        })
        .collect();
    let stores: Vec<Arc<SqliteStore>> = opened
        .into_iter()
        .map(|thread| Arc::new(thread.join().unwrap()))
        .collect();
    let mut tasks = Vec::new();
    for (n, store) in stores.iter().enumerate() {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move {
            for m in 0..10 {
                put(&store, (n * 100 + m) as u128).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for n in 0..6 {
        for m in 0..10 {
            assert!(stores[0].get(document(n * 100 + m).key).await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn an_older_schema_is_migrated_and_keeps_what_it_has() {
    let (directory, path) = scratch();
    let store = open(&path).unwrap();
    put(&store, 1).await;
    let stored = store.get(document(1).key).await.unwrap();
    drop(store);
    // As the release before left it: the tables were the same. Once with a log, as after a crash.
    for with_log in [false, true] {
        let connection = Connection::open(&path).unwrap();
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, with_log)
            .unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);
        let store = open(&path).unwrap();
        assert_eq!(store.get(document(1).key).await.unwrap(), stored);
        // The header says so before anything is written: a program that knows 1 alone leaves the file alone.
        let header = fs::read(&path).unwrap();
        assert_eq!(header[60..64], [0, 0, 0, 2]);
        put(&store, if with_log { 2 } else { 3 }).await;
        drop(store);
    }
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 0).unwrap();
    drop(connection);
    is_refused_untouched(&path, "schema 0");
    drop(directory);
}
