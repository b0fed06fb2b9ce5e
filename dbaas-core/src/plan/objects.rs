//! Roles and databases: what the records say, against what PostgreSQL has. Only what the register says to be
//! ours is changed or dropped. What has the right name and is not in it is told of, and left alone unless
//! somebody asks for it to be adopted. A database that was dropped by SQL is not made anew: that would hide
//! that its data are gone. (A role is: it holds nothing.)

use std::collections::BTreeSet;

use crate::boot::ADMIN_ROLE;
use crate::cluster::{ClusterPhase, standby_name};
use crate::command::{SPARE_DATABASE, staging_database_name};
use crate::condition::Why;
use crate::database::DatabaseRecord;
use crate::id::{NodeId, UserId};
use crate::kinds::EventKind;
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle};
use crate::object_change::{Registered, RoleRef};
use crate::observation::{CatalogueFacts, DatabaseFacts, NodeFacts};
use crate::reason::Reason;
use crate::user::UserRecord;

use super::draft::{Draft, Serving};
use super::{Action, DatabaseSource, GoneObject};

/// What is to be told of a user or a database.
type Told = (LifecycleEvent, Why);

/// How many roles and databases one plan makes or changes, so that a pass stays short.
const MOST_AT_ONCE: usize = 32;

mod access;
mod extensions;
mod going;
mod inheritance;
mod leftovers;
mod repair;

