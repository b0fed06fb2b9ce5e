//! Golden plans: what the planner decides in the situations that matter. To change one on purpose:
//! `INSTA_UPDATE=always cargo test -p dbaas-core --test plans`, then read the difference.

mod access;
mod elections;
mod electorates;
mod extensions;
mod objects;
mod rolling;
mod sight;
mod situation;
mod standbys;

use dbaas_core::cluster::{ClusterPhase, Epoch, FailoverCause, Lsn};
use dbaas_core::id::UserId;
use dbaas_core::infrastructure::{BootMark, DataState, Exit, ExitReason, PowerOff, PowerState};
use dbaas_core::instance::{DesiredState, FailoverRequest, SwitchoverRequest};
use dbaas_core::kinds::{ActionKind, EventKind};
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{Seen, Silence, SlotFacts};
use dbaas_core::plan::{Action, GoneObject, Plan};
use situation::{Scene, died, node, receiver};
use uuid::Uuid;

macro_rules! golden {
    ($scene:expr) => {
        insta::assert_snapshot!($scene.show())
    };
}

#[test]
fn a_new_instance_decides_on_its_nodes() {
    golden!(Scene::new(3, 1));
}

#[test]
fn nodes_that_do_not_exist_are_created() {
    golden!(Scene::decided(3, 1));
}

#[test]
fn the_first_node_starts_with_its_copies() {
    let mut scene = Scene::decided(3, 1);
    scene.exist();
    golden!(scene);
}

#[test]
fn copies_start_with_the_first_node_and_not_before() {
    let starts = |scene: &Scene| {
        let actions = scene.plan().actions;
        actions.iter().filter(|a| a.kind() == ActionKind::Start).count()
    };
    let mut scene = Scene::decided(3, 1);
    scene.exist();
    assert_eq!(starts(&scene), 3);
    scene.seen(1).hold_off_ms = 1;
    assert_eq!(starts(&scene), 0, "its last start failed a moment ago");
    scene.absent(1);
    assert_eq!(starts(&scene), 0, "it is to be made first");
}

#[test]
fn a_copy_of_a_first_node_that_is_lost_is_none_of_its_successor() {
    let mut scene = Scene::running(3, 1);
    for node in &mut scene.record.nodes {
        node.rejoin = Rejoin::Seed;
    }
    // It was never seen to serve. n2 has run with its copy, n3 has not got one yet.
    for empty in [1, 3] {
        scene.power(empty, died());
        if let Seen::Present(found) = &mut scene.seen(empty).infra {
            found.data = DataState::Empty;
        }
    }
    if let Seen::Present(found) = &mut scene.seen(2).infra {
        found.boot = Some(BootMark {
            epoch: Epoch(1),
            boot_id: "a start".to_owned(),
        });
    }
    golden!(scene);
}

#[test]
fn the_first_login_makes_our_roles() {
    let mut scene = Scene::decided(3, 1);
    scene.exist();
    scene.power(1, PowerState::Running);
    scene.silence(1, Silence::Login, 100);
    golden!(scene);
}

#[test]
fn nothing_to_do() {
    let scene = Scene::running(3, 1);
    let plan = scene.plan();
    assert!(plan.is_idle(), "{:?}", plan);
    assert_eq!(plan.wake_after_ms, scene.policy.heartbeat_ms);
}

#[test]
fn a_dead_primary_begins_an_epoch() {
    let mut scene = Scene::running(3, 1);
    scene.power(1, died());
    golden!(scene);
}

#[test]
fn a_primary_that_standbys_hear_is_left_alone() {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, 60_000);
    golden!(scene);
}

#[test]
fn a_primary_that_nobody_hears_is_lost() {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, 60_000);
    scene.facts(2).receiver = None;
    scene.facts(3).receiver = None;
    golden!(scene);
}

#[test]
fn a_frozen_primary_that_nobody_can_stand_for_is_restarted() {
    let alone = Scene::running(1, 0);
    let mut promoted = Scene::promoting(2, 1);
    promoted.power(1, died());
    for (mut scene, primary) in [(alone, 1), (promoted, 2)] {
        scene.power(primary, PowerState::Frozen);
        let fence = Action::PowerOff {
            node: node(primary),
            mode: PowerOff::Immediate,
        };
        scene.silence(primary, Silence::NotAsked, scene.policy.silent_ms - 1);
        assert!(
            !scene.plan().actions.contains(&fence),
            "it may only be held for a moment"
        );
        scene.silence(primary, Silence::NotAsked, scene.policy.silent_ms);
        assert!(scene.plan().actions.contains(&fence));
    }
}

