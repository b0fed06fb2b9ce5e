//! `dbaas` as a person uses it: on a pipe and on a terminal, against a real server with real PostgreSQL.

mod element;
mod program;
mod screens;
mod terminal;
mod tokens;
mod without_server;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use program::{Done, Server, has_postgres};

/// The tour, and everything around it: one server, since instances are what takes time.
#[test]
fn a_tour() {
    if !has_postgres() {
        return;
    }
    let server = Server::start();
    an_instance_is_made_step_by_step(&server);
    users_and_databases(&server);
    lists_and_single_ones(&server);
    instances_have_labels(&server);
    programs_read_json_and_yaml(&server);
    postgresql_programs(&server);
    access(&server);
    extensions(&server);
    parameters(&server);
    logs(&server);
    versions(&server);
    on_a_terminal(&server);
    names_and_uuids(&server);
    failures_have_their_codes(&server);
    operations(&server);
    deletion(&server);
    manifests(&server);
}

fn an_instance_is_made_step_by_step(server: &Server) {
    let made = server.ok(&["create", "orders", "--nodes", "2", "--wait"]);
    screens::equal("create", &made.stdout);
    // On a pipe: no colours, no spinner, a line for each step on standard error.
    assert!(
        !made.stdout.contains('\x1b') && !made.stderr.contains('\x1b'),
        "{made:?}"
    );
    for kind in ["create_requested", "instance_active: as asked for"] {
        assert!(made.stderr.contains(kind), "{kind}: {}", made.stderr);
    }
    // Where events came first, they are told first.
    let first = made.stderr.find("create_requested");
    assert!(first < made.stderr.find("instance_active"), "{}", made.stderr);
}

