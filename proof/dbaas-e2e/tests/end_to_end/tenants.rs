//! What tenants and administrators do by SQL, and what the control plane's calls make of it: shared by the
//! tests of identity and ownership.

use std::time::{Duration, Instant};

use anyhow::ensure;
use dbaas_controller::ControlPlane;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{CreateDatabase, CreateUser, UpdateDatabase};
use dbaas_controller::view::Database;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::password::Password;
use dbaas_core::secret::Secret;
use dbaas_e2e::cluster::{HEAL, PASSWORD};
use dbaas_e2e::stack::StackOptions;
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::client::{Client, ClientOptions, Target};

/// How often the control plane of these tests looks for drift.
const DRIFT: Duration = Duration::from_millis(200);

/// An instance of one node with the user `app` and the database `shop`.
pub(crate) struct House {
    pub(crate) stack: Stack,
    pub(crate) cluster: Cluster,
    target: Target,
    admin: Target,
}

impl House {
    /// `None` where there is no PostgreSQL.
    pub(crate) async fn start(name: &str) -> anyhow::Result<Option<House>> {
        let mut options = StackOptions::default();
        options.embedded.controller.drift_interval = DRIFT;
        options.embedded.controller.inside_interval = DRIFT;
        let Some(stack) = Stack::start_with(options).await? else {
            return Ok(None);
        };
        let cluster = Cluster::create(&stack, name, 1, 0, None).await?;
        let (target, admin) = (cluster.target(&stack).await?, cluster.admin(&stack).await?);
        Ok(Some(House {
            stack,
            cluster,
            target,
            admin,
        }))
    }

    pub(crate) fn plane(&self) -> anyhow::Result<&ControlPlane> {
        self.stack.plane()
    }

    /// A client of this user in this database; the superuser's is `dbaas_admin`.
    pub(crate) fn client(&self, user: &str, database: &str) -> Client {
        let (of, password) = if user == "dbaas_admin" {
            (&self.admin, self.admin.password.clone())
        } else {
            (&self.target, Secret::new(PASSWORD))
        };
        let target = Target {
            user: user.to_owned(),
            database: database.to_owned(),
            password,
            ..of.clone()
        };
        let options = ClientOptions {
            statement_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            ..ClientOptions::default()
        };
        Client::new(target, options)
    }

