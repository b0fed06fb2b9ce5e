//! Scripts that make, update and drop extensions: run inside of a database.
//!
//! The script of a trusted extension runs with the rights of the bootstrap superuser, in a `search_path` of
//! the extension's schema and those of the extensions that it needs. Whoever can make objects there
//! beforehand can have the script replace or call them (CVE-2020-14350, CVE-2022-2625). So each script runs
//! in a schema that is made for it, in the same transaction: nobody else has ever seen it. The extension is
//! then moved to where people look for it, which runs nothing. For an update it is moved into such a schema
//! first, and back afterwards. Where that cannot be done ([`ExtensionPlace::Fixed`], `needs`) nothing is
//! done.
//!
//! `CREATE EXTENSION` and its kin run as the tenant's role (`SET LOCAL ROLE`), so that PostgreSQL decides
//! what is trusted, and the tenant's is what they make.

use crate::extension::ExtensionName;
use crate::object_change::{ExtensionChange, RoleRef};
use crate::observation::{ExtensionFacts, ExtensionPlace};
use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

use super::ownership::is_owner_here;
use super::register::in_database;
use super::release::LOCK_WAIT_MS;
use super::{UnreadableAnswer, single_value};

/// The schema that is there while a script runs. A tenant's of this name is never touched: nothing is done
/// then.
const SCHEMA: &str = "dbaas_extension";
/// Where an extension is found without further ado.
const PUBLIC: &str = "public";
/// The schema that no tenant can make anything in.
const CATALOG: &str = "pg_catalog";
/// How many of the objects that hold something up are named.
const NAMED_AT_MOST: i64 = 5;

/// Looks for extensions in a database, and for what the server offers of them. `going`: what depends on those
/// is of interest.
pub fn observe_extensions<'a>(
    wanted: impl IntoIterator<Item = &'a ExtensionName>,
    going: &[ExtensionName],
) -> Script {
    let names = wanted.into_iter().enumerate().fold(
        Statement::fixed("WITH wanted(name, going) AS (VALUES "),
        |statement, (index, name)| {
            let statement = if index == 0 {
                statement
            } else {
                statement.raw(", ")
            };
            let goes = if going.contains(name) {
                ", true)"
            } else {
                ", false)"
            };
            statement.raw("(").literal(name.as_str()).raw(goes)
        },
    );
    Script::new("observe_extensions")
        .step(
            names
                .raw(LOOK)
                .number(NAMED_AT_MOST)
                .raw(LOOK_DEPENDENTS)
                .number(NAMED_AT_MOST)
                .raw(LOOK_END),
        )
        .within_ms(1_000, 10_000)
}

/// The members that a tenant has added are those that `pg_shdepend` knows an owner of: the bootstrap
/// superuser's are not in it.
const LOOK: &str = ") \
    SELECT coalesce(json_agg(json_build_object('name', w.name, 'available', v.version, 'trusted', coalesce(v.trusted, false), \
        'place', CASE WHEN v.relocatable THEN 'any' WHEN v.schema = 'pg_catalog' THEN 'catalog' ELSE 'fixed' END, \
        'needs', coalesce((SELECT json_agg(n) FROM unnest(v.requires) n WHERE NOT EXISTS (SELECT FROM pg_extension x \
            JOIN pg_namespace s ON s.oid = x.extnamespace WHERE x.extname = n AND s.nspname = 'pg_catalog')), '[]'), \
        'installed', CASE WHEN e.oid IS NOT NULL THEN json_build_object('version', e.extversion, 'owner', pg_get_userbyid(e.extowner), \
            'schema', s.nspname, \
            'added', coalesce((SELECT json_agg(what) FROM (SELECT pg_describe_object(m.classid, m.objid, m.objsubid) AS what FROM pg_depend m \
                JOIN pg_shdepend o ON o.classid = m.classid AND o.objid = m.objid AND o.deptype = 'o' \
                    AND o.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND m.deptype = 'e' LIMIT ";

/// What depends on a member, or on the extension as a whole, and is no member; parts of operator families
/// belong to those.
const LOOK_DEPENDENTS: &str = ") x), '[]'), \
            'dependents', coalesce(CASE WHEN w.going THEN (SELECT json_agg(what) FROM (\
                SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) AS what FROM pg_depend d \
                WHERE d.deptype = 'n' AND d.classid NOT IN ('pg_amop'::regclass, 'pg_amproc'::regclass) \
                AND (d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid \
                    OR EXISTS (SELECT FROM pg_depend m WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid \
                        AND m.deptype = 'e' AND m.classid = d.refclassid AND m.objid = d.refobjid)) \
                AND NOT EXISTS (SELECT FROM pg_depend m WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid \
                    AND m.deptype = 'e' AND m.classid = d.classid AND m.objid = d.objid) LIMIT ";

