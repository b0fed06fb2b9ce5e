//! Volumes: the nodes' and the images'.

use std::collections::BTreeSet;
use std::path::Path;

use dbaas_core::infrastructure::{AvailableVersion, InfraError, InfraErrorKind, NodeRef};
use dbaas_core::version::{ImageRef, PostgresVersion};
use serde::{Deserialize, Serialize};

use crate::backend::Inner;
use crate::names::{self, Volume};
use crate::virsh::failure;

/// Names of volumes that describe an image end so.
const IMAGE_ENDING: &str = ".image";
const IMAGE_FORMAT: u32 = 1;
/// With less room than this an upload may have been cut short.
const ROOM_LEFT: u64 = 64 << 20;

/// What a node's machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The volume that root disks are overlays of.
    pub(crate) root: String,
    /// Where the machine boots without a boot loader.
    pub(crate) kernel: Option<Kernel>,
}

/// A kernel, its initial RAM disk (volumes) and its command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    pub(crate) kernel: String,
    pub(crate) initrd: String,
    pub(crate) cmdline: String,
}

/// A volume `NAME.image`.
#[derive(Debug, Deserialize)]
struct Description {
    format: u32,
    name: ImageRef,
    version: PostgresVersion,
    root: String,
    kernel: Option<String>,
    initrd: Option<String>,
    #[serde(default)]
    cmdline: String,
}

impl Description {
    fn image(&self) -> Image {
        Image {
            root: self.root.clone(),
            kernel: match (&self.kernel, &self.initrd) {
                (Some(kernel), Some(initrd)) => Some(Kernel {
                    kernel: kernel.clone(),
                    initrd: initrd.clone(),
                    cmdline: self.cmdline.clone(),
                }),
                _ => None,
            },
        }
    }

    /// A tag is also matched by a less telling one: postgres:15 by postgres:15.18.
    fn is(&self, wanted: &ImageRef) -> bool {
        let telling = |i: &ImageRef| (i.repository().to_owned(), i.major());
        self.name == *wanted
            || (telling(&self.name) == telling(wanted)
                && wanted.major().is_some()
                && wanted.version().is_none_or(|v| v == self.version))
    }
}

