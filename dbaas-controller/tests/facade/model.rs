//! What was asked for and accepted: the reference that the façade is held to. It knows things by the order in
//! which they were made, not by ids.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::call::{Call, Deed, Which, any_call};

/// The n-th thing that was made.
pub(crate) type Handle = usize;

#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) name: &'static str,
    pub(crate) owner: Handle,
    pub(crate) description: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Instance {
    pub(crate) name: &'static str,
    pub(crate) description: String,
    pub(crate) nodes: u64,
    pub(crate) sync: u64,
    pub(crate) cpu: u64,
    pub(crate) disk: u64,
    pub(crate) stopped: bool,
    pub(crate) users: BTreeMap<Handle, &'static str>,
    pub(crate) databases: BTreeMap<Handle, Database>,
    /// Asked to be dropped: they show, or they do not, and as long as they do they have their names.
    pub(crate) leaving_users: BTreeMap<Handle, &'static str>,
    pub(crate) leaving_databases: BTreeMap<Handle, Database>,
}

/// Why a call has to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NameTaken,
    /// This field is wrong.
    Invalid(&'static str),
    /// It names a version that the record does not have.
    Stale,
    InUse,
    WrongState,
}

/// What the last call met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Met {
    /// The instance that it is about, or that it makes.
    pub(crate) instance: Handle,
    /// The user or database.
    pub(crate) object: Handle,
    /// Another user: an owner.
    pub(crate) owner: Option<Handle>,
    /// Any of these has to be the answer; empty: it has to be accepted.
    pub(crate) refusals: Vec<Refusal>,
    /// Something that is on its way out stands in the way: it may be refused for some time, and then not any
    /// more.
    pub(crate) for_some_time: bool,
    /// What the new description is.
    pub(crate) description: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// The seed of the world.
    pub(crate) seed: u64,
    made: usize,
    pub(crate) instances: BTreeMap<Handle, Instance>,
    /// Asked to be deleted: they show, or they do not.
    pub(crate) leaving: BTreeMap<Handle, &'static str>,
    pub(crate) met: Met,
}

fn nth<V>(of: &BTreeMap<Handle, V>, which: Which) -> Option<Handle> {
    of.keys().nth(which.checked_rem(of.len())?).copied()
}

impl Model {
    fn name_taken(&self, name: &str, but: Option<Handle>) -> bool {
        self.instances
            .iter()
            .any(|(handle, i)| Some(*handle) != but && i.name == name)
    }

    fn name_leaves(&self, name: &str) -> bool {
        self.leaving.values().any(|leaving| *leaving == name)
    }

    /// What the call will meet; `None`: it makes no sense now.
    fn look(&self, call: &Call) -> Option<Met> {
        let mut met = Met {
            object: self.made,
            description: format!("text {}", self.made),
            ..Met::default()
        };
        let (which, object) = match call {
            Call::CreateInstance {
                name, bad_version, ..
            } => {
                met.instance = self.made;
                met.refuse(self.name_taken(name, None), Refusal::NameTaken);
                met.refuse(*bad_version, Refusal::Invalid("/version"));
                met.for_some_time = self.name_leaves(name);
                return Some(met);
            }
            Call::AskForWhatNeverWas { .. } | Call::Wait { .. } => return Some(met),
            Call::UpdateInstance { instance, .. }
            | Call::Act { instance, .. }
            | Call::DeleteInstance { instance } => (*instance, None),
            Call::CreateUser { instance, .. } => (*instance, None),
            Call::UpdateUser { instance, user } | Call::DeleteUser { instance, user } => {
                (*instance, Some(*user))
            }
            Call::CreateDatabase { instance, owner, .. } => (*instance, Some(*owner)),
            Call::UpdateDatabase {
                instance, database, ..
            }
            | Call::DeleteDatabase { instance, database } => (*instance, Some(*database)),
        };
        met.instance = nth(&self.instances, which)?;
        let instance = &self.instances[&met.instance];
        match (call, object) {
            (Call::UpdateInstance { changes, stale, .. }, _) => {
                met.refuse(*stale, Refusal::Stale);
                met.refuse(
                    changes.disk.is_some_and(|disk| disk < instance.disk),
                    Refusal::Invalid("/disk_size"),
                );
                if let Some(name) = changes.name {
                    met.refuse(self.name_taken(name, Some(met.instance)), Refusal::NameTaken);
                    met.for_some_time = self.name_leaves(name);
                }
            }
            (Call::Act { deed, .. }, _) => match deed {
                Deed::Stop | Deed::Start => {}
                Deed::Restart => met.refuse(instance.stopped, Refusal::WrongState),
                Deed::Switchover if instance.stopped => met.refuse(true, Refusal::WrongState),
                // There has to be somebody to switch to, and it has to be up.
                Deed::Switchover => met.for_some_time = true,
            },
            (Call::CreateUser { name, .. }, _) => {
                met.refuse(
                    instance.users.values().any(|there| there == name),
                    Refusal::NameTaken,
                );
                met.for_some_time = instance.leaving_users.values().any(|leaving| leaving == name);
            }
            (Call::UpdateUser { .. } | Call::DeleteUser { .. }, Some(user)) => {
                met.object = nth(&instance.users, user)?;
                if matches!(call, Call::DeleteUser { .. }) {
                    let owns = |databases: &BTreeMap<Handle, Database>| {
                        databases.values().any(|d| d.owner == met.object)
                    };
                    let (owns, owned) = (owns(&instance.databases), owns(&instance.leaving_databases));
                    met.refuse(owns, Refusal::InUse);
                    // A database that is still being dropped has its owner.
                    met.for_some_time = owned;
                }
            }
            (Call::CreateDatabase { name, foreign, .. }, Some(owner)) => {
                met.owner = Some(nth(&instance.users, owner)?);
                met.refuse(
                    instance.databases.values().any(|d| d.name == *name),
                    Refusal::NameTaken,
                );
                met.refuse(*foreign, Refusal::Invalid("/owner"));
                met.for_some_time = instance.leaving_databases.values().any(|d| d.name == *name);
            }
            (Call::UpdateDatabase { owner, .. }, Some(database)) => {
                met.object = nth(&instance.databases, database)?;
                met.owner = owner.and_then(|owner| nth(&instance.users, owner));
            }
            (Call::DeleteDatabase { .. }, Some(database)) => met.object = nth(&instance.databases, database)?,
            _ => {}
        }
        // What leaves a stopped instance leaves it when it is started again.
        let waits_for_ever =
            met.for_some_time && instance.stopped && !matches!(call, Call::UpdateInstance { .. });
        (!waits_for_ever).then_some(met)
    }

