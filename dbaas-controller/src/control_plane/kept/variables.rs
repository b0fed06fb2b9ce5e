//! Calls about variables.

use dbaas_core::id::InstanceId;
use dbaas_core::name::Description;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use serde_json::json;
use uuid::Uuid;

use super::kept_not_found;
use crate::control_plane::ControlPlane;
use crate::control_plane::create::Creation;
use crate::elements::record::VariableRecord;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, id_from};
use crate::request::{CreateVariable, Listed, Page, UpdateVariable};
use crate::view::Variable;

impl ControlPlane {
    /// Creates a variable.
    pub async fn create_variable(&self, mut request: CreateVariable) -> Result<Variable, ControlError> {
        let key = request.idempotency_key.take();
        self.inner.create(request, key).await.map(Variable::of)
    }

    /// One variable.
    pub async fn variable(&self, id: Uuid) -> Result<Variable, ControlError> {
        self.inner.load_kept(id).await.map(Variable::of)
    }

    /// All variables, those of the platform among them.
    pub async fn variables(&self, page: Page<Uuid>) -> Result<Listed<Variable, Uuid>, ControlError> {
        let listed = self.inner.list_kept(None, page).await?;
        Ok(listed.map(Variable::of))
    }

    /// Changes a variable. What was rendered with it changes when its manifest is applied again.
    pub async fn update_variable(&self, id: Uuid, update: UpdateVariable) -> Result<Variable, ControlError> {
        let ports = &self.inner.ports;
        let apply = |record: &mut VariableRecord| {
            let before = record.clone();
            record.description = update.description.clone().unwrap_or(before.description.clone());
            record.value = update.value.clone().unwrap_or(before.value.clone());
            if *record != before {
                record.updated_at = ports.now();
            }
            Ok(())
        };
        let written = self.inner.update_kept(id, update.expected, apply).await;
        written.map(Variable::of)
    }

    /// Removes a variable.
    pub async fn delete_variable(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_kept::<VariableRecord>(id, expected).await
    }
}

/// The variables that exist from the start, where they do not exist yet.
pub(in crate::control_plane) async fn ensure_platform(ports: &Ports) -> Result<(), ControlError> {
    let known = [
        (
            "default_cores",
            json!(1),
            "Cores of a node, where a manifest refers to it",
        ),
        (
            "default_ram",
            json!(1_024),
            "Memory of a node in MB, where a manifest refers to it",
        ),
    ];
    for (name, value, description) in known {
        let present = ports.repository.find::<VariableRecord>(name).await;
        if present.map_err(|error| ports.store_error(error))?.is_some() {
            continue;
        }
        // The same for every control plane, and drawn from nothing.
        let id = id_from(&["platform variable", name]);
        let (Ok(name), Ok(description)) = (name.parse(), description.parse::<Description>()) else {
            continue;
        };
        let now = ports.now();
        let record = VariableRecord {
            id,
            project: None,
            name,
            description,
            value,
            created_at: now,
            updated_at: now,
        };
        match ports.repository.commit(Change::new().create(&record)).await {
            Ok(_) => {}
            // Another control plane makes it, too.
            Err(error) if error.kind() == StoreErrorKind::NameTaken => {}
            Err(error) => return Err(ports.store_error(error)),
        }
    }
    Ok(())
}

impl Creation for CreateVariable {
    type Record = VariableRecord;

    fn scope(&self) -> String {
        "variable".to_owned()
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(VariableRecord, Change), ControlError> {
        let now = ports.now();
        let record = VariableRecord {
            id,
            project: self.project,
            name: self.name.clone(),
            description: self.description.clone(),
            value: self.value.clone(),
            created_at: now,
            updated_at: now,
        };
        let change = change.create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.id
    }

    fn makes(&self, record: &VariableRecord) -> bool {
        (self.project, &self.name, &self.description, &self.value)
            == (record.project, &record.name, &record.description, &record.value)
    }

    fn what(&self) -> &'static str {
        "variable"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        ControlError::NameTaken {
            what: "variable of the platform",
            name: self.name.to_string(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        kept_not_found::<VariableRecord>(id)
    }

    fn concerns(_: &VariableRecord) -> Option<InstanceId> {
        None
    }
}
