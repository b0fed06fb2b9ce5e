//! Calls about configs: rendered texts, kept and readable. Nothing of ours carries them to a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::secret::Secret;
use dbaas_core::store::DocumentVersion;
use serde_json::Value as Json;
use uuid::Uuid;

use super::kept_not_found;
use crate::control_plane::create::Creation;
use crate::control_plane::{ControlPlane, invalid};
use crate::elements::facts::opened;
use crate::elements::record::ConfigRecord;
use crate::elements::secret;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::Change;
use crate::request::{CreateConfig, Listed, Page, UpdateConfig};
use crate::view::StoredConfig;

impl ControlPlane {
    /// Creates a config.
    pub async fn create_config(&self, mut request: CreateConfig) -> Result<StoredConfig, ControlError> {
        check(&request.content)?;
        let ports = Arc::clone(&self.inner.ports);
        let key = request.idempotency_key.take();
        let made = self.inner.create(NewConfig { request, ports }, key).await;
        made.map(StoredConfig::of)
    }

    /// One config, without its text.
    pub async fn config(&self, id: Uuid) -> Result<StoredConfig, ControlError> {
        self.inner.load_kept(id).await.map(StoredConfig::of)
    }

    /// The configs of a project, or of all, without their texts.
    pub async fn configs(
        &self,
        project: Option<ProjectId>,
        page: Page<Uuid>,
    ) -> Result<Listed<StoredConfig, Uuid>, ControlError> {
        let listed = self.inner.list_kept(project.map(ProjectId::uuid), page).await?;
        Ok(listed.map(StoredConfig::of))
    }

    /// The text of a config. Where it holds a secret, that it was read, and by whom, is written to the event
    /// log first.
    pub async fn config_content(&self, id: Uuid, by: &str) -> Result<Secret, ControlError> {
        let read = self.inner.load_kept::<ConfigRecord>(id).await?;
        let ports = &self.inner.ports;
        if read.record.is_secret {
            let message = format!(
                "the config \"{}\", which holds a secret, was read by {by}",
                read.record.name
            );
            let change = Change::new().note(id, ports.now(), "config_content_read", message);
            ports
                .repository
                .commit(change)
                .await
                .map_err(|error| ports.store_error(error))?;
        }
        opened(ports, id, &read.record.sealed)
    }

    /// Changes a config.
    pub async fn update_config(&self, id: Uuid, update: UpdateConfig) -> Result<StoredConfig, ControlError> {
        let ports = &self.inner.ports;
        let apply = |record: &mut ConfigRecord| {
            let before = record.clone();
            record.name = update.name.clone().unwrap_or(before.name.clone());
            record.description = update.description.clone().unwrap_or(before.description.clone());
            record.fields.extend(update.fields.clone());
            if let Some((content, is_secret)) = &update.content {
                check(content)?;
                if opened(ports, id, &before.sealed)? != *content {
                    record.sealed = secret::seal(ports.sealer.as_ref(), id, content.expose());
                }
                record.is_secret = *is_secret;
            }
            if *record != before {
                record.updated_at = ports.now();
            }
            Ok(())
        };
        let written = self.inner.update_kept(id, update.expected, apply).await;
        written.map(StoredConfig::of)
    }

    /// Removes a config.
    pub async fn delete_config(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_kept::<ConfigRecord>(id, expected).await
    }
}

fn check(content: &Secret) -> Result<(), ControlError> {
    let most = dbaas_manifest::limits::RENDERED_BYTES_MAX;
    match content.expose().len() > most {
        true => Err(invalid("/content", format!("must be at most {most} bytes long"))),
        false => Ok(()),
    }
}

struct NewConfig {
    request: CreateConfig,
    ports: Arc<Ports>,
}

impl Creation for NewConfig {
    type Record = ConfigRecord;

    fn scope(&self) -> String {
        format!("config/{}", self.request.project)
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(ConfigRecord, Change), ControlError> {
        let request = &self.request;
        let now = ports.now();
        let fields: BTreeMap<String, Json> = request.fields.clone();
        let record = ConfigRecord {
            id,
            project: request.project,
            name: request.name.clone(),
            description: request.description.clone(),
            fields,
            is_secret: request.is_secret,
            sealed: secret::seal(ports.sealer.as_ref(), id, request.content.expose()),
            created_at: now,
            updated_at: now,
        };
        let change = change.create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.request.id
    }

    fn makes(&self, record: &ConfigRecord) -> bool {
        let request = &self.request;
        (
            &request.name,
            &request.description,
            request.project,
            &request.fields,
        ) == (&record.name, &record.description, record.project, &record.fields)
            && opened(&self.ports, record.id, &record.sealed).is_ok_and(|there| there == request.content)
    }

    fn what(&self) -> &'static str {
        "config"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        // Names of configs are not unique.
        ControlError::NameTaken {
            what: "config",
            name: self.request.name.to_string(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        kept_not_found::<ConfigRecord>(id)
    }

    fn concerns(_: &ConfigRecord) -> Option<InstanceId> {
        None
    }
}
