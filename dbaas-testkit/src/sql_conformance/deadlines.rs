//! Every wait ends, and what it ended with is told apart from what was refused.

use std::time::{Duration, Instant};

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::SqlErrorKind;

use super::{Case, POLL, Site, in_time};

pub(super) async fn statements_that_take_too_long(site: &dyn Site) {
    let case = Case::new(site, "too_long").await;
    let unknown = SqlErrorKind::OutcomeUnknown;
    let may_be = |sqlstate: Option<&str>| matches!(sqlstate, None | Some("57014"));

    let slow = case
        .within(1_000, "SELECT 1")
        .step(Statement::fixed("SELECT pg_sleep(30)"));
    for script in [
        slow.clone(),
        slow.clone().in_transaction(),
        slow.on_fresh_session(),
    ] {
        let error = case
            .fails_within(&script, unknown, Some(1), "a statement that takes too long")
            .await;
        assert!(
            may_be(error.sqlstate()),
            "given up on, or cancelled by the server: {error:?}"
        );
    }

    // The deadline is for all steps together.
    let mut many = case.within(1_000, "SELECT pg_sleep(0.4)");
    for _ in 0..30 {
        many = many.step(Statement::fixed("SELECT pg_sleep(0.4)"));
    }
    let started = Instant::now();
    match case.run(&many).await {
        Err(error) if error.kind() == unknown && error.step().is_some_and(|step| step < 4) => {}
        other => panic!("steps that take too long together: expected {unknown:?}, got {other:?}"),
    }
    in_time(
        started,
        Duration::from_secs(1),
        "steps that take too long together",
    );

    // The server does not give up by itself.
    let deaf = case
        .within(1_000, "SET statement_timeout = 0")
        .step(Statement::fixed("SELECT pg_sleep(30)"));
    case.fails_within(&deaf, unknown, Some(1), "a server that does not give up")
        .await;

    // One that is in time is left alone.
    let in_time = case.within(10_000, "SELECT 7 FROM pg_sleep(0.5)");
    assert_eq!(case.value(&in_time).await, "7");
    case.end().await;
}

pub(super) async fn a_session_that_breaks_midway(site: &dyn Site) {
    let case = Case::new(site, "breaks").await;
    let unknown = SqlErrorKind::OutcomeUnknown;
    let suicide = case
        .script("CREATE TABLE public.before (n int)")
        .step(Statement::fixed("SELECT pg_terminate_backend(pg_backend_pid())"))
        .step(Statement::fixed("CREATE TABLE public.after (n int)"));
    let tables =
        "SELECT concat_ws(' ', to_regclass('public.before')::text, to_regclass('public.after')::text)";
    for (script, left, what) in [
        (
            suicide.clone().in_transaction(),
            "",
            "of a transaction whose session breaks nothing stays",
        ),
        (
            suicide,
            "public.before",
            "the steps before the break are done, and none after it is run",
        ),
    ] {
        let error = case
            .fails(&script, unknown, Some(1), "a session that ends itself")
            .await;
        assert_eq!(
            error.sqlstate(),
            Some("57P01"),
            "the server's last word is passed on: {error:?}"
        );
        assert_eq!(case.ask(tables).await, left, "{what}");
    }

    let sleeping = case.spawn(case.script("SELECT pg_sleep(30) /* conformance-victim */"));
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                AND state = 'active' AND query LIKE '%conformance-victim%' AND pid <> pg_backend_pid()";
    case.until(kill, "1", "a statement is under way").await;
    match sleeping.await.expect("the script's task ends") {
        Err(error) if (error.kind(), error.step()) == (unknown, Some(0)) => {
            assert_eq!(error.sqlstate(), Some("57P01"), "{error:?}");
        }
        other => panic!("a session that somebody ends: expected {unknown:?}, got {other:?}"),
    }
    assert_eq!(
        case.ask("SELECT 7").await,
        "7",
        "the next script has a session that is alive"
    );
    case.end().await;
}

pub(super) async fn a_caller_that_goes_away(site: &dyn Site) {
    let case = Case::new(site, "goes_away").await;
    case.exec("CREATE TABLE public.t (n int)").await;
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'public.t'::regclass";
    // The server's own limit may have to do; it is part of what the script may take.
    let hold = case
        .within(8_000, "LOCK TABLE public.t")
        .step(Statement::fixed("SELECT pg_sleep(60)"))
        .in_transaction();
    let holder = case.spawn(hold);
    case.until(locked, "1", "a transaction has locked the table")
        .await;

    // Who waits for it in vain hears of it in time, whether the server gives up on the lock or on the
    // statement.
    let insert = case.within(1_000, "INSERT INTO public.t VALUES (1)");
    let started = Instant::now();
    match case.run(&insert).await {
        Err(error)
            if matches!(
                error.kind(),
                SqlErrorKind::Statement | SqlErrorKind::OutcomeUnknown
            ) => {}
        other => panic!("a lock that somebody holds: expected an error, got {other:?}"),
    }
    in_time(started, Duration::from_secs(1), "a lock that somebody holds");

    holder.abort();
    let _ = holder.await;
    case.until(
        locked,
        "0",
        "a script whose caller went away holds no lock for long",
    )
    .await;

    // Nobody gets the answers that the one who went away was to have.
    for _ in 0..3 {
        let asked = case.spawn(case.script("SELECT 'stale' FROM pg_sleep(0.3)"));
        tokio::time::sleep(POLL).await;
        asked.abort();
        let _ = asked.await;
        for _ in 0..3 {
            assert_eq!(
                case.ask("SELECT 'mine'").await,
                "mine",
                "an answer belongs to its own script"
            );
        }
    }
    case.end().await;
}
