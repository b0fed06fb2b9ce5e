//! The volume of a node, with what never changes of it: its port and its address.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use bollard::Docker;
use bollard::models::{Mount, MountType, MountVolumeOptions, Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef, NodeSpec};
use rand::Rng;

use crate::backend::Inner;
use crate::container::collision;
use crate::engine::{if_there, shown, status_of};
use crate::image::Image;
use crate::names;
use crate::network::hosts_of;

/// Where a node is to be reached; never changes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) ip: String,
}

impl Place {
    /// From the labels of a node's volume or container.
    pub(crate) fn of(labels: &HashMap<String, String>) -> Result<Place, InfraError> {
        let port = labels.get(names::PORT).and_then(|p| p.parse().ok());
        match (port, labels.get(names::IP)) {
            (Some(port), Some(ip)) => Ok(Place { port, ip: ip.clone() }),
            _ => Err(InfraError::new(
                InfraErrorKind::Other,
                "the node's volume or container lacks a label that it was made with",
            )),
        }
    }
}

impl Inner {
    /// The node's volume, if there is one; an error if one of its name is somebody else's.
    pub(crate) async fn find_volume(
        &self,
        docker: &Docker,
        node: NodeRef,
    ) -> Result<Option<Volume>, InfraError> {
        let name = names::node(node);
        let found = if_there(docker.inspect_volume(&name).await)
            .map_err(|e| shown("looking at the node's volume", &e))?;
        let Some(found) = found else { return Ok(None) };
        if !names::is_ours(Some(&found.labels), &self.options.owner, node) {
            return Err(collision("volume", &name));
        }
        if let Some(disks) = &self.disks {
            disks.attach(node.node).await?;
        }
        Ok(Some(found))
    }

