//! Scripts that make, change and drop roles and databases. Only what carries our mark is ever changed or dropped.

use uuid::Uuid;

use crate::name::{DatabaseName, UserName};
use crate::scram::ScramVerifier;
use crate::sql::Statement;
use crate::sql_executor::Script;

/// The comment that says that a role or database was made by the control plane, and which one it is.
pub fn object_mark(id: Uuid) -> String {
    format!("dbaas:{id}")
}

/// The name under which a database is made, until it carries its mark: a crash between making and marking leaves nothing
/// under a user's name that nobody would own up to.
pub fn staging_database_name(id: Uuid) -> String {
    format!("dbaas_new_{}", id.simple())
}

const ATTRIBUTES: &str =
    " WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT PASSWORD ";

fn role_is_ours(name: &UserName, id: Uuid) -> Statement {
    Statement::fixed("SELECT shobj_description(oid, 'pg_authid') = ")
        .literal(&object_mark(id))
        .raw(" FROM pg_authid WHERE rolname = ")
        .literal(name.as_str())
}

fn database_is_ours(name: &str, id: Uuid) -> Statement {
    Statement::fixed("SELECT shobj_description(oid, 'pg_database') = ")
        .literal(&object_mark(id))
        .raw(" FROM pg_database WHERE datname = ")
        .literal(name)
}

/// Creates a tenant's role with its mark.
pub fn create_role(name: &UserName, id: Uuid, verifier: &ScramVerifier) -> Script {
    Script::new("create_role")
        .in_transaction()
        .step(
            Statement::fixed("CREATE ROLE ")
                .ident(name.as_str())
                .raw(ATTRIBUTES)
                .literal(&verifier.to_string()),
        )
        .step(
            Statement::fixed("COMMENT ON ROLE ")
                .ident(name.as_str())
                .raw(" IS ")
                .literal(&object_mark(id)),
        )
        .within_ms(1_000, 5_000)
}

/// Sets a tenant's role to what it is to be.
pub fn alter_role(name: &UserName, id: Uuid, verifier: &ScramVerifier) -> Script {
    Script::new("alter_role")
        .in_transaction()
        .guard(role_is_ours(name, id))
        .step(
            Statement::fixed("ALTER ROLE ")
                .ident(name.as_str())
                .raw(ATTRIBUTES)
                .literal(&verifier.to_string()),
        )
        .within_ms(1_000, 5_000)
}

/// Keeps a role that is to be dropped from logging in, and ends its sessions.
pub fn lock_out_role(name: &UserName, id: Uuid) -> Script {
    Script::new("lock_out_role")
        .guard(role_is_ours(name, id))
        .step(
            Statement::fixed("ALTER ROLE ")
                .ident(name.as_str())
                .raw(" NOLOGIN"),
        )
        .step(
            Statement::fixed("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ")
                .literal(name.as_str()),
        )
        .within_ms(1_000, 5_000)
}

/// To be run in each database: gives what the role owns there to `heir`, and takes its privileges away.
pub fn drop_role_ownership(name: &UserName, id: Uuid, heir: &str) -> Script {
    Script::new("drop_role_ownership")
        .in_transaction()
        .guard(role_is_ours(name, id))
        .step(
            Statement::fixed("REASSIGN OWNED BY ")
                .ident(name.as_str())
                .raw(" TO ")
                .ident(heir),
        )
        .step(Statement::fixed("DROP OWNED BY ").ident(name.as_str()))
        .within_ms(1_000, 30_000)
}

/// Drops a role that owns nothing any more.
pub fn drop_role(name: &UserName, id: Uuid) -> Script {
    Script::new("drop_role")
        .in_transaction()
        .guard(role_is_ours(name, id))
        .step(Statement::fixed("DROP ROLE ").ident(name.as_str()))
        .within_ms(1_000, 5_000)
}

/// Makes a database: first under its staging name (`exists`: left over from a crash), then, in one transaction, marked,
/// closed to PUBLIC and given its name. Two scripts, to be run in order.
pub fn create_database(name: &DatabaseName, id: Uuid, owner: &UserName, exists: bool) -> Vec<Script> {
    let staging = staging_database_name(id);
    let mut scripts = Vec::new();
    if !exists {
        scripts.push(
            Script::new("create_database")
                // The template's pages go into the WAL whole. Compressing them takes longer than everything else together. A script that
                // fails between the two loses its session, so that no other one meets the setting.
                .step(Statement::fixed("SET wal_compression = off"))
                .step(
                    Statement::fixed("CREATE DATABASE ")
                        .ident(&staging)
                        .raw(" OWNER ")
                        .ident(owner.as_str())
                        .raw(" TEMPLATE template0"),
                )
                .step(Statement::fixed("RESET wal_compression"))
                .within_ms(1_000, 30_000),
        );
    }
    scripts.push(
        Script::new("name_database")
            .in_transaction()
            .step(
                Statement::fixed("COMMENT ON DATABASE ")
                    .ident(&staging)
                    .raw(" IS ")
                    .literal(&object_mark(id)),
            )
            .step(
                Statement::fixed("REVOKE CONNECT, TEMPORARY ON DATABASE ")
                    .ident(&staging)
                    .raw(" FROM PUBLIC"),
            )
            .step(
                Statement::fixed("ALTER DATABASE ")
                    .ident(&staging)
                    .raw(" OWNER TO ")
                    .ident(owner.as_str()),
            )
            .step(
                Statement::fixed("ALTER DATABASE ")
                    .ident(&staging)
                    .raw(" RENAME TO ")
                    .ident(name.as_str()),
            )
            .within_ms(1_000, 5_000),
    );
    scripts
}

/// Sets a database's owner and closes it to PUBLIC.
pub fn alter_database_owner(name: &DatabaseName, id: Uuid, owner: &UserName) -> Script {
    Script::new("alter_database_owner")
        .in_transaction()
        .guard(database_is_ours(name.as_str(), id))
        .step(
            Statement::fixed("ALTER DATABASE ")
                .ident(name.as_str())
                .raw(" OWNER TO ")
                .ident(owner.as_str()),
        )
        .step(
            Statement::fixed("REVOKE CONNECT, TEMPORARY ON DATABASE ")
                .ident(name.as_str())
                .raw(" FROM PUBLIC"),
        )
        .within_ms(1_000, 5_000)
}

/// Drops a database, ending the sessions in it.
pub fn drop_database(name: &str, id: Uuid, marked: bool) -> Script {
    let script = Script::new("drop_database").within_ms(1_000, 30_000);
    // A database under its staging name has no mark yet; the name itself holds the id.
    let script = if marked {
        script.guard(database_is_ours(name, id))
    } else {
        script
    };
    script.step(
        Statement::fixed("DROP DATABASE ")
            .ident(name)
            .raw(" WITH (FORCE)"),
    )
}
