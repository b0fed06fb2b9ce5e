//! Connection URIs: any name and any host has one way to be written, out of characters that mean nothing to
//! libpq, and comes back when it is decoded. Networks of `pg_hba.conf`: what is accepted is one word of one
//! line.
#![no_main]

use dbaas_core::config::{Cidr, HbaRules};
use dbaas_core::connection::ConnectionStrings;
use dbaas_core::infrastructure::Endpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str, &str, u16)| {
    let (host, user, database, port) = texts;
    let endpoint = Endpoint { host: host.to_owned(), port };
    let strings = ConnectionStrings::new(vec![endpoint.clone(), endpoint])
        .with_user(user)
        .with_database(database);
    let uri = strings.uri();
    let rest = uri.strip_prefix("postgresql://").expect("the scheme");
    let (login, rest) = rest.split_once('@').expect("a user");
    let (hosts, rest) = rest.split_once('/').expect("hosts");
    let (name, attributes) = rest.split_once('?').expect("attributes");
    assert_eq!(attributes, "target_session_attrs=primary&connect_timeout=5");
    assert_eq!(decode(login).as_deref(), Some(user));
    assert_eq!(decode(name).as_deref(), Some(database));
    let (first, second) = hosts.split_once(',').expect("two hosts");
    assert_eq!(first, second);
    let (written, number) = first.rsplit_once(':').expect("a port");
    assert_eq!(number, port.to_string());
    match written.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
        Some(address) => assert_eq!(address.parse::<std::net::Ipv6Addr>().ok(), host.parse().ok()),
        None => assert_eq!(decode(written).as_deref(), Some(host)),
    }

    if let Ok(network) = host.parse::<Cidr>() {
        assert_eq!(network.to_string().parse(), Ok(network));
        let rules = HbaRules { control: vec![], peers: vec![], clients: vec![network] }.render();
        let with = |line: &&str| line.split_whitespace().nth(3) == Some(network.to_string().as_str());
        assert_eq!(rules.lines().filter(with).count(), 1, "{rules}");
    }
});

/// `None`: it holds what would have to be encoded.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => b,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok()
}
