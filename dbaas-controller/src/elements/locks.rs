//! Who applies what: one change of an element at a time within this control plane.

use std::collections::HashSet;
use std::sync::Arc;

use dbaas_core::id::ProjectId;
use parking_lot::Mutex;

use crate::error::ControlError;

type Name = (ProjectId, String);

/// The elements that are being changed.
#[derive(Clone, Default)]
pub(crate) struct ElementLocks(Arc<Mutex<HashSet<Name>>>);

/// Held while an element is being changed.
pub(crate) struct ElementLock {
    locks: ElementLocks,
    name: Name,
}

impl ElementLocks {
    pub(crate) fn take(&self, project: ProjectId, element: &str) -> Result<ElementLock, ControlError> {
        let name = (project, element.to_owned());
        if !self.0.lock().insert(name.clone()) {
            return Err(ControlError::WrongState {
                detail: format!(
                    "the element \"{element}\" is being changed just now; wait for the end of that"
                ),
            });
        }
        Ok(ElementLock {
            locks: self.clone(),
            name,
        })
    }

    pub(crate) fn is_taken(&self, project: ProjectId, element: &str) -> bool {
        self.0.lock().contains(&(project, element.to_owned()))
    }
}

impl Drop for ElementLock {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.name);
    }
}
