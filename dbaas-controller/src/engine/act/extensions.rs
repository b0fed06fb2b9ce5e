//! Changing extensions, one after the other, and saying who holds one up.

use dbaas_core::command;
use dbaas_core::id::NodeId;
use dbaas_core::name::DatabaseName;
use dbaas_core::plan::ExtensionChange;

use super::{ActionError, Stage};

impl Stage {
    /// Carries them all out; the error is the first one's, with its name.
    pub(super) async fn change_extensions(
        &self,
        node: NodeId,
        oid: u32,
        database: &DatabaseName,
        changes: &[ExtensionChange],
    ) -> Result<(), ActionError> {
        let mut first = Ok(());
        for change in changes {
            let script = command::change_extension(oid, change);
            let result = self.run_waiting(node, database.as_str(), &script).await;
            if let Err(error) = result
                && first.is_ok()
            {
                first = Err(ActionError {
                    message: format!("extension {}: {}", change.name(), error.message),
                    ..error
                });
            }
        }
        first
    }
}
