//! Where something listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// A TCP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Address families that an endpoint's host may be resolved to by a caller that wants `ipsv4`.
pub fn ipv4_of(endpoint: &Endpoint) -> Option<Ipv4Addr> {
    match endpoint.host.parse() {
        Ok(IpAddr::V4(ip)) => Some(ip),
        _ if endpoint.host == "localhost" => Some(Ipv4Addr::LOCALHOST),
        _ => None,
    }
}
