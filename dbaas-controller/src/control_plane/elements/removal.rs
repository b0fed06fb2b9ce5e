//! What left a manifest goes, and is waited for until it is gone.

use std::time::Duration;

use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_manifest::collection::{Collection, Key, Parent};
use dbaas_manifest::plan::{Action, Step};
use tokio::time::Instant;

use super::fields::about;
use crate::control_plane::ControlPlane;
use crate::elements::record::MemberRecord;
use crate::error::ControlError;
use crate::repository::Change;

/// How often something that goes is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Deletes what the steps say, one after the other.
pub(super) async fn remove(
    plane: &ControlPlane,
    steps: &[Step],
    members: &std::collections::BTreeMap<Key, MemberRecord>,
    until: Instant,
) -> Result<(), ControlError> {
    let goes = |key: &Key| {
        let is_it = |step: &&Step| step.key == *key && step.action == Action::Delete;
        steps.iter().find(is_it).is_some()
    };
    let deletions = || steps.iter().filter(|step| step.action == Action::Delete);
    // Users and databases of an instance that goes, go with it.
    let goes_along = |key: &Key| match &key.parent {
        Some(Parent::Declared(name)) => goes(&Key {
            collection: Collection::Instances,
            parent: None,
            name: name.clone(),
        }),
        _ => false,
    };
    for step in deletions().filter(|step| !goes_along(&step.key)) {
        if let Some(member) = members.get(&step.key) {
            one(plane, member, until)
                .await
                .map_err(|error| about(&step.key, error))?;
            forget(plane, member).await?;
        }
    }
    for step in deletions().filter(|step| goes_along(&step.key)) {
        if let Some(member) = members.get(&step.key) {
            forget(plane, member).await?;
        }
    }
    Ok(())
}

/// Deletes a resource, and waits until it is gone.
async fn one(plane: &ControlPlane, member: &MemberRecord, until: Instant) -> Result<(), ControlError> {
    let id = member.resource;
    // Ends: with the deadline.
    loop {
        let asked = match (member.key.collection, member.instance) {
            (Collection::Instances, _) => plane.delete_instance(InstanceId::from_uuid(id), None).await,
            (Collection::Users, Some(instance)) => {
                plane.delete_user(instance, UserId::from_uuid(id), None).await
            }
            (Collection::Databases, Some(instance)) => {
                plane
                    .delete_database(instance, DatabaseId::from_uuid(id), None)
                    .await
            }
            (Collection::Users | Collection::Databases, None) => Ok(()),
            (Collection::Passwords, _) => plane.delete_password(id, None).await,
            (Collection::Configs, _) => plane.delete_config(id, None).await,
            (Collection::Variables, _) => plane.delete_variable(id, None).await,
        };
        match asked {
            Ok(()) => {}
            Err(ControlError::NotFound { .. }) => return Ok(()),
            // Databases of the user that are just being dropped.
            Err(error) if error.is_retryable() && Instant::now() < until => {}
            Err(error) => return Err(error),
        }
        if !member.key.collection.holds_data() && member.instance.is_none() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(ControlError::Deadline {
                state: "IN_PROGRESS".to_owned(),
                reason: "it is still being deleted".to_owned(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The resource is gone: the element has it no more.
async fn forget(plane: &ControlPlane, member: &MemberRecord) -> Result<(), ControlError> {
    let ports = plane.ports();
    let found = ports.repository.load::<MemberRecord>(member.id).await;
    let Some(found) = found.map_err(|error| ports.store_error(error))? else {
        return Ok(());
    };
    let message = format!("{}: deleted", member.key);
    let change = Change::new()
        .delete(&found)
        .note(member.element, ports.now(), "resource_deleted", message);
    ports
        .repository
        .commit(change)
        .await
        .map_err(|error| ports.store_error(error))?;
    plane.hint_element(member.element);
    Ok(())
}
