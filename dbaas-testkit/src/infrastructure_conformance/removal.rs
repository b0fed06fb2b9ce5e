//! The end of nodes, and what is found of them.

use dbaas_core::infrastructure::{DataDisposal, DataState, InfraErrorKind, PowerOff};

use super::{Case, Site, existing, init, refused};

pub(super) async fn with_and_without_data(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.running().await;
    let running = case.observe(node).await;
    for data in [DataDisposal::Keep, DataDisposal::Delete] {
        refused(
            case.backend().remove(node, data).await,
            InfraErrorKind::InvalidState,
            "remove of a running node",
        );
    }
    case.until_answers(node).await;
    case.off(node, PowerOff::Immediate).await;

    case.backend()
        .remove(node, DataDisposal::Keep)
        .await
        .expect("remove, data kept");
    case.backend()
        .remove(node, DataDisposal::Keep)
        .await
        .expect("remove again");
    assert!(case.find(node).await.is_none(), "removed, and observed");
    assert!(
        !case.backend().list().await.expect("list").contains(&node),
        "removed, and listed"
    );
    case.reopen().await;
    case.backend().apply(&case.spec(node)).await.expect("apply");
    let back = case.observe(node).await;
    assert_eq!(back.data, DataState::Initialised, "the kept data is found again");
    assert_eq!(back.bootstrap_password, running.bootstrap_password);
    case.backend()
        .start(node, &existing(1))
        .await
        .expect("start of kept data");
    case.until_answers(node).await;
    case.off(node, PowerOff::Immediate).await;

    case.backend()
        .remove(node, DataDisposal::Delete)
        .await
        .expect("remove");
    case.backend()
        .remove(node, DataDisposal::Delete)
        .await
        .expect("remove again");
    assert!(case.find(node).await.is_none(), "removed, and observed");
    case.backend().apply(&case.spec(node)).await.expect("apply");
    let fresh = case.observe(node).await;
    assert_eq!(
        (fresh.data, &fresh.boot, &fresh.bootstrap_password),
        (DataState::Empty, &None, &None),
        "deleted is deleted"
    );
    case.backend()
        .start(node, &init(1, vec![]))
        .await
        .expect("a new life");
    case.until_answers(node).await;
    case.end().await;
}

pub(super) async fn orphans_are_found(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let (running, off) = (case.running().await, case.applied().await);
    case.reopen().await;
    let listed = case.backend().list().await.expect("list");
    for node in [running, off] {
        assert_eq!(
            listed.iter().filter(|n| **n == node).count(),
            1,
            "list tells of every node once"
        );
        assert!(case.find(node).await.is_some());
    }
    case.end().await;
}
