//! Ways to get the protocol wrong, each switched on at the border of what ships: what the planner is given,
//! what it answers, or what a node checks. The checker has to find a counterexample for each.

use dbaas_core::boot::BootRole;
use dbaas_core::boot_plan::PreparePlan;
use dbaas_core::cluster::{ClusterPhase, ClusterState, Lsn, standby_name};
use dbaas_core::config::sync_names;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::node::Rejoin;
use dbaas_core::plan::{Action, Plan};

use crate::record::{index, small};
use crate::sight::{Facts, Seeming, View};
use crate::world::{MOST_NODES, Names, Node, Sickness};

/// A check that a node, or the store, makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Sealing: the node has seen no newer epoch.
    Seal,
    /// Sealing persists the epoch.
    SealPersists,
    /// Sealing cuts the node off its primary.
    SealCuts,
    /// Promoting: the node is sealed in just this epoch.
    Promote,
    /// Setting whom a commit waits for: the node is in just this epoch.
    SetNames,
    /// Setting whom a commit waits for: the node has seen no newer setting.
    Setting,
    /// Following: the node has seen no newer epoch.
    Follow,
    /// Starting: the node has seen no newer epoch.
    Start,
    /// A standby counts only under the name of its epoch.
    EpochInName,
    /// The record is written by compare-and-swap.
    Cas,
}

/// A way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A check is left out.
    Without(Guard),
    /// Two at once: for a check that is the second line behind another one.
    Both(&'static Mutation, &'static Mutation),
    /// N - k sealed nodes are enough.
    OneSealFewer,
    /// The voters that answer are all the voters there are.
    ReachableAreAll,
    /// Nodes are compared by position alone.
    PositionAlone,
    /// A position is read while the walreceiver still runs.
    ReceiverStillRuns,
    /// A position is read before everything received is replayed, and with it the history.
    ReplayStillRuns,
    /// What was not sealed counts as sealed.
    SealedByWord,
    /// The sealed node with least is promoted.
    LeastIsPromoted,
    /// Nodes of another history count, and the old primary follows without being rewound.
    OtherHistoryCounts,
    /// Nodes with the candidate's mark vote at once, also where the epoch before this one left no mark.
    SameMarkVotes,
    /// The new electorate counts before it has caught up.
    NoBarrier,
    /// The old electorate is dropped as soon as another one is decided on.
    OldElectorateDropped,
    /// The old electorates are dropped when the candidate is chosen.
    OldElectorateDroppedAtPromotion,
    /// A new electorate goes to the primary before the store.
    PrimaryFirst,
    /// A voter that is to leave is no voter from then on.
    LeaverForgotten,
    /// A new primary waits for nobody until it is told to.
    OpenWhenPromoted,
    /// A primary that is restarted is not closed.
    OpenWhenRestarted,
    /// The old primary is started as a primary.
    OldPrimaryStarted,
    /// The epoch stays what it was.
    SameEpoch,
    /// That the primary has served is not kept.
    ServedForgotten,
    /// A primary that goes on in a new epoch does not mark it.
    NotMarked,
    /// An electorate with fewer voters than k sets no condition, and none is needed where there is no other.
    TooFewVotersAreEnough,
    /// Why it does not serve is not said.
    Silent,
    /// That a candidate was promoted twice in its epoch is of no account in the next election.
    RepromotionForgotten,
    /// Whoever may be on a timeline of the same number is rewound all the same.
    SameNumberRewound,
    /// So is a node that was promoted by an order that came late.
    StrayRewound,
    /// What a preparation that ended halfway left is started.
    HalfRewoundStarted,
    /// A preparation gives up what is there before its source has answered.
    TouchedBeforeAnswered,
    /// What starts a primary's directory behind the controller's back opens it.
    OpenWhenSelfStarted,
    /// The control plane's own statements wait for standbys.
    OwnStatementsWait,
    /// A primary that a controller does not reach is lost, whatever its standbys say.
    StandbysNotAsked,
    /// A standby that received a part of an entry is not started anew to be sealed.
    PartWaitedFor,
    /// That a primary answers looks is taken for its serving clients.
    LooksAreService,
    /// A frozen primary passes for one that serves: its port accepts connections.
    FrozenServes,
}

impl Mutation {
    /// Whether this guard is off.
    pub fn removes(self, guard: Guard) -> bool {
        match self {
            Mutation::Both(a, b) => a.removes(guard) || b.removes(guard),
            _ => self == Mutation::Without(guard),
        }
    }

