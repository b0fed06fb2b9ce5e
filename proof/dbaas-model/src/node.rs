//! What actions, faults and time do to the nodes. The guards are those of `dbaas_core::command` and of the
//! backends' contract.

use dbaas_core::cluster::Electorate;
use dbaas_core::id::NodeId;

use crate::mutation::{Guard, Mutation};
use crate::record::index;
use crate::wal::Entry;
use crate::world::{
    Act, Boot, Data, MOST_NODES, Node, Power, Prepare, Report, Sickness, State, Violation, What,
};

/// Does an action, if its guard holds where it is done.
pub fn perform(state: &mut State, act: Act, mutation: Option<Mutation>) {
    let i = usize::from(act.node);
    let lacks = |guard| mutation.is_some_and(|m| m.removes(guard));
    let n = state.nodes[i];
    let answers = n.runs();
    match act.what {
        What::Apply => state.nodes[i].exists = true,
        What::Start(boot) => start(state, i, boot, mutation),
        What::PowerOff(graceful) => {
            if graceful && n.is_writable() {
                send_everything(state, i);
            }
            stop(state, i, Power::Off);
        }
        What::Remove => remove(state, i),
        What::Bootstrap => {
            if answers && n.primary && n.wal.history(n.wal.len()) == 0 {
                state.nodes[i].wal.push(Entry::Mark(1));
                state.nodes[i].replayed = state.nodes[i].wal.len();
            }
        }
        What::Seal(epoch, closed) => {
            if answers && !n.primary && (n.epoch <= epoch || lacks(Guard::Seal)) {
                let n = &mut state.nodes[i];
                n.epoch = if lacks(Guard::SealPersists) {
                    n.epoch
                } else {
                    epoch
                };
                n.target = if lacks(Guard::SealCuts) { n.target } else { None };
                n.names = closed.unwrap_or(n.names);
            }
        }
        What::Promote(epoch, closed) => {
            let quiet =
                n.receiver.is_none() || mutation.is_some_and(|m| m.includes(Mutation::ReceiverStillRuns));
            let sealed = n.epoch == epoch && n.target.is_none() && quiet && n.names == closed;
            if answers && !n.primary && (sealed || lacks(Guard::Promote)) {
                promote(state, i, epoch, mutation);
            }
        }
        What::Mark(epoch) => {
            if answers && n.primary && n.epoch == epoch {
                state.nodes[i].wal.push(Entry::Mark(epoch));
                state.nodes[i].replayed = state.nodes[i].wal.len();
            }
        }
        What::SetNames(epoch, setting, names) => {
            let epoch_holds = n.epoch == epoch || lacks(Guard::SetNames);
            let setting_holds = n.setting <= setting || lacks(Guard::Setting);
            let hangs = mutation.is_some_and(|m| m.includes(Mutation::OwnStatementsWait)) && !is_served(&n);
            if answers && n.primary && epoch_holds && setting_holds && !hangs {
                state.nodes[i].names = names;
                state.nodes[i].setting = setting;
            }
        }
        What::Follow(epoch, target, closed) => {
            if answers && !n.primary && (n.epoch <= epoch || lacks(Guard::Follow)) {
                let n = &mut state.nodes[i];
                n.epoch = epoch;
                n.target = Some(target);
                n.names = closed.unwrap_or(n.names);
            }
        }
        What::Checkpoint => {
            if n.is_writable() {
                state.nodes[i].checkpointed = true;
            }
        }
    }
}

/// Whether a commit on this primary would be acknowledged at once.
fn is_served(n: &Node) -> bool {
    let reports = (0..MOST_NODES).filter(|s| n.names.voters & (1 << s) != 0);
    let there = reports.filter(|s| n.reports[*s].is_some_and(|r| r.epoch == n.names.epoch));
    there.count() >= usize::from(n.names.k)
}

