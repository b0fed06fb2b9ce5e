//! [`Cut`]: a part of the network of a container that fails. The engine knows nothing of it.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use dbaas_core::id::NodeId;

use super::DockerPlace;

/// What a container does not reach, until this is mended or dropped. As the answers are lost, nothing there
/// reaches it either.
#[derive(Debug)]
pub struct Cut<'a> {
    docker: &'a DockerPlace,
    node: NodeId,
    /// The process that the container began with: where its network is.
    pid: String,
    unreachable: Vec<String>,
}

impl<'a> Cut<'a> {
    /// Cuts a node off from others, and from whatever is outside its network (clients and the controller)
    /// where that is asked for. Needs root.
    pub fn make(
        docker: &'a DockerPlace,
        node: NodeId,
        others: &[NodeId],
        outside: bool,
    ) -> anyhow::Result<Cut<'a>> {
        let (_, gateway) = addresses(docker, node)?;
        let mut unreachable = Vec::new();
        for other in others {
            unreachable.push(addresses(docker, *other)?.0);
        }
        unreachable.extend(outside.then_some(gateway));
        let pid = docker.pid(node)?;
        let mut cut = Cut {
            docker,
            node,
            pid,
            unreachable: Vec::new(),
        };
        for address in unreachable {
            route(&cut.pid, "add", &address)?;
            cut.unreachable.push(address);
        }
        Ok(cut)
    }

    /// Joins it again. If the container was replaced or started anew meanwhile, its network went with it.
    pub fn mend(mut self) -> anyhow::Result<()> {
        self.join()
    }

    /// The container is another one, or does not run.
    fn is_gone(&self) -> bool {
        self.docker.pid(self.node).ok().as_ref() != Some(&self.pid)
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let unreachable = std::mem::take(&mut self.unreachable);
        if self.is_gone() {
            return Ok(());
        }
        for address in unreachable {
            if let Err(error) = route(&self.pid, "del", &address) {
                // It may have ended since it was looked at.
                ensure!(self.is_gone(), error);
            }
        }
        Ok(())
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn route(pid: &str, verb: &str, address: &str) -> anyhow::Result<()> {
    let to = format!("{address}/32");
    let status = Command::new("nsenter")
        .args(["-t", pid, "-n", "ip", "route", verb, "blackhole", &to])
        .stdin(Stdio::null())
        .status()
        .context("nsenter")?;
    ensure!(status.success(), "ip route {verb} blackhole {to}: {status}");
    Ok(())
}

/// A container's address, and that of its network's gateway.
fn addresses(docker: &DockerPlace, node: NodeId) -> anyhow::Result<(String, String)> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}";
    let told = docker.docker(&["inspect", "-f", format, &DockerPlace::name(node)])?;
    let (address, gateway) = told.split_once(' ').context("a container without an address")?;
    Ok((address.to_owned(), gateway.to_owned()))
}
