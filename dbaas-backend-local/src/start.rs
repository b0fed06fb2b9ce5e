//! `start`: refuses what must not be started, prepares the data directory if need be, and launches the
//! server.

use std::io;
use std::sync::Arc;

use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::infrastructure::{DataState, Exit, ExitReason, InfraError, InfraErrorKind, PowerState};

use crate::apply::check_major;
use crate::backend::Inner;
use crate::discovery::Installation;
use crate::errors::{invalid, io_error, not_found};
use crate::files::{self, Durability};
use crate::node::{Boot, Node, Preparation, PrepareKind, Record, Wanted, epoch_in, write_exit};
use crate::prepare::{Failure, Work};
use crate::process::kill_all;
use crate::server::{KILL_AT_MOST, LaunchFailure, launch};

pub(crate) fn start(inner: &Arc<Inner>, node: &Arc<Node>, recipe: BootRecipe) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("starting the node", &e);
    recipe.check_files()?;
    let power = inner.power_of(node);
    let record = node
        .state
        .lock()
        .record
        .clone()
        .ok_or_else(|| not_found(node.id))?;
    let kept = epoch_in(&node.dir.data()).map_err(shown)?;
    if let Some(newer) = kept
        .max(record.boot.as_ref().map(|b| b.epoch))
        .filter(|e| *e > recipe.epoch)
    {
        let message = format!(
            "the node is at epoch {newer}, a start of epoch {} is stale",
            recipe.epoch
        );
        return Err(InfraError::new(InfraErrorKind::StaleEpoch, message));
    }
    let same_epoch = record.boot.as_ref().is_some_and(|b| b.epoch == recipe.epoch);
    match power {
        PowerState::Preparing | PowerState::Running | PowerState::Frozen if same_epoch => return Ok(()),
        PowerState::Preparing | PowerState::Running | PowerState::Frozen => {
            return Err(invalid(
                "the node runs already, by a recipe of another epoch; switch it off first",
            ));
        }
        PowerState::Off | PowerState::Exited(_) => {}
    }
    kill_all(node.dir.path(), KILL_AT_MOST).map_err(shown)?;
    let installation = inner.installed.for_image(&record.spec.image)?;
    check_major(node, &installation)?;
    let prepares = needs_preparation(node, &record, &recipe)?;

    let boot = Boot {
        epoch: recipe.epoch,
        boot_id: uuid::Uuid::new_v4().to_string(),
        prepare: PrepareKind::of(&recipe.prepare),
    };
    let _starting = Starting::begin(node);
    write_exit(&node.dir, None);
    files::remove_if_there(&node.dir.process()).map_err(shown)?;
    // The disk has it for good with the files of the boot, before the server is started.
    node.save(
        Record {
            wanted: Wanted::On,
            boot: Some(boot),
            ..record
        },
        Durability::Content,
    )
    .map_err(shown)?;
    node.state.lock().exit = None;
    if prepares {
        begin_preparation(inner, node, installation, recipe)
    } else {
        start_existing(inner, node, &installation, &recipe)
    }
}

/// A start under way: `observe` is not held up by it, and must not find a node that is to be on and has no
/// process.
struct Starting<'a>(&'a Node);

impl<'a> Starting<'a> {
    fn begin(node: &'a Node) -> Self {
        node.state.lock().starting = true;
        Starting(node)
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().starting = false;
    }
}

/// Whether there is something to do before the server is started; an error if the recipe does not fit what is
/// there.
fn needs_preparation(node: &Node, record: &Record, recipe: &BootRecipe) -> Result<bool, InfraError> {
    let shown = |e: io::Error| io_error("looking at the data directory", &e);
    let data = node.dir.data_state().map_err(shown)?;
    let initialised = data == DataState::Initialised;
    let kind = PrepareKind::of(&recipe.prepare);
    let by_this_start = record
        .boot
        .as_ref()
        .is_some_and(|b| b.epoch == recipe.epoch && b.prepare == kind);
    match &recipe.prepare {
        Prepare::Existing if initialised => Ok(false),
        Prepare::Existing => Err(invalid(format!(
            "there is no complete data directory to start from ({data:?})"
        ))),
        Prepare::Rewind { .. } if initialised => Ok(true),
        Prepare::Rewind { .. } => Err(invalid(format!(
            "there is no complete data directory to rewind ({data:?})"
        ))),
        Prepare::BaseBackup { .. } => Ok(true),
        Prepare::Init { .. } if !initialised => Ok(true),
        Prepare::Init { .. } if by_this_start => Ok(false),
        Prepare::Init { .. } => Err(invalid(
            "the node holds a database cluster already; it is not initialised again",
        )),
        Prepare::SeedOf { .. } if !initialised || !node.dir.ever_started().map_err(shown)? => Ok(true),
        Prepare::SeedOf { .. } if by_this_start => Ok(false),
        Prepare::SeedOf { .. } => Err(invalid("the node holds a database cluster of its own already")),
    }
}

