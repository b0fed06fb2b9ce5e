//! Scripts that take out of the way what keeps a role or a database from being dropped: in bounded
//! transactions, waiting shortly for locks.
//!
//! `REASSIGN OWNED` and `DROP OWNED` take a lock on each table, its indexes and what belongs to it, all in
//! one transaction: many tables are more than the server's lock table holds, and one table that somebody
//! reads keeps all others waiting. So most of it is done before, by [`release`].

use serde::Deserialize;

use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

use super::{UnreadableAnswer, single_value};

/// How long a statement of ours waits for a lock that a tenant may hold, or behind which others may have to
/// wait, in milliseconds.
pub const LOCK_WAIT_MS: u32 = 100;

/// The sessions whose locks one transaction of ours may use up: each has room for `max_locks_per_transaction`
/// in the lock table.
const SESSIONS_WORTH_OF_LOCKS: i64 = 8;

/// What one `release` came to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Released {
    /// How many objects and privileges it took out of the way.
    pub moved: u64,
    /// How many are left in all databases.
    pub left: u64,
    /// What it waited for in vain.
    pub waited_for: Option<String>,
    /// Who holds that.
    pub held_by: Option<String>,
}

impl Released {
    /// What holds it up, if it had to wait.
    pub fn held_up(&self) -> Option<String> {
        let what = self.waited_for.as_ref()?;
        Some(match &self.held_by {
            Some(who) => format!("{what} is in use by {who}"),
            None => format!("{what} is in use"),
        })
    }
}

/// Who is meant, for people: `a` is a row of `pg_stat_activity`. Their statements may hold secrets, and are
/// not told.
const SESSION: &str = "format('session %s of user %s%s, %s since %s', a.pid, a.usename, \
     CASE WHEN a.application_name <> '' THEN format(' (%s)', a.application_name) ELSE '' END, \
     CASE WHEN a.xact_start IS NULL THEN 'connected' ELSE 'in a transaction' END, \
     to_char(coalesce(a.xact_start, a.backend_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))";

/// What of a role is taken out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// What it owns, what it was granted, and what names it.
    Everything,
    /// What it owns.
    Owned,
}

/// In the database that the script runs in: takes a bounded number of the role's objects and privileges out
/// of the way, in one transaction whose guards the script has already. `heir` gets what it owns.
pub(super) fn release(script: Script, role_oid: u32, heir: &str, what: Whole) -> Script {
    script
        .in_transaction()
        .step(
            Statement::fixed("SELECT set_config('dbaas.role', ")
                .literal(&role_oid.to_string())
                .raw(", true), set_config('dbaas.heir', ")
                .literal(heir)
                .raw(", true), set_config('dbaas.privileges', ")
                .literal(if what == Whole::Everything { "on" } else { "off" })
                .raw(", true), set_config('dbaas.waited_for', '', true), set_config('dbaas.waited_oid', '0', true), \
                     set_config('dbaas.locks', (current_setting('max_locks_per_transaction')::int * ")
                .number(SESSIONS_WORTH_OF_LOCKS)
                .raw(")::text, true)"),
        )
        .step(Statement::fixed(include_str!("release.sql")))
        .step(
            Statement::fixed(
                "SELECT json_build_object('moved', current_setting('dbaas.moved')::int, \
                 'left', (SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass \
                     AND refobjid = current_setting('dbaas.role')::oid), \
                 'waited_for', nullif(current_setting('dbaas.waited_for'), ''), \
                 'held_by', (SELECT string_agg(x.who, '; ') FROM (SELECT DISTINCT ",
            )
            .raw(SESSION)
            .raw(
                " AS who FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted AND l.pid <> pg_backend_pid() \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND coalesce(l.relation, l.objid) = current_setting('dbaas.waited_oid')::oid LIMIT 3) x))",
            ),
        )
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 30_000)
}

/// Reads the answer of a script that ends with `release`.
pub fn parse_release(answer: &[Rows]) -> Result<Released, UnreadableAnswer> {
    read("release", answer)
}

fn read<T: serde::de::DeserializeOwned>(
    script: &'static str,
    answer: &[Rows],
) -> Result<T, UnreadableAnswer> {
    let text = single_value(script, answer)?;
    serde_json::from_str(text).map_err(|e| UnreadableAnswer {
        script,
        reason: e.to_string(),
    })
}

/// Who holds what a statement waited for in vain: the role or database of this name, rows of the catalogues
/// of both, or, in the database that it is run in, something that the role owns. Empty where nobody does any
/// more.
pub fn lock_holders(name: &str) -> Script {
    Script::new("lock_holders")
        .step(
            Statement::fixed("SELECT string_agg(x.who, '; ') FROM (SELECT DISTINCT ")
                .raw(SESSION)
                .raw(
                    " AS who FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted AND l.pid <> pg_backend_pid() \
                     AND a.application_name <> 'dbaas_controller' AND (l.database = 0 AND (l.relation IN ('pg_database'::regclass, \
                     'pg_authid'::regclass, 'pg_auth_members'::regclass, 'pg_db_role_setting'::regclass, 'pg_shdepend'::regclass) \
                     AND l.mode LIKE '%Exclusive%' OR l.objid IN (SELECT oid FROM pg_database WHERE datname = ",
                )
                .literal(name)
                .raw(" UNION ALL SELECT oid FROM pg_authid WHERE rolname = ")
                .literal(name)
                .raw(
                    ")) OR l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                     AND coalesce(l.relation, l.objid) IN (SELECT s.objid FROM pg_shdepend s JOIN pg_authid r ON r.oid = s.refobjid \
                     WHERE s.refclassid = 'pg_authid'::regclass AND s.dbid = l.database AND r.rolname = ",
                )
                .literal(name)
                .raw(")) LIMIT 3) x"),
        )
        .within_ms(1_000, 5_000)
}