    /// What an accepted call changes.
    fn change(&mut self, call: &Call) {
        let met = self.met.clone();
        match call {
            Call::CreateInstance {
                name, nodes, sync, ..
            } => {
                let made = Instance {
                    name,
                    nodes: *nodes,
                    sync: *sync,
                    cpu: 1,
                    disk: 10,
                    ..Instance::default()
                };
                self.instances.insert(met.instance, made);
                return;
            }
            Call::DeleteInstance { .. } => {
                if let Some(gone) = self.instances.remove(&met.instance) {
                    self.leaving.insert(met.instance, gone.name);
                }
                return;
            }
            _ => {}
        }
        let Some(instance) = self.instances.get_mut(&met.instance) else {
            return;
        };
        match call {
            Call::UpdateInstance { changes, .. } => {
                instance.name = changes.name.unwrap_or(instance.name);
                instance.nodes = changes.nodes.unwrap_or(instance.nodes);
                instance.sync = changes.sync.unwrap_or(instance.sync);
                instance.cpu = changes.cpu.unwrap_or(instance.cpu);
                instance.disk = changes.disk.unwrap_or(instance.disk);
                if changes.described {
                    instance.description = met.description;
                }
            }
            Call::Act { deed: Deed::Stop, .. } => instance.stopped = true,
            Call::Act {
                deed: Deed::Start, ..
            } => instance.stopped = false,
            Call::CreateUser { name, .. } => {
                instance.users.insert(met.object, name);
            }
            Call::DeleteUser { .. } => instance
                .leaving_users
                .extend(instance.users.remove_entry(&met.object)),
            Call::CreateDatabase { name, .. } => {
                let owner = met.owner.unwrap_or_default();
                instance.databases.insert(
                    met.object,
                    Database {
                        name,
                        owner,
                        description: String::new(),
                    },
                );
            }
            Call::UpdateDatabase { .. } => {
                if let Some(database) = instance.databases.get_mut(&met.object) {
                    database.owner = met.owner.unwrap_or(database.owner);
                    database.description = met.description;
                }
            }
            Call::DeleteDatabase { .. } => {
                instance
                    .leaving_databases
                    .extend(instance.databases.remove_entry(&met.object));
            }
            _ => {}
        }
    }
}

impl Met {
    fn refuse(&mut self, is: bool, refusal: Refusal) {
        self.refusals.extend(is.then_some(refusal));
    }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Call;

    fn init_state() -> BoxedStrategy<Model> {
        let begin = |seed| Model {
            seed,
            made: 0,
            instances: BTreeMap::new(),
            leaving: BTreeMap::new(),
            met: Met::default(),
        };
        any::<u64>().prop_map(begin).no_shrink().boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Call> {
        any_call()
    }

    fn preconditions(state: &Model, call: &Call) -> bool {
        state.look(call).is_some()
    }

    fn apply(mut state: Model, call: &Call) -> Model {
        if let Some(met) = state.look(call) {
            let accepted = met.refusals.is_empty();
            state.met = met;
            if accepted {
                state.change(call);
            }
            state.made += 1;
        }
        state
    }
}
