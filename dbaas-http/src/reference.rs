//! References to resources as URIs, see [`dbaas_core::uri`]: answers use the long spelling.

use dbaas_core::id::{InstanceId, UserId, VersionId};
use dbaas_core::uri::{DatabaseRef, InstanceRef, UserRef, VersionRef};

pub(crate) use dbaas_core::uri::{ROOT, SHORT_ROOT};

pub(crate) fn instance_uri(id: InstanceId) -> String {
    InstanceRef(id).to_string()
}

pub(crate) fn database_uri(instance: InstanceId, id: dbaas_core::id::DatabaseId) -> String {
    DatabaseRef::new(instance, id).to_string()
}

pub(crate) fn user_uri(instance: InstanceId, id: UserId) -> String {
    UserRef::new(instance, id).to_string()
}

pub(crate) fn version_uri(id: VersionId) -> String {
    VersionRef(id).to_string()
}

/// Reads a reference to a version.
pub(crate) fn parse_version(text: &str) -> Result<VersionId, String> {
    text.parse::<VersionRef>()
        .map(|found| found.0)
        .map_err(|error| error.to_string())
}

/// Reads a reference to an instance.
pub(crate) fn parse_instance(text: &str) -> Result<InstanceId, String> {
    text.parse::<InstanceRef>()
        .map(|found| found.0)
        .map_err(|error| error.to_string())
}

/// Reads a reference to a user of an instance.
pub(crate) fn parse_user(text: &str, instance: InstanceId) -> Result<UserId, String> {
    let found: UserRef = text
        .parse()
        .map_err(|error: dbaas_core::uri::InvalidReference| error.to_string())?;
    if found.is_within(instance) {
        Ok(found.id)
    } else {
        Err("is a user of another instance".to_owned())
    }
}
