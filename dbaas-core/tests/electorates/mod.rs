//! Who may acknowledge: changes of voters and of k on a primary that serves, each at its borders.

use std::collections::BTreeSet;

use dbaas_core::cluster::{ClusterState, Electorate, Epoch, Lsn};
use dbaas_core::instance::SwitchoverRequest;
use dbaas_core::kinds::EventKind;
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{Seen, Silence};
use dbaas_core::plan::Action;

use crate::situation::{Scene, node};

/// What is recorded after a plan.
fn cluster(scene: &Scene) -> ClusterState {
    let record = scene.plan().record.unwrap_or_else(|| scene.record.clone());
    record.cluster.expect("it runs")
}

/// The newest electorate: voters by number, and k.
fn newest(scene: &Scene) -> (Vec<usize>, u8) {
    let current = cluster(scene).current();
    let number = |n: &usize| current.voters.contains(&node(*n));
    ((1..=16).filter(number).collect(), current.k)
}

fn is_joint(scene: &Scene) -> bool {
    cluster(scene).is_joint()
}

/// A standby's row on the primary is gone, for so long.
fn gone(scene: &mut Scene, n: usize, ms: u64) {
    let name = format!("n{n}_");
    scene
        .facts(1)
        .standbys
        .retain(|s| !s.application_name.starts_with(&name));
    scene.seen(n).not_streaming_ms = ms;
}

fn flushed(scene: &mut Scene, n: usize, lsn: u64) {
    let name = format!("n{n}_");
    let rows = scene.facts(1).standbys.iter_mut();
    for row in rows.filter(|s| s.application_name.starts_with(&name)) {
        row.flush_lsn = Some(Lsn(lsn));
    }
}

fn ask(scene: &mut Scene, k: u64) {
    scene.record.spec.sync_replicas = k.try_into().unwrap();
}

#[test]
fn a_voter_leaves_when_it_was_gone_for_long_and_enough_are_left() {
    let mut scene = Scene::running(3, 1);
    let long = scene.policy.voter_gone_ms;
    gone(&mut scene, 3, long - 1);
    assert_eq!(newest(&scene), (vec![2, 3], 1));
    gone(&mut scene, 3, long);
    assert_eq!(newest(&scene), (vec![2], 1));
    assert_eq!(cluster(&scene).electorates.len(), 2, "beside the one before");
    // Nobody leaves where too few would be left.
    gone(&mut scene, 2, long);
    assert_eq!(newest(&scene), (vec![2, 3], 1));
    let mut scene = Scene::running(3, 2);
    gone(&mut scene, 3, long);
    assert_eq!(newest(&scene), (vec![2, 3], 2));
    let mut scene = Scene::running(4, 2);
    gone(&mut scene, 4, long);
    assert_eq!(newest(&scene), (vec![2, 3], 2), "just enough");
}

#[test]
fn a_node_that_is_to_go_votes_only_where_too_few_would_be_left() {
    let mut scene = Scene::running(3, 1);
    scene.record.nodes[2].leaving = true;
    assert_eq!(newest(&scene), (vec![2], 1));
    let mut scene = Scene::running(3, 2);
    scene.record.nodes[2].leaving = true;
    scene.record.spec.nodes = 2u64.try_into().unwrap();
    assert_eq!(
        newest(&scene),
        (vec![2], 1),
        "with it goes the number that can be asked for"
    );
}

#[test]
fn k_rises_with_those_that_have_caught_up() {
    let mut scene = Scene::running(4, 1);
    let behind = scene.policy.caught_up_bytes;
    ask(&mut scene, 3);
    assert_eq!(newest(&scene), (vec![2, 3, 4], 3));
    // Just near enough, and a byte too far behind.
    scene.facts(1).lsn = Lsn(10_000_000);
    for n in 2..=3 {
        flushed(&mut scene, n, 10_000_000);
    }
    flushed(&mut scene, 4, 10_000_000 - behind);
    assert_eq!(newest(&scene), (vec![2, 3, 4], 3));
    flushed(&mut scene, 4, 10_000_000 - behind - 1);
    assert_eq!(newest(&scene), (vec![2, 3, 4], 2));
    let status = scene.plan().record.expect("a change").status;
    assert!(
        status.reason.contains("2 of 3 synchronous standbys"),
        "{}",
        status.reason
    );
    // What a standby of another history reports means nothing, and so does one that does not answer.
    flushed(&mut scene, 4, 10_000_000);
    scene.facts(4).history = Epoch(0);
    assert_eq!(newest(&scene).1, 2);
    scene.facts(4).history = Epoch(1);
    scene.silence(4, Silence::Timeout, 0);
    assert_eq!(newest(&scene).1, 2);
    // It does not fall because they fall behind.
    let mut scene = Scene::running(3, 2);
    scene.facts(1).lsn = Lsn(10_000_000);
    assert_eq!(newest(&scene), (vec![2, 3], 2));
    assert!(!is_joint(&scene));
}

