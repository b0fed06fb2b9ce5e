//! When a primary is given up, who can be sealed, who is chosen: each at its borders.

mod lost_candidates;

use dbaas_core::cluster::{ClusterPhase, Epoch, FailoverCause, Lsn};
use dbaas_core::infrastructure::{Exit, ExitReason, PowerOff, PowerState};
use dbaas_core::instance::FailoverRequest;
use dbaas_core::kinds::{ActionKind, EventKind};
use dbaas_core::node::Rejoin;
use dbaas_core::observation::{Fitness, NodeFacts, Seen, Silence, SlotFacts, Unfit, UnfitKind};
use dbaas_core::plan::Action;

use crate::situation::{Scene, died, node};

/// Epoch and phase of what is recorded after a plan.
fn state(scene: &Scene) -> (u64, ClusterPhase) {
    let record = scene.plan().record.unwrap_or_else(|| scene.record.clone());
    let cluster = record.cluster.expect("it runs");
    (cluster.epoch.0, cluster.phase)
}

fn is_given_up(scene: &Scene) -> bool {
    state(scene) == (2, ClusterPhase::Sealing)
}

fn reason(scene: &Scene) -> String {
    let record = scene.plan().record.unwrap_or_else(|| scene.record.clone());
    record.status.reason
}

/// The actions on a node.
fn on(scene: &Scene, n: usize) -> Vec<&'static str> {
    let actions = scene.plan().actions;
    let there = actions.iter().filter(|a| a.node() == node(n));
    there.map(|a| a.kind().as_str()).collect()
}

fn fences(scene: &Scene, n: usize, mode: PowerOff) -> bool {
    let fence = Action::PowerOff { node: node(n), mode };
    scene.plan().actions.contains(&fence)
}

fn ask_for_failover(scene: &mut Scene, allow_data_loss: bool) {
    scene.record.requests.failover = Some(FailoverRequest {
        allow_data_loss,
        from: Some(node(1)),
        at: scene.observation.at,
    });
}

fn rejoin(scene: &Scene) -> Vec<Rejoin> {
    let record = scene.plan().record.expect("a change");
    record.nodes.iter().map(|n| n.rejoin).collect()
}

/// n1 does not answer for so long, and nobody hears from it.
fn silent(ms: u64) -> Scene {
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, ms);
    scene.facts(2).receiver = None;
    scene.facts(3).receiver = None;
    scene
}

#[test]
fn silence_is_a_loss_after_its_time_and_if_nobody_hears() {
    let patience = silent(0).policy.silent_ms;
    assert!(!is_given_up(&silent(patience - 1)));
    assert!(is_given_up(&silent(patience)));
    // Heard by one of them, by just as fresh a message as counts.
    let mut scene = silent(60_000);
    let fresh = scene.policy.receiver_fresh_ms;
    let mut heard = crate::situation::receiver();
    heard.last_message_ms = fresh;
    scene.facts(3).receiver = Some(heard.clone());
    assert!(!is_given_up(&scene));
    assert!(
        reason(&scene).contains("its standbys hear from it"),
        "{}",
        reason(&scene)
    );
    heard.last_message_ms = fresh + 1;
    scene.facts(3).receiver = Some(heard.clone());
    assert!(is_given_up(&scene));
    // One that waits for more, or connects, hears nothing.
    heard.last_message_ms = 0;
    heard.status = "waiting".to_owned();
    scene.facts(3).receiver = Some(heard);
    assert!(is_given_up(&scene));
    // For a short time nothing is said of standbys, heard or not.
    let mut scene = Scene::running(3, 1);
    scene.silence(1, Silence::Timeout, patience - 1);
    assert!(!reason(&scene).contains("its standbys hear from it"));
    scene.silence(1, Silence::Timeout, patience);
    assert!(reason(&scene).contains("its standbys hear from it"));
}

