//! The kinds of resources that a manifest may declare, their fields, and the rules of each.

use std::fmt;

use dbaas_core::access::AccessLevel;
use dbaas_core::extension::ExtensionName;
use dbaas_core::id::ProjectId;
use dbaas_core::instance::Labels;
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::password::Password;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_core::uri::{InstanceRef, UserRef, VersionRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::limits;

/// What a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collection {
    /// A value that manifests refer to.
    Variables,
    /// A password, generated or given.
    Passwords,
    /// An instance of PostgreSQL.
    Instances,
    /// A user of an instance.
    Users,
    /// A database of an instance.
    Databases,
    /// A rendered text.
    Configs,
}

/// The instance that a user or database is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// Of the same manifest.
    Declared(String),
    /// Of another element: the name of the import.
    Imported(String),
}

/// Which resource of an element: applying a manifest again finds it by this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What it is.
    pub collection: Collection,
    /// For users and databases.
    pub parent: Option<Parent>,
    /// Its name in the manifest.
    pub name: String,
}

impl Collection {
    /// All of them.
    pub const ALL: [Collection; 6] = [
        Collection::Variables,
        Collection::Passwords,
        Collection::Instances,
        Collection::Users,
        Collection::Databases,
        Collection::Configs,
    ];

    /// Its path; of users and databases, what follows the instance.
    pub const fn path(self) -> &'static str {
        match self {
            Collection::Variables => "$core.vs.variables",
            Collection::Passwords => "$core.secret.passwords",
            Collection::Instances => "$dbaas.types.postgres.instances",
            Collection::Users => "users",
            Collection::Databases => "databases",
            Collection::Configs => "$core.config.configs",
        }
    }

    /// One of it, in words.
    pub const fn what(self) -> &'static str {
        match self {
            Collection::Variables => "variable",
            Collection::Passwords => "password",
            Collection::Instances => "instance",
            Collection::Users => "user",
            Collection::Databases => "database",
            Collection::Configs => "config",
        }
    }

    /// Whether it holds data that is lost with it.
    pub const fn holds_data(self) -> bool {
        matches!(self, Collection::Instances | Collection::Databases)
    }

    /// What a manifest may say about it.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Collection::Variables => VARIABLE,
            Collection::Passwords => PASSWORD,
            Collection::Instances => INSTANCE,
            Collection::Users => USER,
            Collection::Databases => DATABASE,
            Collection::Configs => CONFIG,
        }
    }

    /// The rule of a field.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// Fields that are read only: known when the resource is there.
    pub const fn computed(self) -> &'static [&'static str] {
        match self {
            Collection::Variables => &["uuid", "created_at", "updated_at"],
            Collection::Passwords => &["uuid", "value", "created_at", "updated_at"],
            Collection::Instances => &[
                "uuid",
                "ipsv4",
                "endpoints",
                "port",
                "connection_uri",
                "status",
                "created_at",
                "updated_at",
            ],
            Collection::Users | Collection::Databases => &["uuid", "status", "created_at", "updated_at"],
            Collection::Configs => &["uuid", "content", "created_at", "updated_at"],
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parent {
            None => write!(f, "{}", self.collection.path())?,
            Some(Parent::Declared(name)) => {
                write!(
                    f,
                    "{}.${name}.{}",
                    Collection::Instances.path(),
                    self.collection.path()
                )?;
            }
            Some(Parent::Imported(name)) => write!(f, "imports.${name}.{}", self.collection.path())?,
        }
        write!(f, ".${}", self.name)
    }
}

/// A field, and the rule of its value.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether there is no resource without it.
    pub is_required: bool,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// The value in the one form that values are compared in, or the rule that it breaks.
    pub rule: fn(&Json) -> Result<Json, String>,
}

const fn required(name: &'static str, rule: fn(&Json) -> Result<Json, String>) -> Field {
    Field {
        name,
        is_required: true,
        is_secret: false,
        rule,
    }
}

const fn optional(name: &'static str, rule: fn(&Json) -> Result<Json, String>) -> Field {
    Field {
        name,
        is_required: false,
        is_secret: false,
        rule,
    }
}

const VARIABLE: &[Field] = &[
    optional("name", name),
    optional("description", description),
    optional("project_id", project),
    required("value", anything),
];
const PASSWORD: &[Field] = &[
    optional("name", name),
    optional("description", description),
    optional("project_id", project),
    optional("method", method),
    optional("default_length", length),
    optional("rotation", rotation),
    optional("constructor", constructor),
    Field {
        name: "value",
        is_required: false,
        is_secret: true,
        rule: any_text,
    },
];
const INSTANCE: &[Field] = &[
    required("name", name),
    optional("description", description),
    optional("project_id", project),
    required("cpu", size::<CpuCores>),
    required("ram", size::<RamMb>),
    required("disk_size", size::<DiskGb>),
    optional("nodes_number", size::<NodeCount>),
    optional("sync_replica_number", size::<SyncReplicas>),
    required("version", version),
    optional("parameters", parameters),
    optional("labels", labels),
    optional("deletion_protection", flag),
];
const USER: &[Field] = &[
    required("name", user_name),
    optional("description", description),
    optional("project_id", project),
    optional("instance", instance),
    Field {
        name: "password",
        is_required: true,
        is_secret: true,
        rule: password,
    },
];
const DATABASE: &[Field] = &[
    required("name", database_name),
    optional("description", description),
    optional("project_id", project),
    optional("instance", instance),
    required("owner", owner),
    optional("access", access),
    optional("extensions", extensions),
    optional("deletion_protection", flag),
];
const CONFIG: &[Field] = &[
    optional("name", name),
    optional("description", description),
    optional("project_id", project),
    optional("path", any_text),
    optional("mode", mode),
    optional("owner", any_text),
    optional("group", any_text),
    optional("target", anything),
    optional("on_change", on_change),
    required("body", body),
];

