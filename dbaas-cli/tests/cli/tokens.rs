//! Tokens, made and used from the command line, and a context with one.

use std::os::unix::fs::PermissionsExt as _;

use crate::program::{Done, Server, command, has_postgres};

#[test]
fn a_token_is_made_used_and_deleted() {
    if !has_postgres() {
        return;
    }
    let server = Server::with_tokens("0123456789abcdef");
    let project = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
    let with = |token: &str, arguments: &[&str]| {
        let mut command = command(arguments);
        Done::of(
            command
                .env("DBAAS_URL", &server.url)
                .env("DBAAS_TOKEN", token)
                .output()
                .unwrap(),
        )
    };
    let none = with("", &["instances", "list"]);
    assert!(none.code == 1 && none.stderr.contains("DBAAS_TOKEN"), "{none:?}");
    let made = server.ok(&[
        "tokens",
        "create",
        "ci",
        "--project",
        project,
        "--scope",
        "*.read",
    ]);
    assert!(made.stderr.contains("shown this once"), "{made:?}");
    let line = made
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("token"))
        .unwrap();
    let token = line.trim().to_owned();
    assert_eq!(with(&token, &["instances", "list"]).code, 0);
    let refused = with(&token, &["create", "orders"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("instance.create"),
        "{refused:?}"
    );
    let refused = with(&token, &["tokens", "list"]);
    assert_eq!(refused.code, 1, "{refused:?}");

    // In a context of the configuration file.
    let file = server.directory.path().join("config.yaml");
    let url = &server.url;
    std::fs::write(
        &file,
        format!("current: ci\ncontexts:\n  ci: {{ url: \"{url}\", token: {token} }}\n"),
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let listed = Done::of(
        command(&["versions", "list"])
            .env("DBAAS_CONFIG", &file)
            .output()
            .unwrap(),
    );
    assert!(
        listed.code == 0 && listed.stdout.contains("postgres:"),
        "{listed:?}"
    );

    let wrong = server.run(&["tokens", "edit", "ci", "--scope", "everything"]);
    assert!(
        wrong.code == 2 && wrong.stderr.contains("--scopes: a scope is"),
        "{wrong:?}"
    );
    let edited = server.ok(&[
        "tokens",
        "edit",
        "ci",
        "--name",
        "robot",
        "--scope",
        "*.read",
        "--scope",
        "instance.*",
    ]);
    assert!(edited.stdout.contains("*.read, instance.*"), "{edited:?}");
    let listed = server.ok(&["tokens", "list"]).stdout;
    assert!(
        listed.contains("robot") && listed.contains(project) && !listed.contains(&token),
        "{listed}"
    );
    assert_eq!(server.run(&["tokens", "show", "ci"]).code, 3);
    assert_eq!(server.run(&["tokens", "delete", "robot"]).code, 2);
    server.ok(&["tokens", "delete", "robot", "--yes"]);
    assert_eq!(with(&token, &["instances", "list"]).code, 1);
}
