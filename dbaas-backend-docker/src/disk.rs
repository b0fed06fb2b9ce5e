//! Disks of a fixed size: an image file per node, ext4 in it, a loop device on it, mounted by the engine as
//! the node's volume.
//!
//! ```text
//! <directory>/<owner>/
//!   <node>.img        the file system, as large as disk_size; takes up what is written to it
//!   <node>.img.new    is being made
//!   <node>.growing    grows; there until the file system has its new size
//!   <node>            link to the loop device: what the volume names as its device, for loop devices have other numbers after a reboot
//! ```

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use dbaas_core::size::DiskGb;
use tokio::process::Command;

/// A file system of the greatest size is checked and grown within this time.
const PROGRAM_AT_MOST: Duration = Duration::from_secs(600);
/// Somebody may just be looking into the volume, which mounts it.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// An image whose volume is gone, and not by us, can be rescued for so long.
const ORPHANS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Where these programs are, also for users whose PATH does not say so.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PROGRAMS: [&str; 4] = ["losetup", "mkfs.ext4", "e2fsck", "resize2fs"];

/// The image files of one control plane.
#[derive(Debug)]
pub(crate) struct Disks {
    directory: PathBuf,
    /// One attaches, or makes, at a time: a second look would take a second loop device.
    gate: tokio::sync::Mutex<()>,
}

fn failed(what: &str, error: &io::Error) -> InfraError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => InfraErrorKind::Exhausted,
        _ => InfraErrorKind::Other,
    };
    InfraError::new(kind, format!("{what}: {error}"))
}

impl Disks {
    /// Checks that this machine can do it.
    pub(crate) fn new(directory: &Path, owner: &str, engine: &str) -> Result<Disks, InfraError> {
        let unsupported = |message: String| {
            InfraError::new(
                InfraErrorKind::Unsupported,
                format!("disks of a fixed size cannot be made: {message}"),
            )
        };
        if !engine.starts_with("unix://") {
            return Err(unsupported(format!(
                "the engine at {engine} is not one of this machine, whose loop devices it would have to mount"
            )));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(unsupported("loop devices need root".to_owned()));
        }
        let there = |program: &&str| {
            SEARCH_PATH
                .split(':')
                .any(|d| Path::new(d).join(program).is_file())
        };
        if let Some(missing) = PROGRAMS.iter().find(|program| !there(program)) {
            return Err(unsupported(format!(
                "{missing} is missing; the packages util-linux and e2fsprogs have it, on Linux"
            )));
        }
        // The engine resolves it as well.
        let directory = std::path::absolute(directory)
            .map_err(|e| failed("the directory of the disks", &e))?
            .join(owner);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|e| failed(&format!("making {}", directory.display()), &e))?;
        Ok(Disks {
            directory,
            gate: tokio::sync::Mutex::default(),
        })
    }

    fn image(&self, node: NodeId) -> PathBuf {
        self.directory.join(format!("{node}.img"))
    }

    fn growing(&self, node: NodeId) -> PathBuf {
        self.directory.join(format!("{node}.growing"))
    }

    /// What the volume names as its device.
    pub(crate) fn device(&self, node: NodeId) -> PathBuf {
        self.directory.join(node.to_string())
    }

    /// Makes the disk of a node that has no volume, empty; what an earlier volume left behind is replaced.
    pub(crate) async fn make(&self, node: NodeId, size: DiskGb) -> Result<PathBuf, InfraError> {
        self.remove(node).await?;
        let new = self.directory.join(format!("{node}.img.new"));
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .map_err(|e| failed("making the node's disk", &e))?;
        file.set_len(bytes(size))
            .map_err(|e| failed("making the node's disk", &e))?;
        // Nothing is kept back for root: PostgreSQL is to have all of it. Tables of inodes are written when
        // they are needed.
        let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
        let arguments: [&OsStr; 8] = [
            "-q".as_ref(),
            "-F".as_ref(),
            "-m".as_ref(),
            "0".as_ref(),
            "-E".as_ref(),
            options.as_ref(),
            "-U".as_ref(),
            "random".as_ref(),
        ];
        run("mkfs.ext4", arguments.into_iter().chain([new.as_os_str()]), &[0]).await?;
        fs::rename(&new, self.image(node)).map_err(|e| failed("making the node's disk", &e))?;
        self.attach(node).await?;
        Ok(self.device(node))
    }

    /// Makes sure that the link leads to a loop device with the node's image; after a reboot it does not.
    /// Nothing where the node has none.
    pub(crate) async fn attach(&self, node: NodeId) -> Result<(), InfraError> {
        let image = self.image(node);
        if self.is_attached(node, &image) || !image.exists() {
            return Ok(());
        }
        let _one_at_a_time = self.gate.lock().await;
        if self.is_attached(node, &image) {
            return Ok(());
        }
        // One that has the image already is found again.
        let arguments = ["--find", "--show", "--nooverlap"].map(OsStr::new);
        let told = run("losetup", arguments.into_iter().chain([image.as_os_str()]), &[0]).await?;
        let link = self.directory.join(format!("{node}.link"));
        let placed = fs::remove_file(&link)
            .or_else(|e| if_missing(e, ()))
            .and_then(|()| std::os::unix::fs::symlink(told.trim(), &link))
            .and_then(|()| fs::rename(&link, self.device(node)));
        placed.map_err(|e| failed("attaching the node's disk", &e))
    }

    fn is_attached(&self, node: NodeId, image: &Path) -> bool {
        self.loop_device(node).is_some_and(|device| backs(&device, image))
    }

    /// The loop device that the link leads to.
    fn loop_device(&self, node: NodeId) -> Option<PathBuf> {
        fs::read_link(self.device(node)).ok()
    }

    /// Whether [`Disks::grow`] has something to do.
    pub(crate) fn is_smaller(&self, node: NodeId, size: DiskGb) -> bool {
        let has = fs::metadata(self.image(node)).map(|m| m.len());
        has.is_ok_and(|has| has < bytes(size)) || self.growing(node).exists()
    }

    /// Makes the disk of a node that is off as large as this; it never shrinks. Repeated after a crash it
    /// goes on where it was.
    pub(crate) async fn grow(&self, node: NodeId, size: DiskGb) -> Result<(), InfraError> {
        if !self.is_smaller(node, size) {
            return Ok(());
        }
        self.attach(node).await?;
        let Some(device) = self.loop_device(node) else {
            return Ok(());
        };
        let image = self.image(node);
        let enlarge = || {
            fs::write(self.growing(node), "")?;
            let file = fs::OpenOptions::new().write(true).open(&image)?;
            if file.metadata()?.len() < bytes(size) {
                file.set_len(bytes(size))?;
            }
            Ok(())
        };
        enlarge().map_err(|e| failed("enlarging the node's disk", &e))?;
        let device = device.as_os_str();
        run("losetup", [OsStr::new("--set-capacity"), device], &[0]).await?;
        let mut tries = 0;
        loop {
            let grown = async {
                // Replays the journal, too; 1: something was mended.
                run("e2fsck", [OsStr::new("-f"), OsStr::new("-p"), device], &[0, 1]).await?;
                run("resize2fs", [device], &[0]).await
            };
            match grown.await {
                Ok(_) => break,
                Err(error) if tries >= BUSY_TRIES => return Err(error),
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
            }
        }
        fs::remove_file(self.growing(node)).map_err(|e| failed("enlarging the node's disk", &e))
    }

    /// Removes the disk of a node whose volume is gone.
    pub(crate) async fn remove(&self, node: NodeId) -> Result<(), InfraError> {
        let _one_at_a_time = self.gate.lock().await;
        let image = self.image(node);
        if image.exists() {
            let arguments = ["-n", "-O", "NAME", "-j"].map(OsStr::new);
            let told = run("losetup", arguments.into_iter().chain([image.as_os_str()]), &[0]).await?;
            for device in told.lines().map(str::trim).filter(|d| !d.is_empty()) {
                run("losetup", ["-d", device].map(OsStr::new), &[0]).await?;
            }
        }
        for file in [self.device(node), self.growing(node), image] {
            fs::remove_file(&file)
                .or_else(|e| if_missing(e, ()))
                .map_err(|e| failed("removing the node's disk", &e))?;
        }
        Ok(())
    }

    /// Removes what belongs to no volume: what was half made, and images that nobody came back for.
    pub(crate) async fn clean(&self, volumes: &HashSet<NodeId>) -> Result<(), InfraError> {
        let read = |e| failed("looking through the disks", &e);
        let mut orphans = HashSet::new();
        for entry in fs::read_dir(&self.directory).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let written = entry.metadata().and_then(|m| m.modified()).map_err(read)?;
            let age = SystemTime::now().duration_since(written).unwrap_or_default();
            let node = name.split('.').next().and_then(|n| n.parse::<NodeId>().ok());
            let Some(node) = node.filter(|n| !volumes.contains(n) && age >= ORPHANS_KEPT) else {
                continue;
            };
            if name.ends_with(".new") {
                fs::remove_file(entry.path()).map_err(read)?;
            } else if name.ends_with(".img") {
                orphans.insert(node);
            }
        }
        for node in orphans {
            tracing::warn!(%node, "a disk without a volume is removed");
            self.remove(node).await?;
        }
        Ok(())
    }
}

