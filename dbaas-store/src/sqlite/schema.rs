//! The tables, and the numbers by which a file is recognised.

/// "DBAS" in the header of the file (`PRAGMA application_id`).
pub(super) const APPLICATION_ID: u32 = 0x4442_4153;

/// The schema that this program reads and writes (`PRAGMA user_version`).
///
/// A program that knows an older one migrates it in one transaction and then checkpoints the log, so that the
/// header of the file tells the truth before anything is written in the new form.
///
/// * 1: a control plane keeps an instance, a user, a database as one document.
/// * 2: the tables are the same. A control plane keeps each of them as three documents, which a program that
///   knows 1 must not take for its own.
pub(super) const VERSION: u32 = 2;

/// The oldest schema that is migrated.
pub(super) const OLDEST: u32 = 1;

/// Ids are 16-byte blobs, which compare like the ids themselves; moments are milliseconds since 1970.
///
/// * `document.refs`: the references in the order given; `reference` is the index over them.
/// * `version_floor`: the highest version that a deleted document of the kind had; new ones start above it.
/// * `event.subject`: an empty blob for none, so that it can be a key. `event_count` tells
///   [`super::event::expire`] where there is something to do without reading the log.
/// * `lease.holder`: NULL once released; the row stays, for its number.
/// * `barrier`: written to after a commit of unknown outcome, see [`super::writer`].
pub(super) const TABLES: &str = "
CREATE TABLE document (
    kind        TEXT    NOT NULL,
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    version     INTEGER NOT NULL CHECK (version > 0),
    parent      BLOB,
    unique_name TEXT,
    refs        BLOB    NOT NULL,
    expires_at  INTEGER,
    body        TEXT    NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE UNIQUE INDEX document_name ON document (kind, unique_name) WHERE unique_name IS NOT NULL;
CREATE INDEX document_parent ON document (kind, parent, id) WHERE parent IS NOT NULL;
CREATE INDEX document_expiry ON document (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE reference (
    target BLOB NOT NULL,
    id     BLOB NOT NULL,
    kind   TEXT NOT NULL,
    PRIMARY KEY (target, id, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE version_floor (
    kind  TEXT    NOT NULL PRIMARY KEY,
    floor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    subject  BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    node     BLOB
) STRICT;
CREATE INDEX event_subject ON event (subject, sequence);
CREATE TABLE event_count (
    subject BLOB    NOT NULL PRIMARY KEY,
    events  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX event_count_events ON event_count (events);
CREATE TABLE lease (
    name       TEXT    NOT NULL PRIMARY KEY,
    fencing    INTEGER NOT NULL,
    holder     TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE barrier (
    passed INTEGER NOT NULL
) STRICT;
INSERT INTO barrier VALUES (0);
";