fn text(value: &Json) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be text".to_owned())
}

fn checked<T: std::str::FromStr<Err: fmt::Display>>(value: &Json) -> Result<Json, String> {
    let text = text(value)?;
    match text.parse::<T>() {
        Ok(_) => Ok(Json::from(text)),
        Err(error) => Err(error.to_string()),
    }
}

fn name(value: &Json) -> Result<Json, String> {
    checked::<InstanceName>(value)
}

fn user_name(value: &Json) -> Result<Json, String> {
    checked::<UserName>(value)
}

fn database_name(value: &Json) -> Result<Json, String> {
    checked::<DatabaseName>(value)
}

fn description(value: &Json) -> Result<Json, String> {
    checked::<Description>(value)
}

fn project(value: &Json) -> Result<Json, String> {
    let id: ProjectId = text(value)?
        .to_ascii_lowercase()
        .parse()
        .map_err(|error: dbaas_core::id::InvalidId| error.to_string())?;
    Ok(Json::from(id.to_string()))
}

fn anything(value: &Json) -> Result<Json, String> {
    match value {
        Json::Null => Err("must not be nothing".to_owned()),
        value => Ok(value.clone()),
    }
}

fn any_text(value: &Json) -> Result<Json, String> {
    text(value).map(Json::from)
}

fn size<T: TryFrom<i64, Error: fmt::Display>>(value: &Json) -> Result<Json, String> {
    let number = value.as_i64().ok_or("must be a whole number")?;
    match T::try_from(number) {
        Ok(_) => Ok(Json::from(number)),
        Err(error) => Err(error.to_string()),
    }
}

fn version(value: &Json) -> Result<Json, String> {
    let found: VersionRef = text(value)?
        .parse()
        .map_err(|error: dbaas_core::uri::InvalidReference| error.to_string())?;
    Ok(Json::from(found.0.to_string()))
}

fn instance(value: &Json) -> Result<Json, String> {
    let found: InstanceRef = text(value)?
        .parse()
        .map_err(|error: dbaas_core::uri::InvalidReference| error.to_string())?;
    Ok(Json::from(found.0.to_string()))
}

fn owner(value: &Json) -> Result<Json, String> {
    let found: UserRef = text(value)?
        .parse()
        .map_err(|error: dbaas_core::uri::InvalidReference| error.to_string())?;
    Ok(Json::from(found.id.to_string()))
}

/// PostgreSQL's settings: names in lower case, values as text. Whether a version takes them, the version
/// says.
fn parameters(value: &Json) -> Result<Json, String> {
    let said = value
        .as_object()
        .ok_or("must be a map of PostgreSQL's settings, such as {work_mem: 64MB}")?;
    let mut settings = serde_json::Map::new();
    for (name, value) in said {
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(true) => "on".to_owned(),
            Json::Bool(false) => "off".to_owned(),
            _ => return Err(format!("{name} must be text, a number, true or false")),
        };
        let name = name.to_ascii_lowercase();
        if settings.contains_key(&name) {
            return Err(format!(
                "{name} is there twice: PostgreSQL does not tell cases apart"
            ));
        }
        settings.insert(name, Json::String(text));
    }
    Ok(Json::Object(settings))
}

