//! Pure core of a managed PostgreSQL control plane.
//!
//! Nothing in this crate reads a clock, opens a socket or a file, or draws a random number: all of that comes
//! in as arguments.

pub mod access;
pub mod boot;
pub mod boot_output;
pub mod boot_plan;
pub mod cluster;
pub mod command;
pub mod condition;
pub mod config;
pub mod connection;
pub mod control_file;
pub mod database;
pub mod detector;
mod endpoint;
pub mod extension;
pub mod field_error;
pub mod id;
pub mod infrastructure;
mod infrastructure_error;
pub mod instance;
pub mod kinds;
pub mod lifecycle;
pub mod limits;
pub mod name;
pub mod node;
pub mod object_change;
pub mod observation;
pub mod parameters;
pub mod password;
pub mod patience;
pub mod plan;
pub mod reason;
pub mod redact;
pub mod repair;
pub mod scram;
pub mod secret;
pub mod size;
pub mod sql;
pub mod sql_executor;
pub mod steady;
pub mod store;
pub mod time;
pub mod uri;
pub mod user;
pub mod version;
