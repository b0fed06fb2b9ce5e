//! Managed PostgreSQL as a REST server on this machine: the embedded default behind [`dbaas_http`].
//!
//! `cargo run --release -p dbaas-server -- --help` says everything. As a library, for programs that have the
//! server as one of their commands: [`ServerOptions`] and [`run`].

mod access;
mod cli;
mod greeting;
mod serve;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use dbaas_backend_docker::{DockerBackend, DockerOptions};
use dbaas_backend_libvirt::{LibvirtBackend, LibvirtOptions};
use dbaas_backend_local::{LocalOptions, WarmPool};
use dbaas_controller::ControlPlane;
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::infrastructure::InfraError;
use dbaas_embedded::{Embedded, EmbeddedOptions, OpenError};
use dbaas_http::HttpOptions;
use dbaas_store::{DataDirLock, DataDirLockError};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Backend, Cli};

pub use crate::cli::Cli as ServerOptions;

/// How long the controller may take to end its passes.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// How long PostgreSQL servers may take to end in an orderly way.
const STOP_INSTANCES: Duration = Duration::from_secs(30);
/// Between two looks at a lock that is waited for.
const LOCK_POLL: Duration = Duration::from_millis(500);
/// How often metrics are tidied.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Bounds of the buckets for durations, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Serves until the process is told to end (SIGTERM, SIGINT).
pub fn run(cli: ServerOptions) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).context("--log is not a filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime did not start")?;
    let result = runtime.block_on(serve(cli));
    // What still blocks in the background (a download) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    let access = access::access(cli.listen, cli.token_file.as_deref())?;
    let directory = cli.data_directory();
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let mut signals = Signals::new()?;
    let metrics = install_metrics()?;

    // Before anything is touched, unless the other server still has the address.
    let early = if cli.wait_for_lock {
        None
    } else {
        Some(bind(&cli, &directory).await?)
    };
    let opening = open(&cli, &directory);
    let embedded = tokio::select! {
        opened = opening => opened?,
        () = signals.next() => return Ok(()),
    };
    let listener = match early {
        Some(listener) => listener,
        None => bind(&cli, &directory).await?,
    };
    let address = listener.local_addr().context("the listener has no address")?;

    let (stop, stopping) = watch::channel(false);
    let handle = metrics.clone();
    let options = HttpOptions::new(access.clone())
        .with_stopping(stopping)
        .with_list_style(cli.list_style.into())
        .with_metrics(move || handle.render());
    let router = dbaas_http::router(embedded.control_plane().clone(), options);
    let greeting = greeting::greeting(embedded.control_plane(), address, &directory, &access).await;
    let _ = std::io::stdout().write_all(greeting.as_bytes());
    let _ = std::io::stdout().flush();

    let end = async {
        let mut upkeep = tokio::time::interval(METRICS_UPKEEP);
        loop {
            tokio::select! {
                () = signals.next() => break,
                _ = upkeep.tick() => metrics.run_upkeep(),
            }
        }
        tracing::info!("ending: requests in hand are finished first");
        let _ = stop.send(true);
    };
    let drained = serve::serve(listener, router, end, cli.drain_timeout).await;
    if !drained {
        tracing::warn!("some requests did not end in time");
    }
    tokio::select! {
        result = end_all(embedded, cli.stop_instances_on_exit) => result,
        () = signals.next() => {
            tracing::warn!("told to end again: ending at once");
            Ok(())
        }
    }
}

async fn bind(cli: &Cli, directory: &Path) -> anyhow::Result<TcpListener> {
    let error = match TcpListener::bind(cli.listen).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    // If it is because a server on the same directory runs already, that is the thing to say.
    if directory.is_dir()
        && let Err(locked @ DataDirLockError::Locked { .. }) = DataDirLock::acquire(directory)
    {
        return Err(anyhow::Error::new(locked).context(HINT_LOCKED));
    }
    Err(anyhow::Error::new(error).context(format!("cannot listen on {}", cli.listen)))
}

const HINT_LOCKED: &str = "another server is at work (--wait-for-lock waits until it has ended)";

