//! The syntax of PostgreSQL's configuration files.
//!
//! Source: `src/backend/utils/misc/guc-file.l`; documentation, section "Parameter Interaction via the
//! Configuration File".

use std::borrow::Cow;

/// A setting that a configuration file can hold: a valid name and a value without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Setting {
    name: Cow<'static, str>,
    value: Cow<'static, str>,
}

/// A name or a value that a configuration file cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a setting's name is letters, digits and underscores, with one dot at most, and its value has no NUL character"
)]
pub struct InvalidSetting;

/// A line that PostgreSQL would not take. Holds nothing of the line, which may have a secret in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a setting")]
pub struct InvalidConfLine {
    /// Which, from 1.
    pub line: usize,
}

impl Setting {
    /// Checks name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, InvalidSetting> {
        let (name, value) = (name.into(), value.into());
        let mut parts = name.split('.');
        let is_valid =
            parts.next().is_some_and(is_id) && parts.next().is_none_or(is_id) && parts.next().is_none();
        if !name.is_ascii() || !is_valid || value.contains('\0') {
            return Err(InvalidSetting);
        }
        Ok(Setting {
            name: name.into(),
            value: value.into(),
        })
    }

    /// One of ours, which is valid: a test holds it.
    pub(super) fn known(name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let (name, value) = (Cow::Borrowed(name), value.into());
        Setting { name, value }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, not quoted.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Quotes a value. NUL, which no setting can hold, ends the value, as it would in PostgreSQL.
pub fn quote_conf_value(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    push_quoted(&mut quoted, value);
    quoted
}

fn push_quoted(text: &mut String, value: &str) {
    text.push('\'');
    if value.contains(['\'', '\\', '\n', '\r', '\0']) {
        for c in value.chars().take_while(|&c| c != '\0') {
            match c {
                '\'' => text.push_str("''"),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c => text.push(c),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push('\'');
}

/// A line of a configuration file, newline included. `name` is trusted to be a setting's name.
pub fn render_setting(name: &str, value: &str) -> String {
    let mut text = String::with_capacity(name.len() + value.len() + 6);
    push_setting(&mut text, name, value);
    text
}

/// Writes a line of a configuration file.
pub(super) fn push_setting(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(" = ");
    push_quoted(text, value);
    text.push('\n');
}

/// The settings of a configuration file in order, repeated ones included (PostgreSQL takes the last one).
/// `include` directives are not followed; they come out as settings of that name. The first bad line is the
/// error, as PostgreSQL then takes nothing of the file.
pub fn parse_conf(text: &str) -> Result<Vec<Setting>, InvalidConfLine> {
    let mut settings = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        match parse_line(line) {
            Line::Empty => {}
            Line::Setting(setting) => settings.push(setting),
            Line::Invalid => return Err(InvalidConfLine { line: i + 1 }),
        }
    }
    Ok(settings)
}

/// What a line of a configuration file is.
pub(super) enum Line {
    /// Blank or a comment.
    Empty,
    /// A name and a value.
    Setting(Setting),
    /// Neither.
    Invalid,
}

/// Reads a line (without its newline) as PostgreSQL's scanner does: `name [=] value [# comment]`.
pub(super) fn parse_line(line: &str) -> Line {
    let rest = skip_blank(line);
    if is_end(rest) {
        return Line::Empty;
    }
    let name_end = rest
        .find(|c: char| !is_id_char(c) && c != '.')
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_end);
    let rest = skip_blank(rest);
    let rest = skip_blank(rest.strip_prefix('=').unwrap_or(rest));
    let Some((value, rest)) = scan_value(rest) else {
        return Line::Invalid;
    };
    if !is_end(skip_blank(rest)) {
        return Line::Invalid;
    }
    Setting::new(name, value).map_or(Line::Invalid, Line::Setting)
}

fn skip_blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r'])
}

fn is_end(text: &str) -> bool {
    text.is_empty() || text.starts_with('#')
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

fn is_id(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && text.chars().all(is_id_char)
}

/// A value at the beginning of the text and what comes after it.
fn scan_value(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return scan_quoted(quoted);
    }
    let first = text.chars().next()?;
    let end = if first.is_ascii_alphabetic() || first == '_' || !first.is_ascii() {
        text.find(|c: char| !is_id_char(c) && !matches!(c, '-' | '.' | ':' | '/'))
            .unwrap_or(text.len())
    } else {
        scan_number(text)?
    };
    Some((text[..end].to_owned(), &text[end..]))
}

/// Length of the number at the beginning: a sign, then hexadecimal or decimal digits with a unit, or a
/// fraction.
fn scan_number(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let sign = usize::from(text.starts_with(['+', '-']));
    let run = |from: usize, is: fn(&u8) -> bool| bytes[from..].iter().take_while(|b| is(b)).count();
    let letters = |from: usize| run(from, u8::is_ascii_alphabetic);

    let digits = run(sign, u8::is_ascii_digit);
    let hex = if text[sign..].starts_with("0x") {
        run(sign + 2, u8::is_ascii_hexdigit)
    } else {
        0
    };
    let integer = match (digits, hex) {
        (0, _) => 0,
        (_, 0) => sign + digits + letters(sign + digits),
        (_, hex) => sign + 2 + hex + letters(sign + 2 + hex),
    };
    let mut real = 0;
    if bytes.get(sign + digits) == Some(&b'.') {
        real = sign + digits + 1 + run(sign + digits + 1, u8::is_ascii_digit);
        if matches!(bytes.get(real), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(real + 1), Some(b'+' | b'-')));
            let exponent = run(real + 1 + sign, u8::is_ascii_digit);
            real += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
    }
    // The scanner takes the longest match.
    Some(integer.max(real)).filter(|&end| end > 0)
}

