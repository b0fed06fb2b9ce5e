//! The specification's manifest on real PostgreSQL: applied, applied again, changed, cut short, uninstalled.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dbaas_controller::ControlPlane;
use dbaas_controller::elements::{ApplyOptions, ElementPlan, ManifestRequest};
use dbaas_controller::request::{InstanceFilter, Page};
use dbaas_controller::view::{ElementResource, ElementStatus};
use dbaas_core::id::InstanceId;
use dbaas_core::secret::Secret;
use dbaas_e2e::Stack;
use dbaas_manifest::collection::Collection;
use dbaas_manifest::plan::{Action, Destroy};
use dbaas_workload::client::{Client, ClientOptions, Target};

type Result<T = ()> = anyhow::Result<T>;

const DEMO: &str = include_str!("../../../../dbaas-manifest/examples/demo.yaml");
const LONG: Duration = Duration::from_secs(180);

/// The example, with the version that this machine has.
async fn demo(stack: &Stack) -> Result<String> {
    let version = stack.plane()?.version(stack.version(None).await?).await?;
    Ok(DEMO.replace("pg18", &version.symbolic_name))
}

fn options(destroy: Destroy) -> ApplyOptions {
    ApplyOptions {
        destroy,
        timeout: LONG,
    }
}

async fn apply(plane: &ControlPlane, text: &str, destroy: Destroy) -> Result<ElementPlan> {
    let (element, plan) = plane
        .apply_manifest(ManifestRequest::new(text), options(destroy))
        .await?;
    ensure!(element.status == ElementStatus::Active, "{:?}", element);
    Ok(plan)
}

async fn is_settled(plane: &ControlPlane, text: &str) -> Result<bool> {
    Ok(plane
        .plan_manifest(ManifestRequest::new(text), Destroy::Refuse)
        .await?
        .is_empty())
}

async fn members(plane: &ControlPlane) -> Result<Vec<ElementResource>> {
    let listed = plane
        .elements(
            None,
            Page {
                after: None,
                limit: 10,
            },
        )
        .await?;
    let element = listed.items.first().context("there is no element")?.id;
    Ok(plane.element_resources(element).await?)
}

async fn member(plane: &ControlPlane, collection: Collection) -> Result<ElementResource> {
    let all = members(plane).await?;
    let found = all.into_iter().find(|member| member.key.collection == collection);
    found.with_context(|| format!("there is no {}", collection.what()))
}

