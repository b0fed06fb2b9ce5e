//! `apply` and `start`: makes a node, and puts a ticket and a job into its volume for the container's script.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::config::AutoConf;
use dbaas_core::infrastructure::{DataState, InfraError, InfraErrorKind, NodeRef, NodeSpec, PowerState};
use futures_util::StreamExt;

use crate::backend::Inner;
use crate::container::Found;
use crate::engine::{invalid, shown};
use crate::handle::Handle;
use crate::image::{self, Image};
use crate::names;
use crate::observe::{control, data_state, power};
use crate::volume::Place;
use dbaas_node_start::control::{
    Boot, Control, Job, PrepareKind, Ticket, boot_upload, spec_upload, ticket_upload,
};

/// The longest preparation that is followed for the sake of a hint.
const FOLLOW_AT_MOST: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn apply(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    spec: NodeSpec,
) -> Result<(), InfraError> {
    let docker = inner.engine.docker().await?;
    let image = image::ensure(inner, &spec.image, spec.node.instance).await?;
    // Whatever is somebody else's is to be found before anything is made.
    inner.find(&docker, spec.node).await?;
    let network = inner.ensure_network(&docker, spec.node.instance).await?;
    let (volume, is_new) = inner
        .ensure_volume(&docker, &spec, &image, &network.subnet)
        .await?;
    let found = match inner.find(&docker, spec.node).await? {
        Some(found) => found,
        None => {
            let place = Place::of(&volume.labels)?;
            inner.create_container(&docker, &spec, &place, &image).await?;
            inner.find(&docker, spec.node).await?.ok_or_else(vanished)?
        }
    };
    grow_disk(inner, handle, &found, &spec).await?;
    let known = if is_new {
        Control::empty()
    } else {
        control(inner, &docker, handle, &found).await?
    };
    check_major(known.boot.as_ref(), &image)?;
    let returns = known.spec.is_none() || known.ticket == Ticket::Kept;
    if known.spec.as_ref() == Some(&spec) && !returns {
        return Ok(());
    }
    let limits = known.spec.as_ref().map(|s| s.resources);
    if limits.is_some_and(|limits| limits != spec.resources) {
        inner.update_limits(&docker, &found.id, &spec.resources).await?;
    }
    let account = inner.account(&docker, &found).await?;
    let upload = spec_upload(account, &spec, returns.then_some(&Ticket::Off))?;
    handle.forget();
    let written = inner.upload(&docker, &found, upload).await;
    handle.forget();
    written?;
    if is_new && !found.running {
        let control = Control {
            spec: Some(spec.clone()),
            ..Control::empty()
        };
        handle.remember_empty(found.life.clone(), control);
    }
    inner.kept.lock().retain(|(node, _)| *node != spec.node);
    inner.nodes.changed(spec.node);
    Ok(())
}

/// Gives the node's disk its size, if it is off: at the latest before its next start. Nothing may have the
/// volume mounted meanwhile.
async fn grow_disk(
    inner: &Inner,
    handle: &Arc<Handle>,
    found: &Found,
    spec: &NodeSpec,
) -> Result<(), InfraError> {
    let (node, size) = (spec.node.node, spec.resources.disk);
    match &inner.disks {
        Some(disks) if !found.running && disks.is_smaller(node, size) => {
            let _not_looked_at = handle.starting();
            disks.grow(node, size).await
        }
        _ => Ok(()),
    }
}

pub(crate) fn not_found(node: NodeRef) -> InfraError {
    InfraError::new(
        InfraErrorKind::NotFound,
        format!("there is no node {}", node.node),
    )
}

fn vanished() -> InfraError {
    InfraError::new(
        InfraErrorKind::Other,
        "the node's container was removed while it was being made",
    )
}

/// The container of a node that exists, made again if somebody removed it.
pub(crate) async fn existing(
    inner: &Arc<Inner>,
    docker: &Docker,
    node: NodeRef,
) -> Result<Found, InfraError> {
    inner
        .restore_container(docker, node)
        .await?
        .ok_or_else(|| not_found(node))
}

