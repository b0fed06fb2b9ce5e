//! Three nodes on the backend of this example:
//! `cargo run --release -p dbaas-example-custom-backend -- /var/tmp/dbaas-custom`

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use dbaas_controller::request::{CreateInstance, Page};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_example_custom_backend::ScriptBackend;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or("dbaas-custom".into());
    let directory = Path::new(&directory);
    let mut found = dbaas_backend_local::discover(&[], &directory.join("postgresql"));
    let (_, postgres) = found.pop_last().context("install PostgreSQL 14 or newer first")?;

    // The only line that is not the same with every backend.
    let backend = async { ScriptBackend::open(&directory.join("nodes"), &postgres.bin_dir, 26_432..=27_431) };
    let dbaas = dbaas_embedded::open_on(directory, backend, Default::default()).await?;
    let (plane, minute) = (&dbaas.control_plane, Duration::from_secs(60));

    let page = Page { after: None, limit: 1 };
    let version = plane.versions(page).await?.items.pop().context("the backend has a version")?;
    let mut request = CreateInstance::new("custom".parse()?, version.id);
    (request.nodes, request.sync_replicas) = (3u64.try_into()?, 1u64.try_into()?);
    let id = plane.create_instance(request).await?.id;
    plane.wait_for_instance(id, Lifecycle::Active, minute).await?;
    for node in plane.nodes(id).await? {
        let at = "no address yet".to_owned();
        println!("{} is {:?}, {}", node.name, node.role, node.endpoint.map_or(at, |endpoint| endpoint.to_string()));
    }

    println!("It runs. Press Enter to remove it.");
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    plane.delete_instance(id, None).await?;
    while plane.instance(id).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    plane.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
