//! What people read: a status is ACTIVE only when nothing is left to do, and says what to do about what does not get on.

#[expect(dead_code, reason = "the golden plans use the rest of it")]
mod situation;

use dbaas_core::infrastructure::{Exit, ExitReason, PowerState};
use dbaas_core::instance::{DesiredState, InstancePhase, InstanceRecord};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::observation::{ActionFailure, Seen};
use situation::Scene;

const NOT_INSTALLED: &str = "PostgreSQL 16 is not installed on this machine";

fn failure(action: &'static str, times: u32) -> Option<ActionFailure> {
    Some(ActionFailure {
        action,
        message: NOT_INSTALLED.to_owned(),
        times,
    })
}

fn told(scene: &Scene) -> InstanceRecord {
    scene.plan().record.unwrap_or_else(|| scene.record.clone())
}

#[test]
fn an_instance_says_why_its_nodes_cannot_be_made() {
    let mut scene = Scene::decided(3, 1);
    for n in 1..=3 {
        scene.absent(n);
        scene.seen(n).last_failure = failure("apply", 1);
    }
    let once = told(&scene);
    assert_eq!(once.status.lifecycle, Lifecycle::InProgress, "it may be bad luck");
    assert!(
        once.nodes[0].reason.contains(NOT_INSTALLED),
        "{}",
        once.nodes[0].reason
    );

    for n in 1..=3 {
        scene.seen(n).last_failure = failure("apply", 2);
    }
    let record = told(&scene);
    assert_eq!(record.status.lifecycle, Lifecycle::Error);
    assert_eq!(
        record.status.reason,
        format!("n1 cannot be created: {NOT_INSTALLED}; it is tried again")
    );
    assert_eq!(record.status.phase, InstancePhase::Creating);
    assert_eq!(record.nodes[0].lifecycle, Lifecycle::Error);
    assert!(!scene.plan().actions.is_empty(), "it goes on trying");
}

#[test]
fn what_failed_on_a_node_that_runs_is_no_error_of_the_instance() {
    let mut scene = Scene::running(3, 1);
    scene.seen(2).last_failure = failure("checkpoint", 9);
    scene.seen(3).last_failure = failure("start", 9);
    assert_eq!(told(&scene).status.lifecycle, Lifecycle::Active);
}

#[test]
fn an_instance_says_why_its_first_node_does_not_start() {
    let mut scene = Scene::decided(1, 0);
    scene.exist();
    let message = "initdb: error: could not create directory: No space left on device";
    scene.power(
        1,
        PowerState::Exited(Exit {
            reason: ExitReason::PreparationFailed,
            message: message.to_owned(),
        }),
    );
    let record = told(&scene);
    assert_eq!(record.status.lifecycle, Lifecycle::Error);
    assert!(record.status.reason.contains(message), "{}", record.status.reason);
}

#[test]
fn deletion_and_stop_say_what_they_wait_for() {
    for (desired, action) in [
        (DesiredState::Deleted, "remove"),
        (DesiredState::Stopped, "power_off"),
    ] {
        let mut scene = Scene::running(2, 1);
        scene.record.desired = desired;
        if desired == DesiredState::Deleted {
            scene.power(2, PowerState::Off);
        }
        scene.seen(2).last_failure = failure(action, 2);
        let status = told(&scene).status;
        assert_eq!(status.lifecycle, Lifecycle::Error);
        assert!(status.reason.contains(NOT_INSTALLED), "{}", status.reason);
    }
}

#[test]
fn deletion_says_why_the_infrastructure_is_silent() {
    let mut scene = Scene::running(2, 1);
    scene.record.desired = DesiredState::Deleted;
    scene.observation.infrastructure_error = Some("the engine is not there".to_owned());
    let status = told(&scene).status;
    assert!(
        status.reason.contains("the engine is not there"),
        "{}",
        status.reason
    );
}

#[test]
fn what_was_just_asked_for_is_not_there_yet() {
    // A client that changes something and waits for ACTIVE must not be told so at once.
    let mut more = Scene::running(3, 1);
    more.record.spec.nodes = 5u64.try_into().unwrap();
    let mut fewer = Scene::running(3, 1);
    fewer.record.spec.nodes = 2u64.try_into().unwrap();
    let mut asynchronous = Scene::running(3, 1);
    asynchronous.record.spec.sync_replicas = 0u64.try_into().unwrap();
    let mut synchronous = Scene::running(3, 1);
    synchronous.record.spec.sync_replicas = 2u64.try_into().unwrap();
    let mut larger = Scene::running(3, 1);
    larger.record.spec.resources.ram = 4096u64.try_into().unwrap();
    for scene in [more, fewer, asynchronous, synchronous, larger] {
        let status = told(&scene).status;
        assert_eq!(status.lifecycle, Lifecycle::InProgress, "{}", status.reason);
    }
}

#[test]
fn a_promotion_that_has_not_settled_is_not_active() {
    let mut scene = Scene::running(3, 1);
    let cluster = scene.record.cluster.as_mut().unwrap();
    let mut newer = cluster.current();
    newer.k = 2;
    cluster.propose(newer);
    // The primary has the setting; nobody has looked how far its voters are.
    let names = cluster.current().voters.len();
    assert_eq!(names, 2);
    let setting = cluster.setting;
    scene.facts(1).setting = setting;
    scene.facts(1).sync_names = "ANY 2 (\"n2_e1\", \"n3_e1\")".to_owned();
    let status = told(&scene).status;
    assert_eq!(status.lifecycle, Lifecycle::InProgress, "{}", status.reason);
}

#[test]
fn a_stopped_node_names_no_process() {
    let mut scene = Scene::running(2, 1);
    scene.record.desired = DesiredState::Stopped;
    for n in 1..=2 {
        scene.record.nodes[n - 1].backend_ref = Some(format!("pid {n}"));
        scene.power(n, PowerState::Off);
        if let Seen::Present(observed) = &mut scene.seen(n).infra {
            observed.backend_ref = None;
        }
    }
    let record = told(&scene);
    assert_eq!(record.status.phase, InstancePhase::Stopped);
    assert!(record.nodes.iter().all(|n| n.backend_ref.is_none()));
}

#[test]
fn a_node_that_is_about_to_be_made_is_not_there_yet() {
    let mut scene = Scene::running(2, 1);
    scene.record.spec.nodes = 3u64.try_into().unwrap();
    scene.record = told(&scene);
    scene.absent(3);
    let status = told(&scene).status;
    assert_eq!(status.lifecycle, Lifecycle::InProgress);
    assert!(status.reason.contains("n3"), "{}", status.reason);
}

#[test]
fn little_space_is_told_with_what_helps() {
    use dbaas_core::infrastructure::Enforcement;
    for (disk, advice) in [
        (Enforcement::NotEnforced, "free space where its data is"),
        (Enforcement::Enforced, "enlarge disk_size"),
    ] {
        let mut scene = Scene::running(1, 0);
        scene.policy.capabilities.disk = disk;
        let bound = (10u64 << 30) / 100 * scene.policy.low_disk_percent;
        for (free, warned) in [(bound, false), (bound - 1, true)] {
            if let Seen::Present(observed) = &mut scene.seen(1).infra {
                observed.disk_free_bytes = Some(free);
            }
            let warnings = told(&scene).status.warnings;
            let low: Vec<_> = warnings.iter().filter(|w| w.contains("disk space")).collect();
            assert_eq!(low.len(), usize::from(warned), "{free}: {warnings:?}");
            assert!(low.iter().all(|w| w.contains(advice)), "{low:?}");
        }
    }
}