/// The first column of `vol-list`.
pub(crate) fn volume_names(listed: &[u8]) -> BTreeSet<String> {
    String::from_utf8_lossy(listed)
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

impl Inner {
    pub(crate) async fn volumes(&self) -> Result<BTreeSet<String>, InfraError> {
        let pool = &self.options.pool;
        Ok(volume_names(&self.libvirt.run(&["vol-list", pool], None).await?))
    }

    /// Looks at the pool anew: somebody may have removed files from it, or brought some.
    pub(crate) async fn refresh_pool(&self) -> Result<(), InfraError> {
        let pool = &self.options.pool;
        match self.libvirt.run(&["pool-refresh", pool], None).await {
            // Another volume is just being written: what is known of the pool has to do.
            Err(e) if e.to_string().contains("asynchronous jobs running") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    pub(crate) async fn delete_volume(&self, name: &str) -> Result<(), InfraError> {
        let pool = &self.options.pool;
        match self
            .libvirt
            .run(&["vol-delete", "--pool", pool, name], None)
            .await
        {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == InfraErrorKind::NotFound || says_gone(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// An empty raw volume, read by nobody but libvirt and the node's machine.
    pub(crate) async fn create_volume(&self, name: &str, bytes: u64) -> Result<(), InfraError> {
        let pool = &self.options.pool;
        let command = ["vol-create", pool, "/dev/stdin"];
        self.libvirt
            .run(&command, Some(raw_volume(name, bytes).into_bytes()))
            .await
            .map(|_| ())
    }

    /// A raw volume that begins as another one: libvirt copies it where it lies, and leaves its holes out.
    pub(crate) async fn clone_volume(&self, name: &str, bytes: u64, from: &str) -> Result<(), InfraError> {
        let pool = &self.options.pool;
        let command = ["vol-create-from", pool, "/dev/stdin", from, "--inputpool", pool];
        self.libvirt
            .run(&command, Some(raw_volume(name, bytes).into_bytes()))
            .await
            .map(|_| ())
    }

    /// The root disk: an overlay of the image's, which is only read.
    pub(crate) async fn create_root(&self, node: NodeRef, image: &Image) -> Result<(), InfraError> {
        let name = names::volume(node, Volume::Root);
        let path = self.pool_path().await?;
        let base = &image.root;
        let described = self
            .libvirt
            .run(&["vol-dumpxml", "--pool", &self.options.pool, base], None)
            .await?;
        let text = String::from_utf8_lossy(&described);
        let capacity = text
            .split_once("<capacity unit='bytes'>")
            .and_then(|(_, rest)| rest.split('<').next()?.parse::<u64>().ok())
            .ok_or_else(|| {
                InfraError::new(
                    InfraErrorKind::ImageUnavailable,
                    format!("the volume {base} has no size"),
                )
            })?;
        let xml = format!(
            "<volume><name>{name}</name><capacity unit='bytes'>{capacity}</capacity>\
             <target><format type='qcow2'/><permissions><mode>0600</mode></permissions></target>\
             <backingStore><path>{path}/{base}</path><format type='qcow2'/></backingStore></volume>"
        );
        let command = ["vol-create", &self.options.pool, "/dev/stdin"];
        self.libvirt
            .run(&command, Some(xml.into_bytes()))
            .await
            .map(|_| ())
    }

    pub(crate) async fn grow_volume(&self, name: &str, bytes: u64) -> Result<(), InfraError> {
        let capacity = format!("{bytes}B");
        let command = ["vol-resize", "--pool", &self.options.pool, name, &capacity];
        match self.libvirt.run(&command, None).await {
            // It has the size, or is larger: a disk never shrinks.
            Err(e)
                if e.to_string().contains("smaller than the current") || e.to_string().contains("shrink") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    pub(crate) async fn write_at(&self, name: &str, offset: u64, bytes: Vec<u8>) -> Result<(), InfraError> {
        let (pool, length) = (&self.options.pool, bytes.len());
        let read = self.read_question(name, offset, length as u64);
        // Read back at once: an upload does not say that there was no room for it.
        let line =
            format!("vol-upload --pool {pool} {name} /dev/stdin --offset {offset} --length {length}; {read}");
        let (written, said) = self.libvirt.run_line(&line, bytes.clone()).await?;
        if written == bytes {
            return Ok(());
        }
        if said.trim().is_empty() {
            return Err(lost(pool, name));
        }
        Err(failure("vol-upload", &said))
    }

    pub(crate) fn read_question(&self, name: &str, offset: u64, length: u64) -> String {
        format!(
            "vol-download --pool {} {name} /dev/stdout --offset {offset} --length {length}",
            self.options.pool
        )
    }

    pub(crate) async fn read_at(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>, InfraError> {
        let mut answers = self
            .libvirt
            .ask(&[self.read_question(name, offset, length)])
            .await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Copies a volume's data, and none of the room that was never used, by way of this machine: libvirt's
    /// own cloning of raw volumes reads every byte of them.
    pub(crate) async fn download(&self, name: &str, to: &Path) -> Result<(), InfraError> {
        let to = to.to_string_lossy();
        let command = [
            "vol-download",
            "--pool",
            &self.options.pool,
            name,
            &to,
            "--sparse",
        ];
        self.libvirt.run(&command, None).await.map(|_| ())
    }

    /// The other way. Only where there is room: an upload does not say that there was none.
    pub(crate) async fn upload(&self, name: &str, from: &Path, bytes: u64) -> Result<(), InfraError> {
        if self.room().await? < bytes.saturating_add(ROOM_LEFT) {
            return Err(lost(&self.options.pool, name));
        }
        let from = from.to_string_lossy();
        let command = [
            "vol-upload",
            "--pool",
            &self.options.pool,
            name,
            &from,
            "--sparse",
        ];
        self.libvirt.run(&command, None).await?;
        if self.room().await? < ROOM_LEFT {
            return Err(lost(&self.options.pool, name));
        }
        Ok(())
    }

    /// How many bytes the pool has room for.
    async fn room(&self) -> Result<u64, InfraError> {
        self.refresh_pool().await?;
        let command = ["pool-info", "--bytes", &self.options.pool];
        let told = self.libvirt.run(&command, None).await?;
        let told = String::from_utf8_lossy(&told).into_owned();
        let room = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("Available:"));
        room.and_then(|bytes| bytes.trim().parse().ok())
            .ok_or_else(|| InfraError::new(InfraErrorKind::Other, "the pool does not tell its room"))
    }

    pub(crate) async fn pool_path(&self) -> Result<String, InfraError> {
        if let Some(path) = self.pool_path.lock().clone() {
            return Ok(path);
        }
        let pool = &self.options.pool;
        let xml = self.libvirt.run(&["pool-dumpxml", pool], None).await?;
        let path = crate::xml::read_pool_path(&xml)?
            .filter(|path| path.starts_with('/') && !path.contains(['\'', '"', '<', '&', ' ']))
            .ok_or_else(|| {
                let message = format!(
                    "the pool {pool} has no directory with a plain name; a pool of type dir is needed"
                );
                InfraError::new(InfraErrorKind::Unsupported, message)
            })?;
        *self.pool_path.lock() = Some(path.clone());
        Ok(path)
    }

    async fn descriptions(&self) -> Result<Vec<Description>, InfraError> {
        let volumes = self.volumes().await?;
        let described: Vec<&String> = volumes.iter().filter(|v| v.ends_with(IMAGE_ENDING)).collect();
        let questions: Vec<String> = described
            .iter()
            .map(|name| self.read_question(name, 0, 0))
            .collect();
        let answers = self.libvirt.ask(&questions).await?;
        let mut found = Vec::new();
        for (name, answer) in described.iter().zip(answers) {
            match serde_json::from_slice::<Description>(&answer) {
                Ok(d) if d.format > IMAGE_FORMAT => {
                    tracing::warn!(volume = %name, "an image is described in a format of a newer program");
                }
                Ok(d)
                    if [Some(&d.root), d.kernel.as_ref(), d.initrd.as_ref()]
                        .into_iter()
                        .flatten()
                        .any(|v| !volumes.contains(v)) =>
                {
                    tracing::warn!(volume = %name, "an image lacks one of its volumes");
                }
                Ok(d) => found.push(d),
                Err(error) => tracing::warn!(volume = %name, %error, "an image's description cannot be read"),
            }
        }
        found.sort_by_key(|d| d.version);
        Ok(found)
    }

    pub(crate) async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        let how = match self.accelerator().await? {
            crate::xml::Accelerator::Kvm => "",
            crate::xml::Accelerator::Emulated => {
                ", emulated: without hardware virtualisation it is many times slower"
            }
        };
        let found = self.descriptions().await?;
        Ok(found
            .into_iter()
            .map(|d| AvailableVersion {
                version: d.version,
                source: format!(
                    "image {} of the pool {} at {}{how}",
                    d.name,
                    self.options.pool,
                    self.libvirt.uri()
                ),
                image: d.name,
            })
            .collect())
    }

    /// Every image, the newest version last.
    pub(crate) async fn all_images(&self) -> Result<Vec<(ImageRef, Image)>, InfraError> {
        let found = self.descriptions().await?;
        Ok(found.into_iter().map(|d| (d.name.clone(), d.image())).collect())
    }

    /// The image of a name.
    pub(crate) async fn image(&self, name: &ImageRef) -> Result<Image, InfraError> {
        if let Some(image) = self.images.lock().get(name.as_str()) {
            return Ok(image.clone());
        }
        self.refresh_pool().await?;
        let newest = self.descriptions().await?.into_iter().rev().find(|d| d.is(name));
        let image = newest.map(|d| d.image()).ok_or_else(|| {
            let message = format!(
                "the pool {} has no image {name}; docs/libvirt-image.md tells how to make one",
                self.options.pool
            );
            InfraError::new(InfraErrorKind::ImageUnavailable, message)
        })?;
        self.images.lock().insert(name.as_str().to_owned(), image.clone());
        Ok(image)
    }
}

fn lost(pool: &str, name: &str) -> InfraError {
    let message = format!("the pool {pool} has no room for {name}: what was written there is not there");
    InfraError::new(InfraErrorKind::Exhausted, message)
}

fn raw_volume(name: &str, bytes: u64) -> String {
    format!(
        "<volume><name>{name}</name><capacity unit='bytes'>{bytes}</capacity><allocation>0</allocation>\
         <target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>"
    )
}

/// Somebody removed the file, and the pool has not taken note of it.
fn says_gone(error: &InfraError) -> bool {
    error.to_string().contains("No such file or directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, version: &str) -> Description {
        let json = format!(r#"{{"format":1,"name":"{name}","version":"{version}","root":"r"}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn images_by_name() {
        let image = description("postgres:15.18", "15.18");
        for (wanted, is) in [
            ("postgres:15.18", true),
            ("postgres:15", true),
            ("postgres:15.17", false),
            ("postgres:16", false),
            ("other:15", false),
        ] {
            assert_eq!(image.is(&wanted.parse().unwrap()), is, "{wanted}");
        }
        assert_eq!(image.image().kernel, None);
    }

    #[test]
    fn volumes_are_listed() {
        let names = volume_names(b" a.raw   /p/a.raw\n b   /p/b\n\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a.raw", "b"]);
    }
}