#[test]
fn a_frozen_primary_is_given_a_moment() {
    let mut scene = Scene::running(3, 1);
    scene.power(1, PowerState::Frozen);
    scene.silence(1, Silence::NotAsked, scene.policy.frozen_ms - 1);
    assert!(scene.plan().actions.is_empty());
    scene.silence(1, Silence::NotAsked, scene.policy.frozen_ms);
    golden!(scene);
}

#[test]
fn too_few_voters_restart_the_primary_in_place() {
    let mut scene = Scene::running(3, 1);
    scene.power(1, died());
    scene.power(2, died());
    golden!(scene);
}

#[test]
fn a_lost_disk_with_too_few_voters_waits_and_says_so() {
    let mut scene = Scene::running(3, 1);
    scene.absent(1);
    scene.silence(2, Silence::Timeout, 60_000);
    golden!(scene);
}

#[test]
fn a_forced_failover_fences_first() {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, 60_000);
    scene.silence(2, Silence::Timeout, 60_000);
    scene.facts(3).receiver = None;
    scene.record.requests.failover = Some(FailoverRequest {
        from: Some(node(1)),
        allow_data_loss: true,
        at: scene.observation.at,
    });
    golden!(scene);
}

#[test]
fn an_asynchronous_instance_prefers_its_own_disk() {
    let mut scene = Scene::running(2, 0);
    scene.power(1, died());
    golden!(scene);
}

#[test]
fn an_asynchronous_failover_waits_for_whoever_may_hold_more() {
    let mut scene = Scene::running(3, 0);
    scene.absent(1);
    scene.silence(2, Silence::Timeout, scene.policy.voter_gone_ms - 1);
    golden!(scene);
    scene.silence(2, Silence::Timeout, scene.policy.voter_gone_ms);
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("n3 has to do");
    assert_eq!(cluster.epoch, Epoch(2));
}

#[test]
fn the_sealed_node_with_most_is_promoted() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(1_000));
    golden!(scene);
}

#[test]
fn history_counts_before_position() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(5_000));
    scene.facts(3).history = Epoch(0);
    let plan = scene.plan();
    let cluster = plan
        .record
        .and_then(|r| r.cluster)
        .expect("a candidate is chosen");
    assert_eq!(cluster.primary, node(2));
    assert!(
        cluster.current().voters.is_empty(),
        "one of another history does not vote"
    );
}

#[test]
fn one_seal_of_two_is_not_enough() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, PowerState::Running);
    scene.silence(1, Silence::Timeout, 9_000);
    scene.sealed(2, Lsn(900));
    scene.silence(3, Silence::Timeout, 9_000);
    golden!(scene);
}

#[test]
fn a_receiver_that_still_runs_is_no_seal() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(900));
    scene.facts(3).receiver = Some(receiver());
    let phase = scene.plan().record.and_then(|r| r.cluster).map(|c| c.phase);
    assert_ne!(phase, Some(ClusterPhase::Promoting));
}

#[test]
fn an_election_that_cannot_be_won_goes_back_to_the_old_primary() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(900));
    scene.power(3, died());
    golden!(scene);
}

#[test]
fn a_promoted_candidate_is_marked_before_anybody_acknowledges() {
    let mut scene = Scene::promoting(3, 1);
    scene.facts(2).in_recovery = false;
    golden!(scene);
}

#[test]
fn a_marked_primary_gets_its_voters_and_followers() {
    let mut scene = Scene::promoting(3, 1);
    scene.facts(2).in_recovery = false;
    scene.facts(2).history = Epoch(2);
    golden!(scene);
}

