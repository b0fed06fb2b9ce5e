//! Files of a node, through the engine: read and written as archives, whether the container runs or not.

use std::collections::BTreeMap;

use bollard::Docker;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use dbaas_core::secret::Secret;
use futures_util::StreamExt;

use crate::backend::Inner;
use crate::container::Found;
use crate::engine::{if_there, shown, status_of};
use dbaas_node_start::archive::{Account, read_files};
use dbaas_node_start::control::Control;

/// Files of a node that are read back are short; a preparation's output is cut at 16 kB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const ARCHIVE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Inner {
    /// The account that PostgreSQL runs as in the container's image.
    pub(crate) async fn account(&self, docker: &Docker, found: &Found) -> Result<Account, InfraError> {
        if let Some(account) = self.images.accounts.lock().get(&found.image_id) {
            return Ok(*account);
        }
        let files = self.download(docker, &found.id, "/etc/passwd").await?;
        let passwd = files.as_ref().and_then(|f| f.get("passwd"));
        let account = passwd
            .and_then(|text| postgres_account(text.expose()))
            .ok_or_else(|| {
                let message = "the image has no user postgres: it is not a PostgreSQL image";
                InfraError::new(InfraErrorKind::ImageUnavailable, message)
            })?;
        self.images
            .accounts
            .lock()
            .insert(found.image_id.clone(), account);
        Ok(account)
    }

    /// The small files at a path in a container; `None` if there is no such path.
    pub(crate) async fn download(
        &self,
        docker: &Docker,
        id: &str,
        path: &str,
    ) -> Result<Option<BTreeMap<String, Secret>>, InfraError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut stream = std::pin::pin!(docker.download_from_container(id, Some(options)));
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => archive.extend_from_slice(&chunk),
                Err(e) if status_of(&e) == Some(404) => return Ok(None),
                Err(e) => return Err(shown("reading the node's files", &e)),
            }
            if archive.len() > ARCHIVE_BYTES_MAX {
                return Err(InfraError::new(
                    InfraErrorKind::Other,
                    format!("{path} in the node's container is too large"),
                ));
            }
        }
        read_files(&archive, FILE_BYTES_MAX)
            .map(Some)
            .map_err(|e| InfraError::new(InfraErrorKind::Other, format!("reading the node's files: {e}")))
    }

    /// Unpacks an archive in the node's volume.
    pub(crate) async fn upload(
        &self,
        docker: &Docker,
        found: &Found,
        archive: Vec<u8>,
    ) -> Result<(), InfraError> {
        let options = UploadToContainerOptionsBuilder::default()
            .path(found.mount())
            .build();
        docker
            .upload_to_container(&found.id, Some(options), bollard::body_full(archive.into()))
            .await
            .map_err(|e| shown("writing the node's files", &e))
    }

    /// Whether there is something at a path of the node's directory.
    pub(crate) async fn exists(
        &self,
        docker: &Docker,
        found: &Found,
        path: &str,
    ) -> Result<bool, InfraError> {
        let path = format!("{}/{path}", found.node_dir);
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
        if_there(docker.get_container_archive_info(&found.id, Some(options)).await)
            .map(|found| found.is_some())
            .map_err(|e| shown("looking into the node's volume", &e))
    }

    /// Reads what the volume says of the node.
    pub(crate) async fn read_control(&self, docker: &Docker, found: &Found) -> Result<Control, InfraError> {
        let path = format!("{}/dbaas", found.node_dir);
        match self.download(docker, &found.id, &path).await? {
            Some(files) => Control::read(&files),
            None => Ok(Control::empty()),
        }
    }
}

/// The line of `postgres` in a `passwd` file.
fn postgres_account(passwd: &str) -> Option<Account> {
    let line = passwd.lines().find(|l| l.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_an_image() {
        let debian = "root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(postgres_account(debian), Some(Account { uid: 999, gid: 999 }));
        let alpine = "postgres:x:70:71:PostgreSQL user:/var/lib/postgresql:/bin/sh\n";
        assert_eq!(postgres_account(alpine), Some(Account { uid: 70, gid: 71 }));
        assert_eq!(postgres_account("root:x:0:0\n"), None);
        assert_eq!(postgres_account("postgres:x\n"), None);
    }
}
