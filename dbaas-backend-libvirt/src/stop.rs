//! `power_off` and `remove`: the fence, and the end of a node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::{DataDisposal, InfraError, InfraErrorKind, NodeRef, PowerOff};

use crate::backend::Inner;
use crate::control_disk::{self, Phase, Report};
use crate::handle::Handle;
use crate::look::{Look, State};
use crate::names::{self, Volume};
use crate::record::Wanted;
use crate::xml;

/// How long a machine may take to vanish after it was destroyed.
const DESTROY_AT_MOST: Duration = Duration::from_secs(30);
/// Between two looks at a machine that was asked to end: what it reports has no event.
const POLL: Duration = Duration::from_millis(100);

/// Destroys the node's machine, if it is ours; `Ok` when it does not run.
pub(crate) async fn destroy(inner: &Inner, node: NodeRef) -> Result<(), InfraError> {
    let name = names::domain(node);
    let until = Instant::now() + DESTROY_AT_MOST;
    let mut failed = None;
    loop {
        match state_of_ours(inner, node).await? {
            State::Off | State::Undefined => return Ok(()),
            State::Running | State::Frozen => {}
        }
        if Instant::now() >= until {
            return Err(failed.unwrap_or_else(|| {
                let message =
                    "the node's machine does not end, although it was destroyed; is libvirt in order?";
                InfraError::new(InfraErrorKind::OutcomeUnknown, message)
            }));
        }
        // That it failed may mean that it ended by itself: what follows finds out.
        failed = inner.libvirt.run(&["destroy", &name], None).await.err();
        if failed.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The state of a domain that is ours; of one that is not, or that does not exist, `Undefined`.
async fn state_of_ours(inner: &Inner, node: NodeRef) -> Result<State, InfraError> {
    let name = names::domain(node);
    let questions = [
        "list --all --name".to_owned(),
        format!("dumpxml --inactive {name}"),
        format!("domstate --reason {name}"),
    ];
    let answers = inner.libvirt.ask(&questions).await?;
    let [listed, said, state] = answers.as_slice() else {
        return Err(InfraError::new(
            InfraErrorKind::OutcomeUnknown,
            "libvirt answers too little",
        ));
    };
    let listed = String::from_utf8_lossy(listed);
    if !listed.lines().any(|line| line.trim() == name) {
        return Ok(State::Undefined);
    }
    if said.is_empty() || state.is_empty() {
        let message = "libvirt does not tell the state of a domain that it lists";
        return Err(InfraError::new(InfraErrorKind::OutcomeUnknown, message));
    }
    match xml::read_domain(said)?.ours {
        Some((owner, _)) if owner == inner.options.owner => Ok(crate::look::read_state(state)),
        _ => Ok(State::Undefined),
    }
}

pub(crate) async fn power_off(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    node: NodeRef,
    mode: PowerOff,
) -> Result<(), InfraError> {
    let Some(look) = inner.look_alone(node).await? else {
        return Ok(());
    };
    let Some(mut record) = look.record.clone().filter(|r| r.wanted != Wanted::Kept) else {
        return Ok(());
    };
    let _stopping = handle.stopping();
    let up = look.report_of_boot().filter(|r| r.phase == Phase::Up);
    if let (PowerOff::Graceful { deadline_ms }, Some(up), State::Running) = (mode, up, &look.state) {
        let deadline = Duration::from_millis(deadline_ms.into());
        shut_down(inner, handle, node, &up.boot_id, deadline).await;
    }
    if look.is_on() {
        destroy(inner, node).await?;
    }
    if record.wanted == Wanted::Off {
        return Ok(());
    }
    record.wanted = Wanted::Off;
    inner.save_off(&record, may_hold_secrets(&look)).await?;
    inner.nodes.changed(node);
    Ok(())
}

/// Whether the guest may not have read, and overwritten, what was put there for it.
fn may_hold_secrets(look: &Look) -> bool {
    look.report_of_boot()
        .is_none_or(|report| matches!(report.phase, Phase::Preparing))
}

/// Presses the power button: the boot script asks PostgreSQL for a fast shutdown and switches the machine
/// off. Whatever comes of it, the machine is destroyed afterwards if it still runs. That PostgreSQL has ended
/// is enough: what it wrote is on the disk then, and the rest of the machine's end, a second or two where it
/// is emulated, would be a part of each switchover.
async fn shut_down(inner: &Inner, handle: &Handle, node: NodeRef, boot_id: &str, deadline: Duration) {
    let until = Instant::now() + deadline;
    let name = names::domain(node);
    if let Err(error) = inner
        .libvirt
        .run(&["shutdown", &name, "--mode", "acpi"], None)
        .await
    {
        tracing::debug!(%error, "a machine cannot be asked to end");
        return;
    }
    while Instant::now() < until {
        let told = handle.told.notified();
        match state_of_ours(inner, node).await {
            Ok(State::Off | State::Undefined) => return,
            Ok(_) if has_ended(inner, node, boot_id).await => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a machine that ends cannot be looked at"),
        }
        let left = until.saturating_duration_since(Instant::now());
        let _ = tokio::time::timeout(POLL.min(left), told).await;
    }
}

/// Whether the boot script says that this start's PostgreSQL has ended.
async fn has_ended(inner: &Inner, node: NodeRef, boot_id: &str) -> bool {
    let control = names::volume(node, Volume::Control);
    let read = inner.read_at(&control, control_disk::REPORT_AT, control_disk::REPORT_BYTES);
    let report = read.await.ok().and_then(|sector| Report::parse(&sector));
    report.is_some_and(|r| r.boot_id == boot_id && matches!(r.phase, Phase::Ended | Phase::Failed))
}

pub(crate) async fn remove(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    node: NodeRef,
    data: DataDisposal,
) -> Result<(), InfraError> {
    let Some(look) = inner.look(node).await? else {
        return Ok(());
    };
    let Some(mut record) = look.record.clone() else {
        return Ok(());
    };
    if look.is_on() {
        let message = "the node runs; switch it off before it is removed";
        return Err(InfraError::new(InfraErrorKind::InvalidState, message));
    }
    if data == DataDisposal::Keep {
        if record.wanted == Wanted::Kept {
            return Ok(());
        }
        record.wanted = Wanted::Kept;
        if look.state == State::Undefined {
            inner.define(&record).await?;
        }
        inner.save_off(&record, true).await?;
        handle.change();
    }
    if look.state != State::Undefined || data == DataDisposal::Keep {
        let name = names::domain(node);
        match inner.libvirt.run(&["undefine", &name], None).await {
            Err(e) if e.kind() != InfraErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    handle.change();
    let _ = inner.refresh_pool().await;
    let mut left: Vec<String> = inner
        .named(&names::domain(node))
        .await?
        .1
        .remove(&node)
        .unwrap_or_default()
        .into_iter()
        .collect();
    // The control disk comes last: it tells whose the others are.
    let control = names::volume(node, Volume::Control);
    left.sort_by_key(|name| *name == control);
    for name in left {
        let is_kept = name == control || name == names::volume(node, Volume::Data);
        if data == DataDisposal::Delete || !is_kept {
            inner.delete_volume(&name).await?;
        }
    }
    inner.nodes.changed(node);
    Ok(())
}
