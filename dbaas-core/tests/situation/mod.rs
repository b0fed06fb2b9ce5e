//! Situations for golden plans: an instance, what is seen of it, and its plan as text.

use std::fmt::Write as _;

use dbaas_core::boot_plan::conninfo;
use dbaas_core::cluster::{
    ClusterPhase, ClusterState, Electorate, Epoch, FailoverCause, Lsn, slot_name, standby_name,
};
use dbaas_core::config::sync_names;
use dbaas_core::id::{InstanceId, NodeId, VersionId};
use dbaas_core::infrastructure::{
    DataState, Endpoint, Exit, ExitReason, NodeRef, NodeSpec, ObservedNode, PowerState, Resources,
};
use dbaas_core::instance::{InstancePhase, InstanceRecord, InstanceSpec};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{
    Fitness, FollowTarget, NodeFacts, NodeObservation, Observation, ReceiverFacts, Seen, Silence, SlotFacts,
    StandbyFacts,
};
use dbaas_core::plan::{Action, Plan, Policy, Situation, desired_configuration, plan};
use dbaas_core::time::Timestamp;
use uuid::Uuid;

/// The n-th node's id, from 1.
pub(crate) fn node(n: usize) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(n as u128))
}

/// A server that was killed.
pub(crate) fn died() -> PowerState {
    PowerState::Exited(Exit {
        reason: ExitReason::Died,
        message: "killed (signal 9)".to_owned(),
    })
}

/// A walreceiver that hears from its primary.
pub(crate) fn receiver() -> ReceiverFacts {
    ReceiverFacts {
        status: "streaming".to_owned(),
        last_message_ms: 5,
    }
}

fn endpoint(id: NodeId) -> Endpoint {
    let port = u16::try_from(id.uuid().as_u128()).unwrap_or(0);
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port: 5000 + port,
    }
}

pub(crate) struct Scene {
    pub(crate) record: InstanceRecord,
    pub(crate) observation: Observation,
    pub(crate) policy: Policy,
}

impl Scene {
    /// Just accepted.
    pub(crate) fn new(nodes: u64, k: u64) -> Scene {
        let resources = Resources {
            cpu: 1u64.try_into().unwrap(),
            ram: 1024u64.try_into().unwrap(),
            disk: 10u64.try_into().unwrap(),
        };
        let version = VersionId::from_uuid(Uuid::from_u128(7));
        let image = "postgres:15.18".parse().unwrap();
        let mut spec = InstanceSpec::new("orders".parse().unwrap(), resources, version, image);
        spec.nodes = nodes.try_into().unwrap();
        spec.sync_replicas = k.try_into().unwrap();
        let at = Timestamp::from_unix_ms(1_000_000);
        let id = InstanceId::from_uuid(Uuid::from_u128(99));
        Scene {
            record: InstanceRecord::new(id, spec, String::new(), at),
            observation: Observation::empty(at),
            policy: Policy::default(),
        }
    }

    /// Its nodes are decided on; none exists.
    pub(crate) fn decided(nodes: u64, k: u64) -> Scene {
        let mut scene = Scene::new(nodes, k);
        scene.record = scene.plan().record.expect("nodes are decided on");
        for n in 1..=scene.record.nodes.len() {
            scene.absent(n);
        }
        scene
    }

    /// Every node exists, off and empty.
    pub(crate) fn exist(&mut self) {
        for n in 1..=self.record.nodes.len() {
            let id = node(n);
            let record = &self.record.nodes[n - 1];
            let observed = ObservedNode {
                node: NodeRef {
                    instance: self.record.id,
                    node: id,
                },
                power: PowerState::Off,
                data: DataState::Empty,
                applied: Some(NodeSpec::new(
                    NodeRef {
                        instance: self.record.id,
                        node: id,
                    },
                    record.name.clone(),
                    self.record.spec.image.clone(),
                    self.record.spec.resources,
                )),
                endpoint: Some(endpoint(id)),
                peer_endpoint: Some(endpoint(id)),
                boot: None,
                bootstrap_password: None,
                disk_free_bytes: Some(1 << 40),
                backend_ref: Some(format!("pid {n}")),
            };
            self.set(id, Seen::Present(observed), Err(Silence::NotAsked));
        }
    }

