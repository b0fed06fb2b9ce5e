//! [`Cluster`]: an instance with a user and a database, faults on its nodes, and the promises to hold it to.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_controller::request::{CreateDatabase, CreateInstance, CreateUser, UpdateInstance};
use dbaas_controller::view::Node;
use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::id::{DatabaseId, InstanceId, NodeId, UserId, VersionId};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::node::NodeRole;
use dbaas_core::password::Password;
use dbaas_core::secret::Secret;
use dbaas_store::Sealer;
use dbaas_workload::amcheck::{check_structures, install_amcheck};
use dbaas_workload::client::{Access, Client, ClientOptions, Target};
use dbaas_workload::compare::compare_nodes;
use dbaas_workload::set::SetReport;
use rustix::process::Signal;

use crate::docker::DockerPlace;
use crate::fault;
use crate::stack::Stack;

/// The password of the user that [`Cluster::create`] makes.
pub const PASSWORD: &str = "correct horse battery";
/// How long a cluster may take to become, or become again, as asked for.
pub const HEAL: Duration = Duration::from_secs(120);

/// An instance with a user and a database.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The instance.
    pub id: InstanceId,
    /// Its user `app`.
    pub user: UserId,
    /// Its database `shop`.
    pub database: DatabaseId,
}

impl Cluster {
    /// Asks for an instance with a user and a database and waits until all three are ACTIVE.
    pub async fn create(
        stack: &Stack,
        name: &str,
        nodes: u64,
        k: u64,
        major: Option<u32>,
    ) -> anyhow::Result<Cluster> {
        let cluster = Self::request(stack, name, nodes, k, major).await?;
        cluster.wait_ready(stack).await?;
        Ok(cluster)
    }

    /// Asks for them without waiting.
    pub async fn request(
        stack: &Stack,
        name: &str,
        nodes: u64,
        k: u64,
        major: Option<u32>,
    ) -> anyhow::Result<Cluster> {
        let plane = stack.plane()?;
        let request = CreateInstance {
            cpu: 1u64.try_into()?,
            ram: 512u64.try_into()?,
            disk: 8u64.try_into()?,
            nodes: nodes.try_into()?,
            sync_replicas: k.try_into()?,
            ..CreateInstance::new(name.parse()?, stack.version(major).await?)
        };
        let id = plane.create_instance(request).await?.id;
        let user = CreateUser::new("app".parse()?, Password::new(PASSWORD)?);
        let user = plane.create_user(id, user).await?.id;
        let database = CreateDatabase::new("shop".parse()?, user);
        let database = plane.create_database(id, database).await?.id;
        Ok(Cluster { id, user, database })
    }

    /// Waits until instance, user and database are ACTIVE.
    pub async fn wait_ready(&self, stack: &Stack) -> anyhow::Result<()> {
        let plane = stack.plane()?;
        let patience = stack.patience();
        plane
            .wait_for_instance(self.id, Lifecycle::Active, patience)
            .await?;
        plane
            .wait_for_user(self.id, self.user, ObjectLifecycle::Active, patience)
            .await?;
        plane
            .wait_for_database(self.id, self.database, ObjectLifecycle::Active, patience)
            .await?;
        Ok(())
    }

    /// The nodes as the control plane shows them.
    pub async fn nodes(&self, stack: &Stack) -> anyhow::Result<Vec<Node>> {
        Ok(stack.plane()?.nodes(self.id).await?)
    }

    /// The primary as the control plane shows it.
    pub async fn primary(&self, stack: &Stack) -> anyhow::Result<Node> {
        let nodes = self.nodes(stack).await?;
        nodes
            .into_iter()
            .find(|n| n.role == NodeRole::Primary)
            .context("there is no primary")
    }

    /// The standbys as the control plane shows them.
    pub async fn standbys(&self, stack: &Stack) -> anyhow::Result<Vec<Node>> {
        let nodes = self.nodes(stack).await?;
        Ok(nodes
            .into_iter()
            .filter(|n| n.role == NodeRole::Standby)
            .collect())
    }

    /// Where a node's processes work, where they are this machine's.
    pub fn data_dir(&self, stack: &Stack, node: NodeId) -> PathBuf {
        stack
            .directory()
            .join("nodes")
            .join(self.id.to_string())
            .join(node.to_string())
    }

    /// Sends a signal to every process of a node; what comes nearest to it where nodes are containers or
    /// machines.
    pub fn signal(&self, stack: &Stack, node: NodeId, signal: Signal) -> anyhow::Result<()> {
        if let Some(docker) = stack.docker() {
            return docker.signal(node, signal);
        }
        if let Some(libvirt) = stack.libvirt() {
            return libvirt.signal(self.id, node, signal);
        }
        let found = fault::signal_under(&self.data_dir(stack, node), signal);
        ensure!(found > 0, "node {node} has no process to signal");
        Ok(())
    }

