//! PostgreSQL nodes as virtual machines of libvirt and QEMU.
//!
//! * One domain and three volumes of a pool per node: the root disk (an overlay of the version's image), the
//!   data disk of exactly the size asked for, and a small control disk that the control plane and the guest's
//!   boot script tell each other things on. What lacks the metadata of [`LibvirtOptions::owner`] is never
//!   touched.
//! * No program of ours in the guest but a boot script, which starts PostgreSQL only for a start that was
//!   asked for, once: a machine that somebody else starts switches itself off at once. Nothing that safety
//!   rests on needs the guest agent.
//! * What has to be known of a node that is off is kept in the domain's metadata and on the control disk.
//!   Secrets travel on the control disk only (mode 0600), and are overwritten there as soon as the guest has
//!   read them.
//! * Nodes outlive the program. A [`LibvirtBackend`] that is connected later finds everything again.
//!
//! ```no_run
//! use dbaas_backend_libvirt::{LibvirtBackend, LibvirtOptions};
//! use dbaas_core::infrastructure::Infrastructure;
//!
//! # async fn example() -> Result<(), dbaas_core::infrastructure::InfraError> {
//! let backend = LibvirtBackend::connect(LibvirtOptions::default())?;
//! for version in backend.versions().await? {
//!     println!("{} from {}", version.version, version.source);
//! }
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod ahead;
mod backend;
mod control_disk;
mod copies;
mod events;
mod handle;
mod infrastructure;
mod look;
mod names;
mod network;
mod nodes;
mod observe;
mod pool;
mod record;
mod shell;
mod start;
mod stop;
mod virsh;
mod xml;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use backend::LibvirtBackend;
pub use network::{Addresses, InvalidAddresses};

/// How nodes are run on a libvirt.
#[derive(Debug, Clone)]
pub struct LibvirtOptions {
    /// Which libvirt: `qemu:///system`, `qemu+ssh://root@host/system`, `qemu+unix:///system?socket=/path`.
    pub uri: String,
    /// The network that nodes are on. It has IPv4 addresses of its own, and nodes get fixed ones outside its
    /// DHCP range; or [`Self::addresses`] says which.
    pub network: String,
    /// The nodes' addresses, for a network that has none of its own: a bridge to others.
    pub addresses: Option<Addresses>,
    /// With [`Self::addresses`]: by where nodes reach other networks. `None`: they do not.
    pub gateway: Option<Ipv4Addr>,
    /// The host that clients, and the control plane, connect to where they do not reach the nodes' own
    /// addresses. Somebody else forwards its ports to them, port 5432. Nodes reach each other by their own.
    pub advertise_host: Option<String>,
    /// The ports of [`Self::advertise_host`]: the n-th is for the n-th address of the nodes' network, the
    /// network's own being the first (`15434` is `10.76.0.2` of `10.76.0.0/24`, where these begin at 15432).
    pub advertise_ports: RangeInclusive<u16>,
    /// The storage pool (a directory) of images and disks.
    pub pool: String,
    /// Whose nodes these are: stands in the metadata of every domain and on every control disk. Two control
    /// planes on one libvirt must have different ones, or each takes the other's nodes for its own orphans.
    pub owner: String,
    /// The machine's way to run guests. `None`: by KVM where the processor has it, else emulated.
    pub emulate: Option<bool>,
    /// Where disks of new nodes lie for a moment while they are copied for the first standbys. `None`: the
    /// system's directory for such.
    pub scratch_dir: Option<PathBuf>,
    /// How many sets of initialised data disks are kept ready for each version that is the newest of the pool
    /// or was used since the start: an instance then costs a clone and a boot. 0: none.
    pub warm_sets: usize,
    /// How long a machine may take from its start until its boot script reports something. One that hangs is
    /// destroyed, and has failed.
    pub boot_timeout: Duration,
    /// How long a single request may take.
    pub request_timeout: Duration,
}

impl Default for LibvirtOptions {
    fn default() -> Self {
        LibvirtOptions {
            uri: "qemu:///system".to_owned(),
            network: "default".to_owned(),
            addresses: None,
            gateway: None,
            advertise_host: None,
            advertise_ports: 15_432..=25_431,
            pool: "default".to_owned(),
            owner: "dbaas".to_owned(),
            emulate: None,
            scratch_dir: None,
            warm_sets: 1,
            boot_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(60),
        }
    }
}
