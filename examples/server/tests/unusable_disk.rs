//! Disks that cannot be used: refused at the start, and lived with when it happens later. On real file
//! systems, so only for root.

mod server;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::{DEADLINE, Server, directory, has_postgres, request, run};

/// A small file system of its own; gone with the value, whatever still runs on it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(megabytes: u32) -> Option<Disk> {
        let disk = Disk(directory());
        let options = format!("size={megabytes}m,mode=755");
        if disk.run("mount", &["-t", "tmpfs", "-o", &options, "dbaas-test"]) {
            return Some(disk);
        }
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: only root may mount the file systems that this needs"
        );
        None
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let status = Command::new(program).args(arguments).arg(self.0.path()).status();
        status.is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until not a byte fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // PostgreSQL servers outlive the server; not the test.
        let mine = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.path()))
        };
        for process in fs::read_dir("/proc").unwrap().flatten().filter(mine) {
            let _ = Command::new("kill")
                .arg("-KILL")
                .arg(process.file_name())
                .status();
        }
        self.run("umount", &["--lazy"]);
    }
}

fn call(server: &Server, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let text = format!(
        "{method} /v1/postgres/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = request(&server.address, &text);
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn refused(data: &Path, because: &str) {
    let (ok, said) = run(&["--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert!(!ok && said.contains(because), "{said}");
    assert!(
        said.contains(data.to_str().unwrap()),
        "names the directory: {said}"
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_what_to_do() {
    let Some(disk) = Disk::new(64) else { return };
    let data = disk.path().join("data");
    if !has_postgres() {
        return;
    }
    let mut server = Server::start(disk.path(), &["--listen", "127.0.0.1:0"]);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());

    disk.fill();
    refused(&data, "free some space");
    disk.make_room();
    assert!(disk.run("mount", &["-o", "remount,ro"]));
    refused(&data, "remount,rw");
    assert!(disk.run("mount", &["-o", "remount,rw"]));

    // The header's field, as a newer program would write it
    // (https://www.sqlite.org/fileformat2.html#user_version).
    let store = data.join("dbaas.sqlite");
    let mut bytes = fs::read(&store).unwrap();
    bytes[60..64].copy_from_slice(&4711_u32.to_be_bytes());
    fs::write(&store, &bytes).unwrap();
    refused(&data, "run the newer program");
    assert!(fs::read(&store).unwrap() == bytes, "untouched");
}

#[test]
fn a_disk_that_becomes_full_loses_nothing_and_needs_only_room() {
    let Some(disk) = Disk::new(400) else { return };
    if !has_postgres() {
        return;
    }
    let server = Server::start(disk.path(), &["--listen", "127.0.0.1:0"]);
    let (_, versions) = call(&server, "GET", "versions", &Value::Null);
    let version = &versions["versions"][0]["uuid"];
    let wanted = |name: &str| json!({"name": name, "cpu": 1, "ram": 512, "disk_size": 8, "nodes_number": 1, "version": version});
    let active = |path: &str, within: Duration| {
        let until = Instant::now() + within;
        loop {
            let (status, instance) = call(&server, "GET", path, &Value::Null);
            if status == 200 && instance["status"] == "ACTIVE" {
                return;
            }
            assert!(Instant::now() < until, "not ACTIVE: {status} {instance}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let (status, first) = call(&server, "POST", "instances", &wanted("first"));
    assert!(status < 300, "{status} {first}");
    let path = format!("instances/{}", first["uuid"].as_str().unwrap());
    active(&path, DEADLINE);

    disk.fill();
    let requests = [
        ("POST", "instances".to_owned(), wanted("second")),
        (
            "POST",
            format!("{path}/users"),
            json!({"name": "app", "password": "correct horse"}),
        ),
        ("PATCH", path.clone(), json!({"cpu": 2})),
        ("DELETE", path.clone(), Value::Null),
    ];
    for (method, path, body) in &requests {
        let (status, problem) = call(&server, method, path, body);
        assert_eq!(status, 503, "{method} {path}: {problem}");
        assert_eq!(problem["type"], "/problems/storage-full", "{problem}");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("full; nothing was done"),
            "{problem}"
        );
    }
    // Nothing half done, and what only reads works.
    let (status, all) = call(&server, "GET", "instances", &Value::Null);
    assert_eq!(
        (status, all["instances"].as_array().unwrap().len()),
        (200, 1),
        "{all}"
    );
    assert_eq!(all["instances"][0]["cpu"], 1, "{all}");
    let (_, users) = call(&server, "GET", &format!("{path}/users"), &Value::Null);
    assert_eq!(users["users"], json!([]), "{users}");
    // Long enough for the controller to meet it, too.
    std::thread::sleep(Duration::from_secs(12));

    disk.make_room();
    active(&path, DEADLINE);
    let until = Instant::now() + DEADLINE;
    let second = loop {
        let (status, second) = call(&server, "POST", "instances", &wanted("second"));
        if status < 300 {
            break second;
        }
        assert!(status == 503 && Instant::now() < until, "{status} {second}");
        std::thread::sleep(Duration::from_millis(200));
    };
    active(
        &format!("instances/{}", second["uuid"].as_str().unwrap()),
        DEADLINE,
    );
}
