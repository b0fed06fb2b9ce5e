//! What goes on in the background between a start and PostgreSQL: the first node's disk is copied for the
//! first standbys before its first start, standbys start as soon as they have their copy, and how a
//! preparation ends is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{DataState, InfraError, InfraErrorKind, NodeRef};
use dbaas_node_start::control::PrepareKind;

use crate::ahead;
use crate::backend::Inner;
use crate::control_disk::{self, Phase};
use crate::look::{Look, State};
use crate::names::{self, Volume};
use crate::record::{Record, Wanted};
use crate::start::{disk_bytes, launch};
use crate::stop;

/// Between two looks at a guest that will have something to copy.
const POLL_COPY: Duration = Duration::from_millis(300);
/// Between two looks at any other one; most of what happens is told by events.
const POLL: Duration = Duration::from_secs(1);
/// A machine that is paused so long after its start, and has said nothing, was not paused by somebody who
/// tests us.
const STANDS_STILL: Duration = Duration::from_secs(5);
/// A preparation that takes longer is seen by asking.
const FOLLOW_AT_MOST: Duration = Duration::from_secs(3600);
/// A copy that has not come by then does not come.
const AWAIT_AT_MOST: Duration = Duration::from_secs(900);

/// Takes up again what an earlier program was doing.
pub(crate) fn resume(inner: &Arc<Inner>, look: &Look, record: &Record) {
    let Some(boot) = &record.boot else { return };
    match record.wanted {
        Wanted::AwaitsCopy(_) => await_copy(inner, look.node, &boot.boot_id),
        Wanted::Started if look.waits_for_copies() || look.is_silent() => {
            follow(inner, look.node, &boot.boot_id)
        }
        _ => {}
    }
}

/// Follows a start until PostgreSQL runs or the machine is off.
pub(crate) fn follow(inner: &Arc<Inner>, node: NodeRef, boot_id: &str) {
    let handle = inner.nodes.handle(node);
    if !handle.follow(boot_id) {
        return;
    }
    let (weak, boot_id) = (Arc::downgrade(inner), boot_id.to_owned());
    inner.spawn(async move {
        let began = Instant::now();
        while began.elapsed() < FOLLOW_AT_MOST {
            let Some(inner) = weak.upgrade() else { return };
            let told = handle.told.notified();
            let pause = match follow_once(&inner, node, &boot_id, began).await {
                Ok(Some(pause)) => pause,
                Ok(None) => {
                    inner.nodes.changed(node);
                    break;
                }
                Err(error) => {
                    tracing::debug!(node = %node.node, %error, "a start cannot be followed");
                    POLL
                }
            };
            drop(inner);
            let _ = tokio::time::timeout(pause, told).await;
        }
        handle.follow_no_more(&boot_id);
    });
}

/// Looks once; how long to wait before the next look. `None`: there is nothing more to come.
async fn follow_once(
    inner: &Arc<Inner>,
    node: NodeRef,
    boot_id: &str,
    began: Instant,
) -> Result<Option<Duration>, InfraError> {
    let Some(look) = inner.look(node).await? else {
        return Ok(None);
    };
    let Some(record) = look.record.clone() else {
        return Ok(None);
    };
    if !look.is_on() || record.boot.as_ref().is_none_or(|b| b.boot_id != boot_id) {
        return Ok(None);
    }
    let stands_still = look.is_silent() && look.state == State::Frozen && began.elapsed() > STANDS_STILL;
    if stands_still && inner.give_kvm_up() || look.is_silent() && began.elapsed() > inner.options.boot_timeout
    {
        let _alone = inner.lock(node).await;
        // Meanwhile it may have been started anew.
        let is_same = |record: &Record| record.boot.as_ref().is_some_and(|b| b.boot_id == boot_id);
        let look = inner.look(node).await?;
        if look.is_some_and(|look| look.is_silent() && look.record.as_ref().is_some_and(is_same)) {
            tracing::warn!(node = %node.node, "a machine hangs in its boot; it is ended");
            stop::destroy(inner, node).await?;
        }
        return Ok(None);
    }
    match look.report_of_boot().map(|r| r.phase) {
        Some(Phase::Up | Phase::Failed | Phase::Ended | Phase::Copied) => Ok(None),
        Some(Phase::Initialised) => {
            copy_all(inner, &record, boot_id).await?;
            Ok(Some(POLL_COPY))
        }
        Some(Phase::Preparing) | None if record.copies.is_empty() => Ok(Some(POLL)),
        Some(Phase::Preparing) | None => Ok(Some(POLL_COPY)),
    }
}

