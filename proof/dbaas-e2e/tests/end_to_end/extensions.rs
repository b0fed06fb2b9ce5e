//! Extensions of databases on real PostgreSQL: made, updated and dropped by the API; what tenants prepare
//! against that.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use dbaas_controller::request::UpdateDatabase;
use dbaas_controller::view::Database;
use dbaas_core::extension::ExtensionName;
use dbaas_core::id::DatabaseId;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_e2e::cluster::HEAL;

use super::tenants::House;

type Result<T = ()> = anyhow::Result<T>;

const INSTALLED: &str = "SELECT string_agg(format('%s %s %s', extname, extowner::regrole, extnamespace::regnamespace), ', ' ORDER BY extname) \
     FROM pg_extension WHERE extname <> 'plpgsql'";

fn names(names: &[&str]) -> Result<Vec<ExtensionName>> {
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

impl House {
    async fn ask(&self, id: DatabaseId, wanted: &[&str]) -> Result {
        let update = UpdateDatabase {
            extensions: Some(names(wanted)?),
            ..UpdateDatabase::default()
        };
        let plane = self.plane()?;
        plane.update_database(self.cluster.id, id, update).await?;
        Ok(())
    }

    async fn have(&self, id: DatabaseId, wanted: &[&str]) -> Result<Database> {
        self.ask(id, wanted).await?;
        self.settled(id).await
    }

    async fn settled(&self, id: DatabaseId) -> Result<Database> {
        let (plane, active) = (self.plane()?, ObjectLifecycle::Active);
        match plane.wait_for_database(self.cluster.id, id, active, HEAL).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let reason = self.database(id).await?.reason;
                Err(anyhow::anyhow!("{error}: {reason}"))
            }
        }
    }

    async fn update(&self, id: DatabaseId) -> Result<Database> {
        self.plane()?.update_extensions(self.cluster.id, id, None).await?;
        self.settled(id).await
    }

    async fn assert_nobody_won(&self) -> Result {
        let won = self
            .admin("SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname = 'pwned' OR rolsuper AND rolname <> 'dbaas_admin'")
            .await?;
        ensure!(won.is_empty(), "superusers: {won}");
        self.assert_superuser_owns_nothing().await
    }
}

/// Every extension that the server calls trusted, made and dropped again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_are_trusted_come_and_go() -> Result {
    let Some(house) = House::start("extensions").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    let record = house.have(shop, &["pg_trgm"]).await?;
    let seen = &record.extension_status;
    ensure!(
        seen.len() == 1 && seen[0].installed == seen[0].available && seen[0].installed.is_some(),
        "{seen:?}"
    );
    ensure!(house.sql("app", "shop", INSTALLED).await? == "pg_trgm app public");
    ensure!(
        house
            .sql("app", "shop", "SELECT similarity('word', 'two words') > 0")
            .await?
            == "t"
    );

    let trusted = house
        .admin("SELECT string_agg(DISTINCT name, ',') FROM pg_available_extension_versions WHERE trusted")
        .await?;
    // Needs a library of the machine's, which is not everywhere.
    let all: Vec<&str> = trusted.split(',').filter(|name| *name != "uuid-ossp").collect();
    ensure!(all.contains(&"hstore") && all.len() > 15, "{all:?}");
    house.have(shop, &all).await?;
    let record = house.plane()?.database_record(house.cluster.id, shop).await?;
    ensure!(record.extensions.is_settled(), "{:?}", record.extensions);
    let owned = house.sql("app", "shop", INSTALLED).await?;
    let wrong: Vec<&str> = owned
        .split(", ")
        .filter(|one| !one.ends_with(" app public"))
        .collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(
        house
            .sql(
                "app",
                "shop",
                "SELECT count(*) FROM pg_namespace WHERE nspname = 'dbaas_extension'"
            )
            .await?
            == "0"
    );
    house.assert_nobody_won().await?;

    // Not offered: told, and nothing else is held up by it.
    house.ask(shop, &["hstore", "no_such_extension"]).await?;
    house
        .error_with(
            shop,
            "extension no_such_extension cannot be made: the server has not got it",
        )
        .await?;
    house
        .eventually("hstore is left", async || {
            Ok(house.sql("app", "shop", INSTALLED).await? == "hstore app public")
        })
        .await?;
    house.have(shop, &["hstore"]).await?;

    // Drift.
    house.sql("app", "shop", "DROP EXTENSION hstore").await?;
    house
        .eventually("it is made again", async || {
            Ok(house.sql("app", "shop", INSTALLED).await? == "hstore app public")
        })
        .await?;
    let events = house.cluster.events(&house.stack).await?.join("\n");
    ensure!(events.contains("hstore is made"), "{events}");
    Ok(())
}