    /// Runs it in a session of its own; the first value, or why it was refused, at once: `connect: …` for the
    /// login.
    pub(crate) async fn try_sql(&self, user: &str, database: &str, sql: &str) -> Result<String, String> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (host, password) = if user == "dbaas_admin" {
            (&self.admin.hosts[0], self.admin.password.expose())
        } else {
            (&self.target.hosts[0], PASSWORD)
        };
        let said = |error: &tokio_postgres::Error| match error.as_db_error() {
            Some(error) => format!("{} {}", error.code().code(), error.message()),
            None => error.to_string(),
        };
        let mut config = tokio_postgres::Config::new();
        config
            .host(&host.host)
            .port(host.port)
            .user(user)
            .password(password)
            .dbname(database);
        if user == "dbaas_admin" {
            // A tenant's setting of the database is not to have this superuser run the tenant's operators.
            config.options("-c search_path=pg_catalog");
        }
        let session = tokio::time::timeout(PATIENCE, config.connect(tokio_postgres::NoTls)).await;
        let (client, connection) = session
            .map_err(|_| "connect: no answer".to_owned())?
            .map_err(|error| format!("connect: {}", said(&error)))?;
        let connection = tokio::spawn(connection);
        let answer = tokio::time::timeout(PATIENCE, client.simple_query(sql)).await;
        drop(client);
        let _ = connection.await;
        let rows = answer
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| said(&error))?;
        let first = rows.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    }

    pub(crate) async fn sql(&self, user: &str, database: &str, sql: &str) -> anyhow::Result<String> {
        let until = Instant::now() + HEAL;
        loop {
            match self.try_sql(user, database, sql).await {
                Ok(value) => return Ok(value),
                Err(error) if error.starts_with("connect: ") && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => anyhow::bail!("{user} in {database}: {sql}: {error}"),
            }
        }
    }

    pub(crate) async fn admin(&self, sql: &str) -> anyhow::Result<String> {
        self.sql("dbaas_admin", "postgres", sql).await
    }

    /// Runs one of PostgreSQL's own programs of the server's version, as this user, and gives what it wrote.
    /// `psql` may fail on single statements.
    pub(crate) async fn program(
        &self,
        user: &str,
        name: &'static str,
        arguments: &[&str],
    ) -> anyhow::Result<Vec<u8>> {
        let directory = self
            .admin("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .await?;
        let (host, password) = match user {
            "dbaas_admin" => (&self.admin.hosts[0], self.admin.password.expose()),
            _ => (&self.target.hosts[0], PASSWORD),
        };
        let mut command = std::process::Command::new(std::path::Path::new(&directory).join(name));
        command
            .args([
                "--host",
                &host.host,
                "--port",
                &host.port.to_string(),
                "--username",
                user,
                "--no-password",
            ])
            .args(arguments)
            .env("PGPASSWORD", password);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {arguments:?}: {said}");
        Ok(output.stdout)
    }

    pub(crate) async fn create_user(&self, name: &str) -> anyhow::Result<UserId> {
        let user = CreateUser::new(name.parse()?, Password::new(PASSWORD)?);
        let plane = self.plane()?;
        let id = plane.create_user(self.cluster.id, user).await?.id;
        plane
            .wait_for_user(self.cluster.id, id, ObjectLifecycle::Active, HEAL)
            .await?;
        Ok(id)
    }

    pub(crate) async fn create_database(&self, name: &str, owner: UserId) -> anyhow::Result<DatabaseId> {
        let database = CreateDatabase::new(name.parse()?, owner);
        let plane = self.plane()?;
        Ok(plane.create_database(self.cluster.id, database).await?.id)
    }

    pub(crate) async fn ready(&self, id: DatabaseId) -> anyhow::Result<()> {
        let plane = self.plane()?;
        plane
            .wait_for_database(self.cluster.id, id, ObjectLifecycle::Active, HEAL)
            .await?;
        Ok(())
    }

    pub(crate) async fn give(&self, id: DatabaseId, owner: UserId) -> anyhow::Result<()> {
        let change = UpdateDatabase {
            owner: Some(owner),
            ..UpdateDatabase::default()
        };
        self.plane()?.update_database(self.cluster.id, id, change).await?;
        Ok(())
    }

    pub(crate) async fn delete_database(&self, id: DatabaseId) -> anyhow::Result<()> {
        let plane = self.plane()?;
        plane.delete_database(self.cluster.id, id, None).await?;
        self.eventually("the database is gone", async || {
            let found = plane.database(self.cluster.id, id).await;
            Ok(matches!(found, Err(ControlError::NotFound { .. })))
        })
        .await
    }

    pub(crate) async fn delete_user(&self, id: UserId) -> anyhow::Result<()> {
        let plane = self.plane()?;
        plane.delete_user(self.cluster.id, id, None).await?;
        self.eventually("the user is gone", async || {
            let found = plane.user(self.cluster.id, id).await;
            Ok(matches!(found, Err(ControlError::NotFound { .. })))
        })
        .await
    }

    pub(crate) async fn database(&self, id: DatabaseId) -> anyhow::Result<Database> {
        Ok(self.plane()?.database(self.cluster.id, id).await?)
    }

    /// The database's reason, when it is in ERROR and its reason holds this.
    pub(crate) async fn error_with(&self, id: DatabaseId, part: &str) -> anyhow::Result<String> {
        self.eventually(part, async || {
            let record = self.database(id).await?;
            Ok(record.lifecycle == ObjectLifecycle::Error && record.reason.contains(part))
        })
        .await?;
        Ok(self.database(id).await?.reason)
    }

    pub(crate) async fn eventually(
        &self,
        what: &str,
        holds: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + HEAL;
        while !holds().await? {
            ensure!(
                Instant::now() < until,
                "not so: {what}; {}",
                self.cluster.story(&self.stack).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Until drift has been looked for a few times: what would happen has happened.
    pub(crate) async fn let_drift_be_found(&self) {
        tokio::time::sleep(DRIFT * 10).await;
    }

    /// No object outside the system and the control plane's own schema belongs to a superuser, in any
    /// database; nor does a database.
    pub(crate) async fn assert_superuser_owns_nothing(&self) -> anyhow::Result<()> {
        let databases = self
            .admin("SELECT string_agg(datname, ',') FROM pg_database WHERE datallowconn AND datname NOT IN ('template0', 'template1')")
            .await?;
        for database in databases.split(',') {
            // What belongs to an extension is left out: the members of a trusted one are made with the
            // bootstrap superuser's rights, by PostgreSQL.
            const OWNED: &str = "SELECT string_agg(what, ', ') FROM ( \
                SELECT c.oid::regclass::text AS what, relowner AS owner, relnamespace AS schema, 'pg_class'::regclass::oid AS of, c.oid FROM pg_class c \
                UNION ALL SELECT p.oid::regprocedure::text, proowner, pronamespace, 'pg_proc'::regclass, p.oid FROM pg_proc p \
                UNION ALL SELECT t.oid::regtype::text, typowner, typnamespace, 'pg_type'::regclass, t.oid FROM pg_type t \
                UNION ALL SELECT o.oid::regoperator::text, oprowner, oprnamespace, 'pg_operator'::regclass, o.oid FROM pg_operator o \
                UNION ALL SELECT nspname, nspowner, oid, 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspname <> 'public' \
                UNION ALL SELECT 'large object ' || oid, lomowner, 0, 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata \
                UNION ALL SELECT 'extension ' || extname, extowner, 0, 'pg_extension'::regclass, oid FROM pg_extension WHERE extname <> 'plpgsql') o \
                JOIN pg_roles r ON r.oid = o.owner LEFT JOIN pg_namespace n ON n.oid = o.schema \
                WHERE r.rolsuper AND coalesce(n.nspname, '') !~ '^(pg_|information_schema$|dbaas$)' \
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.of AND d.objid = o.oid AND d.deptype IN ('e', 'i')) \
                AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_type t ON d.classid = 'pg_type'::regclass AND d.objid = t.typelem \
                    AND d.deptype = 'e' WHERE o.of = 'pg_type'::regclass AND t.typarray = o.oid)";
            let owned = match self.try_sql("dbaas_admin", database, OWNED).await {
                Ok(owned) => owned,
                // It was dropped meanwhile.
                Err(error) if error.contains("3D000") => continue,
                Err(error) => anyhow::bail!("{error}"),
            };
            ensure!(owned.is_empty(), "a superuser owns in {database}: {owned}");
        }
        let databases = self
            .admin("SELECT count(*) FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE rolsuper AND datname <> 'dbaas-spare' \
                 AND datname !~ '^dbaas_new_' AND datname NOT IN ('postgres', 'template0', 'template1')")
            .await?;
        ensure!(databases == "0", "a superuser owns {databases} databases");
        Ok(())
    }
}
