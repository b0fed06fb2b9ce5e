//! Limits of cpu and ram by cgroup v2 (Linux, Documentation/admin-guide/cgroup-v2.rst): one group for each
//! node, below a directory that was delegated to us. Nothing outside that directory is ever touched: no
//! controller is moved, no process of somebody else's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::Resources;

use crate::process::find;

/// `cpu.max` is given in microseconds for each of these.
const PERIOD_US: u64 = 100_000;
/// The kernel lets go of a group a moment after its last process.
const REMOVE_AT_MOST: Duration = Duration::from_secs(2);

/// What is not held, and why not; `None`: it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacks {
    pub(crate) cpu: Option<String>,
    pub(crate) ram: Option<String>,
}

impl Lacks {
    /// Each resource that is not held, and why not.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let both = [("cpu", &self.cpu), ("ram", &self.ram)];
        both.into_iter()
            .filter_map(|(name, why)| Some((name, why.as_deref()?)))
    }
}

/// The delegated directory.
#[derive(Debug)]
pub(crate) struct Cgroups {
    parent: Option<PathBuf>,
    lacks: Lacks,
}

impl Cgroups {
    /// Takes a delegated directory into use: `explicit`, else the one that the service manager gave us. Where
    /// there is none, everything works without, and says so.
    pub(crate) fn open(explicit: Option<&Path>) -> Cgroups {
        let parent = match explicit {
            Some(parent) => Ok(parent.to_owned()),
            None => discover(
                &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
                &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
                &is_delegated,
            ),
        };
        let opened = parent.and_then(|parent| Self::at(&parent));
        opened.unwrap_or_else(|why| Cgroups {
            parent: None,
            lacks: Lacks {
                cpu: Some(why.clone()),
                ram: Some(why),
            },
        })
    }

    fn at(parent: &Path) -> Result<Cgroups, String> {
        let shown = parent.display();
        let read = |file: &str| {
            fs::read_to_string(parent.join(file))
                .map_err(|e| format!("{shown} is no cgroup v2 directory that can be used ({file}: {e})"))
        };
        let available = read("cgroup.controllers")?;
        if !read("cgroup.procs")?.trim().is_empty() {
            return Err(format!(
                "{shown} holds processes of its own, so it can hold no limited groups; with systemd: DelegateSubgroup=server"
            ));
        }
        let lack = |controller: &str| {
            if !available.split_whitespace().any(|name| name == controller) {
                return Some(format!("{shown} has no {controller} controller"));
            }
            let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
            if enabled.split_whitespace().any(|name| name == controller) {
                return None;
            }
            let switched_on = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            switched_on
                .err()
                .map(|e| format!("the {controller} controller of {shown} cannot be switched on: {e}"))
        };
        let lacks = Lacks {
            cpu: lack("cpu"),
            ram: lack("memory"),
        };
        let parent = (lacks.cpu.is_none() || lacks.ram.is_none()).then(|| parent.to_owned());
        Ok(Cgroups { parent, lacks })
    }

    pub(crate) fn lacks(&self) -> &Lacks {
        &self.lacks
    }

    fn group(&self, node: NodeId) -> Option<PathBuf> {
        Some(self.parent.as_ref()?.join(format!("dbaas-{node}")))
    }

    /// Makes the node's group with its limits, or changes them, also while it runs.
    pub(crate) fn limit(&self, node: NodeId, resources: Resources) -> io::Result<()> {
        let Some(group) = self.group(node) else {
            return Ok(());
        };
        match fs::create_dir(&group) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(at(&group, &e)),
            _ => {}
        }
        if self.lacks.cpu.is_none() {
            let quota_us = u64::from(resources.cpu) * PERIOD_US;
            write(&group.join("cpu.max"), &format!("{quota_us} {PERIOD_US}"))?;
        }
        if self.lacks.ram.is_none() {
            let bytes = u64::from(resources.ram) << 20;
            write(&group.join("memory.max"), &bytes.to_string())?;
        }
        Ok(())
    }

    /// Puts the node's server into its group: called as soon as it is started, before it has children; those
    /// that it has all the same, and those of an adopted server, are put there, too.
    pub(crate) fn place(&self, node: NodeId, dir: &Path, server: u32) -> io::Result<()> {
        let Some(group) = self.group(node) else {
            return Ok(());
        };
        let procs = group.join("cgroup.procs");
        write(&procs, &server.to_string())?;
        for pid in find(dir)?.into_iter().filter(|pid| *pid != server) {
            if let Err(e) = write(&procs, &pid.to_string()) {
                // Most likely it has ended.
                tracing::debug!(%node, pid, error = %e, "a process was not put into the node's group");
            }
        }
        Ok(())
    }

    /// Removes the group of a node that is off.
    pub(crate) fn remove(&self, node: NodeId) {
        let Some(group) = self.group(node) else { return };
        let deadline = Instant::now() + REMOVE_AT_MOST;
        loop {
            match fs::remove_dir(&group) {
                Ok(()) => return,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => {
                    tracing::warn!(group = %group.display(), error = %e, "an empty cgroup stays behind");
                    return;
                }
            }
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| at(path, &e))
}

