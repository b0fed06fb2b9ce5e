//! The register: a table in the database `postgres`, `dbaas.object`, that says which role or database is
//! which record's. Nobody but the control plane's superuser can read or write it, it is written in the
//! transaction that makes or drops what it tells of, and it is replicated like everything else. What a tenant
//! can write, such as a comment or a name, says nothing of what is ours.
//!
//! It holds OIDs: an object keeps its own for as long as it exists, whatever it is renamed to. PostgreSQL
//! gives an OID to somebody else only when its counter of 4 billion has come round, and rows of what was
//! dropped are removed before.
//!
//! Scripts that run in a tenant's database cannot see it. They are given the OIDs that were read from it, and
//! compare those (`role_has_oid`).

use uuid::Uuid;

use crate::boot::HEIR_ROLE;
use crate::id::{DatabaseId, UserId};
use crate::object_change::{GoneObject, Registered};
use crate::sql::Statement;
use crate::sql_executor::Script;

use super::not_in_recovery_guard;

const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS dbaas";
const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS dbaas.object (id uuid PRIMARY KEY, \
     kind text NOT NULL CHECK (kind IN ('role', 'database')), oid oid NOT NULL, UNIQUE (kind, oid))";
/// Its name is safe as the other two roles' are: tenants can neither make nor rename roles, and no user can
/// be called so.
const CREATE_HEIR: &str = "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dbaas_heir') \
     THEN CREATE ROLE dbaas_heir NOLOGIN; END IF; END $$";

/// Appends what makes an empty register.
pub(super) fn with_register(script: Script) -> Script {
    script
        .step(Statement::fixed(CREATE_SCHEMA))
        .step(Statement::fixed(CREATE_TABLE))
        .step(Statement::fixed(CREATE_HEIR))
}

/// The comment by which an instance of before the register says that a role or database is this record's.
fn old_mark(id: Uuid) -> String {
    format!("dbaas:{id}")
}

/// Makes the register of an instance that has none, and fills it, once, from the records and the marks of
/// before: what is there under a record's name with that record's mark is registered, everything else is not.
/// Comments mean nothing from then on.
pub fn make_register(known: &[Registered]) -> Script {
    let script = Script::new("make_register")
        .in_transaction()
        .guard(not_in_recovery_guard())
        .guard(Statement::fixed("SELECT to_regclass('dbaas.object') IS NULL"));
    let mut script = with_register(script);
    for object in known {
        let (insert, id) = match object.id {
            GoneObject::User(id) => (
                "INSERT INTO dbaas.object SELECT id::uuid, 'role', oid FROM pg_authid, (VALUES (",
                id.uuid(),
            ),
            GoneObject::Database(id) => (
                "INSERT INTO dbaas.object SELECT id::uuid, 'database', oid FROM pg_database, (VALUES (",
                id.uuid(),
            ),
        };
        let of = Statement::fixed(insert)
            .literal(&id.to_string())
            .raw(", ")
            .literal(&object.name)
            .raw(", ")
            .literal(&old_mark(id));
        let of = match object.id {
            GoneObject::User(_) => of.raw(
                ")) known (id, name, mark) WHERE rolname = name AND shobj_description(oid, 'pg_authid') = mark",
            ),
            GoneObject::Database(_) => of.raw(
                ")) known (id, name, mark) WHERE datname = name AND shobj_description(oid, 'pg_database') = mark",
            ),
        };
        script = script.step(of);
    }
    script.within_ms(1_000, 10_000)
}

/// Whether the role of this name is this record's.
pub(super) fn role_is_ours(name: &str, id: Uuid) -> Statement {
    Statement::fixed(
        "SELECT EXISTS (SELECT FROM dbaas.object o JOIN pg_authid a ON a.oid = o.oid WHERE o.kind = 'role' AND o.id = ",
    )
    .literal(&id.to_string())
    .raw(" AND a.rolname = ")
    .literal(name)
    .raw(")")
}

/// Whether the database of this name is this record's.
pub(super) fn database_is_ours(name: &str, id: Uuid) -> Statement {
    Statement::fixed(
        "SELECT EXISTS (SELECT FROM dbaas.object o JOIN pg_database d ON d.oid = o.oid WHERE o.kind = 'database' AND o.id = ",
    )
    .literal(&id.to_string())
    .raw(" AND d.datname = ")
    .literal(name)
    .raw(")")
}