/// Waits until the element is as its manifest says.
async fn active(plane: &ControlPlane) -> Result {
    let page = Page {
        after: None,
        limit: 10,
    };
    let until = Instant::now() + LONG;
    loop {
        let listed = plane.elements(None, page).await?;
        let element = &listed.items.first().context("there is no element")?;
        match element.status {
            ElementStatus::Active => return Ok(()),
            _ => ensure!(Instant::now() < until, "{element:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The rendered config, line by line.
async fn config(plane: &ControlPlane) -> Result<String> {
    let id = member(plane, Collection::Configs).await?.resource;
    Ok(plane.config_content(id, "the test").await?.expose().to_owned())
}

fn line<'a>(config: &'a str, name: &str) -> Result<&'a str> {
    let found = config
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.with_context(|| format!("no {name} in {config}"))
}

/// Logs in with what the config says, and says who that is.
async fn log_in(plane: &ControlPlane, config: &str) -> Result<String> {
    let instance = InstanceId::from_uuid(member(plane, Collection::Instances).await?.resource);
    let target = Target {
        hosts: plane.connection(instance).await?.endpoints,
        database: "demo_db".to_owned(),
        user: line(config, "DB_USER")?.to_owned(),
        password: Secret::new(line(config, "DB_PASS")?),
    };
    let mut client = Client::new(target, ClientOptions::default());
    let sql =
        "SELECT current_user || ' owns ' || datname FROM pg_database WHERE datdba = current_user::regrole";
    let rows = client
        .send_until_done(sql, Instant::now() + Duration::from_secs(30))
        .await?;
    let value = rows.first().and_then(|row| row.first().cloned().flatten());
    value.context("no row")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_specifications_example() -> Result {
    let Some(mut stack) = Stack::start().await? else {
        return Ok(());
    };
    let text = demo(&stack).await?;
    let plane = stack.plane()?.clone();

    // Applied: the config is right, and what it says is enough to log in.
    let plan = apply(&plane, &text, Destroy::Refuse).await?;
    assert_eq!(plan.steps.len(), 5);
    let first = config(&plane).await?;
    assert_eq!(first.lines().count(), 3, "{first}");
    assert_eq!(line(&first, "DB_USER")?, "demo_user");
    assert!(!line(&first, "DB_NODES")?.is_empty());
    assert_eq!(log_in(&plane, &first).await?, "demo_user owns demo_db");
    let database = member(&plane, Collection::Databases).await?;
    assert_eq!(
        database.resource.to_string(),
        "6bdc9203-bef4-4c63-9476-7d9729c43e7f"
    );

    // Again: nothing.
    assert!(is_settled(&plane, &text).await?);
    assert!(apply(&plane, &text, Destroy::Refuse).await?.is_empty());

    // A changed field changes just that; the password stays.
    let larger = text.replace("ram: 1024", "ram: 512");
    let plan = apply(&plane, &larger, Destroy::Refuse).await?;
    let done: Vec<_> = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Nothing)
        .collect();
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(config(&plane).await?, first);

    // Another password: the user has it, and the config says it.
    let rotated = larger.replace("description: \"Demo password\"", "rotation: 2");
    apply(&plane, &rotated, Destroy::Refuse).await?;
    let second = config(&plane).await?;
    assert_ne!(line(&second, "DB_PASS")?, line(&first, "DB_PASS")?);
    assert_eq!(log_in(&plane, &second).await?, "demo_user owns demo_db");

    // What left the manifest stays where it holds data.
    let plan = apply(&plane, "name: demo\n", Destroy::Refuse).await?;
    assert!(
        plan.steps
            .iter()
            .any(|step| matches!(step.action, Action::Retain { .. }))
    );
    assert_eq!(members(&plane).await?.len(), 3);
    // Declared again, it is the element's as before. The password was not kept, so there is another one.
    apply(&plane, &rotated, Destroy::Refuse).await?;
    let third = config(&plane).await?;
    assert_eq!(log_in(&plane, &third).await?, "demo_user owns demo_db");

    // A control plane that dies in the middle: the next one goes on, without anybody asking.
    let wider = rotated.replace("nodes_number: 1", "nodes_number: 2");
    plane
        .begin_apply(ManifestRequest::new(wider.clone()), options(Destroy::Refuse))
        .await?;
    drop(plane);
    stack.close().await;
    stack.open().await?;
    let plane = stack.plane()?.clone();
    active(&plane).await?;
    assert!(is_settled(&plane, &wider).await?);
    assert_eq!(
        log_in(&plane, &config(&plane).await?).await?,
        "demo_user owns demo_db"
    );

    // Uninstalled: nothing is left.
    let listed = plane
        .elements(
            None,
            Page {
                after: None,
                limit: 10,
            },
        )
        .await?;
    let element = listed.items[0].id;
    let refused = plane.uninstall_element(element, options(Destroy::Refuse)).await;
    assert!(refused.is_err());
    plane.uninstall_element(element, options(Destroy::Allow)).await?;
    let left = plane
        .instances(
            InstanceFilter::default(),
            Page {
                after: None,
                limit: 10,
            },
        )
        .await?;
    assert!(left.items.is_empty());
    assert!(
        plane
            .elements(
                None,
                Page {
                    after: None,
                    limit: 10
                }
            )
            .await?
            .items
            .is_empty()
    );
    assert!(
        plane
            .passwords(
                None,
                Page {
                    after: None,
                    limit: 10
                }
            )
            .await?
            .items
            .is_empty()
    );
    assert!(
        plane
            .configs(
                None,
                Page {
                    after: None,
                    limit: 10
                }
            )
            .await?
            .items
            .is_empty()
    );
    Ok(())
}
