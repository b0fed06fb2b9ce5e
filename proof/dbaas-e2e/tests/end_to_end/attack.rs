//! A dozen kinds of fault on real PostgreSQL: those that the failover tests do not do. All kinds, in random
//! order, over and over: `cargo run --release -p dbaas-e2e --bin dbaas-attack`.

use dbaas_e2e::Stack;
use dbaas_e2e::attack::{AttackOptions, Fault, attack};

const KINDS: [Fault; 13] = [
    Fault::FreezeAndThawPrimary,
    Fault::KillPrimaryTwice,
    Fault::KillEverything,
    Fault::SwitchoverThenKillController,
    Fault::CrashControllerSealing,
    Fault::CrashControllerPromoting,
    Fault::CrashControllerRejoining,
    Fault::KillStandbySealing,
    Fault::FreezeCandidatePromoting,
    Fault::KillNodeRejoining,
    Fault::FullDiskPrimary,
    Fault::SlowDiskStandby,
    Fault::StutterPrimary,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_faults() -> anyhow::Result<()> {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let options = AttackOptions {
        seed: 1,
        faults: KINDS.len(),
        nodes: 3,
        k: 1,
        kinds: KINDS.to_vec(),
    };
    let possible = KINDS.iter().filter(|fault| fault.is_possible(&stack)).count();
    let report = attack(&mut stack, &options, |number, fault, pause| {
        tracing::info!(number, ?fault, ?pause, "survived");
    })
    .await?;
    assert_eq!(report.pauses.len(), possible);
    assert!(report.acknowledged_inserts > 0 && report.acknowledged_transfers > 0);
    Ok(())
}