fn bytes(size: DiskGb) -> u64 {
    u64::from(size.get()) << 30
}

fn if_missing<T>(error: io::Error, instead: T) -> io::Result<T> {
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(instead);
    }
    Err(error)
}

/// Whether a loop device shows this file; asked of the kernel, which costs nothing.
fn backs(device: &Path, image: &Path) -> bool {
    let Some(name) = device.file_name() else {
        return false;
    };
    let told = Path::new("/sys/block").join(name).join("loop/backing_file");
    fs::read_to_string(told).is_ok_and(|file| Path::new(file.trim_end_matches('\n')) == image)
}

/// Runs a program of the system; its standard output.
async fn run<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    good: &[i32],
) -> Result<String, InfraError> {
    let error = |message: String| InfraError::new(InfraErrorKind::Other, message);
    let running = Command::new(program)
        .args(arguments)
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PROGRAM_AT_MOST, running)
        .await
        .map_err(|_| error(format!("{program} does not end")))?
        .map_err(|e| error(format!("{program}: {e}")))?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default().to_owned();
    Err(error(format!("{program}: {} {said}", output.status)))
}

/// Bytes that a volume of this machine has room for, where that can be told.
pub(crate) fn free_bytes(mountpoint: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(mountpoint).ok()?;
    Some(told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_of_this_machine() {
        let error = Disks::new(Path::new("/nonexistent"), "o", "tcp://192.0.2.1:2376").unwrap_err();
        assert_eq!(error.kind(), InfraErrorKind::Unsupported);
        assert!(error.to_string().contains("not one of this machine"), "{error}");
    }
}
