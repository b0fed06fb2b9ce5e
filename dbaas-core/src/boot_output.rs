//! What PostgreSQL and its tools print while a node is prepared, starts and ends, read for the controller's
//! decisions ([`ExitReason`]) and for people. Every backend captures that output; what it means is the same
//! for all of them.
//!
//! The texts are English: tools run with `LC_ALL=C`, and our `postgresql.conf` sets `lc_messages` to `C`.

use crate::infrastructure::ExitReason;

/// What the server says of itself that best says why it ended: the last of its own lines that PostgreSQL
/// calls an error, else the last of them. At most 300 characters. Lines of sessions are passed over: what a
/// client sent may stand in them.
pub fn telling_line(log: &str) -> String {
    let own = || log.lines().rev().filter_map(own_words);
    shortened(own().find(|l| is_grave(l)).or_else(|| own().next()))
}

/// The message of a line that the server wrote for itself: it has no `user@database` between the process id
/// and the severity.
fn own_words(line: &str) -> Option<&str> {
    let words = line.split_once("] ").map_or(line, |(_, words)| words);
    ["PANIC:", "FATAL:", "ERROR:", "WARNING:", "LOG:"]
        .iter()
        .any(|severity| words.starts_with(severity))
        .then_some(words)
}

/// The line of a tool's output that best says why it failed: the first error; those after it only follow from
/// it. At most 300 characters.
pub fn first_error(output: &str) -> String {
    let last = || output.lines().rev().find(|l| !l.trim().is_empty());
    shortened(output.lines().find(|l| is_grave(l)).or_else(last))
}

/// Whether a line says what a program or a server could not do.
pub(crate) fn is_grave(line: &str) -> bool {
    ["PANIC:", "FATAL:", "fatal:", "error:", "ERROR:"]
        .iter()
        .any(|word| line.contains(word))
}

fn shortened(line: Option<&str>) -> String {
    line.unwrap_or_default().trim().chars().take(300).collect()
}

/// Whether a log says that there is no room on the disk.
pub fn says_disk_full(log: &str) -> bool {
    log.contains("No space left on device") || log.contains("Disk quota exceeded")
}

/// Why a server ended, from what it wrote since it was started.
pub fn server_exit(log: &str) -> ExitReason {
    if says_disk_full(log) {
        ExitReason::DiskFull
    } else if says_damaged(log) {
        ExitReason::Damaged
    } else {
        ExitReason::Died
    }
}

/// Whether a server says that it ended because files of its data are gone or broken. Only its own gravest
/// words count: a session's error ends no server, and sessions may make it write anything.
fn says_damaged(log: &str) -> bool {
    const GONE: [&str; 2] = ["No such file or directory", "Not a directory"];
    const DATA: [&str; 4] = ["\"base", "\"global/", "\"pg_xact/", "\"pg_multixact/"];
    let any = |line: &str, texts: &[&str]| texts.iter().any(|text| line.contains(text));
    log.lines()
        .filter_map(own_words)
        .filter(|line| line.starts_with("PANIC:") || line.starts_with("FATAL:"))
        .any(|line| {
            (any(line, &GONE) && any(line, &DATA))
                || any(
                    line,
                    &[
                        "references to invalid pages",
                        "invalid page in block",
                        "could not read block",
                    ],
                )
        })
}

/// Why `initdb`, `pg_basebackup` or another tool failed, from what it printed.
pub fn preparation_failure(output: &str) -> ExitReason {
    if says_disk_full(output) {
        ExitReason::DiskFull
    } else {
        ExitReason::PreparationFailed
    }
}

/// Why `pg_rewind` failed: whether another attempt may succeed, or only a base backup helps
/// ([`CannotRewind`](ExitReason::CannotRewind)).
pub fn rewind_failure(output: &str) -> ExitReason {
    // Its sources: src/bin/pg_rewind/{pg_rewind,timeline,parsexlog}.c.
    const CANNOT: [&str; 7] = [
        "could not find common ancestor",
        "source and target clusters are from different systems",
        "clusters are not compatible with this version",
        "target server needs to use either data checksums",
        "could not find previous WAL record",
        "could not read WAL record",
        "requested WAL segment",
    ];
    let cannot = rewind_added_wal(output)
        || CANNOT.iter().any(|text| output.contains(text))
        || output.contains("could not open file") && output.contains("pg_wal");
    match preparation_failure(output) {
        ExitReason::PreparationFailed if cannot => ExitReason::CannotRewind,
        reason => reason,
    }
}

