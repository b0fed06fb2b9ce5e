//! From the request to an instance whose user has logged in to its database, beside the same by hand.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dbaas_backend_local::WarmPool;
use dbaas_controller::error::ControlError;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Access, Client, Target};

use super::BenchOptions;
use super::by_hand::{ByHand, free_port, patient, superuser};
use super::figures::{Goal, Row, Samples, Table};
use crate::cluster::PASSWORD;
use crate::stack::StackOptions;
use crate::{Cluster, Stack};

const WITHIN: Duration = Duration::from_secs(120);
/// What was deleted or prepared a moment ago must not be paid for by what is measured next.
const CALM: Duration = Duration::from_millis(700);

#[derive(Default)]
struct Figures {
    floor_cold: Samples,
    floor_warm: Samples,
    one_cold: Samples,
    one_warm: Samples,
    three_cold: Samples,
    three_warm: Samples,
    active_cold: Samples,
    active_warm: Samples,
}

/// Measures. `progress` is told of each round.
pub async fn run(options: &BenchOptions, progress: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Table>> {
    let cold = Stack::start_with(StackOptions::default())
        .await?
        .context("no PostgreSQL")?;
    let pool = WarmPool {
        sets: 1,
        seeds_per_set: 2,
    };
    let warm = Stack::start_with(StackOptions {
        warm_pool: Some(pool),
        beside_others: true,
        ..StackOptions::default()
    })
    .await?
    .context("no PostgreSQL")?;
    let by_hand = ByHand::new(cold.local_options(), options.major)?;
    let major = by_hand.installation.version.major;
    let mut figures = Figures::default();
    for round in 0..options.runs {
        pool_filled(&warm, major).await?;
        figures.floor_cold.push(floor_cold(&by_hand, round).await?);
        tokio::time::sleep(CALM).await;
        let (active, usable) = instance(&cold, &format!("c1-{round}"), 1, 0, options).await?;
        figures.active_cold.push(active);
        figures.one_cold.push(usable);
        let (_, usable) = instance(&cold, &format!("c3-{round}"), 3, 1, options).await?;
        figures.three_cold.push(usable);
        figures.floor_warm.push(floor_warm(&by_hand, round).await?);
        tokio::time::sleep(CALM).await;
        let (active, usable) = instance(&warm, &format!("w1-{round}"), 1, 0, options).await?;
        figures.active_warm.push(active);
        figures.one_warm.push(usable);
        pool_filled(&warm, major).await?;
        let (_, usable) = instance(&warm, &format!("w3-{round}"), 3, 1, options).await?;
        figures.three_warm.push(usable);
        progress(format!(
            "provision, round {}: cold {:?} (floor) {:?} {:?}, warm {:?} (floor) {:?} {:?}",
            round + 1,
            figures.floor_cold.median(),
            figures.one_cold.median(),
            figures.three_cold.median(),
            figures.floor_warm.median(),
            figures.one_warm.median(),
            figures.three_warm.median()
        ));
    }
    Ok(vec![table(&figures)])
}

fn table(f: &Figures) -> Table {
    let one = Goal::Times(1.3);
    let three = Goal::Times(2.0);
    Table {
        title: "From the request to a user who has logged in to a database".to_owned(),
        rows: vec![
            Row::new(
                "floor, cold: initdb, start, CREATE ROLE, CREATE DATABASE by hand",
                &f.floor_cold,
            ),
            Row::new("one node, cold (beside its floor)", &f.one_cold)
                .beside(&f.floor_cold)
                .goal(one),
            Row::new("- of that, until ACTIVE is shown", &f.active_cold).beside(&f.floor_cold),
            Row::new("three nodes, k = 1, cold (beside one node)", &f.three_cold)
                .beside(&f.one_cold)
                .goal(three),
            Row::new("floor, warm: rename, start, the same SQL", &f.floor_warm),
            Row::new("one node, warm (beside its floor)", &f.one_warm)
                .beside(&f.floor_warm)
                .goal(one),
            Row::new("- of that, until ACTIVE is shown", &f.active_warm).beside(&f.floor_warm),
            Row::new("three nodes, k = 1, warm (beside one node)", &f.three_warm)
                .beside(&f.one_warm)
                .goal(three),
        ],
        notes: Vec::new(),
    }
}

/// Asks for an instance and logs in; then deletes it. Until it was ACTIVE, and until the login.
async fn instance(
    stack: &Stack,
    name: &str,
    nodes: u64,
    k: u64,
    options: &BenchOptions,
) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let cluster = Cluster::request(stack, name, nodes, k, options.major).await?;
    cluster.wait_ready(stack).await?;
    let active = started.elapsed();
    let target = cluster.target(stack).await?;
    let mut client = Client::new(target, patient(Access::ReadWrite));
    client.connect(Instant::now() + WITHIN).await?;
    let usable = started.elapsed();
    tracing::info!(name, ?active, ?usable, events = ?cluster.events(stack).await?, "instance usable");
    client.disconnect();
    delete(stack, &cluster).await?;
    tokio::time::sleep(CALM).await;
    Ok((active, usable))
}

/// Deletes an instance and waits until it is gone.
pub(super) async fn delete(stack: &Stack, cluster: &Cluster) -> anyhow::Result<()> {
    let plane = stack.plane()?;
    plane.delete_instance(cluster.id, None).await?;
    let until = Instant::now() + WITHIN;
    loop {
        match plane.instance(cluster.id).await {
            Err(ControlError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(_) if Instant::now() > until => bail!("the instance is not gone"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn pool_filled(stack: &Stack, major: dbaas_core::version::PostgresMajor) -> anyhow::Result<()> {
    let until = Instant::now() + WITHIN;
    while stack.embedded()?.backend.pool_ready(major) == 0 {
        if Instant::now() > until {
            bail!("the warm pool is not filled");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(CALM).await;
    Ok(())
}

async fn floor_cold(by_hand: &ByHand, round: usize) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let data = by_hand.initdb(&format!("cold-{round}"))?;
    usable_by_hand(by_hand, &data, started).await
}

async fn floor_warm(by_hand: &ByHand, round: usize) -> anyhow::Result<Duration> {
    let prepared = by_hand.initdb(&format!("prepared-{round}"))?;
    by_hand.sync()?;
    tokio::time::sleep(CALM).await;
    let started = Instant::now();
    let data = by_hand.path(&format!("warm-{round}"));
    std::fs::rename(prepared, &data)?;
    usable_by_hand(by_hand, &data, started).await
}

async fn usable_by_hand(
    by_hand: &ByHand,
    data: &std::path::Path,
    started: Instant,
) -> anyhow::Result<Duration> {
    let server = by_hand.start(data, free_port()?, &[])?;
    let deadline = Instant::now() + WITHIN;
    let mut admin = Client::new(superuser(vec![server.endpoint()]), patient(Access::Any));
    admin.connect(deadline).await?;
    admin
        .send(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"))
        .await?;
    admin
        .send("CREATE DATABASE shop OWNER app TEMPLATE template0")
        .await?;
    let mut user = Client::new(app(server.endpoint()), patient(Access::ReadWrite));
    user.connect(deadline).await?;
    let usable = started.elapsed();
    drop(server);
    std::fs::remove_dir_all(data)?;
    Ok(usable)
}

fn app(endpoint: Endpoint) -> Target {
    Target {
        hosts: vec![endpoint],
        database: "shop".to_owned(),
        user: "app".to_owned(),
        password: Secret::new(PASSWORD),
    }
}
