//! Servers that let nobody in, and endpoints where there is none.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlError, SqlErrorKind, SqlTarget};

use super::{Case, POLL, Site, in_time, skipped};

/// The script fails before any step, with one of these kinds.
async fn no_session(
    case: &Case<'_>,
    target: &SqlTarget,
    script: &Script,
    kinds: &[SqlErrorKind],
    what: &str,
) -> SqlError {
    match case.executor.run(target, script).await {
        Err(error) if kinds.contains(&error.kind()) && error.step().is_none() => {
            let password = target.password.expose();
            assert!(
                !format!("{error} {error:?}").contains(password),
                "{what}: no error holds a password"
            );
            error
        }
        other => panic!("{what}: expected one of {kinds:?} before any step, got {other:?}"),
    }
}

pub(super) async fn logins(site: &dyn Site) {
    let case = Case::new(site, "logins").await;
    let drop = "DROP ROLE IF EXISTS conformance_no_login";
    case.exec(drop).await;
    case.exec("CREATE ROLE conformance_no_login NOLOGIN PASSWORD 'conformance-secret'")
        .await;
    let of = |user: &str, password: &str| SqlTarget {
        user: user.to_owned(),
        password: Secret::new(password),
        ..case.target.clone()
    };
    let select = case.script("SELECT 1");
    for (target, sqlstate, what) in [
        (
            of(&case.target.user, "conformance-wrong"),
            "28P01",
            "a wrong password",
        ),
        (
            of("conformance_nobody", "conformance-secret"),
            "28P01",
            "a role that does not exist",
        ),
        (
            of("conformance_no_login", "conformance-secret"),
            "28000",
            "a role that may not log in",
        ),
    ] {
        let error = no_session(&case, &target, &select, &[SqlErrorKind::Login], what).await;
        assert_eq!(error.sqlstate(), Some(sqlstate), "{what}: {error:?}");
    }
    let nowhere = SqlTarget {
        database: "conformance_nowhere".to_owned(),
        ..case.target.clone()
    };
    let what = "a database that does not exist";
    let error = no_session(&case, &nowhere, &select, &[SqlErrorKind::Statement], what).await;
    assert_eq!(error.sqlstate(), Some("3D000"), "{what}: {error:?}");
    case.exec(drop).await;
    case.end().await;
}

fn elsewhere(case: &Case<'_>, host: &str, port: u16) -> SqlTarget {
    SqlTarget {
        endpoint: Endpoint {
            host: host.to_owned(),
            port,
        },
        ..case.target.clone()
    }
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of this machine");
    let port = listener.local_addr().expect("it has an address").port();
    (listener, port)
}

pub(super) async fn nobody_there(site: &dyn Site) {
    let case = Case::new(site, "nobody_there").await;
    let script = case.script("SELECT 1").within_ms(1_000, 1_000);
    let refused = &[SqlErrorKind::Refused];
    let timeout = &[SqlErrorKind::ConnectTimeout];
    let either = &[SqlErrorKind::Refused, SqlErrorKind::ConnectTimeout];

    let (listener, port) = listen();
    drop(listener);
    let (_silent, silent) = listen();
    for (host, port, kinds, what) in [
        ("127.0.0.1", port, &refused[..], "a port that nobody listens at"),
        (
            "127.0.0.1",
            silent,
            &timeout[..],
            "something that takes connections and says nothing",
        ),
        // Of an address block that is for documentation (RFC 5737) and routed nowhere.
        ("192.0.2.1", 5432, &either[..], "a host that does not exist"),
    ] {
        let started = Instant::now();
        let error = no_session(&case, &elsewhere(&case, host, port), &script, kinds, what).await;
        in_time(started, Duration::from_secs(1), what);
        assert_eq!(
            error.sqlstate(),
            None,
            "{what}: no server has said anything: {error:?}"
        );
    }
    case.end().await;
}

