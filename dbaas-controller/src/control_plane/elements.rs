//! Calls about elements: plan and apply a manifest, uninstall what it made.

mod apply;
mod calls;
mod carry_out;
mod check;
mod fields;
mod note;
mod prepare;
mod read;
mod removal;
mod resume;
mod settle;
mod uninstall;

use dbaas_manifest::plan::Destroy;
use uuid::Uuid;

pub(crate) use resume::keep_resuming;

use super::ControlPlane;
use crate::elements::{ApplyOptions, ElementPlan, ManifestRequest};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::view::Element;

impl ControlPlane {
    /// What applying the manifest would do. Everything that is wrong with it is told at once, and nothing is
    /// written.
    pub async fn plan_manifest(
        &self,
        request: ManifestRequest,
        destroy: Destroy,
    ) -> Result<ElementPlan, ControlError> {
        let prepared = self.prepare(request, destroy).await?;
        Ok(prepared.shown())
    }

    /// Applies a manifest, and returns when everything that it declares is there. Applied again it changes
    /// nothing.
    ///
    /// When it fails half-way, what was made stays and is the element's; applying it again goes on. When it
    /// is cut short, because this process ends or the caller goes away, the control plane that acts goes on
    /// by itself.
    pub async fn apply_manifest(
        &self,
        request: ManifestRequest,
        options: ApplyOptions,
    ) -> Result<(Element, ElementPlan), ControlError> {
        let begun = self.begin(request, options).await?;
        let (id, shown) = (begun.element, begun.prepared.shown());
        self.finish(begun).await?;
        Ok((self.element(id).await?, shown))
    }

    /// Begins to apply a manifest, and returns as soon as that is written down. How far it is, the element's
    /// status says and, step by step, its events.
    pub async fn begin_apply(
        &self,
        request: ManifestRequest,
        options: ApplyOptions,
    ) -> Result<(Element, ElementPlan), ControlError> {
        let begun = self.begin(request, options).await?;
        let (id, shown) = (begun.element, begun.prepared.shown());
        let plane = self.clone();
        let mut stopping = self.inner.engine.stopping();
        tokio::spawn(async move {
            tokio::select! {
                result = plane.finish(begun) => if let Err(error) = result {
                    tracing::info!(element = %id, %error, "a manifest was not applied to the end");
                },
                // The control plane that acts next goes on.
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        Ok((self.element(id).await?, shown))
    }

    /// Deletes everything that an element made, and the element. Refused while another element needs it, and,
    /// unless that is allowed, while it has instances or databases. Returns when everything is gone.
    pub async fn uninstall_element(&self, id: Uuid, options: ApplyOptions) -> Result<(), ControlError> {
        let begun = self.begin_removal(id, options).await?;
        self.finish_removal(begun).await
    }

    /// [`ControlPlane::uninstall_element`], which returns as soon as that is written down.
    pub async fn begin_uninstall(&self, id: Uuid, options: ApplyOptions) -> Result<(), ControlError> {
        let begun = self.begin_removal(id, options).await?;
        let plane = self.clone();
        let mut stopping = self.inner.engine.stopping();
        tokio::spawn(async move {
            tokio::select! {
                result = plane.finish_removal(begun) => if let Err(error) = result {
                    tracing::info!(element = %id, %error, "an element was not uninstalled to the end");
                },
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        Ok(())
    }
}

/// For the modules of the façade that write manifests.
pub(super) fn seal_text(ports: &Ports, id: Uuid, text: &str) -> String {
    crate::elements::secret::seal(ports.sealer.as_ref(), id, text)
}
