//! A run: a world, one or two controllers, an instance or two, and what was drawn for them from the seed.

use std::sync::Arc;
use std::time::Duration;

use dbaas_controller::ControlPlane;
use dbaas_controller::request::{CreateInstance, Page};
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::command::SPARE_DATABASE;
use dbaas_core::id::{InstanceId, VersionId};
use dbaas_core::infrastructure::NodeRef;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::name::InstanceName;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_testkit::simulated::{Chaos, Costs, NodeReport, SimController, SimWorld};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::clock::SimClock;
use crate::sealer::SimSealer;
use crate::store::{SimStore, StoreLink};

/// No call of the façade is waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a seed draws for the whole run.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) instances: usize,
    pub(crate) nodes: u8,
    pub(crate) sync: u8,
    pub(crate) controllers: usize,
    /// k may be 0: nothing is promised but one writer.
    pub(crate) asynchronous: bool,
    /// An operator asks for failovers that may lose data.
    pub(crate) gives_up: bool,
    /// Faults already while the instance is being made.
    pub(crate) early: bool,
    pub(crate) faults: Faults,
    pub(crate) requests: bool,
    pub(crate) chaos: Chaos,
    pub(crate) faulty_ms: u64,
    pub(crate) longest_pause_ms: u64,
    pub(crate) client_ms: u64,
}

/// Which kinds of faults a run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) crash: bool,
    pub(crate) power_cut: bool,
    pub(crate) freeze: bool,
    pub(crate) cut: bool,
    pub(crate) disk: bool,
    pub(crate) infrastructure: bool,
    pub(crate) store: bool,
    pub(crate) controller: bool,
    pub(crate) clock: bool,
    pub(crate) drift: bool,
    pub(crate) sickness: bool,
}

impl Profile {
    fn draw(rng: &mut StdRng) -> Profile {
        let mut half = || rng.random::<bool>();
        let faults = Faults {
            crash: half(),
            power_cut: half(),
            freeze: half(),
            cut: half(),
            disk: half(),
            infrastructure: half(),
            store: half(),
            controller: half(),
            clock: half(),
            drift: half(),
            sickness: false,
        };
        let requests = half();
        let asynchronous = rng.random_range(0..10) == 0;
        let nodes = [2, 3, 3, 3, 3, 4, 5][rng.random_range(0..7)];
        let nodes = if asynchronous {
            rng.random_range(1..=3)
        } else {
            nodes
        };
        let sync = if asynchronous {
            0
        } else {
            [1, 1, 1, 2][rng.random_range(0..4)].min(nodes - 1)
        };
        let rare = |rng: &mut StdRng, per_mille: u32| {
            if rng.random() {
                rng.random_range(0..per_mille)
            } else {
                0
            }
        };
        let chaos = Chaos {
            infra_fails: rare(rng, 60),
            infra_unknown: rare(rng, 60),
            infra_late: rare(rng, 20),
            sql_late: rare(rng, 10),
            sql_unknown: rare(rng, 20),
            event_lost: rare(rng, 300),
            preparation_fails: rare(rng, 300),
            replay_stalls: rare(rng, 10),
            link_breaks: rare(rng, 5),
            equal_records: rng.random_range(0..4) == 0,
            parts_of_records: 0,
        };
        // Drawn aside, so that a seed without them goes as it did before there were any.
        let mut aside = StdRng::seed_from_u64(rng.clone().random());
        let chaos = Chaos {
            parts_of_records: rare(&mut aside, 1_000),
            ..chaos
        };
        let faults = Faults {
            sickness: aside.random(),
            ..faults
        };
        Profile {
            instances: if rng.random_range(0..8) == 0 { 2 } else { 1 },
            nodes,
            sync,
            controllers: if rng.random_range(0..4) == 0 { 2 } else { 1 },
            asynchronous,
            gives_up: rng.random_range(0..20) == 0,
            early: rng.random_range(0..5) == 0,
            faults,
            requests,
            chaos,
            faulty_ms: rng.random_range(10_000..45_000),
            longest_pause_ms: [500, 3_000, 10_000][rng.random_range(0..3)],
            client_ms: [20, 60, 200][rng.random_range(0..3)],
        }
    }
}

/// A controller, or where one was.
pub(crate) struct Seat {
    pub(crate) control: Option<ControlPlane>,
    pub(crate) sim: SimController,
    pub(crate) clock: SimClock,
}

pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) rng: StdRng,
    pub(crate) profile: Profile,
    pub(crate) world: SimWorld,
    pub(crate) store: Arc<SimStore>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) instances: Vec<InstanceId>,
    pub(crate) disk_lost: bool,
    pub(crate) names: u32,
    starts: u64,
}

pub(crate) fn settings(holder: String) -> ControllerSettings {
    ControllerSettings {
        lease_holder: Some(holder),
        ..ControllerSettings::default()
    }
}

/// Starts a controller; tries again while the store does not answer.
pub(crate) async fn start_controller(
    world: &SimWorld,
    store: &Arc<SimStore>,
    seed: u64,
    holder: String,
) -> anyhow::Result<Seat> {
    let clock = SimClock::new(world);
    for _ in 0..1_000 {
        let sim = world.controller();
        let link = StoreLink {
            shared: Arc::clone(store),
            controller: sim.clone(),
        };
        let started = ControlPlane::builder()
            .infrastructure(Arc::new(sim.infrastructure()))
            .sql(Arc::new(sim.sql()))
            .store(Arc::new(link))
            .sealer(Arc::new(SimSealer))
            .clock(Arc::new(clock.clone()))
            .simulation_seed(seed)
            .settings(settings(holder.clone()))
            .start()
            .await;
        if let Ok(control) = started {
            return Ok(Seat {
                control: Some(control),
                sim,
                clock,
            });
        }
        sim.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("a controller could not be started")
}

impl Scenario {
    pub(crate) async fn new(seed: u64) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let profile = Profile::draw(&mut rng);
        let costs = Costs::default();
        let world = SimWorld::new(seed, costs);
        tokio::spawn(world.clone().run());
        let store = SimStore::new(seed, true);
        let mut scenario = Scenario {
            seed,
            rng,
            world,
            store,
            seats: Vec::new(),
            instances: Vec::new(),
            disk_lost: false,
            names: 0,
            starts: 0,
            profile,
        };
        scenario.world.note(format!("{:?}", scenario.profile));
        for index in 0..scenario.profile.controllers {
            let seat = scenario.start(index).await?;
            scenario.seats.push(seat);
        }
        Ok(scenario)
    }

    /// Starts the controller of a seat.
    pub(crate) async fn start(&mut self, index: usize) -> anyhow::Result<Seat> {
        self.starts += 1;
        // Half of them take their predecessor's lease at once, as one does whose data directory is locked
        // against others.
        let holder = if self.rng.random() {
            format!("seat {index}")
        } else {
            format!("seat {index}, start {}", self.starts)
        };
        let seed = self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(self.starts);
        let seat = start_controller(&self.world, &self.store, seed, holder).await?;
        self.world
            .note(format!("controller {} starts in seat {index}", seat.sim.id()));
        Ok(seat)
    }

    /// A controller that lives.
    pub(crate) fn control(&self) -> Option<ControlPlane> {
        self.seats.iter().find_map(|seat| seat.control.clone())
    }

    /// A new name.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    pub(crate) async fn version(&self, control: &ControlPlane) -> anyhow::Result<VersionId> {
        let page = Page {
            after: None,
            limit: 10,
        };
        let versions = control.versions(page).await?;
        let first = versions.items.first();
        first
            .map(|version| version.id)
            .ok_or_else(|| anyhow::anyhow!("the catalogue is empty"))
    }

    /// Asks for the instances.
    pub(crate) async fn create(&mut self) -> anyhow::Result<()> {
        for index in 0..self.profile.instances {
            let control = self
                .control()
                .ok_or_else(|| anyhow::anyhow!("no controller lives"))?;
            let version = self.version(&control).await?;
            let name = ["alpha", "beta"][index.min(1)];
            let request = CreateInstance {
                cpu: CpuCores::new(2)?,
                ram: RamMb::new(1_024)?,
                disk: DiskGb::new(16)?,
                nodes: NodeCount::new(u64::from(self.profile.nodes))?,
                sync_replicas: SyncReplicas::new(u64::from(self.profile.sync))?,
                ..CreateInstance::new(InstanceName::new(name)?, version)
            };
            let created = control.create_instance(request).await?;
            let id = created.id;
            self.world.name_instance(id, &name[..1]);
            self.world.expect_asynchronous(id, self.profile.asynchronous);
            self.world.set_clients(id, self.profile.client_ms);
            self.instances.push(id);
        }
        Ok(())
    }

    /// The record, by whichever controller answers.
    pub(crate) async fn record(&self, id: InstanceId) -> anyhow::Result<InstanceRecord> {
        let control = self
            .control()
            .ok_or_else(|| anyhow::anyhow!("no controller lives"))?;
        let found = tokio::time::timeout(PATIENCE, control.instance_record(id)).await??;
        Ok(found)
    }

    pub(crate) fn nodes(&self, id: InstanceId) -> Vec<NodeReport> {
        self.world.nodes(id)
    }

    /// A node of the instance: in most cases the primary.
    pub(crate) fn some_node(&mut self, id: InstanceId) -> Option<NodeRef> {
        let nodes = self.nodes(id);
        if self.rng.random_range(0..5) < 3
            && let Some(primary) = nodes.iter().find(|n| n.is_primary)
        {
            return Some(primary.node);
        }
        if nodes.is_empty() {
            return None;
        }
        let index = self.rng.random_range(0..nodes.len());
        Some(nodes[index].node)
    }

    pub(crate) fn some_instance(&mut self) -> Option<InstanceId> {
        if self.instances.is_empty() {
            return None;
        }
        let index = self.rng.random_range(0..self.instances.len());
        Some(self.instances[index])
    }

    /// What is missing for the instance to be as asked for; `None` when it is.
    pub(crate) async fn missing(&self, id: InstanceId) -> Option<String> {
        let record = match self.record(id).await {
            Ok(record) => record,
            Err(error) => return Some(format!("the record cannot be read: {error}")),
        };
        let status = &record.status;
        let state = format!("{} {:?}: {}", status.lifecycle, status.phase, status.reason);
        if status.lifecycle != dbaas_core::lifecycle::Lifecycle::Active
            || status.observed_generation < record.generation
        {
            return Some(state);
        }
        if record.requests != Default::default() {
            return Some(format!("requests are left: {:?}", record.requests));
        }
        // An order that came after its node was removed leaves an empty node behind: it is reported, and left
        // alone.
        let mut nodes = self.nodes(id);
        nodes.retain(|n| n.has_data || record.node(n.node.node).is_some());
        let wanted = usize::from(record.spec.nodes.get());
        let primaries = nodes.iter().filter(|n| n.is_primary).count();
        let followers = nodes.iter().filter(|n| n.follows).count();
        if nodes.len() != wanted || primaries != 1 || followers + 1 != wanted {
            return Some(format!(
                "{wanted} nodes are wanted; there are {}, {primaries} of them primaries, {followers} follow ({state})",
                nodes.len()
            ));
        }
        let cluster = record.cluster.as_ref()?;
        if cluster.current().k != record.spec.effective_sync_replicas() || cluster.is_joint() {
            return Some(format!(
                "the electorate is not as asked for: {:?}",
                cluster.electorates
            ));
        }
        self.missing_objects(id, &nodes).await
    }

    async fn missing_objects(&self, id: InstanceId, nodes: &[NodeReport]) -> Option<String> {
        use dbaas_core::lifecycle::ObjectLifecycle::{Active, Error};
        let control = self.control()?;
        let primary = nodes.iter().find(|n| n.is_primary)?;
        let page = Page {
            after: None,
            limit: 1_000,
        };
        let users = control.users(id, page).await.ok()?.items;
        let page = Page {
            after: None,
            limit: 1_000,
        };
        let databases = control.databases(id, page).await.ok()?.items;
        for user in &users {
            let name = user.name.as_str();
            let there = primary.roles.contains(name);
            if user.lifecycle != Active || !there || user.deleting {
                return Some(format!(
                    "user {name} is {} ({})",
                    user.lifecycle.as_str(),
                    user.reason
                ));
            }
        }
        for database in &databases {
            let name = database.name.as_str();
            let there = primary.databases.contains(name);
            let lost = database.lost_at.is_some() && database.lifecycle == Error;
            if lost && !there && !database.deleting {
                continue; // Somebody dropped it by SQL: nobody makes an empty one in its place.
            }
            if database.lifecycle != Active || !there || database.deleting {
                return Some(format!(
                    "database {name} is {} ({})",
                    database.lifecycle.as_str(),
                    database.reason
                ));
            }
        }
        let ours = |name: &&String| !name.starts_with("foreign") && **name != SPARE_DATABASE;
        if primary.roles.iter().filter(ours).count() != users.len() {
            return Some(format!(
                "roles {:?}, and {} users are wanted",
                primary.roles,
                users.len()
            ));
        }
        let kept = databases.iter().filter(|database| database.lost_at.is_none());
        if primary.databases.iter().filter(ours).count() != kept.count() {
            return Some(format!(
                "databases {:?}, and {} are wanted",
                primary.databases,
                databases.len()
            ));
        }
        None
    }
}
