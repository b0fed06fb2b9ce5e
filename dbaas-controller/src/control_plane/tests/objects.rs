use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::limits::{DATABASES_PER_INSTANCE_MAX, USERS_PER_INSTANCE_MAX};

use super::*;
use crate::request::{UpdateDatabase, UpdateUser};

async fn user_is_active(world: &World, id: UserId) {
    let read = world.user_record(id).await;
    let mut record = read.record.clone();
    record.lifecycle = ObjectLifecycle::Active;
    world.engine_sees(&read, record).await;
}

async fn database_is_active(world: &World, id: DatabaseId) {
    let read = world.database_record(id).await;
    let mut record = read.record.clone();
    record.lifecycle = ObjectLifecycle::Active;
    world.engine_sees(&read, record).await;
}

#[tokio::test]
async fn a_password_is_kept_as_a_verifier_only() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let made = world.control.create_user(id, create_user("app")).await.unwrap();
    let other = world.control.create_user(id, create_user("other")).await.unwrap();
    let verifier = world.user_record(made.id).await.record.verifier;
    let others = world.user_record(other.id).await.record.verifier;
    assert!(verifier.verify(&Password::new("correct horse").unwrap()));
    assert_ne!(verifier.salt(), others.salt());
    assert_eq!(made.lifecycle, ObjectLifecycle::New);
    assert_eq!(made.id.uuid().get_version_num(), 7);
    let stored = world
        .store
        .get(UserRecord::key(made.id.uuid()))
        .await
        .unwrap()
        .unwrap();
    assert!(!stored.document.body.to_string().contains("horse"));
    assert!(!format!("{:?}", create_user("app")).contains("horse"));
    let events = world.control.events(id, 0, 100).await.unwrap();
    assert!(events.iter().all(|event| !event.event.message.contains("horse")));
}

#[tokio::test]
async fn a_new_password_is_a_change_and_the_same_one_is_not() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let user = world.user(id, "app").await;
    user_is_active(&world, user).await;
    let before = world.control.user(id, user).await.unwrap();
    let password = |text| UpdateUser {
        password: Some(Password::new(text).unwrap()),
        ..UpdateUser::default()
    };
    let same = world
        .control
        .update_user(id, user, password("correct horse"))
        .await
        .unwrap();
    assert_eq!(same, before);
    let refused = world
        .control
        .update_user(
            id,
            user,
            UpdateUser {
                expected: Some(stale(before.revision.asked)),
                ..password("new secret")
            },
        )
        .await;
    assert!(
        matches!(refused, Err(ControlError::VersionMismatch)),
        "{refused:?}"
    );
    let after = world
        .control
        .update_user(
            id,
            user,
            UpdateUser {
                expected: Some(before.revision.asked),
                ..password("new secret")
            },
        )
        .await
        .unwrap();
    let verifier = world.user_record(user).await.record.verifier;
    assert!(verifier.verify(&Password::new("new secret").unwrap()));
    assert_eq!(
        after.lifecycle,
        ObjectLifecycle::New,
        "PostgreSQL does not have it yet"
    );
    assert!(after.updated_at > before.updated_at);

    user_is_active(&world, user).await;
    let description = UpdateUser {
        description: Some(Description::new("of the shop").unwrap()),
        ..UpdateUser::default()
    };
    let after = world.control.update_user(id, user, description).await.unwrap();
    assert_eq!(
        after.lifecycle,
        ObjectLifecycle::Active,
        "PostgreSQL does not know descriptions"
    );
}

