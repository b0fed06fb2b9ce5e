//! What a warm and a cold start cost, beside the floor: the same by hand.
//! `cargo test --test latency -- --ignored --nocapture`
#![allow(clippy::print_stderr, reason = "measurements for whoever looks")]

mod fixture;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dbaas_backend_local::WarmPool;
use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::infrastructure::{Infrastructure, PowerOff};
use dbaas_core::secret::Secret;
use fixture::{ADMIN_PASSWORD, Fixture, recipe};

/// Until the port takes connections.
fn accepting(port: u16, since: Instant) -> Duration {
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone"]
async fn start_beside_the_floor() {
    let Some(mut fixture) = Fixture::new(15) else {
        return;
    };
    for sets in [0, 1] {
        fixture.options.warm_pool = WarmPool {
            sets,
            seeds_per_set: 0,
        };
        let backend = fixture.open();
        for _ in 0..5 {
            if sets > 0 {
                tokio::time::sleep(Duration::from_millis(5500)).await;
            }
            let ready = backend.pool_ready(fixture.installation.version.major);
            let node = fixture.node();
            let begin = Instant::now();
            backend.apply(&fixture.spec(node)).await.unwrap();
            let applied = begin.elapsed();
            let prepare = Prepare::Init {
                admin_password: Secret::new(ADMIN_PASSWORD),
                seeds: vec![],
            };
            backend
                .start(node, &recipe(1, prepare, BootRole::Primary, None))
                .await
                .unwrap();
            let returned = begin.elapsed();
            let port = fixture.observe(&backend, node).await.endpoint.unwrap().port;
            let up = accepting(port, begin);
            let stop = Instant::now();
            backend.power_off(node, PowerOff::Immediate).await.unwrap();
            let stopped = stop.elapsed();
            let again = Instant::now();
            backend
                .start(node, &recipe(1, Prepare::Existing, BootRole::Primary, None))
                .await
                .unwrap();
            let restarted = again.elapsed();
            let up_again = accepting(port, again);
            backend
                .power_off(node, PowerOff::Graceful { deadline_ms: 10_000 })
                .await
                .unwrap();
            eprintln!(
                "{ready} sets ready: applied {applied:?}, start returned {returned:?}, listening {up:?}, killed in {stopped:?}; \
                 start of existing data returned {restarted:?}, listening {up_again:?}"
            );
        }
    }
    floor(&fixture);
}

fn floor(fixture: &Fixture) {
    let account = std::fs::metadata(fixture.dir.path().join("pool"))
        .map(|_| ())
        .is_ok();
    assert!(account);
    let by_hand = fixture.dir.path().join("by-hand");
    std::fs::create_dir(&by_hand).unwrap();
    let run_as = |command: &mut Command| {
        if rustix_is_root() {
            Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(&by_hand)
                .status()
                .unwrap();
            let id = Command::new("id").args(["-u", "postgres"]).output().unwrap();
            command.uid(String::from_utf8_lossy(&id.stdout).trim().parse().unwrap());
        }
        command
            .current_dir(&by_hand)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    };
    let data = by_hand.join("data");
    let begin = Instant::now();
    let mut initdb = Command::new(fixture.installation.bin_dir.join("initdb"));
    initdb
        .args(["-U", "postgres", "-k", "-A", "trust", "-D"])
        .arg(&data);
    run_as(&mut initdb);
    assert!(initdb.status().unwrap().success());
    let initialised = begin.elapsed();
    let mut server = Command::new(fixture.installation.bin_dir.join("postgres"));
    server
        .arg("-D")
        .arg(&data)
        .args(["-c", "port=26001", "-c", "unix_socket_directories="]);
    run_as(&mut server);
    let start = Instant::now();
    let mut child = server.spawn().unwrap();
    let up = accepting(26001, start);
    eprintln!("floor: initdb {initialised:?}, postgres listening {up:?}");
    fixture::kill(child.id(), "QUIT");
    child.wait().unwrap();
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
