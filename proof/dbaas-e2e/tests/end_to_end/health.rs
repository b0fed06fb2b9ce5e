//! What a client gets decides whether a primary serves: its files, its processes and its slots are taken away
//! while it goes on answering looks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_controller::error::ControlError;
use dbaas_controller::request::InstanceAction;
use dbaas_core::id::NodeId;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_e2e::cluster::HEAL;
use dbaas_e2e::{Cluster, Stack, under_load};
use dbaas_workload::client::{Access, Client, ClientOptions};
use rustix::process::{Pid, Signal, kill_process};

type Result = anyhow::Result<()>;

/// A session of the superuser on one node, which does not wait for standbys.
async fn admin(stack: &Stack, cluster: &Cluster, node: NodeId) -> anyhow::Result<Client> {
    let nodes = cluster.nodes(stack).await?;
    let found = nodes.into_iter().find(|n| n.id == node);
    let endpoint = found.and_then(|n| n.endpoint).context("no address")?;
    let options = ClientOptions {
        access: Access::Any,
        statement_timeout: Duration::from_secs(10),
        settings: vec![("synchronous_commit", "local")],
        ..ClientOptions::default()
    };
    Ok(Client::new(
        cluster.admin(stack).await?.at(vec![endpoint]),
        options,
    ))
}

