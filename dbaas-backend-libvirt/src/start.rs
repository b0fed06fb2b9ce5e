//! `apply` and `start`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::{DataState, InfraError, InfraErrorKind, NodeRef, NodeSpec, Resources};
use dbaas_node_start::NODE_SCRIPT;
use dbaas_node_start::archive::Account;
use dbaas_node_start::control::{Boot, Job, PrepareKind, boot_upload};

use crate::ahead;
use crate::backend::Inner;
use crate::control_disk::{self, Due, Phase};
use crate::copies;
use crate::handle::Handle;
use crate::look::{Look, State, not_found};
use crate::names::{self, Volume};
use crate::network::free_address;
use crate::record::{FORMAT, Record, Wanted};
use crate::xml::Accelerator;

const GB: u64 = 1024 * 1024 * 1024;
/// The name of the script in the archive.
const SCRIPT_FILE: &str = "node.sh";
/// How large WAL segments are to be where machines are emulated, in MB, and where the script looks for it. A
/// promotion copies the segment that it is in, and a standby that follows another primary asks for all of it
/// twice: with PostgreSQL's own 16 MB these were up to two seconds of each failover there.
const SEGMENTS_EMULATED: (&str, &str) = ("wal-segments", "1\n");

pub(crate) fn disk_bytes(resources: &Resources) -> u64 {
    u64::from(resources.disk).saturating_mul(GB)
}

fn invalid(message: impl Into<String>) -> InfraError {
    InfraError::new(InfraErrorKind::InvalidState, message)
}

pub(crate) async fn apply(inner: &Arc<Inner>, handle: &Handle, spec: NodeSpec) -> Result<(), InfraError> {
    let node = spec.node;
    inner.refresh_pool().await?;
    let Some(look) = inner.look(node).await? else {
        return make(inner, handle, spec).await;
    };
    let Some(known) = look.record.clone() else {
        let message = format!(
            "there is a domain or a volume {} that is not ours; it is left alone",
            names::domain(node)
        );
        return Err(InfraError::new(InfraErrorKind::Collision, message));
    };
    check_disk(&known, &spec.resources)?;
    let mut record = known.clone();
    record.spec = spec;
    if record.wanted == Wanted::Kept {
        record.wanted = Wanted::Off;
    }
    if look.is_on() {
        grow_data(inner, &look, &known, &record).await?;
        if record != known {
            inner.define(&record).await?;
        }
    } else {
        if record.spec.image != known.spec.image {
            record.image = inner.image(&record.spec.image).await?;
        }
        let complete = complete(inner, &look, &known, &record).await?;
        if record != known || !complete || look.state == State::Undefined {
            match record.wanted {
                // What was put on the control disk for the start is still to be used.
                Wanted::AwaitsCopy(_) => inner.define(&record).await?,
                _ => inner.save_off(&record, false).await?,
            }
        }
    }
    handle.change();
    inner.nodes.changed(node);
    Ok(())
}

async fn make(inner: &Arc<Inner>, handle: &Handle, spec: NodeSpec) -> Result<(), InfraError> {
    let node = spec.node;
    let image = inner.image(&spec.image).await?;
    let subnet = inner.subnet().await?;
    let made = async {
        // From here on until the record is written nobody else chooses an address.
        let _choosing = inner.addresses.lock().await;
        let record = Record {
            format: FORMAT,
            owner: inner.options.owner.clone(),
            spec,
            address: free_address(&subnet, &addresses(inner).await?, |ip| {
                inner.options.can_be_told(ip, subnet.prefix)
            })?,
            wanted: Wanted::Off,
            boot: None,
            copies: Vec::new(),
            pooled: None,
            image,
        };
        let control = names::volume(node, Volume::Control);
        inner.create_volume(&control, control_disk::BYTES).await?;
        if let Err(error) = inner.save_off(&record, false).await {
            // Without a record nobody knows any more whose it is.
            let _ = inner.libvirt.run(&["undefine", &names::domain(node)], None).await;
            let _ = inner.delete_volume(&control).await;
            return Err(error);
        }
        Ok::<Record, InfraError>(record)
    };
    let record = match made.await {
        Err(e) if says_exists(&e) => {
            // Not seen in the pool's list before, and in the way: somebody's.
            return Err(InfraError::new(InfraErrorKind::Collision, e.to_string()));
        }
        other => other?,
    };
    handle.change();
    let look = inner.look(node).await?.ok_or_else(|| not_found(node))?;
    complete(inner, &look, &record, &record).await?;
    handle.change();
    inner.nodes.changed(node);
    Ok(())
}