fn at(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// The directory above our own group, where the service manager says that it is ours: as systemd does with
/// `Delegate=yes` and `DelegateSubgroup=`. Our own group cannot be it, because it holds a process: us.
fn discover(mountinfo: &str, own: &str, is_delegated: &dyn Fn(&Path) -> bool) -> Result<PathBuf, String> {
    // proc(5): id parent major:minor root mount-point options … - type source options.
    let mounted = mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        (kind.split(' ').next()? == "cgroup2").then_some((root, point))
    });
    let Some((root, point)) = mounted else {
        return Err("this machine has no cgroup v2 hierarchy".into());
    };
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.ok_or("this process is in no cgroup v2 group")?;
    let below = Path::new(own)
        .strip_prefix(root)
        .map_err(|_| format!("this process's cgroup {own} is not visible at {point}"))?;
    let own = Path::new(point).join(below);
    match own.parent() {
        Some(parent) if own != Path::new(point) && is_delegated(parent) => Ok(parent.to_owned()),
        _ => Err(format!(
            "no cgroup was delegated to this process (it is in {}); with systemd: Delegate=yes and DelegateSubgroup=server",
            own.display()
        )),
    }
}

/// systemd marks what it delegates (systemd.resource-control(5), `Delegate=`).
fn is_delegated(group: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    })
}

#[cfg(test)]
mod tests {
    use dbaas_core::size::{CpuCores, DiskGb, RamMb};

    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn tree(controllers: &str, processes: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.procs", processes),
            ("cgroup.subtree_control", ""),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn resources(cores: u64, ram: u64) -> Resources {
        Resources {
            cpu: CpuCores::new(cores).unwrap(),
            ram: RamMb::new(ram).unwrap(),
            disk: DiskGb::new(8).unwrap(),
        }
    }

    #[test]
    fn only_what_was_delegated_is_taken() {
        let own = "1:cpu:/\n0::/system.slice/dbaas.service/server\n";
        let delegated = Path::new("/sys/fs/cgroup/unified/system.slice/dbaas.service");
        assert_eq!(
            discover(HYBRID, own, &|group| group == delegated).as_deref(),
            Ok(delegated)
        );
        for (mounts, own) in [
            (HYBRID, own),
            (HYBRID, "0::/\n"),
            (HYBRID, "1:cpu:/\n"),
            ("", own),
        ] {
            assert!(!discover(mounts, own, &|_| false).unwrap_err().is_empty());
        }
        // The root of what is visible has no directory above it that is a group.
        assert!(discover(HYBRID, "0::/\n", &|_| true).is_err());
        // In a container: the mount shows a part of the hierarchy only.
        let part = "41 31 0:38 /docker/x /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            discover(part, "0::/docker/x/a/b", &|_| true).as_deref(),
            Ok(Path::new("/cg/a"))
        );
        assert!(discover(part, "0::/elsewhere/b", &|_| true).is_err());
    }

    #[test]
    fn limits_are_written_changed_and_removed() {
        let dir = tree("cpuset cpu io memory pids", "");
        let groups = Cgroups::open(Some(dir.path()));
        assert_eq!(*groups.lacks(), Lacks { cpu: None, ram: None });
        let node = NodeId::from_uuid(uuid::Uuid::from_u128(7));
        let group = dir.path().join(format!("dbaas-{node}"));
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        groups.limit(node, resources(2, 1024)).unwrap();
        assert_eq!(
            (read("cpu.max"), read("memory.max")),
            ("200000 100000".into(), "1073741824".into())
        );
        groups.limit(node, resources(1, 512)).unwrap();
        assert_eq!(
            (read("cpu.max"), read("memory.max")),
            ("100000 100000".into(), "536870912".into())
        );
        let place = tempfile::tempdir().unwrap();
        groups.place(node, place.path(), 4711).unwrap();
        assert_eq!(read("cgroup.procs"), "4711");
        for file in ["cpu.max", "memory.max", "cgroup.procs"] {
            fs::remove_file(group.join(file)).unwrap();
        }
        groups.remove(node);
        assert!(!group.exists());
        groups.remove(node);
    }

    #[test]
    fn what_is_not_held_is_said() {
        let only_cpu = tree("cpu pids", "");
        let groups = Cgroups::open(Some(only_cpu.path()));
        assert_eq!(groups.lacks().cpu, None);
        assert!(
            groups
                .lacks()
                .ram
                .as_ref()
                .unwrap()
                .contains("no memory controller")
        );
        let node = NodeId::from_uuid(uuid::Uuid::from_u128(7));
        groups.limit(node, resources(1, 512)).unwrap();
        assert!(!only_cpu.path().join(format!("dbaas-{node}/memory.max")).exists());

        for (tree, because) in [
            (tree("cpu memory", "4711\n"), "DelegateSubgroup"),
            (tree("", ""), "no cpu controller"),
            (tempfile::tempdir().unwrap(), "no cgroup v2 directory"),
        ] {
            let groups = Cgroups::open(Some(tree.path()));
            assert!(
                groups.lacks().cpu.as_ref().unwrap().contains(because),
                "{groups:?}"
            );
            groups.limit(node, resources(1, 512)).unwrap();
            groups.place(node, tree.path(), 4711).unwrap();
            groups.remove(node);
            assert!(!tree.path().join(format!("dbaas-{node}")).exists());
        }
    }
}
