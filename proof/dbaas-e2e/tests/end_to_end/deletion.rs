//! Deletions: what a tenant sets, holds or has much of does not stop them, and they stop nobody else for
//! long.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_controller::request::{CreateDatabase, CreateUser, UpdateInstance};
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle, ObjectPhase};
use dbaas_core::password::Password;
use dbaas_e2e::cluster::{HEAL, PASSWORD};
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::client::{Access, Client, ClientOptions, Target};

type Result<T = ()> = anyhow::Result<T>;

/// A deletion with little to do.
const SOON: Duration = HEAL;

async fn user(stack: &Stack, cluster: &Cluster, name: &str) -> Result<UserId> {
    let plane = stack.plane()?;
    let request = CreateUser::new(name.parse()?, Password::new(PASSWORD)?);
    let id = plane.create_user(cluster.id, request).await?.id;
    plane
        .wait_for_user(cluster.id, id, ObjectLifecycle::Active, HEAL)
        .await?;
    Ok(id)
}

async fn database(stack: &Stack, cluster: &Cluster, name: &str, owner: UserId) -> Result<DatabaseId> {
    let plane = stack.plane()?;
    let request = CreateDatabase::new(name.parse()?, owner);
    let id = plane.create_database(cluster.id, request).await?.id;
    plane
        .wait_for_database(cluster.id, id, ObjectLifecycle::Active, HEAL)
        .await?;
    Ok(id)
}

fn as_user(target: &Target, user: &str, database: &str) -> Client {
    let target = Target {
        user: user.to_owned(),
        database: database.to_owned(),
        ..target.clone()
    };
    let options = ClientOptions {
        statement_timeout: Duration::from_secs(300),
        connect_timeout: Duration::from_secs(10),
        access: Access::Any,
        ..ClientOptions::default()
    };
    Client::new(target, options)
}

async fn run(client: &mut Client, sql: &str) -> Result {
    client
        .connect(Instant::now() + HEAL)
        .await
        .with_context(|| sql.to_owned())?;
    client.send(sql).await.with_context(|| sql.to_owned())?;
    Ok(())
}

async fn value(client: &mut Client, sql: &str) -> Result<String> {
    client.connect(Instant::now() + HEAL).await?;
    let rows = client.send(sql).await.with_context(|| sql.to_owned())?;
    let first = rows.into_iter().next().and_then(|row| row.into_iter().next());
    Ok(first.flatten().unwrap_or_default())
}

async fn timed(client: &mut Client, sql: &str) -> Result<Duration> {
    let asked = Instant::now();
    client.send(sql).await?;
    Ok(asked.elapsed())
}

