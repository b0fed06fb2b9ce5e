//! SQL literals and identifiers: any text is one token, which PostgreSQL's lexer reads as that text whatever
//! its settings are. (The lexer here is held to real servers by dbaas-core/tests/postgres/quoting.rs, which
//! sends them what is rendered.)
#![no_main]

use dbaas_core::sql::Statement;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // PostgreSQL's texts have no NUL, and none is sent.
    let sent = text.replace('\0', "");
    let literal = Statement::fixed("").literal(text);
    assert_eq!(read_literal(literal.text()), Some(sent.clone()), "{literal:?}");
    let name = Statement::fixed("").ident(text);
    assert_eq!(read_quoted(name.text(), '"', false), Some(sent));
    // What is logged shows neither.
    let statement = Statement::fixed("a ").literal(text).raw(" b ").ident(text);
    assert_eq!(format!("{statement:?}"), "Statement(a <literal> b <identifier>)");
});

/// `'…'` or `E'…'`, and nothing after it.
fn read_literal(sql: &str) -> Option<String> {
    match sql.strip_prefix('E') {
        Some(escaped) => read_quoted(escaped, '\'', true),
        // With standard_conforming_strings off a backslash would mean something.
        None if sql.contains('\\') => None,
        None => read_quoted(sql, '\'', false),
    }
}

/// What stands between two quotes; a quote is written twice. The quote that ends it has to be the end of all.
fn read_quoted(sql: &str, quote: char, escapes: bool) -> Option<String> {
    let mut characters = sql.strip_prefix(quote)?.chars();
    let mut text = String::new();
    while let Some(c) = characters.next() {
        match c {
            '\\' if escapes => match characters.next()? {
                '\\' => text.push('\\'),
                // Everything else would be an escape that we do not write.
                _ => return None,
            },
            c if c == quote => match characters.next() {
                Some(second) if second == quote => text.push(quote),
                Some(_) => return None,
                None => return Some(text),
            },
            c => text.push(c),
        }
    }
    None
}
