//! Bodies of requests as what the control plane takes. Everything that a field alone can get wrong is found here, and all of it at once.

use dbaas_controller::request::{
    CreateDatabase, CreateInstance, CreateUser, CreateVersion, InstanceAction, UpdateDatabase,
    UpdateInstance, UpdateUser, UpdateVersion,
};
use dbaas_core::access::{AccessEntry, AccessLevel};
use dbaas_core::extension::ExtensionName;
use dbaas_core::id::{DatabaseId, InstanceId, NodeId, ProjectId, UserId};
use dbaas_core::limits;
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::password::Password;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, PasswordVersion, RamMb, SyncReplicas};
use dbaas_core::version::ImageRef;
use serde_json::{Map, Value};

use crate::access::Caller;
use crate::decode::{Decoder, Object, boolean, parsed, setting, text, whole};
use crate::problem::{Problem, ProblemKind};
use crate::reference::{parse_instance, parse_user, parse_version};

/// What an answer says of itself; a creation cannot have it.
const SET_BY_SERVER: &str = "is set by the server; leave it out";
/// The same in a change, where repeating the present value is fine.
const READ_ONLY: &str = "is read-only and differs from the present value; leave it out";
const NAME_IS_FIXED: &str = "cannot be changed; to have another name, create another one and move the data";
const PROJECT_IS_FIXED: &str = "cannot be changed; an instance stays in its project";
const IMAGE_IS_FIXED: &str = "cannot be changed; add another version and deprecate this one";

/// Fields of an instance's answer that nobody sets; the first may be chosen at creation.
pub(crate) const INSTANCE_READ_ONLY: [&str; 13] = [
    "uuid",
    "status",
    "phase",
    "reason",
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
/// Fields of a database's or user's answer that nobody sets; the first may be chosen at creation.
pub(crate) const OBJECT_READ_ONLY: [&str; 8] = [
    "uuid",
    "status",
    "phase",
    "reason",
    "repair",
    "deleting",
    "created_at",
    "updated_at",
];
/// The same of a database's answer besides.
pub(crate) const DATABASE_READ_ONLY: &str = "extension_status";
/// Fields of a version's answer that nobody sets.
pub(crate) const VERSION_READ_ONLY: [&str; 3] = ["uuid", "created_at", "updated_at"];

/// What a field that nobody sets may be in a creation besides null: the value that the original's clients send by default.
const DEFAULTS: [(&str, &str); 6] = [
    ("extension_status", "[]"),
    ("status", "\"NEW\""),
    ("ipsv4", "[]"),
    ("nodes", "[]"),
    ("warnings", "[]"),
    ("deleting", "false"),
];

/// The instance that a user or a database is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) instance: InstanceId,
    pub(crate) project: ProjectId,
}

impl Parent {
    /// `project_id` and `instance`, which the path says already.
    fn repeated(self, d: &mut Decoder<'_>) {
        d.equal(
            "project_id",
            parsed,
            self.project,
            "is not the project of the instance",
        );
        let rule = "is not the instance in the path";
        d.equal("instance", text(parse_instance), self.instance, rule);
    }
}

/// Fields that a creation cannot set.
fn not_set(d: &mut Decoder<'_>, fields: &[&'static str]) {
    for field in fields {
        let default = DEFAULTS.iter().find(|(name, _)| name == field);
        d.refused(field, default.map(|(_, json)| *json), SET_BY_SERVER);
    }
}

/// The present resource as its answer shows it, for the fields that a change may repeat.
pub(crate) type Present = Map<String, Value>;

pub(crate) fn create_instance(object: Object<'_>, caller: Caller) -> Result<CreateInstance, Problem> {
    let mut d = Decoder::new("an instance", object);
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
    not_set(&mut d, &INSTANCE_READ_ONLY[1..]);
    let parameters = d.map("parameters", setting);
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

pub(crate) fn update_instance(object: Object<'_>, present: &Present) -> Result<UpdateInstance, Problem> {
    let mut d = Decoder::new("an instance", object);
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
        expected: None,
    };
    d.unchanged("project_id", present.get("project_id"), PROJECT_IS_FIXED);
    INSTANCE_READ_ONLY
        .iter()
        .for_each(|field| d.unchanged(field, present.get(*field), READ_ONLY));
    d.finish(|| Some(update))
}

