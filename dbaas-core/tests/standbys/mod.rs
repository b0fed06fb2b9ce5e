//! How a standby gets its data, starts, follows and goes: each at its borders.

use dbaas_core::boot_plan::PreparePlan;
use dbaas_core::cluster::Epoch;
use dbaas_core::infrastructure::{DataState, Exit, ExitReason, PowerOff, PowerState};
use dbaas_core::instance::FailoverRequest;
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{Seen, Silence, SlotFacts};
use dbaas_core::plan::Action;

use crate::situation::{Scene, died, node};

fn exited(reason: ExitReason) -> PowerState {
    PowerState::Exited(Exit {
        reason,
        message: "it ended".to_owned(),
    })
}

/// What is done on a node, by name.
fn on(scene: &Scene, n: usize) -> Vec<&'static str> {
    let actions = scene.plan().actions;
    let there = actions.iter().filter(|a| a.node() == node(n));
    there.map(|a| a.kind().as_str()).collect()
}

/// How n3 is started, if it is.
fn start(scene: &Scene) -> Option<PreparePlan> {
    scene.plan().actions.into_iter().find_map(|action| match action {
        Action::Start { node: of, boot } if of == node(3) => Some(boot.prepare),
        _ => None,
    })
}

fn is_rewound(scene: &Scene) -> bool {
    matches!(start(scene), Some(PreparePlan::Rewind { source, .. }) if source == node(1))
}

fn is_rebuilt(scene: &Scene) -> bool {
    matches!(start(scene), Some(PreparePlan::BaseBackup { source, .. }) if source == node(1))
}

fn rejoin(scene: &Scene, n: usize) -> Rejoin {
    let record = scene.plan().record.unwrap_or_else(|| scene.record.clone());
    record.nodes[n - 1].rejoin
}

fn is_fenced(scene: &Scene, n: usize) -> bool {
    let off = |action: &Action| matches!(action, Action::PowerOff { node: of, .. } if *of == node(n));
    scene.plan().actions.iter().any(off)
}

/// n3 is off like this, and is to come back like that, after so many tries.
fn off(power: PowerState, data: DataState, rejoin: Rejoin, attempts: u32) -> Scene {
    let mut scene = Scene::running(3, 1);
    scene.power(3, power);
    if let Seen::Present(observed) = &mut scene.seen(3).infra {
        observed.data = data;
    }
    scene.record.nodes[2].rejoin = rejoin;
    scene.record.nodes[2].rejoin_attempts = attempts;
    scene
}

#[test]
fn the_heavier_way_is_taken_only_where_the_lighter_cannot_work() {
    use DataState::{Empty, Incomplete, Initialised};
    use Rejoin::{BaseBackup, InPlace, Rewind, Seed};
    let cases = [
        (died(), Initialised, InPlace, 2, InPlace),
        (died(), Initialised, InPlace, 3, Rewind),
        (PowerState::Off, Initialised, InPlace, 3, InPlace),
        (died(), Initialised, Rewind, 2, Rewind),
        (died(), Initialised, Rewind, 3, BaseBackup),
        (
            exited(ExitReason::CannotRewind),
            Initialised,
            Rewind,
            1,
            BaseBackup,
        ),
        (
            exited(ExitReason::PreparationFailed),
            Initialised,
            Rewind,
            1,
            BaseBackup,
        ),
        (exited(ExitReason::DiskFull), Initialised, Rewind, 9, Rewind),
        (died(), Incomplete, Rewind, 1, BaseBackup),
        (died(), Empty, InPlace, 0, BaseBackup),
        (died(), Incomplete, InPlace, 0, BaseBackup),
        (PowerState::Off, Initialised, BaseBackup, 0, BaseBackup),
        // Its copy of the first node is there and is used, or it is not and cannot come any more.
        (PowerState::Off, Initialised, Seed, 0, InPlace),
        (PowerState::Off, Empty, Seed, 0, BaseBackup),
        (exited(ExitReason::SeedGone), Empty, Seed, 1, BaseBackup),
    ];
    for (power, data, before, attempts, after) in cases {
        let scene = off(power.clone(), data, before, attempts);
        assert_eq!(
            rejoin(&scene, 3),
            after,
            "{power:?} {data:?} {before:?} {attempts}"
        );
    }
}

