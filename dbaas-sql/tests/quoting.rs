//! Literals and identifiers come back from PostgreSQL as they went in.

mod setup;

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlExecutor};
use dbaas_sql::PostgresExecutor;
use dbaas_workload::server::ServerOptions;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use setup::{server, target};

/// Any Unicode but NUL, and often what quoting could trip over.
fn text() -> impl Strategy<Value = String> {
    let any_char = any::<char>().prop_filter("NUL", |c| *c != '\0');
    let nasty = proptest::sample::select(vec![
        '\'', '"', '\\', '$', 'E', 'U', '&', '?', '%', ';', '-', '/', '*', '\n', '\r', '\u{feff}', '\u{2019}',
    ]);
    vec(prop_oneof![any_char, nasty], 0..40).prop_map(String::from_iter)
}

/// PostgreSQL cuts identifiers at 63 bytes and has no empty ones.
fn identifier() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        let mut end = text.len().min(63);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end == 0 {
            "x".to_owned()
        } else {
            text[..end].to_owned()
        }
    })
}

#[test]
fn quoted_text_round_trips() {
    let Some(server) = server("quoting", &ServerOptions::default()) else {
        return;
    };
    let target = target(&server);
    let executor = PostgresExecutor::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cases = (vec(text(), 1..20), vec(identifier(), 1..20), any::<bool>());
    let check = |(literals, identifiers, conforming): (Vec<String>, Vec<String>, bool)| {
        let setting = if conforming { "on" } else { "off" };
        let mut script = Script::new("quoting")
            .step(Statement::fixed("SET LOCAL standard_conforming_strings = ").literal(setting))
            .in_transaction();
        for literal in &literals {
            script = script.step(Statement::fixed("SELECT ").literal(literal).raw(", ").number(-1));
        }
        for identifier in &identifiers {
            script = script.step(
                Statement::fixed("SELECT json_object_keys(row_to_json(t)) FROM (SELECT 1 AS ")
                    .ident(identifier)
                    .raw(") AS t"),
            );
        }
        let answers = runtime
            .block_on(executor.run(&target, &script))
            .map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let sent = literals.iter().chain(&identifiers);
        for (text, rows) in sent.zip(&answers[1..]) {
            prop_assert_eq!(rows.len(), 1);
            prop_assert_eq!(rows[0][0].as_ref(), Some(text));
        }
        Ok(())
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&cases, check).unwrap();
}
