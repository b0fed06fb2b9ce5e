//! What a change of an instance means: the rules of what may be changed into what, and what is said of it.

use std::collections::BTreeMap;

use crate::field_error::FieldError;
use crate::id::VersionId;
use crate::name::{Description, InstanceName};
use crate::parameters::{InvalidParameter, Parameters};
use crate::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use crate::store::DocumentVersion;
use crate::version::VersionRecord;

use super::{InstanceRecord, InstanceSpec, InvalidLabel};

/// Changes of an instance; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateInstance {
    /// A new name.
    pub name: Option<InstanceName>,
    /// A new description.
    pub description: Option<Description>,
    /// Cores of each node.
    pub cpu: Option<CpuCores>,
    /// Memory of each node.
    pub ram: Option<RamMb>,
    /// Data disk of each node; may not shrink.
    pub disk: Option<DiskGb>,
    /// How many nodes.
    pub nodes: Option<NodeCount>,
    /// How many standbys a commit waits for.
    pub sync_replicas: Option<SyncReplicas>,
    /// A version of the catalogue: must be the same major as the present one (a minor upgrade), not
    /// deprecated unless unchanged.
    pub version: Option<VersionId>,
    /// Settings of PostgreSQL, by name; `None` takes one back. Those that are not named stay.
    pub parameters: BTreeMap<String, Option<String>>,
    /// Labels, by key; `None` removes one. Those that are not named stay.
    pub labels: BTreeMap<String, Option<String>>,
    /// Whether deleting it is refused.
    pub deletion_protection: Option<bool>,
    /// Only if this is the version of what was asked for.
    pub expected: Option<DocumentVersion>,
}

/// The version that an update names, looked up.
#[derive(Debug, Clone, Copy)]
pub enum NewVersion<'a> {
    /// The update leaves it as it is.
    Unchanged,
    /// There is no such version.
    Missing,
    /// This one.
    Found(&'a VersionRecord),
}

/// Writes the changes into the record, and says what they are. All fields that are wrong are reported, and
/// nothing is written then.
pub fn apply_update(
    record: &mut InstanceRecord,
    update: &UpdateInstance,
    version: NewVersion<'_>,
) -> Result<Vec<String>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let spec = &record.spec;
    if let Some(disk) = update.disk
        && disk < spec.resources.disk
    {
        let detail = format!(
            "a disk never shrinks; it has {} GB now",
            spec.resources.disk.get()
        );
        errors.push(FieldError::new("/disk_size", detail));
    }
    errors.extend(version_error(record, version));
    let mut changed = spec.clone();
    for (name, value) in &update.parameters {
        match value {
            Some(value) => changed.parameters.set(name, value.clone()),
            None => changed.parameters.unset(name),
        }
    }
    if changed.parameters != spec.parameters {
        errors.extend(parameter_errors(&changed));
    }
    for (key, value) in &update.labels {
        match value {
            Some(value) => changed.labels.set(key, value.clone()),
            None => changed.labels.unset(key),
        }
    }
    if changed.labels != spec.labels {
        errors.extend(label_errors(&changed));
    }
    if !errors.is_empty() {
        return Err(errors);
    }

    let mut said = Vec::new();
    let spec = &mut record.spec;
    let mut note = |what: &str, from: String, to: String| said.push(format!("{what} from {from} to {to}"));
    if let Some(name) = update.name.clone().filter(|name| *name != spec.name) {
        note("name", format!("\"{}\"", spec.name), format!("\"{name}\""));
        spec.name = name;
    }
    if let Some(cpu) = update.cpu.filter(|cpu| *cpu != spec.resources.cpu) {
        note("cpu", spec.resources.cpu.get().to_string(), cpu.get().to_string());
        spec.resources.cpu = cpu;
    }
    if let Some(ram) = update.ram.filter(|ram| *ram != spec.resources.ram) {
        note(
            "ram",
            format!("{} MB", spec.resources.ram.get()),
            format!("{} MB", ram.get()),
        );
        spec.resources.ram = ram;
    }
    if let Some(disk) = update.disk.filter(|disk| *disk != spec.resources.disk) {
        note(
            "disk_size",
            format!("{} GB", spec.resources.disk.get()),
            format!("{} GB", disk.get()),
        );
        spec.resources.disk = disk;
    }
    if let Some(nodes) = update.nodes.filter(|nodes| *nodes != spec.nodes) {
        note(
            "nodes_number",
            spec.nodes.get().to_string(),
            nodes.get().to_string(),
        );
        spec.nodes = nodes;
    }
    if let Some(sync) = update.sync_replicas.filter(|sync| *sync != spec.sync_replicas) {
        note(
            "sync_replica_number",
            spec.sync_replicas.get().to_string(),
            sync.get().to_string(),
        );
        spec.sync_replicas = sync;
    }
    if let NewVersion::Found(version) = version {
        note("version", spec.image.to_string(), version.image.to_string());
        spec.version = version.id;
        spec.image = version.image.clone();
    }
    if changed.parameters != spec.parameters {
        note("parameters", shown(&spec.parameters), shown(&changed.parameters));
        spec.parameters = changed.parameters;
    }
    if changed.labels != spec.labels {
        said.push("labels".to_owned());
        spec.labels = changed.labels;
    }
    if let Some(protected) = update
        .deletion_protection
        .filter(|protected| *protected != spec.deletion_protection)
    {
        said.push(protection(protected).to_owned());
        spec.deletion_protection = protected;
    }
    if let Some(description) = update
        .description
        .clone()
        .filter(|text| *text != spec.description)
    {
        said.push("description".to_owned());
        spec.description = description;
    }
    Ok(said)
}