/// Waits until a resource is gone, and tells what its reason was last where it does not go.
async fn gone<T, F, Fut>(what: &str, patience: Duration, mut look: F) -> Result
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
    T: std::fmt::Debug,
{
    let until = Instant::now() + patience;
    loop {
        match look().await {
            None => return Ok(()),
            Some(last) => ensure!(Instant::now() < until, "{what} is not gone: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn user_gone(stack: &Stack, cluster: &Cluster, id: UserId) -> Result {
    let plane = stack.plane()?;
    gone("the user", SOON, || async {
        plane.user(cluster.id, id).await.ok().map(|found| found.reason)
    })
    .await
}

async fn database_gone(stack: &Stack, cluster: &Cluster, id: DatabaseId) -> Result {
    let plane = stack.plane()?;
    gone("the database", SOON, || async {
        plane
            .database(cluster.id, id)
            .await
            .ok()
            .map(|found| found.reason)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_tenant_sets() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "settings", 1, 0, None).await?;
    let plane = stack.plane()?;
    let guest = user(&stack, &cluster, "guest").await?;
    user(&stack, &cluster, "mid").await?;
    let closed = database(&stack, &cluster, "closed", cluster.user).await?;
    let evil = database(&stack, &cluster, "evil", cluster.user).await?;
    let target = cluster.target(&stack).await?;

    for name in ["shop", "closed"] {
        let mut app = as_user(&target, "app", name);
        run(
            &mut app,
            &format!("GRANT CONNECT ON DATABASE {name} TO mid WITH GRANT OPTION; CREATE TABLE public.owned (a int, b int); \
             GRANT CREATE, USAGE ON SCHEMA public TO guest, mid; \
             GRANT SELECT ON public.owned TO mid WITH GRANT OPTION; GRANT UPDATE (b) ON public.owned TO mid WITH GRANT OPTION; \
             ALTER TABLE public.owned ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY one ON public.owned TO guest USING (true); CREATE POLICY two ON public.owned TO guest, mid USING (true); \
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO guest"),
        )
        .await?;
        // Given on, by somebody who is neither the owner nor to be dropped.
        let mut mid = as_user(&target, "mid", name);
        run(
            &mut mid,
            &format!("GRANT CONNECT ON DATABASE {name} TO guest; GRANT SELECT ON public.owned TO guest WITH GRANT OPTION; \
             GRANT UPDATE (b) ON public.owned TO guest"),
        )
        .await?;
        let mut of_guest = as_user(&target, "guest", name);
        run(
            &mut of_guest,
            "CREATE TABLE public.of_guest (id serial PRIMARY KEY, t text); CREATE VIEW public.seen AS SELECT 1 AS one; \
             CREATE FUNCTION public.\"odd \"\" name\"(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE public.pair AS (a int); \
             CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); SELECT lo_create(0); \
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO mid; ALTER ROLE guest SET work_mem = '1MB'; \
             GRANT SELECT ON public.of_guest TO mid WITH GRANT OPTION",
        )
        .await?;
    }
    for setting in [
        "local_preload_libraries = 'no_such_library'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "row_security = off",
        "exit_on_error = on",
        "quote_all_identifiers = on",
        "search_path = 'nowhere'",
        "session_authorization = 'app'",
        "role = 'app'",
        "client_min_messages = 'debug5'",
        "default_tablespace = 'nowhere'",
    ] {
        for name in ["shop", "closed", "evil"] {
            let mut admin = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "postgres");
            // As the owner, from a database where the owner can still log in.
            run(
                &mut admin,
                &format!("SET ROLE app; ALTER DATABASE {name} SET {setting}; RESET ROLE"),
            )
            .await?;
        }
    }
    let mut admin = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "postgres");
    for name in ["closed", "evil"] {
        for sql in [
            format!("ALTER DATABASE {name} IS_TEMPLATE true"),
            format!("ALTER DATABASE {name} CONNECTION LIMIT 0"),
            format!("REVOKE ALL ON DATABASE {name} FROM app"),
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        ] {
            run(&mut admin, &format!("SET ROLE app; {sql}; RESET ROLE")).await?;
        }
    }

    plane.delete_user(cluster.id, guest, None).await?;
    if let Ok(going) = plane.user(cluster.id, guest).await {
        assert_eq!(going.phase, ObjectPhase::Deleting);
    }
    user_gone(&stack, &cluster, guest).await?;
    plane.delete_database(cluster.id, evil, None).await?;
    database_gone(&stack, &cluster, evil).await?;
    assert_eq!(
        value(
            &mut admin,
            "SELECT count(*) FROM pg_database WHERE datname = 'evil'"
        )
        .await?,
        "0"
    );
    // What the tenant closed is as it was.
    assert_eq!(
        value(
            &mut admin,
            "SELECT datallowconn FROM pg_database WHERE datname = 'closed'"
        )
        .await?,
        "f"
    );
    plane.delete_database(cluster.id, closed, None).await?;
    database_gone(&stack, &cluster, closed).await?;

    for setting in [
        "local_preload_libraries",
        "session_authorization",
        "role",
        "statement_timeout",
        "lock_timeout",
    ] {
        run(&mut admin, &format!("ALTER DATABASE shop RESET {setting}")).await?;
    }
    let mut shop = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "shop");
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class WHERE relname IN ('of_guest', 'seen')";
    assert_eq!(value(&mut shop, owners).await?, "app");
    // What others were given by others, they have.
    let kept = "SELECT concat_ws(' ', has_table_privilege('mid', 'public.owned', 'SELECT WITH GRANT OPTION'), \
                has_column_privilege('mid', 'public.owned', 'b', 'UPDATE WITH GRANT OPTION'), \
                has_database_privilege('mid', 'shop', 'CONNECT WITH GRANT OPTION'), \
                (SELECT count(*) FROM pg_policy WHERE polname = 'two'), (SELECT count(*) FROM pg_policy WHERE polname = 'one'))";
    assert_eq!(value(&mut shop, kept).await?, "t t t 1 0");
    Ok(())
}

/// What holds a database in PostgreSQL itself: subscriptions, prepared transactions, sessions. (Logical slots
/// cannot be made: `wal_level` is `replica`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_holds_a_database() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "held", 1, 0, None).await?;
    let plane = stack.plane()?;
    let update = UpdateInstance {
        parameters: BTreeMap::from([("max_prepared_transactions".to_owned(), Some("10".to_owned()))]),
        ..UpdateInstance::default()
    };
    plane.update_instance(cluster.id, update).await?;
    let mut admin = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "postgres");
    let until = Instant::now() + HEAL;
    while value(&mut admin, "SHOW max_prepared_transactions")
        .await
        .ok()
        .as_deref()
        != Some("10")
    {
        ensure!(Instant::now() < until, "{}", cluster.story(&stack).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = database(&stack, &cluster, "held", cluster.user).await?;
    let target = cluster.target(&stack).await?;
    let mut app = as_user(&target, "app", "held");
    run(&mut app, "CREATE TABLE public.kept (i int)").await?;
    run(
        &mut app,
        "BEGIN; INSERT INTO public.kept VALUES (1); PREPARE TRANSACTION 'half done'",
    )
    .await?;
    run(&mut app, "BEGIN; LOCK TABLE public.kept IN ROW EXCLUSIVE MODE").await?;
    let mut inside = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "held");
    // Its worker starts, fails to connect, and starts again.
    run(
        &mut inside,
        "CREATE SUBSCRIPTION \"sub one\" CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION p \
         WITH (connect = false, slot_name = 'elsewhere')",
    )
    .await?;
    run(&mut inside, "ALTER SUBSCRIPTION \"sub one\" ENABLE").await?;
    let slot = "SELECT pg_create_logical_replication_slot('s', 'test_decoding')";
    ensure!(
        value(&mut inside, slot).await.is_err(),
        "a logical slot can be made"
    );
    inside.disconnect();
    for sql in [
        "ALTER DATABASE held IS_TEMPLATE true",
        "ALTER DATABASE held CONNECTION LIMIT 0",
        "ALTER DATABASE held ALLOW_CONNECTIONS false",
    ] {
        run(&mut admin, &format!("SET ROLE app; {sql}; RESET ROLE")).await?;
    }
    plane.delete_database(cluster.id, held, None).await?;
    database_gone(&stack, &cluster, held).await?;
    let left = "SELECT (SELECT count(*) FROM pg_database WHERE datname = 'held') + (SELECT count(*) FROM pg_prepared_xacts) \
                + (SELECT count(*) FROM pg_subscription)";
    assert_eq!(value(&mut admin, left).await?, "0");
    Ok(())
}

