//! Reading over HTTP at a steady rate while instances are created, beside a server that answers with a
//! constant.

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
    let addresses = [floor, ours];
    let goal = Goal::P99(Duration::from_millis(5));
    let mut rows = Vec::new();
    let (of_constant, of_ours) = in_turns(addresses, &paths, options.runs.div_ceil(2)).await?;
    progress(told("nothing else", &of_constant, &of_ours));
    rows.push(Row::new("floor: a constant, nothing else going on", &of_constant));
    rows.push(Row::new("GET, nothing else going on", &of_ours).beside(&of_constant));
    let mut all_created = Vec::new();
    for (at_a_time, how) in [(1, "one after the other"), (2, "two at a time")] {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let creating = tokio::spawn(create_until(
            Arc::clone(&stack),
            options.major,
            at_a_time,
            stopped,
        ));
        let result = in_turns(addresses, &paths, options.runs).await;
        stop.send_replace(true);
        let created = creating.await.context("creating instances")??;
        let (of_constant, of_ours) = result?;
        progress(told(how, &of_constant, &of_ours));
        ensure!(created > 0, "no instance was created meanwhile");
        rows.push(Row::new(
            format!("floor: a constant, while instances are created, {how}"),
            &of_constant,
        ));
        let row = Row::new(format!("GET, while instances are created, {how}"), &of_ours);
        rows.push(row.beside(&of_constant).goal(goal));
        all_created.push(format!("{created} {how}"));
    }
    Ok(vec![Table {
        title: format!("GET, {RATE} requests a second on {CONNECTIONS} connections"),
        rows,
        notes: vec![format!(
            "From the moment that a request was due to the last byte of its answer. Both servers and the client run in one process and are \
             asked in turns; instances that were created and deleted meanwhile: {}.",
            all_created.join(", ")
        )],
    }])
}

fn told(meanwhile: &str, floor: &Samples, ours: &Samples) -> String {
    let (floor, ours) = (floor.quantile(0.99), ours.quantile(0.99));
    format!("http, instances created: {meanwhile}: p99 {ours:?} (floor {floor:?})")
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

/// Creates and deletes instances, so many at a time, until told to stop. How many.
async fn create_until(
    stack: Arc<Stack>,
    major: Option<u32>,
    at_a_time: usize,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let mut lanes = JoinSet::new();
    for lane in 0..at_a_time {
        let (stack, stopped) = (Arc::clone(&stack), stopped.clone());
        lanes.spawn(async move {
            let mut created = 0;
            while !*stopped.borrow() {
                let name = format!("of-{at_a_time}-{lane}-{created}");
                let cluster = Cluster::create(&stack, &name, 1, 0, major).await?;
                delete(&stack, &cluster).await?;
                created += 1;
            }
            anyhow::Ok(created)
        });
    }
    let mut created = 0;
    while let Some(lane) = lanes.join_next().await {
        created += lane??;
    }
    Ok(created)
}

/// Reads from both for a while, now from one and then from the other: the times of the first and of the
/// second.
async fn in_turns(
    addresses: [SocketAddr; 2],
    paths: &Arc<[String]>,
    turns: usize,
) -> anyhow::Result<(Samples, Samples)> {
    let mut both = [Samples::default(), Samples::default()];
    for _ in 0..turns {
        for (samples, address) in both.iter_mut().zip(addresses) {
            read(address, paths, samples).await?;
        }
    }
    let [floor, ours] = both;
    Ok((floor, ours))
}

/// Reads from one for the time of a sample.
async fn read(address: SocketAddr, paths: &Arc<[String]>, samples: &mut Samples) -> anyhow::Result<()> {
    let interval = Duration::from_secs(1) / RATE;
    let begin = Instant::now() + Duration::from_millis(50);
    let end = begin + SAMPLE;
    let mut readers = JoinSet::new();
    for lane in 0..CONNECTIONS {
        let first = begin + interval * lane;
        let paths = Arc::clone(paths);
        readers.spawn(async move { lane_of(address, &paths, first, interval * CONNECTIONS, end).await });
    }
    while let Some(times) = readers.join_next().await {
        for time in times?? {
            samples.push(time);
        }
    }
    Ok(())
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
