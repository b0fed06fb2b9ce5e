//! What needs no server: help, usage, completions, the manual, the configuration file, and that nobody is
//! there.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::program::{Done, command, run};

#[test]
fn help_teaches() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in [
        "Examples:",
        "Exit codes:",
        "--yes",
        "contexts:",
        "DBAAS_URL",
        "switchover",
    ] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    for command in [
        &["create"][..],
        &["users", "create"],
        &["databases", "edit"],
        &["versions", "show"],
        &["psql"],
        &["server"],
    ] {
        let help = run(&[command, &["--help"]].concat());
        assert!(
            help.code == 0 && help.stdout.contains("Example"),
            "{command:?}: {help:?}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_usage() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["create"],
        &["create", "x", "--nodes", "three"],
        &["create", "x", "--timeout", "1s"],
        &[
            "users",
            "create",
            "i",
            "u",
            "--generate-password",
            "--password-stdin",
        ],
        &["--url", "https://db.example", "instances", "list"],
    ] {
        let done = run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
    }
}

#[test]
fn completions_and_the_manual() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(
            script.code == 0 && script.stdout.contains("switchover"),
            "{shell}"
        );
    }
    let manual = run(&["man"]);
    assert!(
        manual.stdout.contains(".TH dbaas 1") && manual.stdout.contains("Exit codes"),
        "{manual:?}"
    );
    let page = run(&["man", "instances-create"]);
    assert!(
        page.stdout.contains("sync") && page.stdout.contains("dbaas-instances-create"),
        "{page:?}"
    );
    assert_eq!(run(&["man", "nothing"]).code, 3);
}

#[test]
fn a_server_that_is_not_there() {
    // A port that nobody has: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let done = run(&["--url", &format!("http://{port}"), "instances", "list"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stderr.contains("cannot be reached") && done.stderr.contains("dbaas server"),
        "{done:?}"
    );
}

#[test]
fn contexts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let with = |text: &str, mode: u32, arguments: &[&str]| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        Done::of(command(arguments).env("DBAAS_CONFIG", &file).output().unwrap())
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = format!(
        "current: home\ncontexts:\n  home: {{ url: \"http://{port}\" }}\n  work: {{ url: \"http://{port}/work\", token: 0123456789abcdef }}\n"
    );
    let list = ["instances", "list"];
    let home = with(&text, 0o644, &list);
    assert!(
        home.stderr.contains(&format!("http://{port}/ cannot be reached")),
        "{home:?}"
    );
    // A token that others can read is refused, and never repeated.
    let work = ["--context", "work", "instances", "list"];
    let open = with(&text, 0o644, &work);
    assert!(
        open.code == 2 && open.stderr.contains("chmod 600") && !open.stderr.contains("0123"),
        "{open:?}"
    );
    let closed = with(&text, 0o600, &work);
    assert!(
        closed
            .stderr
            .contains(&format!("http://{port}/work cannot be reached")),
        "{closed:?}"
    );
    let unknown = with(&text, 0o600, &["--context", "away", "instances", "list"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("home, work"),
        "{unknown:?}"
    );
    let broken = with("contexts: [0123456789abcdef]", 0o600, &list);
    assert!(broken.code == 2 && !broken.stderr.contains("0123"), "{broken:?}");
}

#[test]
fn contexts_are_edited() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/config.yaml");
    let given = |input: &str, arguments: &[&str]| {
        let mut child = command(arguments)
            .env("DBAAS_CONFIG", &file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Done::of(child.wait_with_output().unwrap())
    };
    let run = |arguments: &[&str]| given("", arguments);
    let empty = run(&["contexts", "list"]);
    assert_eq!(empty.code, 0, "{empty:?}");
    let none = run(&["contexts", "use", "home"]);
    assert!(none.code == 3 && none.stderr.contains("contexts set"), "{none:?}");
    assert_eq!(run(&["contexts", "set", "home"]).code, 2);
    assert_eq!(
        run(&["contexts", "set", "home", "--url", "ftp://nowhere"]).code,
        2
    );
    assert!(!file.exists(), "what is refused writes nothing");

    // The first is the current one.
    let home = run(&["contexts", "set", "home", "--url", "http://127.0.0.1:8432"]);
    assert!(
        home.code == 0 && home.stdout.contains("*        home"),
        "{home:?}"
    );
    for token in ["0123456789abcdef", "true", "1e5", "it's: \"quoted\" #1"] {
        let work = [
            "contexts",
            "set",
            "work",
            "--url",
            "http://db.example:8432",
            "--token-stdin",
        ];
        let work = given(&format!("{token}\n"), &work);
        assert!(work.code == 0 && work.stdout.contains("kept"), "{work:?}");
        assert!(
            !format!("{work:?}").contains(token) || token == "true",
            "{work:?}"
        );
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for output in ["table", "json", "yaml"] {
        let listed = run(&["contexts", "list", "--output", output]);
        assert!(
            listed.code == 0 && listed.stdout.contains("work") && !listed.stdout.contains("quoted"),
            "{listed:?}"
        );
    }
    // A token goes to no other server than that which it was given for.
    let moved = run(&["contexts", "set", "work", "--url", "http://127.0.0.1:1"]);
    assert!(
        moved.code == 2 && moved.stderr.contains("--no-token"),
        "{moved:?}"
    );
    assert_eq!(run(&["contexts", "use", "work"]).code, 0);
    let used = run(&["contexts", "list", "-o", "json"]);
    assert!(used.stdout.contains("\"current\": true"), "{used:?}");
    let unknown = run(&["contexts", "use", "away"]);
    assert!(
        unknown.code == 3 && unknown.stderr.contains("home, work"),
        "{unknown:?}"
    );

    // Others could have read it: nothing is done before that is mended.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = run(&["contexts", "use", "home"]);
    assert!(open.code == 2 && open.stderr.contains("chmod 600"), "{open:?}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        run(&["contexts", "remove", "work"]).code,
        2,
        "nobody can be asked"
    );
    let gone = run(&["contexts", "remove", "work", "--yes"]);
    assert!(
        gone.code == 0 && gone.stderr.contains("no current context"),
        "{gone:?}"
    );
    let filed = run(&["contexts", "set", "home", "--token-file", "token"]);
    assert!(filed.code == 0 && filed.stdout.contains("in /"), "{filed:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("quoted") && !text.contains("db.example"), "{text}");
}
