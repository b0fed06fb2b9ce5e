//! [`Password`]: a plaintext password on its way to being hashed. It is never stored, logged or sent.
//!
//! # Which passwords are accepted
//! * 8 to 99 characters (Unicode scalar values) as given, and at least 8 after preparation; no control
//!   characters.
//! * ASCII: every printable character, spaces and quotes included.
//! * Beyond ASCII the text is *prepared* with SASLprep ([RFC 4013]), as PostgreSQL and libpq do: spaces of
//!   other scripts become a plain space, characters without a width vanish, and the rest is brought into
//!   normal form NFKC (so that an "ä" typed as one character and one typed as two are the same password).
//!
//! Where SASLprep refuses a text, PostgreSQL quietly falls back to the raw bytes, and other drivers do this
//! or that. A user with such a password could log in with one driver and not with the next. So the whole text
//! is refused unless every step is beyond dispute: no character is unassigned in Unicode 3.2 (this excludes
//! emoji) or prohibited, neither *before* normalisation (where PostgreSQL looks) nor *after* it (where RFC
//! 4013 and other implementations look), the same for the rule on right-to-left text, and preparing the
//! result again changes nothing.
//!
//! A password that happens to look like a hash (`md5…`, `SCRAM-SHA-256$…`) is an ordinary password here: it
//! is hashed like any other, and what is sent to PostgreSQL is always the [`crate::scram::ScramVerifier`].
//!
//! [RFC 4013]: https://www.rfc-editor.org/rfc/rfc4013

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use stringprep::tables;
use zeroize::Zeroizing;

use crate::limits;

/// A password that was accepted, in its prepared form. Memory is wiped when it is dropped. `Debug` and
/// `Display` show nothing of it, and it cannot be serialized.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why a password was refused. Holds nothing of the password but, at most, the position of a character (from
/// 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Too few or too many characters.
    #[error("must be between {min} and {max} characters long, was {got}")]
    Length {
        /// The fewest that are allowed.
        min: usize,
        /// The most that are allowed.
        max: usize,
        /// What was given.
        got: usize,
    },
    /// A control character.
    #[error("character {position} is a control character, which is not allowed")]
    ControlCharacter {
        /// Where.
        position: usize,
    },
    /// A character that SASLprep does not allow, or that Unicode 3.2 does not have.
    #[error(
        "character {position} cannot be used: PostgreSQL clients do not agree on how to hash it (RFC 4013); \
         use ASCII or long-established letters and digits"
    )]
    UnusableCharacter {
        /// Where.
        position: usize,
    },
    /// Right-to-left text mixed in a way that SASLprep does not allow.
    #[error(
        "mixes right-to-left and left-to-right characters in a way on which PostgreSQL clients do not agree (RFC 4013); \
         use characters of one direction"
    )]
    MixedDirection,
    /// Some characters have no width and do not count: fewer than the least number remain.
    #[error("must have at least {min} characters that count after normalisation (RFC 4013), had {got}")]
    TooShortWhenPrepared {
        /// The fewest that are allowed.
        min: usize,
        /// What remained.
        got: usize,
    },
    /// The normal form is not stable: PostgreSQL clients could disagree on it.
    #[error("has no stable normal form (RFC 4013), so PostgreSQL clients could disagree on it; use ASCII")]
    Unstable,
}

