//! Parameters: tried by one node first, given up where a server refuses them, and in the order that hot
//! standby needs.

use std::collections::BTreeMap;

use dbaas_core::cluster::{Epoch, Lsn};
use dbaas_core::config::HOT_STANDBY_FLOOR_SETTINGS;
use dbaas_core::infrastructure::{Exit, ExitReason, PowerState};
use dbaas_core::kinds::{ActionKind, EventKind};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::observation::{ActionFailure, Silence};
use dbaas_core::plan::{Plan, desired_configuration};

use super::{asks_for_switchover, off, reconfigured, started};
use crate::situation::{Scene, died, node};

/// Every node has read what is asked of it; what needs a restart waits.
fn configured(scene: &mut Scene, waits: &[&str]) {
    for n in 1..=scene.record.nodes.len() {
        let hash = desired_configuration(&scene.record, &scene.policy.hba, node(n)).hash();
        scene.facts(n).config_hash = hash;
        scene.facts(n).pending_restart = waits.iter().map(|name| (*name).to_owned()).collect();
    }
}

fn wants(scene: &mut Scene, name: &str, value: &str) {
    scene.record.spec.parameters.set(name, value);
}

/// The plan, its record taken over.
fn go_on(scene: &mut Scene) -> Plan {
    let plan = scene.plan();
    if let Some(record) = plan.record.clone() {
        scene.record = record;
    }
    plan
}

#[test]
fn parameters_that_a_server_does_not_start_with_are_given_up() {
    let mut scene = Scene::running(3, 1);
    wants(&mut scene, "max_connections", "400");
    assert_eq!(reconfigured(&go_on(&mut scene)).len(), 3);
    configured(&mut scene, &["max_connections"]);
    assert_eq!(off(&go_on(&mut scene)), [node(2)], "a standby tries them first");
    let waiting = &scene.record.status.parameters_pending_restart;
    assert_eq!(*waiting, ["max_connections"]);

    // It is started with them, and does not come up.
    started(&mut scene, 2, "before");
    scene.power(2, PowerState::Off);
    let plan = go_on(&mut scene);
    let starts = |plan: &Plan| plan.actions.iter().any(|a| a.kind() == ActionKind::Start);
    assert!(starts(&plan));
    scene.power(2, died());
    go_on(&mut scene);
    let refused = scene.record.parameters.refused.as_ref();
    assert!(refused.is_none(), "this is how the start before that one ended");
    started(&mut scene, 2, "after");
    scene.power(2, died());
    go_on(&mut scene);
    let refused = scene.record.parameters.refused.as_ref();
    assert!(refused.is_none(), "whoever killed it, it refused nothing");
    let said = Exit {
        reason: ExitReason::Died,
        message: "ended with status 1: FATAL:  could not map memory".to_owned(),
    };
    // It is started once more, and says why it does not run.
    started(&mut scene, 2, "after that");
    scene.power(2, PowerState::Exited(said));
    let plan = go_on(&mut scene);
    assert!(plan.events.iter().any(|e| e.kind == EventKind::ParametersRefused));
    assert!(scene.record.effective_parameters().is_empty());
    assert_eq!(scene.record.status.lifecycle, Lifecycle::Error);
    let reason = &scene.record.status.reason;
    assert!(
        reason.starts_with("n2 does not run with max_connections = 400: ended with status 1: FATAL: "),
        "{reason}"
    );
    assert_eq!(
        reconfigured(&plan),
        [node(1), node(3)],
        "they wait for no restart any more"
    );
    // Something else is asked for: that is tried.
    wants(&mut scene, "max_connections", "300");
    go_on(&mut scene);
    assert!(scene.record.parameters.refused.is_none());
    let effective = scene.record.effective_parameters();
    assert_eq!(effective.get("max_connections"), Some("300"));
}

#[test]
fn parameters_that_are_refused_when_they_are_loaded_are_given_up() {
    let mut scene = Scene::running(1, 0);
    wants(&mut scene, "timezone", "Nowhere/Nowhere");
    go_on(&mut scene);
    let fail = |scene: &mut Scene, message: &str| {
        scene.seen(1).last_failure = Some(ActionFailure {
            action: ActionKind::Reconfigure,
            message: message.to_owned(),
            times: 1,
        });
        go_on(scene);
    };
    fail(&mut scene, "no answer in time");
    let refused = scene.record.parameters.refused.as_ref();
    assert!(refused.is_none(), "it may go well next time");
    fail(
        &mut scene,
        "the new configuration was refused, the old one was put back: TimeZone",
    );
    assert!(scene.record.parameters.refused.is_some());
    assert!(reconfigured(&scene.plan()).is_empty());
}

#[test]
fn parameters_are_proven_by_a_server_that_runs_with_them() {
    let mut scene = Scene::running(2, 1);
    wants(&mut scene, "work_mem", "3MB");
    go_on(&mut scene);
    assert!(scene.record.parameters.proven.is_empty());
    configured(&mut scene, &[]);
    let plan = go_on(&mut scene);
    assert_eq!(scene.record.parameters.proven, scene.record.spec.parameters);
    assert!(plan.actions.is_empty() && !asks_for_switchover(&plan));
    assert_eq!(scene.record.status.lifecycle, Lifecycle::Active);
}

