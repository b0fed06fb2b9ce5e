//! Bodies, decoded strictly: [`Object`] takes a JSON object apart, [`Decoder`] reads it field by field and
//! collects *every* error, so that a user mends a request once and not once per field.
//!
//! Stricter than JSON itself where leniency hides mistakes: a key that is given twice, a key that is not
//! known, `null`, `1.0` where a whole number is meant are all errors.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use dbaas_core::limits;
use dbaas_core::size::OutOfBounds;
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::problem::{ERRORS_MAX, Problem, ProblemKind, Wrong};

/// Keys of a body that are looked at; what has more is refused without a list of all.
const KEYS_MAX: usize = 1000;
/// Longest unknown key that is repeated in an error.
const KEY_SHOWN_CHARS: usize = 64;

/// A JSON object, its values not yet decoded.
pub(crate) struct Object<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    duplicates: BTreeSet<String>,
}

impl<'a> Object<'a> {
    /// Takes a body apart: exactly one well-formed JSON object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let malformed = |detail: String| Problem::new(ProblemKind::MalformedBody, detail);
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!(
                "not UTF-8: the byte at offset {} is not",
                error.valid_up_to()
            ))
        })?;
        if text.bytes().all(|b| b.is_ascii_whitespace()) {
            return Err(malformed(
                "the body is empty; a JSON object is expected".to_owned(),
            ));
        }
        check_depth(body).map_err(|()| {
            malformed(format!(
                "nested more deeply than {} levels",
                limits::JSON_DEPTH_MAX
            ))
        })?;
        // The messages of a pass that decodes nothing quote nothing.
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        Object::of(raw)
    }

    /// Takes a value apart that was found to be well-formed.
    fn of(raw: &'a RawValue) -> Result<Self, Problem> {
        let malformed = |detail: String| Problem::new(ProblemKind::MalformedBody, detail);
        if Shape::of(raw) != Shape::Object {
            let detail = format!("must be an object, was {}", Shape::of(raw));
            return Err(Problem::wrong(
                ProblemKind::InvalidFields,
                vec![Wrong::field("", detail)],
            ));
        }
        let Keys {
            fields,
            duplicates,
            count,
        } = serde_json::from_str(raw.get())
            .map_err(|_| malformed("a key is not valid text (half of a surrogate pair)".to_owned()))?;
        if count > KEYS_MAX {
            let detail = format!("has {count} keys, more than any resource has");
            return Err(Problem::wrong(
                ProblemKind::InvalidFields,
                vec![Wrong::field("", detail)],
            ));
        }
        Ok(Object { fields, duplicates })
    }

    /// An object without fields.
    pub(crate) fn empty() -> Self {
        Object {
            fields: BTreeMap::new(),
            duplicates: BTreeSet::new(),
        }
    }
}

struct Keys<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    duplicates: BTreeSet<String>,
    count: usize,
}

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys<'de>, A::Error> {
                let mut keys = Keys {
                    fields: BTreeMap::new(),
                    duplicates: BTreeSet::new(),
                    count: 0,
                };
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    keys.count += 1;
                    if keys.count > KEYS_MAX {
                        continue;
                    }
                    match keys.fields.entry(key) {
                        Entry::Vacant(entry) => {
                            entry.insert(value);
                        }
                        Entry::Occupied(entry) if keys.duplicates.len() < ERRORS_MAX => {
                            keys.duplicates.insert(entry.key().clone());
                        }
                        Entry::Occupied(_) => {}
                    }
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

/// A cheap look at brackets outside of strings, before any parser recurses.
fn check_depth(json: &[u8]) -> Result<(), ()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > limits::JSON_DEPTH_MAX {
                    return Err(());
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What a JSON value is, told from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Object,
    Array,
    Text,
    Number,
    Boolean,
    Null,
}

impl Shape {
    fn of(raw: &RawValue) -> Shape {
        match raw.get().as_bytes().first() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::Array,
            Some(b'"') => Shape::Text,
            Some(b't' | b'f') => Shape::Boolean,
            Some(b'n') => Shape::Null,
            _ => Shape::Number,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Object => "an object",
            Shape::Array => "an array",
            Shape::Text => "text",
            Shape::Number => "a number",
            Shape::Boolean => "true or false",
            Shape::Null => "null",
        })
    }
}

