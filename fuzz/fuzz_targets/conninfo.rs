//! Connection strings: any text can be a value and comes back; any text can be read without a panic.
#![no_main]

use dbaas_core::config::{PgpassEntry, PrimaryConninfo, parse_conninfo, quote_conninfo_value};
use dbaas_core::secret::Secret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pairs) = parse_conninfo(text) {
        let quoted: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", quote_conninfo_value(value)))
            .collect();
        // NUL ends a value; libpq never sees one.
        if !text.contains('\0') {
            assert_eq!(parse_conninfo(&quoted.join(" ")), Ok(pairs));
        }
    }
    if let Ok(conninfo) = PrimaryConninfo::parse(text) {
        if !text.contains('\0') {
            assert_eq!(PrimaryConninfo::parse(&conninfo.render()), Ok(conninfo));
        }
    }
    let value = text.replace('\0', "");
    let conninfo = PrimaryConninfo {
        host: value.clone(),
        port: 1,
        user: value.clone(),
        application_name: value.clone(),
    };
    assert_eq!(PrimaryConninfo::parse(&conninfo.render()), Ok(conninfo));

    if let Ok(line) = PgpassEntry::for_user(text, Secret::new(text)).render() {
        assert_eq!(line.expose().matches('\n').count(), 1);
    }
});
