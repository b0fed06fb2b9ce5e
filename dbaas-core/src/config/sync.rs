//! `synchronous_standby_names`: whom a commit waits for.
//!
//! Source: `src/backend/replication/syncrep_gram.y`; documentation of `synchronous_standby_names`.

/// A name that no standby can have, since ours end in an epoch. With it commits wait.
const CLOSED: &str = "closed";

/// Renders `synchronous_standby_names`: any `k` of the names. With k = 0 it is empty (asynchronous). With k
/// of 1 or more and no names it is one that nobody has: commits wait until there is a standby that may
/// acknowledge them.
///
/// ```
/// use dbaas_core::config::sync_names;
///
/// assert_eq!(sync_names(1, ["n1_e5", "n2_e5"]), r#"ANY 1 ("n1_e5", "n2_e5")"#);
/// assert_eq!(sync_names(1, [""; 0]), r#"ANY 1 ("closed")"#);
/// assert_eq!(sync_names(0, ["n1_e5"]), "");
/// ```
pub fn sync_names<S: AsRef<str>>(k: u8, names: impl IntoIterator<Item = S>) -> String {
    if k == 0 {
        return String::new();
    }
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut quoted: Vec<String> = names.into_iter().map(|name| quote(name.as_ref())).collect();
    if quoted.is_empty() {
        quoted.push(quote(CLOSED));
    }
    format!("ANY {k} ({})", quoted.join(", "))
}

/// Reads back what [`sync_names`] rendered: k and the names (none where it is closed or asynchronous). `None`
/// for any other text, also for one that PostgreSQL would take.
pub fn parse_sync_names(text: &str) -> Option<(u8, Vec<String>)> {
    if text.is_empty() {
        return Some((0, Vec::new()));
    }
    let (k, list) = text.strip_prefix("ANY ")?.split_once(" (")?;
    let k = k.parse().ok().filter(|k| *k > 0)?;
    let mut rest = list.strip_suffix(')')?;
    let mut names = Vec::new();
    loop {
        let (name, after) = scan_quoted(rest)?;
        names.push(name);
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix(", ")?;
    }
    if names == [CLOSED] {
        names.clear();
    }
    // The one spelling, or none: what differs from what we would write is not ours.
    (sync_names(k, &names) == text).then_some((k, names))
}

fn scan_quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut name = String::new();
    let mut chars = body.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' if body[i + 1..].starts_with('"') => {
                chars.next();
                name.push('"');
            }
            '"' => return Some((name, &body[i + 1..])),
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        assert_eq!(
            sync_names(2, ["a_e1", "b_e1", "c_e1"]),
            r#"ANY 2 ("a_e1", "b_e1", "c_e1")"#
        );
        assert_eq!(sync_names(1, [r#"we"ird"#]), r#"ANY 1 ("we""ird")"#);
    }

    #[test]
    fn others_spellings_are_not_ours() {
        for text in [
            "*",
            "a",
            "FIRST 1 (\"a\")",
            "ANY 1 (a)",
            "ANY 0 (\"a\")",
            "ANY 1 ()",
            "any 1 (\"a\")",
            "ANY 1 (\"a\",\"b\")",
            "ANY 01 (\"a\")",
        ] {
            assert_eq!(parse_sync_names(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(k in any::<u8>(), names in proptest::collection::vec("[a-z\"(), ]{1,8}_e[0-9]{1,3}", 0..5)) {
            let expected = if k == 0 { Vec::new() } else { names.clone() };
            prop_assert_eq!(parse_sync_names(&sync_names(k, &names)), Some((k, expected)));
        }

        #[test]
        fn nothing_panics(text in "(ANY [0-9]{1,4} \\()?[\"a, )]{0,20}") {
            let _ = parse_sync_names(&text);
        }
    }
}
