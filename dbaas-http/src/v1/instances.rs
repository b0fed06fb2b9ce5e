//! Instances.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dbaas_controller::request::{CreateInstance, InstanceFilter, UpdateInstance};
use dbaas_controller::view;
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::infrastructure::ipv4_of;
use dbaas_core::instance::{InstancePhase, LABEL_CHARS_MAX, Labels};
use dbaas_core::name::{Description, InstanceName};
use dbaas_core::node::NodeRole;
use dbaas_core::parameters::Parameters;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_core::time::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};
use uuid::Uuid;

use super::conditions::{self, Condition};
use super::fields::{Present, READ_ONLY, chosen, not_set};
use super::schema;
use super::types::{
    Count, Cpu, Disk, EffectiveSyncReplicas, FreeText, Id, Ipv4, Nodes, Phase, Ram, Role, Settings, State,
    SyncReplicas as Replicas, Time, VersionUri, described, map_of,
};
use crate::access::Caller;
use crate::decode::{Decoder, Object as Body, boolean, parsed, setting, text, whole};
use crate::handlers::{LIFECYCLES, any_of};
use crate::openapi::parameters::{filter, number_filter};
use crate::openapi::schemas::{
    array, description_text, instance_name, text as described_text, uuid, version_reference, words,
};
use crate::problem::{Problem, ProblemKind};
use crate::query::{FILTER_VALUES_MAX, Query, one_of, parsed as filtered, whole_in};
use crate::reference::{parse_version, version_uri};

/// What an instance can be busy with, as `phase` has it.
pub(crate) const PHASES: [(&str, InstancePhase); 10] = [
    ("creating", InstancePhase::Creating),
    ("running", InstancePhase::Running),
    ("updating", InstancePhase::Updating),
    ("failing_over", InstancePhase::FailingOver),
    ("switching_over", InstancePhase::SwitchingOver),
    ("restarting", InstancePhase::Restarting),
    ("stopping", InstancePhase::Stopping),
    ("stopped", InstancePhase::Stopped),
    ("starting", InstancePhase::Starting),
    ("deleting", InstancePhase::Deleting),
];

/// Fields that nobody sets; the first may be chosen at creation.
const SET_BY_SERVER: [&str; 14] = [
    "uuid",
    "status",
    "phase",
    "reason",
    "conditions",
    "warnings",
    "effective_sync_replicas",
    "ipsv4",
    "nodes",
    "parameters_pending_restart",
    "generation",
    "observed_generation",
    "created_at",
    "updated_at",
];
const PROJECT_IS_FIXED: &str = "cannot be changed; an instance stays in its project";

described! {
    /// An instance's name.
    Name: instance_name().examples(["orders"]);
    /// Labels by their keys.
    LabelMap: map_of(label_value().schema_type(SchemaType::from_iter([Type::String, Type::Null])));
}

fn label_value() -> ObjectBuilder {
    described_text()
        .max_length(Some(LABEL_CHARS_MAX))
        .pattern(Some("^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"))
}

/// A PostgreSQL instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Instance<'a> {
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Unique within the project.
    #[schema(value_type = Name, inline)]
    name: &'a InstanceName,
    /// Free text; tabs and line breaks are allowed, other control characters are not.
    #[schema(value_type = FreeText, inline)]
    description: &'a Description,
    /// The project; the token's, or the default one, if left out. Never changes.
    #[schema(value_type = Id, inline)]
    project_id: Uuid,
    /// Cores of each node.
    #[schema(value_type = Cpu, inline)]
    cpu: u16,
    /// Memory of each node in MB.
    #[schema(value_type = Ram, inline)]
    ram: u32,
    /// Data disk of each node in GB; never shrinks.
    #[schema(value_type = Disk, inline)]
    disk_size: u32,
    /// Nodes, the primary included.
    #[schema(value_type = Nodes, inline)]
    nodes_number: u8,
    /// How many standbys have a commit before it is acknowledged. What runs is at most nodes_number - 1, see
    /// effective_sync_replicas.
    #[schema(value_type = Replicas, inline)]
    sync_replica_number: u8,
    /// A version of the catalogue, not deprecated; the same major version in a change.
    #[schema(value_type = VersionUri, inline)]
    version: String,
    /// Settings of PostgreSQL by name, over what the control plane derives. In a change, those that are not
    /// named stay, and null takes one back. A version's parameters call has all that there are.
    #[schema(value_type = Settings, inline)]
    parameters: &'a Parameters,
    /// What callers call it, to find it by: at most 64. A key is a name as hosts have them, after an optional
    /// domain and a slash. In a change, those that are not named stay, and null removes one.
    #[schema(value_type = LabelMap, inline)]
    labels: &'a Labels,
    /// Deleting it is refused until this is taken back.
    deletion_protection: bool,
    /// Its state.
    #[schema(value_type = State, inline)]
    status: &'static str,
    /// What it is busy with.
    #[schema(value_type = Phase, inline)]
    phase: InstancePhase,
    /// Why it is in that state, and what happens next.
    reason: &'a str,
    /// The same for programs, and what else is so.
    #[schema(inline)]
    conditions: Vec<Condition>,
    /// What to know although all is as asked for: limits that nobody enforces, drift.
    warnings: &'a [String],
    /// How many standbys really have a commit before it is acknowledged. Writes survive the loss of any one
    /// node with at least two nodes more than this.
    #[schema(value_type = EffectiveSyncReplicas, inline)]
    effective_sync_replicas: u8,
    /// IPv4 addresses of its nodes.
    #[schema(value_type = Vec<Ipv4>, inline)]
    ipsv4: BTreeSet<Ipv4Addr>,
    /// Its nodes, in order of creation.
    #[schema(inline)]
    nodes: Vec<NodeSummary<'a>>,
    /// Settings that wait for the restart of a node; nodes are restarted one at a time.
    parameters_pending_restart: &'a [String],
    /// Grows with each change of what is asked for.
    #[schema(value_type = Count, inline)]
    generation: u64,
    /// The generation that the status is about.
    #[schema(value_type = Count, inline)]
    observed_generation: u64,
    /// When it was asked for.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
    /// When what is asked for was last changed.
    #[schema(value_type = Time, inline)]
    updated_at: Timestamp,
}

