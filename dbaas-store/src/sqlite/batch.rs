//! Applying a batch within the writer's transaction.

use dbaas_core::store::{
    Batch, Document, DocumentKey, DocumentVersion, Op, Precondition, REFERRERS_MAX, StoreError,
    StoreErrorKind,
};
use dbaas_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use uuid::Uuid;

use super::failure::{Failed, refusal};
use super::query::{as_limit, references, unsigned, uuid};
use super::{event, lease};

/// A body may be so large as text, and nested so deep (serde_json reads back 127 levels).
const BODY_BYTES_MAX: usize = 8 << 20;
const BODY_DEPTH_MAX: usize = 100;

/// Expired documents are removed in portions of this size, which bounds memory, and how long others wait.
pub(super) const EXPIRE_PORTION: usize = 500;

/// What a write needs to know of the document that is there.
struct Current {
    version: u64,
    references: Vec<Uuid>,
}

/// On an error the caller rolls back to where the batch began.
pub(super) fn apply(connection: &Connection, batch: &Batch) -> Result<Vec<DocumentVersion>, Failed> {
    if let Some(token) = &batch.lease {
        lease::require(connection, token)?;
    }
    let mut versions = Vec::new();
    for (index, op) in batch.ops.iter().enumerate() {
        match op {
            Op::Put(document, precondition) => {
                let current = check(connection, document.key, *precondition, index)?;
                versions.push(put(connection, document, current, index)?);
            }
            Op::Delete(key, version) => {
                let holds = Precondition::MatchesVersion(*version);
                if let Some(current) = check(connection, *key, holds, index)? {
                    delete(connection, key.kind, key.id, &current)?;
                }
            }
            Op::Require(key, precondition) => {
                check(connection, *key, *precondition, index)?;
            }
            Op::RequireUnreferenced(_) => {}
            Op::Append(new) => event::append(connection, new)?,
        }
    }
    for (index, op) in batch.ops.iter().enumerate() {
        if let Op::RequireUnreferenced(id) = op {
            check_unreferenced(connection, *id, index)?;
        }
    }
    Ok(versions)
}

fn check(
    connection: &Connection,
    key: DocumentKey,
    precondition: Precondition,
    op: usize,
) -> Result<Option<Current>, Failed> {
    let found = connection
        .prepare_cached("SELECT version, refs FROM document WHERE kind = ?1 AND id = ?2")?
        .query_row((key.kind, key.id.as_bytes()), |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    let current = match found {
        Some((version, refs)) => Some(Current {
            version: unsigned(version),
            references: references(&refs)?,
        }),
        None => None,
    };
    let version = current.as_ref().map(|current| DocumentVersion(current.version));
    let holds = match precondition {
        Precondition::DoesNotExist => version.is_none(),
        Precondition::MatchesVersion(wanted) => version == Some(wanted),
    };
    if holds {
        return Ok(current);
    }
    let message = match version {
        Some(version) => format!("{} {} has version {}", key.kind, key.id, version.0),
        None => format!("{} {} does not exist", key.kind, key.id),
    };
    Err(refusal(StoreErrorKind::Conflict, message, op).into())
}

fn put(
    connection: &Connection,
    document: &Document,
    current: Option<Current>,
    op: usize,
) -> Result<DocumentVersion, Failed> {
    let DocumentKey { kind, id } = document.key;
    if let Some(name) = &document.unique {
        check_name(connection, document.key, name, op)?;
    }
    let body = text(document, op)?;
    let before = match &current {
        Some(current) => current.version,
        None => version_floor(connection, kind)?,
    };
    let version = before + 1;
    let refs: Vec<u8> = document
        .references
        .iter()
        .flat_map(|id| id.into_bytes())
        .collect();
    let parent = document.parent.as_ref().map(Uuid::as_bytes);
    let expires_at = document.expires_at.map(Timestamp::unix_ms);
    connection
        .prepare_cached(
            "INSERT INTO document (kind, id, version, parent, unique_name, refs, expires_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, parent = excluded.parent,
                 unique_name = excluded.unique_name, refs = excluded.refs,
                 expires_at = excluded.expires_at, body = excluded.body",
        )?
        .execute((
            kind,
            id.as_bytes(),
            signed(version),
            parent,
            &document.unique,
            refs,
            expires_at,
            body,
        ))?;
    let old = current.map_or_else(Vec::new, |current| current.references);
    if old != document.references {
        forget_references(connection, kind, id, &old)?;
        for target in &document.references {
            connection
                .prepare_cached("INSERT OR IGNORE INTO reference (target, id, kind) VALUES (?1, ?2, ?3)")?
                .execute((target.as_bytes(), id.as_bytes(), kind))?;
        }
    }
    Ok(DocumentVersion(version))
}

fn delete(connection: &Connection, kind: &str, id: Uuid, current: &Current) -> Result<(), Failed> {
    forget_references(connection, kind, id, &current.references)?;
    connection
        .prepare_cached("DELETE FROM document WHERE kind = ?1 AND id = ?2")?
        .execute((kind, id.as_bytes()))?;
    connection
        .prepare_cached(
            "INSERT INTO version_floor (kind, floor) VALUES (?1, ?2)
             ON CONFLICT (kind) DO UPDATE SET floor = max(floor, excluded.floor)",
        )?
        .execute((kind, signed(current.version)))?;
    Ok(())
}

fn forget_references(
    connection: &Connection,
    kind: &str,
    id: Uuid,
    targets: &[Uuid],
) -> Result<(), rusqlite::Error> {
    for target in targets {
        connection
            .prepare_cached("DELETE FROM reference WHERE target = ?1 AND id = ?2 AND kind = ?3")?
            .execute((target.as_bytes(), id.as_bytes(), kind))?;
    }
    Ok(())
}

fn version_floor(connection: &Connection, kind: &str) -> Result<u64, Failed> {
    let floor = connection
        .prepare_cached("SELECT floor FROM version_floor WHERE kind = ?1")?
        .query_row([kind], |row| row.get(0))
        .optional()?;
    Ok(floor.map_or(0, unsigned))
}

fn check_name(connection: &Connection, key: DocumentKey, name: &str, op: usize) -> Result<(), Failed> {
    let owner: Option<Vec<u8>> = connection
        .prepare_cached("SELECT id FROM document WHERE kind = ?1 AND unique_name = ?2")?
        .query_row((key.kind, name), |row| row.get(0))
        .optional()?;
    match owner {
        Some(owner) if owner != key.id.as_bytes() => {
            let message = format!("{} {name:?} exists already", key.kind);
            Err(refusal(StoreErrorKind::NameTaken, message, op).into())
        }
        _ => Ok(()),
    }
}

fn check_unreferenced(connection: &Connection, id: Uuid, op: usize) -> Result<(), Failed> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM reference WHERE target = ?1 ORDER BY id, kind LIMIT ?2")?;
    let mut rows = statement.query((id.as_bytes(), as_limit(REFERRERS_MAX, REFERRERS_MAX)))?;
    let mut referrers = Vec::new();
    while let Some(row) = rows.next()? {
        referrers.push(uuid(row.get_ref(0)?.as_blob().unwrap_or_default())?);
    }
    if referrers.is_empty() {
        return Ok(());
    }
    let mut error = refusal(
        StoreErrorKind::Referenced,
        format!("{id} is still referred to"),
        op,
    );
    error.referrers = referrers;
    Err(error.into())
}

