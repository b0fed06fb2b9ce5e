//! SQL that the control plane runs on nodes: each function renders one [`Script`].
//!
//! # Acting on a node's role is exclusive and ordered by epoch
//! A controller that was paused between two steps must not undo what a newer one did. So every script that
//! changes whom a node follows, what it waits for, or whether it is primary (a) takes an advisory lock that
//! only controllers take, ending any session that holds it, (b) checks, holding it, that the epoch persisted
//! in the node's configuration file is not newer than its own, and (c) does its change in the same session.
//! If that session is ended by a newer controller, the rest of the script does not happen.
//!
//! # History marks
//! A new primary's first record, before any standby may acknowledge for it, is a comment `epoch=N` on the
//! control plane's own role. A standby that has replayed it has replayed the whole history before it, so that
//! `(history, position)` orders nodes correctly where a WAL position alone would not.
//!
//! # The register
//! Which role and which database is which record's stands in a table that only the control plane can write
//! (`command/register.rs`). Each script that changes or drops one checks that in its own transaction.

use crate::boot::{ADMIN_ROLE, REPLICATION_ROLE};
use crate::cluster::Epoch;
use crate::patience::{TRIAL_COMMIT_MS, TRIAL_LOGIN_MS};
use crate::scram::ScramVerifier;
use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

mod access;
mod extensions;
mod objects;
mod observe;
mod ownership;
mod reconfigure;
mod register;
mod release;
mod repair;

pub use access::{change_access, create_access_roles, drop_access_roles, observe_inside, parse_inside};
pub use extensions::{change_extension, observe_extensions, parse_extensions};
pub use objects::{
    SPARE_DATABASE, allow_connections, alter_database_owner, alter_role, clear_database, create_database,
    create_role, create_spare_database, drop_database, drop_role, lock_out_role, staging_database_name,
};
pub use observe::{observe_catalogue, observe_node, parse_catalogue, parse_node};
pub use ownership::{
    disown_role, end_sessions_without_right, inherit_from_role, release_from_role, release_shared,
    release_to_owner, transfer_objects,
};
pub use reconfigure::{CONFIGURATION_REFUSED, reconfigure};
pub use register::{adopt_database, adopt_role, forget, make_register};
pub use release::{
    LOCK_WAIT_MS, Obstacles, Released, database_obstacles, holders_here, lock_holders, parse_obstacles,
    parse_release, parse_sessions, sessions_in,
};
pub use repair::{
    observe_database_lockouts, observe_role_lockouts, parse_lockouts, repair_database, repair_role,
};

/// An answer that does not have the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL's answer to {script} could not be read: {reason}")]
pub struct UnreadableAnswer {
    /// The script's name.
    pub script: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// Key of the advisory lock that controllers take: `dbaas` in ASCII's hexadecimal.
const LOCK_KEY: i64 = 0x64_6261_6173;

/// Which persisted epochs a script accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// This one or an older one.
    UpTo(Epoch),
    /// Just this one.
    Exactly(Epoch),
}

fn epoch_guard(accepts: Accepts) -> Statement {
    // The file, not the session's setting: another controller may have written it without this session having
    // been told yet.
    let persisted = Statement::fixed(
        "SELECT coalesce((SELECT setting::bigint FROM pg_file_settings WHERE name = 'dbaas.epoch' \
         ORDER BY seqno DESC LIMIT 1), 0)",
    );
    match accepts {
        Accepts::UpTo(epoch) => persisted.raw(" <= ").number(epoch.0 as i64),
        Accepts::Exactly(epoch) => persisted.raw(" = ").number(epoch.0 as i64),
    }
}

/// A script's beginning: the node is ours alone, and no newer epoch has been there.
fn exclusive(name: &'static str, accepts: Accepts) -> Script {
    Script::new(name)
        .waiting_for_locks_ms(2_000)
        .guard(epoch_guard(accepts))
        .step(
            Statement::fixed(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                 AND pid <> pg_backend_pid() AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = ",
            )
            .number(LOCK_KEY),
        )
        .step(
            Statement::fixed("SELECT pg_advisory_lock(")
                .number(LOCK_KEY)
                .raw(")"),
        )
        .guard(epoch_guard(accepts))
}

fn release(script: Script) -> Script {
    script.step(
        Statement::fixed("SELECT pg_advisory_unlock(")
            .number(LOCK_KEY)
            .raw(")"),
    )
}

fn alter_system(name: &'static str, value: &str) -> Statement {
    Statement::fixed("ALTER SYSTEM SET ")
        .raw(name)
        .raw(" = ")
        .literal(value)
}

fn reload() -> Statement {
    Statement::fixed("SELECT pg_reload_conf()")
}

/// Whether this node is a standby.
fn in_recovery_guard() -> Statement {
    Statement::fixed("SELECT pg_is_in_recovery()")
}

fn not_in_recovery_guard() -> Statement {
    Statement::fixed("SELECT NOT pg_is_in_recovery()")
}