/// A node; its nodes call has more.
#[derive(Debug, Serialize, ToSchema)]
struct NodeSummary<'a> {
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Its short name within the instance.
    #[schema(value_type = NodeName, inline)]
    name: &'a str,
    /// As last decided.
    #[schema(value_type = Role, inline)]
    role: NodeRole,
    /// Its state.
    #[schema(value_type = State, inline)]
    status: &'static str,
}

described! {
    /// A node's name.
    NodeName: crate::openapi::schemas::text().examples(["n1"]);
}

impl<'a> Instance<'a> {
    pub(crate) fn of(found: &'a view::Instance) -> Self {
        let view::Instance {
            spec, status, nodes, ..
        } = found;
        let summary = |node: &'a view::Node| NodeSummary {
            uuid: node.id.uuid(),
            name: &node.name,
            role: node.role,
            status: node.lifecycle.as_str(),
        };
        Instance {
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
            labels: &spec.labels,
            deletion_protection: spec.deletion_protection,
            status: status.lifecycle.as_str(),
            phase: status.phase,
            reason: &status.reason,
            conditions: conditions::of(&status.conditions),
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

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 3] {
    let all = schema::derived::<Instance>;
    let required = ["name", "cpu", "ram", "disk_size", "version"];
    [
        ("Instance", schema::answer::<Instance>()),
        (
            "InstanceCreate",
            chosen(schema::creation(
                all(),
                "A new instance.",
                &SET_BY_SERVER,
                &required,
            )),
        ),
        (
            "InstanceUpdate",
            schema::change(all(), "Changes of an instance.", &SET_BY_SERVER, &["project_id"]),
        ),
    ]
}

/// The value of a label, or null.
fn label(raw: &RawValue) -> Result<Option<String>, String> {
    match raw.get() {
        "null" => Ok(None),
        _ => text(|text| Ok::<_, String>(Some(text.to_owned())))(raw),
    }
}

/// `key:value` of a filter.
fn label_filter(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once(':')
        .ok_or("must be the key of a label, a colon and its value")?;
    let one: Labels = [(key, value)].into_iter().collect();
    match one.check() {
        Ok(()) => Ok((key.to_owned(), value.to_owned())),
        Err(wrong) => Err(wrong.into_iter().map(|wrong| wrong.rule).collect()),
    }
}

pub(crate) fn create(body: Body<'_>, caller: Caller) -> Result<CreateInstance, Problem> {
    let mut d = Decoder::new("an instance", body);
    let id = d.or_null("uuid", parsed::<InstanceId>);
    let name = d.required("name", parsed::<InstanceName>);
    let description = d.optional("description", parsed::<Description>);
    let project = d.optional("project_id", parsed::<ProjectId>);
    let cpu = d.required("cpu", whole::<CpuCores>);
    let ram = d.required("ram", whole::<RamMb>);
    let disk = d.required("disk_size", whole::<DiskGb>);
    let nodes = d.optional("nodes_number", whole::<NodeCount>);
    let sync_replicas = d.optional("sync_replica_number", whole::<SyncReplicas>);
    let version = d.required("version", text(parse_version));
    not_set(&mut d, &SET_BY_SERVER[1..]);
    let parameters = d.map("parameters", setting);
    let labels = d.map("labels", label);
    let deletion_protection = d.optional("deletion_protection", boolean);
    let own = match caller {
        Caller::Admin => ProjectId::DEFAULT,
        Caller::Project(own) => own,
    };
    let create = d.finish(|| {
        Some(CreateInstance {
            id,
            name: name?,
            description: description.unwrap_or_default(),
            project: project.unwrap_or(own),
            cpu: cpu?,
            ram: ram?,
            disk: disk?,
            nodes: nodes.unwrap_or_default(),
            sync_replicas: sync_replicas.unwrap_or_default(),
            version: version?,
            parameters: parameters
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            labels: labels
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
            deletion_protection: deletion_protection.unwrap_or_default(),
            idempotency_key: None,
        })
    })?;
    if !caller.sees(create.project) {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "project_id is not the project of the token",
        ));
    }
    Ok(create)
}