#[test]
fn k_falls_at_once() {
    let mut scene = Scene::running(4, 3);
    scene.facts(1).lsn = Lsn(10_000_000);
    ask(&mut scene, 1);
    assert_eq!(newest(&scene), (vec![2, 3, 4], 1));
    assert!(
        is_joint(&scene),
        "the one before counts until the primary is known to go by the new one"
    );
    ask(&mut scene, 0);
    assert_eq!(newest(&scene), (vec![], 0));
}

#[test]
fn a_switchover_without_replicas_has_one_first() {
    let mut scene = Scene::running(3, 0);
    assert_eq!(newest(&scene), (vec![], 0));
    scene.record.requests.switchover = Some(SwitchoverRequest {
        to: None,
        at: scene.observation.at,
        by_controller: false,
        prepared: false,
        checkpoint_after: None,
    });
    assert_eq!(newest(&scene), (vec![2, 3], 1));
    // With replicas as many as were asked for.
    let mut scene = Scene::running(4, 2);
    scene.record.requests.switchover = Some(SwitchoverRequest {
        to: None,
        at: scene.observation.at,
        by_controller: false,
        prepared: true,
        checkpoint_after: None,
    });
    assert_eq!(newest(&scene).1, 2);
}

#[test]
fn a_switchover_waits_for_nobody_where_nobody_stays() {
    let mut scene = Scene::running(2, 1);
    scene.record.spec.nodes = 1u64.try_into().unwrap();
    scene.record.nodes[1].leaving = true;
    scene.record.requests.switchover = Some(SwitchoverRequest {
        to: None,
        at: scene.observation.at,
        by_controller: false,
        prepared: false,
        checkpoint_after: None,
    });
    assert_eq!(newest(&scene), (vec![], 0));
}

/// The setting that is ordered, with its number.
fn ordered(scene: &Scene) -> Option<(u64, String)> {
    scene.plan().actions.into_iter().find_map(|action| match action {
        Action::SetSyncNames { setting, names, .. } => Some((setting, names)),
        _ => None,
    })
}

/// n3 was gone for long and is no voter any more; the primary does not know of it yet.
fn changing() -> Scene {
    let mut scene = Scene::running(3, 1);
    gone(&mut scene, 3, 60_000);
    scene.record = scene.plan().record.expect("a change of voters");
    scene
}

/// It does what was ordered.
fn obey(scene: &mut Scene) {
    let (setting, names) = ordered(scene).expect("an order");
    scene.facts(1).setting = setting;
    scene.facts(1).sync_names = names;
}

#[test]
fn a_change_goes_to_the_primary_then_past_a_barrier_and_then_ends() {
    let mut scene = changing();
    assert_eq!(ordered(&scene), Some((1, "ANY 1 (\"n2_e1\")".to_owned())));
    assert_eq!(
        cluster(&scene).barrier,
        None,
        "nothing is seen before the setting is"
    );
    obey(&mut scene);
    scene.facts(1).lsn = Lsn(2_000);
    assert_eq!(ordered(&scene), None);
    assert_eq!(cluster(&scene).barrier, Some(Lsn(2_000)));
    scene.record = scene.plan().record.expect("a barrier");
    scene.facts(1).lsn = Lsn(3_000);
    flushed(&mut scene, 2, 1_999);
    assert!(is_joint(&scene), "it is not there yet");
    assert_eq!(cluster(&scene).barrier, Some(Lsn(2_000)), "it stays where it was");
    flushed(&mut scene, 2, 2_000);
    assert!(!is_joint(&scene));
    let plan = scene.plan();
    assert!(plan.events.iter().any(|e| e.kind == EventKind::ElectorateChanged));
    assert_eq!(newest(&scene), (vec![2], 1));
    // By the word of one of another history, or of one that does not answer, it does not end.
    scene.facts(2).history = Epoch(0);
    assert!(is_joint(&scene));
    scene.facts(2).history = Epoch(1);
    scene.silence(2, Silence::Timeout, 0);
    assert!(is_joint(&scene));
}

