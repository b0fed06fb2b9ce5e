//! Which session a script gets: a new one, or one that was kept.

use std::time::{Duration, Instant};

use dbaas_core::secret::Secret;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{SqlErrorKind, SqlTarget};

use super::{Case, Site};

const PID: &str = "SELECT pg_backend_pid()";

pub(super) async fn fresh_and_forgotten(site: &dyn Site) {
    let case = Case::new(site, "fresh").await;
    let mut seen = vec![case.ask(PID).await];
    for _ in 0..3 {
        let fresh = case.value(&case.script(PID).on_fresh_session()).await;
        assert!(
            !seen.contains(&fresh),
            "a fresh session is one that nobody had before"
        );
        seen.push(fresh);
    }

    // Forgotten, also the one that is in use meanwhile.
    let in_use = case.spawn(
        case.script("SELECT pg_backend_pid(), 'conformance-in-use'")
            .step(Statement::fixed("SELECT pg_sleep(1) /* conformance-in-use */"))
            .on_fresh_session(),
    );
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
                  AND query LIKE '%pg_sleep%conformance-in-use%' AND pid <> pg_backend_pid()";
    case.until(sleeps, "1", "a script is at its second step").await;
    seen.push(case.ask(PID).await);
    case.executor.forget(&case.target.endpoint);
    let answers = match in_use.await.expect("the script's task ends") {
        Ok(answers) => answers,
        Err(error) => panic!("a script goes on although its endpoint is forgotten: {error:?}"),
    };
    seen.extend(answers[0][0][0].clone());
    let after = case.ask(PID).await;
    assert!(
        !seen.contains(&after),
        "a session that was forgotten is not used again"
    );
    case.until(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND backend_type = 'client backend'",
        "0",
        "sessions that were forgotten are closed",
    )
    .await;
    case.end().await;
}

pub(super) async fn an_error_ends_its_session(site: &dyn Site) {
    let case = Case::new(site, "error_ends").await;
    case.exec("CREATE TABLE public.failed (pid int)").await;
    let begin = "INSERT INTO public.failed SELECT pg_backend_pid()";
    let refused = case.script(begin).step(Statement::fixed("SELECT 1/0"));
    let guarded = case.script(begin).guard(Statement::fixed("SELECT false"));
    let slow = case
        .within(1_000, begin)
        .step(Statement::fixed("SELECT pg_sleep(30)"));
    let failing = [
        (refused, SqlErrorKind::Statement),
        (guarded, SqlErrorKind::GuardFailed),
        (slow, SqlErrorKind::OutcomeUnknown),
    ];
    for (script, kind) in failing {
        case.ask(PID).await;
        case.fails(&script, kind, Some(1), "a script that fails").await;
        assert_eq!(
            case.ask("SELECT pg_backend_pid() IN (SELECT pid FROM public.failed)")
                .await,
            "f",
            "a session is not used again after {kind:?}"
        );
        // One whose statement is still under way may last until the server gives up, at the script's own
        // deadline.
        case.until(
            "SELECT count(*) FROM pg_stat_activity WHERE pid IN (SELECT pid FROM public.failed)",
            "0",
            "a session is closed after its script has failed",
        )
        .await;
    }
    case.end().await;
}

pub(super) async fn another_password(site: &dyn Site) {
    let case = Case::new(site, "another_password").await;
    case.ask(PID).await;
    let wrong = SqlTarget {
        password: Secret::new("conformance-wrong"),
        ..case.target.clone()
    };
    for script in [case.script(PID), case.script(PID).on_fresh_session()] {
        match case.executor.run(&wrong, &script).await {
            Err(error) if error.kind() == SqlErrorKind::Login => {}
            other => panic!("who has another password gets no session that was kept: {other:?}"),
        }
    }
    case.ask(PID).await;

    // A password that was changed: the new one opens a session, whatever is kept from before.
    let role = "conformance_role";
    let drop = || super::patient(site, Statement::fixed("DROP ROLE IF EXISTS ").ident(role));
    case.good(&drop()).await;
    let create = Statement::fixed("CREATE ROLE ")
        .ident(role)
        .raw(" SUPERUSER LOGIN PASSWORD 'one'");
    case.good(&super::patient(site, create)).await;
    let as_role = |password: &str| SqlTarget {
        user: role.to_owned(),
        password: Secret::new(password),
        ..case.target.clone()
    };
    let pid = case.script(PID);
    let first = case.executor.run(&as_role("one"), &pid).await;
    let alter = Statement::fixed("ALTER ROLE ").ident(role).raw(" PASSWORD 'two'");
    case.good(&super::patient(site, alter)).await;
    let second = case.executor.run(&as_role("two"), &pid).await;
    match (first, second) {
        (Ok(first), Ok(second)) => assert_ne!(
            first, second,
            "a session that was opened with another password is not used"
        ),
        other => panic!("expected that both passwords, each at its time, open a session: {other:?}"),
    }
    case.executor.forget(&case.target.endpoint);
    case.good(&drop()).await;
    case.end().await;
}

pub(super) async fn a_session_that_the_server_has_ended(site: &dyn Site) {
    let case = Case::new(site, "ended").await;
    case.ask(PID).await;
    let other = Case {
        site,
        executor: site.executor(),
        target: site.target(),
    };
    let kill = other.script(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'conformance_ended'",
    );
    other.good(&kill).await;
    other
        .until(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'conformance_ended'",
            "0",
            "the sessions of the database have ended",
        )
        .await;
    // It may not know yet. What it must not do is to believe in that session for ever.
    let deadline = Instant::now() + site.patience();
    while let Err(error) = case.run(&case.script(PID)).await {
        assert!(
            error.is_retryable() && Instant::now() < deadline,
            "expected that a session which the server has ended is replaced: {error:?}"
        );
        tokio::time::sleep(super::POLL).await;
    }
    other.executor.forget(&other.target.endpoint);
    case.end().await;
}

pub(super) async fn scripts_at_the_same_time(site: &dyn Site) {
    const SCRIPTS: i64 = 8;
    let case = Case::new(site, "at_once").await;
    case.exec("CREATE TABLE public.counter AS SELECT 0 AS n").await;
    let rounds: Vec<_> = (1..=SCRIPTS)
        .map(|n| {
            // Where two of them shared a session they would see each other's setting.
            case.script("SELECT pg_sleep(0.01)")
                .step(
                    Statement::fixed("SELECT set_config('conformance.mine', ")
                        .literal(&n.to_string())
                        .raw(", true)"),
                )
                .step(Statement::fixed("SELECT pg_sleep(0.1)"))
                .step(Statement::fixed(
                    "UPDATE public.counter SET n = n + 1 RETURNING current_setting('conformance.mine')",
                ))
                .in_transaction()
        })
        .map(|script| case.spawn(script))
        .collect();
    for (n, round) in (1..=SCRIPTS).zip(rounds) {
        match round.await.expect("the script's task ends") {
            Ok(answers) => assert_eq!(
                answers[3],
                [[Some(n.to_string())]],
                "scripts at the same time have sessions of their own"
            ),
            Err(error) => panic!("expected that {SCRIPTS} scripts at the same time succeed: {error:?}"),
        }
    }
    assert_eq!(
        case.ask("SELECT n FROM public.counter").await,
        SCRIPTS.to_string(),
        "every script is run once"
    );

    let long = case.spawn(case.script("SELECT pg_sleep(6)"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    case.exec("SELECT 1").await;
    assert!(!long.is_finished(), "a script does not wait for another's end");
    long.abort();
    case.end().await;
}
