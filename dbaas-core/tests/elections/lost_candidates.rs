//! A candidate that is lost before it was seen to serve: who stands for its time, and how it comes back.

use dbaas_core::boot::BootRole;
use dbaas_core::boot_plan::PreparePlan;
use dbaas_core::cluster::{ClusterPhase, Epoch, FormerPrimary, Lsn};
use dbaas_core::infrastructure::{DataState, PowerState};
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{Seen, Silence};
use dbaas_core::plan::Action;

use super::{on, reason, rejoin, state};
use crate::situation::{Scene, died, node};

#[test]
fn a_candidate_that_is_lost_is_replaced_or_brought_back() {
    // n3 is a voter of both electorates, but alone it seals one of them only.
    let mut scene = Scene::promoting(3, 1);
    scene.power(2, died());
    assert_eq!(on(&scene, 2), ["start"]);
    scene.seen(2).hold_off_ms = 1;
    assert!(on(&scene, 2).is_empty());
    // The primary of before is back and sealed: it stands for its time.
    let mut scene = Scene::promoting(3, 1);
    scene.power(2, died());
    let facts = scene.facts(3).clone();
    scene.power(1, PowerState::Running);
    scene.seen(1).sql = Ok(facts);
    assert_eq!(state(&scene), (3, ClusterPhase::Sealing));
    // Silent, and not for long: it is waited for.
    let mut scene = Scene::promoting(3, 1);
    scene.silence(2, Silence::Timeout, scene.policy.silent_ms - 1);
    assert!(on(&scene, 2).is_empty());
    assert!(
        reason(&scene).contains("waiting for the new primary n2"),
        "{}",
        reason(&scene)
    );
    // Its disk is gone, and nobody knows what n2 acknowledged: it is said.
    let mut scene = Scene::promoting(3, 1);
    scene.absent(2);
    assert_eq!(state(&scene).0, 2);
    assert!(!on(&scene, 2).contains(&"start"));
}

/// A candidate that is lost, disk and all, before anybody had caught up with it: the primary of before holds
/// everything that was acknowledged in its time. `rejoin`: how that one was to come back; `data`: what its
/// disk holds.
fn successor_lost(rejoin: Rejoin, data: DataState) -> Scene {
    let mut scene = Scene::promoting(3, 1);
    scene.record.nodes[0].rejoin_by(rejoin);
    for (n, data) in [(1, data), (2, DataState::Empty)] {
        scene.power(n, died());
        if let Seen::Present(observed) = &mut scene.seen(n).infra {
            observed.data = data;
        }
    }
    scene
}

#[test]
fn the_primary_of_before_is_started_to_stand_for_its_time_when_its_successor_is_lost() {
    let start = |scene: &Scene| {
        let actions = scene.plan().actions;
        actions.into_iter().find_map(|action| match action {
            Action::Start { node: n, boot } if n == node(1) => Some((boot.prepare, boot.role, boot.follow)),
            _ => None,
        })
    };
    for rejoin in [Rejoin::Rewind, Rejoin::BaseBackup] {
        let scene = successor_lost(rejoin, DataState::Initialised);
        let sealed = Some((PreparePlan::Existing, BootRole::Standby, None));
        assert_eq!(start(&scene), sealed, "{rejoin:?}");
        // With a half of its data it stands for nothing.
        assert_eq!(start(&successor_lost(rejoin, DataState::Incomplete)), None);
    }
    // The candidate's own disk has everything.
    let mut intact = successor_lost(Rejoin::Rewind, DataState::Initialised);
    if let Seen::Present(observed) = &mut intact.seen(2).infra {
        observed.data = DataState::Initialised;
    }
    assert_eq!(start(&intact), None);
    // Nobody else's data stands for that time.
    let mut other = successor_lost(Rejoin::Rewind, DataState::Initialised);
    other
        .record
        .cluster
        .as_mut()
        .unwrap()
        .former
        .as_mut()
        .unwrap()
        .node = node(3);
    assert_eq!(start(&other), None);
}