/// Copies the disk of a guest that waits for that, and lets it go on.
async fn copy_all(inner: &Arc<Inner>, record: &Record, boot_id: &str) -> Result<(), InfraError> {
    let node = record.node();
    let handle = inner.nodes.handle(node);
    let _copying = handle.copying();
    if let Err(error) = copy_to_seeds(inner, record).await {
        // Those without a copy take a base backup.
        tracing::warn!(node = %node.node, %error, "a new node's disk cannot be copied");
    }
    let header = control_disk::header(record, None, Some(boot_id))?;
    let control = names::volume(node, Volume::Control);
    inner.write_at(&control, 0, header).await
}

async fn copy_to_seeds(inner: &Arc<Inner>, record: &Record) -> Result<(), InfraError> {
    let node = record.node();
    let mut wanted = Vec::new();
    for seed in &record.copies {
        let seed = NodeRef {
            instance: node.instance,
            node: *seed,
        };
        if inner.look(seed).await?.is_some_and(|look| takes_copy(&look)) {
            wanted.push(seed);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let no_room = |e: std::io::Error| {
        InfraError::new(
            InfraErrorKind::Exhausted,
            format!("no place for the copy of a disk: {e}"),
        )
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix("dbaas-copy-");
    let directory = match &inner.options.scratch_dir {
        Some(directory) => builder.tempdir_in(directory),
        None => builder.tempdir(),
    }
    .map_err(no_room)?;
    let file = directory.path().join("data");
    inner.download(&names::volume(node, Volume::Data), &file).await?;
    // A guest that went on meanwhile has changed what was being copied.
    if !inner
        .look(node)
        .await?
        .is_some_and(|look| look.waits_for_copies())
    {
        let message = "the guest did not wait until its disk was copied";
        return Err(InfraError::new(InfraErrorKind::Other, message));
    }
    // Holes are not written.
    let held = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&file).map_err(no_room)?) * 512;
    for seed in wanted {
        let _alone = inner.lock(seed).await;
        let Some(look) = inner.look(seed).await? else {
            continue;
        };
        let Some(of_seed) = look.record.clone().filter(|_| takes_copy(&look)) else {
            continue;
        };
        let (data, control) = (
            names::volume(seed, Volume::Data),
            names::volume(seed, Volume::Control),
        );
        // While it is being written it is nobody's data.
        inner
            .write_at(&control, control_disk::REPORT_AT, control_disk::no_report())
            .await?;
        if look.has(Volume::Data) {
            inner.delete_volume(&data).await?;
        }
        let bytes = disk_bytes(&of_seed.spec.resources).max(disk_bytes(&record.spec.resources));
        inner.create_volume(&data, bytes).await?;
        inner.upload(&data, &file, held).await?;
        inner
            .write_at(&control, control_disk::REPORT_AT, control_disk::report_of_copy())
            .await?;
        inner.nodes.changed(seed);
    }
    Ok(())
}

/// Whether a node is off and has no data of its own.
pub(crate) fn takes_copy(look: &Look) -> bool {
    let copied_before = look.report.as_ref().is_some_and(|r| r.phase == Phase::Copied);
    look.existing().is_ok()
        && !look.is_on()
        && look.has(Volume::Control)
        && (look.data() != DataState::Initialised || copied_before)
}

/// Starts a node's machine when its disk has been copied, or gives up when no copy comes any more.
pub(crate) fn await_copy(inner: &Arc<Inner>, node: NodeRef, boot_id: &str) {
    let handle = inner.nodes.handle(node);
    if !handle.follow(boot_id) {
        return;
    }
    let (weak, boot_id) = (Arc::downgrade(inner), boot_id.to_owned());
    inner.spawn(async move {
        let until = Instant::now() + AWAIT_AT_MOST;
        loop {
            let Some(inner) = weak.upgrade() else { return };
            let told = handle.told.notified();
            match await_once(&inner, node, &boot_id, Instant::now() >= until).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => tracing::debug!(node = %node.node, %error, "a copy cannot be waited for"),
            }
            drop(inner);
            let _ = tokio::time::timeout(POLL, told).await;
        }
        handle.follow_no_more(&boot_id);
        let Some(inner) = weak.upgrade() else { return };
        inner.nodes.changed(node);
        // From here on as any other start.
        follow(&inner, node, &boot_id);
    });
}

