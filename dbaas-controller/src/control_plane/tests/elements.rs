//! Manifests applied through the façade, with an engine that does at once what it is asked for.

use std::time::Duration;

use dbaas_core::database::DatabaseRecord;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::store::StoreErrorKind;
use dbaas_core::user::UserRecord;
use dbaas_manifest::plan::{Action, Destroy};

use super::*;
use crate::elements::record::ElementStatus;
use crate::elements::{ApplyOptions, ElementPlan, ManifestRequest, Reach};

mod resume;

const DEMO: &str = include_str!("../../../../dbaas-manifest/examples/demo.yaml");

fn demo() -> String {
    DEMO.replace("pg18", "pg16")
}

fn allowed() -> ApplyOptions {
    ApplyOptions {
        destroy: Destroy::Allow,
        timeout: Duration::from_secs(60),
    }
}

fn refused() -> ApplyOptions {
    ApplyOptions {
        destroy: Destroy::Refuse,
        ..allowed()
    }
}

/// Brings everything to what was asked for, again and again.
async fn engine(world: &World) {
    loop {
        let _ = turn(world).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn turn(world: &World) -> Result<(), StoreError> {
    let repository = world.repository();
    for id in repository.list_instance_ids().await? {
        let Some(instance) = repository.load_instance(id).await? else {
            continue;
        };
        let users = repository.load_users(id).await?;
        let databases = repository.load_databases(id).await?;
        if instance.record.desired == DesiredState::Deleted {
            let _ = repository
                .commit(Change::new().remove_instance(&instance, &databases, &users))
                .await;
            continue;
        }
        let mut record = instance.record.clone();
        let mut change = Change::new();
        for read in databases {
            let mut found = read.record.clone();
            if found.deleting {
                record.dropped.note(found.id.uuid());
                change = change.delete(&read);
            } else if found.lifecycle != ObjectLifecycle::Active {
                found.lifecycle = ObjectLifecycle::Active;
                (change, _) = change.observe(found, &read);
            }
        }
        for read in users {
            let mut found = read.record.clone();
            if found.deleting {
                record.dropped.note(found.id.uuid());
                change = change.delete(&read);
            } else if found.lifecycle != ObjectLifecycle::Active {
                found.lifecycle = ObjectLifecycle::Active;
                (change, _) = change.observe(found, &read);
            }
        }
        if record.status.observed_generation < record.generation {
            record.status.observed_generation = record.generation;
            record.status.lifecycle = Lifecycle::Active;
            if record.nodes.is_empty() {
                record.nodes = (1..=record.spec.nodes.get()).map(node).collect();
            }
            record.status.primary_endpoint = record.nodes[0].endpoint.clone();
        }
        if record != instance.record {
            (change, _) = change.observe(record, &instance);
        }
        let _ = repository.commit(change).await;
        world.control.inner.ports.hint(id);
    }
    Ok(())
}

async fn with_engine<T>(world: &World, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        () = engine(world) => unreachable!(),
    }
}

async fn apply(world: &World, text: &str, options: ApplyOptions) -> Result<ElementPlan, ControlError> {
    let request = ManifestRequest::new(text);
    with_engine(world, world.control.apply_manifest(request, options))
        .await
        .map(|(_, plan)| plan)
}

async fn plan(world: &World, text: &str) -> Result<ElementPlan, ControlError> {
    world
        .control
        .plan_manifest(ManifestRequest::new(text), Destroy::Refuse)
        .await
}

const ALL: Page<Uuid> = Page {
    after: None,
    limit: 1_000,
};

async fn content(world: &World) -> String {
    let configs = world.control.configs(None, ALL).await.unwrap();
    let id = configs.items[0].id;
    world
        .control
        .config_content(id, "the test")
        .await
        .unwrap()
        .expose()
        .to_owned()
}

async fn element(world: &World) -> crate::view::Element {
    world.control.elements(None, ALL).await.unwrap().items[0].clone()
}

#[tokio::test(start_paused = true)]
async fn the_example_is_applied_and_then_there_is_nothing_to_do() {
    let world = World::new().await;
    let first = apply(&world, &demo(), refused()).await.unwrap();
    assert_eq!(first.steps.len(), 5);
    let element = element(&world).await;
    assert_eq!(
        (element.name.as_str(), element.status),
        ("demo", ElementStatus::Active)
    );

    let passwords = world.control.passwords(None, ALL).await.unwrap();
    let value = world
        .control
        .password_value(passwords.items[0].id, "the test")
        .await
        .unwrap();
    assert_eq!(value.expose().len(), 32);
    let expected = format!(
        "DB_USER=demo_user\nDB_PASS={}\nDB_NODES=127.0.0.1\n",
        value.expose()
    );
    assert_eq!(content(&world).await, expected);
    let user = world
        .repository()
        .all::<UserRecord>(None)
        .await
        .unwrap()
        .remove(0);
    assert!(
        user.record
            .verifier
            .verify(&Password::new(value.expose()).unwrap())
    );
    let databases = world.repository().all::<DatabaseRecord>(None).await.unwrap();
    assert_eq!(
        databases[0].record.id.to_string(),
        "6bdc9203-bef4-4c63-9476-7d9729c43e7f"
    );

    // Again, and after a restart: nothing is written.
    let before = (world.store.document_count(), self::element(&world).await);
    assert!(plan(&world, &demo()).await.unwrap().is_empty());
    assert!(apply(&world, &demo(), refused()).await.unwrap().is_empty());
    let restarted = world.restarted().await;
    let again = restarted
        .plan_manifest(ManifestRequest::new(demo()), Destroy::Refuse)
        .await
        .unwrap();
    assert!(again.is_empty());
    assert_eq!(
        (world.store.document_count(), self::element(&world).await),
        before
    );
    assert_eq!(content(&world).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_changed_field_changes_just_that() {
    let world = World::new().await;
    apply(&world, &demo(), refused()).await.unwrap();
    let before = content(&world).await;
    let changed = demo().replace("ram: 1024", "ram: 2048");
    let plan = apply(&world, &changed, refused()).await.unwrap();
    let done: Vec<&Action> = plan
        .steps
        .iter()
        .map(|step| &step.action)
        .filter(|action| **action != Action::Nothing)
        .collect();
    assert!(
        matches!(done.as_slice(), [Action::Update { changes }] if changes.len() == 1 && changes[0].field == "ram"),
        "{done:?}"
    );
    assert_eq!(content(&world).await, before);

    // Another value of the password is asked for: the user and the config get it, too.
    let rotated = changed.replace("description: \"Demo password\"", "rotation: 1");
    apply(&world, &rotated, refused()).await.unwrap();
    let after = content(&world).await;
    assert_ne!(after, before);
    let value = after
        .lines()
        .find_map(|line| line.strip_prefix("DB_PASS="))
        .unwrap();
    let user = world
        .repository()
        .all::<UserRecord>(None)
        .await
        .unwrap()
        .remove(0);
    assert!(user.record.verifier.verify(&Password::new(value).unwrap()));
    assert!(self::plan(&world, &rotated).await.unwrap().is_empty());
}

fn with_access(parameters: &str, access: &str) -> String {
    let user = "$dbaas.types.postgres.instances.$cluster_pg.users.$reads:uuid";
    demo()
        .replace("      ram: 1024\n", &format!("      ram: 1024\n      parameters: {parameters}\n"))
        .replace(
            "      name: demo_db\n",
            &format!("      name: demo_db\n      access: {}\n", access.replace("READS", user)),
        )
        .replace(
            "    demo_user:\n",
            "    reads:\n      name: reads\n      password: $core.secret.passwords.$demo_db_password:value\n    demo_user:\n",
        )
}

#[tokio::test(start_paused = true)]
async fn parameters_and_access_are_as_the_manifest_says() {
    let world = World::new().await;
    let first = with_access("{work_mem: 64MB, jit: false}", "[{user: READS, level: read}]");
    apply(&world, &first, refused()).await.unwrap();
    let seen = async || {
        let instance = world
            .repository()
            .all::<InstanceRecord>(None)
            .await
            .unwrap()
            .remove(0);
        let database = world
            .repository()
            .all::<DatabaseRecord>(None)
            .await
            .unwrap()
            .remove(0);
        let levels: Vec<String> = database
            .record
            .access
            .entries
            .iter()
            .map(|entry| entry.level.to_string())
            .collect();
        (instance.record.spec.parameters.to_string(), levels.join(" "))
    };
    assert_eq!(
        seen().await,
        ("jit = off, work_mem = 64MB".to_owned(), "read".to_owned())
    );
    assert!(plan(&world, &first).await.unwrap().is_empty());

    // Each changes alone; what is not said any more is taken back.
    let second = with_access("{work_mem: 32MB}", "[{user: READS, level: write}]");
    let planned = plan(&world, &second).await.unwrap();
    let fields: Vec<String> = planned
        .steps
        .iter()
        .flat_map(|step| match &step.action {
            Action::Update { changes } => changes.iter().map(|change| change.field.clone()).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(fields, ["parameters", "access"]);
    apply(&world, &second, refused()).await.unwrap();
    assert_eq!(seen().await, ("work_mem = 32MB".to_owned(), "write".to_owned()));
    assert!(plan(&world, &second).await.unwrap().is_empty());

    // The user goes with the access.
    apply(
        &world,
        &demo()
            .replace("      ram: 1024\n", "      ram: 1024\n      parameters: {}\n")
            .replace("      name: demo_db\n", "      name: demo_db\n      access: []\n"),
        refused(),
    )
    .await
    .unwrap();
    assert_eq!(seen().await, (String::new(), String::new()));
    assert_eq!(world.repository().all::<UserRecord>(None).await.unwrap().len(), 1);

    // What the version does not take is told with everything else, and nothing is done.
    let wrong = with_access("{work_mem: many, nonsense: 1, port: 1}", "[]").replace("cpu: 1", "cpu: 2");
    let Err(ControlError::Manifest { refused: findings }) = plan(&world, &wrong).await else {
        panic!()
    };
    assert_eq!(findings.errors.len(), 3, "{findings:?}");
    assert!(
        findings
            .errors
            .iter()
            .all(|found| found.path.contains("$cluster_pg/parameters/"))
    );
}

#[tokio::test(start_paused = true)]
async fn labels_are_as_the_manifest_says() {
    let world = World::new().await;
    let with = |labels: &str| demo().replace("      ram: 1024\n", &format!("      ram: 1024\n{labels}"));
    let seen = async || {
        let instances = world.repository().all::<InstanceRecord>(None).await.unwrap();
        instances[0].record.spec.labels.to_string()
    };
    let first = with("      labels: {team: shop, example.org/tier: two}\n");
    apply(&world, &first, refused()).await.unwrap();
    assert_eq!(seen().await, "example.org/tier:two, team:shop");
    assert!(plan(&world, &first).await.unwrap().is_empty());

    // What is not said any more goes; left out altogether, labels stay as they are.
    let second = with("      labels: {team: stock}\n");
    apply(&world, &second, refused()).await.unwrap();
    assert_eq!(seen().await, "team:stock");
    assert!(plan(&world, &demo()).await.unwrap().is_empty());

    let wrong = with("      labels: {Team: shop, tier: '-'}\n");
    let Err(ControlError::Manifest { refused: findings }) = plan(&world, &wrong).await else {
        panic!()
    };
    assert_eq!(findings.errors.len(), 1, "{findings:?}");
    assert!(findings.errors[0].message.contains("Team"), "{findings:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_before_anything_is_made() {
    let world = World::new().await;
    let documents = world.store.document_count();
    let wrong = demo()
        .replace("cpu: 1", "cpu: 1000")
        .replace("name: demo_user", "name: postgres");
    let Err(ControlError::Manifest { refused: findings }) = apply(&world, &wrong, refused()).await else {
        panic!()
    };
    assert_eq!(findings.errors.len(), 2, "{findings:?}");
    // A name that somebody has, and another project than the instance's.
    let taken = world
        .control
        .create_instance(CreateInstance {
            project: "12345678-c625-4fee-81d5-f691897b8142".parse().unwrap(),
            ..world.request("demo-cluster")
        })
        .await
        .unwrap();
    world.converge(taken.id).await;
    let Err(ControlError::Manifest { refused: findings }) = apply(&world, &demo(), refused()).await else {
        panic!()
    };
    assert!(
        findings.errors[0]
            .message
            .contains("is taken by another instance"),
        "{findings:?}"
    );
    let other = demo().replacen("project_id: \"1", "project_id: \"2", 1);
    let Err(ControlError::Manifest { refused: findings }) = apply(&world, &other, refused()).await else {
        panic!()
    };
    assert!(
        findings.errors[0]
            .message
            .contains("is another project than that of"),
        "{findings:?}"
    );
    let request = ManifestRequest {
        reach: Reach::OwnProject,
        ..ManifestRequest::new(demo())
    };
    let Err(ControlError::Manifest { refused: findings }) =
        world.control.plan_manifest(request, Destroy::Refuse).await
    else {
        panic!()
    };
    assert!(
        findings.errors[0].message.contains("than that of the token"),
        "{findings:?}"
    );
    // The instance, which the engine has seen meanwhile.
    assert_eq!(world.store.document_count(), documents + 3);
}

#[tokio::test(start_paused = true)]
async fn what_left_the_manifest_goes_by_the_rules_and_an_uninstall_leaves_nothing() {
    let world = World::new().await;
    let documents = world.store.document_count();
    apply(&world, &demo(), refused()).await.unwrap();
    // The instance was made by somebody else and is not touched.
    let foreign = world.instance("foreign").await;

    let without_config = demo().split("  # Configs").next().unwrap().to_owned();
    apply(&world, &without_config, refused()).await.unwrap();
    assert!(world.control.configs(None, ALL).await.unwrap().items.is_empty());
    let empty = "name: demo\n";
    let kept = apply(&world, empty, refused()).await.unwrap();
    let retained = kept
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::Retain { .. }))
        .count();
    assert_eq!(retained, 3, "{kept:?}");
    assert_eq!(
        world
            .repository()
            .all::<DatabaseRecord>(None)
            .await
            .unwrap()
            .len(),
        1
    );

    let id = element(&world).await.id;
    let error = with_engine(&world, world.control.uninstall_element(id, refused()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("$demo_db"), "{error}");
    with_engine(&world, world.control.uninstall_element(id, allowed()))
        .await
        .unwrap();
    assert!(world.control.elements(None, ALL).await.unwrap().items.is_empty());
    assert!(world.control.instance(foreign).await.is_ok());
    // All that is left is the instance of somebody else.
    assert_eq!(world.store.document_count(), documents + 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_made_by_the_element_is_not_taken() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let text = format!(
        "name: x\nresources:\n  $dbaas.types.postgres.instances:\n    i: {{uuid: {instance}, name: orders2, cpu: 2, ram: 1024, \
         disk_size: 16, version: $dbaas.types.postgres.versions.$pg15:uuid}}\n"
    );
    let error = apply(&world, &text, refused()).await.unwrap_err();
    assert!(
        error.to_string().contains("is taken by another instance"),
        "{error}"
    );
    let id = element(&world).await.id;
    with_engine(&world, world.control.uninstall_element(id, allowed()))
        .await
        .unwrap();
    assert!(world.control.instance(instance).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn elements_that_need_each_other() {
    let world = World::new().await;
    let shared = format!(
        "name: shared\nversion: 1.4.0\n{}exports:\n  main: {{link: $dbaas.types.postgres.instances.$cluster_pg}}\n",
        demo().replace("$demo.", "$shared.")
    );
    apply(&world, &shared, refused()).await.unwrap();
    let user = "
name: app
requirements: {shared: {from_version: 1.3.9, to_version: '2'}}
imports:
  main: {element: $shared, kind: resource, link: $dbaas.types.postgres.instances.$cluster_pg}
resources:
  $core.secret.passwords: {p: {method: AUTO_HEX, default_length: 40}}
  $app.imports.$main.users:
    u: {name: second, password: $core.secret.passwords.$p:value, instance: $app.imports.$main:uuid}
  $app.imports.$main.databases:
    d: {name: second, owner: $app.imports.$main.users.$u:uuid}
  $core.config.configs:
    c: {body: {kind: template, template: 'nodes={{ nodes }}', variables: {nodes: '$app.imports.$main:join(ipsv4, sep=\" \")'}}}
";
    apply(&world, user, refused()).await.unwrap();
    assert_eq!(
        world
            .repository()
            .all::<DatabaseRecord>(None)
            .await
            .unwrap()
            .len(),
        2
    );
    let configs = world.control.configs(None, ALL).await.unwrap();
    let config = configs.items.iter().find(|found| !found.is_secret).unwrap();
    let text = world.control.config_content(config.id, "the test").await.unwrap();
    assert_eq!(text.expose(), "nodes=127.0.0.1");
    assert!(plan(&world, user).await.unwrap().is_empty());

    let elements = world.control.elements(None, ALL).await.unwrap();
    let id = |name: &str| elements.items.iter().find(|found| found.name == name).unwrap().id;
    let error = with_engine(&world, world.control.uninstall_element(id("shared"), allowed()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("imported by \"app\""), "{error}");
    with_engine(&world, world.control.uninstall_element(id("app"), allowed()))
        .await
        .unwrap();
    with_engine(&world, world.control.uninstall_element(id("shared"), allowed()))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_is_mended_by_applying_again() {
    let mut crashes = 0;
    for writes in 0.. {
        let world = World::new().await;
        let count = AtomicI64::new(0);
        world.store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
            let is_over = count.load(Ordering::SeqCst) >= writes;
            if call.is_write() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            if is_over {
                Fault::Fail(StoreErrorKind::Unusable)
            } else {
                Fault::None
            }
        })));
        let options = ApplyOptions {
            timeout: Duration::from_secs(5),
            ..refused()
        };
        let cut = tokio::time::timeout(Duration::from_secs(20), apply(&world, &demo(), options)).await;
        world.store.set_fault(None);
        if matches!(cut, Ok(Ok(_))) {
            break;
        }
        crashes += 1;
        apply(&world, &demo(), refused())
            .await
            .unwrap_or_else(|error| panic!("after {writes} writes: {error}"));
        assert!(
            plan(&world, &demo()).await.unwrap().is_empty(),
            "after {writes} writes"
        );
        assert_eq!(world.repository().all::<UserRecord>(None).await.unwrap().len(), 1);
        let id = element(&world).await.id;
        assert_eq!(world.control.element_resources(id).await.unwrap().len(), 5);
    }
    assert!(crashes > 10, "{crashes}");
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_a_plan_an_event_or_an_error() {
    let world = World::new().await;
    let text = demo().replace(
        "description: \"Demo password\"",
        "method: MANUAL\n      value: hunter2hunter2",
    );
    let plan = apply(&world, &text, refused()).await.unwrap();
    let id = element(&world).await.id;
    let events = world.control.events_about(id, 0, 1_000).await.unwrap();
    assert!(events.iter().any(|event| event.event.kind == "applied"));
    let listed = world.control.passwords(None, ALL).await.unwrap();
    let shown = format!("{plan:?}{events:?}{:?}{listed:?}", element(&world).await);
    assert!(!shown.contains("hunter2"), "{shown}");
    // That it was read is in the log, with who did.
    let password = listed.items[0].id;
    world.control.password_value(password, "somebody").await.unwrap();
    let events = world.control.events_about(password, 0, 10).await.unwrap();
    assert!(
        events[0].event.message.ends_with("was read by somebody"),
        "{events:?}"
    );
    // One that is too short for a user is an error that does not repeat it.
    let short = text.replace("hunter2hunter2", "hunter2");
    let error = apply(&world, &short, refused()).await.unwrap_err();
    assert!(!format!("{error:?}{error}").contains("hunter2"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_resources() {
    let world = World::new().await;
    let mut text = "name: many\nresources:\n  $core.vs.variables:\n    v0: {value: 1}\n".to_owned();
    for n in 1..1_000 {
        text += &format!(
            "    v{n}: {{value: 'f\"{{$core.vs.variables.$v{}:value}}\"'}}\n",
            n / 2
        );
    }
    let plan = apply(&world, &text, refused()).await.unwrap();
    assert_eq!(plan.steps.len(), 1_000);
    assert!(self::plan(&world, &text).await.unwrap().is_empty());
    let id = element(&world).await.id;
    let events = world.control.events_about(id, 0, 1_000).await.unwrap();
    assert_eq!(events.len(), 1_000);
}

#[tokio::test]
async fn one_change_of_an_element_at_a_time() {
    let world = World::new().await;
    let request = || ManifestRequest::new(demo());
    world.control.begin_apply(request(), refused()).await.unwrap();
    let second = world.control.begin_apply(request(), refused()).await;
    assert!(
        matches!(second, Err(ControlError::WrongState { .. })),
        "{second:?}"
    );
    assert_eq!(element(&world).await.status, ElementStatus::InProgress);
    // Another control plane leaves it alone, however often it looks, and says that somebody is at it.
    let other = world.restarted().await;
    other.resume_all().await.unwrap();
    let listed = other.elements(None, ALL).await.unwrap();
    let seen = &listed.items[0];
    assert_eq!(seen.status, ElementStatus::InProgress);
    assert!(seen.reason.contains("by itself"), "{seen:?}");
    assert_eq!(kinds(&world, "apply_resumed").await, 0);
    // It cannot be changed there meanwhile, either.
    let refused = other.begin_apply(request(), refused()).await;
    assert!(
        matches!(refused, Err(ControlError::WrongState { .. })),
        "{refused:?}"
    );
}

/// How many events of this kind the only element has.
async fn kinds(world: &World, kind: &str) -> usize {
    let id = element(world).await.id;
    let events = world.control.events_about(id, 0, 1_000).await.unwrap();
    events.iter().filter(|event| event.event.kind == kind).count()
}
