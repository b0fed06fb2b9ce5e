//! Reading documents.

use dbaas_core::store::{
    Document, DocumentKey, DocumentVersion, Kind, LIST_LIMIT_MAX, ListQuery, StoredDocument,
};
use dbaas_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::failure::{self, Failed};

/// Columns in the order in which [`document`] takes them. The kind is not among them: who asks knows it.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, parent, unique_name, refs, expires_at, body FROM document ",
            $rest
        )
    };
}

pub(super) fn get(connection: &Connection, key: DocumentKey) -> Result<Option<StoredDocument>, Failed> {
    connection
        .prepare_cached(select!("WHERE kind = ?1 AND id = ?2"))?
        .query_row((key.kind, key.id.as_bytes()), |row| Ok(document(key.kind, row)))
        .optional()?
        .transpose()
}

pub(super) fn find(
    connection: &Connection,
    kind: Kind,
    unique: &str,
) -> Result<Option<StoredDocument>, Failed> {
    connection
        .prepare_cached(select!("WHERE kind = ?1 AND unique_name = ?2"))?
        .query_row((kind, unique), |row| Ok(document(kind, row)))
        .optional()?
        .transpose()
}

pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<Vec<StoredDocument>, Failed> {
    let limit = as_limit(query.limit, LIST_LIMIT_MAX);
    // An empty blob sorts before every id.
    let after: &[u8] = query.after.as_ref().map_or(&[], |id| id.as_bytes());
    let mut statement = match query.parent {
        Some(_) => {
            let sql = select!("WHERE kind = ?1 AND id > ?2 AND parent = ?4 ORDER BY id LIMIT ?3");
            connection.prepare_cached(sql)?
        }
        None => connection.prepare_cached(select!("WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3"))?,
    };
    let mut rows = match query.parent {
        Some(parent) => statement.query((query.kind, after, limit, parent.as_bytes()))?,
        None => statement.query((query.kind, after, limit))?,
    };
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(document(query.kind, row)?);
    }
    Ok(found)
}

fn document(kind: Kind, row: &Row<'_>) -> Result<StoredDocument, Failed> {
    let id = uuid(row.get_ref(0)?.as_blob().unwrap_or_default())?;
    let parent: Option<Vec<u8>> = row.get(2)?;
    let expires_at: Option<i64> = row.get(5)?;
    let body: &str = row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?;
    let body = serde_json::from_str(body)
        .map_err(|error| failure::damaged(&format!("{kind} {id} is not JSON: {error}")))?;
    Ok(StoredDocument {
        document: Document {
            key: DocumentKey { kind, id },
            parent: parent.map(|parent| uuid(&parent)).transpose()?,
            unique: row.get(3)?,
            references: references(row.get_ref(4)?.as_blob().unwrap_or_default())?,
            expires_at: expires_at.map(Timestamp::from_unix_ms),
            body,
        },
        version: DocumentVersion(unsigned(row.get(1)?)),
    })
}

/// The ids in a `refs` column.
pub(super) fn references(refs: &[u8]) -> Result<Vec<Uuid>, Failed> {
    refs.chunks(16).map(uuid).collect()
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid, Failed> {
    Uuid::from_slice(bytes).map_err(|_| failure::damaged("an id has not 16 bytes").into())
}

/// Numbers are written from unsigned ones that are far below the bound.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// For LIMIT: within 1 and the bound.
pub(super) fn as_limit(limit: usize, max: usize) -> i64 {
    i64::try_from(limit.clamp(1, max)).unwrap_or(1)
}
