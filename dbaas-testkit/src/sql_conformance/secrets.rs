//! Statements hold password verifiers: neither errors nor the server's log tell them.

use std::time::Instant;

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlErrorKind};

use super::{Case, POLL, Site, patient, skipped};

const SECRET: &str = "conformance-hunter2";
const CONTROL: &str = "conformance-seen-by-control";

pub(super) async fn in_errors_and_the_log(site: &dyn Site) {
    let case = Case::new(site, "secrets").await;
    // A database whose sessions write everything, unless they know better.
    for setting in [
        "log_statement = 'all'",
        "log_min_duration_statement = 0",
        "log_min_error_statement = 'error'",
        "log_duration = on",
    ] {
        let set = Statement::fixed("ALTER DATABASE ").ident(&case.target.database);
        case.good(&patient(site, set.raw(" SET ").raw(setting))).await;
    }
    case.executor.forget(&case.target.endpoint);

    let password = |role: &str| -> Script {
        patient(
            site,
            Statement::fixed("ALTER ROLE ")
                .ident(role)
                .raw(" PASSWORD ")
                .literal(SECRET),
        )
    };
    let drop = "DROP ROLE IF EXISTS conformance_secret";
    case.exec(drop).await;
    case.exec("CREATE ROLE conformance_secret").await;
    for script in [
        password("conformance_secret"),
        password("conformance_secret").in_transaction(),
        password("conformance_secret").on_fresh_session(),
    ] {
        case.good(&script).await;
    }
    case.exec(drop).await;

    // A duplicate key has its value in the detail of PostgreSQL's message.
    case.exec("CREATE TABLE public.u (s text UNIQUE)").await;
    let duplicate = patient(
        site,
        Statement::fixed("INSERT INTO public.u SELECT ")
            .literal(SECRET)
            .raw(" FROM generate_series(1, 2)"),
    );
    let sleep = |seconds: i64| {
        let text = Statement::fixed("SELECT ").literal(SECRET).raw(" FROM pg_sleep(");
        patient(site, text.number(seconds).raw(")"))
    };
    let slow = sleep(30);
    let slow = slow.clone().within_ms(slow.connect_timeout_ms, 1_000);
    let guard = patient(site, Statement::fixed("SELECT 1")).guard(
        Statement::fixed("SELECT false AND ")
            .literal(SECRET)
            .raw(" = 'x'"),
    );
    let ended = patient(
        site,
        Statement::fixed("SELECT pg_terminate_backend(pg_backend_pid()), ").literal(SECRET),
    );
    for (script, kind, sqlstate, step) in [
        (
            password("conformance_missing"),
            SqlErrorKind::Statement,
            Some("42704"),
            0,
        ),
        (
            password("conformance_missing").in_transaction(),
            SqlErrorKind::Statement,
            Some("42704"),
            0,
        ),
        (duplicate, SqlErrorKind::Statement, Some("23505"), 0),
        (guard, SqlErrorKind::GuardFailed, None, 1),
        (ended, SqlErrorKind::OutcomeUnknown, Some("57P01"), 0),
        (slow, SqlErrorKind::OutcomeUnknown, None, 0),
    ] {
        let error = case
            .fails(&script, kind, Some(step), "a statement with a secret")
            .await;
        if sqlstate.is_some() {
            assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
        }
        let told = format!("{error} {error:?}");
        for secret in [SECRET, case.target.password.expose()] {
            assert!(
                !told.contains(secret),
                "an error holds neither a statement's text nor a password: {told}"
            );
        }
    }
    the_log(&case).await;
    case.end().await;
}

async fn the_log(case: &Case<'_>) {
    if case.site.log().await.is_none() {
        return skipped("the server's log: the site cannot read it");
    }
    // The same without the session's settings does show, or nothing would be proved; what was written before
    // it is there by then, too.
    let control = case
        .script("SET LOCAL log_statement = 'all'")
        .step(Statement::fixed("SELECT ").literal(CONTROL))
        .in_transaction();
    case.good(&control).await;
    let deadline = Instant::now() + case.site.patience();
    let log = loop {
        let log = case.site.log().await.unwrap_or_default();
        if log.contains(CONTROL) {
            break log;
        }
        assert!(
            Instant::now() < deadline,
            "the log does not show a statement that asks for it: nothing to test against"
        );
        tokio::time::sleep(POLL).await;
    };
    for secret in [SECRET, case.target.password.expose()] {
        let leak = log.lines().find(|line| line.contains(secret));
        assert_eq!(
            leak, None,
            "the server's log holds no text and no value of a statement"
        );
    }
}
