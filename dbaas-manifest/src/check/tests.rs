use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::collection::{Collection, Key};
use crate::model::ElementFacts;

const DEMO: &str = include_str!("../../examples/demo.yaml");

fn around() -> Surroundings {
    let element = |version: &str| ElementFacts {
        version: version.parse().unwrap(),
        exports: BTreeMap::new(),
    };
    let mut shared = element("2.1.0-rc.1");
    let link = "$dbaas.types.postgres.instances.$main".to_owned();
    shared
        .exports
        .insert(link, (Collection::Instances, Uuid::from_u128(7)));
    let link = "$core.secret.passwords.$key".to_owned();
    shared
        .exports
        .insert(link, (Collection::Passwords, Uuid::from_u128(8)));
    Surroundings {
        variables: BTreeMap::from([("default_cores".to_owned(), 2.into())]),
        versions: BTreeMap::from([
            ("pg15".to_owned(), Uuid::from_u128(15)),
            ("pg18".to_owned(), Uuid::from_u128(18)),
        ]),
        elements: BTreeMap::from([
            ("core".to_owned(), element("1.0.0")),
            ("dbaas".to_owned(), element("1.0.0")),
            ("shared".to_owned(), shared),
        ]),
    }
}

fn check(text: &str) -> Result<Manifest, Refused> {
    read(text, &Options::default(), &around())
}

fn errors(text: &str) -> Vec<String> {
    let errors = check(text).map(|_| ()).unwrap_err().errors;
    errors.iter().map(ToString::to_string).collect()
}

fn is_told(text: &str, expected: &str) {
    let errors = errors(text);
    assert!(
        errors.iter().any(|error| error.contains(expected)),
        "{expected:?} is not in {errors:#?}"
    );
}

#[test]
fn the_specifications_example() {
    let manifest = check(DEMO).unwrap_or_else(|refused| panic!("{refused:#?}"));
    assert_eq!(
        (manifest.name.as_str(), manifest.version.to_string().as_str()),
        ("demo", "0.0.0")
    );
    let order: Vec<String> = manifest
        .resources
        .iter()
        .map(|found| found.key.to_string())
        .collect();
    assert_eq!(
        order,
        [
            "$core.secret.passwords.$demo_db_password",
            "$dbaas.types.postgres.instances.$cluster_pg",
            "$dbaas.types.postgres.instances.$cluster_pg.users.$demo_user",
            "$dbaas.types.postgres.instances.$cluster_pg.databases.$demo_db",
            "$core.config.configs.$demo_db_pass_cfg",
        ]
    );
    let warnings: Vec<String> = manifest.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["line 30, column 7: \"nodes_number\" stands in line 24 and again in line 30; the last one counts"]
    );
    let database = &manifest.resources[3];
    assert_eq!(
        database.uuid,
        Some("6bdc9203-bef4-4c63-9476-7d9729c43e7f".parse().unwrap())
    );
}

