//! PostgreSQL nodes as containers of the stock image on a Docker Engine.
//!
//! * One container and one volume per node, one network per instance, each with labels that say whose they
//!   are. What lacks the labels of [`DockerOptions::owner`] is never touched.
//! * No image of ours, no agent, no bind mount: the container's command is a short script in the stock
//!   image's shell. It starts PostgreSQL only with a ticket that [`start`] has put there, once: a container
//!   that somebody else starts ends at once.
//! * Everything that has to be known later lies in the node's volume, in `dbaas/` beside the data directory
//!   `pgdata/`. Secrets reach it by archive upload only, never by environment, label or command line.
//! * Nodes outlive the program. A [`DockerBackend`] that is connected later finds everything again.
//!
//! ```no_run
//! use dbaas_backend_docker::{DockerBackend, DockerOptions};
//! use dbaas_core::infrastructure::Infrastructure;
//!
//! # async fn example() -> Result<(), dbaas_core::infrastructure::InfraError> {
//! let backend = DockerBackend::connect(DockerOptions::default())?;
//! for version in backend.versions().await? {
//!     println!("{} from {}", version.version, version.source);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`start`]: dbaas_core::infrastructure::Infrastructure::start

mod backend;
mod container;
mod death;
mod disk;
mod engine;
mod events;
mod files;
mod handle;
mod image;
mod infrastructure;
mod limits;
mod names;
mod network;
mod nodes;
mod observe;
mod registry;
mod start;
mod stop;
mod volume;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use backend::DockerBackend;
pub use registry::RegistryLogin;

/// How nodes are run on an engine.
#[derive(Debug, Clone)]
pub struct DockerOptions {
    /// The engine: `unix:///var/run/docker.sock`, `tcp://host:2376`. `None`: `DOCKER_HOST`, or else the
    /// default socket. For `tcp://` with TLS the variables of the `docker` program apply:
    /// `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`.
    pub host: Option<String>,
    /// Whose nodes these are: the value of a label on everything. Two control planes on one engine must have
    /// different ones, or each takes the other's nodes for its own orphans.
    pub owner: String,
    /// The engine's address that PostgreSQL is published on.
    pub publish_address: IpAddr,
    /// The host name or address that clients, and the control plane, connect to. `None`: the published
    /// address, or the loopback address where that is unspecified (`0.0.0.0`).
    pub advertise_host: Option<String>,
    /// Ports to publish nodes on.
    pub port_range: RangeInclusive<u16>,
    /// Repositories whose local images are offered as versions.
    pub repositories: Vec<String>,
    /// Whether images that the engine does not have may be pulled.
    pub pull: bool,
    /// Who pulls, from which registry.
    pub registry_logins: Vec<RegistryLogin>,
    /// More logins: a file as `docker login` writes it (`~/.docker/config.json`). Read before each pull.
    pub registry_login_file: Option<PathBuf>,
    /// Gives every new node a disk of the size asked for, an image file in this directory: a node then uses
    /// no more than its `disk_size`. Only for an engine of this machine, on Linux, as root; needs `losetup`,
    /// `mkfs.ext4`, `e2fsck` and `resize2fs`. The files take up what is written to them, so the directory's
    /// file system may be promised more than once. `None`: volumes grow as far as the engine's disk does.
    pub disk_limits: Option<PathBuf>,
    /// How long a single request may take.
    pub request_timeout: Duration,
}

impl Default for DockerOptions {
    fn default() -> Self {
        DockerOptions {
            host: None,
            owner: "dbaas".to_owned(),
            publish_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise_host: None,
            port_range: 25432..=32431,
            repositories: vec!["postgres".to_owned()],
            pull: true,
            registry_logins: Vec::new(),
            registry_login_file: None,
            disk_limits: None,
            request_timeout: Duration::from_secs(60),
        }
    }
}