#[test]
fn whoever_asks_for_a_failover_does_not_wait() {
    let mut scene = silent(10);
    ask_for_failover(&mut scene, false);
    assert!(is_given_up(&scene));
    // Where the primary serves there is nothing to ask for.
    let mut scene = Scene::running(3, 1);
    ask_for_failover(&mut scene, false);
    assert_eq!(ended(&scene), None, "whether it serves is tried first");
    assert_eq!(scene.plan().try_service, Some(node(1)));
    scene.seen(1).fitness = Fitness::Serves { ms_ago: 0 };
    assert_eq!(ended(&scene), Some(EventKind::FailoverGivenUp));
    // Another one is the primary by now.
    scene.record.requests.failover.as_mut().unwrap().from = Some(node(2));
    assert_eq!(ended(&scene), Some(EventKind::FailoverDone));
}

/// How a request for a failover ends in this plan, if it does.
fn ended(scene: &Scene) -> Option<EventKind> {
    let plan = scene.plan();
    let kept = plan
        .record
        .as_ref()
        .unwrap_or(&scene.record)
        .requests
        .failover
        .is_some();
    let mut kinds = plan.events.iter().map(|e| e.kind);
    let told = kinds.find(|kind| matches!(*kind, EventKind::FailoverDone | EventKind::FailoverGivenUp));
    assert_ne!(kept, told.is_some(), "what ends is told of: {:?}", plan.events);
    told
}

fn unfit(kind: UnfitKind, for_ms: u64, times: u32) -> Fitness {
    let message = "no luck".to_owned();
    let why = Unfit { kind, message };
    let again = false;
    Fitness::Unfit {
        why,
        for_ms,
        times,
        again,
    }
}

#[test]
fn a_primary_that_serves_nobody_is_given_up() {
    let policy = Scene::running(3, 1).policy;
    let (ms, times) = (policy.unfit_ms, policy.unfit_trials);
    for kind in [UnfitKind::NoLogin, UnfitKind::NoCommit, UnfitKind::Damaged] {
        let mut scene = Scene::running(3, 1);
        scene.seen(1).fitness = unfit(kind, ms - 1, times);
        assert!(!is_given_up(&scene));
        scene.seen(1).fitness = unfit(kind, ms, times - 1);
        assert!(!is_given_up(&scene));
        scene.seen(1).fitness = unfit(kind, ms, times);
        assert!(is_given_up(&scene), "{kind:?}");
        assert!(fences(&scene, 1, PowerOff::Immediate));
        let damaged = kind == UnfitKind::Damaged;
        let way = if damaged {
            Rejoin::BaseBackup
        } else {
            Rejoin::InPlace
        };
        assert_eq!(rejoin(&scene)[0], way, "{kind:?}");
        // Whoever asks does not wait.
        scene.seen(1).fitness = unfit(kind, 0, 1);
        ask_for_failover(&mut scene, false);
        assert!(is_given_up(&scene));
        // Without an answer to the look nothing that did not come back counts; what it says itself does.
        let mut scene = Scene::running(3, 1);
        scene.silence(1, Silence::Failed("no such directory".to_owned()), 60_000);
        scene.seen(1).fitness = unfit(kind, ms, times);
        assert_eq!(is_given_up(&scene), damaged, "{kind:?}");
    }
}

/// All nodes may stand on one slow disk: no going back and forth.
#[test]
fn what_took_over_and_serves_nobody_either_stays_for_a_while() {
    for (kind, waits) in [
        (UnfitKind::NoLogin, true),
        (UnfitKind::NoCommit, true),
        (UnfitKind::Damaged, false),
    ] {
        let mut scene = Scene::running(3, 1);
        let (ms, again_ms) = (scene.policy.unfit_ms, scene.policy.unfit_again_ms);
        let fail_for = |scene: &mut Scene, ms| {
            scene.seen(1).fitness = unfit(kind, ms, 9);
            if let Fitness::Unfit { again, .. } = &mut scene.seen(1).fitness {
                *again = true;
            }
        };
        for for_ms in [ms, again_ms - 1] {
            fail_for(&mut scene, for_ms);
            assert_eq!(is_given_up(&scene), !waits, "{kind:?} {for_ms}");
            assert_eq!(
                reason(&scene).contains("that they share"),
                waits,
                "{}",
                reason(&scene)
            );
        }
        fail_for(&mut scene, again_ms);
        assert!(is_given_up(&scene), "{kind:?}");
        // An operator's word comes first.
        fail_for(&mut scene, 0);
        ask_for_failover(&mut scene, false);
        assert!(is_given_up(&scene), "{kind:?}");
    }
}