/// The rest of a quoted value, after its first quote. `None` if it does not end.
fn scan_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\'' if text[i + 1..].starts_with('\'') => {
                chars.next();
                value.push('\'');
            }
            '\'' => return Some((value, &text[i + 1..])),
            '\\' => match chars.next()?.1 {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                first @ '0'..='7' => {
                    let mut code = u32::from(first) - u32::from('0');
                    for _ in 0..2 {
                        match chars.clone().next() {
                            Some((_, digit @ '0'..='7')) => {
                                code = code * 8 + u32::from(digit) - u32::from('0');
                                chars.next();
                            }
                            _ => break,
                        }
                    }
                    // A byte; only those that are characters by themselves can be told apart here.
                    value.push(
                        char::from_u32(code & 0xff)
                            .filter(char::is_ascii)
                            .unwrap_or('\u{fffd}'),
                    );
                }
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let settings = parse_conf(text).unwrap();
        settings
            .into_iter()
            .map(|s| (s.name.into_owned(), s.value.into_owned()))
            .collect()
    }

    #[test]
    fn reads_what_postgresql_reads() {
        for (line, name, value) in [
            ("port = 5432", "port", "5432"),
            ("port 5432 # comment", "port", "5432"),
            ("\tport=5432\r", "port", "5432"),
            ("shared_buffers = 128MB", "shared_buffers", "128MB"),
            ("x = -1", "x", "-1"),
            ("x = 0x1F", "x", "0x1F"),
            ("x = 1.5e-3", "x", "1.5e-3"),
            ("x = .5", "x", ".5"),
            ("x = -0x1F0q", "x", "-0x1F0q"),
            ("x = 0x1Fq", "x", "0x1Fq"),
            ("x = +128MB", "x", "+128MB"),
            ("x = -12.5", "x", "-12.5"),
            ("x = +12.25e-10", "x", "+12.25e-10"),
            ("x = 12.", "x", "12."),
            ("x = _b", "x", "_b"),
            ("x = é", "x", "é"),
            ("a.b = on", "a.b", "on"),
            ("x = a-b.c:d/e", "x", "a-b.c:d/e"),
            ("x = 'it''s'", "x", "it's"),
            (r"x = 'a\\b\n\'c\101'", "x", "a\\b\n'cA"),
            (r"x = '\71'", "x", "9"),
            (r"x = '\7'", "x", "\u{7}"),
            ("x = ''", "x", ""),
            ("x = '#no comment'#comment", "x", "#no comment"),
        ] {
            assert_eq!(parsed(line), [(name.to_owned(), value.to_owned())], "{line}");
        }
        assert_eq!(parsed("\n  \n# c\n\r\n"), []);
    }

    #[test]
    fn refuses_what_postgresql_refuses() {
        for line in [
            "port",
            "port =",
            "= 5",
            "5 = port",
            "x = 'open",
            "x = a b",
            "x = 1.5GB",
            "x = 1.5e",
            "x = 1.5e+",
            "x = # no value",
            "x = 'a' b",
            "x == 1",
            "x = 'a",
            "a.b.c = 1",
            "x = \\",
            "x = e'a'",
            ".a = 1",
            "a. = 1",
            "x = -",
            "x = .GB",
            "x = @",
            "x = '\\",
        ] {
            let text = format!("ok = 1\n{line}\n");
            assert_eq!(parse_conf(&text), Err(InvalidConfLine { line: 2 }), "{line}");
        }
    }

    #[test]
    fn settings_are_checked() {
        assert!(Setting::new("work_mem", "4MB").is_ok());
        assert!(Setting::new("dbaas.epoch", "").is_ok());
        for name in ["", "a b", "a.b.c", "a\n", "1a", "a-b", "a=", "é"] {
            assert_eq!(Setting::new(name, "1"), Err(InvalidSetting), "{name}");
        }
        assert_eq!(Setting::new("a", "1\0"), Err(InvalidSetting));
    }

    proptest! {
        #[test]
        fn quoted_values_come_back(value in "[^\0]*", second in "['\\\\\n\r# =a]{0,20}") {
            let text = render_setting("a_b", &value) + &render_setting("x.y", &second);
            prop_assert_eq!(parsed(&text), [("a_b".to_owned(), value), ("x.y".to_owned(), second)]);
        }

        #[test]
        fn nothing_panics(text in ".*", close in "[ab.=#'\\\\0-9xeE+ \n-]{0,40}") {
            let _ = parse_conf(&text);
            let _ = parse_conf(&close);
        }
    }
}