/// Ends the sessions of clients that replay waits for: those that are in a statement or a transaction while
/// the startup process waits for a conflict (a snapshot, a lock, a pin) to go away. Otherwise it would wait
/// for `max_standby_streaming_delay`, and an election with it. Idle sessions hold nothing up; our own are
/// left alone.
fn end_conflicts() -> Statement {
    Statement::fixed(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND usename <> 'dbaas_admin' AND state <> 'idle' AND EXISTS (SELECT FROM pg_stat_activity s \
         WHERE s.backend_type = 'startup' AND (s.wait_event_type IN ('Lock', 'BufferPin') \
         OR s.wait_event LIKE 'RecoveryConflict%'))",
    )
}

/// Seals a standby in `epoch`: it persists the epoch, then follows nobody, and replays what it has without
/// regard to queries that stand in the way (those that replay meets later: seal it again). `closed_names` is
/// what `synchronous_standby_names` is to be while it is no primary, if it is not so already.
pub fn seal(epoch: Epoch, closed_names: Option<&str>) -> Script {
    let mut script = exclusive("seal", Accepts::UpTo(epoch))
        .guard(in_recovery_guard())
        .step(alter_system("dbaas.epoch", &epoch.to_string()))
        .step(alter_system("primary_conninfo", ""));
    if let Some(names) = closed_names {
        script = script.step(alter_system("synchronous_standby_names", names));
    }
    release(script.step(reload()).step(end_conflicts())).within_ms(1_000, 4_000)
}

/// Ends queries that keep a standby, sealed in `epoch`, from replaying what it has. Changes no setting: a
/// reload would wake replay.
pub fn end_replay_conflicts(epoch: Epoch) -> Script {
    Script::new("end_conflicts")
        .guard(epoch_guard(Accepts::Exactly(epoch)))
        .guard(in_recovery_guard())
        .step(end_conflicts())
        .within_ms(1_000, 4_000)
}

/// Promotes a sealed standby; `closed_names` must be in effect already (sealing sees to it), so that it
/// acknowledges nothing before its own setting is made. Does not wait for the promotion to end.
pub fn promote(epoch: Epoch, closed_names: &str) -> Script {
    let script = exclusive("promote", Accepts::Exactly(epoch))
        .guard(Statement::fixed(
            "SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)",
        ))
        .guard(Statement::fixed("SELECT current_setting('synchronous_standby_names') = ").literal(closed_names))
        .guard(in_recovery_guard())
        .step(Statement::fixed("SELECT pg_promote(false)"));
    release(script).within_ms(1_000, 4_000)
}

/// Writes the history mark of a primary's epoch.
pub fn mark_history(epoch: Epoch) -> Script {
    let script = exclusive("mark_history", Accepts::Exactly(epoch))
        .guard(not_in_recovery_guard())
        .step(
            Statement::fixed("COMMENT ON ROLE ")
                .ident(ADMIN_ROLE)
                .raw(" IS ")
                .literal(&format!("epoch={epoch}")),
        );
    release(script).within_ms(1_000, 4_000)
}

/// Sets what the primary of `epoch` waits for. `setting` is noted first, as a comment on the replication
/// role: within an epoch too, an older setting that arrives late is refused. Not in a configuration file: a
/// start writes those anew.
pub fn set_sync_names(epoch: Epoch, setting: u64, names: &str) -> Script {
    let number = i64::try_from(setting).unwrap_or(i64::MAX);
    let script = exclusive("set_sync_names", Accepts::Exactly(epoch))
        .guard(not_in_recovery_guard())
        .guard(
            Statement::fixed(
                "SELECT coalesce((SELECT substring(shobj_description(oid, 'pg_authid') from '^setting=([0-9]+)$')::bigint \
                 FROM pg_authid WHERE rolname = 'dbaas_replication'), 0) <= ",
            )
            .number(number),
        )
        .step(
            Statement::fixed("COMMENT ON ROLE ")
                .ident(REPLICATION_ROLE)
                .raw(" IS ")
                .literal(&format!("setting={number}")),
        )
        .step(alter_system("synchronous_standby_names", names))
        .step(reload());
    release(script).within_ms(1_000, 4_000)
}

/// Makes a standby follow a primary in `epoch`.
pub fn follow(epoch: Epoch, conninfo: &str, slot: &str, closed_names: Option<&str>) -> Script {
    let mut script = exclusive("follow", Accepts::UpTo(epoch))
        .guard(in_recovery_guard())
        .step(alter_system("dbaas.epoch", &epoch.to_string()))
        .step(alter_system("primary_slot_name", slot))
        .step(alter_system("primary_conninfo", conninfo));
    if let Some(names) = closed_names {
        script = script.step(alter_system("synchronous_standby_names", names));
    }
    release(script.step(reload())).within_ms(1_000, 4_000)
}