impl Password {
    /// Checks and prepares a password.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        prepare(text).map(Password)
    }

    /// The prepared text, for hashing it and for logging in with it. Never put it into a log, an error or
    /// SQL.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn prepare(text: &str) -> Result<Zeroizing<String>, PasswordError> {
    let (min, max) = (*limits::PASSWORD_CHARS.start(), *limits::PASSWORD_CHARS.end());
    let got = text.chars().count();
    if !limits::PASSWORD_CHARS.contains(&got) {
        return Err(PasswordError::Length { min, max, got });
    }
    if let Some(i) = text.chars().position(char::is_control) {
        return Err(PasswordError::ControlCharacter { position: i + 1 });
    }
    if text.is_ascii() {
        return Ok(Zeroizing::new(text.to_owned()));
    }

    if let Some(i) = text.chars().position(|c| map(c).is_some_and(is_unusable)) {
        return Err(PasswordError::UnusableCharacter { position: i + 1 });
    }
    let mapped: Zeroizing<String> = Zeroizing::new(text.chars().filter_map(map).collect());
    if has_mixed_direction(&mapped) {
        return Err(PasswordError::MixedDirection);
    }
    let prepared = saslprep(text)?;
    if prepared.chars().any(is_unusable) {
        return Err(PasswordError::Unstable);
    }
    if has_mixed_direction(&prepared) {
        return Err(PasswordError::MixedDirection);
    }
    if *saslprep(&prepared)? != *prepared {
        return Err(PasswordError::Unstable);
    }
    let got = prepared.chars().count();
    if got < min {
        return Err(PasswordError::TooShortWhenPrepared { min, got });
    }
    Ok(prepared)
}

fn saslprep(text: &str) -> Result<Zeroizing<String>, PasswordError> {
    match stringprep::saslprep(text) {
        Ok(prepared) => Ok(Zeroizing::new(prepared.into_owned())),
        Err(_) => Err(PasswordError::Unstable),
    }
}

/// RFC 4013 section 2.1: a space of another script becomes a space, a character without a width vanishes.
fn map(c: char) -> Option<char> {
    if tables::non_ascii_space_character(c) {
        Some(' ')
    } else if tables::commonly_mapped_to_nothing(c) {
        None
    } else {
        Some(c)
    }
}

