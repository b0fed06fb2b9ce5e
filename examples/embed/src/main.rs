//! A three-node PostgreSQL with a user and a database, from a program of one's own.
//!
//! `cargo run --release -p dbaas-example-embed -- /var/tmp/dbaas-embed`

use std::time::Duration;

use dbaas_controller::request::{CreateDatabase, CreateInstance, CreateUser, Page};
use dbaas_core::{id::ProjectId, lifecycle::Lifecycle, lifecycle::ObjectLifecycle, password::Password};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let directory = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "dbaas-embed".to_owned());
    let dbaas = dbaas_embedded::open(directory.as_ref(), Default::default()).await?;
    let plane = &dbaas.control_plane;
    let minute = Duration::from_secs(60);

    let versions = plane
        .versions(Page {
            after: None,
            limit: 10,
        })
        .await?
        .items;
    let version = &versions.last().expect("this machine has a PostgreSQL").record;
    let request = CreateInstance {
        name: "orders".parse()?,
        description: "".parse()?,
        project: ProjectId::DEFAULT,
        cpu: 1u64.try_into()?,
        ram: 1024u64.try_into()?,
        disk: 10u64.try_into()?,
        nodes: 3u64.try_into()?,
        sync_replicas: 1u64.try_into()?,
        version: version.id,
    };
    let instance = plane.create_instance(request, None).await?.record.id;
    let user = CreateUser {
        name: "app".parse()?,
        description: "".parse()?,
        password: Password::new("correct horse")?,
    };
    let owner = plane.create_user(instance, user, None).await?.record.id;
    let database = CreateDatabase {
        name: "shop".parse()?,
        description: "".parse()?,
        owner,
    };
    let database = plane.create_database(instance, database, None).await?.record.id;

    plane
        .wait_for_instance(instance, Lifecycle::Active, minute)
        .await?;
    plane
        .wait_for_database(instance, database, ObjectLifecycle::Active, minute)
        .await?;
    let hosts: Vec<String> = plane
        .connection(instance)
        .await?
        .endpoints
        .iter()
        .map(|e| e.to_string())
        .collect();
    println!(
        "psql 'postgresql://app@{}/shop?target_session_attrs=read-write'",
        hosts.join(",")
    );
    plane.shutdown(Duration::from_secs(5)).await; // The servers go on.
    Ok(())
}
