//! Roles and databases: what the records say, against what PostgreSQL has. Only what carries our mark is changed or dropped.

use std::collections::BTreeSet;

use crate::boot::ADMIN_ROLE;
use crate::cluster::{ClusterPhase, standby_name};
use crate::command::{SPARE_DATABASE, object_mark, staging_database_name};
use crate::database::DatabaseRecord;
use crate::id::{NodeId, UserId};
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle};
use crate::name::UserName;
use crate::observation::{CatalogueFacts, NodeFacts};
use crate::user::UserRecord;

use super::draft::{Draft, Serving};
use super::{Action, DatabaseSource, GoneObject};

/// How many roles and databases one plan makes or changes, so that a pass stays short.
const MOST_AT_ONCE: usize = 32;

mod leftovers;

pub(super) fn plan(draft: &mut Draft<'_>, primary: Serving) {
    let unfinished = draft
        .users
        .iter()
        .any(|u| u.deleting || u.lifecycle != ObjectLifecycle::Active)
        || draft
            .databases
            .iter()
            .any(|d| d.deleting || d.lifecycle != ObjectLifecycle::Active);
    let Some(facts) = draft.facts(primary.node) else {
        return;
    };
    let Some(catalogue) = draft.situation.observation.catalogue.as_ref() else {
        if unfinished {
            draft.wants_catalogue = true;
            draft.wake_within(1);
        }
        return;
    };
    let durable = is_durable(draft, facts, catalogue);
    let before = draft.actions.len();
    users(draft, primary.node, catalogue, durable);
    databases(draft, primary.node, catalogue, durable);
    leftovers::drop_again(draft, primary.node, catalogue);
    if draft.actions.len() > before || (unfinished && !durable) {
        draft.wants_catalogue = true;
        draft.soon();
    }
}

/// Everything in the catalogue as it was read is on k voters: a failover now would not lose it.
fn is_durable(draft: &Draft<'_>, facts: &NodeFacts, catalogue: &CatalogueFacts) -> bool {
    let Some(cluster) = draft.cluster() else {
        return false;
    };
    let electorate = cluster.current();
    let holders = electorate
        .voters
        .iter()
        .filter(|id| draft.is_of_this_history(**id))
        .filter(|id| {
            let name = standby_name(&draft.name(**id), cluster.epoch);
            facts
                .streaming(&name)
                .and_then(|s| s.flush_lsn)
                .is_some_and(|flushed| flushed >= catalogue.lsn)
        })
        .count();
    holders >= usize::from(electorate.k)
}

fn users(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts, durable: bool) {
    for index in 0..draft.users.len() {
        let user = draft.users[index].clone();
        let mark = object_mark(user.id.uuid());
        let role = catalogue.roles.iter().find(|r| r.name == user.name.as_str());
        let foreign = role.is_some_and(|r| r.mark.as_deref() != Some(&mark));
        if user.deleting {
            match role {
                Some(_) if !foreign => drop_role(draft, primary, user.id, &user.name, catalogue),
                // A failover must not bring back somebody who has been told to be gone.
                _ if !durable => {}
                _ => {
                    draft.event("user_deleted", None, format!("user {} is gone", user.name));
                    draft.gone.push(GoneObject::User(user.id));
                    draft.record.dropped.note(user.id.uuid());
                }
            }
            continue;
        }
        let (event, reason) = match role {
            Some(role) if leftovers::is_one(draft, role.mark.as_deref()) => (
                LifecycleEvent::WorkBegan,
                "an earlier role of this name is being dropped".to_owned(),
            ),
            Some(_) if foreign => (
                LifecycleEvent::Failed,
                "a role of this name exists that the control plane did not create: drop or rename it in PostgreSQL".to_owned(),
            ),
            Some(role) => {
                let same = role.attributes_ok && role.verifier_sha256.as_deref() == Some(&user.verifier.fingerprint());
                if same && (durable || user.lifecycle == ObjectLifecycle::Active) {
                    (LifecycleEvent::Converged, "as asked for".to_owned())
                } else if same {
                    (LifecycleEvent::WorkBegan, "created; waiting until a standby has it".to_owned())
                } else {
                    put_role(draft, primary, &user, true);
                    (LifecycleEvent::WorkBegan, "being changed".to_owned())
                }
            }
            None => {
                put_role(draft, primary, &user, false);
                (LifecycleEvent::WorkBegan, "being created".to_owned())
            }
        };
        if user.lifecycle == ObjectLifecycle::Active && event != LifecycleEvent::Converged {
            let message = format!("user {} is not as asked for ({reason}): mending it", user.name);
            draft.event("drift_found", None, message);
        }
        let (event, reason) = with_failure(draft, user.id.uuid(), event, reason);
        set_user(draft, index, event, reason);
    }
}

