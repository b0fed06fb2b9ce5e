//! The shipped planner, asked from the abstract world: what is here translates, remembers and adds nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dbaas_core::boot::BootRole;
use dbaas_core::boot_plan::PreparePlan;
use dbaas_core::config::{PrimaryConninfo, parse_sync_names};
use dbaas_core::id::NodeId;
use dbaas_core::infrastructure::PowerOff;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::Observation;
use dbaas_core::plan::{Action, Plan, Policy, Situation, plan};
use parking_lot::Mutex;

use crate::mutation::Mutation;
use crate::record::{Rec, id, index, small};
use crate::sight::{Sight, View, observation};
use crate::world::{Act, Boot, MOST_NODES, Names, Prepare, Target, What};

/// What a controller decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The record to be written first, if it changes in anything that matters.
    pub record: Option<Rec>,
    /// Then to be done.
    pub acts: Vec<Act>,
    /// The status has a reason, and does not say that all is well where nothing serves.
    pub is_explained: bool,
}

/// The planner with a memory: it is a pure function.
#[derive(Debug)]
pub struct Planner {
    policy: Policy,
    mutation: Option<Mutation>,
    known: Vec<Mutex<HashMap<u64, Arc<Decision>>>>,
}

const SHARDS: usize = 16;
/// Answers kept per shard.
const MOST_KNOWN: usize = 400_000;