pub(crate) fn create_database(object: Object<'_>, parent: Parent) -> Result<CreateDatabase, Problem> {
    let mut d = Decoder::new("a database", object);
    let id = d.or_null("uuid", parsed::<DatabaseId>);
    let name = d.required("name", parsed::<DatabaseName>);
    let description = d.optional("description", parsed::<Description>);
    let owner = d.required("owner", text(|uri| parse_user(uri, parent.instance)));
    let access = access(&mut d, parent.instance);
    let extensions = extensions(&mut d);
    parent.repeated(&mut d);
    not_set(&mut d, &OBJECT_READ_ONLY[1..]);
    not_set(&mut d, &[DATABASE_READ_ONLY]);
    d.finish(|| {
        Some(CreateDatabase {
            id,
            name: name?,
            description: description.unwrap_or_default(),
            owner: owner?,
            access: access.unwrap_or_default(),
            extensions: extensions.unwrap_or_default(),
            idempotency_key: None,
        })
    })
}

fn access(d: &mut Decoder<'_>, instance: InstanceId) -> Option<Vec<AccessEntry>> {
    d.optional_list("access", limits::ACCESS_ENTRIES_MAX, "an access entry", |d| {
        let user = d.required("user", text(|uri| parse_user(uri, instance)));
        let level = d.required("level", parsed::<AccessLevel>);
        Some(AccessEntry {
            user: user?,
            level: level?,
        })
    })
}

