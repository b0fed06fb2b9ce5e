//! [`Statement`]: SQL text built only from fixed text, quoted identifiers and quoted literals. There is no
//! `From<String>`.

use std::fmt;

use postgres_protocol::escape::{escape_identifier, escape_literal};

/// One SQL statement. Its `Debug` shows the fixed parts only.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    shape: String,
}

impl Statement {
    /// A statement that is known when the program is compiled.
    pub fn fixed(text: &'static str) -> Self {
        Statement {
            text: text.to_owned(),
            shape: text.to_owned(),
        }
    }

    /// Appends fixed text.
    #[must_use]
    pub fn raw(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self.shape.push_str(text);
        self
    }

    /// Appends a quoted identifier.
    #[must_use]
    pub fn ident(mut self, name: &str) -> Self {
        self.text.push_str(&escape_identifier(&without_nul(name)));
        self.shape.push_str("<identifier>");
        self
    }

    /// Appends a quoted literal.
    #[must_use]
    pub fn literal(mut self, value: &str) -> Self {
        self.text
            .push_str(escape_literal(&without_nul(value)).trim_start());
        self.shape.push_str("<literal>");
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn number(mut self, value: i64) -> Self {
        self.text.push_str(&value.to_string());
        self.shape.push_str("<number>");
        self
    }

    /// The text to send.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with identifiers, literals and numbers left out: safe to log.
    pub fn shape(&self) -> &str {
        &self.shape
    }
}

/// NUL cannot be sent to PostgreSQL; typed names never hold one. Dropped rather than passed on so that
/// quoting stays sound.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "").into()
    } else {
        text.into()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({})", self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_is_not_fixed() {
        let s = Statement::fixed("ALTER ROLE ")
            .ident("a\"b")
            .raw(" PASSWORD ")
            .literal("it's\\x");
        assert_eq!(s.text(), "ALTER ROLE \"a\"\"b\" PASSWORD E'it''s\\\\x'");
        assert_eq!(
            format!("{s:?}"),
            "Statement(ALTER ROLE <identifier> PASSWORD <literal>)"
        );
    }
}
