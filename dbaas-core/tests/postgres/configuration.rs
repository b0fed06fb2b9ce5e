//! PostgreSQL reads what we rendered: against real servers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::throwaway::{Throwaway, hold, installations, literal};
use dbaas_core::boot::{ADMIN_ROLE, REPLICATION_ROLE};
use dbaas_core::cluster::Epoch;
use dbaas_core::config::{
    AutoConf, CONFIG_HASH_SETTING, Cidr, EPOCH_SETTING, HbaRules, PgpassEntry, PrimaryConninfo, Setting,
    Settings, parse_conf, render_setting, sync_names,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use dbaas_core::version::PostgresMajor;
use proptest::prelude::*;

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
fn value() -> impl Strategy<Value = String> {
    const ODD: &[char] = &[
        '\'', '\\', '\n', '\r', '\t', '"', '#', '=', ' ', 'a', '0', '7', 'é', '数', '$', '%',
    ];
    let odd = prop::collection::vec(prop::sample::select(ODD), 0..20);
    odd.prop_map(|characters| characters.into_iter().collect())
}

#[test]
fn every_size_is_read_back() {
    for installation in installations("every_size_is_read_back") {
        let server = Throwaway::init(&installation);
        let conf = server.data().join("postgresql.conf");
        for size in SIZES {
            let settings = settings(installation.major, size);
            server.write(&conf, &settings.render("0123"));
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
                let expected = settings.get(name).unwrap_or("0123");
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

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn any_value_is_read_back() {
    for installation in installations("any_value_is_read_back") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let file = server.data().join("values.conf");
        let main = server.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&main).unwrap();
        server.write(&main, &format!("{text}\ninclude 'values.conf'\n"));
        hold(4, prop::collection::vec(value(), 1..60), |values| {
            let lines = values.iter().enumerate();
            let lines: String = lines
                .map(|(i, value)| render_setting(&format!("x_test.k{i}"), value))
                .collect();
            server.write(&file, &lines);
            let rows = server.sql(
                "SELECT name || ' ' || encode(convert_to(setting, 'UTF8'), 'hex') FROM pg_file_settings \
                 WHERE sourcefile LIKE '%values.conf' AND error IS NULL ORDER BY seqno",
            );
            let expected = values
                .iter()
                .enumerate()
                .map(|(i, value)| format!("x_test.k{i} {}", hex(value)));
            assert_eq!(rows.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        });
    }
}

/// A network in the way that `pg_hba_file_rules` shows it.
fn shown(cidr: &Cidr) -> (String, String) {
    let text = cidr.to_string();
    let (address, prefix) = text.split_once('/').unwrap();
    let bits: u32 = prefix.parse().unwrap();
    let mask = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(_) => IpAddr::V4(u32::MAX.checked_shl(32 - bits).unwrap_or(0).into()),
        IpAddr::V6(_) => IpAddr::V6(u128::MAX.checked_shl(128 - bits).unwrap_or(0).into()),
    };
    (address.to_owned(), mask.to_string())
}

fn network() -> impl Strategy<Value = Cidr> {
    let v4 = (any::<u32>(), 0..=32u32).prop_map(|(address, bits)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        Cidr::new(IpAddr::V4((address & mask).into()), bits as u8).unwrap()
    });
    let v6 = (any::<u128>(), 0..=128u32).prop_map(|(address, bits)| {
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        Cidr::new(IpAddr::V6((address & mask).into()), bits as u8).unwrap()
    });
    prop_oneof![v4, v6]
}

/// Each line of `pg_hba.conf` as it was meant: who, into what, from where, and how.
#[test]
fn any_rules_of_access_are_read_back() {
    for installation in installations("any_rules_of_access_are_read_back") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let file = server.data().join("pg_hba.conf");
        let networks = || prop::collection::vec(network(), 0..4);
        hold(
            40,
            (networks(), networks(), networks()),
            |(control, peers, clients)| {
                let mut expected = vec![format!("local|all|{ADMIN_ROLE}|||scram-sha-256")];
                let mut allow = |database: &str, role: &str, networks: &[Cidr]| {
                    expected.extend(networks.iter().map(|network| {
                        let (address, mask) = shown(network);
                        format!("host|{database}|{role}|{address}|{mask}|scram-sha-256")
                    }));
                };
                allow("all", ADMIN_ROLE, &control);
                allow("replication", REPLICATION_ROLE, &peers);
                allow("postgres", REPLICATION_ROLE, &peers);
                allow("all", "all", &clients);
                let rules = HbaRules {
                    control,
                    peers,
                    clients,
                }
                .render();
                // Loaded by nobody: the view reads the file.
                server.write(&file, &rules);
                let errors =
                    server.sql("SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL");
                assert_eq!(errors, "", "{rules}");
                let rows = server.sql(
                "SELECT concat_ws('|', type, array_to_string(database, ','), array_to_string(user_name, ','), \
                 coalesce(address, ''), coalesce(netmask, ''), auth_method) FROM pg_hba_file_rules \
                 WHERE auth_method <> 'reject' ORDER BY line_number",
            );
                assert_eq!(rows.lines().collect::<Vec<_>>(), expected, "{rules}");
                // What is not allowed by then is refused: each of our roles before anybody else is let in,
                // and everybody in the end.
                let rejected = server.sql(
                "SELECT string_agg(array_to_string(database, ',') || '/' || array_to_string(user_name, ','), ' ' ORDER BY line_number) \
                 FROM pg_hba_file_rules WHERE auth_method = 'reject'",
            );
                let ends = [
                    "all/all",
                    &format!("all/{ADMIN_ROLE}"),
                    &format!("all/{REPLICATION_ROLE}"),
                    "replication/all",
                ];
                assert!(
                    ends.iter().all(|end| rejected.split(' ').any(|r| r == *end)),
                    "{rejected}"
                );
            },
        );
    }
}

#[test]
fn a_server_runs_with_it_and_shows_it() {
    for installation in installations("a_server_runs_with_it_and_shows_it") {
        let mut server = Throwaway::init(&installation);
        let settings = settings(installation.major, (2, 1024, 8));
        let auto = AutoConf {
            epoch: Epoch(41),
            rebuild: 7,
            synchronous_standby_names: Some(sync_names(2, ["a-b_e41", "we\"ird'_e41", "c_e41"])),
            primary_conninfo: Some(conninfo(&server, "standby's \\ \"name\"").render()),
            primary_slot_name: Some("dbaas_n1".into()),
            extra: vec![Setting::new("x_auto.k", "it's").unwrap()],
        };
        let data = server.data();
        server.write(&data.join("postgresql.conf"), &settings.render("0123"));
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
        let written = parse_conf(&settings.render("0123")).unwrap();
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
        assert_eq!(server.sql(&format!("SHOW {CONFIG_HASH_SETTING}")), "0123");
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
            &settings(installation.major, (1, 512, 8)).render("0123"),
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
