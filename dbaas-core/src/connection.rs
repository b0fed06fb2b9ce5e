//! Connection strings for users: libpq URIs and JDBC URLs that name every node. Never with a password.
//!
//! Source: PostgreSQL's documentation, "Connection URIs"; the JDBC driver's documentation, "Connection
//! Fail-over".
//!
//! ```
//! use dbaas_core::connection::ConnectionStrings;
//! use dbaas_core::infrastructure::Endpoint;
//!
//! let node = |port| Endpoint { host: "10.0.0.1".into(), port };
//! let strings = ConnectionStrings::new(vec![node(5432), node(5433)]).with_database("orders");
//! assert_eq!(strings.uri(), "postgresql://10.0.0.1:5432,10.0.0.1:5433/orders?target_session_attrs=primary&connect_timeout=5");
//! ```
//!
//! # Why `primary` and not `read-write`
//! libpq asks a server that is to be `read-write` for `transaction_read_only` too. Once somebody sets
//! `default_transaction_read_only` on the role or the database, every host is refused. `primary` asks whether
//! the server is in recovery, and nothing else. libpq knows the word since version 14; a client that knows
//! `read-write` only (such as tokio-postgres) is given that by hand.

use std::fmt::Write as _;

use crate::infrastructure::Endpoint;

/// For how long a client tries one host, in seconds, unless told otherwise. Longer than a login takes on a
/// busy server; short enough for the next host to be tried while a failover is still news. libpq counts less
/// than 2 s as 2 s.
pub const CONNECT_TIMEOUT_S: u16 = 5;

/// What the connection strings of an instance are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStrings {
    endpoints: Vec<Endpoint>,
    user: Option<String>,
    database: Option<String>,
    connect_timeout_s: u16,
}

/// Which node a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Primary,
    Standby,
}

impl ConnectionStrings {
    /// For these endpoints, the primary first: clients try them in order.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        ConnectionStrings {
            endpoints,
            user: None,
            database: None,
            connect_timeout_s: CONNECT_TIMEOUT_S,
        }
    }

    /// With a user filled in.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// With a database filled in.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// With another limit on the time that each host is tried, in seconds, than [`CONNECT_TIMEOUT_S`].
    /// Without a limit a client would wait for a host that is gone as long as its operating system does.
    #[must_use]
    pub fn with_connect_timeout_s(mut self, seconds: u16) -> Self {
        self.connect_timeout_s = seconds;
        self
    }

    /// For libpq (14 and newer): whichever node is the primary.
    pub fn uri(&self) -> String {
        self.libpq(Target::Primary)
    }

    /// For libpq (14 and newer): a standby where there is one, else the primary.
    pub fn read_only_uri(&self) -> String {
        self.libpq(Target::Standby)
    }

    /// For JDBC: whichever node is the primary.
    pub fn jdbc_url(&self) -> String {
        self.jdbc(Target::Primary)
    }

    /// For JDBC: a standby where there is one, else the primary.
    pub fn read_only_jdbc_url(&self) -> String {
        self.jdbc(Target::Standby)
    }

    fn libpq(&self, target: Target) -> String {
        let user = self
            .user
            .as_deref()
            .map(|user| percent_encode(user) + "@")
            .unwrap_or_default();
        let attrs = match target {
            Target::Primary => "primary",
            Target::Standby => "prefer-standby",
        };
        format!(
            "postgresql://{user}{}/{}?target_session_attrs={attrs}&connect_timeout={}",
            self.hosts(),
            self.encoded_database(),
            self.connect_timeout_s
        )
    }

    fn jdbc(&self, target: Target) -> String {
        let server = match target {
            Target::Primary => "primary",
            Target::Standby => "preferSecondary",
        };
        let mut url = format!(
            "jdbc:postgresql://{}/{}?targetServerType={server}",
            self.hosts(),
            self.encoded_database()
        );
        if let Some(user) = &self.user {
            url.push_str(&format!("&user={}", percent_encode(user)));
        }
        url.push_str(&format!("&connectTimeout={}", self.connect_timeout_s));
        url
    }

    fn hosts(&self) -> String {
        self.endpoints
            .iter()
            .map(host_and_port)
            .collect::<Vec<_>>()
            .join(",")
    }

    fn encoded_database(&self) -> String {
        self.database.as_deref().map(percent_encode).unwrap_or_default()
    }
}

