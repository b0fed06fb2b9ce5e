//! What is pinned for every session, whatever the server, the database or the role says.

use std::time::Instant;

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::SqlErrorKind;

use super::{Case, POLL, Site};

pub(super) async fn pinned_settings(site: &dyn Site) {
    let case = Case::new(site, "settings").await;
    check(&case, "of a database that says nothing").await;

    // What the owner of a database, or somebody with CREATEROLE, may set must not reach the control plane's sessions.
    let database = case.target.database.as_str();
    let of_database = Statement::fixed("ALTER DATABASE ").ident(database).raw(" SET ");
    let of_all = Statement::fixed("ALTER ROLE ALL IN DATABASE ")
        .ident(database)
        .raw(" SET ");
    let of_role = Statement::fixed("ALTER ROLE ")
        .ident(&case.target.user)
        .raw(" IN DATABASE ")
        .ident(database)
        .raw(" SET ");
    for place in [of_database, of_all, of_role] {
        for setting in [
            "search_path = public, pg_catalog",
            "synchronous_commit = remote_apply",
            "application_name = 'somebody'",
            "log_statement = 'all'",
            "log_min_error_statement = 'error'",
        ] {
            let hostile = super::patient(site, place.clone().raw(setting));
            case.good(&hostile).await;
        }
    }
    // A session of before has the settings of before.
    case.executor.forget(&case.target.endpoint);
    check(&case, "of a database and a role that set others").await;

    // What an unqualified name means is the point of it.
    case.exec("CREATE FUNCTION public.upper(name) RETURNS text LANGUAGE sql AS $$SELECT 'hijacked'$$")
        .await;
    assert_eq!(
        case.ask("SELECT upper('x'::name)").await,
        "X",
        "an unqualified name means what pg_catalog has under it"
    );
    case.end().await;
}

async fn check(case: &Case<'_>, whose: &str) {
    for (setting, wanted) in [
        ("SHOW search_path", "pg_catalog"),
        ("SHOW synchronous_commit", "local"),
        ("SHOW application_name", "dbaas_controller"),
        (
            "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
            "dbaas_controller",
        ),
        ("SHOW log_statement", "none"),
        ("SHOW log_min_error_statement", "panic"),
    ] {
        for script in [
            case.script(setting),
            case.script(setting).in_transaction(),
            case.script(setting).on_fresh_session(),
        ] {
            assert_eq!(
                case.value(&script).await,
                wanted,
                "{setting}, in a session {whose}"
            );
        }
    }
}

pub(super) async fn a_fresh_session_has_the_settings_of_now(site: &dyn Site) {
    let case = Case::new(site, "settings_of_now").await;
    let show = case.script("SHOW work_mem").on_fresh_session();
    let before = case.value(&show).await;
    for (change, wanted) in [
        ("ALTER SYSTEM SET work_mem = '7MB'", "7MB"),
        ("ALTER SYSTEM RESET work_mem", before.as_str()),
    ] {
        let set = case
            .script(change)
            .guard(Statement::fixed("SELECT pg_reload_conf()"));
        case.good(&set).await;
        // The postmaster takes some milliseconds to reload.
        let deadline = Instant::now() + site.patience();
        loop {
            let seen = case.value(&show).await;
            if seen == wanted {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "expected that a fresh session has the postmaster's work_mem, {wanted}; it has {seen}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
    case.end().await;
}

pub(super) async fn commits_wait_for_no_standby(site: &dyn Site) {
    let case = Case::new(site, "local_commits").await;
    case.exec("CREATE TABLE public.t (n int)").await;
    let nobody = case
        .script("ALTER SYSTEM SET synchronous_standby_names = 'conformance_nobody'")
        .guard(Statement::fixed("SELECT pg_reload_conf()"));
    case.good(&nobody).await;

    // Who asks for it does wait, or nothing would be shown; once the server has taken the setting over.
    let waiting = case
        .within(1_000, "SET LOCAL synchronous_commit = on")
        .step(Statement::fixed("INSERT INTO public.t VALUES (0)"))
        .in_transaction();
    let deadline = Instant::now() + site.patience();
    loop {
        match case.run(&waiting).await {
            Ok(_) => assert!(
                Instant::now() < deadline,
                "the server does not wait for a standby that does not exist: nothing to test against"
            ),
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    SqlErrorKind::OutcomeUnknown,
                    "a commit without an answer: {error:?}"
                );
                break;
            }
        }
        tokio::time::sleep(POLL).await;
    }

    let insert = case.within(10_000, "INSERT INTO public.t VALUES (1)");
    for script in [
        insert.clone(),
        insert.clone().in_transaction(),
        insert.on_fresh_session(),
    ] {
        let result = case.run(&script).await;
        assert!(
            result.is_ok(),
            "expected that a commit of the controller waits for no standby: {result:?}"
        );
    }
    assert_eq!(case.ask("SELECT count(*) FROM public.t WHERE n = 1").await, "3");
    let reset = case
        .script("ALTER SYSTEM RESET synchronous_standby_names")
        .guard(Statement::fixed("SELECT pg_reload_conf()"));
    case.good(&reset).await;
    case.end().await;
}
