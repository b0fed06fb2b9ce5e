//! An element with an instance on a server that is killed while it is applied.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::program::{Server, has_postgres};

/// A crash takes at most so long to be seen and mended.
const DEADLINE: Duration = Duration::from_secs(120);

const SHOP: &str = r#"
name: shop
version: 1.0.0
resources:
  $core.secret.passwords:
    app: {method: AUTO_HEX, default_length: 40}
    reports: {}
  $dbaas.types.postgres.instances:
    db:
      name: shop
      cpu: 1
      ram: 1024
      disk_size: 10
      nodes_number: 1
      version: $dbaas.types.postgres.versions.$VERSION:uuid
      parameters: {work_mem: 32MB}
  $dbaas.types.postgres.instances.$db.users:
    app: {name: app, password: $core.secret.passwords.$app:value}
    reports: {name: reports, password: $core.secret.passwords.$reports:value}
  $dbaas.types.postgres.instances.$db.databases:
    shop:
      name: shop
      owner: $dbaas.types.postgres.instances.$db.users.$app:uuid
      extensions: [citext]
      access:
        - {user: $dbaas.types.postgres.instances.$db.users.$reports:uuid, level: read}
  $core.config.configs:
    env:
      path: /etc/shop.env
      body:
        kind: text
        content: f"
          USER={$dbaas.types.postgres.instances.$db.users.$app:name}
          PASSWORD={$core.secret.passwords.$app:value}
          PORT={$dbaas.types.postgres.instances.$db:to_str(port)}
          "
"#;

#[test]
fn an_apply_that_a_crash_cut_short_is_finished_by_another() {
    if !has_postgres() {
        return;
    }
    let mut server = Server::start();
    let versions = server.ok(&["versions", "list", "-o", "json"]).stdout;
    let versions: serde_json::Value = serde_json::from_str(&versions).unwrap();
    let image = versions[0]["image"].as_str().unwrap();
    let tag = image.rsplit(':').next().unwrap();
    let major = format!("pg{}", tag.split('.').next().unwrap());
    let file = server.directory.path().join("shop.yaml");
    std::fs::write(&file, SHOP.replace("VERSION", &major)).unwrap();
    let file = file.to_str().unwrap();

    let planned = server.ok(&["plan", file]).stdout;
    assert_eq!(planned.lines().count(), 8, "{planned}");
    server.ok(&["apply", file]);
    // As soon as the instance is asked for: the rest is not.
    let until = Instant::now() + DEADLINE;
    while server.ok(&["instances", "list", "-o", "json"]).stdout == "[]\n" {
        assert!(Instant::now() < until, "it never begins");
    }
    server.killed_and_started_again();
    let applied = server.ok(&["apply", file, "--wait"]);
    assert!(applied.stdout.contains("ACTIVE"), "{applied:?}");
    assert_eq!(server.ok(&["plan", file]).stdout, "nothing to do\n");

    // What the rendered config says is enough to log in, and everything is as declared.
    let config = config(&server);
    let line = |name: &str| {
        let found = config.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("{name} is not in the config"))
            .to_owned()
    };
    let psql = |user: &str, password: &str, sql: &str| {
        let arguments = ["psql", "shop", "-U", user, "-d", "shop", "--", "-Atc", sql];
        let output = server
            .command(&arguments)
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(line("USER="), "app");
    assert!(line("PORT=").parse::<u16>().is_ok());
    let password = line("PASSWORD=");
    assert_eq!(password.len(), 40);
    assert_eq!(
        psql("app", &password, "CREATE TABLE t(c citext); SHOW work_mem"),
        "CREATE TABLE\n32MB\n"
    );
    let access = server.ok(&["databases", "access", "list", "shop", "shop"]).stdout;
    assert!(access.contains("reports") && access.contains("read"), "{access}");

    // A changed field changes just that; deletion is asked for.
    std::fs::write(file, SHOP.replace("VERSION", &major).replace("32MB", "16MB")).unwrap();
    let planned = server.ok(&["plan", file, "-o", "json"]).stdout;
    let planned: serde_json::Value = serde_json::from_str(&planned).unwrap();
    assert_eq!(planned["steps"].as_array().unwrap().len(), 1, "{planned}");
    assert_eq!(
        planned["steps"][0]["changes"][0]["field"], "parameters",
        "{planned}"
    );
    server.ok(&["apply", file, "--wait"]);
    assert_eq!(psql("app", &password, "SHOW work_mem"), "16MB\n");
    let refused = server.run(&["uninstall", "shop", "--yes", "--wait"]);
    assert!(refused.code == 4 && refused.stderr.contains("$db"), "{refused:?}");
    server.ok(&["uninstall", "shop", "--yes", "--allow-destroy", "--wait"]);
    assert_eq!(server.ok(&["instances", "list", "-o", "json"]).stdout, "[]\n");
}

/// The text of the only config, which no command shows.
fn config(server: &Server) -> String {
    let address = server.url.trim_start_matches("http://");
    let get = |path: &str| -> serde_json::Value {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    };
    let configs = get("/v1/config/configs");
    let id = configs["configs"][0]["uuid"].as_str().unwrap();
    let config = get(&format!("/v1/config/configs/{id}"));
    config["content"].as_str().unwrap().to_owned()
}
