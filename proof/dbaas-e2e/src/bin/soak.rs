//! A server with little to do for a long time; see `--help`.
#![allow(clippy::print_stdout)]

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use dbaas_e2e::soak::{Sample, assert_flat, serve, work};
use dbaas_e2e::{Cluster, Stack};

/// Watches a server's memory, descriptors and threads for a long time at a low load: reads, users,
/// switchovers.
///
/// Fails unless they are flat. Everything runs on loopback in a directory of its own and ends by itself.
/// Example: cargo run --release -p dbaas-e2e --bin dbaas-soak -- --minutes 60
#[derive(Parser)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Be the server, until standard input ends.
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.serve {
        return be_the_server().await;
    }
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = soak(&mut child, arguments.minutes).await;
    // It cleans up and ends.
    drop(child.stdin.take());
    let until = Instant::now() + Duration::from_secs(30);
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    outcome
}

async fn soak(child: &mut std::process::Child, minutes: u64) -> anyhow::Result<()> {
    let output = child.stdout.take().context("the server has no output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line).map(|_| line)
    })
    .await??;
    let mut words = line.split_whitespace();
    let server = words.next().context("the server did not start")?.parse()?;
    let instances: Vec<String> = words.map(str::to_owned).collect();
    ensure!(!instances.is_empty(), "the server has no instances");
    println!("{} instances on {server}, {minutes} minutes", instances.len());
    let (begin, pid) = (Instant::now(), child.id());
    let mut samples = Vec::new();
    let done = work(
        server,
        &instances,
        Duration::from_secs(minutes.saturating_mul(60)),
        |work| {
            let sample = Sample::of(pid)?;
            samples.push(sample);
            if samples.len() % 6 == 1 {
                println!("{:>5} s: {sample:?} {work:?}", begin.elapsed().as_secs());
            }
            Ok(())
        },
    )
    .await?;
    let (before, after) = assert_flat(&samples)?;
    println!("flat: second quarter {before:?}, last quarter {after:?}; {done:?}");
    Ok(())
}

async fn be_the_server() -> anyhow::Result<()> {
    let stack = Stack::start()
        .await?
        .context("this machine has no PostgreSQL; see ci/setup")?;
    let mut instances = Vec::new();
    for (name, nodes, k) in [("three", 3, 1), ("two", 2, 1), ("one", 1, 0)] {
        instances.push(
            Cluster::create(&stack, name, nodes, k, None)
                .await?
                .id
                .to_string(),
        );
    }
    let ended = async {
        let _ =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
    };
    let plane = stack.plane()?.clone();
    serve(
        plane,
        |address| println!("{address} {}", instances.join(" ")),
        ended,
    )
    .await
}
