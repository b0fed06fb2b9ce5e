//! Which database is whose: what a tenant writes says nothing, and what is not ours is left alone.

use dbaas_core::lifecycle::ObjectLifecycle;

use super::tenants::House;

type Result = anyhow::Result<()>;

const TABLE: &str = "CREATE TABLE public.own_rows AS SELECT generate_series(1, 3) AS i";
const ROWS: &str = "SELECT count(*) FROM public.own_rows";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_is_a_comment() -> Result {
    let Some(house) = House::start("comment").await? else {
        return Ok(());
    };
    let first = house.cluster.database;
    house.sql("app", "shop", TABLE).await?;
    house
        .sql("app", "shop", "COMMENT ON DATABASE shop IS 'x'")
        .await?;
    house.delete_database(first).await?;
    let there = house
        .admin("SELECT count(*) FROM pg_database WHERE datname = 'shop'")
        .await?;
    assert_eq!(there, "0", "deleted is gone, with its rows");

    // Made again, and the comment of the first one restored with its dump: it is this one all the same.
    let second = house.create_database("shop", house.cluster.user).await?;
    house.ready(second).await?;
    house.sql("app", "shop", TABLE).await?;
    let mark = format!("COMMENT ON DATABASE shop IS 'dbaas:{}'", first.uuid());
    house.sql("app", "shop", &mark).await?;
    house.let_drift_be_found().await;
    assert_eq!(house.sql("app", "shop", ROWS).await?, "3");
    assert_eq!(house.database(second).await?.lifecycle, ObjectLifecycle::Active);
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'";
    assert_eq!(
        house.admin(comment).await?,
        format!("dbaas:{}", first.uuid()),
        "it is the owner's"
    );
    let events = house.cluster.events(&house.stack).await?.join("\n");
    assert!(!events.contains("mending"), "{events}");
    Ok(())
}