#[test]
fn all_errors_at_once_in_the_order_of_the_text() {
    let text = "
name: demo
vresion: 1.0.0
requirements:
  dbaas: {from_version: 1.10.0}
  nobody: {}
imports:
  pg99: {element: $dbaas, link: $dbaas.types.postgres.versions.$pg99}
resources:
  $core.compute.nodes:
    n: {}
  $core.secret.passwords:
    short: {default_length: 0, methd: AUTO_HEX}
  $dbaas.types.postgres.instances:
    db:
      name: db
      cpu: 0
      ram: many
      disk_size: 10
      version: $demo.imports.$pg99:uuid
  $dbaas.types.postgres.instances.$db.users:
    app:
      name: pg_app
      password: $core.secret.passwords.$shrt:value
  $dbaas.types.postgres.instances.$other.databases:
    x: {name: x, owner: $dbaas.types.postgres.instances.$db.users.$app:uuid}
";
    insta::assert_snapshot!(errors(text).join("\n"), @r#"
    line 3, column 1: vresion: a manifest has no such field; did you mean "version"?
    line 5, column 3: requirements/dbaas: "dbaas" >= 1.10.0 is needed, and there is 1.0.0
    line 6, column 3: requirements/nobody: there is no element "nobody"
    line 8, column 33: imports/pg99/link: there is no version "pg99"; the catalogue has pg15, pg18
    line 10, column 3: $core.compute.nodes: the kind $core.compute.nodes is not known here
    line 13, column 29: $core.secret.passwords.$short/default_length: must be a whole number between 1 and 512
    line 13, column 32: $core.secret.passwords.$short/methd: a password has no such field; did you mean "method"?
    line 17, column 12: $dbaas.types.postgres.instances.$db/cpu: must be between 1 and 128 cores, was 0
    line 18, column 12: $dbaas.types.postgres.instances.$db/ram: must be a whole number
    line 23, column 13: $dbaas.types.postgres.instances.$db.users.$app/name: must not begin with "pg_" in any case, which is reserved
    line 24, column 17: $dbaas.types.postgres.instances.$db.users.$app/password: the manifest declares no $core.secret.passwords.$shrt; did you mean "short"?
    line 26, column 5: $dbaas.types.postgres.instances.$other.databases.$x: the manifest declares no $dbaas.types.postgres.instances.$other
    line 26, column 25: $dbaas.types.postgres.instances.$other.databases.$x/owner: must be a user of the same instance
    "#);
}

#[test]
fn a_circle_is_told_with_its_path() {
    is_told(
        "name: x\nresources:\n  $core.vs.variables:\n    a: {value: $core.vs.variables.$b:value}\n    b: {value: 'f\"{$core.vs.variables.$a:value}\"'}\n",
        "in a circle: $core.vs.variables.$a -> $core.vs.variables.$b -> $core.vs.variables.$a",
    );
}

#[test]
fn references_lead_somewhere() {
    let with = |value: &str| {
        format!(
            "name: x\nresources:\n  $core.vs.variables:\n    a: {{value: 1}}\n    b: {{value: '{value}'}}\n"
        )
    };
    for (value, expected) in [
        ("$core.vs.variables.$c:value", "declares no $core.vs.variables.$c"),
        (
            "$core.vs.variables.$a:vale",
            "has no field \"vale\"; did you mean \"value\"?",
        ),
        ("$core.vs.variables.$a", "names no field"),
        ("$x.imports.$none:uuid", "there is no import \"none\""),
        (
            "$y.imports.$none:uuid",
            "the imports of another element; this one is $x",
        ),
        ("$core.compute.nodes.$n:ipv4", "leads nowhere"),
        ("$dbaas.types.postgres.versions.$pg1:uuid", "no version \"pg1\""),
        ("$nonsense:", "not a reference"),
        ("f\"{$core.vs.variables.$a}\"", "names no field"),
        ("f\"{$core.vs.variables.$c:value}\"", "declares no"),
    ] {
        is_told(&with(value), expected);
    }
    assert!(check(&with("$core.vs.variables.$default_cores:value")).is_ok());
    assert!(check(&with("$dbaas.types.postgres.versions.$pg15:uuid")).is_ok());
}

#[test]
fn requirements_are_compared_as_versions() {
    let with = |bounds: &str| format!("name: x\nrequirements: {{shared: {{{bounds}}}}}\n");
    for good in [
        "from_version: 2.1.0-alpha",
        "to_version: 2.1.0",
        "'<': 2.1",
        "'>': 2.0.99, '<=': 3",
        "'==': 2.1.0-rc.1",
    ] {
        assert!(check(&with(good)).is_ok(), "{good}");
    }
    // A release is above its pre-releases.
    is_told(
        &with("from_version: 2.1.0"),
        "\"shared\" >= 2.1.0 is needed, and there is 2.1.0-rc.1",
    );
    is_told(&with("'>=': 10"), ">= 10.0.0");
    is_told(&with("from: 1"), "no such field");
    is_told(&with("from_version: one"), "semantic version");
}

#[test]
fn resources_within_an_instance_of_another_element() {
    let text = "
name: app
imports:
  main: {element: $shared, kind: resource, link: $dbaas.types.postgres.instances.$main}
resources:
  $core.secret.passwords:
    p: {}
  $app.imports.$main.users:
    u: {name: u, password: $core.secret.passwords.$p:value, instance: $app.imports.$main:uuid}
  $app.imports.$main.databases:
    d: {name: d, owner: $app.imports.$main.users.$u:uuid}
";
    let manifest = check(text).unwrap_or_else(|refused| panic!("{refused:#?}"));
    assert_eq!(manifest.resources.len(), 3);
    is_told(
        &text.replace("$shared", "$nobody"),
        "there is no element \"nobody\"",
    );
    is_told(
        &text.replace("instances.$main}", "instances.$other}"),
        "exports no such thing",
    );
    is_told(
        &text.replace(
            "$dbaas.types.postgres.instances.$main}",
            "$core.secret.passwords.$key}",
        ),
        "is not an instance",
    );
}

#[test]
fn unknown_kinds_and_what_refers_to_them_can_be_left_out() {
    let text = "
name: x
resources:
  $core.compute.nodes: {n: {cores: 1}}
  $core.vs.variables:
    a: {value: $core.compute.nodes.$n:ipv4}
    b: {value: 'f\"{$core.vs.variables.$a:value}\"'}
    c: {value: 1}
";
    is_told(text, "$core.compute.nodes is not known");
    let options = Options {
        skip_unknown: true,
        ..Options::default()
    };
    let manifest = read(text, &options, &around()).unwrap_or_else(|refused| panic!("{refused:#?}"));
    let kept: Vec<&Key> = manifest.resources.iter().map(|found| &found.key).collect();
    assert_eq!(
        kept.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        ["c"]
    );
    assert_eq!(manifest.skipped.len(), 3, "{:?}", manifest.skipped);
}

#[test]
fn jinja_needs_its_variables() {
    let text = "name: x\nversion: \"{{ version }}\"\n";
    is_told(text, "--set");
    is_told("name: x\nversion: {{ version }}\n", "--set");
    let options = Options {
        variables: BTreeMap::from([("version".to_owned(), "1.2.3".to_owned())]),
        ..Options::default()
    };
    assert_eq!(
        read(text, &options, &around()).unwrap().version.to_string(),
        "1.2.3"
    );
    // A template of a config has variables of its own.
    let config = "name: x\nresources: {$core.config.configs: {c: {body: {kind: template, template: 'a={{ a }}', variables: {a: 1}}}}}\n";
    assert!(check(config).is_ok());
}

#[test]
fn bounds_and_names() {
    let many: String = (0..=crate::limits::RESOURCES_MAX)
        .map(|n| format!("    v{n}: {{value: {n}}}\n"))
        .collect();
    is_told(
        &format!("name: x\nresources:\n  $core.vs.variables:\n{many}"),
        "at most 1000 resources, not 1001",
    );
    is_told("name: 'a b'\n", "is not a name");
    is_told("resources: {}\n", "the element has no name");
    is_told(
        "name: x\nresources: {$core.vs.variables: {'a.b': {value: 1}}}\n",
        "is not a name",
    );
    is_told(
        "name: x\nresources: {$core.secret.passwords: {a: {method: MANUAL}}}\n",
        "needs a value",
    );
    is_told(
        "name: x\nresources: {$core.secret.passwords: {a: {value: hunter22}}}\n",
        "method MANUAL only",
    );
    is_told(
        "name: x\nresources: {$core.config.configs: {a: {body: {kind: text, content: x}, on_change: {kind: shell}}}}\n",
        "nothing of ours runs on nodes",
    );
    is_told(
        "name: x\nresources:\n  $core.secret.passwords: {p: {default_length: 120}}\n  $dbaas.types.postgres.instances: {i: {name: i, cpu: 1, ram: 512, disk_size: 8, version: $dbaas.types.postgres.versions.$pg15:uuid}}\n  $dbaas.types.postgres.instances.$i.users: {u: {name: u, password: $core.secret.passwords.$p:value}}\n",
        "has 120 characters, and a user's password has 8 to 99",
    );
    is_told("- 1\n", "a manifest is a map, not a list");
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    let text =
        "name: x\nresources: {$dbaas.types.postgres.instances.$i.users: {u: {name: u, password: hunt}}}\n";
    let refused = check(text).unwrap_err();
    assert!(!format!("{refused:?} {refused}").contains("hunt"), "{refused:?}");
    is_told(text, "between 8 and 99 characters");
}

fn with_access(access: &str, parameters: &str) -> String {
    format!(
        "name: demo
resources:
  $dbaas.types.postgres.instances:
    one: {{name: one, cpu: 1, ram: 512, disk_size: 8, version: $dbaas.types.postgres.versions.$pg18:uuid, parameters: {parameters}}}
    two: {{name: two, cpu: 1, ram: 512, disk_size: 8, version: $dbaas.types.postgres.versions.$pg18:uuid}}
  $dbaas.types.postgres.instances.$one.users:
    app: {{name: app, password: correct horse}}
    reads: {{name: reads, password: correct horse}}
  $dbaas.types.postgres.instances.$two.users:
    other: {{name: other, password: correct horse}}
  $dbaas.types.postgres.instances.$one.databases:
    shop:
      name: shop
      owner: $dbaas.types.postgres.instances.$one.users.$app:uuid
      access: {access}
"
    )
}

#[test]
fn access_and_parameters() {
    let user = |name: &str| format!("$dbaas.types.postgres.instances.{name}:uuid");
    let reads = user("$one.users.$reads");
    let access = format!("[{{user: {reads}, level: read}}]");
    let manifest = check(&with_access(
        &access,
        "{work_mem: 64MB, max_connections: 300, jit: false}",
    ));
    let manifest = manifest.unwrap_or_else(|refused| panic!("{refused:#?}"));
    let database = manifest
        .resources
        .iter()
        .find(|found| found.key.collection == Collection::Databases)
        .unwrap();
    assert_eq!(database.dependencies().len(), 3, "both users and the instance");
    let rule =
        |name: &str, value: serde_json::Value| (Collection::Instances.field(name).unwrap().rule)(&value);
    let settings = serde_json::json!({"Work_Mem": "64MB", "max_connections": 300, "jit": false});
    let canonical = serde_json::json!({"work_mem": "64MB", "max_connections": "300", "jit": "off"});
    assert_eq!(rule("parameters", settings), Ok(canonical));
    for (access, parameters, expected) in [
        ("[]", "[work_mem]", "must be a map of PostgreSQL's settings"),
        ("[]", "{work_mem: 1, WORK_MEM: 2}", "work_mem is there twice"),
        (
            "[]",
            "{work_mem: [1]}",
            "work_mem must be text, a number, true or false",
        ),
        ("shop", "{}", "must be a list of {user, level}"),
        ("[{level: read}]", "{}", "entry 1: user is missing"),
    ] {
        is_told(&with_access(access, parameters), expected);
    }
    let entry = |user: &str, level: &str| format!("[{{user: {user}, level: {level}}}]");
    let uuid = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
    is_told(
        &with_access(&entry(uuid, "admin"), "{}"),
        "level must be read, write or owner",
    );
    is_told(
        &with_access(&entry(&user("$two.users.$other"), "read"), "{}"),
        "user must be a user of the same instance",
    );
    is_told(
        &with_access(&entry(&user("$one.users.$red"), "read"), "{}"),
        "declares no",
    );
    let twice = format!("[{{user: {uuid}, level: read}}, {{user: {uuid}, level: write}}]");
    is_told(
        &with_access(&twice, "{}"),
        "entry 2: names a user that an entry before it names",
    );
}
