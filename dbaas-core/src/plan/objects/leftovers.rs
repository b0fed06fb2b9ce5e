//! What was dropped and is there again: an order to make it, decided on before it was to go, came late.

use crate::command::{object_mark, staging_database_name};
use crate::id::{DatabaseId, NodeId, UserId};
use crate::name::UserName;
use crate::observation::CatalogueFacts;
use crate::plan::Action;
use crate::plan::draft::Draft;

use super::{MOST_AT_ONCE, drop_role};

/// Whether this is the mark of something that was dropped.
pub(super) fn is_one(draft: &Draft<'_>, mark: Option<&str>) -> bool {
    mark.is_some_and(|mark| draft.record.dropped.iter().any(|id| object_mark(id) == mark))
}

/// Drops it again. Only what is known to have been dropped: a role or database that no record speaks of may be one
/// that a store restored from an old copy has forgotten.
pub(super) fn drop_again(draft: &mut Draft<'_>, primary: NodeId, catalogue: &CatalogueFacts) {
    let dropped: Vec<_> = draft.record.dropped.iter().collect();
    for id in dropped {
        let (mark, staging) = (object_mark(id), staging_database_name(id));
        let is_marked = |found: &Option<String>| found.as_deref() == Some(mark.as_str());
        let databases = catalogue.databases.iter().filter_map(|found| {
            let marked = is_marked(&found.mark);
            (marked || found.name == staging).then(|| (found.name.clone(), marked))
        });
        for (name, marked) in databases {
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
                    marked,
                },
                why,
            );
        }
        let roles = catalogue.roles.iter().filter(|role| is_marked(&role.mark));
        for name in roles.filter_map(|role| role.name.parse::<UserName>().ok()) {
            drop_role(draft, primary, UserId::from_uuid(id), &name, catalogue);
        }
    }
}
