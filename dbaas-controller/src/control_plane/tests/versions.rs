use super::*;
use crate::repository::RemovedVersion;
use crate::request::{CreateVersion, UpdateInstance, UpdateVersion};

fn create(image: &str) -> CreateVersion {
    CreateVersion::new(InstanceName::new("Mine").unwrap(), image.parse().unwrap())
}

async fn images(control: &ControlPlane) -> Vec<String> {
    let listed = control
        .versions(Page {
            after: None,
            limit: 100,
        })
        .await
        .unwrap();
    listed
        .items
        .into_iter()
        .map(|item| item.image.to_string())
        .collect()
}

#[tokio::test]
async fn the_catalogue_is_filled_in_order_and_what_an_administrator_did_stays() {
    let world = World::new().await;
    assert_eq!(
        images(&world.control).await,
        ["postgres:15.17", "postgres:15.18", "postgres:16.3"]
    );
    let version = world.control.version(world.versions[1]).await.unwrap();
    assert_eq!(version.name.as_str(), "PostgreSQL 15.18");
    let update = UpdateVersion {
        name: Some(InstanceName::new("The good one").unwrap()),
        deprecated: Some(true),
        ..UpdateVersion::default()
    };
    let updated = world
        .control
        .update_version(
            world.versions[1],
            UpdateVersion {
                expected: Some(version.revision.asked),
                ..update.clone()
            },
        )
        .await
        .unwrap();
    let again = world
        .control
        .update_version(world.versions[1], update.clone())
        .await
        .unwrap();
    assert_eq!(again, updated, "no change, no write");
    let refused = world
        .control
        .update_version(
            world.versions[1],
            UpdateVersion {
                expected: Some(version.revision.asked),
                ..update
            },
        )
        .await;
    assert!(
        matches!(refused, Err(ControlError::VersionMismatch)),
        "{refused:?}"
    );
    world
        .control
        .delete_version(world.versions[0], None)
        .await
        .unwrap();

    world.infrastructure.versions.lock().push("17.1");
    let restarted = world.restarted().await;
    assert_eq!(
        images(&restarted).await,
        ["postgres:15.18", "postgres:16.3", "postgres:17.1"]
    );
    assert_eq!(restarted.version(world.versions[1]).await.unwrap(), updated);

    // Added again by the administrator, removed again, and still not added by itself.
    for _ in 0..2 {
        let added = restarted.create_version(create("postgres:15.17")).await.unwrap();
        assert_eq!((added.symbolic_name.as_str(), added.deprecated), ("pg15", false));
        assert_eq!(images(&world.restarted().await).await.len(), 4);
        let removed = RemovedVersion::id_of("postgres:15.17");
        let removal = world.repository().load::<RemovedVersion>(removed).await.unwrap();
        assert_eq!(removal, None, "what is there again was not removed");
        restarted
            .delete_version(added.id, Some(added.revision.asked))
            .await
            .unwrap();
        assert_eq!(images(&world.restarted().await).await.len(), 3);
    }
    let gone = restarted.delete_version(world.versions[0], None).await;
    assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_backend_that_cannot_be_asked_leaves_the_catalogue_alone() {
    let world = World::new().await;
    world.infrastructure.broken.store(true, Ordering::SeqCst);
    assert_eq!(images(&world.restarted().await).await.len(), 3);
}

#[tokio::test]
async fn a_version_that_instances_have_is_not_removed() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let detail = in_use(world.control.delete_version(world.versions[0], None).await);
    assert!(
        detail.contains("\"orders\"") && detail.contains("deprecate"),
        "{detail}"
    );
    let update = UpdateInstance {
        version: Some(world.versions[1]),
        ..UpdateInstance::default()
    };
    world.control.update_instance(id, update).await.unwrap();
    world
        .control
        .delete_version(world.versions[0], None)
        .await
        .unwrap();
    in_use(world.control.delete_version(world.versions[1], None).await);
    world.control.delete_instance(id, None).await.unwrap();
    in_use(world.control.delete_version(world.versions[1], None).await);
    world.engine_removes(id).await;
    world
        .control
        .delete_version(world.versions[1], None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_version_that_goes_while_an_instance_is_created_with_it_is_missed() {
    let world = World::new().await;
    let version = world.versions[0];
    world.before_next_commit(move |store| {
        let removed = async {
            let key = dbaas_core::version::VersionRecord::key(version.uuid());
            let read = store.get(key).await.unwrap().unwrap();
            let op = dbaas_core::store::Op::Delete(key, read.version);
            store
                .commit(dbaas_core::store::Batch {
                    lease: None,
                    ops: vec![op],
                })
                .await
                .unwrap();
        };
        removed.now_or_never().unwrap();
    });
    assert_eq!(
        pointers(world.control.create_instance(world.request("orders")).await),
        ["/version"]
    );
}

#[tokio::test]
async fn an_image_is_in_the_catalogue_once_and_says_its_major() {
    let world = World::new().await;
    let refused = world.control.create_version(create("postgres:15.18")).await;
    assert!(
        matches!(refused, Err(ControlError::NameTaken { .. })),
        "{refused:?}"
    );
    assert_eq!(
        pointers(world.control.create_version(create("postgres:latest")).await),
        ["/image"]
    );
    let own = world
        .control
        .create_version(create("registry.example/team/postgres:15.18-gis"))
        .await
        .unwrap();
    assert_eq!(world.control.version(own.id).await.unwrap(), own);
}
