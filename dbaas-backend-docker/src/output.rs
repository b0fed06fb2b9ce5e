//! What PostgreSQL's programs say, read for deciding and for people.

use dbaas_core::infrastructure::ExitReason;

/// The line of a server's log that best says why it ended: the last grave one.
pub(crate) fn telling_line(log: &str) -> String {
    let grave = log.lines().rev().find(|l| is_grave(l));
    shortened(grave.or_else(|| last_line(log)))
}

/// The line of a program's output that best says why it failed: the first error; those after it only follow from it.
pub(crate) fn first_error(output: &str) -> String {
    shortened(output.lines().find(|l| is_grave(l)).or_else(|| last_line(output)))
}

fn is_grave(line: &str) -> bool {
    ["PANIC:", "FATAL:", "fatal:", "error:", "ERROR:"]
        .iter()
        .any(|word| line.contains(word))
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|l| !l.trim().is_empty())
}

fn shortened(line: Option<&str>) -> String {
    line.unwrap_or_default().trim().chars().take(300).collect()
}

/// Whether a log says that there is no room on the disk.
pub(crate) fn says_disk_full(log: &str) -> bool {
    log.contains("No space left on device") || log.contains("Disk quota exceeded")
}

/// Why a preparation failed, from the program's name and what it said.
pub(crate) fn failure_reason(program: &str, output: &str) -> ExitReason {
    // What `pg_rewind` means by its messages (src/bin/pg_rewind: pg_rewind.c, timeline.c, parsexlog.c); it runs with `LC_ALL=C`.
    const CANNOT: [&str; 7] = [
        "could not find common ancestor",
        "source and target clusters are from different systems",
        "clusters are not compatible with this version",
        "target server needs to use either data checksums",
        "could not find previous WAL record",
        "could not read WAL record",
        "requested WAL segment",
    ];
    if says_disk_full(output) {
        ExitReason::DiskFull
    } else if program == "seed" {
        ExitReason::SeedGone
    } else if program == "pg_rewind"
        && (CANNOT.iter().any(|text| output.contains(text))
            || output.contains("could not open file") && output.contains("pg_wal"))
    {
        ExitReason::CannotRewind
    } else {
        ExitReason::PreparationFailed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_preparation_failed() {
        let cases = [
            (
                "pg_rewind",
                "pg_rewind: error: could not find common ancestor of …",
                ExitReason::CannotRewind,
            ),
            (
                "pg_rewind",
                "error: could not open file \"pg_wal/0001\": No such file",
                ExitReason::CannotRewind,
            ),
            (
                "pg_rewind",
                "pg_rewind: error: connection to server failed",
                ExitReason::PreparationFailed,
            ),
            (
                "pg_rewind",
                "error: could not write: No space left on device",
                ExitReason::DiskFull,
            ),
            (
                "initdb",
                "initdb: error: could not read WAL record",
                ExitReason::PreparationFailed,
            ),
            ("seed", "no copy came", ExitReason::SeedGone),
        ];
        for (program, output, reason) in cases {
            assert_eq!(failure_reason(program, output), reason, "{program}: {output}");
        }
    }

    #[test]
    fn the_telling_line_is_the_last_grave_one() {
        assert_eq!(telling_line("LOG: a\nFATAL: b\nLOG: c\n\n"), "FATAL: b");
        assert_eq!(telling_line("LOG: a\n\n"), "LOG: a");
        assert_eq!(first_error("x\nerror: 1\nerror: 2\n"), "error: 1");
    }
}
