//! Checks the protocol in a configuration given on the command line.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dbaas_model::check::{check, walk};
use dbaas_model::model::{Bounds, Request};
use dbaas_model::world::Budget;

#[derive(Parser)]
#[command(about = "Checks the failover protocol as shipped; see docs/reliability.md")]
struct Arguments {
    /// Nodes of the instance.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Synchronous replicas.
    #[arg(long, default_value_t = 1)]
    k: u8,
    /// Controllers.
    #[arg(long, default_value_t = 1)]
    controllers: u8,
    /// Epochs beyond this are not explored.
    #[arg(long, default_value_t = 3)]
    epochs: u8,
    /// Commits of clients.
    #[arg(long, default_value_t = 2)]
    commits: u8,
    /// Crashes of nodes.
    #[arg(long, default_value_t = 2)]
    crashes: u8,
    /// Nodes frozen.
    #[arg(long, default_value_t = 0)]
    freezes: u8,
    /// Primaries that answer looks and serve nobody.
    #[arg(long, default_value_t = 0)]
    sicknesses: u8,
    /// Links between nodes cut.
    #[arg(long, default_value_t = 0)]
    cuts: u8,
    /// Nodes that start by themselves.
    #[arg(long, default_value_t = 0)]
    self_starts: u8,
    /// Actions delayed or done twice, and controllers paused.
    #[arg(long, default_value_t = 1)]
    delays: u8,
    /// Actions lost, and controllers that crash while they act; 255 is any number.
    #[arg(long, default_value_t = 255)]
    losses: u8,
    /// Looks in which something does not answer although it could.
    #[arg(long, default_value_t = 1)]
    clouded: u8,
    /// Disks lost, each while every other node has a whole copy.
    #[arg(long, default_value_t = 0)]
    disk_losses: u8,
    /// Entries of which a standby receives a part, and nothing more if its primary is lost then.
    #[arg(long, default_value_t = 0)]
    parts: u8,
    /// Nodes that do not answer in one look, at most.
    #[arg(long, default_value_t = 1)]
    unheard: u32,
    /// A switchover is asked for.
    #[arg(long)]
    switchover: bool,
    /// So many nodes are asked for; may be repeated.
    #[arg(long)]
    scale: Vec<u8>,
    /// So many synchronous replicas are asked for; may be repeated.
    #[arg(long)]
    replicas: Vec<u8>,
    /// Looks at the infrastructure may fail.
    #[arg(long)]
    blind: bool,
    /// Standbys may hear from a primary that a controller does not reach.
    #[arg(long)]
    heard: bool,
    /// Replay and connections take time of their own.
    #[arg(long)]
    lazy: bool,
    /// Begin before the instance is made.
    #[arg(long)]
    from_empty: bool,
    /// Check that each state leads to a writable one once faults end.
    #[arg(long)]
    liveness: bool,
    /// Walk at random, from this seed, instead of exploring everything.
    #[arg(long)]
    walk: Option<u64>,
    /// When to give up.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Most steps of a random walk.
const STEPS: usize = 120;

fn main() -> ExitCode {
    let a = Arguments::parse();
    let mut requests = Vec::new();
    requests.extend(a.switchover.then_some(Request::Switchover));
    requests.extend(a.scale.iter().map(|n| Request::Nodes(*n)));
    requests.extend(a.replicas.iter().map(|k| Request::Replicas(*k)));
    let bounds = Bounds {
        nodes: a.nodes,
        k: a.k,
        controllers: a.controllers,
        epochs: a.epochs,
        budget: Budget {
            commits: a.commits,
            crashes: a.crashes,
            freezes: a.freezes,
            sicknesses: a.sicknesses,
            cuts: a.cuts,
            self_starts: a.self_starts,
            delays: a.delays,
            clouded: a.clouded,
            losses: a.losses,
            disk_losses: a.disk_losses,
            parts: a.parts,
            requests: 0,
        },
        requests,
        unheard: a.unheard,
        blind: a.blind,
        heard: a.heard,
        lazy: a.lazy,
        from_empty: a.from_empty,
        prologue: Vec::new(),
        liveness: a.liveness,
    };
    let limit = Duration::from_secs_f64(a.minutes * 60.0);
    let report = match a.walk {
        Some(seed) => walk(bounds, None, limit, a.threads, seed, STEPS),
        None => check(bounds, None, limit, a.threads),
    };
    println!("{report}");
    match &report.counterexample {
        Some((_, trace)) => {
            println!("{trace}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
