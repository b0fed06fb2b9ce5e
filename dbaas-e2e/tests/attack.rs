//! A dozen and more random faults on real PostgreSQL. The long run is `cargo run --release -p dbaas-e2e --bin dbaas-attack`.

use dbaas_e2e::Stack;
use dbaas_e2e::attack::{AttackOptions, FAULTS, attack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_once() -> anyhow::Result<()> {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let options = AttackOptions {
        seed: 1,
        faults: FAULTS.len(),
        nodes: 3,
        k: 1,
    };
    let report = attack(&mut stack, &options, |number, fault, pause| {
        tracing::info!(number, ?fault, ?pause, "survived");
    })
    .await?;
    assert_eq!(report.pauses.len(), FAULTS.len());
    assert!(report.acknowledged_inserts > 0 && report.acknowledged_transfers > 0);
    Ok(())
}
