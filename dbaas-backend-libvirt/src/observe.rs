//! What is true of a node, from what was found.

use std::sync::Arc;

use dbaas_core::boot_output::{first_error, preparation_failure, rewind_failure, server_exit, telling_line};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    BootMark, DataState, Exit, ExitReason, InfraError, NodeRef, ObservedNode, PowerState,
};

use crate::backend::Inner;
use crate::control_disk::{self, Phase};
use crate::copies;
use crate::handle::Handle;
use crate::look::{GONE, Look, State};
use crate::names::{self, Volume};
use crate::record::{Record, Wanted};

/// Of what a server wrote before it ended.
const LAST_LINES: usize = 200;
/// Nodes may change while they are looked at.
const TRIES: usize = 5;

/// Every node of an instance.
pub(crate) async fn observe(
    inner: &Arc<Inner>,
    instance: InstanceId,
) -> Result<Vec<ObservedNode>, InfraError> {
    let prefix = names::of_instance(instance);
    let mut tries = 0;
    loop {
        tries += 1;
        let before: Vec<(NodeRef, u64)> = inner.nodes.changes_of(instance);
        let looks = match inner.look_at_all(&prefix).await {
            Err(e) if e.to_string() == GONE && tries < TRIES => continue,
            other => other?,
        };
        if inner.nodes.changes_of(instance) != before && tries < TRIES {
            continue;
        }
        let mut seen = Vec::new();
        for mut look in looks {
            let kept = look.record.as_ref().is_none_or(|r| r.wanted == Wanted::Kept);
            if look.state == State::Undefined && !kept {
                // Not while a call makes or removes it.
                let _alone = inner.lock(look.node).await;
                match inner.look_alone(look.node).await? {
                    Some(now) => look = now,
                    None => continue,
                }
            }
            let handle = inner.nodes.handle(look.node);
            let node = look.node;
            if let Some(observed) = node_of(inner, &handle, look).await? {
                seen.push(observed);
            } else {
                inner.nodes.forget(node, &handle);
            }
        }
        return Ok(seen);
    }
}

async fn node_of(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    look: Look,
) -> Result<Option<ObservedNode>, InfraError> {
    let Ok(record) = look.existing() else {
        return Ok(None);
    };
    copies::resume(inner, &look, &record);
    let power = power(inner, handle, &look, &record).await?;
    let data = match &power {
        PowerState::Running => DataState::Initialised,
        _ => look.data(),
    };
    let boot = record
        .boot
        .as_ref()
        .filter(|_| data != DataState::Empty || power != PowerState::Off);
    let free_mb = look
        .report_of_boot()
        .filter(|_| look.is_on())
        .and_then(|r| r.free_mb);
    Ok(Some(ObservedNode {
        node: look.node,
        power,
        data,
        endpoint: Some(inner.options.endpoint(&record)),
        peer_endpoint: Some(inner.options.peer_endpoint(&record)),
        boot: boot.map(|b| BootMark {
            epoch: b.epoch,
            boot_id: b.boot_id.clone(),
        }),
        bootstrap_password: None,
        disk_free_bytes: free_mb.map(|mb| mb.saturating_mul(1024 * 1024)),
        backend_ref: Some(format!("domain {}", names::domain(look.node))),
        applied: Some(record.spec),
    }))
}

/// Whether it runs.
async fn power(
    inner: &Arc<Inner>,
    handle: &Handle,
    look: &Look,
    record: &Record,
) -> Result<PowerState, InfraError> {
    let report = look.report_of_boot();
    match look.state {
        State::Frozen => return Ok(PowerState::Frozen),
        // Somebody started it by hand: it switches itself off. Never taken for what was asked for.
        State::Running if record.wanted != Wanted::Started => return Ok(PowerState::Frozen),
        State::Running => {
            return Ok(match report.map(|r| r.phase) {
                Some(Phase::Up | Phase::Ended) => PowerState::Running,
                _ => PowerState::Preparing,
            });
        }
        State::Off | State::Undefined => {}
    }
    if handle.is_stopping() {
        return Ok(PowerState::Off);
    }
    if handle.is_starting() {
        return Ok(PowerState::Preparing);
    }
    let exited = |reason, message| Ok(PowerState::Exited(Exit { reason, message }));
    match &record.wanted {
        Wanted::Off | Wanted::Kept | Wanted::Pooled | Wanted::Taken(_) => return Ok(PowerState::Off),
        Wanted::AwaitsCopy(_) => return Ok(PowerState::Preparing),
        Wanted::NoCopy(why) => return exited(ExitReason::SeedGone, why.clone()),
        Wanted::Started => {}
    }
    let phase = report.map(|r| r.phase);
    if phase == Some(Phase::Failed) {
        let control = names::volume(look.node, Volume::Control);
        let said = inner
            .read_at(&control, control_disk::OUTPUT_AT, control_disk::OUTPUT_BYTES)
            .await?;
        let said = String::from_utf8_lossy(&said).replace('\0', "");
        let (program, output) = said.split_once('\n').unwrap_or((&said, ""));
        let reason = match program {
            "pg_rewind" => rewind_failure(output),
            _ => preparation_failure(output),
        };
        return exited(reason, format!("{program}: {}", first_error(output)));
    }
    let was_up = matches!(phase, Some(Phase::Up | Phase::Ended));
    // One that was destroyed has nothing to say about it.
    let log = match (phase, &record.boot) {
        (Some(Phase::Ended), Some(boot)) => {
            let said = inner.console(look, LAST_LINES).await.unwrap_or_default();
            since_prepared(&said, &boot.boot_id).to_owned()
        }
        _ => String::new(),
    };
    let reason = match server_exit(&log) {
        ExitReason::Died if !was_up => ExitReason::PreparationFailed,
        reason => reason,
    };
    let what = match phase {
        Some(Phase::Up) => "the machine",
        Some(Phase::Ended) => "PostgreSQL",
        Some(_) => "the machine, while it was prepared,",
        None => "the machine, before its boot script reported anything,",
    };
    let message = match telling_line(&log).as_str() {
        "" => format!("{what} ended; libvirt says: {}", look.reason),
        line => format!("{what} ended; the log ends with: {line}"),
    };
    exited(reason, message)
}

/// What a server wrote since this start, as far as it is there.
fn since_prepared<'a>(said: &'a str, boot_id: &str) -> &'a str {
    let prepared = format!("dbaas: prepared {boot_id}");
    said.rsplit_once(&prepared).map_or(said, |(_, rest)| rest)
}

impl Inner {
    /// The last lines of what a machine's console said: PostgreSQL's log and the boot script's words.
    pub(crate) async fn console(&self, look: &Look, lines: usize) -> Result<String, InfraError> {
        let name = names::volume(look.node, Volume::Console);
        let said = self.read_at(&name, 0, 0).await?;
        let said = String::from_utf8_lossy(&said).replace(['\0', '\r'], "");
        let all: Vec<&str> = said.lines().collect();
        Ok(all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_server_ended_is_in_what_this_start_wrote() {
        let said = "[1] PANIC:  could not write: No space left on device\ndbaas: prepared b2\n\
            2026-01-01 00:00:00 UTC [7] FATAL:  could not open file \"global/pg_filenode.map\": No such file or directory\n";
        assert_eq!(server_exit(since_prepared(said, "b2")), ExitReason::Damaged);
        assert_eq!(server_exit(since_prepared(said, "b3")), ExitReason::DiskFull);
        assert_eq!(
            server_exit(since_prepared("dbaas: prepared b2\n", "b2")),
            ExitReason::Died
        );
    }
}
