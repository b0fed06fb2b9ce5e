//! What goes wrong, one thing at a time, at moments that the seed draws.

use std::time::Duration;

use dbaas_core::cluster::{ClusterPhase, ClusterState};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::NodeRef;
use dbaas_testkit::simulated::{Loss, Place, Sickness, SimWorld};
use rand::Rng as _;

use crate::scenario::Scenario;
use crate::store::StoreChaos;

impl Scenario {
    /// Sets what goes wrong by itself.
    pub(crate) fn begin_chaos(&mut self) {
        self.world.set_chaos(self.profile.chaos);
        if self.profile.faults.store {
            self.store.set_chaos(StoreChaos {
                fails: self.rng.random_range(0..30),
                unknown: self.rng.random_range(0..30),
                late: self.rng.random_range(0..10),
                down: false,
            });
        }
    }

    /// One fault, of the kinds that this run has.
    pub(crate) async fn fault(&mut self) -> anyhow::Result<()> {
        let faults = self.profile.faults;
        let kinds = [
            faults.crash,
            faults.power_cut,
            faults.freeze,
            faults.cut,
            faults.disk,
            faults.infrastructure,
            faults.store,
            faults.controller,
            faults.clock,
            faults.drift,
            faults.sickness,
        ];
        let enabled: Vec<usize> = (0..kinds.len()).filter(|kind| kinds[*kind]).collect();
        if enabled.is_empty() {
            return Ok(());
        }
        let kind = enabled[self.rng.random_range(0..enabled.len())];
        let Some(instance) = self.some_instance() else {
            return Ok(());
        };
        match kind {
            0 => {
                if let Some(node) = self.some_node(instance) {
                    self.world.crash(node);
                }
            }
            1 => self.power_cut(instance),
            2 => {
                if let Some(node) = self.some_node(instance) {
                    let ms = self.rng.random_range(100..8_000);
                    self.world.freeze(node);
                    after(&self.world, ms, move |world| world.thaw(node));
                }
            }
            3 => self.cut(instance),
            4 => self.lose_disk(instance).await,
            5 if self.rng.random() => {
                if let Some(node) = self.some_node(instance) {
                    let ms = self.rng.random_range(200..10_000);
                    self.world.set_hidden(node, true);
                    after(&self.world, ms, move |world| world.set_hidden(node, false));
                }
            }
            5 => {
                let id = self.seats[0].sim.id();
                let ms = self.rng.random_range(200..10_000);
                self.world.set_infrastructure_down(id, true);
                after(&self.world, ms, move |world| {
                    world.set_infrastructure_down(id, false)
                });
            }
            6 => {
                let ms = self.rng.random_range(200..10_000);
                self.world.note("the store is down");
                self.store.set_down(true);
                let store = self.store.clone();
                after(&self.world, ms, move |world| {
                    store.set_down(false);
                    world.note("the store is up");
                });
            }
            7 => self.disturb_controller().await?,
            8 => {
                let index = self.rng.random_range(0..self.seats.len());
                let ms = self.rng.random_range(-3_600_000..3_600_000);
                self.world
                    .note(format!("the clock of seat {index} jumps by {ms} ms"));
                self.seats[index].clock.jump(ms);
            }
            9 => self.drift(instance),
            _ => self.sicken(instance),
        }
        Ok(())
    }

    /// The primary answers looks, and serves nobody for a while, or until somebody does something about it.
    fn sicken(&mut self, instance: InstanceId) {
        let Some(primary) = self.nodes(instance).into_iter().find(|n| n.is_primary) else {
            return;
        };
        let kinds = [Sickness::NoLogin, Sickness::NoCommit, Sickness::Damaged];
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        let ms = self.rng.random_range(1_000..40_000);
        let node = primary.node;
        self.world.sicken(node, Some(kind));
        after(&self.world, ms, move |world| world.sicken(node, None));
    }

    fn power_cut(&mut self, instance: InstanceId) {
        self.world.note("power cut");
        for node in self.nodes(instance) {
            self.world.crash(node.node);
        }
    }