/// An attempt that failed is an error until one succeeds; it is tried again all the time.
fn with_failure(
    draft: &Draft<'_>,
    id: uuid::Uuid,
    event: LifecycleEvent,
    reason: String,
) -> (LifecycleEvent, String) {
    match draft.situation.observation.object_failures.get(&id) {
        Some(failure) if event == LifecycleEvent::WorkBegan => {
            (LifecycleEvent::Failed, format!("{failure}; it is tried again"))
        }
        _ => (event, reason),
    }
}

fn set_user(draft: &mut Draft<'_>, index: usize, event: LifecycleEvent, reason: String) {
    let user = &mut draft.users[index];
    // A failure that the engine recorded stays to be read until it has succeeded.
    let keep = user.lifecycle == ObjectLifecycle::Error && event == LifecycleEvent::WorkBegan;
    let before = user.lifecycle;
    user.lifecycle = before.transition(event);
    if !keep {
        user.reason = reason;
    }
    let (after, message) = (user.lifecycle, format!("user {}: {}", user.name, user.reason));
    match after {
        ObjectLifecycle::Active if before != after => draft.event("user_active", None, message),
        ObjectLifecycle::Error if before != after => draft.event("user_error", None, message),
        _ => {}
    }
}

fn put_role(draft: &mut Draft<'_>, primary: NodeId, user: &UserRecord, exists: bool) {
    if draft.actions.len() < MOST_AT_ONCE {
        let why = format!("role {}", user.name);
        draft.act(
            Action::PutRole {
                node: primary,
                user: user.id,
                exists,
            },
            why,
        );
    }
}

fn drop_role(
    draft: &mut Draft<'_>,
    primary: NodeId,
    user: UserId,
    name: &UserName,
    catalogue: &CatalogueFacts,
) {
    let databases = catalogue
        .databases
        .iter()
        .filter(|d| d.mark.is_some())
        .map(|d| (d.name.clone(), d.owner.clone()))
        .collect();
    if draft.actions.len() < MOST_AT_ONCE {
        let why = format!("dropping role {name}");
        draft.act(
            Action::DropRole {
                node: primary,
                user,
                name: name.clone(),
                databases,
            },
            why,
        );
    }
}

