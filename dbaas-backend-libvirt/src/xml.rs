//! Domain XML: written and read.

use std::fmt::Write as _;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use crate::names::{self, Volume};
use crate::record::Record;

/// The namespace of our metadata.
const NAMESPACE: &str = "urn:dbaas:libvirt:node:1";

/// How machines of a host are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    /// QEMU translates every instruction.
    Emulated,
}

/// Where the parts of a domain lie.
pub(crate) struct Place<'a> {
    pub(crate) pool: &'a str,
    pub(crate) pool_path: &'a str,
    pub(crate) network: &'a str,
    pub(crate) accelerator: Accelerator,
}

/// A node's domain. Nothing of it starts by itself, and nothing starts again.
pub(crate) fn domain(record: &Record, place: &Place<'_>) -> Result<String, InfraError> {
    let node = record.node();
    let (kind, cpu, features) = match place.accelerator {
        Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>", ""),
        Accelerator::Emulated => (
            "qemu",
            // Five levels of page tables cost an emulated processor time and give it nothing.
            "<cpu mode='maximum'><feature policy='disable' name='la57'/></cpu>",
            "<tcg><tb-cache unit='MiB'>128</tb-cache></tcg>",
        ),
    };
    let path = |name: &str| escape(format!("{}/{name}", place.pool_path)).into_owned();
    let disk = |volume: Volume, format: &str, target: &str| {
        let serial = match volume {
            Volume::Root => "root",
            Volume::Data => "data",
            Volume::Control | Volume::Console => "control",
        };
        format!(
            "<disk type='volume' device='disk'><driver name='qemu' type='{format}' cache='none' discard='unmap'/>\
             <source pool='{}' volume='{}'/><target dev='{target}' bus='virtio'/><serial>{serial}</serial></disk>",
            escape(place.pool),
            names::volume(node, volume),
        )
    };
    let mut xml = String::new();
    let _ = write!(
        xml,
        "<domain type='{kind}'>\
         <name>{name}</name><uuid>{uuid}</uuid><title>PostgreSQL node {title}</title>\
         <metadata><dbaas:node xmlns:dbaas='{NAMESPACE}' owner='{owner}'>{record}</dbaas:node></metadata>\
         <memory unit='MiB'>{ram}</memory><vcpu>{cpus}</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>\
         <features><acpi/>{features}</features>{cpu}<clock offset='utc'/>\
         <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>\
         <devices>{root}{data}{control}\
         <interface type='network'><mac address='{mac}'/><source network='{network}'/><model type='virtio'/><rom enabled='no'/></interface>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <console type='file'><source path='{console}' append='on'/><target type='virtio' port='0'/></console>\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
         <memballoon model='none'/><controller type='usb' model='none'/><video><model type='none'/></video>\
         </devices></domain>",
        name = names::domain(node),
        uuid = node.node,
        title = escape(&record.spec.name),
        owner = escape(&record.owner),
        record = escape(record.to_json()?),
        ram = u64::from(record.spec.resources.ram),
        cpus = u64::from(record.spec.resources.cpu),
        boot = match &record.image.kernel {
            Some(kernel) => format!(
                "<kernel>{}</kernel><initrd>{}</initrd><cmdline>{}</cmdline>",
                path(&kernel.kernel),
                path(&kernel.initrd),
                escape(&kernel.cmdline)
            ),
            None => "<boot dev='hd'/>".to_owned(),
        },
        root = disk(Volume::Root, "qcow2", "vda"),
        data = disk(Volume::Data, "raw", "vdb"),
        control = disk(Volume::Control, "raw", "vdc"),
        mac = mac(record.ip())?,
        network = escape(place.network),
        console = path(&names::volume(node, Volume::Console)),
    );
    Ok(xml)
}

/// A transient machine that has nothing, to see whether machines run by KVM.
pub(crate) fn probe(name: &str, owner: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name>\
         <metadata><dbaas:probe xmlns:dbaas='{NAMESPACE}' owner='{}'/></metadata>\
         <memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><cpu mode='host-passthrough'/>\
         <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>\
         <devices><memballoon model='none'/><controller type='usb' model='none'/><video><model type='none'/></video></devices></domain>",
        escape(owner)
    )
}

/// A hardware address for each address of a network, the same for ever.
fn mac(ip: &str) -> Result<String, InfraError> {
    let ip: std::net::Ipv4Addr = ip
        .parse()
        .map_err(|_| InfraError::new(InfraErrorKind::Other, "the node's record has no IPv4 address"))?;
    let [_, b, c, d] = ip.octets();
    Ok(format!("52:54:00:{b:02x}:{c:02x}:{d:02x}"))
}

