//! What an [`InstanceAction`] means for an instance's record: a pure function.

use dbaas_core::id::NodeId;
use dbaas_core::instance::{DesiredState, FailoverRequest, InstanceRecord, Requests, SwitchoverRequest};
use dbaas_core::time::Timestamp;

use super::{invalid, node_name};
use crate::error::ControlError;
use crate::request::InstanceAction;

/// What goes to the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    /// A stable word.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) message: String,
}

/// `serves`: the primary was just seen to serve. Writes the action into the record; a record that is as it
/// was needs no write. The instance is not being deleted.
pub(super) fn apply(
    record: &mut InstanceRecord,
    action: &InstanceAction,
    serves: bool,
    now: Timestamp,
) -> Result<Noted, ControlError> {
    match action {
        InstanceAction::Switchover { to } => switchover(record, *to, now),
        InstanceAction::Failover { allow_data_loss } => failover(record, *allow_data_loss, serves, now),
        InstanceAction::Restart => {
            refuse_stopped(record, "restarted")?;
            record.requests.restart = Some(now);
            Ok(noted(
                "restart_requested",
                "asked for: restart every node, one at a time",
            ))
        }
        InstanceAction::Start => {
            record.desired = DesiredState::Running;
            Ok(noted("start_requested", "asked for: start"))
        }
        InstanceAction::Stop => {
            record.desired = DesiredState::Stopped;
            // What was asked of the running instance is moot, and must not happen when it is started some
            // day.
            record.requests = Requests::default();
            Ok(noted("stop_requested", "asked for: stop, data is kept"))
        }
    }
}

fn switchover(
    record: &mut InstanceRecord,
    to: Option<NodeId>,
    now: Timestamp,
) -> Result<Noted, ControlError> {
    let primary = primary_with_standby(record, "switchover")?;
    let message = match to {
        None => "asked for: switchover to the best standby".to_owned(),
        Some(to) => {
            let Some(node) = record.node(to) else {
                return Err(invalid("/to", "this instance has no such node"));
            };
            if node.leaving {
                return Err(invalid(
                    "/to",
                    format!("{} is being removed; name another standby", node.name),
                ));
            }
            if node.id == primary {
                return Err(invalid(
                    "/to",
                    format!("{} is the primary already; name a standby", node.name),
                ));
            }
            format!(
                "asked for: switchover from {} to {}",
                node_name(record, primary),
                node.name
            )
        }
    };
    record.requests.switchover = Some(SwitchoverRequest {
        to,
        at: now,
        by_controller: false,
        prepared: false,
        checkpoint_after: None,
    });
    Ok(Noted {
        kind: "switchover_requested",
        message,
    })
}

fn failover(
    record: &mut InstanceRecord,
    allow_data_loss: bool,
    serves: bool,
    now: Timestamp,
) -> Result<Noted, ControlError> {
    let primary = primary_with_standby(record, "failover")?;
    if serves {
        let name = node_name(record, primary);
        let detail = format!(
            "{name} is the primary, and takes logins and commits: a failover is for one that does not; use actions/switchover to change it"
        );
        return Err(ControlError::WrongState { detail });
    }
    record.requests.failover = Some(FailoverRequest {
        allow_data_loss,
        from: Some(primary),
        at: now,
    });
    let loss = if allow_data_loss {
        "also if acknowledged commits may be lost"
    } else {
        "unless acknowledged commits may be lost"
    };
    let message = format!(
        "asked for: failover away from {}, {loss}",
        node_name(record, primary)
    );
    Ok(Noted {
        kind: "failover_requested",
        message,
    })
}

/// The primary, if there is a standby that could take over.
fn primary_with_standby(record: &InstanceRecord, what: &str) -> Result<NodeId, ControlError> {
    refuse_stopped(record, "given another primary")?;
    let Some(cluster) = &record.cluster else {
        return Err(ControlError::WrongState {
            detail: format!("the instance is still being created; ask for the {what} when it is ACTIVE"),
        });
    };
    // One that is being removed does for a failover, where there may be no other copy of the data; a
    // switchover has a choice.
    let standby_exists = record
        .nodes
        .iter()
        .any(|node| node.id != cluster.primary && (what == "failover" || !node.leaving));
    if !standby_exists {
        return Err(ControlError::WrongState {
            detail: format!("a {what} needs a standby, and this instance has none; raise nodes_number first"),
        });
    }
    Ok(cluster.primary)
}

fn refuse_stopped(record: &InstanceRecord, done: &str) -> Result<(), ControlError> {
    match record.desired {
        DesiredState::Running => Ok(()),
        DesiredState::Stopped | DesiredState::Deleted => Err(ControlError::WrongState {
            detail: format!("the instance is stopped and cannot be {done}; start it first"),
        }),
    }
}

fn noted(kind: &'static str, message: &str) -> Noted {
    Noted {
        kind,
        message: message.to_owned(),
    }
}
