//! Scripts that make, change and drop roles and databases. Only what the register says to be ours is ever
//! changed or dropped.

use uuid::Uuid;

use crate::id::{DatabaseId, UserId};
use crate::name::{DatabaseName, UserName};
use crate::object_change::{DatabaseSource, GoneObject};
use crate::scram::ScramVerifier;
use crate::sql::Statement;
use crate::sql_executor::Script;
use crate::version::PostgresMajor;

use super::register::{
    database_is_nobodys, database_is_ours, register_database, register_role, role_is_ours, unregister,
};
use super::release::{LOCK_WAIT_MS, Obstacles, clear};

/// The name under which a database is made, until it is registered: a crash between making and registering
/// leaves nothing under a user's name that nobody would own up to. The name holds the id, and is safe:
/// tenants can make no databases, without which right they cannot rename their own either, and nobody but us
/// can connect to what is called so.
pub fn staging_database_name(id: Uuid) -> String {
    format!("dbaas_new_{}", id.simple())
}

/// The database that a backend may have made ahead in a data directory that it keeps ready
/// ([`Prepare::Init`](crate::boot::Prepare::Init)): the first tenant's database is made from it by giving it
/// its name. No tenant's database can be called so, nor be renamed to it (see [`staging_database_name`]).
pub const SPARE_DATABASE: &str = "dbaas-spare";

/// What makes the [spare database](SPARE_DATABASE), for a single-user server (`postgres --single`) on a data
/// directory that `initdb` has just made. Nobody can connect to it. `None` for versions that would give it an
/// OID among those of the system's own objects.
pub fn create_spare_database(major: PostgresMajor) -> Option<Statement> {
    let statement = Statement::fixed("CREATE DATABASE ")
        .ident(SPARE_DATABASE)
        // Copied as files: there is nobody yet who would need it in the WAL.
        .raw(" TEMPLATE template0 ALLOW_CONNECTIONS false OID 16384 STRATEGY file_copy");
    (major.get() >= 15).then_some(statement)
}

const ATTRIBUTES: &str =
    " WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT PASSWORD ";

/// Creates a tenant's role and registers it.
pub fn create_role(name: &UserName, id: Uuid, verifier: &ScramVerifier) -> Script {
    Script::new("create_role")
        .in_transaction()
        .step(
            Statement::fixed("CREATE ROLE ")
                .ident(name.as_str())
                .raw(ATTRIBUTES)
                .literal(&verifier.to_string()),
        )
        .guard(register_role(name.as_str(), id))
        .within_ms(1_000, 5_000)
}

/// Sets a tenant's role to what it is to be.
pub fn alter_role(name: &UserName, id: Uuid, verifier: &ScramVerifier) -> Script {
    Script::new("alter_role")
        .in_transaction()
        .guard(role_is_ours(name.as_str(), id))
        .step(
            Statement::fixed("ALTER ROLE ")
                .ident(name.as_str())
                .raw(ATTRIBUTES)
                .literal(&verifier.to_string()),
        )
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 5_000)
}

/// Keeps a role that is to be dropped from logging in, and ends its sessions.
pub fn lock_out_role(name: &str, id: Uuid) -> Script {
    Script::new("lock_out_role")
        .guard(role_is_ours(name, id))
        .step(Statement::fixed("ALTER ROLE ").ident(name).raw(" NOLOGIN"))
        .step(
            Statement::fixed("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ")
                .literal(name),
        )
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 5_000)
}

/// Drops a role that owns nothing any more.
pub fn drop_role(name: &str, id: UserId) -> Script {
    Script::new("drop_role")
        .in_transaction()
        .guard(role_is_ours(name, id.uuid()))
        .step(Statement::fixed("DROP ROLE ").ident(name))
        .step(unregister(GoneObject::User(id)))
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 5_000)
}

