//! Random calls and random SQL of tenants. After each: no superuser owns anything of theirs, and nobody
//! reaches a superuser's rights, files of the server or what another one keeps private. `DBAAS_TENANTS_SEED`
//! repeats a run, `DBAAS_TENANTS_SECONDS` makes it longer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_controller::request::UpdateDatabase;
use dbaas_core::access::{AccessEntry, AccessLevel};
use dbaas_core::id::{DatabaseId, UserId};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::tenants::House;

const SECONDS: u64 = 30;
const USERS: usize = 4;
const DATABASES: usize = 3;

/// What runs as a superuser if one of our sessions can be made to run it.
const TRAP: &str = "CREATE SCHEMA IF NOT EXISTS own_evil; \
     CREATE OR REPLACE FUNCTION own_evil.trap(oid, bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN \
             EXECUTE 'CREATE ROLE pwned SUPERUSER'; END IF; RETURN true; END $$; \
     CREATE OPERATOR own_evil.= (LEFTARG = oid, RIGHTARG = bigint, FUNCTION = own_evil.trap)";

/// What is asked for, in every mixture.
const EXTENSIONS: [&str; 4] = ["citext", "hstore", "ltree", "pg_trgm"];

/// What takes a superuser, or a right that no tenant has.
const FORBIDDEN: [&str; 14] = [
    "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION own_evil.trap()",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "CREATE FUNCTION own_c() RETURNS int LANGUAGE c AS 'libc', 'system'",
    "CREATE FUNCTION own_i() RETURNS int LANGUAGE internal AS 'int4pl'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/own'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT * FROM pg_authid",
    "GRANT pg_read_server_files TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "SET SESSION AUTHORIZATION dbaas_admin",
    "ALTER SYSTEM SET archive_command = 'true'",
    "CREATE CAST (int AS bool) WITHOUT FUNCTION",
];

struct Run {
    house: House,
    rng: StdRng,
    users: BTreeMap<String, UserId>,
    databases: BTreeMap<String, DatabaseId>,
    next: u32,
    log: Vec<String>,
}

