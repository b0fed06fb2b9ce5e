//! Literals, identifiers and connection URIs that we render, against what PostgreSQL and libpq read.

use crate::throwaway::{Throwaway, hold, installations};
use dbaas_core::connection::ConnectionStrings;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::sql::Statement;
use proptest::prelude::*;

/// A text of at most 60 bytes, with everything that quoting or a URI has to deal with; without NUL, which
/// PostgreSQL's text cannot hold.
fn text() -> impl Strategy<Value = String> {
    const ODD: &[char] = &[
        '\'', '"', '\\', '$', ';', '-', '/', '*', '\n', '\r', '\t', '\u{1}', '\u{7f}', ' ', '%', '@', ':',
        '?', '#', '&', '=', '+', '[', ']', ',', 'a', 'Z', '0', '_', 'é', '\u{a0}', '\u{2019}', '数', '😀',
    ];
    let odd = prop::collection::vec(prop::sample::select(ODD), 1..16);
    odd.prop_map(|characters| characters.into_iter().collect())
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn literals_and_identifiers_are_read_as_they_were_meant() {
    for installation in installations("literals_and_identifiers_are_read_as_they_were_meant") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let known = ["'; DROP TABLE x; --", "\\'", "E'", "$$", "select", "\"\"", "''"].map(String::from);
        read_as_meant(&server, &known);
        hold(4, prop::collection::vec(text(), 100), |texts| {
            read_as_meant(&server, &texts)
        });
    }
}

/// Whatever the server is set to: literals with backslashes say so themselves.
fn read_as_meant(server: &Throwaway, texts: &[String]) {
    for conforming in ["on", "off"] {
        let mut sql = format!(
            "SET standard_conforming_strings = {conforming}; SET backslash_quote = off; SET escape_string_warning = off;\n"
        );
        for text in texts {
            let literal = Statement::fixed("SELECT encode(convert_to(")
                .literal(text)
                .raw(", 'UTF8'), 'hex');\n");
            let column = Statement::fixed("CREATE TEMP TABLE probe (").ident(text).raw(
                " int); SELECT encode(convert_to(attname::text, 'UTF8'), 'hex') FROM pg_attribute \
                 WHERE attrelid = 'probe'::regclass AND attnum = 1; DROP TABLE probe;\n",
            );
            sql += literal.text();
            sql += column.text();
        }
        let rows = server.sql(&sql);
        let expected: Vec<String> = texts.iter().flat_map(|text| [hex(text), hex(text)]).collect();
        assert_eq!(rows.lines().collect::<Vec<_>>(), expected, "{conforming}");
    }
}

#[test]
fn libpq_takes_the_connection_uri() {
    for installation in installations("libpq_takes_the_connection_uri") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let endpoint = Endpoint {
            host: server.root().to_str().unwrap().to_owned(),
            port: 5432,
        };
        let nobody = Endpoint {
            host: server.root().join("nobody").to_str().unwrap().to_owned(),
            port: 1,
        };
        hold(12, (text(), text()), |(user, database)| {
            // What a case that failed left behind.
            let gone = Statement::fixed("DROP DATABASE IF EXISTS ")
                .ident(&database)
                .raw(";\nDROP ROLE IF EXISTS ")
                .ident(&user)
                .raw(";\n");
            server.sql(gone.text());
            let create = Statement::fixed("CREATE ROLE ")
                .ident(&user)
                .raw(" LOGIN;\nCREATE DATABASE ")
                .ident(&database)
                .raw(";\n");
            server.sql(create.text());
            let strings = ConnectionStrings::new(vec![nobody.clone(), endpoint.clone()])
                .with_user(&user)
                .with_database(&database)
                .with_connect_timeout_s(5);
            for uri in [strings.uri(), strings.read_only_uri()] {
                let output = server
                    .command("psql")
                    .env("PGCLIENTENCODING", "UTF8")
                    .args(["-XAtqw", "-d", &uri, "-c"])
                    .arg(
                        "SELECT encode(convert_to(current_user, 'UTF8'), 'hex') || ' ' || \
                         encode(convert_to(current_database(), 'UTF8'), 'hex')",
                    )
                    .output()
                    .unwrap();
                let errors = String::from_utf8_lossy(&output.stderr);
                let expected = format!("{} {}\n", hex(&user), hex(&database));
                assert_eq!(
                    String::from_utf8_lossy(&output.stdout),
                    expected,
                    "{uri}: {errors}"
                );
            }
            server.sql(gone.text());
        });
    }
}

/// What `read-write` asks for besides being the primary is set by whoever may write at all.
#[test]
fn a_default_of_read_only_hides_no_primary() {
    for installation in installations("a_default_of_read_only_hides_no_primary") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        server
            .sql("CREATE ROLE careful LOGIN;\nALTER ROLE careful SET default_transaction_read_only = on;\n");
        let endpoint = Endpoint {
            host: server.root().to_str().unwrap().to_owned(),
            port: 5432,
        };
        let strings = ConnectionStrings::new(vec![endpoint])
            .with_user("careful")
            .with_database("postgres");
        let output = server
            .command("psql")
            .args(["-XAtqw", "-d", &strings.uri(), "-c", "SHOW transaction_read_only"])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "on\n", "{errors}");
    }
}