/// Whether the database of this name is in nobody's record.
pub(super) fn database_is_nobodys(name: &str) -> Statement {
    Statement::fixed(
        "SELECT NOT EXISTS (SELECT FROM dbaas.object o JOIN pg_database d ON d.oid = o.oid WHERE o.kind = 'database' AND d.datname = ",
    )
    .literal(name)
    .raw(")")
}

/// Registers the role of this name as this record's, answering true: also in the place of one that was
/// dropped by SQL. One that exists is not given up for another: an order to make a role that comes late
/// answers nothing.
pub(super) fn register_role(name: &str, id: Uuid) -> Statement {
    Statement::fixed("INSERT INTO dbaas.object AS o SELECT ")
        .literal(&id.to_string())
        .raw("::uuid, 'role', oid FROM pg_authid WHERE rolname = ")
        .literal(name)
        .raw(
            " ON CONFLICT (id) DO UPDATE SET oid = excluded.oid WHERE o.kind = 'role' \
             AND NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = o.oid) RETURNING true",
        )
}

/// Registers the database of this name as this record's, answering true. An order to make a database that
/// comes late fails here: there is a row already, be the database still there or not.
pub(super) fn register_database(name: &str, id: Uuid) -> Statement {
    Statement::fixed("INSERT INTO dbaas.object SELECT ")
        .literal(&id.to_string())
        .raw("::uuid, 'database', oid FROM pg_database WHERE datname = ")
        .literal(name)
        .raw(" RETURNING true")
}

/// Removes the row of what is not there any more.
pub(super) fn unregister(object: GoneObject) -> Statement {
    match object {
        GoneObject::User(id) => Statement::fixed("DELETE FROM dbaas.object o WHERE kind = 'role' AND id = ")
            .literal(&id.to_string())
            .raw(" AND NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = o.oid)"),
        GoneObject::Database(id) => {
            Statement::fixed("DELETE FROM dbaas.object o WHERE kind = 'database' AND id = ")
                .literal(&id.to_string())
                .raw(" AND NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = o.oid)")
        }
    }
}

/// Forgets a role or database that was dropped by SQL.
pub fn forget(object: GoneObject) -> Script {
    Script::new("forget")
        .guard(not_in_recovery_guard())
        .step(unregister(object))
        .within_ms(1_000, 5_000)
}

/// Takes a role over that the control plane did not make, on request: a superuser is not taken over.
pub fn adopt_role(name: &str, id: UserId) -> Script {
    Script::new("adopt_role")
        .in_transaction()
        .guard(Statement::fixed("SELECT NOT rolsuper FROM pg_authid WHERE rolname = ").literal(name))
        .guard(register_role(name, id.uuid()))
        .within_ms(1_000, 5_000)
}

/// Takes a database over that the control plane did not make, on request. What the record meant before must
/// be gone.
pub fn adopt_database(name: &str, id: DatabaseId) -> Script {
    Script::new("adopt_database")
        .in_transaction()
        .step(unregister(GoneObject::Database(id)))
        .guard(register_database(name, id.uuid()))
        .within_ms(1_000, 5_000)
}

/// Whether the role of this name is the one with this OID: the register's word, where the register cannot be
/// seen.
pub(super) fn role_has_oid(name: &str, oid: u32) -> Statement {
    Statement::fixed("SELECT oid = ")
        .number(oid.into())
        .raw(" FROM pg_roles WHERE rolname = ")
        .literal(name)
}

/// Whether this session is in the database with this OID.
pub(super) fn in_database(oid: u32) -> Statement {
    Statement::fixed("SELECT oid = ")
        .number(oid.into())
        .raw(" FROM pg_database WHERE datname = current_database()")
}

/// Whether the role that inherits what nobody else does has no rights and nobody's: it cannot log in, and is
/// no member of anything.
pub(super) fn heir_is_powerless() -> Statement {
    Statement::fixed("SELECT NOT (rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls) \
         AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid OR m.roleid = r.oid) \
         FROM pg_roles r WHERE rolname = ")
        .literal(HEIR_ROLE)
}
