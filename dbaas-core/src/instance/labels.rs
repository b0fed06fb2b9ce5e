//! [`Labels`]: what callers call an instance, to find it by.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How many labels an instance may have.
pub const LABELS_MAX: usize = 64;
/// Longest name and longest value of a label, in characters.
pub const LABEL_CHARS_MAX: usize = 63;
/// Longest prefix of a label's key, in characters.
const PREFIX_CHARS_MAX: usize = 253;

const KEY_RULE: &str =
    "a key is 1 to 63 of a-z, 0-9 and hyphens within, after an optional domain and a slash";

/// Keys and values. A key is a name as RFC 1123 has them for hosts (a-z, 0-9 and hyphens within), with an
/// optional prefix that is a domain and a slash; a value has letters, digits, and `-`, `_`, `.` within, or is
/// empty. As in Kubernetes, where names may be a little more.
///
/// ```
/// use dbaas_core::instance::Labels;
///
/// let labels: Labels = [("team", "shop"), ("example.org/tier", "2")].into_iter().collect();
/// assert!(labels.check().is_ok());
/// assert!(labels.has("team", "shop"));
/// let labels: Labels = [("Team", "shop")].into_iter().collect();
/// assert_eq!(labels.check().unwrap_err()[0].key, "Team");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

/// A label that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {rule}")]
pub struct InvalidLabel {
    /// Its key as it was given; empty: all of them together.
    pub key: String,
    /// The rule that it breaks, for people.
    pub rule: String,
}

impl Labels {
    /// Sets one.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Removes one.
    pub fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Whether there is one with this key and value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|there| there == value)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that are wrong.
    pub fn check(&self) -> Result<(), Vec<InvalidLabel>> {
        let mut errors: Vec<InvalidLabel> = self
            .iter()
            .filter_map(|(key, value)| {
                let rule = check_key(key).and_then(|()| check_value(value)).err()?;
                let (key, rule) = (key.to_owned(), rule.to_owned());
                Some(InvalidLabel { key, rule })
            })
            .collect();
        if self.0.len() > LABELS_MAX {
            errors.push(InvalidLabel {
                key: String::new(),
                rule: format!("an instance has at most {LABELS_MAX} labels"),
            });
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        f.write_str(&pairs.join(", "))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Labels(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

fn check_key(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_prefix = |prefix: &str| prefix.len() <= PREFIX_CHARS_MAX && prefix.split('.').all(is_host_name);
    if !is_host_name(name) {
        return Err(KEY_RULE);
    }
    if !prefix.is_none_or(is_prefix) {
        return Err("the part of the key before the slash is a domain, such as example.org");
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), &'static str> {
    let is_end = |end: Option<u8>| end.is_none_or(|end| end.is_ascii_alphanumeric());
    let is_within = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let (first, last) = (value.bytes().next(), value.bytes().next_back());
    if value.len() <= LABEL_CHARS_MAX && is_end(first) && is_end(last) && value.bytes().all(is_within) {
        return Ok(());
    }
    Err("the value has at most 63 of A-Z, a-z, 0-9, and of -, _ and ., which do not begin or end it")
}

/// A label of RFC 1123, section 2.1, in lower case.
fn is_host_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=LABEL_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let most = "k".repeat(63);
        let domain = [
            &"d".repeat(63),
            &*"d".repeat(63),
            &"d".repeat(63),
            &"d".repeat(61),
        ]
        .join(".");
        for good in [
            "team",
            "a",
            "0",
            "a-b",
            &most,
            "example.org/team",
            &format!("{domain}/team"),
        ] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Team",
            "a_b",
            "a.b",
            "tëam",
            "a/",
            "/a",
            "a/b/c",
            "example..org/a",
            "Example.org/a",
            "a b",
            "a\n",
            &format!("{most}k"),
            &format!("{domain}d/team"),
        ] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values() {
        for good in ["", "a", "A.b_c-9", &"v".repeat(63)] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in ["-a", "a-", ".", "a b", "ä", "a:b", "a\n", &"v".repeat(64)] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_and_so_many_are_allowed() {
        let most: Labels = (0..LABELS_MAX).map(|n| (format!("k{n}"), "v")).collect();
        assert_eq!(most.check(), Ok(()));
        let mut more = most;
        more.set("one-more", "v");
        more.set("B", "v");
        more.set("c", "-");
        let keys: Vec<String> = more
            .check()
            .unwrap_err()
            .into_iter()
            .map(|wrong| wrong.key)
            .collect();
        assert_eq!(keys, ["B", "c", ""]);
        more.unset("B");
        assert!(!more.has("B", "v") && more.has("one-more", "v") && !more.has("one-more", "w"));
    }
}
