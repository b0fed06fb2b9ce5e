//! A three-node PostgreSQL with a user and a database, from a program of one's own:
//! `cargo run --release -p dbaas-example-embed -- /var/tmp/dbaas-embed`

use std::time::Duration;

use dbaas_embedded::connection::ConnectionStrings;
use dbaas_embedded::lifecycle::{Lifecycle::Active, ObjectLifecycle};
use dbaas_embedded::password::Password;
use dbaas_embedded::request::{CreateDatabase, CreateInstance, CreateUser, Page};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or("dbaas-embed".into());
    let dbaas = dbaas_embedded::open(directory.as_ref(), Default::default()).await?;
    let (plane, minute) = (&dbaas.control_plane, Duration::from_secs(60));
    let all = Page {
        after: None,
        limit: 100,
    };
    let versions = plane.versions(all).await?.items;
    let version = versions.last().expect("a PostgreSQL is found or fetched");

    let mut request = CreateInstance::new("orders".parse()?, version.id);
    request.nodes = 3u64.try_into()?;
    let id = plane.create_instance(request).await?.id;
    let user = CreateUser::new("app".parse()?, Password::new("correct horse")?);
    let owner = plane.create_user(id, user).await?.id;
    let shop = CreateDatabase::new("shop".parse()?, owner);
    let shop = plane.create_database(id, shop).await?.id;

    plane.wait_for_instance(id, Active, minute).await?;
    let active = ObjectLifecycle::Active;
    plane.wait_for_database(id, shop, active, minute).await?;
    let nodes = ConnectionStrings::new(plane.connection(id).await?.endpoints);
    let uri = nodes.with_user("app").with_database("shop").uri();
    println!("psql '{uri}'");
    plane.shutdown(Duration::from_secs(5)).await; // The servers go on.
    Ok(())
}