    fn cut(&mut self, instance: InstanceId) {
        let nodes: Vec<NodeRef> = self.nodes(instance).iter().map(|n| n.node).collect();
        let Some(node) = self.some_node(instance) else {
            return;
        };
        let ms = self.rng.random_range(300..15_000);
        let controllers: Vec<Place> = self
            .seats
            .iter()
            .map(|seat| Place::Controller(seat.sim.id()))
            .collect();
        let others = nodes
            .iter()
            .filter(|other| **other != node)
            .map(|other| Place::Node(*other));
        let far: Vec<Place> = match self.rng.random_range(0..5) {
            0 => controllers,
            1 => vec![Place::Clients],
            2 => others.collect(),
            // All but the clients: a primary that would go on by itself.
            3 => controllers.into_iter().chain(others).collect(),
            _ => controllers
                .into_iter()
                .chain(others)
                .chain([Place::Clients])
                .collect(),
        };
        for place in far {
            self.world.cut(Place::Node(node), place);
            after(&self.world, ms, move |world| world.join(Place::Node(node), place));
        }
    }

    /// Once in a run, and from a healthy state: what is promised holds for one lost disk at a time.
    async fn lose_disk(&mut self, instance: InstanceId) {
        let nodes = self.nodes(instance);
        let primaries = nodes.iter().filter(|n| n.is_primary).count();
        let followers = nodes.iter().filter(|n| n.follows).count();
        if self.disk_lost || nodes.len() < 2 || primaries != 1 || followers + 1 != nodes.len() {
            return;
        }
        // Also by the control plane's word: every standby votes.
        let Ok(record) = self.record(instance).await else {
            return;
        };
        let votes = |cluster: &ClusterState| {
            cluster.phase == ClusterPhase::Steady
                && !cluster.is_joint()
                && cluster.current().voters.len() + 1 == nodes.len()
        };
        if !self.profile.asynchronous && !record.cluster.as_ref().is_some_and(votes) {
            return;
        }
        if let Some(node) = self.some_node(instance) {
            self.disk_lost = true;
            let loss = if self.rng.random() { Loss::Disk } else { Loss::Node };
            self.world.lose_disk(node, loss);
        }
    }

    async fn disturb_controller(&mut self) -> anyhow::Result<()> {
        let index = self.rng.random_range(0..self.seats.len());
        if self.rng.random_range(0..3) == 0 {
            let ms = self.rng.random_range(500..40_000);
            self.world.note(format!(
                "controller {} is paused for {ms} ms",
                self.seats[index].sim.id()
            ));
            self.seats[index].sim.pause(ms);
            return Ok(());
        }
        self.world
            .note(format!("controller {} dies", self.seats[index].sim.id()));
        self.seats[index].sim.kill();
        self.seats[index].control = None;
        let ms = self.rng.random_range(0..4_000);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.seats[index] = self.start(index).await?;
        Ok(())
    }

    fn drift(&mut self, instance: InstanceId) {
        if self.rng.random_range(0..4) == 0 {
            let name = self.name("foreign");
            self.world.create_foreign_role(instance, &name);
            return;
        }
        let Some(primary) = self.nodes(instance).into_iter().find(|n| n.is_primary) else {
            return;
        };
        // A role that owns a database cannot be dropped.
        let names: Vec<String> = primary
            .databases
            .into_iter()
            .filter(|name| !name.starts_with("foreign"))
            .collect();
        if !names.is_empty() {
            let index = self.rng.random_range(0..names.len());
            self.world.drop_behind(instance, &names[index]);
        }
    }

    /// Everything works again, and a controller lives in the first seat.
    pub(crate) async fn end_faults(&mut self) -> anyhow::Result<()> {
        self.world.heal();
        self.store.set_chaos(StoreChaos::default());
        for index in 0..self.seats.len() {
            self.seats[index].sim.pause(0);
            if self.seats[index].control.is_none() {
                self.seats[index] = self.start(index).await?;
            }
        }
        Ok(())
    }
}

/// Something happens later.
fn after(world: &SimWorld, ms: u64, then: impl FnOnce(&SimWorld) + Send + 'static) {
    let world = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        then(&world);
    });
}