/// n1 was shut down for a switchover. Its start would take time from those that writes wait for, unless it is
/// one of them.
#[test]
fn a_promotion_does_not_wait_for_a_node_that_it_can_do_without() {
    let starts = |scene: &Scene| {
        let actions = scene.plan().actions;
        actions
            .iter()
            .any(|action| action.kind() == ActionKind::Start && action.node() == node(1))
    };
    for k in [1, 2] {
        let mut scene = Scene::promoting(3, k);
        scene.power(1, PowerState::Off);
        scene.record.nodes[0].rejoin = Rejoin::InPlace;
        assert_eq!(starts(&scene), k == 2, "k = {k}");
        scene.power(3, died());
        assert!(starts(&scene), "n3 cannot acknowledge");
    }
    let mut scene = Scene::promoting(3, 1);
    scene.power(1, PowerState::Off);
    scene.record.nodes[0].rejoin = Rejoin::InPlace;
    scene.silence(2, Silence::Timeout, 100);
    assert!(
        starts(&scene),
        "the candidate may be lost, and it stands for its time"
    );
    let mut scene = Scene::promoting(3, 1);
    scene.power(1, PowerState::Off);
    scene.record.nodes[0].rejoin = Rejoin::InPlace;
    let patience_ms = scene.policy.voter_gone_ms;
    scene.seen(3).waiting_ms = patience_ms - 1;
    assert!(!starts(&scene), "for a short time only");
    scene.seen(3).waiting_ms = patience_ms;
    assert!(starts(&scene), "n3 keeps the promotion waiting");
}

#[test]
fn a_candidate_that_died_is_started_to_be_promoted_again() {
    let mut scene = Scene::promoting(2, 1);
    scene.power(2, died());
    golden!(scene);
}

/// A switchover from n1 to n2, whose disk is lost before it is known to serve. n1 was shut down cleanly, and
/// is a standby now.
fn candidate_lost_in_a_switchover(nodes: u64) -> Scene {
    let mut scene = Scene::sealing(nodes, 1);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.cause = Some(FailoverCause::Switchover { to: node(2) });
    }
    let old = scene.facts(2).clone();
    scene.power(1, PowerState::Off);
    for n in 2..=scene.record.nodes.len() {
        scene.sealed(n, Lsn(1_000));
    }
    scene.record = scene.plan().record.expect("a candidate is chosen");
    scene.absent(2);
    scene.power(1, PowerState::Running);
    scene.seen(1).sql = Ok(old);
    scene
}

#[test]
fn the_old_primary_stands_for_its_time_when_the_candidate_is_lost() {
    let mut scene = candidate_lost_in_a_switchover(2);
    scene.sealed(1, Lsn(1_000));
    golden!(scene);
    let mut scene = candidate_lost_in_a_switchover(3);
    scene.sealed(1, Lsn(1_000));
    let cluster = scene
        .plan()
        .record
        .and_then(|r| r.cluster)
        .expect("it elects again");
    assert_eq!((cluster.epoch, cluster.phase), (Epoch(3), ClusterPhase::Sealing));
    // n3 may have acknowledged for the candidate: without it nobody knows what.
    let mut scene = candidate_lost_in_a_switchover(3);
    scene.sealed(1, Lsn(1_000));
    scene.silence(3, Silence::Timeout, 60_000);
    let cluster = scene.plan().record.unwrap_or(scene.record).cluster;
    assert_eq!(cluster.map(|c| c.epoch), Some(Epoch(2)));
}

/// What is recorded of a candidate that was started again.
fn repromoted(scene: &Scene) -> bool {
    let record = scene.plan().record.unwrap_or_else(|| scene.record.clone());
    record
        .cluster
        .is_some_and(|c| c.repromoted && c.barrier.is_none())
}

#[test]
fn a_second_promotion_in_an_epoch_is_recorded_before_it() {
    let mut scene = Scene::promoting(2, 1);
    scene.record.cluster.as_mut().unwrap().barrier = Some(Lsn(1_000));
    assert!(!repromoted(&scene));
    scene.facts(2).history = Epoch(2);
    assert!(
        repromoted(&scene),
        "a standby that holds the epoch's own mark was promoted before"
    );
    let mut scene = Scene::promoting(2, 1);
    scene.record.cluster.as_mut().unwrap().barrier = Some(Lsn(1_000));
    scene.power(2, died());
    assert!(repromoted(&scene), "it may have been");
}