    /// Every process of a node, as this machine numbers them; of a virtual machine none.
    pub fn processes(&self, stack: &Stack, node: NodeId) -> anyhow::Result<Vec<i32>> {
        match stack.docker() {
            Some(docker) => docker.processes(node),
            None if stack.libvirt().is_some() => Ok(Vec::new()),
            None => Ok(fault::processes_under(&self.data_dir(stack, node))),
        }
    }

    /// Takes a node's disk away, with all that is on it.
    pub fn lose_disk(&self, stack: &Stack, node: NodeId) -> anyhow::Result<()> {
        if let Some(docker) = stack.docker() {
            return docker.remove(node);
        }
        if let Some(libvirt) = stack.libvirt() {
            return libvirt.lose_disk(self.id, node);
        }
        let directory = self.data_dir(stack, node);
        // Gone in one moment, from under the server, so that nobody starts it on half of a disk.
        let lost = directory.join("lost-disk");
        std::fs::rename(directory.join("data"), &lost).context("the node has no data")?;
        fault::kill_everything_under(&lost);
        Ok(std::fs::remove_dir_all(lost)?)
    }

    /// All client endpoints.
    pub async fn endpoints(&self, stack: &Stack) -> anyhow::Result<Vec<Endpoint>> {
        Ok(stack.plane()?.connection(self.id).await?.endpoints)
    }

    /// How a client of `shop` connects.
    pub async fn target(&self, stack: &Stack) -> anyhow::Result<Target> {
        Ok(Target {
            hosts: self.endpoints(stack).await?,
            database: "shop".to_owned(),
            user: "app".to_owned(),
            password: Secret::new(PASSWORD),
        })
    }

    /// How the control plane itself connects: its password is read from the store, as only somebody with the
    /// key can.
    pub async fn admin(&self, stack: &Stack) -> anyhow::Result<Target> {
        let record = self.record(stack).await?;
        let sealer = Sealer::load(&stack.directory().join("dbaas.key"))?;
        let opened = sealer.open(self.id.uuid().as_bytes(), &record.sealed_credentials)?;
        let json: serde_json::Value = serde_json::from_slice(&opened)?;
        let password = json["admin"]
            .as_str()
            .context("sealed credentials have no admin password")?;
        Ok(Target {
            hosts: self.endpoints(stack).await?,
            database: "postgres".to_owned(),
            user: ADMIN_ROLE.to_owned(),
            password: Secret::new(password),
        })
    }

    /// Asks for another version.
    pub async fn change_version(&self, stack: &Stack, version: VersionId) -> anyhow::Result<()> {
        let change = UpdateInstance {
            version: Some(version),
            ..UpdateInstance::default()
        };
        stack.plane()?.update_instance(self.id, change).await?;
        Ok(())
    }

    /// What each node says that it runs, such as `15.18`.
    pub async fn server_versions(&self, stack: &Stack) -> anyhow::Result<Vec<String>> {
        let admin = self.admin(stack).await?;
        let mut versions = Vec::new();
        for endpoint in &admin.hosts {
            let options = ClientOptions {
                access: Access::Any,
                statement_timeout: Duration::from_secs(10),
                ..ClientOptions::default()
            };
            let mut client = Client::new(admin.at(vec![endpoint.clone()]), options);
            let until = Instant::now() + Duration::from_secs(30);
            let rows = client.send_until_done("SHOW server_version", until).await?;
            let said = rows.first().and_then(|row| row.first()?.as_deref());
            // Distributions add what is theirs: `15.18 (Debian 15.18-0+deb12u1)`.
            let version = said.and_then(|said| said.split_whitespace().next());
            versions.push(version.context("a server names no version")?.to_owned());
        }
        Ok(versions)
    }

    /// The instance as the planner sees it.
    pub async fn record(&self, stack: &Stack) -> anyhow::Result<InstanceRecord> {
        Ok(stack.plane()?.instance_record(self.id).await?)
    }