#[test]
fn a_primary_that_serves_nobody_stays_where_nobody_else_would() {
    // What another node would lack, too.
    for kind in [UnfitKind::Exhausted, UnfitKind::Refuses] {
        let mut scene = Scene::running(3, 1);
        scene.seen(1).fitness = unfit(kind, 60_000, 9);
        assert!(!is_given_up(&scene));
        assert!(reason(&scene).contains("no luck"), "{}", reason(&scene));
        assert!(on(&scene, 1).is_empty());
    }
    // Too few that can be sealed, none at all, or none that anybody waited for.
    let mut few = Scene::running(3, 1);
    few.silence(2, Silence::Timeout, 60_000);
    for (mut scene, advice) in [
        (few, "n2 may hold"),
        (Scene::running(1, 0), "no standby"),
        (Scene::running(2, 0), "allow_data_loss"),
    ] {
        scene.seen(1).fitness = unfit(UnfitKind::Damaged, 60_000, 9);
        assert!(!is_given_up(&scene));
        let said = reason(&scene);
        assert!(said.contains("serves nobody") && said.contains(advice), "{said}");
        assert!(on(&scene, 1).is_empty(), "{:?}", on(&scene, 1));
    }
}

#[test]
fn a_forced_failover_from_a_primary_that_serves_nobody_is_carried_out() {
    let mut scene = Scene::running(2, 0);
    scene.seen(1).fitness = unfit(UnfitKind::Damaged, 0, 1);
    ask_for_failover(&mut scene, false);
    assert!(!is_given_up(&scene), "that may lose commits");
    ask_for_failover(&mut scene, true);
    assert!(is_given_up(&scene));
    let cause = scene.plan().record.unwrap().cluster.unwrap().cause;
    assert_eq!(cause, Some(FailoverCause::Forced));
    // One whose disk is whole is restarted: that loses nothing.
    scene.seen(1).fitness = unfit(UnfitKind::NoCommit, 0, 1);
    assert!(!is_given_up(&scene));
    assert!(fences(&scene, 1, PowerOff::Immediate));
}

#[test]
fn a_failover_that_cannot_be_carried_out_is_given_up_after_a_minute() {
    let mut scene = silent(60_000);
    scene.silence(2, Silence::Timeout, 60_000);
    ask_for_failover(&mut scene, false);
    assert_eq!(ended(&scene), None);
    let at = scene.observation.at.plus_ms(60_001);
    scene.observation.at = at;
    assert_eq!(ended(&scene), Some(EventKind::FailoverGivenUp));
}

#[test]
fn a_primary_that_is_none_any_more_is_lost() {
    let mut scene = Scene::running(3, 1);
    scene.facts(1).in_recovery = true;
    assert!(is_given_up(&scene));
    // Started with the files of an older epoch.
    let mut scene = Scene::running(3, 1);
    scene.facts(1).epoch = Epoch(0);
    assert!(is_given_up(&scene));
    // Nobody can stand for it: it is made one again.
    let mut scene = Scene::running(1, 0);
    scene.facts(1).in_recovery = true;
    let mode = PowerOff::Graceful { deadline_ms: 30_000 };
    assert!(fences(&scene, 1, mode));
    // While it replays its WAL it is let.
    scene.silence(1, Silence::NotReady, 60_000);
    assert!(on(&scene, 1).is_empty());
    assert!(reason(&scene).contains("replays its WAL"), "{}", reason(&scene));
}

#[test]
fn a_node_of_a_newer_epoch_cannot_be_sealed() {
    let mut scene = Scene::running(3, 1);
    scene.power(1, died());
    scene.facts(3).epoch = Epoch(2);
    assert!(
        is_given_up(&scene),
        "of the epoch that is about to begin: sealed by a controller that died"
    );
    scene.facts(3).epoch = Epoch(3);
    assert!(!is_given_up(&scene));
    scene.facts(3).epoch = Epoch(1);
    scene.facts(3).in_recovery = false;
    assert!(!is_given_up(&scene), "nor one that runs as a primary");
}

