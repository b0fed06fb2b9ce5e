//! What ships has no counterexample in small configurations, looked at in full. Larger ones: see
//! docs/reliability.md.

#![allow(clippy::print_stdout)] // The figures are what a reader wants of a run.

use std::time::Duration;

use dbaas_model::check::{check, walk};
use dbaas_model::model::{Bounds, Request};
use dbaas_model::world::Budget;

/// Half a minute each on a machine with nothing else to do; a busy one takes longer, and that it was
/// exhausted is asserted.
const AT_MOST: Duration = Duration::from_secs(3600);

fn holds(name: &str, bounds: Bounds) {
    let report = check(bounds, None, AT_MOST, 2);
    println!("{name}: {report}");
    if let Some((what, trace)) = &report.counterexample {
        panic!("{name}: {what}\n{trace}");
    }
    assert!(report.exhausted, "{name}: {report}");
}

/// Commits, crashes, delays, looks that miss a node, lost actions.
fn budget([commits, crashes, delays, clouded, losses]: [u8; 5]) -> Budget {
    Budget {
        commits,
        crashes,
        delays,
        clouded,
        losses,
        ..Budget::default()
    }
}

/// Two nodes, with so many commits, a crash, a delay and a look that misses a node.
fn two_nodes(name: &str, commits: u8) {
    holds(
        name,
        Bounds {
            nodes: 2,
            budget: budget([commits, 1, 1, 1, 255]),
            liveness: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn two_nodes_with_crashes_delays_and_liveness() {
    two_nodes("two nodes", 1);
}

#[test]
#[ignore = "minutes: ci/nightly model"]
fn two_nodes_with_more_commits() {
    two_nodes("two nodes, two commits", 2);
}

#[test]
fn three_nodes_with_a_crash_and_lost_actions() {
    holds(
        "three nodes, crash",
        Bounds {
            budget: budget([2, 1, 0, 0, 255]),
            liveness: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn three_nodes_with_looks_that_miss_a_node() {
    holds(
        "three nodes, partition from the controller",
        Bounds {
            budget: budget([2, 0, 0, 1, 255]),
            liveness: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_primary_that_only_its_controller_does_not_reach() {
    holds(
        "three nodes, heard by standbys",
        Bounds {
            heard: true,
            budget: budget([1, 0, 0, 2, 0]),
            ..Bounds::default()
        },
    );
}

#[test]
fn three_nodes_two_replicas() {
    holds(
        "three nodes, two replicas",
        Bounds {
            k: 2,
            budget: budget([1, 1, 0, 1, 1]),
            ..Bounds::default()
        },
    );
}

#[test]
fn two_controllers() {
    holds(
        "two controllers",
        Bounds {
            nodes: 2,
            controllers: 2,
            budget: budget([1, 1, 1, 0, 1]),
            ..Bounds::default()
        },
    );
}

#[test]
fn replicas_change_during_a_failover() {
    holds(
        "k changes",
        Bounds {
            budget: budget([1, 1, 0, 0, 0]),
            requests: vec![Request::Replicas(2)],
            liveness: true,
            ..Bounds::default()
        },
    );
}

/// Nobody is waited for: nothing is promised of the last commits, but there is one writer at a time, no epoch
/// comes twice, and it becomes writable.
#[test]
fn asynchronous() {
    let lost_disk = Budget {
        disk_losses: 1,
        ..budget([1, 1, 0, 0, 1])
    };
    for (name, nodes, budget, requests) in [
        ("k = 0, three nodes", 3, budget([2, 1, 1, 1, 1]), vec![]),
        ("k = 0, a lost disk", 2, lost_disk, vec![]),
        (
            "k = 0, switchover",
            2,
            budget([1, 1, 1, 0, 1]),
            vec![Request::Switchover],
        ),
    ] {
        let bounds = Bounds {
            nodes,
            k: 0,
            budget,
            requests,
            liveness: true,
            ..Bounds::default()
        };
        holds(name, bounds);
    }
}

/// At any moment, also within a failover.
#[test]
fn nodes_and_replicas_come_and_go() {
    use Request::{Nodes, Replicas};
    for (name, nodes, k, requests) in [
        ("one more node", 3, 1, vec![Nodes(4)]),
        ("one node less", 3, 1, vec![Nodes(2)]),
        ("no replicas any more", 3, 1, vec![Replicas(0)]),
        ("the first replica", 2, 0, vec![Nodes(3), Replicas(1)]),
    ] {
        let bounds = Bounds {
            nodes,
            k,
            budget: budget([1, 1, 0, 0, 0]),
            requests,
            liveness: true,
            ..Bounds::default()
        };
        holds(name, bounds);
    }
}

#[test]
fn a_switchover_and_a_crash() {
    holds(
        "switchover",
        Bounds {
            budget: budget([1, 1, 0, 0, 0]),
            requests: vec![Request::Switchover],
            liveness: true,
            ..Bounds::default()
        },
    );
}

/// A primary that is lost in the middle of an entry leaves a standby with a part of it, which it cannot
/// replay.
#[test]
fn a_part_of_an_entry_is_received() {
    for (name, nodes, budget) in [
        ("a part, two nodes", 2, budget([1, 1, 1, 1, 1])),
        ("a part, three nodes", 3, budget([1, 1, 0, 0, 1])),
    ] {
        let bounds = Bounds {
            nodes,
            budget: Budget { parts: 1, ..budget },
            liveness: true,
            ..Bounds::default()
        };
        holds(name, bounds);
    }
}

/// While every other node has a whole copy: two at once are outside the promise of one replica.
#[test]
fn a_disk_is_lost() {
    for (name, nodes, crashes, losses, liveness) in [
        ("a lost disk, two nodes, crash", 2, 1, 1, true),
        ("a lost disk, three nodes", 3, 0, 0, true),
        ("a lost disk, three nodes, crash", 3, 1, 0, false),
    ] {
        let disk = Budget {
            disk_losses: 1,
            ..budget([1 + u8::from(nodes == 2), crashes, 0, 0, losses])
        };
        let bounds = Bounds {
            nodes,
            budget: disk,
            liveness,
            ..Bounds::default()
        };
        holds(name, bounds);
    }
}

/// It answers every look, and no client gets anything from it.
#[test]
fn a_primary_serves_nobody() {
    for (name, nodes, budget) in [
        ("serves nobody, two nodes", 2, budget([1, 1, 0, 0, 1])),
        ("serves nobody, two nodes, delays", 2, budget([1, 0, 1, 1, 0])),
        ("serves nobody, three nodes", 3, budget([1, 0, 0, 0, 1])),
    ] {
        let bounds = Bounds {
            nodes,
            budget: Budget {
                sicknesses: 1,
                ..budget
            },
            liveness: true,
            ..Bounds::default()
        };
        holds(name, bounds);
    }
}

#[test]
fn an_instance_is_made() {
    holds(
        "creation",
        Bounds {
            nodes: 2,
            from_empty: true,
            budget: budget([1, 1, 0, 0, 1]),
            liveness: true,
            ..Bounds::default()
        },
    );
}

/// Too large to exhaust: changes of everything during failovers, with faults of every kind, walked at random.
/// A failing seed is printed; the command line replays it (`--walk <seed>`).
#[test]
fn random_walks_through_changes_and_faults() {
    let faults = Budget {
        freezes: 1,
        sicknesses: 1,
        cuts: 1,
        self_starts: 1,
        parts: 2,
        ..budget([3, 2, 2, 2, 2])
    };
    let four = Bounds {
        nodes: 4,
        k: 2,
        epochs: 4,
        budget: faults,
        requests: vec![Request::Switchover, Request::Nodes(3), Request::Replicas(1)],
        liveness: true,
        ..Bounds::default()
    };
    let three = Bounds {
        nodes: 3,
        k: 1,
        lazy: true,
        requests: vec![Request::Nodes(4), Request::Replicas(2), Request::Nodes(2)],
        ..four.clone()
    };
    for bounds in [four, three] {
        let report = walk(bounds, None, Duration::from_secs(10), 2, 1, 120);
        println!("random walks: {report}");
        if let Some((what, trace)) = &report.counterexample {
            panic!("{what}\n{trace}");
        }
    }
}