/// What a domain says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) uuid: String,
    /// Owner and record, where it has our metadata.
    pub(crate) ours: Option<(String, String)>,
}

/// Reads a domain.
pub(crate) fn read_domain(xml: &[u8]) -> Result<Found, InfraError> {
    let mut found = Found::default();
    let mut path: Vec<String> = Vec::new();
    let (mut owner, mut record) = (None, String::new());
    each(xml, |event| match event {
        Part::Begin(name, attributes) => {
            path.push(name.to_owned());
            if path.len() == 3 && path.get(1).is_some_and(|p| p == "metadata") && name == "node" {
                let of = |wanted: &str| {
                    attributes
                        .iter()
                        .find(|(n, _)| n == wanted)
                        .map(|(_, v)| v.clone())
                };
                // The prefix may be any; the namespace tells.
                if attributes
                    .iter()
                    .any(|(n, v)| n.starts_with("xmlns") && v == NAMESPACE)
                {
                    owner = of("owner");
                }
            }
        }
        Part::End => {
            path.pop();
        }
        Part::Text(text) => match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["domain", "uuid"] => found.uuid += text,
            ["domain", "metadata", "node"] => record += text,
            _ => {}
        },
    })?;
    found.ours = owner.map(|owner| (owner, record));
    Ok(found)
}

/// The path of a directory pool.
pub(crate) fn read_pool_path(xml: &[u8]) -> Result<Option<String>, InfraError> {
    let mut path: Vec<String> = Vec::new();
    let mut target = None;
    each(xml, |event| match event {
        Part::Begin(name, _) => path.push(name.to_owned()),
        Part::End => {
            path.pop();
        }
        Part::Text(text) if path == ["pool", "target", "path"] => target = Some(text.to_owned()),
        Part::Text(_) => {}
    })?;
    Ok(target)
}

/// The IPv4 part of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) gateway: std::net::Ipv4Addr,
    pub(crate) prefix: u8,
    /// Whether machines get out by the gateway.
    pub(crate) forwards: bool,
    /// What the network's own DHCP server hands out.
    pub(crate) dhcp: Vec<(std::net::Ipv4Addr, std::net::Ipv4Addr)>,
}

/// Reads a network.
pub(crate) fn read_network(xml: &[u8]) -> Result<Option<Subnet>, InfraError> {
    let mut subnet: Option<Subnet> = None;
    let mut dhcp = Vec::new();
    let mut forwards = false;
    each(xml, |event| {
        let Part::Begin(name, attributes) = event else {
            return;
        };
        let of = |wanted: &str| {
            attributes
                .iter()
                .find(|(n, _)| n == wanted)
                .map(|(_, v)| v.as_str())
        };
        match name {
            "forward" => forwards = true,
            "ip" if subnet.is_none() && of("family").is_none_or(|f| f == "ipv4") => {
                let gateway = of("address").and_then(|a| a.parse().ok());
                let prefix = of("prefix").and_then(|p| p.parse().ok()).or_else(|| {
                    let mask: std::net::Ipv4Addr = of("netmask")?.parse().ok()?;
                    u8::try_from(u32::from(mask).leading_ones()).ok()
                });
                if let (Some(gateway), Some(prefix)) = (gateway, prefix) {
                    subnet = Some(Subnet {
                        gateway,
                        prefix,
                        forwards: false,
                        dhcp: Vec::new(),
                    });
                }
            }
            "range" => {
                if let (Some(start), Some(end)) = (
                    of("start").and_then(|a| a.parse().ok()),
                    of("end").and_then(|a| a.parse().ok()),
                ) {
                    dhcp.push((start, end));
                }
            }
            "host" => {
                if let Some(ip) = of("ip").and_then(|a| a.parse().ok()) {
                    dhcp.push((ip, ip));
                }
            }
            _ => {}
        }
    })?;
    Ok(subnet.map(|s| Subnet { forwards, dhcp, ..s }))
}

enum Part<'a> {
    Begin(&'a str, &'a [(String, String)]),
    End,
    Text(&'a str),
}