/// A data directory belongs to one major version for ever.
fn check_major(boot: Option<&Boot>, image: &Image) -> Result<(), InfraError> {
    match (boot.and_then(|b| b.major), image.major) {
        (Some(there), Some(wanted)) if there != wanted => Err(invalid(format!(
            "the node's data directory is of PostgreSQL {there}, not {wanted}; an upgrade is not a restart"
        ))),
        _ => Ok(()),
    }
}

pub(crate) async fn start(
    inner: &Arc<Inner>,
    handle: &Arc<Handle>,
    node: NodeRef,
    recipe: BootRecipe,
) -> Result<(), InfraError> {
    recipe.check_files()?;
    let docker = inner.engine.docker().await?;
    let found = existing(inner, &docker, node).await?;
    let known = control(inner, &docker, handle, &found).await?;
    let spec = known.spec.clone().filter(|_| known.ticket != Ticket::Kept);
    let spec = spec.ok_or_else(|| not_found(node))?;

    let kept = if handle.is_empty(&found) {
        None
    } else {
        epoch_in_data(inner, &docker, &found).await?
    };
    let booted = known.boot.as_ref().map(|b| b.epoch);
    if let Some(newer) = kept.max(booted).filter(|e| *e > recipe.epoch) {
        let message = format!(
            "the node is at epoch {newer}, a start of epoch {} is stale",
            recipe.epoch
        );
        return Err(InfraError::new(InfraErrorKind::StaleEpoch, message));
    }
    if found.running {
        return if booted == Some(recipe.epoch) {
            Ok(())
        } else {
            Err(invalid(
                "the node runs already, by a recipe of another epoch; switch it off first",
            ))
        };
    }
    grow_disk(inner, handle, &found, &spec).await?;
    // From here on the engine is busy with the container.
    let _starting = handle.starting();
    let image = image_of_start(inner, &docker, &spec, &found).await?;
    check_major(known.boot.as_ref(), &image)?;
    let job = job(inner, &docker, handle, &found, &known, node, &recipe).await?;

    if matches!(job, Job::Init | Job::InitElsewhere) {
        handle.initialises();
    }
    let found = converge(inner, &docker, handle, found, &spec, &image).await?;
    let account = inner.account(&docker, &found).await?;
    let boot = Boot {
        epoch: recipe.epoch,
        boot_id: uuid::Uuid::new_v4().to_string(),
        prepare: PrepareKind::of(&recipe.prepare),
        major: image.major.or(known.boot.as_ref().and_then(|b| b.major)),
    };
    let upload = boot_upload(account, &boot, job, &recipe, &[])?;
    handle.forget();
    let written = inner.upload(&docker, &found, upload).await;
    handle.forget();
    written?;
    if let Err(error) = run(inner, &docker, &found, node, job, &boot, &recipe).await {
        if error.kind() != InfraErrorKind::OutcomeUnknown {
            // Nothing is to be started by this ticket later on.
            let void = ticket_upload(account, &Ticket::Off)?;
            if let Err(e) = inner.upload(&docker, &found, void).await {
                tracing::warn!(node = %node.node, error = %e, "cannot take a start back");
            }
            handle.forget();
        }
        return Err(error);
    }
    // One that has ended already has more to tell.
    let started = inner.find(&docker, node).await?;
    handle.found(started.as_ref());
    if let Some(started) = started.filter(|f| f.running) {
        handle.remember(
            started.life,
            Control {
                spec: Some(spec),
                ticket: Ticket::Start,
                boot: Some(boot.clone()),
                up: false,
                failed: None,
            },
        );
    }
    if job != Job::Existing {
        follow_preparation(inner, node, found.id.clone(), boot.boot_id.clone());
    }
    inner.nodes.changed(node);
    Ok(())
}

