//! Taking over a role or database that the control plane did not make: asked for explicitly, carried out by
//! the planner.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, InstanceId, UserId};
use dbaas_core::store::DocumentVersion;
use dbaas_core::user::UserRecord;

use super::ControlPlane;
use crate::error::ControlError;
use crate::repository::Change;
use crate::view::{Database, User};

const ASKED: &str = "accepted; what has its name in PostgreSQL is about to be taken over";

impl ControlPlane {
    /// Takes over the database of this resource's name that the control plane did not make, such as one that
    /// somebody restored: from then on it is this resource's, and is set to what that asks for. Events say
    /// what came of it. Where nothing of that name waits to be taken over, nothing is done.
    pub async fn adopt_database(
        &self,
        instance: InstanceId,
        id: DatabaseId,
        expected: Option<DocumentVersion>,
    ) -> Result<Database, ControlError> {
        let adopt = |_, mut record: DatabaseRecord| async move {
            if record.adopting {
                return Ok((record, Change::new()));
            }
            record.adopting = true;
            record.accept(ASKED, self.ports().now());
            let message = format!("asked for: take over database \"{}\"", record.name);
            Ok((record, self.asked_to_adopt(instance, message)))
        };
        let inner = &self.inner;
        let adopted = inner.change_object(instance, id.uuid(), expected, adopt).await;
        adopted.map(Database::of)
    }

    /// Takes over the role of this user's name that the control plane did not make: from then on it is this
    /// user's, with this user's password. A superuser's is not taken over.
    pub async fn adopt_user(
        &self,
        instance: InstanceId,
        id: UserId,
        expected: Option<DocumentVersion>,
    ) -> Result<User, ControlError> {
        let adopt = |_, mut record: UserRecord| async move {
            if record.adopting {
                return Ok((record, Change::new()));
            }
            record.adopting = true;
            record.accept(ASKED, self.ports().now());
            let message = format!("asked for: take over role \"{}\"", record.name);
            Ok((record, self.asked_to_adopt(instance, message)))
        };
        let inner = &self.inner;
        let adopted = inner.change_object(instance, id.uuid(), expected, adopt).await;
        adopted.map(User::of)
    }

    fn asked_to_adopt(&self, instance: InstanceId, message: String) -> Change {
        Change::new().event(instance, None, self.ports().now(), "adoption_requested", message)
    }
}