fn promote(state: &mut State, i: usize, epoch: u8, mutation: Option<Mutation>) {
    let before = std::mem::replace(&mut state.promoted[usize::from(epoch).min(7)], i as u8 + 1);
    if before != 0 && before != i as u8 + 1 {
        state.violate(Violation::EpochReused);
    }
    let n = &mut state.nodes[i];
    n.primary = true;
    n.receiver = None;
    n.part = false;
    n.checkpointed = false;
    n.setting = 0;
    n.newest_timeline += 1;
    n.wal.promote(epoch, n.newest_timeline);
    n.replayed = n.wal.len();
    if let Some(m) = mutation {
        m.promoted(n);
    }
}

fn start(state: &mut State, i: usize, boot: Boot, mutation: Option<Mutation>) {
    let lacks = |guard| mutation.is_some_and(|m| m.removes(guard));
    let n = state.nodes[i];
    let off = matches!(
        n.power,
        Power::Off | Power::Died | Power::Failed | Power::SeedGone
    );
    if !n.exists || !off || (n.epoch > boot.epoch && !lacks(Guard::Start)) {
        return;
    }
    match boot.prepare {
        Prepare::Rewind(source) | Prepare::Backup(source)
            if n.data == Data::Incomplete
                && mutation.is_some_and(|m| m.includes(Mutation::HalfRewoundStarted)) =>
        {
            state.nodes[i].wal = state.nodes[usize::from(source)].wal.half_copied();
            run(state, i, boot);
        }
        Prepare::Existing if n.data == Data::Full => run(state, i, boot),
        Prepare::Existing => {}
        Prepare::Rewind(_) if n.data != Data::Full => {}
        // The same epoch's own finished `initdb` counts as done.
        Prepare::Init(_) if n.data == Data::Full && n.made && n.epoch == boot.epoch => run(state, i, boot),
        Prepare::Init(_) if n.data == Data::Full => {
            state.violate(Violation::LastCopyDestroyed);
        }
        Prepare::Seed if n.started => {}
        Prepare::Seed => prepare(state, i, boot),
        Prepare::Backup(source) | Prepare::Rewind(source)
            if !answers(state, i, source.into())
                && mutation.is_none_or(|m| !m.includes(Mutation::TouchedBeforeAnswered)) =>
        {
            // Nothing is touched before the source has answered.
            state.nodes[i].power = Power::Failed;
            state.nodes[i].epoch = boot.epoch;
        }
        Prepare::Init(_) | Prepare::Backup(_) | Prepare::Rewind(_) => {
            if destroys_last_copy(state, i, boot.prepare) {
                state.violate(Violation::LastCopyDestroyed);
            }
            state.nodes[i].data = Data::Incomplete;
            prepare(state, i, boot);
        }
    }
}

/// Whether a node reaches the one that it is to be copied from.
fn answers(state: &State, i: usize, source: usize) -> bool {
    state.nodes[source].runs() && state.linked(i, source)
}

fn prepare(state: &mut State, i: usize, boot: Boot) {
    let n = &mut state.nodes[i];
    n.power = Power::Preparing(boot);
    n.epoch = boot.epoch;
}

/// Whether an acknowledged commit would be nowhere but in what is thrown away.
fn destroys_last_copy(state: &State, i: usize, _prepare: Prepare) -> bool {
    (0..8).any(|c| {
        state.acknowledged & (1 << c) != 0
            && state.nodes[i].wal.holds(c)
            && !state
                .nodes
                .iter()
                .enumerate()
                .any(|(j, n)| j != i && n.data == Data::Full && n.wal.holds(c))
    })
}

/// Files are written, the server is started.
fn run(state: &mut State, i: usize, boot: Boot) {
    let n = &mut state.nodes[i];
    n.data = Data::Full;
    n.power = Power::Running;
    n.started = true;
    n.made = matches!(boot.prepare, Prepare::Init(_));
    n.primary = boot.primary;
    n.epoch = boot.epoch;
    n.rebuild = boot.rebuild;
    n.target = boot.target;
    n.names = boot.names;
    revive(n);
}

