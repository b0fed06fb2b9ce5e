//! [`DataDirLock`]: one control plane for each data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use dbaas_core::time::Timestamp;
use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs};

const FILE_NAME: &str = "lock";
/// More than a holder ever writes: what lies there may not be ours.
const HOLDER_BYTES_MAX: u64 = 512;
/// A control plane does not begin with less: its store's log grows to about as much.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// The right to use a data directory, as an advisory lock (`flock(2)`) on the file `lock` in it. The system
/// releases it when the process dies, however it dies. Children that are started with `exec` do not inherit
/// it.
///
/// ```
/// use dbaas_store::{DataDirLock, DataDirLockError};
///
/// # let directory = tempfile::tempdir()?;
/// let lock = DataDirLock::acquire(directory.path())?;
/// match DataDirLock::acquire(directory.path()) {
///     Err(DataDirLockError::Locked { holder, .. }) => assert!(holder.contains("process")),
///     _ => unreachable!("it is held"),
/// }
/// drop(lock);
/// DataDirLock::acquire(directory.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DataDirLock {
    file: File,
    path: PathBuf,
}

/// The lock was not acquired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirLockError {
    /// Somebody else has it.
    #[error("{} is in use by {holder}: stop that one first, or use another data directory", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Who: process, host, since when.
        holder: String,
    },
    /// Its file system is mounted read-only. Nothing was touched.
    #[error(
        "{} is on a read-only file system: mount it writable (mount -o remount,rw), or use another data directory",
        directory.display()
    )]
    ReadOnly {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no room to work in. Nothing was touched.
    #[error(
        "{} has {free_bytes} bytes free, at least {FREE_BYTES_MIN} are needed: free some space on its file system, or use another \
         data directory",
        directory.display()
    )]
    Full {
        /// The directory.
        directory: PathBuf,
        /// What its file system has left for us.
        free_bytes: u64,
    },
    /// We may not write there.
    #[error(
        "{} cannot be written by this user: give it to the user that runs this program (chown), or use another data directory",
        path.display()
    )]
    NotPermitted {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file cannot be made, written or locked.
    #[error("cannot lock {}: it must be on a file system that knows locks", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataDirLock {
    /// Takes the lock of a directory that exists, at once or not at all.
    ///
    /// # Errors
    /// [`DataDirLockError::Locked`] names the holder. A directory that cannot be worked in is refused before
    /// anything in it is touched.
    pub fn acquire(directory: &Path) -> Result<DataDirLock, DataDirLockError> {
        let path = directory.join(FILE_NAME);
        let failed = |source: io::Error| {
            let path = path.clone();
            match source.kind() {
                io::ErrorKind::PermissionDenied => DataDirLockError::NotPermitted { path, source },
                _ => DataDirLockError::Io { path, source },
            }
        };
        check_room(directory).map_err(failed)??;
        // Never truncated before the lock is held: the content is the other holder's.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirLockError::Locked {
                    directory: directory.to_owned(),
                    holder: read_holder(&mut file),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let lock = DataDirLock {
            file,
            path: path.clone(),
        };
        lock.write_holder(&this_process()).map_err(failed)?;
        Ok(lock)
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_holder(&self, holder: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    }
}

impl Drop for DataDirLock {
    fn drop(&mut self) {
        // The file stays: to remove it would let two processes hold "the" lock on two files of one name.
        if let Err(error) = self.write_holder("") {
            tracing::debug!(path = %self.path.display(), %error, "the lock file could not be cleared");
        }
    }
}

/// Whether the file system of a directory is one to work on. Looks, and touches nothing.
fn check_room(directory: &Path) -> io::Result<Result<(), DataDirLockError>> {
    let found = statvfs(directory)?;
    let directory = directory.to_owned();
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Err(DataDirLockError::ReadOnly { directory }));
    }
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    if free_bytes < FREE_BYTES_MIN {
        return Ok(Err(DataDirLockError::Full {
            directory,
            free_bytes,
        }));
    }
    Ok(Ok(()))
}

fn this_process() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let since = Timestamp::from_unix_ms(i64::try_from(since).unwrap_or(i64::MAX));
    let system = rustix::system::uname();
    format!(
        "process {} on {} since {since}",
        std::process::id(),
        system.nodename().to_string_lossy()
    )
}

fn read_holder(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_end(&mut bytes);
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned();
    if read.is_err() || text.is_empty() {
        "another process (it has not said which)".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(directory: &Path) -> String {
        match DataDirLock::acquire(directory) {
            Err(DataDirLockError::Locked { holder, .. }) => holder,
            other => panic!("expected to be refused: {other:?}"),
        }
    }

    #[test]
    fn one_holder_at_a_time_who_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DataDirLock::acquire(directory.path()).unwrap();
        let named = holder(directory.path());
        assert!(
            named.starts_with(&format!("process {} on ", std::process::id())),
            "{named}"
        );
        assert_eq!(holder(directory.path()), named, "to be refused changes nothing");
        drop(lock);
        drop(DataDirLock::acquire(directory.path()).unwrap());
        assert_eq!(std::fs::read(directory.path().join("lock")).unwrap(), b"");
    }

    #[test]
    fn what_lies_there_is_replaced_and_never_trusted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lock"), "\u{1b}[31mold".repeat(1000)).unwrap();
        let lock = DataDirLock::acquire(directory.path()).unwrap();
        assert!(std::fs::metadata(lock.path()).unwrap().len() < HOLDER_BYTES_MAX);
        std::fs::write(lock.path(), [0x1b, b'[', 0xff, b'x']).unwrap();
        assert!(!holder(directory.path()).contains('\u{1b}'));
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = DataDirLock::acquire(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none/lock"), "{error}");
    }
}