/// Makes a database from its source: first under its staging name, if there is neither that nor a spare one;
/// then, in one transaction, it is registered, closed to PUBLIC and given its name. Until then nobody can
/// connect to it. Scripts to be run in order.
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
                // The template's pages go into the WAL whole. Compressing them takes longer than everything
                // else together. A script that fails between the two loses its session, so that no other one
                // meets the setting.
                .step(Statement::fixed("SET wal_compression = off"))
                .step(
                    Statement::fixed("CREATE DATABASE ")
                        .ident(&staging)
                        .raw(" TEMPLATE template0 ALLOW_CONNECTIONS false"),
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
    let script = Script::new("name_database")
        .in_transaction()
        .guard(register_database(unnamed, id))
        .step(of_it("REVOKE CONNECT, TEMPORARY ON DATABASE ").raw(" FROM PUBLIC"))
        .step(of_it("ALTER DATABASE ").raw(" OWNER TO ").ident(owner.as_str()))
        .step(of_it("ALTER DATABASE ").raw(" ALLOW_CONNECTIONS true"))
        .step(of_it("ALTER DATABASE ").raw(" RENAME TO ").ident(name.as_str()));
    scripts.push(script.within_ms(1_000, 5_000));
    scripts
}

/// Sets a database's owner and closes it to PUBLIC. What `REVOKE` takes away is what its owner granted;
/// `grantors` are those who granted it to PUBLIC besides, with a right that they had been given to do so:
/// each of theirs is taken away as they would do it.
pub fn alter_database_owner(
    name: &DatabaseName,
    id: Uuid,
    owner: &UserName,
    owner_id: Uuid,
    grantors: &[String],
) -> Script {
    let revoke = || {
        Statement::fixed("REVOKE CONNECT, TEMPORARY ON DATABASE ")
            .ident(name.as_str())
            .raw(" FROM PUBLIC CASCADE")
    };
    let mut script = Script::new("alter_database_owner")
        .in_transaction()
        .guard(database_is_ours(name.as_str(), id))
        .guard(role_is_ours(owner.as_str(), owner_id))
        .step(
            Statement::fixed("ALTER DATABASE ")
                .ident(name.as_str())
                .raw(" OWNER TO ")
                .ident(owner.as_str()),
        )
        .step(revoke());
    for grantor in grantors {
        script = script
            .step(Statement::fixed("SET LOCAL ROLE ").ident(grantor))
            .step(revoke())
            .step(Statement::fixed("RESET ROLE"));
    }
    script.waiting_for_locks_ms(LOCK_WAIT_MS).within_ms(1_000, 5_000)
}

/// Drops a database, ending the sessions in it, by the name that it has now. Between the look and the drop
/// its name could only be taken by another one if somebody could make or rename databases.
pub fn drop_database(name: &str, id: DatabaseId, registered: bool) -> Script {
    let script = Script::new("drop_database")
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 30_000);
    // A database under its staging name is not registered yet; the name itself holds the id.
    let script = if registered {
        script.guard(database_is_ours(name, id.uuid()))
    } else {
        script.guard(database_is_nobodys(name))
    };
    // A template is not dropped, and a slot that is in use keeps its database.
    let script = script
        .step(Statement::fixed("ALTER DATABASE ").ident(name).raw(" IS_TEMPLATE false"))
        .step(
            Statement::fixed("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND database = ")
                .literal(name),
        );
    let script = script.step(
        Statement::fixed("DROP DATABASE ")
            .ident(name)
            .raw(" WITH (FORCE)"),
    );
    if registered {
        script.step(unregister(GoneObject::Database(id)))
    } else {
        script
    }
}

/// Opens a database that nobody can connect to, so that what is in it can be got at, or closes it again, as
/// its owner had it.
pub fn allow_connections(oid: u32, name: &str, allow: bool) -> Script {
    Script::new("allow_connections")
        .guard(
            Statement::fixed("SELECT oid = ")
                .number(oid.into())
                .raw(" FROM pg_database WHERE datname = ")
                .literal(name),
        )
        .step(Statement::fixed("ALTER DATABASE ").ident(name).raw(if allow {
            " ALLOW_CONNECTIONS true"
        } else {
            " ALLOW_CONNECTIONS false"
        }))
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 5_000)
}

/// Removes what keeps a database from being dropped, in that database.
pub fn clear_database(name: &str, obstacles: &Obstacles) -> Script {
    let here = Statement::fixed("SELECT current_database() = ").literal(name);
    clear(Script::new("clear_database").guard(here), obstacles)
}
