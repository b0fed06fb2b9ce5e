//! What the server answers: records as the contract's JSON. One struct for each resource; the OpenAPI schema of each is in
//! `openapi/schemas.rs`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dbaas_controller::view::{Database, Instance, Node, User, Version};
use dbaas_core::extension::{ExtensionName, ExtensionStatus};
use dbaas_core::id::ProjectId;
use dbaas_core::infrastructure::{Endpoint, ipv4_of};
use dbaas_core::instance::InstancePhase;
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::node::NodeRole;
use dbaas_core::parameters::{self, Parameters, ownership};
use dbaas_core::repair::Repair;
use dbaas_core::size::PasswordVersion;
use dbaas_core::store::StoredEvent;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::problem::Problem;
use crate::reference::{instance_uri, user_uri, version_uri};

/// An instance.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceAnswer<'a> {
    uuid: Uuid,
    name: &'a InstanceName,
    description: &'a Description,
    project_id: Uuid,
    cpu: u16,
    ram: u32,
    disk_size: u32,
    nodes_number: u8,
    sync_replica_number: u8,
    version: String,
    parameters: &'a Parameters,
    status: &'static str,
    phase: InstancePhase,
    reason: &'a str,
    warnings: &'a [String],
    effective_sync_replicas: u8,
    ipsv4: BTreeSet<Ipv4Addr>,
    nodes: Vec<NodeSummary<'a>>,
    parameters_pending_restart: &'a [String],
    generation: u64,
    observed_generation: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A node within an instance's answer; `GET …/nodes` has the rest.
#[derive(Debug, Serialize)]
struct NodeSummary<'a> {
    uuid: Uuid,
    name: &'a str,
    role: NodeRole,
    status: &'static str,
}

