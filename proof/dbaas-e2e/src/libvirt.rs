//! [`LibvirtPlace`]: a libvirt that a [`Stack`](crate::Stack) runs its nodes on, and faults done behind the
//! backend's back.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_backend_libvirt::LibvirtOptions;
use dbaas_core::id::{InstanceId, NodeId};
use rustix::process::Signal;

mod network;

pub use network::LinkCut;

/// What tests call network and pool (`ci/libvirt/with-libvirtd`).
const PLACE: &str = "dbaas";
/// How long a guest's agent may take to do something small.
const AGENT_WITHIN: Duration = Duration::from_secs(60);

/// A libvirt, and the owner of everything that this stack makes there. When dropped, all of it is removed.
#[derive(Debug)]
pub struct LibvirtPlace {
    uri: String,
    owner: String,
    warm_sets: usize,
}

impl LibvirtPlace {
    /// The libvirt of `DBAAS_LIBVIRT_URI`; never the machine's own by default. `None`, where that is not set
    /// and nothing demands one (`DBAAS_REQUIRE_LIBVIRT=1`).
    pub fn from_env(owner: &str) -> anyhow::Result<Option<LibvirtPlace>> {
        let uri = std::env::var("DBAAS_LIBVIRT_URI")
            .ok()
            .filter(|uri| !uri.is_empty());
        let Some(uri) = uri else {
            if std::env::var("DBAAS_REQUIRE_LIBVIRT").is_ok_and(|v| v == "1") {
                bail!("DBAAS_REQUIRE_LIBVIRT=1, and DBAAS_LIBVIRT_URI is not set");
            }
            return Ok(None);
        };
        Ok(Some(LibvirtPlace {
            uri,
            owner: owner.to_owned(),
            warm_sets: 0,
        }))
    }

    /// With a warm pool of so many sets.
    #[must_use]
    pub fn with_warm_pool(mut self, sets: usize) -> LibvirtPlace {
        self.warm_sets = sets;
        self
    }

    /// How the backend connects.
    pub fn options(&self) -> LibvirtOptions {
        LibvirtOptions {
            uri: self.uri.clone(),
            network: PLACE.to_owned(),
            pool: PLACE.to_owned(),
            owner: self.owner.clone(),
            warm_sets: self.warm_sets,
            ..LibvirtOptions::default()
        }
    }

