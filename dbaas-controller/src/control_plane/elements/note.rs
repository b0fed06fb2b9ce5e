//! What is written down of a change under way, beside the element: so that somebody can go on with it.

use dbaas_core::store::StoreErrorKind;
use uuid::Uuid;

use crate::control_plane::ControlPlane;
use crate::control_plane::changes::until_written;
use crate::elements::record::ElementRecord;
use crate::elements::work::WorkRecord;
use crate::error::ControlError;
use crate::repository::Change;

/// What becomes of the note of what an element is being changed to.
#[derive(Clone)]
pub(super) enum Work {
    /// The change has begun.
    Begun(Option<WorkRecord>),
    /// It goes on later.
    Stays,
    /// It is over.
    Over,
}

impl ControlPlane {
    /// The change, with what becomes of the note of what the element is being changed to.
    pub(super) async fn with_work(
        &self,
        change: Change,
        element: Uuid,
        work: Work,
    ) -> Result<Change, ControlError> {
        let ports = self.ports();
        let there = ports.repository.load::<WorkRecord>(element).await;
        let there = there.map_err(|error| ports.store_error(error))?;
        Ok(match (work, there) {
            (Work::Begun(Some(work)), there) => change.put_over(&work, there.map(|there| there.version)),
            (Work::Begun(None) | Work::Over, Some(there)) => change.delete(&there),
            (Work::Begun(None) | Work::Over, None) | (Work::Stays, _) => change,
        })
    }

    pub(super) async fn write_down(
        &self,
        id: Uuid,
        kind: &str,
        message: &str,
        work: Work,
        write: impl Fn(&mut ElementRecord),
    ) -> Result<(), ControlError> {
        let (ports, work, write) = (self.ports(), &work, &write);
        until_written(ports, || async move {
            let mut read = self.inner.load_kept::<ElementRecord>(id).await?;
            write(&mut read.record);
            let change = Change::new()
                .note(id, ports.now(), kind, message)
                .update(&read.record, read.version);
            let change = self.with_work(change, id, work.clone()).await?;
            match ports.repository.commit(change).await {
                Ok(_) => {
                    self.hint_element(id);
                    Ok(Some(()))
                }
                Err(error) if error.kind() == StoreErrorKind::Conflict || error.is_retryable() => Ok(None),
                Err(error) => Err(ports.store_error(error)),
            }
        })
        .await
    }
}
