//! The warm pool: data disks that were initialised ahead and never served, each with a system identifier of
//! its own. An instance then costs a clone of one, for each of its nodes, and a boot: libvirt clones volumes
//! where they lie, and these are small; a clone is made as large as it is to be, and its file system follows
//! in the guest.
//!
//! A set is a node of an instance that does not exist, so that everything that is made of nodes is made of
//! sets, too: whose it is stands on its control disk, what is left of one that was not finished is found and
//! removed. It is used for one instance, and gone when all nodes of that have their copies. Nobody knows its
//! superuser's password: the first start of the primary sets the one that was asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRecipe, BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{
    DataDisposal, DataState, InfraError, InfraErrorKind, NodeRef, NodeSpec, PowerOff, Resources,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use dbaas_core::version::ImageRef;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::backend::Inner;
use crate::control_disk;
use crate::copies::takes_copy;
use crate::look::Look;
use crate::names::{self, Volume};
use crate::record::{Record, Wanted};
use crate::start::disk_bytes;
use crate::{start, stop};

/// The instance that does not exist.
const INSTANCE: Uuid = Uuid::from_u128(0xdba5_0000_0000_8000_8000_6168_6561_6400);
/// The file system's program takes from here on the block size that data disks have.
const BYTES: u64 = 512 << 20;

const FIRST_FILL_DELAY: Duration = Duration::from_secs(2);
/// After a set was taken, an instance is being created: the pool stays out of its way for so long.
const REFILL_DELAY: Duration = Duration::from_secs(5);
/// After a failure the next try comes after this.
const RETRY_DELAY: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(300);
/// One that is not initialised by then is given up.
const MAKE_AT_MOST: Duration = Duration::from_secs(900);
/// A node that has not come for its copy by then does not come.
const KEEP_AT_MOST: Duration = Duration::from_secs(600);

/// Whether this is no node, but a set.
pub(crate) fn is_set(node: NodeRef) -> bool {
    node.instance.uuid() == INSTANCE
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::from_uuid(INSTANCE)
}

/// How many bytes a node's data disk has.
pub(crate) fn data_bytes(record: &Record) -> u64 {
    if is_set(record.node()) {
        BYTES
    } else {
        disk_bytes(&record.spec.resources)
    }
}

/// What is remembered of the warm pool.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Held while a set is chosen.
    taking: tokio::sync::Mutex<()>,
    /// Root volumes of images that instances were made of since the start.
    used: Mutex<BTreeSet<String>>,
    /// A set was taken.
    taken: Notify,
    /// Since when it is known that a set was taken.
    since: Mutex<HashMap<NodeId, Instant>>,
}

/// Takes a set for a node that is to be initialised. `None`: there is none.
pub(crate) async fn take(inner: &Inner, record: &Record) -> Result<Option<NodeId>, InfraError> {
    if inner.options.warm_sets == 0 || is_set(record.node()) {
        return Ok(None);
    }
    inner.ahead.used.lock().insert(record.image.root.clone());
    inner.ahead.taken.notify_one();
    let _taking = inner.ahead.taking.lock().await;
    for look in sets(inner).await? {
        let Some(mut set) = look.record.clone() else {
            continue;
        };
        if set.wanted == Wanted::Pooled && set.image.root == record.image.root && look.has(Volume::Data) {
            set.wanted = Wanted::Taken(record.node());
            inner.define(&set).await?;
            return Ok(Some(set.node().node));
        }
    }
    Ok(None)
}

async fn sets(inner: &Inner) -> Result<Vec<Look>, InfraError> {
    let mut looks = inner.look_at_all(&names::of_instance(instance())).await?;
    looks.retain(|look| look.record.is_some());
    Ok(looks)
}

/// Gives a node that is off a copy of a set, in place of its data disk.
pub(crate) async fn clone_to(
    inner: &Inner,
    set: NodeId,
    look: &Look,
    record: &Record,
) -> Result<(), InfraError> {
    let (data, control) = (
        names::volume(look.node, Volume::Data),
        names::volume(look.node, Volume::Control),
    );
    // While it is being written it is nobody's data.
    inner
        .write_at(&control, control_disk::REPORT_AT, control_disk::no_report())
        .await?;
    if look.has(Volume::Data) {
        inner.delete_volume(&data).await?;
    }
    let from = names::volume(set_ref(set), Volume::Data);
    inner.clone_volume(&data, data_bytes(record), &from).await?;
    inner
        .write_at(&control, control_disk::REPORT_AT, control_disk::report_of_copy())
        .await
}