/// Text, checked by a function.
pub(crate) fn text<T, E: fmt::Display>(
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(&RawValue) -> Result<T, String> {
    move |raw| {
        expect(raw, Shape::Text, "text")?;
        // Wiped, because it may be a password.
        let text: Zeroizing<String> = serde_json::from_str(raw.get())
            .map(Zeroizing::new)
            .map_err(|_| "is not valid text (half of a surrogate pair)".to_owned())?;
        parse(&text).map_err(|error| error.to_string())
    }
}

/// Text that is one of a type that is valid by construction.
pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(raw: &RawValue) -> Result<T, String> {
    text(|text| text.parse())(raw)
}

/// A whole number within the bounds of its type.
pub(crate) fn whole<T: TryFrom<u64, Error = OutOfBounds>>(raw: &RawValue) -> Result<T, String> {
    expect(raw, Shape::Number, "a whole number")?;
    let digits = raw.get();
    if digits.contains(['.', 'e', 'E']) {
        return Err("must be a whole number, written without a fraction or an exponent".to_owned());
    }
    let got: Option<i128> = digits.parse().ok();
    match (got, got.and_then(|got| u64::try_from(got).ok())) {
        (_, Some(value)) => T::try_from(value).map_err(|error| error.to_string()),
        // Negative or huge: `u64::MAX` is outside of every bound, so this is where the rule's text comes
        // from.
        (got, None) => match (T::try_from(u64::MAX), got) {
            (Ok(_), _) => Err("is out of range".to_owned()),
            (Err(rule), Some(got)) => Err(OutOfBounds { got, ..rule }.to_string()),
            (Err(rule), None) => Err(format!(
                "must be between {} and {} {}, was a number of {} digits",
                rule.min,
                rule.max,
                rule.unit,
                digits.len()
            )),
        },
    }
}

/// The value of a setting: text, a number, or `true` or `false`; `null` takes it back.
pub(crate) fn setting(raw: &RawValue) -> Result<Option<String>, String> {
    match Shape::of(raw) {
        Shape::Null => Ok(None),
        Shape::Text => text(|text| Ok::<_, String>(Some(text.to_owned())))(raw),
        Shape::Number => Ok(Some(raw.get().to_owned())),
        Shape::Boolean => Ok(Some(if raw.get() == "true" { "on" } else { "off" }.to_owned())),
        shape => Err(format!(
            "must be text, a number, true or false, or null, was {shape}"
        )),
    }
}

/// `true` or `false`.
pub(crate) fn boolean(raw: &RawValue) -> Result<bool, String> {
    expect(raw, Shape::Boolean, "true or false")?;
    Ok(raw.get() == "true")
}

fn expect(raw: &RawValue, wanted: Shape, words: &str) -> Result<(), String> {
    match Shape::of(raw) {
        shape if shape == wanted => Ok(()),
        shape => Err(format!("must be {words}, was {shape}")),
    }
}

/// Reads an [`Object`] field by field. Each reader returns `None` for a field that is absent or wrong;
/// [`Decoder::finish`] tells which.
pub(crate) struct Decoder<'a> {
    /// What is being decoded, for messages: `an instance`.
    what: &'static str,
    fields: BTreeMap<String, &'a RawValue>,
    known: Vec<&'static str>,
    errors: Vec<Wrong>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(what: &'static str, object: Object<'a>) -> Self {
        let errors = object
            .duplicates
            .iter()
            .map(|key| Wrong::field(pointer(key), "is given more than once"));
        Decoder {
            what,
            errors: errors.collect(),
            fields: object.fields,
            known: Vec::new(),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.known.push(name);
        self.fields.remove(name)
    }

    /// A field that may be left out.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        let result = match Shape::of(raw) {
            Shape::Null => Err("must not be null; leave the field out instead".to_owned()),
            _ => read(raw),
        };
        result
            .map_err(|detail| self.errors.push(Wrong::field(pointer(name), detail)))
            .ok()
    }

    /// A field that may be left out, or null, which means the same.
    pub(crate) fn or_null<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        if self
            .fields
            .get(name)
            .is_some_and(|raw| Shape::of(raw) == Shape::Null)
        {
            self.take(name);
            return None;
        }
        self.optional(name, read)
    }

    /// An object with keys that are not known before; none if it is left out. Each value that is wrong is
    /// named.
    pub(crate) fn map<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> BTreeMap<String, T> {
        let Some(raw) = self.take(name) else {
            return BTreeMap::new();
        };
        let at = |key: &str| format!("{}{}", pointer(name), pointer(key));
        let keys = expect(raw, Shape::Object, "an object").and_then(|()| {
            serde_json::from_str::<Keys<'_>>(raw.get())
                .map_err(|_| "has a key that is not valid text (half of a surrogate pair)".to_owned())
        });
        let keys = match keys {
            Ok(keys) if keys.count <= KEYS_MAX => keys,
            Ok(_) => {
                let detail = format!("has more than {KEYS_MAX} keys");
                self.errors.push(Wrong::field(pointer(name), detail));
                return BTreeMap::new();
            }
            Err(detail) => {
                self.errors.push(Wrong::field(pointer(name), detail));
                return BTreeMap::new();
            }
        };
        for key in &keys.duplicates {
            self.errors.push(Wrong::field(at(key), "is given more than once"));
        }
        let mut values = BTreeMap::new();
        for (key, raw) in keys.fields {
            match read(raw) {
                Ok(value) => drop(values.insert(key, value)),
                Err(detail) => self.errors.push(Wrong::field(at(&key), detail)),
            }
        }
        values
    }

    /// A list of objects that may be left out; each is read by a decoder of its own, for `what`.
    pub(crate) fn optional_list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        what: &'static str,
        read: impl Fn(&mut Decoder<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let raw = self.take(name)?;
        let items: Vec<&RawValue> = match expect(raw, Shape::Array, "a list") {
            Ok(()) => serde_json::from_str(raw.get()).unwrap_or_default(),
            Err(detail) => {
                self.errors.push(Wrong::field(pointer(name), detail));
                return None;
            }
        };
        if items.len() > items_max {
            let detail = format!("may have at most {items_max} items, has {}", items.len());
            self.errors.push(Wrong::field(pointer(name), detail));
            return None;
        }
        let read_one = |(index, item): (usize, &&RawValue)| {
            let place = format!("{}/{index}", pointer(name));
            if let Err(detail) = expect(item, Shape::Object, "an object") {
                self.errors.push(Wrong::field(place, detail));
                return None;
            }
            let object = match Object::of(item) {
                Ok(object) => object,
                Err(_) => {
                    self.errors
                        .push(Wrong::field(place, "is no object that can be read"));
                    return None;
                }
            };
            let mut decoder = Decoder::new(what, object);
            let value = read(&mut decoder);
            decoder.refuse_unknown();
            let well = decoder.errors.is_empty();
            let within = decoder.errors.into_iter().map(|wrong| Wrong {
                pointer: wrong.pointer.map(|inner| format!("{place}{inner}")),
                ..wrong
            });
            self.errors.extend(within);
            value.filter(|_| well)
        };
        // All of them, also those after one that is wrong.
        let read: Vec<Option<T>> = items.iter().enumerate().map(read_one).collect();
        read.into_iter().collect()
    }

    /// A list of values that may be left out; each that is wrong is named.
    pub(crate) fn values<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let raw = self.take(name)?;
        let items: Vec<&RawValue> = match expect(raw, Shape::Array, "a list") {
            Ok(()) => serde_json::from_str(raw.get()).unwrap_or_default(),
            Err(detail) => {
                self.errors.push(Wrong::field(pointer(name), detail));
                return None;
            }
        };
        if items.len() > items_max {
            let detail = format!("may have at most {items_max} items, has {}", items.len());
            self.errors.push(Wrong::field(pointer(name), detail));
            return None;
        }
        let read_one = |(index, item): (usize, &&RawValue)| {
            let place = format!("{}/{index}", pointer(name));
            let result = read(item);
            result
                .map_err(|detail| self.errors.push(Wrong::field(place, detail)))
                .ok()
        };
        // All of them, also those after one that is wrong.
        let read: Vec<Option<T>> = items.iter().enumerate().map(read_one).collect();
        read.into_iter().collect()
    }

    /// The same, or null, which is something else than leaving it out.
    pub(crate) fn values_or_null<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Option<Option<Vec<T>>> {
        let raw = self.fields.get(name)?;
        if Shape::of(raw) == Shape::Null {
            self.take(name);
            return Some(None);
        }
        self.values(name, items_max, read).map(Some)
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        let Some(raw) = self.take(name) else {
            self.errors.push(Wrong::field(pointer(name), "is required"));
            return None;
        };
        read(raw)
            .map_err(|detail| self.errors.push(Wrong::field(pointer(name), detail)))
            .ok()
    }

    /// A field that the request may repeat from an answer but not change.
    pub(crate) fn unchanged(&mut self, name: &'static str, current: Option<&Value>, rule: &'static str) {
        let Some(raw) = self.take(name) else { return };
        let same = serde_json::from_str::<Value>(raw.get()).is_ok_and(|given| Some(&given) == current);
        if !same {
            self.errors.push(Wrong::field(pointer(name), rule));
        }
    }

    /// A field of the answer that a request of this kind cannot set; null and its default (as JSON) set
    /// nothing.
    pub(crate) fn refused(&mut self, name: &'static str, default: Option<&str>, rule: &'static str) {
        let Some(raw) = self.take(name) else { return };
        let sets_nothing = Shape::of(raw) == Shape::Null
            || default.is_some_and(|default| {
                let values = [raw.get(), default].map(serde_json::from_str::<Value>);
                matches!(values, [Ok(given), Ok(default)] if given == default)
            });
        if !sets_nothing {
            self.errors.push(Wrong::field(pointer(name), rule));
        }
    }

    /// A field that says what is known already, and may say nothing else.
    pub(crate) fn equal<T: PartialEq>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&RawValue) -> Result<T, String>,
        known: T,
        rule: &'static str,
    ) {
        self.optional(name, |raw| match read(raw)? {
            given if given == known => Ok(()),
            _ => Err(rule.to_owned()),
        });
    }

    /// What was read, if nothing was wrong. `build` returns `None` only for a field whose error was noted.
    pub(crate) fn finish<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        self.refuse_unknown();
        if !self.errors.is_empty() {
            return Err(Problem::wrong(ProblemKind::InvalidFields, self.errors));
        }
        build().ok_or_else(|| Problem::internal("a field is missing that was read without an error"))
    }

    /// Notes every field that nobody asked for.
    fn refuse_unknown(&mut self) {
        for key in std::mem::take(&mut self.fields).into_keys() {
            let detail = match self.errors.len() {
                // Beyond what is shown, the count is enough.
                ERRORS_MAX.. => String::new(),
                _ => self.unknown(&key),
            };
            self.errors.push(Wrong::field(pointer(&key), detail));
        }
    }

    fn unknown(&self, key: &str) -> String {
        let what = self.what;
        let near = |known: &&&str| {
            strsim::damerau_levenshtein(known, &key.to_lowercase()) <= known.len().div_ceil(3)
        };
        let suggestion = match key.len() {
            0..=KEY_SHOWN_CHARS => self
                .known
                .iter()
                .filter(near)
                .min_by_key(|known| strsim::damerau_levenshtein(known, &key.to_lowercase())),
            _ => None,
        };
        match suggestion {
            Some(known) => format!("is not a field of {what}; did you mean \"{known}\"?"),
            None => match self.known.as_slice() {
                [] => format!("is not a field of {what}, which takes none"),
                [one] => format!("is not a field of {what}; the only one is {one}"),
                known => format!("is not a field of {what}; the fields are {}", known.join(", ")),
            },
        }
    }
}

/// A JSON pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)) to a key of the body; a very long key
/// is cut.
fn pointer(key: &str) -> String {
    let shown = match key.char_indices().nth(KEY_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    };
    format!("/{}", shown.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
