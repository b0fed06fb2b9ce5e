//! The same on a Docker Engine: from the request to usable, and the write pause, each beside what somebody
//! does with the `docker` program and SQL.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_workload::client::{Access, Client, Target};
use dbaas_workload::set::SetWorkload;

use super::BenchOptions;
use super::by_hand::{free_port, patient};
use super::elsewhere::{Pauses, Place, Usable, usable};
use super::failover::{Fault, libpq, one_writer, promote_by_hand, streaming};
use super::figures::{Samples, Table};
use crate::cluster::PASSWORD;
use crate::docker::DockerPlace;
use crate::{Cluster, Stack};

const DOCKER: Place = Place {
    name: "Docker",
    within: Duration::from_secs(120),
    calm: Duration::from_millis(700),
    floor: "floor: docker run until it accepts, CREATE ROLE, CREATE DATABASE by hand",
    times: 1.3,
    faults: told,
};

/// Measures. `progress` is told of each sample.
pub async fn run(options: &BenchOptions, progress: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Table>> {
    let stack = Stack::start_on_docker()
        .await?
        .context("no Docker Engine; set DBAAS_DOCKER_HOST")?;
    let image = image(&stack, options).await?;
    let by_hand = ByHand {
        place: stack.docker().context("not on Docker")?,
        image: &image,
    };
    let cluster = Cluster::create(&stack, "failover", 3, 1, options.major).await?;
    let target = cluster.target(&stack).await?;
    let (mut figures, mut killed_by_hand) = (Usable::default(), Samples::default());
    let mut pauses = Pauses::of(vec![("like libpq", libpq())]);
    for round in 0..options.runs {
        let floor = by_hand.usable().await?;
        figures.floor.push(floor);
        let one = usable(&stack, &DOCKER, &format!("one-{round}"), (1, 0), options).await?;
        figures.one.push(one);
        let three = usable(&stack, &DOCKER, &format!("three-{round}"), (3, 1), options).await?;
        figures.three.push(three);
        let killed = by_hand.killed().await?;
        killed_by_hand.push(killed);
        progress(format!(
            "round {}: by hand {floor:?}, one node {one:?}, three {three:?}; killed by hand {killed:?}",
            round + 1
        ));
        pauses.round(&stack, &cluster, &target, round, progress).await?;
    }
    let mut tables = vec![figures.table(&DOCKER, Vec::new())];
    let floor = "floor: docker kill, pg_promote and re-pointing by hand, k = 1";
    tables.extend(pauses.tables(&DOCKER, Some((floor, &killed_by_hand))));
    Ok(tables)
}

fn told(fault: Fault) -> (&'static str, Duration) {
    match fault {
        Fault::Kill => ("docker kill", Duration::from_millis(1_200)),
        Fault::Freeze => ("docker pause", Duration::from_secs(5)),
        Fault::Switchover => ("switchover", Duration::from_secs(1)),
    }
}

/// The image that the instances of this run have.
async fn image(stack: &Stack, options: &BenchOptions) -> anyhow::Result<String> {
    let version = stack.version(options.major).await?;
    let record = stack.plane()?.version(version).await?;
    Ok(record.image.to_string())
}

/// Containers without a control plane. What they are labelled with has them removed with the stack.
struct ByHand<'a> {
    place: &'a DockerPlace,
    image: &'a str,
}

