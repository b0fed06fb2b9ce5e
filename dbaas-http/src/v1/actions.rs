//! What is asked of an instance once.

use dbaas_controller::request::InstanceAction;
use dbaas_core::id::NodeId;

use crate::decode::{Decoder, Object as Body, boolean, parsed};
use crate::problem::Problem;

/// The actions by the name in their path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionName {
    Switchover,
    Failover,
    Restart,
    Start,
    Stop,
}

pub(crate) fn action(name: ActionName, body: Body<'_>) -> Result<InstanceAction, Problem> {
    let mut d = Decoder::new("this action", body);
    match name {
        ActionName::Switchover => {
            let to = d.optional("to", parsed::<NodeId>);
            d.finish(|| Some(InstanceAction::Switchover { to }))
        }
        ActionName::Failover => {
            let allowed = d.optional("allow_data_loss", boolean);
            d.finish(|| {
                Some(InstanceAction::Failover {
                    allow_data_loss: allowed.unwrap_or_default(),
                })
            })
        }
        ActionName::Restart => d.finish(|| Some(InstanceAction::Restart)),
        ActionName::Start => d.finish(|| Some(InstanceAction::Start)),
        ActionName::Stop => d.finish(|| Some(InstanceAction::Stop)),
    }
}

/// The body of an action that takes nothing.
pub(crate) fn nothing(body: Body<'_>) -> Result<(), Problem> {
    Decoder::new("this action", body).finish(|| Some(()))
}