fn flag(value: &Json) -> Result<Json, String> {
    match value {
        Json::Bool(_) => Ok(value.clone()),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Keys and values of labels.
fn labels(value: &Json) -> Result<Json, String> {
    let said = value
        .as_object()
        .ok_or("must be a map of labels, such as {team: shop}")?;
    let labels: Result<Labels, String> = said
        .iter()
        .map(|(key, value)| {
            Ok((
                key.as_str(),
                text(value).map_err(|rule| format!("{key}: {rule}"))?,
            ))
        })
        .collect();
    let labels = labels?;
    match labels.check() {
        Ok(()) => Ok(json!(labels)),
        Err(wrong) => {
            let rules: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            Err(rules.join("; "))
        }
    }
}

/// `[{user, level}, …]`, in the order of the users: the order says nothing.
fn access(value: &Json) -> Result<Json, String> {
    let said = value.as_array().ok_or("must be a list of {user, level}")?;
    let most = dbaas_core::limits::ACCESS_ENTRIES_MAX;
    if said.len() > most {
        return Err(format!("names at most {most} users, not {}", said.len()));
    }
    let mut entries = std::collections::BTreeMap::new();
    for (index, entry) in said.iter().enumerate() {
        let wrong = |rule: String| format!("entry {}: {rule}", index + 1);
        let fields = entry
            .as_object()
            .ok_or_else(|| wrong("must be a map with user and level".to_owned()))?;
        if let Some(unknown) = fields
            .keys()
            .find(|name| !["user", "level"].contains(&name.as_str()))
        {
            return Err(wrong(format!("has no field \"{unknown}\"")));
        }
        let field = |name: &str| {
            fields
                .get(name)
                .ok_or_else(|| wrong(format!("{name} is missing")))
        };
        let user = owner(field("user")?).map_err(|rule| wrong(format!("user {rule}")))?;
        let level = checked::<AccessLevel>(field("level")?).map_err(|rule| wrong(format!("level {rule}")))?;
        if entries.insert(user.to_string(), (user, level)).is_some() {
            return Err(wrong("names a user that an entry before it names".to_owned()));
        }
    }
    let listed = entries
        .into_values()
        .map(|(user, level)| json!({"user": user, "level": level}));
    Ok(Json::Array(listed.collect()))
}

/// Names, in their order: the order says nothing.
fn extensions(value: &Json) -> Result<Json, String> {
    let said = value.as_array().ok_or("must be a list of names of extensions")?;
    let most = dbaas_core::limits::EXTENSIONS_MAX;
    if said.len() > most {
        return Err(format!("names at most {most} extensions, not {}", said.len()));
    }
    let mut names = std::collections::BTreeSet::new();
    for (index, name) in said.iter().enumerate() {
        checked::<ExtensionName>(name).map_err(|rule| format!("entry {}: {rule}", index + 1))?;
        if !names.insert(text(name)?) {
            return Err(format!("entry {}: is there twice", index + 1));
        }
    }
    Ok(json!(names))
}

fn password(value: &Json) -> Result<Json, String> {
    // Says nothing of the password but the position of a character.
    Password::new(text(value)?).map_err(|error| error.to_string())?;
    Ok(value.clone())
}

fn one_of(value: &Json, known: &[&str]) -> Result<Json, String> {
    match known.contains(&text(value)?) {
        true => Ok(value.clone()),
        false => Err(format!("must be one of {}", known.join(", "))),
    }
}

fn method(value: &Json) -> Result<Json, String> {
    one_of(value, &["AUTO_HEX", "AUTO_URL_SAFE", "MANUAL"])
}

fn length(value: &Json) -> Result<Json, String> {
    let (least, most) = (limits::PASSWORD_LENGTH.start(), limits::PASSWORD_LENGTH.end());
    match value
        .as_u64()
        .filter(|length| limits::PASSWORD_LENGTH.contains(length))
    {
        Some(length) => Ok(Json::from(length)),
        None => Err(format!("must be a whole number between {least} and {most}")),
    }
}

fn rotation(value: &Json) -> Result<Json, String> {
    let number = value.as_u64().ok_or("must be a whole number, 0 or more")?;
    Ok(Json::from(number))
}

fn constructor(value: &Json) -> Result<Json, String> {
    match *value == json!({"kind": "plain"}) {
        true => Ok(value.clone()),
        false => Err("the only one that is known is {kind: plain}".to_owned()),
    }
}

fn on_change(value: &Json) -> Result<Json, String> {
    match *value == json!({"kind": "no_action"}) {
        true => Ok(value.clone()),
        false => {
            Err("the only one that is known is {kind: no_action}: nothing of ours runs on nodes".to_owned())
        }
    }
}

fn mode(value: &Json) -> Result<Json, String> {
    let spelled = match value {
        Json::Number(number) => number.to_string(),
        value => text(value)?.to_owned(),
    };
    let is_mode = (3..=4).contains(&spelled.len()) && spelled.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match is_mode {
        true => Ok(Json::from(format!("{spelled:0>4}"))),
        false => Err("must be three or four octal digits, such as 0644".to_owned()),
    }
}

/// `{kind: text, content}` or `{kind: template, template, variables}`.
fn body(value: &Json) -> Result<Json, String> {
    let fields = value
        .as_object()
        .ok_or("must be a map with kind, and content or template")?;
    let known: &[&str] = match fields.get("kind").and_then(Json::as_str) {
        Some("text") => &["kind", "content"],
        Some("template") => &["kind", "template", "variables"],
        _ => return Err("kind must be text or template".to_owned()),
    };
    if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(format!("has no field \"{unknown}\""));
    }
    match fields.get(known[1]) {
        Some(Json::String(_)) => {}
        Some(_) => return Err(format!("{} must be text", known[1])),
        None => return Err(format!("needs {}", known[1])),
    }
    match fields.get("variables") {
        None | Some(Json::Object(_)) => Ok(value.clone()),
        Some(_) => Err("variables must be a map".to_owned()),
    }
}
