//! Addresses: fixed for a node, outside what the network's own DHCP server hands out.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};

use crate::backend::Inner;
use crate::xml::{Subnet, read_network};

/// Addresses that are looked through.
const ADDRESSES_MAX: u32 = 65_536;

impl Inner {
    /// The network as it was when it was first asked about.
    pub(crate) async fn known_subnet(&self) -> Result<Subnet, InfraError> {
        if let Some(known) = self.subnet.lock().clone() {
            return Ok(known);
        }
        self.subnet().await
    }

    /// The network as it is.
    pub(crate) async fn subnet(&self) -> Result<Subnet, InfraError> {
        let network = &self.options.network;
        let xml = self.libvirt.run(&["net-dumpxml", network], None).await?;
        let found = read_network(&xml)?.ok_or_else(|| {
            let message = format!("the network {network} has no IPv4 addresses of its own; a network with <ip address=…> is needed");
            InfraError::new(InfraErrorKind::Unsupported, message)
        })?;
        *self.subnet.lock() = Some(found.clone());
        Ok(found)
    }
}

/// The first address that nobody has.
pub(crate) fn free_address(subnet: &Subnet, taken: &BTreeSet<Ipv4Addr>) -> Result<String, InfraError> {
    let bits = 32 - u32::from(subnet.prefix.min(32));
    let size = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    let first = u32::from(subnet.gateway) & u32::try_from(!(size - 1) & 0xffff_ffff).unwrap_or(0);
    let last = u32::try_from(size.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(ADDRESSES_MAX);
    (1..last)
        .map(|n| Ipv4Addr::from(first.saturating_add(n)))
        .find(|ip| {
            *ip != subnet.gateway
                && !taken.contains(ip)
                && !subnet.dhcp.iter().any(|(start, end)| start <= ip && ip <= end)
        })
        .map(|ip| format!("{ip}/{}", subnet.prefix))
        .ok_or_else(|| {
            InfraError::new(
                InfraErrorKind::Exhausted,
                "the network has no address left outside its DHCP range",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_outside_of_what_is_taken() {
        let subnet = Subnet {
            gateway: "10.7.0.1".parse().unwrap(),
            prefix: 29,
            forwards: true,
            dhcp: vec![("10.7.0.2".parse().unwrap(), "10.7.0.4".parse().unwrap())],
        };
        let mut taken = BTreeSet::new();
        assert_eq!(free_address(&subnet, &taken).unwrap(), "10.7.0.5/29");
        taken.insert("10.7.0.5".parse().unwrap());
        assert_eq!(free_address(&subnet, &taken).unwrap(), "10.7.0.6/29");
        taken.insert("10.7.0.6".parse().unwrap());
        let none = free_address(&subnet, &taken).unwrap_err();
        assert_eq!(none.kind(), InfraErrorKind::Exhausted);
    }
}
