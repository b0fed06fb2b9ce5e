//! What is pinned for every session, whatever the server, the database or the role says.

use std::time::Instant;

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{LEFT_ALONE, SESSION_SETTINGS, SqlErrorKind};

use super::{Case, POLL, Site};

pub(super) async fn pinned_settings(site: &dyn Site) {
    let case = Case::new(site, "settings").await;
    check(&case, "of a database that says nothing").await;

    // What the owner of a database, or somebody with CREATEROLE, may set must not reach the control plane's
    // sessions.
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

/// Strings that a login, or a statement, would stumble over; others of their kind get `conformance`.
const HOSTILE: [(&str, &str); 14] = [
    ("DateStyle", "German, DMY"),
    ("TimeZone", "Asia/Tokyo"),
    ("client_encoding", "LATIN1"),
    ("createrole_self_grant", "set, inherit"),
    ("default_table_access_method", "heap"),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_monetary", "POSIX"),
    ("lc_numeric", "POSIX"),
    ("lc_time", "POSIX"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ("role", "conformance_owner"),
    ("search_path", "public, pg_catalog"),
    ("session_authorization", "conformance_owner"),
    ("timezone_abbreviations", "India"),
];

/// As its owner, puts a value of its own on every setting of a database that an owner may set, and looks what
/// comes of it.
pub(super) async fn no_setting_of_a_database_reaches_a_session(site: &dyn Site) {
    let case = Case::new(site, "every_setting").await;
    let admin = super::Admin::new(site);
    let settings = case
        .good(&case.script(
            "SELECT name, vartype, setting, coalesce(min_val, ''), coalesce(max_val, ''), \
             coalesce((SELECT v FROM unnest(enumvals) v WHERE v <> setting LIMIT 1), '') \
             FROM pg_settings WHERE context = 'user' \
             UNION ALL SELECT v, 'string', '', '', '', '' FROM unnest(ARRAY['role', 'session_authorization']) v \
             UNION ALL SELECT 'plpgsql.extra_errors', 'string', '', '', '', ''",
        ))
        .await
        .remove(0);
    let owner = "conformance_owner";
    admin
        .run(Statement::fixed("DROP ROLE IF EXISTS ").ident(owner))
        .await;
    admin.run(Statement::fixed("CREATE ROLE ").ident(owner)).await;
    let of_database = |what: &'static str| Statement::fixed(what).ident(&case.target.database);
    admin
        .run(of_database("ALTER DATABASE ").raw(" OWNER TO ").ident(owner))
        .await;
    let mut was_set = Vec::new();
    for row in &settings {
        let [name, kind, now, least, most, other] = row.as_slice() else {
            panic!("six columns were asked for: {row:?}");
        };
        let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
        let (name, now) = (text(name), text(now));
        let hostile = HOSTILE
            .iter()
            .find(|(of, _)| *of == name)
            .map(|(_, value)| (*value).to_owned());
        let value = hostile.unwrap_or_else(|| match text(kind).as_str() {
            "bool" if now == "on" => "off".to_owned(),
            "bool" => "on".to_owned(),
            "enum" => text(other),
            "string" if name == "plpgsql.extra_errors" => "all".to_owned(),
            "string" => "conformance".to_owned(),
            _ if now != "1" && text(least).parse::<f64>().is_ok_and(|least| least <= 1.0) => {
                let one_is_less = text(most).parse::<f64>().is_ok_and(|most| most < 1.0);
                if one_is_less { text(most) } else { "1".to_owned() }
            }
            _ => text(most),
        });
        // From the database that all are in, as the owner of the other one.
        let set = super::patient(site, Statement::fixed("SET LOCAL ROLE ").ident(owner))
            .step(
                of_database("ALTER DATABASE ")
                    .raw(" SET ")
                    .ident(&name)
                    .raw(" = ")
                    .literal(&value),
            )
            .in_transaction();
        // Those that an owner may not set are no matter.
        if admin.executor.run(&site.target(), &set).await.is_ok() {
            was_set.push(name);
        }
    }
    let few = was_set.len();
    assert!(
        few > 80,
        "an owner may set many settings, of {} only {few} were",
        settings.len()
    );

    case.executor.forget(&case.target.endpoint);
    // Nothing is known of the server, then something is.
    for whose in ["the first", "the second"] {
        let session = format!("{whose} session in a database that sets all that it can");
        let users = case.script(
            "SELECT concat_ws(' ', session_user = current_user, session_user, \
             (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))",
        );
        let wanted = format!("t {} t", case.target.user);
        assert_eq!(case.value(&users).await, wanted, "{session} is ours");
        for setting in SESSION_SETTINGS.iter().filter(|s| s.name != "search_path") {
            let show = super::patient(
                site,
                // Where the version does not have it, it is as wanted.
                Statement::fixed("SELECT coalesce(current_setting(")
                    .literal(setting.name)
                    .raw(", true), ")
                    .literal(setting.value)
                    .raw(")"),
            );
            let seen = case.value(&show.on_fresh_session()).await;
            // Zero is the operating system's, which some servers show instead.
            let system = setting.name.starts_with("tcp_keepalives") && seen != "1";
            let same = system || seen == setting.value || same_time(&seen, setting.value);
            assert!(
                same,
                "{} is {seen}, not {}, in {session}",
                setting.name, setting.value
            );
        }
        for (setting, least) in [
            ("statement_timeout", 1_000),
            ("lock_timeout", 1_000),
            ("idle_session_timeout", 1_000),
        ] {
            let show = Statement::fixed("SELECT setting FROM pg_settings WHERE name = ").literal(setting);
            let seen: u64 = case
                .value(&super::patient(site, show))
                .await
                .parse()
                .unwrap_or_default();
            assert!(seen >= least, "{setting} is {seen} ms in {session}");
        }
        case.executor.forget(&case.target.endpoint);
    }
    let reached = case
        .good(
            &case
                .script("SELECT name FROM pg_settings WHERE source IN ('database', 'user', 'database user')"),
        )
        .await
        .remove(0);
    for name in reached.into_iter().flatten().flatten() {
        assert!(
            LEFT_ALONE.contains(&name.as_str()),
            "{name} of the database reaches a session: it belongs into SESSION_SETTINGS or LEFT_ALONE"
        );
    }
    // An error is an error, and the session's log-in is nobody's who was granted the role.
    case.fails(
        &case.script("SELECT 1/0"),
        SqlErrorKind::Statement,
        Some(0),
        "a statement that fails there",
    )
    .await;
    case.exec("DO $$ DECLARE n int; BEGIN DECLARE n int; BEGIN n := 1; END; END $$")
        .await;
    case.end().await;
    admin.run(Statement::fixed("DROP ROLE ").ident(owner)).await;
}

/// PostgreSQL shows ten seconds as `10s`.
fn same_time(seen: &str, wanted: &str) -> bool {
    let seconds = seen.strip_suffix('s').and_then(|s| s.parse::<u64>().ok());
    seconds.is_some_and(|s| wanted.parse::<u64>() == Ok(s * 1_000))
}

pub(super) async fn a_fresh_session_has_the_settings_of_now(site: &dyn Site) {
    let case = Case::new(site, "settings_of_now").await;
    let show = case.script("SHOW random_page_cost").on_fresh_session();
    let before = case.value(&show).await;
    for (change, wanted) in [
        ("ALTER SYSTEM SET random_page_cost = 7", "7"),
        ("ALTER SYSTEM RESET random_page_cost", before.as_str()),
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
                "expected that a fresh session has the postmaster's random_page_cost, {wanted}; it has {seen}"
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