    /// As asked for: n1 is the primary of epoch 1, the others stream from it.
    pub(crate) fn running(nodes: u64, k: u64) -> Scene {
        let mut scene = Scene::decided(nodes, k);
        scene.exist();
        for n in &mut scene.record.nodes {
            n.rejoin = Rejoin::InPlace;
        }
        let names: Vec<String> = scene.record.nodes.iter().map(|n| n.name.clone()).collect();
        let effective = scene.record.spec.effective_sync_replicas();
        if effective == 0 {
            scene.record.cluster = Some(ClusterState::initial(node(1), Electorate::new([], 0)));
        }
        let follower = |name: &String| standby_name(name, Epoch(1));
        for (index, name) in names.iter().enumerate() {
            let id = node(index + 1);
            let primary = index == 0;
            let mut facts = NodeFacts {
                in_recovery: !primary,
                epoch: Epoch(1),
                history: Epoch(1),
                lsn: Lsn(1_000),
                receive_lsn: (!primary).then_some(Lsn(1_000)),
                replay_waits: !primary,
                receiver: (!primary).then(receiver),
                primary_conninfo: String::new(),
                primary_slot: String::new(),
                sync_names: sync_names(1, [""; 0]),
                setting: 0,
                checkpointed: primary,
                checkpoint_redo: primary.then_some(Lsn(1_000)),
                standbys: Vec::new(),
                slots: Vec::new(),
                rebuild: 0,
                config_hash: desired_configuration(&scene.record, &scene.policy.hba, id).hash(),
                pending_restart: Vec::new(),
                hot_standby: Default::default(),
                started_at: Timestamp::from_unix_ms(0),
                has_replication_role: true,
                has_register: true,
            };
            if primary {
                facts.sync_names = sync_names(effective, names[1..].iter().map(follower));
                for other in &names[1..] {
                    facts.standbys.push(StandbyFacts {
                        application_name: follower(other),
                        state: "streaming".to_owned(),
                        flush_lsn: Some(Lsn(1_000)),
                        replay_lsn: Some(Lsn(1_000)),
                    });
                    facts.slots.push(SlotFacts {
                        name: slot_name(other),
                        active: true,
                        lost: false,
                    });
                }
            } else {
                facts.primary_slot = slot_name(name);
                facts.primary_conninfo = conninfo(&FollowTarget {
                    endpoint: endpoint(node(1)),
                    application_name: follower(name),
                    slot: slot_name(name),
                });
            }
            scene.power(index + 1, PowerState::Running);
            if let Some(seen) = scene.observation.nodes.get_mut(&id) {
                seen.sql = Ok(facts);
                seen.silent_ms = 0;
                if let Seen::Present(observed) = &mut seen.infra {
                    observed.data = DataState::Initialised;
                }
            }
        }
        scene.record.status.phase = InstancePhase::Running;
        scene.record.status.lifecycle = Lifecycle::Active;
        // What the status says follows from what is seen: taken over, so that "nothing to do" is just that.
        for _ in 0..3 {
            let plan = scene.plan();
            assert!(plan.actions.is_empty(), "{:?}", plan.why);
            if let Some(record) = plan.record {
                scene.record = record;
            }
        }
        scene
    }

    /// An epoch was begun because n1 is lost.
    pub(crate) fn sealing(nodes: u64, k: u64) -> Scene {
        let mut scene = Scene::running(nodes, k);
        let cluster = scene.record.cluster.as_mut().expect("it runs");
        cluster.epoch = Epoch(2);
        cluster.phase = ClusterPhase::Sealing;
        cluster.cause = Some(FailoverCause::PrimaryFailed);
        scene
    }

    /// n2 was chosen; every standby is sealed.
    pub(crate) fn promoting(nodes: u64, k: u64) -> Scene {
        let mut scene = Scene::sealing(nodes, k);
        scene.power(1, died());
        let count = scene.record.nodes.len();
        for n in 2..=count {
            scene.sealed(n, Lsn(1_000));
        }
        scene.record = scene.plan().record.expect("a candidate is chosen");
        scene
    }

    fn set(&mut self, id: NodeId, infra: Seen<ObservedNode>, sql: Result<NodeFacts, Silence>) {
        let seen = NodeObservation {
            infra,
            sql,
            silent_ms: 0,
            not_streaming_ms: 0,
            waiting_ms: 0,
            stalled_ms: 0,
            hold_off_ms: 0,
            last_failure: None,
            fitness: Fitness::Unknown,
        };
        self.observation.nodes.insert(id, seen);
    }

    pub(crate) fn seen(&mut self, n: usize) -> &mut NodeObservation {
        self.observation
            .nodes
            .get_mut(&node(n))
            .expect("the node is part of the scene")
    }

    pub(crate) fn absent(&mut self, n: usize) {
        self.set(node(n), Seen::Absent, Err(Silence::NotAsked));
    }

    /// Sets the power state; a node that does not run does not answer, and its row leaves the primary's list.
    pub(crate) fn power(&mut self, n: usize, power: PowerState) {
        let off = !matches!(power, PowerState::Running);
        if let Seen::Present(observed) = &mut self.seen(n).infra {
            observed.power = power;
        }
        if off {
            self.silence(n, Silence::NotAsked, 100);
        }
    }