/// What is said of a change of it.
pub fn protection(protected: bool) -> &'static str {
    match protected {
        true => "protected from deletion",
        false => "not protected from deletion any more",
    }
}

fn shown(parameters: &Parameters) -> String {
    match parameters.is_empty() {
        true => "none".to_owned(),
        false => format!("({parameters})"),
    }
}

/// What is wrong with what a new instance asks for, besides what its types rule out.
pub fn spec_errors(spec: &InstanceSpec) -> Vec<FieldError> {
    let mut errors = parameter_errors(spec);
    errors.extend(label_errors(spec));
    errors
}

fn label_errors(spec: &InstanceSpec) -> Vec<FieldError> {
    let wrong = spec.labels.check().err().unwrap_or_default();
    let field = |wrong: InvalidLabel| entry_error("/labels", &wrong.key, wrong.rule);
    wrong.into_iter().map(field).collect()
}

/// What is wrong with the parameters, for the major version that the instance has.
fn parameter_errors(spec: &InstanceSpec) -> Vec<FieldError> {
    if spec.parameters.is_empty() {
        return Vec::new();
    }
    let Some(major) = spec.image.major() else {
        let detail = "cannot be checked: the image's tag does not say which major version it is";
        return vec![FieldError::new("/parameters", detail)];
    };
    let wrong = spec.parameters.check(major).err().unwrap_or_default();
    let field = |wrong: InvalidParameter| entry_error("/parameters", &wrong.name, wrong.rule);
    wrong.into_iter().map(field).collect()
}

/// A rule that an entry of a map breaks, or the map itself if the key is empty.
fn entry_error(map: &str, key: &str, rule: String) -> FieldError {
    let key = key.replace('~', "~0").replace('/', "~1");
    match key.as_str() {
        "" => FieldError::new(map, rule),
        key => FieldError::new(format!("{map}/{key}"), rule),
    }
}

fn version_error(record: &InstanceRecord, version: NewVersion<'_>) -> Option<FieldError> {
    let version = match version {
        NewVersion::Unchanged => return None,
        NewVersion::Missing => return Some(FieldError::new("/version", "there is no such version")),
        NewVersion::Found(version) => version,
    };
    if version.deprecated {
        let detail = format!(
            "{} is deprecated and takes no new instances; choose another version",
            version.name
        );
        return Some(FieldError::new("/version", detail));
    }
    match (record.spec.image.major(), version.major()) {
        (Some(present), Some(wanted)) if present == wanted => None,
        (Some(present), Some(wanted)) => Some(FieldError::new(
            "/version",
            format!(
                "the instance has PostgreSQL {present}, and the version is PostgreSQL {wanted}: only another minor release \
                 of the same major can be chosen; for another major, create an instance and move the data"
            ),
        )),
        (None, _) | (_, None) => Some(FieldError::new(
            "/version",
            "it cannot be told whether it is the same major release as the present version: the image's tag does not say",
        )),
    }
}