    /// Whether this is among what is wrong.
    pub fn includes(self, other: Mutation) -> bool {
        match self {
            Mutation::Both(a, b) => a.includes(other) || b.includes(other),
            _ => self == other,
        }
    }

    /// Changes what the planner is given.
    pub fn before(self, record: &mut InstanceRecord, views: &mut [View; MOST_NODES]) {
        if let Mutation::Both(a, b) = self {
            a.before(record, views);
            return b.before(record, views);
        }
        let leaving: Vec<_> = record.nodes.iter().filter(|n| n.leaving).map(|n| n.id).collect();
        let Some(cluster) = record.cluster.as_mut() else {
            return;
        };
        let primary = index(cluster.primary);
        let epoch = small(cluster.epoch.0);
        let is_sealing = cluster.phase == ClusterPhase::Sealing;
        let answers = |id| views[index(id)].facts.is_some();
        match self {
            Mutation::OneSealFewer if is_sealing => cluster.electorates.iter_mut().for_each(|e| e.k += 1),
            Mutation::ReachableAreAll if is_sealing || !answers(cluster.primary) => {
                for e in &mut cluster.electorates {
                    e.voters.retain(|v| answers(*v));
                }
            }
            Mutation::TooFewVotersAreEnough if is_sealing || !answers(cluster.primary) => {
                for e in &mut cluster.electorates {
                    e.voters.retain(|v| answers(*v));
                    e.k = e.k.min(e.voters.len() as u8).max(1);
                }
            }
            Mutation::NoBarrier if cluster.is_joint() => cluster.barrier = Some(Lsn(0)),
            Mutation::RepromotionForgotten if is_sealing => cluster.repromoted = false,
            Mutation::LeaverForgotten => {
                for e in &mut cluster.electorates {
                    e.voters.retain(|v| !leaving.contains(v));
                }
            }
            Mutation::ServedForgotten if views[primary].power != Seeming::Running => {
                for n in record.nodes.iter_mut().filter(|n| index(n.id) == primary) {
                    n.rejoin = Rejoin::Seed;
                }
            }
            _ => {}
        }
        if self == Mutation::FrozenServes {
            for view in views.iter_mut().filter(|v| v.power == Seeming::Frozen) {
                view.power = Seeming::Running;
                view.facts = Some(serving(epoch));
            }
        }
        let newest = views.iter().filter_map(|v| v.facts.map(|f| f.history)).max();
        for (i, view) in views.iter_mut().enumerate() {
            let Some(f) = &mut view.facts else { continue };
            match self {
                Mutation::StandbysNotAsked => f.hears = false,
                Mutation::LooksAreService => f.sick = Sickness::Well,
                Mutation::PositionAlone if is_sealing => f.history = 1,
                Mutation::OtherHistoryCounts if f.in_recovery && !is_sealing => f.history = epoch,
                Mutation::SameMarkVotes if is_sealing && Some(f.history) == newest => f.history = epoch - 1,
                Mutation::ReceiverStillRuns => {
                    f.receiver = false;
                    f.received = f.received.map(|_| f.lsn);
                }
                Mutation::ReplayStillRuns => {
                    f.received = f.received.map(|_| f.lsn);
                    f.replay_waits = f.in_recovery;
                }
                Mutation::PartWaitedFor => f.replay_waits &= f.received.is_none_or(|at| at <= f.lsn),
                Mutation::SealedByWord if is_sealing && f.in_recovery => {
                    f.epoch = epoch;
                    f.target = None;
                    f.receiver = false;
                }
                Mutation::LeastIsPromoted if is_sealing && f.in_recovery => {
                    f.lsn = 16 - f.lsn;
                    f.received = None;
                }
                Mutation::NotMarked if i == primary && !f.in_recovery => f.history = f.history.max(epoch),
                _ => {}
            }
        }
    }

