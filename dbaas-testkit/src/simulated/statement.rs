//! What the control plane's statements mean to the simulated PostgreSQL: told from their fixed parts, with
//! their identifiers, literals and numbers read back out of the text.

use dbaas_core::sql::Statement;

/// A statement's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    EpochUpTo(u64),
    EpochIs(u64),
    SettingUpTo(u64),
    EndLockHolders,
    Lock,
    TryLock,
    NewConf(String),
    NewHba,
    Replace,
    Unlock,
    AlterSystem(String, String),
    Reload,
    IsStandby,
    IsPrimary,
    FollowsNobody,
    SyncNamesAre(String),
    Promote,
    Checkpoint,
    EmitMessage,
    CreateSlot(String),
    DropSlot(String),
    CommentRole(String, String),
    AdminPassword(String),
    ReplicationRole,
    CreateRole(String, String),
    AlterRole(String, String),
    LockOut(String),
    Reassign(String, String),
    DropRole(String),
    RoleIsOurs(String, String),
    RegisterRole(String, String),
    RoleHasOid(String, u32),
    OwnsNoDatabase(String),
    OwnsNoRegisteredDatabase(String),
    IsOwnerHere(String, u32),
    InDatabase(u32),
    Forget(String),
    RegisterIsMissing,
    CreateRegister,
    RoleExists(String),
    CreateDatabase(String),
    RegisterDatabase(String, String),
    DatabaseIsNobodys(String),
    CloseDatabase(String),
    OwnDatabase(String, String),
    OpenDatabase(String),
    RenameDatabase(String, String),
    DropDatabase(String),
    DatabaseIsOurs(String, String),
    ObserveNode,
    ObserveCatalogue,
    /// Has one answer in every simulated world: text, or nothing.
    Answers(Option<&'static str>),
    /// Asks for what is so in every simulated world.
    True,
    /// Makes the role of a level of access, if it is not there.
    CreateLevel(String),
    JoinLevel(String, String),
    LeaveLevel(String, String),
    DropLevel(String),
    /// The three roles of the levels.
    ObserveInside([String; 3]),
    CreateExtension(String),
    DropExtension(String),
    /// Those of these names.
    ObserveExtensions(Vec<String>),
    /// Nobody is locked out: nothing that could do that is simulated.
    ObserveLockouts,
    /// Changes nothing that is simulated.
    Nothing,
}

