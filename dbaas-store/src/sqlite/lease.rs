//! Leases and their fencing numbers.

use dbaas_core::store::{Lease, LeaseToken, StoreError, StoreErrorKind};
use dbaas_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::failure::Failed;
use super::query::unsigned;

struct Row {
    fencing: i64,
    /// `None` once released.
    holder: Option<String>,
    expires_at: Timestamp,
}

fn read(connection: &Connection, name: &str) -> Result<Option<Row>, Failed> {
    let row = connection
        .prepare_cached("SELECT fencing, holder, expires_at FROM lease WHERE name = ?1")?
        .query_row([name], |row| {
            let expires_at = Timestamp::from_unix_ms(row.get(2)?);
            Ok(Row {
                fencing: row.get(0)?,
                holder: row.get(1)?,
                expires_at,
            })
        })
        .optional()?;
    Ok(row)
}

/// Refuses unless the token is the newest and was not released.
pub(super) fn require(connection: &Connection, token: &LeaseToken) -> Result<(), Failed> {
    match read(connection, &token.name)? {
        Some(Row {
            fencing,
            holder: Some(_),
            ..
        }) if unsigned(fencing) == token.fencing => Ok(()),
        _ => {
            let message = format!(
                "the lease {:?} is no longer held with fencing number {}",
                token.name, token.fencing
            );
            Err(StoreError::new(StoreErrorKind::LeaseLost, message).into())
        }
    }
}

pub(super) fn acquire(
    connection: &Connection,
    name: &str,
    holder: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Result<Lease, Lease>, Failed> {
    let lease = |fencing: i64, holder: &str, expires_at: Timestamp| Lease {
        token: LeaseToken {
            name: name.to_owned(),
            fencing: unsigned(fencing),
        },
        holder: holder.to_owned(),
        expires_at,
    };
    let fencing = match read(connection, name)? {
        None => 1,
        Some(Row {
            fencing,
            holder: Some(other),
            ..
        }) if other == holder => fencing,
        Some(Row {
            fencing,
            holder: Some(other),
            expires_at,
        }) if expires_at > now => {
            return Ok(Err(lease(fencing, &other, expires_at)));
        }
        Some(Row { fencing, .. }) => fencing + 1,
    };
    connection
        .prepare_cached(
            "INSERT INTO lease (name, fencing, holder, expires_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET fencing = excluded.fencing, holder = excluded.holder,
                 expires_at = excluded.expires_at",
        )?
        .execute((name, fencing, holder, expires_at.unix_ms()))?;
    Ok(Ok(lease(fencing, holder, expires_at)))
}

pub(super) fn release(connection: &Connection, token: &LeaseToken) -> Result<(), Failed> {
    let Ok(fencing) = i64::try_from(token.fencing) else {
        return Ok(());
    };
    connection
        .prepare_cached("UPDATE lease SET holder = NULL WHERE name = ?1 AND fencing = ?2")?
        .execute((&token.name, fencing))?;
    Ok(())
}
