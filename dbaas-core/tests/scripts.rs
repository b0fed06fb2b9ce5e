//! Every script that the control plane runs, as text. What PostgreSQL makes of them is tested on real servers (`tests/postgres`).

use std::fmt::Write as _;

use dbaas_core::cluster::{Epoch, Lsn};
use dbaas_core::command;
use dbaas_core::name::{DatabaseName, UserName};
use dbaas_core::plan::DatabaseSource;
use dbaas_core::scram::ScramVerifier;
use dbaas_core::sql_executor::Script;
use dbaas_core::time::Timestamp;
use dbaas_core::version::PostgresMajor;
use uuid::Uuid;

fn show(scripts: &[Script]) -> String {
    let mut text = String::new();
    for script in scripts {
        let Script {
            name,
            steps,
            mode,
            session,
            connect_timeout_ms,
            timeout_ms,
        } = script;
        let _ = writeln!(
            text,
            "{name}: {mode:?}, {session:?} session, {connect_timeout_ms} ms to connect, {timeout_ms} ms in all"
        );
        for step in steps {
            let _ = writeln!(text, "  {:?}: {}", step.expect, step.statement.text());
        }
    }
    text
}

fn verifier() -> ScramVerifier {
    "SCRAM-SHA-256$4096:AQEBAQEBAQEBAQEBAQEBAQ==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        .parse()
        .unwrap()
}

const ID: Uuid = Uuid::from_u128(7);

#[test]
fn roles_of_nodes() {
    let epoch = Epoch(7);
    let names = ["dbaas_n2".to_owned(), "dbaas_n3".to_owned()];
    insta::assert_snapshot!(show(&[
        command::seal(epoch, None),
        command::seal(epoch, Some("ANY 1 (\"closed\")")),
        command::promote(epoch, "ANY 1 (\"closed\")"),
        command::mark_history(epoch),
        command::set_sync_names(epoch, 3, "ANY 1 (\"n2_e7\")"),
        command::follow(epoch, "host='10.0.0.1' port='5432'", "dbaas_n2", None),
        command::follow(
            epoch,
            "host='10.0.0.1' port='5432'",
            "dbaas_n2",
            Some("ANY 1 (\"closed\")")
        ),
        command::checkpoint(),
        command::create_slots(&names),
        command::drop_slots(&names),
        command::own_password(&verifier()),
        command::bootstrap(&verifier(), &verifier(), &names),
        command::observe_node(250),
        command::observe_catalogue(),
    ]));
}

#[test]
fn roles_and_databases_of_tenants() {
    let (user, database) = (UserName::new("its$").unwrap(), DatabaseName::new("Shop").unwrap());
    let mut scripts = vec![
        command::create_role(&user, ID, &verifier()),
        command::alter_role(&user, ID, &verifier()),
        command::lock_out_role(&user, ID),
        command::drop_role_ownership(&user, ID, "heir"),
        command::drop_role(&user, ID),
    ];
    for source in [
        DatabaseSource::Template,
        DatabaseSource::Staged,
        DatabaseSource::Spare,
    ] {
        scripts.extend(command::create_database(&database, ID, &user, source));
    }
    scripts.extend([
        command::alter_database_owner(&database, ID, &user),
        command::drop_database("Shop", ID, true),
        command::drop_database(&command::staging_database_name(ID), ID, false),
    ]);
    insta::assert_snapshot!(show(&scripts));
}

#[test]
fn the_spare_database() {
    let made = |major| {
        let statement = command::create_spare_database(PostgresMajor::new(major).unwrap());
        statement.map(|s| s.text().to_owned())
    };
    assert_eq!(made(14), None);
    for major in [15, 18] {
        assert_eq!(
            made(major).as_deref(),
            Some(
                "CREATE DATABASE \"dbaas-spare\" TEMPLATE template0 ALLOW_CONNECTIONS false OID 16384 STRATEGY file_copy"
            )
        );
    }
}

#[test]
fn answers_are_read() {
    let answer = |text: &str| vec![vec![vec![Some(text.to_owned())]]];
    let catalogue = command::parse_catalogue(&answer(
        r#"{"lsn": "0/10", "roles": [{"name": "app", "verifier_sha256": "ab", "attributes_ok": true, "mark": "dbaas:1"}],
            "databases": [{"name": "shop", "owner": "app", "public_connects": false, "mark": null}]}"#,
    ))
    .unwrap();
    assert_eq!((catalogue.lsn, catalogue.roles.len()), (Lsn(16), 1));
    assert_eq!(catalogue.databases[0].owner, "app");
    let facts = command::parse_node(&answer(
        r#"{"in_recovery": true, "epoch": 3, "history": 2, "lsn": "0/20", "receive_lsn": null, "replay_waits": true, "receiver": null,
            "primary_conninfo": "", "primary_slot": "", "sync_names": "", "setting": 4, "checkpointed": false, "standbys": [], "slots": [],
            "rebuild": 5, "config_hash": "h", "started_at_ms": 1500, "has_replication_role": true}"#,
    ))
    .unwrap();
    assert_eq!(
        (facts.epoch, facts.history, facts.lsn, facts.rebuild),
        (Epoch(3), Epoch(2), Lsn(32), 5)
    );
    assert_eq!(facts.started_at, Timestamp::from_unix_ms(1_500));
    for unreadable in ["", "[]", "{\"lsn\": 1}"] {
        let error = command::parse_catalogue(&answer(unreadable)).unwrap_err();
        assert_eq!(error.script, "observe_catalogue");
        let error = command::parse_node(&answer(unreadable)).unwrap_err();
        assert_eq!(error.script, "observe_node");
    }
}