fn extensions(d: &mut Decoder<'_>) -> Option<Vec<ExtensionName>> {
    d.values("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>)
}

pub(crate) fn update_database(
    object: Object<'_>,
    parent: Parent,
    present: &Present,
) -> Result<UpdateDatabase, Problem> {
    let mut d = Decoder::new("a database", object);
    d.unchanged("name", present.get("name"), NAME_IS_FIXED);
    let update = UpdateDatabase {
        description: d.optional("description", parsed::<Description>),
        owner: d.optional("owner", text(|uri| parse_user(uri, parent.instance))),
        access: access(&mut d, parent.instance),
        extensions: extensions(&mut d),
        expected: None,
    };
    d.unchanged(DATABASE_READ_ONLY, present.get(DATABASE_READ_ONLY), READ_ONLY);
    parent.repeated(&mut d);
    OBJECT_READ_ONLY
        .iter()
        .for_each(|field| d.unchanged(field, present.get(*field), READ_ONLY));
    d.finish(|| Some(update))
}

pub(crate) fn create_user(object: Object<'_>, parent: Parent) -> Result<CreateUser, Problem> {
    let mut d = Decoder::new("a user", object);
    let id = d.or_null("uuid", parsed::<UserId>);
    let name = d.required("name", parsed::<UserName>);
    let description = d.optional("description", parsed::<Description>);
    let password = d.required("password", parsed::<Password>);
    let password_version = d.optional("password_version", whole::<PasswordVersion>);
    parent.repeated(&mut d);
    not_set(&mut d, &OBJECT_READ_ONLY[1..]);
    d.finish(|| {
        Some(CreateUser {
            id,
            name: name?,
            description: description.unwrap_or_default(),
            password: password?,
            password_version: password_version.unwrap_or_default(),
            idempotency_key: None,
        })
    })
}

pub(crate) fn update_user(
    object: Object<'_>,
    parent: Parent,
    present: &Present,
) -> Result<UpdateUser, Problem> {
    let mut d = Decoder::new("a user", object);
    d.unchanged("name", present.get("name"), NAME_IS_FIXED);
    let update = UpdateUser {
        description: d.optional("description", parsed::<Description>),
        password: d.optional("password", parsed::<Password>),
        password_version: d.optional("password_version", whole::<PasswordVersion>),
        expected: None,
    };
    parent.repeated(&mut d);
    OBJECT_READ_ONLY
        .iter()
        .for_each(|field| d.unchanged(field, present.get(*field), READ_ONLY));
    d.finish(|| Some(update))
}

pub(crate) fn create_version(object: Object<'_>) -> Result<CreateVersion, Problem> {
    let mut d = Decoder::new("a version", object);
    let name = d.required("name", parsed::<InstanceName>);
    let description = d.optional("description", parsed::<Description>);
    let image = d.required("image", parsed::<ImageRef>);
    let deprecated = d.optional("deprecated", boolean);
    let extensions = d.values_or_null("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>);
    not_set(&mut d, &VERSION_READ_ONLY);
    d.finish(|| {
        Some(CreateVersion {
            name: name?,
            description: description.unwrap_or_default(),
            image: image?,
            deprecated: deprecated.unwrap_or_default(),
            extensions: extensions.flatten(),
            idempotency_key: None,
        })
    })
}

pub(crate) fn update_version(object: Object<'_>, present: &Present) -> Result<UpdateVersion, Problem> {
    let mut d = Decoder::new("a version", object);
    let update = UpdateVersion {
        name: d.optional("name", parsed::<InstanceName>),
        description: d.optional("description", parsed::<Description>),
        deprecated: d.optional("deprecated", boolean),
        extensions: d.values_or_null("extensions", limits::EXTENSIONS_MAX, parsed::<ExtensionName>),
        expected: None,
    };
    d.unchanged("image", present.get("image"), IMAGE_IS_FIXED);
    VERSION_READ_ONLY
        .iter()
        .for_each(|field| d.unchanged(field, present.get(*field), READ_ONLY));
    d.finish(|| Some(update))
}

/// The actions by the name in their path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionName {
    Switchover,
    Failover,
    Restart,
    Start,
    Stop,
}

pub(crate) fn action(name: ActionName, object: Object<'_>) -> Result<InstanceAction, Problem> {
    let mut d = Decoder::new("this action", object);
    match name {
        ActionName::Switchover => {
            let to = d.optional("to", parsed::<NodeId>);
            d.finish(|| Some(InstanceAction::Switchover { to }))
        }
        ActionName::Failover => {
            let allowed = d.optional("allow_data_loss", boolean);
            d.finish(|| {
                Some(InstanceAction::Failover {
                    allow_data_loss: allowed.unwrap_or_default(),
                })
            })
        }
        ActionName::Restart => d.finish(|| Some(InstanceAction::Restart)),
        ActionName::Start => d.finish(|| Some(InstanceAction::Start)),
        ActionName::Stop => d.finish(|| Some(InstanceAction::Stop)),
    }
}

/// The body of an action that takes nothing.
pub(crate) fn nothing(object: Object<'_>) -> Result<(), Problem> {
    Decoder::new("this action", object).finish(|| Some(()))
}

/// Decodes a body as one of the requests, for fuzzing: what nobody else needs is the result.
pub fn decode_for_fuzzing(which: u8, body: &[u8]) -> Result<(), Problem> {
    let object = Object::parse(body)?;
    let instance = InstanceId::from_uuid(uuid::Uuid::nil());
    let project = ProjectId::DEFAULT;
    let parent = Parent { instance, project };
    let present = Present::from_iter([("uuid".to_owned(), Value::String(uuid::Uuid::nil().to_string()))]);
    match which % 10 {
        0 => create_instance(object, Caller::Admin).map(drop),
        1 => update_instance(object, &present).map(drop),
        2 => create_database(object, parent).map(drop),
        3 => update_database(object, parent, &present).map(drop),
        4 => create_user(object, parent).map(drop),
        5 => update_user(object, parent, &present).map(drop),
        6 => create_version(object).map(drop),
        7 => update_version(object, &present).map(drop),
        8 => action(ActionName::Switchover, object).map(drop),
        _ => action(ActionName::Failover, object).map(drop),
    }
}