pub(super) fn plan(draft: &mut Draft<'_>, primary: Serving) {
    going::warn(draft);
    let unfinished = draft
        .users
        .iter()
        .any(|u| u.deleting || u.lifecycle != ObjectLifecycle::Active || u.repair.requested_at.is_some())
        || draft
            .databases
            .iter()
            .any(|d| d.deleting || d.lifecycle != ObjectLifecycle::Active || d.repair.requested_at.is_some());
    let Some(facts) = draft.facts(primary.node) else {
        return;
    };
    if !facts.has_register {
        make_register(draft, primary.node);
        draft.wants_catalogue = true;
        return;
    }
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

/// An instance of before the register.
fn make_register(draft: &mut Draft<'_>, primary: NodeId) {
    let users = draft.users.iter().map(|user| Registered {
        id: GoneObject::User(user.id),
        name: user.name.to_string(),
    });
    let databases = draft.databases.iter().map(|database| Registered {
        id: GoneObject::Database(database.id),
        name: database.name.to_string(),
    });
    let known = users.chain(databases).collect();
    draft.act(
        Action::MakeRegister { node: primary, known },
        "there is no register of roles and databases yet",
    );
}

fn users(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts, durable: bool) {
    for index in 0..draft.users.len() {
        let user = draft.users[index].clone();
        let id = user.id.uuid();
        let ours = catalogue.role(id);
        // Of its name, and not this record's.
        let other = catalogue
            .roles
            .iter()
            .find(|r| r.name == user.name.as_str() && r.id != Some(id));
        if user.deleting {
            match ours {
                Some(role) => {
                    let (event, why) = match inheritance::drop_role(draft, primary, user.id, role, catalogue)
                    {
                        Ok(()) => going::told(draft, id),
                        Err(waits_for) => {
                            let text = format!("being dropped: {waits_for}");
                            (LifecycleEvent::WorkBegan, Why::new(Reason::ObjectWaiting, text))
                        }
                    };
                    set_user(draft, index, event, why);
                }
                None if catalogue.lost.contains(&id) => {
                    leftovers::forget(draft, primary, GoneObject::User(user.id));
                }
                // A failover must not bring back somebody who has been told to be gone.
                None if !durable => {}
                None => {
                    draft.event(
                        EventKind::UserDeleted,
                        None,
                        format!(
                            "user {} is gone{}",
                            user.name,
                            left_alone("role", other.is_some())
                        ),
                    );
                    draft.gone.push(GoneObject::User(user.id));
                    draft.record.dropped.note(id);
                }
            }
            continue;
        }
        if user.adopting && !(ours.is_none() && other.is_some_and(|other| other.id.is_none())) {
            draft.users[index].adopting = false;
            let outcome = adoption("role", ours.is_some());
            draft.event(outcome.0, None, format!("user {}: {}", user.name, outcome.1));
        }
        if ours.is_some_and(|role| role.name == user.name.as_str()) {
            repair::of_user(draft, primary, index);
        }
        let (event, why) = match (ours, other) {
            (Some(role), _) if role.name != user.name.as_str() => (
                LifecycleEvent::Failed,
                Why::new(
                    Reason::RenamedBySql,
                    renamed("role", &role.name, user.name.as_str()),
                ),
            ),
            (Some(role), _) => {
                let same = role.attributes_ok
                    && role.verifier_sha256.as_deref() == Some(&user.verifier.fingerprint());
                if same && (durable || user.lifecycle == ObjectLifecycle::Active) {
                    (LifecycleEvent::Converged, Reason::AsAskedFor.into())
                } else if same {
                    (
                        LifecycleEvent::WorkBegan,
                        Why::new(Reason::ObjectWaiting, "created; waiting until a standby has it"),
                    )
                } else {
                    put_role(draft, primary, &user, true);
                    (LifecycleEvent::WorkBegan, Reason::ObjectChanging.into())
                }
            }
            (None, Some(other)) if leftovers::is_one(draft, other.id) => (
                LifecycleEvent::WorkBegan,
                Why::new(
                    Reason::ObjectWaiting,
                    "an earlier role of this name is being dropped",
                ),
            ),
            (None, Some(other)) if user.adopting && other.id.is_none() => {
                adopt(draft, primary, GoneObject::User(user.id), user.name.to_string());
                (LifecycleEvent::WorkBegan, Reason::Adopting.into())
            }
            (None, Some(_)) => (
                LifecycleEvent::Failed,
                Why::new(Reason::NameTaken, foreign("role")),
            ),
            (None, None) => {
                put_role(draft, primary, &user, false);
                (LifecycleEvent::WorkBegan, Reason::ObjectCreating.into())
            }
        };
        if user.lifecycle == ObjectLifecycle::Active && event != LifecycleEvent::Converged {
            let mending = if event == LifecycleEvent::WorkBegan {
                ": mending it"
            } else {
                ""
            };
            let message = format!("user {} is not as asked for ({why}){mending}", user.name);
            draft.event(EventKind::DriftFound, None, message);
        }
        let (event, why) = with_failure(draft, id, event, why);
        set_user(draft, index, event, why);
    }
}

fn foreign(what: &str) -> String {
    format!(
        "a {what} of this name exists that the control plane did not create, and leaves alone: drop or rename it in PostgreSQL, or have it taken \
         over (POST to actions/adopt)"
    )
}

fn renamed(what: &str, to: &str, name: &str) -> String {
    let command = if what == "role" { "ROLE" } else { "DATABASE" };
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!(
        "it was renamed in PostgreSQL: the {what} is called {0} now. Name it back: ALTER {command} {0} RENAME TO {1}",
        quoted(to),
        quoted(name)
    )
}

fn left_alone(what: &str, other: bool) -> String {
    if other {
        format!("; a {what} of this name that the control plane did not create is left alone")
    } else {
        String::new()
    }
}

/// What came of a request to adopt: an event's kind and what it says.
fn adoption(what: &str, ours: bool) -> (EventKind, String) {
    if ours {
        (
            EventKind::Adopted,
            format!("the {what} of this name is this resource's"),
        )
    } else {
        (
            EventKind::AdoptionFailed,
            format!("there is no {what} of this name that could be adopted"),
        )
    }
}

fn adopt(draft: &mut Draft<'_>, primary: NodeId, object: GoneObject, name: String) {
    if draft.actions.len() < MOST_AT_ONCE {
        let why = format!("adopting {name}, as asked for");
        draft.act(
            Action::Adopt {
                node: primary,
                object,
                name,
            },
            why,
        );
    }
}

/// Whether PostgreSQL has the user's role, and it is ours.
fn has_role(user: &UserRecord, catalogue: &CatalogueFacts) -> bool {
    let role = catalogue.role(user.id.uuid());
    role.is_some_and(|role| role.name == user.name.as_str())
}

/// An attempt that failed is an error until one succeeds; it is tried again all the time.
fn with_failure(draft: &Draft<'_>, id: uuid::Uuid, event: LifecycleEvent, why: Why) -> Told {
    match draft.situation.observation.object_failures.get(&id) {
        Some(failure) if event == LifecycleEvent::WorkBegan => {
            let text = format!("{failure}; it is tried again");
            (LifecycleEvent::Failed, Why::new(Reason::ObjectFails, text))
        }
        _ => (event, why),
    }
}

fn set_user(draft: &mut Draft<'_>, index: usize, event: LifecycleEvent, why: Why) {
    let now = draft.situation.observation.at;
    let user = &mut draft.users[index];
    // A failure that the engine recorded stays to be read until it has succeeded.
    let keep =
        user.lifecycle == ObjectLifecycle::Error && event == LifecycleEvent::WorkBegan && !user.deleting;
    let before = user.lifecycle;
    user.lifecycle = before.transition(event);
    if !keep {
        user.reason.clone_from(&why.text);
        user.conditions.set_reconciled(event, why, now);
    }
    let (after, message) = (user.lifecycle, format!("user {}: {}", user.name, user.reason));
    match after {
        ObjectLifecycle::Active if before != after => draft.event(EventKind::UserActive, None, message),
        ObjectLifecycle::Error if before != after => draft.event(EventKind::UserError, None, message),
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

fn databases(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts, durable: bool) {
    let owners: BTreeSet<UserId> = draft
        .users
        .iter()
        .filter(|u| {
            let role = catalogue.role(u.id.uuid());
            role.is_some_and(|role| role.name == u.name.as_str())
        })
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
        .any(|d| d.name == SPARE_DATABASE && d.owner == ADMIN_ROLE && d.id.is_none());
    for index in 0..draft.databases.len() {
        let database = draft.databases[index].clone();
        let id = database.id.uuid();
        let staging = staging_database_name(id);
        let ours = catalogue.database(id);
        // Of its name, and not this record's.
        let other = catalogue
            .databases
            .iter()
            .find(|d| d.name == database.name.as_str() && d.id != Some(id));
        let staged = catalogue
            .databases
            .iter()
            .any(|d| d.name == staging && d.id.is_none());
        let lost = ours.is_none() && catalogue.lost.contains(&id);
        if staged && (database.deleting || ours.is_some() || lost) {
            // Begun and to go, or made once more by an order that was decided on before the first one was
            // seen to be done.
            drop_database(draft, primary, &database, staging.clone(), false);
        }
        if database.deleting {
            match ours {
                _ if staged => {}
                Some(found) => {
                    drop_database(draft, primary, &database, found.name.clone(), true);
                    let (event, why) = going::told(draft, id);
                    set_database(draft, index, event, why);
                }
                None if lost => leftovers::forget(draft, primary, GoneObject::Database(database.id)),
                None => {
                    if durable && draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady) {
                        let message = format!(
                            "database {} is gone{}",
                            database.name,
                            left_alone("database", other.is_some())
                        );
                        draft.event(EventKind::DatabaseDeleted, None, message);
                        draft.gone.push(GoneObject::Database(database.id));
                        draft.record.dropped.note(id);
                    }
                }
            }
            continue;
        }
        if database.adopting && !(ours.is_none() && other.is_some_and(|other| other.id.is_none())) {
            draft.databases[index].adopting = false;
            let outcome = adoption("database", ours.is_some());
            draft.event(
                outcome.0,
                None,
                format!("database {}: {}", database.name, outcome.1),
            );
        }
        draft.databases[index].lost_at = match (lost, database.lost_at) {
            (true, None) => Some(draft.situation.observation.at),
            (true, at) => at,
            (false, _) => None,
        };
        let Some(owner) = draft.users.iter().find(|u| u.id == database.owner).cloned() else {
            set_database(
                draft,
                index,
                LifecycleEvent::Failed,
                Why::new(
                    Reason::OwnerMissing,
                    "its owner does not exist: give it another one",
                ),
            );
            continue;
        };
        let owner_role = catalogue
            .role(owner.id.uuid())
            .filter(|_| owners.contains(&owner.id));
        let as_asked = |found: &DatabaseFacts| {
            !found.public_connects && owner_role.is_some_and(|role| role.name == found.owner)
        };
        let there = ours.filter(|found| {
            found.name == database.name.as_str() && owner_role.is_some_and(|role| role.name == found.owner)
        });
        let (event, why) = match (ours, other) {
            (Some(found), _) if found.name != database.name.as_str() => (
                LifecycleEvent::Failed,
                Why::new(
                    Reason::RenamedBySql,
                    renamed("database", &found.name, database.name.as_str()),
                ),
            ),
            (Some(found), _) if as_asked(found) => {
                let moving = owner_role
                    .is_some_and(|role| inheritance::transfer(draft, primary, index, found, role, catalogue));
                if moving {
                    (LifecycleEvent::WorkBegan, Reason::OwnershipMoving.into())
                } else if durable || database.lifecycle == ObjectLifecycle::Active {
                    (LifecycleEvent::Converged, Reason::AsAskedFor.into())
                } else {
                    (
                        LifecycleEvent::WorkBegan,
                        Why::new(Reason::ObjectWaiting, "created; waiting until a standby has it"),
                    )
                }
            }
            (None, Some(other)) if leftovers::is_one(draft, other.id) => (
                LifecycleEvent::WorkBegan,
                Why::new(
                    Reason::ObjectWaiting,
                    "an earlier database of this name is being dropped",
                ),
            ),
            (None, Some(other)) if database.adopting && other.id.is_none() => {
                adopt(
                    draft,
                    primary,
                    GoneObject::Database(database.id),
                    database.name.to_string(),
                );
                (LifecycleEvent::WorkBegan, Reason::Adopting.into())
            }
            (None, Some(_)) => (
                LifecycleEvent::Failed,
                Why::new(Reason::NameTaken, foreign("database")),
            ),
            (None, None) if lost => (
                LifecycleEvent::Failed,
                Why::new(Reason::DroppedBySql, dropped_by_sql(&draft.databases[index])),
            ),
            (ours, _) if !(owner_role.is_some() || ours.is_none() && made_now.contains(&owner.id)) => (
                LifecycleEvent::WorkBegan,
                Why::new(Reason::ObjectWaiting, "waiting for its owner"),
            ),
            (Some(found), _) => {
                let (id, name) = (database.id, database.name.clone());
                let why = format!("owner and privileges of database {name}");
                let grantors = found.public_grantors.clone();
                draft.act(
                    Action::AlterDatabase {
                        node: primary,
                        database: id,
                        name,
                        owner: owner.name,
                        owner_id: owner.id,
                        grantors,
                    },
                    why,
                );
                (LifecycleEvent::WorkBegan, Reason::ObjectChanging.into())
            }
            (None, None) => {
                let source = if staged {
                    DatabaseSource::Staged
                } else if std::mem::take(&mut spare) {
                    // Always the first one's that is missing: the next plan must not give it to another one
                    // while this one is being made.
                    DatabaseSource::Spare
                } else {
                    DatabaseSource::Template
                };
                if draft.actions.len() < MOST_AT_ONCE {
                    let (id, name) = (database.id, database.name.clone());
                    let why = format!("database {name}");
                    let after = made_now.get(&owner.id).copied();
                    draft.act(
                        Action::CreateDatabase {
                            node: primary,
                            database: id,
                            name,
                            owner: owner.name,
                            source,
                            after,
                        },
                        why,
                    );
                }
                (LifecycleEvent::WorkBegan, Reason::ObjectCreating.into())
            }
        };
        let (event, why) = match there {
            Some(found) => {
                repair::of_database(draft, primary, index);
                let told = access::of_database(draft, primary, index, found, catalogue, (event, why));
                match owner_role.map(RoleRef::of) {
                    Some(owner) => extensions::of_database(draft, primary, index, found, &owner, told),
                    None => told,
                }
            }
            None => (event, why),
        };
        if database.lifecycle == ObjectLifecycle::Active && event != LifecycleEvent::Converged {
            let what = match event {
                // Nothing is mended by that: what was in it stays lost.
                _ if ours.is_none() && event == LifecycleEvent::WorkBegan => {
                    ": nothing of it is in this history of the instance, and a new, empty one is made"
                }
                LifecycleEvent::WorkBegan => ": mending it",
                _ => "",
            };
            let message = format!("database {} is not as asked for ({why}){what}", database.name);
            draft.event(EventKind::DriftFound, None, message);
        }
        let (event, why) = with_failure(draft, id, event, why);
        set_database(draft, index, event, why);
    }
}

fn dropped_by_sql(database: &DatabaseRecord) -> String {
    let seen = database
        .lost_at
        .map(|at| format!(", seen at {at}"))
        .unwrap_or_default();
    format!(
        "it was dropped by SQL, by its owner or an administrator{seen}, and its data with it. Delete this resource and create it again for a new, \
         empty one"
    )
}

fn set_database(draft: &mut Draft<'_>, index: usize, event: LifecycleEvent, why: Why) {
    let now = draft.situation.observation.at;
    let database = &mut draft.databases[index];
    let keep = database.lifecycle == ObjectLifecycle::Error
        && event == LifecycleEvent::WorkBegan
        && !database.deleting;
    let before = database.lifecycle;
    database.lifecycle = before.transition(event);
    if !keep {
        database.reason.clone_from(&why.text);
        database.conditions.set_reconciled(event, why, now);
    }
    let after = database.lifecycle;
    let message = format!("database {}: {}", database.name, database.reason);
    match after {
        ObjectLifecycle::Active if before != after => draft.event(EventKind::DatabaseActive, None, message),
        ObjectLifecycle::Error if before != after => draft.event(EventKind::DatabaseError, None, message),
        _ => {}
    }
}

fn drop_database(
    draft: &mut Draft<'_>,
    primary: NodeId,
    database: &DatabaseRecord,
    name: String,
    registered: bool,
) {
    draft.act(
        Action::DropDatabase {
            node: primary,
            database: database.id,
            name,
            registered,
        },
        "dropping a database",
    );
}
