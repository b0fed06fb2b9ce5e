//! Settings, and who may connect, of running instances on real PostgreSQL: loaded where that does, restarted
//! where it has to be.

use std::time::{Duration, Instant};

use dbaas_controller::request::UpdateInstance;
use dbaas_core::config::Cidr;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_e2e::cluster::HEAL;
use dbaas_e2e::{Cluster, Stack};
use dbaas_workload::client::{Access, Client, ClientOptions, Target};

type Result<T = ()> = anyhow::Result<T>;

fn client(target: Target) -> Client {
    let options = ClientOptions {
        access: Access::Any,
        statement_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    Client::new(target, options)
}

/// What a node says, asked as the control plane.
async fn says(stack: &Stack, cluster: &Cluster, endpoint: &Endpoint, sql: &str) -> Result<String> {
    let target = cluster.admin(stack).await?.at(vec![endpoint.clone()]);
    let rows = client(target).send_until_done(sql, Instant::now() + HEAL).await?;
    let value = rows.first().and_then(|row| row.first().cloned().flatten());
    Ok(value.unwrap_or_default())
}

/// When each node's server was started, by the node's name, and who is the primary.
async fn starts(stack: &Stack, cluster: &Cluster) -> Result<Vec<String>> {
    let mut starts = Vec::new();
    for node in cluster.nodes(stack).await? {
        let endpoint = node.endpoint.unwrap_or_else(|| Endpoint {
            host: "none".to_owned(),
            port: 0,
        });
        let sql = "SELECT pg_is_in_recovery() || ' ' || pg_postmaster_start_time()";
        let said = says(stack, cluster, &endpoint, sql).await?;
        starts.push(format!("{} {said}", node.name));
    }
    starts.sort();
    Ok(starts)
}

/// Waits until this is true of every node.
async fn everywhere(stack: &Stack, cluster: &Cluster, sql: &str) -> Result {
    let until = Instant::now() + HEAL;
    for endpoint in cluster.endpoints(stack).await? {
        while says(stack, cluster, &endpoint, sql).await? != "t" {
            anyhow::ensure!(
                Instant::now() < until,
                "{endpoint}: not so: {sql}; {}",
                cluster.story(stack).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Whether a user gets in on each node, sooner or later.
async fn users_get_in(stack: &Stack, cluster: &Cluster, get_in: bool) -> Result {
    let until = Instant::now() + HEAL;
    for endpoint in cluster.endpoints(stack).await? {
        let target = cluster.target(stack).await?.at(vec![endpoint.clone()]);
        let attempt = Duration::from_secs(2);
        while client(target.clone())
            .connect(Instant::now() + attempt)
            .await
            .is_ok()
            != get_in
        {
            anyhow::ensure!(Instant::now() < until, "{endpoint}: {get_in} was expected");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_connect_reaches_running_nodes() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "hba", 2, 1, None).await?;
    let before = starts(&stack, &cluster).await?;
    let allowed = stack.allowed_clients();
    users_get_in(&stack, &cluster, true).await?;
    // A network that nobody has.
    stack.allow_clients(vec!["192.0.2.0/24".parse::<Cidr>()?]).await?;
    users_get_in(&stack, &cluster, false).await?;
    cluster.wait_healed(&stack, 2).await?;
    stack.allow_clients(allowed).await?;
    users_get_in(&stack, &cluster, true).await?;
    cluster.wait_healed(&stack, 2).await?;
    assert_eq!(
        starts(&stack, &cluster).await?,
        before,
        "nobody was restarted, and nobody switched over"
    );
    everywhere(
        &stack,
        &cluster,
        "SELECT NOT EXISTS (SELECT FROM pg_hba_file_rules WHERE error IS NOT NULL)",
    )
    .await
}

async fn set(stack: &Stack, cluster: &Cluster, name: &str, value: Option<&str>) -> Result {
    let change = UpdateInstance {
        parameters: [(name.to_owned(), value.map(str::to_owned))].into(),
        ..UpdateInstance::default()
    };
    stack.plane()?.update_instance(cluster.id, change).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_loaded_where_that_does_and_roll_where_it_has_to_be() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "parameters", 2, 1, None).await?;
    let before = starts(&stack, &cluster).await?;
    let derived = "SELECT current_setting('work_mem') <> '7MB'";
    everywhere(&stack, &cluster, derived).await?;
    set(&stack, &cluster, "work_mem", Some("7MB")).await?;
    everywhere(&stack, &cluster, "SELECT current_setting('work_mem') = '7MB'").await?;
    set(&stack, &cluster, "work_mem", None).await?;
    everywhere(&stack, &cluster, derived).await?;
    cluster.wait_healed(&stack, 2).await?;
    assert_eq!(starts(&stack, &cluster).await?, before, "nobody was restarted");

    // Greater on the standby first, then a switchover; smaller on the primary first, where it is.
    for connections in ["333", "150"] {
        let first = cluster.primary(&stack).await?.id;
        set(&stack, &cluster, "max_connections", Some(connections)).await?;
        let sql = format!("SELECT current_setting('max_connections') = '{connections}'");
        everywhere(&stack, &cluster, &sql).await?;
        cluster.wait_healed(&stack, 2).await?;
        let now = cluster.primary(&stack).await?.id;
        assert_eq!(
            now == first,
            connections == "150",
            "{}",
            cluster.story(&stack).await
        );
    }
    let record = stack.plane()?.instance(cluster.id).await?;
    assert!(record.status.parameters_pending_restart.is_empty());
    Ok(())
}

/// Waits until the instance says that its parameters were refused, and is otherwise well.
async fn refused(stack: &Stack, cluster: &Cluster) -> Result<String> {
    let until = Instant::now() + HEAL;
    loop {
        let record = cluster.record(stack).await?;
        let nodes = cluster.nodes(stack).await?;
        let well = nodes.iter().all(|n| n.lifecycle == Lifecycle::Active);
        if well && record.parameters.refused.is_some() && record.status.parameters_pending_restart.is_empty()
        {
            return Ok(record.status.reason);
        }
        anyhow::ensure!(Instant::now() < until, "{}", cluster.story(stack).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_that_a_server_refuses_are_gone_back_from() -> Result {
    let Some(stack) = Stack::start().await? else {
        return Ok(());
    };
    for nodes in [1, 2] {
        let name = format!("refused-{nodes}");
        let cluster = Cluster::create(&stack, &name, nodes, 1, None).await?;
        let primary = cluster.primary(&stack).await?.id;
        // More memory than any machine of ours has; then what no server loads.
        for (name, value) in [("shared_buffers", "7TB"), ("timezone", "Nowhere/Nowhere")] {
            set(&stack, &cluster, name, Some(value)).await?;
            let reason = refused(&stack, &cluster).await?;
            assert!(reason.contains(&format!("{name} = {value}")), "{reason}");
            assert!(
                reason.contains("the parameters of before are in force"),
                "{reason}"
            );
            users_get_in(&stack, &cluster, true).await?;
            set(&stack, &cluster, name, None).await?;
            cluster.wait_healed(&stack, usize::try_from(nodes)?).await?;
            assert_eq!(cluster.primary(&stack).await?.id, primary);
        }
    }
    Ok(())
}