/// The body as it is stored.
fn text(document: &Document, op: usize) -> Result<String, StoreError> {
    let too_large = |what: String| {
        let message = format!("{} {} is {what}", document.key.kind, document.key.id);
        refusal(StoreErrorKind::TooLarge, message, op)
    };
    if !is_depth_within(&document.body, BODY_DEPTH_MAX) {
        return Err(too_large(format!("nested deeper than {BODY_DEPTH_MAX} levels")));
    }
    let text =
        serde_json::to_string(&document.body).map_err(|error| too_large(format!("not storable: {error}")))?;
    if text.len() > BODY_BYTES_MAX {
        return Err(too_large(format!("larger than {BODY_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn is_depth_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_depth_within(item, levels - 1)),
        Value::Object(members) => {
            levels > 0 && members.values().all(|item| is_depth_within(item, levels - 1))
        }
        _ => true,
    }
}

/// Removes a portion of the documents whose time has come; returns how many.
pub(super) fn expire(connection: &Connection, now: Timestamp) -> Result<usize, Failed> {
    let due = due(connection, now)?;
    for (kind, id, current) in &due {
        delete(connection, kind, *id, current)?;
    }
    Ok(due.len())
}

fn due(connection: &Connection, now: Timestamp) -> Result<Vec<(String, Uuid, Current)>, Failed> {
    let mut statement = connection
        .prepare_cached("SELECT kind, id, version, refs FROM document WHERE expires_at <= ?1 LIMIT ?2")?;
    let mut rows = statement.query((now.unix_ms(), as_limit(EXPIRE_PORTION, EXPIRE_PORTION)))?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let id = uuid(row.get_ref(1)?.as_blob().unwrap_or_default())?;
        let references = references(row.get_ref(3)?.as_blob().unwrap_or_default())?;
        due.push((
            row.get(0)?,
            id,
            Current {
                version: unsigned(row.get(2)?),
                references,
            },
        ));
    }
    Ok(due)
}

/// Versions grow by one with each write: none comes near the bound.
fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_is_counted_in_levels() {
        assert!(is_depth_within(&json!(1), 0));
        assert!(!is_depth_within(&json!([]), 0));
        assert!(is_depth_within(&json!([{"a": 1}, []]), 2));
        assert!(!is_depth_within(&json!([1, {"a": []}]), 2));
    }
}