#[test]
fn a_disk_that_is_whole_is_tried_again_after_its_time() {
    let mut scene = Scene::running(1, 0);
    scene.power(1, died());
    assert_eq!(on(&scene, 1), ["start"]);
    scene.seen(1).hold_off_ms = 4_001;
    assert!(on(&scene, 1).is_empty());
    assert!(reason(&scene).contains("next try in 5 s"), "{}", reason(&scene));
    assert!(scene.plan().wake_after_ms <= scene.policy.heartbeat_ms);
    let exit = Exit {
        reason: ExitReason::DiskFull,
        message: "no space left".to_owned(),
    };
    assert!(!reason(&scene).contains("disk_size"));
    scene.power(1, PowerState::Exited(exit));
    assert!(reason(&scene).contains("disk_size"), "{}", reason(&scene));
}

#[test]
fn who_may_lose_commits_has_to_say_so() {
    // n2 may hold what n3 does not, and the primary's disk is gone.
    let mut scene = Scene::running(3, 1);
    scene.absent(1);
    scene.silence(2, Silence::Timeout, 60_000);
    ask_for_failover(&mut scene, false);
    assert_eq!(state(&scene).0, 1);
    assert!(
        reason(&scene).contains("n2 may hold acknowledged commits"),
        "{}",
        reason(&scene)
    );
    ask_for_failover(&mut scene, true);
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("it is begun");
    assert_eq!(
        (cluster.epoch, cluster.cause),
        (Epoch(2), Some(FailoverCause::Forced))
    );
    // One that is not off is switched off first, and nothing else.
    let mut scene = silent(60_000);
    scene.silence(2, Silence::Timeout, 60_000);
    ask_for_failover(&mut scene, true);
    assert_eq!(state(&scene).0, 1);
    assert!(fences(&scene, 1, PowerOff::Immediate));
    // Nobody is there to take over.
    scene.silence(3, Silence::Timeout, 60_000);
    assert!(!fences(&scene, 1, PowerOff::Immediate));
}

#[test]
fn an_asynchronous_standby_takes_over_only_from_a_primary_that_is_gone() {
    let mut scene = Scene::running(2, 0);
    scene.silence(1, Silence::Timeout, 60_000);
    scene.facts(2).receiver = None;
    assert_eq!(state(&scene).0, 1, "it may be writing");
    assert!(
        reason(&scene).contains("only when the primary is known to be off"),
        "{}",
        reason(&scene)
    );
    scene.absent(1);
    assert_eq!(state(&scene).0, 2);
}

/// Forced, with n1 gone and n2 and n3 to choose from.
fn forced() -> Scene {
    let mut scene = Scene::sealing(3, 1);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.cause = Some(FailoverCause::Forced);
    }
    scene.absent(1);
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(1_000));
    scene
}

#[test]
fn a_forced_election_takes_everybody_who_answers() {
    let scene = forced();
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert_eq!(
        (cluster.primary, cluster.phase),
        (node(3), ClusterPhase::Promoting)
    );
    assert_eq!(cluster.electorates.len(), 1, "what others may hold was given up");
    // One of those that answer is not sealed yet.
    let mut scene = forced();
    scene.facts(2).epoch = Epoch(1);
    assert_eq!(state(&scene), (2, ClusterPhase::Sealing));
    assert_eq!(on(&scene, 2), ["seal"]);
    // Nobody answers.
    let mut scene = forced();
    scene.silence(2, Silence::Timeout, 60_000);
    scene.silence(3, Silence::Timeout, 60_000);
    assert_eq!(state(&scene), (2, ClusterPhase::Sealing));
    // The old primary runs: it is fenced first.
    let mut scene = forced();
    scene.record.requests.failover = None;
    let running = Scene::running(3, 1);
    scene
        .observation
        .nodes
        .insert(node(1), running.observation.nodes[&node(1)].clone());
    assert_eq!(state(&scene), (2, ClusterPhase::Sealing));
    assert!(fences(&scene, 1, PowerOff::Immediate));
    assert!(on(&scene, 3).is_empty());
}

