//! A soak: a server in a process of its own, little to do for a long time, and the question whether it needs
//! more of anything at the end than before.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dbaas_controller::control_plane::ControlPlane;
use dbaas_http::{Access, HttpOptions, router};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const READ_AT_MOST: u64 = 1 << 20;

/// Serves a control plane on the loopback address until the future given ends.
pub async fn serve(
    plane: ControlPlane,
    told: impl FnOnce(SocketAddr),
    until: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    told(listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, router(plane, HttpOptions::new(Access::Anyone))) => Ok(served?),
        () = until => Ok(()),
    }
}

/// What a process needs at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory, in kB.
    pub memory_kb: u64,
    /// Of it what is not backed by a file, in kB.
    pub anonymous_kb: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Sample {
    /// Of a process of this machine.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix(name))
                .with_context(|| format!("no {name} in /proc/{pid}/status"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Sample {
            memory_kb: field("VmRSS:")?,
            anonymous_kb: field("RssAnon:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: field("Threads:")?,
        })
    }
}

/// The samples' medians in the second quarter of the time and in the last.
pub fn quarters(samples: &[Sample]) -> anyhow::Result<(Sample, Sample)> {
    let quarter = samples.len() / 4;
    ensure!(quarter >= 3, "{} samples are too few to judge", samples.len());
    Ok((
        median(&samples[quarter..2 * quarter]),
        median(&samples[samples.len() - quarter..]),
    ))
}

fn median(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(field).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Sample {
        memory_kb: of(|s| s.memory_kb),
        anonymous_kb: of(|s| s.anonymous_kb),
        descriptors: of(|s| s.descriptors),
        threads: of(|s| s.threads),
    }
}

/// An error unless the last quarter needs no more than the second: a twentieth and 2 MB of memory, and what a
/// request under way takes, aside.
pub fn assert_flat(samples: &[Sample]) -> anyhow::Result<(Sample, Sample)> {
    let (before, after) = quarters(samples)?;
    let grown = [
        (
            "memory",
            after.anonymous_kb > before.anonymous_kb + before.anonymous_kb / 20 + 2048,
        ),
        ("descriptors", after.descriptors > before.descriptors + 4),
        ("threads", after.threads > before.threads + 4),
    ];
    for (what, grows) in grown {
        ensure!(!grows, "{what} grew: {before:?}, later {after:?}");
    }
    Ok((before, after))
}

/// One request on a connection of its own: status and body.
pub async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(READ_AT_MOST).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange)
        .await
        .with_context(|| format!("{method} {path}: no answer within 20 s"))??;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without an end")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// What a soak did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Reads that were answered.
    pub reads: u64,
    /// Users created and deleted again.
    pub users: u64,
    /// Changes of primary.
    pub switchovers: u64,
}

/// Two reads a second, a user each twenty seconds, a switchover each three minutes; `sampled` hears of each
/// tenth second.
pub async fn work(
    server: SocketAddr,
    instances: &[String],
    time: Duration,
    mut sampled: impl FnMut(&Work) -> anyhow::Result<()>,
) -> anyhow::Result<Work> {
    let mut work = Work::default();
    let root = "/v1/types/postgres/instances";
    let begin = Instant::now();
    let mut user: Option<(String, String)> = None;
    for tick in 0u64.. {
        if begin.elapsed() > time {
            break;
        }
        tokio::time::sleep_until((begin + Duration::from_millis(500) * u32::try_from(tick)?).into()).await;
        let id = &instances[usize::try_from(tick)? % instances.len()];
        let path = match tick % 3 {
            0 => format!("{root}/{id}"),
            1 => format!("{root}/{id}/nodes"),
            _ => format!("{root}/{id}/events?limit=10"),
        };
        let (status, answer) = request(server, "GET", &path, "").await?;
        ensure!(status == 200, "{path}: {status} {answer}");
        work.reads += 1;
        if tick % 40 == 10 {
            let name = format!(r#"{{"name":"soak{tick}","password":"correct horse battery"}}"#);
            let (status, answer) = request(server, "POST", &format!("{root}/{id}/users"), &name).await?;
            ensure!(status == 201 || status == 202, "user: {status} {answer}");
            let json: serde_json::Value = serde_json::from_str(&answer)?;
            let uuid = json["uuid"].as_str().context("a user without uuid")?;
            user = Some((id.clone(), uuid.to_owned()));
        }
        if tick % 40 == 30
            && let Some((id, uuid)) = user.take()
        {
            let path = format!("{root}/{id}/users/{uuid}");
            let (status, answer) = request(server, "DELETE", &path, "").await?;
            ensure!((200..300).contains(&status), "{path}: {status} {answer}");
            work.users += 1;
        }
        if tick % 360 == 180 {
            let path = format!("{root}/{}/actions/switchover", instances[0]);
            let (status, answer) = request(server, "POST", &path, "{}").await?;
            if !(200..300).contains(&status) {
                bail!("{path}: {status} {answer}");
            }
            work.switchovers += 1;
        }
        if tick % 20 == 0 {
            sampled(&work)?;
        }
    }
    for id in instances {
        let path = format!("{root}/{id}?wait=ACTIVE&timeout=60s");
        let (status, answer) = request(server, "GET", &path, "").await?;
        ensure!(status == 200, "{path}: {status} {answer}");
    }
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..100)
            .map(|i| Sample {
                memory_kb: 50_000,
                anonymous_kb: memory(i),
                descriptors: 40,
                threads: 6,
            })
            .collect()
    }

    #[test]
    fn what_grows_is_found() {
        assert!(assert_flat(&samples(|i| 30_000 + i * 100)).is_err());
        assert!(assert_flat(&samples(|i| 30_000 + i % 7)).is_ok());
        // Growth at the start is warming up.
        assert!(assert_flat(&samples(|i| 30_000 + i.min(20) * 500)).is_ok());
        assert!(assert_flat(&samples(|_| 1)[..8]).is_err());
        let mut leaking = samples(|_| 30_000);
        for (i, sample) in leaking.iter_mut().enumerate() {
            sample.descriptors += i as u64 / 5;
        }
        assert!(assert_flat(&leaking).is_err());
    }
}
