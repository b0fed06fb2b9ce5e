//! Templates: `f"host={$db:ipsv4}"`. What stands in braces is replaced, `\{` is a brace, and a reference that
//! has a field is replaced without braces, too.

use crate::reference::Reference;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// To be replaced.
    Reference(Reference),
}

/// What is wrong within a template.
pub(crate) type Fault = String;

/// Whether the text is a template.
pub fn is_template(text: &str) -> bool {
    text.starts_with("f\"") && text.len() > 2 && text.trim_end().ends_with('"')
}

/// The parts of a template, or all that is wrong with it. Texts next to each other are one.
pub fn parts(text: &str) -> Result<Vec<Part>, Vec<Fault>> {
    let inner = text
        .strip_prefix("f\"")
        .and_then(|text| text.rfind('"').map(|end| &text[..end]))
        .unwrap_or_default();
    // A template over several lines begins below its sign.
    let inner = inner
        .strip_prefix("\r\n")
        .or(inner.strip_prefix('\n'))
        .unwrap_or(inner);
    let (mut parts, mut plain, mut faults) = (Vec::new(), String::new(), Vec::new());
    let mut rest = inner;
    // Ends: every round takes at least one character.
    while let Some(c) = rest.chars().next() {
        let taken = if let Some(after) = rest.strip_prefix("\\{") {
            plain.push('{');
            rest = after;
            continue;
        } else if rest.starts_with("{$") {
            braced(rest)
        } else if c == '$' {
            Ok(bare(rest))
        } else {
            Ok(None)
        };
        match taken {
            Ok(Some((reference, length))) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Reference(reference));
                rest = &rest[length..];
            }
            Ok(None) => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
            Err(fault) => {
                faults.push(fault);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    match faults.is_empty() {
        true => Ok(parts),
        false => Err(faults),
    }
}

/// `{$reference}`.
fn braced(text: &str) -> Result<Option<(Reference, usize)>, Fault> {
    let found = Reference::prefix(&text[1..]).filter(|(_, length)| text[1 + length..].starts_with('}'));
    match found {
        Some((reference, length)) if reference.access.is_some() => Ok(Some((reference, length + 2))),
        Some((reference, _)) => Err(format!("{{{reference}}} names no field: {{{reference}:name}}")),
        None => {
            let shown: String = text
                .chars()
                .take_while(|c| *c != '}' && *c != '\n')
                .take(60)
                .collect();
            Err(format!(
                "{shown}}} is not a reference; a brace alone is written \\{{"
            ))
        }
    }
}

/// `$path:field`; anything else that begins with `$` is text.
fn bare(text: &str) -> Option<(Reference, usize)> {
    Reference::prefix(text).filter(|(reference, _)| reference.access.is_some() && reference.path.len() > 1)
}

/// For fuzzing: never panics, and what it finds are references.
#[doc(hidden)]
pub fn parts_for_fuzzing(text: &str) -> bool {
    let all = |parts: Vec<Part>| {
        parts.iter().all(|part| match part {
            Part::Text(text) => !text.is_empty(),
            Part::Reference(reference) => {
                reference.to_string().parse::<Reference>().as_ref() == Ok(reference)
            }
        })
    };
    parts(text).map_or(true, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |part: &Part| match part {
            Part::Text(text) => format!("{text:?}"),
            Part::Reference(reference) => format!("<{reference}>"),
        };
        parts(text).unwrap().iter().map(show).collect()
    }

    #[test]
    fn braces_escapes_and_bare_references() {
        assert_eq!(shown("f\"a={$x.$y:name}b\""), ["\"a=\"", "<$x.$y:name>", "\"b\""]);
        assert_eq!(
            shown("f\"\\{$x.$y:name} {not} $HOME $a.b {}\""),
            ["\"{\"", "<$x.$y:name>", "\"} {not} $HOME $a.b {}\""]
        );
        assert_eq!(
            shown("f\"\nU=$x.$y:name\nP=$x.$z:to_str(v)\n\""),
            [
                "\"U=\"",
                "<$x.$y:name>",
                "\"\\nP=\"",
                "<$x.$z:to_str(v)>",
                "\"\\n\""
            ]
        );
        assert_eq!(
            shown("f\"{$x.$y:join(a, sep='}\"')}\""),
            ["<$x.$y:join(a, sep='}\"')>"]
        );
        assert_eq!(shown("f\"say \"hi\"\""), ["\"say \\\"hi\\\"\""]);
        assert!(shown("f\"\"").is_empty());
    }

    #[test]
    fn every_bad_brace_is_told() {
        let faults = parts("f\"{$x} {$a.$b:} {$a.$b:name\"").unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn what_a_template_is() {
        assert!(is_template("f\"x\"") && is_template("f\"x\" \n"));
        assert!(!is_template("f\"") && !is_template("x") && !is_template("f'x'"));
    }
}