/// Something depends on it: it stays, and the reason says what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_stays() -> Result {
    let Some(house) = House::start("extensions-in-use").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    house.have(shop, &["hstore", "pg_trgm"]).await?;
    house
        .sql("app", "shop", "CREATE TABLE t (h hstore); INSERT INTO t VALUES ('a=>1'); CREATE TABLE mine (i int); INSERT INTO mine VALUES (1); \
             ALTER EXTENSION pg_trgm ADD TABLE mine")
        .await?;
    house.ask(shop, &[]).await?;
    let reason = house
        .error_with(shop, "column h of table public.t depends on it")
        .await?;
    ensure!(reason.contains("table public.mine was added to it"), "{reason}");
    ensure!(house.sql("app", "shop", "SELECT count(*) FROM t, mine").await? == "1");
    house
        .sql(
            "app",
            "shop",
            "DROP TABLE t; ALTER EXTENSION pg_trgm DROP TABLE mine",
        )
        .await?;
    house.settled(shop).await?;
    ensure!(house.sql("app", "shop", INSTALLED).await?.is_empty());
    ensure!(house.sql("app", "shop", "SELECT count(*) FROM mine").await? == "1");
    Ok(())
}

/// An update comes on request, wherever the tenant keeps the extension.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_come_on_request() -> Result {
    let Some(house) = House::start("extension-updates").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    house
        .sql("app", "shop", "CREATE SCHEMA theirs; CREATE EXTENSION pg_trgm VERSION '1.3'; CREATE EXTENSION hstore VERSION '1.4' SCHEMA theirs; \
             CREATE TABLE kept (h theirs.hstore); INSERT INTO kept VALUES ('a=>1')")
        .await?;
    let record = house.have(shop, &["hstore", "pg_trgm"]).await?;
    let versions = |record: &Database| -> BTreeSet<(String, bool)> {
        let seen = record.extension_status.iter();
        seen.map(|seen| (seen.name.to_string(), seen.installed == seen.available))
            .collect()
    };
    let all = |same| BTreeSet::from(["hstore", "pg_trgm"].map(|name| (name.to_owned(), same)));
    ensure!(versions(&record) == all(false), "{record:?}");
    // Somebody's own member is not moved about, nor run.
    house
        .sql("app", "shop", "CREATE FUNCTION extra() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION pg_trgm ADD FUNCTION extra()")
        .await?;
    let record = house.update(shop).await?;
    ensure!(
        versions(&record).contains(&("hstore".to_owned(), true)),
        "{record:?}"
    );
    ensure!(
        versions(&record).contains(&("pg_trgm".to_owned(), false)),
        "{record:?}"
    );
    let events = house.cluster.events(&house.stack).await?.join("\n");
    ensure!(
        events.contains("extension pg_trgm is not updated: function public.extra() was added"),
        "{events}"
    );
    house
        .sql("app", "shop", "ALTER EXTENSION pg_trgm DROP FUNCTION extra()")
        .await?;
    let record = house.update(shop).await?;
    ensure!(versions(&record) == all(true), "{record:?}");
    ensure!(house.sql("app", "shop", INSTALLED).await? == "hstore app theirs, pg_trgm app public");
    ensure!(
        house
            .sql("app", "shop", "SELECT h OPERATOR(theirs.->) 'a' FROM kept")
            .await?
            == "1"
    );
    house.assert_nobody_won().await
}