/// Reads XML from beginning to end; elements by their local names.
fn each(xml: &[u8], mut see: impl FnMut(Part<'_>)) -> Result<(), InfraError> {
    let bad = |e: &dyn std::fmt::Display| {
        InfraError::new(
            InfraErrorKind::Other,
            format!("libvirt's XML cannot be read: {e}"),
        )
    };
    let text = std::str::from_utf8(xml).map_err(|e| bad(&e))?;
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().map_err(|e| bad(&e))? {
            Event::Eof => return Ok(()),
            event @ (Event::Start(_) | Event::Empty(_)) => {
                let is_empty = matches!(event, Event::Empty(_));
                let (Event::Start(start) | Event::Empty(start)) = event else {
                    continue;
                };
                let mut attributes = Vec::new();
                for attribute in start.attributes() {
                    let attribute = attribute.map_err(|e| bad(&e))?;
                    let raw = String::from_utf8_lossy(&attribute.value).into_owned();
                    let value = quick_xml::escape::unescape(&raw)
                        .map_err(|e| bad(&e))?
                        .into_owned();
                    let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
                    attributes.push((name, value));
                }
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                see(Part::Begin(&name, &attributes));
                if is_empty {
                    see(Part::End);
                }
            }
            Event::End(_) => see(Part::End),
            Event::Text(part) => {
                let raw = String::from_utf8_lossy(&part).into_owned();
                see(Part::Text(&raw));
            }
            Event::GeneralRef(part) => {
                let raw = format!("&{};", String::from_utf8_lossy(&part));
                let resolved = quick_xml::escape::unescape(&raw).map_err(|e| bad(&e))?;
                see(Part::Text(&resolved));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Image, Kernel};
    use crate::record::{FORMAT, Wanted};
    use dbaas_core::id::{InstanceId, NodeId};
    use dbaas_core::infrastructure::{NodeRef, NodeSpec, Resources};
    use dbaas_core::size::{CpuCores, DiskGb, RamMb};

    fn record() -> Record {
        Record {
            format: FORMAT,
            owner: "o<&'".into(),
            spec: NodeSpec::new(
                NodeRef {
                    instance: InstanceId::from_uuid(uuid::Uuid::from_u128(1)),
                    node: NodeId::from_uuid(uuid::Uuid::from_u128(2)),
                },
                "n1 <\"&'>",
                "postgres:15".parse().unwrap(),
                Resources {
                    cpu: CpuCores::new(2).unwrap(),
                    ram: RamMb::new(512).unwrap(),
                    disk: DiskGb::new(8).unwrap(),
                },
            ),
            address: "10.76.0.2/24".into(),
            wanted: Wanted::Off,
            boot: None,
            copies: Vec::new(),
            pooled: None,
            image: Image {
                root: "r".into(),
                kernel: Some(Kernel {
                    kernel: "k".into(),
                    initrd: "i".into(),
                    cmdline: "a=<b> &".into(),
                }),
            },
        }
    }

    #[test]
    fn a_domain_is_read_back() {
        let place = Place {
            pool: "p'",
            pool_path: "/x",
            network: "n",
            accelerator: Accelerator::Emulated,
        };
        let xml = domain(&record(), &place).unwrap();
        let found = read_domain(xml.as_bytes()).unwrap();
        assert_eq!(found.uuid, record().node().node.to_string());
        let (owner, json) = found.ours.unwrap();
        assert_eq!(owner, record().owner);
        assert_eq!(Record::parse(&json, record().node()).unwrap(), record());
        assert!(xml.contains("52:54:00:4c:00:02"), "{xml}");
        assert!(!xml.contains("autostart"));
    }

    #[test]
    fn a_foreign_domain_has_nothing_of_ours() {
        let foreign = b"<domain><uuid>u</uuid><metadata><x:node xmlns:x='urn:other' owner='o'>{}</x:node></metadata></domain>";
        assert_eq!(read_domain(foreign).unwrap().ours, None);
        assert!(read_domain(b"<domain>").is_ok());
        assert!(read_domain(b"<a></b>").is_err());
    }

    #[test]
    fn pools_and_networks() {
        let pool = b"<pool type='dir'><name>p</name><target><path>/var/x</path></target></pool>";
        assert_eq!(read_pool_path(pool).unwrap().unwrap(), "/var/x");
        let network = b"<network><forward mode='nat'/><ip address='10.7.0.1' netmask='255.255.255.0'><dhcp>\
            <range start='10.7.0.100' end='10.7.0.200'/><host mac='x' ip='10.7.0.9'/></dhcp></ip></network>";
        let subnet = read_network(network).unwrap().unwrap();
        assert_eq!((subnet.prefix, subnet.forwards, subnet.dhcp.len()), (24, true, 2));
        assert_eq!(
            read_network(b"<network><bridge name='b'/></network>").unwrap(),
            None
        );
    }
}
