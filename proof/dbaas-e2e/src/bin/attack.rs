//! Random faults on real PostgreSQL; see `--help`.
#![allow(clippy::print_stdout)]

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use dbaas_e2e::Stack;
use dbaas_e2e::attack::{AttackOptions, Fault, attack};
use tokio::signal::unix::{SignalKind, signal};

/// Attacks real clusters on this machine with random faults, and checks after each that nothing acknowledged
/// is missing.
///
/// Everything runs on loopback in a directory of its own and ends by itself. Example:
///   cargo run --release -p dbaas-e2e --bin dbaas-attack -- --faults 100 --nodes 3 --k 1 --seed 1
#[derive(Parser)]
struct Arguments {
    /// Decides which faults come, when and where.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults.
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Synchronous replicas.
    #[arg(long, default_value_t = 1)]
    k: u64,
    /// On containers of the Docker Engine that DBAAS_DOCKER_HOST names: `ci/docker/with-engine` starts one.
    #[arg(long)]
    docker: bool,
    /// On virtual machines of the libvirt that DBAAS_LIBVIRT_URI names: `ci/libvirt/with-libvirtd` starts
    /// one.
    #[arg(long, conflicts_with = "docker")]
    libvirt: bool,
    /// Only these kinds of faults, with commas between.
    #[arg(
        long,
        value_delimiter = ',',
        ignore_case = true,
        value_enum,
        hide_possible_values = true
    )]
    only: Vec<Fault>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        seed,
        faults,
        nodes,
        k,
        docker,
        libvirt,
        only,
    } = Arguments::parse();
    let mut stack = if docker {
        let stack = Stack::start_on_docker().await?;
        stack.context("no Docker Engine: DBAAS_DOCKER_HOST names none")?
    } else if libvirt {
        let stack = Stack::start_on_libvirt().await?;
        stack.context("no libvirt: DBAAS_LIBVIRT_URI names none")?
    } else {
        let stack = Stack::start().await?;
        stack.context("this machine has no PostgreSQL; see ci/setup")?
    };
    let options = AttackOptions {
        seed,
        faults,
        nodes,
        k,
        kinds: if only.is_empty() {
            Fault::value_variants().to_vec()
        } else {
            only
        },
    };
    println!("attacking {nodes} nodes, k = {k}, {faults} faults, seed {seed}");
    let attacked = attack(&mut stack, &options, |number, fault, pause| {
        println!(
            "{:>4} {fault:?}: survived, writes paused {} ms",
            number + 1,
            pause.as_millis()
        );
    });
    // So that everything is ended and deleted also when this is.
    let report = tokio::select! {
        report = attacked => report?,
        () = ended()? => anyhow::bail!("interrupted"),
    };
    println!();
    println!(
        "{:<30} {:>5} {:>9} {:>9} {:>9}  (pause of writes, ms)",
        "fault", "times", "min", "median", "max"
    );
    for (fault, mut pauses) in report.pauses {
        pauses.sort();
        let at = |i: usize| pauses[i].as_millis();
        println!(
            "{:<30} {:>5} {:>9} {:>9} {:>9}",
            format!("{fault:?}"),
            pauses.len(),
            at(0),
            at(pauses.len() / 2),
            at(pauses.len() - 1)
        );
    }
    println!(
        "acknowledged: {} inserts and {} transfers; lost: 0; changed: 0",
        report.acknowledged_inserts, report.acknowledged_transfers
    );
    Ok(())
}

/// Ends with the first SIGINT or SIGTERM.
fn ended() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
