//! What is true of a node, from the engine and from the node's volume.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::query_parameters::LogsOptionsBuilder;
use dbaas_core::boot_output::{first_error, preparation_failure, rewind_failure, server_exit, telling_line};
use dbaas_core::infrastructure::{
    BootMark, DataState, Endpoint, Exit, ExitReason, InfraError, NodeRef, ObservedNode, PowerState,
};
use dbaas_core::time::Timestamp;
use futures_util::StreamExt;

use crate::backend::Inner;
use crate::container::Found;
use crate::disk;
use crate::engine::shown;
use crate::handle::{Cached, Handle};
use crate::names;
use dbaas_node_start::control::{Control, PrepareKind, Ticket};

/// A container may be replaced while it is looked at.
const TRIES: usize = 5;
/// A container that runs uses its ticket at once. One that has not done so for this long runs by another
/// ticket.
const UNUSED_AT_MOST: Duration = Duration::from_secs(20);
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// A node, as far as it exists.
pub(crate) async fn observe(
    inner: &Arc<Inner>,
    docker: &Docker,
    handle: &Handle,
    node: NodeRef,
) -> Result<Option<ObservedNode>, InfraError> {
    if let Some(seen) = handle.remembered() {
        return Ok(Some(seen));
    }
    let told = handle.told_so_far();
    if let Some(found) = handle.dead() {
        // What is known of the volume is true of a server that was up until now; of a preparation it is not.
        let known = handle.cached.lock().clone();
        if known.is_some_and(|c| c.control.up && c.is_of(&found.life)) {
            return look(inner, docker, handle, node, &found).await;
        }
    }
    for _ in 0..TRIES {
        let found = match inner.find(docker, node).await? {
            Some(found) => found,
            None => {
                // Not while a call makes or removes it.
                let _guard = Arc::clone(&handle.op).lock_owned().await;
                match inner.restore_container(docker, node).await? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            }
        };
        handle.found(Some(&found));
        let up = |cached: &Option<Cached>| {
            cached
                .as_ref()
                .is_some_and(|c| c.control.up && c.is_of(&found.life))
        };
        let nothing_read = found.running && up(&handle.cached.lock());
        let seen = look(inner, docker, handle, node, &found).await;
        if let Ok(Some(seen)) = &seen {
            handle.seen(seen, told);
        }
        if nothing_read {
            return seen;
        }
        // What the engine did not find may be missing with its container.
        match inner.find(docker, node).await? {
            Some(now) if now.life == found.life => return seen,
            _ => {}
        }
    }
    Err(crate::engine::invalid(
        "the node changes too quickly to be looked at; try again",
    ))
}

async fn look(
    inner: &Arc<Inner>,
    docker: &Docker,
    handle: &Handle,
    node: NodeRef,
    found: &Found,
) -> Result<Option<ObservedNode>, InfraError> {
    let mut control = control(inner, docker, handle, found).await?;
    if !found.running && control.up && handle.is_stopping() {
        // Our will, about to be written down.
        control.ticket = Ticket::Off;
    }
    if control.spec.is_none() || control.ticket == Ticket::Kept {
        return Ok(None);
    }
    let power = power(docker, found, &control).await?;
    let data = match power {
        PowerState::Running => DataState::Initialised,
        // The server was reached, and nothing has begun to replace its data since.
        _ if control.up => DataState::Initialised,
        _ if handle.is_empty(found) => DataState::Empty,
        _ => data_state(inner, docker, found).await?,
    };
    let boot = control
        .boot
        .as_ref()
        .filter(|_| data != DataState::Empty || !matches!(power, PowerState::Off));
    Ok(Some(ObservedNode {
        node,
        power,
        data,
        applied: control.spec.clone(),
        endpoint: found.port().map(|port| inner.endpoint(port)),
        peer_endpoint: found.labels.get(names::IP).map(|ip| Endpoint {
            host: ip.clone(),
            port: 5432,
        }),
        boot: boot.map(|b| BootMark {
            epoch: b.epoch,
            boot_id: b.boot_id.clone(),
        }),
        bootstrap_password: None,
        disk_free_bytes: inner.free_bytes(found),
        backend_ref: Some(format!("container {}", found.id.get(..12).unwrap_or(&found.id))),
    }))
}

impl Inner {
    /// Room in the node's volume, where that is a directory of this machine: while the node runs, for only
    /// then is a disk of its own mounted.
    fn free_bytes(&self, found: &Found) -> Option<u64> {
        let here = self.engine.is_local() && found.running && !found.source.is_empty();
        here.then(|| disk::free_bytes(Path::new(&found.source)))?
    }
}