/// With some more of them one transaction's locks would be more than the server has room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tables_go_in_many_transactions() -> Result {
    // More by hand, such as 9000: DBAAS_MANY_TABLES.
    let more = std::env::var("DBAAS_MANY_TABLES")
        .ok()
        .and_then(|n| n.parse().ok());
    let tables: usize = more.unwrap_or(3_000);
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "many", 1, 0, None).await?;
    let plane = stack.plane()?;
    let guest = user(&stack, &cluster, "guest").await?;
    let target = cluster.target(&stack).await?;
    let mut app = as_user(&target, "app", "shop");
    run(
        &mut app,
        "GRANT CONNECT ON DATABASE shop TO guest; GRANT CREATE ON SCHEMA public TO guest",
    )
    .await?;
    let mut of_guest = as_user(&target, "guest", "shop");
    for batch in 0..tables / 100 {
        let from = batch * 100;
        let sql = format!(
            "DO $$ BEGIN FOR n IN {from}..{from} + 99 LOOP EXECUTE format('CREATE TABLE public.t%s (a int PRIMARY KEY, b int UNIQUE)', n); \
             END LOOP; END $$"
        );
        run(&mut of_guest, &sql).await?;
    }
    of_guest.disconnect();
    let mut admin = as_user(&cluster.admin(&stack).await?, "dbaas_admin", "shop");

    plane.delete_user(cluster.id, guest, None).await?;
    let began = Instant::now();
    let until = began + 3 * HEAL;
    let (mut told, mut most) = (Vec::new(), 0u64);
    while let Ok(going) = plane.user(cluster.id, guest).await {
        let record = going;
        assert_eq!(record.phase, ObjectPhase::Deleting);
        assert_ne!(record.lifecycle, ObjectLifecycle::Error, "{}", record.reason);
        if told.last() != Some(&record.reason) {
            told.push(record.reason);
        }
        let instance = plane.instance(cluster.id).await?;
        assert_eq!(
            instance.status.lifecycle,
            Lifecycle::Active,
            "{}",
            instance.status.reason
        );
        ensure!(Instant::now() < until, "the user is not gone: {told:?}");
        let locks = "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                     WHERE a.application_name = 'dbaas_controller' GROUP BY pid) x";
        most = most.max(value(&mut admin, locks).await?.parse()?);
    }
    let room = value(&mut admin, "SHOW max_locks_per_transaction")
        .await?
        .parse::<u64>()?;
    ensure!(most <= 10 * room, "one transaction of ours held {most} locks");
    let progress = told
        .iter()
        .filter(|reason| reason.contains(&format!(" of {}", tables / 100)))
        .count();
    // How often depends on how fast the machine is.
    ensure!(progress >= 1, "progress is told: {told:?}");
    let owned = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND pg_get_userbyid(relowner) = 'app'";
    assert_eq!(value(&mut admin, owned).await?, tables.to_string());
    tracing::info!(
        tables,
        seconds = began.elapsed().as_secs_f64(),
        most_locks = most,
        times_told = told.len(),
        "gone"
    );
    Ok(())
}

