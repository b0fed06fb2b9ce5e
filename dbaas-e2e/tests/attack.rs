//! Every kind of fault once on real PostgreSQL. The long run is `cargo run --release -p dbaas-e2e --bin dbaas-attack`.

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
        kinds: FAULTS.to_vec(),
    };
    let report = attack(&mut stack, &options, |number, fault, pause| {
        tracing::info!(number, ?fault, ?pause, "survived");
    })
    .await?;
    let possible = FAULTS.iter().filter(|fault| fault.is_possible()).count();
    assert_eq!(report.pauses.len(), possible);
    assert!(report.acknowledged_inserts > 0 && report.acknowledged_transfers > 0);
    Ok(())
}
