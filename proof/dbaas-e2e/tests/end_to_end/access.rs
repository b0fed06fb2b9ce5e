//! Access of users to databases of others, on real PostgreSQL: present and future objects, whoever makes
//! them; what is taken back is gone.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{CreateUser, UpdateDatabase};
use dbaas_core::access::{AccessEntry, AccessLevel};
use dbaas_core::id::UserId;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::password::Password;
use dbaas_e2e::cluster::{HEAL, PASSWORD};
use dbaas_e2e::stack::StackOptions;
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::client::{Access, Client, ClientOptions, Failure, Target};

type Result<T = ()> = anyhow::Result<T>;

/// Looks that are due soon, so that a test need not wait for them.
async fn stack() -> Result<Option<Stack>> {
    let mut options = StackOptions::default();
    options.embedded.controller.drift_interval = Duration::from_secs(1);
    options.embedded.controller.inside_interval = Duration::from_secs(1);
    Stack::start_with(options).await
}

fn client(target: &Target, user: &str, database: &str) -> Client {
    let target = Target {
        user: user.to_owned(),
        database: database.to_owned(),
        ..target.clone()
    };
    let options = ClientOptions {
        access: Access::Any,
        statement_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    Client::new(target, options)
}

/// One statement on a session of its own: the first value that it answers with.
async fn ask(target: &Target, user: &str, sql: &str) -> std::result::Result<String, Failure> {
    let mut client = client(target, user, &target.database);
    client.connect(Instant::now() + Duration::from_secs(3)).await?;
    let rows = client.send(sql).await?;
    let first = rows.first().and_then(|row| row.first().cloned().flatten());
    Ok(first.unwrap_or_default())
}

async fn done(target: &Target, user: &str, sql: &str) -> Result<String> {
    ask(target, user, sql)
        .await
        .map_err(|error| anyhow::anyhow!("{user}: {sql}: {error}"))
}

async fn refused(target: &Target, user: &str, sql: &str, with: &str) -> Result {
    match ask(target, user, sql).await {
        Err(Failure::Refused { sqlstate, .. }) if sqlstate == with => Ok(()),
        Err(Failure::NotConnected(_)) if with == "login" => Ok(()),
        other => bail!("{user}: {sql}: {other:?} and not {with}"),
    }
}

/// Until a statement is answered so.
async fn becomes(target: &Target, user: &str, sql: &str, wanted: std::result::Result<&str, &str>) -> Result {
    let until = Instant::now() + HEAL;
    loop {
        let answer = ask(target, user, sql).await;
        let same = match (&answer, wanted) {
            (Ok(value), Ok(wanted)) => value == wanted,
            (Err(failure), Err(wanted)) => failure.label() == wanted,
            _ => false,
        };
        if same {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "{user}: {sql}: {answer:?} and not {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn user(stack: &Stack, cluster: &Cluster, name: &str) -> Result<UserId> {
    let request = CreateUser::new(name.parse()?, Password::new(PASSWORD)?);
    let id = stack.plane()?.create_user(cluster.id, request).await?.id;
    let active = ObjectLifecycle::Active;
    stack.plane()?.wait_for_user(cluster.id, id, active, HEAL).await?;
    Ok(id)
}

async fn give(stack: &Stack, cluster: &Cluster, entries: &[(UserId, AccessLevel)]) -> Result {
    let entries = entries.iter().map(|(user, level)| AccessEntry {
        user: *user,
        level: *level,
    });
    let update = UpdateDatabase {
        access: Some(entries.collect()),
        ..UpdateDatabase::default()
    };
    let plane = stack.plane()?;
    plane
        .update_database(cluster.id, cluster.database, update)
        .await?;
    let waited = plane
        .wait_for_database(cluster.id, cluster.database, ObjectLifecycle::Active, HEAL)
        .await;
    if let Err(error) = waited {
        let record = plane.database(cluster.id, cluster.database).await?;
        bail!("{error}: {} {}", record.lifecycle, record.reason);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_of_access() -> Result {
    let Some(stack) = stack().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "access", 1, 0, None).await?;
    let target = cluster.target(&stack).await?;
    let (reader, writer, second) = (
        user(&stack, &cluster, "reader").await?,
        user(&stack, &cluster, "writer").await?,
        user(&stack, &cluster, "Second$1").await?,
    );
    done(
        &target,
        "app",
        "CREATE TABLE early (id serial, v int); INSERT INTO early (v) VALUES (1)",
    )
    .await?;
    done(
        &target,
        "app",
        "CREATE SCHEMA books; CREATE VIEW books.all AS SELECT * FROM early",
    )
    .await?;
    refused(&target, "reader", "SELECT 1", "login").await?;

    give(
        &stack,
        &cluster,
        &[
            (reader, AccessLevel::Read),
            (writer, AccessLevel::Write),
            (second, AccessLevel::Owner),
        ],
    )
    .await?;
    for sql in ["SELECT count(*) FROM early", "SELECT count(*) FROM books.all"] {
        assert_eq!(done(&target, "reader", sql).await?, "1");
    }
    // What is made later is accessible from the moment when it is there, whoever makes it, also in a schema
    // that is made later.
    done(
        &target,
        "app",
        "CREATE SCHEMA later; CREATE TABLE later.t (id serial, v int)",
    )
    .await?;
    done(
        &target,
        "Second$1",
        "CREATE TABLE public.of_second (id serial, v int); CREATE SCHEMA his; CREATE TABLE his.t (v int)",
    )
    .await?;
    for table in ["early", "later.t", "public.of_second", "his.t"] {
        done(&target, "writer", &format!("INSERT INTO {table} (v) VALUES (7)")).await?;
        done(
            &target,
            "writer",
            &format!("UPDATE {table} SET v = 8 WHERE v = 7"),
        )
        .await?;
        let count = format!("SELECT count(*) FROM {table} WHERE v = 8");
        assert_eq!(done(&target, "reader", &count).await?, "1", "{table}");
        assert_eq!(done(&target, "app", &count).await?, "1", "{table}");
        refused(
            &target,
            "reader",
            &format!("INSERT INTO {table} (v) VALUES (9)"),
            "42501",
        )
        .await?;
        refused(&target, "reader", &format!("DELETE FROM {table}"), "42501").await?;
        refused(&target, "writer", &format!("TRUNCATE {table}"), "42501").await?;
        done(&target, "writer", &format!("DELETE FROM {table} WHERE v = 8")).await?;
        done(&target, "Second$1", &format!("TRUNCATE {table}")).await?;
    }
    for user in ["reader", "writer"] {
        refused(&target, user, "CREATE TABLE public.no (i int)", "42501").await?;
        refused(&target, user, "CREATE SCHEMA no", "42501").await?;
    }
    refused(&target, "reader", "CREATE TEMP TABLE no (i int)", "42501").await?;
    done(&target, "writer", "CREATE TEMP TABLE yes (i int)").await?;
    // What belongs to somebody else is not to be altered, nor handed on.
    refused(&target, "Second$1", "ALTER TABLE early ADD COLUMN w int", "42501").await?;

    // A user in the list is not deleted.
    let refusal = stack.plane()?.delete_user(cluster.id, reader, None).await;
    let Err(ControlError::InUse { detail }) = refusal else {
        bail!("{refusal:?}");
    };
    assert!(
        detail.contains("\"shop\"") && detail.contains("access list"),
        "{detail}"
    );

    // Drift: what an owner takes away comes back.
    done(&target, "app", "REVOKE ALL ON early FROM PUBLIC").await?;
    let role = AccessLevel::Read.role(cluster.database.uuid());
    done(&target, "app", &format!("REVOKE ALL ON early FROM {role}")).await?;
    done(
        &target,
        "app",
        &format!("REVOKE CONNECT ON DATABASE shop FROM {role}"),
    )
    .await?;
    done(
        &target,
        "app",
        &format!("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {role}"),
    )
    .await?;
    becomes(&target, "reader", "SELECT count(*) FROM early", Ok("0")).await?;
    // Once more, until the default privileges are there again.
    let until = Instant::now() + HEAL;
    loop {
        done(
            &target,
            "app",
            "DROP TABLE IF EXISTS again; CREATE TABLE again (i int)",
        )
        .await?;
        if ask(&target, "reader", "SELECT count(*) FROM again").await.is_ok() {
            break;
        }
        ensure!(Instant::now() < until, "default privileges do not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let events = cluster.events(&stack).await?.join("\n");
    assert!(
        events.contains("access to database shop was not as asked for"),
        "{events}"
    );

    // A level less, and none: also what others granted is gone, and so is who is connected.
    done(&target, "app", "GRANT SELECT, INSERT ON later.t TO writer WITH GRANT OPTION; GRANT CONNECT ON DATABASE shop TO reader WITH GRANT OPTION; GRANT USAGE ON SCHEMA books TO writer; GRANT UPDATE (v) ON early TO reader").await?;
    done(&target, "writer", "GRANT INSERT ON later.t TO reader").await?;
    done(&target, "reader", "GRANT CONNECT ON DATABASE shop TO PUBLIC").await?;
    let mut connected = client(&target, "reader", "shop");
    connected.connect(Instant::now() + Duration::from_secs(3)).await?;
    give(
        &stack,
        &cluster,
        &[(writer, AccessLevel::Read), (second, AccessLevel::Owner)],
    )
    .await?;
    refused(&target, "reader", "SELECT 1", "login").await?;
    assert!(connected.send("SELECT 1").await.is_err(), "its session goes on");
    refused(&target, "writer", "INSERT INTO later.t (v) VALUES (1)", "42501").await?;
    done(&target, "writer", "SELECT count(*) FROM later.t").await?;
    let grants = "SELECT count(*) FROM pg_class c, aclexplode(relacl) x JOIN pg_roles r ON r.oid = x.grantee WHERE rolname IN ('reader', 'writer')";
    assert_eq!(done(&target, "app", grants).await?, "0");
    give(&stack, &cluster, &[]).await?;
    refused(&target, "writer", "SELECT 1", "login").await?;
    refused(&target, "Second$1", "SELECT 1", "login").await?;
    // What he made is his and stays; nothing is in the way of deleting who reads no more.
    stack.plane()?.delete_user(cluster.id, reader, None).await?;

    // The roles go with the database.
    stack
        .plane()?
        .delete_database(cluster.id, cluster.database, None)
        .await?;
    let mut admin = client(&cluster.admin(&stack).await?, "dbaas_admin", "postgres");
    admin.connect(Instant::now() + HEAL).await?;
    let until = Instant::now() + HEAL;
    loop {
        let rows = admin
            .send("SELECT count(*) FROM pg_roles WHERE rolname ~ '^dbaas_(read|write|owner)_'")
            .await?;
        if rows[0][0].as_deref() == Some("0") {
            break;
        }
        ensure!(Instant::now() < until, "roles are left over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Thousands of tables in transactions that are small, while a table is locked by somebody who stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_to_many_tables() -> Result {
    let Some(stack) = stack().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "many", 1, 0, None).await?;
    let target = cluster.target(&stack).await?;
    let reader = user(&stack, &cluster, "reader").await?;
    done(&target, "app", "CREATE TABLE locked (i int)").await?;
    for batch in 0..6 {
        let make = format!(
            "DO $$ BEGIN FOR i IN 1..500 LOOP EXECUTE format('CREATE TABLE t{batch}_%s (i int)', i); END LOOP; END $$"
        );
        done(&target, "app", &make).await?;
    }
    let mut holder = client(&target, "app", "shop");
    holder.connect(Instant::now() + Duration::from_secs(3)).await?;
    holder.send("BEGIN; LOCK TABLE locked").await?;
    let entry = AccessEntry {
        user: reader,
        level: AccessLevel::Read,
    };
    let update = UpdateDatabase {
        access: Some(vec![entry]),
        ..UpdateDatabase::default()
    };
    let plane = stack.plane()?;
    plane
        .update_database(cluster.id, cluster.database, update)
        .await?;
    let without = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
                   AND relname <> 'locked' AND NOT has_table_privilege(oid, 'SELECT')";
    becomes(&target, "reader", without, Ok("0")).await?;
    // PostgreSQL 18 waits for the table's lock, the ones before do not.
    holder.send("COMMIT").await?;
    becomes(&target, "reader", "SELECT count(*) FROM locked", Ok("0")).await?;
    plane
        .wait_for_database(cluster.id, cluster.database, ObjectLifecycle::Active, HEAL)
        .await?;
    Ok(())
}

/// Waits until what was asked to be repaired is, and returns what was changed.
async fn repaired(stack: &Stack, cluster: &Cluster) -> Result<Vec<String>> {
    let plane = stack.plane()?;
    plane
        .repair_database_access(cluster.id, cluster.database, None)
        .await?;
    plane.repair_user_access(cluster.id, cluster.user, None).await?;
    let until = Instant::now() + HEAL;
    loop {
        let database = plane.database(cluster.id, cluster.database).await?.repair;
        let user = plane.user(cluster.id, cluster.user).await?.repair;
        if let (None, None, Some(database), Some(user)) =
            (database.requested_at, user.requested_at, database.last, user.last)
        {
            return Ok([database.changed, user.changed].concat());
        }
        ensure!(Instant::now() < until, "the repair does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_who_locked_himself_out() -> Result {
    let Some(stack) = stack().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "locked-out", 1, 0, None).await?;
    let target = cluster.target(&stack).await?;
    let admin = cluster.admin(&stack).await?;
    assert_eq!(
        repaired(&stack, &cluster).await?,
        [""; 0],
        "there was nothing to repair"
    );
    done(
        &admin,
        "dbaas_admin",
        "ALTER DATABASE shop SET app.colour = 'green'",
    )
    .await?;
    // What he can do to himself, and what an administrator did to him, each with what it says.
    let his = [
        (
            "REVOKE ALL ON DATABASE shop FROM app",
            "CONNECT, CREATE and TEMPORARY",
        ),
        ("ALTER DATABASE shop CONNECTION LIMIT 0", "connection limit"),
        (
            "ALTER DATABASE shop SET default_transaction_read_only = on",
            "default_transaction_read_only of database shop",
        ),
        (
            "ALTER DATABASE shop SET search_path = nowhere",
            "it was \"nowhere\"",
        ),
        (
            "ALTER ROLE app SET default_transaction_read_only = on",
            "default_transaction_read_only of role app",
        ),
        (
            "ALTER ROLE app IN DATABASE shop SET local_preload_libraries = 'no_such_library'",
            "of role app in database shop",
        ),
    ];
    let theirs = [
        (
            "ALTER DATABASE shop ALLOW_CONNECTIONS false",
            "accepts connections again",
        ),
        ("ALTER ROLE app VALID UNTIL '2001-01-01'", "does not expire"),
        ("ALTER ROLE app CONNECTION LIMIT 0", "the role's connection limit"),
        (
            "ALTER ROLE app SET session_preload_libraries = 'no_such_library'",
            "session_preload_libraries of role app",
        ),
        (
            "ALTER DATABASE shop SET session_preload_libraries = 'no_such_library'",
            "session_preload_libraries of database shop",
        ),
    ];
    let works = "CREATE TABLE IF NOT EXISTS works (i int)";
    let as_him = his.iter().map(|(sql, said)| (&target, "app", *sql, *said));
    let as_admin = theirs
        .iter()
        .map(|(sql, said)| (&admin, "dbaas_admin", *sql, *said));
    for (from, user, sql, said) in as_him.chain(as_admin) {
        done(from, user, sql).await?;
        ensure!(
            ask(&target, "app", works).await.is_err(),
            "{sql} locked nobody out"
        );
        let changed = repaired(&stack, &cluster).await?.join("; ");
        assert!(changed.contains(said), "{sql}: {changed}");
        becomes(&target, "app", works, Ok("")).await?;
    }
    assert_eq!(
        done(&target, "app", "SHOW app.colour").await?,
        "green",
        "a program's own setting stays"
    );
    let events = cluster.events(&stack).await?.join("\n");
    assert!(
        events.contains("access to database shop repaired: its connection limit is gone"),
        "{events}"
    );
    Ok(())
}
