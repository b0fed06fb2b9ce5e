//! The event log.

use dbaas_core::store::{EVENTS_LIMIT_MAX, NewEvent, StoredEvent};
use dbaas_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::failure::Failed;
use super::query::{as_limit, unsigned, uuid};

/// The key of a subject; none is the empty one.
fn subject_key(subject: &Option<Uuid>) -> &[u8] {
    subject.as_ref().map_or(&[], |id| id.as_bytes())
}

pub(super) fn append(connection: &Connection, event: &NewEvent) -> Result<(), Failed> {
    let subject = subject_key(&event.subject);
    let node = event.node.as_ref().map(Uuid::as_bytes);
    connection
        .prepare_cached("INSERT INTO event (subject, at, kind, message, node) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((subject, event.at.unix_ms(), &event.kind, &event.message, node))?;
    connection
        .prepare_cached(
            "INSERT INTO event_count (subject, events) VALUES (?1, 1)
             ON CONFLICT (subject) DO UPDATE SET events = events + 1",
        )?
        .execute([subject])?;
    Ok(())
}

pub(super) fn read(
    connection: &Connection,
    subject: Option<Uuid>,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, Failed> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = as_limit(limit, EVENTS_LIMIT_MAX);
    let mut statement = connection.prepare_cached(match subject {
        Some(_) => {
            "SELECT sequence, subject, at, kind, message, node FROM event
             WHERE sequence > ?1 AND subject = ?3 ORDER BY sequence LIMIT ?2"
        }
        None => {
            "SELECT sequence, subject, at, kind, message, node FROM event
             WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
        }
    })?;
    let mut rows = match subject {
        Some(_) => statement.query((after, limit, subject_key(&subject)))?,
        None => statement.query((after, limit))?,
    };
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let subject: Vec<u8> = row.get(1)?;
        let node: Option<Vec<u8>> = row.get(5)?;
        events.push(StoredEvent {
            sequence: unsigned(row.get(0)?),
            event: NewEvent {
                subject: if subject.is_empty() {
                    None
                } else {
                    Some(uuid(&subject)?)
                },
                at: Timestamp::from_unix_ms(row.get(2)?),
                kind: row.get(3)?,
                message: row.get(4)?,
                node: node.map(|node| uuid(&node)).transpose()?,
            },
        });
    }
    Ok(events)
}

/// Of so many subjects at most are events removed in one go ...
const EXPIRE_SUBJECTS: usize = 100;
/// ... and so many events, which bounds how long others wait.
const EXPIRE_PORTION: usize = 1_000;

/// Removes, per subject, all but the newest `keep`: a portion of them. Whether there may be more to do.
pub(super) fn expire(connection: &Connection, keep: usize) -> Result<bool, Failed> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let subjects: Vec<Vec<u8>> = connection
        .prepare_cached("SELECT subject FROM event_count WHERE events > ?1 LIMIT ?2")?
        .query_map((keep, as_limit(EXPIRE_SUBJECTS, EXPIRE_SUBJECTS)), |row| {
            row.get(0)
        })?
        .collect::<Result<_, _>>()?;
    let mut portion = EXPIRE_PORTION;
    for subject in &subjects {
        let removed = remove_oldest(connection, subject, keep, portion)?;
        portion -= removed;
        if portion == 0 {
            connection
                .prepare_cached("UPDATE event_count SET events = events - ?2 WHERE subject = ?1")?
                .execute((subject, i64::try_from(removed).unwrap_or(i64::MAX)))?;
            return Ok(true);
        }
        if keep == 0 {
            connection
                .prepare_cached("DELETE FROM event_count WHERE subject = ?1")?
                .execute([subject])?;
        } else {
            connection
                .prepare_cached("UPDATE event_count SET events = ?2 WHERE subject = ?1")?
                .execute((subject, keep))?;
        }
    }
    Ok(subjects.len() == EXPIRE_SUBJECTS)
}

/// Removes events of a subject that are not among the newest `keep`, the oldest first, `most` of them; fewer
/// if there are no more.
fn remove_oldest(connection: &Connection, subject: &[u8], keep: i64, most: usize) -> Result<usize, Failed> {
    let newest_to_go: Option<i64> = connection
        .prepare_cached(
            "SELECT sequence FROM event WHERE subject = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row((subject, keep), |row| row.get(0))
        .optional()?;
    let Some(newest_to_go) = newest_to_go else {
        return Ok(0);
    };
    let removed = connection
        .prepare_cached(
            "DELETE FROM event WHERE sequence IN (SELECT sequence FROM event
             WHERE subject = ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3)",
        )?
        .execute((subject, newest_to_go, as_limit(most, most)))?;
    Ok(removed)
}
