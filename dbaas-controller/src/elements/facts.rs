//! What there is of a manifest's world: gathered from the records, in the form that plans compare.

use std::collections::BTreeMap;

use dbaas_core::connection::ConnectionStrings;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::infrastructure::ipv4_of;
use dbaas_core::instance::{DesiredState, InstanceRecord};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::uri::{DatabaseRef, InstanceRef, UserRef, VersionRef};
use dbaas_core::user::UserRecord;
use dbaas_core::version::{PostgresMajor, VersionRecord};
use dbaas_manifest::collection::{Collection, Key};
use dbaas_manifest::expression::Target;
use dbaas_manifest::model::{ElementFacts, Surroundings};
use dbaas_manifest::plan::Current;
use dbaas_manifest::render::{Fact, Facts, Rendered, below};
use parking_lot::RwLock;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::record::{ConfigRecord, ElementRecord, MemberRecord, PasswordRecord, VariableRecord};
use super::secret;
use crate::error::ControlError;
use crate::ports::Ports;

/// The version that the built-in elements `core` and `dbaas` have.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Something that exists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Actual {
    pub(crate) id: Uuid,
    /// The instance that it is in, or is.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) uri: String,
    /// What is not known yet is not in here.
    pub(crate) fields: BTreeMap<String, Rendered>,
}

/// Everything that references are answered from. Grows while a manifest is applied.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) around: Surroundings,
    /// The elements around, by name.
    pub(crate) elements: BTreeMap<String, ElementRecord>,
    /// Names of versions.
    versions: BTreeMap<Uuid, (String, String)>,
    /// Their major versions, where the image says.
    majors: BTreeMap<Uuid, PostgresMajor>,
    /// Resources of other elements, by the name of the import.
    pub(crate) imports: RwLock<BTreeMap<String, Actual>>,
    /// Resources of this element.
    pub(crate) actual: RwLock<BTreeMap<Key, Actual>>,
}

impl Facts for World {
    fn field(&self, target: &Target, path: &[String]) -> Fact {
        let Some(first) = path.first() else {
            return Fact::Missing;
        };
        let known = |found: Option<Rendered>, otherwise: Fact| match found {
            Some(found) => below(found, &path[1..]),
            None => otherwise,
        };
        match target {
            Target::Resource(key) => {
                let actual = self.actual.read();
                known(
                    actual.get(key).and_then(|found| found.fields.get(first)).cloned(),
                    Fact::Later,
                )
            }
            Target::Import(name) => {
                let imports = self.imports.read();
                known(
                    imports
                        .get(name)
                        .and_then(|found| found.fields.get(first))
                        .cloned(),
                    Fact::Later,
                )
            }
            Target::Version(name) => {
                let id = self.around.versions.get(name);
                let value = id.and_then(|id| match first.as_str() {
                    "uuid" => Some(id.to_string()),
                    "name" => self.versions.get(id).map(|(name, _)| name.clone()),
                    _ => None,
                });
                known(value.map(Rendered::open), Fact::Missing)
            }
            Target::Variable(name) => {
                let value = match first.as_str() {
                    "value" => self.around.variables.get(name).cloned(),
                    "name" => Some(Json::from(name.as_str())),
                    _ => None,
                };
                known(value.map(Rendered::open), Fact::Missing)
            }
        }
    }

    fn uri(&self, target: &Target) -> Option<String> {
        match target {
            Target::Resource(key) => self.actual.read().get(key).map(|found| found.uri.clone()),
            Target::Import(name) => self.imports.read().get(name).map(|found| found.uri.clone()),
            Target::Version(name) => {
                let id = self.around.versions.get(name)?;
                Some(VersionRef(dbaas_core::id::VersionId::from_uuid(*id)).to_string())
            }
            Target::Variable(_) => None,
        }
    }
}