/// Starts the containers.
async fn run(
    inner: &Arc<Inner>,
    docker: &Docker,
    found: &Found,
    node: NodeRef,
    job: Job,
    boot: &Boot,
    recipe: &BootRecipe,
) -> Result<(), InfraError> {
    let server = async {
        docker
            .start_container(&found.id, None)
            .await
            .map_err(|e| shown("starting the node's container", &e))
    };
    if let (Job::InitElsewhere, Prepare::Init { seeds, .. }) = (job, &recipe.prepare) {
        let mut there = Vec::new();
        for &seed in seeds.iter().filter(|seed| **seed != node.node) {
            let seed = NodeRef {
                instance: node.instance,
                node: seed,
            };
            if inner.find_volume(docker, seed).await?.is_some() {
                there.push(seed);
            }
        }
        for seed in &there {
            // Its volume is not as empty any more as it was made.
            inner.nodes.handle(*seed).forget();
        }
        remove_init(inner, docker, node).await?;
        // Both at once: a container takes longer to start than to wait.
        let init = inner.run_init(docker, node, &found.image_id, &boot.boot_id, &there);
        let (init, server) = tokio::join!(init, server);
        return init.and(server);
    }
    server.await
}

/// Removes what is left of an earlier initialisation.
async fn remove_init(inner: &Arc<Inner>, docker: &Docker, node: NodeRef) -> Result<(), InfraError> {
    for id in inner.containers_of(docker, node).await? {
        let labels = crate::engine::if_there(docker.inspect_container(&id, None).await)
            .map_err(|e| shown("looking at a container", &e))?
            .and_then(|c| c.config?.labels)
            .unwrap_or_default();
        if labels
            .get(names::ROLE)
            .is_some_and(|role| role == names::ROLE_INIT)
        {
            inner.remove_container(docker, &id).await?;
        }
    }
    Ok(())
}

async fn epoch_in_data(inner: &Inner, docker: &Docker, found: &Found) -> Result<Option<Epoch>, InfraError> {
    let path = format!("{}/pgdata/postgresql.auto.conf", found.node_dir);
    let files = inner.download(docker, &found.id, &path).await?;
    Ok(files
        .as_ref()
        .and_then(|f| f.get("postgresql.auto.conf"))
        .and_then(|text| AutoConf::parse_epoch(text.expose())))
}

/// The image that the node's container has, or is to have after the version changed.
async fn image_of_start(
    inner: &Arc<Inner>,
    docker: &Docker,
    spec: &NodeSpec,
    found: &Found,
) -> Result<Image, InfraError> {
    let same = found
        .labels
        .get(names::IMAGE)
        .is_some_and(|i| i == spec.image.as_str());
    if same && let Some(image) = image::by_id(docker, &found.image_id).await? {
        // A tag that has moved on meanwhile does not change a node behind anybody's back.
        return Ok(image);
    }
    image::ensure(inner, &spec.image, spec.node.instance).await
}

/// Makes the container anew if it is not what the node has to be, and puts it on its network.
async fn converge(
    inner: &Arc<Inner>,
    docker: &Docker,
    handle: &Handle,
    found: Found,
    spec: &NodeSpec,
    image: &Image,
) -> Result<Found, InfraError> {
    let port = found.port().ok_or_else(|| {
        InfraError::new(
            InfraErrorKind::Other,
            "the node's container lacks the label of its port",
        )
    })?;
    let network = inner.ensure_network(docker, spec.node.instance).await?;
    // A container clings to the network that it was made on, also when somebody removed that and there is
    // another of the same name.
    let stale = !found.network_id.is_empty() && found.network_id != network.id;
    if !stale && found.labels.get(names::CONFIG) == Some(&inner.config_of(spec, port)) {
        inner.ensure_connected(docker, spec.node, &found).await?;
        return Ok(found);
    }
    handle.forget();
    inner.remove_container(docker, &found.id).await?;
    inner
        .create_container(docker, spec, &Place::of(&found.labels)?, image)
        .await?;
    handle.forget();
    inner.find(docker, spec.node).await?.ok_or_else(vanished)
}

