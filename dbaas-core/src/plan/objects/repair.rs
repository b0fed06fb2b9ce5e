//! Repairs of access that somebody asked for: what keeps an owner out of a database, or a user from logging
//! in, is put back once.

use uuid::Uuid;

use crate::id::NodeId;
use crate::kinds::EventKind;
use crate::observation::{LockoutFacts, SettingFacts};
use crate::plan::draft::Draft;
use crate::plan::{Action, Lockout, RepairTarget};

use super::MOST_AT_ONCE;

/// A database that is there, with the owner that it is to have.
pub(super) fn of_database(draft: &mut Draft<'_>, primary: NodeId, index: usize) {
    let database = draft.databases[index].clone();
    if database.repair.requested_at.is_none() {
        return;
    }
    let owner = draft.users.iter().find(|user| user.id == database.owner);
    let Some(owner) = owner.map(|user| user.name.clone()) else {
        return;
    };
    let Some(found) = lockouts(draft, database.id.uuid()) else {
        return;
    };
    if found.is_empty() {
        let now = draft.situation.observation.at;
        let told = draft.databases[index].repair.finish(now);
        let message = format!("access to database {} repaired: {told}", database.name);
        draft.event(EventKind::AccessRepaired, None, message);
        return;
    }
    let told = found.iter().map(|lockout| of_a_database(lockout, owner.as_str()));
    draft.databases[index].repair.note(told);
    let target = RepairTarget::Database {
        id: database.id,
        name: database.name,
        owner,
    };
    act(draft, primary, target, found);
}

/// A user whose role is there.
pub(super) fn of_user(draft: &mut Draft<'_>, primary: NodeId, index: usize) {
    let user = draft.users[index].clone();
    if user.repair.requested_at.is_none() {
        return;
    }
    let Some(found) = lockouts(draft, user.id.uuid()) else {
        return;
    };
    if found.is_empty() {
        let now = draft.situation.observation.at;
        let told = draft.users[index].repair.finish(now);
        let message = format!("access of user {} repaired: {told}", user.name);
        draft.event(EventKind::AccessRepaired, None, message);
        return;
    }
    draft.users[index].repair.note(found.iter().map(of_a_role));
    let target = RepairTarget::User {
        id: user.id,
        name: user.name,
    };
    act(draft, primary, target, found);
}

fn act(draft: &mut Draft<'_>, primary: NodeId, target: RepairTarget, lockouts: Vec<Lockout>) {
    if draft.actions.len() < MOST_AT_ONCE {
        let why = format!("{} things that lock people out are put back", lockouts.len());
        draft.act(
            Action::RepairAccess {
                node: primary,
                target,
                lockouts,
            },
            why,
        );
    }
}

/// What locks people out; `None` while nobody has looked.
fn lockouts(draft: &mut Draft<'_>, id: Uuid) -> Option<Vec<Lockout>> {
    let Some(facts) = draft.situation.observation.lockouts.get(&id) else {
        draft.wants_catalogue = true;
        draft.soon();
        return None;
    };
    let LockoutFacts {
        connections,
        limit,
        privileges,
        valid_until,
        settings,
    } = facts;
    let mut found = Vec::new();
    if !connections {
        found.push(Lockout::Connections);
    }
    if *limit >= 0 {
        found.push(Lockout::Limit);
    }
    if *privileges == Some(false) {
        found.push(Lockout::Privileges);
    }
    if valid_until.is_some() {
        found.push(Lockout::ValidUntil);
    }
    found.extend(settings.iter().cloned().map(Lockout::Setting));
    Some(found)
}

fn of_a_database(lockout: &Lockout, owner: &str) -> String {
    match lockout {
        Lockout::Connections => "it accepts connections again".to_owned(),
        Lockout::Limit => "its connection limit is gone".to_owned(),
        Lockout::Privileges => format!("its owner {owner} has CONNECT, CREATE and TEMPORARY again"),
        Lockout::ValidUntil => String::new(),
        Lockout::Setting(setting) => reset(setting),
    }
}

fn of_a_role(lockout: &Lockout) -> String {
    match lockout {
        Lockout::Connections => "the role may log in again".to_owned(),
        Lockout::Limit => "the role's connection limit is gone".to_owned(),
        Lockout::Privileges => String::new(),
        Lockout::ValidUntil => "its password does not expire".to_owned(),
        Lockout::Setting(setting) => reset(setting),
    }
}

fn reset(setting: &SettingFacts) -> String {
    let SettingFacts {
        role,
        database,
        name,
        value,
    } = setting;
    let of = match (role, database) {
        (Some(role), Some(database)) => format!("role {role} in database {database}"),
        (Some(role), None) => format!("role {role}"),
        (None, database) => format!("database {}", database.as_deref().unwrap_or_default()),
    };
    format!("the setting {name} of {of} is reset (it was {value:?})")
}