impl World {
    /// What is around a project's elements.
    pub(crate) async fn gather(
        ports: &Ports,
        project: ProjectId,
        own: Option<Uuid>,
    ) -> Result<World, ControlError> {
        let failed = |error| ports.store_error(error);
        let mut world = World::default();
        for found in ports
            .repository
            .all::<VariableRecord>(None)
            .await
            .map_err(failed)?
        {
            if found.record.project.is_none() {
                let VariableRecord { name, value, .. } = found.record;
                world.around.variables.insert(name.to_string(), value);
            }
        }
        let mut newest: BTreeMap<String, VersionRecord> = BTreeMap::new();
        for found in ports
            .repository
            .all::<VersionRecord>(None)
            .await
            .map_err(failed)?
        {
            let record = found.record;
            let names = (record.name.to_string(), record.symbolic_name.clone());
            world.versions.insert(record.id.uuid(), names);
            if let Some(major) = record.image.major() {
                world.majors.insert(record.id.uuid(), major);
            }
            let is_newer = |there: &VersionRecord| record.image.version() > there.image.version();
            if !record.deprecated && newest.get(&record.symbolic_name).is_none_or(is_newer) {
                newest.insert(record.symbolic_name.clone(), record);
            }
        }
        let ids = newest.into_iter().map(|(name, record)| (name, record.id.uuid()));
        world.around.versions = ids.collect();
        for name in ["core", "dbaas"] {
            let facts = ElementFacts {
                version: version_of(OWN_VERSION),
                exports: BTreeMap::new(),
            };
            world.around.elements.insert(name.to_owned(), facts);
        }
        for found in ports
            .repository
            .all::<ElementRecord>(Some(project.uuid()))
            .await
            .map_err(failed)?
        {
            let record = found.record;
            if own == Some(record.id) {
                continue;
            }
            let exports = record.exports.values();
            let facts = ElementFacts {
                version: version_of(&record.version),
                exports: exports
                    .map(|export| (export.link.clone(), (export.collection, export.id)))
                    .collect(),
            };
            world.around.elements.insert(record.name.clone(), facts);
            world.elements.insert(record.name.clone(), record);
        }
        Ok(world)
    }

    /// What there is of what the element made, for a plan.
    pub(crate) fn currents(&self, members: &BTreeMap<Key, MemberRecord>) -> BTreeMap<Key, Current> {
        let actual = self.actual.read();
        let current = |key: &Key| {
            let found = actual.get(key)?;
            Some(Current {
                id: found.id,
                fields: found.fields.clone(),
                is_protected: None,
            })
        };
        let all = members
            .keys()
            .filter_map(|key| Some((key.clone(), current(key)?)));
        all.collect()
    }

    /// The major version of a version of the catalogue.
    pub(crate) fn major(&self, version: &Json) -> Option<PostgresMajor> {
        let id = Uuid::try_parse(version.as_str()?).ok()?;
        self.majors.get(&id).copied()
    }

    /// Whether two versions of the catalogue have one symbolic name: an instance that has one of them keeps
    /// it.
    pub(crate) fn is_same_symbol(&self, one: &Json, other: &Json) -> bool {
        let symbol = |id: &Json| {
            let id = Uuid::try_parse(id.as_str()?).ok()?;
            self.versions.get(&id).map(|(_, symbol)| symbol.clone())
        };
        symbol(one).is_some_and(|name| symbol(other) == Some(name))
    }
}

fn version_of(text: &str) -> semver::Version {
    text.parse().unwrap_or(semver::Version::new(0, 0, 0))
}

