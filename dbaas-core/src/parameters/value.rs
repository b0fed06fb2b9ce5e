//! Values as PostgreSQL reads them: numbers with units, booleans, words.
//!
//! Source: `src/backend/utils/misc/guc.c` (`parse_int`, `parse_real`, `convert_to_base_unit`),
//! `src/backend/utils/adt/bool.c`; documentation, "Parameter Names and Values".

use std::fmt;

/// What a number counts, if it has no unit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// So many bytes of memory or disk.
    Bytes(u64),
    /// So many microseconds.
    Microseconds(u64),
}

/// Which values a setting takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `on` or `off`.
    Bool,
    /// A whole number.
    Integer {
        /// The smallest, in units.
        min: i64,
        /// The greatest, in units.
        max: i64,
        /// What it counts.
        unit: Option<Unit>,
    },
    /// Any number.
    Real {
        /// The smallest, in units.
        min: f64,
        /// The greatest, in units.
        max: f64,
        /// What it counts.
        unit: Option<Unit>,
    },
    /// One of these.
    Enum(Vec<&'static str>),
    /// Any text; only a server can tell more.
    String,
}

const BYTES: [(&str, u64); 5] = [
    ("B", 1),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
];
const MICROSECONDS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl Unit {
    /// Reads what `pg_settings.unit` says, such as `8kB`.
    pub(super) fn parse(text: &str) -> Option<Unit> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: u64 = if digits == 0 {
            1
        } else {
            text[..digits].parse().ok()?
        };
        let of = |units: &[(&str, u64)]| {
            let found = units.iter().find(|(name, _)| *name == &text[digits..]);
            found.map(|(_, size)| count * size)
        };
        of(&BYTES)
            .map(Unit::Bytes)
            .or_else(|| of(&MICROSECONDS).map(Unit::Microseconds))
    }

    fn size(self) -> u64 {
        match self {
            Unit::Bytes(size) | Unit::Microseconds(size) => size,
        }
    }

    fn units(self) -> &'static [(&'static str, u64)] {
        match self {
            Unit::Bytes(_) => &BYTES,
            Unit::Microseconds(_) => &MICROSECONDS,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size();
        let largest = self
            .units()
            .iter()
            .rev()
            .find(|(_, unit)| size.is_multiple_of(*unit));
        match largest {
            Some((name, unit)) if *unit == size => f.write_str(name),
            Some((name, unit)) => write!(f, "{}{name}", size / unit),
            None => Ok(()),
        }
    }
}

/// A value that a setting does not take. Says which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}; was {value}")]
pub struct InvalidValue {
    rule: String,
    value: String,
}

impl Kind {
    /// Whether a setting of this kind takes the value.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        let refuse = |rule: String| {
            Err(InvalidValue {
                rule,
                value: value.to_owned(),
            })
        };
        match self {
            Kind::String => Ok(()),
            Kind::Bool if is_boolean(value) => Ok(()),
            Kind::Bool => refuse("is on or off".to_owned()),
            Kind::Enum(values) if values.iter().any(|known| known.eq_ignore_ascii_case(value)) => Ok(()),
            Kind::Enum(values) => refuse(format!("is one of {}", values.join(", "))),
            Kind::Integer { min, max, unit } => {
                let number = number(value, *unit).map(f64::round_ties_even);
                in_range(number, *min as f64, *max as f64, *unit, "a whole number").or_else(refuse)
            }
            Kind::Real { min, max, unit } => {
                in_range(number(value, *unit), *min, *max, *unit, "a number").or_else(refuse)
            }
        }
    }
}

/// The rule that is broken, if one is.
fn in_range(number: Option<f64>, min: f64, max: f64, unit: Option<Unit>, what: &str) -> Result<(), String> {
    let shown = |bound: f64| match unit {
        Some(unit) => format!("{bound} {unit}").replace(" 8kB", " blocks of 8kB"),
        None => bound.to_string(),
    };
    match number {
        None => Err(match unit {
            Some(unit) => {
                let units: Vec<&str> = unit.units().iter().map(|(name, _)| *name).collect();
                let units = units.join(", ");
                format!("is {what} with a unit of {units} or without one (then of {unit})")
            }
            None => format!("is {what}"),
        }),
        Some(number) if number < min => Err(format!("is at least {}", shown(min))),
        Some(number) if number > max => Err(format!("is at most {}", shown(max))),
        Some(_) => Ok(()),
    }
}

