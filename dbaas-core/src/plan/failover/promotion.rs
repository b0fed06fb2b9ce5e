//! From the choice of a candidate to a primary that has marked its history, also when the candidate is lost
//! on the way.

use crate::boot_plan::PreparePlan;
use crate::cluster::{ClusterState, Epoch, FailoverCause};
use crate::id::NodeId;
use crate::plan::Action;
use crate::plan::draft::{Draft, Serving};
use crate::reason::Reason;

use super::election::begin_epoch;
use super::followers::prepare_followers;
use super::health::{Health, health, intact, loss, sealable};
use super::{cannot_elect, restart_frozen};

pub(super) fn promoting(draft: &mut Draft<'_>, cluster: &ClusterState) -> Option<Serving> {
    let candidate = cluster.primary;
    let epoch = cluster.epoch;
    let name = draft.name(candidate);
    draft.soon();
    let Some(facts) = draft.facts(candidate) else {
        candidate_silent(draft, cluster);
        return None;
    };
    if facts.epoch > epoch {
        draft.problem(
            Reason::TakenOver,
            format!(
                "{name} was taken over in epoch {} by another controller",
                facts.epoch
            ),
        );
        return None;
    }
    if facts.in_recovery {
        draft.pending(Reason::Promoting, format!("promoting {name} (epoch {epoch})"));
        if facts.is_sealed(epoch) && draft.missing_closed_names(facts).is_none() {
            if facts.history >= epoch {
                // Something else started it as a standby.
                note_repromotion(draft);
            }
            let closed_names = draft.closed_names();
            draft.act(
                Action::Promote {
                    node: candidate,
                    epoch,
                    closed_names,
                },
                "promoting the candidate",
            );
        } else {
            let closed_names = draft.missing_closed_names(facts);
            draft.act(
                Action::Seal {
                    node: candidate,
                    epoch,
                    closed_names,
                },
                "sealing the candidate again",
            );
        }
        prepare_followers(draft, candidate);
        return None;
    }
    marked(draft, candidate, epoch).then_some(Serving { node: candidate })
}

/// The candidate is promoted a second time in its epoch, or may be. The mark is written once, and others may
/// hold it from the first time: what they hold of the candidate's history says nothing of its second part, so
/// that a position from before is no barrier either.
fn note_repromotion(draft: &mut Draft<'_>) {
    if let Some(state) = draft.record.cluster.as_mut()
        && !state.repromoted
    {
        state.repromoted = true;
        state.barrier = None;
    }
}

/// Whether this primary has written the mark of its epoch; if not, it is to. Also one that goes on in a new
/// epoch because nobody could be elected: its standbys count only when they have replayed the mark.
pub(super) fn marked(draft: &mut Draft<'_>, primary: NodeId, epoch: Epoch) -> bool {
    let Some(facts) = draft.facts(primary) else {
        return false;
    };
    if facts.history >= epoch {
        return true;
    }
    let name = draft.name(primary);
    draft.pending(
        Reason::Promoting,
        format!("{name} is the primary; marking its history (epoch {epoch})"),
    );
    draft.act(
        Action::MarkHistory { node: primary, epoch },
        "the first record of the epoch's primary",
    );
    draft.soon();
    false
}

/// The candidate does not answer: elect again if that is possible, else bring it back.
fn candidate_silent(draft: &mut Draft<'_>, cluster: &ClusterState) {
    let candidate = cluster.primary;
    let name = draft.name(candidate);
    match health(draft, candidate) {
        Health::Serving => {}
        Health::Waiting => draft.pending(
            Reason::Promoting,
            format!("waiting for the new primary {name} to answer"),
        ),
        Health::Lost => {
            let reachable = sealable(draft, cluster);
            if cluster.is_sealed_by(&reachable) {
                let message = format!("the new primary {name} is lost too ({})", loss(draft, candidate));
                begin_epoch(draft, cluster, FailoverCause::PrimaryFailed, message);
            } else if restart_frozen(draft, candidate) {
                // Next time it is off.
            } else if draft.is_off(candidate) && intact(draft, candidate) {
                // As a standby, sealed: whether it had been promoted is not known, and promoting it again is
                // always right.
                if draft.seen(candidate).is_some_and(|s| s.hold_off_ms == 0) {
                    let boot = draft.standby_boot(candidate, None, PreparePlan::Existing);
                    draft.act(
                        Action::Start {
                            node: candidate,
                            boot: Box::new(boot),
                        },
                        format!("the new primary {name} is off: starting it again to promote it"),
                    );
                    note_repromotion(draft);
                }
                draft.pending(
                    Reason::PrimaryStarting,
                    format!("the new primary {name} is being started again"),
                );
            } else {
                cannot_elect(draft, cluster, &reachable);
            }
        }
    }
}
