//! [`Reference`]: `$core.secret.passwords.$app:value`,
//! `$dbaas.types.postgres.instances.$db:join(ipsv4, sep=" ")`.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A part of a path: `core`, or `$app`, which is a name that somebody chose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Whether it begins with `$`.
    pub is_name: bool,
    /// Without the `$`.
    pub text: String,
}

/// What of a resource is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// The field at this path.
    Field(Vec<String>),
    /// The field as text.
    ToStr(Vec<String>),
    /// The items of the field, with something between them.
    Join(Vec<String>, String),
    /// One item of the field, from 0.
    Index(Vec<String>, usize),
    /// Where the API has the resource.
    GetUri,
}

/// A reference: a path, and what is read at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// At least one; the first one is a name.
    pub path: Vec<Segment>,
    /// `None` for a link, as imports and exports have.
    pub access: Option<Access>,
}

/// The text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reference such as $core.secret.passwords.$name:value")]
pub struct InvalidReference;

impl Reference {
    /// The longest reference that the text begins with, and its length in bytes.
    pub fn prefix(text: &str) -> Option<(Reference, usize)> {
        let mut end = text.len().min(limits::REFERENCE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut cursor = Cursor {
            text: &text[..end],
            at: 0,
        };
        let mut path = vec![cursor.segment().filter(|segment| segment.is_name)?];
        // Ends: each round goes on in the text.
        while let Some(segment) = cursor.attempt(|cursor| cursor.eat('.').then(|| cursor.segment())?) {
            path.push(segment);
        }
        let access = cursor.attempt(|cursor| cursor.eat(':').then(|| cursor.access())?);
        Some((Reference { path, access }, cursor.at))
    }

    /// The path, without what is read.
    pub fn link(&self) -> String {
        let segments: Vec<String> = self.path.iter().map(Segment::to_string).collect();
        segments.join(".")
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        match Reference::prefix(text) {
            Some((reference, length)) if length == text.len() => Ok(reference),
            _ => Err(InvalidReference),
        }
    }
}

impl Access {
    /// The field that is read.
    pub fn field(&self) -> Option<&[String]> {
        match self {
            Access::Field(path) | Access::ToStr(path) | Access::Join(path, _) | Access::Index(path, _) => {
                Some(path)
            }
            Access::GetUri => None,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_name { "$" } else { "" };
        write!(f, "{sign}{}", self.text)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Field(path) => f.write_str(&path.join(":")),
            Access::ToStr(path) => write!(f, "to_str({})", path.join(":")),
            Access::Join(path, sep) => {
                let quote = if sep.contains('"') { '\'' } else { '"' };
                write!(f, "join({}, sep={quote}{sep}{quote})", path.join(":"))
            }
            Access::Index(path, n) => write!(f, "index({}, n={n})", path.join(":")),
            Access::GetUri => f.write_str("get_uri()"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.link())?;
        match &self.access {
            Some(access) => write!(f, ":{access}"),
            None => Ok(()),
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Goes on only if `step` finds something.
    fn attempt<T>(&mut self, step: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.at;
        let found = step(self);
        if found.is_none() {
            self.at = before;
        }
        found
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn spaces(&mut self) {
        while self.eat(' ') {}
    }

    /// A letter or `_`, then letters, digits, `_`, and what else is allowed within.
    fn word(&mut self, within: &[u8]) -> Option<&'a str> {
        let bytes = self.rest().as_bytes();
        let begins = bytes
            .first()
            .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        if !begins {
            return None;
        }
        let is_part = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_' || within.contains(b);
        let mut length = bytes.iter().take_while(is_part).count();
        while within.contains(&bytes[length - 1]) {
            length -= 1;
        }
        let word = &self.rest()[..length];
        self.at += length;
        Some(word)
    }

    fn segment(&mut self) -> Option<Segment> {
        let is_name = self.eat('$');
        let text = self.word(b"-")?.to_owned();
        Some(Segment { is_name, text })
    }

    fn access(&mut self) -> Option<Access> {
        if let Some(call) = self.attempt(Self::call) {
            return Some(call);
        }
        self.field().map(Access::Field)
    }

    fn field(&mut self) -> Option<Vec<String>> {
        let mut path = vec![self.word(b"")?.to_owned()];
        // Ends: each round goes on in the text. A function is not a field.
        while let Some(part) = self.attempt(|cursor| cursor.eat(':').then(|| cursor.word(b""))?) {
            path.push(part.to_owned());
        }
        Some(path)
    }

    fn call(&mut self) -> Option<Access> {
        let name = self.word(b"")?;
        if !self.eat('(') {
            return None;
        }
        self.spaces();
        let access = match name {
            "get_uri" => Access::GetUri,
            "to_str" => Access::ToStr(self.field()?),
            "join" => {
                let field = self.field()?;
                let sep = match self.argument("sep")? {
                    false => ",".to_owned(),
                    true => self.quoted()?,
                };
                Access::Join(field, sep)
            }
            "index" => {
                let field = self.field()?;
                let n = match self.argument("n")? {
                    false => 0,
                    true => self.number()?,
                };
                Access::Index(field, n)
            }
            _ => return None,
        };
        self.spaces();
        self.eat(')').then_some(access)
    }

    /// Whether another argument follows, with or without its name.
    fn argument(&mut self, name: &str) -> Option<bool> {
        self.spaces();
        if !self.eat(',') {
            return Some(false);
        }
        self.spaces();
        self.attempt(|cursor| {
            let word = cursor.word(b"")?;
            cursor.spaces();
            let named = word == name && cursor.eat('=');
            cursor.spaces();
            named.then_some(())
        });
        Some(true)
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = ['"', '\''].into_iter().find(|quote| self.eat(*quote))?;
        let end = self.rest().find(quote)?;
        let text = self.rest()[..end].to_owned();
        self.at += end + 1;
        Some(text)
    }

    fn number(&mut self) -> Option<usize> {
        let length = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let number = self.rest()[..length].parse().ok()?;
        self.at += length;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn paths_fields_and_functions() {
        let found = reference("$dbaas.types.postgres.instances.$db-1.users.$app:name");
        assert_eq!(found.link(), "$dbaas.types.postgres.instances.$db-1.users.$app");
        assert_eq!(found.access, Some(Access::Field(vec!["name".into()])));
        let access = |text: &str| reference(&format!("$a.$b:{text}")).access.unwrap();
        assert_eq!(
            access("net:ipv4"),
            Access::Field(vec!["net".into(), "ipv4".into()])
        );
        assert_eq!(access("to_str(ipsv4)"), Access::ToStr(vec!["ipsv4".into()]));
        assert_eq!(
            access("join(ipsv4)"),
            Access::Join(vec!["ipsv4".into()], ",".into())
        );
        assert_eq!(
            access("join( ips , sep = '\") }' )"),
            Access::Join(vec!["ips".into()], "\") }".into())
        );
        assert_eq!(
            access("join(ips, ' ')"),
            Access::Join(vec!["ips".into()], " ".into())
        );
        assert_eq!(access("index(ips, 2)"), Access::Index(vec!["ips".into()], 2));
        assert_eq!(access("index(ips)"), Access::Index(vec!["ips".into()], 0));
        assert_eq!(access("get_uri()"), Access::GetUri);
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "$",
            "$1",
            "core.x",
            "$a..b",
            "$a.",
            "$a:",
            "$a:1",
            "$a.b:join(x",
            "$a:f(x)",
            "$a b",
            "$-a",
            "$a-",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_one_is_taken() {
        for (text, length) in [
            ("$a.$b:name, more", 10),
            ("$a.$b:name:5432", 10),
            ("$a.$b:name.", 10),
            ("$a.$b-.", 5),
            ("$a.$b:to_str(x)y", 15),
            ("$a.$b:to_str(", 12),
        ] {
            assert_eq!(
                Reference::prefix(text).map(|(_, length)| length),
                Some(length),
                "{text}"
            );
        }
    }

    fn any_reference() -> impl Strategy<Value = Reference> {
        let field = || prop::collection::vec("[a-z_][a-z0-9_]{0,5}", 1..3);
        let segment = (any::<bool>(), "[a-zA-Z_]([a-z0-9_-]{0,5}[a-z0-9_])?")
            .prop_map(|(is_name, text)| Segment { is_name, text });
        let access = prop_oneof![
            field().prop_map(Access::Field),
            field().prop_map(Access::ToStr),
            (field(), "[^\"]{0,5}").prop_map(|(field, sep)| Access::Join(field, sep)),
            (field(), 0usize..99).prop_map(|(field, n)| Access::Index(field, n)),
            Just(Access::GetUri),
        ];
        (prop::collection::vec(segment, 1..5), prop::option::of(access)).prop_map(|(mut path, access)| {
            path[0].is_name = true;
            Reference { path, access }
        })
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(found in any_reference()) {
            prop_assert_eq!(found.to_string().parse::<Reference>(), Ok(found));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}") {
            if let Some((found, length)) = Reference::prefix(&text) {
                prop_assert!(text.is_char_boundary(length));
                prop_assert_eq!(found.to_string().parse::<Reference>(), Ok(found));
            }
        }

        #[test]
        fn nor_one_of_the_same_signs(text in "[$a:.()\",= n-]{0,40}") {
            if let Some((found, _)) = Reference::prefix(&text) {
                prop_assert_eq!(found.to_string().parse::<Reference>(), Ok(found));
            }
        }
    }
}