#[test]
fn each_start_is_counted_and_held_off_for_its_time() {
    let mut scene = off(died(), DataState::Initialised, Rejoin::InPlace, 1);
    let record = scene.plan().record.expect("a try more");
    assert_eq!(record.nodes[2].rejoin_attempts, 2);
    assert_eq!(start(&scene), Some(PreparePlan::Existing));
    scene.seen(3).hold_off_ms = 1_001;
    assert_eq!(start(&scene), None);
    let record = scene.plan().record.expect("why it waits");
    assert_eq!(record.nodes[2].rejoin_attempts, 1);
    // Another way begins to count anew.
    let scene = off(died(), DataState::Initialised, Rejoin::InPlace, 3);
    assert_eq!(scene.plan().record.expect("a try").nodes[2].rejoin_attempts, 1);
}

#[test]
fn a_rewind_and_a_base_backup_need_a_primary_that_serves() {
    let mut scene = off(died(), DataState::Initialised, Rejoin::Rewind, 0);
    assert!(is_rewound(&scene));
    scene.silence(1, dbaas_core::observation::Silence::Timeout, 10);
    assert_eq!(start(&scene), None);
    let mut scene = off(died(), DataState::Incomplete, Rejoin::BaseBackup, 0);
    assert!(is_rebuilt(&scene));
    // Its slot comes first, and one that lost its WAL is none.
    scene.facts(1).slots[1].lost = true;
    assert_eq!(start(&scene), None);
    scene.facts(1).slots.remove(1);
    assert_eq!(start(&scene), None);
    assert!(on(&scene, 1).contains(&"create_slots"));
}

#[test]
fn a_node_that_is_not_there_is_made_and_filled_anew() {
    let mut scene = Scene::running(3, 1);
    scene.absent(3);
    assert_eq!(
        (on(&scene, 3), rejoin(&scene, 3)),
        (vec!["apply"], Rejoin::BaseBackup)
    );
    // The primary's node is not: an empty one in its place would have nothing that was acknowledged.
    let mut scene = Scene::running(1, 0);
    scene.absent(1);
    assert!(on(&scene, 1).is_empty());
    // What is known to be off takes its new size before it starts; what cannot be seen is left alone.
    let mut scene = off(died(), DataState::Initialised, Rejoin::InPlace, 0);
    if let Seen::Present(observed) = &mut scene.seen(3).infra {
        observed.applied = None;
    }
    assert_eq!(on(&scene, 3), ["apply"]);
    scene.seen(3).infra = Seen::Unknown;
    assert!(on(&scene, 3).is_empty());
}

#[test]
fn a_frozen_standby_is_restarted_after_its_time() {
    let mut scene = Scene::running(3, 1);
    scene.power(3, PowerState::Frozen);
    scene.seen(3).silent_ms = scene.policy.voter_gone_ms - 1;
    assert!(!is_fenced(&scene, 3));
    scene.seen(3).silent_ms = scene.policy.voter_gone_ms;
    assert!(is_fenced(&scene, 3));
}

/// n3 is to go and does not vote any more.
fn leaving() -> Scene {
    let mut scene = Scene::running(3, 1);
    scene.record.nodes[2].leaving = true;
    scene.record.spec.nodes = 2u64.try_into().unwrap();
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.electorates[0].voters.remove(&node(3));
    }
    scene.facts(1).sync_names = "ANY 1 (\"n2_e1\")".to_owned();
    scene
}

#[test]
fn a_node_goes_step_by_step_and_not_while_it_votes() {
    let mut scene = leaving();
    assert!(is_fenced(&scene, 3));
    scene.power(3, PowerState::Off);
    assert_eq!(on(&scene, 3), ["remove"]);
    scene.seen(3).infra = Seen::Unknown;
    assert!(on(&scene, 3).is_empty());
    scene.absent(3);
    assert_eq!(scene.plan().record.expect("it is gone").nodes.len(), 2);
    // It votes.
    let mut scene = leaving();
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.electorates[0].voters.insert(node(3));
    }
    assert!(!is_fenced(&scene, 3));
    // Nobody serves: it may be needed.
    let mut scene = leaving();
    scene.silence(1, dbaas_core::observation::Silence::Timeout, 10);
    assert!(!is_fenced(&scene, 3));
}

#[test]
fn a_node_that_came_to_be_after_its_removal_goes_again_if_it_is_empty() {
    // n3 is no node of the record any more.
    let mut scene = leaving();
    scene.record.nodes.truncate(2);
    scene.power(3, PowerState::Off);
    let stray = |scene: &mut Scene, data: DataState| {
        if let Seen::Present(found) = &mut scene.seen(3).infra {
            found.data = data;
        }
        let plan = scene.plan();
        let warnings = plan.record.map(|record| record.status.warnings);
        let of_it = warnings.unwrap_or_default();
        let of_it = of_it.iter().filter(|warning| warning.contains("does not know"));
        (on(scene, 3), of_it.count())
    };
    assert_eq!(stray(&mut scene, DataState::Empty), (vec!["remove"], 0));
    assert_eq!(stray(&mut scene, DataState::Initialised), (vec![], 1));
    scene.power(3, PowerState::Running);
    assert_eq!(stray(&mut scene, DataState::Empty), (vec![], 1));
}

