//! PostgreSQL reads what we rendered: against real servers.

use std::time::{Duration, Instant};

use crate::throwaway::{Numbers, Throwaway, installations, literal};
use dbaas_core::cluster::Epoch;
use dbaas_core::config::{
    AutoConf, CONFIG_HASH_SETTING, EPOCH_SETTING, HbaRules, PgpassEntry, PrimaryConninfo, Setting, Settings,
    parse_conf, sync_names,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use dbaas_core::version::PostgresMajor;

fn settings(major: u32, (cpu, ram, disk): (u64, u64, u64)) -> Settings {
    Settings::derive(
        PostgresMajor::new(major).unwrap(),
        CpuCores::new(cpu).unwrap(),
        RamMb::new(ram).unwrap(),
        DiskGb::new(disk).unwrap(),
    )
}

const SIZES: [(u64, u64, u64); 5] = [
    (1, 512, 8),
    (2, 2048, 20),
    (4, 16_384, 100),
    (33, 70_001, 999),
    (128, 1_048_576, 1024),
];

/// Values with everything that quoting has to deal with.
fn random_value(numbers: &mut Numbers) -> String {
    let length = numbers.below(20);
    (0..length)
        .map(|_| {
            numbers.pick(&[
                '\'', '\\', '\n', '\r', '\t', '"', '#', '=', ' ', 'a', '0', '7', 'é', '数', '$', '%',
            ])
        })
        .collect()
}

#[test]
fn every_size_is_read_back() {
    for installation in installations("every_size_is_read_back") {
        let server = Throwaway::init(&installation);
        let conf = server.data().join("postgresql.conf");
        for size in SIZES {
            let settings = settings(installation.major, size);
            server.write(&conf, &settings.render());
            for name in [
                "max_connections",
                "max_worker_processes",
                "max_wal_senders",
                "log_line_prefix",
                "dbaas.config_hash",
            ] {
                let data = server.data();
                let output = server
                    .command("postgres")
                    .args(["-D", data.to_str().unwrap(), "-C", name])
                    .output()
                    .unwrap();
                let hash = settings.hash();
                let expected = settings.get(name).unwrap_or(&hash);
                let errors = String::from_utf8_lossy(&output.stderr);
                assert_eq!(
                    String::from_utf8_lossy(&output.stdout),
                    format!("{expected}\n"),
                    "{name} {size:?}: {errors}"
                );
            }
        }
    }
}

#[test]
fn a_server_runs_with_it_and_shows_it() {
    for installation in installations("a_server_runs_with_it_and_shows_it") {
        let mut server = Throwaway::init(&installation);
        let mut settings = settings(installation.major, (2, 1024, 8));
        let mut numbers = Numbers(7);
        let values: Vec<String> = (0..60).map(|_| random_value(&mut numbers)).collect();
        for (i, value) in values.iter().enumerate() {
            settings.set(&format!("x_test.k{i}"), value).unwrap();
        }
        let auto = AutoConf {
            epoch: Epoch(41),
            synchronous_standby_names: Some(sync_names(2, ["a-b_e41", "we\"ird'_e41", "c_e41"])),
            primary_conninfo: Some(conninfo(&server, "standby's \\ \"name\"").render()),
            primary_slot_name: Some("dbaas_n1".into()),
            extra: vec![Setting::new("x_auto.k", "it's").unwrap()],
        };
        let data = server.data();
        server.write(&data.join("postgresql.conf"), &settings.render());
        server.write(&data.join("postgresql.auto.conf"), &auto.render());
        let rules = HbaRules::default().render();
        server.write(
            &data.join("pg_hba.conf"),
            &format!("local all postgres trust\n{rules}"),
        );
        server.start(&[]);

        // Each setting as we wrote it, in order, without an error. Hexadecimal: a value may hold line breaks.
        let rows = server.sql(
            "SELECT name || ' ' || encode(convert_to(setting, 'UTF8'), 'hex') FROM pg_file_settings \
             WHERE sourcefile LIKE '%postgresql.conf' ORDER BY seqno",
        );
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let written = parse_conf(&settings.render()).unwrap();
        let expected: Vec<String> = written
            .iter()
            .map(|s| format!("{} {}", s.name(), hex(s.value())))
            .collect();
        assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
        // The one that the command line set to something else, and that a reload cannot change.
        let errors = server.sql("SELECT name FROM pg_file_settings WHERE error IS NOT NULL");
        assert_eq!(errors, "unix_socket_directories");
        assert_eq!(
            server.sql("SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL"),
            ""
        );
        assert_eq!(
            server.sql("SELECT count(*) FROM pg_hba_file_rules"),
            (1 + rules.lines().filter(|l| !l.starts_with('#')).count()).to_string()
        );

        // What is in effect. Some settings are ours by name only: it must be known which need a restart.
        for (i, value) in values.iter().enumerate() {
            assert_eq!(
                server.sql(&format!(
                    "SELECT encode(convert_to(current_setting('x_test.k{i}'), 'UTF8'), 'hex')"
                )),
                hex(value)
            );
        }
        assert_eq!(
            server.sql(&format!("SHOW {CONFIG_HASH_SETTING}")),
            settings.hash()
        );
        assert_eq!(server.sql(&format!("SHOW {EPOCH_SETTING}")), "41");
        assert_eq!(server.sql("SHOW shared_buffers"), "256MB");
        assert_eq!(
            server.sql("SHOW synchronous_standby_names"),
            auto.synchronous_standby_names.clone().unwrap()
        );
        assert_eq!(
            server.sql("SHOW primary_conninfo"),
            auto.primary_conninfo.clone().unwrap()
        );
        let restart = server.sql("SELECT name FROM pg_settings WHERE context = 'postmaster'");
        let mut other = settings.clone();
        for (name, _) in settings.iter() {
            other.set(name, "other").unwrap();
        }
        let theirs = |name: &&str| restart.lines().any(|line| line == *name);
        let expected: Vec<&str> = settings.iter().map(|(name, _)| name).filter(theirs).collect();
        assert_eq!(settings.needing_restart(&other), expected);

        // ALTER SYSTEM rewrites the file in its own way; we still read it.
        server.sql(&format!("ALTER SYSTEM SET {EPOCH_SETTING} = '42'"));
        server.sql("ALTER SYSTEM RESET primary_conninfo");
        server.sql(&format!(
            "ALTER SYSTEM SET primary_slot_name = {}",
            literal("dbaas_n2")
        ));
        let text = std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
        assert_eq!(AutoConf::parse_epoch(&text), Some(Epoch(42)), "{text}");
        let expected = AutoConf {
            epoch: Epoch(42),
            primary_conninfo: None,
            primary_slot_name: Some("dbaas_n2".into()),
            ..auto
        };
        assert_eq!(AutoConf::parse(&text), Ok(expected), "{text}");
        server.sql("SELECT pg_reload_conf()");
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.sql(&format!("SHOW {EPOCH_SETTING}")) != "42" {
            assert!(Instant::now() < deadline, "the epoch was not reloaded");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A connection string of ours to the throw-away server.
fn conninfo(server: &Throwaway, application_name: &str) -> PrimaryConninfo {
    PrimaryConninfo {
        host: server.root().to_str().unwrap().to_owned(),
        port: 5432,
        user: "dbaas_replication".into(),
        application_name: application_name.to_owned(),
    }
}

#[test]
fn libpq_takes_the_connection_string_and_the_password_file() {
    for installation in installations("libpq_takes_the_connection_string_and_the_password_file") {
        let mut server = Throwaway::init(&installation);
        server.write(
            &server.data().join("pg_hba.conf"),
            "local all postgres trust\nlocal all all scram-sha-256\n",
        );
        server.start(&[]);
        let secret = r"co:lon b\ack 'quote' *";
        server.sql(&format!(
            "CREATE ROLE dbaas_replication LOGIN PASSWORD {}",
            literal(secret)
        ));
        // The server's working directory is its data directory; here it is the root.
        let pgpass = PgpassEntry::for_user("dbaas_replication", Secret::new(secret))
            .render()
            .unwrap();
        server.write(&server.root().join("dbaas.pgpass"), pgpass.expose());
        for name in [
            "n1_e5",
            "it's",
            r"back\slash \' \\",
            "double \" quote",
            "a = b host=x",
        ] {
            let conninfo = conninfo(&server, name);
            let mut psql = server.command("psql");
            let target = format!("{} dbname=postgres", conninfo.render());
            psql.args(["-XAtqw", "-c", "SHOW application_name", "-d", &target]);
            let output = psql.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                format!("{name}\n"),
                "{errors}"
            );
        }
    }
}

/// Boot closed: without a backend's command line the server does not even start.
#[test]
fn without_a_command_line_it_listens_nowhere() {
    for installation in installations("without_a_command_line_it_listens_nowhere") {
        let server = Throwaway::init(&installation);
        let data = server.data();
        server.write(
            &data.join("postgresql.conf"),
            &settings(installation.major, (1, 512, 8)).render(),
        );
        let mut postgres = server.command("postgres");
        let mut child = postgres
            .args(["-D", data.to_str().unwrap()])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill().unwrap();
                    panic!("it runs");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let output = child.wait_with_output().unwrap();
        assert!(!status.success());
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("no socket created"),
            "{:?}",
            output.stderr
        );
    }
}