/// A port forwarder whose server is gone accepts and hangs up; something else may listen on what was a node's
/// port.
pub(super) async fn something_else_listens(site: &dyn Site) {
    let case = Case::new(site, "something_else").await;
    let script = case.script("SELECT 1").within_ms(1_000, 1_000);
    let kinds = &[SqlErrorKind::Refused, SqlErrorKind::ConnectTimeout];
    for greeting in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let (listener, port) = listen();
        let other = std::thread::spawn(move || {
            // As many connections as it takes: an executor may try more than once.
            let deadline = Instant::now() + Duration::from_secs(1);
            listener.set_nonblocking(true).expect("a listener that polls");
            while Instant::now() < deadline {
                if let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.write_all(greeting);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let what = format!("something that answers {greeting:?}");
        no_session(&case, &elsewhere(&case, "127.0.0.1", port), &script, kinds, &what).await;
        other.join().expect("the listener ends");
    }
    case.end().await;
}

pub(super) async fn a_server_that_starts_up(site: &dyn Site) {
    let Some(target) = site.starting_up().await else {
        return skipped("a server that is starting up: the site has none");
    };
    let case = Case::new(site, "starts_up").await;
    let deadline = Instant::now() + site.patience();
    let kinds = &[SqlErrorKind::Refused, SqlErrorKind::NotReady];
    let error = loop {
        let what = "a server that is starting up";
        let error = no_session(&case, &target, &case.script("SELECT 1"), kinds, what).await;
        if error.kind() == SqlErrorKind::NotReady {
            break error;
        }
        assert!(Instant::now() < deadline, "{what}: it does not listen: {error:?}");
        tokio::time::sleep(POLL).await;
    };
    assert_eq!(error.sqlstate(), Some("57P03"), "{error:?}");
    case.end().await;
}

pub(super) async fn no_connection_slot_is_left(site: &dyn Site) {
    let case = Case::new(site, "slots").await;
    let slots = case.ask("SHOW max_connections").await;
    let Some(slots) = slots.parse::<usize>().ok().filter(|slots| *slots <= 50) else {
        skipped("a server out of connection slots: max_connections is above 50");
        return case.end().await;
    };
    let sleepers: Vec<_> = (0..slots)
        .map(|_| case.spawn(case.script("SELECT pg_sleep(20)").on_fresh_session()))
        .collect();
    let deadline = Instant::now() + site.patience();
    let fresh = case.script("SELECT 1").on_fresh_session();
    let error = loop {
        if let Err(error) = case.run(&fresh).await {
            break error;
        }
        assert!(
            Instant::now() < deadline,
            "expected that {slots} sessions are all there are"
        );
    };
    let expected = (SqlErrorKind::NotReady, Some("53300"), None);
    assert_eq!(
        (error.kind(), error.sqlstate(), error.step()),
        expected,
        "{error:?}"
    );
    for sleeper in sleepers {
        if !sleeper.is_finished() {
            sleeper.abort();
            continue;
        }
        // Some of them may have come too late for a slot.
        if let Err(error) = sleeper.await.expect("the script's task ends") {
            assert_eq!(
                (error.kind(), error.sqlstate(), error.step()),
                expected,
                "{error:?}"
            );
        }
    }
    case.end().await;
}

pub(super) async fn a_frozen_server(site: &dyn Site) {
    let case = Case::new(site, "frozen").await;
    case.exec("CREATE TABLE public.t (n int)").await;
    if !site.freeze().await {
        skipped("a frozen server: the site cannot freeze it");
        return case.end().await;
    }
    let insert = case
        .script("INSERT INTO public.t VALUES (1)")
        .within_ms(1_000, 1_000);
    let started = Instant::now();
    // Sent on a session that was kept, or there was no session to send it on.
    let any = case.run(&insert).await;
    let fresh = case.run(&insert.clone().on_fresh_session()).await;
    let elapsed = started.elapsed();
    // Whatever comes of it, the server is not left frozen.
    site.thaw().await;
    match any.map_err(|error| (error.kind(), error.step())) {
        Err((SqlErrorKind::OutcomeUnknown, Some(0)) | (SqlErrorKind::ConnectTimeout, None)) => {}
        other => panic!("a frozen server: expected OutcomeUnknown or ConnectTimeout, got {other:?}"),
    }
    match fresh.map_err(|error| (error.kind(), error.step())) {
        Err((SqlErrorKind::ConnectTimeout, None)) => {}
        other => panic!("a fresh session to a frozen server: expected ConnectTimeout, got {other:?}"),
    }
    assert!(
        elapsed < Duration::from_secs(4) + super::SLACK,
        "a frozen server holds nobody up beyond the deadline; took {elapsed:?}"
    );
    let thawed = case
        .script("SELECT count(*) < 2 FROM public.t")
        .step(Statement::fixed("SELECT 7"));
    assert_eq!(
        case.value(&thawed).await,
        "7",
        "a server that was frozen is one again"
    );
    case.end().await;
}
