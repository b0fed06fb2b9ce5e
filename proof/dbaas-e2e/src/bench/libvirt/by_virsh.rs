//! A machine as somebody makes one with `virsh` alone, of the same image as the instances' and with what they
//! have.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_core::boot::{ADMIN_ROLE, BootFile, BootRecipe, BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::secret::Secret;
use dbaas_node_start::NODE_SCRIPT;
use dbaas_node_start::archive::Account;
use dbaas_node_start::control::{Boot, Job, PrepareKind, boot_upload};

use crate::cluster::PASSWORD;
use crate::libvirt::LibvirtPlace;

pub(super) const SUPERUSER: &str = ADMIN_ROLE;
/// Machines made by hand have the last addresses of the network, far from the nodes'.
const LAST: &str = "199";
const DISK_BYTES: u64 = 8 << 30;
const BLOCK: usize = 4096;

/// A data disk that was initialised by hand, and the image that it is of. Removed when dropped.
pub(super) struct Prepared<'a> {
    place: &'a LibvirtPlace,
    image: serde_json::Value,
    pool: String,
    network: String,
    data: String,
}

impl<'a> Prepared<'a> {
    /// Boots a machine that initialises its disk, and waits for its end. The disk is a small one: a clone of
    /// it is larger.
    pub(super) async fn make(
        place: &'a LibvirtPlace,
        major: Option<u32>,
        within: Duration,
    ) -> anyhow::Result<Prepared<'a>> {
        let listed = place.virsh(&["vol-list", place.pool()])?;
        let mut images = Vec::new();
        for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
            if name.ends_with(".image") {
                let text = place.virsh(&["vol-download", "--pool", place.pool(), name, "/dev/stdout"])?;
                images.push(serde_json::from_str::<serde_json::Value>(&text)?);
            }
        }
        let of = |image: &serde_json::Value| {
            let version = image["version"].as_str().unwrap_or_default().to_owned();
            version
                .split('.')
                .next()
                .and_then(|major| major.parse::<u32>().ok())
        };
        images.retain(|image| major.is_none() || of(image) == major);
        images.sort_by_key(of);
        let described = place.virsh(&["pool-dumpxml", place.pool()])?;
        let path = described
            .split_once("<path>")
            .and_then(|(_, rest)| rest.split('<').next());
        let gateway = place.gateway()?;
        let network = gateway
            .rsplit_once('.')
            .map(|(network, _)| network)
            .context("the network has no address")?;
        let prepared = Prepared {
            place,
            image: images.pop().context("the pool has no image of that version")?,
            pool: path.context("the pool has no directory")?.to_owned(),
            network: network.to_owned(),
            data: format!("by-hand-{}.prepared", std::process::id()),
        };
        prepared.volume(&prepared.data, 512 << 20, None)?;
        let machine = prepared.boot("prepared", &prepared.data, Job::Init)?;
        let until = Instant::now() + within;
        // It tells that it runs, and is ended then as machines are: by its button.
        while !machine.report()?.contains("state=up") {
            ensure!(
                Instant::now() < until,
                "a machine made by hand does not come up: {}",
                machine.report()?
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        place.virsh(&["shutdown", &machine.name, "--mode", "acpi"])?;
        while !place.virsh(&["domstate", &machine.name])?.starts_with("shut off") {
            ensure!(Instant::now() < until, "a machine made by hand does not end");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(machine);
        Ok(prepared)
    }

    /// A clone of the disk, and a machine on it.
    pub(super) fn start(&self, round: usize) -> anyhow::Result<Machine<'a>> {
        let data = format!("by-hand-{}-{round}.data", std::process::id());
        self.volume(&data, DISK_BYTES, Some(&self.data))?;
        let mut machine = self.boot(&round.to_string(), &data, Job::Existing)?;
        machine.volumes.push(data);
        Ok(machine)
    }

    fn volume(&self, name: &str, bytes: u64, from: Option<&str>) -> anyhow::Result<()> {
        let xml = file(&format!(
            "<volume><name>{name}</name><capacity unit='bytes'>{bytes}</capacity><allocation>0</allocation>\
             <target><format type='raw'/></target></volume>"
        ))?;
        let (pool, path) = (self.place.pool(), xml.path().to_string_lossy().into_owned());
        match from {
            Some(from) => self
                .place
                .virsh(&["vol-create-from", pool, &path, from, "--inputpool", pool]),
            None => self.place.virsh(&["vol-create", pool, &path]),
        }
        .map(|_| ())
    }

    fn boot(&self, name: &str, data: &str, job: Job) -> anyhow::Result<Machine<'a>> {
        let name = format!("by-hand-{}-{name}", std::process::id());
        let (root, control) = (format!("{name}.root"), format!("{name}.control"));
        let of_image = |what: &str| self.image[what].as_str().unwrap_or_default().to_owned();
        let (pool, base) = (self.place.pool(), of_image("root"));
        self.place.virsh(&[
            "vol-create-as",
            pool,
            &root,
            "1G",
            "--format",
            "qcow2",
            "--backing-vol",
            &base,
            "--backing-vol-format",
            "qcow2",
        ])?;
        self.volume(&control, 1 << 20, None)?;
        let address = format!("{}.{LAST}", self.network);
        let start = file_of(&control_disk(&address, job)?)?;
        let path = start.path().to_string_lossy().into_owned();
        self.place
            .virsh(&["vol-upload", "--pool", pool, &control, &path])?;
        let disk = |volume: &str, format: &str, target: &str, serial: &str| {
            format!(
                "<disk type='volume' device='disk'><driver name='qemu' type='{format}' cache='none'/>\
                 <source pool='{pool}' volume='{volume}'/><target dev='{target}' bus='virtio'/><serial>{serial}</serial></disk>"
            )
        };
        let path = |volume: String| format!("{}/{volume}", self.pool);
        let domain = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd><cmdline>{}</cmdline></os>\
             <features><acpi/><tcg><tb-cache unit='MiB'>128</tb-cache></tcg></features>\
             <cpu mode='maximum'><feature policy='disable' name='la57'/></cpu>\
             <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash><devices>{}{}{}\
             <interface type='network'><source network='{pool}'/><model type='virtio'/><rom enabled='no'/></interface>\
             <console type='pty'><target type='virtio' port='0'/></console>\
             <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
             <memballoon model='none'/><controller type='usb' model='none'/><video><model type='none'/></video></devices></domain>",
            path(of_image("kernel")),
            path(of_image("initrd")),
            of_image("cmdline"),
            disk(&root, "qcow2", "vda", "root"),
            disk(data, "raw", "vdb", "data"),
            disk(&control, "raw", "vdc", "control"),
        );
        let xml = file(&domain)?;
        let machine = Machine {
            place: self.place,
            name,
            address,
            volumes: vec![root, control],
        };
        self.place.virsh(&["define", &xml.path().to_string_lossy()])?;
        self.place.virsh(&["start", &machine.name])?;
        Ok(machine)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        let _ = self
            .place
            .virsh(&["vol-delete", "--pool", self.place.pool(), &self.data]);
    }
}

