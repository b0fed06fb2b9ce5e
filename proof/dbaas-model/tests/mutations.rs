//! The checker can fail: each way to get the protocol wrong has a counterexample, and what ships, in the same
//! bounds, has none that is found in the same time.

#![allow(clippy::print_stdout)] // The figures are what a reader wants of a run.

use std::time::Duration;

use dbaas_model::check::{check, walk};
use dbaas_model::model::{Bounds, Request, Step};
use dbaas_model::mutation::{Guard, Mutation};
use dbaas_model::sight::Sight;
use dbaas_model::world::Budget;

/// Enough for every one of them on two cores with much else to do; most take a second.
const AT_MOST: Duration = Duration::from_secs(300);

fn caught(mutation: Mutation, bounds: Bounds, what: &str) {
    let report = match bounds.nodes {
        4.. if bounds.prologue.is_empty() => walk(bounds, Some(mutation), AT_MOST, 2, 1, 150),
        _ => check(bounds, Some(mutation), AT_MOST, 2),
    };
    println!("{mutation:?}: {report}");
    let (found, trace) = report.counterexample.unwrap_or_default();
    // Which of these two is seen first depends on the threads, and so with a standby of another history: what
    // it holds, or what it says.
    let loss = |text: &str| text.contains("lost") || text.contains("covered");
    let foreign = |text: &str| text.contains("caught up") || text.contains("nothing else");
    assert!(
        found.contains(what) || (loss(what) && loss(&found)) || (foreign(what) && foreign(&found)),
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

/// Four nodes, two replicas. n4 has received more than anybody, none of it acknowledged, and is away while n2
/// is chosen.
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

/// Two nodes. n2 was promoted in n1's place, and has marked its history.
fn taken_over() -> Bounds {
    let (look, act) = (Step::Look(0, Sight::CLEAR, false), Step::Do(0));
    Bounds {
        nodes: 2,
        budget: Budget {
            crashes: 3,
            clouded: 1,
            ..Budget::default()
        },
        prologue: vec![Step::Crash(0), look, act, look, act, look, act],
        ..Bounds::default()
    }
}

/// Four nodes, two replicas. n1 is dead, and n2 was promoted in its place while n4 was away; nobody has heard
/// of that yet.
fn unheard_promotion() -> Bounds {
    let (look, act) = (Step::Look(0, Sight::CLEAR, false), Step::Do(0));
    Bounds {
        nodes: 4,
        k: 2,
        unheard: 0,
        budget: Budget {
            crashes: 3,
            losses: 1,
            ..Budget::default()
        },
        prologue: vec![
            Step::Crash(3),
            Step::Crash(0),
            look,
            act,
            act,
            Step::Restart(0),
            look,
            act,
        ],
        ..Bounds::default()
    }
}

/// As before, but n3 was away, and holds more than n2 held. n2, promoted without anybody having heard of it,
/// died, came back as a standby and was not heard for a moment; so that n3 is about to be chosen, while n2 is
/// sealed like everybody else.
fn sealed_candidate() -> Bounds {
    let (look, act) = (Step::Look(0, Sight::CLEAR, false), Step::Do(0));
    let without_n2 = Sight {
        unheard: 0b10,
        ..Sight::CLEAR
    };
    let stop = Step::Restart(0);
    let mut prologue = vec![
        Step::Commit(0),
        Step::Receive(2),
        Step::Commit(0),
        Step::Receive(2),
    ];
    prologue.extend([Step::Crash(2), Step::Crash(0)]);
    prologue.extend([look, act, Step::Lose(0), act, look, act, stop, Step::Crash(1)]);
    prologue.extend([look, act, act, Step::Look(0, without_n2, false), stop]);
    prologue.extend([look, Step::Lose(0), act, act, act]);
    Bounds {
        nodes: 4,
        k: 2,
        unheard: 0,
        budget: Budget {
            commits: 2,
            crashes: 3,
            losses: 4,
            clouded: 1,
            ..Budget::default()
        },
        prologue,
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

/// The two situations above, in which timelines of one number are made, without a mutation.
#[test]
fn what_ships_holds_where_timelines_have_one_number() {
    for bounds in [sealed_candidate(), taken_over(), unheard_promotion()] {
        let report = check(bounds, None, AT_MOST, 2);
        println!("one number, as shipped: {report}");
        if let Some((what, trace)) = &report.counterexample {
            panic!("{what}\n{trace}");
        }
        assert!(report.exhausted, "{report}");
    }
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
    repromotion_forgotten: RepromotionForgotten, taken_over(), "history is nothing else";
    same_number_rewound: SameNumberRewound, unheard_promotion(), "history is nothing else";
    half_rewound_started: HalfRewoundStarted, with(|b| { b.nodes = 2; b.budget.crashes = 2 }), "history is nothing else";
    touched_before_answered: TouchedBeforeAnswered, with(|b| b.budget.disk_losses = 1), "last good copy";
    open_when_self_started: OpenWhenSelfStarted, with(|b| { b.budget.commits = 2; b.budget.self_starts = 1 }), "acknowledge";
    own_statements_wait: OwnStatementsWait, with(|b| b.liveness = true), "writable";
    standbys_not_asked: StandbysNotAsked, with(|b| { b.heard = true; b.budget.crashes = 0; b.budget.clouded = 1 }), "left alone";
    primary_first_for_a_voter: PrimaryFirst, with(|b| { b.requests = vec![Request::Nodes(4)]; b.budget.crashes = 2 }), "covered";
    leaver_dropped_from_the_store_first: OldElectorateDropped, with(|b| { b.requests = vec![Request::Nodes(2)]; b.budget.crashes = 2 }), "covered";
    part_waited_for: PartWaitedFor, with(|b| { b.budget.parts = 1; b.liveness = true }), "writable";
    frozen_serves: FrozenServes, with(|b| { b.budget.crashes = 0; b.budget.freezes = 1; b.liveness = true }), "writable";
    looks_are_service: LooksAreService, with(|b| { b.budget.crashes = 0; b.budget.sicknesses = 1; b.liveness = true }), "writable";
    without_persisted_epoch: Without(Guard::SealPersists), with(|b| { b.liveness = true; b.budget.clouded = 1 }), "writable";
    without_cutting: Without(Guard::SealCuts), with(|b| { b.liveness = true; b.budget.clouded = 1 }), "writable";
    without_number_of_setting: Without(Guard::Setting), with(|b| { b.k = 2; b.requests = vec![Request::Replicas(1), Request::Replicas(2)]; b.budget.delays = 1 }), "covered";
    without_follow_guard: Without(Guard::Follow), followed(), "lost";
    without_start_guard: Without(Guard::Start), with(|b| { b.budget.delays = 1; b.budget.crashes = 2; b.budget.clouded = 1; b.budget.losses = 1 }), "lost";
    without_cas: Without(Guard::Cas), with(|b| { b.controllers = 2; b.budget.delays = 1; b.budget.crashes = 2; b.budget.clouded = 1 }), "reused";
}
