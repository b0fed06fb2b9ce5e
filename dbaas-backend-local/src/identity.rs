//! A data directory without `initdb`: a copy of a template that this machine initialised once per version,
//! with an identity of its own. `initdb` keeps a processor busy for about a second, a copy for a tenth.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dbaas_core::control_file::{
    ClusterIdentity, NONCE_BYTES, Unexpected, confirm, with_identity, with_settings_of,
};
use rand::RngCore as _;

use crate::backend::Inner;
use crate::command::{self, ToolFailure};
use crate::discovery::Installation;
use crate::files;
use crate::initdb::InitPlace;
use crate::prepare::Failure;

const CONTROL_FILE: &str = "global/pg_control";
/// The programs take a tenth of a second.
const AT_MOST: Duration = Duration::from_secs(60);

/// Copies the template to `place.data`, which is replaced. `false`: something was not as expected, and
/// nothing is there; `initdb` does it.
pub(crate) fn copy(
    inner: &Inner,
    installation: &Installation,
    mark: &str,
    template: &Path,
    place: &InitPlace<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<bool, Failure> {
    files::remove_tree_if_there(place.data)?;
    let Err(failure) = try_to_copy(inner, installation, mark, template, place, cancelled) else {
        return Ok(true);
    };
    files::remove_tree_if_there(place.data)?;
    if cancelled() {
        return Err(Failure::Cancelled);
    }
    tracing::warn!(version = %installation.version, "no copy of the template: {failure}; initdb does it");
    Ok(false)
}

/// Why there is no copy, for people.
fn try_to_copy(
    inner: &Inner,
    installation: &Installation,
    mark: &str,
    template: &Path,
    place: &InitPlace<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), String> {
    let io = |error: io::Error| error.to_string();
    // Its WAL is not needed: pg_resetwal writes the copy's.
    let is_wal = |path: &Path| path.parent() == Some(&template.join("pg_wal"));
    files::copy_tree_without(template, place.data, &inner.account, cancelled, &is_wal).map_err(io)?;
    let identity = new_identity();
    let control_file = place.data.join(CONTROL_FILE);
    change(&control_file, |file| with_identity(file, &identity))?;
    let output = place.private.join("identity.log");
    files::remove_if_there(&output).map_err(io)?;
    let run = |program: &str| {
        let path = installation.program(program);
        let command = command::prepare(&path, &inner.account, mark, place.work_dir, &output);
        let mut command = command.map_err(io)?;
        command.arg("-D").arg(place.data);
        let ended = command::run(command, place.work_dir, &output, AT_MOST, cancelled);
        ended.map_err(|failure| match failure {
            ToolFailure::Cancelled => "cancelled".to_owned(),
            ToolFailure::Failed { output, .. } => format!("{program}: {}", output.trim()),
            ToolFailure::Io(error) => format!("{program}: {error}"),
        })
    };
    let result = run("pg_resetwal").and_then(|()| {
        let of_template = fs::read(template.join(CONTROL_FILE)).map_err(io)?;
        change(&control_file, |file| with_settings_of(file, &of_template))?;
        let before = files::length(&output);
        run("pg_controldata")?;
        confirm(&files::appended_since(&output, before), &identity).map_err(|error| error.to_string())
    });
    files::remove_if_there(&output).map_err(io)?;
    result
}

/// Writes what comes of a file in its place; it has the same length.
fn change(path: &Path, change: impl Fn(&[u8]) -> Result<Vec<u8>, Unexpected>) -> Result<(), String> {
    let changed = change(&fs::read(path).map_err(|error| error.to_string())?);
    let changed = changed.map_err(|error| error.to_string())?;
    let file = OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| file.write_all(&changed));
    written.map_err(|error| error.to_string())
}

fn new_identity() -> ClusterIdentity {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut random, mut nonce) = ([0u8; 4], [0u8; NONCE_BYTES]);
    rand::rng().fill_bytes(&mut random);
    rand::rng().fill_bytes(&mut nonce);
    // It ends in 2106, and then begins anew.
    ClusterIdentity::new(since.as_secs() as u32, random, nonce)
}
