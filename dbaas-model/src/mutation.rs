//! Ways to get the protocol wrong, each switched on at the border of what ships: what the planner is given, what it answers, or what a
//! node checks. The checker has to find a counterexample for each.

use dbaas_core::cluster::{ClusterPhase, Electorate};
use dbaas_core::id::NodeId;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::node::Rejoin;
use dbaas_core::plan::{Action, Plan};

use crate::record::{id, small};
use crate::sight::View;
use crate::world::{MOST_NODES, Names, Node};

/// A check that a node makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after what they guard")]
pub enum Guard {
    Seal,
    SealPersists,
    SealCuts,
    Promote,
    SetNames,
    Follow,
    Start,
    EpochInName,
    Cas,
}

/// A way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A node does not check.
    Without(Guard),
}

impl Mutation {
    /// Whether this guard is off.
    pub fn removes(self, guard: Guard) -> bool {
        self == Mutation::Without(guard)
    }

    /// Changes what the planner is given.
    pub fn before(self, _record: &mut InstanceRecord, _views: &mut [View; MOST_NODES]) {}

    /// Changes what it answers.
    pub fn after(self, _stored: &InstanceRecord, _seen: &InstanceRecord, _plan: &mut Plan) {}

    /// Changes a node that was just promoted.
    pub fn promoted(self, _node: &mut Node) {}
}
