//! [`SimInfrastructure`]: the core's `Infrastructure` in the simulated world.

use std::future::pending;
use std::mem::discriminant;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::boot::{BootRecipe, Prepare};
use dbaas_core::config::HbaRules;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, DataState, Enforcement, InfraError, InfraErrorKind,
    InfraEvent, InfraEvents, Infrastructure, NodeRef, NodeSpec, ObservedNode, ObservedNodes, PowerOff,
};
use dbaas_core::version::PostgresVersion;
use futures_util::stream;
use rand::Rng as _;
use tokio::sync::broadcast::error::RecvError;

use super::node::{Power, SimNode};
use super::world::World;
use super::{SimController, SimWorld};

/// The versions that every simulated backend has.
const VERSIONS: [&str; 2] = ["15.18", "18.1"];
/// A call that is carried out late is late by so much at most.
const LATE_MS: u64 = 30_000;

/// One controller's infrastructure.
pub struct SimInfrastructure {
    controller: SimController,
}

/// How a call goes.
enum Fate {
    /// After so long it is carried out, and after so long again the answer is there.
    Fine(u64, u64),
    /// Refused.
    Refused,
    /// The request is lost.
    RequestLost,
    /// Carried out, and the answer is lost.
    AnswerLost(u64),
    /// Carried out after so long, whether or not anybody still waits.
    Late(u64),
}

fn error(kind: InfraErrorKind, message: &str) -> InfraError {
    InfraError::new(kind, message)
}

impl SimInfrastructure {
    pub(super) fn new(controller: SimController) -> Self {
        SimInfrastructure { controller }
    }

    fn world(&self) -> &SimWorld {
        &self.controller.world
    }

    fn fate(&self) -> Fate {
        let id = self.controller.id;
        self.world().with(|world| {
            if world.infra_down.contains(&id) {
                return Fate::Refused;
            }
            let chaos = world.chaos;
            let (there, back) = (world.costs.infra_ms, world.costs.infra_ms / 2);
            let (there, back) = (world.about(there), world.about(back));
            if world.chance(chaos.infra_fails) {
                Fate::Refused
            } else if world.chance(chaos.infra_unknown) {
                if world.rng.random() {
                    Fate::RequestLost
                } else {
                    Fate::AnswerLost(there)
                }
            } else if world.chance(chaos.infra_late) {
                Fate::Late(world.rng.random_range(100..LATE_MS))
            } else {
                Fate::Fine(there, back)
            }
        })
    }

    /// A call that changes something of a node.
    async fn call(
        &self,
        node: NodeRef,
        name: String,
        effect: impl FnOnce(&mut World) -> Result<(), InfraError> + Send + 'static,
    ) -> Result<(), InfraError> {
        self.controller.gate().await;
        let unknown = || error(InfraErrorKind::OutcomeUnknown, "simulated: no answer came");
        let fate = self.fate();
        let (delay_ms, back_ms) = match fate {
            Fate::Refused => {
                return Err(error(
                    InfraErrorKind::Unavailable,
                    "simulated: the infrastructure is not available",
                ));
            }
            Fate::RequestLost => {
                sleep(50).await;
                return Err(unknown());
            }
            Fate::Fine(there, back) => (there, Some(back)),
            Fate::AnswerLost(there) => (there, None),
            Fate::Late(after) => (after, Some(1)),
        };
        let world = self.world().clone();
        let id = self.controller.id;
        let late = matches!(fate, Fate::Late(_));
        // On its own: what is on its way arrives, also when the caller is gone.
        let effect = tokio::spawn(async move {
            sleep(delay_ms).await;
            world.with(|world| {
                let result = if world.hidden.contains(&node) {
                    Err(error(
                        InfraErrorKind::Unavailable,
                        "simulated: the node's host does not answer",
                    ))
                } else {
                    effect(world)
                };
                let outcome = match &result {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => error.to_string(),
                };
                let late = if late { " late" } else { "" };
                world.note(format!("c{id} {name}{late}: {outcome}"));
                result
            })
        });
        let result = effect.await.unwrap_or_else(|_| Err(unknown()));
        let Some(back_ms) = back_ms else {
            return Err(unknown());
        };
        sleep(back_ms).await;
        if self.controller.is_dead() {
            pending::<()>().await;
        }
        result
    }

