//! Extensions of databases: what the record says, against what was seen inside of the database. What
//! somebody's data depend on is never dropped.

use crate::condition::Why;
use crate::database::DatabaseRecord;
use crate::extension::{ExtensionName, ExtensionStatus};
use crate::id::NodeId;
use crate::kinds::EventKind;
use crate::lifecycle::{LifecycleEvent, ObjectLifecycle};
use crate::observation::{DatabaseFacts, ExtensionFacts, ExtensionPlace, Inside, InstalledExtension};
use crate::plan::draft::Draft;
use crate::plan::{Action, ExtensionChange};
use crate::reason::Reason;

use super::{MOST_AT_ONCE, Told};
use crate::object_change::RoleRef;

/// A database that could not be looked into so often in a row is in error.
const LOOKS_TRIED: u32 = 3;

/// What there is to do about one extension.
struct Judged {
    status: ExtensionStatus,
    change: Option<ExtensionChange>,
    /// Why it is not brought to the version that the server offers, where that was asked for.
    not_updated: Option<String>,
}

/// What is to be told of a database that is there, with the owner that it is to have, `owner`. `without` is
/// what there is to tell apart from its extensions.
pub(super) fn of_database(
    draft: &mut Draft<'_>,
    primary: NodeId,
    index: usize,
    found: &DatabaseFacts,
    owner: &RoleRef,
    without: Told,
) -> Told {
    let database = draft.databases[index].clone();
    let extensions = &database.extensions;
    if extensions.is_empty() || without.0 == LifecycleEvent::Failed {
        return without;
    }
    let active = database.lifecycle == ObjectLifecycle::Active;
    let failure = draft
        .situation
        .observation
        .object_failures
        .get(&database.id.uuid());
    let facts = match draft.situation.observation.inside.get(&database.id) {
        Some(Inside::Seen(facts)) => facts.extensions.clone(),
        Some(Inside::Failed { message, times }) if *times >= LOOKS_TRIED => {
            draft.wants_inside.insert(database.id);
            let text = format!("its extensions cannot be looked after: {message}; it is tried again");
            return (LifecycleEvent::Failed, Why::new(Reason::ExtensionsFail, text));
        }
        // Nothing is expected: the next look comes when it is due.
        None if failure.is_none() && extensions.is_settled() => return without,
        None if failure.is_none() && extensions.all_seen() && !extensions.problems().is_empty() => {
            let why = Why::new(Reason::ExtensionsFail, extensions.problems());
            return (LifecycleEvent::Failed, why);
        }
        Some(Inside::Failed { .. }) | None => {
            draft.wants_inside.insert(database.id);
            draft.soon();
            return match active {
                true => without,
                false => (
                    LifecycleEvent::WorkBegan,
                    Why::new(
                        Reason::ExtensionsChanging,
                        "its extensions are about to be looked at",
                    ),
                ),
            };
        }
    };
    let judged: Vec<Judged> = facts
        .iter()
        .filter(|facts| extensions.looked_after().any(|name| *name == facts.name))
        .map(|facts| judge(&database, facts, owner))
        .collect();
    let changes: Vec<ExtensionChange> = judged.iter().filter_map(|one| one.change.clone()).collect();
    let gone = |name: &ExtensionName| {
        let of_it = facts.iter().find(|facts| facts.name == *name);
        of_it.is_some_and(|facts| facts.installed.is_none())
    };
    let record = &mut draft.databases[index].extensions;
    record.removed.retain(|name| !gone(name));
    let kept: Vec<ExtensionName> = record.looked_after().cloned().collect();
    let seen = judged.iter().map(|one| one.status.clone());
    record.seen = seen.filter(|seen| kept.contains(&seen.name)).collect();
    let problems = record.problems();
    end_update(draft, index, &judged);
    if !changes.is_empty() {
        return change(draft, primary, &database, found, changes, without);
    }
    match problems.is_empty() {
        true => without,
        false => (LifecycleEvent::Failed, Why::new(Reason::ExtensionsFail, problems)),
    }
}

/// Why an extension is not made or updated here, whoever asks for it.
fn refusal(facts: &ExtensionFacts) -> Option<String> {
    if facts.available.is_none() {
        Some("the server has not got it".to_owned())
    } else if !facts.trusted {
        Some("it takes a superuser: the server does not call it trusted".to_owned())
    } else if facts.place == ExtensionPlace::Fixed {
        Some("it cannot be moved from one schema to another, and so not be made safely".to_owned())
    } else if !facts.needs.is_empty() {
        let needs = facts.needs.join(", ");
        Some(format!(
            "it needs {needs}, and would run what others can make beside that"
        ))
    } else {
        None
    }
}