/// A server starts on what is there: a primary replays all of its WAL, a standby begins anew from its last
/// restartpoint.
fn revive(n: &mut Node) {
    n.power = Power::Running;
    n.receiver = None;
    n.streamed = false;
    n.part = false;
    n.reports = Default::default();
    n.replayed = if n.primary {
        n.wal.len()
    } else {
        n.wal.len().min(1)
    };
}

/// A node starts by itself, as it was.
pub fn self_start(state: &mut State, i: usize, mutation: Option<Mutation>) {
    let n = &mut state.nodes[i];
    revive(n);
    if let Some(m) = mutation {
        m.self_started(n);
    }
}

/// Whether a preparation can end.
pub fn can_finish(state: &State, i: usize) -> bool {
    let Power::Preparing(boot) = state.nodes[i].power else {
        return false;
    };
    match boot.prepare {
        Prepare::Existing | Prepare::Init(_) => true,
        Prepare::Seed => {
            state.nodes[i].data == Data::Full || state.record.primary().is_none_or(|p| state.nodes[p].started)
        }
        Prepare::Backup(source) | Prepare::Rewind(source) => answers(state, i, source.into()),
    }
}

/// A preparation ends, and the server is started.
pub fn finish(state: &mut State, i: usize) {
    let Power::Preparing(boot) = state.nodes[i].power else {
        return;
    };
    match boot.prepare {
        Prepare::Existing => {}
        Prepare::Init(seeds) => {
            state.nodes[i].wal = Default::default();
            state.nodes[i].newest_timeline = 0;
            state.promoted[1] = i as u8 + 1;
            for s in (0..MOST_NODES).filter(|s| seeds & (1 << s) != 0) {
                let seed = &mut state.nodes[s];
                if seed.exists && seed.data != Data::Full {
                    seed.data = Data::Full;
                    seed.wal = Default::default();
                    seed.newest_timeline = 0;
                }
            }
        }
        Prepare::Seed => {
            if state.nodes[i].data != Data::Full {
                state.nodes[i].power = Power::SeedGone;
                return;
            }
        }
        Prepare::Backup(source) => {
            let source = state.nodes[usize::from(source)];
            state.nodes[i].wal = source.wal;
            state.nodes[i].sick = Sickness::Well;
            state.nodes[i].newest_timeline = source.newest_timeline;
        }
        Prepare::Rewind(source) => {
            // Before the first checkpoint after its promotion the source seems to have the old history:
            // nothing is rewound.
            let source = state.nodes[usize::from(source)];
            let before = state.nodes[i].wal;
            state.nodes[i].sick = Sickness::Well;
            if source.checkpointed || !source.primary {
                state.nodes[i].wal = before.rewound_to(source.wal);
            }
            if state.nodes[i].wal != before {
                // History files come with everything else.
                state.nodes[i].newest_timeline = source.newest_timeline;
            }
        }
    }
    run(state, i, boot);
    if matches!(boot.prepare, Prepare::Backup(_) | Prepare::Rewind(_)) {
        // It answers only when it has come to where the copy is consistent.
        state.nodes[i].replayed = state.nodes[i].wal.len();
    }
}

fn remove(state: &mut State, i: usize) {
    if matches!(
        state.nodes[i].power,
        Power::Running | Power::Frozen | Power::Preparing(_)
    ) {
        return;
    }
    if destroys_last_copy(state, i, Prepare::Existing) {
        state.violate(Violation::LastCopyDestroyed);
    }
    state.nodes[i] = Node::default();
}

/// Every standby that is connected gets everything before a fast shutdown ends.
fn send_everything(state: &mut State, i: usize) {
    for s in 0..MOST_NODES {
        while receive(state, s, i) {}
    }
}

