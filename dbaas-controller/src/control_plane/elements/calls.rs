//! The calls that a resource of a manifest becomes: the same as everybody's.

use std::collections::BTreeMap;

use dbaas_core::id::{DatabaseId, InstanceId, UserId, VersionId};
use dbaas_core::instance::Labels;
use dbaas_core::parameters::Parameters;
use dbaas_manifest::collection::{Collection, Key};

use super::carry_out::Apply;
use super::fields::{
    Values, config_fields, content, decoded, given, maybe, missing, optional, parsed, secret,
};
use crate::elements::record::MemberRecord;
use crate::error::ControlError;
use crate::request::{
    CreateConfig, CreateDatabase, CreateInstance, CreatePassword, CreateUser, CreateVariable, UpdateConfig,
    UpdateDatabase, UpdateInstance, UpdatePassword, UpdateUser, UpdateVariable,
};

impl Apply<'_> {
    /// Asks for a resource.
    pub(super) async fn create_once(
        &self,
        key: &Key,
        member: &MemberRecord,
        values: &Values,
    ) -> Result<(), ControlError> {
        let plane = self.plane;
        let instance = || member.instance.ok_or_else(|| missing("instance"));
        let name = |name: &str| parsed(values, "name").or_else(|_| name.parse().map_err(|_| missing("name")));
        let project = match values.get("project_id") {
            None => self.project,
            Some(_) => parsed(values, "project_id")?,
        };
        match key.collection {
            Collection::Instances => {
                let mut request = CreateInstance::new(parsed(values, "name")?, parsed(values, "version")?);
                request.id = Some(InstanceId::from_uuid(member.resource));
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                request.cpu = decoded(values, "cpu")?;
                request.ram = decoded(values, "ram")?;
                request.disk = decoded(values, "disk_size")?;
                if values.contains_key("nodes_number") {
                    request.nodes = decoded(values, "nodes_number")?;
                }
                if values.contains_key("sync_replica_number") {
                    request.sync_replicas = decoded(values, "sync_replica_number")?;
                }
                request.parameters = maybe(values, "parameters")?.unwrap_or_default();
                request.labels = maybe(values, "labels")?.unwrap_or_default();
                request.deletion_protection = maybe(values, "deletion_protection")?.unwrap_or_default();
                plane.create_instance(request).await.map(|_| ())
            }
            Collection::Users => {
                let mut request = CreateUser::new(parsed(values, "name")?, secret(values)?);
                request.id = Some(UserId::from_uuid(member.resource));
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_user(instance()?, request).await.map(|_| ())
            }
            Collection::Databases => {
                let mut request = CreateDatabase::new(parsed(values, "name")?, parsed(values, "owner")?);
                request.id = Some(DatabaseId::from_uuid(member.resource));
                request.access = maybe(values, "access")?.unwrap_or_default();
                request.extensions = maybe(values, "extensions")?.unwrap_or_default();
                request.deletion_protection = maybe(values, "deletion_protection")?.unwrap_or_default();
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_database(instance()?, request).await.map(|_| ())
            }
            Collection::Passwords => {
                let mut request = CreatePassword::new(name(&key.name)?);
                request.id = Some(member.resource);
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                if values.contains_key("method") {
                    request.method = decoded(values, "method")?;
                }
                if values.contains_key("default_length") {
                    request.length = decoded(values, "default_length")?;
                }
                if values.contains_key("rotation") {
                    request.rotation = decoded(values, "rotation")?;
                }
                request.value = given(values);
                plane.create_password(request).await.map(|_| ())
            }
            Collection::Configs => {
                let (content, is_secret) = content(values)?;
                let mut request = CreateConfig::new(name(&key.name)?, content);
                request.id = Some(member.resource);
                request.project = project;
                request.description = optional(values, "description")?.unwrap_or_default();
                request.is_secret = is_secret;
                request.fields = config_fields(values);
                plane.create_config(request).await.map(|_| ())
            }
            Collection::Variables => {
                let value = values.get("value").map(|value| value.value.clone());
                let mut request =
                    CreateVariable::new(name(&key.name)?, value.ok_or_else(|| missing("value"))?);
                request.id = Some(member.resource);
                request.project = Some(project);
                request.description = optional(values, "description")?.unwrap_or_default();
                plane.create_variable(request).await.map(|_| ())
            }
        }
    }

    /// Asks for the changes of a resource.
    pub(super) async fn update_once(
        &self,
        key: &Key,
        member: &MemberRecord,
        changed: &Values,
        values: &Values,
    ) -> Result<(), ControlError> {
        let plane = self.plane;
        let instance = || member.instance.ok_or_else(|| missing("instance"));
        let id = member.resource;
        match key.collection {
            Collection::Instances => {
                let id = InstanceId::from_uuid(id);
                let there = plane.instance(id).await?.spec;
                let parameters = match maybe::<Parameters>(changed, "parameters")? {
                    None => BTreeMap::new(),
                    Some(wanted) => replaced(there.parameters.iter(), wanted.iter()),
                };
                let labels = match maybe::<Labels>(changed, "labels")? {
                    None => BTreeMap::new(),
                    Some(wanted) => replaced(there.labels.iter(), wanted.iter()),
                };
                let update = UpdateInstance {
                    parameters,
                    labels,
                    deletion_protection: maybe(changed, "deletion_protection")?,
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    cpu: maybe(changed, "cpu")?,
                    ram: maybe(changed, "ram")?,
                    disk: maybe(changed, "disk_size")?,
                    nodes: maybe(changed, "nodes_number")?,
                    sync_replicas: maybe(changed, "sync_replica_number")?,
                    version: maybe::<VersionId>(changed, "version")?,
                    ..UpdateInstance::default()
                };
                plane.update_instance(id, update).await.map(|_| ())
            }
            Collection::Users => {
                let password = match changed.contains_key("password") {
                    true => Some(secret(changed)?),
                    false => None,
                };
                let update = UpdateUser {
                    description: optional(changed, "description")?,
                    password,
                    ..UpdateUser::default()
                };
                let id = UserId::from_uuid(id);
                plane.update_user(instance()?, id, update).await.map(|_| ())
            }
            Collection::Databases => {
                let update = UpdateDatabase {
                    description: optional(changed, "description")?,
                    owner: optional(changed, "owner")?,
                    access: maybe(changed, "access")?,
                    extensions: maybe(changed, "extensions")?,
                    deletion_protection: maybe(changed, "deletion_protection")?,
                    expected: None,
                };
                let id = DatabaseId::from_uuid(id);
                plane.update_database(instance()?, id, update).await.map(|_| ())
            }
            Collection::Passwords => {
                let update = UpdatePassword {
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    method: maybe(changed, "method")?,
                    length: maybe(changed, "default_length")?,
                    rotation: maybe(changed, "rotation")?,
                    // With another method the value counts, also where it is the one that was generated.
                    value: given(values),
                    expected: None,
                };
                plane.update_password(id, update).await.map(|_| ())
            }
            Collection::Configs => {
                let text = match changed.contains_key("content") {
                    true => Some(content(changed)?),
                    false => None,
                };
                let update = UpdateConfig {
                    name: optional(changed, "name")?,
                    description: optional(changed, "description")?,
                    fields: config_fields(changed),
                    content: text,
                    expected: None,
                };
                plane.update_config(id, update).await.map(|_| ())
            }
            Collection::Variables => {
                let update = UpdateVariable {
                    description: optional(changed, "description")?,
                    value: changed.get("value").map(|value| value.value.clone()),
                    expected: None,
                };
                plane.update_variable(id, update).await.map(|_| ())
            }
        }
    }
}

/// The change from some parameters or labels to others: those that a manifest does not say any more are taken
/// back.
fn replaced<'a>(
    there: impl Iterator<Item = (&'a str, &'a str)>,
    wanted: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, Option<String>> {
    let gone = there.map(|(name, _)| (name.to_owned(), None));
    let set = wanted.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    // Of two with one name the later one counts.
    gone.chain(set).collect()
}
