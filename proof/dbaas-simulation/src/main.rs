//! The simulation's commands: `seeds` runs many, `replay` shows one, `idle` measures instances that need
//! nothing.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command's output is what it is for.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dbaas_simulation::seed::{self, Outcome};
use dbaas_simulation::{deaths, fleet};

/// Runs the whole controller on simulated infrastructure, PostgreSQL, store and time. One seed decides
/// everything: which faults come when, what users ask for, how long each call takes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds; the promises are checked after every step. Fails if one is broken, and says how to
    /// replay it.
    Seeds {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        count: u64,
        /// Threads; each runs one seed at a time. By default one per core.
        #[arg(long)]
        threads: Option<usize>,
        /// Stop after so many failing seeds.
        #[arg(long, default_value_t = 5)]
        failures: usize,
    },
    /// Run one seed and print what happened, with virtual milliseconds.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Print at most so many lines, the last ones.
        #[arg(long, default_value_t = 20_000)]
        lines: usize,
    },
    /// Kill the primaries of many instances of three nodes in the same instant, in virtual time.
    Deaths {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        instances: usize,
    },
    /// Make idle instances in one controller, in real time, and measure what making them, having them,
    /// listing them and starting with them costs.
    Idle {
        /// How many instances.
        #[arg(long, default_value_t = 10_000)]
        instances: usize,
        /// Nodes of each.
        #[arg(long, default_value_t = 1)]
        nodes: u64,
        /// For how long to measure.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Seeds {
            from,
            count,
            threads,
            failures,
        } => seeds(from, count, threads, failures),
        Command::Replay { seed, lines } => replay(seed, lines),
        Command::Deaths { instances } => {
            println!("{}", deaths::of_primaries(instances)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Idle {
            instances,
            nodes,
            seconds,
        } => {
            println!("{}", fleet::measure(instances, nodes, seconds)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What all seeds together came to.
#[derive(Default)]
struct Totals {
    run: AtomicU64,
    acknowledged: AtomicUsize,
    promotions: AtomicUsize,
    virtual_ms: AtomicU64,
    failed: AtomicUsize,
}

fn seeds(from: u64, count: u64, threads: Option<usize>, failures: usize) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(cores).max(1);
    let (next, totals) = (Arc::new(AtomicU64::new(from)), Arc::new(Totals::default()));
    let end = from.saturating_add(count);
    let began = Instant::now();
    let worker = |_| {
        let (next, totals) = (Arc::clone(&next), Arc::clone(&totals));
        std::thread::spawn(move || -> anyhow::Result<()> {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= end || totals.failed.load(Ordering::SeqCst) >= failures.max(1) {
                    return Ok(());
                }
                let outcome = seed::run(seed).with_context(|| format!("seed {seed}"))?;
                totals.run.fetch_add(1, Ordering::SeqCst);
                totals
                    .acknowledged
                    .fetch_add(outcome.acknowledged, Ordering::SeqCst);
                totals.promotions.fetch_add(outcome.promotions, Ordering::SeqCst);
                totals.virtual_ms.fetch_add(outcome.virtual_ms, Ordering::SeqCst);
                if !outcome.violations.is_empty() {
                    totals.failed.fetch_add(1, Ordering::SeqCst);
                    eprintln!("{}", outcome.report());
                }
            }
        })
    };
    let workers: Vec<_> = (0..threads).map(worker).collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow::anyhow!("a run panicked"))??;
    }
    let failed = totals.failed.load(Ordering::SeqCst);
    println!(
        "{} seeds in {:.1} s: {} hours of virtual time, {} promotions, {} acknowledged commits, {failed} seeds failed",
        totals.run.load(Ordering::SeqCst),
        began.elapsed().as_secs_f64(),
        totals.virtual_ms.load(Ordering::SeqCst) / 3_600_000,
        totals.promotions.load(Ordering::SeqCst),
        totals.acknowledged.load(Ordering::SeqCst),
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn replay(seed: u64, lines: usize) -> anyhow::Result<ExitCode> {
    let outcome: Outcome = seed::run(seed)?;
    let skipped = outcome.trace.len().saturating_sub(lines);
    for (ms, line) in outcome.trace.iter().skip(skipped) {
        println!("{ms:>8} {line}");
    }
    println!(
        "seed {seed}: {} acknowledged commits, {} promotions, {} virtual ms, fingerprint {:016x}",
        outcome.acknowledged, outcome.promotions, outcome.virtual_ms, outcome.fingerprint
    );
    for violation in &outcome.violations {
        println!("BROKEN: {violation}");
    }
    Ok(if outcome.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
