//! The checker can fail: each way to get the protocol wrong has a counterexample, and what ships, in the same bounds, has none that is
//! found in the same time.

#![allow(clippy::print_stdout)] // The figures are what a reader wants of a run.

use std::time::Duration;

use dbaas_model::check::{check, walk};
use dbaas_model::model::{Bounds, Request, Step};
use dbaas_model::mutation::{Guard, Mutation};
use dbaas_model::sight::Sight;
use dbaas_model::world::Budget;

/// Enough for every one of them on two busy cores; most take a second.
const AT_MOST: Duration = Duration::from_secs(100);

fn caught(mutation: Mutation, bounds: Bounds, what: &str) {
    let report = match bounds.nodes {
        4.. if bounds.prologue.is_empty() => walk(bounds, Some(mutation), AT_MOST, 2, 1, 150),
        _ => check(bounds, Some(mutation), AT_MOST, 2),
    };
    println!("{mutation:?}: {report}");
    let (found, trace) = report.counterexample.unwrap_or_default();
    // Which of these two is seen first depends on the threads.
    let loss = |text: &str| text.contains("lost") || text.contains("covered");
    assert!(
        found.contains(what) || (loss(what) && loss(&found)),
        "{mutation:?}: expected {what}, found {found:?}\n{trace}"
    );
}

/// Three nodes, one replica; nothing goes wrong but what is added.
fn three() -> Bounds {
    Bounds {
        budget: Budget {
            commits: 1,
            crashes: 1,
            ..Budget::default()
        },
        ..Bounds::default()
    }
}

/// Four nodes, two replicas, many faults; for what is found by walking at random.
fn four() -> Bounds {
    Bounds {
        nodes: 4,
        k: 2,
        epochs: 4,
        budget: Budget {
            commits: 4,
            crashes: 3,
            delays: 2,
            clouded: 2,
            losses: 2,
            self_starts: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Bounds::default()
    }
}

/// Four nodes, two replicas. n4 has received more than anybody, none of it acknowledged, and is away while n2 is chosen.
fn behind() -> Bounds {
    let look = Step::Look(0, Sight::CLEAR, false);
    let mut prologue = vec![Step::Commit(0); 4];
    prologue.extend([Step::Receive(3); 4]);
    prologue.extend([
        Step::Crash(3),
        Step::Crash(0),
        look,
        Step::Do(0),
        Step::Do(0),
        Step::Restart(0),
        look,
    ]);
    Bounds {
        nodes: 4,
        k: 2,
        unheard: 0,
        budget: Budget {
            commits: 5,
            crashes: 3,
            losses: 1,
            ..Budget::default()
        },
        prologue,
        ..Bounds::default()
    }
}

/// n2 has taken over from n1, and the order to n3 to follow it will arrive once more.
fn followed() -> Bounds {
    let look = Step::Look(0, Sight::CLEAR, false);
    let (act, twice) = (Step::Do(0), Step::DoTwice(0));
    Bounds {
        budget: Budget {
            commits: 1,
            crashes: 1,
            delays: 1,
            clouded: 1,
            losses: 1,
            ..Budget::default()
        },
        prologue: vec![
            Step::Crash(0),
            look,
            act,
            act,
            look,
            act,
            look,
            act,
            look,
            act,
            twice,
        ],
        ..Bounds::default()
    }
}

fn with(change: impl FnOnce(&mut Bounds)) -> Bounds {
    let mut bounds = three();
    change(&mut bounds);
    bounds
}

macro_rules! mutations {
    ($($name:ident: $mutation:expr, $bounds:expr, $what:literal;)*) => {
        $(#[test] fn $name() { use Mutation::*; caught($mutation, $bounds, $what); })*
    };
}

mutations! {
    one_seal_fewer: OneSealFewer, with(|b| b.budget.clouded = 2), "lost";
    reachable_are_all: ReachableAreAll, with(|b| b.budget.clouded = 3), "covered";
    too_few_voters_are_enough: TooFewVotersAreEnough, with(|b| b.budget.clouded = 3), "lost";
    position_alone: PositionAlone, behind(), "lost";
    same_mark_votes: SameMarkVotes, four(), "caught up";
    receiver_still_runs: ReceiverStillRuns, with(|b| { b.lazy = true; b.budget.clouded = 1 }), "lost";
    replay_still_runs: ReplayStillRuns, with(|b| { b.lazy = true; b.budget.crashes = 2; b.budget.commits = 2 }), "lost";
    sealed_by_word: SealedByWord, with(|b| { b.budget.clouded = 1; b.budget.losses = 1 }), "lost";
    least_is_promoted: LeastIsPromoted, three(), "lost";
    other_history_counts: OtherHistoryCounts, with(|b| { b.nodes = 2; b.budget.commits = 2; b.budget.clouded = 1 }), "caught up";
    no_barrier: NoBarrier, with(|b| { b.k = 1; b.requests = vec![Request::Replicas(2)]; b.budget.crashes = 2 }), "lost";
    old_electorate_dropped: OldElectorateDropped, with(|b| { b.requests = vec![Request::Replicas(2)]; b.budget.crashes = 2 }), "covered";
    old_electorate_dropped_at_promotion: OldElectorateDroppedAtPromotion, with(|b| { b.budget.crashes = 2 }), "lost";
    primary_first: PrimaryFirst, with(|b| { b.k = 2; b.requests = vec![Request::Replicas(1)]; b.budget.crashes = 2 }), "covered";
    leaver_forgotten: LeaverForgotten, with(|b| { b.requests = vec![Request::Nodes(2)]; b.budget.crashes = 1 }), "lost";
    open_when_promoted: OpenWhenPromoted, with(|b| b.k = 2), "covered";
    open_when_restarted: OpenWhenRestarted, with(|b| { b.requests = vec![Request::Replicas(2)]; b.budget.crashes = 2; b.budget.delays = 1; b.budget.clouded = 1 }), "covered";
    old_primary_started: OldPrimaryStarted, with(|b| { b.budget.commits = 2 }), "acknowledge";
    same_epoch: SameEpoch, three(), "reused";
    served_forgotten: ServedForgotten, with(|b| { b.nodes = 2; b.requests = vec![Request::Switchover] }), "destroyed";
    not_marked: NotMarked, with(|b| { b.liveness = true; b.budget.clouded = 2 }), "writable";
    silent: Silent, three(), "says why";
    without_persisted_epoch: Without(Guard::SealPersists), with(|b| { b.liveness = true; b.budget.clouded = 1 }), "writable";
    without_cutting: Without(Guard::SealCuts), with(|b| { b.liveness = true; b.budget.clouded = 1 }), "writable";
    without_number_of_setting: Without(Guard::Setting), with(|b| { b.k = 2; b.requests = vec![Request::Replicas(1), Request::Replicas(2)]; b.budget.delays = 1 }), "covered";
    without_follow_guard: Without(Guard::Follow), followed(), "lost";
    without_start_guard: Without(Guard::Start), with(|b| { b.budget.delays = 1; b.budget.crashes = 2; b.budget.clouded = 1; b.budget.losses = 1 }), "lost";
    without_cas: Without(Guard::Cas), with(|b| { b.controllers = 2; b.budget.delays = 1; b.budget.crashes = 2; b.budget.clouded = 1 }), "reused";
}
