//! Work on a running instance, under a workload, on real PostgreSQL: each without losing an acknowledged row.

use std::time::Duration;

use dbaas_controller::error::ControlError;
use dbaas_controller::request::{CreateUser, InstanceAction, UpdateDatabase, UpdateInstance, UpdateUser};
use dbaas_core::id::NodeId;
use dbaas_core::instance::InstancePhase;
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::password::Password;
use dbaas_core::secret::Secret;
use dbaas_e2e::cluster::{HEAL, PASSWORD};
use dbaas_e2e::{Cluster, Stack, fault, under_load};
use dbaas_workload::client::{Client, ClientOptions, Target};

type Result = anyhow::Result<()>;

async fn update(stack: &Stack, cluster: &Cluster, update: UpdateInstance) -> Result {
    stack.plane()?.update_instance(cluster.id, update).await?;
    Ok(())
}

fn admin_query(target: &Target, database: &str) -> Client {
    let target = Target {
        database: database.to_owned(),
        ..target.clone()
    };
    Client::new(
        target,
        ClientOptions {
            statement_timeout: Duration::from_secs(10),
            ..ClientOptions::default()
        },
    )
}

async fn one_value(client: &mut Client, sql: &str) -> anyhow::Result<String> {
    let rows = client
        .send_until_done(sql, std::time::Instant::now() + Duration::from_secs(30))
        .await?;
    Ok(rows
        .first()
        .and_then(|row| row.first().cloned().flatten())
        .unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_synchronous_replicas_up_and_down() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "scale", 1, 2, None).await?;
    let effective = |n: u64| n;
    for (nodes, k) in [(3u64, 2u64), (4, 1), (2, 1), (1, 1), (2, 0), (3, 2)] {
        let c = cluster.clone();
        under_load(
            &mut stack,
            &cluster,
            usize::try_from(nodes)?,
            async |stack: &mut Stack| {
                let change = UpdateInstance {
                    nodes: Some(nodes.try_into()?),
                    sync_replicas: Some(k.try_into()?),
                    ..UpdateInstance::default()
                };
                update(stack, &c, change).await
            },
        )
        .await?;
        let record = cluster.record(&stack).await?;
        let state = record.cluster.expect("it runs");
        assert_eq!(
            u64::from(state.current().k),
            effective(k.min(nodes - 1)),
            "{nodes} nodes, k = {k}"
        );
        if k > 0 {
            assert_eq!(state.current().voters.len(), usize::try_from(nodes)? - 1);
        }
    }
    // No slot is left for a node that went, and none on a standby.
    let admin = cluster.admin(&stack).await?;
    for (index, endpoint) in admin.hosts.iter().enumerate() {
        let mut client = Client::new(
            admin.at(vec![endpoint.clone()]),
            ClientOptions {
                access: dbaas_workload::client::Access::Any,
                ..ClientOptions::default()
            },
        );
        let slots = one_value(&mut client, "SELECT count(*) FROM pg_replication_slots").await?;
        assert_eq!(slots, if index == 0 { "2" } else { "0" }, "{endpoint}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_restart_and_switchover() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "rolling", 3, 1, None).await?;
    // Larger, then smaller: settings that a standby may not have less of than its primary are among those
    // that change.
    for (ram, disk) in [(2048u64, 10u64), (512, 12)] {
        let c = cluster.clone();
        under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
            let change = UpdateInstance {
                ram: Some(ram.try_into()?),
                disk: Some(disk.try_into()?),
                ..UpdateInstance::default()
            };
            update(stack, &c, change).await
        })
        .await?;
        let mut admin = admin_query(&cluster.admin(&stack).await?, "postgres");
        let buffers = one_value(
            &mut admin,
            "SELECT pg_size_bytes(current_setting('shared_buffers'))",
        )
        .await?;
        assert_eq!(buffers.parse::<u64>()?, ram / 4 * 1024 * 1024);
    }
    let c = cluster.clone();
    let mut admin = admin_query(&cluster.admin(&stack).await?, "postgres");
    let before = one_value(&mut admin, "SELECT clock_timestamp()").await?;
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        stack
            .plane()?
            .act_on_instance(c.id, InstanceAction::Restart)
            .await?;
        Ok(())
    })
    .await?;
    for endpoint in cluster.endpoints(&stack).await? {
        let options = ClientOptions {
            access: dbaas_workload::client::Access::Any,
            ..ClientOptions::default()
        };
        let mut client = Client::new(cluster.admin(&stack).await?.at(vec![endpoint]), options);
        let sql = format!("SELECT pg_postmaster_start_time() > '{before}'::timestamptz");
        assert_eq!(
            one_value(&mut client, &sql).await?,
            "t",
            "every node was restarted"
        );
    }
    for _ in 0..2 {
        let to: NodeId = cluster.standbys(&stack).await?[0].id;
        let c = cluster.clone();
        under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
            stack
                .plane()?
                .act_on_instance(c.id, InstanceAction::Switchover { to: Some(to) })
                .await?;
            Ok(())
        })
        .await?;
        assert_eq!(cluster.primary(&stack).await?.id, to);
    }
    Ok(())
}