/// Looks once. Whether there is more to wait for.
async fn await_once(
    inner: &Arc<Inner>,
    node: NodeRef,
    boot_id: &str,
    is_late: bool,
) -> Result<bool, InfraError> {
    let Some(look) = inner.look(node).await? else {
        return Ok(false);
    };
    let Some(Wanted::AwaitsCopy(source)) = look.record.as_ref().map(|r| r.wanted.clone()) else {
        return Ok(false);
    };
    // Before the copy is looked for: it may arrive meanwhile.
    let past = is_late || source_is_past(inner, node, source).await?;
    let _alone = inner.lock(node).await;
    let Some(look) = inner.look(node).await? else {
        return Ok(false);
    };
    let Some(mut record) = look.record.clone() else {
        return Ok(false);
    };
    if record.wanted != Wanted::AwaitsCopy(source)
        || record.boot.as_ref().is_none_or(|b| b.boot_id != boot_id)
    {
        return Ok(false);
    }
    let handle = inner.nodes.handle(node);
    let is_copied = look.report.as_ref().is_some_and(|r| r.phase == Phase::Copied);
    if is_copied || ahead::give(inner, &look, source).await? {
        let _starting = handle.starting();
        record.wanted = Wanted::Started;
        inner.define(&record).await?;
        handle.change();
        launch(inner, &record).await?;
        return Ok(false);
    }
    if past {
        record.wanted = Wanted::NoCopy("no copy of the first node came".to_owned());
        inner.save_off(&record, true).await?;
        handle.change();
        return Ok(false);
    }
    Ok(true)
}

/// Whether the source of a copy is gone, or has its own data already: then no copy comes any more.
pub(crate) async fn source_is_past(
    inner: &Arc<Inner>,
    node: NodeRef,
    source: NodeId,
) -> Result<bool, InfraError> {
    let source = NodeRef {
        instance: node.instance,
        node: source,
    };
    let handle = inner.nodes.handle(source);
    if handle.is_copying() {
        return Ok(false);
    }
    let Some(look) = inner.look(source).await? else {
        inner.nodes.forget(source, &handle);
        return Ok(true);
    };
    let Ok(record) = look.existing() else {
        return Ok(true);
    };
    resume(inner, &look, &record);
    if look.state == State::Undefined {
        return Ok(false);
    }
    if let Some(set) = record.pooled.filter(|_| record.copies.contains(&node.node)) {
        return Ok(!ahead::is_kept(inner, set, source).await?);
    }
    let initialises = record.wanted == Wanted::Started
        && look.is_on()
        && record
            .boot
            .as_ref()
            .is_some_and(|b| b.prepare == PrepareKind::Init)
        && !matches!(
            look.report_of_boot().map(|r| r.phase),
            Some(Phase::Up | Phase::Failed | Phase::Ended)
        );
    let to_copy = initialises && record.copies.contains(&node.node);
    if initialises {
        // It may have nothing to copy for this one, and then never will.
        return Ok(!to_copy && look.data() == DataState::Initialised);
    }
    Ok(look.data() == DataState::Initialised)
}