fn users_and_databases(server: &Server) {
    let made = server.ok(&[
        "users",
        "create",
        "orders",
        "app",
        "--generate-password",
        "--wait",
        "-o",
        "json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(json["status"], "ACTIVE");
    assert!(json["password"].as_str().unwrap().len() >= 20);
    // The password from standard input: its end of line is none of it.
    let changed = server.fed(
        "correct horse\n",
        &["users", "edit", "orders", "app", "--password-stdin", "--wait"],
    );
    assert_eq!(changed.code, 0, "{changed:?}");
    assert!(!changed.stdout.contains("correct"), "{changed:?}");
    let made = server.ok(&[
        "databases",
        "create",
        "orders",
        "shop",
        "--owner",
        "app",
        "--wait",
    ]);
    screens::equal("database", &made.stdout);
}

fn lists_and_single_ones(server: &Server) {
    for (screen, arguments) in [
        ("instances", &["instances", "list"][..]),
        ("instance", &["instances", "show", "orders"]),
        ("users", &["users", "list", "orders"]),
        ("databases", &["databases", "ls", "orders"]),
        ("nodes", &["nodes", "list", "orders"]),
        (
            "connection",
            &["connection", "orders", "--user", "app", "--database", "shop"],
        ),
    ] {
        screens::equal(screen, &server.ok(arguments).stdout);
    }
    let versions = server.ok(&["versions", "list"]).stdout;
    assert!(
        versions.starts_with("NAME") && versions.contains("postgres:"),
        "{versions}"
    );
    let node = server.ok(&["nodes", "show", "orders", "n1"]).stdout;
    assert!(node.starts_with("name") && node.contains("127.0.0.1:"), "{node}");
    let events = server.ok(&["events", "list", "orders"]).stdout;
    assert!(
        events.lines().count() > 5 && events.contains("user_active"),
        "{events}"
    );
}

fn instances_have_labels(server: &Server) {
    let labels = ["--label", "team:shop", "--label", "example.org/tier:2"];
    server.ok(&[&["instances", "edit", "orders"][..], &labels].concat());
    let shown = server.ok(&["instances", "show", "orders"]).stdout;
    let has = |shown: &str, labels: &str| {
        let line = shown.lines().find(|line| line.starts_with("labels"));
        assert_eq!(
            line.map(|line| line["labels".len()..].trim()),
            Some(labels),
            "{shown}"
        );
    };
    has(&shown, "example.org/tier:2, team:shop");
    let found = |label: &str| {
        let json = server
            .ok(&["instances", "list", "--label", label, "-o", "json"])
            .stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json.as_array().unwrap().len()
    };
    assert_eq!((found("team:shop"), found("team:stock")), (1, 0));
    let edited = server.ok(&[
        "instances",
        "edit",
        "orders",
        "--remove-label",
        "example.org/tier",
    ]);
    has(&edited.stdout, "team:shop");
    server.ok(&["instances", "edit", "orders", "--remove-label", "team", "--wait"]);
    let refused = server.run(&["instances", "list", "--label", "team"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

fn programs_read_json_and_yaml(server: &Server) {
    let json = server.ok(&["instances", "list", "--output", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], "orders");
    let yaml = server.ok(&["instances", "show", "orders", "-o", "yaml"]).stdout;
    assert!(yaml.lines().any(|line| line == "name: orders"), "{yaml}");
    assert!(yaml.lines().any(|line| line == "nodes_number: 2"), "{yaml}");
    let uri = server
        .ok(&[
            "connection",
            "orders",
            "--user",
            "app",
            "--database",
            "shop",
            "--uri",
        ])
        .stdout;
    assert!(
        uri.starts_with("postgresql://app@127.0.0.1:") && uri.lines().count() == 1,
        "{uri}"
    );
}

fn postgresql_programs(server: &Server) {
    // The one database and its owner are the default.
    let sql = "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id";
    server.ok(&["psql", "orders", "--", "-qc", sql]);
    let dump = server.directory.path().join("shop.dump");
    let dump = dump.to_str().unwrap();
    server.ok(&["dump", "orders", dump]);
    let again = server.run(&["dump", "orders", dump]);
    assert_eq!(again.code, 2, "nothing is overwritten: {again:?}");
    server.ok(&[
        "databases",
        "create",
        "orders",
        "copy",
        "--owner",
        "app",
        "--wait",
    ]);
    server.ok(&["restore", "orders", dump, "--database", "copy"]);
    let counted = server.ok(&[
        "psql",
        "orders",
        "-d",
        "copy",
        "--",
        "-Atc",
        "SELECT count(*) FROM orders",
    ]);
    assert_eq!(counted.stdout, "1000\n");
    // Two databases: which one has to be said.
    let which = server.run(&["psql", "orders", "--", "-c", "SELECT 1"]);
    assert!(
        which.code == 2 && which.stderr.contains("shop, copy"),
        "{which:?}"
    );
    // The program's own code.
    let failed = server.run(&[
        "psql",
        "orders",
        "-d",
        "copy",
        "--",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        "SELECT 1/0",
        "-c",
        "",
    ]);
    assert!(
        failed.code != 0 && failed.stderr.contains("division by zero"),
        "{failed:?}"
    );
    let failed = server.run(&["restore", "orders", dump, "--database", "copy"]);
    assert!(
        failed.code == 1 && failed.stderr.contains("already exists"),
        "{failed:?}"
    );
    let delete = ["databases", "delete", "orders", "copy", "--yes", "--wait"];
    let refused = server.run(&delete);
    assert!(
        refused.code == 4 && refused.stderr.contains("protected from deletion"),
        "{refused:?}"
    );
    server.ok(&["databases", "edit", "orders", "copy", "--unprotect"]);
    let copy = server.ok(&delete);
    assert!(copy.stderr.contains("copy is gone"), "{copy:?}");
}

fn access(server: &Server) {
    let none = server.ok(&["databases", "access", "list", "orders", "shop"]);
    assert!(none.stderr.contains("is its owner's alone"), "{none:?}");
    let reader = [
        "users",
        "create",
        "orders",
        "reports",
        "--password-stdin",
        "--wait",
    ];
    assert_eq!(server.fed("correct horse\n", &reader).code, 0);
    let select = |code: i32| {
        let arguments = [
            "psql",
            "orders",
            "-U",
            "reports",
            "-d",
            "shop",
            "--",
            "-Atc",
            "SELECT count(*) FROM orders",
        ];
        let done = server.run(&arguments);
        assert_eq!(done.code == 0, code == 0, "{done:?}");
    };
    select(1);
    let access = |more: &[&str]| {
        let all = [
            &["databases", "access", more[0], "orders", "shop"],
            &more[1..],
            &["--wait"],
        ]
        .concat();
        server.run(&all)
    };
    let granted = access(&["grant", "reports", "read"]);
    assert_eq!(granted.code, 0, "{granted:?}");
    screens::equal("access", &granted.stdout);
    select(0);
    let shown = server.ok(&["databases", "show", "orders", "shop"]).stdout;
    assert!(shown.contains("reports read"), "{shown}");
    // Another level replaces the first one.
    let more = access(&["grant", "reports", "write"]);
    assert!(
        more.stdout.contains("write") && !more.stdout.contains("read"),
        "{more:?}"
    );
    assert_eq!(access(&["revoke", "reports"]).code, 0);
    select(1);
    let again = access(&["revoke", "reports"]);
    assert!(
        again.code == 3 && again.stderr.contains("has no access"),
        "{again:?}"
    );
    let owner = access(&["grant", "app", "read"]);
    assert!(
        owner.code == 2 && owner.stderr.contains("is the owner"),
        "{owner:?}"
    );
    // What somebody took away by SQL is put back.
    let lock = "REVOKE CONNECT ON DATABASE shop FROM PUBLIC, app";
    server.ok(&["psql", "orders", "-d", "shop", "--", "-qc", lock]);
    server.ok(&["databases", "repair-access", "orders", "shop", "--wait"]);
    server.ok(&["users", "repair-access", "orders", "app", "--wait"]);
    let mut back = server.run(&["psql", "orders", "-d", "shop", "--", "-qc", "SELECT 1"]);
    for _ in 0..100 {
        if back.code == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        back = server.run(&["psql", "orders", "-d", "shop", "--", "-qc", "SELECT 1"]);
    }
    assert_eq!(back.code, 0, "{back:?}");
    // Nothing of what the control plane made is adopted.
    let ours = server.run(&["databases", "adopt", "orders", "shop", "--wait"]);
    assert!([0, 4].contains(&ours.code), "{ours:?}");
    let ours = server.run(&["users", "adopt", "orders", "app", "--wait"]);
    assert!([0, 4].contains(&ours.code), "{ours:?}");
    server.ok(&["users", "delete", "orders", "reports", "--yes", "--wait"]);
}

fn extensions(server: &Server) {
    let edit =
        |more: &[&str]| server.run(&[&["databases", "edit", "orders", "shop"], more, &["--wait"]].concat());
    let done = edit(&["--extension", "hstore", "--extension", "citext"]);
    assert!(
        done.code == 0 && done.stdout.contains("hstore, citext"),
        "{done:?}"
    );
    let sql = "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension WHERE extname <> 'plpgsql'";
    let seen = || {
        server
            .ok(&["psql", "orders", "-d", "shop", "--", "-Atc", sql])
            .stdout
    };
    assert_eq!(seen(), "citext hstore\n");
    server.ok(&["databases", "update-extensions", "orders", "shop", "--wait"]);
    let none = edit(&["--no-extensions"]);
    assert_eq!(none.code, 0, "{none:?}");
    assert_eq!(seen(), "\n");
    let unknown = edit(&["--extension", "Nonsense"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("extensions"),
        "{unknown:?}"
    );
}

fn parameters(server: &Server) {
    let none = server.ok(&["parameters", "get", "orders"]);
    assert!(none.stderr.contains("no parameter is set"), "{none:?}");
    let set = server.ok(&[
        "parameters",
        "set",
        "orders",
        "work_mem=32MB",
        "random_page_cost=1.5",
        "--wait",
    ]);
    screens::equal("parameters", &set.stdout);
    let shown = server.ok(&["psql", "orders", "-d", "shop", "--", "-Atc", "SHOW work_mem"]);
    assert_eq!(shown.stdout, "32MB\n");
    let one = server.ok(&["parameters", "get", "orders", "WORK_MEM", "-o", "json"]);
    assert_eq!(one.stdout, "{\n  \"work_mem\": \"32MB\"\n}\n");
    let wrong = server.run(&[
        "parameters",
        "set",
        "orders",
        "port=1",
        "wrok_mem=1",
        "work_mem=many",
    ]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    screens::equal("parameters-wrong", &wrong.stderr);
    let reset = server.ok(&[
        "parameters",
        "reset",
        "orders",
        "work_mem",
        "random_page_cost",
        "--wait",
    ]);
    assert!(reset.stderr.contains("no parameter is set"), "{reset:?}");
    assert_eq!(server.run(&["parameters", "get", "orders", "work_mem"]).code, 3);
    let all = server.ok(&["parameters", "list"]).stdout;
    assert!(all.lines().count() > 100 && all.contains("no: "), "{all}");
}

fn logs(server: &Server) {
    // What a tenant writes there itself.
    let sql = "DO $$BEGIN RAISE LOG 'ALTER ROLE nobody PASSWORD ''hunter2-hunter2'''; END$$";
    server.ok(&["psql", "orders", "-d", "shop", "--", "-qc", sql]);
    let log = server.ok(&["logs", "orders", "--tail", "1000"]).stdout;
    assert!(log.contains("ALTER ROLE nobody PASSWORD …"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    let two = server
        .ok(&["logs", "orders", "n2", "-n", "2", "-o", "json"])
        .stdout;
    let two: Vec<String> = serde_json::from_str(&two).unwrap();
    assert!((1..=2).contains(&two.len()), "{two:?}");
    assert_eq!(server.run(&["logs", "orders", "n9"]).code, 3);
    let many = server.run(&["logs", "orders", "--tail", "1001"]);
    assert!(many.code == 2 && many.stderr.contains("tail"), "{many:?}");
}

/// The catalogue: what nobody has comes and goes.
fn versions(server: &Server) {
    server.ok(&[
        "versions",
        "create",
        "Old",
        "--image",
        "postgres:14.1",
        "--description",
        "for nobody",
    ]);
    let shown = server.ok(&["versions", "show", "14.1"]).stdout;
    assert!(shown.contains("for nobody"), "{shown}");
    let edited = server
        .ok(&["versions", "edit", "Old", "--deprecated", "true", "-o", "json"])
        .stdout;
    assert!(edited.contains("\"deprecated\": true"), "{edited}");
    assert_eq!(server.run(&["create", "x", "--version", "14.1"]).code, 2);
    server.ok(&["versions", "delete", "Old", "--yes"]);
    assert_eq!(server.run(&["versions", "show", "14.1"]).code, 3);
}

fn on_a_terminal(server: &Server) {
    let listed = terminal::run(server, &["instances", "list"], &[]);
    assert!(
        listed.screen.contains("\x1b[") && listed.screen.contains("ACTIVE"),
        "{listed:?}"
    );
    let plain = terminal::run(server, &["--color", "never", "instances", "list"], &[]);
    assert!(!plain.screen.contains('\x1b'), "{plain:?}");
    // A password is asked for twice and not shown.
    let typed = [
        ("Password of second: ", "battery staple\n"),
        ("Once more: ", "battery staple\n"),
    ];
    let made = terminal::run(server, &["users", "create", "orders", "second", "--wait"], &typed);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(!made.screen.contains("battery"), "{made:?}");
    let differ = [
        ("Password of third: ", "battery staple\n"),
        ("Once more: ", "battery\n"),
    ];
    let refused = terminal::run(server, &["users", "create", "orders", "third"], &differ);
    assert!(
        refused.code == 2 && refused.screen.contains("not the same"),
        "{refused:?}"
    );
    // What is destructive is asked first.
    let delete = ["users", "delete", "orders", "second", "--wait"];
    let no = terminal::run(server, &delete, &[("[y/N] ", "n\n")]);
    assert!(
        no.code == 1 && no.screen.contains("Drop the user \"second\" of \"orders\"?"),
        "{no:?}"
    );
    server.ok(&["users", "show", "orders", "second"]);
    let yes = terminal::run(server, &delete, &[("[y/N] ", "y\n")]);
    assert_eq!(yes.code, 0, "{yes:?}");
    assert_eq!(server.run(&["users", "show", "orders", "second"]).code, 3);
    // Steps and a spinner.
    let stopped = terminal::run(server, &["restart", "orders", "--wait"], &[]);
    assert!(
        stopped.code == 0 && stopped.screen.contains("restart_requested"),
        "{stopped:?}"
    );
}

fn names_and_uuids(server: &Server) {
    let project = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
    let elsewhere = server.ok(&[
        "create",
        "orders",
        "--unprotected",
        "--project",
        project,
        "-o",
        "json",
    ]);
    let elsewhere: serde_json::Value = serde_json::from_str(&elsewhere.stdout).unwrap();
    let uuid = elsewhere["uuid"].as_str().unwrap();
    let ambiguous = server.run(&["instances", "show", "orders"]);
    assert_eq!(ambiguous.code, 2, "{ambiguous:?}");
    screens::equal("ambiguous", &ambiguous.stderr);
    assert!(ambiguous.stderr.contains(uuid), "{ambiguous:?}");
    server.ok(&["instances", "show", uuid]);
    server.ok(&["instances", "delete", uuid, "--yes", "--wait"]);
    server.ok(&["instances", "show", "orders"]);
}

fn failures_have_their_codes(server: &Server) {
    let fields = server.run(&["create", "x", "--cpu", "0", "--ram", "1", "--nodes", "17"]);
    assert_eq!(fields.code, 2, "{fields:?}");
    screens::equal("fields", &fields.stderr);
    for (code, text, arguments) in [
        (
            3,
            "there is no instance \"nobody\"",
            &["instances", "show", "nobody"][..],
        ),
        (3, "has no node", &["switchover", "orders", "--to", "n9"]),
        (3, "there is no version \"9\"", &["create", "x", "--version", "9"]),
        (4, "is taken", &["create", "orders"]),
        (4, "shop", &["users", "delete", "orders", "app", "--yes"]),
        (2, "nothing to change", &["instances", "edit", "orders"]),
        (2, "nobody can be asked here", &["instances", "delete", "orders"]),
        (2, "--generate-password", &["users", "create", "orders", "x"]),
        (2, "--disk", &["instances", "edit", "orders", "--disk", "8"]),
        (
            5,
            "--timeout waits longer",
            &["restart", "orders", "--wait", "--timeout", "1ms"],
        ),
    ] {
        let failed = server.run(arguments);
        assert!(
            failed.code == code && failed.stderr.contains(text),
            "{arguments:?}: {failed:?}"
        );
        assert!(
            failed.stderr.contains("error: ") && failed.stdout.is_empty(),
            "{failed:?}"
        );
    }
}

fn operations(server: &Server) {
    let stopped = server.ok(&["stop", "orders", "--wait"]).stdout;
    assert!(stopped.contains("stopped"), "{stopped}");
    server.ok(&["start", "orders", "--wait"]);
    let nodes = |role: &str| {
        let nodes = server.ok(&["nodes", "list", "orders", "-o", "json"]).stdout;
        let nodes: Vec<serde_json::Value> = serde_json::from_str(&nodes).unwrap();
        let node = nodes.iter().find(|node| node["role"] == role).unwrap();
        node["name"].as_str().unwrap().to_owned()
    };
    let standby = nodes("standby");
    server.ok(&["switchover", "orders", "--to", &standby, "--wait"]);
    assert_eq!(nodes("primary"), standby);
    // A primary that serves is not failed over from: that is refused, or, if it was not seen to serve a
    // moment ago, told.
    let failover = server.run(&["failover", "orders", "--wait"]);
    assert!([0, 4].contains(&failover.code), "{failover:?}");
    let told = ["failover_requested", "actions/switchover"];
    assert!(
        told.iter().any(|told| failover.stderr.contains(told)),
        "{failover:?}"
    );
    assert_eq!(nodes("primary"), standby);
    let asked = server.run(&["failover", "orders", "--allow-data-loss"]);
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    server.ok(&[
        "instances",
        "edit",
        "orders",
        "--nodes",
        "1",
        "--description",
        "the shop",
        "--wait",
    ]);
    let shown = server.ok(&["instances", "show", "orders"]).stdout;
    assert!(shown.contains("the shop"), "{shown}");
}

fn deletion(server: &Server) {
    // The log of one that goes can be followed to its end, through a pipe.
    let follow = server
        .command(&["events", "list", "orders", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let refused = server.run(&["instances", "delete", "orders", "--yes"]);
    assert!(
        refused.code == 4 && refused.stderr.contains("\"orders\" is protected"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("--unprotect"), "what to do: {refused:?}");
    server.ok(&["instances", "edit", "orders", "--unprotect"]);
    let refused = server.run(&["instances", "delete", "orders", "--yes"]);
    assert!(
        refused.code == 4 && refused.stderr.contains("\"shop\" is protected"),
        "one of its databases: {refused:?}"
    );
    server.ok(&["databases", "edit", "orders", "shop", "--unprotect"]);
    let gone = server.ok(&[
        "instances",
        "delete",
        "orders",
        "--yes",
        "--wait",
        "--timeout",
        "2m",
    ]);
    assert!(gone.stderr.contains("orders is gone"), "{gone:?}");
    let followed = Done::of(follow.wait_with_output().unwrap());
    assert!(
        followed.code == 0 && followed.stdout.contains("create_requested"),
        "{followed:?}"
    );
    assert_eq!(server.run(&["instances", "show", "orders"]).code, 3);
    let none = server.ok(&["instances", "list", "-o", "json"]).stdout;
    assert_eq!(none, "[]\n");
    // Enough is read: a pipe that closes early is no failure.
    let mut child = server
        .command(&["versions", "list"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    std::thread::sleep(Duration::from_millis(1));
    assert!(child.wait().unwrap().success());
    let _ = std::io::stderr().flush();
}

const MANIFEST: &str = r#"
name: shelf
version: 1.0.0
resources:
  $core.secret.passwords:
    key: {method: AUTO_HEX, default_length: 20}
  $core.vs.variables:
    region: {value: "{{ region }}"}
  $core.config.configs:
    env:
      path: /etc/app.env
      body: {kind: text, content: 'f"KEY={$core.secret.passwords.$key:value} REGION={$core.vs.variables.$region:value}"'}
"#;

fn manifests(server: &Server) {
    let file = server.directory.path().join("shelf.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let file = file.to_str().unwrap();
    let north = ["--set", "region=north"];
    let planned = server.ok(&[&["plan", file], &north[..]].concat());
    screens::equal("plan", &planned.stdout);
    let applied = server.ok(&[&["apply", file, "--wait"], &north[..]].concat());
    screens::equal("apply", &applied.stdout);
    let again = server.ok(&[&["plan", file], &north[..]].concat());
    assert_eq!(again.stdout, "nothing to do\n");
    let changed = server.ok(&["plan", file, "--set", "region=south", "-o", "json"]);
    let changed: serde_json::Value = serde_json::from_str(&changed.stdout).unwrap();
    assert_eq!(changed["unchanged"], 1, "{changed}");
    // Every error with its place; what was kept for the attempt is not kept.
    let wrong = server.directory.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        MANIFEST
            .replace("AUTO_HEX", "AUTO")
            .replace("$region:value", "$regoin:value"),
    )
    .unwrap();
    let refused = server.run(&[&["apply", wrong.to_str().unwrap()], &north[..]].concat());
    assert_eq!(refused.code, 2, "{refused:?}");
    screens::equal("manifest-errors", &refused.stderr);
    let asked = server.run(&["uninstall", "shelf"]);
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    let gone = server.ok(&["uninstall", file, "--yes", "--wait"]);
    assert!(gone.stderr.contains("shelf is gone"), "{gone:?}");
    assert_eq!(server.run(&["uninstall", "shelf", "--yes"]).code, 3);
}
