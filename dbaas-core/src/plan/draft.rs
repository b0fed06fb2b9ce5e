//! [`Draft`]: a plan in the making, and the questions that all of its parts ask.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::boot::BootRole;
use crate::boot_plan::{BootPlan, PreparePlan};
use crate::cluster::{ClusterState, Epoch, slot_name, standby_name};
use crate::condition::Why;
use crate::config::{Configuration, Settings, sync_names};
use crate::id::{DatabaseId, NodeId};
use crate::infrastructure::{Endpoint, Enforcement, NodeRef, NodeSpec, PowerState};
use crate::instance::InstanceRecord;
use crate::kinds::EventKind;
use crate::node::NodeRecord;
use crate::observation::{FollowTarget, NodeFacts, NodeObservation};
use crate::reason::Reason;

use super::hashes::Hashes;
use super::settings::desired_configuration;
use super::{Action, GoneObject, Plan, PlannedEvent, Situation, settings};

/// What the primary of this pass is: it serves, and these are its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) node: NodeId,
}

pub(super) struct Draft<'a> {
    pub(super) situation: Situation<'a>,
    /// The record as it is to become.
    pub(super) record: InstanceRecord,
    pub(super) users: Vec<crate::user::UserRecord>,
    pub(super) databases: Vec<crate::database::DatabaseRecord>,
    pub(super) gone: Vec<GoneObject>,
    pub(super) instance_gone: bool,
    pub(super) events: Vec<PlannedEvent>,
    pub(super) actions: Vec<Action>,
    pub(super) why: Vec<String>,
    /// What keeps the instance from being as asked, for its reason.
    pub(super) pending: Vec<Why>,
    /// What failed, or waits for something that may never come.
    pub(super) problems: Vec<Why>,
    /// What a user should know although all is as asked.
    pub(super) warnings: Vec<String>,
    pub(super) wants_catalogue: bool,
    pub(super) try_service: Option<NodeId>,
    pub(super) wants_inside: BTreeSet<DatabaseId>,
    pub(super) wake_after_ms: u64,
    hashes: RefCell<Option<Rc<Hashes>>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(situation: Situation<'a>) -> Self {
        Draft {
            record: situation.instance.clone(),
            users: situation.users.to_vec(),
            databases: situation.databases.to_vec(),
            gone: Vec::new(),
            instance_gone: false,
            events: Vec::new(),
            actions: Vec::new(),
            why: Vec::new(),
            pending: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            wants_catalogue: false,
            try_service: None,
            wants_inside: BTreeSet::new(),
            wake_after_ms: situation.policy.heartbeat_ms,
            hashes: RefCell::default(),
            situation,
        }
    }

    /// The plan: only what differs from what is recorded already.
    pub(super) fn finish(self) -> Plan {
        let Situation {
            instance,
            users,
            databases,
            ..
        } = self.situation;
        let is_gone = |object: GoneObject| self.gone.contains(&object);
        Plan {
            record: (self.record != *instance).then_some(self.record),
            users: self
                .users
                .into_iter()
                .zip(users)
                .filter(|(new, old)| new != *old && !is_gone(GoneObject::User(old.id)))
                .map(|(new, _)| new)
                .collect(),
            databases: self
                .databases
                .into_iter()
                .zip(databases)
                .filter(|(new, old)| new != *old && !is_gone(GoneObject::Database(old.id)))
                .map(|(new, _)| new)
                .collect(),
            gone: self.gone,
            instance_gone: self.instance_gone,
            events: self.events,
            actions: self.actions,
            why: self.why,
            wake_after_ms: self.wake_after_ms,
            wants_catalogue: self.wants_catalogue,
            try_service: self.try_service,
            wants_inside: self.wants_inside,
        }
    }

    /// An action and why. A second action of the same kind on the same node is dropped: the first part that
    /// asked decides.
    pub(super) fn act(&mut self, action: Action, why: impl Into<String>) {
        let exclusive = matches!(
            action,
            Action::Start { .. } | Action::PowerOff { .. } | Action::Apply(_)
        );
        let taken = exclusive
            && self
                .actions
                .iter()
                .any(|a| a.node() == action.node() && a.kind() == action.kind());
        if !taken {
            self.why.push(why.into());
            self.actions.push(action);
        }
        self.soon();
    }

    pub(super) fn event(&mut self, kind: EventKind, node: Option<NodeId>, message: impl Into<String>) {
        self.events.push(PlannedEvent {
            kind,
            message: message.into(),
            node,
        });
    }

    /// Something is expected to happen: look again soon.
    pub(super) fn soon(&mut self) {
        self.wake_within(self.situation.policy.progress_ms);
    }

    pub(super) fn wake_within(&mut self, ms: u64) {
        self.wake_after_ms = self.wake_after_ms.min(ms.max(1));
    }

    /// The instance is not yet as asked for.
    pub(super) fn pending(&mut self, reason: Reason, text: impl Into<String>) {
        self.pending.push(Why::new(reason, text));
    }

    pub(super) fn problem(&mut self, reason: Reason, text: impl Into<String>) {
        self.problems.push(Why::new(reason, text));
    }

    /// What helps against a full disk: a size that nobody holds is no use enlarging.
    pub(super) fn disk_advice(&self) -> &'static str {
        match self.situation.policy.capabilities.disk {
            Enforcement::Enforced => "enlarge disk_size or free space",
            Enforcement::NotEnforced => "free space where its data is (disk_size is not what limits it)",
        }
    }

    pub(super) fn disk_is_full(&self, name: &str) -> String {
        let advice = self.disk_advice();
        format!("the disk of {name} is full: {advice}; starting is tried again")
    }

    pub(super) fn facts(&self, node: NodeId) -> Option<&'a NodeFacts> {
        self.situation.observation.facts(node)
    }

    pub(super) fn seen(&self, node: NodeId) -> Option<&'a NodeObservation> {
        self.situation.observation.node(node)
    }

    pub(super) fn power(&self, node: NodeId) -> Option<&'a PowerState> {
        self.situation.observation.infra(node).map(|n| &n.power)
    }

    /// Positively known to be off, or not there.
    pub(super) fn is_off(&self, node: NodeId) -> bool {
        self.seen(node).is_some_and(NodeObservation::is_off)
    }

    pub(super) fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        self.record.node(node)
    }

    pub(super) fn node_mut(&mut self, node: NodeId) -> Option<&mut NodeRecord> {
        self.record.nodes.iter_mut().find(|n| n.id == node)
    }

    pub(super) fn name(&self, node: NodeId) -> String {
        self.node(node)
            .map_or_else(|| node.to_string(), |n| n.name.clone())
    }

    /// The names of these nodes, for people.
    pub(super) fn names(&self, nodes: &BTreeSet<NodeId>) -> String {
        let names: Vec<String> = nodes.iter().map(|n| self.name(*n)).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    pub(super) fn cluster(&self) -> Option<&ClusterState> {
        self.record.cluster.as_ref()
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.cluster().map_or(Epoch::FIRST, |c| c.epoch)
    }

    /// Where other nodes reach this one.
    pub(super) fn peer_endpoint(&self, node: NodeId) -> Option<Endpoint> {
        self.situation
            .observation
            .infra(node)
            .and_then(|n| n.peer_endpoint.clone())
    }

    /// Nodes that are to stay, but not this one.
    pub(super) fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.record
            .nodes
            .iter()
            .filter(|n| n.id != node && !n.leaving)
            .map(|n| n.id)
            .collect()
    }

    /// Every node but this one, also those that are to go: what they have, and what they hear, counts until
    /// they are gone.
    pub(super) fn all_others(&self, node: NodeId) -> Vec<NodeId> {
        let others = self.record.nodes.iter().filter(|n| n.id != node);
        others.map(|n| n.id).collect()
    }

    /// What `synchronous_standby_names` is on a standby, and on a primary until it is told whom to wait for:
    /// closed, so that it can acknowledge nothing. The same for every k, also for 0: k may change between a
    /// node's sealing and its promotion.
    pub(super) fn closed_names(&self) -> String {
        sync_names(1, [""; 0])
    }

    /// The closed setting, if the node's differs.
    pub(super) fn missing_closed_names(&self, facts: &NodeFacts) -> Option<String> {
        let closed = self.closed_names();
        (facts.sync_names != closed).then_some(closed)
    }

    /// What the primary's `synchronous_standby_names` is to be: the newest electorate, in its epoch.
    pub(super) fn wanted_sync_names(&self) -> String {
        let Some(cluster) = self.cluster() else {
            return String::new();
        };
        let electorate = cluster.current();
        let names = electorate
            .voters
            .iter()
            .map(|v| standby_name(&self.name(*v), cluster.epoch));
        sync_names(electorate.k, names)
    }

    /// How a standby follows this node; `None` while the node's address is not known.
    pub(super) fn follow_target(&self, standby: NodeId, primary: NodeId) -> Option<FollowTarget> {
        let name = self.name(standby);
        Some(FollowTarget {
            endpoint: self.peer_endpoint(primary)?,
            application_name: standby_name(&name, self.epoch()),
            slot: slot_name(&name),
        })
    }

    pub(super) fn node_spec(&self, node: &NodeRecord) -> NodeSpec {
        NodeSpec {
            node: NodeRef {
                instance: self.record.id,
                node: node.id,
            },
            name: node.name.clone(),
            image: self.record.spec.image.clone(),
            resources: self.record.spec.resources,
        }
    }

    /// A standby's start from data that is there: following, or sealed where there is nobody to follow.
    pub(super) fn standby_boot(
        &self,
        node: NodeId,
        primary: Option<NodeId>,
        prepare: PreparePlan,
    ) -> BootPlan {
        let rebuild = match prepare {
            PreparePlan::BaseBackup { .. } => self.node(node).map_or(0, |n| n.rebuilds),
            _ => 0,
        };
        BootPlan {
            epoch: self.epoch(),
            prepare,
            rebuild,
            role: BootRole::Standby,
            follow: primary.and_then(|p| self.follow_target(node, p)),
            sync_names: self.closed_names(),
            configuration: self.configuration(settings::over_the_floor(
                &self.record,
                &settings::wanted(&self.record),
            )),
        }
    }

    /// Less than this is little space on a data disk, in bytes. More than 4 GB is enough for any disk,
    /// however large.
    pub(super) fn disk_floor(&self) -> u64 {
        let disk_bytes = u64::from(self.record.spec.resources.disk.get()) << 30;
        (disk_bytes / 100 * self.situation.policy.low_disk_percent).min(4 << 30)
    }

    /// What a node that runs is to be configured with.
    pub(super) fn desired_configuration(&self, node: NodeId) -> Configuration {
        desired_configuration(&self.record, &self.situation.policy.hba, node)
    }

    /// The hashes of that.
    pub(super) fn hashes(&self) -> Rc<Hashes> {
        let mut known = self.hashes.borrow_mut();
        match &*known {
            Some(hashes) if hashes.are_of(&self.record) => Rc::clone(hashes),
            _ => {
                let hashes = Rc::new(Hashes::of(&self.record, &self.situation.policy.hba));
                *known = Some(Rc::clone(&hashes));
                hashes
            }
        }
    }

    fn configuration(&self, settings: Settings) -> Configuration {
        Configuration {
            settings,
            hba: self.situation.policy.hba.clone(),
        }
    }

    /// The primary's start. It starts closed, also an asynchronous one, and also for the first time: the
    /// order to start it may arrive late, when whom to wait for has changed. It is opened by its setting,
    /// which is numbered.
    pub(super) fn primary_boot(&self, prepare: PreparePlan) -> BootPlan {
        BootPlan {
            epoch: self.epoch(),
            prepare,
            rebuild: 0,
            role: BootRole::Primary,
            follow: None,
            sync_names: self.closed_names(),
            configuration: self.configuration(settings::wanted(&self.record)),
        }
    }

    /// Whether a node's data is of this epoch's history: it has replayed the epoch's mark. One whose WAL left
    /// the primary's history can connect all the same, and reports positions of its own that mean nothing.
    pub(super) fn is_of_this_history(&self, node: NodeId) -> bool {
        self.facts(node).is_some_and(|f| f.history == self.epoch())
    }

    /// The standbys that stream from the primary in this epoch, by the primary's word, and are not known to
    /// be of another history.
    pub(super) fn streaming(&self, primary: &NodeFacts) -> BTreeSet<NodeId> {
        let epoch = self.epoch();
        self.record
            .nodes
            .iter()
            .filter(|n| primary.streaming(&standby_name(&n.name, epoch)).is_some())
            .filter(|n| self.facts(n.id).is_none_or(|f| f.history == epoch))
            .map(|n| n.id)
            .collect()
    }

    /// Those of them that are so little behind that a commit would not wait for them.
    pub(super) fn caught_up(&self, primary: &NodeFacts) -> BTreeSet<NodeId> {
        let epoch = self.epoch();
        let allowed = self.situation.policy.caught_up_bytes;
        self.record
            .nodes
            .iter()
            .filter(|n| self.is_of_this_history(n.id) && !n.is_to_be_rebuilt())
            .filter(|n| {
                primary
                    .streaming(&standby_name(&n.name, epoch))
                    .and_then(|s| s.flush_lsn)
                    .is_some_and(|flushed| primary.lsn.0.saturating_sub(flushed.0) <= allowed)
            })
            .map(|n| n.id)
            .collect()
    }
}