#[tokio::test]
async fn a_status_write_between_read_and_write_of_a_password_is_kept() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let user = world.user(id, "app").await;
    user_is_active(&world, user).await;
    let read = world.control.user(id, user).await.unwrap();
    let status = DocumentKey {
        kind: "user_status",
        id: user.uuid(),
    };
    world.before_next_commit(move |store| {
        rewrite_document(store, status, |body| {
            body["lifecycle"] = serde_json::json!("ERROR")
        });
    });
    let update = UpdateUser {
        password: Some(Password::new("new secret").unwrap()),
        ..UpdateUser::default()
    };
    let after = world
        .control
        .update_user(
            id,
            user,
            UpdateUser {
                expected: Some(read.revision.asked),
                ..update
            },
        )
        .await
        .unwrap();
    assert_eq!(
        world.control.user(id, user).await.unwrap().lifecycle,
        ObjectLifecycle::Error,
        "an error stays one until it is mended"
    );
    let verifier = world.user_record(user).await.record.verifier;
    assert!(verifier.verify(&Password::new("new secret").unwrap()));
    assert_eq!(after.revision.asked.0, read.revision.asked.0 + 1);
}

#[tokio::test]
async fn what_is_another_instances_is_not_found() {
    let world = World::new().await;
    let (mine, theirs) = (world.instance("mine").await, world.instance("theirs").await);
    let user = world.user(theirs, "app").await;
    let database = world.database(theirs, "shop", user).await;
    let results = [
        world.control.user(mine, user).await.map(drop),
        world.control.database(mine, database).await.map(drop),
        world
            .control
            .update_user(mine, user, UpdateUser::default())
            .await
            .map(drop),
        world
            .control
            .update_database(mine, database, UpdateDatabase::default())
            .await
            .map(drop),
        world.control.delete_user(mine, user, None).await,
        world.control.delete_database(mine, database, None).await,
    ];
    for result in results {
        assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
    }
    let result = world
        .control
        .create_database(mine, create_database("shop", user))
        .await;
    assert_eq!(pointers(result), ["/owner"]);
    let own = world.user(mine, "app").await;
    let own_database = world.database(mine, "shop", own).await;
    let update = UpdateDatabase {
        owner: Some(user),
        ..UpdateDatabase::default()
    };
    assert_eq!(
        pointers(world.control.update_database(mine, own_database, update).await),
        ["/owner"]
    );
    let page = Page {
        after: None,
        limit: 10,
    };
    assert_eq!(world.control.users(mine, page).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn names_are_unique_within_an_instance_until_gone() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let user = world.user(id, "app").await;
    let database = world.database(id, "shop", user).await;
    let taken = |error: ControlError| match error {
        ControlError::NameTaken { what, name } => (what, name),
        other => panic!("{other:?}"),
    };
    let error = world
        .control
        .create_user(id, create_user("app"))
        .await
        .unwrap_err();
    assert_eq!(taken(error), ("user of the instance", "app".to_owned()));
    let error = world
        .control
        .create_database(id, create_database("shop", user))
        .await
        .unwrap_err();
    assert_eq!(taken(error), ("database of the instance", "shop".to_owned()));

    world.control.delete_database(id, database, None).await.unwrap();
    let error = world
        .control
        .create_database(id, create_database("shop", user))
        .await
        .unwrap_err();
    assert_eq!(taken(error).0, "database, which is still being deleted");
    let read = world.database_record(database).await;
    assert!(read.record.deleting);
    wrong_state(
        world
            .control
            .update_database(id, database, UpdateDatabase::default())
            .await,
    );
    world.control.delete_database(id, database, None).await.unwrap();
    world
        .repository()
        .commit(Change::new().delete(&read))
        .await
        .unwrap();
    let gone = world.control.delete_database(id, database, None).await;
    assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{gone:?}");

    world.control.delete_user(id, user, None).await.unwrap();
    let error = world
        .control
        .create_user(id, create_user("app"))
        .await
        .unwrap_err();
    assert_eq!(taken(error).0, "user, which is still being deleted");
    wrong_state(world.control.update_user(id, user, UpdateUser::default()).await);
    let result = world
        .control
        .create_database(id, create_database("late", user))
        .await;
    assert!(invalid_fields(result)[0].detail.contains("being deleted"));
    world.control.delete_user(id, user, None).await.unwrap();
}

#[tokio::test]
async fn an_owner_cannot_be_deleted_and_the_databases_are_named() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let (owner, heir) = (world.user(id, "app").await, world.user(id, "heir").await);
    let shop = world.database(id, "shop", owner).await;
    let stock = world.database(id, "stock", owner).await;
    database_is_active(&world, shop).await;
    let detail = in_use(world.control.delete_user(id, owner, None).await);
    assert!(
        detail.contains("\"shop\", \"stock\"") && detail.contains("another owner"),
        "{detail}"
    );
    assert!(!world.control.user(id, owner).await.unwrap().deleting);

    let update = UpdateDatabase {
        owner: Some(heir),
        ..UpdateDatabase::default()
    };
    let after = world
        .control
        .update_database(id, shop, update.clone())
        .await
        .unwrap();
    assert_eq!((after.owner, after.lifecycle), (heir, ObjectLifecycle::New));
    assert_eq!(
        world.control.update_database(id, shop, update).await.unwrap(),
        after
    );
    world.control.delete_database(id, stock, None).await.unwrap();
    let detail = in_use(world.control.delete_user(id, owner, None).await);
    assert!(detail.contains("still being deleted: \"stock\""), "{detail}");
    let stock = world.database_record(stock).await;
    world
        .repository()
        .commit(Change::new().delete(&stock))
        .await
        .unwrap();
    world.control.delete_user(id, owner, None).await.unwrap();
    let detail = in_use(world.control.delete_user(id, heir, None).await);
    assert!(detail.contains("\"shop\""), "{detail}");
}

