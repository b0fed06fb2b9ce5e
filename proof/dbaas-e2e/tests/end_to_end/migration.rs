//! A data directory of an earlier release, with servers that run, on real PostgreSQL.

use std::time::{Duration, Instant};

use dbaas_controller::view::Node;
use dbaas_core::store::{Batch, Document, DocumentKey, Kind, Op, Precondition, Store};
use dbaas_core::time::Timestamp;
use dbaas_e2e::cluster::HEAL;
use dbaas_e2e::{Cluster, Stack};
use dbaas_store::{SqliteOptions, SqliteStore};
use dbaas_workload::client::{Client, ClientOptions};
use serde_json::Value as Json;
use uuid::Uuid;

type Result = anyhow::Result<()>;

/// Puts one record into the document that it was before it was three.
async fn join(store: &SqliteStore, ops: &mut Vec<Op>, kinds: [Kind; 3], id: Uuid, body: Json) -> Result {
    let [first, parts @ ..] = kinds;
    let key = DocumentKey { kind: first, id };
    let stored = store.get(key).await?.expect("it is there");
    let document = Document {
        body,
        ..stored.document
    };
    ops.push(Op::Put(document, Precondition::MatchesVersion(stored.version)));
    for kind in parts {
        let key = DocumentKey { kind, id };
        let stored = store.get(key).await?.expect("the engine has seen it");
        ops.push(Op::Delete(key, stored.version));
    }
    Ok(())
}

/// Writes the store as the release before did: with a restart that it was asked for and had not seen, or
/// without.
async fn go_back(stack: &mut Stack, cluster: &Cluster, with_restart: bool) -> Result {
    let plane = stack.plane()?;
    let mut instance = plane.instance_record(cluster.id).await?;
    if with_restart {
        instance.generation += 1;
        instance.requests.restart = Some(Timestamp::from_unix_ms(instance.created_at.unix_ms() + 1));
    }
    let user = plane.user_record(cluster.id, cluster.user).await?;
    let database = plane.database_record(cluster.id, cluster.database).await?;
    stack.close().await;

    let store = SqliteStore::open(&stack.directory().join("dbaas.sqlite"), SqliteOptions::default())?;
    let mut ops = Vec::new();
    let kinds = ["instance", "instance_decisions", "instance_status"];
    join(
        &store,
        &mut ops,
        kinds,
        cluster.id.uuid(),
        serde_json::to_value(&instance)?,
    )
    .await?;
    let kinds = ["user", "user_decisions", "user_status"];
    join(
        &store,
        &mut ops,
        kinds,
        cluster.user.uuid(),
        serde_json::to_value(&user)?,
    )
    .await?;
    let kinds = ["database", "database_decisions", "database_status"];
    join(
        &store,
        &mut ops,
        kinds,
        cluster.database.uuid(),
        serde_json::to_value(&database)?,
    )
    .await?;
    let form = DocumentKey {
        kind: "form",
        id: Uuid::nil(),
    };
    let note = store.get(form).await?.expect("a store says its form");
    ops.push(Op::Delete(form, note.version));
    store.commit(Batch { lease: None, ops }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_before_is_migrated_and_its_servers_adopted() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let cluster = Cluster::create(&stack, "before", 2, 1, None).await?;
    let target = cluster.target(&stack).await?;
    let mut client = Client::new(target.clone(), ClientOptions::default());
    let until = || Instant::now() + Duration::from_secs(30);
    client
        .send_until_done("CREATE TABLE kept AS SELECT 7 AS n", until())
        .await?;
    let before = cluster.nodes(&stack).await?;
    let events = cluster.events(&stack).await?.len();
    let servers = |nodes: &[Node]| {
        let of = |node: &Node| (node.id, node.backend_ref.clone());
        nodes.iter().map(of).collect::<Vec<_>>()
    };

    go_back(&mut stack, &cluster, false).await?;
    stack.open().await?;
    cluster.wait_healed(&stack, 2).await?;
    let adopted = cluster.nodes(&stack).await?;
    assert_eq!(servers(&before), servers(&adopted), "the same servers go on");
    let rows = client.send_until_done("SELECT n FROM kept", until()).await?;
    assert_eq!(rows, [[Some("7".to_owned())]]);
    assert!(cluster.events(&stack).await?.len() >= events, "the log goes on");

    go_back(&mut stack, &cluster, true).await?;
    stack.open().await?;
    let plane = stack.plane()?.clone();
    let deadline = Instant::now() + HEAL;
    loop {
        let record = plane.instance_record(cluster.id).await?;
        if record.requests.restart.is_none() && record.status.observed_generation == record.generation {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the restart that was asked for is not done"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.wait_healed(&stack, 2).await?;
    let restarted = cluster.nodes(&stack).await?;
    for (before, after) in servers(&adopted).iter().zip(servers(&restarted)) {
        assert_eq!(before.0, after.0);
        assert_ne!(before.1, after.1, "it was restarted");
    }
    let record = cluster.record(&stack).await?;
    assert!(record.nodes.iter().all(|node| node.rebuilds == 0));
    let rows = client.send_until_done("SELECT n FROM kept", until()).await?;
    assert_eq!(rows, [[Some("7".to_owned())]]);
    Ok(())
}