impl Run {
    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.rng.random_range(0..from.len())].clone())
    }

    fn user(&mut self) -> Option<(String, UserId)> {
        let users: Vec<_> = self.users.iter().map(|(name, id)| (name.clone(), *id)).collect();
        self.pick(&users)
    }

    fn database(&mut self) -> Option<(String, DatabaseId)> {
        let databases: Vec<_> = self
            .databases
            .iter()
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        self.pick(&databases)
    }

    fn name(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{}", self.next)
    }

    /// One call, as somebody may make it who does not look.
    async fn call(&mut self) -> anyhow::Result<()> {
        match self.rng.random_range(0..13) {
            0 if self.users.len() < USERS => {
                let name = self.name("user");
                self.log.push(format!("create user {name}"));
                let id = self.house.create_user(&name).await?;
                self.users.insert(name, id);
            }
            1 | 2 if self.databases.len() < DATABASES => {
                let Some((owner, id)) = self.user() else {
                    return Ok(());
                };
                let name = self.name("base");
                self.log.push(format!("create database {name} of {owner}"));
                if let Ok(made) = self.house.create_database(&name, id).await {
                    self.house.ready(made).await?;
                    self.databases.insert(name, made);
                }
            }
            3 | 4 => {
                let (Some((owner, user)), Some((name, database))) = (self.user(), self.database()) else {
                    return Ok(());
                };
                self.log.push(format!("give {name} to {owner}"));
                let _ = self.house.give(database, user).await;
                // Sometimes the former owner is deleted at once, below.
            }
            5 | 6 if self.users.len() > 1 => {
                let Some((name, id)) = self.user() else {
                    return Ok(());
                };
                let refused = self
                    .house
                    .plane()?
                    .delete_user(self.house.cluster.id, id, None)
                    .await
                    .is_err();
                self.log.push(format!(
                    "delete user {name}{}",
                    if refused { ", refused" } else { "" }
                ));
                if !refused {
                    self.house
                        .delete_user(id)
                        .await
                        .with_context(|| format!("{name} goes"))?;
                    self.users.remove(&name);
                }
            }
            8 | 9 => {
                let Some((name, id)) = self.database() else {
                    return Ok(());
                };
                let wanted = EXTENSIONS.iter().filter(|_| self.rng.random());
                let wanted: Vec<&str> = wanted.copied().collect();
                self.log.push(format!("extensions of {name}: {wanted:?}"));
                let update = UpdateDatabase {
                    extensions: Some(wanted.iter().map(|name| name.parse()).collect::<Result<_, _>>()?),
                    ..UpdateDatabase::default()
                };
                let plane = self.house.plane()?;
                let cluster = self.house.cluster.id;
                let _ = plane.update_database(cluster, id, update).await;
                if self.rng.random() {
                    let _ = plane.update_extensions(cluster, id, None).await;
                }
            }
            10 => {
                let (Some((name, id)), Some((user, user_id))) = (self.database(), self.user()) else {
                    return Ok(());
                };
                let level = AccessLevel::ALL[self.rng.random_range(0..AccessLevel::ALL.len())];
                self.log
                    .push(format!("{level} access to {name} for {user}, or none"));
                let entry = AccessEntry { user: user_id, level };
                let update = UpdateDatabase {
                    access: Some(if self.rng.random() {
                        vec![entry]
                    } else {
                        Vec::new()
                    }),
                    ..UpdateDatabase::default()
                };
                let plane = self.house.plane()?;
                let _ = plane.update_database(self.house.cluster.id, id, update).await;
            }
            11 => {
                let (Some((name, id)), Some((user, user_id))) = (self.database(), self.user()) else {
                    return Ok(());
                };
                self.log.push(format!("repair access to {name}, and of {user}"));
                let plane = self.house.plane()?;
                let _ = plane
                    .repair_database_access(self.house.cluster.id, id, None)
                    .await;
                let _ = plane
                    .repair_user_access(self.house.cluster.id, user_id, None)
                    .await;
            }
            7 if self.databases.len() > 1 => {
                let Some((name, id)) = self.database() else {
                    return Ok(());
                };
                self.log.push(format!("delete database {name}"));
                self.house.delete_database(id).await?;
                self.databases.remove(&name);
            }
            _ => {}
        }
        Ok(())
    }

    /// What a tenant sends; whether PostgreSQL takes it does not matter.
    async fn statement(&mut self) {
        let (Some((user, id)), Some((database, of)), Some((other, _))) =
            (self.user(), self.database(), self.user())
        else {
            return;
        };
        // Mostly the owner, who may do most.
        let user = match self.rng.random_range(0..3) {
            0 => user,
            _ => {
                let of = format!("SELECT datdba::regrole FROM pg_database WHERE datname = '{database}'");
                self.house.admin(&of).await.unwrap_or(user)
            }
        };
        let n = self.rng.random_range(0..5);
        let option = if self.rng.random() {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        let private = format!(
            "CREATE SCHEMA own_{user}; CREATE TABLE own_{user}.secret AS SELECT 'of {user}' AS what; REVOKE ALL ON SCHEMA own_{user} FROM PUBLIC"
        );
        let sql = match self.rng.random_range(0..36) {
            0 | 1 => private,
            2 => format!("CREATE TABLE own_t{n} (i int); GRANT ALL ON own_t{n} TO {other}{option}"),
            3 | 4 => format!("GRANT CONNECT ON DATABASE {database} TO {other}{option}"),
            5 => format!("GRANT CONNECT, CREATE ON DATABASE {database} TO PUBLIC"),
            6 => format!("ALTER DATABASE {database} OWNER TO {other}"),
            7 => format!("ALTER TABLE own_t{n} OWNER TO {other}"),
            8 => format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {other}{option}"),
            9 => format!("COMMENT ON DATABASE {database} IS 'dbaas:{}'", id.uuid()),
            10 => format!("COMMENT ON DATABASE {database} IS 'dbaas:{}'", of.uuid()),
            11 | 12 => "CREATE OR REPLACE FUNCTION own_peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS \
                 'SELECT pg_read_file(''PG_VERSION'')'"
                .to_owned(),
            13 => "CREATE EXTENSION IF NOT EXISTS pg_trgm".to_owned(),
            14 => TRAP.to_owned(),
            15 => format!("ALTER DATABASE {database} SET search_path = own_evil, pg_catalog"),
            16 => "ALTER ROLE CURRENT_USER SET search_path = own_evil, pg_catalog".to_owned(),
            17 => format!("ALTER SCHEMA own_{user} OWNER TO dbaas_heir"),
            18 => format!("ALTER SCHEMA own_{user} OWNER TO dbaas_admin"),
            19 => format!(
                "ALTER TABLE own_t{n} ENABLE ROW LEVEL SECURITY; CREATE POLICY p{} ON own_t{n} TO {other} USING (true)",
                self.next
            ),
            20 => "SELECT lo_create(0)".to_owned(),
            22 => format!("CREATE OR REPLACE VIEW own_v{n} AS SELECT pg_read_file('PG_VERSION') AS what; GRANT SELECT ON own_v{n} TO {other}"),
            23 => format!(
                "CREATE TABLE own_ruled{n} (i int); CREATE RULE r AS ON INSERT TO own_ruled{n} DO ALSO SELECT own_evil.trap(0::oid, 0)"
            ),
            24 => format!(
                "CREATE TABLE own_t{n}_triggered (i int DEFAULT own_evil.trap(0::oid, 0)::int CHECK (own_evil.trap(0::oid, 0))); \
                 CREATE FUNCTION own_evil.fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM own_evil.trap(0::oid, 0); RETURN NEW; END'; \
                 CREATE TRIGGER t BEFORE INSERT ON own_t{n}_triggered FOR EACH ROW EXECUTE FUNCTION own_evil.fired()"
            ),
            25 => "CREATE TYPE own_evil.pair AS (a int, b int); CREATE FUNCTION own_evil.to_text(own_evil.pair) RETURNS text \
                   LANGUAGE sql AS 'SELECT own_evil.trap(0::oid, 0)::text'; \
                   CREATE CAST (own_evil.pair AS text) WITH FUNCTION own_evil.to_text(own_evil.pair) AS IMPLICIT"
                .to_owned(),
            26 => "CREATE FUNCTION own_evil.names(name, name) RETURNS bool LANGUAGE sql AS 'SELECT own_evil.trap(0::oid, 0)'; \
                   CREATE OPERATOR own_evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = own_evil.names); \
                   CREATE FUNCTION own_evil.current_database() RETURNS name LANGUAGE sql AS 'SELECT own_evil.trap(0::oid, 0)::text::name'"
                .to_owned(),
            // In the way of extensions, and within them.
            27 => "CREATE FUNCTION public.similarity(text, text) RETURNS real LANGUAGE sql AS 'SELECT own_evil.trap(0::oid, 0)::int::real'"
                .to_owned(),
            28 => "CREATE EXTENSION hstore VERSION '1.4'; CREATE FUNCTION public.own_member(text) RETURNS bool LANGUAGE sql AS \
                   'SELECT own_evil.trap(0::oid, 0)'; ALTER EXTENSION hstore ADD FUNCTION public.own_member(text)"
                .to_owned(),
            29 => "DROP EXTENSION IF EXISTS hstore, pg_trgm, citext CASCADE".to_owned(),
            30 => "CREATE SCHEMA dbaas_extension; CREATE TABLE dbaas_extension.own_t (i int)".to_owned(),
            31 => format!("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {other}{option}"),
            32 => "CREATE MATERIALIZED VIEW own_seen AS SELECT current_user AS who; \
                   CREATE INDEX ON own_seen ((who::text))"
                .to_owned(),
            33 => "CREATE PUBLICATION own_p; CREATE AGGREGATE own_evil.all_of(bool) (SFUNC = booland_statefunc, STYPE = bool)".to_owned(),
            34 => format!("ALTER DATABASE {database} CONNECTION LIMIT 0; ALTER ROLE CURRENT_USER SET statement_timeout = 1"),
            35 => "ALTER SCHEMA dbaas_extension RENAME TO own_was; DROP SCHEMA own_was CASCADE".to_owned(),
            _ => format!("GRANT {user} TO {other}; SET ROLE dbaas_heir; SELECT * FROM dbaas.object"),
        };
        let answer = self.house.try_sql(&user, &database, &sql).await;
        let outcome = if answer.is_ok() { "done" } else { "refused" };
        self.log.push(format!("{user} in {database}: {sql}: {outcome}"));
    }

    /// What no tenant may do, ever.
    async fn forbidden(&mut self) -> anyhow::Result<()> {
        let (Some((user, _)), Some((database, _))) = (self.user(), self.database()) else {
            return Ok(());
        };
        let sql = FORBIDDEN[self.rng.random_range(0..FORBIDDEN.len())];
        let answer = self.house.try_sql(&user, &database, sql).await;
        ensure!(answer.is_err(), "{user} in {database} may {sql}");
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        self.forbidden().await?;
        self.house.assert_superuser_owns_nothing().await?;
        let rights = self
            .house
            .admin(
                "SELECT string_agg(rolname, ', ') FROM pg_roles r WHERE rolname !~ '^(pg_|dbaas_admin$)' AND (rolsuper OR rolcreaterole \
                 OR rolbypassrls OR rolname <> 'dbaas_replication' AND rolreplication \
                 OR pg_has_role(oid, 'pg_read_server_files', 'MEMBER') OR pg_has_role(oid, 'pg_execute_server_program', 'MEMBER') \
                 OR pg_has_role(oid, 'dbaas_admin', 'MEMBER') OR has_schema_privilege(oid, 'dbaas', 'USAGE') \
                 OR has_table_privilege(oid, 'dbaas.object', 'SELECT, INSERT, UPDATE, DELETE'))",
            )
            .await?;
        ensure!(rights.is_empty(), "they have rights: {rights}");
        let users: Vec<String> = self.users.keys().cloned().collect();
        for (database, id) in &self.databases {
            for user in &users {
                let peeked = self.house.try_sql(user, database, "SELECT own_peek()").await;
                ensure!(peeked.is_err(), "{user} in {database} reads a file of the server");
            }
            // By PostgreSQL's own word, for everybody and everything that is private; who owns it may, and a
            // member of who owns it.
            let reach = format!(
                "SELECT string_agg(r.rolname || ' ' || n.nspname, ', ') FROM pg_namespace n, pg_roles r WHERE n.nspname ~ '^own_user' \
                 AND r.rolname IN ('{}') AND NOT pg_has_role(r.oid, n.nspowner, 'MEMBER') AND has_schema_privilege(r.oid, n.oid, 'USAGE') \
                 AND NOT EXISTS (SELECT FROM pg_roles l WHERE l.rolname = '{}' AND pg_has_role(r.oid, l.oid, 'MEMBER'))",
                users.join("', '"),
                AccessLevel::Read.role(id.uuid())
            );
            if let Ok(reached) = self.house.try_sql("dbaas_admin", database, &reach).await {
                ensure!(reached.is_empty(), "in {database}: {reached}");
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_more_than_is_theirs() -> anyhow::Result<()> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let seed = number("DBAAS_TENANTS_SEED").unwrap_or_else(|| rand::rng().next_u64());
    let Some(house) = House::start("tenants").await? else {
        return Ok(());
    };
    let mut run = Run {
        users: BTreeMap::from([("app".to_owned(), house.cluster.user)]),
        databases: BTreeMap::from([("shop".to_owned(), house.cluster.database)]),
        house,
        rng: StdRng::seed_from_u64(seed),
        next: 0,
        log: Vec::new(),
    };
    let until = Instant::now() + Duration::from_secs(number("DBAAS_TENANTS_SECONDS").unwrap_or(SECONDS));
    let mut steps = 0;
    while Instant::now() < until {
        let result = async {
            run.call().await?;
            for _ in 0..3 {
                run.statement().await;
            }
            run.check().await
        };
        if let Err(error) = result.await {
            let story = run.house.cluster.story(&run.house.stack).await;
            panic!(
                "DBAAS_TENANTS_SEED={seed}, step {steps}: {error:#}\n{}\n{story}",
                run.log.join("\n")
            );
        }
        steps += 1;
    }
    let taken = run.log.iter().filter(|line| line.ends_with(": done")).count();
    tracing::info!(
        seed,
        steps,
        statements = run.log.len(),
        taken,
        "nothing was found"
    );
    assert!(steps > 0, "seed {seed}");
    Ok(())
}
