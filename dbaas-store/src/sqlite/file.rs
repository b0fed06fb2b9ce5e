//! Opening and making the file. What is not ours is found out without writing a byte.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::SqliteOptions;
use super::failure::{self, Failed};
use super::schema;
use crate::private_file;

/// The header of an SQLite file (<https://www.sqlite.org/fileformat2.html#the_database_header>).
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION_OFFSET: usize = 60;
const APPLICATION_ID_OFFSET: usize = 68;

/// The log is cut to this size after a checkpoint, so that one burst does not cost its space for ever.
const LOG_BYTES_KEPT: u64 = 16 << 20;
const CACHED_STATEMENTS: usize = 64;

/// The writer's connection, to a file that is ours and sound. Errors name the file.
pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Connection, StoreError> {
    open_checked(path, options).map_err(|Failed(error)| naming(path, error))
}

/// A reader's connection, once [`open`] has succeeded.
pub(super) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, StoreError> {
    let connect = || -> Result<Connection, Failed> {
        let connection = connect(path, options)?;
        connection.pragma_update(None, "query_only", true)?;
        // Whoever closes last copies the log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(connection)
    };
    connect().map_err(|Failed(error)| naming(path, error))
}

fn open_checked(path: &Path, options: &SqliteOptions) -> Result<Connection, Failed> {
    match read_header(path) {
        Ok(header) => check_header(path, &header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(failure::io(path, &error).into()),
    }
    warn_if_others_can_read(path);
    let connection = connect(path, options)?;
    // The header may be older than the log.
    let application_id = pragma(&connection, "application_id")?;
    let version = pragma(&connection, "user_version")?;
    check_identity(path, application_id, version)?;
    check_soundness(path, &connection, options)?;
    if connection.is_readonly("main")? {
        return Err(read_only(path));
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let message = format!(
            "the store {} cannot keep a write-ahead log: its file system lacks shared memory; use a local disk",
            path.display()
        );
        return Err(StoreError::new(StoreErrorKind::Unavailable, message).into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT as i64)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    if version < schema::VERSION {
        migrate(path, &connection)?;
    }
    Ok(connection)
}

/// Brings a file of an older schema to the present one.
fn migrate(path: &Path, connection: &Connection) -> Result<(), Failed> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Another process may have done it meanwhile, or be of a newer release.
    let version = pragma(connection, "user_version")?;
    if version >= schema::VERSION {
        connection.execute_batch("ROLLBACK")?;
        return check_identity(path, schema::APPLICATION_ID, version);
    }
    connection.pragma_update(None, "user_version", schema::VERSION)?;
    connection.execute_batch("COMMIT")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    tracing::info!(path = %path.display(), from = version, to = schema::VERSION, "the store was migrated");
    Ok(())
}

/// A connection that copies no log into the file when it is closed.
fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, Failed> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let log = std::fs::metadata(private_file::sibling(path, "-wal")).map_or(0, |metadata| metadata.len());
    let connection = Connection::open_with_flags(path, flags)?;
    // Without a log there is nothing to copy, and SQLite removes the empty one that it makes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log > 0)?;
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}

fn make(path: &Path) -> Result<(), Failed> {
    for suffix in ["-wal", "-journal"] {
        let companion = private_file::sibling(path, suffix);
        if companion
            .try_exists()
            .map_err(|error| failure::io(path, &error))?
        {
            let message = format!(
                "{} is missing but its {} is there: restore both from a backup, or remove that one to begin anew",
                path.display(),
                companion.display()
            );
            return Err(StoreError::new(StoreErrorKind::Unusable, message).into());
        }
    }
    let made = private_file::create(path, |draft| -> Result<(), Making> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(draft, flags)?;
        // A draft needs no protection against a crash.
        connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
        connection.execute_batch("BEGIN")?;
        connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", schema::VERSION)?;
        connection.execute_batch(schema::TABLES)?;
        connection.execute_batch("COMMIT")?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(())
    });
    match made {
        Ok(_) => Ok(()),
        Err(Making::Io(error)) => Err(failure::io(path, &error).into()),
        Err(Making::Sql(error)) => Err(error.into()),
    }
}

enum Making {
    Io(io::Error),
    Sql(rusqlite::Error),
}

impl From<io::Error> for Making {
    fn from(error: io::Error) -> Self {
        Making::Io(error)
    }
}

impl From<rusqlite::Error> for Making {
    fn from(error: rusqlite::Error) -> Self {
        Making::Sql(error)
    }
}

/// The first bytes; fewer if the file is shorter.
fn read_header(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    Ok(header)
}

fn check_header(path: &Path, header: &[u8]) -> Result<(), Failed> {
    if header.is_empty() {
        return Err(failure::damaged(&format!("{} is empty", path.display())).into());
    }
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(foreign(path));
    }
    let number = |offset: usize| {
        header[offset..offset + 4]
            .iter()
            .fold(0, |n, byte| n << 8 | u32::from(*byte))
    };
    check_identity(path, number(APPLICATION_ID_OFFSET), number(USER_VERSION_OFFSET))
}

fn check_identity(path: &Path, application_id: u32, version: u32) -> Result<(), Failed> {
    if application_id != schema::APPLICATION_ID {
        return Err(foreign(path));
    }
    if version > schema::VERSION {
        let message = format!(
            "the store {} has schema {version}, this program knows {}: run the newer program that wrote it",
            path.display(),
            schema::VERSION
        );
        return Err(StoreError::new(StoreErrorKind::Unusable, message).into());
    }
    if version < schema::OLDEST {
        return Err(failure::damaged(&format!("{} has schema {version}", path.display())).into());
    }
    Ok(())
}

fn foreign(path: &Path) -> Failed {
    let message = format!(
        "{} was not written by this program: choose another data directory",
        path.display()
    );
    StoreError::new(StoreErrorKind::Unusable, message).into()
}

fn read_only(path: &Path) -> Failed {
    let message = format!(
        "the store {} is read-only: check its permissions and its mount",
        path.display()
    );
    StoreError::new(StoreErrorKind::Unavailable, message).into()
}

fn check_soundness(path: &Path, connection: &Connection, options: &SqliteOptions) -> Result<(), Failed> {
    let size = std::fs::metadata(path)
        .map_err(|error| failure::io(path, &error))?
        .len();
    if size > options.check_up_to_bytes {
        tracing::info!(path = %path.display(), size, "the store is large: not checked for damage");
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(failure::damaged(&format!("{}: {found}", path.display())).into())
    }
}

fn warn_if_others_can_read(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others can read the store: chmod 600 it");
    }
}

fn pragma(connection: &Connection, name: &str) -> Result<u32, Failed> {
    // Both are signed in SQLite; neither of ours has the highest bit.
    let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

fn naming(path: &Path, mut error: StoreError) -> StoreError {
    let name = path.display().to_string();
    if !error.message.contains(&name) {
        error.message = format!("{name}: {}", error.message);
    }
    error
}
