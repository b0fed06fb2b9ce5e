//! Calls about the catalogue of versions.

use std::time::Duration;

use dbaas_core::id::{InstanceId, VersionId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use dbaas_core::version::{PostgresMajor, VersionRecord};
use uuid::Uuid;

use super::changes::{check, unless_lost, until_written};
use super::create::Creation;
use super::{ControlPlane, Inner, invalid};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, RemovedVersion, Versioned, written};
use crate::request::{CreateVersion, Listed, Page, ResourceRef, UpdateVersion};
use crate::view::Version;

/// How long the backend may take to say what it can run.
const VERSIONS_TIMEOUT: Duration = Duration::from_secs(30);

impl ControlPlane {
    /// Adds a version to the catalogue. With a key, repeating the call answers what the first one made.
    pub async fn create_version(&self, mut request: CreateVersion) -> Result<Version, ControlError> {
        let key = request.idempotency_key.take();
        self.inner.create(request, key).await.map(Version::of)
    }

    /// One version.
    pub async fn version(&self, id: VersionId) -> Result<Version, ControlError> {
        self.inner.load_version(id).await.map(Version::of)
    }

    /// The catalogue, in the order in which versions were added.
    pub async fn versions(&self, page: Page<VersionId>) -> Result<Listed<Version, VersionId>, ControlError> {
        let after = page.after.map(VersionId::uuid);
        let id = |record: &VersionRecord| record.id;
        let listed = self.inner.listed(None, after, page.limit, id).await?;
        Ok(listed.map(Version::of))
    }

    /// Changes a version; what the update leaves out stays. Nothing is written if nothing changes.
    pub async fn update_version(
        &self,
        id: VersionId,
        update: UpdateVersion,
    ) -> Result<Version, ControlError> {
        let (inner, ports, update) = (&self.inner, self.ports(), &update);
        let written = until_written(ports, || async move {
            let read = inner.load_version(id).await?;
            check(update.expected, &read)?;
            let mut record = read.record.clone();
            if let Some(name) = &update.name {
                record.name = name.clone();
            }
            if let Some(description) = &update.description {
                record.description = description.clone();
            }
            if let Some(deprecated) = update.deprecated {
                record.deprecated = deprecated;
            }
            if let Some(extensions) = &update.extensions {
                record.extensions.clone_from(extensions);
            }
            if record == read.record {
                return Ok(Some(read));
            }
            record.updated_at = ports.now();
            let change = Change::new().update(&record, read.version);
            let version = unless_lost(ports, ports.repository.commit_one(change).await)?;
            Ok(version.map(|version| written(record, version)))
        });
        written.await.map(Version::of)
    }

    /// Removes a version that no instance has. It is not added again when the control plane starts.
    pub async fn delete_version(
        &self,
        id: VersionId,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let (inner, ports) = (&self.inner, self.ports());
        until_written(ports, || async move {
            let read = inner.load_version(id).await?;
            check(expected, &read)?;
            let removed = RemovedVersion {
                image: read.record.image.to_string(),
                removed_at: ports.now(),
            };
            let before = removed_version(ports, &removed.image).await?;
            let change = Change::new()
                .delete(&read)
                .require_unreferenced(id.uuid())
                .put_over(&removed, before.map(|before| before.version));
            match ports.repository.commit(change).await {
                Err(error) if error.kind() == StoreErrorKind::Referenced => {
                    Err(has_instances(ports, &read.record, &error.referrers).await)
                }
                removed => Ok(unless_lost(ports, removed)?.map(drop)),
            }
        })
        .await
    }
}

impl Inner {
    async fn load_version(&self, id: VersionId) -> Result<Versioned<VersionRecord>, ControlError> {
        let found = self
            .ports
            .repository
            .load_version(id)
            .await
            .map_err(|error| self.ports.store_error(error))?;
        found.ok_or_else(|| not_found(id))
    }
}

