//! Scripts that look for what locks people out, and put back what the control plane sets. Run in the database
//! `postgres`: everything that they read and write is in PostgreSQL's shared catalogues.

use uuid::Uuid;

use crate::name::{DatabaseName, UserName};
use crate::object_change::Lockout;
use crate::observation::{LockoutFacts, SettingFacts};
use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

use super::register::{database_is_ours, role_is_ours};
use super::{UnreadableAnswer, single_value};

/// Settings of a role or database, of those that PostgreSQL itself has: a name with a dot is an extension's
/// or a program's own, and keeps nobody out.
const SETTINGS: &str = "'settings', coalesce((SELECT json_agg(json_build_object('role', r.rolname, 'database', n.datname, \
    'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1, 200))) \
    FROM pg_db_role_setting s CROSS JOIN unnest(setconfig) c LEFT JOIN pg_roles r ON r.oid = setrole \
    LEFT JOIN pg_database n ON n.oid = setdatabase WHERE strpos(split_part(c, '=', 1), '.') = 0 AND ";

/// What may keep the owner of a database out of it.
pub fn observe_database_lockouts(name: &DatabaseName) -> Script {
    let statement = Statement::fixed("SELECT json_build_object('connections', datallowconn, 'limit', datconnlimit, ")
        .raw(
            "'privileges', (SELECT count(DISTINCT privilege_type) = 3 FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) \
             WHERE grantee = datdba AND privilege_type IN ('CONNECT', 'CREATE', 'TEMPORARY')), ",
        )
        .raw(SETTINGS)
        .raw("setdatabase = d.oid AND setrole IN (0, datdba)), '[]')) FROM pg_database d WHERE datname = ")
        .literal(name.as_str());
    Script::new("observe_lockouts")
        .step(statement)
        .within_ms(1_000, 5_000)
}

/// What may keep a user from logging in anywhere, or from working there.
pub fn observe_role_lockouts(name: &UserName) -> Script {
    let statement =
        Statement::fixed("SELECT json_build_object('connections', rolcanlogin, 'limit', rolconnlimit, ")
            .raw("'valid_until', CASE WHEN rolvaliduntil < 'infinity' THEN rolvaliduntil::text END, ")
            .raw(SETTINGS)
            .raw("setrole = u.oid), '[]')) FROM pg_roles u WHERE rolname = ")
            .literal(name.as_str());
    Script::new("observe_lockouts")
        .step(statement)
        .within_ms(1_000, 5_000)
}

/// Reads the answer of both.
pub fn parse_lockouts(answer: &[Rows]) -> Result<LockoutFacts, UnreadableAnswer> {
    const SCRIPT: &str = "observe_lockouts";
    let text = single_value(SCRIPT, answer)?;
    serde_json::from_str(text).map_err(|e| UnreadableAnswer {
        script: SCRIPT,
        reason: e.to_string(),
    })
}

/// Puts back what keeps the owner of a database out.
pub fn repair_database(name: &DatabaseName, id: Uuid, owner: &UserName, lockouts: &[Lockout]) -> Script {
    let of_it = |what: &'static str| Statement::fixed(what).ident(name.as_str());
    let script = repairing().guard(database_is_ours(name.as_str(), id));
    lockouts.iter().fold(script, |script, lockout| match lockout {
        Lockout::Connections => script.step(of_it("ALTER DATABASE ").raw(" ALLOW_CONNECTIONS true")),
        Lockout::Limit => script.step(of_it("ALTER DATABASE ").raw(" CONNECTION LIMIT -1")),
        Lockout::Privileges => script.step(of_it("GRANT ALL ON DATABASE ").raw(" TO ").ident(owner.as_str())),
        Lockout::Setting(setting) => script.step(reset(setting)),
        Lockout::ValidUntil => script,
    })
}

/// Puts back what keeps a user from logging in.
pub fn repair_role(name: &UserName, id: Uuid, lockouts: &[Lockout]) -> Script {
    let of_it = || Statement::fixed("ALTER ROLE ").ident(name.as_str());
    let script = repairing().guard(role_is_ours(name.as_str(), id));
    lockouts.iter().fold(script, |script, lockout| match lockout {
        Lockout::Connections => script.step(of_it().raw(" LOGIN")),
        Lockout::Limit => script.step(of_it().raw(" CONNECTION LIMIT -1")),
        Lockout::ValidUntil => script.step(of_it().raw(" VALID UNTIL 'infinity'")),
        Lockout::Setting(setting) => script.step(reset(setting)),
        Lockout::Privileges => script,
    })
}

fn repairing() -> Script {
    Script::new("repair_access")
        .in_transaction()
        .step(Statement::fixed("SET LOCAL lock_timeout = '100ms'"))
        .within_ms(1_000, 5_000)
}

fn reset(setting: &SettingFacts) -> Statement {
    let statement = match (&setting.role, &setting.database) {
        (Some(role), Some(database)) => Statement::fixed("ALTER ROLE ")
            .ident(role)
            .raw(" IN DATABASE ")
            .ident(database),
        (Some(role), None) => Statement::fixed("ALTER ROLE ").ident(role),
        (None, database) => {
            Statement::fixed("ALTER DATABASE ").ident(database.as_deref().unwrap_or_default())
        }
    };
    statement.raw(" RESET ").ident(&setting.name)
}
