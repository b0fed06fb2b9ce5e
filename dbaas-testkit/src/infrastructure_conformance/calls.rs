//! Idempotency, and calls that meet.

use std::sync::Arc;
use std::time::Duration;

use dbaas_core::infrastructure::{DataDisposal, DataState, InfraErrorKind, PowerOff, PowerState, Resources};
use dbaas_core::size::DiskGb;

use super::{Case, GRACEFUL, Site, existing, init, refused, resources};

pub(super) async fn what_does_not_exist(site: &dyn Site) {
    let case = Case::new(site).await;
    let (backend, node) = (case.backend(), case.node());
    assert!(
        backend
            .observe(case.instance)
            .await
            .expect("observe")
            .found
            .is_empty(),
        "a new instance has no node"
    );
    refused(
        backend.start(node, &existing(1)).await,
        InfraErrorKind::NotFound,
        "start",
    );
    refused(backend.logs(node, 1).await, InfraErrorKind::NotFound, "logs");
    for mode in [PowerOff::Immediate, GRACEFUL] {
        backend.power_off(node, mode).await.expect("what is gone is off");
    }
    for data in [DataDisposal::Keep, DataDisposal::Delete] {
        backend.remove(node, data).await.expect("what is gone is removed");
    }
    assert!(
        !backend.list().await.expect("list").contains(&node),
        "asking about a node does not make it"
    );
    assert!(!backend.name().is_empty());
    case.end().await;
}

pub(super) async fn apply_converges(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.applied().await;
    let spec = case.spec(node);
    case.backend().apply(&spec).await.expect("apply again");
    let made = case.observe(node).await;
    assert_eq!(made.power, PowerState::Off, "apply does not start");
    assert_eq!(made.data, DataState::Empty);
    assert_eq!(made.applied.as_ref(), Some(&spec));
    assert_eq!((&made.boot, &made.bootstrap_password), (&None, &None));
    assert!(
        made.endpoint.is_some() && made.peer_endpoint.is_some(),
        "the endpoint is known after apply"
    );

    let other = case.applied().await;
    assert_ne!(
        case.observe(other).await.endpoint,
        made.endpoint,
        "two nodes at one address"
    );

    let mut grown = spec;
    grown.resources = resources(2);
    case.backend().apply(&grown).await.expect("other resources");
    case.backend().apply(&grown).await.expect("them again");
    assert_eq!(case.observe(node).await.applied.as_ref(), Some(&grown));
    let mut renamed = grown;
    renamed.name = "n7".into();
    case.backend()
        .apply(&renamed)
        .await
        .expect("apply of a changed spec");

    case.reopen().await;
    let seen = case.observe(node).await;
    assert_eq!(
        seen.applied,
        Some(renamed),
        "a new value of the backend knows what was applied"
    );
    assert_eq!(seen.endpoint, made.endpoint, "the endpoint is stable");
    case.end().await;
}

/// New sizes while it runs, the disk's too: taken note of at once, in effect at the latest after the next
/// start, and nothing is restarted for them.
pub(super) async fn sizes_of_a_running_node(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.running().await;
    let before = case.observe(node).await;
    let larger = Resources {
        disk: DiskGb::new(9).expect("in bounds"),
        ..resources(2)
    };
    let mut spec = case.spec(node);
    spec.resources = larger;
    for _ in 0..2 {
        case.backend().apply(&spec).await.expect("other resources");
    }
    let seen = case.until_answers(node).await;
    assert_eq!(seen.boot, before.boot, "other resources restart nothing");
    assert_eq!(seen.applied.as_ref(), Some(&spec));
    case.off(node, GRACEFUL).await;
    case.reopen().await;
    assert_eq!(case.observe(node).await.applied.as_ref(), Some(&spec));
    for _ in 0..2 {
        case.backend()
            .apply(&spec)
            .await
            .expect("apply of what is asked for");
    }
    case.backend()
        .start(node, &existing(1))
        .await
        .expect("start with new sizes");
    let again = case.until_answers(node).await;
    assert_eq!(
        (again.applied.as_ref(), &again.endpoint),
        (Some(&spec), &before.endpoint)
    );
    case.end().await;
}

pub(super) async fn equal_calls_at_the_same_time(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.node();
    let (spec, recipe) = (case.spec(node), init(1, vec![]));
    for start in [false, true] {
        let mut calls = Vec::new();
        for _ in 0..8 {
            let backend = Arc::clone(case.backend.as_ref().expect("open"));
            let (spec, recipe) = (spec.clone(), recipe.clone());
            calls.push(tokio::spawn(async move {
                if start {
                    backend.start(node, &recipe).await
                } else {
                    backend.apply(&spec).await
                }
            }));
        }
        for call in calls {
            call.await.expect("no panic").expect("equal calls all succeed");
        }
    }
    let first = case.until_answers(node).await;
    case.backend()
        .start(node, &recipe)
        .await
        .expect("start of a running node, same epoch");
    assert_eq!(case.observe(node).await.boot, first.boot, "one start, not eight");
    let mut calls = Vec::new();
    for mode in [PowerOff::Immediate, GRACEFUL, PowerOff::Immediate, GRACEFUL] {
        let backend = Arc::clone(case.backend.as_ref().expect("open"));
        calls.push(tokio::spawn(async move { backend.power_off(node, mode).await }));
    }
    for call in calls {
        call.await.expect("no panic").expect("power_off");
    }
    assert_eq!(case.observe(node).await.power, PowerState::Off);
    case.end().await;
}

/// A caller with a deadline of its own stops waiting; the call is repeated later.
pub(super) async fn a_caller_that_goes_away(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.node();
    let (spec, recipe) = (case.spec(node), init(1, vec![]));
    for patience_us in [0, 100, 1_000, 5_000] {
        let short = Duration::from_micros(patience_us);
        let _ = tokio::time::timeout(short, case.backend().apply(&spec)).await;
        let _ = tokio::time::timeout(short, case.backend().start(node, &recipe)).await;
    }
    case.backend().apply(&spec).await.expect("apply");
    case.backend().start(node, &recipe).await.expect("start");
    case.until_answers(node).await;
    for patience_us in [0, 100, 1_000] {
        let off = case.backend().power_off(node, PowerOff::Immediate);
        let _ = tokio::time::timeout(Duration::from_micros(patience_us), off).await;
    }
    case.off(node, PowerOff::Immediate).await;
    case.end().await;
}