    async fn off(&self, node: NodeRef) {
        // Ends: a shutdown has a deadline, and the caller has one.
        while self
            .world()
            .with(|world| world.nodes.get(&node).is_some_and(|n| n.is_on()))
        {
            sleep(5).await;
        }
    }
}

async fn sleep(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn start(world: &mut World, node: NodeRef, recipe: BootRecipe) -> Result<(), InfraError> {
    let found = world
        .nodes
        .get(&node)
        .ok_or_else(|| error(InfraErrorKind::NotFound, "there is no such node"))?;
    let on_disk = found.disk.as_ref().map(|disk| disk.conf.epoch);
    let started = found.boot.as_ref().map(|boot| boot.epoch);
    if on_disk.max(started).is_some_and(|kept| kept > recipe.epoch) {
        return Err(error(InfraErrorKind::StaleEpoch, "the node is in a newer epoch"));
    }
    if found.is_on() {
        return if started == Some(recipe.epoch) {
            Ok(())
        } else {
            Err(error(
                InfraErrorKind::InvalidState,
                "the node runs with another recipe",
            ))
        };
    }
    fits(found, &recipe)?;
    world.begin(node, recipe);
    Ok(())
}

/// Whether a recipe can be carried out with the data that is there.
fn fits(found: &SimNode, recipe: &BootRecipe) -> Result<(), InfraError> {
    let initialised = found.data == DataState::Initialised;
    let by_this_start = found.boot.as_ref().is_some_and(|boot| boot.epoch == recipe.epoch)
        && found.prepared == Some(discriminant(&recipe.prepare));
    let refusal = match &recipe.prepare {
        Prepare::Existing | Prepare::Rewind { .. } if !initialised => "there is no complete data directory",
        Prepare::Init { .. } | Prepare::SeedOf { .. } if initialised && !by_this_start => {
            "the node holds a cluster already"
        }
        _ => return Ok(()),
    };
    Err(error(InfraErrorKind::InvalidState, refusal))
}

fn power_off(world: &mut World, node: NodeRef, mode: PowerOff) {
    match mode {
        PowerOff::Immediate => {
            if let Some(found) = world.nodes.get_mut(&node)
                && found.is_on()
            {
                found.kill(None);
                world.stir(node.instance);
                world.hint(node);
            }
        }
        PowerOff::Graceful { deadline_ms } => world.shut_down(node, u64::from(deadline_ms)),
    }
}

fn remove(world: &mut World, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
    let Some(found) = world.nodes.get(&node) else {
        if data == DataDisposal::Delete {
            world.kept.remove(&node);
        }
        return Ok(());
    };
    if found.is_on() {
        return Err(error(InfraErrorKind::InvalidState, "the node runs"));
    }
    if data == DataDisposal::Delete {
        world.before_destroying(node, "a removal");
    }
    if let (Some(kept), DataDisposal::Keep) = (world.nodes.remove(&node), data) {
        world.kept.insert(node, kept);
    }
    world.addresses.retain(|_, owner| *owner != node);
    world.stir(node.instance);
    Ok(())
}

#[async_trait]
impl Infrastructure for SimInfrastructure {
    fn name(&self) -> &str {
        "simulated"
    }

    fn capabilities(&self) -> Capabilities {
        let held = Enforcement::Enforced;
        Capabilities::new(held, held, held).with_node_events()
    }

    fn hba_rules(&self) -> HbaRules {
        HbaRules::loopback()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        let available = VERSIONS.iter().filter_map(|text| {
            Some(AvailableVersion {
                version: text.parse::<PostgresVersion>().ok()?,
                image: format!("postgres:{text}").parse().ok()?,
                source: "simulated".to_owned(),
            })
        });
        Ok(available.collect())
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        self.controller.gate().await;
        match self.fate() {
            Fate::Fine(there, back) => {
                sleep(there).await;
                let found = self.world().with(|world| observed(world, instance));
                sleep(back).await;
                Ok(found)
            }
            Fate::Late(after) => {
                // What is seen is old when it arrives.
                let found = self.world().with(|world| observed(world, instance));
                sleep(after).await;
                Ok(found)
            }
            Fate::Refused | Fate::RequestLost | Fate::AnswerLost(_) => Err(error(
                InfraErrorKind::Unavailable,
                "simulated: the infrastructure is not available",
            )),
        }
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        self.controller.gate().await;
        Ok(self.world().with(|world| world.nodes.keys().copied().collect()))
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        let name = format!("apply {}", spec.name);
        self.call(spec.node, name, move |world| {
            let node = world.add_node(spec.node, &spec.name);
            node.spec = Some(spec);
            Ok(())
        })
        .await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let recipe = recipe.clone();
        let how = match &recipe.prepare {
            Prepare::Existing => "in place",
            Prepare::Init { .. } => "new",
            Prepare::SeedOf { .. } => "as a copy",
            Prepare::BaseBackup { .. } => "from a base backup",
            Prepare::Rewind { .. } => "after a rewind",
        };
        let label = self.world().with(|world| world.label(node));
        let name = format!(
            "start {label} {how} as {:?} (epoch {})",
            recipe.role, recipe.epoch
        );
        self.call(node, name, move |world| start(world, node, recipe))
            .await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        let label = self.world().with(|world| world.label(node));
        let name = match mode {
            PowerOff::Immediate => format!("power off {label}"),
            PowerOff::Graceful { .. } => format!("shut down {label}"),
        };
        self.call(node, name, move |world| {
            power_off(world, node, mode);
            Ok(())
        })
        .await?;
        self.off(node).await;
        Ok(())
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        let label = self.world().with(|world| world.label(node));
        let name = format!("remove {label} ({data:?})");
        self.call(node, name, move |world| remove(world, node, data))
            .await
    }

    async fn logs(&self, node: NodeRef, _lines: usize) -> Result<String, InfraError> {
        self.controller.gate().await;
        let exists = self.world().with(|world| world.nodes.contains_key(&node));
        if exists {
            Ok("simulated".to_owned())
        } else {
            Err(error(InfraErrorKind::NotFound, "there is no such node"))
        }
    }

    fn events(&self) -> InfraEvents {
        let receiver = self.world().with(|world| world.events.subscribe());
        let controller = self.controller.clone();
        Box::pin(stream::unfold(receiver, move |mut receiver| {
            let controller = controller.clone();
            async move {
                let event = match receiver.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => InfraEvent::Missed,
                    Err(RecvError::Closed) => return None,
                };
                controller.gate().await;
                sleep(1).await;
                Some((event, receiver))
            }
        }))
    }
}

fn observed(world: &World, instance: InstanceId) -> ObservedNodes {
    let bounds = super::world::bounds(instance);
    let unknown = world.hidden.range(bounds.clone()).map(|node| node.node);
    let found = world
        .nodes
        .range(bounds)
        .filter(|(node, _)| !world.hidden.contains(node))
        .map(|(node, n)| ObservedNode {
            node: *node,
            power: world.power(n),
            data: match (&n.power, n.data) {
                (Power::Preparing(_), DataState::Empty) => DataState::Incomplete,
                (_, data) => data,
            },
            applied: n.spec.clone(),
            endpoint: Some(n.endpoint()),
            peer_endpoint: Some(n.endpoint()),
            boot: n.boot.clone(),
            bootstrap_password: None,
            disk_free_bytes: None,
            backend_ref: Some(n.label.clone()),
        });
    ObservedNodes::with_unknown(found.collect(), unknown.collect())
}