impl<'a> InstanceAnswer<'a> {
    pub(crate) fn of(found: &'a Instance) -> Self {
        let Instance {
            spec, status, nodes, ..
        } = found;
        let summary = |node: &'a Node| NodeSummary {
            uuid: node.id.uuid(),
            name: &node.name,
            role: node.role,
            status: node.lifecycle.as_str(),
        };
        InstanceAnswer {
            uuid: found.id.uuid(),
            name: &spec.name,
            description: &spec.description,
            project_id: spec.project.uuid(),
            cpu: spec.resources.cpu.get(),
            ram: spec.resources.ram.get(),
            disk_size: spec.resources.disk.get(),
            nodes_number: spec.nodes.get(),
            sync_replica_number: spec.sync_replicas.get(),
            version: version_uri(spec.version),
            parameters: &spec.parameters,
            status: status.lifecycle.as_str(),
            phase: status.phase,
            reason: &status.reason,
            warnings: &status.warnings,
            effective_sync_replicas: spec.effective_sync_replicas(),
            ipsv4: nodes
                .iter()
                .filter_map(|node| node.endpoint.as_ref())
                .filter_map(ipv4_of)
                .collect(),
            nodes: nodes.iter().map(summary).collect(),
            parameters_pending_restart: &status.parameters_pending_restart,
            generation: found.generation,
            observed_generation: status.observed_generation,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A database.
#[derive(Debug, Serialize)]
pub(crate) struct DatabaseAnswer<'a> {
    uuid: Uuid,
    project_id: Uuid,
    instance: String,
    name: &'a DatabaseName,
    description: &'a Description,
    owner: String,
    access: Vec<AccessAnswer>,
    extensions: Vec<&'a str>,
    extension_status: Vec<ExtensionAnswer<'a>>,
    status: &'static str,
    phase: &'static str,
    reason: &'a str,
    repair: RepairAnswer<'a>,
    deleting: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What was last seen of an extension.
#[derive(Debug, Serialize)]
struct ExtensionAnswer<'a> {
    name: &'a str,
    installed_version: Option<&'a str>,
    available_version: Option<&'a str>,
    update_available: bool,
    problem: Option<&'a str>,
}

impl<'a> ExtensionAnswer<'a> {
    fn of(seen: &'a ExtensionStatus) -> Self {
        let (installed, available) = (seen.installed.as_deref(), seen.available.as_deref());
        ExtensionAnswer {
            name: seen.name.as_str(),
            installed_version: installed,
            available_version: available,
            update_available: installed.is_some() && available.is_some() && installed != available,
            problem: seen.problem.as_deref(),
        }
    }
}

/// Who may use a database besides its owner.
#[derive(Debug, Serialize)]
struct AccessAnswer {
    user: String,
    level: &'static str,
}

impl<'a> DatabaseAnswer<'a> {
    pub(crate) fn of(found: &'a Database, project: ProjectId) -> Self {
        DatabaseAnswer {
            uuid: found.id.uuid(),
            project_id: project.uuid(),
            instance: instance_uri(found.instance),
            name: &found.name,
            description: &found.description,
            owner: user_uri(found.instance, found.owner),
            access: found
                .access
                .iter()
                .map(|entry| AccessAnswer {
                    user: user_uri(found.instance, entry.user),
                    level: entry.level.as_str(),
                })
                .collect(),
            extensions: found.extensions.iter().map(ExtensionName::as_str).collect(),
            extension_status: found.extension_status.iter().map(ExtensionAnswer::of).collect(),
            status: found.lifecycle.as_str(),
            phase: found.phase.as_str(),
            reason: &found.reason,
            repair: RepairAnswer::of(&found.repair),
            deleting: found.deleting,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// The last repair of somebody's access.
#[derive(Debug, Serialize)]
struct RepairAnswer<'a> {
    pending: bool,
    done_at: Option<Timestamp>,
    changed: &'a [String],
}

impl<'a> RepairAnswer<'a> {
    fn of(repair: &'a Repair) -> Self {
        let last = repair.last.as_ref();
        RepairAnswer {
            pending: repair.requested_at.is_some(),
            done_at: last.map(|last| last.at),
            changed: last.map_or(&[], |last| &last.changed),
        }
    }
}

/// A user. There is no password in it, and no verifier.
#[derive(Debug, Serialize)]
pub(crate) struct UserAnswer<'a> {
    uuid: Uuid,
    project_id: Uuid,
    instance: String,
    name: &'a UserName,
    description: &'a Description,
    password_version: PasswordVersion,
    status: &'static str,
    phase: &'static str,
    reason: &'a str,
    repair: RepairAnswer<'a>,
    deleting: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> UserAnswer<'a> {
    pub(crate) fn of(found: &'a User, project: ProjectId) -> Self {
        UserAnswer {
            uuid: found.id.uuid(),
            project_id: project.uuid(),
            instance: instance_uri(found.instance),
            name: &found.name,
            description: &found.description,
            password_version: found.password_version,
            status: found.lifecycle.as_str(),
            phase: found.phase.as_str(),
            reason: &found.reason,
            repair: RepairAnswer::of(&found.repair),
            deleting: found.deleting,
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A version of the catalogue.
#[derive(Debug, Serialize)]
pub(crate) struct VersionAnswer<'a> {
    uuid: Uuid,
    name: &'a InstanceName,
    description: &'a Description,
    image: &'a str,
    deprecated: bool,
    extensions: Option<Vec<&'a str>>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> VersionAnswer<'a> {
    pub(crate) fn of(found: &'a Version) -> Self {
        VersionAnswer {
            uuid: found.id.uuid(),
            name: &found.name,
            description: &found.description,
            image: found.image.as_str(),
            deprecated: found.deprecated,
            extensions: found
                .extensions
                .as_ref()
                .map(|names| names.iter().map(ExtensionName::as_str).collect()),
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// A node with its live figures.
#[derive(Debug, Serialize)]
pub(crate) struct NodeAnswer<'a> {
    uuid: Uuid,
    name: &'a str,
    role: NodeRole,
    sync: bool,
    status: &'static str,
    reason: &'a str,
    leaving: bool,
    host: Option<&'a str>,
    port: Option<u16>,
    lag_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    backend_ref: Option<&'a str>,
    created_at: Timestamp,
}

impl<'a> NodeAnswer<'a> {
    pub(crate) fn of(node: &'a Node) -> Self {
        NodeAnswer {
            uuid: node.id.uuid(),
            name: &node.name,
            role: node.role,
            sync: node.sync,
            status: node.lifecycle.as_str(),
            reason: &node.reason,
            leaving: node.leaving,
            host: node.endpoint.as_ref().map(|endpoint| endpoint.host.as_str()),
            port: node.endpoint.as_ref().map(|endpoint| endpoint.port),
            lag_bytes: node.lag_bytes,
            disk_free_bytes: node.disk_free_bytes,
            backend_ref: node.backend_ref.as_deref(),
            created_at: node.created_at,
        }
    }
}

/// An event of an instance's log.
#[derive(Debug, Serialize)]
pub(crate) struct EventAnswer<'a> {
    sequence: u64,
    at: Timestamp,
    kind: &'a str,
    message: &'a str,
    node: Option<Uuid>,
}

impl<'a> EventAnswer<'a> {
    pub(crate) fn of(event: &'a StoredEvent) -> Self {
        EventAnswer {
            sequence: event.sequence,
            at: event.event.at,
            kind: &event.event.kind,
            message: &event.event.message,
            node: event.event.node,
        }
    }
}

/// How to connect to an instance.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionAnswer {
    pub(crate) uri: Option<String>,
    pub(crate) read_only_uri: Option<String>,
    pub(crate) jdbc_url: Option<String>,
    pub(crate) read_only_jdbc_url: Option<String>,
    pub(crate) primary: Option<Endpoint>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An answer as the fields that it has, for comparing with what a request repeats.
pub(crate) fn fields_of(answer: &impl Serialize) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(answer) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::internal("an answer is not a JSON object")),
    }
}

/// A setting of a major version.
#[derive(Debug, Serialize)]
pub(crate) struct ParameterAnswer {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'static [&'static str]>,
    default: &'static str,
    context: &'static str,
    needs_restart: bool,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_because: Option<&'static str>,
}

impl ParameterAnswer {
    pub(crate) fn of(parameter: &'static parameters::Parameter) -> Self {
        use parameters::Kind;
        let (kind, unit, range, values) = match &parameter.kind {
            Kind::Bool => ("bool", None, None, None),
            Kind::Integer { min, max, unit } => ("integer", *unit, Some((*min as f64, *max as f64)), None),
            Kind::Real { min, max, unit } => ("real", *unit, Some((*min, *max)), None),
            Kind::Enum(values) => ("enum", None, None, Some(values.as_slice())),
            Kind::String => ("string", None, None, None),
        };
        ParameterAnswer {
            name: parameter.name,
            kind,
            unit: unit.map(|unit| unit.to_string()),
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            values,
            default: parameter.default,
            context: parameter.context.as_str(),
            needs_restart: parameter.context == parameters::Context::Postmaster,
            description: parameter.description,
            refused_because: ownership(parameter.name),
        }
    }
}
