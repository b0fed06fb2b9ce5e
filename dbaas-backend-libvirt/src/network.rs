//! Addresses: fixed for a node, outside what the network's own DHCP server hands out; and what clients are
//! told in their place where they do not reach them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use dbaas_core::config::Cidr;
use dbaas_core::infrastructure::{Endpoint, InfraError, InfraErrorKind};

use crate::LibvirtOptions;
use crate::backend::Inner;
use crate::record::Record;
use crate::xml::{Subnet, read_network};

/// Where PostgreSQL listens in a guest.
const PORT: u16 = 5432;

/// Addresses that are looked through.
const ADDRESSES_MAX: u32 = 65_536;

/// Addresses that nodes get on a network that has none of its own, such as a bridge to others:
/// `192.0.2.100-192.0.2.149/24`, where nobody else hands these out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    first: Ipv4Addr,
    last: Ipv4Addr,
    bits: u8,
}

/// The text names no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be addresses of one network of 16 to 30 bits, such as 192.0.2.100-192.0.2.149/24, the lower one first"
)]
pub struct InvalidAddresses;

impl FromStr for Addresses {
    type Err = InvalidAddresses;

    fn from_str(text: &str) -> Result<Self, InvalidAddresses> {
        let read = || {
            let (range, bits) = text.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let (first, last): (Ipv4Addr, Ipv4Addr) = (first.parse().ok()?, last.parse().ok()?);
            let bits: u8 = bits.parse().ok().filter(|bits| (16..=30).contains(bits))?;
            let one_network = u32::from(first) & mask(bits) == u32::from(last) & mask(bits);
            (first <= last && one_network).then_some(Addresses { first, last, bits })
        };
        read().ok_or(InvalidAddresses)
    }
}

impl Addresses {
    fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) & mask(self.bits))
    }

    /// The network that they are of.
    pub(crate) fn cidr(self) -> Option<Cidr> {
        Cidr::new(self.network().into(), self.bits).ok()
    }

    fn subnet(self, gateway: Option<Ipv4Addr>) -> Subnet {
        let neighbour = |ip: Ipv4Addr, by: i64| {
            let ip = (i64::from(u32::from(ip)) + by).clamp(0, i64::from(u32::MAX));
            Ipv4Addr::from(u32::try_from(ip).unwrap_or(u32::MAX))
        };
        Subnet {
            gateway: gateway.unwrap_or(self.network()),
            prefix: self.bits,
            forwards: gateway.is_some(),
            // All others are somebody's.
            dhcp: vec![
                (Ipv4Addr::UNSPECIFIED, neighbour(self.first, -1)),
                (neighbour(self.last, 1), Ipv4Addr::BROADCAST),
            ],
        }
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

/// The port that clients are told for an address: the range's first for the network's first address (that of
/// the network itself), and so on.
fn advertised_port(ip: Ipv4Addr, bits: u8, ports: &RangeInclusive<u16>) -> Option<u16> {
    let number = u16::try_from(u32::from(ip) & !mask(bits)).ok()?;
    let port = ports.start().checked_add(number)?;
    ports.contains(&port).then_some(port)
}

impl LibvirtOptions {
    /// Where other nodes reach a node.
    pub(crate) fn peer_endpoint(&self, record: &Record) -> Endpoint {
        Endpoint {
            host: record.ip().to_owned(),
            port: PORT,
        }
    }

    /// Where clients and the control plane reach a node.
    pub(crate) fn endpoint(&self, record: &Record) -> Endpoint {
        let own = self.peer_endpoint(record);
        let mapped = || {
            let host = self.advertise_host.clone()?;
            let (ip, bits) = record.address.split_once('/')?;
            let port = advertised_port(ip.parse().ok()?, bits.parse().ok()?, &self.advertise_ports)?;
            Some(Endpoint { host, port })
        };
        mapped().unwrap_or(own)
    }

    /// Whether clients can be told where an address is.
    pub(crate) fn can_be_told(&self, ip: Ipv4Addr, bits: u8) -> bool {
        self.advertise_host.is_none() || advertised_port(ip, bits, &self.advertise_ports).is_some()
    }
}

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
        if let Some(given) = self.options.addresses {
            return Ok(given.subnet(self.options.gateway));
        }
        let network = &self.options.network;
        let xml = self.libvirt.run(&["net-dumpxml", network], None).await?;
        let found = read_network(&xml)?.ok_or_else(|| {
            let message = format!("the network {network} has no IPv4 addresses of its own; it needs an <ip address=…>, or the nodes' addresses are to be given");
            InfraError::new(InfraErrorKind::Unsupported, message)
        })?;
        *self.subnet.lock() = Some(found.clone());
        Ok(found)
    }
}

/// The first address that nobody has, of those that will do.
pub(crate) fn free_address(
    subnet: &Subnet,
    taken: &BTreeSet<Ipv4Addr>,
    will_do: impl Fn(Ipv4Addr) -> bool,
) -> Result<String, InfraError> {
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
                && will_do(*ip)
        })
        .map(|ip| format!("{ip}/{}", subnet.prefix))
        .ok_or_else(|| {
            InfraError::new(
                InfraErrorKind::Exhausted,
                "the network has no address left for a node: outside its DHCP range, and with a port that clients can be told",
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
        assert_eq!(free_address(&subnet, &taken, |_| true).unwrap(), "10.7.0.5/29");
        taken.insert("10.7.0.5".parse().unwrap());
        assert_eq!(free_address(&subnet, &taken, |_| true).unwrap(), "10.7.0.6/29");
        taken.insert("10.7.0.6".parse().unwrap());
        let none = free_address(&subnet, &taken, |_| true).unwrap_err();
        assert_eq!(none.kind(), InfraErrorKind::Exhausted);
    }

    #[test]
    fn a_network_without_addresses_of_its_own() {
        let given: Addresses = "192.0.2.100-192.0.2.101/24".parse().unwrap();
        let subnet = given.subnet(Some("192.0.2.1".parse().unwrap()));
        let first = free_address(&subnet, &BTreeSet::new(), |_| true).unwrap();
        assert_eq!((first.as_str(), subnet.forwards), ("192.0.2.100/24", true));
        let taken = ["192.0.2.100", "192.0.2.101"].map(|ip| ip.parse().unwrap());
        assert!(free_address(&subnet, &taken.into(), |_| true).is_err());
        assert!(!given.subnet(None).forwards);
        assert_eq!(given.cidr().unwrap().to_string(), "192.0.2.0/24");
        for bad in [
            "",
            "192.0.2.1-192.0.2.2",
            "192.0.2.2-192.0.2.1/24",
            "192.0.2.1-192.0.3.1/24",
            "10.0.0.1-10.0.0.2/8",
            "192.0.2.1-192.0.2.2/31",
            "a-b/24",
        ] {
            assert_eq!(bad.parse::<Addresses>(), Err(InvalidAddresses), "{bad}");
        }
    }

    #[test]
    fn each_address_has_its_port() {
        let port = |ip: &str, ports| advertised_port(ip.parse().unwrap(), 24, &ports);
        assert_eq!(port("10.7.0.2", 15432..=15500), Some(15434));
        assert_eq!(port("10.7.0.68", 15432..=15500), Some(15500));
        assert_eq!(port("10.7.0.69", 15432..=15500), None);
        assert_eq!(port("10.7.0.200", 65500..=65535), None);
        assert_eq!(
            advertised_port("10.7.1.0".parse().unwrap(), 16, &(1..=1000)),
            Some(257)
        );
    }
}