/// `pg_dump -C` carries the comment of the database along, and `psql` puts it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_restored() -> Result {
    let Some(house) = House::start("dump").await? else {
        return Ok(());
    };
    let first = house.cluster.database;
    let mark = format!("dbaas:{}", first.uuid());
    house.sql("app", "shop", TABLE).await?;
    house
        .sql("app", "shop", &format!("COMMENT ON DATABASE shop IS '{mark}'"))
        .await?;
    let dump = house.program("app", "pg_dump", &["-C", "shop"]).await?;
    assert!(
        String::from_utf8_lossy(&dump).contains(&mark),
        "the dump carries the comment"
    );
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &dump)?;
    let path = file.path().to_str().unwrap_or_default().to_owned();
    let restore = ["--quiet", "--no-psqlrc", "--file", &path];

    // Deleted, created again, restored by its owner: the dump's CREATE DATABASE is refused, and what follows
    // is done.
    house.delete_database(first).await?;
    let second = house.create_database("shop", house.cluster.user).await?;
    house.ready(second).await?;
    let as_owner = [&restore[..], &["--dbname", "shop"]].concat();
    house.program("app", "psql", &as_owner).await?;
    house.let_drift_be_found().await;
    assert_eq!(house.sql("app", "shop", ROWS).await?, "3");
    assert_eq!(house.database(second).await?.lifecycle, ObjectLifecycle::Active);

    // Dropped by SQL and restored by an administrator: another database of the right name, with the right
    // comment. It is told of, and left alone until it is adopted.
    house.admin("DROP DATABASE shop WITH (FORCE)").await?;
    house.error_with(second, "dropped by SQL").await?;
    let as_admin = [&restore[..], &["--dbname", "postgres"]].concat();
    house.program("dbaas_admin", "psql", &as_admin).await?;
    house.error_with(second, "actions/adopt").await?;
    house.let_drift_be_found().await;
    assert_eq!(
        house.sql("dbaas_admin", "shop", ROWS).await?,
        "3",
        "it is left alone"
    );
    house
        .plane()?
        .adopt_database(house.cluster.id, second, None)
        .await?;
    house.ready(second).await?;
    assert_eq!(house.sql("app", "shop", ROWS).await?, "3");
    let events = house.cluster.events(&house.stack).await?.join("\n");
    assert!(!events.contains("mending"), "{events}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_owner_drops_or_an_administrator_renames_is_told_of() -> Result {
    let Some(house) = House::start("sql").await? else {
        return Ok(());
    };
    let shop = house.cluster.database;
    let other = house.create_database("other", house.cluster.user).await?;
    house.ready(other).await?;
    house.sql("app", "other", "DROP DATABASE shop").await?;
    let reason = house.error_with(shop, "dropped by SQL").await?;
    assert!(reason.contains("seen at 20"), "{reason}");
    house.let_drift_be_found().await;
    let there = house
        .admin("SELECT count(*) FROM pg_database WHERE datname = 'shop'")
        .await?;
    assert_eq!(there, "0", "no empty one in its place");
    house.delete_database(shop).await?;
    let again = house.create_database("shop", house.cluster.user).await?;
    house.ready(again).await?;

    // Renamed: told of, named back, and dropped by the name that it has.
    house.sql("app", "other", TABLE).await?;
    house.admin("ALTER DATABASE other RENAME TO moved").await?;
    house
        .error_with(other, "ALTER DATABASE \"moved\" RENAME TO \"other\"")
        .await?;
    house.admin("ALTER DATABASE moved RENAME TO other").await?;
    house.ready(other).await?;
    assert_eq!(house.sql("app", "other", ROWS).await?, "3");
    house.admin("ALTER DATABASE other RENAME TO moved").await?;
    // Somebody else's takes the name meanwhile.
    house.admin("CREATE DATABASE other").await?;
    house.delete_database(other).await?;
    let left = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname IN ('moved', 'other')";
    assert_eq!(house.admin(left).await?, "other", "that one is left alone");
    let events = house.cluster.events(&house.stack).await?.join("\n");
    assert!(
        events.contains("left alone") && !events.contains("mending"),
        "{events}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_adopted_when_somebody_asks_for_that() -> Result {
    let Some(house) = House::start("adopt").await? else {
        return Ok(());
    };
    let plane = house.plane()?;
    house.admin("CREATE DATABASE legacy").await?;
    house.sql("dbaas_admin", "legacy", TABLE).await?;
    house.admin("CREATE ROLE veteran PASSWORD 'old'").await?;
    let legacy = house.create_database("legacy", house.cluster.user).await?;
    house.error_with(legacy, "actions/adopt").await?;
    let owner =
        "SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = 'legacy'";
    assert_eq!(house.admin(owner).await?, "dbaas_admin", "untouched");
    plane.adopt_database(house.cluster.id, legacy, None).await?;
    house.ready(legacy).await?;
    assert_eq!(house.admin(owner).await?, "app");
    assert!(!plane.database_record(house.cluster.id, legacy).await?.adopting);
    assert_eq!(house.sql("dbaas_admin", "legacy", ROWS).await?, "3");
    let events = house.cluster.events(&house.stack).await?.join("\n");
    assert!(events.contains(" adopted: database legacy"), "{events}");
    house.delete_database(legacy).await?;

    // A role; and a superuser is not taken over.
    let user = |name: &str| -> anyhow::Result<_> {
        Ok(dbaas_controller::request::CreateUser::new(
            name.parse()?,
            dbaas_core::password::Password::new(dbaas_e2e::cluster::PASSWORD)?,
        ))
    };
    let veteran = plane.create_user(house.cluster.id, user("veteran")?).await?.id;
    house
        .eventually("it is not ours", async || {
            let record = plane.user(house.cluster.id, veteran).await?;
            Ok(record.lifecycle == ObjectLifecycle::Error)
        })
        .await?;
    plane.adopt_user(house.cluster.id, veteran, None).await?;
    plane
        .wait_for_user(
            house.cluster.id,
            veteran,
            ObjectLifecycle::Active,
            dbaas_e2e::cluster::HEAL,
        )
        .await?;
    house.admin("CREATE ROLE root SUPERUSER").await?;
    let root = plane.create_user(house.cluster.id, user("root")?).await?.id;
    plane.adopt_user(house.cluster.id, root, None).await?;
    house.let_drift_be_found().await;
    let is_super = "SELECT rolsuper FROM pg_roles WHERE rolname = 'root'";
    assert_eq!(house.admin(is_super).await?, "t");
    assert_ne!(
        plane.user(house.cluster.id, root).await?.lifecycle,
        ObjectLifecycle::Active
    );
    Ok(())
}

/// An instance of before the register: marks are comments, and only where name and mark are a record's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_of_before_moves_over_by_itself() -> Result {
    let Some(mut house) = House::start("before").await? else {
        return Ok(());
    };
    let (user, shop) = (house.cluster.user, house.cluster.database);
    let blog = house.create_database("blog", user).await?;
    house.ready(blog).await?;
    house.sql("app", "shop", TABLE).await?;
    house.stack.close().await;
    house
        .admin("DROP SCHEMA dbaas CASCADE; DROP ROLE dbaas_heir")
        .await?;
    let mark = |what: &str, id: uuid::Uuid| format!("COMMENT ON {what} IS 'dbaas:{id}'");
    house.admin(&mark("ROLE app", user.uuid())).await?;
    house.admin(&mark("DATABASE shop", shop.uuid())).await?;
    // Its owner wrote another one.
    house.admin(&mark("DATABASE blog", shop.uuid())).await?;
    house.stack.open().await?;
    house
        .eventually("there is a register", async || {
            Ok(house
                .admin("SELECT to_regclass('dbaas.object') IS NOT NULL")
                .await?
                == "t")
        })
        .await?;
    house.error_with(blog, "actions/adopt").await?;
    house.ready(shop).await?;
    let registered = "SELECT string_agg(kind, ',' ORDER BY kind) FROM dbaas.object";
    assert_eq!(house.admin(registered).await?, "database,role");
    house
        .plane()?
        .adopt_database(house.cluster.id, blog, None)
        .await?;
    house.ready(blog).await?;
    // Once: marks mean nothing from then on.
    let rows = house.sql("app", "shop", ROWS).await?;
    house
        .sql("app", "shop", "COMMENT ON DATABASE shop IS NULL")
        .await?;
    house.let_drift_be_found().await;
    assert_eq!(house.sql("app", "shop", ROWS).await?, rows);
    house.delete_database(shop).await?;
    Ok(())
}