impl Planner {
    /// One that is as shipped, or mutated.
    pub fn new(mutation: Option<Mutation>) -> Self {
        Planner {
            policy: Policy::default(),
            mutation,
            known: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// What is decided on this record and these views.
    pub fn decide(&self, record: &Rec, views: &[View; MOST_NODES], sight: Sight) -> Arc<Decision> {
        let mut hasher = DefaultHasher::new();
        (record, views, sight).hash(&mut hasher);
        let key = hasher.finish();
        let shard = &self.known[(key % SHARDS as u64) as usize];
        if let Some(known) = shard.lock().get(&key) {
            return Arc::clone(known);
        }
        let decision = Arc::new(self.ask(record, views, sight));
        let mut known = shard.lock();
        if known.len() < MOST_KNOWN {
            known.insert(key, Arc::clone(&decision));
        }
        decision
    }

    fn ask(&self, record: &Rec, views: &[View; MOST_NODES], sight: Sight) -> Decision {
        let mut views = *views;
        let mut seen = record.get().clone();
        if let Some(m) = self.mutation {
            m.before(&mut seen, &mut views);
        }
        let observed = observation(&seen, &views, sight);
        let mut plan = self.plan(&seen, &observed);
        if let Some(m) = self.mutation {
            m.after(record.get(), &seen, &mut plan);
        }
        let is_explained = is_explained(&plan, &seen, &observed);
        let new = plan
            .record
            .as_ref()
            .map(|r| Rec::new(r.clone()))
            .filter(|new| new != record);
        let mut acts: Vec<Act> = plan.actions.iter().filter_map(act).collect();
        acts.sort();
        acts.dedup();
        Decision {
            record: new,
            acts,
            is_explained,
        }
    }

    fn plan(&self, record: &InstanceRecord, observed: &Observation) -> Plan {
        // Ids in the order of the nodes' numbers, so that an index, an id and a name are one.
        let next = record.next_node_number as usize - 1;
        let fresh_ids: Vec<NodeId> = (next..MOST_NODES).map(id).collect();
        plan(Situation {
            instance: record,
            users: &[],
            databases: &[],
            observation: observed,
            policy: &self.policy,
            fresh_ids: &fresh_ids,
        })
    }
}

fn is_explained(plan: &Plan, record: &InstanceRecord, observed: &Observation) -> bool {
    let status = plan.record.as_ref().map_or(&record.status, |r| &r.status);
    let serves = plan
        .record
        .as_ref()
        .unwrap_or(record)
        .cluster
        .as_ref()
        .and_then(|c| observed.facts(c.primary))
        .is_some_and(|f| !f.in_recovery);
    !status.reason.is_empty() && (serves || status.reason != "as asked for")
}

fn names(text: &str) -> Names {
    let (k, list) = parse_sync_names(text).expect("the planner writes what it can read");
    let mut names = Names {
        k,
        ..Names::default()
    };
    for name in list {
        let (node, epoch) = standby(&name);
        names.voters |= 1 << node;
        names.epoch = epoch;
    }
    names
}

/// Node and epoch of a name such as `n2_e3`.
fn standby(name: &str) -> (usize, u8) {
    let parts = name.strip_prefix('n').and_then(|rest| rest.split_once("_e"));
    let (node, epoch) = parts.expect("a standby's name is nN_eE");
    let number: usize = node.parse().expect("a node's number");
    (number - 1, epoch.parse().expect("an epoch"))
}

fn target(host: &str, application_name: &str) -> Target {
    let node: u8 = host
        .rsplit('.')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("an address of the model");
    Target {
        node: node - 1,
        epoch: standby(application_name).1,
    }
}

/// Whom a rendered `primary_conninfo` names.
fn conninfo_target(text: &str) -> Target {
    let info = PrimaryConninfo::parse(text).expect("the planner writes what it can read");
    target(&info.host, &info.application_name)
}

fn act(action: &Action) -> Option<Act> {
    let what = match action {
        Action::Apply(_) => What::Apply,
        Action::Start { boot, .. } => What::Start(Boot {
            epoch: small(boot.epoch.0),
            prepare: match &boot.prepare {
                PreparePlan::Existing => Prepare::Existing,
                PreparePlan::Init { seeds } => {
                    Prepare::Init(seeds.iter().fold(0, |bits, s| bits | 1 << index(*s)))
                }
                PreparePlan::SeedOf { .. } => Prepare::Seed,
                PreparePlan::BaseBackup { source, .. } => Prepare::Backup(index(*source) as u8),
                PreparePlan::Rewind { source, .. } => Prepare::Rewind(index(*source) as u8),
            },
            rebuild: boot.rebuild.min(255) as u8,
            primary: boot.role == BootRole::Primary,
            target: boot
                .follow
                .as_ref()
                .map(|f| target(&f.endpoint.host, &f.application_name)),
            names: names(&boot.sync_names),
        }),
        Action::PowerOff { mode, .. } => What::PowerOff(matches!(mode, PowerOff::Graceful { .. })),
        Action::Remove { .. } => What::Remove,
        Action::Bootstrap { .. } => What::Bootstrap,
        Action::Seal {
            epoch, closed_names, ..
        } => What::Seal(small(epoch.0), closed_names.as_deref().map(names)),
        Action::Promote {
            epoch, closed_names, ..
        } => What::Promote(small(epoch.0), names(closed_names)),
        Action::MarkHistory { epoch, .. } => What::Mark(small(epoch.0)),
        Action::SetSyncNames {
            epoch,
            setting,
            names: text,
            ..
        } => What::SetNames(small(epoch.0), small(*setting), names(text)),
        Action::Follow {
            epoch,
            conninfo,
            closed_names,
            ..
        } => What::Follow(
            small(epoch.0),
            conninfo_target(conninfo),
            closed_names.as_deref().map(names),
        ),
        Action::Checkpoint { .. } => What::Checkpoint,
        // Nobody asks anything of a standby in the model.
        Action::EndConflicts { .. }
        | Action::Reconfigure { .. }
        | Action::CreateSlots { .. }
        | Action::DropSlots { .. }
        | Action::PutRole { .. }
        | Action::MakeRegister { .. }
        | Action::Adopt { .. }
        | Action::Forget { .. }
        | Action::TransferObjects { .. }
        | Action::DropRole { .. }
        | Action::CreateDatabase { .. }
        | Action::AlterDatabase { .. }
        | Action::ChangeAccess { .. }
        | Action::ChangeExtensions { .. }
        | Action::DropAccessRoles { .. }
        | Action::RepairAccess { .. }
        | Action::DropDatabase { .. } => return None,
    };
    Some(Act {
        node: index(action.node()) as u8,
        what,
    })
}