#[test]
fn a_standby_that_follows_somebody_else_is_told_whom() {
    let follows = |scene: &Scene| on(scene, 3).contains(&"follow");
    let mut scene = Scene::running(3, 1);
    assert!(!follows(&scene));
    scene.facts(3).primary_slot = "another".to_owned();
    assert!(follows(&scene));
    let mut scene = Scene::running(3, 1);
    scene.facts(3).primary_conninfo = "host=elsewhere".to_owned();
    assert!(follows(&scene));
    let mut scene = Scene::running(3, 1);
    scene.facts(3).sync_names = String::new();
    assert!(follows(&scene), "it has to be closed");
    let mut scene = Scene::running(3, 1);
    scene.facts(3).epoch = Epoch(0);
    assert!(follows(&scene));
    scene.facts(3).epoch = Epoch(2);
    assert!(
        !follows(&scene),
        "it is of a newer epoch than this controller knows"
    );
}

#[test]
fn slots_that_keep_wal_for_nobody_are_dropped_and_others_left_alone() {
    let slot = |name: &str, active, lost| SlotFacts {
        name: name.to_owned(),
        active,
        lost,
    };
    let dropped = |scene: &Scene, n: usize| {
        let actions = scene.plan().actions.into_iter();
        let slots = actions.filter_map(|action| match action {
            Action::DropSlots { node: of, names } if of == node(n) => Some(names),
            _ => None,
        });
        slots.flatten().collect::<Vec<_>>()
    };
    let mut scene = Scene::running(3, 1);
    scene.facts(1).slots.extend([
        slot("dbaas_n9", false, false),
        slot("dbaas_n8", true, false),
        slot("theirs", false, false),
    ]);
    assert_eq!(dropped(&scene, 1), ["dbaas_n9"]);
    let mut scene = Scene::running(3, 1);
    scene.facts(1).slots[1] = slot("dbaas_n3", false, true);
    assert_eq!(dropped(&scene, 1), ["dbaas_n3"]);
    let mut scene = Scene::running(3, 1);
    scene.facts(3).slots = vec![
        slot("dbaas_n2", false, false),
        slot("dbaas_n1", true, false),
        slot("theirs", false, false),
    ];
    assert_eq!(dropped(&scene, 3), ["dbaas_n2"]);
}

/// n3 runs, says that it waits for WAL, and has not streamed for so long.
fn stuck(ms: u64, way: Rejoin) -> Scene {
    let mut scene = Scene::running(3, 1);
    let rows = &mut scene.facts(1).standbys;
    rows.retain(|s| !s.application_name.starts_with("n3_"));
    scene.facts(3).receiver = None;
    scene.seen(3).waiting_ms = ms;
    scene.record.nodes[2].rejoin = way;
    scene.record.nodes[2].rejoin_attempts = 1;
    scene
}

#[test]
fn a_standby_that_is_stuck_is_rewound_then_rebuilt() {
    let long = Scene::running(3, 1).policy.stuck_standby_ms;
    assert!(!is_fenced(&stuck(long - 1, Rejoin::InPlace), 3));
    let scene = stuck(long, Rejoin::InPlace);
    // What is rewound is shut down cleanly: else its recovery writes WAL of its own.
    let is_clean = |action: &Action| {
        matches!(
            action,
            Action::PowerOff {
                mode: PowerOff::Graceful { .. },
                ..
            }
        )
    };
    assert!(is_fenced(&scene, 3) && scene.plan().actions.iter().any(is_clean));
    assert_eq!(rejoin(&scene, 3), Rejoin::Rewind);
    assert_eq!(rejoin(&stuck(long, Rejoin::Rewind), 3), Rejoin::BaseBackup);
    // While it replays it is not stuck; while it is told whom to follow neither.
    let mut scene = stuck(long, Rejoin::InPlace);
    scene.facts(3).replay_waits = false;
    assert!(!is_fenced(&scene, 3));
    let mut scene = stuck(long, Rejoin::InPlace);
    scene.facts(3).primary_conninfo = String::new();
    assert!(!is_fenced(&scene, 3));
    // The primary has thrown its WAL away: nothing is to be waited for, and a rewind would not bring it back.
    let mut scene = stuck(0, Rejoin::InPlace);
    scene.facts(1).slots[1].lost = true;
    assert!(is_fenced(&scene, 3));
    assert_eq!(rejoin(&scene, 3), Rejoin::BaseBackup);
    // It streams, and is of another history.
    let mut scene = Scene::running(3, 1);
    scene.facts(3).history = Epoch(0);
    scene.seen(3).waiting_ms = long;
    assert!(is_fenced(&scene, 3));
}