/// One node after the other changes its minor version, forth and back; a third node that is made meanwhile
/// has the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minor_version() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let Some([older, newer]) = stack.two_minors().await? else {
        tracing::error!("SKIPPED: there is only one minor version of this major");
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "minor", 2, 1, None).await?;
    // A node comes alone: who writes knows the nodes of before, and the new one may be the primary after a
    // switchover.
    for (version, nodes) in [(&older, 2u64), (&older, 3), (&newer, 3), (&older, 3)] {
        let c = cluster.clone();
        under_load(
            &mut stack,
            &cluster,
            usize::try_from(nodes)?,
            async |stack: &mut Stack| {
                let change = UpdateInstance {
                    version: Some(version.id),
                    nodes: Some(nodes.try_into()?),
                    ..UpdateInstance::default()
                };
                update(stack, &c, change).await
            },
        )
        .await?;
        let wanted = version.image.version().map(|v| v.to_string());
        let running = cluster.server_versions(&stack).await?;
        assert_eq!(running.len(), usize::try_from(nodes)?);
        assert!(
            running.iter().all(|v| Some(v) == wanted.as_ref()),
            "nodes run {running:?} and not {wanted:?}"
        );
    }
    Ok(())
}

/// With k = 0 nothing waits for a standby; a planned change of primary loses nothing all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchover_of_an_asynchronous_instance() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "async", 2, 0, None).await?;
    let to: NodeId = cluster.standbys(&stack).await?[0].id;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 2, async |stack: &mut Stack| {
        stack
            .plane()?
            .act_on_instance(c.id, InstanceAction::Switchover { to: None })
            .await?;
        Ok(())
    })
    .await?;
    assert_eq!(cluster.primary(&stack).await?.id, to);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_start_and_adoption() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "stop", 3, 1, None).await?;
    let plane = stack.plane()?.clone();
    plane.act_on_instance(cluster.id, InstanceAction::Stop).await?;
    let stopped = plane
        .wait_for_instance(cluster.id, Lifecycle::Active, HEAL)
        .await?;
    assert_eq!(stopped.status.phase, InstancePhase::Stopped);
    assert!(fault::processes_under(&stack.directory().join("nodes")).is_empty());
    plane.act_on_instance(cluster.id, InstanceAction::Start).await?;
    drop(plane);
    cluster.wait_healed(&stack, 3).await?;
    // A controller that stops, or dies, touches no PostgreSQL; the next one adopts what runs.
    let before = fault::processes_under(&stack.directory().join("nodes"));
    let primary = cluster.primary(&stack).await?;
    stack.close().await;
    stack.open().await?;
    stack.crash();
    stack.open().await?;
    cluster.wait_healed(&stack, 3).await?;
    let after = cluster.primary(&stack).await?;
    assert_eq!(
        (primary.id, primary.backend_ref),
        (after.id, after.backend_ref),
        "the same server goes on"
    );
    let still: Vec<i32> = fault::processes_under(&stack.directory().join("nodes"));
    assert!(before.iter().filter(|pid| still.contains(pid)).count() >= 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_databases() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "objects", 2, 1, None).await?;
    let plane = stack.plane()?;
    let target = cluster.target(&stack).await?;

    // Another password: the old one is refused from then on.
    let change = UpdateUser {
        password: Some(Password::new("another 'quoted' \\ pass")?),
        ..UpdateUser::default()
    };
    plane.update_user(cluster.id, cluster.user, change).await?;
    plane
        .wait_for_user(cluster.id, cluster.user, ObjectLifecycle::Active, HEAL)
        .await?;
    let mut new = Client::new(
        Target {
            password: Secret::new("another 'quoted' \\ pass"),
            ..target.clone()
        },
        ClientOptions::default(),
    );
    assert_eq!(one_value(&mut new, "SELECT current_user").await?, "app");
    let mut old = Client::new(target.clone(), ClientOptions::default());
    assert!(
        old.connect(std::time::Instant::now() + Duration::from_secs(2))
            .await
            .is_err()
    );
    let back = UpdateUser {
        password: Some(Password::new(PASSWORD)?),
        ..UpdateUser::default()
    };
    plane.update_user(cluster.id, cluster.user, back).await?;
    plane
        .wait_for_user(cluster.id, cluster.user, ObjectLifecycle::Active, HEAL)
        .await?;

    // Another owner, while a client is connected; then the old owner goes, and what it owned stays.
    let mut client = Client::new(target.clone(), ClientOptions::default());
    one_value(&mut client, "CREATE TABLE kept (i int)").await?;
    let second = CreateUser::new("Second$1".parse()?, Password::new(PASSWORD)?);
    let second = plane.create_user(cluster.id, second).await?.id;
    let refused = plane.delete_user(cluster.id, cluster.user, None).await;
    assert!(matches!(refused, Err(ControlError::InUse { .. })), "{refused:?}");
    let change = UpdateDatabase {
        owner: Some(second),
        ..UpdateDatabase::default()
    };
    plane
        .update_database(cluster.id, cluster.database, change)
        .await?;
    plane
        .wait_for_database(cluster.id, cluster.database, ObjectLifecycle::Active, HEAL)
        .await?;
    plane.delete_user(cluster.id, cluster.user, None).await?;
    wait_gone(|| async { plane.user(cluster.id, cluster.user).await.err() }).await?;
    let second_target = Target {
        user: "Second$1".to_owned(),
        ..target.clone()
    };
    let mut heir = Client::new(second_target.clone(), ClientOptions::default());
    assert_eq!(one_value(&mut heir, "SELECT count(*) FROM kept").await?, "0");

    // Drift: a role that somebody drops is made again, what somebody else made is left alone. (A database is
    // not made again: its data are gone.)
    let mut admin = admin_query(&cluster.admin(&stack).await?, "postgres");
    one_value(&mut admin, "CREATE ROLE foreigner LOGIN").await?;
    let third = CreateUser::new("third".parse()?, Password::new(PASSWORD)?);
    let third = plane.create_user(cluster.id, third).await?.id;
    plane
        .wait_for_user(cluster.id, third, ObjectLifecycle::Active, HEAL)
        .await?;
    one_value(&mut admin, "DROP ROLE third").await?;
    let until = std::time::Instant::now() + HEAL;
    while one_value(
        &mut admin,
        "SELECT count(*) FROM pg_roles WHERE rolname = 'third'",
    )
    .await?
        != "1"
    {
        assert!(
            std::time::Instant::now() < until,
            "drift was not mended: {}",
            cluster.events(&stack).await?.join("\n")
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        one_value(
            &mut admin,
            "SELECT count(*) FROM pg_roles WHERE rolname = 'foreigner'"
        )
        .await?,
        "1"
    );
    let foreign = CreateUser::new("foreigner".parse()?, Password::new(PASSWORD)?);
    let foreign = plane.create_user(cluster.id, foreign).await?.id;
    plane
        .wait_for_user(cluster.id, foreign, ObjectLifecycle::Error, HEAL)
        .await?;
    plane.delete_user(cluster.id, foreign, None).await?;
    wait_gone(|| async { plane.user(cluster.id, foreign).await.err() }).await?;
    assert_eq!(
        one_value(
            &mut admin,
            "SELECT count(*) FROM pg_roles WHERE rolname = 'foreigner'"
        )
        .await?,
        "1"
    );

    // A database with connected clients can be deleted.
    plane
        .wait_for_database(cluster.id, cluster.database, ObjectLifecycle::Active, HEAL)
        .await?;
    let mut connected = Client::new(second_target, ClientOptions::default());
    one_value(&mut connected, "SELECT 1").await?;
    plane.delete_database(cluster.id, cluster.database, None).await?;
    wait_gone(|| async { plane.database(cluster.id, cluster.database).await.err() }).await?;
    assert_eq!(
        one_value(
            &mut admin,
            "SELECT count(*) FROM pg_database WHERE datname = 'shop'"
        )
        .await?,
        "0"
    );
    Ok(())
}

