//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use dbaas_backend_libvirt::Addresses;
use dbaas_core::config::Cidr;
use dbaas_http::ListStyle;

const EXAMPLES: &str = "\
Examples:
  Try it on this machine; everything is kept in ./try, and nothing runs on when the server ends:
    dbaas-server --data-dir ./try --stop-instances-on-exit

  What this machine can run, and a first instance of three nodes (put a version's uuid in):
    curl -s http://127.0.0.1:8432/v1/postgres/versions
    curl -s http://127.0.0.1:8432/v1/postgres/instances -H 'content-type: application/json' \\
      -d '{\"name\":\"first\",\"cpu\":1,\"ram\":1024,\"disk_size\":10,\"nodes_number\":3,\"version\":\"<uuid>\"}'

  For other machines: tokens, one a line, in a file that only its owner can read.
    (umask 077; echo \"admin:$(openssl rand -hex 32)\" > tokens)
    dbaas-server --listen 0.0.0.0:8432 --token-file tokens --node-address 10.0.0.5 --allow-clients 10.0.0.0/24

  The whole interface as a page: http://127.0.0.1:8432/docs

PostgreSQL servers outlive this one: stop it, upgrade it, start it again, and it adopts what runs.";

/// Managed PostgreSQL on this machine, as a REST server: instances of 1 to 16 nodes with automatic failover,
/// their databases and users.
#[derive(Debug, Parser)]
#[command(name = "dbaas-server", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Where the REST interface listens. Another address than a loopback one needs --token-file.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8432",
        env = "DBAAS_LISTEN"
    )]
    pub(crate) listen: SocketAddr,

    /// Where everything is kept: the control plane's state, the key of its secrets, the nodes' data.
    /// [default: /var/lib/dbaas as root, else dbaas in the user's data directory]
    #[arg(long, value_name = "DIRECTORY", env = "DBAAS_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// What nodes are.
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    pub(crate) backend: Backend,

    /// With --backend docker: the engine, such as unix:///var/run/docker.sock or tcp://192.0.2.1:2376.
    /// Whoever may use it is as good as root there. [default: DOCKER_HOST, else the default socket]
    #[arg(long, value_name = "ADDRESS", env = "DBAAS_DOCKER_HOST")]
    pub(crate) docker_host: Option<String>,

    /// With --backend docker: the engine's address that nodes are published on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) publish_address: IpAddr,

    /// With --backend docker: do not pull images that the engine does not have.
    #[arg(long)]
    pub(crate) no_pull: bool,

    /// With --backend docker: gives each new node a disk of its disk_size, an image file in this directory,
    /// mounted through a loop device. Only for an engine of this machine, as root. Without it, disk_size is
    /// not enforced.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) docker_disk_limits: Option<PathBuf>,

    /// With --backend docker: logins at image registries, a file as `docker login` writes it, such as
    /// ~/.docker/config.json. It is read before each pull.
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_logins: Option<PathBuf>,

    /// With --backend libvirt: which one, such as qemu:///system or qemu+ssh://root@192.0.2.1/system. Whoever
    /// may use it is as good as root there.
    #[arg(
        long,
        value_name = "URI",
        default_value = "qemu:///system",
        env = "DBAAS_LIBVIRT_URI"
    )]
    pub(crate) libvirt_uri: String,

    /// With --backend libvirt: the network that nodes are on. It has IPv4 addresses outside its DHCP range,
    /// or --libvirt-addresses says which nodes get.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) libvirt_network: String,

    /// With --backend libvirt: the addresses that nodes get on a network that has none of its own, such as a
    /// bridge: 192.0.2.100-192.0.2.149/24. Nobody else may hand them out.
    #[arg(long, value_name = "FIRST-LAST/BITS")]
    pub(crate) libvirt_addresses: Option<Addresses>,

    /// With --libvirt-addresses: by where nodes reach other networks.
    #[arg(long, value_name = "ADDRESS", requires = "libvirt_addresses")]
    pub(crate) libvirt_gateway: Option<Ipv4Addr>,

    /// With --backend libvirt: the storage pool, a directory, that holds the images of versions
    /// (docs/libvirt-image.md) and gets the nodes' disks.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) libvirt_pool: String,

    /// Who may call: a file with lines admin:TOKEN or PROJECT-UUID:TOKEN, readable by its owner only. Without
    /// it, whoever reaches the (loopback) address may do everything.
    #[arg(long, value_name = "FILE", env = "DBAAS_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Where to look for PostgreSQL first: a directory with its programs, or the one above. May be given
    /// several times.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) postgres_dir: Vec<PathBuf>,

    /// As root: the user that PostgreSQL runs as. [default: postgres if there is one, else nobody]
    #[arg(long, value_name = "USER")]
    pub(crate) run_as: Option<String>,

    /// Never fetch PostgreSQL; without this, a machine that has none gets one.
    #[arg(long)]
    pub(crate) no_download: bool,

    /// Where PostgreSQL servers listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) node_address: IpAddr,

    /// The host name or address that clients are told to connect to. [default: the node address; with
    /// --backend libvirt the nodes' own, else a host that forwards its --node-ports to them: docs/libvirt.md]
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise_host: Option<String>,

    /// From where users of instances may connect, besides this machine. May be given several times.
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub(crate) allow_clients: Vec<Cidr>,

    /// Ports of PostgreSQL servers. With --backend libvirt: those of --advertise-host.
    #[arg(long, value_name = "FIRST-LAST", default_value = "15432-25431", value_parser = ports)]
    pub(crate) node_ports: RangeInclusive<u16>,

    /// How many data directories of each version are kept initialised ahead, so that an instance starts in a
    /// fraction of a second.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=16))]
    pub(crate) warm_pool: u8,

    /// A cgroup v2 directory that was delegated to this server and holds no process: nodes get groups below
    /// it that hold their cpu and ram. [default: what systemd delegates by Delegate=yes and
    /// DelegateSubgroup=server, else nothing holds them]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cgroup: Option<PathBuf>,

    /// Switch off every instance when this server ends: for trying things out.
    #[arg(long)]
    pub(crate) stop_instances_on_exit: bool,

    /// Wait until another server on the same data directory has ended, instead of giving up.
    #[arg(long)]
    pub(crate) wait_for_lock: bool,

    /// How lists are answered: {"instances": [...], "next": ...}, or [...] as the original service does. A
    /// request may ask for either.
    #[arg(long, value_enum, default_value_t = Lists::Object)]
    pub(crate) list_style: Lists,

    /// How long requests in hand may take when the server is told to end, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) drain_timeout: Duration,

    /// What is logged, to standard error: error, warn, info, debug, trace, or by module, such as
    /// info,dbaas_controller=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "DBAAS_LOG")]
    pub(crate) log: String,
}