impl ByHand<'_> {
    /// `docker run` until it accepts, then the SQL.
    async fn usable(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let server = self.server("by-hand", free_port()?, None, &[])?;
        let mut admin = server.connect("postgres", "postgres").await?;
        admin
            .send(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"))
            .await?;
        admin
            .send("CREATE DATABASE shop OWNER app TEMPLATE template0")
            .await?;
        let mut user = server.connect("app", "shop").await?;
        let usable = started.elapsed();
        user.disconnect();
        admin.disconnect();
        drop(server);
        tokio::time::sleep(DOCKER.calm).await;
        Ok(usable)
    }

    /// The stock image as anybody runs it, with the limits that the instances have. `docker run` and nothing
    /// else.
    fn server(
        &self,
        name: &str,
        port: u16,
        network: Option<&str>,
        settings: &[&str],
    ) -> anyhow::Result<Server<'_>> {
        let server = Server {
            place: self.place,
            name: format!("{name}-{port}"),
            port,
        };
        let publish = format!("127.0.0.1:{port}:5432");
        let volume = format!("{}:/var/lib/postgresql/data", server.name);
        let password = format!("POSTGRES_PASSWORD={PASSWORD}");
        let label = self.place.label();
        let mut arguments = vec![
            "run",
            "-d",
            "--name",
            &server.name,
            "--label",
            &label,
            "-p",
            &publish,
        ];
        arguments.extend(["--memory", "512m", "--cpus", "1", "-v", &volume, "-e", &password]);
        arguments.extend(["-e", "POSTGRES_INITDB_ARGS=--data-checksums"]);
        arguments.extend(network.iter().flat_map(|network| ["--network", network]));
        arguments.extend([self.image, "postgres"]);
        arguments.extend(settings.iter().flat_map(|setting| ["-c", setting]));
        self.place.docker(&arguments)?;
        Ok(server)
    }

    /// A primary and two standbys; the primary is killed, and somebody knows at once what to do.
    async fn killed(&self) -> anyhow::Result<Duration> {
        let network = Network {
            place: self.place,
            name: format!("by-hand-{}", free_port()?),
        };
        let label = self.place.label();
        self.place
            .docker(&["network", "create", "--label", &label, &network.name])?;
        let primary = self.server(
            "p",
            free_port()?,
            Some(&network.name),
            &["synchronous_standby_names="],
        )?;
        let mut admin = primary.connect("postgres", "postgres").await?;
        let trust = "echo 'host replication all all trust' >> $PGDATA/pg_hba.conf";
        self.place
            .docker(&["exec", "-u", "postgres", &primary.name, "sh", "-c", trust])?;
        admin.send("SELECT pg_reload_conf()").await?;
        let mut standbys = Vec::new();
        for (name, other) in [("s1", "s2"), ("s2", "s1")] {
            standbys.push(self.standby(&network, &primary, name, other).await?);
        }
        admin
            .send("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s1, s2)'")
            .await?;
        admin.send("SELECT pg_reload_conf()").await?;
        streaming(&mut admin, 2).await?;
        let mut operators = Vec::new();
        let addresses = [standbys[0].conninfo("s2")?, standbys[1].conninfo("s1")?];
        for standby in &standbys {
            operators.push(standby.connect("postgres", "postgres").await?);
        }
        let target = Target {
            hosts: [&primary]
                .into_iter()
                .chain(&standbys)
                .map(Server::endpoint)
                .collect(),
            ..primary.target("postgres", "postgres")
        };
        let workload = SetWorkload::start(&target, &one_writer(&libpq())).await?;
        ensure!(
            workload.wait_for_acknowledged(100, Duration::from_secs(20)).await,
            "no writes"
        );
        let at = Instant::now();
        self.place.docker(&["kill", &primary.name])?;
        let pause = promote_by_hand(&mut operators, &addresses, workload, at).await?;
        drop((primary, standbys, network));
        tokio::time::sleep(DOCKER.calm).await;
        Ok(pause)
    }

    async fn standby(
        &self,
        network: &Network<'_>,
        primary: &Server<'_>,
        name: &str,
        other: &str,
    ) -> anyhow::Result<Server<'_>> {
        let port = free_port()?;
        let volume = format!("{name}-{port}:/var/lib/postgresql/data");
        let source = primary.conninfo(name)?;
        let label = self.place.label();
        // Without `-R`: what that writes may be of a newer libpq than the server's own.
        let backup = format!(
            "chmod 700 $PGDATA; pg_basebackup -D $PGDATA -X stream -c fast -d \"{source}\" && touch $PGDATA/standby.signal && \
             echo \"primary_conninfo = '{source}'\" >> $PGDATA/postgresql.auto.conf"
        );
        let mut arguments = vec![
            "run",
            "--rm",
            "--label",
            &label,
            "--network",
            &network.name,
            "-v",
            &volume,
        ];
        arguments.extend([
            "--user",
            "postgres",
            "--entrypoint",
            "sh",
            self.image,
            "-c",
            &backup,
        ]);
        self.place.docker(&arguments)?;
        let wait_for = format!("synchronous_standby_names=ANY 1 ({other})");
        let settings = [wait_for.as_str(), "wal_retrieve_retry_interval=50ms"];
        self.server(name, port, Some(&network.name), &settings)
    }
}

/// A container; removed with its volume when dropped.
struct Server<'a> {
    place: &'a DockerPlace,
    name: String,
    port: u16,
}

impl Server<'_> {
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    fn target(&self, user: &str, database: &str) -> Target {
        Target {
            hosts: vec![self.endpoint()],
            database: database.to_owned(),
            user: user.to_owned(),
            password: Secret::new(PASSWORD),
        }
    }

    /// A session, tried for until the server takes it.
    async fn connect(&self, user: &str, database: &str) -> anyhow::Result<Client> {
        let mut client = Client::new(self.target(user, database), patient(Access::Any));
        client.connect(Instant::now() + DOCKER.within).await?;
        Ok(client)
    }

    /// How another container follows it: by address, because Docker's name server takes seconds for the name
    /// of a container that is off.
    fn conninfo(&self, application_name: &str) -> anyhow::Result<String> {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let host = self.place.docker(&["inspect", "-f", address, &self.name])?;
        Ok(format!(
            "host={host} user=postgres application_name={application_name}"
        ))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // The place removes what stays.
        let _ = self.place.docker(&["rm", "-f", "-v", &self.name]);
        let _ = self.place.docker(&["volume", "rm", "-f", &self.name]);
    }
}

struct Network<'a> {
    place: &'a DockerPlace,
    name: String,
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let _ = self.place.docker(&["network", "rm", &self.name]);
    }
}
