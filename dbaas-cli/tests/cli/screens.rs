//! Golden screens: what a run wrote, without what differs from run to run.

use std::path::Path;

use regex::Regex;

/// Compares with `tests/screens/NAME.txt`; with UPDATE_GOLDEN=1 writes it first.
#[track_caller]
pub(crate) fn equal(name: &str, written: &str) {
    let written = normal(written);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "{name} is not as in {}; UPDATE_GOLDEN=1 writes it.\nexpected:\n{expected}\nwritten:\n{written}",
        path.display()
    );
}

fn normal(written: &str) -> String {
    let mut text = written.to_owned();
    for (pattern, replacement) in [
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<uuid>",
        ),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>"),
        (r"PostgreSQL \d+(\.\d+)?", "PostgreSQL <version>"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
        (r"pid \d+", "pid <pid>"),
        // What a backend does not hold depends on the machine.
        (r"(?m)^warnings .*\n", ""),
        // What the next moment may change.
        (r"(?m)^(n\d +standby +\w+ +\w+ +)(\d+ +)?", "${1}<lag>  "),
        (r"(?m)^( +<uuid> +)\w+,", "${1}<status>,"),
        // What connection strings ask for has tests of its own.
        (r"\?target\S+", "?<parameters>"),
        // Columns are as wide as what was in them.
        (r" {2,}", "  "),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, replacement)
            .into_owned();
    }
    text
}