/// What there is of a resource; `None` when it is gone or going.
pub(crate) async fn look(
    ports: &Ports,
    collection: Collection,
    id: Uuid,
) -> Result<Option<Actual>, ControlError> {
    let failed = |error| ports.store_error(error);
    let repository = &ports.repository;
    Ok(match collection {
        Collection::Instances => {
            let found = repository.load::<InstanceRecord>(id).await.map_err(failed)?;
            found
                .map(|found| found.record)
                .filter(|record| record.desired != DesiredState::Deleted)
                .map(|record| instance(&record))
        }
        Collection::Users => {
            let found = repository.load::<UserRecord>(id).await.map_err(failed)?;
            match found.map(|found| found.record).filter(|record| !record.deleting) {
                None => None,
                Some(record) => within(ports, record.instance, user(&record)).await?,
            }
        }
        Collection::Databases => {
            let found = repository.load::<DatabaseRecord>(id).await.map_err(failed)?;
            match found.map(|found| found.record).filter(|record| !record.deleting) {
                None => None,
                Some(record) => within(ports, record.instance, database(&record)).await?,
            }
        }
        Collection::Passwords => match repository.load::<PasswordRecord>(id).await.map_err(failed)? {
            None => None,
            Some(found) => Some(password(ports, &found.record)?),
        },
        Collection::Configs => match repository.load::<ConfigRecord>(id).await.map_err(failed)? {
            None => None,
            Some(found) => Some(config(ports, &found.record)?),
        },
        Collection::Variables => {
            let found = repository.load::<VariableRecord>(id).await.map_err(failed)?;
            found.map(|found| variable(&found.record))
        }
    })
}

/// What is in an instance has its project, and goes with it.
async fn within(ports: &Ports, id: InstanceId, mut actual: Actual) -> Result<Option<Actual>, ControlError> {
    let found = ports.repository.load_instance(id).await;
    let found = found.map_err(|error| ports.store_error(error))?;
    let Some(instance) = found.filter(|found| found.record.desired != DesiredState::Deleted) else {
        return Ok(None);
    };
    let project = Rendered::open(json!(instance.record.spec.project));
    actual.fields.insert("project_id".to_owned(), project);
    Ok(Some(actual))
}

fn fields<const N: usize>(known: [(&str, Json); N]) -> BTreeMap<String, Rendered> {
    known
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Rendered::open(value)))
        .collect()
}