/// The process ends; connections that can be seen to end do.
pub fn stop(state: &mut State, i: usize, power: Power) {
    let power = match state.nodes[i].power {
        Power::Preparing(boot) => {
            if matches!(boot.prepare, Prepare::Seed) {
                Power::Died
            } else {
                Power::Failed
            }
        }
        Power::Running | Power::Frozen => power,
        Power::Off | Power::Died | Power::Failed | Power::SeedGone => return,
    };
    let n = &mut state.nodes[i];
    n.power = power;
    n.reports = Default::default();
    n.streamed = false;
    n.part = false;
    if n.sick == Sickness::Stuck {
        n.sick = Sickness::Well;
    }
    disconnect(state, i);
    for s in 0..MOST_NODES {
        let from_here = state.nodes[s].receiver.is_some_and(|t| usize::from(t.node) == i);
        if from_here && state.linked(i, s) && state.nodes[s].runs() {
            state.nodes[s].receiver = None;
        }
    }
}

/// A standby's walreceiver ends. Its primary notices unless it cannot.
pub fn disconnect(state: &mut State, s: usize) {
    let Some(from) = state.nodes[s].receiver.take() else {
        return;
    };
    let p = usize::from(from.node);
    if state.nodes[p].runs() && state.linked(p, s) {
        state.nodes[p].reports[s] = None;
    }
}

/// Whether a walreceiver is to end: its node follows somebody else now, or nothing comes any more.
pub fn is_disconnect_due(state: &State, s: usize) -> bool {
    let n = &state.nodes[s];
    n.runs()
        && n.receiver.is_some_and(|t| {
            let p = usize::from(t.node);
            n.receiver != n.target || !state.nodes[p].runs() || !state.linked(p, s)
        })
}

/// Whether a walsender is to end: nobody is there any more.
pub fn is_walsender_due(state: &State, p: usize, s: usize) -> bool {
    let receives = state.nodes[s].runs() && state.nodes[s].receiver.is_some_and(|t| usize::from(t.node) == p);
    state.nodes[p].runs() && state.nodes[p].reports[s].is_some() && (!receives || !state.linked(p, s))
}

/// Whether a standby can connect to whom it is to follow.
pub fn can_connect(state: &State, s: usize) -> bool {
    let n = &state.nodes[s];
    n.runs()
        && !n.primary
        && n.receiver.is_none()
        && n.replayed == n.wal.len()
        && n.target.is_some_and(|t| {
            let p = usize::from(t.node);
            p != s && state.nodes[p].runs() && state.linked(p, s)
        })
}

/// It connects, and reports what it has. One whose WAL is of another history reports positions that mean
/// nothing: the worst is assumed.
pub fn connect(state: &mut State, s: usize) {
    let Some(target) = state.nodes[s].target else {
        return;
    };
    let there = state.nodes[usize::from(target.node)].wal.timeline();
    let n = &mut state.nodes[s];
    n.receiver = Some(target);
    n.streamed = true;
    // What it has of another timeline's entry does not count on this one.
    n.part &= there == n.wal.timeline();
    // The primary's history files come first, before it is known whether anything else will.
    n.newest_timeline = n.newest_timeline.max(there);
    report(state, s);
}

fn report(state: &mut State, s: usize) {
    let Some(target) = state.nodes[s].receiver else {
        return;
    };
    let (own, p) = (state.nodes[s].wal, usize::from(target.node));
    let there = state.nodes[p].wal;
    let flushed = if own.is_prefix_of(there) {
        own.len()
    } else {
        own.len().max(there.len())
    };
    state.nodes[p].reports[s] = Some(Report {
        epoch: target.epoch,
        flushed,
    });
}

/// The next entry arrives at a standby from `p`, is flushed, and reported. False if there is nothing to do.
pub fn receive(state: &mut State, s: usize, p: usize) -> bool {
    if !can_receive(state, s, p) {
        return false;
    }
    let there = state.nodes[p].wal;
    let n = &mut state.nodes[s];
    if there.seems_to_continue(n.wal) && n.wal.push_from(there) {
        n.part = false;
        n.newest_timeline = n.newest_timeline.max(n.wal.timeline());
    }
    report(state, s);
    true
}