#[test]
fn after_a_second_promotion_the_mark_shows_nothing() {
    let mut scene = Scene::sealing(4, 2);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.repromoted = true;
    }
    scene.power(1, died());
    scene.sealed(2, Lsn(1_000));
    scene.sealed(3, Lsn(1_000));
    scene.silence(4, Silence::Timeout, 9_000);
    golden!(scene);
}

/// n2 was promoted in epoch 2 without anybody having heard of it, came back as a standby and was sealed in
/// epoch 3, in which n3 has more. Both take the same number for their timelines. (The model checker found it:
/// a rewind left n2 as it was.)
#[test]
fn a_sealed_candidate_that_nobody_heard_of_is_rebuilt() {
    let mut scene = Scene::promoting(4, 2);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        assert_eq!(cluster.primary, node(2));
        cluster.epoch = Epoch(3);
        cluster.phase = ClusterPhase::Sealing;
    }
    scene.sealed(2, Lsn(1_000));
    scene.sealed(3, Lsn(2_000));
    scene.sealed(4, Lsn(1_000));
    let record = scene.plan().record.expect("a candidate is chosen");
    assert_eq!(record.cluster.map(|c| c.primary), Some(node(3)));
    let rejoin: Vec<Rejoin> = record.nodes.iter().map(|n| n.rejoin).collect();
    // n4 holds a part of what n3 holds, and was never promoted.
    assert_eq!(
        rejoin,
        [
            Rejoin::BaseBackup,
            Rejoin::BaseBackup,
            Rejoin::InPlace,
            Rejoin::InPlace
        ]
    );
}

#[test]
fn a_standby_that_has_to_be_rebuilt_does_not_go_on() {
    let mut scene = Scene::running(3, 1);
    scene.record.nodes[2].rejoin = Rejoin::BaseBackup;
    golden!(scene);
}

/// n3 runs, and does not stream.
fn not_streaming() -> Scene {
    let mut scene = Scene::running(3, 1);
    scene
        .facts(1)
        .standbys
        .retain(|s| !s.application_name.starts_with("n3_"));
    scene.facts(3).receiver = None;
    scene
}

#[test]
fn a_standby_is_rewound_only_for_the_time_in_which_it_could_have_streamed() {
    let mut scene = not_streaming();
    // The primary of before, a moment after a switchover: it has not streamed for as long as it was the
    // primary.
    scene.seen(3).not_streaming_ms = 3_600_000;
    scene.seen(3).waiting_ms = scene.policy.stuck_standby_ms - 1;
    assert!(
        scene
            .plan()
            .events
            .iter()
            .all(|e| e.kind != EventKind::StandbyRebuilding)
    );
    scene.seen(3).waiting_ms = scene.policy.stuck_standby_ms;
    golden!(scene);
}

#[test]
fn slots_from_a_time_before_rebuild_nobody() {
    let mut scene = Scene::promoting(3, 1);
    scene.facts(2).slots = vec![SlotFacts {
        name: "dbaas_n3".to_owned(),
        active: false,
        lost: true,
    }];
    let dropped = |scene: &Scene| {
        let plan = scene.plan();
        assert!(plan.events.iter().all(|e| e.kind != EventKind::StandbyRebuilding));
        plan.actions
            .iter()
            .any(|a| a.kind() == ActionKind::DropSlots && a.node() == node(2))
    };
    assert!(dropped(&scene));
    scene.facts(2).in_recovery = false;
    scene.facts(2).history = Epoch(2);
    assert!(dropped(&scene));
}

#[test]
fn a_stray_primary_is_fenced_and_rebuilt() {
    let mut scene = Scene::running(3, 1);
    scene.facts(3).in_recovery = false;
    golden!(scene);
}

#[test]
fn a_dead_standby_comes_back_where_it_is() {
    let mut scene = Scene::running(3, 1);
    scene.power(3, died());
    golden!(scene);
}

#[test]
fn a_standby_that_cannot_be_rewound_is_rebuilt() {
    let mut scene = Scene::running(3, 1);
    let exit = Exit {
        reason: ExitReason::CannotRewind,
        message: "no common ancestor".to_owned(),
    };
    scene.power(3, PowerState::Exited(exit));
    scene.record.nodes[2].rejoin = Rejoin::Rewind;
    golden!(scene);
}

