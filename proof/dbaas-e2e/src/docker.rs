//! [`DockerPlace`]: a Docker Engine that a [`Stack`](crate::Stack) runs its nodes on, and faults done behind
//! the backend's back.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use dbaas_backend_docker::DockerOptions;
use dbaas_core::id::NodeId;
use rustix::process::Signal;

mod network;

pub use network::Cut;

/// An engine, and the label of everything that this stack makes there. When dropped, all of it is removed.
#[derive(Debug)]
pub struct DockerPlace {
    host: String,
    owner: String,
    disks: Option<PathBuf>,
}

impl DockerPlace {
    /// The engine of `DBAAS_DOCKER_HOST` or `DOCKER_HOST`; never the machine's own by default. `None`,
    /// loudly, where neither is set and nothing demands one (`DBAAS_REQUIRE_DOCKER=1`).
    pub fn from_env(owner: &str) -> anyhow::Result<Option<DockerPlace>> {
        let host = ["DBAAS_DOCKER_HOST", "DOCKER_HOST"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|h| !h.is_empty()));
        let Some(host) = host else {
            if std::env::var("DBAAS_REQUIRE_DOCKER").is_ok_and(|v| v == "1") {
                bail!("DBAAS_REQUIRE_DOCKER=1, and neither DBAAS_DOCKER_HOST nor DOCKER_HOST is set");
            }
            return Ok(None);
        };
        Ok(Some(DockerPlace {
            host,
            owner: owner.to_owned(),
            disks: None,
        }))
    }

    /// With disks of a fixed size, images in this directory.
    #[must_use]
    pub fn with_disks(mut self, directory: PathBuf) -> DockerPlace {
        self.disks = Some(directory);
        self
    }

    /// How the backend connects.
    pub fn options(&self) -> DockerOptions {
        DockerOptions {
            host: Some(self.host.clone()),
            owner: self.owner.clone(),
            pull: false,
            disk_limits: self.disks.clone(),
            ..DockerOptions::default()
        }
    }

    /// Runs the `docker` program. Its standard output.
    pub fn docker(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .args(["-H", &self.host])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("the docker program does not start")?;
        if !output.status.success() {
            bail!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The last lines that a container wrote.
    pub fn logs(&self, name: &str, lines: u32) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .args(["-H", &self.host, "logs", "--tail", &lines.to_string(), name])
            .stdin(Stdio::null())
            .output()
            .context("the docker program does not start")?;
        // What a server writes to its standard error is told there, too.
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// The name of a node's container and volume.
    pub fn name(node: NodeId) -> String {
        format!("dbaas-{node}")
    }

    /// What a signal to all processes of a node is on an engine.
    pub fn signal(&self, node: NodeId, signal: Signal) -> anyhow::Result<()> {
        let command = match signal {
            Signal::STOP => "pause",
            Signal::CONT => "unpause",
            _ => "kill",
        };
        self.docker(&[command, &Self::name(node)]).map(|_| ())
    }

    /// The processes of a node's container, as this machine numbers them.
    pub fn processes(&self, node: NodeId) -> anyhow::Result<Vec<i32>> {
        let told = self.docker(&["top", &Self::name(node), "-eo", "pid"])?;
        Ok(told.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// The process that a node's container began with, as this machine numbers it; "0" while it does not run.
    pub fn pid(&self, node: NodeId) -> anyhow::Result<String> {
        self.docker(&["inspect", "-f", "{{.State.Pid}}", &Self::name(node)])
    }

    /// Removes a node's container and its volume.
    pub fn remove(&self, node: NodeId) -> anyhow::Result<()> {
        let name = Self::name(node);
        let mut last = None;
        for _ in 0..50 {
            // The backend may have made the container again meanwhile, and then the volume is in use.
            let _ = self.docker(&["rm", "-f", &name]);
            match self.docker(&["volume", "rm", &name]) {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("never tried")))
    }

    /// Where the engine keeps a node's volume.
    pub fn mountpoint(&self, node: NodeId) -> anyhow::Result<PathBuf> {
        let asked = ["volume", "inspect", "-f", "{{.Mountpoint}}", &Self::name(node)];
        Ok(self.docker(&asked)?.into())
    }

    /// The containers of this stack that run.
    pub fn running(&self) -> anyhow::Result<usize> {
        Ok(self
            .docker(&["ps", "-q", "--filter", &self.filter()])?
            .lines()
            .count())
    }

    /// The label that has something removed with this place.
    pub fn label(&self) -> String {
        format!("dbaas.owner={}", self.owner)
    }

    fn filter(&self) -> String {
        format!("label={}", self.label())
    }
}

impl Drop for DockerPlace {
    fn drop(&mut self) {
        let filter = self.filter();
        let remove: [(&[&str], &[&str]); 3] = [
            (&["ps", "-aq", "--filter", &filter], &["rm", "-f", "-v"]),
            (
                &["volume", "ls", "-q", "--filter", &filter],
                &["volume", "rm", "-f"],
            ),
            (&["network", "ls", "-q", "--filter", &filter], &["network", "rm"]),
        ];
        for (list, rm) in remove {
            let found = self.docker(list).unwrap_or_default();
            let ids: Vec<&str> = found.lines().collect();
            if !ids.is_empty()
                && let Err(error) = self.docker(&[rm, &ids].concat())
            {
                tracing::warn!(%error, "something is left on the engine");
            }
        }
        // Loop devices let go of files that are gone when nothing is mounted any more.
        let Some(directory) = self.disks.as_ref().map(|disks| disks.join(&self.owner)) else {
            return;
        };
        for file in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if let Ok(device) = std::fs::read_link(file.path()) {
                let _ = Command::new("losetup").arg("-d").arg(device).output();
            }
        }
        let _ = std::fs::remove_dir_all(directory);
    }
}
