//! Pure core of a managed PostgreSQL control plane.
//!
//! Nothing in this crate reads a clock, opens a socket or a file, or draws a random number: all of that comes in as arguments.

pub mod store;
pub mod time;
pub mod boot;
pub mod cluster;
pub mod id;
pub mod infrastructure;
pub mod secret;
pub mod sql;
pub mod sql_executor;
pub mod limits;
pub mod name;
pub mod password;
pub mod scram;
pub mod size;
pub mod version;
pub mod database;
pub mod instance;
pub mod lifecycle;
pub mod node;
pub mod user;
pub mod observation;
pub mod config;
pub mod command;
pub mod boot_plan;
pub mod plan;
pub mod uri;
pub mod connection;
