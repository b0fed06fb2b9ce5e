//! Scripts that hand a role's objects on. `REASSIGN OWNED` gives away, besides the objects of the database
//! where it runs, *every* database that the role owns: each script sees to it, in the same transaction, that
//! those do not go to who is to have the objects.
//!
//! Whoever inherits has no rights of ours: a `SECURITY DEFINER` function runs as its owner. So the heir is
//! looked at where it inherits.

use uuid::Uuid;

use crate::boot::HEIR_ROLE;
use crate::object_change::{Heir, Inheritance, RoleRef, Transfer};
use crate::sql::Statement;
use crate::sql_executor::Script;

use super::register::{database_is_ours, heir_is_powerless, in_database, role_has_oid, role_is_ours};
use super::release::{LOCK_WAIT_MS, Whole, release};

/// Whether the role owns no database.
fn owns_no_database(name: &str) -> Statement {
    Statement::fixed(
        "SELECT NOT EXISTS (SELECT FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = ",
    )
    .literal(name)
    .raw(")")
}

/// Whether the role owns no database of a record.
fn owns_no_registered_database(name: &str) -> Statement {
    Statement::fixed(
        "SELECT NOT EXISTS (SELECT FROM dbaas.object o JOIN pg_database d ON d.oid = o.oid JOIN pg_roles r ON r.oid = d.datdba \
         WHERE o.kind = 'database' AND r.rolname = ",
    )
    .literal(name)
    .raw(")")
}

/// Whether the role owns nothing in this database that could be anybody else's: default privileges and user
/// mappings go with the role.
fn owns_nothing_here(name: &str) -> Statement {
    Statement::fixed(
        "SELECT NOT EXISTS (SELECT FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
         WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' \
         AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass) AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND r.rolname = ",
    )
    .literal(name)
    .raw(")")
}

/// Whether the role owns this database, and has no rights beyond a tenant's.
pub(super) fn is_owner_here(role: &RoleRef) -> Statement {
    Statement::fixed(
        "SELECT NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls) \
         FROM pg_roles r JOIN pg_database d ON d.datdba = r.oid WHERE d.datname = current_database() AND r.oid = ",
    )
    .number(role.oid.into())
    .raw(" AND r.rolname = ")
    .literal(&role.name)
}

fn reassign(from: &str, to: &str) -> Statement {
    Statement::fixed("REASSIGN OWNED BY ")
        .ident(from)
        .raw(" TO ")
        .ident(to)
}

/// What the heir is called, and what has to be true of it where it inherits.
fn heir(of: &Heir) -> (&str, Statement) {
    match of {
        Heir::Nobody => (HEIR_ROLE, heir_is_powerless()),
        Heir::Owner(role) => (&role.name, is_owner_here(role)),
    }
}

/// The first step of dropping a role, in the database `postgres`: what it owns there, and every database that
/// it still owns and that is nobody's record's, goes to the role without rights. It must not own one of a
/// record.
pub fn disown_role(name: &str, id: Uuid) -> Script {
    Script::new("disown_role")
        .in_transaction()
        .guard(role_is_ours(name, id))
        .guard(owns_no_registered_database(name))
        .guard(heir_is_powerless())
        .step(reassign(name, HEIR_ROLE))
        // It owns nothing here any more: this takes privileges away.
        .guard(owns_nothing_here(name))
        .step(Statement::fixed("DROP OWNED BY ").ident(name))
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 30_000)
}

/// The second step, in each database that has to do with the role: its objects go to the heir, and its
/// privileges go.
pub fn inherit_from_role(role: &RoleRef, inheritance: &Inheritance) -> Script {
    let (to, fit) = heir(&inheritance.heir);
    Script::new("inherit_from_role")
        .in_transaction()
        .guard(in_database(inheritance.oid))
        .guard(role_has_oid(&role.name, role.oid))
        .guard(owns_no_database(&role.name))
        .guard(fit)
        .step(reassign(&role.name, to))
        .guard(owns_nothing_here(&role.name))
        .step(Statement::fixed("DROP OWNED BY ").ident(&role.name))
        .waiting_for_locks_ms(LOCK_WAIT_MS)
        .within_ms(1_000, 30_000)
}

/// Ends the sessions in a database of those who may not connect to it any more, such as its former owner.
pub fn end_sessions_without_right(database: &str, id: Uuid) -> Script {
    Script::new("end_sessions_without_right")
        .guard(database_is_ours(database, id))
        .step(
            Statement::fixed(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid IS NOT NULL \
                 AND NOT has_database_privilege(usesysid, datid, 'CONNECT') AND datname = ",
            )
            .literal(database),
        )
        .within_ms(1_000, 5_000)
}

/// In a database that has a new owner: the former owner's objects go to the new one. The former owner's other
/// databases stay: they are with the role without rights for the time of the transaction, which nobody sees.
/// (With that role, which has been granted nothing, because an owner's privileges and those that were granted
/// to the same role become one.)
pub fn transfer_objects(transfer: &Transfer) -> Script {
    let (from, to) = (&transfer.from.name, &transfer.to.name);
    let owner = |database: &String, of: &str| {
        Statement::fixed("ALTER DATABASE ")
            .ident(database)
            .raw(" OWNER TO ")
            .ident(of)
    };
    let mut script = Script::new("transfer_objects")
        .in_transaction()
        .guard(in_database(transfer.oid))
        .guard(role_has_oid(from, transfer.from.oid))
        .guard(is_owner_here(&transfer.to))
        .guard(heir_is_powerless());
    for database in &transfer.others {
        script = script.step(owner(database, HEIR_ROLE));
    }
    script = script.guard(owns_no_database(from)).step(reassign(from, to));
    for database in &transfer.others {
        script = script.step(owner(database, from));
    }
    script.waiting_for_locks_ms(LOCK_WAIT_MS).within_ms(1_000, 30_000)
}

/// Before [`disown_role`]: a bounded part of what the role was granted of what is no database's own, in the
/// database `postgres`.
pub fn release_shared(role: &RoleRef, id: Uuid) -> Script {
    let script = Script::new("release_shared")
        .guard(role_is_ours(&role.name, id))
        .guard(role_has_oid(&role.name, role.oid))
        .guard(heir_is_powerless());
    release(script, role.oid, HEIR_ROLE, Whole::Everything)
}

/// Before [`inherit_from_role`], as often as it takes: a bounded part of the same.
pub fn release_from_role(role: &RoleRef, inheritance: &Inheritance) -> Script {
    let (to, fit) = heir(&inheritance.heir);
    let script = Script::new("release_from_role")
        .guard(in_database(inheritance.oid))
        .guard(role_has_oid(&role.name, role.oid))
        .guard(fit);
    release(script, role.oid, to, Whole::Everything)
}

/// Before [`transfer_objects`], as often as it takes: a bounded part of the same.
pub fn release_to_owner(transfer: &Transfer) -> Script {
    let script = Script::new("release_to_owner")
        .guard(in_database(transfer.oid))
        .guard(role_has_oid(&transfer.from.name, transfer.from.oid))
        .guard(is_owner_here(&transfer.to));
    release(script, transfer.from.oid, &transfer.to.name, Whole::Owned)
}