/// It may stream on, with the files that it has open.
#[test]
fn a_standby_that_says_that_its_files_are_gone_is_rebuilt() {
    let damaged = || Silence::Damaged("could not open a file".to_owned());
    let long = Scene::running(3, 1).policy.silent_ms;
    let scene = |silence, ms| {
        let mut scene = Scene::running(3, 1);
        scene.silence(3, silence, ms);
        scene
    };
    assert!(is_fenced(&scene(damaged(), long), 3));
    assert_eq!(rejoin(&scene(damaged(), long), 3), Rejoin::BaseBackup);
    assert!(!is_fenced(&scene(damaged(), long - 1), 3));
    assert!(!is_fenced(&scene(Silence::Failed("what?".to_owned()), 60_000), 3));
    // There has to be somebody to rebuild it from.
    let mut alone = scene(damaged(), long);
    alone.power(1, died());
    assert!(!is_fenced(&alone, 3));
}

#[test]
fn a_stray_primary_that_was_one_before_is_only_rewound() {
    let mut scene = Scene::running(3, 1);
    scene.facts(3).in_recovery = false;
    assert_eq!(rejoin(&scene, 3), Rejoin::BaseBackup);
    scene.record.nodes[2].rejoin = Rejoin::Rewind;
    assert!(is_fenced(&scene, 3));
    assert_eq!(rejoin(&scene, 3), Rejoin::Rewind);
}

#[test]
fn a_standby_that_streams_has_nothing_left_to_try() {
    let mut scene = Scene::running(3, 1);
    scene.record.nodes[2].rejoin = Rejoin::Rewind;
    scene.record.nodes[2].rejoin_attempts = 2;
    let record = scene.plan().record.expect("it is noted");
    assert_eq!(
        (record.nodes[2].rejoin, record.nodes[2].rejoin_attempts),
        (Rejoin::InPlace, 0)
    );
}

#[test]
fn what_was_to_be_rebuilt_is_started_when_there_is_nothing_to_rebuild_it_from() {
    let with = |k: u64, rejoin: Rejoin, lost: bool, accepted: bool| {
        let mut scene = Scene::running(3, k);
        for n in [1, 3] {
            scene.power(n, died());
        }
        if let (true, Seen::Present(observed)) = (lost, &mut scene.seen(1).infra) {
            observed.data = DataState::Empty;
        }
        if let Seen::Present(observed) = &mut scene.seen(3).infra {
            observed.data = DataState::Initialised;
        }
        scene.record.nodes[2].rejoin = rejoin;
        scene.record.nodes[2].rejoin_attempts = 1;
        scene.record.requests.failover = accepted.then_some(FailoverRequest {
            from: Some(node(1)),
            allow_data_loss: true,
            at: scene.observation.at,
        });
        // The other standby is away.
        scene.seen(2).infra = Seen::Unknown;
        scene.silence(2, dbaas_core::observation::Silence::Timeout, 60_000);
        start(&scene)
    };
    for rejoin in [Rejoin::BaseBackup, Rejoin::Rewind] {
        assert_eq!(
            with(0, rejoin, true, false),
            Some(PreparePlan::Existing),
            "{rejoin:?}"
        );
        assert_eq!(
            with(0, rejoin, false, false),
            None,
            "the primary's disk has everything"
        );
        assert_eq!(with(1, rejoin, true, false), None, "it may be foreign");
        assert_eq!(
            with(1, rejoin, true, true),
            Some(PreparePlan::Existing),
            "somebody accepts that"
        );
    }
}

#[test]
fn a_standby_that_is_about_to_answer_is_asked_soon_and_one_that_is_away_when_everything_is() {
    let mut scene = Scene::running(3, 1);
    let heartbeat_ms = scene.policy.heartbeat_ms;
    let mut wake = |silence: Silence| {
        // It streams, by the primary's word: nothing else is waited for.
        scene.seen(3).sql = Err(silence);
        let plan = scene.plan();
        assert_eq!(plan.actions, []);
        plan.wake_after_ms
    };
    for silence in [Silence::Login, Silence::Refused, Silence::NotReady] {
        assert_eq!(wake(silence.clone()), 40, "{silence:?}");
    }
    assert_eq!(wake(Silence::Timeout), heartbeat_ms);
}

