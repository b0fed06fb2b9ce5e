//! The workloads against one real server that is killed and started again.

use std::time::{Duration, Instant};

use dbaas_workload::bank::{BankOptions, BankWorkload, Isolation, TransferOutcome};
use dbaas_workload::client::{Access, Client, ClientOptions, ConnectStrategy, Failure};
use dbaas_workload::gap::GapEnd;
use dbaas_workload::server::{ServerOptions, ThrowawayServer, is_available_for};
use dbaas_workload::set::{SetOptions, SetWorkload};

fn server(test: &str) -> Option<ThrowawayServer> {
    is_available_for(test).then(|| ThrowawayServer::start(&ServerOptions::default()).unwrap())
}

async fn admin(server: &ThrowawayServer, sql: &str) {
    let options = ClientOptions {
        statement_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    let mut client = Client::new(server.target(), options);
    client
        .send_until_done(sql, Instant::now() + Duration::from_secs(10))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_survives_kill_and_restart() {
    let Some(mut server) = server("set: kill and restart") else {
        return;
    };
    let target = server.target();
    let workload = SetWorkload::start(&target, &SetOptions::default()).await.unwrap();
    assert!(workload.wait_for_acknowledged(200, Duration::from_secs(20)).await);

    server.kill9().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let off = Instant::now();
    server.restart().unwrap();
    assert!(workload.wait_for_acknowledged(200, Duration::from_secs(60)).await);
    let report = workload.stop().await;

    assert!(report.acknowledged >= 400);
    // Nothing is acknowledged while the server is off, however late the machine lets anybody run.
    let gap = report.timeline.longest_gap_between(off, off);
    assert_eq!(gap.ended_by, GapEnd::Acknowledgement);
    assert!(gap.start <= off && off <= gap.end, "{gap:?}");

    let verdict = report.verify(&target, Access::ReadWrite).await.unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!(verdict.found, report.acknowledged + verdict.unknown_present);
    assert!(verdict.unknown_present <= report.unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_sees_what_is_wrong() {
    let Some(server) = server("set: detects") else {
        return;
    };
    let target = server.target();
    let workload = SetWorkload::start(&target, &SetOptions::default()).await.unwrap();
    assert!(workload.wait_for_acknowledged(100, Duration::from_secs(20)).await);
    let report = workload.stop().await;
    assert!(report.verify(&target, Access::Any).await.unwrap().is_sound());

    let ids: Vec<_> = report.acknowledged_ids().collect();
    let run = report.run;
    let of = |index: usize| {
        format!(
            "run = '{run}' AND writer = {} AND seq = {}",
            ids[index].writer, ids[index].seq
        )
    };
    admin(&server, &format!("DELETE FROM dbaas_set WHERE {}", of(3))).await;
    admin(
        &server,
        &format!("UPDATE dbaas_set SET payload = payload + 1 WHERE {}", of(7)),
    )
    .await;
    admin(
        &server,
        &format!("INSERT INTO dbaas_set VALUES ('{run}', 0, 1000000, 0), ('{run}', 77, 0, 0)"),
    )
    .await;
    let verdict = report.verify(&target, Access::Any).await.unwrap();
    assert!(!verdict.is_sound());
    assert_eq!(verdict.lost, [ids[3]]);
    assert_eq!(verdict.phantom.len(), 2);
    assert_eq!(verdict.altered.len(), 3, "the changed one and both phantoms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bank_survives_kill_and_restart() {
    let Some(mut server) = server("bank: kill and restart") else {
        return;
    };
    let target = server.target();
    for isolation in [Isolation::ForUpdate, Isolation::Serializable] {
        let options = BankOptions {
            accounts: 8,
            isolation,
            ..BankOptions::default()
        };
        let workload = BankWorkload::start(&target, &options).await.unwrap();
        assert!(workload.wait_for_acknowledged(100, Duration::from_secs(20)).await);
        server.kill9().unwrap();
        server.restart().unwrap();
        assert!(workload.wait_for_acknowledged(100, Duration::from_secs(20)).await);
        let report = workload.stop().await;
        assert!(report.acknowledged >= 200);
        assert!(report.audits > 0);
        assert_eq!(report.wrong_totals, [] as [i64; 0]);
        let verdict = report.verify(&target, Access::ReadWrite).await.unwrap();
        assert!(verdict.is_sound(), "{isolation:?} {verdict:?}");
        assert_eq!(
            verdict.ledger_entries,
            report.acknowledged + verdict.unknown_present
        );

        let run = report.run;
        let last = report
            .transfers()
            .iter()
            .rev()
            .find(|(transfer, outcome)| {
                transfer.amount > 0 && matches!(outcome, TransferOutcome::Acknowledged(_))
            })
            .unwrap()
            .0;
        admin(
            &server,
            &format!(
                "UPDATE dbaas_bank_ledger SET amount = amount + 1 WHERE run = '{run}' AND id = {}",
                last.id
            ),
        )
        .await;
        let verdict = report.verify(&target, Access::ReadWrite).await.unwrap();
        assert!(!verdict.is_sound());
        assert_eq!(
            (verdict.altered.len(), verdict.unexplained_accounts.len()),
            (1, 2)
        );
        assert_eq!(verdict.total, verdict.expected_total);
        admin(
            &server,
            &format!(
                "DELETE FROM dbaas_bank_ledger WHERE run = '{run}' AND id = {}",
                last.id
            ),
        )
        .await;
        assert_eq!(
            report.verify(&target, Access::ReadWrite).await.unwrap().lost,
            [last]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_server_gives_unknown_outcomes() {
    let Some(server) = server("set: frozen") else {
        return;
    };
    let target = server.target();
    let workload = SetWorkload::start(&target, &SetOptions::default()).await.unwrap();
    assert!(workload.wait_for_acknowledged(50, Duration::from_secs(20)).await);
    server.freeze().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while workload.unknown() < 4 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.thaw().unwrap();
    assert!(workload.wait_for_acknowledged(50, Duration::from_secs(60)).await);
    let report = workload.stop().await;
    assert_eq!(
        report.unknown, 4,
        "one for each writer, after its statement timeout: {:?}",
        report.errors
    );
    // A writer's statement timeout.
    assert!(report.timeline.longest_gap().duration() >= Duration::from_secs(1));
    let verdict = report.verify(&target, Access::ReadWrite).await.unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
}

#[tokio::test]
async fn nobody_there() {
    let Some(mut server) = server("client: nobody there") else {
        return;
    };
    server.kill9().unwrap();
    for strategy in [ConnectStrategy::Sequential, ConnectStrategy::Parallel] {
        let mut client = Client::new(
            server.target(),
            ClientOptions {
                strategy,
                ..ClientOptions::default()
            },
        );
        let started = Instant::now();
        let refused = client
            .connect(started + Duration::from_millis(300))
            .await
            .unwrap_err();
        assert!(matches!(refused, Failure::NotConnected(_)));
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(matches!(
            client.send("SELECT 1").await,
            Err(Failure::NotConnected(_))
        ));
        let mut nowhere = Client::new(
            server.target().at(vec![]),
            ClientOptions {
                strategy,
                ..ClientOptions::default()
            },
        );
        assert!(
            nowhere
                .connect(Instant::now() + Duration::from_millis(100))
                .await
                .is_err()
        );
    }
    assert!(server.processes().is_empty());
}