/// It was switched off for a part of a record, and may hold more than those that answer.
#[test]
fn an_operator_waits_for_a_standby_that_is_being_started_and_for_no_other() {
    let (off, running) = (PowerState::Off, PowerState::Running);
    let (waits, goes_on) = (ClusterPhase::Sealing, ClusterPhase::Promoting);
    for (power, sql, silent_ms, rejoin, phase) in [
        (&off, Silence::NotAsked, 9_999, Rejoin::InPlace, &waits),
        (&off, Silence::NotAsked, 100, Rejoin::Seed, &waits),
        (
            &PowerState::Preparing,
            Silence::NotAsked,
            100,
            Rejoin::InPlace,
            &waits,
        ),
        (&running, Silence::NotReady, 100, Rejoin::InPlace, &waits),
        (&off, Silence::NotAsked, 10_000, Rejoin::InPlace, &goes_on),
        (&off, Silence::NotAsked, 100, Rejoin::BaseBackup, &goes_on),
        (&running, Silence::Timeout, 100, Rejoin::InPlace, &goes_on),
        (&died(), Silence::NotAsked, 100, Rejoin::InPlace, &goes_on),
    ] {
        let case = format!("{power:?} {sql:?} {silent_ms} {rejoin:?}");
        let mut scene = forced();
        ask_for_failover(&mut scene, true);
        scene.power(3, power.clone());
        scene.silence(3, sql, silent_ms);
        scene.record.nodes[2].rejoin_by(rejoin);
        assert_eq!(state(&scene).1, *phase, "{case}");
    }
}

#[test]
fn an_election_fences_the_old_primary_and_seals_whoever_is_left() {
    let mut scene = Scene::sealing(3, 1);
    scene.silence(1, Silence::Timeout, 9_000);
    assert!(fences(&scene, 1, PowerOff::Immediate));
    assert_eq!((on(&scene, 2), on(&scene, 3)), (vec!["seal"], vec!["seal"]));
    // In a switchover the old primary ends first, by itself.
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.cause = Some(FailoverCause::Switchover { to: node(2) });
    }
    assert!(fences(&scene, 1, PowerOff::Graceful { deadline_ms: 30_000 }));
    assert!(on(&scene, 2).is_empty() && on(&scene, 3).is_empty());
    scene.power(1, PowerState::Off);
    assert_eq!((on(&scene, 2), on(&scene, 3)), (vec!["seal"], vec!["seal"]));
}

#[test]
fn going_back_to_the_old_primary_needs_it_off_whole_and_alone() {
    let scene = || {
        let mut scene = Scene::sealing(3, 1);
        scene.power(1, died());
        scene.sealed(2, Lsn(900));
        scene.silence(3, Silence::Timeout, 60_000);
        scene
    };
    assert_eq!(state(&scene()), (2, ClusterPhase::Steady));
    let mut running = scene();
    running.power(1, PowerState::Running);
    assert_eq!(state(&running), (2, ClusterPhase::Sealing));
    let mut gone = scene();
    gone.absent(1);
    assert_eq!(state(&gone), (2, ClusterPhase::Sealing));
    assert!(
        reason(&gone).contains("n3 may hold acknowledged commits"),
        "{}",
        reason(&gone)
    );
    let mut answers = scene();
    let facts = Scene::sealing(3, 1).facts(3).clone();
    answers.seen(3).sql = Ok(facts);
    assert_eq!(
        state(&answers),
        (2, ClusterPhase::Sealing),
        "n3 is about to be sealed"
    );
}

