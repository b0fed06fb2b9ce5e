//! What was dropped and is there again: an order to make it, decided on before it was to go, came late.

use uuid::Uuid;

use crate::access::AccessLevel;
use crate::command::staging_database_name;
use crate::id::{DatabaseId, NodeId, UserId};
use crate::observation::CatalogueFacts;
use crate::plan::draft::Draft;
use crate::plan::{Action, GoneObject};

use super::{MOST_AT_ONCE, inheritance};

/// Whether this is something that was dropped.
pub(super) fn is_one(draft: &Draft<'_>, id: Option<Uuid>) -> bool {
    id.is_some_and(|id| draft.record.dropped.iter().any(|dropped| dropped == id))
}

/// Drops it again. Only what is known to have been dropped: a role or database that no record speaks of may
/// be one that a store restored from an old copy has forgotten.
pub(super) fn drop_again(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts) {
    let dropped: Vec<_> = draft.record.dropped.iter().collect();
    for id in dropped {
        let staging = staging_database_name(id);
        let databases = catalogue.databases.iter().filter_map(|found| {
            let registered = found.id == Some(id);
            let staged = found.id.is_none() && found.name == staging;
            (registered || staged).then(|| (found.name.clone(), registered))
        });
        for (name, registered) in databases {
            if draft.actions.len() >= MOST_AT_ONCE {
                return;
            }
            let why = format!("database {name} was made once more by a late order: dropping it");
            let database = DatabaseId::from_uuid(id);
            draft.act(
                Action::DropDatabase {
                    node: primary,
                    database,
                    name,
                    registered,
                },
                why,
            );
        }
        if let Some(role) = catalogue.role(id) {
            // What it waits for, where it does, is told of nowhere: there is no record. A role that was just
            // made owns nothing.
            let _ = inheritance::drop_role(draft, primary, UserId::from_uuid(id), role, catalogue);
        }
        if catalogue.lost.contains(&id) {
            // Its own row went with it, where the one who dropped it lived to see that.
            for object in [
                GoneObject::User(UserId::from_uuid(id)),
                GoneObject::Database(DatabaseId::from_uuid(id)),
            ] {
                forget(draft, primary, object);
            }
        }
        let levels = AccessLevel::ALL.map(|level| level.role(id));
        if catalogue.roles.iter().any(|role| levels.contains(&role.name)) {
            let database = DatabaseId::from_uuid(id);
            let why = "roles of the levels of access to a database that is gone";
            draft.act(
                Action::DropAccessRoles {
                    node: primary,
                    database,
                },
                why,
            );
        }
    }
}

/// Takes it out of the register.
pub(super) fn forget(draft: &mut Draft<'_>, primary: NodeId, object: GoneObject) {
    if draft.actions.len() < MOST_AT_ONCE {
        draft.act(
            Action::Forget {
                node: primary,
                object,
            },
            "forgetting what was dropped",
        );
    }
}
