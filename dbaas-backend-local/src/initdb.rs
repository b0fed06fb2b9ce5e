//! Makes a data directory of nothing: `initdb`, and the spare database of those that are kept ready.

use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::boot_output::preparation_failure;
use dbaas_core::command::create_spare_database;
use dbaas_core::secret::Secret;

use crate::backend::Inner;
use crate::command::{self, ToolFailure};
use crate::discovery::Installation;
use crate::files::{self, Durability};
use crate::prepare::{Failure, tool_failure};

/// Either program takes about a second; more than this is a machine that does not work.
const AT_MOST: Duration = Duration::from_secs(300);

/// Where `initdb` works.
pub(crate) struct InitPlace<'a> {
    /// The directory by which its processes are found.
    pub(crate) work_dir: &'a Path,
    pub(crate) data: &'a Path,
    /// A directory that only the account can read.
    pub(crate) private: &'a Path,
    pub(crate) log: &'a Path,
}

/// `initdb` without waiting for the disk: whoever calls it does that, once for everything.
pub(crate) fn initdb(
    inner: &Inner,
    installation: &Installation,
    mark: &str,
    place: &InitPlace<'_>,
    password: &Secret,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let pwfile = PwFile::write(inner, place.private, password)?;
    let attempt = |locale: &str| {
        files::remove_tree_if_there(place.data)?;
        files::make_dir(place.data, 0o700)?;
        inner.account.own(place.data)?;
        let mut command = command::prepare(
            &installation.program("initdb"),
            &inner.account,
            mark,
            place.work_dir,
            place.log,
        )?;
        command
            .arg("-D")
            .arg(place.data)
            .args([
                "-U",
                ADMIN_ROLE,
                "-E",
                "UTF8",
                "--data-checksums",
                "--no-sync",
                "--no-instructions",
            ])
            .args(["--auth-host=scram-sha-256", "--auth-local=scram-sha-256"])
            .arg(format!("--locale={locale}"))
            .arg(format!("--pwfile={}", pwfile.0.display()));
        command::run(command, place.work_dir, place.log, AT_MOST, cancelled)
    };
    let result = match attempt("C.UTF-8") {
        // Older C libraries have no C.UTF-8; C orders the same, it only knows no letters beyond ASCII.
        Err(ToolFailure::Failed { output, .. }) if output.contains("invalid locale") => attempt("C"),
        other => other,
    };
    result.map_err(|failure| tool_failure("initdb", failure, &preparation_failure))
}

/// Makes the spare database in a data directory that has just been made, with a server of its own that ends
/// with the statement. Nothing is waited for on the disk here either.
pub(crate) fn make_spare_database(
    inner: &Inner,
    installation: &Installation,
    mark: &str,
    place: &InitPlace<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let Some(statement) = create_spare_database(installation.version.major) else {
        return Ok(());
    };
    let mut command = command::prepare(
        &installation.program("postgres"),
        &inner.account,
        mark,
        place.work_dir,
        place.log,
    )?;
    // A statement fits into a pipe as a whole, so that nobody has to stay and write.
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(statement.text().as_bytes())?;
    drop(writer);
    command
        .stdin(reader)
        .args(["--single", "-F", "-j", "-c", "exit_on_error=on", "-D"])
        .arg(place.data)
        .arg("postgres");
    let result = command::run(command, place.work_dir, place.log, AT_MOST, cancelled);
    result.map_err(|failure| tool_failure("postgres --single", failure, &preparation_failure))
}

struct PwFile(PathBuf);

impl PwFile {
    fn write(inner: &Inner, dir: &Path, password: &Secret) -> io::Result<PwFile> {
        if password.expose().contains(['\n', '\r', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the superuser's password holds a line break",
            ));
        }
        let path = dir.join("pwfile");
        files::write(
            &path,
            password.expose().as_bytes(),
            Some(&inner.account),
            Durability::Process,
        )?;
        Ok(PwFile(path))
    }
}

impl Drop for PwFile {
    fn drop(&mut self) {
        if let Err(e) = files::remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), error = %e, "a password file stays behind");
        }
    }
}