/// A number with or without a unit, in units of the setting. `None` if PostgreSQL would not read it.
pub(super) fn number(text: &str, unit: Option<Unit>) -> Option<f64> {
    let text = text.trim_ascii();
    let (value, rest) = scan_number(text)?;
    match (rest.trim_ascii_start(), unit) {
        ("", _) => Some(value),
        (_, None) => None,
        (name, Some(base)) => {
            let units = base.units();
            let index = units.iter().position(|(known, _)| *known == name)?;
            let in_base = value * units[index].1 as f64 / base.size() as f64;
            // A fraction is rounded to the next smaller unit: 30.1GB are a whole number of MB.
            let smaller = index
                .checked_sub(1)
                .map(|i| units[i].1 as f64 / base.size() as f64);
            Some(match smaller {
                Some(step) if value.fract() != 0.0 && step >= 1.0 => {
                    (in_base / step).round_ties_even() * step
                }
                _ => in_base,
            })
        }
    }
}

/// A number at the beginning, as `strtol` (of any base) and `strtod` read it, and what comes after it.
fn scan_number(text: &str) -> Option<(f64, &str)> {
    let (sign, body) = match text.strip_prefix(['+', '-']) {
        Some(body) => (if text.starts_with('-') { -1.0 } else { 1.0 }, body),
        None => (1.0, text),
    };
    if let Some(hexadecimal) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        let end = end_of(hexadecimal, |c| c.is_ascii_hexdigit());
        let value = i64::from_str_radix(&hexadecimal[..end], 16).ok()?;
        return Some((sign * value as f64, &hexadecimal[end..]));
    }
    let whole = end_of(body, |c| c.is_ascii_digit());
    let mut end = whole;
    if let Some(fraction) = body[end..].strip_prefix('.') {
        end += 1 + end_of(fraction, |c| c.is_ascii_digit());
    }
    if whole == 0 && end < 2 {
        return None;
    }
    if let Some(exponent) = body[end..].strip_prefix(['e', 'E']) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = end_of(digits, |c| c.is_ascii_digit());
        if length > 0 {
            end += 1 + (exponent.len() - digits.len()) + length;
        }
    }
    // A leading zero makes a whole number octal.
    let octal = end == whole && whole > 1 && body.starts_with('0');
    let value = if octal {
        i64::from_str_radix(&body[..end], 8).ok()? as f64
    } else {
        body[..end].parse().ok()?
    };
    Some((sign * value, &body[end..]))
}

fn end_of(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !is_part(c)).unwrap_or(text.len())
}

/// Any beginning of `true`, `false`, `yes` or `no` that is not ambiguous; `on`, `off` (or `of`), `1`, `0`.
fn is_boolean(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str| !text.is_empty() && word.starts_with(&text);
    matches!(text.as_str(), "on" | "of" | "off" | "1" | "0")
        || ["true", "false", "yes", "no"].into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: Option<Unit> = Some(Unit::Bytes(1024));
    const BLOCKS: Option<Unit> = Some(Unit::Bytes(8192));
    const MS: Option<Unit> = Some(Unit::Microseconds(1_000));

    #[test]
    fn numbers_are_read_as_postgresql_does() {
        for (text, unit, expected) in [
            ("64", KB, Some(64.0)),
            ("64MB", KB, Some(65_536.0)),
            (" 64 MB ", KB, Some(65_536.0)),
            ("1GB", BLOCKS, Some(131_072.0)),
            ("1.5MB", KB, Some(1_536.0)),
            ("30.1GB", KB, Some(30_822.0 * 1_024.0)),
            ("0x10", None, Some(16.0)),
            ("010", None, Some(8.0)),
            ("-1", None, Some(-1.0)),
            ("+1e3", None, Some(1_000.0)),
            (".5", None, Some(0.5)),
            ("1min", MS, Some(60_000.0)),
            ("1d", MS, Some(86_400_000.0)),
            ("500us", MS, Some(0.5)),
            ("1MB", MS, None),
            ("1mb", KB, None),
            ("1kB", None, None),
            ("", None, None),
            (".", None, None),
            ("1 2", KB, None),
            ("08", None, None),
            ("0x", None, None),
            ("MB", KB, None),
            ("NaN", None, None),
            ("1e", None, None),
        ] {
            assert_eq!(number(text, unit), expected, "{text:?}");
        }
    }

    #[test]
    fn booleans_may_be_shortened_while_they_are_plain() {
        for yes in [
            "on", "ON", "off", "of", "t", "tru", "f", "y", "yes", "n", "1", "0",
        ] {
            assert!(is_boolean(yes), "{yes}");
        }
        for no in ["", "o", "2", "truee", "onn", "ja"] {
            assert!(!is_boolean(no), "{no}");
        }
    }

    #[test]
    fn units_are_read_and_shown() {
        for text in ["B", "kB", "8kB", "MB", "ms", "s", "min"] {
            assert_eq!(Unit::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Unit::parse("mb"), None);
    }
}