#[test]
fn among_equals_one_that_stays_is_chosen_and_then_the_first() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(900));
    scene.sealed(3, Lsn(900));
    let chosen = |scene: &Scene| scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert_eq!(chosen(&scene).primary, node(2));
    assert_eq!(chosen(&scene).current().voters, [node(3)].into());
    assert_eq!(rejoin(&scene), [Rejoin::Rewind, Rejoin::InPlace, Rejoin::InPlace]);
    scene.record.nodes[1].leaving = true;
    assert_eq!(chosen(&scene).primary, node(3));
    assert!(
        chosen(&scene).current().voters.is_empty(),
        "one that is to go does not vote"
    );
    // After a clean shutdown the old primary holds nothing that the new one does not.
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.cause = Some(FailoverCause::Switchover { to: node(3) });
    }
    assert_eq!(rejoin(&scene)[0], Rejoin::InPlace);
    // What has to be rebuilt stays so.
    scene.record.nodes[0].rejoin = Rejoin::BaseBackup;
    assert_eq!(rejoin(&scene)[0], Rejoin::BaseBackup);
}

#[test]
fn a_mark_that_is_not_of_the_epoch_before_shows_nothing() {
    let mut scene = Scene::sealing(4, 2);
    if let Some(cluster) = scene.record.cluster.as_mut() {
        cluster.epoch = Epoch(3);
    }
    scene.power(1, died());
    scene.sealed(2, Lsn(1_000));
    scene.sealed(3, Lsn(1_000));
    scene.silence(4, Silence::Timeout, 9_000);
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert!(cluster.current().voters.is_empty());
    let all = [
        Rejoin::BaseBackup,
        Rejoin::InPlace,
        Rejoin::InPlace,
        Rejoin::BaseBackup,
    ];
    assert_eq!(rejoin(&scene), all);
    for n in 2..=3 {
        scene.facts(n).history = Epoch(2);
    }
    let cluster = scene.plan().record.and_then(|r| r.cluster).expect("chosen");
    assert_eq!(cluster.current().voters, [node(3)].into());
    assert_eq!(rejoin(&scene)[3], Rejoin::InPlace);
}

#[test]
fn a_candidate_is_promoted_only_where_it_is_sealed_and_closed() {
    let scene = Scene::promoting(3, 1);
    assert!(on(&scene, 2).contains(&"promote"));
    let mut opened = Scene::promoting(3, 1);
    opened.facts(2).sync_names = String::new();
    assert!(on(&opened, 2).contains(&"seal") && !on(&opened, 2).contains(&"promote"));
    let mut follows = Scene::promoting(3, 1);
    follows.facts(2).primary_conninfo = "host=a".to_owned();
    assert!(on(&follows, 2).contains(&"seal") && !on(&follows, 2).contains(&"promote"));
    let mut taken = Scene::promoting(3, 1);
    taken.facts(2).epoch = Epoch(3);
    assert!(on(&taken, 2).is_empty());
    assert!(reason(&taken).contains("epoch 3"), "{}", reason(&taken));
}

#[test]
fn of_a_lost_primary_is_said_what_is_known() {
    let mut scene = silent(60_000);
    scene.seen(1).infra = Seen::Unknown;
    let told = |scene: &Scene| {
        scene
            .plan()
            .events
            .iter()
            .map(|e| e.message.clone())
            .collect::<String>()
    };
    assert!(told(&scene).contains("is lost (no answer)"), "{}", told(&scene));
    scene.absent(1);
    assert!(
        told(&scene).contains("is lost (its node is gone)"),
        "{}",
        told(&scene)
    );
    for (silence, said) in [
        (Silence::Timeout, "hears from it)"),
        (
            Silence::Login,
            "hears from it; it refuses the control plane's login)",
        ),
        (Silence::Refused, "hears from it; nothing listens there)"),
        (
            Silence::Failed("too many".to_owned()),
            "hears from it; it says: too many)",
        ),
    ] {
        let mut scene = silent(60_000);
        scene.silence(1, silence, 60_000);
        assert!(told(&scene).contains(said), "{}", told(&scene));
    }
}

/// Roles are looked for only where they were never seen to be made.
#[test]
fn a_primary_serves_from_its_first_roles_on() {
    for (rejoin, has_role, serves) in [
        (Rejoin::Seed, false, false),
        (Rejoin::Seed, true, true),
        (Rejoin::InPlace, false, true),
        (Rejoin::InPlace, true, true),
    ] {
        let mut scene = Scene::running(1, 0);
        scene.record.nodes[0].rejoin = rejoin;
        scene.facts(1).has_replication_role = has_role;
        let reason = reason(&scene);
        assert_eq!(
            reason == "as asked for",
            serves,
            "{rejoin:?} {has_role}: {reason}"
        );
    }
}