#[tokio::test]
async fn listings_of_an_instance() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let mut users = Vec::new();
    for name in ["a", "b", "c"] {
        users.push(world.user(id, name).await);
    }
    let database = world.database(id, "shop", users[0]).await;
    let first = world
        .control
        .users(
            id,
            Page {
                after: None,
                limit: 2,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        first.items.iter().map(|item| item.id).collect::<Vec<_>>(),
        users[..2]
    );
    assert_eq!(first.next, Some(users[1]));
    let rest = world
        .control
        .users(
            id,
            Page {
                after: first.next,
                limit: 2,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        rest.items.iter().map(|item| item.id).collect::<Vec<_>>(),
        users[2..]
    );
    assert_eq!(rest.next, None);
    let databases = world
        .control
        .databases(
            id,
            Page {
                after: None,
                limit: 2,
            },
        )
        .await
        .unwrap();
    assert_eq!((databases.items[0].id, databases.next), (database, None));
}

#[tokio::test]
async fn an_instance_has_so_many_users_and_databases_and_no_more() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let first = world.user(id, "u").await;
    let mut user = world.user_record(first).await.record;
    let mut change = Change::new();
    for n in 1..USERS_PER_INSTANCE_MAX {
        user.id = UserId::from_uuid(Uuid::now_v7());
        user.name = UserName::new(format!("u{n}")).unwrap();
        change = change.create(&user);
    }
    world.repository().commit(change).await.unwrap();
    let refused = world.control.create_user(id, create_user("more")).await;
    assert!(
        matches!(&refused, Err(ControlError::LimitReached { detail }) if detail.contains("1000")),
        "{refused:?}"
    );

    let database = world.database(id, "d", first).await;
    let mut database = world.database_record(database).await.record;
    let mut change = Change::new();
    for n in 2..DATABASES_PER_INSTANCE_MAX {
        database.id = DatabaseId::from_uuid(Uuid::now_v7());
        database.name = DatabaseName::new(format!("d{n}")).unwrap();
        change = change.create(&database);
    }
    world.repository().commit(change).await.unwrap();
    world.database(id, "last", first).await;
    let refused = world
        .control
        .create_database(id, create_database("more", first))
        .await;
    assert!(
        matches!(refused, Err(ControlError::LimitReached { .. })),
        "{refused:?}"
    );
    // Deletion needs the databases' names, of which there are many: it says some.
    let detail = in_use(world.control.delete_user(id, first, None).await);
    assert!(detail.len() < 1_000, "{detail}");
}