/// What is to be done before the server is started; an error if the recipe does not fit what is there.
async fn job(
    inner: &Arc<Inner>,
    docker: &Docker,
    handle: &Handle,
    found: &Found,
    known: &Control,
    node: NodeRef,
    recipe: &BootRecipe,
) -> Result<Job, InfraError> {
    let data = if handle.is_empty(found) {
        DataState::Empty
    } else {
        data_state(inner, docker, found).await?
    };
    let initialised = data == DataState::Initialised;
    let kind = PrepareKind::of(&recipe.prepare);
    let by_this_start = known
        .boot
        .as_ref()
        .is_some_and(|b| b.epoch == recipe.epoch && b.prepare == kind);
    match &recipe.prepare {
        Prepare::Existing if initialised => Ok(Job::Existing),
        Prepare::Existing => Err(invalid(format!(
            "there is no complete data directory to start from ({data:?})"
        ))),
        Prepare::Rewind { .. } if initialised => Ok(Job::Rewind),
        Prepare::Rewind { .. } => Err(invalid(format!(
            "there is no complete data directory to rewind ({data:?})"
        ))),
        Prepare::BaseBackup { .. } => Ok(Job::BaseBackup),
        Prepare::Init { seeds, .. } if !initialised => Ok(if seeds.iter().any(|s| *s != node.node) {
            Job::InitElsewhere
        } else {
            Job::Init
        }),
        Prepare::Init { .. } if by_this_start => Ok(Job::Existing),
        Prepare::Init { .. } => Err(invalid(
            "the node holds a database cluster already; it is not initialised again",
        )),
        Prepare::SeedOf { source } => {
            let started = initialised && inner.exists(docker, found, "pgdata/postmaster.opts").await?;
            match (initialised, started) {
                (true, false) => Ok(Job::Existing),
                (true, true) if by_this_start => Ok(Job::Existing),
                (true, true) => Err(invalid("the node holds a database cluster of its own already")),
                (false, _) if source_is_past(inner, docker, node, *source).await? => {
                    // The source may have placed the copy while it was looked at.
                    let now = data_state(inner, docker, found).await?;
                    Ok(if now == DataState::Initialised {
                        Job::Existing
                    } else {
                        Job::NoSeed
                    })
                }
                (false, _) => Ok(Job::Seed),
            }
        }
    }
}

/// Whether the source of a copy is gone, or has its own data already: then no copy comes any more.
async fn source_is_past(
    inner: &Arc<Inner>,
    docker: &Docker,
    node: NodeRef,
    source: dbaas_core::id::NodeId,
) -> Result<bool, InfraError> {
    let source = NodeRef {
        instance: node.instance,
        node: source,
    };
    let of_source = inner.nodes.handle(source);
    if of_source.is_initialising() {
        return Ok(false);
    }
    let Some(found) = inner.find(docker, source).await? else {
        return Ok(true);
    };
    if of_source.is_empty(&found) {
        return Ok(false);
    }
    let mut known = inner.read_control(docker, &found).await?;
    if let Some(boot) = known.boot.as_ref().filter(|_| found.running && !known.up) {
        known.up = inner
            .exists(docker, &found, &format!("dbaas/up-{}", boot.boot_id))
            .await?;
    }
    if matches!(power(docker, &found, &known).await?, PowerState::Preparing) {
        return Ok(false);
    }
    Ok(data_state(inner, docker, &found).await? == DataState::Initialised)
}

/// The engine tells nobody when a preparation gives way to the server: the script's own words do.
fn follow_preparation(inner: &Arc<Inner>, node: NodeRef, container: String, boot_id: String) {
    let weak = Arc::downgrade(inner);
    let told = format!("dbaas: prepared {boot_id}");
    inner.spawn(async move {
        let follow = async {
            let docker = weak.upgrade()?.engine.docker().await.ok()?;
            let options = LogsOptionsBuilder::default()
                .follow(true)
                .stderr(true)
                .tail("20")
                .build();
            let mut lines = std::pin::pin!(docker.logs(&container, Some(options)));
            while let Some(Ok(line)) = lines.next().await {
                if String::from_utf8_lossy(line.as_ref()).contains(&told) {
                    break;
                }
            }
            Some(())
        };
        let _ = tokio::time::timeout(FOLLOW_AT_MOST, follow).await;
        if let Some(inner) = weak.upgrade() {
            inner.nodes.changed(node);
        }
    });
}
