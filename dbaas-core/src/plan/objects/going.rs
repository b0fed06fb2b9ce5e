//! What is told of users and databases that are being dropped.

use uuid::Uuid;

use crate::condition::Why;
use crate::lifecycle::LifecycleEvent;
use crate::plan::draft::Draft;
use crate::reason::Reason;

use super::Told;

/// How the deletion goes: an attempt that failed is an error until one succeeds; it is tried again all the
/// time.
pub(super) fn told(draft: &Draft<'_>, id: Uuid) -> Told {
    let seen = draft.situation.observation;
    match (seen.object_failures.get(&id), seen.object_progress.get(&id)) {
        (Some(failure), _) => (
            LifecycleEvent::Failed,
            Why::new(
                Reason::DropHeldUp,
                format!("being dropped: {failure}; it is tried again"),
            ),
        ),
        (None, Some(progress)) => (
            LifecycleEvent::WorkBegan,
            Why::new(
                Reason::ObjectDropping,
                format!(
                    "being dropped: {} of {} of its objects and privileges are out of the way",
                    progress.total.saturating_sub(progress.left),
                    progress.total
                ),
            ),
        ),
        (None, None) => (LifecycleEvent::WorkBegan, Reason::ObjectDropping.into()),
    }
}

/// Tells of deletions that are held up where people look first.
pub(super) fn warn(draft: &mut Draft<'_>) {
    let failures = &draft.situation.observation.object_failures;
    let users = draft.users.iter().filter(|user| user.deleting);
    let users = users.map(|user| (user.id.uuid(), "user", user.name.to_string()));
    let databases = draft.databases.iter().filter(|database| database.deleting);
    let databases = databases.map(|database| (database.id.uuid(), "database", database.name.to_string()));
    let warnings: Vec<String> = users
        .chain(databases)
        .filter_map(|(id, what, name)| {
            let failure = failures.get(&id)?;
            Some(format!("{what} {name} cannot be dropped yet: {failure}"))
        })
        .collect();
    draft.warnings.extend(warnings);
}
