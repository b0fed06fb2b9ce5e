//! The server as a process: what it refuses, what it says, and how it ends. Needs a PostgreSQL on this
//! machine (none is started).

mod server;

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use server::{Server, directory, has_postgres, request, run};

#[test]
fn help_teaches() {
    let (ok, said) = run(&["--help"]);
    assert!(ok);
    for word in [
        "--data-dir",
        "--token-file",
        "--stop-instances-on-exit",
        "Examples:",
        "curl",
        "/docs",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn it_does_not_serve_other_machines_without_tokens() {
    let directory = directory();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let (ok, said) = run(&["--data-dir", data, "--listen", address]);
        assert!(!ok && said.contains("--token-file"), "{said}");
    }
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "admin:0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (ok, said) = run(&[
        "--data-dir",
        data,
        "--listen",
        "0.0.0.0:0",
        "--token-file",
        tokens.to_str().unwrap(),
    ]);
    assert!(
        !ok && said.contains("chmod 600") && !said.contains("0123456789"),
        "{said}"
    );
    assert!(!Path::new(data).exists());
}

#[test]
fn it_starts_answers_and_ends() {
    if !has_postgres() {
        return;
    }
    let directory = directory();
    let mut server = Server::start(directory.path(), &["--listen", "127.0.0.1:0"]);
    assert!(
        server.greeting.contains("versions      PostgreSQL"),
        "{}",
        server.greeting
    );
    server.until_ready();
    assert!(
        server
            .get("/v1/postgres/versions", "")
            .contains("\"image\":\"postgres:")
    );
    let metrics = server.get("/metrics", "");
    assert!(
        metrics.contains("# HELP dbaas_http_requests_total Requests that were answered"),
        "{metrics}"
    );
    // Not HTTP, and a head that is too long: the server goes on.
    assert!(request(&server.address, "hello\r\n\r\n").starts_with("HTTP/1.1 400"));
    let long = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(300_000)
    );
    assert!(request(&server.address, &long).starts_with("HTTP/1.1 431"));

    // A long poll in hand is answered when the server ends.
    let waiting = {
        let address = server.address.clone();
        std::thread::spawn(move || {
            let path = "/v1/postgres/instances/0197f3c2-6d3b-7c9e-9f5a-0242ac120002?wait=ACTIVE&timeout=5m";
            request(
                &address,
                &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            )
        })
    };
    // A connection that is kept open does not hold it up.
    let idle = TcpStream::connect(&server.address).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(waiting.join().unwrap().starts_with("HTTP/1.1 404"));
    drop(idle);
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert!(TcpStream::connect(&server.address).is_err());
}

#[test]
fn tokens_are_asked_for() {
    if !has_postgres() {
        return;
    }
    let directory = directory();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "admin:0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = Server::start(
        directory.path(),
        &[
            "--listen",
            "127.0.0.1:0",
            "--token-file",
            tokens.to_str().unwrap(),
        ],
    );
    assert!(server.greeting.contains("Bearer $TOKEN") && !server.greeting.contains("0123456789"));
    assert!(
        server
            .get("/v1/postgres/versions", "")
            .starts_with("HTTP/1.1 401")
    );
    let good = server.get(
        "/v1/postgres/versions",
        "authorization: Bearer 0123456789abcdef\r\n",
    );
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    server.signal(rustix::process::Signal::INT);
    assert!(server.wait().success());
}

#[test]
fn a_second_server_says_who_is_at_work_or_waits() {
    if !has_postgres() {
        return;
    }
    let directory = directory();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let mut first = Server::start(directory.path(), &["--listen", "127.0.0.1:0"]);
    let who = format!("process {}", first.child.id());
    for address in ["127.0.0.1:0", first.address.as_str()] {
        let (ok, said) = run(&["--data-dir", data, "--listen", address]);
        assert!(!ok && said.contains(&who), "{said}");
    }
    // Another directory, but the same address.
    let other = directory.path().join("other");
    let (ok, said) = run(&["--data-dir", other.to_str().unwrap(), "--listen", &first.address]);
    assert!(!ok && said.contains("cannot listen on"), "{said}");
    assert!(!other.exists());

    let path = directory.path().to_owned();
    let address = first.address.clone();
    let second = std::thread::spawn(move || Server::start(&path, &["--listen", &address, "--wait-for-lock"]));
    std::thread::sleep(Duration::from_millis(700));
    assert!(first.get("/readyz", "").starts_with("HTTP/1.1 200"));
    first.signal(rustix::process::Signal::TERM);
    assert!(first.wait().success());
    let mut second = second.join().unwrap();
    assert!(second.get("/healthz", "").starts_with("HTTP/1.1 200"));
    second.signal(rustix::process::Signal::TERM);
    assert!(second.wait().success());
}

#[test]
fn a_killed_server_leaves_nothing_that_hinders_the_next() {
    if !has_postgres() {
        return;
    }
    let directory = directory();
    let mut first = Server::start(directory.path(), &["--listen", "127.0.0.1:0"]);
    first.child.kill().unwrap();
    first.wait();
    let mut second = Server::start(directory.path(), &["--listen", "127.0.0.1:0"]);
    second.until_ready();
    second.signal(rustix::process::Signal::TERM);
    assert!(second.wait().success());
}

#[test]
fn a_data_directory_that_is_no_directory_is_refused() {
    let directory = directory();
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below")] {
        let (ok, said) = run(&["--data-dir", path.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        assert!(!ok && said.contains(path.to_str().unwrap()), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}