/// Opens the data directory; waits for its lock if told so.
async fn open(cli: &Cli, directory: &Path) -> anyhow::Result<Running> {
    let mut said = false;
    loop {
        let opened = match cli.backend {
            Backend::Local => dbaas_embedded::open(directory, embedded_options(cli))
                .await
                .map(Running::Local),
            Backend::Docker => open_on_docker(cli, directory).await,
            Backend::Libvirt => open_on_libvirt(cli, directory).await,
        };
        match opened {
            Ok(running) => return Ok(running),
            Err(OpenError::Lock(locked @ DataDirLockError::Locked { .. })) => {
                if !cli.wait_for_lock {
                    return Err(anyhow::Error::new(locked).context(HINT_LOCKED));
                }
                if !std::mem::replace(&mut said, true) {
                    tracing::info!("waiting: {locked}");
                }
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The control plane, whatever its nodes are.
enum Running {
    Local(Embedded),
    Docker(Embedded<DockerBackend>),
    Libvirt(Embedded<LibvirtBackend>),
}

impl Running {
    fn control_plane(&self) -> &ControlPlane {
        match self {
            Running::Local(embedded) => &embedded.control_plane,
            Running::Docker(embedded) => &embedded.control_plane,
            Running::Libvirt(embedded) => &embedded.control_plane,
        }
    }

    async fn stop_all(&self, deadline: Duration) -> Result<(), InfraError> {
        match self {
            Running::Local(embedded) => embedded.backend.stop_all(deadline).await,
            Running::Docker(embedded) => embedded.backend.stop_all(deadline).await,
            Running::Libvirt(embedded) => embedded.backend.stop_all(deadline).await,
        }
    }
}

async fn open_on_docker(cli: &Cli, directory: &Path) -> Result<Running, OpenError> {
    let options = DockerOptions {
        host: cli.docker_host.clone(),
        owner: dbaas_embedded::owner(directory)?,
        publish_address: cli.publish_address,
        advertise_host: cli.advertise_host.clone(),
        pull: !cli.no_pull,
        registry_login_file: cli.registry_logins.clone(),
        disk_limits: cli.docker_disk_limits.clone(),
        ..DockerOptions::default()
    };
    let backend = async { DockerBackend::connect(options) };
    dbaas_embedded::open_on(directory, backend, ControllerSettings::default())
        .await
        .map(Running::Docker)
}

async fn open_on_libvirt(cli: &Cli, directory: &Path) -> Result<Running, OpenError> {
    let options = LibvirtOptions {
        uri: cli.libvirt_uri.clone(),
        network: cli.libvirt_network.clone(),
        addresses: cli.libvirt_addresses,
        gateway: cli.libvirt_gateway,
        advertise_host: cli.advertise_host.clone(),
        advertise_ports: cli.node_ports.clone(),
        pool: cli.libvirt_pool.clone(),
        owner: dbaas_embedded::owner(directory)?,
        ..LibvirtOptions::default()
    };
    let backend = async { LibvirtBackend::connect(options) };
    dbaas_embedded::open_on(directory, backend, ControllerSettings::default())
        .await
        .map(Running::Libvirt)
}

fn embedded_options(cli: &Cli) -> EmbeddedOptions {
    let local = LocalOptions {
        postgres_dirs: cli.postgres_dir.clone(),
        run_as: cli.run_as.clone(),
        listen_address: cli.node_address,
        advertise_host: cli.advertise_host.clone(),
        allow_clients: cli.allow_clients.clone(),
        port_range: cli.node_ports.clone(),
        cgroup: cli.cgroup.clone(),
        warm_pool: WarmPool {
            sets: cli.warm_pool.into(),
            ..WarmPool::default()
        },
        allow_download: !cli.no_download,
        ..LocalOptions::default()
    };
    EmbeddedOptions {
        local,
        ..EmbeddedOptions::default()
    }
}

async fn end_all(embedded: Running, stop_instances: bool) -> anyhow::Result<()> {
    embedded.control_plane().shutdown(SHUTDOWN).await;
    if !stop_instances {
        tracing::info!("ended; PostgreSQL servers go on, and the next start adopts them");
    } else {
        tracing::info!("switching off every instance");
        embedded
            .stop_all(STOP_INSTANCES)
            .await
            .context("not every instance could be switched off")?;
    }
    Ok(())
}

fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be kept")?;
    dbaas_controller::metrics::describe();
    Ok(handle)
}

/// The signals that tell the server to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let signal = |kind| signal(kind).context("signals cannot be received");
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