async fn wait_gone<F, Fut>(mut error: F) -> Result
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<ControlError>>,
{
    let until = std::time::Instant::now() + HEAL;
    while !matches!(error().await, Some(ControlError::NotFound { .. })) {
        anyhow::ensure!(std::time::Instant::now() < until, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_leaves_nothing_behind() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let plane = stack.plane()?;
    // One that serves, and one that is just being made.
    let ready = Cluster::create(&stack, "ready", 3, 1, None).await?;
    let endpoints = ready.endpoints(&stack).await?;
    let young = Cluster::request(&stack, "young", 2, 1, None).await?;
    tokio::time::sleep(Duration::from_millis(150)).await;
    for id in [ready.id, young.id] {
        plane.delete_instance(id, None).await?;
        wait_gone(|| async { plane.instance(id).await.err() }).await?;
    }
    assert!(fault::processes_under(&stack.directory().join("nodes")).is_empty());
    let left: Vec<_> = std::fs::read_dir(stack.directory().join("nodes"))?
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for endpoint in endpoints {
        assert!(
            std::net::TcpListener::bind((endpoint.host.as_str(), endpoint.port)).is_ok(),
            "{endpoint} is still taken"
        );
    }
    // The names are free again.
    Cluster::create(&stack, "ready", 1, 0, None).await?;
    Ok(())
}

/// A request that changes while the one before is still in progress: the newest wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_request_wins() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::request(&stack, "changing", 3, 1, None).await?;
    for nodes in [5u64, 1, 4, 2] {
        let change = UpdateInstance {
            nodes: Some(nodes.try_into()?),
            ..UpdateInstance::default()
        };
        update(&stack, &cluster, change).await?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    cluster.wait_healed(&stack, 2).await?;
    cluster.wait_ready(&stack).await
}
