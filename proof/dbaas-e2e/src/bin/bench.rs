//! The benchmark of the project: each figure beside its floor of the same run. See `--help`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use clap::{Parser, ValueEnum};
use dbaas_e2e::bench::by_hand::ByHand;
use dbaas_e2e::bench::figures::Table;
use dbaas_e2e::bench::{BenchOptions, docker, failover, http, libvirt, machine, provision};
use tokio::signal::unix::{SignalKind, signal};

/// Measures what the control plane costs on real PostgreSQL of this machine, each figure beside its floor of
/// the same run.
///
/// Floors are PostgreSQL's own: the same work by hand, by the same unprivileged user, in turns with ours.
/// Figures are in milliseconds and end with the goal that they are held to. Everything runs on loopback, in
/// directories that are deleted at the end. The machine should be idle otherwise: the load average stands
/// beside the figures.
#[derive(Debug, Parser)]
#[command(name = "dbaas-bench", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Samples of each figure.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// The major version of PostgreSQL; the newest of this machine unless given.
    #[arg(long)]
    major: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything.
    All,
    /// From the request to a user who has logged in: one node and three, with a warm pool and without.
    Provision,
    /// The write pause when the primary is killed, frozen, or changed.
    Failover,
    /// The time of a GET at 200 requests a second while instances are created; three seconds for each run.
    Http,
    /// Instances and the write pause on the Docker Engine of DBAAS_DOCKER_HOST, beside the `docker` program;
    /// not a part of all. `ci/docker/bench` runs it on an engine of its own.
    Docker,
    /// The same on the libvirt of DBAAS_LIBVIRT_URI, beside the `virsh` program; not a part of all.
    /// `ci/libvirt/bench` runs it on a libvirtd of its own.
    Libvirt,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = BenchOptions {
        runs: usize::from(arguments.runs),
        major: arguments.major,
    };
    let local = dbaas_backend_local::LocalOptions {
        download_dir: std::env::var_os("DBAAS_TEST_POSTGRES_DIR").map(Into::into),
        ..Default::default()
    };
    if matches!(arguments.what, What::Docker | What::Libvirt) {
        let here = tempfile::tempdir()?;
        let postgres = match arguments.what {
            What::Docker => "PostgreSQL in containers",
            _ => "PostgreSQL in virtual machines",
        };
        println!("{}\n", machine::describe(here.path(), postgres)?);
    } else {
        let here = ByHand::new(&local, options.major)?;
        let postgres = format!("PostgreSQL {}", here.installation.version);
        println!("{}\n", machine::describe(&here.path(""), &postgres)?);
    }
    // So that everything is ended and deleted also when this is.
    tokio::select! {
        done = measure(&arguments, &options) => done,
        () = ended()? => anyhow::bail!("interrupted"),
    }
}

/// Ctrl-C or SIGTERM.
fn ended() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn measure(arguments: &Arguments, options: &BenchOptions) -> anyhow::Result<()> {
    let wanted = |what| arguments.what == What::All || arguments.what == what;
    let mut progress = |line: String| eprintln!("[load {}] {line}", machine::load_average());
    if wanted(What::Provision) {
        show(&provision::run(options, &mut progress).await?);
    }
    if wanted(What::Failover) {
        show(&failover::run(options, &mut progress).await?);
    }
    if wanted(What::Http) {
        show(&http::run(options, &mut progress).await?);
    }
    if arguments.what == What::Docker {
        show(&docker::run(options, &mut progress).await?);
    }
    if arguments.what == What::Libvirt {
        show(&libvirt::run(options, &mut progress).await?);
    }
    Ok(())
}

fn show(tables: &[Table]) {
    println!("Load average at the end: {}\n", machine::load_average());
    for table in tables {
        println!("{}", table.render());
    }
}
