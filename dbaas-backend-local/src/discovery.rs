//! Finds the PostgreSQL installations of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dbaas_core::version::{ImageRef, PostgresMajor, PostgresVersion};

/// The programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its version.
    pub version: PostgresVersion,
    /// The directory of `postgres`, `initdb`, `pg_basebackup` and `pg_rewind`.
    pub bin_dir: PathBuf,
}

impl Installation {
    /// The path of one of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// The image name that stands for it: that of the stock container image.
    pub(crate) fn image(&self) -> Option<ImageRef> {
        format!("postgres:{}", self.version).parse().ok()
    }
}

const NEEDED: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_rewind"];

/// The PostgreSQLs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Installations {
    /// What serves a major version where no minor version is asked for, or none that is here.
    pub(crate) of_major: BTreeMap<PostgresMajor, Installation>,
    /// Every version that is here.
    pub(crate) of_version: BTreeMap<PostgresVersion, Installation>,
}

/// A PostgreSQL of every major version, 14 to 18, that is found. What `explicit` directories hold (each a
/// `bin` directory, or the one above it) is taken before anything else; otherwise the newest minor version of
/// `PATH`, of the places where Debian, PGDG and Homebrew put it, and of `downloads`.
pub fn discover(explicit: &[PathBuf], downloads: &Path) -> BTreeMap<PostgresMajor, Installation> {
    discover_all(explicit, downloads).of_major
}

/// As [`discover`], with the minor versions beside those: an instance stays on the one that it has, and can
/// be asked to change. Of a major that `explicit` directories hold, only what they hold counts.
pub(crate) fn discover_all(explicit: &[PathBuf], downloads: &Path) -> Installations {
    let asked_for = explicit
        .iter()
        .flat_map(|dir| [dir.clone(), dir.join("bin")])
        .collect();
    let mut of_version = every_version(asked_for);
    let majors: BTreeSet<PostgresMajor> = of_version.keys().map(|version| version.major).collect();
    let usual = every_version(usual_places(downloads, std::env::var_os("PATH")));
    of_version.extend(
        usual
            .into_iter()
            .filter(|(version, _)| !majors.contains(&version.major)),
    );
    // In ascending order: of each major the newest comes last.
    let of_major = of_version
        .values()
        .map(|i| (i.version.major, i.clone()))
        .collect();
    Installations { of_major, of_version }
}

fn every_version(mut dirs: Vec<PathBuf>) -> BTreeMap<PostgresVersion, Installation> {
    let mut seen = std::collections::HashSet::new();
    dirs.retain(|dir| NEEDED.iter().all(|name| dir.join(name).is_file()));
    dirs.retain(|dir| seen.insert(fs::canonicalize(dir).unwrap_or_else(|_| dir.clone())));
    let mut found = BTreeMap::new();
    for dir in dirs {
        let Some(installation) = inspect(&dir) else {
            continue;
        };
        let version = installation.version;
        if version.major.is_known() {
            found.entry(version).or_insert(installation);
        } else {
            tracing::debug!(%version, dir = %dir.display(), "PostgreSQL is not of a known major version");
        }
    }
    found
}

fn usual_places(downloads: &Path, path: Option<OsString>) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(path) = path {
        dirs.extend(std::env::split_paths(&path).filter(|p| p.is_absolute()));
    }
    dirs.extend(
        subdirectories(Path::new("/usr/lib/postgresql"), "")
            .into_iter()
            .map(|d| d.join("bin")),
    );
    dirs.extend(
        subdirectories(Path::new("/usr"), "pgsql-")
            .into_iter()
            .map(|d| d.join("bin")),
    );
    for prefix in [
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ] {
        dirs.extend(
            subdirectories(Path::new(prefix), "postgresql@")
                .into_iter()
                .map(|d| d.join("bin")),
        );
    }
    dirs.push("/usr/local/pgsql/bin".into());
    dirs.extend(subdirectories(downloads, "").into_iter().map(|d| d.join("bin")));
    dirs
}

fn subdirectories(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .map(|e| e.path())
        .collect();
    dirs.sort();
    dirs
}

/// Asks the `postgres` of a directory for its version.
pub(crate) fn inspect(bin_dir: &Path) -> Option<Installation> {
    // A link such as /usr/bin/postgres is followed: its neighbours must be there as well.
    let program = fs::canonicalize(bin_dir.join("postgres")).ok()?;
    let bin_dir = program.parent()?.to_path_buf();
    if !NEEDED.iter().all(|name| bin_dir.join(name).is_file()) {
        return None;
    }
    let output = output_within(Command::new(&program).arg("-V"), Duration::from_secs(5))?;
    match PostgresVersion::from_version_output(&output) {
        Ok(version) => Some(Installation { version, bin_dir }),
        Err(e) => {
            tracing::debug!(dir = %bin_dir.display(), error = %e, "not a PostgreSQL that can be used");
            None
        }
    }
}

/// Standard output of a program that answers with a line; `None` if it fails or takes too long.
fn output_within(command: &mut Command, at_most: Duration) -> Option<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + at_most;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => {
                let mut text = String::new();
                std::io::Read::read_to_string(child.stdout.as_mut()?, &mut text).ok()?;
                return Some(text);
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) => return None,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(dir: &Path, version: &str) {
        fs::create_dir_all(dir).unwrap();
        for name in NEEDED {
            fs::write(
                dir.join(name),
                format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn the_newest_minor_of_each_major_wins_and_the_unusable_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fake(&at("a/bin"), "16.1");
        fake(&at("b"), "16.3 (Debian 16.3-1)");
        fake(&at("c"), "13.9");
        fake(&at("d"), "nonsense");
        fake(&at("e/bin"), "99.1");
        fake(&at("incomplete"), "17.1");
        fs::remove_file(at("incomplete/pg_rewind")).unwrap();
        let explicit: Vec<_> = ["a", "b", "c", "d", "e", "incomplete", "absent"].map(at).into();
        // Newer, but nobody asked for it.
        fake(&at("downloads/16.9/bin"), "16.9");
        fake(&at("downloads/14.2/bin"), "14.999");
        let found = discover(&explicit, &at("downloads"));
        let of = |major| found.get(&PostgresMajor::new(major).unwrap());
        let sixteen = of(16).unwrap();
        assert_eq!(sixteen.bin_dir, fs::canonicalize(at("b")).unwrap());
        assert_eq!(sixteen.image().unwrap().as_str(), "postgres:16.3");
        assert_eq!(of(14).unwrap().version, "14.999".parse().unwrap());
        assert!(of(99).is_none());
        assert!(of(17).is_none_or(|i| i.version != "17.1".parse().unwrap()));
        // The other minor versions can be had by name, unless others were asked for.
        let all = discover_all(&explicit, &at("downloads"));
        assert_eq!(all.of_major, found);
        for (version, dir) in [("16.1", "a/bin"), ("16.3", "b")] {
            let found = &all.of_version[&version.parse().unwrap()];
            assert_eq!(found.bin_dir, fs::canonicalize(at(dir)).unwrap());
        }
        assert!(!all.of_version.contains_key(&"16.9".parse().unwrap()));
        let usual = discover_all(&[], &at("downloads"));
        assert!(usual.of_version.contains_key(&"16.9".parse().unwrap()));
    }

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let started = Instant::now();
        assert_eq!(
            output_within(Command::new("sleep").arg("60"), Duration::from_millis(50)),
            None
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
