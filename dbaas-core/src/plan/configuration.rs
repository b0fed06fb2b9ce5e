//! What running nodes are configured with: a change of settings, or of who may connect, is given to every node that answers.

use crate::cluster::ClusterPhase;
use crate::id::NodeId;
use crate::observation::ActionFailure;

use super::Action;
use super::draft::Draft;

/// [`Action::name`] of [`Action::Reconfigure`].
pub(super) const RECONFIGURE: &str = "reconfigure";

/// Gives every node that has read another configuration than asked for the new one. Most of it is in effect at once; what is not, PostgreSQL
/// tells, and the node is restarted in its turn.
pub(super) fn plan(draft: &mut Draft<'_>) {
    let configuration = draft.desired_configuration();
    let epoch = draft.epoch();
    for node in to_be_given(draft) {
        let name = draft.name(node);
        if let Some(failure) = failure(draft, node) {
            let why = &failure.message;
            draft.problem(format!(
                "{name} does not take its new configuration: {why}; it is tried again"
            ));
        }
        draft.pending(format!("{name} is being given its new configuration"));
        draft.soon();
        // What else is to be done on it goes first: it may be what makes it a good standby.
        if !draft.actions.iter().any(|action| action.node() == node) {
            draft.act(
                Action::Reconfigure {
                    node,
                    epoch,
                    configuration: Box::new(configuration.clone()),
                },
                format!("{name} has another configuration than asked for"),
            );
        }
    }
}

/// Whether a node is about to be given a configuration: then nobody is restarted, so that what waits for a restart is known. One that does not
/// take it keeps nobody waiting.
pub(super) fn is_under_way(draft: &Draft<'_>) -> bool {
    to_be_given(draft)
        .iter()
        .any(|node| failure(draft, *node).is_none())
}

fn failure<'a>(draft: &Draft<'a>, node: NodeId) -> Option<&'a ActionFailure> {
    let failure = draft.seen(node)?.last_failure.as_ref();
    failure.filter(|failure| failure.action == RECONFIGURE)
}

/// Nodes that answer, and have read another configuration than asked for. Others get it when they are started.
fn to_be_given(draft: &Draft<'_>) -> Vec<NodeId> {
    let is_steady = draft.cluster().is_some_and(|c| c.phase == ClusterPhase::Steady);
    let (hash, epoch) = (draft.desired_configuration().hash(), draft.epoch());
    let nodes = draft.record.nodes.iter().map(|n| n.id).filter(|_| is_steady);
    nodes
        .filter(|id| {
            draft
                .facts(*id)
                .is_some_and(|f| f.config_hash != hash && f.epoch <= epoch)
        })
        .collect()
}