/// What is to be done about an extension, and what is to be told of it.
fn judge(database: &DatabaseRecord, facts: &ExtensionFacts, owner: &RoleRef) -> Judged {
    let name = &facts.name;
    let wanted = database.extensions.names.contains(name);
    let updates = database.extensions.update_requested_at.is_some();
    let (mut change, mut problem, mut not_updated) = (None, None, None);
    match (&facts.installed, wanted) {
        (None, true) => match refusal(facts) {
            Some(why) => problem = Some(format!("extension {name} cannot be made: {why}")),
            None => {
                change = Some(ExtensionChange::Create {
                    name: name.clone(),
                    owner: owner.clone(),
                    place: facts.place,
                });
            }
        },
        (Some(installed), true) if updates && is_older(facts, installed) => {
            let why = refusal(facts).or_else(|| has_additions(installed));
            not_updated = why.map(|why| format!("extension {name} is not updated: {why}"));
            if not_updated.is_none() {
                change = Some(ExtensionChange::Update {
                    name: name.clone(),
                    owner: installed.owner.clone(),
                    schema: installed.schema.clone(),
                });
            }
        }
        (Some(installed), false) => match has_additions(installed).or_else(|| is_depended_on(installed)) {
            Some(why) => problem = Some(format!("extension {name} is not dropped: {why}")),
            None => {
                change = Some(ExtensionChange::Drop {
                    name: name.clone(),
                    owner: installed.owner.clone(),
                });
            }
        },
        (None, false) | (Some(_), true) => {}
    }
    let status = ExtensionStatus {
        name: name.clone(),
        installed: facts
            .installed
            .as_ref()
            .map(|installed| installed.version.clone()),
        available: facts.available.clone(),
        problem,
    };
    Judged {
        status,
        change,
        not_updated,
    }
}

/// The server would make another version now.
fn is_older(facts: &ExtensionFacts, installed: &InstalledExtension) -> bool {
    facts
        .available
        .as_ref()
        .is_some_and(|available| *available != installed.version)
}

fn has_additions(installed: &InstalledExtension) -> Option<String> {
    let added = installed.added.join(", ");
    (!added.is_empty())
        .then(|| format!("{added} was added to it by SQL: take that out (ALTER EXTENSION … DROP …)"))
}

fn is_depended_on(installed: &InstalledExtension) -> Option<String> {
    let dependents = installed.dependents.join(", ");
    (!dependents.is_empty())
        .then(|| format!("{dependents} depends on it: drop that first, or name the extension again"))
}

/// An update that was asked for is over when nothing is left that can be updated.
fn end_update(draft: &mut Draft<'_>, index: usize, judged: &[Judged]) {
    let extensions = &mut draft.databases[index].extensions;
    let changes = judged.iter().filter_map(|one| one.change.as_ref());
    let mut updates = changes.filter(|change| matches!(change, ExtensionChange::Update { .. }));
    if extensions.update_requested_at.is_none() || updates.next().is_some() {
        return;
    }
    extensions.update_requested_at = None;
    let versions = extensions.seen.iter().filter_map(|seen| {
        let installed = seen.installed.as_ref()?;
        Some(format!("{} {installed}", seen.name))
    });
    let told: Vec<String> = judged
        .iter()
        .filter_map(|one| one.not_updated.clone())
        .chain([format!("versions: {}", versions.collect::<Vec<_>>().join(", "))])
        .collect();
    let name = draft.databases[index].name.clone();
    let message = format!("extensions of database {name} updated: {}", told.join("; "));
    draft.event(EventKind::ExtensionsUpdated, None, message);
}

fn change(
    draft: &mut Draft<'_>,
    primary: NodeId,
    database: &DatabaseRecord,
    found: &DatabaseFacts,
    changes: Vec<ExtensionChange>,
    without: Told,
) -> Told {
    let what = describe(&changes);
    let active = database.lifecycle == ObjectLifecycle::Active;
    draft.wants_inside.insert(database.id);
    if draft.actions.len() < MOST_AT_ONCE {
        if active {
            // It is made again; the columns and indexes that went with it are not, and are not said to be.
            let message = format!(
                "extensions of database {} are not as asked for: {what}",
                database.name
            );
            draft.event(EventKind::ExtensionDrift, None, message);
        }
        let why = format!("extensions of database {}: {what}", database.name);
        draft.act(
            Action::ChangeExtensions {
                node: primary,
                database: database.id,
                oid: found.oid,
                name: database.name.clone(),
                changes,
            },
            why,
        );
    }
    let failed = draft
        .situation
        .observation
        .object_failures
        .contains_key(&database.id.uuid());
    match active && !failed {
        true => without,
        false => (
            LifecycleEvent::WorkBegan,
            Why::new(
                Reason::ExtensionsChanging,
                format!("its extensions are being changed: {what}"),
            ),
        ),
    }
}

/// For people.
fn describe(changes: &[ExtensionChange]) -> String {
    let told = changes.iter().map(|change| match change {
        ExtensionChange::Create { name, .. } => format!("{name} is made"),
        ExtensionChange::Update { name, .. } => format!("{name} is updated"),
        ExtensionChange::Drop { name, .. } => format!("{name} is dropped"),
    });
    told.collect::<Vec<_>>().join(", ")
}