#[test]
fn a_rewind_waits_for_the_new_primarys_checkpoint() {
    let mut scene = Scene::running(3, 1);
    scene.facts(1).checkpointed = false;
    scene.power(3, died());
    scene.record.nodes[2].rejoin = Rejoin::Rewind;
    golden!(scene);
}

#[test]
fn more_nodes() {
    let mut scene = Scene::running(1, 1);
    scene.record.spec.nodes = 2u64.try_into().unwrap();
    golden!(scene);
}

#[test]
fn fewer_nodes_leave_the_electorate_first() {
    let mut scene = Scene::running(3, 1);
    scene.record.spec.nodes = 2u64.try_into().unwrap();
    golden!(scene);
}

#[test]
fn the_primary_is_never_removed() {
    let mut scene = Scene::running(3, 1);
    scene.record.spec.nodes = 1u64.try_into().unwrap();
    let record = scene.plan().record.expect("nodes leave");
    let leaving: Vec<bool> = record.nodes.iter().map(|n| n.leaving).collect();
    assert_eq!(leaving, [false, true, true]);
}

#[test]
fn a_switchover_begins_with_a_checkpoint_and_then_an_epoch() {
    let mut scene = Scene::running(3, 1);
    let request = SwitchoverRequest {
        to: Some(node(3)),
        at: scene.observation.at,
        by_controller: false,
        prepared: false,
        checkpoint_after: None,
    };
    scene.record.requests.switchover = Some(request);
    let first = scene.plan();
    assert!(first.actions.iter().any(|a| a.kind() == ActionKind::Checkpoint));
    scene.record = first.record.expect("the request is prepared");
    golden!(scene);
}

#[test]
fn what_holds_up_the_replay_of_a_sealed_voter_is_ended() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(1_000));
    scene.sealed(3, Lsn(1_000));
    let acts = |scene: &Scene| {
        let plan = scene.plan();
        let on_voters = plan.actions.iter().filter(|a| a.node() == node(3));
        on_voters.map(|a| a.kind().as_str()).collect::<Vec<_>>()
    };
    // Its receiver has not ended: there is nothing to do but to wait.
    scene.facts(3).receiver = Some(receiver());
    scene.facts(3).lsn = Lsn(900);
    assert_eq!(acts(&scene), [""; 0]);
    // It has, and a query may be in the way of the rest.
    scene.facts(3).receiver = None;
    assert_eq!(acts(&scene), ["end_conflicts"]);
    // One that is not sealed yet is.
    scene.facts(3).epoch = Epoch(1);
    assert_eq!(acts(&scene), ["seal"]);
}

#[test]
fn a_switchover_prefers_the_node_asked_for_among_equals() {
    let mut scene = Scene::sealing(3, 1);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.cause = Some(FailoverCause::Switchover { to: node(3) });
    }
    scene.power(1, PowerState::Off);
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(900));
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert_eq!(cluster.primary, node(3));
    // Nothing is lost for the sake of a wish: the other one has more.
    scene.sealed(2, Lsn(901));
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert_eq!(cluster.primary, node(2));
}

#[test]
fn new_sizes_restart_standbys_one_at_a_time() {
    let mut scene = Scene::running(3, 1);
    scene.record.spec.resources.ram = 4096u64.try_into().unwrap();
    golden!(scene);
}

#[test]
fn stopping_begins_with_the_primary() {
    let mut scene = Scene::running(3, 1);
    scene.record.desired = DesiredState::Stopped;
    golden!(scene);
}

#[test]
fn deletion_switches_off_then_removes_then_forgets() {
    let mut scene = Scene::running(2, 1);
    scene.record.desired = DesiredState::Deleted;
    scene.power(2, died());
    golden!(scene);
    scene.observation.nodes.clear();
    assert!(scene.plan().instance_gone);
}

#[test]
fn a_silent_infrastructure_deletes_nothing() {
    let mut scene = Scene::running(2, 1);
    scene.record.desired = DesiredState::Deleted;
    scene.observation.nodes.clear();
    scene.observation.infrastructure_error = Some("no answer".to_owned());
    let plan = scene.plan();
    assert!(!plan.instance_gone && plan.actions.is_empty());
}