/// Names that the scripts use, taken beforehand by a tenant: functions, operators, types and tables, in every
/// schema that a script could look in.
const PREPARED: &str = "CREATE FUNCTION pwn() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN EXECUTE 'CREATE ROLE pwned SUPERUSER'; END IF; \
         RETURN true; END $$; \
     CREATE FUNCTION public.version(text) RETURNS text LANGUAGE sql AS 'SELECT pwn()::text'; \
     CREATE FUNCTION public.array_append(text[], text) RETURNS text[] LANGUAGE sql AS 'SELECT ARRAY[pwn()::text]'; \
     CREATE FUNCTION public.array_replace(text[], text, text) RETURNS text[] LANGUAGE sql AS 'SELECT ARRAY[pwn()::text]'; \
     CREATE FUNCTION public.equal(text, text) RETURNS bool LANGUAGE sql AS 'SELECT pwn()'; \
     CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.equal); \
     CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.equal); \
     CREATE FUNCTION public.ltree_eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT pwn()'; \
     ALTER DATABASE shop SET search_path = public, pg_catalog; \
     ALTER ROLE app SET search_path = public, pg_catalog";

/// Objects that a tenant makes beforehand are neither run by the control plane's superuser nor taken over by
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tenant_prepares_is_not_run() -> Result {
    let Some(house) = House::start("extension-attack").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    house.sql("app", "shop", PREPARED).await?;
    let all = [
        "citext", "hstore", "intarray", "isn", "ltree", "pg_trgm", "seg", "unaccent",
    ];
    house
        .have(shop, &all)
        .await
        .context("prepared functions do not keep them from being made")?;
    house.assert_nobody_won().await?;
    house.have(shop, &[]).await?;

    // A function that the extension itself has: in the way, and told of; not replaced.
    house
        .sql(
            "app",
            "shop",
            "CREATE FUNCTION similarity(text, text) RETURNS real LANGUAGE sql AS 'SELECT 42::real'",
        )
        .await?;
    house.ask(shop, &["pg_trgm"]).await?;
    let reason = house.error_with(shop, "extension pg_trgm: ").await?;
    ensure!(reason.contains("already exists"), "{reason}");
    ensure!(house.sql("app", "shop", "SELECT similarity('a', 'b')").await? == "42");
    house
        .sql("app", "shop", "DROP FUNCTION similarity(text, text)")
        .await?;
    house.settled(shop).await?;

    // The schema that scripts run in, taken: nothing is done in it.
    house.have(shop, &[]).await?;
    house.sql("app", "shop", "CREATE SCHEMA dbaas_extension").await?;
    house.ask(shop, &["pg_trgm"]).await?;
    let reason = house.error_with(shop, "dbaas_extension").await?;
    ensure!(reason.contains("already exists"), "{reason}");
    house.sql("app", "shop", "DROP SCHEMA dbaas_extension").await?;
    house.settled(shop).await?;

    // The same before an update: what a script would replace or call is a tenant's.
    house.have(shop, &[]).await?;
    house
        .sql("app", "shop", "CREATE EXTENSION hstore VERSION '1.4'; CREATE EXTENSION pg_trgm VERSION '1.3'; \
             CREATE FUNCTION strict_word_similarity(text, text) RETURNS real LANGUAGE sql AS 'SELECT pwn()::int::real'; \
             ALTER EXTENSION pg_trgm ADD FUNCTION strict_word_similarity(text, text)")
        .await?;
    house.have(shop, &["hstore", "pg_trgm"]).await?;
    let record = house.update(shop).await?;
    let behind = record
        .extension_status
        .iter()
        .filter(|seen| seen.installed != seen.available);
    let behind: Vec<String> = behind.map(|seen| seen.name.to_string()).collect();
    ensure!(behind == ["pg_trgm"], "{behind:?}");
    house.assert_nobody_won().await
}
