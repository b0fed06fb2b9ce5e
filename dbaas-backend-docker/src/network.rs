//! The network of an instance: made with addresses that stay, so that each node keeps its own.

use std::net::Ipv4Addr;

use bollard::Docker;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef};

use crate::backend::Inner;
use crate::container::{Found, collision};
use crate::engine::{if_there, shown};
use crate::names;

/// An instance's network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) id: String,
    /// Its addresses, such as `172.18.0.0/16`.
    pub(crate) subnet: String,
}

/// A network as it was found.
enum FoundNetwork {
    Made(Network),
    /// Made only to learn which addresses the engine chooses.
    Chosen(String),
}

impl Inner {
    /// Makes the instance's network, if it is not there.
    pub(crate) async fn ensure_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
    ) -> Result<Network, InfraError> {
        let _one_at_a_time = self.network.lock().await;
        let known = self
            .volumes(docker, Some(instance))
            .await?
            .into_iter()
            .find_map(|(_, v)| v.labels.get(names::SUBNET).cloned());
        // The engine gives fixed addresses only in networks whose addresses it was told. So it chooses them,
        // and is told what it chose.
        for _ in 0..3 {
            match self.find_network(docker, instance).await? {
                Some(FoundNetwork::Made(network)) => return Ok(network),
                Some(FoundNetwork::Chosen(subnet)) => {
                    if_there(docker.remove_network(&names::network(instance)).await)
                        .map_err(|e| shown("making the instance's network", &e))?;
                    self.create_network(docker, instance, Some(&subnet)).await?;
                }
                None => self.create_network(docker, instance, known.as_deref()).await?,
            }
        }
        Err(InfraError::new(
            InfraErrorKind::Other,
            "the instance's network vanishes while it is being made",
        ))
    }

    /// The instance's network, if there is one; an error if one of its name is somebody else's.
    async fn find_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
    ) -> Result<Option<FoundNetwork>, InfraError> {
        let name = names::network(instance);
        let found = if_there(docker.inspect_network(&name, None).await)
            .map_err(|e| shown("looking at the instance's network", &e))?;
        let Some(found) = found else { return Ok(None) };
        let labels = found.labels.unwrap_or_default();
        if labels.get(names::OWNER) != Some(&self.options.owner) {
            return Err(collision("network", &name));
        }
        if let Some(subnet) = labels.get(names::SUBNET) {
            return Ok(Some(FoundNetwork::Made(Network {
                id: found.id.unwrap_or_default(),
                subnet: subnet.clone(),
            })));
        }
        let configs = found.ipam.and_then(|i| i.config).unwrap_or_default();
        let mut subnets = configs.into_iter().filter_map(|c| c.subnet);
        let subnet = subnets.find(|s| s.contains('.')).ok_or_else(|| {
            InfraError::new(
                InfraErrorKind::Other,
                "the engine made a network without IPv4 addresses",
            )
        })?;
        Ok(Some(FoundNetwork::Chosen(subnet)))
    }

    async fn create_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
        subnet: Option<&str>,
    ) -> Result<(), InfraError> {
        let mut labels = names::instance_labels(&self.options.owner, instance);
        labels.extend(subnet.map(|subnet| (names::SUBNET.to_owned(), subnet.to_owned())));
        let request = NetworkCreateRequest {
            name: names::network(instance),
            driver: Some("bridge".to_owned()),
            labels: Some(labels),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_owned()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        };
        match docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(e) => Err(shown("making the instance's network", &e)),
        }
    }

    /// Puts the container on the instance's network again, if somebody took it off.
    pub(crate) async fn ensure_connected(
        &self,
        docker: &Docker,
        node: NodeRef,
        found: &Found,
    ) -> Result<(), InfraError> {
        if found.on_network {
            return Ok(());
        }
        tracing::warn!(node = %node.node, "the node's container is not on its network; connecting it again");
        let request = NetworkConnectRequest {
            container: found.id.clone(),
            endpoint_config: found.labels.get(names::IP).map(|ip| at(ip)),
        };
        docker
            .connect_network(&names::network(node.instance), request)
            .await
            .map_err(|e| shown("connecting the node to its network", &e))
    }
}

/// Addresses for nodes in a network: not its own, not the gateway's, not the broadcast address. At most a few
/// hundred of them.
pub(crate) fn hosts_of(subnet: &str) -> impl Iterator<Item = Ipv4Addr> {
    let parsed = subnet
        .split_once('/')
        .and_then(|(base, bits)| Some((base.parse::<Ipv4Addr>().ok()?, bits.parse::<u32>().ok()?)));
    let (base, count) = match parsed {
        Some((base, bits)) if bits <= 30 => (base.to_bits(), 1u64 << (32 - bits)),
        _ => (0, 0),
    };
    let last = count.saturating_sub(1).min(512);
    (2..last).filter_map(move |n| Some(Ipv4Addr::from_bits(base.checked_add(u32::try_from(n).ok()?)?)))
}

/// A fixed address on a network.
pub(crate) fn at(ip: &str) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(ip.to_owned()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_network() {
        let ips: Vec<String> = hosts_of("172.18.0.0/16")
            .take(2)
            .map(|ip| ip.to_string())
            .collect();
        assert_eq!(ips, ["172.18.0.2", "172.18.0.3"]);
        assert_eq!(hosts_of("10.0.0.0/29").count(), 5);
        assert_eq!(hosts_of("10.0.0.0/31").count(), 0);
        assert_eq!(hosts_of("nonsense").count(), 0);
    }
}