/// Whether a part of an entry could arrive: of the next one, or of one that its primary never comes to write
/// whole.
pub fn can_receive_part(state: &State, s: usize) -> bool {
    let n = &state.nodes[s];
    n.runs()
        && !n.part
        && n.receiver.is_some_and(|t| {
            let p = usize::from(t.node);
            let from = &state.nodes[p];
            from.runs() && state.linked(s, p) && from.wal.seems_to_continue(n.wal)
        })
}

/// Whether [`receive`] would change something.
pub fn can_receive(state: &State, s: usize, p: usize) -> bool {
    let n = &state.nodes[s];
    let from = &state.nodes[p];
    if !n.runs() || !from.runs() || !state.linked(s, p) {
        return false;
    }
    n.receiver.is_some_and(|t| usize::from(t.node) == p)
        && if from.wal.seems_to_continue(n.wal) && n.wal.len() < from.wal.len() {
            true
        } else {
            !n.wal.is_prefix_of(from.wal)
                && from.reports[s].is_some_and(|r| r.flushed < n.wal.len().max(from.wal.len()))
        }
}

/// Whether a standby that passes for one of the primary's own history, as the planner judges it (it streams
/// under the name of the present epoch and has replayed its mark), holds something else.
pub fn is_diverged(state: &State, primary: usize) -> bool {
    let (p, epoch) = (&state.nodes[primary], state.record.epoch());
    state.nodes.iter().enumerate().any(|(s, n)| {
        s != primary
            && n.runs()
            && !n.primary
            && p.reports[s].is_some_and(|r| r.epoch == epoch)
            && n.wal.history(n.replayed) == epoch
            && !n.wal.is_prefix_of(p.wal)
    })
}

/// Acknowledges what can be acknowledged, as early as possible, and holds it against what was promised.
pub fn acknowledge(state: &mut State, promises: bool, mutation: Option<Mutation>) {
    for p in 0..MOST_NODES {
        let n = state.nodes[p];
        if !n.is_writable() {
            continue;
        }
        for (position, entry) in n.wal.entries().enumerate() {
            let Entry::Commit(c) = entry else { continue };
            if state.acknowledged & (1 << c) != 0 {
                continue;
            }
            let any_epoch = mutation.is_some_and(|m| m.removes(Guard::EpochInName));
            let counted: Vec<usize> = (0..MOST_NODES)
                .filter(|s| n.names.voters & (1 << s) != 0)
                .filter(|s| {
                    n.reports[*s].is_some_and(|r| {
                        (r.epoch == n.names.epoch || any_epoch) && usize::from(r.flushed) > position
                    })
                })
                .collect();
            if counted.len() < usize::from(n.names.k) || (n.names.k == 0 && !promises) {
                continue;
            }
            state.acknowledged |= 1 << c;
            let true_ones = counted.iter().filter(|s| state.nodes[**s].wal.holds(c)).count();
            if true_ones < usize::from(n.names.k) {
                state.violate(Violation::FalseAcknowledgement);
            }
            let covers = |e: &Electorate| {
                let holds = |v: &NodeId| state.nodes[index(*v)].wal.holds(c);
                e.voters.iter().filter(|v| holds(v)).count() >= usize::from(e.k)
            };
            let cluster = state.record.get().cluster.as_ref();
            if cluster.is_some_and(|cluster| !cluster.electorates.iter().any(covers)) {
                state.violate(Violation::Uncovered);
            }
            let epoch = usize::from(if n.names.k == 0 { n.epoch } else { n.names.epoch }).min(7);
            let others = |e: &u8| *e != 0 && *e != p as u8 + 1;
            if others(&state.acknowledger[epoch]) || state.acknowledger[epoch + 1..].iter().any(|e| *e != 0) {
                state.violate(Violation::TwoAcknowledge);
            }
            state.acknowledger[epoch] = p as u8 + 1;
        }
    }
}
