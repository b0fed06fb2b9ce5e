use super::*;
use crate::request::{InstanceAction, UpdateDatabase, UpdateInstance};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_equal_creates_one_wins() {
    let world = Arc::new(World::new().await);
    for round in 0..10 {
        let name = format!("orders-{round}");
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (world, name) = (world.clone(), name.clone());
                tokio::spawn(async move { world.control.create_instance(world.request(&name)).await })
            })
            .collect();
        let (mut won, mut taken) = (0, 0);
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => won += 1,
                Err(ControlError::NameTaken { .. }) => taken += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((won, taken), (1, 15));
    }
    // The losers left nothing behind, in the log either.
    let listed = world
        .control
        .instances(
            Default::default(),
            Page {
                after: None,
                limit: 100,
            },
        )
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 10);
    for item in listed.items {
        assert_eq!(world.control.events(item.id, 0, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_never_loses_its_owner_to_a_race() {
    let world = Arc::new(World::new().await);
    let id = world.instance("orders").await;
    let keeper = world.user(id, "keeper").await;
    let (mut deleted, mut kept) = (0, 0);
    for round in 0..60 {
        let owner = world.user(id, &format!("u{round}")).await;
        let moved = world.database(id, &format!("m{round}"), keeper).await;
        let create = {
            let world = world.clone();
            let request = create_database(&format!("d{round}"), owner);
            tokio::spawn(async move { world.control.create_database(id, request).await })
        };
        let take = {
            let world = world.clone();
            let update = UpdateDatabase {
                owner: Some(owner),
                ..UpdateDatabase::default()
            };
            tokio::spawn(async move { world.control.update_database(id, moved, update).await })
        };
        let delete = {
            let world = world.clone();
            tokio::spawn(async move { world.control.delete_user(id, owner, None).await })
        };
        let (create, take, delete) = (create.await.unwrap(), take.await.unwrap(), delete.await.unwrap());
        match delete {
            Ok(()) => {
                deleted += 1;
                assert_eq!(
                    (pointers(create), pointers(take)),
                    (vec!["/owner".to_owned()], vec!["/owner".to_owned()])
                );
            }
            Err(ControlError::InUse { .. }) => {
                kept += 1;
                assert!(create.is_ok() || take.is_ok());
            }
            Err(other) => panic!("{other:?}"),
        }
        let gone = world.control.user(id, owner).await.unwrap().deleting;
        let owned = world.repository().load_databases(id).await.unwrap();
        let owned = owned
            .iter()
            .filter(|database| database.record.owner == owner)
            .count();
        assert!(
            !gone || owned == 0,
            "user {round} is being deleted and owns {owned}"
        );
    }
    assert_eq!(deleted + kept, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_and_the_engine_write_at_once_and_nothing_is_lost() {
    let world = Arc::new(World::new().await);
    let id = world.instance("orders").await;
    world.converge(id).await;
    let engine = {
        let world = world.clone();
        tokio::spawn(async move {
            for _ in 0..300 {
                world
                    .engine_writes(id, |record| record.next_node_number += 1)
                    .await;
                tokio::task::yield_now().await;
            }
        })
    };
    let grow = {
        let world = world.clone();
        tokio::spawn(async move {
            for gb in 17..67 {
                let update = UpdateInstance {
                    disk: Some(DiskGb::new(gb).unwrap()),
                    ..UpdateInstance::default()
                };
                world.control.update_instance(id, update).await.unwrap();
            }
        })
    };
    let restart = {
        let world = world.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                world
                    .control
                    .act_on_instance(id, InstanceAction::Restart)
                    .await
                    .unwrap();
            }
        })
    };
    let users = {
        let world = world.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                world.user(id, &format!("u{n}")).await;
            }
        })
    };
    for task in [engine, grow, restart, users] {
        task.await.unwrap();
    }
    let record = world.instance_record(id).await.record;
    assert_eq!(record.next_node_number, 301);
    assert_eq!(record.generation, 1 + 50 + 50);
    assert_eq!(record.spec.resources.disk.get(), 66);
    assert_eq!(world.repository().load_users(id).await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_who_read_the_same_version_one_is_refused() {
    let world = Arc::new(World::new().await);
    let id = world.instance("orders").await;
    for round in 0..50u64 {
        let read = world.control.instance(id).await.unwrap().revision.asked;
        let update = |gb| UpdateInstance {
            disk: Some(DiskGb::new(gb).unwrap()),
            ..UpdateInstance::default()
        };
        let calls: Vec<_> = [100 + 2 * round, 101 + 2 * round]
            .into_iter()
            .map(|gb| {
                let world = world.clone();
                tokio::spawn(async move {
                    world
                        .control
                        .update_instance(
                            id,
                            UpdateInstance {
                                expected: Some(read),
                                ..update(gb)
                            },
                        )
                        .await
                })
            })
            .collect();
        let mut won = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => won += 1,
                Err(ControlError::VersionMismatch) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_instance_that_is_removed_leaves_no_user_behind() {
    let world = Arc::new(World::new().await);
    for round in 0..20 {
        let id = world.instance(&format!("i{round}")).await;
        let creates: Vec<_> = (0..4)
            .map(|n| {
                let world = world.clone();
                tokio::spawn(
                    async move { world.control.create_user(id, create_user(&format!("u{n}"))).await },
                )
            })
            .collect();
        tokio::task::yield_now().await;
        world.control.delete_instance(id, None).await.unwrap();
        world.engine_removes(id).await;
        for create in creates {
            match create.await.unwrap() {
                Ok(_) | Err(ControlError::WrongState { .. } | ControlError::NotFound { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(world.repository().load_users(id).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_instance_that_goes_right_before_the_write_gets_no_user_and_no_database() {
    let world = World::new().await;
    for what in ["user", "database"] {
        let id = world.instance("orders").await;
        let owner = world.user(id, "app").await;
        let instance = world.repository().load_instance(id).await.unwrap().unwrap();
        let users = world.repository().load_users(id).await.unwrap();
        world.before_next_commit(move |store| {
            commit_now(store, Change::new().remove_instance(&instance, &[], &users));
        });
        let result = if what == "user" {
            world.control.create_user(id, create_user("late")).await.map(drop)
        } else {
            world
                .control
                .create_database(id, create_database("late", owner))
                .await
                .map(drop)
        };
        assert!(
            matches!(result, Err(ControlError::NotFound { .. })),
            "{what}: {result:?}"
        );
        assert!(world.repository().load_users(id).await.unwrap().is_empty());
        assert!(world.repository().load_databases(id).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_owner_that_goes_right_before_the_write_gets_no_database() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let keeper = world.user(id, "keeper").await;
    let database = world.database(id, "shop", keeper).await;
    for name in ["a", "b"] {
        let owner = world.user(id, name).await;
        world.before_next_commit(move |store| {
            let deleting = |body: &mut serde_json::Value| body["deleting"] = serde_json::json!(true);
            rewrite::<dbaas_core::user::UserRecord>(store, owner.uuid(), deleting);
        });
        let result = if name == "a" {
            world
                .control
                .create_database(id, create_database("late", owner))
                .await
        } else {
            let update = UpdateDatabase {
                owner: Some(owner),
                ..UpdateDatabase::default()
            };
            world.control.update_database(id, database, update).await
        };
        assert_eq!(pointers(result), ["/owner"]);
    }
    assert_eq!(world.control.database(id, database).await.unwrap().owner, keeper);
}

#[tokio::test]
async fn a_call_that_always_loses_gives_up() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let tries = Arc::new(AtomicI64::new(0));
    let counted = tries.clone();
    let conflict = Fault::Fail(dbaas_core::store::StoreErrorKind::Conflict);
    world.store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
        if !matches!(call, StoreCall::Commit(_)) {
            return Fault::None;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        conflict
    })));
    let error = world
        .control
        .act_on_instance(id, InstanceAction::Restart)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Unavailable {
                outcome_unknown: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(tries.load(Ordering::SeqCst), 16);
}
