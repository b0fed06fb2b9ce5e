//! Restarts one at a time and planned switchovers: each at its borders.

mod parameters;

use dbaas_core::cluster::{Epoch, Lsn};
use dbaas_core::infrastructure::{BootMark, PowerState};
use dbaas_core::instance::SwitchoverRequest;
use dbaas_core::kinds::{ActionKind, EventKind};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::observation::{ActionFailure, Seen};
use dbaas_core::plan::{Action, Plan};
use dbaas_core::time::Timestamp;

use crate::situation::{Scene, died, node};

fn started(scene: &mut Scene, n: usize, boot_id: &str) {
    if let Seen::Present(found) = &mut scene.seen(n).infra {
        found.boot = Some(BootMark {
            epoch: Epoch(1),
            boot_id: boot_id.to_owned(),
        });
    }
}

/// A restart was asked for, and which start of each node is meant is noted.
fn restarting(nodes: u64) -> Scene {
    let mut scene = Scene::running(nodes, u64::from(nodes > 1));
    for n in 1..=scene.record.nodes.len() {
        started(&mut scene, n, "before");
    }
    scene.record.requests.restart = Some(scene.observation.at);
    scene.record = scene.plan().record.expect("it is noted");
    scene.record.requests.switchover = None;
    scene
}

/// Whom a plan switches off.
fn off(plan: &Plan) -> Vec<dbaas_core::id::NodeId> {
    let off = plan
        .actions
        .iter()
        .filter(|a| matches!(a, Action::PowerOff { .. }));
    off.map(Action::node).collect()
}

fn asks_for_switchover(plan: &Plan) -> bool {
    plan.record
        .as_ref()
        .is_some_and(|r| r.requests.switchover.is_some())
}

#[test]
fn every_node_is_restarted_once_the_primary_last() {
    let mut scene = restarting(3);
    assert_eq!(off(&scene.plan()), [node(2)]);
    // One at a time: n3 has to wait until n2 streams again.
    let row = scene.facts(1).standbys.remove(0);
    started(&mut scene, 2, "after");
    let plan = scene.plan();
    assert!(off(&plan).is_empty() && !asks_for_switchover(&plan));
    scene.facts(1).standbys.push(row);
    assert_eq!(off(&scene.plan()), [node(3)]);
    started(&mut scene, 3, "after");
    let plan = scene.plan();
    assert!(
        off(&plan).is_empty() && asks_for_switchover(&plan),
        "a switchover first"
    );
    started(&mut scene, 1, "after");
    let plan = scene.plan();
    assert!(plan.events.iter().any(|e| e.kind == EventKind::RestartCompleted));
    assert_eq!(plan.record.unwrap().requests.restart, None);
}

#[test]
fn a_restart_is_over_when_every_node_was_seen_to_be_restarted() {
    let mut scene = restarting(3);
    for n in 1..=3 {
        started(&mut scene, n, "after");
    }
    let is_over = |scene: &Scene| {
        scene
            .plan()
            .events
            .iter()
            .any(|e| e.kind == EventKind::RestartCompleted)
    };
    assert!(is_over(&scene));
    let mark = scene.record.nodes[1].restart.take();
    scene.seen(2).infra = Seen::Unknown;
    assert!(!is_over(&scene), "what became of n2 is not known");
    scene.record.nodes[1].restart = mark;
    scene.power(3, died());
    assert!(!is_over(&scene), "n3 does not answer");
    scene.record.requests.restart = None;
    let record = scene.plan().record.expect("the marks go with the request");
    assert!(record.nodes.iter().all(|n| n.restart.is_none()));
}

#[test]
fn a_single_node_is_restarted_where_it_is() {
    assert_eq!(off(&restarting(1).plan()), [node(1)]);
}

#[test]
fn a_node_with_another_size_or_configuration_is_restarted() {
    let mut scene = Scene::running(3, 1);
    assert!(off(&scene.plan()).is_empty());
    scene.facts(3).pending_restart = vec!["shared_buffers".to_owned()];
    assert_eq!(off(&scene.plan()), [node(3)]);
    let mut scene = Scene::running(3, 1);
    if let Seen::Present(found) = &mut scene.seen(2).infra {
        found.applied.as_mut().unwrap().resources.cpu = 64u64.try_into().unwrap();
    }
    assert_eq!(off(&scene.plan()), [node(2)]);
}

/// Whom a plan gives a new configuration.
fn reconfigured(plan: &Plan) -> Vec<dbaas_core::id::NodeId> {
    let given = plan
        .actions
        .iter()
        .filter(|a| matches!(a, Action::Reconfigure { .. }));
    given.map(Action::node).collect()
}

