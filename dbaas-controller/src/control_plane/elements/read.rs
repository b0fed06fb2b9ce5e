//! Elements as they are, what they made, and their log.

use std::collections::BTreeMap;

use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::store::StoredEvent;
use dbaas_manifest::collection::Key;
use uuid::Uuid;

use crate::control_plane::ControlPlane;
use crate::elements::record::{ElementRecord, ElementStatus, MemberRecord, element_name};
use crate::elements::work::WorkRecord;
use crate::error::ControlError;
use crate::repository::{Change, Versioned};
use crate::request::{Listed, Page};
use crate::view::{Element, ElementResource};

impl ControlPlane {
    /// One element.
    pub async fn element(&self, id: Uuid) -> Result<Element, ControlError> {
        self.as_it_is(self.inner.load_kept(id).await?).await
    }

    /// The element of a project with this name.
    pub async fn element_named(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<Option<Element>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.find(&element_name(project, name)).await;
        match found.map_err(|error| ports.store_error(error))? {
            Some(found) => self.as_it_is(found).await.map(Some),
            None => Ok(None),
        }
    }

    /// The elements of a project, or of all.
    pub async fn elements(
        &self,
        project: Option<ProjectId>,
        page: Page<Uuid>,
    ) -> Result<Listed<Element, Uuid>, ControlError> {
        let listed = self.inner.list_kept(project.map(ProjectId::uuid), page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for found in listed.items {
            items.push(self.as_it_is(found).await?);
        }
        let next = listed.next;
        Ok(Listed { items, next })
    }

    /// What an element made.
    pub async fn element_resources(&self, id: Uuid) -> Result<Vec<ElementResource>, ControlError> {
        self.element(id).await?;
        let mut members: Vec<MemberRecord> = self.members(id).await?.into_values().collect();
        members.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        Ok(members.into_iter().map(ElementResource::of).collect())
    }

    /// What happened to an element, or to a password, after a position of the log, oldest first. The log
    /// outlives them.
    pub async fn events_about(
        &self,
        subject: Uuid,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.events_about(subject, after, limit).await;
        found.map_err(|error| ports.store_error(error))
    }

    /// Appends to an element's log. That the log cannot be written now keeps nothing from being done.
    pub(crate) async fn note_element(&self, element: Uuid, kind: &str, message: String) {
        let ports = self.ports();
        let change = Change::new().note(element, ports.now(), kind, message);
        if let Err(error) = ports.repository.commit(change).await {
            tracing::warn!(%element, %error, "an event was lost");
        }
        self.hint_element(element);
    }

    /// Tells those who follow an element's log.
    pub(crate) fn hint_element(&self, element: Uuid) {
        self.ports().hint(InstanceId::from_uuid(element));
    }

    /// What a caller sees of an element. What this control plane does not do itself is done by another one,
    /// or was cut short.
    async fn as_it_is(&self, mut found: Versioned<ElementRecord>) -> Result<Element, ControlError> {
        let record = &mut found.record;
        if record.status != ElementStatus::InProgress
            || self.inner.elements.is_taken(record.project, &record.name)
        {
            return Ok(Element::of(found));
        }
        let ports = self.ports();
        let work = ports.repository.load::<WorkRecord>(record.id).await;
        if work.map_err(|error| ports.store_error(error))?.is_some() {
            record.reason += "; if that was cut short, it goes on by itself";
        } else {
            record.status = ElementStatus::Error;
            record.reason = "it was cut short; apply it again".to_owned();
        }
        Ok(Element::of(found))
    }

    pub(super) async fn members(&self, element: Uuid) -> Result<BTreeMap<Key, MemberRecord>, ControlError> {
        let ports = self.ports();
        let found = ports.repository.all::<MemberRecord>(Some(element)).await;
        let found = found.map_err(|error| ports.store_error(error))?;
        Ok(found
            .into_iter()
            .map(|found| (found.record.key.clone(), found.record))
            .collect())
    }
}
