//! What people read: a status is ACTIVE only when nothing is left to do, and says what to do about what does
//! not get on.

#[expect(dead_code, reason = "the golden plans use the rest of it")]
mod situation;

use dbaas_core::cluster::FailoverCause;
use dbaas_core::infrastructure::{Capabilities, Enforcement, Exit, ExitReason, PowerState};
use dbaas_core::instance::{DesiredState, InstancePhase, InstanceRecord};
use dbaas_core::kinds::ActionKind;
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::node::NodeRole;
use dbaas_core::observation::{ActionFailure, Seen, Silence};
use dbaas_core::time::Timestamp;
use situation::{Scene, died, node};

const NOT_INSTALLED: &str = "PostgreSQL 16 is not installed on this machine";

fn failure(action: ActionKind, times: u32) -> Option<ActionFailure> {
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
        scene.seen(n).last_failure = failure(ActionKind::Apply, 1);
    }
    let once = told(&scene);
    assert_eq!(once.status.lifecycle, Lifecycle::InProgress, "it may be bad luck");
    assert!(
        once.nodes[0].reason.contains(NOT_INSTALLED),
        "{}",
        once.nodes[0].reason
    );

    for n in 1..=3 {
        scene.seen(n).last_failure = failure(ActionKind::Apply, 2);
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
    scene.seen(2).last_failure = failure(ActionKind::Checkpoint, 9);
    scene.seen(3).last_failure = failure(ActionKind::Start, 9);
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
        (DesiredState::Deleted, ActionKind::Remove),
        (DesiredState::Stopped, ActionKind::PowerOff),
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

/// One of three nodes in each state that it can be seen in, beside a primary and a standby that are well.
#[test]
fn each_node_says_what_it_is_about() {
    use Lifecycle::{Active, Error, InProgress};
    type Change = fn(&mut Scene);
    let cases: [(Change, Lifecycle, &str, bool); 10] = [
        (|_| (), Active, "standby: streams from the primary", true),
        (
            |s| s.seen(3).infra = Seen::Unknown,
            Active,
            "the infrastructure does not answer",
            true,
        ),
        (
            |s| {
                s.silence(3, Silence::NotAsked, 100);
                s.seen(3).infra = Seen::Unknown;
            },
            Active,
            "the infrastructure does not answer",
            false,
        ),
        (
            |s| {
                s.power(3, PowerState::Off);
                s.absent(3);
            },
            InProgress,
            "being created",
            false,
        ),
        (|s| s.power(3, died()), Error, "killed (signal 9)", false),
        (
            |s| s.power(3, PowerState::Frozen),
            Error,
            "its processes are frozen",
            false,
        ),
        (
            |s| s.power(3, PowerState::Preparing),
            InProgress,
            "its data is being prepared",
            false,
        ),
        (
            |s| s.power(3, PowerState::Off),
            InProgress,
            "off; about to be started",
            false,
        ),
        (
            |s| s.silence(3, Silence::NotReady, 100),
            InProgress,
            "PostgreSQL does not answer yet",
            false,
        ),
        (
            |s| {
                s.facts(1)
                    .standbys
                    .retain(|f| !f.application_name.starts_with("n3"));
                s.facts(3).receiver = None;
            },
            InProgress,
            "standby: not streaming yet",
            false,
        ),
    ];
    for (change, lifecycle, reason, sync) in cases {
        let mut scene = Scene::running(3, 1);
        change(&mut scene);
        let record = told(&scene);
        let of = |n: usize| &record.nodes[n - 1];
        assert_eq!(
            (of(3).lifecycle, of(3).reason.as_str(), of(3).sync),
            (lifecycle, reason, sync)
        );
        assert_eq!(
            (of(3).role, of(2).role, of(1).role),
            (NodeRole::Standby, NodeRole::Standby, NodeRole::Primary)
        );
        assert_eq!(
            (of(1).reason.as_str(), of(1).sync),
            ("primary: takes writes", false)
        );
        assert!(of(2).sync && of(2).lifecycle == Active);
        assert!(record.status.primary_endpoint.is_some());
    }
    // Nobody is waited for, also by those who may vote.
    let mut none = Scene::running(3, 0);
    none.record.cluster.as_mut().unwrap().electorates[0]
        .voters
        .insert(node(2));
    assert!(told(&none).nodes.iter().all(|n| !n.sync));
    assert!(told(&Scene::running(3, 0)).nodes.iter().all(|n| !n.sync));
}

#[test]
fn a_node_says_what_failed_last_unless_it_does_its_part() {
    let mut scene = Scene::running(3, 1);
    for n in 1..=3 {
        scene.seen(n).last_failure = failure(ActionKind::Start, 2);
    }
    scene.power(3, PowerState::Off);
    let record = told(&scene);
    let reasons: Vec<&str> = record.nodes.iter().map(|n| n.reason.as_str()).collect();
    assert_eq!(
        reasons[..2],
        ["primary: takes writes", "standby: streams from the primary"]
    );
    assert!(
        reasons[2].starts_with("off; about to be started; last failure: "),
        "{}",
        reasons[2]
    );
    assert!(reasons[2].contains(NOT_INSTALLED));
    assert_eq!(record.nodes[2].lifecycle, Lifecycle::Error);
    assert_eq!(
        record.status.reason,
        format!("n3 cannot be started: {NOT_INSTALLED}; it is tried again")
    );
    // Once is bad luck, and on a node that runs it is not the node's state.
    scene.seen(3).last_failure = failure(ActionKind::Start, 1);
    assert_eq!(told(&scene).nodes[2].lifecycle, Lifecycle::InProgress);
    scene.power(3, PowerState::Preparing);
    scene.seen(3).last_failure = failure(ActionKind::Start, 2);
    let record = told(&scene);
    assert_eq!(record.nodes[2].lifecycle, Lifecycle::InProgress);
    assert!(
        !record.status.reason.contains("cannot be"),
        "{}",
        record.status.reason
    );
}

#[test]
fn each_action_that_fails_again_and_again_has_its_words() {
    for (action, done) in [
        (ActionKind::Apply, "created"),
        (ActionKind::Start, "started"),
        (ActionKind::Remove, "removed"),
    ] {
        let mut scene = Scene::running(3, 1);
        scene.power(3, PowerState::Off);
        scene.seen(3).last_failure = failure(action, 2);
        let status = told(&scene).status;
        assert_eq!(
            status.reason,
            format!("n3 cannot be {done}: {NOT_INSTALLED}; it is tried again")
        );
        assert_eq!(status.lifecycle, Lifecycle::Error);
    }
    let mut scene = Scene::running(3, 1);
    scene.power(3, PowerState::Off);
    scene.seen(3).last_failure = failure(ActionKind::Checkpoint, 2);
    assert_eq!(told(&scene).status.lifecycle, Lifecycle::InProgress);
}

#[test]
fn the_phase_tells_what_is_going_on() {
    let with = |mut scene: Scene, change: fn(&mut Scene)| {
        change(&mut scene);
        told(&scene).status.phase
    };
    let switching = |scene: &mut Scene| {
        scene.record.cluster.as_mut().unwrap().cause = Some(FailoverCause::Switchover { to: node(2) });
    };
    use InstancePhase::*;
    let phase_before = |scene: &mut Scene, phase| scene.record.status.phase = phase;
    assert_eq!(with(Scene::new(3, 1), |_| ()), Creating);
    assert_eq!(with(Scene::running(3, 1), |_| ()), Running);
    assert_eq!(with(Scene::running(3, 1), |s| s.power(3, died())), Updating);
    for (scene, phase) in [
        (Scene::sealing(3, 1), FailingOver),
        (Scene::promoting(3, 1), FailingOver),
    ] {
        assert_eq!(told(&scene).status.phase, phase);
        let mut planned = scene;
        switching(&mut planned);
        assert_eq!(told(&planned).status.phase, SwitchingOver);
    }
    // Nobody serves, and no epoch was begun yet.
    for (before, now) in [
        (Creating, Creating),
        (Stopped, Starting),
        (Starting, Starting),
        (Running, FailingOver),
        (Updating, FailingOver),
    ] {
        let mut scene = Scene::running(3, 1);
        scene.silence(1, Silence::NotReady, 100);
        phase_before(&mut scene, before);
        assert_eq!(told(&scene).status.phase, now, "{before:?}");
    }
    // Somebody serves, and there is more to do.
    for (before, now) in [(Creating, Creating), (Running, Updating), (Starting, Updating)] {
        let mut scene = Scene::running(3, 1);
        scene.power(3, died());
        phase_before(&mut scene, before);
        assert_eq!(told(&scene).status.phase, now, "{before:?}");
        scene.record.requests.restart = Some(Timestamp::from_unix_ms(1));
        assert_eq!(told(&scene).status.phase, Restarting, "{before:?}");
    }
}

#[test]
fn warnings_name_what_is_not_held_and_what_would_stop_writes() {
    let mut scene = Scene::running(3, 1);
    let record = told(&scene);
    let (yes, no) = (Enforcement::Enforced, Enforcement::NotEnforced);
    let enforced = Capabilities::new(yes, yes, yes);
    scene.policy.capabilities = Capabilities::new(yes, no, no);
    assert_eq!(
        told(&scene).status.warnings,
        ["not enforced by this backend: ram, disk_size"]
    );
    scene.policy.capabilities = enforced.clone();
    assert!(
        told(&scene).status.warnings.is_empty(),
        "{:?}",
        record.status.warnings
    );
    scene.policy.infrastructure_warnings = vec!["machines are emulated".to_owned()];
    assert_eq!(told(&scene).status.warnings, ["machines are emulated"]);
    scene.policy.infrastructure_warnings.clear();

    let mut two = Scene::running(2, 1);
    two.policy.capabilities = enforced.clone();
    let warnings = told(&two).status.warnings;
    assert_eq!(
        warnings,
        ["writes stop while one node is lost: with 1 synchronous standby(s) that needs at least 3 nodes"]
    );
    // One node alone has nobody to wait for.
    let mut one = Scene::running(1, 1);
    one.policy.capabilities = enforced.clone();
    assert!(told(&one).status.warnings.is_empty());

    let stranger = scene.observation.nodes[&node(3)].clone();
    scene.observation.nodes.insert(node(9), stranger);
    let warnings = told(&scene).status.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains(&node(9).to_string()) && warnings[0].contains("left alone"),
        "{warnings:?}"
    );
}