/// A report reads a table for long; nobody behind it stands still for long because of us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_holds() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "locks", 1, 0, None).await?;
    let plane = stack.plane()?;
    let guest = user(&stack, &cluster, "guest").await?;
    let other = database(&stack, &cluster, "other", cluster.user).await?;
    let target = cluster.target(&stack).await?;
    let mut app = as_user(&target, "app", "shop");
    run(
        &mut app,
        "GRANT CONNECT ON DATABASE shop TO guest; GRANT CREATE ON SCHEMA public TO guest; \
         CREATE TABLE public.unconcerned (n int)",
    )
    .await?;
    let mut of_guest = as_user(&target, "guest", "shop");
    run(
        &mut of_guest,
        "CREATE TABLE public.read (n int); CREATE TABLE public.free (n int); GRANT SELECT ON public.read TO app",
    )
    .await?;
    of_guest.disconnect();
    let mut report = as_user(&target, "app", "shop");
    run(&mut report, "BEGIN; SELECT count(*) FROM public.read").await?;
    let pid = value(&mut report, "SELECT pg_backend_pid()").await?;

    plane.delete_user(cluster.id, guest, None).await?;
    let began = Instant::now();
    let mut readers = [as_user(&target, "app", "shop"), as_user(&target, "app", "shop")];
    for reader in &mut readers {
        reader.connect(Instant::now() + HEAL).await?;
    }
    let [reader, control] = &mut readers;
    let (mut stood_still, mut reason) = (Duration::ZERO, String::new());
    while began.elapsed() < Duration::from_secs(17) {
        // What the machine takes its time for it takes for both.
        let (took, otherwise) = tokio::join!(
            timed(reader, "SELECT count(*) FROM public.read"),
            timed(control, "SELECT count(*) FROM public.unconcerned")
        );
        stood_still += took?.saturating_sub(otherwise?);
        let record = plane.user(cluster.id, guest).await?;
        if record.lifecycle == ObjectLifecycle::Error {
            reason = record.reason;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let share = stood_still.as_secs_f64() / began.elapsed().as_secs_f64();
    ensure!(
        share < 0.2,
        "readers stood still for {:.0} % of the time",
        share * 100.0
    );
    for part in ["public.read", &format!("session {pid}"), "app", "since 20"] {
        ensure!(reason.contains(part), "the reason names {part}: {reason}");
    }
    let instance = plane.instance(cluster.id).await?;
    ensure!(
        instance
            .status
            .warnings
            .iter()
            .any(|warning| warning.contains("guest")),
        "the instance warns: {:?}",
        instance.status.warnings
    );
    let events = cluster.events(&stack).await?;
    ensure!(
        events
            .iter()
            .any(|event| event.contains("user_error") && event.contains(&pid)),
        "an event says it: {events:?}"
    );
    // What nobody holds is done.
    let free = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'free'";
    assert_eq!(value(reader, free).await?, "app");
    run(&mut report, "COMMIT").await?;
    user_gone(&stack, &cluster, guest).await?;

    // The same with a database, held from another one.
    run(&mut report, "BEGIN; COMMENT ON DATABASE other IS 'mine'").await?;
    plane.delete_database(cluster.id, other, None).await?;
    let until = Instant::now() + HEAL;
    loop {
        let record = plane.database(cluster.id, other).await?;
        assert_eq!(record.phase, ObjectPhase::Deleting);
        if record.lifecycle == ObjectLifecycle::Error && record.reason.contains(&format!("session {pid}")) {
            break;
        }
        ensure!(
            Instant::now() < until,
            "the reason names who holds it: {}",
            record.reason
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run(&mut report, "ROLLBACK").await?;
    database_gone(&stack, &cluster, other).await
}
