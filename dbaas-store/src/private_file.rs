//! Making files that only their owner may read, whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes `path` with mode 0600 out of what `fill` writes to the (empty) file that it is given, and makes it
/// durable.
///
/// The file appears under its name only once it is complete, so that a crash leaves none or a whole one (and
/// at worst a `<name>.new-…` beside it, which nobody reads). One that exists is never replaced: `Ok(false)`,
/// also when somebody else made it in the meantime.
pub(crate) fn create<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<bool, E> {
    let draft = Draft::new(path)?;
    fill(&draft.path)?;
    File::open(&draft.path)?.sync_all()?;
    match std::fs::hard_link(&draft.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    drop(draft);
    sync_directory_of(path)?;
    Ok(true)
}

/// A file under a name of its own, removed when dropped.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(target: &Path) -> io::Result<Draft> {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let path = sibling(target, &format!(".new-{}-{nanos:x}", std::process::id()));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Draft { path })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a draft file could not be removed");
        }
    }
}

/// The path with something added to its last part.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn creates_once_privately_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let write = |text: &'static str| move |draft: &Path| std::fs::write(draft, text);
        assert!(create(&path, write("one")).unwrap());
        assert!(!create(&path, write("two")).unwrap());
        let failed: io::Result<bool> =
            create(&directory.path().join("other"), |_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