const LOOK_END: &str = ") x) END, '[]')) END)), '[]') \
    FROM wanted w LEFT JOIN pg_extension e ON e.extname = w.name LEFT JOIN pg_namespace s ON s.oid = e.extnamespace \
    LEFT JOIN pg_available_extensions a ON a.name = w.name \
    LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version";

/// Reads the answer of [`observe_extensions`].
pub fn parse_extensions(answer: &[Rows]) -> Result<Vec<ExtensionFacts>, UnreadableAnswer> {
    const SCRIPT: &str = "observe_extensions";
    let text = single_value(SCRIPT, answer)?;
    serde_json::from_str(text).map_err(|e| UnreadableAnswer {
        script: SCRIPT,
        reason: e.to_string(),
    })
}

/// Carries one change out, in one transaction, in the database with this OID.
pub fn change_extension(oid: u32, change: &ExtensionChange) -> Script {
    // On a session of its own: a library that an extension brings along is not loaded where something else
    // runs afterwards.
    let script = |name| {
        Script::new(name)
            .in_transaction()
            .on_fresh_session()
            .guard(in_database(oid))
            .waiting_for_locks_ms(LOCK_WAIT_MS)
            .within_ms(2_000, 60_000)
    };
    match change {
        ExtensionChange::Create { name, owner, place } => {
            let script = script("create_extension").guard(is_owner_here(owner));
            create(script, name, owner, *place)
        }
        ExtensionChange::Update { name, owner, schema } => {
            update(script("update_extension"), name, owner, schema)
        }
        ExtensionChange::Drop { name, owner } => {
            let script = script("drop_extension").guard(nothing_added(name));
            as_role(script, owner, about("DROP EXTENSION ", name).raw(" RESTRICT"))
        }
    }
}

fn create(script: Script, name: &ExtensionName, owner: &RoleRef, place: ExtensionPlace) -> Script {
    let create = about("CREATE EXTENSION ", name);
    if place != ExtensionPlace::Any {
        return as_role(script, &owner.name, create);
    }
    let script = script.step(Statement::fixed("CREATE SCHEMA ").ident(SCHEMA));
    let script = as_role(script, &owner.name, create.raw(" SCHEMA ").ident(SCHEMA));
    script
        .step(moved(name, PUBLIC))
        .step(Statement::fixed("DROP SCHEMA ").ident(SCHEMA).raw(" RESTRICT"))
}

fn update(script: Script, name: &ExtensionName, owner: &str, schema: &str) -> Script {
    let update = about("ALTER EXTENSION ", name).raw(" UPDATE");
    if schema == CATALOG {
        return as_role(script.guard(nothing_added(name)), owner, update);
    }
    let script = script
        .step(Statement::fixed("CREATE SCHEMA ").ident(SCHEMA))
        .step(moved(name, SCHEMA))
        // Only now: what somebody adds from here on is not in the schema, and is not found by the script.
        .guard(nothing_added(name));
    as_role(script, owner, update)
        .step(moved(name, schema))
        .step(Statement::fixed("DROP SCHEMA ").ident(SCHEMA).raw(" RESTRICT"))
}

fn about(what: &'static str, name: &ExtensionName) -> Statement {
    Statement::fixed(what).ident(name.as_str())
}

fn moved(name: &ExtensionName, schema: &str) -> Statement {
    about("ALTER EXTENSION ", name).raw(" SET SCHEMA ").ident(schema)
}

/// A step in the name of a role, which has fewer rights than we do.
fn as_role(script: Script, role: &str, statement: Statement) -> Script {
    script
        .step(Statement::fixed("SET LOCAL ROLE ").ident(role))
        .step(statement)
        .step(Statement::fixed("SET LOCAL ROLE NONE"))
}

/// Whether all members of an extension are its own: nobody has added something, which a script would run or
/// replace, or which would be dropped together with it.
fn nothing_added(name: &ExtensionName) -> Statement {
    Statement::fixed(
        "SELECT NOT EXISTS (SELECT FROM pg_extension e JOIN pg_depend m ON m.refclassid = 'pg_extension'::regclass \
         AND m.refobjid = e.oid AND m.deptype = 'e' JOIN pg_shdepend o ON o.classid = m.classid AND o.objid = m.objid \
         AND o.deptype = 'o' AND o.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) WHERE e.extname = ",
    )
    .literal(name.as_str())
    .raw(")")
}
