//! What programs read: conditions, with one word for why, and since when.

#[expect(dead_code, reason = "the golden plans use the rest of it")]
mod situation;

use dbaas_core::condition::{Condition, ConditionStatus, ConditionType, Conditions};
use dbaas_core::infrastructure::{Exit, ExitReason, PowerState};
use dbaas_core::instance::{DesiredState, InstanceRecord, RefusedParameters};
use dbaas_core::observation::{Fitness, Seen, Silence, Unfit, UnfitKind};
use dbaas_core::reason::Reason;
use situation::{Scene, died};

use ConditionStatus::{False, True, Unknown};
use ConditionType::{
    DiskSpace, InfrastructureReachable, ObjectsReconciled, ParametersApplied, Ready, Reconciled, Replicating,
};

fn told(scene: &Scene) -> InstanceRecord {
    scene.plan().record.unwrap_or_else(|| scene.record.clone())
}

fn get(conditions: &Conditions, kind: ConditionType) -> Condition {
    conditions
        .get(kind)
        .unwrap_or_else(|| panic!("{kind:?} is told"))
        .clone()
}

/// Status and reason of one of the instance's conditions.
fn of(scene: &Scene, kind: ConditionType) -> (ConditionStatus, Reason) {
    let condition = get(&told(scene).status.conditions, kind);
    assert!(!condition.message().is_empty());
    (condition.status, condition.reason)
}

#[test]
fn all_is_well() {
    let scene = Scene::running(3, 1);
    let record = told(&scene);
    let seen: Vec<_> = record
        .status
        .conditions
        .iter()
        .map(|c| (c.kind, c.status, c.reason))
        .collect();
    let disk = seen
        .iter()
        .find(|c| c.0 == DiskSpace)
        .expect("it is told")
        .to_owned();
    assert_eq!(
        seen,
        [
            (Ready, True, Reason::TakesWrites),
            (Reconciled, True, Reason::AsAskedFor),
            (Replicating, True, Reason::AllStream),
            disk,
            (ParametersApplied, True, Reason::Configured),
            (InfrastructureReachable, True, Reason::InfrastructureAnswers),
            (ObjectsReconciled, True, Reason::AsAskedFor),
        ]
    );
    let [primary, standby] = [0, 1].map(|index| &record.nodes[index].conditions);
    assert_eq!(get(primary, Ready).reason, Reason::TakesWrites);
    assert!(primary.get(Replicating).is_none(), "it follows nobody");
    assert_eq!(get(standby, Ready).reason, Reason::Streaming);
    assert_eq!(get(standby, Replicating).status, True);
    assert_eq!(get(standby, ParametersApplied).status, True);
}

#[test]
fn nothing_changes_while_all_is_as_it_was() {
    let mut scene = Scene::running(3, 1);
    scene.record = told(&scene);
    let at = scene.observation.at;
    scene.observation.at = at.plus_ms(60_000);
    assert_eq!(scene.plan().record, None, "no word of it is written again");
    scene.power(1, died());
    let failing = told(&scene).status.conditions;
    assert_eq!(get(&failing, Ready).since, at.plus_ms(60_000));
    assert_eq!(get(&failing, ObjectsReconciled).since, at);
}

#[test]
fn a_primary_that_is_lost_takes_no_writes() {
    let mut scene = Scene::running(3, 1);
    scene.power(1, died());
    let (status, reason) = of(&scene, Ready);
    assert_eq!(status, False);
    assert!(
        matches!(reason, Reason::Electing | Reason::Promoting),
        "{reason:?}"
    );
    assert_eq!(of(&scene, Replicating), (Unknown, Reason::NoPrimary));
    for n in 2..=3 {
        scene.power(n, died());
    }
    scene.absent(1);
    assert_eq!(of(&scene, Ready), (False, Reason::PrimaryLost));
}

#[test]
fn a_primary_that_serves_nobody_says_why() {
    let kinds = [
        (UnfitKind::Damaged, Reason::PrimaryDamaged),
        (UnfitKind::NoCommit, Reason::NoCommit),
        (UnfitKind::NoLogin, Reason::NoLogin),
        (UnfitKind::Refuses, Reason::CommitsRefused),
        (UnfitKind::Exhausted, Reason::Exhausted),
    ];
    for (kind, reason) in kinds {
        let mut scene = Scene::running(1, 0);
        scene.seen(1).fitness = Fitness::Unfit {
            why: Unfit {
                kind,
                message: "tried".to_owned(),
            },
            for_ms: 60_000,
            times: 9,
            again: false,
        };
        assert_eq!(of(&scene, Ready), (False, reason));
        let ready = get(&told(&scene).status.conditions, Ready);
        assert!(ready.message().contains("tried"), "{}", ready.message());
    }
}

#[test]
fn commits_that_wait_for_standbys_are_told_apart() {
    let mut scene = Scene::running(3, 1);
    for n in 2..=3 {
        scene.silence(n, Silence::Timeout, 60_000);
    }
    scene.facts(1).standbys.clear();
    assert_eq!(of(&scene, Ready), (False, Reason::CommitsWaitForStandbys));
    let replicating = get(&told(&scene).status.conditions, Replicating);
    assert_eq!(
        (replicating.status, replicating.reason),
        (False, Reason::NotStreaming)
    );
    assert_eq!(replicating.message(), "not streaming: n2, n3");
}

