//! [`PrimaryConninfo`]: whom a standby follows, as libpq's keyword/value connection string.
//!
//! Source: PostgreSQL's documentation, "Connection Strings"; `conninfo_parse` in
//! `src/interfaces/libpq/fe-connect.c`.

use crate::boot::PASSFILE;

/// How a standby connects to the server that it follows. The password stands in the file [`PASSFILE`], never
/// here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrimaryConninfo {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// What the standby is called in `synchronous_standby_names`; see [`crate::cluster::standby_name`].
    pub application_name: String,
}

/// The text is not a connection string that names host, port, user and application name. Holds nothing of the
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a connection string of the form host='…' port='…' user='…' application_name='…': {reason}")]
pub struct InvalidConninfo {
    /// What is wrong.
    pub reason: &'static str,
}

/// Fixed parts: a primary that is gone without a word is noticed within seconds, and nothing is asked for on
/// a terminal.
const FIXED: [(&str, &str); 8] = [
    ("passfile", PASSFILE),
    ("connect_timeout", "3"),
    ("keepalives", "1"),
    ("keepalives_idle", "3"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
    ("gssencmode", "disable"),
];

impl PrimaryConninfo {
    /// The connection string.
    pub fn render(&self) -> String {
        let port = self.port.to_string();
        let named = [
            ("host", self.host.as_str()),
            ("port", &port),
            ("user", &self.user),
            ("application_name", &self.application_name),
        ];
        let pairs = named.into_iter().chain(FIXED);
        pairs
            .map(|(key, value)| format!("{key}={}", quote_conninfo_value(value)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Reads back host, port, user and application name; other keywords are passed over. Where `port` is
    /// missing it is 5432.
    pub fn parse(text: &str) -> Result<Self, InvalidConninfo> {
        let pairs = parse_conninfo(text)?;
        let find = |key: &str| {
            pairs
                .iter()
                .rev()
                .find(|(k, _)| k == key)
                .map(|(_, value)| value.clone())
        };
        let invalid = |reason| InvalidConninfo { reason };
        let port = match find("port") {
            None => 5432,
            Some(port) => port
                .parse()
                .map_err(|_| invalid("the port is not a number up to 65535"))?,
        };
        Ok(PrimaryConninfo {
            host: find("host").ok_or(invalid("there is no host"))?,
            port,
            user: find("user").ok_or(invalid("there is no user"))?,
            application_name: find("application_name").ok_or(invalid("there is no application_name"))?,
        })
    }
}

/// Quotes a value for a connection string. NUL, which libpq cannot pass on, ends the value.
pub fn quote_conninfo_value(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars().take_while(|&c| c != '\0') {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// The keywords and values of a connection string in order, as libpq reads them (a repeated keyword's last
/// value counts).
pub fn parse_conninfo(text: &str) -> Result<Vec<(String, String)>, InvalidConninfo> {
    let invalid = |reason| Err(InvalidConninfo { reason });
    if text.starts_with("postgresql://") || text.starts_with("postgres://") {
        return invalid("it is a URI");
    }
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else {
            return invalid("a keyword has no =");
        };
        let key = key.trim_end_matches(is_space);
        if key.is_empty() || key.contains(is_space) {
            return invalid("a keyword has no =");
        }
        if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return invalid("a keyword has other characters than letters, digits and underscores");
        }
        let after = after.trim_start_matches(is_space);
        let Some((value, after)) = scan_value(after, is_space) else {
            return invalid("a quoted value does not end");
        };
        pairs.push((key.to_owned(), value));
        rest = after.trim_start_matches(is_space);
    }
    Ok(pairs)
}

/// A value at the beginning of the text, and what comes after it. `None` if its quote is not closed.
fn scan_value(text: &str, is_space: fn(char) -> bool) -> Option<(String, &str)> {
    let (body, is_quoted) = match text.strip_prefix('\'') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if is_quoted => return Some((value, &body[i + 1..])),
            c if !is_quoted && is_space(c) => return Some((value, &body[i..])),
            c => value.push(c),
        }
    }
    if is_quoted { None } else { Some((value, "")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let conninfo = PrimaryConninfo {
            host: "10.0.0.1".into(),
            port: 5432,
            user: "dbaas_replication".into(),
            application_name: "n1_e5".into(),
        };
        insta::assert_snapshot!(conninfo.render(), @"host='10.0.0.1' port='5432' user='dbaas_replication' application_name='n1_e5' passfile='dbaas.pgpass' connect_timeout='3' keepalives='1' keepalives_idle='3' keepalives_interval='1' keepalives_count='3' tcp_user_timeout='5000' gssencmode='disable'");
        assert!(!conninfo.render().contains("password"));
    }

    #[test]
    fn reads_what_libpq_reads() {
        let pairs = |text: &str| parse_conninfo(text).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(""), []);
        assert_eq!(
            pairs("  host = a  port=1 "),
            [pair("host", "a"), pair("port", "1")]
        );
        assert_eq!(
            pairs(r"a='x \'y\' \\z' b=p\ q c="),
            [pair("a", r"x 'y' \z"), pair("b", "p q"), pair("c", "")]
        );
        assert_eq!(pairs("a='1'b=2"), [pair("a", "1"), pair("b", "2")]);
        assert_eq!(pairs("a=b'c d='e'"), [pair("a", "b'c"), pair("d", "e")]);
        let reason = |text: &str| parse_conninfo(text).unwrap_err().reason;
        assert_eq!(reason("a b=1"), "a keyword has no =");
        assert_eq!(reason("=1"), "a keyword has no =");
        for uri in ["postgres://h/d?a=1", "postgresql://h/d?a=1"] {
            assert_eq!(reason(uri), "it is a URI");
        }
        for bad in [
            "host",
            "host a=1",
            "=a",
            "a='x",
            "a=1 b",
            "postgresql://h/d",
            " postgresql://h=d",
            "a-b=1",
            "a='x\\'",
        ] {
            assert!(parse_conninfo(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_keyword_counts_and_all_four_are_needed() {
        let text = "host=a host=b user=u application_name=n_e1";
        let conninfo = PrimaryConninfo::parse(text).unwrap();
        assert_eq!((conninfo.host.as_str(), conninfo.port), ("b", 5432));
        for bad in [
            "",
            "host=a user=u",
            "user=u application_name=n",
            "host=a application_name=n",
            "host=a port=x user=u application_name=n",
        ] {
            assert!(PrimaryConninfo::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(host in "[^\0]{1,20}", port in any::<u16>(), user in "[^\0]{1,20}", application_name in "[^\0]{1,20}") {
            let conninfo = PrimaryConninfo { host, port, user, application_name };
            prop_assert_eq!(PrimaryConninfo::parse(&conninfo.render()), Ok(conninfo));
        }

        #[test]
        fn nothing_panics(text in ".*", close in "[ab='\\\\ ]{0,30}") {
            let _ = PrimaryConninfo::parse(&text);
            let _ = parse_conninfo(&close);
        }
    }
}