/// Names the instances that keep a version from being removed.
async fn has_instances(ports: &Ports, version: &VersionRecord, referrers: &[Uuid]) -> ControlError {
    let mut names = Vec::new();
    for id in referrers {
        // Gone in the meantime, or not readable now: then it is not named.
        if let Ok(Some(instance)) = ports.repository.load::<InstanceRecord>(*id).await {
            names.push(format!("\"{}\"", instance.record.spec.name));
        }
    }
    let detail = if names.is_empty() {
        format!("instances of {} existed a moment ago; try again", version.name)
    } else {
        let names = names.join(", ");
        format!(
            "instances of {} exist ({names}); deprecate it instead, so that it takes no new ones",
            version.name
        )
    };
    ControlError::InUse { detail }
}

async fn removed_version(
    ports: &Ports,
    image: &str,
) -> Result<Option<Versioned<RemovedVersion>>, ControlError> {
    let found = ports.repository.load(RemovedVersion::id_of(image)).await;
    found.map_err(|error| ports.store_error(error))
}

/// Adds to the catalogue what the backend can run and the catalogue lacks. Versions that are there are left
/// as they are, and those that an administrator removed stay away. A backend that cannot be asked now is not
/// an error: what the catalogue has goes on.
pub(crate) async fn sync_catalogue(ports: &Ports) -> Result<(), ControlError> {
    let asked = tokio::time::timeout(VERSIONS_TIMEOUT, ports.infrastructure.versions()).await;
    let mut available = match asked {
        Ok(Ok(available)) => available,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the backend does not say which versions it can run; the catalogue stays as it is");
            return Ok(());
        }
        Err(_) => {
            tracing::warn!(
                "the backend did not say in time which versions it can run; the catalogue stays as it is"
            );
            return Ok(());
        }
    };
    // Ids grow, so this is the order of the catalogue.
    available.sort_by_key(|available| available.version);
    for available in available {
        let image = available.image.as_str();
        let present = ports.repository.find::<VersionRecord>(image).await;
        if present.map_err(|error| ports.store_error(error))?.is_some()
            || removed_version(ports, image).await?.is_some()
        {
            continue;
        }
        let id = VersionId::from_uuid(ports.randomness.new_id(ports.now()));
        let mut record = VersionRecord::of_release(id, available.version, ports.now());
        record.image = available.image;
        match ports.repository.commit(Change::new().create(&record)).await {
            Ok(_) => {
                tracing::info!(image = %record.image, source = available.source, "added to the catalogue")
            }
            // Another control plane adds it, too.
            Err(error) if error.kind() == StoreErrorKind::NameTaken => {}
            Err(error) => return Err(ports.store_error(error)),
        }
    }
    Ok(())
}

impl Creation for CreateVersion {
    type Record = VersionRecord;

    fn scope(&self) -> String {
        "version".to_owned()
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(VersionRecord, Change), ControlError> {
        let Some(major) = self.image.major() else {
            let detail = format!(
                "its tag must begin with the version of PostgreSQL, {} or newer, such as postgres:15.18",
                PostgresMajor::OLDEST
            );
            return Err(invalid("/image", detail));
        };
        let now = ports.now();
        let record = VersionRecord {
            id: VersionId::from_uuid(id),
            name: self.name.clone(),
            description: self.description.clone(),
            image: self.image.clone(),
            symbolic_name: major.symbolic_name(),
            created_at: now,
            updated_at: now,
            deprecated: self.deprecated,
            extensions: self.extensions.clone(),
        };
        // Added again by an administrator: its removal is forgotten.
        let removed = removed_version(ports, self.image.as_str()).await?;
        let change = removed
            .iter()
            .fold(change, |change, removed| change.delete(removed));
        Ok((record.clone(), change.create(&record)))
    }

    fn makes(&self, _: &VersionRecord) -> bool {
        // Nobody chooses the id of a version.
        false
    }

    fn what(&self) -> &'static str {
        "version"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        ControlError::NameTaken {
            what: "version's image",
            name: self.image.to_string(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        not_found(VersionId::from_uuid(id))
    }

    fn concerns(_: &VersionRecord) -> Option<InstanceId> {
        None
    }
}

fn not_found(id: VersionId) -> ControlError {
    ControlError::NotFound {
        what: "version",
        resource: ResourceRef::Version(id),
    }
}
