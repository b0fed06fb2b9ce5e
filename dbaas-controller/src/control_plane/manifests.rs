//! Calls about manifests that are kept: the text, to be planned and applied by name.

use std::sync::Arc;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::secret::Secret;
use dbaas_core::store::DocumentVersion;
use dbaas_manifest::check;
use uuid::Uuid;

use super::ControlPlane;
use super::create::Creation;
use super::elements::seal_text;
use super::kept::kept_not_found;
use crate::elements::ManifestRequest;
use crate::elements::facts::opened;
use crate::elements::record::ManifestRecord;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::Change;
use crate::request::{Listed, Page};
use crate::view::StoredManifest;

impl ControlPlane {
    /// Keeps a manifest. What can be told from the text alone is checked: that it is a document with a name.
    pub async fn create_manifest(
        &self,
        mut request: ManifestRequest,
    ) -> Result<StoredManifest, ControlError> {
        let key = request.idempotency_key.take();
        let head = head(&request)?;
        let ports = Arc::clone(&self.inner.ports);
        let made = self.inner.create(NewManifest { request, head, ports }, key).await;
        made.map(StoredManifest::of)
    }

    /// One manifest, without its text.
    pub async fn manifest(&self, id: Uuid) -> Result<StoredManifest, ControlError> {
        self.inner.load_kept(id).await.map(StoredManifest::of)
    }

    /// The text of a manifest. It may hold secrets.
    pub async fn manifest_text(&self, id: Uuid) -> Result<Secret, ControlError> {
        let read = self.inner.load_kept::<ManifestRecord>(id).await?;
        opened(self.ports(), id, &read.record.sealed)
    }

    /// The text of a manifest for somebody who asked for it. That it was read, and by whom, is written to the
    /// event log first.
    pub async fn read_manifest_text(&self, id: Uuid, by: &str) -> Result<Secret, ControlError> {
        let read = self.inner.load_kept::<ManifestRecord>(id).await?;
        let ports = self.ports();
        let message = format!(
            "the text of the manifest \"{}\" was read by {by}",
            read.record.name
        );
        let change = Change::new().note(id, ports.now(), "manifest_text_read", message);
        let noted = ports.repository.commit(change).await;
        noted.map_err(|error| ports.store_error(error))?;
        opened(ports, id, &read.record.sealed)
    }

    /// The manifests of a project, or of all.
    pub async fn manifests(
        &self,
        project: Option<ProjectId>,
        page: Page<Uuid>,
    ) -> Result<Listed<StoredManifest, Uuid>, ControlError> {
        let listed = self.inner.list_kept(project.map(ProjectId::uuid), page).await?;
        Ok(listed.map(StoredManifest::of))
    }

    /// Replaces the text of a manifest. The element stays as it is until it is applied.
    pub async fn replace_manifest(
        &self,
        id: Uuid,
        request: ManifestRequest,
        expected: Option<DocumentVersion>,
    ) -> Result<StoredManifest, ControlError> {
        let head = head(&request)?;
        let ports = self.ports();
        let apply = |record: &mut ManifestRecord| {
            if opened(ports, id, &record.sealed)?.expose() == request.text {
                return Ok(());
            }
            record.name = head.name.clone();
            record.description = head.description.clone();
            record.version = head.version.clone();
            record.sealed = seal_text(ports, id, &request.text);
            record.updated_at = ports.now();
            Ok(())
        };
        let written = self.inner.update_kept(id, expected, apply).await;
        written.map(StoredManifest::of)
    }

    /// Removes a manifest. The element that was made of it stays.
    pub async fn delete_manifest(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_kept::<ManifestRecord>(id, expected).await
    }
}

fn head(request: &ManifestRequest) -> Result<check::Head, ControlError> {
    let options = check::Options {
        name: request.name.clone(),
        variables: request.variables.clone(),
        skip_unknown: request.skip_unknown,
    };
    check::head(&request.text, &options).map_err(|refused| ControlError::Manifest { refused })
}

struct NewManifest {
    request: ManifestRequest,
    head: check::Head,
    ports: Arc<Ports>,
}

impl Creation for NewManifest {
    type Record = ManifestRecord;

    fn scope(&self) -> String {
        format!("manifest/{}", self.request.project)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(ManifestRecord, Change), ControlError> {
        let now = ports.now();
        let record = ManifestRecord {
            id,
            project: self.request.project,
            name: self.head.name.clone(),
            description: self.head.description.clone(),
            version: self.head.version.clone(),
            sealed: seal_text(ports, id, &self.request.text),
            created_at: now,
            updated_at: now,
        };
        let change = change.create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.head.uuid
    }

    fn makes(&self, record: &ManifestRecord) -> bool {
        record.project == self.request.project
            && opened(&self.ports, record.id, &record.sealed)
                .is_ok_and(|text| text.expose() == self.request.text)
    }

    fn what(&self) -> &'static str {
        "manifest"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        // Names of manifests are not unique: an element has several versions.
        ControlError::NameTaken {
            what: "manifest",
            name: self.head.name.clone(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        kept_not_found::<ManifestRecord>(id)
    }

    fn concerns(_: &ManifestRecord) -> Option<InstanceId> {
        None
    }
}
