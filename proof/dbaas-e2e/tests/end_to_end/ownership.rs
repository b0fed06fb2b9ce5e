//! Who owns what tenants made, when users and databases change hands or go.

use std::time::Instant;

use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_e2e::cluster::HEAL;

use super::tenants::House;

type Result = anyhow::Result<()>;

const PEEK: &str = "CREATE FUNCTION own_peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT pg_read_file(''PG_VERSION'')'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_function_never_runs_as_a_superuser() -> Result {
    let Some(house) = House::start("peek").await? else {
        return Ok(());
    };
    house.create_user("bob").await?;
    let (user, shop) = (house.cluster.user, house.cluster.database);
    // A database that is nobody's record's, which app works in, too.
    house.admin("CREATE ROLE janitor").await?;
    house.admin("CREATE DATABASE commons OWNER janitor").await?;
    house.admin("GRANT ALL ON DATABASE commons TO app, bob").await?;
    house
        .sql("dbaas_admin", "commons", "GRANT ALL ON SCHEMA public TO app, bob")
        .await?;
    for database in ["shop", "commons"] {
        house.sql("app", database, PEEK).await?;
        house
            .sql(
                "app",
                database,
                "CREATE TABLE own_table (i int); GRANT SELECT ON own_table TO bob",
            )
            .await?;
    }
    house
        .sql("app", "shop", "GRANT CONNECT ON DATABASE shop TO bob")
        .await?;
    house
        .sql("app", "shop", "COMMENT ON DATABASE shop IS 'ours'")
        .await?;
    house.delete_database(shop).await?;
    house.delete_user(user).await?;
    house.assert_superuser_owns_nothing().await?;
    for database in ["shop", "commons"] {
        let peeked = house.try_sql("bob", database, "SELECT own_peek()").await;
        assert!(peeked.is_err(), "{database}: {peeked:?}");
    }
    let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'own_table'";
    assert_eq!(house.sql("dbaas_admin", "commons", owner).await?, "dbaas_heir");
    assert_eq!(
        house
            .sql("bob", "commons", "SELECT count(*) FROM own_table")
            .await?,
        "0",
        "others keep what they had"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heir_of_a_user_who_goes_is_the_owner_who_was_asked_for() -> Result {
    let Some(house) = House::start("race").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    let mut owner = house.cluster.user;
    for round in 0..4 {
        let name = format!("owner{round}");
        let next = house.create_user(&name).await?;
        let before = house.plane()?.user(house.cluster.id, owner).await?.name;
        house
            .sql(
                before.as_str(),
                "shop",
                &format!("CREATE TABLE own_table{round} (i int); DROP FUNCTION IF EXISTS own_peek(); {PEEK}"),
            )
            .await?;
        house.give(shop, next).await?;
        house.delete_user(owner).await?;
        house.assert_superuser_owns_nothing().await?;
        let owned = format!("SELECT count(*) FROM own_table{round}");
        assert_eq!(house.sql(&name, "shop", &owned).await?, "0");
        let of = "SELECT proowner::regrole FROM pg_proc WHERE proname = 'own_peek'";
        assert_eq!(house.sql("dbaas_admin", "shop", of).await?, name);
        owner = next;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_gets_everything_in_that_database_and_nothing_else() -> Result {
    let Some(house) = House::start("hands").await? else {
        return Ok(());
    };
    let (app, shop) = (house.cluster.user, house.cluster.database);
    let next = house.create_user("next").await?;
    let blog = house.create_database("blog", app).await?;
    house.ready(blog).await?;
    // Nobody's record's, and app's.
    house.admin("CREATE DATABASE attic OWNER app").await?;
    for database in ["shop", "blog"] {
        let sql = "CREATE SCHEMA own_schema; CREATE TABLE own_schema.own_table AS SELECT 1 AS i; CREATE TYPE own_type AS ENUM ('a')";
        house.sql("app", database, sql).await?;
    }
    house
        .sql("app", "blog", "GRANT CONNECT ON DATABASE blog TO next")
        .await?;
    let mut old = house.client("app", "shop");
    old.connect(Instant::now() + HEAL).await?;
    house.give(shop, next).await?;
    house.ready(shop).await?;
    assert_eq!(
        house
            .sql("next", "shop", "SELECT sum(i) FROM own_schema.own_table")
            .await?,
        "1"
    );
    house
        .sql(
            "next",
            "shop",
            "DROP TYPE own_type; ALTER TABLE own_schema.own_table ADD j int",
        )
        .await?;
    let ended = old.send("SELECT 1").await;
    assert!(
        ended.is_err(),
        "the former owner may not connect any more: its sessions end"
    );
    assert!(house.try_sql("app", "shop", "SELECT 1").await.is_err());
    let owner = |name: &str| {
        format!(
            "SELECT rolname || ' ' || datacl::text FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = '{name}'"
        )
    };
    let blog_is = house.admin(&owner("blog")).await?;
    assert!(
        blog_is.starts_with("app ") && blog_is.contains("next=c/app"),
        "{blog_is}"
    );
    assert!(
        house
            .admin("SELECT datdba::regrole FROM pg_database WHERE datname = 'attic'")
            .await?
            == "app"
    );
    assert_eq!(
        house
            .sql("app", "blog", "SELECT sum(i) FROM own_schema.own_table")
            .await?,
        "1"
    );
    let events = house.cluster.events(&house.stack).await?.join("\n");
    assert!(
        events.contains("database shop belongs to next, with what user app had in it"),
        "{events}"
    );
    house.assert_superuser_owns_nothing().await?;
    Ok(())
}

/// Section "acts that succeed and change nothing".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_to_public_by_somebody_else_is_taken_back_as_they_would() -> Result {
    let Some(house) = House::start("public").await? else {
        return Ok(());
    };
    for name in ["mid", "low", "bob"] {
        house.create_user(name).await?;
    }
    house
        .sql(
            "app",
            "shop",
            "GRANT CONNECT ON DATABASE shop TO mid WITH GRANT OPTION",
        )
        .await?;
    house
        .sql(
            "mid",
            "shop",
            "GRANT CONNECT ON DATABASE shop TO low WITH GRANT OPTION",
        )
        .await?;
    house
        .sql(
            "low",
            "shop",
            "GRANT CONNECT ON DATABASE shop TO bob; GRANT CONNECT ON DATABASE shop TO PUBLIC",
        )
        .await?;
    let acl = "SELECT datacl::text FROM pg_database WHERE datname = 'shop'";
    house
        .eventually("PUBLIC may not connect", async || {
            let acl = house.admin(acl).await?;
            Ok(!acl.contains("{=c") && !acl.contains(",=c"))
        })
        .await?;
    house.ready(house.cluster.database).await?;
    // Nothing else was taken, and nothing goes on.
    let left = house.admin(acl).await?;
    for kept in ["mid=c*/app", "low=c*/mid", "bob=c/low"] {
        assert!(left.contains(kept), "{kept} of {left}");
    }
    let wal = "SELECT pg_current_wal_insert_lsn()";
    let before = house.admin(wal).await?;
    house.let_drift_be_found().await;
    let written = house
        .admin(&format!(
            "SELECT {} - '{before}'::pg_lsn",
            &wal["SELECT ".len()..]
        ))
        .await?;
    assert!(
        written.parse::<u64>()? < 100_000,
        "{written} bytes while nothing is to be done"
    );
    assert_eq!(
        house.database(house.cluster.database).await?.lifecycle,
        ObjectLifecycle::Active
    );
    Ok(())
}