/// What the volume says, read once per life of the container, and again after changes of ours.
pub(crate) async fn control(
    inner: &Inner,
    docker: &Docker,
    handle: &Handle,
    found: &Found,
) -> Result<Control, InfraError> {
    let generation = handle.generation();
    let cached = handle.cached.lock().clone().filter(|c| c.is_of(&found.life));
    let is_empty = cached.as_ref().is_some_and(|c| c.is_empty);
    let since = cached.as_ref().map_or_else(Instant::now, |c| c.since);
    let overdue = |control: &Control| {
        found.running && !control.up && control.ticket == Ticket::Start && since.elapsed() > UNUSED_AT_MOST
    };
    let mut control = match cached {
        Some(cached) if !overdue(&cached.control) => cached.control,
        _ => inner.read_control(docker, found).await?,
    };
    if found.running
        && !control.up
        && let Some(boot) = &control.boot
    {
        control.up = inner
            .exists(docker, found, &format!("dbaas/up-{}", boot.boot_id))
            .await?;
    }
    if found.running && control.up {
        // The script has used it, whatever stood there when it was read.
        control.ticket = Ticket::Used;
    }
    if overdue(&control) {
        control.ticket = Ticket::UsedByAnother;
    }
    let mut cached = handle.cached.lock();
    if handle.generation() == generation {
        *cached = Some(Cached {
            is_empty: is_empty && !found.running,
            life: found.life.clone(),
            control: control.clone(),
            since,
        });
    }
    Ok(control)
}

/// Whether it runs.
pub(crate) async fn power(
    docker: &Docker,
    found: &Found,
    control: &Control,
) -> Result<PowerState, InfraError> {
    if found.running && control.ticket == Ticket::UsedByAnother {
        // What runs is not what was asked for last: it is never taken for it, and gives way to it.
        return Ok(PowerState::Frozen);
    }
    if found.running && !found.on_network {
        // Nobody reaches it, and it reaches nobody; a new start puts it on its network again.
        return Ok(PowerState::Frozen);
    }
    if found.running {
        let serves = control.up
            || control
                .boot
                .as_ref()
                .is_some_and(|b| b.prepare == PrepareKind::Existing);
        return Ok(match found.status {
            Status::PAUSED => PowerState::Frozen,
            _ if serves => PowerState::Running,
            _ => PowerState::Preparing,
        });
    }
    if control.ticket != Ticket::Used {
        return Ok(PowerState::Off);
    }
    if let Some(failed) = &control.failed {
        let reason = match failed.program.as_str() {
            "seed" => ExitReason::SeedGone,
            "pg_rewind" => rewind_failure(&failed.output),
            _ => preparation_failure(&failed.output),
        };
        let message = format!("{}: {}", failed.program, first_error(&failed.output));
        return Ok(PowerState::Exited(Exit { reason, message }));
    }
    if found.status == Status::CREATED {
        return Ok(PowerState::Exited(Exit {
            reason: ExitReason::Died,
            message: "its container was removed by somebody".to_owned(),
        }));
    }
    // One that was killed, or ended as it was told to, has nothing to say about it.
    let log = match found.exit_code {
        0 | 129..=192 => String::new(),
        _ => log(docker, &found.id, 20, &found.life.started_at)
            .await
            .unwrap_or_default(),
    };
    let why = match (found.oom_killed, found.exit_code) {
        (true, _) => "ran out of the container's memory".to_owned(),
        (false, code @ 129..=192) => format!("was killed (signal {})", code - 128),
        (false, code) => format!("ended with status {code}"),
    };
    let reason = if control.up {
        server_exit(&log)
    } else {
        preparation_failure(&log)
    };
    let what = if control.up {
        "PostgreSQL"
    } else {
        "the preparation"
    };
    let message = match telling_line(&log).as_str() {
        "" => format!("{what} {why}"),
        line => format!("{what} {why}; its log ends with: {line}"),
    };
    Ok(PowerState::Exited(Exit { reason, message }))
}

/// What the data directory holds.
pub(crate) async fn data_state(
    inner: &Inner,
    docker: &Docker,
    found: &Found,
) -> Result<DataState, InfraError> {
    let (incomplete, version, control) = tokio::try_join!(
        inner.exists(docker, found, "dbaas/incomplete"),
        inner.exists(docker, found, "pgdata/PG_VERSION"),
        inner.exists(docker, found, "pgdata/global/pg_control"),
    )?;
    Ok(match (incomplete, version, control) {
        (true, _, _) => DataState::Incomplete,
        (false, true, true) => DataState::Initialised,
        (false, false, false) => DataState::Empty,
        (false, _, _) => DataState::Incomplete,
    })
}

/// The last lines of a container's log, none from before this moment (RFC 3339; any other text: from the
/// beginning).
pub(crate) async fn log(docker: &Docker, id: &str, lines: usize, since: &str) -> Result<String, InfraError> {
    let since_s = since.parse::<Timestamp>().map_or(0, |at| at.unix_ms() / 1000);
    let options = LogsOptionsBuilder::default()
        .since(i32::try_from(since_s.max(0)).unwrap_or(0))
        .stdout(true)
        .stderr(true)
        .tail(&lines.to_string())
        .build();
    let mut stream = std::pin::pin!(docker.logs(id, Some(options)));
    let mut text = Vec::new();
    while let Some(line) = stream.next().await {
        let line: LogOutput = line.map_err(|e| shown("reading the node's log", &e))?;
        text.extend_from_slice(line.as_ref());
        if text.len() > LOG_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}
