//! [`PgpassEntry`]: a line of libpq's password file.
//!
//! Source: PostgreSQL's documentation, "The Password File".

use crate::secret::Secret;

/// A line of a password file. `None` matches anything. libpq asks for the database `replication` when it
/// streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgpassEntry {
    /// Host as in the connection string.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Database.
    pub database: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
}

/// A field that a password file cannot hold. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field of a password file's line holds a line break or NUL, or the first one begins with #")]
pub struct InvalidPgpassEntry;

impl PgpassEntry {
    /// Any server and database, for this role: what a standby needs, whomever it follows.
    pub fn for_user(user: impl Into<String>, password: Secret) -> Self {
        PgpassEntry {
            host: None,
            port: None,
            database: None,
            user: Some(user.into()),
            password,
        }
    }

    /// The line, newline included.
    pub fn render(&self) -> Result<Secret, InvalidPgpassEntry> {
        let port = self.port.map(|port| port.to_string());
        let fields = [&self.host, &port, &self.database, &self.user];
        let texts = fields
            .iter()
            .filter_map(|field| field.as_deref())
            .chain([self.password.expose()]);
        if texts.into_iter().any(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(InvalidPgpassEntry);
        }
        if self.host.as_deref().is_some_and(|host| host.starts_with('#')) {
            return Err(InvalidPgpassEntry);
        }
        let mut line = String::new();
        for field in fields {
            line.push_str(&field.as_deref().map_or("*".to_owned(), escape));
            line.push(':');
        }
        line.push_str(&escape(self.password.expose()));
        line.push('\n');
        Ok(Secret::new(line))
    }
}

/// A backslash before colons and backslashes, and before an asterisk that is the whole field.
fn escape(field: &str) -> String {
    if field == "*" {
        return "\\*".to_owned();
    }
    field.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let entry = PgpassEntry {
            host: Some("fe80::1".into()),
            port: Some(5432),
            database: Some("replication".into()),
            user: Some("dbaas_replication".into()),
            password: Secret::new(r"a:b\c"),
        };
        assert_eq!(
            entry.render().unwrap().expose(),
            "fe80\\:\\:1:5432:replication:dbaas_replication:a\\:b\\\\c\n"
        );
        let entry = PgpassEntry::for_user("dbaas_replication", Secret::new("secret"));
        assert_eq!(
            entry.render().unwrap().expose(),
            "*:*:*:dbaas_replication:secret\n"
        );
        assert!(!format!("{entry:?}").contains("secret\""));
    }

    #[test]
    fn what_would_break_the_line_is_refused() {
        for bad in ["a\nb", "a\r", "\0"] {
            assert_eq!(
                PgpassEntry::for_user("u", Secret::new(bad)).render(),
                Err(InvalidPgpassEntry)
            );
            assert_eq!(
                PgpassEntry::for_user(bad, Secret::new("p")).render(),
                Err(InvalidPgpassEntry)
            );
        }
    }

    /// Fields as libpq takes them apart.
    fn split(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut chars = line.trim_end_matches('\n').chars();
        while let Some(c) = chars.next() {
            match c {
                ':' => fields.push(String::new()),
                '\\' => fields.last_mut().unwrap().extend(chars.next()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn comes_back(host in "[^\0\r\n#][^\0\r\n]{0,9}", port in any::<u16>(), user in "[^\0\r\n]{1,9}", password in "[^\0\r\n]{0,9}") {
            let entry = PgpassEntry {
                host: Some(host.clone()),
                port: Some(port),
                database: None,
                user: Some(user.clone()),
                password: Secret::new(password.clone()),
            };
            let line = entry.render().unwrap();
            prop_assert_eq!(split(line.expose()), [host, port.to_string(), "*".into(), user, password]);
        }
    }
}