/// IPv6 addresses in brackets, everything else percent-encoded.
fn host_and_port(endpoint: &Endpoint) -> String {
    match endpoint.host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{}", endpoint.port),
        Err(_) => format!("{}:{}", percent_encode(&endpoint.host), endpoint.port),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: host.into(),
            port,
        }
    }

    fn two() -> ConnectionStrings {
        ConnectionStrings::new(vec![endpoint("10.0.0.1", 5432), endpoint("fd00::2", 5433)])
    }

    #[test]
    fn golden() {
        insta::assert_snapshot!(two().uri(), @"postgresql://10.0.0.1:5432,[fd00::2]:5433/?target_session_attrs=primary&connect_timeout=5");
        insta::assert_snapshot!(two().read_only_uri(), @"postgresql://10.0.0.1:5432,[fd00::2]:5433/?target_session_attrs=prefer-standby&connect_timeout=5");
        insta::assert_snapshot!(two().jdbc_url(), @"jdbc:postgresql://10.0.0.1:5432,[fd00::2]:5433/?targetServerType=primary&connectTimeout=5");
        let full = two()
            .with_user("bob$1")
            .with_database("orders")
            .with_connect_timeout_s(3);
        insta::assert_snapshot!(full.uri(), @"postgresql://bob%241@10.0.0.1:5432,[fd00::2]:5433/orders?target_session_attrs=primary&connect_timeout=3");
        insta::assert_snapshot!(full.read_only_jdbc_url(), @"jdbc:postgresql://10.0.0.1:5432,[fd00::2]:5433/orders?targetServerType=preferSecondary&user=bob%241&connectTimeout=3");
    }

    #[test]
    fn what_is_special_is_encoded() {
        let strings = ConnectionStrings::new(vec![endpoint("a b/c@d", 1)])
            .with_user("u@v:w")
            .with_database("d?x=1&y#z");
        assert_eq!(
            strings.uri(),
            "postgresql://u%40v%3Aw@a%20b%2Fc%40d:1/d%3Fx%3D1%26y%23z?target_session_attrs=primary&connect_timeout=5"
        );
    }

    fn decode(text: &str) -> String {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, after @ ..] = rest {
            if *first == b'%' {
                let hex = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn every_part_can_be_taken_out_again(user in ".{1,10}", database in ".{1,10}", host in "[^\0]{1,10}", port in any::<u16>(), n in 1usize..5) {
            let strings = ConnectionStrings::new(vec![endpoint(&host, port); n]).with_user(&user).with_database(&database);
            let uri = strings.uri();
            let rest = uri.strip_prefix("postgresql://").unwrap();
            let (encoded_user, rest) = rest.split_once('@').unwrap();
            let (hosts, rest) = rest.split_once('/').unwrap();
            let (encoded_database, query) = rest.split_once('?').unwrap();
            prop_assert_eq!(decode(encoded_user), user);
            prop_assert_eq!(decode(encoded_database), database);
            prop_assert_eq!(query, "target_session_attrs=primary&connect_timeout=5");
            let hosts: Vec<&str> = hosts.split(',').collect();
            prop_assert_eq!(hosts.len(), n);
            for one in hosts {
                let (encoded_host, encoded_port) = one.rsplit_once(':').unwrap();
                prop_assert_eq!(encoded_port, port.to_string());
                if !encoded_host.starts_with('[') {
                    prop_assert_eq!(decode(encoded_host), host.as_str());
                }
            }
        }
    }
}
