//! Who may connect to nodes.

use std::net::{IpAddr, ToSocketAddrs};

use dbaas_core::config::{Cidr, HbaRules};

use crate::LocalOptions;

/// Who may connect to nodes: this machine, also by the address that nodes have, and the clients that were
/// allowed.
pub(crate) fn hba_rules(options: &LocalOptions) -> HbaRules {
    let mut rules = HbaRules::loopback();
    let mut own: Vec<IpAddr> = Vec::new();
    if !options.listen_address.is_unspecified() && !options.listen_address.is_loopback() {
        own.push(options.listen_address);
    }
    if let Some(host) = &options.advertise_host {
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(found) => own.extend(found.map(|address| address.ip()).filter(|ip| !ip.is_loopback())),
            Err(error) => {
                tracing::warn!(host, %error, "the advertised host has no address that this machine knows")
            }
        }
    }
    for ip in own {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        // A whole address has no bits beyond its prefix.
        if let Ok(host) = Cidr::new(ip, bits) {
            for list in [&mut rules.control, &mut rules.peers, &mut rules.clients] {
                list.push(host);
            }
        }
    }
    rules.clients.extend(options.allow_clients.iter().copied());
    rules
}
