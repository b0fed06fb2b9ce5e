//! Python's urllib sends a whole body before it looks for an answer: it gets the answer, not a broken pipe.

mod server;

use std::io::Write;
use std::process::{Command, Stdio};

use server::{Server, directory, has_postgres};

const SCRIPT: &str = r#"
import json, sys, urllib.error, urllib.request
base = sys.argv[1]
body = b"x" * (50 * 1024 * 1024)
for path, kind, expected in [
    ("/v1/postgres/instances", "application/json", 413),
    ("/v1/postgres/instances", "text/plain", 415),
    ("/nowhere", "application/json", 404),
]:
    request = urllib.request.Request(base + path, data=body, headers={"content-type": kind})
    try:
        urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        assert error.code == problem["status"] == expected, problem
        print(error.code)
"#;

#[test]
fn urllib_gets_the_answer() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|done| done.status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine has no Python");
        return;
    }
    if !has_postgres() {
        return;
    }
    let directory = directory();
    let server = Server::start(directory.path(), &["--listen", "127.0.0.1:0"]);
    let done = Command::new("python3")
        .args(["-c", SCRIPT, &format!("http://{}", server.address)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "413\n415\n404\n",
        "{errors}"
    );
}