    /// Changes what it answers.
    pub fn after(self, stored: &InstanceRecord, seen: &InstanceRecord, plan: &mut Plan) {
        if let Mutation::Both(a, b) = self {
            a.after(stored, seen, plan);
            return b.after(stored, seen, plan);
        }
        let Some(before) = &stored.cluster else { return };
        let record = plan.record.get_or_insert_with(|| seen.clone());
        if self == Mutation::ServedForgotten {
            // What was made up for the planner is not stored.
            for n in &mut record.nodes {
                n.rejoin = stored.node(n.id).map_or(n.rejoin, |old| old.rejoin);
            }
        }
        if self == Mutation::Silent {
            record.status.reason = String::new();
        }
        let elects = before.phase == ClusterPhase::Sealing;
        if (self == Mutation::SameNumberRewound && elects) || (self == Mutation::StrayRewound && !elects) {
            for n in &mut record.nodes {
                let old = stored.node(n.id).map_or(n.rejoin, |old| old.rejoin);
                if n.rejoin == Rejoin::BaseBackup && old != Rejoin::BaseBackup && n.rejoin_attempts == 0 {
                    n.rejoin = Rejoin::Rewind;
                }
            }
        }
        let Some(cluster) = record.cluster.as_mut() else {
            return;
        };
        let is_new = cluster.electorates.last() != before.electorates.last();
        let changes_voters = is_new && cluster.phase == ClusterPhase::Steady;
        match self {
            Mutation::OneSealFewer if before.phase == ClusterPhase::Sealing => {
                cluster.electorates.iter_mut().for_each(|e| e.k -= 1);
            }
            Mutation::NoBarrier => cluster.barrier = None,
            Mutation::OldElectorateDropped if changes_voters => cluster.settle(),
            Mutation::OldElectorateDroppedAtPromotion if cluster.phase == ClusterPhase::Promoting => {
                cluster.settle()
            }
            Mutation::PrimaryFirst if changes_voters => {
                let action = set_names(record, seen);
                record.cluster = Some(before.clone());
                plan.actions.extend(action);
            }
            Mutation::SameEpoch if cluster.epoch > before.epoch => {
                let epoch = before.epoch;
                cluster.epoch = epoch;
                for action in &mut plan.actions {
                    if let Action::Seal { epoch: of, .. } = action {
                        *of = epoch;
                    }
                }
            }
            _ => {}
        }
        let record = record.clone();
        for action in &mut plan.actions {
            self.change(&record, action);
        }
        if self == Mutation::NotMarked {
            plan.actions.retain(|a| !matches!(a, Action::MarkHistory { .. }));
        }
    }

    fn change(self, record: &InstanceRecord, action: &mut Action) {
        let Action::Start { boot, .. } = action else {
            return;
        };
        let rewinds = matches!(boot.prepare, PreparePlan::Rewind { .. });
        let restarts = boot.role == BootRole::Primary && boot.prepare == PreparePlan::Existing;
        match self {
            Mutation::OtherHistoryCounts if rewinds => boot.prepare = PreparePlan::Existing,
            Mutation::OldPrimaryStarted if rewinds => {
                boot.prepare = PreparePlan::Existing;
                boot.role = BootRole::Primary;
                boot.sync_names = String::new();
            }
            Mutation::OpenWhenRestarted if restarts => {
                if let Some(cluster) = &record.cluster {
                    boot.sync_names = wanted_names(record, cluster);
                }
            }
            _ => {}
        }
    }

    /// Changes a node that was just started by itself.
    pub fn self_started(self, node: &mut Node) {
        if self.includes(Mutation::OpenWhenSelfStarted) {
            node.names = Names::default();
        }
    }

    /// Changes a node that was just promoted.
    pub fn promoted(self, node: &mut Node) {
        if self.includes(Mutation::OpenWhenPromoted) {
            node.names = Names::default();
        }
    }
}

/// What a primary of this epoch says when all is well with it, but for its standbys.
fn serving(epoch: u8) -> Facts {
    Facts {
        rebuild: 0,
        in_recovery: false,
        epoch,
        history: epoch,
        lsn: 1,
        received: None,
        replay_waits: false,
        receiver: false,
        hears: false,
        target: None,
        names: Names::default(),
        setting: 0,
        checkpointed: true,
        reports: Default::default(),
        sick: Sickness::Well,
    }
}

fn wanted_names(record: &InstanceRecord, cluster: &ClusterState) -> String {
    let current = cluster.current();
    let voters = current.voters.iter().filter_map(|v| record.node(*v));
    sync_names(current.k, voters.map(|n| standby_name(&n.name, cluster.epoch)))
}

fn set_names(record: &InstanceRecord, seen: &InstanceRecord) -> Option<Action> {
    let cluster = record.cluster.as_ref()?;
    Some(Action::SetSyncNames {
        node: seen.cluster.as_ref()?.primary,
        epoch: cluster.epoch,
        setting: cluster.setting,
        names: wanted_names(record, cluster),
    })
}
