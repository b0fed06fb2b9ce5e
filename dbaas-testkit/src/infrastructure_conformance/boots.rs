//! What a start does with a recipe.

use std::time::{Duration, Instant};

use dbaas_core::boot::{BootRole, Prepare, REPLICATION_ROLE, ReplicationSource};
use dbaas_core::cluster::Epoch;
use dbaas_core::infrastructure::{
    DataState, Endpoint, ExitReason, InfraErrorKind, NodeRef, PowerOff, PowerState,
};
use dbaas_core::secret::Secret;

use super::{Case, GRACEFUL, Site, existing, init, recipe, refused};

/// A start may take as long as it takes to write a few files, not as long as a preparation.
const RETURNS_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn first_start_and_restarts(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.applied().await;
    let asked = Instant::now();
    case.backend().start(node, &init(1, vec![])).await.expect("start");
    assert!(asked.elapsed() < RETURNS_WITHIN, "start waits");
    case.backend()
        .start(node, &init(1, vec![]))
        .await
        .expect("the same start again, at once");
    let first = case.until_answers(node).await;
    case.backend()
        .start(node, &init(1, vec![]))
        .await
        .expect("the same start again, of a running node");
    assert_eq!(first.data, DataState::Initialised);
    let boot = first.boot.expect("a started node has a boot mark");
    assert_eq!(boot.epoch, Epoch(1));
    assert!(!boot.boot_id.is_empty());
    assert!(
        !case.backend().logs(node, 5).await.expect("logs").is_empty(),
        "a server writes a log"
    );
    assert!(case.backend().logs(node, 1).await.expect("logs").lines().count() <= 1);

    case.off(node, GRACEFUL).await;
    case.off(node, GRACEFUL).await;
    // The recipe of the first start, repeated: what is there is not initialised again.
    case.backend()
        .start(node, &init(1, vec![]))
        .await
        .expect("start again");
    let second = case.until_answers(node).await;
    assert_eq!(
        second.endpoint, first.endpoint,
        "the endpoint is stable over restarts"
    );
    assert_eq!(second.bootstrap_password, first.bootstrap_password);
    assert_ne!(
        second.boot.as_ref(),
        Some(&boot),
        "boot ids differ from start to start"
    );
    case.off(node, PowerOff::Immediate).await;
    case.backend()
        .start(node, &existing(2))
        .await
        .expect("start of what is there");
    assert_eq!(
        case.until_answers(node).await.boot.map(|b| b.epoch),
        Some(Epoch(2))
    );
    case.end().await;
}

pub(super) async fn what_may_not_be_started(site: &dyn Site) {
    let case = Case::new(site).await;
    let node = case.applied().await;
    let rewind = recipe(
        1,
        Prepare::Rewind {
            source: nowhere(node),
        },
        BootRole::Standby,
    );
    refused(
        case.backend().start(node, &existing(1)).await,
        InfraErrorKind::InvalidState,
        "Existing without data",
    );
    refused(
        case.backend().start(node, &rewind).await,
        InfraErrorKind::InvalidState,
        "Rewind without data",
    );
    assert_eq!(
        case.observe(node).await.power,
        PowerState::Off,
        "a refused start changes nothing"
    );
    case.backend().start(node, &init(1, vec![])).await.expect("start");
    case.until_answers(node).await;
    refused(
        case.backend().start(node, &existing(2)).await,
        InfraErrorKind::InvalidState,
        "start of a running node",
    );
    case.off(node, PowerOff::Immediate).await;
    refused(
        case.backend().start(node, &init(2, vec![])).await,
        InfraErrorKind::InvalidState,
        "Init over a cluster",
    );
    let seed = recipe(2, Prepare::SeedOf { source: node.node }, BootRole::Standby);
    refused(
        case.backend().start(node, &seed).await,
        InfraErrorKind::InvalidState,
        "SeedOf over a cluster",
    );
    case.backend()
        .start(node, &existing(2))
        .await
        .expect("the data is whole nevertheless");
    case.until_answers(node).await;
    case.end().await;
}

pub(super) async fn stale_epochs(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.applied().await;
    case.backend().start(node, &init(5, vec![])).await.expect("start");
    case.until_answers(node).await;
    refused(
        case.backend().start(node, &existing(4)).await,
        InfraErrorKind::StaleEpoch,
        "an older epoch, running",
    );
    case.off(node, PowerOff::Immediate).await;
    for _ in 0..2 {
        refused(
            case.backend().start(node, &existing(4)).await,
            InfraErrorKind::StaleEpoch,
            "an older epoch, off",
        );
        case.reopen().await;
    }
    assert_eq!(case.observe(node).await.boot.map(|b| b.epoch), Some(Epoch(5)));
    case.backend()
        .start(node, &existing(5))
        .await
        .expect("the same epoch may start again");
    case.until_answers(node).await;
    case.end().await;
}

