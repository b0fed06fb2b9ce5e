//! [`HbaRules`]: `pg_hba.conf`, who may log in from where.
//!
//! Source: PostgreSQL's documentation, "The pg_hba.conf File".

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::boot::{ADMIN_ROLE, REPLICATION_ROLE};

/// A network: `10.0.0.0/8`, `fd00::/8`, `127.0.0.1/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix_bits: u8,
}

/// The text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a network such as 10.0.0.0/8 or fd00::/8 (no bits of the address may be set beyond the prefix)")]
pub struct InvalidCidr;

impl Cidr {
    /// Checks that the prefix fits the address and that no bit is set beyond it.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Result<Self, InvalidCidr> {
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let beyond = bits.checked_shl(prefix_bits.into()).unwrap_or(0);
        if prefix_bits > width || beyond != 0 {
            Err(InvalidCidr)
        } else {
            Ok(Cidr { address, prefix_bits })
        }
    }

    /// This machine, by IPv4 and IPv6.
    pub fn loopback() -> [Cidr; 2] {
        let v4 = Cidr {
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
            prefix_bits: 8,
        };
        let v6 = Cidr {
            address: IpAddr::V6(Ipv6Addr::LOCALHOST),
            prefix_bits: 128,
        };
        [v4, v6]
    }

    /// Everywhere, by IPv4 and IPv6.
    pub fn everywhere() -> [Cidr; 2] {
        let v4 = Cidr {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix_bits: 0,
        };
        let v6 = Cidr {
            address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            prefix_bits: 0,
        };
        [v4, v6]
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidCidr)?;
        let is_plain =
            prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        if !is_plain {
            return Err(InvalidCidr);
        }
        Cidr::new(
            address.parse().map_err(|_| InvalidCidr)?,
            prefix.parse().map_err(|_| InvalidCidr)?,
        )
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: String) -> Result<Self, InvalidCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

/// From where each kind of login may come. Everything else is rejected; nobody logs in without a SCRAM
/// password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRules {
    /// The control plane, as [`ADMIN_ROLE`].
    pub control: Vec<Cidr>,
    /// Other nodes, as [`REPLICATION_ROLE`]: streaming, base backups, rewind.
    pub peers: Vec<Cidr>,
    /// Users of the instance.
    pub clients: Vec<Cidr>,
}

impl HbaRules {
    /// Everything from this machine only: what the local backend uses unless told otherwise.
    pub fn loopback() -> Self {
        let loopback = Cidr::loopback().to_vec();
        HbaRules {
            control: loopback.clone(),
            peers: loopback.clone(),
            clients: loopback,
        }
    }

    /// The file's text. The first line that matches decides, so each role of ours is closed off before the
    /// clients' lines.
    pub fn render(&self) -> String {
        let mut file = HbaFile {
            text: String::with_capacity(FILE_BYTES),
        };
        file.comment("The control plane, also through a socket.");
        file.line("local", "all", ADMIN_ROLE, "", SCRAM);
        file.allow("all", ADMIN_ROLE, &self.control);
        file.reject("all", ADMIN_ROLE);
        file.comment("Other nodes: streaming and base backups, and rewind (through the database postgres).");
        file.allow("replication", REPLICATION_ROLE, &self.peers);
        file.allow("postgres", REPLICATION_ROLE, &self.peers);
        file.reject("all", REPLICATION_ROLE);
        file.comment("Nobody else replicates.");
        file.reject("replication", "all");
        file.comment("Users of the instance.");
        file.allow("all", "all", &self.clients);
        file.comment("Nothing else.");
        file.line("local", "all", "all", "", "reject");
        file.reject("all", "all");
        file.text
    }
}

impl Default for HbaRules {
    /// [`HbaRules::loopback`].
    fn default() -> Self {
        HbaRules::loopback()
    }
}

const SCRAM: &str = "scram-sha-256";

/// About how long the file is.
const FILE_BYTES: usize = 2048;

struct HbaFile {
    text: String,
}

impl HbaFile {
    fn comment(&mut self, comment: &str) {
        self.text.extend(["# ", comment, "\n"]);
    }

    fn allow(&mut self, database: &str, user: &str, networks: &[Cidr]) {
        for network in networks {
            self.line("host", database, user, &network.to_string(), SCRAM);
        }
    }

    fn reject(&mut self, database: &str, user: &str) {
        self.line("host", database, user, "all", "reject");
    }