#[test]
fn a_setting_of_another_number_is_ordered_again() {
    let mut scene = changing();
    obey(&mut scene);
    scene.facts(1).setting = 0;
    assert_eq!(ordered(&scene).map(|(setting, _)| setting), Some(1));
    assert_eq!(cluster(&scene).barrier, None);
}

#[test]
fn a_change_to_none_needs_no_barrier() {
    let mut scene = Scene::running(3, 1);
    ask(&mut scene, 0);
    scene.record = scene.plan().record.expect("a change");
    assert!(is_joint(&scene));
    obey(&mut scene);
    assert!(!is_joint(&scene));
}

#[test]
fn a_change_waits_for_the_one_before_unless_that_cannot_end() {
    let mut scene = changing();
    obey(&mut scene);
    scene.record = scene.plan().record.expect("a barrier");
    scene.facts(1).lsn = Lsn(3_000);
    flushed(&mut scene, 2, 1);
    ask(&mut scene, 2);
    assert_eq!(cluster(&scene).electorates.len(), 2, "n2 is about to catch up");
    // n3 is back, and could vote.
    let back = Scene::running(3, 1).facts(1).standbys[1].clone();
    scene.facts(1).standbys.push(back);
    flushed(&mut scene, 3, 3_000);
    scene.seen(3).not_streaming_ms = 0;
    assert_eq!(newest(&scene), (vec![2], 1), "n2 still is about to catch up");
    // n2 is gone: waiting for it may be for ever.
    gone(&mut scene, 2, 60_000);
    assert_eq!(newest(&scene), (vec![3], 1));
}

#[test]
fn changes_that_cannot_end_do_not_pile_up() {
    let pairs: Vec<BTreeSet<_>> = (2..=8)
        .flat_map(|a| (a + 1..=8).map(move |b| BTreeSet::from([node(a), node(b)])))
        .collect();
    let scene_with = |count: usize| {
        let mut scene = Scene::running(8, 1);
        for n in 2..=8 {
            gone(&mut scene, n, if n == 8 { 0 } else { 60_000 });
        }
        // The newest one, of n2 and n3, cannot end; n8 alone would do, if it were there.
        let back = Scene::running(8, 1).facts(1).standbys[6].clone();
        scene.facts(1).standbys.push(back);
        let electorates = pairs[..count]
            .iter()
            .rev()
            .map(|pair| Electorate::new(pair.iter().copied(), 1));
        if let Some(cluster) = scene.record.cluster.as_mut() {
            cluster.electorates = electorates.collect();
        }
        scene
    };
    assert_eq!(cluster(&scene_with(15)).electorates.len(), 16);
    let full = scene_with(16);
    assert_eq!(cluster(&full).electorates.len(), 16);
    assert_eq!(newest(&full), (vec![2, 3], 1), "unchanged");
    let reason = full.plan().record.expect("a reason").status.reason;
    assert!(reason.contains("too many changes"), "{reason}");
}

#[test]
fn whoever_comes_to_vote_is_needed_as_it_is() {
    let with = |rejoin: Rejoin| {
        let mut scene = Scene::running(3, 1);
        if let Some(cluster) = scene.record.cluster.as_mut() {
            cluster.electorates[0].voters.remove(&node(3));
        }
        scene.facts(1).sync_names = "ANY 1 (\"n2_e1\")".to_owned();
        scene.record.nodes[2].rejoin = rejoin;
        // PostgreSQL answers, and the infrastructure does not.
        scene.seen(3).infra = Seen::Unknown;
        let noted = scene.plan().record.map(|record| record.nodes[2].rejoin);
        (newest(&scene).0, noted.unwrap_or(rejoin))
    };
    // It was rewound, and that it follows was not noted before it began to vote.
    assert_eq!(with(Rejoin::Rewind), (vec![2, 3], Rejoin::InPlace));
    assert_eq!(with(Rejoin::Seed), (vec![2, 3], Rejoin::InPlace));
    // What is to be rebuilt neither votes nor is forgiven.
    assert_eq!(with(Rejoin::BaseBackup), (vec![2], Rejoin::BaseBackup));
}
