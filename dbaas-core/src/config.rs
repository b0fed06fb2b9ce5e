//! Rendering, and reading back, of what configures a node: `postgresql.conf` ([`Settings`]),
//! `postgresql.auto.conf` ([`AutoConf`]), `pg_hba.conf` ([`HbaRules`]), `primary_conninfo`
//! ([`PrimaryConninfo`]) and its password file ([`PgpassEntry`]), `synchronous_standby_names`
//! ([`sync_names`]).
//!
//! # Who owns which file
//! * `postgresql.conf` and `pg_hba.conf` ([`Configuration`]) follow from the instance's spec; they are
//!   written at each start, and while the node runs by [`reconfigure`](crate::command::reconfigure).
//! * `postgresql.auto.conf` holds the node's part in the failover protocol (epoch, whom it follows, whom it
//!   waits for). It wins over `postgresql.conf`. It is rewritten at each start and by `ALTER SYSTEM` while
//!   the node runs.
//! * `postgresql.conf` listens nowhere. A server that something else starts from the same directory does not
//!   even start, because PostgreSQL refuses to run without a socket; the backend opens it on the command
//!   line.
//!
//! # Settings of our own
//! PostgreSQL keeps a setting whose name has a prefix that it does not know. `dbaas.config_hash` tells which
//! [`Configuration`] a running server has read, `dbaas.epoch` the epoch that the node was put into last.

mod auto_conf;
mod conf_file;
mod configuration;
mod conninfo;
mod hba;
mod pgpass;
mod settings;
mod sync;

pub use auto_conf::AutoConf;
pub use conf_file::{InvalidConfLine, InvalidSetting, Setting, parse_conf, quote_conf_value, render_setting};
pub use configuration::Configuration;
pub use conninfo::{InvalidConninfo, PrimaryConninfo, parse_conninfo, quote_conninfo_value};
pub use hba::{Cidr, HbaRules, InvalidCidr};
pub use pgpass::{InvalidPgpassEntry, PgpassEntry};
pub use settings::{HOT_STANDBY_FLOOR_SETTINGS, Settings, hot_standby_floor, is_restart_setting};
pub use sync::{parse_sync_names, sync_names};

/// The setting that holds the node's epoch.
pub const EPOCH_SETTING: &str = "dbaas.epoch";
/// The setting that holds the number of the base backup that a node was built from.
pub const REBUILD_SETTING: &str = "dbaas.rebuild";
/// The setting that holds [`Configuration::hash`].
pub const CONFIG_HASH_SETTING: &str = "dbaas.config_hash";
/// The setting that says that a running server was given a new configuration: some of it may wait for a
/// restart.
pub const RECONFIGURED_SETTING: &str = "dbaas.reconfigured";
/// Name of the file that [`Settings::render`] is for.
pub const POSTGRESQL_CONF: &str = "postgresql.conf";
/// Name of the file that [`AutoConf::render`] is for.
pub const POSTGRESQL_AUTO_CONF: &str = "postgresql.auto.conf";
/// Name of the file that [`HbaRules::render`] is for.
pub const PG_HBA_CONF: &str = "pg_hba.conf";
