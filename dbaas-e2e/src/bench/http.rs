//! Reading over HTTP at a steady rate while instances are created, beside a server that answers with a constant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::routing::get;
use dbaas_http::{Access, HttpOptions, router};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::BenchOptions;
use super::figures::{Goal, Row, Samples, Table};
use super::provision::delete;
use crate::stack::StackOptions;
use crate::{Cluster, Stack};

/// Requests in a second, to each of the two servers.
const RATE: u32 = 200;
/// Connections to each; every one has a request under way at most.
const CONNECTIONS: u32 = 10;
/// How long a sample of [`BenchOptions::runs`] lasts.
const SAMPLE: Duration = Duration::from_secs(3);
const READ_AT_MOST: usize = 1 << 20;

/// Measures.
pub async fn run(options: &BenchOptions, progress: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Table>> {
    let stack = Arc::new(
        Stack::start_with(StackOptions::default())
            .await?
            .context("no PostgreSQL")?,
    );
    let standing = Cluster::create(&stack, "standing", 3, 1, options.major).await?;
    let plane = stack.plane()?.clone();
    let (ours, _serving) = serve(router(plane, HttpOptions::new(Access::Anyone))).await?;
    let constant = Router::new().fallback(get(|| async { "{\"status\": \"ok\"}" }));
    let (floor, _serving_floor) = serve(constant).await?;
    let id = standing.id;
    let paths: Arc<[String]> = [
        format!("/v1/types/postgres/instances/{id}"),
        "/v1/types/postgres/instances".to_owned(),
        format!("/v1/types/postgres/instances/{id}/nodes"),
        format!("/v1/types/postgres/instances/{id}/databases"),
        "/v1/types/postgres/versions".to_owned(),
    ]
    .into();
    let time = SAMPLE * u32::try_from(options.runs).unwrap_or(u32::MAX);

    let (quiet_floor, quiet) = read(floor, ours, &paths, time / 2).await?;
    progress(format!(
        "http, nothing else: p99 {:?} (floor {:?})",
        quiet.quantile(0.99),
        quiet_floor.quantile(0.99)
    ));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let creating = tokio::spawn(create_until(Arc::clone(&stack), options.major, stopped));
    let result = read(floor, ours, &paths, time).await;
    stop.send_replace(true);
    let created = creating.await.context("creating instances")??;
    let (busy_floor, busy) = result?;
    progress(format!(
        "http, creating: p99 {:?} (floor {:?})",
        busy.quantile(0.99),
        busy_floor.quantile(0.99)
    ));
    ensure!(created > 0, "no instance was created meanwhile");
    let goal = Goal::P99(Duration::from_millis(5));
    Ok(vec![Table {
        title: format!("GET, {RATE} requests a second on {CONNECTIONS} connections"),
        rows: vec![
            Row::new("floor: a constant, nothing else going on", &quiet_floor),
            Row::new("GET, nothing else going on", &quiet).beside(&quiet_floor),
            Row::new("floor: a constant, while instances are created", &busy_floor),
            Row::new("GET, while instances are created", &busy)
                .beside(&busy_floor)
                .goal(goal),
        ],
        notes: vec![format!(
            "From the moment that a request was due to the last byte of its answer. Both servers and the client run in one process; {created} \
             instances were created and deleted meanwhile, two at a time."
        )],
    }])
}

/// A server on the loopback address that ends when its handle is dropped.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(router: Router) -> anyhow::Result<(SocketAddr, Serving)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok((address, Serving(task)))
}

/// Creates and deletes instances, two at a time, until told to stop. How many.
async fn create_until(
    stack: Arc<Stack>,
    major: Option<u32>,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let one = |lane: usize| {
        let (stack, stopped) = (Arc::clone(&stack), stopped.clone());
        async move {
            let mut created = 0;
            while !*stopped.borrow() {
                let cluster = Cluster::create(&stack, &format!("l{lane}-{created}"), 1, 0, major).await?;
                delete(&stack, &cluster).await?;
                created += 1;
            }
            anyhow::Ok(created)
        }
    };
    let (a, b) = tokio::join!(one(0), one(1));
    Ok(a? + b?)
}

/// Reads from both for a while, in turns: the times of the first and of the second.
async fn read(
    floor: SocketAddr,
    ours: SocketAddr,
    paths: &Arc<[String]>,
    time: Duration,
) -> anyhow::Result<(Samples, Samples)> {
    let interval = Duration::from_secs(1) / RATE;
    let begin = Instant::now() + Duration::from_millis(50);
    let end = begin + time;
    let mut readers = JoinSet::new();
    for lane in 0..CONNECTIONS {
        for (which, address) in [(0, floor), (1, ours)] {
            let first = begin + interval * lane + interval / 2 * which;
            let paths = Arc::clone(paths);
            readers.spawn(async move {
                let samples = lane_of(address, &paths, first, interval * CONNECTIONS, end).await?;
                anyhow::Ok((which, samples))
            });
        }
    }
    let mut both = [Samples::default(), Samples::default()];
    while let Some(joined) = readers.join_next().await {
        let (which, times) = joined??;
        for time in times {
            both[which as usize].push(time);
        }
    }
    let [floor, ours] = both;
    Ok((floor, ours))
}

/// One connection: a request whenever one is due, also when the one before was late.
async fn lane_of(
    address: SocketAddr,
    paths: &[String],
    first: Instant,
    every: Duration,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut due = first;
    let mut path = 0;
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        let answer = tokio::time::timeout(
            Duration::from_secs(10),
            exchange(&mut stream, &paths[path % paths.len()]),
        );
        answer.await.context("no answer within 10 s")??;
        times.push(due.elapsed());
        due += every;
        path += 1;
    }
    Ok(times)
}

/// One request on a connection that stays open; its answer has to be 200 and of known length.
async fn exchange(stream: &mut TcpStream, path: &str) -> anyhow::Result<()> {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::with_capacity(8 * 1024);
    let head = loop {
        if let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut answer).await? == 0 || answer.len() > READ_AT_MOST {
            bail!("the answer to {path} has no end");
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "{path}: {text}");
    let length: usize = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length:"))
        .context("an answer without a length")?
        .trim()
        .parse()?;
    ensure!(length <= READ_AT_MOST, "{path}: the answer is too long");
    while answer.len() < head + length {
        ensure!(
            stream.read_buf(&mut answer).await? > 0,
            "{path}: the answer is cut off"
        );
    }
    Ok(())
}