fn start_existing(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: &Installation,
    recipe: &BootRecipe,
) -> Result<(), InfraError> {
    let error = match launch(inner, node, installation, recipe, None) {
        Ok(()) => return Ok(()),
        Err(LaunchFailure::Cancelled) => {
            InfraError::new(InfraErrorKind::Unavailable, "the backend is being closed")
        }
        Err(LaunchFailure::PortTaken(message)) => InfraError::new(InfraErrorKind::Collision, message),
        Err(LaunchFailure::Io(e)) => io_error("starting PostgreSQL", &e),
    };
    let reason = if error.kind() == InfraErrorKind::Exhausted {
        ExitReason::DiskFull
    } else {
        ExitReason::Died
    };
    set_exit(
        inner,
        node,
        Exit {
            reason,
            message: error.to_string(),
        },
    );
    Err(error)
}

fn set_exit(inner: &Inner, node: &Node, exit: Exit) {
    write_exit(&node.dir, Some(&exit));
    {
        let mut state = node.state.lock();
        state.preparing = None;
        state.exit = Some(exit);
    }
    inner.changed(node.id);
}

fn begin_preparation(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: Installation,
    recipe: BootRecipe,
) -> Result<(), InfraError> {
    let preparation = Preparation::new();
    node.state.lock().preparing = Some(Arc::clone(&preparation));
    inner.changed(node.id);
    let (inner_there, node_there, there) = (Arc::clone(inner), Arc::clone(node), Arc::clone(&preparation));
    let thread = std::thread::Builder::new()
        .name("dbaas-prepare".into())
        .spawn(move || {
            let ending = Ending {
                inner: &inner_there,
                node: &node_there,
                preparation: &there,
            };
            prepare_and_launch(&inner_there, &node_there, &installation, &recipe, &there);
            drop(ending);
        });
    if let Err(e) = thread {
        let message = format!("cannot start a thread: {e}");
        set_exit(
            inner,
            node,
            Exit {
                reason: ExitReason::PreparationFailed,
                message: message.clone(),
            },
        );
        return Err(InfraError::new(InfraErrorKind::Exhausted, message));
    }
    Ok(())
}

/// Tells whoever waits that the preparation's thread is at its end, however it came to that.
struct Ending<'a> {
    inner: &'a Inner,
    node: &'a Node,
    preparation: &'a Preparation,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let exit = Exit {
                reason: ExitReason::PreparationFailed,
                message: "a bug ended the preparation".into(),
            };
            set_exit(self.inner, self.node, exit);
        }
        self.preparation.set_ended();
    }
}

fn prepare_and_launch(
    inner: &Arc<Inner>,
    node: &Arc<Node>,
    installation: &Installation,
    recipe: &BootRecipe,
    preparation: &Preparation,
) {
    let work = Work {
        inner,
        node,
        installation,
        preparation,
    };
    let result = work.run(recipe).and_then(|()| {
        launch(inner, node, installation, recipe, Some(preparation)).map_err(|failure| match failure {
            LaunchFailure::Cancelled => Failure::Cancelled,
            LaunchFailure::PortTaken(message) => Failure::new(ExitReason::Died, message),
            LaunchFailure::Io(e) => e.into(),
        })
    });
    match result {
        Ok(()) => {}
        Err(_) if inner.is_closed() => {}
        Err(Failure::Cancelled) => {
            let exit = Exit {
                reason: ExitReason::PreparationFailed,
                message: "the preparation was stopped".into(),
            };
            set_exit(inner, node, exit);
        }
        Err(Failure::Exit(exit)) => {
            tracing::warn!(node = %node.id.node, reason = ?exit.reason, message = %exit.message, "a preparation failed");
            set_exit(inner, node, exit);
        }
    }
}