/// Whether a `pg_rewind` that ended well has left a data directory that must not be started. One that was not
/// shut down cleanly recovers first, in single-user mode and so as a primary would: that writes checkpoints.
/// Where it then turns out that there is nothing to rewind (both are on the same timeline, or the fork lies
/// further on), they stay, where the source's WAL has other records. Only a base backup helps.
pub fn rewind_added_wal(output: &str) -> bool {
    output.contains("to complete crash recovery") && output.contains("no rewind required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_without_a_rewind_is_told_from_both_alone() {
        let recovery = "pg_rewind: executing \"/b/postgres\" for target server to complete crash recovery\n";
        let nothing =
            "pg_rewind: source and target cluster are on the same timeline\npg_rewind: no rewind required\n";
        assert!(rewind_added_wal(&format!("{recovery}{nothing}")));
        assert_eq!(
            rewind_failure(&format!("{recovery}{nothing}")),
            ExitReason::CannotRewind
        );
        assert!(!rewind_added_wal(nothing));
        assert!(!rewind_added_wal(&format!("{recovery}pg_rewind: Done!\n")));
        // A file that is missing is told from WAL that is missing.
        let elsewhere = "pg_rewind: error: could not open file \"/d/base/1/2\": Permission denied";
        assert_eq!(rewind_failure(elsewhere), ExitReason::PreparationFailed);
    }

    #[test]
    fn the_telling_line_is_the_last_grave_one_of_the_server_itself() {
        let log = "LOG: starting\nFATAL:  could not create lock file\nLOG:  shutting down\n\n";
        assert_eq!(telling_line(log), "FATAL:  could not create lock file");
        assert_eq!(telling_line("LOG: a\n\n"), "LOG: a");
        assert_eq!(telling_line(""), "");
        assert_eq!(
            telling_line(&format!("LOG: {}", "ä".repeat(400))).chars().count(),
            300
        );
        let sessions = "2026-01-01 00:00:00.000 UTC [7] LOG:  ready\n\
                        2026-01-01 00:00:00.000 UTC [9] app@shop 127.0.0.1 FATAL:  terminating\n\
                        2026-01-01 00:00:00.000 UTC [9] app@shop 127.0.0.1 STATEMENT:  ALTER ROLE x PASSWORD 'FATAL:'\n\tFATAL: more\n";
        assert_eq!(telling_line(sessions), "LOG:  ready");
    }

    #[test]
    fn damage_is_told_by_the_servers_own_gravest_words() {
        let says = |words: &str| server_exit(&format!("2026-01-01 00:00:00.000 UTC [7] {words}\n"));
        for words in [
            "FATAL:  could not open file \"global/pg_filenode.map\": No such file or directory",
            "PANIC:  WAL contains references to invalid pages",
            "FATAL:  could not open directory \"base\": No such file or directory",
        ] {
            assert_eq!(says(words), ExitReason::Damaged, "{words}");
        }
        for words in [
            "FATAL:  could not open file \"base/1/2\": Too many open files",
            "ERROR:  could not open file \"base/1/2\": No such file or directory",
            "app@shop 127.0.0.1 FATAL:  could not open file \"base/1/2\": No such file or directory",
            "FATAL:  could not open file \"postgresql.conf\": No such file or directory",
        ] {
            assert_eq!(says(words), ExitReason::Died, "{words}");
        }
        assert_eq!(
            says("PANIC:  could not write to file \"pg_wal/1\": No space left on device"),
            ExitReason::DiskFull
        );
    }

    #[test]
    fn of_a_tool_the_first_error_tells() {
        assert_eq!(
            first_error("working\nx: error: no slot\nx: error: gave up\n"),
            "x: error: no slot"
        );
        assert_eq!(first_error("working\nhard\n\n"), "hard");
    }

    #[test]
    fn why_a_preparation_failed() {
        let cases = [
            (
                "pg_rewind: error: could not find common ancestor of the source and target cluster's timelines",
                ExitReason::CannotRewind,
            ),
            (
                "pg_rewind: error: could not open file \"/d/pg_wal/00000001\": No such file or directory",
                ExitReason::CannotRewind,
            ),
            (
                "pg_rewind: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused",
                ExitReason::PreparationFailed,
            ),
            (
                "pg_rewind: error: could not write file: No space left on device",
                ExitReason::DiskFull,
            ),
        ];
        for (output, reason) in cases {
            assert_eq!(rewind_failure(output), reason, "{output}");
        }
        let of_initdb = "initdb: error: could not read WAL record";
        assert_eq!(preparation_failure(of_initdb), ExitReason::PreparationFailed);
    }
}