fn says_exists(error: &InfraError) -> bool {
    error.to_string().contains("exists already") || error.to_string().contains("already exists")
}

/// Addresses of all nodes on this libvirt, whoever owns them.
async fn addresses(inner: &Inner) -> Result<BTreeSet<Ipv4Addr>, InfraError> {
    let (domains, volumes) = inner.named("dbaas-").await?;
    let mut questions: Vec<String> = domains
        .iter()
        .map(|node| format!("dumpxml --inactive {}", names::domain(*node)))
        .collect();
    // Kept ones have no domain, and their addresses nevertheless.
    let without: Vec<NodeRef> = volumes
        .keys()
        .filter(|node| !domains.contains(node))
        .copied()
        .collect();
    questions.extend(without.iter().map(|node| {
        inner.read_question(
            &names::volume(*node, Volume::Control),
            0,
            control_disk::BLOCK as u64,
        )
    }));
    let answers = inner.libvirt.ask(&questions).await?;
    let mut taken = BTreeSet::new();
    for (node, answer) in domains.iter().chain(&without).zip(answers) {
        let json = if domains.contains(node) {
            crate::xml::read_domain(&answer)?.ours.map(|(_, json)| json)
        } else {
            control_disk::record_of(&answer)
        };
        let ip: Option<Ipv4Addr> = json
            .and_then(|json| Record::parse(&json, *node).ok())
            .and_then(|record| record.ip().parse().ok());
        taken.extend(ip);
    }
    Ok(taken)
}

fn check_disk(known: &Record, wanted: &Resources) -> Result<(), InfraError> {
    if wanted.disk < known.spec.resources.disk {
        let message = "a data disk never shrinks";
        return Err(InfraError::new(InfraErrorKind::Unsupported, message));
    }
    Ok(())
}

/// Makes the volumes that a node which is off lacks, and gives its data disk its size. Whether nothing was
/// missing.
async fn complete(inner: &Inner, look: &Look, known: &Record, record: &Record) -> Result<bool, InfraError> {
    let node = record.node();
    let (root, data, control) = (
        names::volume(node, Volume::Root),
        names::volume(node, Volume::Data),
        names::volume(node, Volume::Control),
    );
    let mut whole = true;
    if !look.has(Volume::Control) {
        if look.has(Volume::Data) {
            // Nobody can tell any more what is on it.
            tracing::warn!(node = %node.node, "the node's control disk is gone; its data disk is made anew");
            inner.delete_volume(&data).await?;
        }
        inner.create_volume(&control, control_disk::BYTES).await?;
        whole = false;
    }
    if !look.has(Volume::Data) || !look.has(Volume::Control) {
        inner
            .write_at(&control, control_disk::REPORT_AT, control_disk::no_report())
            .await?;
        inner.create_volume(&data, ahead::data_bytes(record)).await?;
        whole = false;
    } else {
        grow_data(inner, look, known, record).await?;
    }
    if record.image.root != known.image.root && look.has(Volume::Root) {
        inner.delete_volume(&root).await?;
    }
    if record.image.root != known.image.root || !look.has(Volume::Root) {
        inner.create_root(node, &record.image).await?;
        whole = false;
    }
    if !look.has(Volume::Console) {
        let console = names::volume(node, Volume::Console);
        match inner.create_volume(&console, 1).await {
            Err(e) if !says_exists(&e) => return Err(e),
            _ => {}
        }
        whole = false;
    }
    Ok(whole)
}

/// Gives the data disk its size: of a machine that runs, too.
async fn grow_data(inner: &Inner, look: &Look, known: &Record, record: &Record) -> Result<(), InfraError> {
    if record.spec.resources.disk <= known.spec.resources.disk {
        return Ok(());
    }
    let bytes = disk_bytes(&record.spec.resources);
    if look.is_on() {
        // The boot script sees it, and the file system follows.
        let (name, size) = (names::domain(look.node), format!("{bytes}B"));
        let command = ["blockresize", &name, "vdb", &size];
        return inner.libvirt.run(&command, None).await.map(|_| ());
    }
    inner
        .grow_volume(&names::volume(look.node, Volume::Data), bytes)
        .await
}

/// What a start does before PostgreSQL.
enum Plan {
    Run(Job),
    Await(NodeId),
    NoCopy,
}