#[test]
fn another_configuration_is_given_to_every_node_that_answers_and_restarts_none() {
    let mut scene = Scene::running(3, 1);
    assert!(reconfigured(&scene.plan()).is_empty());
    // Who may connect was changed.
    scene.policy.hba.clients = dbaas_core::config::Cidr::everywhere().to_vec();
    let plan = scene.plan();
    assert_eq!(reconfigured(&plan), [node(1), node(2), node(3)]);
    assert!(off(&plan).is_empty() && !asks_for_switchover(&plan));
    let status = plan.record.expect("it is told").status;
    assert_eq!(status.reason, "n1 is being given its new configuration");
    // One that is off gets it with its start.
    scene.power(3, PowerState::Off);
    assert_eq!(reconfigured(&scene.plan()), [node(1), node(2)]);
}

#[test]
fn a_node_that_is_told_whom_to_follow_is_configured_later() {
    let mut scene = Scene::running(3, 1);
    scene.policy.hba.clients = dbaas_core::config::Cidr::everywhere().to_vec();
    scene.facts(2).primary_slot = "another".to_owned();
    assert_eq!(reconfigured(&scene.plan()), [node(1), node(3)]);
}

#[test]
fn no_node_is_restarted_while_another_is_to_be_configured() {
    let mut scene = Scene::running(3, 1);
    scene.facts(2).pending_restart = vec!["shared_buffers".to_owned()];
    scene.facts(3).config_hash = "another".to_owned();
    assert!(off(&scene.plan()).is_empty());
    scene.seen(3).last_failure = Some(ActionFailure {
        action: ActionKind::Reconfigure,
        message: "no room".to_owned(),
        times: 1,
    });
    let status = scene.plan().record.expect("it is told").status;
    assert_eq!(status.lifecycle, Lifecycle::Error);
    assert_eq!(
        status.reason,
        "n3 does not take its new configuration: no room; it is tried again"
    );
}

fn asked(scene: &mut Scene, to: Option<usize>, ago_ms: i64, by_controller: bool) {
    let at = scene.observation.at.unix_ms() - ago_ms;
    scene.record.requests.switchover = Some(SwitchoverRequest {
        to: to.map(node),
        at: Timestamp::from_unix_ms(at),
        by_controller,
        prepared: true,
        checkpoint_after: None,
    });
}

/// What a plan makes of the request.
fn outcome(scene: &Scene) -> &'static str {
    let plan = scene.plan();
    let mut kinds = plan.events.iter().map(|e| e.kind.as_str());
    kinds
        .rfind(|kind| kind.starts_with("switchover"))
        .unwrap_or("waits")
}

#[test]
fn a_switchover_is_made_to_a_voter_that_stays_and_has_caught_up() {
    let made = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::running(3, 1);
        asked(&mut scene, Some(2), 0, false);
        change(&mut scene);
        outcome(&scene)
    };
    assert_eq!(made(&|_| {}), "switchover_started");
    assert_eq!(made(&|s| asked(s, Some(1), 0, false)), "switchover_done");
    assert_eq!(made(&|s| s.facts(2).in_recovery = false), "waits");
    assert_eq!(
        made(&|s| s.facts(2).history = Epoch(0)),
        "waits",
        "not of this history"
    );
    assert_eq!(
        made(&|s| asked(s, Some(9), 0, false)),
        "switchover_given_up",
        "it is gone"
    );
    let without_its_vote = |s: &mut Scene| {
        let cluster = s.record.cluster.as_mut().unwrap();
        cluster.electorates[0].voters.remove(&node(2));
    };
    assert_eq!(made(&without_its_vote), "waits");
}

#[test]
fn a_switchover_begins_when_its_checkpoint_has_ended_or_not_at_all() {
    let waiting = |ago_ms, by_controller, redo| {
        let mut scene = Scene::running(3, 1);
        asked(&mut scene, Some(2), ago_ms, by_controller);
        let request = scene.record.requests.switchover.as_mut().unwrap();
        request.checkpoint_after = Some(Lsn(1_000));
        scene.facts(1).checkpoint_redo = Some(Lsn(redo));
        let plan = scene.plan();
        let stops = off(&plan).contains(&node(1));
        (outcome(&scene), stops)
    };
    assert_eq!(waiting(119_000, false, 999), ("waits", false));
    assert_eq!(waiting(121_000, false, 999), ("switchover_given_up", false));
    assert_eq!(
        waiting(121_000, true, 999),
        ("waits", false),
        "it is told of, and tried again"
    );
    assert_eq!(waiting(0, false, 1_000), ("switchover_started", true));
}

#[test]
fn a_switchover_that_cannot_be_made_is_given_up_after_a_minute() {
    let waiting = |ago_ms, by_controller| {
        let mut scene = Scene::running(3, 1);
        scene.power(2, PowerState::Off);
        asked(&mut scene, Some(2), ago_ms, by_controller);
        outcome(&scene)
    };
    assert_eq!(waiting(0, false), "waits");
    assert_eq!(waiting(60_000, false), "waits");
    assert_eq!(waiting(60_001, false), "switchover_given_up");
    assert_eq!(waiting(600_000, true), "waits", "a rolling change goes on");
}