    /// The pool of images and disks.
    pub fn pool(&self) -> &'static str {
        PLACE
    }

    /// Runs the `virsh` program. Its standard output.
    pub fn virsh(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("virsh")
            .args(["-q", "-c", &self.uri])
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .context("the virsh program does not start")?;
        ensure!(
            output.status.success(),
            "virsh {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The name of a node's domain; its volumes begin with it.
    pub fn name(instance: InstanceId, node: NodeId) -> String {
        format!("dbaas-{instance}-{node}")
    }

    /// What a signal to all processes of a node is on a libvirt.
    pub fn signal(&self, instance: InstanceId, node: NodeId, signal: Signal) -> anyhow::Result<()> {
        let command = match signal {
            Signal::STOP => "suspend",
            Signal::CONT => "resume",
            _ => "destroy",
        };
        self.virsh(&[command, &Self::name(instance, node)]).map(|_| ())
    }

    /// Removes a node's data disk, and ends its machine at the same moment.
    pub fn lose_disk(&self, instance: InstanceId, node: NodeId) -> anyhow::Result<()> {
        let name = Self::name(instance, node);
        self.virsh(&["vol-delete", "--pool", PLACE, &format!("{name}.data")])?;
        // One that ended by itself meanwhile is no less gone.
        let _ = self.virsh(&["destroy", &name]);
        Ok(())
    }

    /// Slows a node's data disk down; 0: as fast as it can. A machine that is started anew has forgotten it.
    pub fn slow_disk(&self, instance: InstanceId, node: NodeId, operations: u32) -> anyhow::Result<()> {
        let name = Self::name(instance, node);
        let operations = operations.to_string();
        self.virsh(&[
            "blkdeviotune",
            &name,
            "vdb",
            "--live",
            "--total-iops-sec",
            &operations,
        ])
        .map(|_| ())
    }

    /// The machine that a node's domain is at the moment; another one after each start. `None`: it does not
    /// run.
    pub fn machine(&self, instance: InstanceId, node: NodeId) -> Option<String> {
        let id = self.virsh(&["domid", &Self::name(instance, node)]).ok()?;
        (id != "-" && !id.is_empty()).then_some(id)
    }

    /// The address of the network's own host, from where clients and the controller come.
    pub fn gateway(&self) -> anyhow::Result<String> {
        let network = self.virsh(&["net-dumpxml", PLACE])?;
        let address = network
            .split_once("<ip address='")
            .and_then(|(_, rest)| rest.split('\'').next());
        address.map(str::to_owned).context("the network has no address")
    }

    /// Has a node's guest agent run something, and waits for its end.
    pub async fn in_guest(&self, instance: InstanceId, node: NodeId, command: &[&str]) -> anyhow::Result<()> {
        let name = Self::name(instance, node);
        let (program, arguments) = command.split_first().context("no command")?;
        let order =
            serde_json::json!({"execute": "guest-exec", "arguments": {"path": program, "arg": arguments}});
        let until = Instant::now() + AGENT_WITHIN;
        let pid = loop {
            let told = self.virsh(&["qemu-agent-command", "--timeout", "10", &name, &order.to_string()]);
            match told {
                Ok(told) => {
                    let told: serde_json::Value = serde_json::from_str(&told)?;
                    break told["return"]["pid"]
                        .as_i64()
                        .context("the agent names no process")?;
                }
                // It is connected a moment after PostgreSQL starts.
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let ask = serde_json::json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}).to_string();
        loop {
            let told = self.virsh(&["qemu-agent-command", "--timeout", "10", &name, &ask])?;
            let told: serde_json::Value = serde_json::from_str(&told)?;
            if told["return"]["exited"] == true {
                ensure!(
                    told["return"]["exitcode"] == 0,
                    "in the guest, {command:?}: {told}"
                );
                return Ok(());
            }
            ensure!(Instant::now() < until, "in the guest, {command:?}: no end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last that a node's console said.
    pub fn logs(&self, instance: InstanceId, node: NodeId) -> anyhow::Result<String> {
        let volume = format!("{}.console", Self::name(instance, node));
        self.virsh(&["vol-download", "--pool", PLACE, &volume, "/dev/stdout"])
    }

    /// Domains and volumes of this stack: names that domains with its owner have, and whatever volume begins
    /// with one of them.
    pub fn ours(&self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let mut domains = Vec::new();
        for name in self.virsh(&["list", "--all", "--name"])?.lines().map(str::trim) {
            if name.starts_with("dbaas-")
                && self
                    .virsh(&["dumpxml", "--inactive", name])
                    .is_ok_and(|xml| xml.replace('"', "'").contains(&format!("owner='{}'", self.owner)))
            {
                domains.push(name.to_owned());
            }
        }
        let listed = self.virsh(&["vol-list", PLACE])?;
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        let mut volumes: Vec<String> = Vec::new();
        let all: Vec<&str> = names.filter(|name| name.starts_with("dbaas-")).collect();
        for control in all.iter().filter_map(|name| name.strip_suffix(".control")) {
            let volume = format!("{control}.control");
            let header = [
                "vol-download",
                "--pool",
                PLACE,
                &volume,
                "/dev/stdout",
                "--length",
                "4096",
            ];
            let is_ours = domains.iter().any(|domain| domain == control)
                || self
                    .virsh(&header)
                    .is_ok_and(|text| text.contains(&format!("\"owner\":\"{}\"", self.owner)));
            if is_ours {
                let of_node = all.iter().filter(|name| name.starts_with(control));
                volumes.extend(of_node.map(|name| (*name).to_owned()));
            }
        }
        Ok((domains, volumes))
    }
}

impl Drop for LibvirtPlace {
    fn drop(&mut self) {
        let (domains, volumes) = self.ours().unwrap_or_default();
        for domain in &domains {
            let _ = self.virsh(&["destroy", domain]);
            if let Err(error) = self.virsh(&["undefine", domain]) {
                tracing::warn!(%error, "something is left on the libvirt");
            }
        }
        for volume in &volumes {
            if let Err(error) = self.virsh(&["vol-delete", "--pool", PLACE, volume]) {
                tracing::warn!(%error, "something is left on the libvirt");
            }
        }
    }
}