pub(crate) async fn start(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    node: NodeRef,
    recipe: BootRecipe,
) -> Result<(), InfraError> {
    recipe.check_files()?;
    // Somebody may have taken a volume away since the pool was looked at.
    inner.refresh_pool().await?;
    let look = inner.look_alone(node).await?.ok_or_else(|| not_found(node))?;
    let known = look.existing()?;
    let booted = known.boot.as_ref().map(|b| b.epoch);
    if let Some(newer) = booted.filter(|e| *e > recipe.epoch) {
        let message = format!(
            "the node is at epoch {newer}, a start of epoch {} is stale",
            recipe.epoch
        );
        return Err(InfraError::new(InfraErrorKind::StaleEpoch, message));
    }
    let awaits = matches!(known.wanted, Wanted::AwaitsCopy(_));
    if look.is_on() || awaits {
        if booted == Some(recipe.epoch) && (awaits || known.wanted == Wanted::Started) {
            return Ok(());
        }
        if look.is_on() {
            return Err(invalid(
                "the node runs already, by a recipe of another epoch; switch it off first",
            ));
        }
    }
    check_major(known.boot.as_ref(), &known.spec)?;
    let plan = plan(inner, &look, &known, &recipe).await?;
    // From here on until it runs it is neither off nor dead.
    let _starting = handle.starting();
    let mut record = known.clone();
    complete(inner, &look, &known, &record).await?;
    let boot = Boot {
        epoch: recipe.epoch,
        boot_id: uuid::Uuid::new_v4().to_string(),
        prepare: PrepareKind::of(&recipe.prepare),
        major: known
            .spec
            .image
            .major()
            .or(known.boot.as_ref().and_then(|b| b.major)),
    };
    record.boot = Some(boot.clone());
    let mut job = match plan {
        Plan::NoCopy => {
            let why = "the first node has a data directory already and left no copy here";
            record.wanted = Wanted::NoCopy(why.to_owned());
            inner.save_off(&record, true).await?;
            drop(_starting);
            inner.nodes.changed(node);
            return Ok(());
        }
        Plan::Await(source) => {
            record.wanted = Wanted::AwaitsCopy(source);
            Job::Existing
        }
        Plan::Run(job) => {
            record.wanted = Wanted::Started;
            job
        }
    };
    // Begun again, its standbys' copies are those that they were.
    if job != Job::InitAhead {
        (record.copies, record.pooled) = (Vec::new(), None);
    }
    if let (Job::Init, Prepare::Init { seeds, .. }) = (job, &recipe.prepare) {
        record.copies = seeds.iter().copied().filter(|seed| *seed != node.node).collect();
        if ahead::is_set(node) {
            job = Job::MakeAhead;
        } else {
            record.pooled = from_warm_pool(inner, &record).await;
        }
        if record.pooled.is_some() {
            job = Job::InitAhead;
        }
    }
    let format = match job {
        Job::Init | Job::MakeAhead => true,
        // What is there is a copy, or is to be one.
        Job::Existing | Job::InitAhead => false,
        _ => look.data() == DataState::Empty,
    };
    put(inner, &record, &boot, job, &recipe, format).await?;
    inner.define(&record).await?;
    handle.change();
    if awaits_copy(&record) {
        copies::await_copy(inner, node, &boot.boot_id);
    } else {
        launch(inner, &record).await?;
        // Whoever makes a set follows it.
        if !ahead::is_set(node) {
            copies::follow(inner, node, &boot.boot_id);
        }
    }
    drop(_starting);
    inner.nodes.changed(node);
    Ok(())
}

/// A clone of a set of the warm pool in place of the data disk. `None`: there is no set, or it could not be
/// cloned; the disk is an empty one.
async fn from_warm_pool(inner: &Inner, record: &Record) -> Option<NodeId> {
    let cloned = async {
        let Some(set) = ahead::take(inner, record).await? else {
            return Ok(None);
        };
        let look = inner.look(record.node()).await?;
        let look = look.ok_or_else(|| not_found(record.node()))?;
        ahead::clone_to(inner, set, &look, record).await?;
        Ok::<_, InfraError>(Some(set))
    };
    match cloned.await {
        Ok(set) => set,
        Err(error) => {
            tracing::warn!(node = %record.node().node, %error, "a set of the warm pool cannot be used");
            None
        }
    }
}

fn awaits_copy(record: &Record) -> bool {
    matches!(record.wanted, Wanted::AwaitsCopy(_))
}

