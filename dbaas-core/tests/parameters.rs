//! Parameters, for every setting of every major version.

use dbaas_core::config::Settings;
use dbaas_core::parameters::{Context, Kind, Parameters, catalogue, parameter};
use dbaas_core::version::PostgresMajor;
use proptest::prelude::*;

fn majors() -> impl Iterator<Item = PostgresMajor> {
    (14..=18).map(|major| PostgresMajor::new(major).unwrap())
}

fn rule(major: u32, name: &str, value: &str) -> Option<String> {
    let parameters = Parameters::from_iter([(name, value)]);
    let errors = parameters.check(PostgresMajor::new(major).unwrap()).err()?;
    errors.into_iter().next().map(|error| error.rule)
}

/// What PostgreSQL starts with is in range.
#[test]
fn every_default_is_taken() {
    for major in majors() {
        for parameter in catalogue(major) {
            let name = parameter.name;
            assert_eq!(parameter.kind.check(parameter.default), Ok(()), "{major} {name}");
        }
    }
}

#[test]
fn what_is_outside_of_the_range_is_refused() {
    let mut looked_at = 0;
    for major in majors() {
        for parameter in catalogue(major) {
            let name = parameter.name;
            let refused = |value: String| {
                assert!(parameter.kind.check(&value).is_err(), "{major} {name} = {value}");
            };
            match &parameter.kind {
                Kind::Integer { min, max, .. } => {
                    assert_eq!(parameter.kind.check(&min.to_string()), Ok(()), "{major} {name}");
                    assert_eq!(parameter.kind.check(&max.to_string()), Ok(()), "{major} {name}");
                    refused((min - 1).to_string());
                    refused((max + 1).to_string());
                    refused("many".to_owned());
                }
                Kind::Real { min, max, .. } => {
                    assert_eq!(parameter.kind.check(&min.to_string()), Ok(()), "{major} {name}");
                    refused((min - 1.0).to_string());
                    if *max < 1e300 {
                        refused((max * 2.0 + 1.0).to_string());
                    }
                }
                Kind::Enum(values) => {
                    for value in values {
                        assert_eq!(parameter.kind.check(value), Ok(()), "{major} {name}");
                    }
                    refused("no such value".to_owned());
                }
                Kind::Bool => refused("perhaps".to_owned()),
                Kind::String => continue,
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 1_000, "{looked_at}");
}

#[test]
fn errors_name_the_rule() {
    for (name, value, expected) in [
        ("work_mem", "64MB", None),
        ("WORK_MEM", "64 MB", None),
        (
            "work_mem",
            "64mb",
            Some("is a whole number with a unit of B, kB, MB, GB, TB or without one (then of kB); was 64mb"),
        ),
        ("work_mem", "63kB", Some("is at least 64 kB; was 63kB")),
        ("max_connections", "0", Some("is at least 1; was 0")),
        (
            "max_connections",
            "50",
            Some("is at least 100 here: a standby that is a copy of a new data directory needs as many"),
        ),
        ("jit", "maybe", Some("is on or off; was maybe")),
        (
            "wal_compression",
            "zip",
            Some("is one of pglz, lz4, zstd, on, off; was zip"),
        ),
        ("no_such_thing", "1", Some("is no setting of PostgreSQL 18")),
        ("io_method", "sync", None),
        (
            "fsync",
            "off",
            Some("belongs to the control plane: acknowledged commits would be lost in a power cut"),
        ),
        ("shared_preload_libraries", "pg_stat_statements", None),
        (
            "shared_preload_libraries",
            "evil",
            Some(
                "may name pg_stat_statements, pg_prewarm only: any other library could keep the server from starting, or do anything in it",
            ),
        ),
    ] {
        assert_eq!(rule(18, name, value).as_deref(), expected, "{name} = {value}");
    }
    assert!(rule(17, "io_method", "sync").is_some(), "it came with 18");
    assert_eq!(
        rule(18, "search_path", "a\nb").unwrap(),
        "a value has no control characters"
    );
    assert!(rule(18, "search_path", &"a".repeat(1_001)).is_some());
}

/// What the control plane derives by itself is a setting of every version that it is derived for.
#[test]
fn the_formula_is_part_of_the_catalogue() {
    for major in majors() {
        let (cpu, ram, disk) = (
            4u64.try_into().unwrap(),
            4096u64.try_into().unwrap(),
            50u64.try_into().unwrap(),
        );
        for (name, value) in Settings::derive(major, cpu, ram, disk).iter() {
            if name.contains('.') {
                continue;
            }
            let parameter = parameter(major, name).unwrap_or_else(|| panic!("{major} has no {name}"));
            assert_eq!(parameter.kind.check(value), Ok(()), "{major} {name}");
            let at_start = parameter.context == Context::Postmaster;
            assert_eq!(
                at_start,
                dbaas_core::config::is_restart_setting(name),
                "{major} {name}"
            );
        }
    }
}

#[test]
fn names_are_told_apart_by_letters_only() {
    let mut parameters = Parameters::from_iter([("TimeZone", "UTC"), ("work_mem", "1MB")]);
    assert_eq!(parameters.get("timezone"), Some("UTC"));
    assert_eq!(parameters.to_string(), "timezone = UTC, work_mem = 1MB");
    parameters.unset("Work_Mem");
    assert_eq!(
        serde_json::to_string(&parameters).unwrap(),
        r#"{"timezone":"UTC"}"#
    );
}

proptest! {
    #[test]
    fn nothing_panics(name in "[a-z_.]{0,20}", value in "[0-9a-zA-Zµ .+-]{0,12}", index in 0usize..354, major in 14u32..=18) {
        let major = PostgresMajor::new(major).unwrap();
        let _ = Parameters::from_iter([(name, value.clone())]).check(major);
        if let Some(parameter) = catalogue(major).get(index) {
            let _ = parameter.kind.check(&value);
        }
    }
}
