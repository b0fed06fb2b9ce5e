//! Disks that are full and disks that are slow. Both need root: a node's WAL is put on a small file system of
//! its own, and the kernel is told to let the node's processes write so many blocks a second only.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_core::id::NodeId;
use dbaas_workload::client::{Client, ClientOptions};
use rand::Rng as _;
use rand::rngs::StdRng;
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::fault;
use crate::stack::Stack;

/// What the small disk has room for beyond the WAL that is there.
const SMALL: u64 = 192 << 20;
/// Where version 1 of control groups limits writes.
const BLKIO: &str = "/sys/fs/cgroup/blkio";
/// Writes a second of a slow disk; a commit takes two or more.
pub(super) const SLOW_WRITES: std::ops::Range<u32> = 20..80;

/// Whether this process may mount.
pub(super) fn can_fill() -> bool {
    rustix::process::geteuid().is_root() && Command::new("mount").arg("--version").output().is_ok()
}

/// Whether the kernel can be told to slow writes down.
pub(super) fn can_slow() -> bool {
    rustix::process::geteuid().is_root() && Path::new(BLKIO).join("blkio.throttle.write_iops_device").exists()
}

/// A node whose WAL is on a small disk of its own.
#[derive(Debug)]
pub(super) struct SmallDisk {
    node: NodeId,
    wal: PathBuf,
}

impl SmallDisk {
    /// Moves a node's WAL there while it and the controller are off, and starts both again.
    pub(super) async fn give(stack: &mut Stack, cluster: &Cluster, node: NodeId) -> anyhow::Result<Self> {
        let wal = cluster.data_dir(stack, node).join("data/pg_wal");
        stack.crash();
        fault::kill_everything_under(&cluster.data_dir(stack, node));
        let mounted = mount(&wal);
        stack.open().await?;
        mounted.context("cannot give a node a small disk")?;
        Ok(SmallDisk { node, wal })
    }

    /// Fills it, and has the primary write WAL until it notices or the time is over.
    pub(super) async fn fill(
        &self,
        stack: &Stack,
        cluster: &Cluster,
        rng: &mut StdRng,
    ) -> anyhow::Result<()> {
        let ballast = self.wal.join("ballast");
        let free = rustix::fs::statvfs(&self.wal)?;
        let bytes = free.f_bavail.saturating_mul(free.f_frsize);
        let file = fs::File::create(&ballast)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes.max(4096)).or_else(
            |_| {
                rustix::fs::fallocate(
                    &file,
                    rustix::fs::FallocateFlags::empty(),
                    0,
                    (bytes / 2).max(4096),
                )
            },
        )?;
        let until = Instant::now() + Duration::from_secs(rng.random_range(4..10));
        let admin = cluster.admin(stack).await?;
        let mut client = Client::new(admin, ClientOptions::default());
        while Instant::now() < until {
            // Segments that are recycled would carry a light load for ever.
            if client
                .connect(Instant::now() + Duration::from_millis(200))
                .await
                .is_ok()
            {
                let _ = client.send("SELECT pg_switch_wal()").await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match fs::remove_file(&ballast) {
            // The node was rebuilt meanwhile: it has another directory now, elsewhere.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.context("the ballast stays"),
        }
    }

    /// Moves the WAL back in the same way.
    pub(super) async fn take_away(self, stack: &mut Stack, cluster: &Cluster) -> anyhow::Result<()> {
        stack.crash();
        fault::kill_everything_under(&cluster.data_dir(stack, self.node));
        let unmounted = unmount(&self.wal);
        // Where the node was rebuilt meanwhile, what it had was put elsewhere, with its mount.
        unmount_under(stack.directory());
        stack.open().await?;
        unmounted.context("cannot take the small disk away")
    }
}

fn mount(wal: &Path) -> anyhow::Result<()> {
    let owner = fs::metadata(wal)?;
    let aside = wal.with_file_name("pg_wal.aside");
    let mut size = SMALL;
    for entry in fs::read_dir(wal)?.flatten() {
        size += entry.metadata()?.len();
    }
    fs::rename(wal, &aside)?;
    fs::create_dir(wal)?;
    std::os::unix::fs::chown(wal, Some(owner.uid()), Some(owner.gid()))?;
    let options = format!("size={size},mode=700,uid={},gid={}", owner.uid(), owner.gid());
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "dbaas-attack"])
        .arg(wal))?;
    run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(wal))?;
    fs::remove_dir_all(aside)?;
    Ok(())
}

fn unmount(wal: &Path) -> anyhow::Result<()> {
    if !mounts_under(wal).iter().any(|mounted| mounted == wal) {
        return Ok(());
    }
    let owner = fs::metadata(wal)?;
    let aside = wal.with_file_name("pg_wal.aside");
    fs::create_dir(&aside)?;
    run(Command::new("cp").arg("-a").arg(wal.join(".")).arg(&aside))?;
    run(Command::new("umount").arg(wal))?;
    fs::remove_dir(wal)?;
    fs::rename(&aside, wal)?;
    std::os::unix::fs::chown(wal, Some(owner.uid()), Some(owner.gid()))?;
    fs::set_permissions(wal, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

fn mounts_under(directory: &Path) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|mounted| mounted.starts_with(directory))
        .collect()
}

/// Unmounts everything under a directory, whatever became of it.
pub(crate) fn unmount_under(directory: &Path) {
    for mounted in mounts_under(directory) {
        let _ = Command::new("umount").arg("-l").arg(mounted).output();
    }
}

/// Slows the writes of a node's processes, and of those that they start, down for as long as it lives.
#[derive(Debug)]
pub(super) struct SlowDisk {
    group: PathBuf,
}

impl SlowDisk {
    pub(super) fn make(
        stack: &Stack,
        cluster: &Cluster,
        node: NodeId,
        rng: &mut StdRng,
    ) -> anyhow::Result<Self> {
        let directory = match stack.docker() {
            Some(docker) => docker.mountpoint(node)?,
            None => cluster.data_dir(stack, node),
        };
        let device = fs::metadata(directory)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let group = Path::new(BLKIO).join(format!("dbaas-attack-{}-{node}", std::process::id()));
        fs::create_dir(&group)?;
        let slow = SlowDisk { group };
        let writes = rng.random_range(SLOW_WRITES);
        fs::write(
            slow.group.join("blkio.throttle.write_iops_device"),
            format!("{major}:{minor} {writes}"),
        )
        .context("the disk under the data cannot be slowed down")?;
        let mut moved = 0;
        for pid in cluster.processes(stack, node)? {
            moved += usize::from(fs::write(slow.group.join("cgroup.procs"), pid.to_string()).is_ok());
        }
        ensure!(moved > 0, "node {node} has no process to slow down");
        Ok(slow)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            for pid in fs::read_to_string(self.group.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                let _ = fs::write(Path::new(BLKIO).join("cgroup.procs"), pid);
            }
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Stops and continues every process of a node in turn: it does everything, but slowly.
pub(super) async fn stutter(stack: &Stack, cluster: &Cluster, node: NodeId, rng: &mut StdRng) {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let stopped = Duration::from_millis(rng.random_range(50..300));
        let _ = cluster.signal(stack, node, Signal::STOP);
        tokio::time::sleep(stopped).await;
        let _ = cluster.signal(stack, node, Signal::CONT);
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..150))).await;
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