/// Writes the start on the control disk.
async fn put(
    inner: &Inner,
    record: &Record,
    boot: &Boot,
    job: Job,
    recipe: &BootRecipe,
    format: bool,
) -> Result<(), InfraError> {
    let root = Account { uid: 0, gid: 0 };
    let mut others = vec![(SCRIPT_FILE, NODE_SCRIPT)];
    if inner.accelerator().await? == Accelerator::Emulated {
        others.push(SEGMENTS_EMULATED);
    }
    let archive = boot_upload(root, boot, job, recipe, &others)?;
    let subnet = inner.known_subnet().await?;
    let gateway = subnet.gateway.to_string();
    let due = Due {
        boot_id: &boot.boot_id,
        recipe,
        format,
        archive_bytes: archive.len(),
        gateway: subnet.forwards.then_some(gateway.as_str()),
    };
    let header = control_disk::header(record, Some(due), None)?;
    let control = names::volume(record.node(), Volume::Control);
    inner
        .write_at(&control, 0, control_disk::start(header, archive)?)
        .await
}

/// Starts the machine. If that fails for certain, nothing is started later on.
pub(crate) async fn launch(inner: &Inner, record: &Record) -> Result<(), InfraError> {
    let name = names::domain(record.node());
    match inner.libvirt.run(&["start", &name], None).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == InfraErrorKind::OutcomeUnknown => Err(error),
        Err(error) => {
            let mut void = record.clone();
            void.wanted = Wanted::Off;
            if let Err(e) = inner.save_off(&void, true).await {
                tracing::warn!(node = %record.node().node, error = %e, "cannot take a start back");
            }
            Err(error)
        }
    }
}

/// A data directory belongs to one major version for ever.
fn check_major(boot: Option<&Boot>, spec: &NodeSpec) -> Result<(), InfraError> {
    match (boot.and_then(|b| b.major), spec.image.major()) {
        (Some(there), Some(wanted)) if there != wanted => Err(invalid(format!(
            "the node's data directory is of PostgreSQL {there}, not {wanted}; an upgrade is not a restart"
        ))),
        _ => Ok(()),
    }
}

fn is_copy(look: &Look) -> bool {
    look.report.as_ref().is_some_and(|r| r.phase == Phase::Copied)
}

/// Whether the last start came to PostgreSQL.
fn was_up(look: &Look) -> bool {
    look.report_of_boot()
        .is_some_and(|r| matches!(r.phase, Phase::Up | Phase::Ended))
}

/// What is to be done; an error if the recipe does not fit what is there.
async fn plan(
    inner: &Arc<Inner>,
    look: &Look,
    known: &Record,
    recipe: &BootRecipe,
) -> Result<Plan, InfraError> {
    let data = look.data();
    let initialised = data == DataState::Initialised;
    let kind = PrepareKind::of(&recipe.prepare);
    let by_this_start = known
        .boot
        .as_ref()
        .is_some_and(|b| b.epoch == recipe.epoch && b.prepare == kind);
    match &recipe.prepare {
        Prepare::Existing if initialised => Ok(Plan::Run(Job::Existing)),
        Prepare::Existing => Err(invalid(format!(
            "there is no complete data directory to start from ({data:?})"
        ))),
        Prepare::Rewind { .. } if initialised => Ok(Plan::Run(Job::Rewind)),
        Prepare::Rewind { .. } => Err(invalid(format!(
            "there is no complete data directory to rewind ({data:?})"
        ))),
        Prepare::BaseBackup { .. } => Ok(Plan::Run(Job::BaseBackup)),
        // Nobody can log in before a start has given it its password.
        Prepare::Init { .. } if initialised && by_this_start && known.pooled.is_some() && !was_up(look) => {
            Ok(Plan::Run(Job::InitAhead))
        }
        // A copy that was never started is nobody's data.
        Prepare::Init { .. } if !initialised || is_copy(look) => Ok(Plan::Run(Job::Init)),
        Prepare::Init { .. } if by_this_start => Ok(Plan::Run(Job::Existing)),
        Prepare::Init { .. } => Err(invalid(
            "the node holds a database cluster already; it is not initialised again",
        )),
        Prepare::SeedOf { source } => {
            // Before the copy is looked for: it may arrive meanwhile.
            let past = copies::source_is_past(inner, look.node, *source).await?;
            let mut look = inner.look(look.node).await?.ok_or_else(|| not_found(look.node))?;
            if !is_copy(&look) && ahead::give(inner, &look, *source).await? {
                look = inner.look(look.node).await?.ok_or_else(|| not_found(look.node))?;
            }
            match look.data() {
                DataState::Initialised if is_copy(&look) || by_this_start => Ok(Plan::Run(Job::Existing)),
                DataState::Initialised => {
                    Err(invalid("the node holds a database cluster of its own already"))
                }
                _ if past => Ok(Plan::NoCopy),
                _ => Ok(Plan::Await(*source)),
            }
        }
    }
}