/// What a client gets, tried: a login, which needs a new process and the files of a database, and a commit.
///
/// The commit is a record of our own in the WAL (`pg_logical_emit_message`) and the commit record after it,
/// which the session then has flushed. It needs no table, so that nobody can lock it or take it away, it
/// leaves nothing to be vacuumed, and replay passes over it. A transaction id alone would not do: PostgreSQL
/// does not wait for the flush of a commit record whose transaction wrote nothing else. The session does not
/// wait for standbys (`synchronous_commit = local`): what does not come back is stuck on the primary itself.
pub fn try_service() -> Script {
    Script::new("try_service")
        .guard(not_in_recovery_guard())
        .step(Statement::fixed(
            "SELECT pg_logical_emit_message(true, 'dbaas', '')",
        ))
        .on_fresh_session()
        .within_ms(TRIAL_LOGIN_MS, TRIAL_COMMIT_MS)
}

/// A checkpoint, so that the shutdown that follows has little to write.
pub fn checkpoint() -> Script {
    Script::new("checkpoint")
        .step(Statement::fixed("CHECKPOINT"))
        .within_ms(1_000, 60_000)
}

/// Creates physical slots that reserve WAL at once; those that exist are left alone.
pub fn create_slots(names: &[String]) -> Script {
    let script = Script::new("create_slots").within_ms(1_000, 5_000);
    names
        .iter()
        .fold(script, |script, name| script.step(create_slot(name)))
}

fn create_slot(name: &str) -> Statement {
    Statement::fixed("SELECT pg_create_physical_replication_slot(")
        .literal(name)
        .raw(", true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ")
        .literal(name)
        .raw(")")
}

/// Drops slots that nobody uses now; those that are gone or in use are left alone.
pub fn drop_slots(names: &[String]) -> Script {
    names.iter().fold(
        Script::new("drop_slots").within_ms(1_000, 5_000),
        |script, name| {
            script.step(
                Statement::fixed(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ",
                )
                .literal(name)
                .raw(" AND NOT active"),
            )
        },
    )
}

/// The first thing on a new primary whose data directory came with a password of its own: the superuser's
/// password.
pub fn own_password(admin: &ScramVerifier) -> Script {
    Script::new("own_password")
        .guard(not_in_recovery_guard())
        .step(admin_password(admin))
        .within_ms(1_000, 5_000)
}

fn admin_password(admin: &ScramVerifier) -> Statement {
    Statement::fixed("ALTER ROLE ")
        .ident(ADMIN_ROLE)
        .raw(" PASSWORD ")
        .literal(&admin.to_string())
}

/// The control plane's own roles on a new primary: the superuser's password, the replication role with what
/// `pg_rewind` needs (PostgreSQL documentation, `pg_rewind`, "Notes"), the role that inherits what nobody
/// else does, the register, the first history mark, and a cluster closed to PUBLIC.
pub fn bootstrap(admin: &ScramVerifier, replication: &ScramVerifier, slots: &[String]) -> Script {
    let script = Script::new("bootstrap")
        .in_transaction()
        .guard(not_in_recovery_guard());
    // They are there at once, what follows with the transaction.
    let script = slots
        .iter()
        .fold(script, |script, name| script.step(create_slot(name)));
    register::with_register(script)
        .step(admin_password(admin))
        .step(Statement::fixed(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dbaas_replication') \
             THEN CREATE ROLE dbaas_replication; END IF; END $$",
        ))
        .step(
            Statement::fixed("ALTER ROLE ")
                .ident(REPLICATION_ROLE)
                .raw(" LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD ")
                .literal(&replication.to_string()),
        )
        .step(Statement::fixed(
            "GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
             pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO dbaas_replication",
        ))
        .step(Statement::fixed("GRANT CONNECT ON DATABASE postgres TO dbaas_replication"))
        .step(Statement::fixed("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC"))
        .step(Statement::fixed("COMMENT ON ROLE ").ident(ADMIN_ROLE).raw(" IS ").literal("epoch=1"))
        .within_ms(1_000, 5_000)
}

/// The single text value of an answer of one row and one column in the last step.
fn single_value<'a>(script: &'static str, answer: &'a [Rows]) -> Result<&'a str, UnreadableAnswer> {
    answer
        .last()
        .and_then(|rows| rows.first())
        .and_then(|row| row.first())
        .and_then(|value| value.as_deref())
        .ok_or_else(|| UnreadableAnswer {
            script,
            reason: "no row".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_one_value_of_the_last_step() {
        let one = |text: &str| -> Rows { vec![vec![Some(text.to_owned())]] };
        assert_eq!(single_value("s", &[one("first"), one("last")]).unwrap(), "last");
        let none: [Vec<Rows>; 4] = [vec![], vec![vec![]], vec![vec![vec![]]], vec![vec![vec![None]]]];
        for answer in none {
            let error = single_value("s", &answer).unwrap_err();
            assert_eq!((error.script, error.reason.as_str()), ("s", "no row"));
        }
    }
}