    /// Volumes of nodes.
    pub(crate) async fn volumes(
        &self,
        docker: &Docker,
        instance: Option<InstanceId>,
    ) -> Result<Vec<(NodeRef, Volume)>, InfraError> {
        let mut labels = vec![(names::OWNER, self.options.owner.clone())];
        labels.extend(instance.map(|i| (names::INSTANCE, i.to_string())));
        let options = ListVolumesOptionsBuilder::default()
            .filters(&names::filters(labels))
            .build();
        let found = docker
            .list_volumes(Some(options))
            .await
            .map_err(|e| shown("listing volumes", &e))?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes
            .into_iter()
            .filter_map(|v| Some((names::node_of(&v.labels)?, v)))
            .collect())
    }

    /// Makes the node's volume, if it is not there, with a port and an address for the node. Whether it was
    /// made now.
    pub(crate) async fn ensure_volume(
        &self,
        docker: &Docker,
        spec: &NodeSpec,
        image: &Image,
        subnet: &str,
    ) -> Result<(Volume, bool), InfraError> {
        match self.find_volume(docker, spec.node).await? {
            Some(hollow) if is_hollow(&hollow) => {
                for id in self.containers_of(docker, spec.node).await? {
                    self.remove_container(docker, &id).await?;
                }
                self.remove_volume(docker, spec.node).await?;
            }
            Some(volume) => return Ok((volume, false)),
            None => {}
        }
        // The file before the volume that names it: a volume that is there has its disk.
        let driver_opts = match &self.disks {
            Some(disks) => {
                let device = disks.make(spec.node.node, spec.resources.disk).await?;
                let options = [
                    ("type", "ext4".to_owned()),
                    ("device", device.to_string_lossy().into_owned()),
                    // What is deleted gives its room back to the machine.
                    ("o", "nosuid,nodev,discard".to_owned()),
                ];
                Some(options.map(|(name, value)| (name.to_owned(), value)).into())
            }
            None => None,
        };
        let _one_at_a_time = self.ports.lock().await;
        let port = self.choose_port(docker).await?;
        let ip = self.choose_ip(docker, spec.node, subnet).await?;
        let mut labels = names::node_labels(&self.options.owner, spec.node);
        labels.insert(names::NODE_NAME.to_owned(), spec.name.clone());
        labels.insert(names::IMAGE.to_owned(), spec.image.to_string());
        if let Some(digest) = image.digest_of(&spec.image) {
            labels.insert(names::DIGEST.to_owned(), digest.to_owned());
        }
        labels.insert(names::PORT.to_owned(), port.to_string());
        labels.insert(names::IP.to_owned(), ip.to_string());
        labels.insert(names::SUBNET.to_owned(), subnet.to_owned());
        let request = VolumeCreateRequest {
            name: Some(names::node(spec.node)),
            labels: Some(labels),
            driver_opts,
            ..VolumeCreateRequest::default()
        };
        let volume = docker
            .create_volume(request)
            .await
            .map_err(|e| shown("making the node's volume", &e))?;
        // The engine hands out one that is there already, whosever it is.
        if !names::is_ours(Some(&volume.labels), &self.options.owner, spec.node) {
            return Err(collision("volume", &names::node(spec.node)));
        }
        Ok((volume, true))
    }

    /// Removes the node's volume, with all that is in it.
    pub(crate) async fn remove_volume(&self, docker: &Docker, node: NodeRef) -> Result<(), InfraError> {
        let removed = docker
            .remove_volume(&names::node(node), None::<RemoveVolumeOptions>)
            .await;
        if_there(removed).map(|_| ()).map_err(|e| {
            if status_of(&e) == Some(409) {
                let message = format!("the node's volume is still in use ({e}); try again");
                InfraError::new(InfraErrorKind::Unavailable, message)
            } else {
                shown("removing the node's volume", &e)
            }
        })
    }

    /// An address of the network that no node of the instance has.
    async fn choose_ip(&self, docker: &Docker, node: NodeRef, subnet: &str) -> Result<Ipv4Addr, InfraError> {
        let taken: HashSet<String> = self
            .volumes(docker, Some(node.instance))
            .await?
            .into_iter()
            .filter_map(|(_, v)| v.labels.get(names::IP).cloned())
            .collect();
        hosts_of(subnet)
            .find(|ip| !taken.contains(&ip.to_string()))
            .ok_or_else(|| {
                let message = format!("the instance's network {subnet} has no free address");
                InfraError::new(InfraErrorKind::Exhausted, message)
            })
    }

    /// A port that no node has, and that nobody listens on as far as can be told from here. Where the search
    /// begins is left to chance, so that two control planes on one engine seldom meet.
    async fn choose_port(&self, docker: &Docker) -> Result<u16, InfraError> {
        let taken: HashSet<u16> = self
            .volumes(docker, None)
            .await?
            .into_iter()
            .filter_map(|(_, v)| v.labels.get(names::PORT)?.parse().ok())
            .collect();
        let ports: Vec<u16> = self.options.port_range.clone().collect();
        let offset = rand::rng().random_range(0..ports.len().max(1));
        let (before, after) = ports.split_at(offset.min(ports.len()));
        let address = self.options.publish_address;
        let in_use = |port: u16| {
            TcpListener::bind(SocketAddr::new(address, port))
                .is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
        };
        after
            .iter()
            .chain(before)
            .copied()
            .find(|port| !taken.contains(port) && !in_use(*port))
            .ok_or_else(|| {
                let range = &self.options.port_range;
                let message = format!("no port between {} and {} is free", range.start(), range.end());
                InfraError::new(InfraErrorKind::Exhausted, message)
            })
    }
}

/// Whether the engine made it for a container whose volume somebody had just removed: there is nothing in it.
pub(crate) fn is_hollow(volume: &Volume) -> bool {
    !volume.labels.contains_key(names::PORT)
}

pub(crate) fn volume_mount(owner: &str, node: NodeRef, target: &str) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(names::node(node)),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            // The image's own directory has nothing that belongs there.
            no_copy: Some(true),
            // If it is removed before the container is made, the engine makes one of that name. That is to be
            // known for ours.
            labels: Some(names::node_labels(owner, node)),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}