#[test]
fn a_candidate_gets_the_slots_that_it_lacks_and_loses_those_that_are_of_no_use() {
    let mut scene = Scene::promoting(4, 1);
    let slot = |name: &str, active: bool, lost: bool| SlotFacts {
        name: name.to_owned(),
        active,
        lost,
    };
    scene.facts(2).slots = vec![
        slot("dbaas_n3", false, false),
        slot("dbaas_n4", true, true),
        slot("dbaas_n9", false, true),
        slot("dbaas_n8", false, false),
        slot("theirs", false, true),
    ];
    let actions = scene.plan().actions;
    let of = |kind: ActionKind| {
        actions.iter().find(|a| a.kind() == kind).map(|a| match a {
            Action::CreateSlots { names, .. } | Action::DropSlots { names, .. } => names.clone(),
            _ => Vec::new(),
        })
    };
    assert_eq!(of(ActionKind::CreateSlots), Some(vec!["dbaas_n1".to_owned()]));
    assert_eq!(of(ActionKind::DropSlots), Some(vec!["dbaas_n9".to_owned()]));
}

/// Its primary was lost in the middle of a record. What it received ends there, and it is never seen to have
/// replayed that.
#[test]
fn a_standby_that_received_a_part_of_a_record_is_restarted_to_be_sealed() {
    let mut scene = Scene::sealing(3, 1);
    scene.power(1, died());
    scene.sealed(2, Lsn(2_000));
    scene.sealed(3, Lsn(2_000));
    scene.facts(3).lsn = Lsn(1_500);
    assert!(scene.facts(3).is_behind());
    scene.seen(3).stalled_ms = 499;
    // Not sealed again: the reload would wake its replay, over and over.
    assert_eq!(on(&scene, 3), ["end_conflicts"]);
    scene.seen(3).stalled_ms = 500;
    assert_eq!(on(&scene, 3), ["power_off"]);
    // When it runs again it says nothing of what it received before, and has replayed all that is there.
    let facts = scene.facts(3);
    (facts.receive_lsn, facts.replay_waits) = (None, true);
    assert!(!facts.is_behind() && facts.is_sealed(Epoch(2)));
}

#[test]
fn behind_is_who_can_receive_no_more_and_has_replayed_less_than_it_received() {
    let mut scene = Scene::sealing(3, 1);
    scene.sealed(3, Lsn(2_000));
    let sealed = scene.facts(3).clone();
    assert!(!sealed.is_behind(), "it has replayed all of it");
    let behind = |facts: &NodeFacts| NodeFacts {
        lsn: Lsn(1_999),
        receive_lsn: Some(Lsn(2_000)),
        ..facts.clone()
    };
    assert!(behind(&sealed).is_behind());
    let running = Scene::running(3, 1).facts(3).clone();
    assert!(
        running.receiver.is_some() && !behind(&running).is_behind(),
        "more may come"
    );
    let mut primary = behind(&sealed);
    primary.in_recovery = false;
    assert!(!primary.is_behind());
}

/// However it came to run, it could not be sealed as it is. Where it is not started again without a primary,
/// the old one goes on, which has everything.
#[test]
fn a_standby_that_received_a_part_of_a_record_is_not_waited_for() {
    for rejoin in [Rejoin::Seed, Rejoin::Rewind, Rejoin::BaseBackup] {
        let mut scene = Scene::sealing(3, 1);
        scene.power(1, died());
        scene.sealed(2, Lsn(2_000));
        scene.sealed(3, Lsn(2_000));
        scene.facts(3).lsn = Lsn(1_500);
        scene.seen(3).stalled_ms = 500;
        scene.record.nodes[2].rejoin_by(rejoin);
        assert_eq!(on(&scene, 3), ["power_off"], "{rejoin:?}");
        scene.power(3, PowerState::Off);
        let starts = if rejoin == Rejoin::Seed { 3 } else { 1 };
        assert!(on(&scene, starts).contains(&"start"), "{rejoin:?}");
    }
}