/// A machine made by hand. Removed when dropped.
pub(super) struct Machine<'a> {
    place: &'a LibvirtPlace,
    pub(super) name: String,
    pub(super) address: String,
    volumes: Vec<String>,
}

impl Machine<'_> {
    fn report(&self) -> anyhow::Result<String> {
        let control = format!("{}.control", self.name);
        let report = (248 * BLOCK).to_string();
        self.place.virsh(&[
            "vol-download",
            "--pool",
            self.place.pool(),
            &control,
            "/dev/stdout",
            "--offset",
            &report,
            "--length",
            "512",
        ])
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.place.virsh(&["destroy", &self.name]);
        let _ = self.place.virsh(&["undefine", &self.name]);
        for volume in &self.volumes {
            let _ = self
                .place
                .virsh(&["vol-delete", "--pool", self.place.pool(), volume]);
        }
    }
}

/// A start, as docs/libvirt-image.md says that it has to be.
fn control_disk(address: &str, job: Job) -> anyhow::Result<Vec<u8>> {
    let prepare = match job {
        Job::Init => Prepare::Init {
            admin_password: Secret::new(PASSWORD),
            seeds: Vec::new(),
        },
        _ => Prepare::Existing,
    };
    let file = |name: &str, content: &str| BootFile {
        name: name.to_owned(),
        content: Secret::new(content),
    };
    let files = vec![
        file("postgresql.conf", "shared_buffers = 128MB\n"),
        file("pg_hba.conf", "host all all all scram-sha-256\n"),
    ];
    let recipe = BootRecipe::new(Epoch(1), prepare, BootRole::Primary, files);
    let boot = Boot {
        epoch: recipe.epoch,
        boot_id: uuid::Uuid::new_v4().to_string(),
        prepare: PrepareKind::of(&recipe.prepare),
        major: None,
    };
    let root = Account { uid: 0, gid: 0 };
    let archive = boot_upload(root, &boot, job, &recipe, &[("node.sh", NODE_SCRIPT)])?;
    let format = if job == Job::Init { "format=yes\n" } else { "" };
    let header = format!(
        "dbaas-control=1\nstart={}\nepoch=1\nname=by-hand\naddress={address}/24\ngateway=\narchive={}\n{format}",
        boot.boot_id,
        archive.len()
    );
    let mut bytes = header.into_bytes();
    bytes.resize(BLOCK, 0);
    bytes.extend_from_slice(&archive);
    bytes.resize(1 << 20, 0);
    Ok(bytes)
}

fn file(text: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    file_of(text.as_bytes())
}

fn file_of(bytes: &[u8]) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    file.flush()?;
    Ok(file)
}