/// Reads a statement; `None` if the simulation does not know it.
pub(super) fn parse(statement: &Statement) -> Option<Command> {
    let arguments = arguments(statement)?;
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().unwrap_or_default();
    let shape = statement.shape();
    let begins = |text: &str| shape.starts_with(text);
    let command = if begins("SELECT coalesce((SELECT setting::bigint FROM pg_file_settings") {
        let epoch = next().parse().ok()?;
        if shape.ends_with(" <= <number>") {
            Command::EpochUpTo(epoch)
        } else if shape.ends_with(" = <number>") {
            Command::EpochIs(epoch)
        } else {
            return None;
        }
    } else if begins("SELECT pg_terminate_backend(pid) FROM pg_locks") {
        Command::EndLockHolders
    } else if begins("SELECT pg_terminate_backend(pid) FROM pg_stat_activity")
        || begins("SET lock_timeout")
        || begins("SET wal_compression = off")
        || begins("RESET wal_compression")
    {
        Command::Nothing
    } else if begins("SELECT pg_advisory_lock(") {
        Command::Lock
    } else if begins("SELECT pg_try_advisory_lock(") {
        Command::TryLock
    } else if begins("SELECT set_config('dbaas.new_conf', <literal>") {
        Command::NewConf(next())
    } else if begins("SELECT set_config('dbaas.new_hba', <literal>") {
        Command::NewHba
    } else if begins("DO $dbaas$") {
        Command::Replace
    } else if begins("SELECT pg_advisory_unlock(") {
        Command::Unlock
    } else if let Some(rest) = shape.strip_prefix("ALTER SYSTEM SET ") {
        Command::AlterSystem(rest.strip_suffix(" = <literal>")?.to_owned(), next())
    } else if shape == "SELECT pg_reload_conf()" {
        Command::Reload
    } else if shape == "SELECT pg_is_in_recovery()" {
        Command::IsStandby
    } else if shape == "SELECT NOT pg_is_in_recovery()" {
        Command::IsPrimary
    } else if begins("SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS") {
        Command::FollowsNobody
    } else if begins("SELECT current_setting('synchronous_standby_names') = <literal>") {
        Command::SyncNamesAre(next())
    } else if shape == "SELECT pg_promote(false)" {
        Command::Promote
    } else if begins("SELECT pg_logical_emit_message(true") {
        Command::EmitMessage
    } else if shape == "CHECKPOINT" {
        Command::Checkpoint
    } else if begins("SELECT pg_create_physical_replication_slot(") {
        Command::CreateSlot(next())
    } else if begins("SELECT pg_drop_replication_slot(slot_name)") && shape.ends_with(" AND NOT active") {
        Command::DropSlot(next())
    } else if begins("COMMENT ON ROLE <identifier> IS <literal>") {
        Command::CommentRole(next(), next())
    } else if begins("ALTER ROLE <identifier> PASSWORD <literal>") {
        next();
        Command::AdminPassword(next())
    } else if begins("ALTER ROLE <identifier> LOGIN REPLICATION") {
        Command::ReplicationRole
    } else if begins("CREATE ROLE <identifier> WITH LOGIN NOSUPERUSER") {
        Command::CreateRole(next(), next())
    } else if begins("ALTER ROLE <identifier> WITH LOGIN NOSUPERUSER") {
        Command::AlterRole(next(), next())
    } else if begins("ALTER ROLE <identifier> NOLOGIN") {
        Command::LockOut(next())
    } else if begins("REASSIGN OWNED BY <identifier> TO <identifier>") {
        Command::Reassign(next(), next())
    } else if begins("DROP ROLE <identifier>") {
        Command::DropRole(next())
    } else if begins("SELECT coalesce((SELECT substring(shobj_description(oid, 'pg_authid')") {
        Command::SettingUpTo(next().parse().ok()?)
    } else if begins("SELECT EXISTS (SELECT FROM dbaas.object o JOIN pg_authid") {
        let id = next();
        Command::RoleIsOurs(next(), id)
    } else if begins("SELECT EXISTS (SELECT FROM dbaas.object o JOIN pg_database") {
        let id = next();
        Command::DatabaseIsOurs(next(), id)
    } else if begins("SELECT NOT EXISTS (SELECT FROM dbaas.object o") {
        if shape.contains("JOIN pg_roles") {
            Command::OwnsNoRegisteredDatabase(next())
        } else {
            Command::DatabaseIsNobodys(next())
        }
    } else if begins("INSERT INTO dbaas.object AS o SELECT <literal>::uuid, 'role'") {
        let id = next();
        Command::RegisterRole(next(), id)
    } else if begins("INSERT INTO dbaas.object SELECT <literal>::uuid, 'database'") {
        let id = next();
        Command::RegisterDatabase(next(), id)
    } else if begins("DELETE FROM dbaas.object o WHERE kind = ") {
        Command::Forget(next())
    } else if shape == "SELECT to_regclass('dbaas.object') IS NULL" {
        Command::RegisterIsMissing
    } else if begins("CREATE TABLE IF NOT EXISTS dbaas.object") {
        Command::CreateRegister
    } else if begins("SELECT NOT rolsuper FROM pg_authid") {
        Command::RoleExists(next())
    } else if begins("SELECT oid = <number> FROM pg_roles WHERE rolname = <literal>") {
        let oid = next().parse().ok()?;
        Command::RoleHasOid(next(), oid)
    } else if begins("SELECT oid = <number> FROM pg_database WHERE datname = current_database()") {
        Command::InDatabase(next().parse().ok()?)
    } else if begins("SELECT NOT (rolsuper OR") && shape.contains("d.datname = current_database()") {
        let oid = next().parse().ok()?;
        Command::IsOwnerHere(next(), oid)
    } else if begins("SELECT NOT EXISTS (SELECT FROM pg_database d JOIN pg_roles r") {
        Command::OwnsNoDatabase(next())
    } else if begins("SELECT oid = <number> FROM pg_database WHERE datname = <literal>")
        || begins("SELECT current_database() = <literal>")
        || begins("SELECT NOT (rolcanlogin OR")
        || begins("SELECT NOT EXISTS (SELECT FROM pg_shdepend")
    {
        Command::True
    } else if begins("SELECT json_build_object('moved'") {
        Command::Answers(Some(
            r#"{"moved": 0, "left": 0, "waited_for": null, "held_by": null}"#,
        ))
    } else if begins("SELECT json_build_object('oid', d.oid::bigint, 'closed'") {
        Command::Answers(Some(r#"{"subscriptions": [], "prepared": []}"#))
    } else if begins("SELECT string_agg(x.who, '; ')") {
        Command::Answers(None)
    } else if begins("CREATE DATABASE <identifier> TEMPLATE template0 ALLOW_CONNECTIONS false") {
        Command::CreateDatabase(next())
    } else if begins("REVOKE CONNECT, TEMPORARY ON DATABASE <identifier> FROM PUBLIC") {
        Command::CloseDatabase(next())
    } else if begins("ALTER DATABASE <identifier> OWNER TO <identifier>") {
        Command::OwnDatabase(next(), next())
    } else if begins("ALTER DATABASE <identifier> ALLOW_CONNECTIONS true") {
        Command::OpenDatabase(next())
    } else if begins("ALTER DATABASE <identifier> RENAME TO <identifier>") {
        Command::RenameDatabase(next(), next())
    } else if begins("DROP DATABASE <identifier>") {
        Command::DropDatabase(next())
    } else if begins("SELECT set_config('dbaas.role', <literal>, true)") {
        Command::CreateLevel(next())
    } else if shape == "GRANT <identifier> TO <identifier>" {
        Command::JoinLevel(next(), next())
    } else if shape == "REVOKE <identifier> FROM <identifier>" {
        Command::LeaveLevel(next(), next())
    } else if begins("DROP ROLE IF EXISTS <identifier>") {
        Command::DropLevel(next())
    } else if begins("SELECT json_build_object('connections', ") {
        Command::ObserveLockouts
    } else if begins("WITH levels AS MATERIALIZED") {
        Command::ObserveInside([next(), next(), next()])
    } else if begins("WITH wanted(name, going) AS (VALUES (") {
        let names = shape.matches("(<literal>, ").count();
        Command::ObserveExtensions((0..names).map(|_| next()).collect())
    } else if begins("CREATE EXTENSION <identifier>") {
        Command::CreateExtension(next())
    } else if begins("DROP EXTENSION <identifier>") {
        Command::DropExtension(next())
    } else if begins("SELECT NOT EXISTS (SELECT FROM pg_extension e") {
        Command::True
    } else if begins("SET LOCAL lock_timeout")
        || begins("SET LOCAL ROLE")
        || begins("CREATE SCHEMA <identifier>")
        || begins("DROP SCHEMA <identifier>")
        || begins("ALTER EXTENSION <identifier>")
        || begins("REVOKE ALL ON")
        || begins("REVOKE CREATE ON SCHEMA public")
        || begins("ALTER DEFAULT PRIVILEGES FOR ROLE <identifier> GRANT ")
        || begins("ALTER DATABASE <identifier> CONNECTION LIMIT -1")
        || begins("ALTER DATABASE <identifier> RESET <identifier>")
        || begins("ALTER ROLE <identifier> CONNECTION LIMIT -1")
        || begins("ALTER ROLE <identifier> VALID UNTIL 'infinity'")
        || begins("ALTER ROLE <identifier> RESET <identifier>")
        || begins("ALTER ROLE <identifier> IN DATABASE <identifier> RESET <identifier>")
        || shape == "ALTER ROLE <identifier> LOGIN"
    {
        Command::Nothing
    } else if begins("SELECT json_build_object('in_recovery'") {
        Command::ObserveNode
    } else if begins("SELECT json_build_object('lsn'") {
        Command::ObserveCatalogue
    } else if begins("DO $$ BEGIN IF NOT EXISTS")
        || begins("GRANT ")
        || begins("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")
        || begins("DROP OWNED BY")
        || begins("SET LOCAL ROLE <identifier>")
        || shape == "RESET ROLE"
        || begins("SELECT set_config('dbaas.role', ")
        || begins("DO $dbaas$")
        || begins("ALTER DATABASE <identifier> IS_TEMPLATE false")
        || begins("ALTER DATABASE <identifier> ALLOW_CONNECTIONS false")
        || begins("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
        || begins("CREATE SCHEMA IF NOT EXISTS dbaas")
        // The simulation has no instances of before the register.
        || begins("INSERT INTO dbaas.object SELECT id::uuid")
    {
        Command::Nothing
    } else {
        return None;
    };
    Some(command)
}

/// The identifiers, literals and numbers of a statement, in order.
fn arguments(statement: &Statement) -> Option<Vec<String>> {
    let (mut text, mut shape) = (statement.text(), statement.shape());
    let mut found = Vec::new();
    loop {
        let next = ["<identifier>", "<literal>", "<number>"]
            .into_iter()
            .filter_map(|place| shape.find(place).map(|at| (at, place)))
            .min();
        let Some((at, place)) = next else {
            return (text == shape).then_some(found);
        };
        text = text.strip_prefix(&shape[..at])?;
        shape = &shape[at + place.len()..];
        let (value, rest) = match place {
            "<identifier>" => quoted(text.strip_prefix('"')?, '"', false)?,
            "<literal>" => match text.strip_prefix("E'") {
                Some(body) => quoted(body, '\'', true)?,
                None => quoted(text.strip_prefix('\'')?, '\'', false)?,
            },
            _ => {
                let end = text
                    .find(|c: char| !c.is_ascii_digit() && c != '-')
                    .unwrap_or(text.len());
                (text[..end].to_owned(), &text[end..])
            }
        };
        found.push(value);
        text = rest;
    }
}

/// What is quoted up to the closing quote, and what comes after it. A doubled quote stands for one.
fn quoted(body: &str, quote: char, escapes: bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
                value.push(quote);
                continue;
            }
            return Some((value, &body[at + quote.len_utf8()..]));
        }
        if escapes && c == '\\' {
            value.extend(chars.next().map(|(_, escaped)| escaped));
        } else {
            value.push(c);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use dbaas_core::access::AccessLevel;
    use dbaas_core::cluster::Epoch;
    use dbaas_core::command;
    use dbaas_core::config::{Configuration, HbaRules, Settings};
    use dbaas_core::id::{DatabaseId, UserId};
    use dbaas_core::name::{DatabaseName, UserName};
    use dbaas_core::observation::{
        AccessMember, AccessObject, ExtensionPlace, ForeignGrant, ObjectKind, ObjectName, SettingFacts,
    };
    use dbaas_core::password::Password;
    use dbaas_core::plan::{
        AccessChange, DatabaseSource, ExtensionChange, GoneObject, Heir, Inheritance, Lockout, Registered,
        RoleRef, Transfer,
    };
    use dbaas_core::scram::{Iterations, ScramVerifier};
    use dbaas_core::sql_executor::Script;
    use dbaas_core::version::PostgresMajor;
    use uuid::Uuid;

    use super::*;

    fn meanings(script: &Script) -> Vec<Command> {
        script
            .steps
            .iter()
            .map(|step| {
                parse(&step.statement).unwrap_or_else(|| panic!("{}: {:?}", script.name, step.statement))
            })
            .collect()
    }

    fn every_lockout() -> Vec<Lockout> {
        let setting = |role: Option<&str>, database: Option<&str>| {
            Lockout::Setting(SettingFacts {
                role: role.map(str::to_owned),
                database: database.map(str::to_owned),
                name: "search_path".to_owned(),
                value: "nowhere".to_owned(),
            })
        };
        vec![
            Lockout::Connections,
            Lockout::Limit,
            Lockout::Privileges,
            Lockout::ValidUntil,
            setting(None, Some("shop")),
            setting(Some("it"), Some("shop")),
            setting(Some("it"), None),
        ]
    }

    /// Something of everything.
    fn whole_change() -> AccessChange {
        let member = |level| AccessMember {
            level,
            name: "it".to_owned(),
        };
        let object = |kind| ObjectName {
            kind,
            schema: "public".to_owned(),
            name: "t".to_owned(),
        };
        let kinds = [
            ObjectKind::Database,
            ObjectKind::Schema,
            ObjectKind::Table,
            ObjectKind::Sequence,
            ObjectKind::Routines,
        ];
        let foreign = kinds.map(|kind| ForeignGrant {
            grantor: "app".to_owned(),
            grantee: "it".to_owned(),
            object: object(kind),
        });
        let missing = AccessLevel::ALL
            .into_iter()
            .flat_map(|level| kinds.map(|kind| (level, kind)))
            .map(|(level, kind)| AccessObject {
                level,
                object: object(kind),
                locked: kind == ObjectKind::Table,
            });
        AccessChange {
            prepare: true,
            join: vec![member(AccessLevel::Read)],
            leave: vec![member(AccessLevel::Write)],
            foreign: foreign.to_vec(),
            close_public: true,
            evict: vec!["it".to_owned()],
            creators: vec!["app".to_owned()],
            objects: missing.collect(),
        }
    }

    #[test]
    fn every_script_of_the_core_is_understood() {
        let epoch = Epoch(7);
        let verifier = ScramVerifier::derive(
            &Password::new("12345678").unwrap(),
            [1; 16],
            Iterations::default(),
        );
        let (user, database) = (UserName::new("it").unwrap(), DatabaseName::new("shop").unwrap());
        let id = Uuid::from_u128(5);
        let names = ["a".to_owned(), "b".to_owned()];
        let known = [
            GoneObject::User(UserId::from_uuid(id)),
            GoneObject::Database(DatabaseId::from_uuid(id)),
        ]
        .map(|id| Registered {
            id,
            name: "it".to_owned(),
        });
        let role = RoleRef {
            name: "it".to_owned(),
            oid: 7,
        };
        let inheritance = |heir| Inheritance {
            database: "shop".to_owned(),
            oid: 8,
            heir,
            closed: false,
        };
        let transfer = Transfer {
            name: "shop".to_owned(),
            oid: 8,
            from: role.clone(),
            to: role.clone(),
            others: names.to_vec(),
            closed: false,
        };
        let configuration = Configuration {
            settings: Settings::derive(
                PostgresMajor::OLDEST,
                1u64.try_into().unwrap(),
                512u64.try_into().unwrap(),
                8u64.try_into().unwrap(),
            ),
            hba: HbaRules::loopback(),
        };
        let mut scripts = vec![
            command::seal(epoch, Some("x")),
            command::promote(epoch, "x"),
            command::end_replay_conflicts(epoch),
            command::mark_history(epoch),
            command::set_sync_names(epoch, 3, "x"),
            command::follow(epoch, "host='a' port='1'", "slot", Some("x")),
            command::reconfigure(epoch, &configuration),
            command::checkpoint(),
            command::try_service(),
            command::create_slots(&names),
            command::drop_slots(&names),
            command::bootstrap(&verifier, &verifier, &names),
            command::create_role(&user, id, &verifier),
            command::alter_role(&user, id, &verifier),
            command::make_register(&known),
            command::adopt_role("it", UserId::from_uuid(id)),
            command::adopt_database("shop", DatabaseId::from_uuid(id)),
            command::forget(known[0].id),
            command::lock_out_role("it", id),
            command::disown_role("it", id),
            command::inherit_from_role(&role, &inheritance(Heir::Nobody)),
            command::inherit_from_role(&role, &inheritance(Heir::Owner(role.clone()))),
            command::release_shared(&role, id),
            command::release_from_role(&role, &inheritance(Heir::Nobody)),
            command::release_to_owner(&transfer),
            command::lock_holders("it"),
            command::holders_here(),
            command::sessions_in("shop"),
            command::database_obstacles("shop"),
            command::allow_connections(8, "shop", true),
            command::allow_connections(8, "shop", false),
            command::drop_role("it", UserId::from_uuid(id)),
            command::alter_database_owner(&database, id, &user, id, &names),
            command::end_sessions_without_right("shop", id),
            command::transfer_objects(&transfer),
            command::drop_database("shop", DatabaseId::from_uuid(id), true),
            command::drop_database("shop", DatabaseId::from_uuid(id), false),
            command::create_access_roles(id),
            command::drop_access_roles(id),
            command::observe_inside(id, &[&user]),
            command::observe_database_lockouts(&database),
            command::observe_role_lockouts(&user),
            command::repair_database(&database, id, &user, &every_lockout()),
            command::repair_role(&user, id, &every_lockout()),
            command::observe_node(1_000),
            command::observe_catalogue(),
        ];
        scripts.extend(command::change_access(&database, id, 9, &whole_change()));
        let names: [dbaas_core::extension::ExtensionName; 2] =
            ["pg_trgm", "hstore"].map(|name| name.parse().unwrap());
        let [name, _] = names.clone();
        let create = |place| ExtensionChange::Create {
            name: name.clone(),
            owner: role.clone(),
            place,
        };
        let update = |schema: &str| ExtensionChange::Update {
            name: name.clone(),
            owner: "it".to_owned(),
            schema: schema.to_owned(),
        };
        let drop = ExtensionChange::Drop {
            name: name.clone(),
            owner: "it".to_owned(),
        };
        let changes = [
            create(ExtensionPlace::Any),
            create(ExtensionPlace::Catalog),
            update("public"),
            update("pg_catalog"),
            drop,
        ];
        scripts.extend(changes.map(|change| command::change_extension(9, &change)));
        let look = command::observe_extensions(&names, &names[1..]);
        assert_eq!(
            meanings(&look),
            [Command::ObserveExtensions(names.map(String::from).to_vec())]
        );
        for source in [DatabaseSource::Template, DatabaseSource::Spare] {
            scripts.extend(command::create_database(&database, id, &user, source));
        }
        for script in &scripts {
            meanings(script);
        }
        assert!(
            meanings(&command::follow(epoch, "host='a' port='1'", "slot", None)).contains(
                &Command::AlterSystem("primary_conninfo".to_owned(), "host='a' port='1'".to_owned())
            )
        );
        assert_eq!(meanings(&command::seal(epoch, None))[0], Command::EpochUpTo(7));
        assert_eq!(meanings(&command::promote(epoch, "x"))[0], Command::EpochIs(7));
        assert!(
            meanings(&command::create_role(&user, id, &verifier))
                .contains(&Command::CreateRole("it".to_owned(), verifier.to_string()))
        );
    }
}
