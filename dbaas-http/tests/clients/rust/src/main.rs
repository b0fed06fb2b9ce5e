//! The tour with the generated client. Usage: dbaas-generated-client URL

use std::time::Duration;

use anyhow::{Context, ensure};

#[allow(clippy::all, dead_code, unused)]
mod client {
    include!(concat!(env!("OUT_DIR"), "/client.rs"));
}

use client::{Client, types};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("give the URL of a server")?;
    // Longer than the long poll below.
    let http = reqwest::ClientBuilder::new()
        .timeout(Duration::from_secs(150))
        .build()?;
    let client = Client::new_with_client(&url, http);

    let versions = client.list_versions().send().await?.into_inner().versions;
    let version = versions.last().context("an empty catalogue")?.uuid;
    let made = client
        .create_instance()
        .body_map(|body| {
            body.name("generated")
                .cpu(std::num::NonZeroU64::MIN)
                .ram(512)
                .disk_size(8)
                .version(format!("/v1/types/postgres/versions/{version}"))
        })
        .send()
        .await?;
    ensure!(made.headers().contains_key("etag") && made.status() == 201);
    let instance = made.uuid;
    let user = client
        .create_user()
        .instance(instance)
        .body_map(|body| body.name("app").password("correct horse"))
        .send()
        .await?;
    let owner = format!("{}/users/{}", *user.instance, user.uuid);
    let database = client
        .create_database()
        .instance(instance)
        .body_map(|body| body.name("shop").owner(owner.as_str()))
        .send()
        .await?;
    ensure!(*database.owner == owner, "{database:?}");

    let active = client
        .read_instance()
        .instance(instance)
        .wait(types::ReadInstanceWait::Active)
        .timeout("120s")
        .send()
        .await?;
    ensure!(active.status == types::InstanceStatus::Active, "{active:?}");
    let nodes = client
        .list_nodes()
        .instance(instance)
        .send()
        .await?
        .into_inner()
        .nodes;
    ensure!(nodes.len() == 1 && nodes[0].port.is_some(), "{nodes:?}");

    client.delete_instance().instance(instance).send().await?;
    loop {
        match client.read_instance().instance(instance).send().await {
            Ok(going) => ensure!(going.phase == types::InstancePhase::Deleting, "{going:?}"),
            Err(error) => {
                ensure!(error.status().is_some_and(|status| status == 404), "{error:?}");
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("the client that progenitor generated took the tour");
    Ok(())
}
