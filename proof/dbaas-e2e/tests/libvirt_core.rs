//! The main job on virtual machines. Its core, in a few minutes: three nodes from the warm pool with a user
//! and a database, a primary that is destroyed, and an end that leaves nothing. The whole of it
//! (`ci/libvirt/run rest`): a switchover, fewer nodes, a larger disk, more nodes, more memory for one after
//! the other, stop and start, too.
#![allow(clippy::print_stderr, reason = "measurements, and skipped tests say so")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_backend_libvirt::{LibvirtBackend, LibvirtOptions};
use dbaas_controller::control_plane::ControlPlane;
use dbaas_controller::request::{
    CreateDatabase, CreateInstance, CreateUser, InstanceAction, Page, UpdateInstance,
};
use dbaas_controller::settings::ControllerSettings;
use dbaas_controller::view::Node;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::node::NodeRole;
use dbaas_core::password::Password;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Client, ClientOptions, Target};

type Result<T = ()> = anyhow::Result<T>;

/// Machines are emulated here, on processors that others use, too.
const PATIENCE: Duration = Duration::from_secs(1800);
const PASSWORD: &str = "correct horse battery";

fn virsh(uri: &str, args: &[&str]) -> Result<String> {
    let output = Command::new("virsh")
        .args(["-q", "-c", uri])
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("the virsh program does not start")?;
    ensure!(
        output.status.success(),
        "virsh {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An instance, and what is done to it.
struct Case<'a> {
    plane: &'a ControlPlane,
    id: InstanceId,
    uri: String,
}

impl Case<'_> {
    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.plane.nodes(self.id).await?)
    }

    async fn primary(&self) -> Result<Node> {
        let nodes = self.nodes().await?;
        let primary = nodes.into_iter().find(|n| n.role == NodeRole::Primary);
        primary.context("there is no primary")
    }

    /// Waits until the instance is ACTIVE as asked for last, with so many nodes that are ACTIVE, too.
    async fn healed(&self, nodes: usize) -> Result {
        let until = Instant::now() + PATIENCE;
        loop {
            let record = self.plane.instance(self.id).await?;
            let views = self.nodes().await?;
            if record.status.lifecycle == Lifecycle::Active
                && record.status.observed_generation == record.generation
                && views.len() == nodes
                && views.iter().all(|n| n.lifecycle == Lifecycle::Active)
            {
                return Ok(());
            }
            if Instant::now() > until {
                let events = self.plane.events(self.id, 0, 1000).await?;
                bail!(
                    "not healed: {} ({}): {events:#?}",
                    record.status.lifecycle,
                    record.status.reason
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn client(&self) -> Result<Client> {
        let target = Target {
            hosts: self.plane.connection(self.id).await?.endpoints,
            database: "shop".to_owned(),
            user: "app".to_owned(),
            password: Secret::new(PASSWORD),
        };
        let options = ClientOptions {
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            ..ClientOptions::default()
        };
        Ok(Client::new(target, options))
    }

    /// Writes a row, however long that takes. How long it took.
    async fn write(&self, row: u32) -> Result<Duration> {
        let begin = Instant::now();
        let sql = format!("INSERT INTO orders VALUES ({row}) ON CONFLICT DO NOTHING");
        self.client()
            .await?
            .send_until_done(&sql, begin + PATIENCE)
            .await?;
        Ok(begin.elapsed())
    }

    async fn rows(&self) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        let rows = self
            .client()
            .await?
            .send_until_done("SELECT count(*) FROM orders", until)
            .await?;
        let value = rows.first().and_then(|row| row.first().cloned().flatten());
        value.context("no count")
    }

    async fn update(&self, change: UpdateInstance) -> Result {
        self.plane.update_instance(self.id, change).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_failed_over_and_deleted() -> Result {
    job(Extent::Core).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes more; ci/libvirt/run rest runs it"]
async fn the_main_job() -> Result {
    job(Extent::Whole).await
}

/// How much of the main job is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Core,
    Whole,
}

async fn job(extent: Extent) -> Result {
    let Some(uri) = std::env::var("DBAAS_LIBVIRT_URI")
        .ok()
        .filter(|uri| !uri.is_empty())
    else {
        ensure!(
            std::env::var_os("DBAAS_REQUIRE_LIBVIRT").is_none(),
            "DBAAS_LIBVIRT_URI is not set"
        );
        eprintln!("SKIPPED: no libvirt for tests; set DBAAS_LIBVIRT_URI, or DBAAS_REQUIRE_LIBVIRT=1 to fail");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let options = LibvirtOptions {
        uri: uri.clone(),
        network: "dbaas".into(),
        pool: "dbaas".into(),
        owner: dbaas_embedded::owner(directory.path())?,
        ..LibvirtOptions::default()
    };
    let backend = async { LibvirtBackend::connect(options) };
    let embedded = dbaas_embedded::open_on(directory.path(), backend, ControllerSettings::default()).await?;
    let plane = &embedded.control_plane;
    let page = Page {
        after: None,
        limit: 10,
    };
    // Otherwise the first instance does without it.
    let until = Instant::now() + PATIENCE;
    while embedded.backend.warm_sets().await? == 0 {
        ensure!(Instant::now() < until, "the warm pool is filled");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let version = plane
        .versions(page)
        .await?
        .items
        .into_iter()
        .next()
        .context("no version")?;

    let begin = Instant::now();
    let request = CreateInstance {
        cpu: 1u64.try_into()?,
        ram: 512u64.try_into()?,
        disk: 8u64.try_into()?,
        nodes: 3u64.try_into()?,
        sync_replicas: 1u64.try_into()?,
        ..CreateInstance::new("core".parse()?, version.id)
    };
    let id = plane.create_instance(request).await?.id;
    let user = CreateUser::new("app".parse()?, Password::new(PASSWORD)?);
    let user = plane.create_user(id, user).await?.id;
    let database = CreateDatabase::new("shop".parse()?, user);
    plane.create_database(id, database).await?;
    let case = Case { plane, id, uri };
    case.healed(3).await?;
    eprintln!("three nodes ACTIVE after {:?}", begin.elapsed());
    let until = Instant::now() + PATIENCE;
    let table = "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY)";
    case.client().await?.send_until_done(table, until).await?;
    let fill = "INSERT INTO orders SELECT generate_series(1, 1000) ON CONFLICT DO NOTHING";
    case.client().await?.send_until_done(fill, until).await?;

    let first = case.primary().await?.id;
    virsh(&case.uri, &["destroy", &format!("dbaas-{id}-{first}")])?;
    eprintln!("destroyed: written after {:?}", case.write(1001).await?);
    assert_eq!(
        case.rows().await?,
        "1001",
        "nothing that was acknowledged is lost"
    );
    case.healed(3).await?;
    let second = case.primary().await?.id;
    assert_ne!(first, second, "another one took over");
    eprintln!("healed after {:?} in all", begin.elapsed());
    if extent == Extent::Whole {
        the_rest(&case, first).await?;
    }
    let warned = plane.instance(id).await?.status.warnings;
    let emulated =
        virsh(&case.uri, &["dumpxml", &format!("dbaas-{id}-{first}")])?.contains("<domain type='qemu'");
    assert_eq!(
        warned.iter().any(|warning| warning.contains("emulated")),
        emulated,
        "{warned:?}"
    );

    plane.delete_instance(id, None).await?;
    let until = Instant::now() + PATIENCE;
    while plane.instance(id).await.is_ok() {
        ensure!(Instant::now() < until, "a deleted instance goes");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let left = virsh(&case.uri, &["list", "--all", "--name"])? + &virsh(&case.uri, &["vol-list", "dbaas"])?;
    assert!(!left.contains(&id.to_string()), "{left}");
    eprintln!("all of it after {:?}", begin.elapsed());
    plane.shutdown(Duration::from_secs(10)).await;
    embedded.backend.remove_warm_pool().await?;
    Ok(())
}

/// What day two brings, from three nodes whose first primary was destroyed.
async fn the_rest(case: &Case<'_>, first: NodeId) -> Result {
    let (plane, id) = (case.plane, case.id);
    plane
        .act_on_instance(id, InstanceAction::Switchover { to: Some(first) })
        .await?;
    eprintln!("switchover: written after {:?}", case.write(1002).await?);
    case.healed(3).await?;
    assert_eq!(case.primary().await?.id, first);

    let fewer = UpdateInstance {
        nodes: Some(2u64.try_into()?),
        ..UpdateInstance::default()
    };
    case.update(fewer).await?;
    case.healed(2).await?;
    let larger = UpdateInstance {
        disk: Some(9u64.try_into()?),
        ..UpdateInstance::default()
    };
    case.update(larger).await?;
    case.healed(2).await?;
    for node in case.nodes().await? {
        let volume = format!("dbaas-{id}-{}.data", node.id);
        let info = virsh(&case.uri, &["vol-info", "--bytes", "--pool", "dbaas", &volume])?;
        assert!(info.contains(&(9u64 << 30).to_string()), "{info}");
    }
    assert_eq!(case.rows().await?, "1002", "a disk grows with the data on it");

    let more = UpdateInstance {
        nodes: Some(3u64.try_into()?),
        ..UpdateInstance::default()
    };
    case.update(more).await?;
    case.healed(3).await?;
    let memory = UpdateInstance {
        ram: Some(640u64.try_into()?),
        ..UpdateInstance::default()
    };
    case.update(memory).await?;
    case.healed(3).await?;
    for node in case.nodes().await? {
        let domain = format!("dbaas-{id}-{}", node.id);
        let info = virsh(&case.uri, &["dominfo", &domain])?;
        assert!(info.contains(&(640 * 1024).to_string()), "{info}");
    }
    assert_eq!(case.rows().await?, "1002", "memory changes with the data there");

    plane.act_on_instance(id, InstanceAction::Stop).await?;
    let until = Instant::now() + PATIENCE;
    while virsh(&case.uri, &["list", "--name"])?.contains(&id.to_string()) {
        ensure!(
            Instant::now() < until,
            "a stopped instance has no machine that runs"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    plane.act_on_instance(id, InstanceAction::Start).await?;
    case.healed(3).await?;
    assert_eq!(case.rows().await?, "1002");
    Ok(())
}