fn instance(record: &InstanceRecord) -> Actual {
    let (spec, status) = (&record.spec, &record.status);
    let mut known = fields([
        ("uuid", json!(record.id)),
        ("name", json!(spec.name)),
        ("description", json!(spec.description)),
        ("project_id", json!(spec.project)),
        ("cpu", json!(spec.resources.cpu)),
        ("ram", json!(spec.resources.ram)),
        ("disk_size", json!(spec.resources.disk)),
        ("nodes_number", json!(spec.nodes)),
        ("sync_replica_number", json!(spec.sync_replicas)),
        ("version", json!(spec.version)),
        ("parameters", json!(spec.parameters)),
        ("labels", json!(spec.labels)),
        ("deletion_protection", json!(spec.deletion_protection)),
        ("status", json!(status.lifecycle)),
        ("created_at", json!(record.created_at)),
        ("updated_at", json!(record.updated_at)),
    ]);
    // Where it is, is known when all of its nodes are there.
    let is_there = status.lifecycle == Lifecycle::Active && status.observed_generation >= record.generation;
    if let Some(primary) = status.primary_endpoint.as_ref().filter(|_| is_there) {
        let mut endpoints = vec![primary.clone()];
        let others = record
            .nodes
            .iter()
            .filter(|node| !node.leaving)
            .filter_map(|node| node.endpoint.clone());
        endpoints.extend(others.filter(|endpoint| endpoint != primary));
        let mut addresses: Vec<String> = Vec::new();
        for address in endpoints.iter().filter_map(ipv4_of).map(|ip| ip.to_string()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let places: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let port = primary.port;
        known.extend(fields([
            ("ipsv4", json!(addresses)),
            ("endpoints", json!(places)),
            ("port", json!(port)),
            ("connection_uri", json!(ConnectionStrings::new(endpoints).uri())),
        ]));
    }
    Actual {
        id: record.id.uuid(),
        instance: Some(record.id),
        uri: InstanceRef(record.id).to_string(),
        fields: known,
    }
}

fn user(record: &UserRecord) -> Actual {
    Actual {
        id: record.id.uuid(),
        instance: Some(record.instance),
        uri: UserRef::new(record.instance, record.id).to_string(),
        fields: fields([
            ("uuid", json!(record.id)),
            ("name", json!(record.name)),
            ("description", json!(record.description)),
            ("instance", json!(record.instance)),
            ("status", json!(record.lifecycle)),
            ("created_at", json!(record.created_at)),
            ("updated_at", json!(record.updated_at)),
        ]),
    }
}

fn database(record: &DatabaseRecord) -> Actual {
    // In the order in which manifests compare them.
    let mut access = record.access.entries.clone();
    access.sort_by_key(|entry| entry.user.to_string());
    let mut extensions = record.extensions.names.clone();
    extensions.sort();
    Actual {
        id: record.id.uuid(),
        instance: Some(record.instance),
        uri: DatabaseRef::new(record.instance, record.id).to_string(),
        fields: fields([
            ("uuid", json!(record.id)),
            ("name", json!(record.name)),
            ("description", json!(record.description)),
            ("instance", json!(record.instance)),
            ("owner", json!(record.owner)),
            ("access", json!(access)),
            ("extensions", json!(extensions)),
            ("deletion_protection", json!(record.deletion_protection)),
            ("status", json!(record.lifecycle)),
            ("created_at", json!(record.created_at)),
            ("updated_at", json!(record.updated_at)),
        ]),
    }
}

fn password(ports: &Ports, record: &PasswordRecord) -> Result<Actual, ControlError> {
    let mut known = fields([
        ("uuid", json!(record.id)),
        ("name", json!(record.name)),
        ("description", json!(record.description)),
        ("project_id", json!(record.project)),
        ("method", json!(record.method)),
        ("default_length", json!(record.length)),
        ("rotation", json!(record.rotation)),
        ("constructor", json!({"kind": "plain"})),
        ("created_at", json!(record.created_at)),
        ("updated_at", json!(record.updated_at)),
    ]);
    let value = opened(ports, record.id, &record.sealed)?;
    known.insert("value".to_owned(), Rendered::secret(value.expose()));
    Ok(Actual {
        id: record.id,
        instance: None,
        uri: format!("/v1/secret/passwords/{}", record.id),
        fields: known,
    })
}

fn config(ports: &Ports, record: &ConfigRecord) -> Result<Actual, ControlError> {
    let mut known = fields([
        ("uuid", json!(record.id)),
        ("name", json!(record.name)),
        ("description", json!(record.description)),
        ("project_id", json!(record.project)),
        ("created_at", json!(record.created_at)),
        ("updated_at", json!(record.updated_at)),
    ]);
    let said = record.fields.iter();
    known.extend(said.map(|(name, value)| (name.clone(), Rendered::open(value.clone()))));
    let text = opened(ports, record.id, &record.sealed)?;
    let content = Rendered {
        value: Json::from(text.expose()),
        is_secret: record.is_secret,
    };
    known.insert("content".to_owned(), content);
    Ok(Actual {
        id: record.id,
        instance: None,
        uri: format!("/v1/config/configs/{}", record.id),
        fields: known,
    })
}

fn variable(record: &VariableRecord) -> Actual {
    let mut known = fields([
        ("uuid", json!(record.id)),
        ("name", json!(record.name)),
        ("description", json!(record.description)),
        ("value", record.value.clone()),
        ("created_at", json!(record.created_at)),
        ("updated_at", json!(record.updated_at)),
    ]);
    if let Some(project) = record.project {
        known.insert("project_id".to_owned(), Rendered::open(json!(project)));
    }
    Actual {
        id: record.id,
        instance: None,
        uri: format!("/v1/vs/variables/{}", record.id),
        fields: known,
    }
}

/// A sealed text; what cannot be opened is damage.
pub(crate) fn opened(
    ports: &Ports,
    id: Uuid,
    sealed: &str,
) -> Result<dbaas_core::secret::Secret, ControlError> {
    secret::open(ports.sealer.as_ref(), id, sealed)
        .map_err(|_| ControlError::internal("a stored secret cannot be opened", ports.now()))
}
