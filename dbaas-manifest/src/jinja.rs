//! `{{ name }}` and `{{ name | default('x') }}`: plain substitution, without any logic.

use std::collections::BTreeMap;

use crate::error::{Finding, Position};

/// Puts variables into the text. Every one that is missing, and everything that is more than a variable, is
/// an error.
pub fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Vec<Finding>> {
    let (mut out, mut errors) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    // Ends: the rest gets shorter with each round.
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        out.push_str(&rest[..at]);
        let position = position_of(text, text.len() - rest.len() + at);
        let tail = &rest[at..];
        let is_logic = tail.starts_with("{%");
        let Some(end) = tail.find(if is_logic { "%}" } else { "}}" }) else {
            errors.push(fault(position, "this is never closed"));
            break;
        };
        if is_logic {
            errors.push(fault(
                position,
                "{% … %} is not known here: variables are substituted, nothing more",
            ));
        } else {
            match value_of(tail[2..end].trim(), variables) {
                Ok(value) => out.push_str(&value),
                Err(message) => errors.push(fault(position, message)),
            }
        }
        rest = &tail[end + 2..];
    }
    out.push_str(rest);
    match errors.is_empty() {
        true => Ok(out),
        false => Err(errors),
    }
}

fn value_of(expression: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let (name, filter) = match expression.split_once('|') {
        Some((name, filter)) => (name.trim(), Some(filter.trim())),
        None => (expression, None),
    };
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        return Err("{{ … }} holds the name of a variable, and at most | default('…')".to_owned());
    }
    let default = match filter {
        None => None,
        Some(filter) => Some(default_of(filter).ok_or("the only filter that is known is default('…')")?),
    };
    let missing = || format!("the variable \"{name}\" is not given: --set {name}=…");
    variables.get(name).cloned().or(default).ok_or_else(missing)
}

fn default_of(filter: &str) -> Option<String> {
    let argument = filter
        .strip_prefix("default")?
        .trim()
        .strip_prefix('(')?
        .strip_suffix(')')?
        .trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = argument.strip_prefix(quote) {
            return inner
                .strip_suffix(quote)
                .filter(|text| !text.contains(quote))
                .map(str::to_owned);
        }
    }
    argument.parse::<f64>().ok().map(|_| argument.to_owned())
}

/// Where a text holds Jinja.
pub(crate) fn found_in(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn position_of(text: &str, at: usize) -> Position {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position { line, column }
}

fn fault(position: Position, message: impl Into<String>) -> Finding {
    Finding {
        position,
        path: String::new(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, Vec<Finding>> {
        let variables = BTreeMap::from([("version".to_owned(), "1.2.3".to_owned())]);
        substitute(text, &variables)
    }

    #[test]
    fn variables_and_defaults() {
        assert_eq!(with("version: {{ version }}").unwrap(), "version: 1.2.3");
        assert_eq!(
            with("{{version}}-{{ x | default('a b') }}-{{ n|default(3) }}").unwrap(),
            "1.2.3-a b-3"
        );
        assert_eq!(with("nothing {here} }}").unwrap(), "nothing {here} }}");
    }

    #[test]
    fn everything_else_is_refused_with_its_place() {
        let errors =
            with("a: {{ missing }}\nb: {% if x %}\nc: {{ a + b }}\nd: {{ x | upper }}\ne: {{ x").unwrap_err();
        let places: Vec<usize> = errors.iter().map(|error| error.position.line).collect();
        assert_eq!(places, [1, 2, 3, 4, 5]);
        assert!(errors[0].message.contains("--set missing=…"), "{errors:?}");
    }
}