/// It does not know of its successor's promotion, of which another standby may hold a part, and takes the
/// same number for its timeline.
#[test]
fn who_may_hold_a_part_of_the_lost_promotion_is_built_anew() {
    let mut scene = Scene::sealing(3, 1);
    let cluster = scene.record.cluster.as_mut().unwrap();
    (cluster.primary, cluster.epoch) = (node(2), Epoch(3));
    scene.power(2, died());
    scene.facts(1).in_recovery = true;
    scene.sealed(1, Lsn(2_000));
    scene.sealed(3, Lsn(1_000));
    scene.record.nodes[0].rejoin_by(Rejoin::Rewind);
    scene.record.cluster.as_mut().unwrap().former = Some(FormerPrimary {
        node: node(1),
        electorates: 1,
    });
    assert_eq!(
        rejoin(&scene),
        [Rejoin::InPlace, Rejoin::BaseBackup, Rejoin::BaseBackup]
    );
    assert_eq!(on(&scene, 1), ["promote"]);
    // After a clean shutdown it has nothing of its own, and is chosen only where nobody has more.
    scene.record.nodes[0].rejoin_by(Rejoin::InPlace);
    assert_eq!(rejoin(&scene)[2], Rejoin::InPlace);
}

/// Who comes back as a standby while voters are sealed is one of them, also if it was to be the primary;
/// while it is to be promoted it is not.
#[test]
fn a_lost_candidate_that_comes_back_is_sealed_for_the_votes_that_it_had() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    let cluster = scene.record.cluster.as_mut().unwrap();
    (cluster.primary, cluster.epoch) = (node(2), Epoch(3));
    assert_eq!(on(&scene, 2), ["power_off", "seal"]);
    assert_eq!(on(&scene, 3), ["seal"]);
}

/// A candidate that was never seen to be promoted, and that nobody can stand for, is promoted: as a primary
/// it would go on on the timeline of the one before.
#[test]
fn a_candidate_that_comes_back_because_nobody_can_be_elected_is_promoted() {
    let mut scene = Scene::promoting(3, 1);
    for n in [1, 2, 3] {
        scene.power(n, died());
    }
    let cluster = scene.record.cluster.as_mut().unwrap();
    assert!(cluster.former.is_some());
    (cluster.phase, cluster.epoch) = (ClusterPhase::Sealing, Epoch(3));
    assert_eq!(state(&scene), (3, ClusterPhase::Promoting));
    assert!(!on(&scene, 2).contains(&"start"), "not as a primary");
    scene.record = scene.plan().record.unwrap();
    let actions = scene.plan().actions;
    let role = actions.iter().find_map(|action| match action {
        Action::Start { node: n, boot } if *n == node(2) => Some(boot.role),
        _ => None,
    });
    assert_eq!(role, Some(BootRole::Standby));
    // A primary that was seen to serve goes on as what it was.
    let cluster = scene.record.cluster.as_mut().unwrap();
    (cluster.phase, cluster.former) = (ClusterPhase::Sealing, None);
    assert_eq!(state(&scene), (3, ClusterPhase::Steady));
}

/// It runs, and is hung for all that is known. Nobody can take over; if it may be serving somebody, it is
/// left alone.
#[test]
fn a_primary_that_is_hung_is_restarted_when_it_can_acknowledge_nothing() {
    type Make = fn() -> (Scene, usize);
    let candidate: Make = || {
        let mut scene = Scene::promoting(3, 1);
        scene.power(1, died());
        scene.power(3, died());
        (scene, 2)
    };
    let steady: Make = || {
        let mut scene = Scene::running(3, 1);
        scene.power(2, died());
        scene.power(3, died());
        (scene, 1)
    };
    let asynchronous: Make = || (Scene::running(1, 0), 1);
    let ordered = |make: Make, silence: Silence, ms: u64| {
        let (mut scene, n) = make();
        scene.silence(n, silence, ms);
        on(&scene, n)
    };
    let error = || Silence::Failed("invalid page".to_owned());
    for make in [candidate, steady] {
        for silence in [Silence::Timeout, Silence::Login, error()] {
            assert_eq!(
                ordered(make, silence.clone(), 10_000),
                ["power_off"],
                "{silence:?}"
            );
            assert_eq!(ordered(make, silence, 9_999), [""; 0]);
        }
        // It is starting, or about to.
        for silence in [Silence::NotReady, Silence::Refused] {
            assert_eq!(ordered(make, silence.clone(), 60_000), [""; 0], "{silence:?}");
        }
    }
    assert_eq!(ordered(asynchronous, Silence::Timeout, 60_000), [""; 0]);
    // A standby that this control plane does not reach may hear from it.
    let (mut scene, n) = steady();
    scene.power(3, PowerState::Running);
    scene.silence(3, Silence::Timeout, 60_000);
    scene.silence(n, error(), 60_000);
    assert_eq!(on(&scene, n), [""; 0]);
    assert!(
        reason(&scene).contains("it says: invalid page"),
        "{}",
        reason(&scene)
    );
}