#[test]
fn writes_survive_a_loss_where_enough_nodes_are_left_to_acknowledge() {
    let survive = |nodes, k| Scene::new(nodes, k).record.spec.writes_survive_one_loss();
    let table = [
        (1, 0, false),
        (2, 0, true),
        (2, 1, false),
        (3, 1, true),
        (3, 2, false),
        (4, 2, true),
        (16, 14, true),
        (16, 15, false),
    ];
    for (nodes, k, expected) in table {
        assert_eq!(survive(nodes, k), expected, "{nodes} nodes, k = {k}");
    }
}

#[test]
fn a_plan_with_anything_to_write_or_to_do_is_not_idle() {
    let scene = Scene::running(3, 1);
    let idle = scene.plan();
    assert!(idle.is_idle());
    let but = |change: &dyn Fn(&mut Plan)| {
        let mut plan = idle.clone();
        change(&mut plan);
        plan.is_idle()
    };
    assert!(!but(&|plan| plan.record = Some(scene.record.clone())));
    assert!(!but(&|plan| plan
        .gone
        .push(GoneObject::User(UserId::from_uuid(Uuid::nil())))));
    assert!(!but(&|plan| plan.instance_gone = true));
    assert!(!but(&|plan| plan
        .actions
        .push(Action::Checkpoint { node: node(1) })));
    // What is only told, or looked at again, is no work.
    assert!(but(&|plan| plan.why.push("a reason".to_owned())));
    assert!(but(&|plan| plan.wake_after_ms = 1));
}

#[test]
fn a_node_is_switched_off_once_in_a_plan() {
    let mut scene = Scene::sealing(3, 1);
    // It has to be fenced as the old primary, and as one that takes writes and is none.
    scene.facts(1).in_recovery = false;
    let plan = scene.plan();
    let of_it = plan.actions.iter().filter(|a| a.node() == node(1));
    assert_eq!(
        of_it.map(|a| a.kind().as_str()).collect::<Vec<_>>(),
        ["power_off"]
    );
}

#[test]
fn a_first_primary_that_answers_gets_our_roles_when_it_takes_writes() {
    let mut scene = Scene::running(1, 0);
    scene.record.nodes[0].rejoin = Rejoin::Seed;
    scene.facts(1).has_replication_role = false;
    let makes_roles = |scene: &Scene| {
        scene
            .plan()
            .actions
            .iter()
            .any(|a| a.kind() == ActionKind::Bootstrap)
    };
    assert!(makes_roles(&scene));
    let record = scene.plan().record.expect("its state");
    assert_eq!(
        record.nodes[0].rejoin,
        Rejoin::Seed,
        "it does not serve before that"
    );
    scene.facts(1).in_recovery = true;
    assert!(!makes_roles(&scene));
}

#[test]
fn a_forced_failover_takes_standbys_only() {
    let begun = |changed: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::running(3, 1);
        scene.record.requests.failover = Some(FailoverRequest {
            from: Some(node(1)),
            allow_data_loss: true,
            at: scene.observation.at,
        });
        scene.power(1, died());
        scene.power(3, died());
        if let Seen::Present(found) = &mut scene.seen(1).infra {
            found.data = DataState::Empty;
        }
        changed(&mut scene);
        let epoch = scene.plan().record.and_then(|r| r.cluster).map(|c| c.epoch);
        epoch.unwrap_or(Epoch(1)) == Epoch(2)
    };
    assert!(begun(&|_| {}));
    assert!(!begun(&|scene| scene.facts(2).in_recovery = false), "no standby");
    assert!(
        !begun(&|scene| scene.facts(2).epoch = Epoch(3)),
        "of a later time"
    );
}

#[test]
fn an_instance_whose_primary_is_off_already_stops_the_others() {
    let mut scene = Scene::running(3, 1);
    scene.record.desired = DesiredState::Stopped;
    let stopped = |scene: &Scene| -> Vec<_> { scene.plan().actions.iter().map(Action::node).collect() };
    assert_eq!(
        stopped(&scene),
        [node(1)],
        "its standbys receive everything first"
    );
    scene.power(1, PowerState::Off);
    assert_eq!(stopped(&scene), [node(2), node(3)]);
}
