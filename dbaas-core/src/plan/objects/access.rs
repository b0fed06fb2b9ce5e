//! Access of users to databases that somebody else owns: what the record says, against what was seen inside
//! of the database.

use crate::access::{AccessEntry, AccessLevel};
use crate::condition::Why;
use crate::database::DatabaseRecord;
use crate::id::NodeId;
use crate::kinds::EventKind;
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle};
use crate::observation::{AccessFacts, AccessMember, CatalogueFacts, DatabaseFacts, Inside};
use crate::plan::draft::Draft;
use crate::plan::{AccessChange, Action};
use crate::reason::Reason;

use super::{MOST_AT_ONCE, Told};

/// A database that could not be looked into so often in a row is in error.
const LOOKS_TRIED: u32 = 3;

/// What is to be told of a database that is there, with the owner that it is to have. `without` is what there
/// is to tell apart from its access.
pub(super) fn of_database(
    draft: &mut Draft<'_>,
    primary: NodeId,
    index: usize,
    found: &DatabaseFacts,
    catalogue: &CatalogueFacts,
    without: Told,
) -> Told {
    let database = draft.databases[index].clone();
    if database.access.is_empty() {
        return without;
    }
    let active = database.lifecycle == ObjectLifecycle::Active;
    let facts = match draft.situation.observation.inside.get(&database.id) {
        Some(Inside::Seen(facts)) => facts.access.clone(),
        Some(Inside::Failed { message, times }) if *times >= LOOKS_TRIED => {
            draft.wants_inside.insert(database.id);
            let text = format!("its access cannot be looked after: {message}; it is tried again");
            return (LifecycleEvent::Failed, Why::new(Reason::AccessFails, text));
        }
        None if active => return without,
        Some(Inside::Failed { .. }) | None => {
            draft.wants_inside.insert(database.id);
            draft.soon();
            if active {
                return without;
            }
            return (
                LifecycleEvent::WorkBegan,
                Why::new(Reason::AccessChanging, "its access is about to be given"),
            );
        }
    };
    let (change, waits_for) = difference(draft, &database, catalogue, &facts);
    if change != AccessChange::default() {
        draft.wants_inside.insert(database.id);
        let what = describe(&change, facts.missing_count);
        if active && draft.actions.len() < MOST_AT_ONCE {
            let message = format!(
                "access to database {} was not as asked for: {what}",
                database.name
            );
            draft.event(EventKind::AccessDrift, None, message);
        }
        if draft.actions.len() < MOST_AT_ONCE {
            let why = format!("access to database {}: {what}", database.name);
            let (id, name) = (database.id, database.name.clone());
            let change = Box::new(change);
            draft.act(
                Action::ChangeAccess {
                    node: primary,
                    database: id,
                    oid: found.oid,
                    name,
                    change,
                },
                why,
            );
        }
        // What was there and has changed is put back while the database goes on being what it is.
        return match active {
            true => without,
            false => (
                LifecycleEvent::WorkBegan,
                Why::new(
                    Reason::AccessChanging,
                    format!("its access is being given: {what}"),
                ),
            ),
        };
    }
    if let Some(user) = waits_for {
        draft.wants_inside.insert(database.id);
        let text = format!("its access is not complete: waiting for user {user}");
        return (LifecycleEvent::WorkBegan, Why::new(Reason::ObjectWaiting, text));
    }
    draft.databases[index].access.taken_back.clear();
    without
}

/// What has to change, and a user who is to have access and does not exist yet.
fn difference(
    draft: &Draft<'_>,
    database: &DatabaseRecord,
    catalogue: &CatalogueFacts,
    facts: &AccessFacts,
) -> (AccessChange, Option<String>) {
    let mut change = AccessChange {
        prepare: !facts.prepared,
        close_public: facts.public_creates,
        foreign: facts.foreign.clone(),
        creators: facts.creators.clone(),
        objects: facts.missing.clone(),
        ..AccessChange::default()
    };
    let mut waits_for = None;
    let mut wanted: Vec<AccessMember> = Vec::new();
    // The owner has every level: what others make in his database is his to use, too.
    let owner = AccessEntry {
        user: database.owner,
        level: AccessLevel::Owner,
    };
    for entry in [&owner].into_iter().chain(&database.access.entries) {
        let Some(user) = draft.users.iter().find(|user| user.id == entry.user) else {
            continue;
        };
        let name = user.name.to_string();
        if super::has_role(user, catalogue) {
            wanted.push(AccessMember {
                level: entry.level,
                name,
            });
        } else {
            waits_for = Some(name);
        }
    }
    change.join = wanted
        .iter()
        .filter(|member| !facts.members.contains(member))
        .cloned()
        .collect();
    change.leave = facts
        .members
        .iter()
        .filter(|member| !wanted.contains(member))
        .cloned()
        .collect();
    let goes = |name: &String| !wanted.iter().any(|member| member.name == *name);
    change.evict = change
        .leave
        .iter()
        .map(|member| member.name.clone())
        .filter(goes)
        .collect();
    change.evict.dedup();
    (change, waits_for)
}

/// For people.
fn describe(change: &AccessChange, missing: u64) -> String {
    let mut parts = Vec::new();
    if change.prepare {
        let levels = AccessLevel::ALL.map(AccessLevel::as_str).join(", ");
        parts.push(format!("the roles of the levels {levels}"));
    }
    let members = |members: &[AccessMember]| {
        let names: Vec<String> = members
            .iter()
            .map(|m| format!("{} ({})", m.name, m.level))
            .collect();
        names.join(", ")
    };
    if !change.join.is_empty() {
        parts.push(format!("given to {}", members(&change.join)));
    }
    if !change.leave.is_empty() {
        parts.push(format!("taken from {}", members(&change.leave)));
    }
    if !change.foreign.is_empty() {
        parts.push(format!(
            "{} privileges that others granted are taken back",
            change.foreign.len()
        ));
    }
    if change.close_public {
        parts.push("PUBLIC may create in the schema public no longer".to_owned());
    }
    if !change.creators.is_empty() {
        parts.push(format!(
            "what is made by {} from now on",
            change.creators.join(", ")
        ));
    }
    if missing > 0 {
        parts.push(format!("{missing} objects to go"));
    }
    parts.join("; ")
}