/// Who holds, in the database that it is run in, a lock of the kinds that changes of objects wait for, and on
/// what. Empty where nobody does any more.
pub fn holders_here() -> Script {
    Script::new("holders_here")
        .step(
            Statement::fixed(
                "SELECT string_agg(x.who, '; ') FROM (SELECT DISTINCT coalesce(CASE WHEN l.relation IS NOT NULL \
                 THEN pg_describe_object('pg_class'::regclass, l.relation, 0) ELSE pg_describe_object(l.classid, l.objid, 0) END, 'an object') \
                 || ' is in use by ' || ",
            )
            .raw(SESSION)
            .raw(
                " AS who FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted AND l.pid <> pg_backend_pid() \
                 AND a.application_name <> 'dbaas_controller' AND l.locktype IN ('relation', 'object') \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
                 LIMIT 3) x",
            ),
        )
        .within_ms(1_000, 5_000)
}

/// Who is connected to a database: what kept it from being dropped, where that was not a lock.
pub fn sessions_in(database: &str) -> Script {
    Script::new("sessions_in")
        .step(
            Statement::fixed("SELECT string_agg(x.who, '; ') FROM (SELECT ")
                .raw(SESSION)
                .raw(" AS who FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.datname = ")
                .literal(database)
                .raw(" ORDER BY a.backend_start LIMIT 3) x"),
        )
        .within_ms(1_000, 5_000)
}

/// Reads the answer of [`lock_holders`] and [`sessions_in`].
pub fn parse_sessions(answer: &[Rows]) -> Option<&str> {
    answer.last()?.first()?.first()?.as_deref()
}

/// What in a database keeps `DROP DATABASE` from dropping it, also by force, and can only be removed from
/// within.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Obstacles {
    /// Subscriptions of logical replication.
    pub subscriptions: Vec<String>,
    /// Prepared transactions.
    pub prepared: Vec<String>,
    /// The database's OID.
    #[serde(default)]
    pub oid: u32,
    /// Nobody can connect to it.
    #[serde(default)]
    pub closed: bool,
}

impl Obstacles {
    /// Nothing is in the way.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.prepared.is_empty()
    }
}

/// Looks for [`Obstacles`], from outside the database.
pub fn database_obstacles(database: &str) -> Script {
    Script::new("database_obstacles")
        .step(
            Statement::fixed(
                "SELECT json_build_object('oid', d.oid::bigint, 'closed', NOT d.datallowconn, 'subscriptions', coalesce((SELECT json_agg(s.subname) FROM pg_subscription s \
                 WHERE s.subdbid = d.oid), '[]'), 'prepared', coalesce((SELECT json_agg(p.gid) FROM pg_prepared_xacts p \
                 WHERE p.database = d.datname), '[]')) FROM pg_database d WHERE d.datname = ",
            )
            .literal(database),
        )
        .within_ms(1_000, 5_000)
}

/// Reads the answer of [`database_obstacles`]; a database that is not there has none.
pub fn parse_obstacles(answer: &[Rows]) -> Result<Obstacles, UnreadableAnswer> {
    if answer.last().is_some_and(Vec::is_empty) {
        return Ok(Obstacles::default());
    }
    read("database_obstacles", answer)
}

/// Removes [`Obstacles`], in the database. A subscription's slot on its publisher is left to the publisher's
/// owner: the publisher may be out of reach.
pub(super) fn clear(mut script: Script, obstacles: &Obstacles) -> Script {
    for name in &obstacles.subscriptions {
        let alter = || Statement::fixed("ALTER SUBSCRIPTION ").ident(name);
        script = script
            .step(alter().raw(" DISABLE"))
            .step(alter().raw(" SET (slot_name = NONE)"))
            .step(Statement::fixed("DROP SUBSCRIPTION ").ident(name));
    }
    for gid in &obstacles.prepared {
        script = script.step(Statement::fixed("ROLLBACK PREPARED ").literal(gid));
    }
    script.waiting_for_locks_ms(LOCK_WAIT_MS).within_ms(1_000, 30_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_waits_for_is_told_with_who_holds_it() {
        let answer = |text: &str| vec![vec![vec![Some(text.to_owned())]]];
        let read = |text: &str| parse_release(&answer(text)).unwrap().held_up();
        let held = r#"{"moved": 0, "left": 3, "waited_for": "table t", "held_by": "session 7"}"#;
        assert_eq!(read(held).unwrap(), "table t is in use by session 7");
        let gone = r#"{"moved": 0, "left": 3, "waited_for": "table t", "held_by": null}"#;
        assert_eq!(read(gone).unwrap(), "table t is in use");
        let free = r#"{"moved": 4, "left": 0, "waited_for": null, "held_by": null}"#;
        assert_eq!(read(free), None);
        assert!(parse_release(&[]).is_err());
    }

    #[test]
    fn a_database_that_is_gone_has_no_obstacles() {
        assert!(parse_obstacles(&[vec![]]).unwrap().is_empty());
        let one = [vec![vec![Some(
            r#"{"subscriptions": ["s"], "prepared": []}"#.to_owned(),
        )]]];
        assert_eq!(parse_obstacles(&one).unwrap().subscriptions, ["s"]);
    }
}