/// What nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Processes and directories of this machine.
    Local,
    /// Containers of the stock PostgreSQL image on a Docker Engine.
    Docker,
    /// Virtual machines of libvirt.
    Libvirt,
}

/// How lists are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lists {
    /// With the cursor of the next page beside the items.
    Object,
    /// The items alone.
    Array,
}

impl From<Lists> for ListStyle {
    fn from(lists: Lists) -> Self {
        match lists {
            Lists::Object => ListStyle::Objects,
            Lists::Array => ListStyle::Arrays,
        }
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let rule = || "must be two ports such as 15432-25431, the lower one first".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(rule)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(rule);
    let (first, last) = (port(first)?, port(last)?);
    if first <= last {
        Ok(first..=last)
    } else {
        Err(rule())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 0..=3600) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("must be a number of seconds, at most 3600".to_owned()),
    }
}

impl Cli {
    /// The data directory: as given, else where such data belongs.
    pub(crate) fn data_directory(&self) -> PathBuf {
        if let Some(directory) = &self.data_dir {
            return directory.clone();
        }
        if is_root() {
            return PathBuf::from("/var/lib/dbaas");
        }
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        match (absolute("XDG_DATA_HOME"), absolute("HOME")) {
            (Some(data), _) => data.join("dbaas"),
            (None, Some(home)) => home.join(".local/share/dbaas"),
            (None, None) => PathBuf::from("dbaas-data"),
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(ports("1-65535"), Ok(1..=65535));
        for bad in ["", "1", "0-1", "2-1", "1-65536", "a-b", "-1-2"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert!(seconds("-1").is_err() && seconds("3601").is_err() && seconds("1s").is_err());
        for bad in [
            ["--listen", "8432"],
            ["--warm-pool", "17"],
            ["--allow-clients", "10.0.0.0/33"],
            ["--backend", "cloud"],
        ] {
            assert!(
                Cli::try_parse_from(["dbaas-server", bad[0], bad[1]]).is_err(),
                "{bad:?}"
            );
        }
    }
}