/// Gives a standby that is off its copy of the set that its source was made of, if there is one. Whether it
/// was given one.
pub(crate) async fn give(inner: &Inner, look: &Look, source: NodeId) -> Result<bool, InfraError> {
    let Some(record) = look.record.as_ref().filter(|_| takes_copy(look)) else {
        return Ok(false);
    };
    let source = NodeRef {
        instance: look.node.instance,
        node: source,
    };
    let Some(of_source) = inner.look(source).await?.and_then(|look| look.record) else {
        return Ok(false);
    };
    let Some(set) = of_source
        .pooled
        .filter(|_| of_source.copies.contains(&look.node.node))
    else {
        return Ok(false);
    };
    if !is_kept(inner, set, source).await? {
        return Ok(false);
    }
    clone_to(inner, set, look, record).await?;
    Ok(true)
}

/// Whether a set that was taken for a node is still there.
pub(crate) async fn is_kept(inner: &Inner, set: NodeId, by: NodeRef) -> Result<bool, InfraError> {
    let look = inner.look(set_ref(set)).await?;
    Ok(look.is_some_and(|look| {
        look.has(Volume::Data)
            && look
                .record
                .is_some_and(|record| record.wanted == Wanted::Taken(by))
    }))
}

fn set_ref(set: NodeId) -> NodeRef {
    NodeRef {
        instance: instance(),
        node: set,
    }
}

/// Keeps the pool filled for as long as the backend lives.
pub(crate) async fn keep_filled(weak: Weak<Inner>) {
    let mut pause = FIRST_FILL_DELAY;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = weak.upgrade() else { return };
        let next = match fill(&inner).await {
            Ok(pause) => pause,
            Err(error) if error.kind() == InfraErrorKind::Unavailable => RETRY_DELAY,
            Err(error) => {
                tracing::warn!(%error, "the warm pool cannot be filled");
                RETRY_DELAY
            }
        };
        let ahead = Arc::clone(&inner.ahead);
        drop(inner);
        // Somebody who takes a set wakes it, and is left alone first.
        pause = match tokio::time::timeout(next, ahead.taken.notified()).await {
            Ok(()) => REFILL_DELAY,
            Err(_) => Duration::ZERO,
        };
    }
}

/// Looks once through the pool and makes what is missing. When to look again.
async fn fill(inner: &Arc<Inner>) -> Result<Duration, InfraError> {
    let mut ready: Vec<String> = Vec::new();
    let mut taken = false;
    for look in sets(inner).await? {
        let Some(record) = &look.record else { continue };
        match &record.wanted {
            Wanted::Pooled if inner.options.warm_sets > 0 => ready.push(record.image.root.clone()),
            Wanted::Taken(by) if !is_done(inner, look.node.node, *by).await? => taken = true,
            // Used, or of an earlier program that did not finish it.
            _ => discard(inner, look.node).await?,
        }
    }
    let again = if taken { REFILL_DELAY } else { IDLE };
    if inner.options.warm_sets == 0 {
        return Ok(again);
    }
    let mut images = inner.all_images().await?;
    let newest = images.last().map(|(_, image)| image.root.clone());
    images.reverse();
    for (name, image) in images {
        let root = image.root;
        let is_wanted = Some(&root) == newest.as_ref() || inner.ahead.used.lock().contains(&root);
        let there = ready.iter().filter(|of| **of == root).count();
        if !is_wanted || there >= inner.options.warm_sets {
            continue;
        }
        if inner.nodes.are_preparing() {
            return Ok(REFILL_DELAY);
        }
        let began = Instant::now();
        let node = set_ref(NodeId::from_uuid(Uuid::now_v7()));
        if let Err(error) = make(inner, node, name).await {
            discard(inner, node).await?;
            return Err(error);
        }
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(image = %root, took_ms, "a set of the warm pool is ready");
        return Ok(Duration::ZERO);
    }
    Ok(again)
}

