//! What servers write, without the secrets that clients put into statements.
//!
//! PostgreSQL writes a failed statement into its log, and `ALTER ROLE … PASSWORD '…'` is one. What is taken
//! out here is what can be told from the text: values of passwords in statements, connection strings and
//! URIs, and password hashes. A secret that a client writes elsewhere (`INSERT INTO secrets …`) cannot be
//! told from other data.

/// What stands for a secret.
pub const HIDDEN: &str = "…";

/// The names of what is hidden; what follows them is a value, or is none.
const NAMES: [&str; 5] = ["password", "passwd", "passphrase", "secret_key", "secret"];
const HASH: &str = "SCRAM-SHA-256$";
const MD5: &str = "md5";

/// The text without secrets. What was one is [`HIDDEN`].
pub fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    // Ends: each round takes at least one character.
    while let Some(first) = rest.chars().next() {
        if let Some((before, after)) = named(rest).or_else(|| hash(rest)).or_else(|| userinfo(rest)) {
            shown.push_str(&rest[..before]);
            shown.push_str(HIDDEN);
            rest = &rest[after..];
        } else {
            shown.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    shown
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.as_bytes()
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// `PASSWORD 'x'`, `password=x`, `"password": "x"`: where the value begins, and where what follows it begins.
fn named(text: &str) -> Option<(usize, usize)> {
    let name = NAMES.iter().find(|name| starts_with_word(text, name))?;
    let after = &text[name.len()..];
    // A quoted name is one only if something is assigned to it.
    let unquoted = after.strip_prefix(['"', '\'']).unwrap_or(after).trim_start();
    let is_assigned = unquoted.starts_with(['=', ':']);
    let value = if is_assigned {
        unquoted[1..].trim_start()
    } else {
        after.trim_start()
    };
    let at = text.len() - value.len();
    if let Some(length) = quoted(&text[at..]) {
        return Some((at, at + length));
    }
    let ends = |c: char| c.is_whitespace() || [';', ',', '&', ')', '}', '\'', '"'].contains(&c);
    let length = text[at..].find(ends).unwrap_or(text.len() - at);
    (is_assigned && length > 0).then_some((at, at + length))
}

/// The length of a quoted value: `'…'`, `E'…'`, `U&'…'`, `"…"`, `$tag$…$tag$`. One that does not end goes to
/// the end of its message.
fn quoted(text: &str) -> Option<usize> {
    let prefix = ["U&", "E", "B", "N"]
        .into_iter()
        .find(|prefix| starts_with_word(text, prefix) && text[prefix.len()..].starts_with('\''));
    let start = prefix.map_or(0, str::len);
    let body = &text[start..];
    let end = end_of_message(text);
    let quote = match body.chars().next()? {
        quote @ ('\'' | '"') => quote,
        '$' => {
            let tag = &body[..body[1..].find('$')? + 2];
            let is_tag = tag[1..tag.len() - 1]
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_');
            let close = body[tag.len()..].find(tag).map(|at| start + at + 2 * tag.len());
            return is_tag.then(|| close.unwrap_or(end));
        }
        _ => return None,
    };
    let mut chars = body.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            // Also where it escapes nothing: what is hidden then is more, not less.
            '\\' => drop(chars.next()),
            c if c == quote => match chars.peek() {
                Some((_, next)) if *next == quote => drop(chars.next()),
                _ => return Some(start + at + 1),
            },
            _ => {}
        }
    }
    Some(end)
}

/// A message ends where a line begins that PostgreSQL has not indented.
fn end_of_message(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find('\n') {
        from += at + 1;
        if !text[from..].starts_with('\t') {
            return from - 1;
        }
    }
    text.len()
}

/// A verifier, or an old hash.
fn hash(text: &str) -> Option<(usize, usize)> {
    if let Some(after) = text.strip_prefix(HASH) {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "+/=:$".contains(c));
        let length = after.find(ends).unwrap_or(after.len());
        return Some((HASH.len(), HASH.len() + length));
    }
    let digits = text.strip_prefix(MD5)?;
    let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    (count == 32).then_some((MD5.len(), MD5.len() + count))
}

/// `://user:x@`.
fn userinfo(text: &str) -> Option<(usize, usize)> {
    let after = text.strip_prefix("://")?;
    let ends = |c: char| c.is_whitespace() || ['/', '\'', '"'].contains(&c);
    let authority = &after[..after.find(ends).unwrap_or(after.len())];
    let user = &authority[..authority.rfind('@')?];
    let colon = user.find(':')?;
    Some((3 + colon + 1, 3 + user.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_hidden() {
        for (text, shown) in [
            (
                "ALTER ROLE a PASSWORD 'hunter2'; SELECT",
                "ALTER ROLE a PASSWORD …; SELECT",
            ),
            (
                "alter role a password E'it\\'s' valid",
                "alter role a password … valid",
            ),
            ("PASSWORD'hunter2'", "PASSWORD…"),
            ("PASSWORD 'it''s' x", "PASSWORD … x"),
            ("PASSWORD $a$hun$ter$a$ x", "PASSWORD … x"),
            ("PASSWORD 'never\n\tends\nLOG:  next", "PASSWORD …\nLOG:  next"),
            ("host=h password=hunter2 user=u", "host=h password=… user=u"),
            ("PGPASSWORD = 'a b'", "PGPASSWORD = …"),
            (
                "{\"password\": \"a\\\"b\", \"x\": 1}",
                "{\"password\": …, \"x\": 1}",
            ),
            (
                "postgresql://app:hun:ter2@db:5432/x",
                "postgresql://app:…@db:5432/x",
            ),
            ("'SCRAM-SHA-256$4096:ab+/=$c=:d=' x", "'SCRAM-SHA-256$…' x"),
            ("'md50123456789abcdef0123456789abcdef'", "'md5…'"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn what_is_no_secret() {
        for text in [
            "FATAL:  password authentication failed for user \"app\"",
            "postgresql://app@db:5432/x and http://127.0.0.1:5432/a@b",
            "md5sum md5012",
            "LOG:  database system is ready to accept connections",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(password|secret| |'|\"|=|\\$|E'|U&'|\\\\|://|:|@|\n|\t|ä|md5|SCRAM-SHA-256\\$|x){0,30}") {
            redact(&text);
        }

        #[test]
        fn a_password_in_a_statement_is_not_shown(password in "[a-zA-Z0-9äß ;,$]{8,20}") {
            let shown = redact(&format!("STATEMENT:  ALTER ROLE a PASSWORD '{password}' VALID UNTIL 'x'"));
            prop_assert_eq!(shown, "STATEMENT:  ALTER ROLE a PASSWORD … VALID UNTIL 'x'");
        }
    }
}
