//! An infrastructure that knows some nodes of an instance and not others.

use std::collections::BTreeMap;

use dbaas_core::cluster::ClusterPhase;
use dbaas_core::detector::{Look, Memory, update};
use dbaas_core::infrastructure::ObservedNodes;
use dbaas_core::observation::{Seen, Silence};
use dbaas_core::plan::Action;
use dbaas_core::steady::Steady;
use dbaas_core::time::Timestamp;

use crate::situation::{Scene, node};

#[test]
fn what_is_out_of_sight_is_not_absent() {
    let scene = Scene::running(3, 1);
    let found = [1, 3].map(|n| scene.observation.infra(node(n)).expect("it is there").clone());
    let look = Look {
        at: Timestamp::default(),
        infrastructure: Ok(ObservedNodes::with_unknown(vec![found[0].clone()], vec![node(2)])),
        sql: BTreeMap::new(),
        catalogue: None,
    };
    let seen = update(&mut Memory::default(), &scene.record, look, Steady::default());
    assert!(matches!(seen.node(node(1)).unwrap().infra, Seen::Present(_)));
    assert_eq!(seen.node(node(2)).unwrap().infra, Seen::Unknown);
    assert_eq!(seen.node(node(3)).unwrap().infra, Seen::Absent);
    assert_eq!(seen.infrastructure_error, None);
}

#[test]
fn a_standby_that_is_out_of_sight_is_left_alone() {
    let mut scene = Scene::running(3, 1);
    scene.seen(2).infra = Seen::Unknown;
    assert_eq!(scene.plan().actions, []);
    scene.silence(2, Silence::Timeout, 60_000);
    scene.seen(2).infra = Seen::Unknown;
    let touches = |action: &Action| {
        matches!(action, Action::Apply(spec) if spec.node.node == node(2))
            || matches!(action, Action::Remove { node: n, .. } if *n == node(2))
    };
    let plan = scene.plan();
    assert!(!plan.actions.iter().any(touches), "{:?}", plan.actions);
}

/// It cannot be fenced by its infrastructure; the others are sealed against it, as where the infrastructure
/// is gone altogether.
#[test]
fn a_silent_primary_that_is_out_of_sight_is_taken_over_from() {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, 60_000);
    scene.seen(1).infra = Seen::Unknown;
    for n in [2, 3] {
        scene.facts(n).receiver = None;
    }
    // The election is decided in one plan, and its first acts come in the next.
    let elected = scene.plan();
    scene.record = elected.record.expect("an election");
    let cluster = scene.record.cluster.as_ref().expect("it has one");
    assert!(cluster.phase == ClusterPhase::Sealing, "{cluster:?}");
    let plan = scene.plan();
    let sealed = |n| {
        let of = |action: &Action| matches!(action, Action::Seal { node: sealed, .. } if *sealed == node(n));
        plan.actions.iter().any(of)
    };
    assert!(sealed(2) && sealed(3), "{:?}", plan.actions);
}