/// Whether a set that was taken is needed no more.
async fn is_done(inner: &Inner, set: NodeId, by: NodeRef) -> Result<bool, InfraError> {
    let since = *inner.ahead.since.lock().entry(set).or_insert_with(Instant::now);
    if since.elapsed() > KEEP_AT_MOST {
        return Ok(true);
    }
    let handle = inner.nodes.handle(by);
    if handle.is_starting() {
        return Ok(false);
    }
    let Some(record) = inner.look(by).await?.and_then(|look| look.record) else {
        inner.nodes.forget(by, &handle);
        return Ok(true);
    };
    if record.pooled != Some(set) {
        return Ok(true);
    }
    for seed in &record.copies {
        let node = NodeRef {
            instance: by.instance,
            node: *seed,
        };
        let look = inner.look(node).await?;
        if look.is_none_or(|look| look.data() != DataState::Initialised) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a set, whatever state it is in.
pub(crate) async fn discard(inner: &Arc<Inner>, node: NodeRef) -> Result<(), InfraError> {
    let _alone = inner.lock(node).await;
    let handle = inner.nodes.handle(node);
    stop::power_off(inner, &handle, node, PowerOff::Immediate).await?;
    stop::remove(inner, &handle, node, DataDisposal::Delete).await?;
    inner.ahead.since.lock().remove(&node.node);
    inner.nodes.forget(node, &handle);
    Ok(())
}

/// Removes what is not finished: nobody goes on with it.
pub(crate) async fn discard_unfinished(inner: &Arc<Inner>) -> Result<(), InfraError> {
    for look in sets(inner).await? {
        let is_unfinished = |record: &Record| !matches!(record.wanted, Wanted::Pooled | Wanted::Taken(_));
        if look.record.as_ref().is_some_and(is_unfinished) {
            discard(inner, look.node).await?;
        }
    }
    Ok(())
}

/// Removes every set.
pub(crate) async fn discard_all(inner: &Arc<Inner>) -> Result<(), InfraError> {
    for look in sets(inner).await? {
        discard(inner, look.node).await?;
    }
    Ok(())
}

/// How many sets can be taken.
pub(crate) async fn ready(inner: &Inner) -> Result<usize, InfraError> {
    let is_ready = |look: &Look| look.record.as_ref().is_some_and(|r| r.wanted == Wanted::Pooled);
    Ok(sets(inner).await?.iter().filter(|look| is_ready(look)).count())
}

/// Boots a machine that initialises its data disk, and ends it when that is done.
async fn make(inner: &Arc<Inner>, node: NodeRef, image: ImageRef) -> Result<(), InfraError> {
    let resources = Resources {
        cpu: CpuCores::MIN,
        ram: RamMb::MIN,
        disk: DiskGb::MIN,
    };
    let spec = NodeSpec::new(node, "ahead", image, resources);
    let prepare = Prepare::Init {
        // Nobody keeps it.
        admin_password: Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())),
        // Nobody either: this has the guest wait when it has initialised the disk.
        seeds: vec![NodeId::from_uuid(Uuid::nil())],
    };
    let recipe = BootRecipe::new(Epoch(0), prepare, BootRole::Primary, Vec::new());
    let _alone = inner.lock(node).await;
    let handle = inner.nodes.handle(node);
    start::apply(inner, &handle, spec).await?;
    start::start(inner, &handle, node, recipe).await?;
    let until = Instant::now() + MAKE_AT_MOST;
    let gone = || {
        InfraError::new(
            InfraErrorKind::Other,
            "a set of the warm pool vanished while it was made",
        )
    };
    loop {
        let look = inner.look(node).await?.ok_or_else(gone)?;
        if look.waits_for_copies() {
            break;
        }
        if !look.is_on() || Instant::now() > until {
            let said = inner.console(&look, 5).await.unwrap_or_default();
            let message = format!(
                "a data disk cannot be initialised ahead: {}; the console ends with: {said}",
                look.reason
            );
            return Err(InfraError::new(InfraErrorKind::Other, message));
        }
        let told = handle.told.notified();
        let _ = tokio::time::timeout(POLL, told).await;
    }
    // Nothing of the disk has changed since the guest said so, and nothing does any more.
    stop::destroy(inner, node).await?;
    let look = inner.look(node).await?.ok_or_else(gone)?;
    let finished = look.report_of_boot().map(|report| report.phase) == Some(control_disk::Phase::Initialised);
    let mut record = look.record.filter(|_| finished).ok_or_else(|| {
        InfraError::new(
            InfraErrorKind::Other,
            "the guest did not wait until its disk was taken",
        )
    })?;
    record.wanted = Wanted::Pooled;
    inner.save_off(&record, true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_no_nodes() {
        let node = NodeRef {
            instance: InstanceId::from_uuid(Uuid::from_u128(1)),
            node: NodeId::from_uuid(Uuid::from_u128(2)),
        };
        assert!(!is_set(node));
        let set = set_ref(NodeId::from_uuid(Uuid::from_u128(2)));
        assert!(is_set(set));
        assert_eq!(names::node_of_domain(&names::domain(set)), Some(set));
    }
}