    /// Waits until the instance is ACTIVE with so many nodes, all of them ACTIVE, one of them primary.
    pub async fn wait_healed(&self, stack: &Stack, nodes: usize) -> anyhow::Result<()> {
        let until = Instant::now() + stack.patience();
        loop {
            let record = self.record(stack).await?;
            let views = self.nodes(stack).await?;
            let good = record.status.lifecycle == Lifecycle::Active
                && record.status.observed_generation == record.generation
                && views.len() == nodes
                && views.iter().all(|n| n.lifecycle == Lifecycle::Active)
                && views.iter().filter(|n| n.role == NodeRole::Primary).count() == 1
                && record.cluster.as_ref().is_some_and(|c| !c.is_joint());
            if good {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "not healed: {} ({}); nodes: {:#?}; cluster: {:?}; {}",
                    record.status.lifecycle,
                    record.status.reason,
                    views
                        .iter()
                        .map(|n| (&n.name, n.role, n.lifecycle, &n.reason))
                        .collect::<Vec<_>>(),
                    record.cluster,
                    self.story(stack).await
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The log of what happened, one line per event.
    pub async fn events(&self, stack: &Stack) -> anyhow::Result<Vec<String>> {
        let events = stack.plane()?.events(self.id, 0, 1000).await?;
        Ok(events
            .into_iter()
            .map(|e| format!("{} {}: {}", e.event.at, e.event.kind, e.event.message))
            .collect())
    }

    /// What happened, and how each node is left: for whoever has to find out why a cluster does not heal.
    pub async fn story(&self, stack: &Stack) -> String {
        let events = self.events(stack).await.map(|events| events.join("\n"));
        let words = self.last_words(stack).await;
        let tell =
            |told: anyhow::Result<String>| told.unwrap_or_else(|error| format!("cannot be told: {error:#}"));
        format!("events:\n{}\nnodes:\n{}", tell(events), tell(words))
    }

    /// What each node says of itself, what its processes do, and the last that its server wrote.
    async fn last_words(&self, stack: &Stack) -> anyhow::Result<String> {
        const LINES: usize = 20;
        let admin = self.admin(stack).await?;
        let mut words = String::new();
        for node in self.nodes(stack).await? {
            let record = node;
            let says = match record.endpoint {
                Some(endpoint) => says(admin.at(vec![endpoint])).await,
                None => "it has no address".to_owned(),
            };
            let doing = match stack.docker() {
                Some(_) => Vec::new(),
                None => fault::doing_under(&self.data_dir(stack, record.id)),
            };
            let log = match (stack.docker(), stack.libvirt()) {
                (Some(docker), _) => docker.logs(&DockerPlace::name(record.id), 2_000)?,
                (None, Some(libvirt)) => libvirt.logs(self.id, record.id).unwrap_or_default(),
                (None, None) => {
                    std::fs::read_to_string(self.data_dir(stack, record.id).join("log")).unwrap_or_default()
                }
            };
            // Clients that look for the primary say the same thing over and over.
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("app@shop")).collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
            words.push_str(&format!(
                "{} ({}): {says}\n  {}\n  {last}\n",
                record.name,
                record.reason,
                doing.join("\n  ")
            ));
        }
        Ok(words)
    }

    /// Holds the cluster to its promise: every acknowledged row is there, on the primary and on every other
    /// node, and all their tables and indexes are sound.
    pub async fn assert_nothing_lost(&self, stack: &Stack, report: &SetReport) -> anyhow::Result<()> {
        let target = self.target(stack).await?;
        let verdict = report.verify(&target, Access::ReadWrite).await?;
        ensure!(
            verdict.is_sound(),
            "acknowledged rows are missing or changed: {verdict:?}; events: {}",
            self.events(stack).await?.join("\n")
        );
        let admin = self.admin(stack).await?;
        let amcheck = install_amcheck(&admin, Instant::now() + stack.patience() / 2).await?;
        // Waits until all nodes have all of it, the extension too.
        let comparison = compare_nodes(&target.hosts, &admin, stack.patience() / 2).await?;
        ensure!(
            comparison.is_equal(),
            "nodes differ: {:?}",
            comparison.differences
        );
        ensure!(
            comparison.rows >= report.acknowledged,
            "compared {} rows of {}",
            comparison.rows,
            report.acknowledged
        );
        if !amcheck {
            tracing::error!(
                "SKIPPED: this PostgreSQL has no amcheck: tables and indexes are compared, not verified"
            );
            return Ok(());
        }
        let corrupted = check_structures(&target.hosts, &admin, stack.patience()).await?;
        ensure!(
            corrupted.is_empty(),
            "tables or indexes are broken: {corrupted:?}"
        );
        Ok(())
    }
}

/// What decides whether a node is sealed, promoted or stuck, as it says.
async fn says(target: Target) -> String {
    const ASK: &str = "SELECT json_build_object('in_recovery', pg_is_in_recovery(), 'epoch', current_setting('dbaas.epoch', true), \
         'conninfo', current_setting('primary_conninfo'), 'names', current_setting('synchronous_standby_names'), \
         'received', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END, \
         'replayed', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END, \
         'waits', (SELECT json_agg(concat_ws(' ', pid, backend_type, usename, state, wait_event_type, wait_event, left(query, 60))) \
             FROM pg_stat_activity), 'loaded', pg_conf_load_time(), 'now', now())";
    let options = ClientOptions {
        access: Access::Any,
        statement_timeout: Duration::from_secs(3),
        ..ClientOptions::default()
    };
    let until = Instant::now() + Duration::from_secs(5);
    match Client::new(target, options).send_until_done(ASK, until).await {
        Ok(rows) => format!("{:?}", rows.first()),
        Err(error) => format!("no answer: {error}"),
    }
}