/// RFC 4013 sections 2.3 and 2.5: prohibited or unassigned. Without spaces, which became one that is allowed,
/// and without what is refused as a control character before.
fn is_unusable(c: char) -> bool {
    tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// RFC 4013 section 2.4 (RFC 3454 section 6): text with right-to-left characters must have no left-to-right
/// ones, and must begin and end with one.
fn has_mixed_direction(text: &str) -> bool {
    text.contains(tables::bidi_r_or_al)
        && (text.contains(tables::bidi_l)
            || !text.starts_with(tables::bidi_r_or_al)
            || !text.ends_with(tables::bidi_r_or_al))
}

impl FromStr for Password {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        Password::new(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Text only. Errors never repeat what was given, whatever its type.
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        // Each type that the default visitor would quote in its error ("invalid type: integer `12345678`") is
        // answered here.
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Password;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a password")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Password, E> {
                Password::new(text).map_err(E::custom)
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Password, E> {
                Password::new(&Zeroizing::new(text)).map_err(E::custom)
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Password, E> {
                Err(E::custom("a password must be text"))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Password, E> {
                Err(E::custom("a password must be text"))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Password, E> {
                Err(E::custom("a password must be text"))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Password, E> {
                Err(E::custom("a password must be text"))
            }
        }

        // Not `deserialize_string`: serde_json would answer other types itself, with the value in its
        // message.
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_counts_characters() {
        for c in ["a", "ä", "数"] {
            assert_eq!(
                Password::new(&c.repeat(7)).unwrap_err(),
                PasswordError::Length {
                    min: 8,
                    max: 99,
                    got: 7
                }
            );
            assert!(Password::new(&c.repeat(8)).is_ok());
            assert!(Password::new(&c.repeat(99)).is_ok());
            assert_eq!(
                Password::new(&c.repeat(100)).unwrap_err(),
                PasswordError::Length {
                    min: 8,
                    max: 99,
                    got: 100
                }
            );
        }
    }

    #[test]
    fn ascii_is_taken_as_it_is() {
        let all: String = (' '..='~').collect();
        assert_eq!(Password::new(&all[..60]).unwrap().expose(), &all[..60]);
        assert_eq!(Password::new(&all[60..]).unwrap().expose(), &all[60..]);
        for text in [
            "        ",
            "it's \"so\" @:/?#[]",
            "md5900150983cd24fb0d6963f7d28e17f72",
            "SCRAM-SHA-256$4096:x$y:z",
        ] {
            assert_eq!(Password::new(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for c in ['\0', '\n', '\t', '\u{1f}', '\u{7f}', '\u{80}', '\u{9f}'] {
            assert_eq!(
                Password::new(&format!("abcdefgh{c}")).unwrap_err(),
                PasswordError::ControlCharacter { position: 9 }
            );
        }
    }

    #[test]
    fn preparation_normalises() {
        for (given, prepared) in [
            ("passwo\u{308}rd", "passwörd"),
            ("pass\u{ad}word", "password"),
            ("pass\u{a0}word", "pass word"),
            ("IX-\u{2168}-abcd", "IX-IX-abcd"),
            ("\u{aa}bcdefgh", "abcdefgh"),
        ] {
            assert_eq!(Password::new(given).unwrap().expose(), prepared);
        }
    }

    #[test]
    fn disputed_text_is_refused() {
        use PasswordError::*;
        for (text, error) in [
            ("abcdefg\u{3f9}", UnusableCharacter { position: 8 }),
            ("abcdefg\u{340}", UnusableCharacter { position: 8 }),
            ("elephant🐘", UnusableCharacter { position: 9 }),
            ("\u{e000}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{2028}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{fdd0}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{fffd}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{2ff0}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{e0041}bcdefgh", UnusableCharacter { position: 1 }),
            ("\u{627}bcdefgh1", MixedDirection),
            (
                "\u{627}\u{627}\u{627}\u{627}\u{627}\u{627}\u{627}1",
                MixedDirection,
            ),
            (
                "\u{ad}\u{ad}\u{ad}\u{ad}\u{ad}\u{ad}\u{ad}\u{ad}",
                TooShortWhenPrepared { min: 8, got: 0 },
            ),
            ("abcdefg\u{ad}", TooShortWhenPrepared { min: 8, got: 7 }),
        ] {
            assert_eq!(Password::new(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn right_to_left_text_begins_and_ends_so_and_has_nothing_else() {
        for (text, mixed) in [
            ("abc1", false),
            ("\u{627}1\u{627}", false),
            ("\u{627}a\u{627}", true),
            ("\u{627}1", true),
            ("1\u{627}", true),
        ] {
            assert_eq!(has_mixed_direction(text), mixed, "{text:?}");
        }
    }

    #[test]
    fn nothing_shows_it() {
        let password = Password::new("open sesame").unwrap();
        assert_eq!(format!("{password:?} {password}"), "Password(***) ***");
        let error = serde_json::from_str::<Password>("null").unwrap_err();
        assert!(error.to_string().contains("expected a password"), "{error}");
        for json in [
            "\"short\"",
            "12345678",
            "-12345678",
            "1234.5678",
            "true",
            "null",
            "[\"open sesame\"]",
            "{\"open\":1}",
        ] {
            let error = serde_json::from_str::<Password>(json).unwrap_err().to_string();
            for secret in ["short", "1234", "5678", "open"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn accepted_passwords_are_prepared_for_good(text in "\\PC{0,110}") {
            if let Ok(password) = Password::new(&text) {
                prop_assert!((8..=99).contains(&text.chars().count()));
                prop_assert!(!text.chars().any(char::is_control));
                let prepared = password.expose().to_owned();
                prop_assert_eq!(stringprep::saslprep(&text).unwrap(), prepared.as_str());
                prop_assert_eq!(stringprep::saslprep(&prepared).unwrap(), prepared.as_str());
            }
        }

        #[test]
        fn printable_ascii_is_always_accepted(text in "[ -~]{8,99}") {
            let password = Password::new(&text).unwrap();
            prop_assert_eq!(password.expose(), &text);
        }
    }
}