fn databases(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts, durable: bool) {
    let owners: BTreeSet<UserId> = draft
        .users
        .iter()
        .filter(|u| catalogue.roles.iter().any(|r| r.name == u.name.as_str()))
        .map(|u| u.id)
        .collect();
    let made_now: BTreeSet<UserId> = draft
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::PutRole {
                user, exists: false, ..
            } => Some(*user),
            _ => None,
        })
        .collect();
    let mut spare = catalogue
        .databases
        .iter()
        .any(|d| d.name == SPARE_DATABASE && d.owner == ADMIN_ROLE && d.mark.is_none());
    for index in 0..draft.databases.len() {
        let database = draft.databases[index].clone();
        let mark = object_mark(database.id.uuid());
        let staging = staging_database_name(database.id.uuid());
        let found = catalogue
            .databases
            .iter()
            .find(|d| d.name == database.name.as_str());
        let staged = catalogue.databases.iter().any(|d| d.name == staging);
        let foreign = found.is_some_and(|d| d.mark.as_deref() != Some(&mark));
        if database.deleting {
            delete(
                draft,
                primary,
                &database,
                found.is_some() && !foreign,
                staged.then_some(staging),
                durable,
            );
            continue;
        }
        let Some(owner) = draft.users.iter().find(|u| u.id == database.owner).cloned() else {
            set_database(
                draft,
                index,
                LifecycleEvent::Failed,
                "its owner does not exist: give it another one".to_owned(),
            );
            continue;
        };
        if staged && found.is_some() && !foreign {
            // Made once more by an order that was decided on before the first one was seen to be done.
            delete(draft, primary, &database, false, Some(staging), durable);
        }
        let source = match (staged, spare && found.is_none()) {
            (true, _) => DatabaseSource::Staged,
            (false, false) => DatabaseSource::Template,
            (false, true) => {
                // Always the first one's that is missing: the next plan must not give it to another one while this one is being made.
                spare = false;
                DatabaseSource::Spare
            }
        };
        let (event, reason) = match found {
            Some(found) if leftovers::is_one(draft, found.mark.as_deref()) => (
                LifecycleEvent::WorkBegan,
                "an earlier database of this name is being dropped".to_owned(),
            ),
            Some(_) if foreign => (
                LifecycleEvent::Failed,
                "a database of this name exists that the control plane did not create: drop or rename it in PostgreSQL".to_owned(),
            ),
            Some(found) if found.owner == owner.name.as_str() && !found.public_connects => {
                if durable || database.lifecycle == ObjectLifecycle::Active {
                    (LifecycleEvent::Converged, "as asked for".to_owned())
                } else {
                    (LifecycleEvent::WorkBegan, "created; waiting until a standby has it".to_owned())
                }
            }
            _ if !(owners.contains(&owner.id) || found.is_none() && made_now.contains(&owner.id)) => {
                (LifecycleEvent::WorkBegan, "waiting for its owner".to_owned())
            }
            Some(_) => {
                let (id, name) = (database.id, database.name.clone());
                let why = format!("owner and privileges of database {name}");
                draft.act(Action::AlterDatabase { node: primary, database: id, name, owner: owner.name }, why);
                (LifecycleEvent::WorkBegan, "being changed".to_owned())
            }
            None => {
                if draft.actions.len() < MOST_AT_ONCE {
                    let (id, name) = (database.id, database.name.clone());
                    let why = format!("database {name}");
                    let after = made_now.get(&owner.id).copied();
                    draft.act(Action::CreateDatabase { node: primary, database: id, name, owner: owner.name, source, after }, why);
                }
                (LifecycleEvent::WorkBegan, "being created".to_owned())
            }
        };
        if database.lifecycle == ObjectLifecycle::Active && event != LifecycleEvent::Converged {
            let message = format!(
                "database {} is not as asked for ({reason}): mending it",
                database.name
            );
            draft.event("drift_found", None, message);
        }
        let (event, reason) = with_failure(draft, database.id.uuid(), event, reason);
        set_database(draft, index, event, reason);
    }
}

fn set_database(draft: &mut Draft<'_>, index: usize, event: LifecycleEvent, reason: String) {
    let database = &mut draft.databases[index];
    let keep = database.lifecycle == ObjectLifecycle::Error && event == LifecycleEvent::WorkBegan;
    let before = database.lifecycle;
    database.lifecycle = before.transition(event);
    if !keep {
        database.reason = reason;
    }
    let after = database.lifecycle;
    let message = format!("database {}: {}", database.name, database.reason);
    match after {
        ObjectLifecycle::Active if before != after => draft.event("database_active", None, message),
        ObjectLifecycle::Error if before != after => draft.event("database_error", None, message),
        _ => {}
    }
}

fn delete(
    draft: &mut Draft<'_>,
    primary: NodeId,
    database: &DatabaseRecord,
    ours: bool,
    staged: Option<String>,
    durable: bool,
) {
    let id = database.id;
    if let Some(name) = staged {
        draft.act(
            Action::DropDatabase {
                node: primary,
                database: id,
                name,
                marked: false,
            },
            "dropping a database",
        );
    } else if ours {
        let name = database.name.to_string();
        draft.act(
            Action::DropDatabase {
                node: primary,
                database: id,
                name,
                marked: true,
            },
            "dropping a database",
        );
    } else if durable && draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady) {
        draft.event(
            "database_deleted",
            None,
            format!("database {} is gone", database.name),
        );
        draft.gone.push(GoneObject::Database(id));
        draft.record.dropped.note(id.uuid());
    }
}
