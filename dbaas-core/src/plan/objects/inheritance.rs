//! Who gets what a role owns: when the role is dropped, and when a database gets another owner.
//!
//! In a database of a record the heir is its owner as asked for. Elsewhere it is a role without login and
//! rights. It is never a role with rights of ours: a tenant's `SECURITY DEFINER` function runs as its owner.

use crate::id::{DatabaseId, NodeId, UserId};
use crate::kinds::EventKind;
use crate::observation::{CatalogueFacts, DatabaseFacts, RoleFacts};
use crate::plan::Action;
use crate::plan::draft::Draft;

use super::MOST_AT_ONCE;
use crate::object_change::{Heir, Inheritance, RoleRef, Transfer};

/// Drops a role, or says what that waits for.
pub(super) fn drop_role(
    draft: &mut Draft<'_>,
    primary: NodeId,
    user: UserId,
    role: &RoleFacts,
    catalogue: &CatalogueFacts,
) -> Result<(), String> {
    if let Some(owned) = catalogue
        .databases
        .iter()
        .find(|d| d.id.is_some() && d.owner == role.name)
    {
        return Err(format!(
            "it still owns database \"{}\", which has to have another owner, or be gone, before",
            owned.name
        ));
    }
    let databases = catalogue
        .databases
        .iter()
        .filter(|d| d.involved.contains(&role.oid))
        .map(|database| {
            Ok(Inheritance {
                database: database.name.clone(),
                oid: database.oid,
                heir: heir(draft, database, catalogue)?,
                closed: !database.allows_connections,
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    if draft.actions.len() < MOST_AT_ONCE {
        let why = format!("dropping role {}", role.name);
        draft.act(
            Action::DropRole {
                node: primary,
                user,
                role: RoleRef::of(role),
                databases,
            },
            why,
        );
    }
    Ok(())
}

/// Who inherits in a database, if that is certain.
fn heir(draft: &Draft<'_>, database: &DatabaseFacts, catalogue: &CatalogueFacts) -> Result<Heir, String> {
    let record = draft
        .databases
        .iter()
        .find(|record| database.id == Some(record.id.uuid()) && !record.deleting);
    let Some(record) = record else {
        return Ok(Heir::Nobody);
    };
    draft
        .users
        .iter()
        .find(|user| user.id == record.owner && !user.deleting)
        .and_then(|owner| catalogue.role(owner.id.uuid()))
        .filter(|owner| owner.name == database.owner)
        .map(|owner| Heir::Owner(RoleRef::of(owner)))
        .ok_or_else(|| {
            format!(
                "what it owns in database \"{}\" goes to that database's owner, who is not there yet",
                database.name
            )
        })
}

/// Gives what a former owner has in a database to its owner. Whether there is something to wait for.
pub(super) fn transfer(
    draft: &mut Draft<'_>,
    primary: NodeId,
    index: usize,
    found: &DatabaseFacts,
    owner: &RoleFacts,
    catalogue: &CatalogueFacts,
) -> bool {
    let id: DatabaseId = draft.databases[index].id;
    for former in draft.databases[index].former_owners.clone() {
        let role = catalogue
            .role(former.uuid())
            .filter(|role| found.owners.contains(&role.oid) && role.oid != owner.oid);
        let Some(role) = role else {
            draft.databases[index].former_owners.retain(|id| *id != former);
            let name = draft
                .users
                .iter()
                .find(|user| user.id == former)
                .map(|user| &user.name);
            let former = name.map_or_else(|| "its former owner".to_owned(), |name| format!("user {name}"));
            let message = format!(
                "database {} belongs to {}, with what {former} had in it; {former}'s sessions there were ended, unless that role may \
                 still connect",
                found.name, owner.name
            );
            draft.event(EventKind::DatabaseChangedHands, None, message);
            continue;
        };
        if draft.users.iter().any(|user| user.id == former && user.deleting) {
            // Dropping that role gives them away.
            continue;
        }
        if draft.actions.len() < MOST_AT_ONCE {
            let others = catalogue
                .databases
                .iter()
                .filter(|other| other.owner == role.name && other.oid != found.oid);
            let transfer = Transfer {
                name: found.name.clone(),
                oid: found.oid,
                from: RoleRef::of(role),
                to: RoleRef::of(owner),
                others: others.map(|other| other.name.clone()).collect(),
                closed: !found.allows_connections,
            };
            let why = format!(
                "objects of {} in database {} go to {}",
                role.name, found.name, owner.name
            );
            draft.act(
                Action::TransferObjects {
                    node: primary,
                    database: id,
                    transfer,
                },
                why.clone(),
            );
        }
    }
    !draft.databases[index].former_owners.is_empty()
}
