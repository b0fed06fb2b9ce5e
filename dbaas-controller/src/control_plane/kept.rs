//! Calls about what is kept for manifests and people: passwords, configs, variables, tokens.

mod configs;
mod passwords;
mod tokens;
mod variables;

use dbaas_core::store::DocumentVersion;
use uuid::Uuid;

pub(super) use variables::ensure_platform;

use super::changes::{check, unless_lost, until_written};
use super::{Inner, clamp_limit, cut};
use crate::error::ControlError;
use crate::repository::{Change, Record, Versioned, written};
use crate::request::{Listed, Page, ResourceRef};

impl Inner {
    /// The record with this id.
    pub(super) async fn load_kept<R: Record>(&self, id: Uuid) -> Result<Versioned<R>, ControlError> {
        let found = self.ports.repository.load::<R>(id).await;
        found
            .map_err(|error| self.ports.store_error(error))?
            .ok_or_else(|| kept_not_found::<R>(id))
    }

    /// One page of them, of a parent or of all.
    pub(super) async fn list_kept<R: Record>(
        &self,
        parent: Option<Uuid>,
        page: Page<Uuid>,
    ) -> Result<Listed<Versioned<R>, Uuid>, ControlError> {
        let limit = clamp_limit(page.limit);
        let found = self
            .ports
            .repository
            .page::<R>(parent, page.after, limit + 1)
            .await;
        let found = found.map_err(|error| self.ports.store_error(error))?;
        Ok(cut(found, limit, |record: &R| record.uuid()))
    }

    /// Writes what `change` makes of the record, unless that is the same.
    pub(super) async fn update_kept<R: Record + Clone + PartialEq>(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
        change: impl Fn(&mut R) -> Result<(), ControlError>,
    ) -> Result<Versioned<R>, ControlError> {
        let (ports, change) = (&self.ports, &change);
        until_written(ports, || async move {
            let read = self.load_kept::<R>(id).await?;
            check(expected, &read)?;
            let mut record = read.record.clone();
            change(&mut record)?;
            if record == read.record {
                return Ok(Some(read));
            }
            let change = Change::new().update(&record, read.version);
            let version = unless_lost(ports, ports.repository.commit_one(change).await)?;
            Ok(version.map(|version| written(record, version)))
        })
        .await
    }

    /// Removes the record.
    pub(super) async fn delete_kept<R: Record>(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        let ports = &self.ports;
        until_written(ports, || async move {
            let read = self.load_kept::<R>(id).await?;
            check(expected, &read)?;
            let removed = ports.repository.commit(Change::new().delete(&read)).await;
            Ok(unless_lost(ports, removed)?.map(drop))
        })
        .await
    }
}

pub(super) fn kept_not_found<R: Record>(id: Uuid) -> ControlError {
    ControlError::NotFound {
        what: R::KIND,
        resource: ResourceRef::Kept(id),
    }
}