async fn column(client: &mut Client, sql: &str) -> anyhow::Result<Vec<String>> {
    let until = Instant::now() + Duration::from_secs(30);
    let rows = client.send_until_done(sql, until).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

fn signal(pid: &str, signal: Signal) -> Result {
    let pid = Pid::from_raw(pid.parse()?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}

/// Moves a file or directory of a node's data away from under it.
fn move_away(stack: &Stack, cluster: &Cluster, node: NodeId, what: &str) -> Result {
    let path: PathBuf = cluster.data_dir(stack, node).join("data").join(what);
    let lost = path.with_extension("lost");
    std::fs::rename(&path, &lost).with_context(|| format!("{} cannot be moved", path.display()))
}

/// Waits until another node is the primary.
async fn wait_replaced(stack: &Stack, cluster: &Cluster, before: NodeId) -> Result {
    let until = Instant::now() + HEAL;
    loop {
        let record = cluster.record(stack).await?;
        if record.cluster.is_some_and(|c| c.primary != before) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("it stays the primary: {}", cluster.story(stack).await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_reason(stack: &Stack, cluster: &Cluster, wanted: &str) -> Result {
    let until = Instant::now() + HEAL;
    loop {
        let status = stack.plane()?.instance(cluster.id).await?.status;
        if status.reason.contains(wanted) {
            assert_eq!(status.lifecycle, Lifecycle::Error, "{}", status.reason);
            return Ok(());
        }
        if Instant::now() > until {
            bail!(
                "the reason is {:?}, not {wanted:?}: {}",
                status.reason,
                cluster.story(stack).await
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// No client can log in any more; sessions that are there go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_moved_away_under_the_primary() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "files", 3, 1, None).await?;
    for what in ["base", "global/pg_filenode.map"] {
        let c = cluster.clone();
        let began = Instant::now();
        under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
            let primary = c.primary(stack).await?.id;
            move_away(stack, &c, primary, what)?;
            wait_replaced(stack, &c, primary).await?;
            tracing::info!(what, after = ?began.elapsed(), "given up");
            Ok(())
        })
        .await?;
        // What was damaged is built anew at once: a rewind would have to read it.
        let events = cluster.events(&stack).await?;
        assert!(
            events.iter().any(|e| e.contains("files are gone or broken")),
            "{events:#?}"
        );
        assert!(
            !events.iter().any(|e| e.contains("after rewinding it")),
            "{events:#?}"
        );
    }
    Ok(())
}

/// A process is stopped in the middle of a write of the WAL, holding what every commit needs. Old sessions
/// still read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_stopped_while_it_writes_the_wal() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "stuck", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        let mut client = admin(stack, &c, primary).await?;
        stop_a_writer(&mut client).await?;
        wait_replaced(stack, &c, primary).await
    })
    .await?;
    let events = cluster.events(&stack).await?;
    assert!(
        events.iter().any(|e| e.contains("takes no commits")),
        "{events:#?}"
    );
    Ok(())
}

/// Stops backends until one is stopped that others wait for.
async fn stop_a_writer(client: &mut Client) -> Result {
    // Whoever writes the WAL for the others waits a while before that, with the lock held: there is somebody
    // to catch.
    for setting in [
        "ALTER SYSTEM SET commit_delay = 100000",
        "ALTER SYSTEM SET commit_siblings = 1",
        "SELECT pg_reload_conf()",
    ] {
        column(client, setting).await?;
    }
    const WRITERS: &str = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' \
                           AND wait_event_type IS DISTINCT FROM 'LWLock' AND wait_event_type IS DISTINCT FROM 'IPC'";
    // PostgreSQL 17 spells it another way.
    const WAITERS: &str = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'LWLock' \
                           AND lower(wait_event) = 'walwrite'";
    const FLUSHED: &str = "SELECT pg_current_wal_flush_lsn()";
    let until = Instant::now() + HEAL;
    while Instant::now() < until {
        let Some(pid) = column(client, WRITERS).await?.into_iter().next() else {
            continue;
        };
        signal(&pid, Signal::STOP)?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = column(client, FLUSHED).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waiters = column(client, WAITERS).await?;
        // One that was stopped while it waited itself holds nothing: the others go on.
        let stands = column(client, FLUSHED).await? == before;
        if stands && waiters.iter().any(|waiter| *waiter != pid) {
            return Ok(());
        }
        signal(&pid, Signal::CONT)?;
    }
    bail!("no process was caught while it wrote")
}

/// Nobody can take over without loss: it is told, and an operator's word is carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_carried_out_refused_or_given_up_with_a_reason() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "asked", 2, 0, None).await?;
    let primary = cluster.primary(&stack).await?.id;
    let failover = |allow_data_loss| InstanceAction::Failover { allow_data_loss };
    // It serves: which action is the right one is said.
    let until = Instant::now() + HEAL;
    loop {
        match stack.plane()?.act_on_instance(cluster.id, failover(true)).await {
            Err(ControlError::WrongState { detail }) => {
                assert!(detail.contains("actions/switchover"), "{detail}");
                break;
            }
            // It was not yet tried whether it serves.
            Ok(_) if Instant::now() < until => tokio::time::sleep(Duration::from_secs(1)).await,
            other => bail!("not refused: {other:?}"),
        }
    }
    cluster.wait_healed(&stack, 2).await?;
    assert_eq!(cluster.primary(&stack).await?.id, primary);
    move_away(&stack, &cluster, primary, "base")?;
    wait_reason(&stack, &cluster, "allow_data_loss").await?;
    stack.plane()?.act_on_instance(cluster.id, failover(true)).await?;
    wait_replaced(&stack, &cluster, primary).await?;
    cluster.wait_healed(&stack, 2).await?;
    let events = cluster.events(&stack).await?;
    assert!(
        events.iter().any(|e| e.contains("failover_completed")),
        "{events:#?}"
    );
    Ok(())
}

/// One node: what is broken is told, and nothing is done that makes it worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_tells_what_is_broken() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "alone", 1, 0, None).await?;
    let node = cluster.primary(&stack).await?.id;
    move_away(&stack, &cluster, node, "global/pg_filenode.map")?;
    wait_reason(&stack, &cluster, "files are gone or broken").await?;
    let events = cluster.events(&stack).await?;
    assert!(
        !events.iter().any(|e| e.contains("primary_restarted")),
        "{events:#?}"
    );
    let from = cluster
        .data_dir(&stack, node)
        .join("data/global/pg_filenode.lost");
    std::fs::rename(&from, from.with_extension("map"))?;
    cluster.wait_healed(&stack, 1).await
}

/// The superuser has slots of its own: a tenant who takes all others changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_used_up_are_no_ill_health() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "full", 3, 1, None).await?;
    let primary = cluster.primary(&stack).await?;
    let mut client = admin(&stack, &cluster, primary.id).await?;
    let most = column(&mut client, "SHOW max_connections").await?;
    let most: usize = most.first().context("no setting")?.parse()?;
    let target = cluster.target(&stack).await?;
    let target = target.at(primary.endpoint.into_iter().collect());
    let mut taken = Vec::new();
    while taken.len() < most {
        let options = ClientOptions {
            retry_pause: Duration::from_millis(200),
            ..ClientOptions::default()
        };
        let mut one = Client::new(target.clone(), options);
        if one
            .connect(Instant::now() + Duration::from_secs(2))
            .await
            .is_err()
        {
            break;
        }
        taken.push(one);
    }
    ensure!(taken.len() < most, "there was room for everybody");
    // Several trials long.
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        let status = stack.plane()?.instance(cluster.id).await?.status;
        assert_eq!(status.lifecycle, Lifecycle::Active, "{}", status.reason);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(cluster.primary(&stack).await?.id, primary.id);
    Ok(())
}

