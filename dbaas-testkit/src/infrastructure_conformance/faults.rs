//! Crashes: of nodes, and of the program that holds the backend.

use std::time::{Duration, Instant};

use dbaas_core::infrastructure::{
    DataDisposal, DataState, ExitReason, InfraErrorKind, InfraEvent, InfraEvents, NodeRef, PowerOff,
    PowerState,
};
use futures_util::StreamExt;

use super::{Case, GRACEFUL, Site, existing, init, refused};

/// The program ends after each call and repeats the call when it is back.
pub(super) async fn a_crash_between_any_two_calls(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.node();
    let spec = case.spec(node);
    for _ in 0..2 {
        case.backend().apply(&spec).await.expect("apply");
        case.reopen().await;
    }
    // Whatever the restart made of the preparation: the same start, repeated until it stands, ends in a
    // running node.
    case.backend().start(node, &init(1, vec![])).await.expect("start");
    case.reopen().await;
    let deadline = Instant::now() + site.patience();
    loop {
        let seen = case.observe(node).await;
        match seen.power {
            PowerState::Running => break,
            PowerState::Preparing => {}
            _ => case
                .backend()
                .start(node, &init(1, vec![]))
                .await
                .expect("start again"),
        }
        assert!(Instant::now() < deadline, "does not come up: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let running = case.until_answers(node).await;
    case.reopen().await;
    case.backend()
        .start(node, &init(1, vec![]))
        .await
        .expect("start of what runs");
    assert_eq!(
        case.until_answers(node).await.boot,
        running.boot,
        "a restart of the program restarts no node"
    );
    for _ in 0..2 {
        case.backend()
            .power_off(node, PowerOff::Immediate)
            .await
            .expect("power_off");
        case.reopen().await;
        assert_eq!(
            case.observe(node).await.power,
            PowerState::Off,
            "off by us stays off by us"
        );
    }
    for _ in 0..2 {
        case.backend()
            .remove(node, DataDisposal::Delete)
            .await
            .expect("remove");
        case.reopen().await;
        assert!(case.find(node).await.is_none(), "removed is removed");
    }
    case.end().await;
}

pub(super) async fn a_killed_node(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.running().await;
    for reopened in [false, true] {
        let running = case.until_answers(node).await;
        let mut events = case.backend().events();
        let killed = Instant::now();
        case.site.kill(&running).await;
        if case.backend().capabilities().node_events {
            told(&mut events, node).await;
            assert!(
                killed.elapsed() < Duration::from_secs(5),
                "told after {:?}",
                killed.elapsed()
            );
        }
        if reopened {
            case.reopen().await;
        }
        let seen = case
            .until(node, "exited", |o| matches!(o.power, PowerState::Exited(_)))
            .await;
        let PowerState::Exited(exit) = &seen.power else {
            unreachable!("just seen")
        };
        assert_eq!(exit.reason, ExitReason::Died, "{exit:?}");
        case.nothing_runs(node, "although it is said to have exited")
            .await;
        assert_eq!(
            seen.data,
            DataState::Initialised,
            "a crash does not make data incomplete"
        );
        assert_eq!(seen.boot, running.boot);
        assert_eq!(seen.endpoint, running.endpoint);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let later = case.observe(node).await;
        assert!(
            matches!(later.power, PowerState::Exited(_)),
            "nothing restarts by itself: {later:?}"
        );
        case.backend()
            .start(node, &existing(1))
            .await
            .expect("start after a crash");
    }
    case.until_answers(node).await;
    case.end().await;
}

pub(super) async fn a_frozen_node(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.running().await;
    for mode in [PowerOff::Immediate, PowerOff::Graceful { deadline_ms: 1_000 }] {
        let running = case.observe(node).await;
        if case.site.freeze(&running).await {
            case.until(node, "frozen", |o| o.power == PowerState::Frozen)
                .await;
            refused(
                case.backend().remove(node, DataDisposal::Delete).await,
                InfraErrorKind::InvalidState,
                "remove of a frozen node",
            );
            case.off(node, mode).await;
            case.backend()
                .start(node, &existing(1))
                .await
                .expect("start after it was frozen");
            case.until_answers(node).await;
        }
    }
    case.end().await;
}

pub(super) async fn off_in_the_middle_of_a_preparation(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.applied().await;
    for (epoch, after_ms) in [(1, 0), (2, 20), (3, 200), (4, 500)] {
        case.backend()
            .start(node, &init(epoch, vec![]))
            .await
            .expect("start");
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        case.off(node, PowerOff::Immediate).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = case.observe(node).await;
        assert_eq!(seen.power, PowerState::Off, "what was stopped goes on");
        case.nothing_runs(node, "after its preparation was stopped").await;
        if seen.data == DataState::Initialised {
            // It was quicker; then it is whole.
            case.backend()
                .start(node, &existing(epoch))
                .await
                .expect("start of what is there");
            case.until_answers(node).await;
            case.end().await;
            return;
        }
        refused(
            case.backend().start(node, &existing(epoch)).await,
            InfraErrorKind::InvalidState,
            "half of it",
        );
    }
    case.backend().start(node, &init(5, vec![])).await.expect("start");
    case.until_answers(node).await;
    case.end().await;
}

pub(super) async fn the_program_goes_and_comes_back(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let (runs, dies, off) = (case.running().await, case.running().await, case.applied().await);
    let before = case.observe(runs).await;
    let dying = case.observe(dies).await;
    drop(case.backend.take());
    case.site.kill(&dying).await;
    let endpoint = before.endpoint.clone().expect("an endpoint");
    assert!(case.site.answers(&endpoint).await, "nodes outlive the program");
    case.reopen().await;
    let after = case.observe(runs).await;
    assert_eq!((after.power, after.boot), (before.power, before.boot));
    assert_eq!(after.backend_ref, before.backend_ref, "adopted, not restarted");
    case.until(
        dies,
        "died meanwhile",
        |o| matches!(&o.power, PowerState::Exited(e) if e.reason == ExitReason::Died),
    )
    .await;
    assert_eq!(case.observe(off).await.power, PowerState::Off);
    // What was adopted is like what was started.
    if case.backend().capabilities().node_events {
        let mut events = case.backend().events();
        case.site.kill(&case.observe(runs).await).await;
        told(&mut events, runs).await;
    } else {
        case.site.kill(&case.observe(runs).await).await;
    }
    case.until(runs, "exited", |o| matches!(o.power, PowerState::Exited(_)))
        .await;
    case.backend().start(runs, &existing(1)).await.expect("start");
    case.until_answers(runs).await;
    case.off(runs, GRACEFUL).await;
    case.end().await;
}

/// Waits for the hint about a node.
async fn told(events: &mut InfraEvents, node: NodeRef) {
    let wait = async {
        loop {
            match events.next().await {
                Some(InfraEvent::NodeChanged(changed)) if changed == node => return,
                Some(InfraEvent::Missed) => return,
                Some(_) => {}
                None => panic!("the stream of events has ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the death of a node is told");
}
