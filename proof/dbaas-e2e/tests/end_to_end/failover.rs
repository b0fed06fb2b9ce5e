//! Loss of nodes under a workload, on real PostgreSQL: nothing acknowledged is lost, and the set of nodes
//! heals by itself.

use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use dbaas_e2e::{Cluster, Stack, under_load};
use dbaas_workload::client::{Access, Client, ClientOptions};
use rustix::process::Signal;

type Result = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_primary() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "killed", 3, 1, None).await?;
    let c = cluster.clone();
    let pause = under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        c.signal(stack, primary, Signal::KILL)
    })
    .await?
    .pause;
    assert!(pause < Duration::from_secs(20), "{pause:?}");
    Ok(())
}

/// Its ports still accept connections, and nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_primary() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "frozen", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        c.signal(stack, primary, Signal::STOP)
    })
    .await?;
    Ok(())
}

/// Writes go on with the other standby; the lost one comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_frozen_standby() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "standby", 3, 1, None).await?;
    for signal in [Signal::KILL, Signal::STOP] {
        let c = cluster.clone();
        let primary = cluster.primary(&stack).await?.id;
        under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
            let standby = c.standbys(stack).await?[0].id;
            c.signal(stack, standby, signal)
        })
        .await?;
        assert_eq!(
            cluster.primary(&stack).await?.id,
            primary,
            "a standby's loss changes no primary"
        );
    }
    Ok(())
}

/// What the standbys received ends in the middle of a record: they never replay all of it as they are, and
/// are started anew to be sealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primary_killed_in_the_middle_of_a_record() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "record", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?;
        let standby = c.standbys(stack).await?[0].clone();
        let admin = c.admin(stack).await?;
        let client = |endpoint: Option<Endpoint>| {
            let options = ClientOptions {
                access: Access::Any,
                statement_timeout: Duration::from_secs(30),
                ..ClientOptions::default()
            };
            Client::new(admin.at(endpoint.into_iter().collect()), options)
        };
        let (mut writer, mut reader) = (client(primary.endpoint), client(standby.endpoint));
        let until = Instant::now() + Duration::from_secs(30);
        let writing = tokio::spawn(async move {
            let big = "SELECT pg_logical_emit_message(false, 'big', repeat('x', 400000000))";
            let _ = writer.send_until_done(big, until).await;
        });
        let behind = "SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 60000000";
        loop {
            let rows = reader.send_until_done(behind, until).await?;
            if rows.first().and_then(|row| row.first()?.as_deref()) == Some("t") {
                break;
            }
        }
        c.signal(stack, primary.id, Signal::KILL)?;
        writing.abort();
        Ok(())
    })
    .await?;
    let events = cluster.events(&stack).await?;
    assert!(
        events.iter().any(|event| event.contains("standby_stalled")),
        "the whole record had been sent: {events:#?}"
    );
    Ok(())
}

/// The primary and one of two standbys at once: the other one alone cannot show that it has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_killed() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "two", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        let standby = c.standbys(stack).await?[0].id;
        c.signal(stack, primary, Signal::KILL)?;
        c.signal(stack, standby, Signal::KILL)
    })
    .await?;
    Ok(())
}

/// A power cut: everything at once, and everything back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_and_the_controller_killed() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "power", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let nodes = c.nodes(stack).await?;
        stack.crash();
        for node in nodes {
            c.signal(stack, node.id, Signal::KILL)?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        stack.open().await
    })
    .await?;
    Ok(())
}

/// The controller dies at many moments of a failover; the next one ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controller_killed_during_a_failover() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "controller", 3, 1, None).await?;
    for after_ms in [5, 40, 80, 120, 180, 260] {
        let c = cluster.clone();
        under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
            let primary = c.primary(stack).await?.id;
            c.signal(stack, primary, Signal::KILL)?;
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            stack.crash();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stack.open().await
        })
        .await?;
    }
    Ok(())
}

/// Two nodes, k = 1: the survivor is promoted and waits for the other one to come back; nothing is
/// acknowledged by one node alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_node_instance() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "pair", 2, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 2, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        c.signal(stack, primary, Signal::KILL)
    })
    .await?;
    Ok(())
}

/// One node: restarted where it is, killed or frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_node_instance() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "single", 1, 1, None).await?;
    for signal in [Signal::KILL, Signal::STOP] {
        let c = cluster.clone();
        under_load(&mut stack, &cluster, 1, async |stack: &mut Stack| {
            let primary = c.primary(stack).await?.id;
            c.signal(stack, primary, signal)
        })
        .await?;
    }
    Ok(())
}

/// Five nodes, k = 2: the primary and a standby at once leave enough to elect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_lose_two() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "five", 5, 2, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 5, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        let standby = c.standbys(stack).await?[1].id;
        c.signal(stack, primary, Signal::KILL)?;
        c.signal(stack, standby, Signal::KILL)
    })
    .await?;
    Ok(())
}
