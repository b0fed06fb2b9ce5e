//! What no look can tell of a resource.

use dbaas_core::id::UserId;
use dbaas_core::password::Password;
use dbaas_manifest::collection::{Collection, Key};

use super::fields::Values;
use crate::control_plane::ControlPlane;
use crate::elements::facts::{Actual, World};
use crate::error::ControlError;

/// Fills in what cannot be read: whether a user has the password, and which of two versions with one name is
/// meant.
pub(super) async fn settle(
    plane: &ControlPlane,
    world: &World,
    key: &Key,
    values: &Values,
    current: &mut Actual,
) -> Result<(), ControlError> {
    match key.collection {
        Collection::Users => {
            if let Some(wanted) = values.get("password")
                && let Some(text) = wanted.value.as_str()
                && let Ok(password) = Password::new(text)
                && plane
                    .has_password(UserId::from_uuid(current.id), password)
                    .await?
            {
                current.fields.insert("password".to_owned(), wanted.clone());
            }
        }
        Collection::Instances => {
            if let (Some(wanted), Some(there)) = (values.get("version"), current.fields.get_mut("version"))
                && world.is_same_symbol(&wanted.value, &there.value)
            {
                there.value = wanted.value.clone();
            }
        }
        _ => {}
    }
    Ok(())
}
