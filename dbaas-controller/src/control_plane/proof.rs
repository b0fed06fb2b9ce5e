//! Records as the planner sees them, for simulations and proofs.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::user::UserRecord;

use super::ControlPlane;
use crate::error::ControlError;

impl ControlPlane {
    /// How many instances were looked at since this control plane was started.
    pub fn instances_looked_at(&self) -> usize {
        self.inner.engine.looked_at()
    }

    /// An instance with everything that was decided about it.
    pub async fn instance_record(&self, id: InstanceId) -> Result<InstanceRecord, ControlError> {
        Ok(self.inner.load_instance(id).await?.record)
    }

    /// A user with everything that was decided about it.
    pub async fn user_record(&self, instance: InstanceId, id: UserId) -> Result<UserRecord, ControlError> {
        Ok(self.inner.load_object(instance, id.uuid()).await?.record)
    }

    /// A database with everything that was decided about it.
    pub async fn database_record(
        &self,
        instance: InstanceId,
        id: DatabaseId,
    ) -> Result<DatabaseRecord, ControlError> {
        Ok(self.inner.load_object(instance, id.uuid()).await?.record)
    }
}
