//! The hashes of what nodes are to be configured with.

use std::collections::BTreeMap;

use crate::config::HbaRules;
use crate::id::NodeId;
use crate::infrastructure::Resources;
use crate::instance::InstanceRecord;
use crate::observation::NodeFacts;
use crate::parameters::Parameters;

use super::settings::desired_configuration;

/// One for the primary, one for every other node. To render and to hash a configuration takes longer than
/// anything else in a plan, so it is done anew only when something has changed that goes into it.
pub(super) struct Hashes {
    inputs: Inputs,
    of_primary: String,
    of_others: Option<String>,
}

/// What goes into a configuration and may change while a plan is made.
#[derive(PartialEq)]
struct Inputs {
    primary: Option<NodeId>,
    parameters: Parameters,
    floor: BTreeMap<String, u64>,
    largest: Resources,
}

impl Inputs {
    fn of(record: &InstanceRecord) -> Self {
        Inputs {
            primary: record.cluster.as_ref().map(|c| c.primary),
            parameters: record.effective_parameters().clone(),
            floor: record.parameters.floor.clone(),
            largest: record.largest,
        }
    }
}

impl Hashes {
    pub(super) fn of(record: &InstanceRecord, hba: &HbaRules) -> Self {
        let inputs = Inputs::of(record);
        let hash = |id| desired_configuration(record, hba, id).hash();
        let mut ids = record.nodes.iter().map(|n| n.id);
        Hashes {
            of_primary: inputs.primary.map(hash).unwrap_or_default(),
            of_others: ids.find(|id| Some(*id) != inputs.primary).map(hash),
            inputs,
        }
    }

    /// Whether they are still true.
    pub(super) fn are_of(&self, record: &InstanceRecord) -> bool {
        self.inputs == Inputs::of(record)
    }

    /// Whether this node, which answers, has read what it is to be configured with.
    pub(super) fn has_read(&self, node: NodeId, facts: &NodeFacts) -> bool {
        let wanted = match Some(node) == self.inputs.primary {
            true => Some(&self.of_primary),
            false => self.of_others.as_ref(),
        };
        wanted == Some(&facts.config_hash)
    }
}
