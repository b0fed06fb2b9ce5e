//! What running nodes are configured with: a change of settings, or of who may connect, is given to every
//! node that answers. Parameters that a server refuses are given up for those of before.

use crate::boot_output::is_grave;
use crate::cluster::ClusterPhase;
use crate::command::CONFIGURATION_REFUSED;
use crate::config::Configuration;
use crate::id::NodeId;
use crate::infrastructure::{ExitReason, PowerState};
use crate::instance::{RefusedParameters, Trial};
use crate::kinds::{ActionKind, EventKind};
use crate::observation::ActionFailure;
use crate::reason::Reason;

use super::Action;
use super::draft::Draft;

/// Judges the parameters that are tried: a server runs with them, or refused them.
pub(super) fn judge(draft: &mut Draft<'_>) {
    let tried = draft.record.effective_parameters().clone();
    let asked = draft.record.spec.parameters.clone();
    let state = &mut draft.record.parameters;
    state.refused.take_if(|refused| refused.parameters != asked);
    state.trials.retain(|_, trial| trial.parameters == tried);
    if tried != state.proven {
        let ids: Vec<NodeId> = draft.record.nodes.iter().map(|n| n.id).collect();
        if ids.iter().any(|id| runs_as_configured(draft, *id)) {
            draft.record.parameters.proven = tried;
        } else if let Some((node, why)) = ids.iter().find_map(|id| Some((*id, refusal(draft, *id)?))) {
            let name = draft.name(node);
            let before = draft.record.parameters.proven.clone();
            let changed = tried
                .iter()
                .filter(|(name, value)| before.get(name) != Some(value));
            let changed: Vec<String> = changed.map(|(name, value)| format!("{name} = {value}")).collect();
            let reason = format!("{name} does not run with {}: {why}", changed.join(", "));
            draft.event(EventKind::ParametersRefused, Some(node), reason.clone());
            draft.record.parameters.refused = Some(RefusedParameters {
                parameters: tried,
                reason,
            });
        }
    }
    let state = &mut draft.record.parameters;
    if state.refused.is_some() || state.proven == asked {
        state.trials.clear();
    }
}

/// Whether a server runs with all of its configuration.
fn runs_as_configured(draft: &Draft<'_>, node: NodeId) -> bool {
    let facts = draft.facts(node);
    facts.is_some_and(|f| f.pending_restart.is_empty() && draft.hashes().has_read(node, f))
}

/// What a server said that refused its configuration, when it was given it or when it was started with it.
fn refusal(draft: &Draft<'_>, node: NodeId) -> Option<String> {
    if let Some(failure) = failure(draft, node) {
        let refused = failure.message.contains(CONFIGURATION_REFUSED);
        return refused.then(|| failure.message.clone());
    }
    let trial = draft.record.parameters.trials.get(&node)?;
    let observed = draft.situation.observation.infra(node)?;
    match &observed.power {
        // One that was killed said nothing: that is no word against its configuration.
        PowerState::Exited(exit) if exit.reason == ExitReason::Died && is_grave(&exit.message) => {
            let boot = observed.boot.as_ref().map(|boot| boot.boot_id.clone());
            (boot != trial.boot_id).then(|| exit.message.clone())
        }
        _ => None,
    }
}

/// Notes each start with parameters that no server has run with yet.
pub(super) fn note_trials(draft: &mut Draft<'_>) {
    let tried = draft.record.effective_parameters().clone();
    if tried == draft.record.parameters.proven {
        return;
    }
    for action in &draft.actions {
        if let Action::Start { node, .. } = action {
            let boot = draft
                .situation
                .observation
                .infra(*node)
                .and_then(|n| n.boot.as_ref());
            let trial = Trial {
                parameters: tried.clone(),
                boot_id: boot.map(|boot| boot.boot_id.clone()),
            };
            draft.record.parameters.trials.insert(*node, trial);
        }
    }
}

/// Gives every node that has read another configuration than asked for the new one. Most of it is in effect
/// at once; what is not, PostgreSQL tells, and the node is restarted in its turn.
pub(super) fn plan(draft: &mut Draft<'_>) {
    let epoch = draft.epoch();
    for (node, configuration) in to_be_given(draft) {
        let name = draft.name(node);
        if let Some(failure) = failure(draft, node) {
            let why = &failure.message;
            draft.problem(
                Reason::ConfigurationFails,
                format!("{name} does not take its new configuration: {why}; it is tried again"),
            );
        }
        draft.pending(
            Reason::Reconfiguring,
            format!("{name} is being given its new configuration"),
        );
        draft.soon();
        // What else is to be done on it goes first: it may be what makes it a good standby.
        if !draft.actions.iter().any(|action| action.node() == node) {
            draft.act(
                Action::Reconfigure {
                    node,
                    epoch,
                    configuration: Box::new(configuration),
                },
                format!("{name} has another configuration than asked for"),
            );
        }
    }
}

/// Whether a node is about to be given a configuration: then nobody is restarted, so that what waits for a
/// restart is known. One that does not take it keeps nobody waiting.
pub(super) fn is_under_way(draft: &Draft<'_>) -> bool {
    to_be_given(draft)
        .iter()
        .any(|(node, _)| failure(draft, *node).is_none())
}

fn failure<'a>(draft: &Draft<'a>, node: NodeId) -> Option<&'a ActionFailure> {
    let failure = draft.seen(node)?.last_failure.as_ref();
    failure.filter(|failure| failure.action == ActionKind::Reconfigure)
}

/// Nodes that answer, and have read another configuration than asked for. Others get it when they are
/// started.
fn to_be_given(draft: &Draft<'_>) -> Vec<(NodeId, Configuration)> {
    let is_steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    let epoch = draft.epoch();
    let nodes = draft.record.nodes.iter().map(|n| n.id).filter(|_| is_steady);
    let hashes = draft.hashes();
    nodes
        .filter(|id| {
            draft
                .facts(*id)
                .is_some_and(|f| f.epoch <= epoch && !hashes.has_read(*id, f))
        })
        .map(|id| (id, draft.desired_configuration(id)))
        .collect()
}