/// A standby whose files are gone dies at its next start: it is built anew, and nothing else is tried before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_standby_is_rebuilt_at_once() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "damaged", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let standby = c.standbys(stack).await?[0].id;
        move_away(stack, &c, standby, "global/pg_filenode.map")?;
        c.signal(stack, standby, Signal::KILL)?;
        let until = Instant::now() + HEAL;
        while !c
            .events(stack)
            .await?
            .iter()
            .any(|e| e.contains("from a base backup"))
        {
            ensure!(Instant::now() < until, "not rebuilt: {}", c.story(stack).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
    .await?;
    let events = cluster.events(&stack).await?;
    let starts = |how: &str| events.iter().filter(|e| e.contains(how)).count();
    assert_eq!(starts("after rewinding it"), 0, "{events:#?}");
    assert!(starts("where it is") <= 1, "{events:#?}");
    Ok(())
}

/// A checkpoint that hangs keeps a switchover waiting, and no client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_waits_for_its_checkpoint() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "checkpoint", 3, 1, None).await?;
    let c = cluster.clone();
    under_load(&mut stack, &cluster, 3, async |stack: &mut Stack| {
        let primary = c.primary(stack).await?.id;
        let mut client = admin(stack, &c, primary).await?;
        let find = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        let pid = column(&mut client, find).await?;
        let pid = pid.first().context("no checkpointer")?;
        signal(pid, Signal::STOP)?;
        let to = InstanceAction::Switchover { to: None };
        stack.plane()?.act_on_instance(c.id, to).await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let record = c.record(stack).await?;
        let still = record.cluster.map(|cluster| cluster.primary);
        // It takes writes meanwhile.
        let written = column(&mut client, "CREATE TABLE meanwhile AS SELECT 1").await;
        signal(pid, Signal::CONT)?;
        written?;
        ensure!(still == Some(primary), "it was shut down meanwhile");
        wait_replaced(stack, &c, primary).await
    })
    .await?;
    Ok(())
}

/// What a tenant has used up is never said to be the network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_used_up_are_not_the_network() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "locks", 1, 0, None).await?;
    let options = ClientOptions {
        statement_timeout: Duration::from_secs(60),
        ..ClientOptions::default()
    };
    let mut tenant = Client::new(cluster.target(&stack).await?, options);
    tenant
        .send_until_done("CREATE TABLE t (n int)", Instant::now() + HEAL)
        .await?;
    // A session keeps its advisory locks when the statement fails that took them.
    let all = "SELECT pg_advisory_lock(n) FROM generate_series(1, 10000000) n";
    let refused = tenant.send(all).await;
    ensure!(refused.is_err(), "there were locks enough");
    let until = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        let reason = stack.plane()?.instance(cluster.id).await?.status.reason;
        assert!(!reason.contains("network"), "{reason}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tenant.disconnect();
    cluster.wait_healed(&stack, 1).await?;
    let events = cluster.events(&stack).await?;
    assert!(!events.iter().any(|e| e.contains("failover")), "{events:#?}");
    Ok(())
}
