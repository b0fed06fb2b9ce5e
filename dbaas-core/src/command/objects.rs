//! Scripts that make, change and drop roles and databases. Only what carries our mark is ever changed or dropped.

use uuid::Uuid;

use crate::name::{DatabaseName, UserName};
use crate::plan::DatabaseSource;
use crate::scram::ScramVerifier;
use crate::sql::Statement;
use crate::sql_executor::Script;
use crate::version::PostgresMajor;

/// The comment that says that a role or database was made by the control plane, and which one it is.
pub fn object_mark(id: Uuid) -> String {
    format!("dbaas:{id}")
}

/// The name under which a database is made, until it carries its mark: a crash between making and marking leaves nothing
/// under a user's name that nobody would own up to.
pub fn staging_database_name(id: Uuid) -> String {
    format!("dbaas_new_{}", id.simple())
}

/// The database that a backend may have made ahead in a data directory that it keeps ready
/// ([`Prepare::Init`](crate::boot::Prepare::Init)): the first tenant's database is made from it by giving it its name. No tenant's
/// database can be called so.
pub const SPARE_DATABASE: &str = "dbaas-spare";

/// What makes the [spare database](SPARE_DATABASE), for a single-user server (`postgres --single`) on a data directory that `initdb` has just
/// made. Nobody can connect to it. `None` for versions that would give it an OID among those of the system's own objects.
pub fn create_spare_database(major: PostgresMajor) -> Option<Statement> {
    let statement = Statement::fixed("CREATE DATABASE ")
        .ident(SPARE_DATABASE)
        // Copied as files: there is nobody yet who would need it in the WAL.
        .raw(" TEMPLATE template0 ALLOW_CONNECTIONS false OID 16384 STRATEGY file_copy");
    (major.get() >= 15).then_some(statement)
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

/// Makes a database from its source: first under its staging name, if there is neither that nor a spare one; then, in one transaction, it
/// is marked, closed to PUBLIC and given its name. Scripts to be run in order.
pub fn create_database(
    name: &DatabaseName,
    id: Uuid,
    owner: &UserName,
    source: DatabaseSource,
) -> Vec<Script> {
    let staging = staging_database_name(id);
    let mut scripts = Vec::new();
    if source == DatabaseSource::Template {
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
    let unnamed = match source {
        DatabaseSource::Template | DatabaseSource::Staged => staging.as_str(),
        DatabaseSource::Spare => SPARE_DATABASE,
    };
    let of_it = |what: &'static str| Statement::fixed(what).ident(unnamed);
    let mut script = Script::new("name_database")
        .in_transaction()
        .step(
            of_it("COMMENT ON DATABASE ")
                .raw(" IS ")
                .literal(&object_mark(id)),
        )
        .step(of_it("REVOKE CONNECT, TEMPORARY ON DATABASE ").raw(" FROM PUBLIC"))
        .step(of_it("ALTER DATABASE ").raw(" OWNER TO ").ident(owner.as_str()));
    if source == DatabaseSource::Spare {
        script = script.step(of_it("ALTER DATABASE ").raw(" ALLOW_CONNECTIONS true"));
    }
    script = script.step(of_it("ALTER DATABASE ").raw(" RENAME TO ").ident(name.as_str()));
    scripts.push(script.within_ms(1_000, 5_000));
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