    fn line(&mut self, kind: &str, database: &str, user: &str, address: &str, method: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(
            self.text,
            "{kind:<5} {database:<11} {user:<17} {address:<18} {method}"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let rules = HbaRules {
            control: vec!["10.0.0.5/32".parse().unwrap()],
            peers: vec!["10.0.0.0/24".parse().unwrap()],
            clients: Cidr::everywhere().to_vec(),
        };
        insta::assert_snapshot!(rules.render());
    }

    #[test]
    fn loopback_golden() {
        insta::assert_snapshot!(HbaRules::default().render());
    }

    #[test]
    fn networks() {
        for good in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "127.0.0.1/32",
            "::/0",
            "::1/128",
            "fd00::/8",
            "192.168.1.128/25",
        ] {
            assert_eq!(good.parse::<Cidr>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "fd00::1/8",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8 ",
            "all/0",
            "10.0.0.0/",
            "10.0.0.0/256",
            "::1%lo/128",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(InvalidCidr), "{bad}");
        }
    }

    /// What the first matching line of the file says, as PostgreSQL reads it.
    fn decision<'a>(file: &'a str, database: &str, user: &str, from: Option<&str>) -> &'a str {
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, method) = match fields[..] {
                ["local", _, _, method] => (None, method),
                ["host", _, _, address, method] => (Some(address), method),
                _ => panic!("{line}"),
            };
            let database_matches = match fields[1] {
                "all" => database != "replication",
                name => name == database,
            };
            let user_matches = fields[2] == "all" || fields[2] == user;
            let from_matches = match (address, from) {
                (None, None) => true,
                (Some("all"), Some(_)) => true,
                (Some(address), Some(from)) => address == from,
                _ => false,
            };
            if database_matches && user_matches && from_matches {
                return method;
            }
        }
        "reject"
    }

    #[test]
    fn who_may_log_in_from_where() {
        let rules = HbaRules {
            control: vec!["10.0.0.5/32".parse().unwrap()],
            peers: vec!["10.0.1.0/24".parse().unwrap()],
            clients: vec!["10.0.2.0/24".parse().unwrap()],
        };
        let file = rules.render();
        let (control, peers, clients) = (Some("10.0.0.5/32"), Some("10.0.1.0/24"), Some("10.0.2.0/24"));
        for from in [control, peers, clients, None] {
            for database in ["app", "postgres", "replication"] {
                for (user, allowed) in [
                    (
                        ADMIN_ROLE,
                        (from == control || from.is_none()) && database != "replication",
                    ),
                    (REPLICATION_ROLE, from == peers && database != "app"),
                    ("tenant", from == clients && database != "replication"),
                ] {
                    let expected = if allowed { SCRAM } else { "reject" };
                    assert_eq!(
                        decision(&file, database, user, from),
                        expected,
                        "{user} {database} {from:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_network_is_kept_as_text() {
        let network: Cidr = "10.1.0.0/16".parse().unwrap();
        assert_eq!(serde_json::to_string(&network).unwrap(), "\"10.1.0.0/16\"");
    }

    proptest! {
        #[test]
        fn networks_come_back(bits in any::<u32>(), prefix in 0u8..=32, wide in any::<u128>(), wide_prefix in 0u8..=128) {
            let v4 = Cidr::new(Ipv4Addr::from_bits(bits & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into(), prefix);
            prop_assert_eq!(v4.unwrap().to_string().parse(), v4);
            let mask = u128::MAX.checked_shl(128 - u32::from(wide_prefix)).unwrap_or(0);
            let v6 = Cidr::new(Ipv6Addr::from_bits(wide & mask).into(), wide_prefix);
            prop_assert_eq!(v6.unwrap().to_string().parse(), v6);
        }

        #[test]
        fn every_line_has_its_fields(prefixes in proptest::collection::vec(0u8..=32, 0..5)) {
            let networks: Vec<Cidr> = prefixes.into_iter().map(|p| Cidr::new(Ipv4Addr::UNSPECIFIED.into(), p).unwrap()).collect();
            let rules = HbaRules { control: networks.clone(), peers: networks.clone(), clients: networks.clone() };
            let file = rules.render();
            let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
            prop_assert_eq!(lines.len(), 6 + 4 * networks.len());
            for line in lines {
                let fields = line.split_whitespace().count();
                prop_assert_eq!(fields, if line.starts_with("local") { 4 } else { 5 });
            }
        }
    }
}
