//! Sealing does not wait for queries: on a real primary and a real standby.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::throwaway::{Installation, Throwaway, installations};
use dbaas_core::cluster::Epoch;
use dbaas_core::command::seal;

/// Longer than the test waits for anything: only a conflict that is ended is over before.
const PATIENCE: &str = "max_standby_streaming_delay=10min";
const DEADLINE: Duration = Duration::from_secs(30);

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A primary and a standby that follows it.
fn pair(installation: &Installation) -> (Throwaway, Throwaway) {
    let mut primary = Throwaway::init(installation);
    primary.start(&["-c", "wal_level=replica", "-c", "autovacuum=off"]);
    primary.sql(
        "CREATE ROLE dbaas_admin SUPERUSER LOGIN; CREATE TABLE t AS SELECT generate_series(1, 1000) AS i",
    );
    let mut standby = Throwaway::copy_of(&primary);
    standby.start(&[
        "-c",
        PATIENCE,
        "-c",
        "hot_standby_feedback=off",
        "-c",
        "dbaas.epoch=1",
    ]);
    eventually("it streams", || {
        standby.sql("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == "1"
    });
    (primary, standby)
}

/// A client that runs this on the standby and then goes on for long.
fn client(standby: &Throwaway, sql: &str) -> Child {
    let mut command = standby.command("psql");
    let socket = standby.root().to_str().unwrap();
    command.args(["-XAtq", "-d", "postgres", "-U", "postgres", "-h", socket]);
    command.args(["-c", &format!("{sql}; SELECT pg_sleep(600)")]);
    let client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let client = client.unwrap();
    eventually("the client runs", || {
        standby.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
    });
    client
}

/// Runs the script that ships, as who runs it.
fn run_seal(standby: &Throwaway) {
    let script = seal(Epoch(2), None);
    let text: Vec<&str> = script.steps.iter().map(|s| s.statement.text()).collect();
    let output = standby.psql("dbaas_admin", &[], &text.join(";\n"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn sealing_ends_what_holds_replay_up() {
    for installation in installations("sealing_ends_what_holds_replay_up") {
        // A snapshot that needs rows that are vacuumed away, and a lock on a table that is dropped.
        let conflicts = [
            (
                "SET default_transaction_isolation = 'repeatable read'; BEGIN; SELECT count(*) FROM t",
                "DELETE FROM t; VACUUM t",
            ),
            ("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE", "DROP TABLE t"),
        ];
        for (reads, writes) in conflicts {
            let (primary, standby) = pair(&installation);
            let mut reader = client(&standby, reads);
            for statement in writes.split(';') {
                primary.sql(statement);
            }
            primary.sql("CREATE TABLE after()");
            let end = primary.sql("SELECT pg_current_wal_flush_lsn()");
            eventually("everything arrives", || {
                standby.sql(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'")) == "t"
            });
            let replayed = || standby.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")) == "t";
            std::thread::sleep(Duration::from_millis(300));
            assert!(
                !replayed(),
                "{writes}: nothing holds replay up, so that nothing is shown"
            );
            let started = Instant::now();
            eventually("replay comes to its end", || {
                run_seal(&standby);
                replayed()
            });
            // Not a matter of luck: the delay alone would have been ten minutes.
            assert!(started.elapsed() < DEADLINE);
            assert_eq!(standby.sql("SELECT to_regclass('after') IS NOT NULL"), "t");
            reader.kill().unwrap();
            reader.wait().unwrap();
        }
    }
}

#[test]
fn sealing_leaves_queries_alone_that_hold_nothing_up() {
    for installation in installations("sealing_leaves_queries_alone_that_hold_nothing_up") {
        let (_primary, standby) = pair(&installation);
        let mut reader = client(&standby, "BEGIN; SELECT count(*) FROM t");
        run_seal(&standby);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            standby.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
            "1"
        );
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
}