pub(crate) fn update(body: Body<'_>, present: &Present) -> Result<UpdateInstance, Problem> {
    let mut d = Decoder::new("an instance", body);
    let update = UpdateInstance {
        name: d.optional("name", parsed::<InstanceName>),
        description: d.optional("description", parsed::<Description>),
        cpu: d.optional("cpu", whole::<CpuCores>),
        ram: d.optional("ram", whole::<RamMb>),
        disk: d.optional("disk_size", whole::<DiskGb>),
        nodes: d.optional("nodes_number", whole::<NodeCount>),
        sync_replicas: d.optional("sync_replica_number", whole::<SyncReplicas>),
        version: d.optional("version", text(parse_version)),
        parameters: d.map("parameters", setting),
        labels: d.map("labels", label),
        deletion_protection: d.optional("deletion_protection", boolean),
        expected: None,
    };
    d.unchanged("project_id", present.get("project_id"), PROJECT_IS_FIXED);
    for field in SET_BY_SERVER {
        d.unchanged(field, present.get(field), READ_ONLY);
    }
    d.finish(|| Some(update))
}

/// The parameter `label`.
fn labelled() -> Parameter {
    let (host, value) = (
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        "([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?",
    );
    // A domain may have more parts; how long it is at most no pattern can say.
    let pattern = format!("^({host}(\\.{host}){{0,2}}/)?{host}:{value}$");
    ParameterBuilder::new()
        .name("label")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "Only with this label, as key:value. Given several times: only with all of them.",
        ))
        .schema(Some(
            array(described_text().pattern(Some(pattern)))
                .min_items(Some(1))
                .max_items(Some(FILTER_VALUES_MAX)),
        ))
        .build()
}

/// What a list is filtered by.
pub(crate) struct Filters {
    /// What the control plane filters by.
    pub(crate) known: InstanceFilter,
    /// What it does not.
    pub(crate) rest: Rest,
}

impl Filters {
    pub(crate) fn read(query: &mut Query) -> Self {
        Filters {
            known: InstanceFilter {
                projects: query.many("project_id", filtered::<ProjectId>),
                names: query.many("name", filtered),
                versions: query.many("version", parse_version),
                lifecycles: query.many("status", |text| one_of(text, &LIFECYCLES)),
                labels: query.many("label", label_filter),
            },
            rest: Rest::read(query),
        }
    }

    /// The parameters of the call.
    pub(crate) fn described() -> Vec<Parameter> {
        vec![
            filter("uuid", uuid()),
            filter("name", instance_name()),
            filter("description", description_text()),
            filter("project_id", uuid()),
            filter("status", words(LIFECYCLES.map(|(word, _)| word))),
            filter("phase", words(PHASES.map(|(word, _)| word))),
            filter("version", version_reference()),
            number_filter("cpu"),
            number_filter("ram"),
            number_filter("disk_size"),
            number_filter("nodes_number"),
            number_filter("sync_replica_number"),
            labelled(),
        ]
    }
}

/// Filters by what the control plane does not filter by itself.
#[derive(Default)]
pub(crate) struct Rest {
    ids: Vec<InstanceId>,
    descriptions: Vec<Description>,
    phases: Vec<InstancePhase>,
    cpus: Vec<usize>,
    rams: Vec<usize>,
    disks: Vec<usize>,
    nodes: Vec<usize>,
    sync_replicas: Vec<usize>,
}

impl Rest {
    fn read(query: &mut Query) -> Self {
        let number = |text: &str| whole_in(text, 0..=999_999_999);
        Rest {
            ids: query.many("uuid", filtered),
            descriptions: query.many("description", filtered),
            phases: query.many("phase", |text| one_of(text, &PHASES)),
            cpus: query.many("cpu", number),
            rams: query.many("ram", number),
            disks: query.many("disk_size", number),
            nodes: query.many("nodes_number", number),
            sync_replicas: query.many("sync_replica_number", number),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.descriptions.is_empty()
            && self.phases.is_empty()
            && [
                &self.cpus,
                &self.rams,
                &self.disks,
                &self.nodes,
                &self.sync_replicas,
            ]
            .iter()
            .all(|f| f.is_empty())
    }

    pub(crate) fn keep(&self, found: &view::Instance) -> bool {
        let spec = &found.spec;
        any_of(&self.ids, &found.id)
            && any_of(&self.descriptions, &spec.description)
            && any_of(&self.phases, &found.status.phase)
            && any_of(&self.cpus, &spec.resources.cpu.get().into())
            && any_of(&self.rams, &(spec.resources.ram.get() as usize))
            && any_of(&self.disks, &(spec.resources.disk.get() as usize))
            && any_of(&self.nodes, &spec.nodes.get().into())
            && any_of(&self.sync_replicas, &spec.sync_replicas.get().into())
    }
}