/// What is told of a node's disk.
fn free(scene: &mut Scene, n: usize) -> &mut Option<u64> {
    match &mut scene.seen(n).infra {
        Seen::Present(found) => &mut found.disk_free_bytes,
        _ => panic!("it is there"),
    }
}

#[test]
fn disks() {
    let mut scene = Scene::running(3, 1);
    for n in 1..=3 {
        *free(&mut scene, n) = Some(9 << 40);
    }
    assert_eq!(of(&scene, DiskSpace), (True, Reason::DiskSpaceLeft));
    *free(&mut scene, 3) = Some(1 << 20);
    assert_eq!(of(&scene, DiskSpace), (False, Reason::DiskLow));
    assert_eq!(get(&told(&scene).nodes[2].conditions, DiskSpace).status, False);
    assert_eq!(get(&told(&scene).nodes[1].conditions, DiskSpace).status, True);
    let exit = Exit {
        reason: ExitReason::DiskFull,
        message: "No space left on device".to_owned(),
    };
    scene.power(2, PowerState::Exited(exit));
    assert_eq!(
        of(&scene, DiskSpace),
        (False, Reason::DiskFull),
        "the worst of all"
    );
    for n in 1..=3 {
        *free(&mut scene, n) = None;
    }
    scene.power(2, PowerState::Running);
    assert_eq!(of(&scene, DiskSpace), (Unknown, Reason::DiskNotMeasured));
}

#[test]
fn parameters() {
    let mut scene = Scene::running(3, 1);
    scene.facts(2).pending_restart = vec!["shared_buffers".to_owned()];
    assert_eq!(of(&scene, ParametersApplied), (False, Reason::RestartPending));
    assert_eq!(
        get(&told(&scene).nodes[0].conditions, ParametersApplied).status,
        True
    );
    let node = get(&told(&scene).nodes[1].conditions, ParametersApplied);
    assert_eq!(node.message(), "waiting for a restart: shared_buffers");
    scene.facts(2).config_hash = "another".to_owned();
    assert_eq!(of(&scene, ParametersApplied), (False, Reason::Reconfiguring));
    scene.record.parameters.refused = Some(RefusedParameters {
        parameters: scene.record.spec.parameters.clone(),
        reason: "n1 does not run with it".to_owned(),
    });
    assert_eq!(of(&scene, ParametersApplied), (False, Reason::ParametersRefused));
}

#[test]
fn an_infrastructure_that_is_silent_or_sees_a_part() {
    let mut scene = Scene::running(3, 1);
    scene.seen(3).infra = Seen::Unknown;
    assert_eq!(
        of(&scene, InfrastructureReachable),
        (False, Reason::NodesOutOfSight)
    );
    assert_eq!(
        of(&scene, Ready),
        (True, Reason::TakesWrites),
        "PostgreSQL answers"
    );
    scene.observation.infrastructure_error = Some("no route".to_owned());
    let condition = get(&told(&scene).status.conditions, InfrastructureReachable);
    assert_eq!(condition.reason, Reason::InfrastructureSilent);
    assert_eq!(
        condition.message(),
        "the infrastructure does not answer: no route"
    );
}

#[test]
fn a_primary_out_of_sight_that_its_standbys_hear_may_take_writes() {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, 60_000);
    assert_eq!(of(&scene, Ready), (Unknown, Reason::PrimaryUnreachable));
}

#[test]
fn what_is_stopped_or_deleted_is_not_ready_and_has_no_more_to_tell() {
    for (desired, reasons) in [
        (DesiredState::Stopped, [Reason::Stopping, Reason::Stopped]),
        (DesiredState::Deleted, [Reason::Deleting, Reason::Deleting]),
    ] {
        let mut scene = Scene::running(2, 1);
        scene.record.desired = desired;
        assert_eq!(of(&scene, Ready), (False, reasons[0]));
        for n in 1..=2 {
            scene.power(n, PowerState::Off);
        }
        assert_eq!(of(&scene, Ready), (False, reasons[1]));
        let record = told(&scene);
        for kind in [Replicating, ParametersApplied, ObjectsReconciled] {
            assert!(record.status.conditions.get(kind).is_none(), "{kind:?}");
        }
        let status = if desired == DesiredState::Stopped {
            True
        } else {
            False
        };
        assert_eq!(get(&record.status.conditions, Reconciled).status, status);
        if desired == DesiredState::Stopped {
            assert_eq!(get(&record.nodes[0].conditions, Ready).reason, Reason::Stopped);
        }
    }
}

#[test]
fn what_is_asked_for_is_not_done_yet_and_stops_nothing() {
    let scene = Scene::running(3, 1);
    let mut status = told(&scene).status;
    let later = scene.observation.at.plus_ms(5_000);
    status.accept("accepted; more nodes", later);
    let reconciled = get(&status.conditions, Reconciled);
    assert_eq!((reconciled.status, reconciled.reason), (False, Reason::Accepted));
    assert_eq!(
        (reconciled.message(), reconciled.since),
        (status.reason.clone(), later)
    );
    assert_eq!(get(&status.conditions, Ready).status, True);
}
