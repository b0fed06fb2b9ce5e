//! Files that are either wholly there or not at all, and copies of directory trees.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::account::Account;

/// What of a write must have reached the disk when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// All of it: survives a power cut.
    Disk,
    /// After a power cut the file has its old content or the new one, never something between.
    Content,
    /// Survives the end of this process; after a power cut its content is worthless anyway.
    Process,
}

/// Replaces a file by rename. Mode 0600.
pub(crate) fn write(
    path: &Path,
    content: &[u8],
    owner: Option<&Account>,
    durability: Durability,
) -> io::Result<()> {
    let temporary = write_beside(path, content, owner)?;
    if durability != Durability::Process {
        File::open(&temporary)?.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    match (durability, path.parent()) {
        (Durability::Disk, Some(dir)) => sync_dir(dir),
        _ => Ok(()),
    }
}

/// Replaces several files of one directory, each by rename. Mode 0600. Waits for the disk twice, however many
/// they are: once for all contents, and once for this directory and `also`.
pub(crate) fn write_all(
    dir: &Path,
    contents: &[(&str, &[u8])],
    owner: &Account,
    also: &Path,
) -> io::Result<()> {
    let mut written: Vec<(PathBuf, PathBuf)> = Vec::with_capacity(contents.len());
    for (name, content) in contents {
        let path = dir.join(name);
        if fs::read(&path).is_ok_and(|there| there == *content)
            && fs::metadata(&path)?.mode() & 0o777 == 0o600
        {
            continue;
        }
        written.push((write_beside(&path, content, Some(owner))?, path));
    }
    sync_together(written.iter().map(|(temporary, _)| temporary.as_path()))?;
    for (temporary, path) in &written {
        fs::rename(temporary, path)?;
    }
    sync_together([dir, also].into_iter())
}

/// Waits for files and directories at the same time: file systems write what is waited for together at once.
fn sync_together<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    std::thread::scope(|scope| {
        let waits: Vec<_> = paths
            .map(|path| scope.spawn(move || File::open(path)?.sync_all()))
            .collect();
        waits.into_iter().try_for_each(|wait| {
            wait.join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
        })
    })
}

/// Writes the content that a file is to get into another one beside it, and gives that one's path.
fn write_beside(path: &Path, content: &[u8], owner: Option<&Account>) -> io::Result<PathBuf> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_string_lossy();
    let temporary = dir.join(format!(".{name}.new"));
    remove_if_there(&temporary)?;
    // create_new: never follow a link that somebody put there.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    if let Some(owner) = owner {
        owner.own(&temporary)?;
    }
    Ok(temporary)
}

/// Makes renames and removals in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes everything on the file system of `path` durable: one call instead of one per file.
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(path)?)?;
    Ok(())
}

/// Removes a file; that it is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes a tree; that it is not there is fine.
pub(crate) fn remove_tree_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a directory with exactly this mode; that it is there already is fine.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
        // The process's umask may have taken bits away.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
    }
}

/// Lets everybody enter and read a directory (not what is below it).
pub(crate) fn open_to_all(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

/// Whether the directory holds nothing, or is not there.
pub(crate) fn is_empty_dir(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// Copies a tree of plain files and directories, owner and modes included; sharing the blocks where the file
/// system can. The target must not exist. Stops with an error as soon as `cancelled` says so.
pub(crate) fn copy_tree(
    from: &Path,
    to: &Path,
    owner: &Account,
    cancelled: &dyn Fn() -> bool,
) -> io::Result<()> {
    copy_tree_without(from, to, owner, cancelled, &|_| false)
}

/// As [`copy_tree`], without the files that are left out; directories are made all the same.
pub(crate) fn copy_tree_without(
    from: &Path,
    to: &Path,
    owner: &Account,
    cancelled: &dyn Fn() -> bool,
    left_out: &dyn Fn(&Path) -> bool,
) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    owner.own(to)?;
    for entry in fs::read_dir(from)? {
        if cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled"));
        }
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree_without(&source, &target, owner, cancelled, left_out)?;
        } else if kind.is_file() {
            if !left_out(&source) {
                copy_file(&source, &target)?;
                owner.own(&target)?;
            }
        } else {
            return Err(io::Error::other(format!(
                "{} is neither a file nor a directory",
                source.display()
            )));
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let (mut source, mut target) = (source, target);
    // The standard library copies within the kernel where it can.
    io::copy(&mut source, &mut target)?;
    Ok(())
}

/// The last `lines` lines of a file, reading no more than its last 256 kB.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    const MOST: u64 = 256 * 1024;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MOST);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is cut off unless the file was read whole.
    let whole: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    Ok(whole[whole.len().saturating_sub(lines)..].join("\n"))
}

/// What was appended to a file after `offset`, at most its last 64 kB.
pub(crate) fn appended_since(path: &Path, offset: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let from = if offset > length {
            0
        } else {
            offset.max(length.saturating_sub(64 * 1024))
        };
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(64 * 1024).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Length of a file, 0 if it is not there.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Whether a directory is there and not empty.
pub(crate) fn has_entries(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Moves a tree into the trash directory (same file system) under a name of its own; what it was called is
/// free at once.
pub(crate) fn to_trash(path: &Path, trash: &Path) -> io::Result<Option<PathBuf>> {
    make_dir(trash, 0o700)?;
    let target = trash.join(uuid::Uuid::new_v4().to_string());
    match fs::rename(path, &target) {
        Ok(()) => Ok(Some(target)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_and_closes_the_file_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", None, Durability::Disk).unwrap();
        write(&path, b"two", None, Durability::Content).unwrap();
        let me = Account::choose(None).unwrap();
        write_all(dir.path(), &[("f", b"two"), ("g", b"three")], &me, dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("g")).unwrap(), b"three");
        fs::remove_file(dir.path().join("g")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn tail_gives_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(tail(&path, 3).unwrap(), "");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), "b\nc");
        assert_eq!(tail(&path, 0).unwrap(), "");
        assert_eq!(tail(&path, 9).unwrap(), "a\nb\nc");
        let line = "x".repeat(1000);
        fs::write(&path, format!("{line}\n").repeat(1000)).unwrap();
        let all = tail(&path, usize::MAX).unwrap();
        assert!(all.len() < 256 * 1024 && all.lines().all(|l| l == line));
    }

    #[test]
    fn copies_a_tree_and_stops_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/f"), vec![7u8; 100_000]).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        let me = Account::choose(None).unwrap();
        copy_tree(&from, &dir.path().join("to"), &me, &|| false).unwrap();
        assert_eq!(fs::read(dir.path().join("to/a/b/f")).unwrap(), vec![7u8; 100_000]);
        let meta = fs::metadata(dir.path().join("to/a/b/f")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.uid()), (0o600, me.uid));
        assert!(
            copy_tree(&from, &dir.path().join("to"), &me, &|| false).is_err(),
            "the target exists"
        );
        assert!(copy_tree(&from, &dir.path().join("to2"), &me, &|| true).is_err());
    }
}
