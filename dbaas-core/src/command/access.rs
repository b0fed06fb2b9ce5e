//! Scripts that give and take access to a database: run inside of it.
//!
//! They run no code of a tenant's: GRANT, REVOKE, SET ROLE and ALTER DEFAULT PRIVILEGES call no function, and
//! looking reads PostgreSQL's own catalogues with PostgreSQL's own operators. `SET ROLE` takes over no
//! setting of the role. What they lock (rows of the catalogues, shared objects, from PostgreSQL 18 on a table
//! against DDL) is waited for 100 ms at most.

use uuid::Uuid;

use crate::access::AccessLevel;
use crate::name::{DatabaseName, UserName};
use crate::object_change::AccessChange;
use crate::observation::{AccessObject, ForeignGrant, InsideFacts, ObjectKind, ObjectName};
use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

use super::register::in_database;
use super::{UnreadableAnswer, single_value};

/// How many objects one look names.
const SEEN_AT_ONCE: i64 = 1_000;
/// How many objects one transaction grants on.
const GRANTED_AT_ONCE: usize = 100;

/// Looks at who may use what in a database. `taken_back` names users whose grants by others are to be told.
pub fn observe_inside(id: Uuid, taken_back: &[&UserName]) -> Script {
    let [read, write, owner] = AccessLevel::ALL.map(|level| level.role(id));
    let names = taken_back.iter().fold(
        Statement::fixed("WITH levels AS MATERIALIZED (SELECT level, r.oid FROM (VALUES ('read', ")
            .literal(&read)
            .raw("), ('write', ")
            .literal(&write)
            .raw("), ('owner', ")
            .literal(&owner)
            .raw(
                ")) l(level, name) JOIN pg_roles r ON r.rolname = l.name AND NOT rolcanlogin), \
                 taken AS MATERIALIZED (SELECT oid, rolname FROM pg_roles WHERE rolname IN (''",
            ),
        |statement, name| statement.raw(", ").literal(name.as_str()),
    );
    Script::new("observe_inside")
        .step(names.raw(INSIDE).number(SEEN_AT_ONCE).raw(INSIDE_TOTALS))
        .within_ms(1_000, 10_000)
}

