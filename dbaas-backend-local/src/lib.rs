//! PostgreSQL nodes as processes and data directories of this machine: the embedded default
//! [`Infrastructure`].
//!
//! * Server processes outlive the program that embeds this: a [`LocalBackend`] that is opened on the same
//!   data directory later adopts what runs. Nothing stops them but [`Infrastructure::power_off`] and
//!   [`LocalBackend::stop_all`]. (A service manager must be told: systemd ends them with its own unless the
//!   unit says `KillMode=process`.)
//! * As root, PostgreSQL runs as an unprivileged user, never as root.
//! * Every process that this crate starts is found again by its working directory, and killed by pidfd: a pid
//!   that was given to another process can hit nobody.
//! * Linux only (5.4 or newer): it rests on `/proc` and pidfd.
//!
//! ```no_run
//! use dbaas_backend_local::{LocalBackend, LocalOptions};
//! use dbaas_core::infrastructure::Infrastructure;
//!
//! # async fn example() -> Result<(), dbaas_core::infrastructure::InfraError> {
//! let backend = LocalBackend::open("/var/lib/dbaas".as_ref(), LocalOptions::default())?;
//! for version in backend.versions().await? {
//!     println!("{} from {}", version.version, version.source);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Infrastructure`]: dbaas_core::infrastructure::Infrastructure
//! [`Infrastructure::power_off`]: dbaas_core::infrastructure::Infrastructure::power_off

mod account;
mod adopt;
mod apply;
mod backend;
mod cgroup;
mod changes;
mod clients;
mod command;
mod discovery;
mod errors;
mod fetch;
mod files;
mod identity;
mod infrastructure;
mod initdb;
mod installed;
mod node;
mod nodes;
mod pool;
mod port;
mod prepare;
mod priority;
mod process;
mod server;
mod shared_memory;
mod start;
mod stop;
mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use dbaas_core::config::Cidr;

pub use discovery::{Installation, discover};
pub use fetch::{FetchProgress, FetchStep, fetch};
pub use infrastructure::LocalBackend;
pub use pool::WarmPool;

/// How nodes are run on this machine.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Directories of PostgreSQL's programs to look at first: a `bin` directory or the one above it. Of a
    /// major that one of them holds, only what they hold counts.
    pub postgres_dirs: Vec<PathBuf>,
    /// As root: the user that PostgreSQL runs as. `None`: `postgres` if there is one, else `nobody`.
    pub run_as: Option<String>,
    /// Where servers listen.
    pub listen_address: IpAddr,
    /// The host name or address that clients and the other nodes are told. `None`: the listen address, or the
    /// loopback address where that is unspecified (`0.0.0.0`).
    pub advertise_host: Option<String>,
    /// Networks that clients may come from, besides this machine. Nodes have to listen there, too.
    pub allow_clients: Vec<Cidr>,
    /// Ports for nodes. The default lies outside the range that Linux takes for outgoing connections.
    pub port_range: RangeInclusive<u16>,
    /// A cgroup v2 directory that was delegated to this program and holds no process: nodes get groups below
    /// it that hold their cpu and ram. `None`: the one that systemd gave us with `Delegate=yes` and
    /// `DelegateSubgroup=`, if it did; else nothing holds them.
    pub cgroup: Option<PathBuf>,
    /// Data directories that are initialised ahead.
    pub warm_pool: WarmPool,
    /// Whether PostgreSQL may be fetched where this machine has none.
    pub allow_download: bool,
    /// Where fetched PostgreSQLs are kept. `None`: `postgresql` in the data directory.
    pub download_dir: Option<PathBuf>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions {
            postgres_dirs: Vec::new(),
            run_as: None,
            listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise_host: None,
            allow_clients: Vec::new(),
            port_range: 15432..=25431,
            cgroup: None,
            warm_pool: WarmPool::default(),
            allow_download: true,
            download_dir: None,
        }
    }
}
