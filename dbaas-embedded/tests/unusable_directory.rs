//! A data directory that is read-only, full, or of a newer program: refused with what to do, and untouched.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use dbaas_backend_local::{LocalOptions, WarmPool};
use dbaas_embedded::{EmbeddedOptions, OpenError};
use dbaas_store::{DataDirLockError, Sealer, SqliteOptions, SqliteStore};

/// A file system of its own; gone with the value.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, said loudly, where we may not mount.
    fn new(megabytes: u32) -> Option<Mount> {
        let directory = tempfile::tempdir().expect("a directory");
        let mount = Mount(directory);
        let size = format!("size={megabytes}m");
        if mount.run("mount", &["-t", "tmpfs", "-o", &size, "dbaas-test"]) {
            Some(mount)
        } else {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: only root may mount the file systems that this needs"
            );
            None
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let status = Command::new(program).args(arguments).arg(self.path()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.run("umount", &["--lazy"]);
    }
}

/// A store and its key, as a control plane leaves them.
fn populate(directory: &Path) {
    let store = directory.join("dbaas.sqlite");
    Sealer::beside_store(&directory.join("dbaas.key"), &store).expect("a key");
    drop(SqliteStore::open(&store, SqliteOptions::default()).expect("a store"));
    fs::write(directory.join("lock"), "").expect("a lock file");
}

type Contents = BTreeMap<PathBuf, (Option<SystemTime>, Vec<u8>)>;

fn contents(directory: &Path) -> Contents {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            // The lock's holder is written and taken away again: its content counts, its time does not.
            let is_lock = path.ends_with("lock");
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let content = fs::read(&path).unwrap_or_default();
            (path, (changed.filter(|_| !is_lock), content))
        })
        .collect()
}

async fn refusal(directory: &Path) -> OpenError {
    let before = contents(directory);
    let local = LocalOptions {
        warm_pool: WarmPool {
            sets: 0,
            seeds_per_set: 0,
        },
        allow_download: false,
        ..LocalOptions::default()
    };
    let options = EmbeddedOptions {
        local,
        ..EmbeddedOptions::default()
    };
    let Err(error) = dbaas_embedded::open(directory, options).await else {
        panic!("it opened")
    };
    assert!(contents(directory) == before, "something was touched");
    error
}

fn why(error: &OpenError) -> String {
    let cause = error.source().expect("says why");
    format!("{error}: {cause}")
}

#[tokio::test]
async fn read_only() {
    let Some(mount) = Mount::new(64) else { return };
    populate(mount.path());
    assert!(mount.run("mount", &["-o", "remount,ro"]));
    let error = refusal(mount.path()).await;
    assert!(
        matches!(error, OpenError::Lock(DataDirLockError::ReadOnly { .. })),
        "{error:?}"
    );
    assert!(why(&error).contains("remount,rw"), "{}", why(&error));

    // Nothing is there yet, and nothing can be made.
    let error = dbaas_embedded::open(&mount.path().join("new"), EmbeddedOptions::default()).await;
    let Err(error @ OpenError::Directory { .. }) = error else {
        panic!("it opened")
    };
    assert!(why(&error).contains("Read-only file system"), "{}", why(&error));
}

#[tokio::test]
async fn full() {
    let Some(mount) = Mount::new(24) else { return };
    populate(mount.path());
    fs::write(mount.path().join("other"), vec![0; 12 << 20]).expect("room");
    let error = refusal(mount.path()).await;
    assert!(
        matches!(error, OpenError::Lock(DataDirLockError::Full { .. })),
        "{error:?}"
    );
    assert!(why(&error).contains("free some space"), "{}", why(&error));

    // To the last byte.
    let _no_room = fs::write(mount.path().join("more"), vec![0; 24 << 20]);
    let error = refusal(mount.path()).await;
    assert!(
        matches!(
            error,
            OpenError::Lock(DataDirLockError::Full { free_bytes: 0, .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn of_a_newer_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    populate(directory.path());
    let newer = rusqlite::Connection::open(directory.path().join("dbaas.sqlite")).expect("SQLite");
    newer
        .pragma_update(None, "user_version", 4711)
        .expect("a newer number");
    newer.close().expect("closed");
    let error = refusal(directory.path()).await;
    assert!(matches!(error, OpenError::Store(_)), "{error:?}");
    let why = why(&error);
    assert!(
        why.contains("schema 4711") && why.contains("run the newer program"),
        "{why}"
    );
}

#[tokio::test]
async fn with_its_key_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    populate(directory.path());
    fs::remove_file(directory.path().join("dbaas.key")).expect("a key");
    let error = refusal(directory.path()).await;
    assert!(
        why(&error).contains("restore it from a backup"),
        "{}",
        why(&error)
    );
}