/// Which objects a level lacks something on. A relation that is being dropped answers NULL and is not listed,
/// nor is anything of a level whose role does not exist.
const INSIDE: &str = ")), \
    one AS MATERIALIZED (SELECT d.oid AS db, datacl, datdba, \
        (SELECT oid FROM levels WHERE level = 'read') AS r, (SELECT oid FROM levels WHERE level = 'write') AS w, \
        (SELECT oid FROM levels WHERE level = 'owner') AS o FROM pg_database d WHERE datname = current_database()), \
    spaces AS MATERIALIZED (SELECT oid, nspname, nspacl, nspowner FROM pg_namespace \
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
    relations AS MATERIALIZED (SELECT c.oid, relkind, nspname, relname, relacl, relowner FROM pg_class c JOIN spaces n ON n.oid = relnamespace \
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'), \
    held AS MATERIALIZED (SELECT DISTINCT relation FROM pg_locks, one WHERE database = db AND locktype = 'relation' AND granted \
        AND mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')), \
    missing AS MATERIALIZED (\
        SELECT 'read' AS level, CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, nspname, relname, oid AS object FROM relations, one \
            WHERE NOT has_table_privilege(r, oid, 'SELECT') \
        UNION ALL SELECT 'write', 'table', nspname, relname, oid FROM relations, one WHERE relkind <> 'S' \
            AND NOT (has_table_privilege(w, oid, 'INSERT') AND has_table_privilege(w, oid, 'UPDATE') \
                AND has_table_privilege(w, oid, 'DELETE')) \
        UNION ALL SELECT 'write', 'sequence', nspname, relname, oid FROM relations, one WHERE relkind = 'S' \
            AND NOT (has_sequence_privilege(w, oid, 'USAGE') AND has_sequence_privilege(w, oid, 'UPDATE')) \
        UNION ALL SELECT 'owner', 'table', nspname, relname, oid FROM relations, one WHERE relkind <> 'S' \
            AND NOT (has_table_privilege(o, oid, 'TRUNCATE') AND has_table_privilege(o, oid, 'REFERENCES') \
                AND has_table_privilege(o, oid, 'TRIGGER')) \
        UNION ALL SELECT 'read', 'schema', nspname, '', NULL::oid FROM spaces, one WHERE NOT has_schema_privilege(r, oid, 'USAGE') \
        UNION ALL SELECT 'owner', 'schema', nspname, '', NULL::oid FROM spaces, one WHERE NOT has_schema_privilege(o, oid, 'CREATE') \
        UNION ALL SELECT DISTINCT 'owner', 'routines', nspname, '', NULL::oid FROM pg_proc p JOIN spaces n ON n.oid = pronamespace, one \
            WHERE NOT has_function_privilege(o, p.oid, 'EXECUTE')), \
    defaults(kind, level, privilege) AS (VALUES ('r'::\"char\", 'read', 'SELECT'), ('r', 'write', 'INSERT'), ('r', 'write', 'UPDATE'), \
        ('r', 'write', 'DELETE'), ('r', 'owner', 'TRUNCATE'), ('S', 'read', 'SELECT'), ('S', 'write', 'USAGE'), ('S', 'write', 'UPDATE'), \
        ('n', 'read', 'USAGE'), ('n', 'owner', 'CREATE'), ('f', 'owner', 'EXECUTE')), \
    creators AS MATERIALIZED (SELECT c.oid, rolname FROM pg_roles c, one WHERE NOT rolsuper AND rolname !~ '^pg_' \
        AND (rolcanlogin OR c.oid = o) AND has_database_privilege(c.oid, db, 'CONNECT') \
        AND (has_database_privilege(c.oid, db, 'CREATE') \
            OR EXISTS (SELECT FROM spaces n WHERE has_schema_privilege(c.oid, n.oid, 'CREATE'))) \
        AND EXISTS (SELECT FROM defaults d JOIN levels l USING (level) WHERE l.oid <> c.oid AND NOT EXISTS (\
            SELECT FROM pg_default_acl a, aclexplode(defaclacl) x WHERE defaclrole = c.oid AND defaclnamespace = 0 \
            AND defaclobjtype = d.kind AND x.grantee = l.oid AND x.privilege_type = d.privilege))), \
    foreigners AS MATERIALIZED (\
        SELECT DISTINCT grantor, grantee, 'database' AS kind, '' AS nspname, '' AS relname FROM one, aclexplode(datacl) x \
            WHERE grantee IN (SELECT oid FROM taken) AND grantee <> datdba \
        UNION SELECT grantor, grantee, 'schema', nspname, '' FROM spaces, aclexplode(nspacl) x \
            WHERE grantee IN (SELECT oid FROM taken) AND grantee <> nspowner \
        UNION SELECT grantor, grantee, CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, nspname, relname \
            FROM relations, aclexplode(relacl) x WHERE grantee IN (SELECT oid FROM taken) AND grantee <> relowner \
        UNION SELECT grantor, grantee, 'table', nspname, relname FROM pg_attribute a JOIN relations r ON r.oid = attrelid, \
            aclexplode(attacl) x WHERE attacl IS NOT NULL AND grantee IN (SELECT oid FROM taken) AND grantee <> relowner \
        UNION SELECT grantor, grantee, 'routines', nspname, '' FROM pg_proc p JOIN spaces n ON n.oid = pronamespace, \
            aclexplode(proacl) x WHERE grantee IN (SELECT oid FROM taken) AND grantor = proowner \
            AND NOT EXISTS (SELECT FROM pg_proc o WHERE o.pronamespace = n.oid AND o.proowner = grantee)), \
    bounds AS (SELECT ";

const INSIDE_TOTALS: &str = " AS most) \
    SELECT json_build_object('access', json_build_object(\
        'prepared', (SELECT count(*) = 3 FROM levels) \
            AND EXISTS (SELECT FROM pg_auth_members WHERE roleid = r AND member = w) \
            AND EXISTS (SELECT FROM pg_auth_members WHERE roleid = w AND member = o) \
            AND has_database_privilege(r, db, 'CONNECT') AND has_database_privilege(w, db, 'TEMPORARY') \
            AND has_database_privilege(o, db, 'CREATE'), \
        'members', coalesce((SELECT json_agg(json_build_object('level', level, 'name', rolname)) FROM (\
            SELECT DISTINCT level, rolname FROM levels l JOIN pg_auth_members ON roleid = l.oid JOIN pg_roles m ON m.oid = member \
            WHERE member NOT IN (SELECT oid FROM levels)) m), '[]'), \
        'public_creates', coalesce((SELECT has_schema_privilege('public', oid, 'CREATE') FROM pg_namespace \
            WHERE nspname = 'public' AND nspowner = 10), false), \
        'missing', coalesce((SELECT json_agg(json_build_object('level', level, 'kind', kind, 'schema', nspname, 'name', relname, \
            'locked', locked)) FROM (SELECT *, coalesce(object IN (SELECT relation FROM held), false) AS locked \
                FROM missing ORDER BY locked LIMIT most) m), '[]'), \
        'missing_count', (SELECT count(*) FROM missing), \
        'creators', coalesce((SELECT json_agg(rolname) FROM (SELECT rolname FROM creators LIMIT most) c), '[]'), \
        'foreign', coalesce((SELECT json_agg(json_build_object('grantor', g.rolname, 'grantee', t.rolname, 'kind', kind, \
            'schema', nspname, 'name', relname)) FROM (SELECT * FROM foreigners LIMIT most) f \
            JOIN pg_roles g ON g.oid = grantor JOIN taken t ON t.oid = grantee), '[]'))) \
    FROM one, bounds";

/// Reads the answer of [`observe_inside`].
pub fn parse_inside(answer: &[Rows]) -> Result<InsideFacts, UnreadableAnswer> {
    const SCRIPT: &str = "observe_inside";
    let text = single_value(SCRIPT, answer)?;
    serde_json::from_str(text).map_err(|e| UnreadableAnswer {
        script: SCRIPT,
        reason: e.to_string(),
    })
}

/// Carries a change of a database's access out: scripts to be run in order inside of the database.
pub fn change_access(name: &DatabaseName, id: Uuid, oid: u32, change: &AccessChange) -> Vec<Script> {
    let guarded = |script: &'static str| {
        Script::new(script)
            .in_transaction()
            .guard(in_database(oid))
            .step(Statement::fixed("SET LOCAL lock_timeout = '100ms'"))
            .within_ms(1_000, 10_000)
    };
    let mut scripts = Vec::new();
    if change.prepare {
        scripts.push(prepare(guarded("prepare_access"), name, id));
    }
    // Whoever goes from one level to another is never without.
    for member in &change.join {
        let role = member.level.role(id);
        scripts.push(
            guarded("join_access").step(
                Statement::fixed("GRANT ")
                    .ident(&role)
                    .raw(" TO ")
                    .ident(&member.name),
            ),
        );
    }
    for member in &change.leave {
        let role = member.level.role(id);
        scripts.push(
            guarded("leave_access").step(
                Statement::fixed("REVOKE ")
                    .ident(&role)
                    .raw(" FROM ")
                    .ident(&member.name),
            ),
        );
    }
    let by_grantor = |grants: &[ForeignGrant], script: Script| {
        grants.iter().fold(script, |script, grant| {
            let set = match grant.object.kind {
                // All of a schema's at once: as the superuser, which stands for the owner of each.
                ObjectKind::Routines => Statement::fixed("SET LOCAL ROLE NONE"),
                _ => Statement::fixed("SET LOCAL ROLE ").ident(&grant.grantor),
            };
            let revoke = on(Statement::fixed("REVOKE ALL"), &grant.object, name)
                .raw(" FROM ")
                .ident(&grant.grantee)
                .raw(" CASCADE");
            script
                .step(set)
                .step(revoke)
                .step(Statement::fixed("SET LOCAL ROLE NONE"))
        })
    };
    for grants in change.foreign.chunks(GRANTED_AT_ONCE) {
        scripts.push(by_grantor(grants, guarded("take_grants_back")));
    }
    if change.close_public {
        scripts.push(
            guarded("close_public_schema")
                .step(Statement::fixed("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
                .step(Statement::fixed(
                    "GRANT ALL ON SCHEMA public TO pg_database_owner",
                )),
        );
    }
    for name in &change.evict {
        scripts.push(guarded("end_sessions").step(end_sessions(name)));
    }
    for creator in &change.creators {
        let script = DEFAULTS
            .iter()
            .fold(guarded("default_access"), |script, (grant, level)| {
                let statement = Statement::fixed("ALTER DEFAULT PRIVILEGES FOR ROLE ")
                    .ident(creator)
                    .raw(grant)
                    .ident(&level.role(id));
                script.step(statement)
            });
        scripts.push(script);
    }
    // What is locked comes last and alone, so that it holds up nothing else: from PostgreSQL 18 on GRANT
    // waits for a table's lock.
    let (free, locked): (Vec<_>, Vec<_>) = change.objects.iter().partition(|found| !found.locked);
    for objects in free.chunks(GRANTED_AT_ONCE).chain(locked.chunks(1)) {
        let script = objects.iter().fold(guarded("grant_access"), |script, found| {
            script.step(grant(found, id, name))
        });
        scripts.push(script);
    }
    scripts
}

/// What everybody who creates something gives away from the beginning.
const DEFAULTS: [(&str, AccessLevel); 8] = [
    (" GRANT SELECT ON TABLES TO ", AccessLevel::Read),
    (" GRANT INSERT, UPDATE, DELETE ON TABLES TO ", AccessLevel::Write),
    (" GRANT ALL ON TABLES TO ", AccessLevel::Owner),
    (" GRANT SELECT ON SEQUENCES TO ", AccessLevel::Read),
    (" GRANT USAGE, UPDATE ON SEQUENCES TO ", AccessLevel::Write),
    (" GRANT USAGE ON SCHEMAS TO ", AccessLevel::Read),
    (" GRANT ALL ON SCHEMAS TO ", AccessLevel::Owner),
    (" GRANT EXECUTE ON ROUTINES TO ", AccessLevel::Owner),
];

fn prepare(script: Script, name: &DatabaseName, id: Uuid) -> Script {
    let [read, write, owner] = AccessLevel::ALL.map(|level| level.role(id));
    let on_database = |privilege: &'static str, role: &str| {
        Statement::fixed(privilege)
            .raw(" ON DATABASE ")
            .ident(name.as_str())
            .raw(" TO ")
            .ident(role)
    };
    script
        .step(Statement::fixed("GRANT ").ident(&read).raw(" TO ").ident(&write))
        .step(Statement::fixed("GRANT ").ident(&write).raw(" TO ").ident(&owner))
        .step(on_database("GRANT CONNECT", &read))
        .step(on_database("GRANT TEMPORARY", &write))
        .step(on_database("GRANT CREATE", &owner))
}

/// Makes the roles of a database's levels, those that are not there. Not inside of the database: nothing of a
/// procedural language runs there.
pub fn create_access_roles(id: Uuid) -> Script {
    let script = Script::new("create_access_roles")
        .in_transaction()
        .within_ms(1_000, 5_000);
    AccessLevel::ALL.iter().fold(script, |script, level| {
        script
            .step(Statement::fixed("SELECT set_config('dbaas.role', ").literal(&level.role(id)).raw(", true)"))
            .step(Statement::fixed(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('dbaas.role')) \
                 THEN EXECUTE format('CREATE ROLE %I NOLOGIN', current_setting('dbaas.role')); END IF; END $$",
            ))
    })
}

/// Somebody who may not connect any more is not to go on being connected.
fn end_sessions(user: &str) -> Statement {
    Statement::fixed(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = ",
    )
    .literal(user)
}

fn grant(found: &AccessObject, id: Uuid, database: &DatabaseName) -> Statement {
    let privileges = match (found.object.kind, found.level) {
        (ObjectKind::Table | ObjectKind::Sequence, AccessLevel::Read) => "GRANT SELECT",
        (ObjectKind::Table, AccessLevel::Write) => "GRANT INSERT, UPDATE, DELETE",
        (ObjectKind::Sequence, AccessLevel::Write) => "GRANT USAGE, UPDATE",
        (ObjectKind::Schema, AccessLevel::Read | AccessLevel::Write) => "GRANT USAGE",
        _ => "GRANT ALL",
    };
    on(Statement::fixed(privileges), &found.object, database)
        .raw(" TO ")
        .ident(&found.level.role(id))
}

/// A privilege on an object.
fn on(privilege: Statement, object: &ObjectName, database: &DatabaseName) -> Statement {
    match object.kind {
        ObjectKind::Database => privilege.raw(" ON DATABASE ").ident(database.as_str()),
        ObjectKind::Schema => privilege.raw(" ON SCHEMA ").ident(&object.schema),
        ObjectKind::Routines => privilege.raw(" ON ALL ROUTINES IN SCHEMA ").ident(&object.schema),
        ObjectKind::Table => privilege
            .raw(" ON TABLE ")
            .ident(&object.schema)
            .raw(".")
            .ident(&object.name),
        ObjectKind::Sequence => privilege
            .raw(" ON SEQUENCE ")
            .ident(&object.schema)
            .raw(".")
            .ident(&object.name),
    }
}

/// Drops the roles of the levels of a database that is gone. Refused by PostgreSQL while anything depends on
/// one.
pub fn drop_access_roles(id: Uuid) -> Script {
    let script = Script::new("drop_access_roles").within_ms(1_000, 5_000);
    AccessLevel::ALL.iter().rev().fold(script, |script, level| {
        script.step(Statement::fixed("DROP ROLE IF EXISTS ").ident(&level.role(id)))
    })
}
