//! Every script that the control plane runs, as text. What PostgreSQL makes of them is tested on real servers
//! (`tests/postgres`).

use std::fmt::Write as _;

use dbaas_core::cluster::{Epoch, Lsn};
use dbaas_core::command::{self, Obstacles};
use dbaas_core::config::{Configuration, HbaRules, Settings};
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::name::{DatabaseName, UserName};
use dbaas_core::plan::{DatabaseSource, GoneObject, Heir, Inheritance, Registered, RoleRef, Transfer};
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
            lock_timeout_ms,
            // How it is sent, not what: the same answers either way.
            is_repeated: _,
        } = script;
        let lock = lock_timeout_ms.map_or_else(String::new, |ms| format!(", {ms} ms for a lock"));
        let _ = writeln!(
            text,
            "{name}: {mode:?}, {session:?} session, {connect_timeout_ms} ms to connect, {timeout_ms} ms in all{lock}"
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

/// The smallest.
fn configuration() -> Configuration {
    let size = || {
        Some((
            1u64.try_into().ok()?,
            512u64.try_into().ok()?,
            8u64.try_into().ok()?,
        ))
    };
    let (cpu, ram, disk) = size().unwrap();
    Configuration {
        settings: Settings::derive(PostgresMajor::new(15).unwrap(), cpu, ram, disk),
        hba: HbaRules::loopback(),
    }
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
        command::reconfigure(epoch, &configuration()),
        command::checkpoint(),
        command::try_service(),
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
    let role = |name: &str, oid| RoleRef {
        name: name.to_owned(),
        oid,
    };
    let (role, other) = (role("its$", 17), role("other", 18));
    let inheritance = |heir| Inheritance {
        database: "Shop".to_owned(),
        oid: 19,
        heir,
        closed: false,
    };
    let transfer = Transfer {
        name: "Shop".to_owned(),
        oid: 19,
        from: role.clone(),
        to: other.clone(),
        others: vec!["Blog".to_owned()],
        closed: false,
    };
    let known = [
        (GoneObject::User(UserId::from_uuid(ID)), "its$"),
        (GoneObject::Database(DatabaseId::from_uuid(ID)), "Shop"),
    ]
    .map(|(id, name)| Registered {
        id,
        name: name.to_owned(),
    });
    let mut scripts = vec![
        command::create_role(&user, ID, &verifier()),
        command::alter_role(&user, ID, &verifier()),
        command::lock_out_role("its$", ID),
        command::disown_role("its$", ID),
        command::inherit_from_role(&role, &inheritance(Heir::Nobody)),
        command::inherit_from_role(&role, &inheritance(Heir::Owner(other.clone()))),
        command::release_shared(&role, ID),
        command::release_from_role(&role, &inheritance(Heir::Owner(other.clone()))),
        command::lock_holders("its$"),
        command::drop_role("its$", UserId::from_uuid(ID)),
    ];
    for source in [
        DatabaseSource::Template,
        DatabaseSource::Staged,
        DatabaseSource::Spare,
    ] {
        scripts.extend(command::create_database(&database, ID, &user, source));
    }
    scripts.extend([
        command::alter_database_owner(&database, ID, &user, ID, &["mid".to_owned()]),
        command::end_sessions_without_right("Shop", ID),
        command::transfer_objects(&transfer),
        command::drop_database("Shop", DatabaseId::from_uuid(ID), true),
        command::release_to_owner(&transfer),
        command::sessions_in("Shop"),
        command::database_obstacles("Shop"),
        command::allow_connections(19, "Shop", true),
        command::allow_connections(19, "Shop", false),
        command::clear_database(
            "Shop",
            &Obstacles {
                subscriptions: vec!["sub".to_owned()],
                prepared: vec!["it's".to_owned()],
                ..Obstacles::default()
            },
        ),
        command::drop_database(
            &command::staging_database_name(ID),
            DatabaseId::from_uuid(ID),
            false,
        ),
        command::make_register(&known),
        command::adopt_role("its$", UserId::from_uuid(ID)),
        command::adopt_database("Shop", DatabaseId::from_uuid(ID)),
        command::forget(known[0].id),
        command::forget(known[1].id),
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
        r#"{"lsn": "0/10", "roles": [{"name": "app", "oid": 4000000000, "verifier_sha256": "ab", "attributes_ok": true,
            "id": "00000000-0000-0000-0000-000000000007"}], "databases": [{"name": "shop", "oid": 5, "owner": "app", "allows_connections": true,
            "public_connects": true, "public_grantors": ["mid"], "owners": [], "involved": [6], "id": null}],
            "lost": ["00000000-0000-0000-0000-000000000008"]}"#,
    ))
    .unwrap();
    assert_eq!((catalogue.lsn, catalogue.roles.len()), (Lsn(16), 1));
    assert_eq!(catalogue.databases[0].owner, "app");
    assert_eq!(catalogue.role(ID).map(|role| role.oid), Some(4_000_000_000));
    assert_eq!(catalogue.lost, [Uuid::from_u128(8)]);
    let facts = command::parse_node(&answer(
        r#"{"in_recovery": true, "epoch": 3, "history": 2, "lsn": "0/20", "receive_lsn": null, "replay_waits": true, "receiver": null,
            "primary_conninfo": "", "primary_slot": "", "sync_names": "", "setting": 4, "checkpointed": false, "standbys": [], "slots": [],
            "rebuild": 5, "config_hash": "h", "pending_restart": ["port"], "started_at_ms": 1500, "has_replication_role": true,
            "has_register": true}"#,
    ))
    .unwrap();
    assert_eq!(
        (facts.epoch, facts.history, facts.lsn, facts.rebuild),
        (Epoch(3), Epoch(2), Lsn(32), 5)
    );
    assert_eq!(facts.pending_restart, ["port"]);
    assert_eq!(facts.started_at, Timestamp::from_unix_ms(1_500));
    for unreadable in ["", "[]", "{\"lsn\": 1}"] {
        let error = command::parse_catalogue(&answer(unreadable)).unwrap_err();
        assert_eq!(error.script, "observe_catalogue");
        let error = command::parse_node(&answer(unreadable)).unwrap_err();
        assert_eq!(error.script, "observe_node");
    }
}