fn connections(scene: &Scene) -> [String; 3] {
    [1, 2, 3].map(|n| {
        let configuration = desired_configuration(&scene.record, &scene.policy.hba, node(n));
        configuration.settings.get("max_connections").unwrap().to_owned()
    })
}

fn run_with(scene: &mut Scene, n: usize, connections: u64) {
    let configuration = desired_configuration(&scene.record, &scene.policy.hba, node(n));
    let value = |name: &str| configuration.settings.get(name).unwrap().parse().unwrap();
    let names = HOT_STANDBY_FLOOR_SETTINGS.iter();
    let mut running: BTreeMap<String, u64> = names.map(|name| ((*name).to_owned(), value(name))).collect();
    running.insert("max_connections".to_owned(), connections);
    scene.facts(n).hot_standby = running;
}

#[test]
fn smaller_values_reach_the_primary_first_where_it_is() {
    let mut scene = Scene::running(3, 1);
    wants(&mut scene, "max_connections", "400");
    go_on(&mut scene);
    configured(&mut scene, &[]);
    (1..=3).for_each(|n| run_with(&mut scene, n, 400));
    go_on(&mut scene);
    wants(&mut scene, "max_connections", "200");
    go_on(&mut scene);
    assert_eq!(connections(&scene), ["200", "400", "400"]);

    configured(&mut scene, &[]);
    scene.facts(1).pending_restart = vec!["max_connections".to_owned()];
    started(&mut scene, 1, "before");
    let plan = go_on(&mut scene);
    assert_eq!(off(&plan), [node(1)], "nobody could take over with less");
    assert!(!asks_for_switchover(&plan));
    let primary = scene.facts(1).clone();
    scene.power(1, PowerState::Off);
    let plan = go_on(&mut scene);
    let start = plan.actions.iter().find(|a| a.kind() == ActionKind::Start);
    assert_eq!(
        start.map(|a| a.node()),
        Some(node(1)),
        "it is started where it is"
    );
    let epoch = scene.record.cluster.as_ref().unwrap().epoch;
    assert_eq!(epoch, Epoch(1), "that is no loss");

    // It runs with less; the standbys follow when they have replayed that.
    started(&mut scene, 1, "after");
    scene.power(1, PowerState::Running);
    scene.seen(1).sql = Ok(primary);
    scene.seen(1).silent_ms = 0;
    run_with(&mut scene, 1, 200);
    scene.facts(1).pending_restart.clear();
    scene.facts(1).lsn = Lsn(2_000);
    scene.facts(2).lsn = Lsn(2_000);
    go_on(&mut scene);
    go_on(&mut scene);
    assert_eq!(
        connections(&scene),
        ["200", "400", "400"],
        "n3 has not replayed it"
    );
    assert_ne!(
        scene.record.status.lifecycle,
        Lifecycle::Active,
        "their turn is still to come"
    );
    scene.facts(3).lsn = Lsn(2_000);
    go_on(&mut scene);
    assert_eq!(connections(&scene), ["200", "200", "200"]);
}

/// It was promoted while it ran with what was tried and taken back: its standbys could not start with less,
/// and without them it would never be restarted.
#[test]
fn standbys_have_as_much_as_their_primary_runs_with() {
    let mut scene = Scene::running(3, 1);
    let by_size: u64 = connections(&scene)[0].parse().unwrap();
    run_with(&mut scene, 1, by_size + 20);
    assert!(scene.record.parameters.proven.is_empty());
    go_on(&mut scene);
    let [wanted, floor] = [by_size, by_size + 20].map(|value| value.to_string());
    assert_eq!(
        connections(&scene),
        [wanted.clone(), floor.clone(), floor.clone()]
    );
    scene.silence(2, Silence::NotAsked, 60_000);
    scene.silence(3, Silence::NotAsked, 60_000);
    go_on(&mut scene);
    assert_eq!(connections(&scene)[1], floor, "also when they are away");
}

#[test]
fn a_primary_that_does_not_come_back_from_its_restart_is_lost() {
    let mut scene = Scene::running(3, 1);
    started(&mut scene, 1, "before");
    scene.record.parameters.restarting = Some("before".to_owned());
    scene.power(1, PowerState::Off);
    let begins = |scene: &Scene| {
        let cluster = scene.plan().record.and_then(|record| record.cluster);
        cluster.is_some_and(|cluster| cluster.epoch == Epoch(2))
    };
    assert!(!begins(&scene));
    // It takes its time to shut down, and answers nobody meanwhile.
    scene.power(1, PowerState::Running);
    scene.seen(1).sql = Err(Silence::NotReady);
    scene.seen(1).silent_ms = scene.policy.silent_ms;
    assert!(!begins(&scene));
    scene.power(1, PowerState::Off);
    scene.seen(1).silent_ms = scene.policy.voter_gone_ms;
    assert!(begins(&scene), "it takes longer than an election");
    scene.seen(1).silent_ms = 100;
    started(&mut scene, 1, "after");
    assert!(begins(&scene), "it was started, and ended");
}