#[test]
fn a_standby_that_runs_from_the_base_backup_it_was_to_get_is_good_without_a_primary() {
    let mut scene = Scene::sealing(3, 1);
    let third = |scene: &Scene| {
        scene
            .plan()
            .record
            .map(|r| (r.nodes[2].rejoin, r.nodes[2].rebuilds))
    };
    let record = &mut scene.record.nodes[2];
    record.rejoin_by(Rejoin::BaseBackup);
    record.rejoin_by(Rejoin::BaseBackup);
    record.rejoin_attempts = 1;
    let unchanged = third(&scene).unwrap_or((Rejoin::BaseBackup, 2));
    assert_eq!(unchanged, (Rejoin::BaseBackup, 2), "started by an earlier order");
    scene.facts(3).rebuild = 1;
    let unchanged = third(&scene).unwrap_or((Rejoin::BaseBackup, 2));
    assert_eq!(unchanged, (Rejoin::BaseBackup, 2), "from the backup before");
    scene.facts(3).rebuild = 2;
    assert_eq!(third(&scene), Some((Rejoin::InPlace, 2)));
}

/// An order from before came between the decision and the base backup: what runs is what was there.
#[test]
fn a_standby_that_runs_from_something_else_than_its_base_backup_is_rebuilt() {
    let actions = |begun: u32, runs_from: u32| {
        let mut scene = Scene::running(3, 1);
        let record = &mut scene.record.nodes[2];
        record.rejoin_by(Rejoin::BaseBackup);
        record.rejoin_by(Rejoin::BaseBackup);
        record.rejoin_attempts = begun;
        scene.facts(3).rebuild = runs_from;
        on(&scene, 3)
    };
    for begun in [0, 1, 2] {
        assert_eq!(actions(begun, 0), ["power_off"], "{begun}");
        assert_eq!(actions(begun, 1), ["power_off"], "{begun}");
        assert_eq!(actions(begun, 2), [""; 0], "{begun}");
    }
    // A record from before there were numbers: one that was begun counts as done.
    let mut old = Scene::running(3, 1);
    (old.record.nodes[2].rejoin, old.record.nodes[2].rejoin_attempts) = (Rejoin::BaseBackup, 1);
    assert_eq!(on(&old, 3), [""; 0]);
}

#[test]
fn a_base_backup_is_started_with_its_number() {
    let started = |way: Rejoin| {
        let mut scene = off(died(), DataState::Initialised, way, 0);
        scene.record.nodes[2].rebuilds = 4;
        scene.plan().actions.into_iter().find_map(|action| match action {
            Action::Start { boot, .. } => Some(boot.rebuild),
            _ => None,
        })
    };
    assert_eq!(started(Rejoin::BaseBackup), Some(4));
    assert_eq!(started(Rejoin::InPlace), Some(0));
    assert_eq!(started(Rejoin::Rewind), Some(0));
}

#[test]
fn a_copy_is_what_it_is_as_long_as_nobody_has_served() {
    let way = |data: DataState, primary: Rejoin, serves: bool| {
        let mut scene = off(PowerState::Off, data, Rejoin::Seed, 0);
        scene.record.nodes[0].rejoin = primary;
        if !serves {
            scene.silence(1, Silence::NotReady, 100);
        }
        rejoin(&scene, 3)
    };
    let (whole, empty) = (DataState::Initialised, DataState::Empty);
    assert_eq!(
        way(whole, Rejoin::Seed, false),
        Rejoin::Seed,
        "it may have to be made anew"
    );
    assert_eq!(way(whole, Rejoin::InPlace, false), Rejoin::InPlace);
    assert_eq!(way(empty, Rejoin::Seed, false), Rejoin::Seed);
    assert_eq!(
        way(empty, Rejoin::InPlace, false),
        Rejoin::Seed,
        "nobody to copy from yet"
    );
    assert_eq!(way(empty, Rejoin::InPlace, true), Rejoin::BaseBackup);
}

#[test]
fn a_standby_that_does_not_stream_yet_is_looked_at_soon() {
    let mut scene = Scene::running(3, 1);
    scene.facts(1).standbys.truncate(1);
    assert_eq!(scene.plan().wake_after_ms, 40);
}
