//! Seeds of the simulation in the ordinary test run. Many more:
//! `cargo run --profile optimised -p dbaas-simulation -- seeds --count 5000`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dbaas_core::patience::{
    TRIAL_COMMIT_MS, TRIAL_EVERY_MS, TRIAL_LOGIN_MS, UNFIT_AGAIN_MS, UNFIT_MS, UNFIT_TRIALS,
};
use dbaas_simulation::{deaths, idle, seed, service};
use dbaas_testkit::simulated::Sickness;

/// How many seeds are run; the environment may ask for more.
fn seeds() -> u64 {
    let asked = std::env::var("DBAAS_SIMULATION_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Runs these seeds on every core; each has a runtime and a world of its own.
fn on_all_cores(seeds: std::ops::Range<u64>, each: impl Fn(u64) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    each(seed);
                }
            });
        }
    });
}

fn hold(seed: u64) {
    let outcome = seed::run(seed).unwrap();
    assert!(outcome.violations.is_empty(), "{}", outcome.report());
}

#[test]
fn promises_hold_and_everything_converges() {
    on_all_cores(0..seeds(), hold);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    on_all_cores(0..20, |seed| {
        let (first, second) = (seed::run(seed).unwrap(), seed::run(seed).unwrap());
        for (a, b) in first.trace.iter().zip(&second.trace) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_eq!(first.acknowledged, second.acknowledged);
    });
    assert_ne!(
        seed::run(1).unwrap().fingerprint,
        seed::run(2).unwrap().fingerprint
    );
}

/// Seeds that found something once. What a seed does changes with the simulation; what they found is named,
/// and has a test of its own where one could be written.
#[test]
fn seeds_that_found_something() {
    let found = [
        (36, "a clock that was set back held restarts off for an hour"),
        (
            32,
            "a lease of a dead controller with a fast clock was waited for until that clock's time",
        ),
        (
            19,
            "a restart asked for under a fast clock restarted nodes for as long as the clock had been ahead",
        ),
        (
            64,
            "a switchover to a node that was removed waited until a clock that was set back had caught up",
        ),
        (
            588,
            "a candidate that was just started was given up for the silence before its start",
        ),
        (
            1940,
            "an asynchronous failover took a standby that had less than one that was frozen for a moment",
        ),
        (
            1543,
            "a candidate lost its disk in a switchover, and nobody went back to the old primary, which had everything",
        ),
        (1570, "as 1543"),
        (970, "a database that a late order began once more was left over"),
        (
            571,
            "a switchover was asked for twice while the other nodes went: the promotion waited for a voter for ever",
        ),
        (4849, "a role that a late order made once more was left over"),
        (20630, "as 4849"),
        (
            20222,
            "a voter whose rewind was not noted was not started when the primary's disk was lost",
        ),
        (
            23921,
            "an asynchronous primary's disk was lost, and standbys that were to be rebuilt waited for it",
        ),
        (
            892,
            "a first primary was made anew, and what had been copied from the one before counted as its standby",
        ),
        (
            2876,
            "a voter ran from its base backup, died before it was seen to stream, and was never started again",
        ),
        (
            1395,
            "a copy that was not yet noted to run received a part of a record, and was never restarted to be sealed",
        ),
        (4797, "as 1395, with a voter that was to be rebuilt"),
        (
            426,
            "a standby was promoted that ran with more connections than asked for by then, and its own could not start",
        ),
        (719, "as 426"),
        (
            845,
            "an instance was ACTIVE while its standbys were still to be restarted with smaller values",
        ),
    ];
    for (seed, what) in found {
        let outcome = seed::run(seed).unwrap();
        assert!(outcome.violations.is_empty(), "{what}\n{}", outcome.report());
    }
}

/// It answers every look on an old session. The bound is of virtual time: what the limits of the core add up
/// to.
#[test]
fn a_primary_that_serves_nobody_is_replaced() {
    for sickness in [Sickness::NoLogin, Sickness::NoCommit, Sickness::Damaged] {
        let replaced = service::replace(sickness, 3).unwrap();
        assert!(replaced.violations.is_empty(), "{replaced:?}");
        let bound_ms =
            TRIAL_EVERY_MS + u64::from(UNFIT_TRIALS) * u64::from(TRIAL_LOGIN_MS + TRIAL_COMMIT_MS) + UNFIT_MS;
        assert!(
            replaced.after_ms.is_some_and(|ms| ms < bound_ms),
            "{sickness:?}: {replaced:?}"
        );
        // Alone it is told of.
        let alone = service::replace(sickness, 1).unwrap();
        assert_eq!(alone.after_ms, None);
        assert!(alone.reason.contains("there is no standby"), "{alone:?}");
    }
}

/// All nodes stand on one disk. Without an end to it a primary would be given up every few seconds.
#[test]
fn a_fault_that_all_nodes_share_does_not_send_them_back_and_forth() {
    for sickness in [Sickness::NoLogin, Sickness::NoCommit] {
        let failovers = service::share(sickness, Duration::from_millis(UNFIT_AGAIN_MS)).unwrap();
        assert_eq!(failovers, 1, "{sickness:?}");
        let failovers = service::share(sickness, Duration::from_millis(5 * UNFIT_AGAIN_MS)).unwrap();
        assert!((2..=5).contains(&failovers), "{sickness:?}: {failovers}");
    }
}

#[test]
fn idle_instances_write_nothing() {
    assert_eq!(idle::count_writes(20, 3, 300).unwrap(), 0);
}

/// A host fails whole: all write again, soon in virtual time, and the store hears of each a few times.
#[test]
fn many_primaries_die_at_once() {
    let deaths = deaths::of_primaries(100).unwrap();
    assert_eq!(deaths.violations, [""; 0], "{deaths}");
    assert!(deaths.last_ms() <= 5_000, "{deaths}");
    assert!(deaths.other_ms <= 5_000, "{deaths}");
    assert!(deaths.commits <= 12 * 100, "{deaths}");
}