pub(super) async fn seeds(site: &dyn Site) {
    let case = Case::new(site).await;
    let [source, early, late, left_out] = [
        case.applied().await,
        case.applied().await,
        case.applied().await,
        case.applied().await,
    ];
    let seed = recipe(1, Prepare::SeedOf { source: source.node }, BootRole::Standby);
    case.backend()
        .start(early, &seed)
        .await
        .expect("start of a seed before its source");
    assert_eq!(
        case.observe(early).await.power,
        PowerState::Preparing,
        "a seed waits for its copy"
    );
    case.backend()
        .start(source, &init(1, vec![early.node, late.node]))
        .await
        .expect("start of the source");
    case.until_answers(source).await;
    case.backend()
        .start(late, &seed)
        .await
        .expect("start of a seed after its source");
    for node in [early, late] {
        let seen = case.until_answers(node).await;
        assert_eq!(seen.data, DataState::Initialised);
    }
    case.backend()
        .start(left_out, &seed)
        .await
        .expect("start of a node that is no seed");
    let seen = case
        .until(left_out, "exits: there is no copy", |o| {
            matches!(o.power, PowerState::Exited(_))
        })
        .await;
    assert!(
        matches!(&seen.power, PowerState::Exited(e) if e.reason == ExitReason::SeedGone),
        "{seen:?}"
    );
    assert_ne!(seen.data, DataState::Initialised);

    case.off(early, PowerOff::Immediate).await;
    case.backend()
        .start(early, &seed)
        .await
        .expect("the recipe of its birth, again");
    case.until_answers(early).await;
    case.end().await;
}

pub(super) async fn a_failed_preparation(site: &dyn Site) {
    let mut case = Case::new(site).await;
    let node = case.applied().await;
    let backup = Prepare::BaseBackup {
        source: nowhere(node),
        slot: "none".into(),
    };
    case.backend()
        .start(node, &recipe(1, backup, BootRole::Standby))
        .await
        .expect("how it goes is seen by observe");
    let seen = case
        .until(node, "exits: no source", |o| {
            matches!(o.power, PowerState::Exited(_))
        })
        .await;
    let PowerState::Exited(exit) = &seen.power else {
        unreachable!("just seen")
    };
    assert_eq!(exit.reason, ExitReason::PreparationFailed, "{exit:?}");
    assert!(
        !exit.message.is_empty() && !exit.message.contains("conformance-secret"),
        "{exit:?}"
    );
    assert_ne!(seen.data, DataState::Initialised);
    for _ in 0..2 {
        refused(
            case.backend().start(node, &existing(1)).await,
            InfraErrorKind::InvalidState,
            "half a data directory",
        );
        case.reopen().await;
    }
    let seen = case.observe(node).await;
    assert!(
        matches!(seen.power, PowerState::Exited(_)),
        "that it failed is not forgotten: {seen:?}"
    );
    case.backend()
        .start(node, &init(2, vec![]))
        .await
        .expect("what is incomplete may be replaced");
    case.until_answers(node).await;

    // Where the source does not answer, what is there may be the last copy.
    let backup = Prepare::BaseBackup {
        source: nowhere(node),
        slot: "none".into(),
    };
    let rewind = Prepare::Rewind {
        source: nowhere(node),
    };
    case.off(node, PowerOff::Immediate).await;
    for (epoch, prepare) in [(3, backup), (4, rewind)] {
        case.backend()
            .start(node, &recipe(epoch, prepare, BootRole::Standby))
            .await
            .expect("how it goes is seen by observe");
        let seen = case
            .until(node, "exits: no source", |o| {
                matches!(o.power, PowerState::Exited(_))
                    && o.boot.as_ref().is_some_and(|boot| boot.epoch == Epoch(epoch))
            })
            .await;
        assert_eq!(
            seen.data,
            DataState::Initialised,
            "nothing is given up for a source that does not answer: {seen:?}"
        );
    }
    case.backend()
        .start(node, &existing(5))
        .await
        .expect("it is as whole as it was");
    case.until_answers(node).await;
    case.end().await;
}

/// A source where nobody listens.
fn nowhere(node: NodeRef) -> ReplicationSource {
    ReplicationSource {
        node: node.node,
        endpoint: Endpoint {
            host: "127.0.0.1".into(),
            port: 1,
        },
        user: REPLICATION_ROLE.into(),
        password: Secret::new("conformance-secret"),
    }
}
