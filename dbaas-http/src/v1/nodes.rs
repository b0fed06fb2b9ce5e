//! Nodes of an instance, and how clients reach them.

use dbaas_controller::view;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::node::NodeRole;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use uuid::Uuid;

use super::conditions::{self, Condition};
use super::schema;
use super::types::{Count, Id, Port, Role, State, Time};

/// A node of an instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Node<'a> {
    /// Which one.
    #[schema(value_type = Id, inline)]
    uuid: Uuid,
    /// Its short name within the instance.
    name: &'a str,
    /// As last decided.
    #[schema(value_type = Role, inline)]
    role: NodeRole,
    /// A commit waits for it.
    sync: bool,
    /// Its state.
    #[schema(value_type = State, inline)]
    status: &'static str,
    /// Why it is in that state, and what happens next.
    reason: &'a str,
    /// The same for programs, and what else is so.
    #[schema(inline)]
    conditions: Vec<Condition>,
    /// It is being removed.
    leaving: bool,
    /// Where it listens.
    host: Option<&'a str>,
    /// Where it listens.
    #[schema(value_type = Option<Port>, inline)]
    port: Option<u16>,
    /// WAL that it is behind the primary; null where that is not known.
    #[schema(value_type = Option<Count>, inline)]
    lag_bytes: Option<u64>,
    /// Free on its data disk; null where that is not known.
    #[schema(value_type = Option<Count>, inline)]
    disk_free_bytes: Option<u64>,
    /// What an operator looks for: a process id, a container id, a domain name.
    backend_ref: Option<&'a str>,
    /// When it was decided on.
    #[schema(value_type = Time, inline)]
    created_at: Timestamp,
}

impl<'a> Node<'a> {
    pub(crate) fn of(node: &'a view::Node) -> Self {
        Node {
            uuid: node.id.uuid(),
            name: &node.name,
            role: node.role,
            sync: node.sync,
            status: node.lifecycle.as_str(),
            reason: &node.reason,
            conditions: conditions::of(&node.conditions),
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

/// How to connect. There is never a password in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connection {
    /// For libpq: whichever node is the primary; null while there is no node
    pub(crate) uri: Option<String>,
    /// For libpq (14 and newer): a standby where there is one; null while there is no node
    pub(crate) read_only_uri: Option<String>,
    /// For JDBC: whichever node is the primary; null while there is no node
    pub(crate) jdbc_url: Option<String>,
    /// For JDBC: a standby where there is one; null while there is no node
    pub(crate) read_only_jdbc_url: Option<String>,
    /// Where the primary is; null while there is none.
    #[schema(value_type = Option<Place>, inline)]
    pub(crate) primary: Option<Endpoint>,
    /// Every node, the primary first.
    #[schema(value_type = Vec<Place>, inline)]
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: an endpoint serialises so")]
struct Place {
    /// Name or address.
    host: String,
    /// TCP port.
    #[schema(value_type = Port, inline)]
    port: u16,
}

/// The schemas, by name.
pub(crate) fn schemas() -> [(&'static str, Object); 2] {
    [
        ("Node", schema::answer::<Node>()),
        ("Connection", schema::answer::<Connection>()),
    ]
}