    pub(crate) fn silence(&mut self, n: usize, silence: Silence, silent_ms: u64) {
        let seen = self.seen(n);
        seen.sql = Err(silence);
        seen.silent_ms = silent_ms;
        let name = format!("n{n}_e");
        for other in self.observation.nodes.values_mut() {
            if let Ok(facts) = &mut other.sql {
                facts.standbys.retain(|s| !s.application_name.starts_with(&name));
                for slot in facts.slots.iter_mut().filter(|s| s.name == format!("dbaas_n{n}")) {
                    slot.active = false;
                }
            }
        }
    }

    pub(crate) fn facts(&mut self, n: usize) -> &mut NodeFacts {
        self.seen(n).sql.as_mut().expect("the node answers")
    }

    /// Sealed in the record's epoch, with everything up to here replayed.
    pub(crate) fn sealed(&mut self, n: usize, lsn: Lsn) {
        let epoch = self.record.cluster.as_ref().expect("it runs").epoch;
        let facts = self.facts(n);
        facts.epoch = epoch;
        facts.primary_conninfo = String::new();
        facts.receiver = None;
        facts.lsn = lsn;
        facts.receive_lsn = Some(lsn);
    }

    pub(crate) fn plan(&self) -> Plan {
        let fresh_ids: Vec<NodeId> = (1..=16).map(node).collect();
        plan(Situation {
            instance: &self.record,
            users: &[],
            databases: &[],
            observation: &self.observation,
            policy: &self.policy,
            fresh_ids: &fresh_ids,
        })
    }

    /// The plan as text: what is recorded, what is done, what is told.
    pub(crate) fn show(&self) -> String {
        let plan = self.plan();
        let mut text = String::new();
        let record = plan.record.as_ref().unwrap_or(&self.record);
        let recorded = if plan.record.is_some() { "" } else { " (unchanged)" };
        if let Some(c) = &record.cluster {
            let electorates: Vec<String> = c
                .electorates
                .iter()
                .map(|e| format!("{} of {:?}", e.k, e.voters.iter().map(short).collect::<Vec<_>>()))
                .collect();
            let _ = writeln!(
                text,
                "cluster{recorded}: epoch {} {:?} primary {} electorates {} cause {:?}",
                c.epoch,
                c.phase,
                short(&c.primary),
                electorates.join(" + "),
                c.cause
            );
        }
        for n in &record.nodes {
            let leaving = if n.leaving { " leaving" } else { "" };
            let _ = writeln!(
                text,
                "{}: {:?} {:?} {}{leaving}: {}",
                n.name, n.role, n.rejoin, n.lifecycle, n.reason
            );
        }
        let _ = writeln!(
            text,
            "status: {} {:?}: {}",
            record.status.lifecycle, record.status.phase, record.status.reason
        );
        for event in &plan.events {
            let _ = writeln!(text, "event {}: {}", event.kind, event.message);
        }
        for action in &plan.actions {
            let _ = writeln!(text, "do {}", describe(action));
        }
        let _ = writeln!(text, "then look again after {} ms", plan.wake_after_ms);
        text
    }
}

fn short(id: &NodeId) -> String {
    format!("n{}", id.uuid().as_u128())
}

fn describe(action: &Action) -> String {
    let on = short(&action.node());
    match action {
        Action::Start { boot, .. } => {
            let follow = boot
                .follow
                .as_ref()
                .map(|f| format!("{} at {}", f.application_name, f.endpoint));
            format!(
                "start {on}: {:?} as {:?} in epoch {}, follows {follow:?}, sync names {:?}",
                boot.prepare, boot.role, boot.epoch, boot.sync_names
            )
        }
        Action::Apply(spec) => format!("apply {on}: {} of {}", spec.name, spec.image),
        Action::Follow { epoch, slot, .. } => format!("follow {on} in epoch {epoch} with slot {slot}"),
        Action::PowerOff { mode, .. } => format!("power_off {on}: {mode:?}"),
        Action::Seal {
            epoch, closed_names, ..
        } => format!("seal {on} in epoch {epoch}, closing {closed_names:?}"),
        Action::Promote {
            epoch, closed_names, ..
        } => format!("promote {on} in epoch {epoch}, closed {closed_names:?}"),
        Action::SetSyncNames { epoch, names, .. } => format!("set_sync_names {on} in epoch {epoch}: {names}"),
        Action::CreateSlots { names, .. }
        | Action::DropSlots { names, .. }
        | Action::Bootstrap { slots: names, .. } => {
            format!("{} {on}: {names:?}", action.kind())
        }
        _ => format!("{} {on}", action.kind()),
    }
}
